"""A second parser of frames, simple and slow: records the messages that it sees on the wire."""

import zlib
from typing import Any

import attrs

from .frames import xor

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@attrs.define(eq=False)
class Message:
    """A message as far as it was received."""

    opcode: int
    frames: list[bytearray] = attrs.field(factory=list)
    complete: int = 0
    """The number of complete frames."""
    done: bool = False
    packed: bool = False
    """Whether it was compressed. Its frames hold the inflated data."""

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)

    @property
    def value(self) -> str | bytes:
        return self.data.decode() if self.opcode == TEXT else self.data


@attrs.define(eq=False)
class _Frame:
    opcode: int
    fin: bool
    key: bytes
    missing: int
    seen: int = 0
    """Bytes of the payload that were received."""
    payload: bytearray = attrs.field(factory=bytearray)


class Tap:
    """Records the messages of one direction, and fails if a frame breaks a rule."""

    def __init__(self, masked: bool, window_bits: int = 0, takeover: bool = False) -> None:
        """
        :param window_bits: of compressed messages; 0 if none may be compressed.
        :param takeover: whether the context of one compressed message is used for the next one.
        """
        self._masked = masked
        self._window_bits = window_bits
        self._takeover = takeover
        self._stream: Any = None
        self._held = bytearray()
        self._frame: _Frame | None = None
        self.messages: list[Message] = []
        self.closes: list[bytes] = []

    @property
    def cut(self) -> bool:
        """Whether the last message is not complete."""
        return bool(self.messages) and not self.messages[-1].done

    def done(self) -> list[Message]:
        """Return the complete messages."""
        return [message for message in self.messages if message.done]

    def feed(self, data: bytes) -> None:
        self._held += data
        while self._frame is not None or self._begin():
            frame = self._frame
            assert frame is not None
            part = bytes(self._held[: frame.missing])
            del self._held[: len(part)]
            turn = frame.seen % 4
            plain = xor(part, frame.key[turn:] + frame.key[:turn]) if frame.key else part
            frame.seen += len(part)
            frame.missing -= len(part)
            if frame.opcode < CLOSE and self.messages[-1].packed:
                plain = self._stream.decompress(plain)
            frame.payload += plain
            if frame.missing:
                return
            self._end(frame)

    def _begin(self) -> bool:
        held = self._held
        if len(held) < 2:
            return False
        form = {126: 2, 127: 8}.get(held[1] & 0x7F, 0)
        size = 2 + form + (4 if self._masked else 0)
        if len(held) < size:
            return False
        assert not self.closes, "a frame after Close"
        assert held[1] >> 7 == self._masked, "a client masks its frames, a server does not"
        length = int.from_bytes(held[2 : 2 + form], "big") if form else held[1] & 0x7F
        opcode, fin, packed = held[0] & 0x0F, held[0] >= 0x80, held[0] & 0x70 == 0x40
        assert packed <= (self._window_bits > 0 and opcode in (TEXT, BINARY)), (
            "only the first frame of a message may have RSV1 set"
        )
        assert held[0] & 0x30 == 0, "a reserved bit is set"
        frame = _Frame(opcode, fin, bytes(held[2 + form : size]), length)
        del held[:size]
        if opcode >= CLOSE:
            assert fin, "control frames are not fragmented"
        else:
            assert (opcode == CONTINUATION) == self.cut, "a fragment out of order"
            if opcode != CONTINUATION:
                self.messages.append(Message(opcode, packed=packed))
                if packed and (self._stream is None or not self._takeover):
                    self._stream = zlib.decompressobj(-self._window_bits)
            self.messages[-1].frames.append(frame.payload)
        self._frame = frame
        return True

    def _end(self, frame: _Frame) -> None:
        self._frame = None
        if frame.opcode < CLOSE:
            if frame.fin and self.messages[-1].packed:
                frame.payload += self._stream.decompress(b"\x00\x00\xff\xff")
            self.messages[-1].complete += 1
            self.messages[-1].done = frame.fin
        elif frame.opcode == CLOSE:
            self.closes.append(bytes(frame.payload))
