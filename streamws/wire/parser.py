"""Bytes in, frames out: every rule of RFC 6455 about one frame, and about the order of the frames of a message.

What the parser returns, in the order it came:

- `str` (pure ASCII), `WideText` (other text) or `bytes`: a whole message that came in one frame;
- `DataFrame`: a complete fragment of a longer message, or the rest of a frame of which a part was released;
- `DeflatedFrame`: the same of a compressed message, also where that is a single frame;
- `Ping`, `Pong`, `CloseFrame`;
- `Violation`, as the last thing: nothing behind it is read. Nothing behind a `CloseFrame` is read either.

A data frame that is not complete is visible before its end: `in_frame` and the fields beside it describe it, and
`release()` hands over what has come of it. For a reader that waits for just that, the parser may leave it where it is
(`lending`), so that `release_into()` unmasks it from the caller's buffer into the reader's.
"""

from ..codes import Close, CloseCode, Opcode, is_sendable
from ..errors import ProtocolViolation
from .deflate import DeflatedFrame
from .frames import CloseFrame, DataFrame, Ping, Pong, Violation
from .payload import Payload, Utf8Check, WideText, rotate_key, unmask, unmask_into, unmask_text

Item = str | bytes | WideText | DataFrame | DeflatedFrame
"""What is there for a reader."""

Event = Item | Ping | Pong | CloseFrame | Violation

_NAMES = {int(opcode): opcode.name.lower() for opcode in Opcode}

# Plain integers: the enum costs a look-up each time.
_CONTINUATION = 0x0
_TEXT = 0x1
_BINARY = 0x2
_CLOSE = 0x8
_PING = 0x9
_RSV1 = 0x40


class Parser:
    """The receiving half of a connection: feed it what comes off the network, in any pieces."""

    __slots__ = (
        "_head",
        "_key",
        "_lent",
        "_lent_end",
        "_lent_start",
        "_mask_bit",
        "_message",
        "_payload",
        "_released",
        "_stopped",
        "_utf8",
        "deflate",
        "deflated",
        "fin",
        "in_frame",
        "lending",
        "length",
        "missing",
        "opcode",
        "received",
        "settle",
    )

    def __init__(self, masked: bool) -> None:
        """`masked`: whether frames must come masked (to a server) or must not be (to a client)."""
        self._mask_bit = 0x80 if masked else 0
        self._head: bytes | None = None  # of a header, where it came in pieces
        self._message = 0  # opcode of the fragmented message under way
        self._utf8: Utf8Check | None = None
        self._payload: Payload | None = None  # of the frame under way
        self._key = 0
        self._released = 0  # bytes of the frame under way that were handed over already
        self._stopped = False
        self.lending: bool = False
        """Whether the last bytes of `feed`, if they are of a binary frame that goes on, are left in the caller's
        buffer; the caller then calls `keep` before that changes."""
        self._lent: bytes | bytearray = b""  # that buffer,
        self._lent_start = 0  # and the place of those bytes in it
        self._lent_end = 0
        self.deflate: bool = False
        """Whether messages may come compressed."""
        self.deflated: bool = False
        """Whether the message under way is; between messages it says nothing."""
        self.settle: bool = False
        """Whether the events of the last `feed` have other things among them than data."""
        self.in_frame: bool = False
        """Whether a frame is under way whose header is known."""
        self.opcode: int = 0
        """The opcode of the frame under way."""
        self.fin: bool = False
        """Whether the frame under way is the last one of its message."""
        self.length: int = 0
        """The declared length of the frame under way."""
        self.missing: int = 0
        """Bytes of the frame under way that have not come."""
        self.received: int = 0
        """Bytes of the message under way that have come; between messages it says nothing."""

    def feed(self, data: bytes | bytearray, end: int) -> list[Event]:
        """Take `data[:end]`; return what it completes."""
        events: list[Event] = []
        self.settle = False
        if self._stopped:
            return events
        b = data
        pos = 0
        try:
            if self.in_frame:
                pos = self._go_on(b, 0, end, events)
            elif self._head is not None:
                pos = self._complete_head(b, end, events)
            while pos < end and not self._stopped:
                pos = self._frame(b, pos, end, events)
        except ProtocolViolation as violation:
            events.append(Violation(violation.code, violation.reason))
            self.settle = True
            self.stop()
        return events

    # The frame under way ---------------------------------------------------------------------------------------

    def in_data_frame(self) -> bool:
        """Whether the frame under way carries data."""
        return self.in_frame and self.opcode < 8

    def in_message(self) -> bool:
        """Whether a message has begun and its end has not come."""
        return self._message != 0 or (self.in_frame and self.opcode < 8)

    def in_fragmented(self) -> bool:
        """Whether the message under way has more than one frame."""
        return self._message != 0 or (self.in_frame and not self.fin)

    def buffered(self) -> int:
        """Bytes held of the data frame under way."""
        lent = self._lent_end - self._lent_start
        return lent + self._payload.size if self._payload is not None and self.opcode < 8 else 0

    def release(self) -> bytes:
        """Hand over what is held of the data frame under way; its rest comes as a `DataFrame`, or is released too."""
        size = self.buffered()
        if size == 0 or self._payload is None:
            return b""
        self._released += size
        if self._lent_end == 0:
            return self._payload.take()
        start = self._lent_start
        end = self._lent_end
        key = self._lent_key()
        self._lent_start = self._lent_end = 0
        return unmask(self._lent, start, end, key)

    def release_deflated(self) -> DeflatedFrame:
        """The same of a compressed message: what is handed over first of a frame has the opcode of that."""
        opcode = _CONTINUATION if self._released else self.opcode
        return DeflatedFrame(opcode, self.release(), False)

    def release_into(self, target: memoryview) -> int:
        """The same into a writable buffer of bytes, as far as it is lent and fits; returns how many bytes."""
        size = self._lent_end - self._lent_start
        if size > len(target):
            size = len(target)
        if size:
            start = self._lent_start
            unmask_into(target, self._lent, start, start + size, self._lent_key())
            self._released += size
            self._lent_start += size
            if self._lent_start == self._lent_end:
                self._lent_start = self._lent_end = 0
        return size

    def keep(self) -> None:
        """Copy what is lent and was not released: the caller's buffer is about to change."""
        if self._lent_end:
            payload = self._payload
            if payload is not None:
                expected = self.length - self._released
                payload.append(self._lent, self._lent_start, self._lent_end, self._lent_key(), expected)
            self._lent_start = self._lent_end = 0

    def _lent_key(self) -> int:
        """The masking key as it applies where the lent bytes begin, which are the last that came."""
        return rotate_key(self._key, self.length - self.missing - (self._lent_end - self._lent_start))

    # Headers ---------------------------------------------------------------------------------------------------

    def _complete_head(self, data: bytes | bytearray, end: int, events: list[Event]) -> int:
        """Go on with a header whose first bytes came earlier."""
        kept = self._head
        assert kept is not None
        self._head = None
        # A header has at most 14 bytes (RFC 6455 section 5.2), so this copies little.
        more = 14 - len(kept)
        if more > end:
            more = end
        head = kept + unmask(data, 0, more, 0)
        size = len(head)
        b = head
        need = 2 if size < 2 else self._header_size(b[1])
        if size < need:
            if size >= 2:
                self._check(b[0], b[1])
            self._head = head
            return end
        self._frame(b, 0, need, events)
        pos = need - len(kept)
        return self._go_on(data, pos, end, events) if self.in_frame else pos

    def _header_size(self, second: int) -> int:
        length = second & 0x7F
        size = 2 if length < 126 else 4 if length == 126 else 10
        return size + 4 if second & 0x80 else size

    def _frame(self, data: bytes | bytearray, pos: int, end: int, events: list[Event]) -> int:
        """Read a frame's header, and its payload as far as it is there; return where the next one begins."""
        b = data
        if end - pos < 2:
            self._head = unmask(data, pos, end, 0)
            return end
        first = b[pos]
        second = b[pos + 1]
        if self._message or (first != 0x81 and first != 0x82) or second & 0x80 != self._mask_bit:
            self._check(first, second)
        length = second & 0x7F
        start = pos + 2
        if length >= 126 or self._mask_bit:
            if end - pos < self._header_size(second):
                self._head = unmask(data, pos, end, 0)
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
            self._begin(first, length, key)
            return self._go_on(data, start, end, events)
        stop = start + length
        if first == 0x82 and self._message == 0:
            events.append(unmask(data, start, stop, key))
        elif first == 0x81 and self._message == 0:
            self._append_text(data, start, stop, key, events)
        else:
            if first & 0x0F in (_TEXT, _BINARY):
                self.deflated = first & _RSV1 != 0
            self._complete(first & 0x0F, first >= 0x80, unmask(data, start, stop, key), False, events)
        return stop

    def _check(self, first: int, second: int) -> None:
        """The rules about the first two bytes of a frame."""
        opcode = first & 0x0F
        # RFC 7692 section 6: of a compressed message the first frame has RSV1 set, and no other one.
        allowed = _RSV1 if self.deflate and opcode in (_TEXT, _BINARY) else 0
        if first & 0x70 & ~allowed:
            raise ProtocolViolation("a reserved bit is set, and no extension was agreed on that uses it there")
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
            if self._message == 0:
                raise ProtocolViolation("a continuation frame has no message to continue")
        elif self._message != 0:
            raise ProtocolViolation(f"a {_NAMES[opcode]} frame came inside a fragmented message")

    # Payloads --------------------------------------------------------------------------------------------------

    def _begin(self, first: int, length: int, key: int) -> None:
        self.in_frame = True
        self.opcode = first & 0x0F
        self.fin = first >= 0x80
        self.length = self.missing = length
        self._key = key
        self._released = 0
        self._payload = Payload()
        if self.opcode < 8 and self._message == 0:
            self.received = 0
            self.deflated = first & _RSV1 != 0

    def _go_on(self, data: bytes | bytearray, pos: int, end: int, events: list[Event]) -> int:
        """Take what has come of the payload of the frame under way."""
        payload = self._payload
        assert payload is not None
        stop = end
        if self.missing < end - pos:
            stop = pos + self.missing
        taken = stop - pos
        if taken:
            done = self.length - self.missing
            before = payload.size
            self.missing -= taken
            if self.lending and self.missing and before == 0 and self._is_binary():
                self._lent = data
                self._lent_start = pos
                self._lent_end = stop
            else:
                payload.append(data, pos, stop, rotate_key(self._key, done), self.length - self._released)
            if self.opcode < 8:
                self.received += taken
            if self.opcode < 8 and not self.deflated and (self._message or self.opcode) == _TEXT:
                if self._utf8 is None:
                    self._utf8 = Utf8Check()
                if not payload.check_text(self._utf8, before):
                    raise ProtocolViolation("a text message is not UTF-8", CloseCode.INVALID_DATA)
        if self.missing:
            return stop
        self.in_frame = False
        self._payload = None
        if self._released or self._message or self.opcode >= 8 or not self.fin or self.deflated:
            self._complete(self.opcode, self.fin, payload.take(), True, events)
        elif self.opcode == _BINARY:
            events.append(payload.take())
        else:
            self._end_text()
            whole = payload.take()
            self._append_text(whole, 0, self.length, 0, events)
        return stop

    def _is_binary(self) -> bool:
        """Whether the frame under way is of a binary message, as it is to be read."""
        return self.opcode < 8 and not self.deflated and (self._message or self.opcode) == _BINARY

    def _complete(self, opcode: int, fin: bool, payload: bytes, counted: bool, events: list[Event]) -> None:
        """A frame is there that is not a whole message. `counted`: its bytes were counted and checked as they came."""
        if opcode >= 8:
            self._control(opcode, payload, events)
            return
        if not counted:
            self.received = len(payload) if self._message == 0 else self.received + len(payload)
        message = self._message or opcode
        if message == _TEXT and not self.deflated:
            if not counted:
                if self._utf8 is None:
                    self._utf8 = Utf8Check()
                if not self._utf8.feed(payload, 0, len(payload)):
                    raise ProtocolViolation("a text message is not UTF-8", CloseCode.INVALID_DATA)
            if fin:
                self._end_text()
        self._message = 0 if fin else message
        if self._released:
            opcode = _CONTINUATION
            self._released = 0
        events.append(DeflatedFrame(opcode, payload, fin) if self.deflated else DataFrame(opcode, payload, fin))

    def _append_text(self, data: bytes | bytearray, start: int, end: int, key: int, events: list[Event]) -> None:
        try:
            events.append(unmask_text(data, start, end, key))
        except UnicodeDecodeError:
            raise ProtocolViolation("a text message is not UTF-8", CloseCode.INVALID_DATA) from None

    def _end_text(self) -> None:
        if self._utf8 is not None and not self._utf8.complete():
            raise ProtocolViolation("a text message is not UTF-8", CloseCode.INVALID_DATA)

    def stop(self) -> None:
        """Read nothing more. What is known of a message under way stays, but for its bytes."""
        self._stopped = True
        self._payload = None
        self._lent_start = self._lent_end = 0

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        self.settle = True
        if opcode == _PING:
            events.append(Ping(payload))
        elif opcode == _CLOSE:
            events.append(CloseFrame(parse_close(payload)))
            self._stopped = True
        else:
            events.append(Pong(payload))


def parse_close(payload: bytes) -> Close:
    """The content of a Close frame (RFC 6455 sections 5.5.1 and 7.4).

    Raises `ProtocolViolation` if the payload is one byte, holds a code that must not be sent, or a reason that is
    not UTF-8.
    """
    if not payload:
        return Close(CloseCode.NO_STATUS)
    if len(payload) == 1:
        raise ProtocolViolation("a close frame has a body of one byte")
    code = payload[0] << 8 | payload[1]
    if not is_sendable(code):
        raise ProtocolViolation(f"close code {code} must not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise ProtocolViolation("a close reason is not UTF-8", CloseCode.INVALID_DATA) from None


def encode_close(close: Close) -> bytes:
    """The payload of a Close frame that says `close`."""
    if close.code == CloseCode.NO_STATUS:
        return b""
    return close.code.to_bytes(2, "big") + close.reason.encode()
