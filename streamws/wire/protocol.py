"""What may come and go in which state of a connection, and how it closes (RFC 6455 sections 5 to 7); no I/O.

What comes off the network goes in by `receive`, which returns what is there for a reader. What has to be sent in
answer is in `owed`. Frames to send are made by `message`, `deflated_message`, `fragment`, `begin_frame`, `ping`, `pong`
and `close`.
"""

import enum
from typing import Any, TypeGuard

from ..codes import CLEAN_CODES, Cause, Close, CloseOutcome, Opcode, Side, is_sendable
from ..errors import WriteError
from .deflate import Deflater
from .frames import Buffer, CloseFrame, Ping, Pong, Violation
from .parser import Event, Item, Parser, encode_close
from .payload import MaskKeys, Utf8Check, encode_frame, encode_header, rotate_key, unmask


class State(enum.IntEnum):
    """Where a connection stands (RFC 6455 sections 4.1, 7.1.3 and 7.1.4)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Change(enum.IntEnum):
    """What moves a connection from state to state."""

    OPENED = enum.auto()
    CLOSE_SENT = enum.auto()
    CLOSE_RECEIVED = enum.auto()
    LOST = enum.auto()


TRANSITIONS: dict[State, dict[Change, State]] = {
    State.CONNECTING: {Change.OPENED: State.OPEN, Change.LOST: State.CLOSED},
    State.OPEN: {
        Change.CLOSE_SENT: State.CLOSING,
        Change.CLOSE_RECEIVED: State.CLOSING,
        Change.LOST: State.CLOSED,
    },
    State.CLOSING: {
        Change.CLOSE_SENT: State.CLOSING,
        Change.CLOSE_RECEIVED: State.CLOSING,
        Change.LOST: State.CLOSED,
    },
    State.CLOSED: {Change.LOST: State.CLOSED},
}

LARGE = 16 * 1024
"""Bytes from which a payload that cannot change is sent beside its header rather than copied behind it."""

CHUNK = 128 * 1024
"""Bytes that are masked at a time of a large payload: as many as fit into the processor's cache."""

_LONG = 2 * CHUNK  # bytes above which that is worth the while

MAX_PONGS = 16
"""Pings of one burst that are answered, the last ones."""

_FIN = 0x80
_FIN_TEXT = 0x81
_FIN_BINARY = 0x82
_FIN_PONG = 0x8A
_RSV1 = 0x40


class Protocol:
    """Both halves of one connection, in one of the two roles."""

    __slots__ = (
        "_deflating",
        "_detail",
        "_fixed_cause",
        "_frame_key",
        "_frame_length",
        "_initiator",
        "_keys",
        "_text",
        "close_received",
        "close_sent",
        "deflater",
        "failed",
        "open",
        "owed",
        "parser",
        "pings",
        "pongs",
        "sending",
        "state",
        "unsent",
        "unsettled",
    )

    def __init__(self, server: bool, deflater: Deflater | None = None) -> None:
        """`server`: the role; a server's frames are not masked, a client's are (RFC 6455 section 5.1).

        `deflater`: what compresses messages, if that was agreed on; then they may come compressed too.
        """
        self.parser: Parser = Parser(server)
        self.parser.deflate = deflater is not None
        self.deflater: Deflater | None = deflater
        self._deflating = False  # whether the fragmented message being sent is compressed
        self.state: State = State.CONNECTING
        self.open: bool = False
        """Whether data may be sent: the same as `state is State.OPEN`."""
        self.unsettled: list[Event] = []
        """What was received and is no data, until it is settled."""
        self.owed: list[bytes] = []
        """Control frames that are due: answers to what was received, and what waits for the end of a data frame."""
        self.pings: list[bytes] = []
        """Payloads of pings that came; whoever answers them empties it."""
        self.pongs: list[bytes] = []
        """Payloads of the pongs that were settled last."""
        self.close_received: Close | None = None
        self.close_sent: Close | None = None
        self._keys = None if server else MaskKeys()
        self.sending: int = 0
        """The opcode of the fragmented message being sent, or 0."""
        self._text: Utf8Check | None = None  # of the text being sent, where it stands inside a character
        self.unsent: int = 0
        """Bytes that are to come of the data frame being sent; until then, no other frame can be."""
        self._frame_length = 0  # of that frame,
        self._frame_key = 0  # and its masking key
        self.failed: bool = False
        """Whether the connection was given up: nothing more is read from it."""
        self._initiator: Side | None = None
        self._fixed_cause: Cause | None = None
        self._detail = ""

    def change(self, change: Change) -> None:
        """Move to the next state."""
        self.state = TRANSITIONS[self.state][change]
        self.open = self.state is State.OPEN

    # Receiving -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray, end: int) -> list[Item]:
        """Take `data[:end]` off the network; return what a reader gets of it.

        Afterwards `pings` holds the payloads of pings, and `owed` their pongs. What changes the state waits for
        `settle`: a reader first sees, and may still answer, what came before it.
        """
        items: list[Any] = self.parser.feed(data, end)
        if self.parser.settle:
            items = self._sort_out(items)
        if self.close_sent is not None:
            # Passed over: this side has done with the connection (RFC 6455 section 1.4).
            self.parser.release()
            return []
        return items

    def _sort_out(self, events: list[Any]) -> list[Any]:
        items: list[Any] = []
        pings: list[bytes] = []
        for event in events:
            if isinstance(event, Ping):
                pings.append(event.payload)
            elif isinstance(event, (Pong, CloseFrame, Violation)):
                self.unsettled.append(event)
            else:
                items.append(event)
        self.pings += pings
        if self.close_sent is None:
            self._owe_pongs(pings[-MAX_PONGS:])
        return items

    def _owe_pongs(self, payloads: list[bytes]) -> None:
        # Of many pings only the last ones are answered, of those in one burst as of those that came while a data
        # frame was under way (RFC 6455 section 5.5.3).
        waiting = [frame for frame in self.owed if frame[0] == _FIN_PONG]
        for frame in waiting[: max(0, len(waiting) + len(payloads) - MAX_PONGS)]:
            self.owed.remove(frame)
        self.owed += [self.pong(payload) for payload in payloads]

    def settle(self) -> None:
        """Do what the frames in `unsettled` ask for.

        Afterwards `pongs` holds the payloads of pongs, and `close_received` a Close frame. A rule broken by the peer
        leaves `failed` and a Close frame for it in `owed` (RFC 6455 section 7.1.7).
        """
        events = self.unsettled
        self.unsettled = []
        for event in events:
            if isinstance(event, Pong):
                self.pongs.append(event.payload)
            elif isinstance(event, CloseFrame):
                self._receive_close(event.close)
            elif isinstance(event, Violation):
                cause = Cause.PROTOCOL_ERROR
                self.owe(self.fail(event.code, event.reason, cause, Side.REMOTE, event.reason))

    def _receive_close(self, close: Close) -> None:
        self.close_received = close
        self.change(Change.CLOSE_RECEIVED)
        if self.close_sent is None:
            self._initiator = self._initiator or Side.REMOTE
            self.owe(self._send_close(Close(close.code)))

    def owe(self, frame: bytes) -> None:
        """Put a control frame behind those that are due; none if it is empty."""
        if frame:
            self.owed.append(frame)

    # Sending ---------------------------------------------------------------------------------------------------

    def message(self, data: str | Buffer) -> bytes:
        """A whole message as one frame: `str` is text, bytes-like is binary. Raises `TypeError` for anything else."""
        first = _FIN_BINARY
        if isinstance(data, str):
            first = _FIN_TEXT
        elif not isinstance(data, (bytes, bytearray, memoryview)):
            check_data(data)
        return encode_frame(first, data, 0 if self._keys is None else self._keys.next())

    def is_large(self, data: str | Buffer) -> TypeGuard[bytes]:
        """Whether a message is better sent beside its header: a large payload that cannot change and is not masked."""
        return self._keys is None and type(data) is bytes and len(data) >= LARGE

    def is_masked_in_chunks(self, data: str | Buffer) -> bool:
        """Whether a message is better masked and sent chunk by chunk than copied whole."""
        return self._keys is not None and isinstance(data, (bytes, bytearray, memoryview)) and len(data) > _LONG

    def binary_header(self, payload: bytes) -> bytes:
        """The header for a message that is sent beside it."""
        return encode_header(_FIN_BINARY, len(payload), 0)

    def deflates(self, data: str | Buffer, compress: bool | None) -> bool:
        """Whether a message is to be compressed; `compress` is what its sender says of it."""
        deflater = self.deflater
        if deflater is None:
            return False
        check_data(data)
        return deflater.takes(size_of(data), isinstance(data, str), compress)

    def deflated_message(self, data: str | Buffer) -> bytes:
        """The same as `message`, compressed; unless it gets smaller as it is, and may go as it is."""
        deflater = self.deflater
        assert deflater is not None
        first = _FIN_TEXT if isinstance(data, str) else _FIN_BINARY
        payload = as_bytes(data)
        deflated = deflater.message(payload)
        # What later messages may refer to has to be there on the other side too.
        if deflater.takeover or len(deflated) < len(payload) or not payload:
            payload = deflated
            first |= _RSV1
        return encode_frame(first, payload, 0 if self._keys is None else self._keys.next())

    def fragment(self, opcode: int, data: str | Buffer, fin: bool, compress: bool | None = False) -> bytes:
        """A frame of a fragmented message: the first one gives the message its type (RFC 6455 section 5.4).

        `compress`, with the first one, says whether the message is compressed; for None its first frame decides.
        Raises `WriteError` for bytes that do not go on with a text message (section 8.1); nothing has changed then.
        """
        check_data(data)
        first = opcode if self.sending == 0 else Opcode.CONTINUATION
        message = self.sending or opcode
        if message == Opcode.TEXT:
            self.check_text(data, fin)
        if self.sending == 0:
            deflater = self.deflater
            size = size_of(data)
            self._deflating = deflater is not None and deflater.takes(size, opcode == Opcode.TEXT, compress)
            if self._deflating:
                first |= _RSV1  # of the first frame only (RFC 7692 section 6.1)
        if self._deflating and self.deflater is not None:
            data = self.deflater.compress(as_bytes(data), fin)
        key = 0 if self._keys is None else self._keys.next()
        frame = encode_frame(first | _FIN if fin else first, data, key)
        # Not before: what cannot be encoded is not sent.
        self.sending = 0 if fin else message
        return frame

    def check_text(self, data: str | Buffer, fin: bool) -> None:
        """Raise `WriteError` unless the text being sent can go on with `data`, or end with it for `fin`."""
        if isinstance(data, str):
            if self._text is None:
                return  # between characters, and made of whole ones
            data = data.encode()
        part = bytes(data)
        check = Utf8Check() if self._text is None else self._text.copy()
        if not check.feed(part, 0, len(part)):
            raise WriteError("these bytes do not go on with the text message under way: it would not be UTF-8")
        whole = check.copy().complete()
        if fin and not whole:
            raise WriteError("the text message would end inside a character")
        self._text = None if whole else check

    def begin_frame(self, opcode: int, length: int) -> bytes:
        """The header of a message in one frame of `length` bytes, whose payload `frame_part` makes piece by piece."""
        self._frame_key = 0 if self._keys is None else self._keys.next()
        self._frame_length = self.unsent = length
        return encode_header(opcode | _FIN, length, self._frame_key)

    def frame_part(self, data: Buffer) -> bytes:
        """The next bytes of the payload of that frame; no more of them than are `unsent`."""
        part = bytes(data)
        if self._frame_key:
            key = rotate_key(self._frame_key, self._frame_length - self.unsent)
            part = unmask(part, 0, len(part), key)
        self.unsent -= len(part)
        return part

    def ping(self, payload: bytes) -> bytes:
        """A ping frame."""
        return self._control(Opcode.PING, payload)

    def pong(self, payload: bytes) -> bytes:
        """A pong frame."""
        return self._control(Opcode.PONG, payload)

    def _control(self, opcode: int, payload: Buffer) -> bytes:
        if len(payload) > 125:
            # RFC 6455 section 5.5
            raise ValueError(f"a control frame carries at most 125 bytes, not {len(payload)}")
        return encode_frame(0x80 | opcode, payload, 0 if self._keys is None else self._keys.next())

    # Closing ---------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> bytes:
        """The Close frame with which this side begins the closing handshake; empty unless the connection is open.

        Raises `ValueError` for a code that must not be sent or a reason that is too long.
        """
        check_close(code, reason)
        if not self.open:
            return b""
        self._initiator = self._initiator or Side.LOCAL
        return self._send_close(Close(code, reason))

    def fail(self, code: int, reason: str, cause: Cause, side: Side, detail: str) -> bytes:
        """Give the connection up: the Close frame that says so, or nothing if one was sent or cannot be.

        Nothing more is read. `cause`, `side` and `detail` are what the outcome says, unless it is settled already.
        """
        self.parser.stop()
        self.failed = True
        self.settle_outcome(cause, side, detail)
        if not self.open:
            return b""
        frame = self._send_close(Close(code, shorten(reason)))
        return b"" if self.unsent else frame  # inside a data frame the peer would take it for payload

    def _send_close(self, close: Close) -> bytes:
        self.close_sent = close
        self.change(Change.CLOSE_SENT)
        return self._control(Opcode.CLOSE, encode_close(close))

    @property
    def closed_both_ways(self) -> bool:
        """Whether the closing handshake is complete (RFC 6455 section 7.1.4)."""
        return self.close_sent is not None and self.close_received is not None and not self.unsent

    # The outcome -----------------------------------------------------------------------------------------------

    def settle_outcome(self, cause: Cause, side: Side, detail: str) -> None:
        """Say why the connection ends. The first word counts."""
        if self._fixed_cause is None and not self.closed_both_ways:
            self._fixed_cause = cause
            self._initiator = self._initiator or side
            self._detail = detail

    def outcome(self) -> CloseOutcome:
        """How the connection ends, as far as is known now."""
        initiator = self._initiator or Side.REMOTE
        cause = self._fixed_cause
        if cause is None:
            first = self.close_sent if initiator is Side.LOCAL else self.close_received
            if first is None:
                cause = Cause.RESET
            elif first.code in CLEAN_CODES:
                cause = Cause.CLEAN
            else:
                cause = Cause.CLOSED_WITH_ERROR if initiator is Side.LOCAL else Cause.PEER_ERROR
        sent, withheld = (None, self.close_sent) if self.unsent else (self.close_sent, None)
        return CloseOutcome(cause, initiator, self.close_received, sent, self._detail, withheld)


def check_data(data: object) -> None:
    """Raise `TypeError` unless `data` can be sent."""
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"what is sent is str or bytes-like, not {type(data).__name__}; encode it first")


def size_of(data: str | Buffer) -> int:
    """The size of a message; of text, in characters."""
    return data.nbytes if isinstance(data, memoryview) else len(data)


def as_bytes(data: str | Buffer) -> bytes | bytearray | memoryview:
    """What is sent for `data`, as contiguous bytes."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, memoryview) and (data.itemsize != 1 or not data.contiguous or data.ndim != 1):
        return data.tobytes()
    return data


def check_close(code: int, reason: str) -> None:
    """Raise `ValueError` unless a Close frame may carry `code` and `reason`."""
    if not is_sendable(code):
        raise ValueError(f"close code {code} must not be sent; use 1000, or 3000-4999 for codes of your own")
    size = len(reason.encode())
    if size > 123:
        raise ValueError(f"a close reason has at most 123 bytes in UTF-8, not {size}")


def shorten(reason: str) -> str:
    """As much of a reason as fits into a Close frame."""
    return reason.encode()[:123].decode(errors="ignore")
