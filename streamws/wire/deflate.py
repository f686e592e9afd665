"""permessage-deflate (RFC 7692): compresses and inflates the payloads of messages.

A `Deflater` compresses the messages that one connection sends; an `Inflater` inflates those that it receives. Neither
holds zlib memory while it has nothing to do. Without context takeover (RFC 7692 section 7.1.1), the connections of the
process share a few compressors. A decompressor lives for one message; with context takeover, it gets the data that the
message may refer back to.
"""

import zlib
from typing import Any

from ..codes import CloseCode
from ..errors import ProtocolViolation
from ..options import Compression
from .frames import Buffer
from .payload import Utf8Check

codec: Any = zlib
"""The module that compresses and inflates: zlib-ng if the `speed` extra is installed, because it is faster at both."""
try:
    from zlib_ng import zlib_ng

    codec = zlib_ng
except ImportError:
    pass

igzip: Any = None
"""The module that compresses at levels 1 to 6 instead of `codec`, if the `speed` extra is installed: ISA-L. Its level 1
takes an eighth to a fourth of zlib's time. The result is about 5 % larger than zlib's at level 6 (measured)."""
try:
    from isal import isal_zlib

    igzip = isal_zlib
except ImportError:
    pass

_MAX_IGZIP_LEVEL = 6

_ZLIB_BITS = 9
"""The smallest window with which zlib and zlib-ng can compress raw deflate data.

It also fulfils a limit of 8 bits. RFC 7692 section 7.1.2 only limits how far the data refers back, and these
compressors never refer back more than 2**window_bits - 262 bytes, which is 250 here. ISA-L uses all of its window."""

PIECE = 64 * 1024
"""The most bytes that are inflated at a time for a reader that reads a message in pieces."""

# Plain integers: a lookup in the enum costs more than the comparison.
_CONTINUATION = 0x0
_TEXT = 0x1

_SLICE = 16 * 1024
"""The most compressed bytes given to the decompressor at a time: it copies those that it does not use."""

_TAIL = b"\x00\x00\xff\xff"
"""The bytes that the sender removes from the end of each message (RFC 7692 section 7.2.1)."""

_FINAL = b"\x03\x00"
"""An empty block with the BFINAL bit (RFC 1951 section 3.2.3). After it the decompressor reports the end of the stream,
unless the message ended in the middle of a block."""

_ADDED = len(_TAIL) + len(_FINAL)

_MAX_FINAL_BLOCKS = 1000
"""The most blocks with the BFINAL bit in one message, because each costs a new decompressor."""

_MAX_RECENT = 64
"""The most pieces of history that are kept without joining them."""

_MIN_EXCESS = 4096
"""The bytes by which the history may always exceed the window before it is cut."""

_MAX_IDLE = 4
"""The most idle compressors that are kept for each combination of settings."""

_idle: dict[tuple[int, int, int], list[Any]] = {}
"""Compressors that no connection uses, by level, window bits and memory level. They refer to no earlier data."""


class DeflatedFrame:
    """One data frame of a compressed message, with its payload still compressed (RFC 7692 section 6)."""

    __slots__ = ("fin", "opcode", "payload")

    def __init__(self, opcode: int, payload: bytes, fin: bool) -> None:
        self.opcode: int = opcode
        self.payload: bytes = payload
        self.fin: bool = fin


class Deflater:
    """Compresses the messages that one connection sends."""

    __slots__ = (
        "_binary",
        "_compression",
        "_stream",
        "_text",
        "_threshold",
        "_used",
        "compressed",
        "inflated",
        "takeover",
        "window_bits",
    )

    def __init__(self, compression: Compression, window_bits: int, takeover: bool) -> None:
        """Create a deflater, which allocates its compressor at first use.

        :param compression: the settings of this side.
        :param window_bits: the negotiated size of the window.
        :param takeover: whether context takeover was negotiated.
        """
        self._compression = compression
        self._threshold = compression.threshold
        self._text = compression.text
        self._binary = compression.binary
        self.window_bits: int = window_bits
        self.takeover: bool = takeover
        """Whether messages refer back to earlier ones, so that no other connection can use the same payload."""
        self._stream: Any = None  # the compressor of this connection, or of the fragmented message being sent
        self._used = False  # whether anything was compressed since the last call of `release_idle_memory`
        self.inflated: int = 0
        """The number of bytes that were compressed and sent."""
        self.compressed: int = 0
        """The number of bytes that they were compressed to."""

    def should_compress(self, size: int, text: bool, wish: bool | None) -> bool:
        """Return whether to compress a message.

        :param size: its size, in bytes or in characters of text.
        :param text: whether it is text.
        :param wish: the sender's wish; None leaves it to the settings.
        """
        if wish is not None:
            return wish
        return size >= self._threshold and (self._text if text else self._binary)

    def compress(self, data: Buffer, fin: bool) -> bytes:
        """Return the payload of the next frame of a message (RFC 7692 section 7.2.1).

        The data is flushed, so that the receiver can inflate all of it when the frame arrives.

        :param fin: whether the frame is the last one of its message.
        """
        stream = self._stream
        if stream is None:
            stream = self._new_stream()
        # If compressing fails, the stream is dropped. The next one is new and refers to nothing.
        self._stream = None
        # A full flush makes the compressor forget the data, so that the next message refers to nothing.
        mode = zlib.Z_FULL_FLUSH if fin and not self.takeover else zlib.Z_SYNC_FLUSH
        payload: bytes = stream.compress(data) + stream.flush(mode)
        if self.takeover or not fin:
            self._stream = stream
        else:
            self._recycle(stream)
        self._used = True
        if not fin:
            return payload
        # zlib may flush nothing if there was nothing to compress: then send an empty block (RFC 7692 section 7.2.3.6).
        return payload[: -len(_TAIL)] or b"\x00"

    def compress_message(self, data: Buffer) -> bytes:
        """Return the payload of a whole message in one frame.

        Without context takeover, every connection with the same settings can send this payload. It then refers to no
        other message, not even to the fragmented message that this connection may be sending.
        """
        if self.takeover:
            return self.compress(data, True)
        fragmented = self._stream
        self._stream = None
        try:
            return self.compress(data, True)
        finally:
            self._stream = fragmented

    def count(self, inflated: int, compressed: int) -> None:
        """Count data that is sent compressed.

        :param inflated: its size before, in bytes.
        :param compressed: its size after, in bytes.
        """
        self.inflated += inflated
        self.compressed += compressed

    def release_idle_memory(self) -> None:
        """Free a compressor that was not used since the last call. A message may begin with a new one at any time."""
        if not self._used and self.takeover:
            self._stream = None
        self._used = False

    def _new_stream(self) -> Any:
        """Return an idle compressor with these settings, or a new one."""
        settings = self._compression
        bits = self.window_bits
        if not self.takeover:
            idle = _idle.get((settings.level, self.window_bits, settings.mem_level))
            if idle:
                try:
                    return idle.pop()
                except IndexError:
                    pass  # another thread took the last one
        if igzip is not None and 1 <= settings.level <= _MAX_IGZIP_LEVEL and bits >= _ZLIB_BITS:
            return igzip.compressobj(1, zlib.DEFLATED, -bits, settings.mem_level)
        return codec.compressobj(settings.level, zlib.DEFLATED, -max(bits, _ZLIB_BITS), settings.mem_level)

    def _recycle(self, stream: Any) -> None:
        """Keep a compressor for the next message of any connection. A full flush has made it forget its data."""
        settings = self._compression
        idle = _idle.setdefault((settings.level, self.window_bits, settings.mem_level), [])
        if len(idle) < _MAX_IDLE:
            idle.append(stream)


class Inflater:
    """Inflates the messages that one connection receives, in pieces of any size.

    `feed` it a frame, then `take` data while `pending`, then feed it the next frame.
    """

    __slots__ = (
        "_empty",
        "_fin",
        "_final_blocks",
        "_input",
        "_position",
        "_recent",
        "_recent_size",
        "_stream",
        "_text",
        "_window",
        "_window_bits",
        "compressed",
        "counting",
        "ended",
        "inflated",
        "pending",
        "takeover",
    )

    def __init__(self, window_bits: int, takeover: bool) -> None:
        """Create an inflater, which allocates its decompressor at first use.

        :param window_bits: the negotiated size of the window.
        :param takeover: whether context takeover was negotiated.
        """
        # Never less than 9 bits, because some peers compress with 9 bits although 8 bits were negotiated.
        self._window_bits = max(window_bits, _ZLIB_BITS)
        self._window = 1 << self._window_bits  # in bytes
        self.takeover: bool = takeover
        """Whether messages may refer back to earlier ones."""
        self._stream: Any = None  # the decompressor
        self._recent: list[bytes] = []  # the history: the last inflated data; empty without context takeover
        self._recent_size = 0  # the number of bytes in it
        self._input = b""  # the payload of the last frame that was fed
        self._position = 0  # the number of bytes of `_input` that were used
        self._fin = False  # whether that frame is the last one of its message
        self._empty = True  # whether no byte of the message was fed yet
        self._final_blocks = 0  # the number of blocks with the BFINAL bit in the message so far
        self._text: Utf8Check | None = None  # checks a text message; None for a binary one
        self.counting: bool = True
        """Whether `compressed` and `inflated` count. Data that is read after the end of the connection does not."""
        self.compressed: int = 0
        """The number of compressed bytes that were inflated."""
        self.inflated: int = 0
        """The number of bytes that they were inflated to."""
        self.pending: bool = False
        """Whether `take` may return more data without another frame."""
        self.ended: bool = True
        """Whether all data of the message was taken."""

    def feed(self, frame: DeflatedFrame) -> None:
        """Begin with the next frame of a message. All data of the frame before it must have been taken."""
        if frame.opcode != _CONTINUATION:
            self._text = Utf8Check() if frame.opcode == _TEXT else None
            self._final_blocks = 0
            self._empty = True
        self._fin = frame.fin
        self._input = frame.payload
        if self._input:
            self._empty = False
        # RFC 7692 section 7.2.3.6 wants one byte for an empty message, but some peers send none. Then there is nothing
        # to inflate. The tail alone would be corrupt, because its block begins in the byte before it.
        if frame.fin and not self._empty:
            self._input += _TAIL + _FINAL
        self._position = 0
        self.pending = len(self._input) > 0
        self.ended = frame.fin and not self.pending

    def take(self, most: int) -> bytes:
        """Return up to `most` bytes of the message. If there are fewer, the last frame is used up.

        :raises ProtocolViolation: with 1007, if the data is corrupt, or if a text is not UTF-8 (RFC 6455 section 8.1).
        """
        data = self._inflate(most)
        check = self._text
        if check is not None and (not check.feed(data, 0, len(data)) or (self.ended and not check.complete())):
            raise ProtocolViolation("a compressed text message is not UTF-8", CloseCode.INVALID_DATA)
        return data

    def skip(self, frame: DeflatedFrame | None, most: int) -> int:
        """Skip a frame.

        With context takeover it is inflated, because later messages may refer back to it.

        :param frame: the next frame; None to skip the rest of the last one.
        :param most: it stops when it has inflated more bytes than this.
        :returns: the number of bytes skipped: inflated ones with context takeover, compressed ones without.
        :raises ProtocolViolation: with 1007, if the data is corrupt.
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
        """Discard the data that was not taken."""
        self.pending = False
        self._input = b""
        self._position = 0
        self._stream = None

    def _inflate(self, most: int) -> bytes:
        parts = []
        while most and self.pending:
            part = self._inflate_slice(most)
            most -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _inflate_slice(self, most: int) -> bytes:
        """Inflate up to `_SLICE` bytes of the input; return at most `most` bytes."""
        position = self._position
        given = self._input
        size = len(given)
        if position or size > _SLICE:
            given = given[position : position + _SLICE]
        stream = self._stream
        if stream is None:
            stream = self._stream = self._new_stream()
        try:
            part: bytes = stream.decompress(given, most)
        except codec.error as error:
            raise ProtocolViolation("a compressed message is corrupt", CloseCode.INVALID_DATA) from error
        if self.takeover:
            self._remember(part)
        unused: bytes = stream.unconsumed_tail
        if stream.eof:
            # The block with the BFINAL bit is `_FINAL`, or one of the message itself, which is allowed (RFC 7692
            # section 7.2.3.4). Data may follow it, which needs a new decompressor.
            self._stream = None
            self._final_blocks += 1
            if self._final_blocks > _MAX_FINAL_BLOCKS:
                raise ProtocolViolation("a compressed message has too many final blocks", CloseCode.INVALID_DATA)
            unused = stream.unused_data
        used = len(given) - len(unused)
        self._count(position, used, len(part))
        self._position = position = position + used
        # If the result has all `most` bytes, the decompressor may hold more output, although its input is used up.
        if position == size and (len(part) < most or self._stream is None):
            self._end_input()
        return part

    def _count(self, position: int, used: int, inflated: int) -> None:
        """Count data that was inflated.

        :param position: where in the input it began.
        :param used: the number of bytes of the input.
        :param inflated: the number of bytes that they were inflated to.
        """
        if not self.counting:
            return
        # Not the bytes that `feed` has added to the last frame.
        payload = len(self._input) - (_ADDED if self._fin else 0) - position
        self.compressed += min(used, max(payload, 0))
        self.inflated += inflated

    def _new_stream(self) -> Any:
        if self._recent:
            self._cut_history()
            return codec.decompressobj(-self._window_bits, self._recent[0])
        return codec.decompressobj(-self._window_bits)

    def _remember(self, part: bytes) -> None:
        """Add inflated data to the history that later data may refer back to."""
        size = len(part)
        if size >= self._window:
            self._recent = [part[size - self._window :]]
            self._recent_size = self._window
            return
        if size:
            self._recent.append(part)
            self._recent_size += size
            # Keep a little more than the window, so that most calls copy nothing.
            if (
                self._recent_size > self._window + max(self._window // 4, _MIN_EXCESS)
                or len(self._recent) > _MAX_RECENT
            ):
                self._cut_history()

    def _cut_history(self) -> None:
        """Join the history, and cut it to the size of the window."""
        history = b"".join(self._recent)[-self._window :]
        self._recent = [history] if history else []
        self._recent_size = len(history)

    def _end_input(self) -> None:
        """Finish a frame whose payload is used up."""
        self.pending = False
        self._input = b""
        self._position = 0
        self.ended = self._fin
        if self._fin:
            if self.takeover:
                self._cut_history()
            # A decompressor that has not seen `_FINAL` as a block of its own was still inside another block.
            if self._stream is not None:
                raise ProtocolViolation("a compressed message ends in the middle of a block", CloseCode.INVALID_DATA)
