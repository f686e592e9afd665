"""Every exception of streamws.

StreamwsError
├── ConnectionClosed            the connection is closed; .outcome says how
│   └── ConnectionClosedError   ... and not cleanly
│       └── IncompleteMessage   ... inside a message, of which a part was received
├── ReadError
│   ├── ConcurrencyError        a second reader while the first one waits
│   └── StaleReader             a MessageReader whose message is over or was left
├── WriteError                  a writer was used against its contract
├── ProtocolViolation           bytes that RFC 6455 forbids; .code is the close code for it
├── HandshakeError              the opening handshake failed
│   └── HandshakeRefused        ... and .status says how the server answers
├── InvalidHeader               a header name or value that must not be sent
└── UsageError                  the call makes no sense here; the message says what to call instead
"""

from .codes import CloseCode, CloseOutcome

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "HandshakeError",
    "HandshakeRefused",
    "IncompleteMessage",
    "InvalidHeader",
    "ProtocolViolation",
    "ReadError",
    "StaleReader",
    "StreamwsError",
    "UsageError",
    "WriteError",
]


class StreamwsError(Exception):
    """The base of every exception that streamws raises of its own."""


class ConnectionClosed(StreamwsError):
    """The connection is closed (or closing), so there is nothing more to read or no way to send."""

    def __init__(self, outcome: CloseOutcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        """How it ended: who began, the codes, the cause."""

    def __str__(self) -> str:
        return str(self.outcome)


class ConnectionClosedError(ConnectionClosed):
    """The connection ended in another way than by a clean closing handshake."""


def tells_of_end(error: Exception) -> bool:
    """Whether `error` says that a connection has ended and nothing else, also as the errors of a task group."""
    if isinstance(error, ExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)


class IncompleteMessage(ConnectionClosedError):
    """The connection ended inside a message: what was received of it is not the whole."""

    def __init__(self, outcome: CloseOutcome, received: int, missing: int | None) -> None:
        super().__init__(outcome)
        self.received = received
        """Bytes of the message's payload that had come."""
        self.missing = missing
        """Bytes that were still to come of the last frame begun; None where no frame was under way."""

    def __str__(self) -> str:
        missing = "its last frame" if self.missing is None else f"{self.missing} bytes of a frame"
        return f"message of {self.received} bytes so far lacks {missing}: {self.outcome}"

    def __reduce__(self) -> tuple[type["IncompleteMessage"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.outcome, self.received, self.missing), self.__dict__


class ReadError(StreamwsError):
    """A read that the state of the stream does not allow."""


class ConcurrencyError(ReadError):
    """Two tasks read one connection at once; the first one goes on undisturbed."""


class StaleReader(ReadError):
    """This MessageReader's message was left or read to its end by another; nothing was consumed."""


class WriteError(StreamwsError):
    """A writer was used against its contract; the message says which part of it."""


class ProtocolViolation(StreamwsError):
    """The peer sent, or the application wanted to send, what RFC 6455 forbids."""

    def __init__(self, reason: str, code: int = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        """The close code that answers it (RFC 6455 section 7.4.1)."""

    def __reduce__(self) -> tuple[type["ProtocolViolation"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.reason, self.code), self.__dict__


class HandshakeError(StreamwsError):
    """The opening handshake did not lead to a WebSocket connection."""


class HandshakeRefused(HandshakeError):
    """A request that the server answers with an HTTP status other than 101."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        """Why, in a sentence; it becomes the body of the answer."""
        self.headers = headers
        """Header fields that this status needs beside the usual ones."""

    def __reduce__(self) -> tuple[type["HandshakeRefused"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.status, self.reason, self.headers), self.__dict__


class InvalidHeader(StreamwsError, ValueError):
    """A header name or value that would break the HTTP message; nothing was sent."""


class UsageError(StreamwsError, RuntimeError):
    """The call makes no sense in this state; the message says what to call instead."""
