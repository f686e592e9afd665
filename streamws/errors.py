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
├── HandshakeError              the opening handshake failed; .status, .headers, .body are the server's answer
│   ├── HandshakeRefused        ... since the server answers with a status other than 101
│   ├── InvalidHandshake        ... since the server's answer is none of a WebSocket server
│   └── RedirectError           ... since a redirect leads nowhere, in circles, or where it must not
├── ConnectError                no connection to the server: DNS, TCP, TLS; an OSError too
│   └── ProxyError              ... through a proxy
├── ConnectTimeout              the connection was not open in time; a TimeoutError too
├── ReconnectError              `async for client in connect()` gave up; .attempts says why each attempt failed
├── InvalidURL                  a URL that is none of a WebSocket
├── InvalidHeader               a header name or value that must not be sent
└── UsageError                  the call makes no sense here; the message says what to call instead
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from .codes import CloseCode, CloseOutcome

__all__ = [
    "ConcurrencyError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "HandshakeError",
    "HandshakeRefused",
    "IncompleteMessage",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidURL",
    "ProtocolViolation",
    "ProxyError",
    "ReadError",
    "ReconnectError",
    "RedirectError",
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

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status: int | None = status
        """The status of the HTTP answer; None if there was none."""
        self.headers: Mapping[str, str] = {} if headers is None else headers
        """The header fields of the answer: a `Headers`, which takes names in any case."""
        self.body: bytes = body
        """The body of the answer, up to 64 KiB of it."""

    def __reduce__(self) -> tuple[type["HandshakeError"], tuple[object, ...], dict[str, object]]:
        return type(self), (str(self), self.status, self.headers, self.body), self.__dict__


class HandshakeRefused(HandshakeError):
    """The server answers with a status other than 101: it does not take this connection, or speaks plain HTTP."""

    status: int

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        phrase: str = "",
    ) -> None:
        fields = headers if isinstance(headers, Mapping) else dict(headers)
        super().__init__(f"{status} {phrase}".rstrip() + f": {reason}", status, fields, body)
        self.reason = reason
        """Why, in a sentence: what the body of the answer says."""
        self.phrase = phrase
        """The words beside the status, such as "Unauthorized", where they are known."""

    def __reduce__(self) -> tuple[type["HandshakeRefused"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.status, self.reason, self.headers, self.body, self.phrase), self.__dict__


class InvalidHandshake(HandshakeError):
    """The server's answer breaks the rules of RFC 6455 section 4.1, or is no HTTP; it is not to be trusted."""


class RedirectError(HandshakeError):
    """A redirect that is not followed: too many, to what is no URL, on a socket given, or from wss:// to ws://."""


class ConnectError(StreamwsError, OSError):
    """There is no connection to the server: its name is unknown, no one listens, TLS failed. The cause has details."""


class ProxyError(ConnectError):
    """The proxy gave no connection to the server."""

    def __init__(self, message: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status: int | None = status
        """The status with which an HTTP proxy answered; None if it did not."""
        self.body: bytes = body
        """The body of its answer, up to 64 KiB of it."""

    def __reduce__(self) -> tuple[type["ProxyError"], tuple[object, ...], dict[str, object]]:
        return type(self), (str(self), self.status, self.body), self.__dict__


class ConnectTimeout(StreamwsError, TimeoutError):
    """The connection was not open within `Timeouts.open`; the message says what it was waiting for."""


class ReconnectError(StreamwsError):
    """No connection could be had, and it makes no sense to try again. The last error is the cause."""

    def __init__(self, attempts: Sequence[Exception], count: int | None = None) -> None:
        attempts = tuple(attempts)
        super().__init__(attempts)
        self.attempts: tuple[Exception, ...] = attempts
        """Why each attempt since the last stable connection failed, oldest first; of many, the last 100. A connection
        that ended badly is a `ConnectionClosedError`."""
        self.count: int = len(attempts) if count is None else count
        """How many attempts failed."""

    def __str__(self) -> str:
        reasons = []
        for reason, alike in groupby(self.attempts, describe):
            times = len(tuple(alike))
            reasons.append(reason if times == 1 else f"{reason} ({times} times)")
        earlier = "..., " if len(reasons) > _TOLD or self.count > len(self.attempts) else ""
        attempts = "1 failed attempt" if self.count == 1 else f"{self.count} failed attempts"
        return f"gave up after {attempts}: {earlier}{'; '.join(reasons[-_TOLD:])}"


_TOLD = 3
"""Reasons that the message of a ReconnectError has room for."""


def describe(error: BaseException) -> str:
    """An error in one line: its kind, and what it says."""
    text = " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())
    return f"{type(error).__name__}: {text:.500}" if text else type(error).__name__


class InvalidURL(StreamwsError, ValueError):
    """A URL that is none of a WebSocket; the message says what is wrong with it."""


class InvalidHeader(StreamwsError, ValueError):
    """A header name or value that would break the HTTP message; nothing was sent."""


class UsageError(StreamwsError, RuntimeError):
    """The call makes no sense in this state; the message says what to call instead."""
