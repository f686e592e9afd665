"""The state of a connection, without I/O: what may be sent and received, and how it closes (RFC 6455 sections 5 to 7).

`receive` parses a chunk and returns items for a reader. `message`, `compressed_message`, `fragment`, `begin_frame`,
`frame_part`, `ping`, `pong` and `close` encode what this side sends. Control frames that answer the peer are in `due`.
"""

import enum
from typing import Any, TypeGuard

from ..codes import CLEAN_CODES, Cause, Close, CloseOutcome, Opcode, Side, is_sendable
from ..errors import ConnectionClosed, ConnectionClosedError, WriteError
from .deflate import Deflater
from .frames import Buffer, CloseFrame, Ping, Pong, Violation
from .parser import Event, Item, Parser, encode_close
from .payload import MaskKeys, Utf8Check, encode_frame, encode_header, rotate_key, unmask


class State(enum.IntEnum):
    """The state of a connection (RFC 6455 sections 4.1, 7.1.3 and 7.1.4)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)


class Change(enum.IntEnum):
    """An event that moves a connection to another state."""

    OPENED = enum.auto()
    CLOSE_SENT = enum.auto()
    CLOSE_RECEIVED = enum.auto()
    DROPPED = enum.auto()
    LOST = enum.auto()


TRANSITIONS: dict[State, dict[Change, State]] = {
    State.CONNECTING: {Change.OPENED: State.OPEN, Change.LOST: State.CLOSED},
    State.OPEN: {
        Change.CLOSE_SENT: State.CLOSING,
        Change.CLOSE_RECEIVED: State.CLOSING,
        Change.DROPPED: State.CLOSING,
        Change.LOST: State.CLOSED,
    },
    # Each side sends one Close frame, and either may be the first (RFC 6455 section 7.1.2).
    State.CLOSING: {
        Change.CLOSE_SENT: State.CLOSING,
        Change.CLOSE_RECEIVED: State.CLOSING,
        Change.DROPPED: State.CLOSING,
        Change.LOST: State.CLOSED,
    },
    State.CLOSED: {Change.LOST: State.CLOSED},
}

LARGE = 16 * 1024
"""The size, in bytes, from which an unmasked payload is written separately from its header, not copied behind it."""

CHUNK = 128 * 1024
"""The number of bytes of a large payload that are masked and written at a time. They fit into the processor's cache."""

_MASKED_IN_CHUNKS = 2 * CHUNK
"""The size, in bytes, above which masking in chunks is faster than masking the whole payload."""

MAX_PONGS = 16
"""The most pings of one burst that are answered: the last ones (RFC 6455 section 5.5.3 allows this)."""

_FIN = 0x80
_FIN_TEXT = 0x81
_FIN_BINARY = 0x82
_FIN_PONG = 0x8A
_RSV1 = 0x40


class Protocol:
    """Both halves of one connection, as a server or as a client."""

    __slots__ = (
        "_cause",
        "_compressing",
        "_detail",
        "_frame_key",
        "_frame_length",
        "_initiator",
        "_keys",
        "_outcome",
        "_text",
        "close_received",
        "close_sent",
        "control",
        "deflater",
        "due",
        "failed",
        "open",
        "parser",
        "pings",
        "pongs",
        "received",
        "sending",
        "state",
        "unsent",
    )

    def __init__(self, server: bool, deflater: Deflater | None = None) -> None:
        """Create the state of a connection whose opening handshake is under way.

        :param server: whether this side is the server. A client masks its frames (RFC 6455 section 5.1).
        :param deflater: compresses messages, if compression was negotiated. The peer may then send compressed ones.
        """
        self.parser: Parser = Parser(server)
        self.parser.deflate = deflater is not None
        self.deflater: Deflater | None = deflater
        self._compressing = False  # whether the fragmented message being sent is compressed
        self.state: State = State.CONNECTING
        self.open: bool = False
        """Whether data may be sent: `state is State.OPEN`."""
        self.received: int = 0
        """The number of bytes received since the opening handshake."""
        self.control: list[Event] = []
        """Received pongs, Close frames and violations, until `process_control`."""
        self.due: list[bytes] = []
        """Control frames to be sent as soon as no data frame is under way."""
        self.pings: list[bytes] = []
        """Payloads of received pings. The connection replaces the list when it has processed them."""
        self.pongs: list[bytes] = []
        """Payloads of the pongs that `process_control` found. The connection replaces the list in the same way."""
        self.close_received: Close | None = None
        """The peer's Close frame; None if it has not arrived."""
        self.close_sent: Close | None = None
        """This side's Close frame; None if there is none. It cannot leave before the end of a data frame (`unsent`)."""
        self._keys = None if server else MaskKeys()
        self.sending: int = 0
        """The opcode of the fragmented message being sent, or 0."""
        self._text: Utf8Check | None = None  # set if the text being sent so far ends inside a character
        self.unsent: int = 0
        """The payload bytes still to be sent of the data frame under way. Until it is 0, no other frame can be sent."""
        self._frame_length = 0  # the declared length of that frame
        self._frame_key = 0  # the masking key of that frame
        self.failed: bool = False
        """Whether this side has failed the connection (RFC 6455 section 7.1.7): nothing more is read."""
        # These three are for the outcome: see `CloseOutcome`.
        self._initiator: Side | None = None
        self._cause: Cause | None = None
        self._detail = ""
        self._outcome: CloseOutcome | None = None  # the final one, once it was asked for

    def change(self, change: Change) -> None:
        """Move to the next state."""
        self.state = TRANSITIONS[self.state][change]
        self.open = self.state is State.OPEN

    # Receiving -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray, end: int) -> list[Item]:
        """Parse `data[:end]`; return the items for a reader.

        Afterwards `pings` holds the payloads of pings, and `due` their pongs. Pongs, Close frames and violations stay
        in `control` until `process_control` is called: first, a reader gets the items that arrived before them, and it
        may answer.
        """
        self.received += end
        items: list[Any] = self.parser.feed(data, end)
        if self.parser.has_control:
            items = self._separate(items)
        if self.close_sent is not None:
            # This side is closing, so data is discarded (RFC 6455 section 1.4).
            self.parser.frame.release()
            return []
        return items

    def _separate(self, events: list[Any]) -> list[Any]:
        """Sort pings and control events out of the events; return the data."""
        items: list[Any] = []
        pings: list[bytes] = []
        for event in events:
            if isinstance(event, Ping):
                pings.append(event.payload)
            elif isinstance(event, (Pong, CloseFrame, Violation)):
                self.control.append(event)
            else:
                items.append(event)
        self.pings += pings
        if self.close_sent is None:
            self._queue_pongs(pings[-MAX_PONGS:])
        return items

    def _queue_pongs(self, payloads: list[bytes]) -> None:
        """Add the pongs to `due`, and remove the oldest if there are more than `MAX_PONGS`."""
        # RFC 6455 section 5.5.3 allows to answer only the last of several pings.
        waiting = [frame for frame in self.due if frame[0] == _FIN_PONG]
        for frame in waiting[: max(0, len(waiting) + len(payloads) - MAX_PONGS)]:
            self.due.remove(frame)
        self.due += [self.pong(payload) for payload in payloads]

    def process_control(self) -> None:
        """Process the events in `control`.

        Afterwards `pongs` holds the payloads of pongs, and `close_received` a Close frame. A violation sets `failed`
        and puts a Close frame into `due` (RFC 6455 section 7.1.7).
        """
        events = self.control
        self.control = []
        for event in events:
            if isinstance(event, Pong):
                self.pongs.append(event.payload)
            elif isinstance(event, CloseFrame):
                self._receive_close(event.close)
            elif isinstance(event, Violation):
                self.queue(self.fail(event.code, event.reason, Cause.PROTOCOL_ERROR, Side.REMOTE, event.reason))

    def _receive_close(self, close: Close) -> None:
        self.close_received = close
        self.change(Change.CLOSE_RECEIVED)
        if self.close_sent is None:
            self._initiator = self._initiator or Side.REMOTE
            # The answer has the same code (RFC 6455 section 5.5.1).
            self.queue(self._send_close(Close(close.code)))

    def queue(self, frame: bytes) -> None:
        """Add a control frame to `due`, unless it is empty."""
        if frame:
            self.due.append(frame)

    # Sending ---------------------------------------------------------------------------------------------------

    def message(self, data: str | Buffer) -> bytes:
        """Encode a whole message as one frame: `str` is text, bytes-like is binary.

        :raises TypeError: if `data` is neither.
        """
        first = _FIN_BINARY
        if isinstance(data, str):
            first = _FIN_TEXT
        elif not isinstance(data, (bytes, bytearray, memoryview)):
            check_data(data)
        return encode_frame(first, data, 0 if self._keys is None else self._keys.next())

    def is_large(self, data: str | Buffer) -> TypeGuard[bytes]:
        """Return whether to write a message separately from its header: it is large, immutable and not masked."""
        return self._keys is None and type(data) is bytes and len(data) >= LARGE

    def is_masked_in_chunks(self, data: str | Buffer) -> bool:
        """Return whether to mask and write a message chunk by chunk."""
        return (
            self._keys is not None
            and isinstance(data, (bytes, bytearray, memoryview))
            and len(data) > _MASKED_IN_CHUNKS
        )

    def unmasked_header(self, payload: bytes, text: bool) -> bytes:
        """Return the header of an unmasked message."""
        return encode_header(_FIN_TEXT if text else _FIN_BINARY, len(payload), 0)

    def text_message(self, payload: Buffer) -> bytes:
        """Encode UTF-8 as a text message of one frame."""
        return encode_frame(_FIN_TEXT, payload, 0 if self._keys is None else self._keys.next())

    def compresses(self, data: str | Buffer, compress: bool | None) -> bool:
        """Return whether to compress a message.

        :param compress: the sender's wish; None leaves it to the `Compression` of the connection.
        """
        deflater = self.deflater
        if deflater is None:
            return False
        check_data(data)
        return deflater.should_compress(size_of(data), isinstance(data, str), compress)

    def compressed_message(self, data: str | Buffer) -> bytes:
        """Encode a whole message as one compressed frame; uncompressed if that is smaller and allowed."""
        deflater = self.deflater
        assert deflater is not None
        first = _FIN_TEXT if isinstance(data, str) else _FIN_BINARY
        payload = as_bytes(data)
        deflated = deflater.compress_message(payload)
        # With context takeover later messages refer to this one, so the peer needs the compressed form.
        if deflater.takeover or len(deflated) < len(payload) or not payload:
            deflater.count(len(payload), len(deflated))
            payload = deflated
            first |= _RSV1
        return encode_frame(first, payload, 0 if self._keys is None else self._keys.next())

    def fragment(self, opcode: int, data: str | Buffer, fin: bool, compress: bool | None = False) -> bytes:
        """Encode the next frame of a fragmented message. The first frame decides its type (RFC 6455 section 5.4).

        :param opcode: the type of the message, for its first frame.
        :param fin: whether this is the last frame.
        :param compress: for the first frame: whether to compress the message; None leaves it to the `Compression`.
        :raises WriteError: if a text message cannot continue with `data` (section 8.1); nothing has changed then.
        """
        check_data(data)
        first = opcode if self.sending == 0 else Opcode.CONTINUATION
        message = self.sending or opcode
        if message == Opcode.TEXT:
            self.check_text(data, fin)
        if self.sending == 0:
            deflater = self.deflater
            size = size_of(data)
            self._compressing = deflater is not None and deflater.should_compress(size, opcode == Opcode.TEXT, compress)
            if self._compressing:
                first |= _RSV1  # on the first frame only (RFC 7692 section 6.1)
        if self._compressing and self.deflater is not None:
            payload = as_bytes(data)
            data = self.deflater.compress(payload, fin)
            self.deflater.count(len(payload), len(data))
        key = 0 if self._keys is None else self._keys.next()
        frame = encode_frame(first | _FIN if fin else first, data, key)
        # Only now: if the data could not be encoded, nothing was sent.
        self.sending = 0 if fin else message
        return frame

    def check_text(self, data: str | Buffer, fin: bool) -> None:
        """Check that the text being sent can continue with `data`, or end with it (RFC 6455 section 8.1).

        :param fin: whether the text ends with it.
        :raises WriteError: if it cannot.
        """
        if isinstance(data, str):
            if self._text is None:
                return  # a `str` holds whole characters
            data = data.encode()
        part = bytes(data)
        check = Utf8Check() if self._text is None else self._text.copy()
        if not check.feed(part, 0, len(part)):
            raise WriteError("cannot send these bytes: the text message under way would not be valid UTF-8")
        whole = check.copy().complete()
        if fin and not whole:
            raise WriteError("cannot end the text message: it would end inside a character")
        self._text = None if whole else check

    def begin_frame(self, opcode: int, length: int) -> bytes:
        """Begin a message in one frame of `length` bytes; return its header. `frame_part` encodes its payload."""
        self._frame_key = 0 if self._keys is None else self._keys.next()
        self._frame_length = self.unsent = length
        return encode_header(opcode | _FIN, length, self._frame_key)

    def frame_part(self, data: Buffer) -> bytes:
        """Encode the next bytes of that frame's payload, at most `unsent` of them."""
        part = bytes(data)
        if self._frame_key:
            key = rotate_key(self._frame_key, self._frame_length - self.unsent)
            part = unmask(part, 0, len(part), key)
        self.unsent -= len(part)
        return part

    def ping(self, payload: bytes) -> bytes:
        """Encode a ping."""
        return self._control_frame(Opcode.PING, payload)

    def pong(self, payload: bytes) -> bytes:
        """Encode a pong."""
        return self._control_frame(Opcode.PONG, payload)

    def _control_frame(self, opcode: int, payload: Buffer) -> bytes:
        if len(payload) > 125:
            # RFC 6455 section 5.5
            raise ValueError(f"the payload of a control frame must have at most 125 bytes, not {len(payload)}")
        return encode_frame(0x80 | opcode, payload, 0 if self._keys is None else self._keys.next())

    # Closing ---------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> bytes:
        """Begin the closing handshake (RFC 6455 section 7.1.2).

        :returns: the Close frame to send; empty unless the connection is open.
        :raises ValueError: if the code must not be sent, or the reason is too long.
        """
        check_close(code, reason)
        if not self.open:
            return b""
        self._initiator = self._initiator or Side.LOCAL
        return self._send_close(Close(code, reason))

    def fail(self, code: int, reason: str, cause: Cause, side: Side, detail: str) -> bytes:
        """Fail the connection (RFC 6455 section 7.1.7); nothing more is read.

        :param code: the close code for the peer.
        :param reason: the reason for the peer; cut to fit into a Close frame.
        :param cause: the cause for the outcome, unless that is known already.
        :param side: the initiator for the outcome, unless that is known already.
        :param detail: the detail for the outcome.
        :returns: the Close frame to send; empty if one was sent, or if none can be sent.
        """
        self.parser.stop()
        self.failed = True
        self.explain(cause, side, detail)
        if not self.open:
            return b""
        frame = self._send_close(Close(code, shorten(reason)))
        return b"" if self.unsent else frame  # inside a data frame, the peer would take it for payload

    def drop(self) -> None:
        """Record that this side drops the connection: nothing more is received or sent."""
        self.explain(Cause.RESET, Side.LOCAL, "this side dropped the connection")
        self.change(Change.DROPPED)
        self.failed = True
        self.parser.stop()
        self.control = []
        self.due = []

    def _send_close(self, close: Close) -> bytes:
        self.close_sent = close
        self.change(Change.CLOSE_SENT)
        return self._control_frame(Opcode.CLOSE, encode_close(close))

    @property
    def closed_both_ways(self) -> bool:
        """Whether the closing handshake is complete (RFC 6455 section 7.1.4)."""
        return self.close_sent is not None and self.close_received is not None and not self.unsent

    # The outcome -----------------------------------------------------------------------------------------------

    def explain(self, cause: Cause, side: Side, detail: str) -> None:
        """Record why the connection ends, for the outcome. Only the first call has an effect."""
        if self._cause is None and not self.closed_both_ways:
            self._cause = cause
            self._initiator = self._initiator or side
            self._detail = detail

    def outcome(self) -> CloseOutcome:
        """Return how the connection ended, or how it will end as far as is known now."""
        if self._outcome is not None:
            return self._outcome
        initiator = self._initiator or Side.REMOTE
        cause = self._cause
        if cause is None:
            # No fault was recorded, so the initiator's Close frame tells the cause.
            first = self.close_sent if initiator is Side.LOCAL else self.close_received
            if first is None:
                cause = Cause.RESET
            elif first.code in CLEAN_CODES:
                cause = Cause.CLEAN
            else:
                cause = Cause.CLOSED_WITH_ERROR if initiator is Side.LOCAL else Cause.PEER_ERROR
        sent, withheld = (None, self.close_sent) if self.unsent else (self.close_sent, None)
        outcome = CloseOutcome(cause, initiator, self.close_received, sent, self._detail, withheld)
        if self.state is State.CLOSED:
            self._outcome = outcome
        return outcome

    def closed_error(self) -> ConnectionClosed:
        """Return the exception for a reader when nothing more can be received, or for a sender whose data was sent."""
        outcome = self.outcome()
        return ConnectionClosed(outcome) if outcome.clean else ConnectionClosedError(outcome)

    def send_error(self) -> ConnectionClosed:
        """Return the exception for a sender whose data cannot be sent."""
        outcome = self.outcome()
        kind = ConnectionClosed if outcome.clean else ConnectionClosedError
        return kind(outcome, "cannot send")


def check_data(data: object) -> None:
    """Check the type of a message.

    :raises TypeError: unless it is `str` or bytes-like.
    """
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"message must be str or bytes-like, not {type(data).__name__}; encode it first")


def unchanging(data: str | Buffer) -> str | bytes:
    """Return a message as an immutable object: a copy, unless it is `str` or `bytes`.

    :raises TypeError: if it is neither `str` nor bytes-like.
    """
    check_data(data)
    return data if isinstance(data, str) else bytes(data)


def size_of(data: str | Buffer) -> int:
    """Return the size of a message: its bytes, or its characters if it is `str`."""
    return data.nbytes if isinstance(data, memoryview) else len(data)


def as_bytes(data: str | Buffer) -> bytes | bytearray | memoryview:
    """Return a message as contiguous bytes."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, memoryview) and (data.itemsize != 1 or not data.contiguous or data.ndim != 1):
        return data.tobytes()
    return data


def is_utf8(data: bytes | bytearray | memoryview) -> bool:
    """Return whether contiguous bytes are a whole UTF-8 text."""
    check = Utf8Check()
    return check.feed(data, 0, len(data)) and check.complete()


def check_close(code: int, reason: str) -> None:
    """Check that a Close frame may carry `code` and `reason`.

    :raises ValueError: if it may not.
    :raises TypeError: if the reason is not `str`.
    """
    if not is_sendable(code):
        raise ValueError(f"close code {code} must not be sent; use 1000, or 3000 to 4999 for codes of your own")
    if not isinstance(reason, str):
        raise TypeError(f"close reason must be str, not {type(reason).__name__}")
    size = len(reason.encode())
    if size > 123:
        raise ValueError(f"close reason must have at most 123 bytes in UTF-8, not {size}")


def shorten(reason: str) -> str:
    """Return as much of a reason as fits into a Close frame: 123 bytes in UTF-8."""
    return reason.encode()[:123].decode(errors="ignore")
