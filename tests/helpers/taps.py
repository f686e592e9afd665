"""A second opinion on a stream of frames: what any observer of the wire sees, written down with no care for speed."""

import zlib
from typing import Any

import attrs

from .frames import xor

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@attrs.define(eq=False)
class Message:
    """A message as far as it was seen."""

    opcode: int
    frames: list[bytearray] = attrs.field(factory=list)
    complete: int = 0
    """How many of the frames were seen to their end."""
    done: bool = False
    packed: bool = False
    """Whether it is compressed; its frames hold what that inflates to."""

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
    """Bytes that have come."""
    payload: bytearray = attrs.field(factory=bytearray)


class Tap:
    """Takes down the messages of one direction; fails where a frame breaks a rule."""

    def __init__(self, masked: bool, window_bits: int = 0, takeover: bool = False) -> None:
        """`window_bits` and `takeover` are of compressed messages; 0 where none may come."""
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
        """Whether a message has begun and is not done."""
        return bool(self.messages) and not self.messages[-1].done

    def done(self) -> list[Message]:
        """The messages that are complete."""
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
        assert not self.closes, "nothing goes behind a Close frame"
        assert held[1] >> 7 == self._masked, "a client masks its frames, a server does not"
        length = int.from_bytes(held[2 : 2 + form], "big") if form else held[1] & 0x7F
        opcode, fin, packed = held[0] & 0x0F, held[0] >= 0x80, held[0] & 0x70 == 0x40
        assert packed <= (self._window_bits > 0 and opcode in (TEXT, BINARY)), "nothing else may be compressed"
        assert held[0] & 0x30 == 0, "no one has agreed on what that means"
        frame = _Frame(opcode, fin, bytes(held[2 + form : size]), length)
        del held[:size]
        if opcode >= CLOSE:
            assert fin, "control frames are not fragmented"
        else:
            assert (opcode == CONTINUATION) == self.cut, "one message comes after the other"
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
