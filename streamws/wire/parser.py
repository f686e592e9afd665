"""Bytes in, frames out: the rules of RFC 6455 about one frame and about the order of the frames of a message.

`Parser.feed` returns events, in the order in which they arrived:

- `str` (ASCII), `WideText` (other text) or `bytes`: a whole message that arrived in one frame;
- `DataFrame`: a fragment, or the rest of a frame whose first bytes a reader has taken (`PartialFrame.release`);
- `DeflatedFrame`: a data frame of a compressed message;
- `Ping`, `Pong`, `CloseFrame`;
- `Violation`: the peer broke a rule. Nothing behind it is read.

Nothing behind a `CloseFrame` is read either (RFC 6455 section 1.4). `Parser.frame` shows a data frame that has not
arrived completely.
"""

from ..codes import Close, CloseCode, Opcode, is_sendable
from ..errors import ProtocolViolation
from .deflate import DeflatedFrame
from .frames import CloseFrame, DataFrame, Ping, Pong, Violation
from .partial import PartialFrame, invalid_text
from .payload import WideText, unmask, unmask_text

Item = str | bytes | WideText | DataFrame | DeflatedFrame
"""An event for a reader."""

Event = Item | Ping | Pong | CloseFrame | Violation

_NAMES = {int(opcode): opcode.name.lower() for opcode in Opcode}
"""The names of the opcodes, for errors. Opcodes that are not in it are reserved."""

# Plain integers: a lookup in the enum costs more than the comparison.
_CONTINUATION = 0x0
_TEXT = 0x1
_BINARY = 0x2
_CLOSE = 0x8
_PING = 0x9
_RSV1 = 0x40


class Parser:
    """Parses the bytes that one side of a connection receives, in chunks of any size."""

    __slots__ = ("_mask_bit", "_partial_header", "_stopped", "deflate", "frame", "has_control")

    def __init__(self, masked: bool) -> None:
        """Make a parser for one direction of a connection.

        :param masked: whether frames must be masked (a server receives them) or must not be (a client does).
        """
        self._mask_bit = 0x80 if masked else 0
        self._partial_header: bytes | None = None  # the first bytes of a header whose rest has not arrived
        self._stopped = False  # whether a Close frame was received or the connection has failed
        self.frame: PartialFrame = PartialFrame()
        """The frame being received."""
        self.deflate: bool = False
        """Whether messages may be compressed."""
        self.has_control: bool = False
        """Whether the last `feed` returned an event other than data."""

    def feed(self, data: bytes | bytearray, end: int) -> list[Event]:
        """Parse `data[:end]`; return the events that it completes."""
        events: list[Event] = []
        self.has_control = False
        if self._stopped:
            return events
        b = data
        pos = 0
        try:
            if self.frame.active:
                pos = self._receive_payload(b, 0, end, events)
            elif self._partial_header is not None:
                pos = self._complete_header(b, end, events)
            while pos < end and not self._stopped:
                pos = self._receive_frame(b, pos, end, events)
        except ProtocolViolation as violation:
            events.append(Violation(violation.code, violation.reason))
            self.has_control = True
            self.stop()
        return events

    def stop(self) -> None:
        """Ignore all further data. `frame` keeps the type and sizes of the message under way, but not its bytes."""
        self._stopped = True
        self.frame.drop()

    # Headers ---------------------------------------------------------------------------------------------------

    def _complete_header(self, data: bytes | bytearray, end: int, events: list[Event]) -> int:
        """Continue a header whose first bytes arrived in an earlier chunk."""
        earlier = self._partial_header
        assert earlier is not None
        self._partial_header = None
        # A header has at most 14 bytes (RFC 6455 section 5.2), so little is copied here.
        more = 14 - len(earlier)
        if more > end:
            more = end
        header = earlier + unmask(data, 0, more, 0)
        size = len(header)
        b = header
        need = 2 if size < 2 else self._header_size(b[1])
        if size < need:
            if size >= 2:
                self._check(b[0], b[1])
            self._partial_header = header
            return end
        # Without its payload, a frame is complete only if the payload is empty.
        self._receive_frame(b, 0, need, events)
        pos = need - len(earlier)
        return self._receive_payload(data, pos, end, events) if self.frame.active else pos

    def _header_size(self, second: int) -> int:
        """Return the size of a frame's header, which follows from its second byte (RFC 6455 section 5.2)."""
        length = second & 0x7F
        size = 2 if length < 126 else 4 if length == 126 else 10
        return size + 4 if second & 0x80 else size

    def _receive_frame(self, data: bytes | bytearray, pos: int, end: int, events: list[Event]) -> int:
        """Parse a frame's header, and its payload as far as it has arrived; return where the next frame begins."""
        b = data
        frame = self.frame
        if end - pos < 2:
            self._partial_header = unmask(data, pos, end, 0)  # key 0: this only copies the bytes
            return end
        first = b[pos]
        second = b[pos + 1]
        # Nearly every frame is a whole message, text or binary: these need no further check.
        if frame.message or (first != 0x81 and first != 0x82) or second & 0x80 != self._mask_bit:
            self._check(first, second)
        length = second & 0x7F
        start = pos + 2
        if length >= 126 or self._mask_bit:
            if end - pos < self._header_size(second):
                self._partial_header = unmask(data, pos, end, 0)
                return end
            if length == 126:
                length = b[start] << 8 | b[start + 1]
                start += 2
                if length < 126:
                    raise ProtocolViolation("the length of a frame is not encoded in the fewest bytes")
            elif length == 127:
                if b[start] & 0x80:
                    raise ProtocolViolation("the length of a frame has its highest bit set")
                length = 0
                for i in range(8):
                    length = length << 8 | b[start + i]
                start += 8
                if length < 65536:
                    raise ProtocolViolation("the length of a frame is not encoded in the fewest bytes")
        key = 0
        if self._mask_bit:
            key = b[start] | b[start + 1] << 8 | b[start + 2] << 16 | b[start + 3] << 24
            start += 4
        if length > end - start:
            frame.begin(first, length, key)
            return self._receive_payload(data, start, end, events)
        stop = start + length
        if first == 0x82 and frame.message == 0:
            events.append(unmask(data, start, stop, key))
        elif first == 0x81 and frame.message == 0:
            self._append_text(data, start, stop, key, events)
        else:
            opcode = first & 0x0F
            if opcode in (_TEXT, _BINARY):
                frame.compressed = first & _RSV1 != 0
            payload = unmask(data, start, stop, key)
            if opcode < 8:
                frame.add_fragment(opcode, payload)
            self._complete(opcode, first >= 0x80, payload, events)
        return stop

    def _check(self, first: int, second: int) -> None:
        """Check the first two bytes of a frame.

        :raises ProtocolViolation: if they break a rule of RFC 6455 section 5.
        """
        opcode = first & 0x0F
        # RFC 7692 section 6: the first frame of a compressed message has RSV1 set, and no other frame.
        allowed = _RSV1 if self.deflate and opcode in (_TEXT, _BINARY) else 0
        if first & 0x70 & ~allowed:
            raise ProtocolViolation("a frame has a reserved bit set that no negotiated extension uses there")
        if opcode not in _NAMES:
            raise ProtocolViolation(f"opcode {opcode:#x} is reserved")
        if second & 0x80 != self._mask_bit:
            # RFC 6455 section 5.1
            raise ProtocolViolation("a frame is not masked" if self._mask_bit else "a frame is masked")
        if opcode >= 8:
            if first < 0x80:
                raise ProtocolViolation(f"a {_NAMES[opcode]} frame is fragmented")
            if second & 0x7F > 125:
                raise ProtocolViolation(f"a {_NAMES[opcode]} frame is longer than 125 bytes")
        elif opcode == _CONTINUATION:
            if self.frame.message == 0:
                raise ProtocolViolation("a continuation frame has no message to continue")
        elif self.frame.message != 0:
            raise ProtocolViolation(f"a {_NAMES[opcode]} frame began inside a fragmented message")

    # Payloads --------------------------------------------------------------------------------------------------

    def _receive_payload(self, data: bytes | bytearray, pos: int, end: int, events: list[Event]) -> int:
        """Receive the payload of the frame under way, as far as it has arrived; return where the next frame begins."""
        frame = self.frame
        stop = end
        if frame.missing < end - pos:
            stop = pos + frame.missing
        frame.append(data, pos, stop)
        if frame.missing:
            return stop
        payload = frame.finish()
        if frame.released or frame.message or frame.opcode >= 8 or not frame.fin or frame.compressed:
            self._complete(frame.opcode, frame.fin, payload, events)
        elif frame.opcode == _BINARY:
            events.append(payload)
        else:
            frame.end_text()
            self._append_text(payload, 0, frame.length, 0, events)
        return stop

    def _complete(self, opcode: int, fin: bool, payload: bytes, events: list[Event]) -> None:
        """Add the event for a fragment, a compressed frame, a control frame or the rest of a frame."""
        if opcode >= 8:
            self._control(opcode, payload, events)
            return
        frame = self.frame
        message = frame.message or opcode
        if fin and message == _TEXT and not frame.compressed:
            frame.end_text()
        frame.message = 0 if fin else message
        if frame.released:
            opcode = _CONTINUATION  # the reader has the beginning of the frame, and with it the opcode
            frame.released = 0
        events.append(DeflatedFrame(opcode, payload, fin) if frame.compressed else DataFrame(opcode, payload, fin))

    def _append_text(self, data: bytes | bytearray, start: int, end: int, key: int, events: list[Event]) -> None:
        try:
            events.append(unmask_text(data, start, end, key))
        except UnicodeDecodeError:
            raise invalid_text() from None

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        self.has_control = True
        if opcode == _PING:
            events.append(Ping(payload))
        elif opcode == _CLOSE:
            events.append(CloseFrame(parse_close(payload)))
            self._stopped = True
        else:
            events.append(Pong(payload))


def parse_close(payload: bytes) -> Close:
    """Return the code and reason in the payload of a Close frame (RFC 6455 sections 5.5.1 and 7.4).

    :raises ProtocolViolation: if the payload is one byte, or holds a code that must not be sent or invalid UTF-8.
    """
    if not payload:
        return Close(CloseCode.NO_STATUS)
    if len(payload) == 1:
        raise ProtocolViolation("a close frame has a payload of one byte")
    code = payload[0] << 8 | payload[1]
    if not is_sendable(code):
        raise ProtocolViolation(f"close code {code} must not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise ProtocolViolation("a close reason is not valid UTF-8", CloseCode.INVALID_DATA) from None


def encode_close(close: Close) -> bytes:
    """Return the payload of a Close frame with this code and reason."""
    if close.code == CloseCode.NO_STATUS:
        return b""
    return close.code.to_bytes(2, "big") + close.reason.encode()
