"""The exceptions of streamws.

StreamwsError
├── ConnectionClosed            the connection is closed; .outcome says how it ended
│   └── ConnectionClosedError   ... other than by a clean closing handshake
│       └── IncompleteMessage   ... in the middle of a message
├── ReadError
│   ├── ConcurrencyError        another task is already reading the connection
│   └── StaleReader             the MessageReader's message was read to its end or left
├── WriteError                  a writer was used in a way that it does not allow
├── ProtocolViolation           data that RFC 6455 forbids; .code is the close code for it
├── HandshakeError              the opening handshake failed; .status, .headers, .body are the server's response
│   ├── HandshakeRefused        ... because the server answered with a status other than 101
│   ├── InvalidHandshake        ... because the response is not a valid WebSocket handshake
│   └── RedirectError           ... because a redirect cannot or must not be followed
├── ConnectError                cannot connect to the server (DNS, TCP or TLS failed); also an OSError
│   └── ProxyError              ... through a proxy
├── ConnectTimeout              the connection did not open in time; also a TimeoutError
├── ReconnectError              `async for client in connect()` gave up; .attempts has the error of each attempt
├── InvalidURL                  not a valid WebSocket URL; also a ValueError
├── InvalidHeader               a header name or value that must not be sent; also a ValueError
├── DecodeError                 a received message cannot be decoded; also a ValueError
├── EncodeError                 a message cannot be encoded, and was not sent; also a ValueError
├── BrokerError                 the broker of topics has failed
│   ├── BrokerUnavailable       ... it cannot be reached, and did nothing
│   └── PublishTimeout          ... it did not answer in time: the publication may have been made; also a TimeoutError
├── LimitExceeded               a limit of topics does not allow it; the message names the limit
├── MissingExtra                an optional package is not installed; also an ImportError
└── UsageError                  not possible in this state; the message says what to call; also a RuntimeError
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from .codes import CloseCode, CloseOutcome

__all__ = [
    "BrokerError",
    "BrokerUnavailable",
    "ConcurrencyError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "DecodeError",
    "EncodeError",
    "HandshakeError",
    "HandshakeRefused",
    "IncompleteMessage",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidURL",
    "LimitExceeded",
    "MissingExtra",
    "ProtocolViolation",
    "ProxyError",
    "PublishTimeout",
    "ReadError",
    "ReconnectError",
    "RedirectError",
    "StaleReader",
    "StreamwsError",
    "UsageError",
    "WriteError",
]


class StreamwsError(Exception):
    """Base class of all exceptions that streamws defines."""


class ConnectionClosed(StreamwsError):
    """The connection is closed or closing: there is nothing more to read, and nothing can be sent."""

    def __init__(self, outcome: CloseOutcome, refused: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        """How the connection ended: the initiator, the close codes, and the cause."""
        self._refused = refused  # the beginning of the text, if a call did nothing: "cannot send"

    def __str__(self) -> str:
        return f"{self._refused}: {self.outcome}" if self._refused else str(self.outcome)


class ConnectionClosedError(ConnectionClosed):
    """The connection ended in any way other than a clean closing handshake."""


def tells_of_end(error: BaseException) -> bool:
    """Return whether `error` only tells that the connection ended, or is an exception group that contains no others.

    That is a `ConnectionClosed`, or the `DecodeError` of a message for which the connection was closed.
    """
    if isinstance(error, ExceptionGroup):
        return all(map(tells_of_end, error.exceptions))
    return isinstance(error, ConnectionClosed) or (isinstance(error, DecodeError) and error.outcome is not None)


class IncompleteMessage(ConnectionClosedError):
    """The connection ended in the middle of a message: only its first part was received."""

    def __init__(self, outcome: CloseOutcome, received: int, missing: int | None) -> None:
        super().__init__(outcome)
        self.received = received
        """The number of bytes of the message's payload that were received."""
        self.missing = missing
        """The number of bytes missing from the frame in which the connection ended; None if it ended between two
        frames of the message."""

    def __str__(self) -> str:
        if self.missing is None:
            expected = "another fragment was"
        elif self.missing == 1:
            expected = "at least 1 more byte was"
        else:
            expected = f"at least {self.missing} more bytes were"
        return f"connection ended {_bytes(self.received)} into a message; {expected} expected: {self.outcome}"

    def __reduce__(self) -> tuple[type["IncompleteMessage"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.outcome, self.received, self.missing), self.__dict__


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


class ReadError(StreamwsError):
    """The state of the stream does not allow this read."""


class ConcurrencyError(ReadError):
    """Another task is already reading this connection; that task is not disturbed."""


class StaleReader(ReadError):
    """The message of this `MessageReader` was left, or read to its end by another reader; nothing was consumed."""


class WriteError(StreamwsError):
    """A writer was used in a way that it does not allow; the error message says which rule was broken."""


class ProtocolViolation(StreamwsError):
    """The peer sent data that RFC 6455 forbids, or the application tried to send such data."""

    def __init__(self, reason: str, code: int = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        """The close code for this violation (RFC 6455 section 7.4.1)."""

    def __reduce__(self) -> tuple[type["ProtocolViolation"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.reason, self.code), self.__dict__


class HandshakeError(StreamwsError):
    """The opening handshake failed."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status: int | None = status
        """The status code of the HTTP response; None if there was no response."""
        self.headers: Mapping[str, str] = {} if headers is None else headers
        """The header fields of the response: a `Headers`, whose names are case-insensitive."""
        self.body: bytes = body
        """The body of the response, at most its first 64 KiB."""

    def __reduce__(self) -> tuple[type["HandshakeError"], tuple[object, ...], dict[str, object]]:
        return type(self), (str(self), self.status, self.headers, self.body), self.__dict__


class HandshakeRefused(HandshakeError):
    """The server answered with a status other than 101: it refused the connection, or it speaks only plain HTTP."""

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
        super().__init__(f"{status:03} {phrase}".rstrip() + f": {reason}", status, fields, body)
        self.reason = reason
        """Why the server refused, in a sentence: the text of the response's body."""
        self.phrase = phrase
        """The reason phrase of the status, such as "Unauthorized"; empty if it is not known."""

    def __reduce__(self) -> tuple[type["HandshakeRefused"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.status, self.reason, self.headers, self.body, self.phrase), self.__dict__


class InvalidHandshake(HandshakeError):
    """The server's response violates RFC 6455 section 4.1 or is not HTTP: do not trust this server."""


class RedirectError(HandshakeError):
    """A redirect was not followed.

    There were too many redirects, the target is not a valid URL, it would leave `wss://` for `ws://`, or the
    connection was made on a socket or path that the application gave.
    """


class ConnectError(StreamwsError, OSError):
    """Cannot connect to the server: its name is unknown, nothing listens, or TLS failed. `__cause__` has details."""


class ProxyError(ConnectError):
    """Cannot connect to the proxy, or through it to the server."""

    def __init__(self, message: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status: int | None = status
        """The status code of an HTTP proxy's response; None if there was no response."""
        self.body: bytes = body
        """The body of the response, at most its first 64 KiB."""

    def __reduce__(self) -> tuple[type["ProxyError"], tuple[object, ...], dict[str, object]]:
        return type(self), (str(self), self.status, self.body), self.__dict__


class ConnectTimeout(StreamwsError, TimeoutError):
    """The connection did not open within `Timeouts.open`; the error message says which step was under way."""


class ReconnectError(StreamwsError):
    """`async for client in connect()` gave up reconnecting. `__cause__` is the last error."""

    def __init__(self, attempts: Sequence[Exception], count: int | None = None) -> None:
        attempts = tuple(attempts)
        super().__init__(attempts)
        self.attempts: tuple[Exception, ...] = attempts
        """The errors of the attempts since the last stable connection, oldest first, at most the last 100. An attempt
        whose connection opened but ended badly has a `ConnectionClosedError`."""
        self.count: int = len(attempts) if count is None else count
        """The number of attempts that failed."""

    def __str__(self) -> str:
        reasons = []
        for reason, repeated in groupby(self.attempts, describe):
            times = len(tuple(repeated))
            reasons.append(reason if times == 1 else f"{reason} ({times} times)")
        earlier = "..., " if len(reasons) > _SHOWN_REASONS or self.count > len(self.attempts) else ""
        attempts = "1 failed attempt" if self.count == 1 else f"{self.count} failed attempts"
        return f"gave up after {attempts}: {earlier}{'; '.join(reasons[-_SHOWN_REASONS:])}"


_SHOWN_REASONS = 3
"""The number of different reasons that the message of a `ReconnectError` lists."""


def describe(error: BaseException) -> str:
    """Return the type and message of an error in one line."""
    text = shortened(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shortened(text: str) -> str:
    """Return a text in one line, with at most 500 characters."""
    return in_one_line(text[:2000])[:500]  # cut first, because an error of a library may contain a whole message


def in_one_line(text: str) -> str:
    """Return a text with one space for each run of white space and of characters that are not printable."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


class InvalidURL(StreamwsError, ValueError):
    """Not a valid WebSocket URL; the error message says why."""


class InvalidHeader(StreamwsError, ValueError):
    """A header name or value would break the HTTP message; nothing was sent."""


class DecodeError(StreamwsError, ValueError):
    """A received message cannot be decoded. `__cause__` is the error of the library that decodes."""

    def __init__(self, reason: str, outcome: CloseOutcome | None = None) -> None:
        reason = shortened(reason)
        super().__init__(reason)
        self.reason: str = reason
        """Where the message is wrong, and why, in at most 500 characters."""
        self.outcome: CloseOutcome | None = outcome
        """How the connection ended, if it was closed because of this message."""

    def __str__(self) -> str:
        return f"cannot decode the message: {self.reason}"

    def __reduce__(self) -> tuple[type["DecodeError"], tuple[object, ...], dict[str, object]]:
        return type(self), (self.reason, self.outcome), self.__dict__


class EncodeError(StreamwsError, ValueError):
    """A message cannot be encoded; nothing was sent. `__cause__` is the error of the library that encodes."""


class BrokerError(StreamwsError):
    """The broker of topics has failed. What it was asked to do may have been done."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached now. It has not done what it was asked to do."""


class PublishTimeout(BrokerError, TimeoutError):
    """The broker did not answer in time. The publication may have been made.

    To try again without publishing it twice, pass the same idempotency key both times.
    """


class LimitExceeded(StreamwsError):
    """A limit of topics does not allow this. The error message names the limit.

    Nothing was done. A `Subscription` that raises it has ended, because it was read too slowly.
    """


class MissingExtra(StreamwsError, ImportError):
    """A package that this part of streamws needs is not installed; the error message says what to install."""


class UsageError(StreamwsError, RuntimeError):
    """The call is not possible in this state; the error message says what to call instead."""
