"""permessage-deflate (RFC 7692): the payloads of messages, compressed and back.

A `Deflater` is the sending half of one connection, an `Inflater` the receiving half. What they need beside their
settings is made at first use: a compressor, which all connections of the process use in turn where nothing is taken
over from message to message; and a decompressor for the time of one message, which is given what that may refer to.
"""

import zlib
from typing import Any

from ..codes import CloseCode
from ..errors import ProtocolViolation
from ..options import Compression
from .frames import Buffer
from .payload import Utf8Check

codec: Any = zlib
"""The module that does the work: zlib-ng's where the `speed` extra is installed, since it is faster at all of it."""
try:
    from zlib_ng import zlib_ng

    codec = zlib_ng
except ImportError:
    pass

igzip: Any = None
"""What compresses up to level 6 instead, where the `speed` extra is installed: ISA-L at its level 1, in an eighth to a
fourth of zlib's time, to some 5 % more than zlib makes of it at level 6 (measured)."""
try:
    from isal import isal_zlib

    igzip = isal_zlib
except ImportError:
    pass

_MOST_IGZIP = 6

PIECE = 64 * 1024
"""Bytes that are inflated at a time for whoever reads a message piece by piece."""

# Plain integers: the enum costs a look-up each time.
_CONTINUATION = 0x0
_TEXT = 0x1

_SLICE = 16 * 1024  # compressed bytes that are handed over at a time: what is not used of them is copied
_TAIL = b"\x00\x00\xff\xff"  # what is left out at the end of each message (RFC 7692 section 7.2.1)
_FINAL = b"\x03\x00"  # an empty block that says that it is the last one: shows that the one before it was complete
_ADDED = len(_TAIL) + len(_FINAL)
_MOST_FINALS = 1000  # final blocks in one message: each costs a new decompressor

_MOST_RECENT = 64  # pieces of what was inflated last that are kept apart,
_MORE_RECENT = 4096  # and how many bytes more than the window they may be at least

_MOST_IDLE = 4
_idle: dict[tuple[int, int, int], list[Any]] = {}  # compressors that refer to nothing, by their settings


class DeflatedFrame:
    """One data frame of a compressed message, as it came (RFC 7692 section 6)."""

    __slots__ = ("fin", "opcode", "payload")

    def __init__(self, opcode: int, payload: bytes, fin: bool) -> None:
        self.opcode: int = opcode
        self.payload: bytes = payload
        self.fin: bool = fin


class Deflater:
    """Compresses the messages of one direction, one after the other."""

    __slots__ = ("_binary", "_compression", "_stream", "_text", "_threshold", "_used", "takeover", "window_bits")

    def __init__(self, compression: Compression, window_bits: int, takeover: bool) -> None:
        """`window_bits` and `takeover` are what was agreed on, `compression` is what this side wants."""
        self._compression = compression
        self._threshold = compression.threshold
        self._text = compression.text
        self._binary = compression.binary
        self.window_bits: int = window_bits
        self.takeover: bool = takeover
        """Whether messages refer back to the ones before them, so that they can go to no other connection."""
        self._stream: Any = None  # of this connection, or of the message under way
        self._used = False  # since `release_idle_memory` was last called

    def takes(self, size: int, text: bool, wish: bool | None) -> bool:
        """Whether a message of `size` bytes is to be compressed; `wish` is what its sender says of it."""
        if wish is not None:
            return wish
        return size >= self._threshold and (self._text if text else self._binary)

    def compress(self, data: Buffer, fin: bool) -> bytes:
        """The payload of the next frame of a message (RFC 7692 section 7.2.1).

        The receiver can inflate all of it, whether more of the message follows or not.
        """
        stream = self._stream
        if stream is None:
            stream = self._make()
        self._stream = None  # what fails half-way is not used again; the next one refers to nothing
        mode = zlib.Z_FULL_FLUSH if fin and not self.takeover else zlib.Z_SYNC_FLUSH
        payload: bytes = stream.compress(data) + stream.flush(mode)
        if self.takeover or not fin:
            self._stream = stream
        else:
            self._put_by(stream)
        self._used = True
        if not fin:
            return payload
        return payload[:-4] or b"\x00"  # of nothing at all: the beginning of an empty block (section 7.2.3.6)

    def message(self, data: Buffer) -> bytes:
        """The payload of a whole message in one frame.

        Unless messages refer to the ones before them, it is for any connection that agreed on the same, and refers to
        nothing: not to a message in fragments either that is under way on this one.
        """
        if self.takeover:
            return self.compress(data, True)
        under_way = self._stream
        self._stream = None
        try:
            return self.compress(data, True)
        finally:
            self._stream = under_way

    def release_idle_memory(self) -> None:
        """Give up a compressor that was not used since the last call: a new one can begin at any time."""
        if not self._used and self.takeover:
            self._stream = None
        self._used = False

    def _make(self) -> Any:
        wanted = self._compression
        if not self.takeover:
            waiting = _idle.get((wanted.level, self.window_bits, wanted.mem_level))
            if waiting:
                try:
                    return waiting.pop()
                except IndexError:
                    pass  # another thread was faster
        if igzip is not None and 1 <= wanted.level <= _MOST_IGZIP:
            return igzip.compressobj(1, zlib.DEFLATED, -self.window_bits, wanted.mem_level)
        return codec.compressobj(wanted.level, zlib.DEFLATED, -self.window_bits, wanted.mem_level)

    def _put_by(self, stream: Any) -> None:
        """The compressor was flushed so that what follows refers to nothing before it: others can go on with it."""
        wanted = self._compression
        waiting = _idle.setdefault((wanted.level, self.window_bits, wanted.mem_level), [])
        if len(waiting) < _MOST_IDLE:
            waiting.append(stream)


class Inflater:
    """Inflates the messages of one direction, one after the other, in pieces of any size."""

    __slots__ = (
        "_fin",
        "_finals",
        "_input",
        "_position",
        "_recent",
        "_recent_size",
        "_stream",
        "_text",
        "_window",
        "_window_bits",
        "ended",
        "pending",
        "takeover",
    )

    def __init__(self, window_bits: int, takeover: bool) -> None:
        self._window_bits = window_bits
        self._window = 1 << window_bits
        self.takeover: bool = takeover
        """Whether messages may refer to the ones before them."""
        self._stream: Any = None
        self._recent: list[bytes] = []  # what was inflated last, as far as later messages may refer to it,
        self._recent_size = 0  # and its bytes
        self._input = b""  # the frame that was fed last,
        self._position = 0  # how far it was used,
        self._fin = False  # and whether it ends its message
        self._finals = 0  # final blocks in the message so far
        self._text: Utf8Check | None = None  # of a text message
        self.pending: bool = False
        """Whether there may be more to take."""
        self.ended: bool = True
        """Whether everything of a message was taken."""

    def feed(self, frame: DeflatedFrame) -> None:
        """Take the next frame of a message; everything must have been taken of the one before it."""
        if frame.opcode != _CONTINUATION:
            self._text = Utf8Check() if frame.opcode == _TEXT else None
            self._finals = 0
        self._fin = frame.fin
        if not frame.fin:
            self._input = frame.payload
        else:
            self._input = frame.payload + _TAIL + _FINAL
        self._position = 0
        self.ended = False
        self.pending = len(self._input) > 0

    def take(self, most: int) -> bytes:
        """Up to `most` bytes of the message; if it is fewer, the frame fed last is used up.

        :raises ProtocolViolation: with 1007, for what is no compressed data or no text (RFC 6455 section 8.1).
        """
        data = self._inflate(most)
        check = self._text
        if check is not None and (not check.feed(data, 0, len(data)) or (self.ended and not check.complete())):
            raise ProtocolViolation("a compressed text message is not UTF-8", CloseCode.INVALID_DATA)
        return data

    def drop(self, frame: DeflatedFrame | None, most: int) -> int:
        """Pass over the next frame, or for None the rest of the last one; returns the bytes that were passed over.

        They are inflated only where later messages may refer to them. Then it stops above `most` bytes.
        """
        if frame is not None:
            self.feed(frame)
        self._text = None
        size = 0
        if self.takeover:
            while self.pending and size <= most:
                size += len(self.take(PIECE))
            return size
        end = len(self._input) - (_ADDED if self._fin else 0)
        if self._position < end:
            size = end - self._position
        self.pending = False
        self.ended = self._fin
        self._input = b""
        self._stream = None
        return size

    def stop(self) -> None:
        """Give up what has not been taken."""
        self.pending = False
        self._input = b""
        self._position = 0
        self._stream = None

    def _inflate(self, most: int) -> bytes:
        parts = []
        while most and self.pending:
            part = self._next(most)
            most -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next(self, most: int) -> bytes:
        position = self._position
        given = self._input
        size = len(given)
        if position or size > _SLICE:
            given = given[position : position + _SLICE]
        stream = self._stream
        if stream is None:
            stream = self._stream = self._make()
        try:
            part: bytes = stream.decompress(given, most)
        except codec.error as error:
            raise ProtocolViolation("a compressed message is corrupt", CloseCode.INVALID_DATA) from error
        if self.takeover:
            self._remember(part)
        unused: bytes = stream.unconsumed_tail
        if stream.eof:
            # It is this side's, or one of the message itself (RFC 7692 section 7.2.3.4).
            self._stream = None
            self._finals += 1
            if self._finals > _MOST_FINALS:
                raise ProtocolViolation("a compressed message has too many final blocks", CloseCode.INVALID_DATA)
            unused = stream.unused_data
        self._position = position = position + len(given) - len(unused)
        # Where the output is as large as it may be, the decompressor may hold more of it.
        if position == size and (len(part) < most or self._stream is None):
            self._end_input()
        return part

    def _make(self) -> Any:
        if self._recent:
            self._keep_history()
            return codec.decompressobj(-self._window_bits, self._recent[0])
        return codec.decompressobj(-self._window_bits)

    def _remember(self, part: bytes) -> None:
        size = len(part)
        if size >= self._window:
            self._recent = [part[size - self._window :]]
            self._recent_size = self._window
            return
        if size:
            self._recent.append(part)
            self._recent_size += size
            # Somewhat more than the window is kept, so that mostly nothing has to be copied.
            if (
                self._recent_size > self._window + max(self._window // 4, _MORE_RECENT)
                or len(self._recent) > _MOST_RECENT
            ):
                self._keep_history()

    def _keep_history(self) -> None:
        """Keep what messages may refer to, in one piece."""
        history = b"".join(self._recent)[-self._window :]
        self._recent = [history] if history else []
        self._recent_size = len(history)

    def _end_input(self) -> None:
        self.pending = False
        self._input = b""
        self._position = 0
        self.ended = self._fin
        if self._fin:
            if self.takeover:
                self._keep_history()
            if self._stream is not None:
                raise ProtocolViolation("a compressed message ends in the middle of a block", CloseCode.INVALID_DATA)
