"""`Client`: one connection as its user holds it, in either role."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Protocol, TypeVar

from .codes import Close, CloseCode, CloseOutcome
from .connection import Connection
from .handshake.agreement import Agreement
from .handshake.extensions import DeflateTerms
from .handshake.head import Request, Response
from .streams.reader import MessageReader
from .streams.writer import Writer
from .wire.frames import Buffer, DataFrame
from .wire.protocol import State

MessageCallback = Callable[[MessageReader], Awaitable[None] | None]
PayloadCallback = Callable[[bytes], Awaitable[None] | None]
ClosedCallback = Callable[[CloseOutcome], Awaitable[None] | None]

_ids = itertools.count(1)


def new_id() -> int:
    """A number that no other connection of this process has."""
    return next(_ids)


_OnMessage = TypeVar("_OnMessage", bound=MessageCallback)
_OnPayload = TypeVar("_OnPayload", bound=PayloadCallback)
_OnClosed = TypeVar("_OnClosed", bound=ClosedCallback)


class CallbackRunner(Protocol):
    """Who calls the functions that the decorators of one client register."""

    def on_message(self, callback: MessageCallback) -> None: ...

    def on_ping(self, callback: PayloadCallback) -> None: ...

    def on_pong(self, callback: PayloadCallback) -> None: ...

    def on_closed(self, callback: ClosedCallback) -> None: ...


class Client:
    """One WebSocket connection. A server's handler or callback gets it, or `connect` gives it; you never build it.

    One task at a time reads, any number of tasks send. The ways to read (`async for`, `read_message`, `read_frame`,
    `messages`, `text`, `binary`, `frames`) can be mixed: each begins where the last one ended.
    """

    __slots__ = (
        "__weakref__",
        "_agreement",
        "_callbacks",
        "_connection",
        "_make_callbacks",
        "addr",
        "id",
        "port",
        "request",
        "subprotocol",
        "writer",
    )

    def __init__(
        self,
        connection: Connection,
        number: int,
        address: tuple[str, int],
        request: Request,
        agreement: Agreement,
        subprotocol: str | None,
        make_callbacks: Callable[["Client"], CallbackRunner],
    ) -> None:
        self._connection = connection
        self._make_callbacks = make_callbacks
        self._agreement = agreement
        self._callbacks: CallbackRunner | None = None
        self.writer: Writer = connection.writer
        """Sends fragments, frames and pings."""
        self.id: int = number
        """A number that no other connection of this process has."""
        self.addr: str = address[0]
        """The peer's address, or that of the proxy to it; for a Unix socket the path of the socket."""
        self.port: int = address[1]
        """The peer's port; for a Unix socket the same number as `id`."""
        self.request: Request = request
        """The request of the opening handshake."""
        self.subprotocol: str | None = subprotocol
        """The subprotocol that both sides agreed on, if any (RFC 6455 section 1.9)."""

    def __repr__(self) -> str:
        return f"<Client {self.id} of {self.addr}:{self.port}, {self.state.name.lower()}>"

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages: `str` for text, `bytes` for binary.

        The iteration ends after a clean close.

        :raises ConnectionClosedError: after any other end of the connection.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task waits for this connection's data.

        Cancelling it loses nothing. Leaving the loop is fine: the next read gets the next message.
        """
        return self._connection.inbox.messages()

    def read_message(self) -> Coroutine[object, None, str | bytes]:
        """Read the next whole message: `str` for text, `bytes` for binary.

        :returns: an awaitable that `create_task`, `wait_for` and `gather` take as a coroutine.
        :raises ConnectionClosed: when there is no message to come; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task waits for this connection's data.

        A message over `Limits.max_message_size` closes the connection with 1009. Cancelling it loses nothing: it
        consumes nothing before the message is complete. (RFC 6455 section 5.6)
        """
        return self._connection.inbox.read_message()

    def read_frame(self) -> Coroutine[object, None, DataFrame]:
        """Read the next data frame: a whole message or a fragment of one.

        Errors, limit and cancelling are as for `read_message`. The next `read_message` or `messages` leaves the rest
        of a message whose frames were not all read. (RFC 6455 section 5.4)
        """
        return self._connection.inbox.read_frame()

    def messages(self) -> AsyncIterator[MessageReader]:
        """A `MessageReader` for each message, from the moment it begins, to read it as a stream.

        Going on to the next message drops what is unread of the last one, up to `Limits.max_skip` bytes. The
        iteration ends after a clean close and raises `ConnectionClosedError` after any other. Cancelling it loses
        nothing, and it can be taken up again.
        """
        return _Readers(self._connection)

    def frames(self) -> AsyncIterator[DataFrame]:
        """The data frames, as `read_frame` gives them; ends and raises as `async for message in client` does."""
        return _Frames(self._connection)

    def text(self) -> AsyncIterator[str]:
        """The messages, which must be text: a binary one closes the connection with 1003.

        Ends and raises as `async for message in client` does; `ConnectionClosedError` after a binary message.
        """
        return _Text(self._connection)

    def binary(self) -> AsyncIterator[bytes]:
        """The messages, which must be binary: a text one closes the connection with 1003.

        Ends and raises as `async for message in client` does; `ConnectionClosedError` after a text message.
        """
        return _Binary(self._connection)

    # Writing ---------------------------------------------------------------------------------------------------

    def send(self, data: str | Buffer, compress: bool | None = None) -> Coroutine[object, None, None]:
        """Send one message in one frame: `str` as text, bytes-like as binary. The same as `writer.send`.

        The message is on its way when the call returns; awaiting the result waits while the peer takes less than is
        sent (`Limits.write_high`). While another task sends a message in pieces, this one waits for its turn.

        :param data: the message.
        :param compress: whether to compress this one, if the peer has agreed to compression; by default the
            `Compression` of the connection decides.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.
        :raises TypeError: if `data` is neither `str` nor bytes-like.

        Cancelling the await leaves the connection as it is: a message that was on its way arrives, one that waited
        for its turn is not sent. Any number of tasks may send; messages leave in the order of the calls.
        """
        return self.writer.send(data, compress)

    # Closing ---------------------------------------------------------------------------------------------------

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the connection: the closing handshake, then TCP; returns when both are done.

        :param code: 1000, another code that RFC 6455 section 7.4.1 lets an endpoint send, or 3000 to 4999.
        :param reason: at most 123 bytes in UTF-8.
        :raises ValueError: for another code, or a longer reason.

        Takes at most `Timeouts.close` seconds, whatever the peer does; unread data is passed over. On a connection
        that is closed or closing it waits for the end of that; a second code has no effect. Cancelling it leaves the
        closing under way. Any number of tasks may call it. (RFC 6455 section 7.1.2)
        """
        self._connection.begin_close(code, reason)
        await self._connection.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended; `outcome` then says how. Any number of tasks may."""
        await self._connection.wait_closed()

    # About the connection --------------------------------------------------------------------------------------

    @property
    def response(self) -> Response:
        """The response of the opening handshake."""
        return self._agreement.response

    @property
    def compression(self) -> DeflateTerms | None:
        """What both sides agreed on of compression; None for no compression (RFC 7692 section 7.1)."""
        return self._agreement.terms

    @property
    def state(self) -> State:
        """Where the connection stands: OPEN, CLOSING or CLOSED."""
        return self._connection.protocol.state

    @property
    def latency(self) -> float | None:
        """The last round-trip time of a ping in seconds; None before the first pong."""
        return self._connection.pings.latency

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended, or is about to: who began, the codes, the cause. None while it is open."""
        return self._connection.outcome()

    # Callbacks -------------------------------------------------------------------------------------------------

    def message(self, callback: _OnMessage) -> _OnMessage:
        """Decorator: call `callback` with a `MessageReader` for each message, one after the other.

        What the callback leaves unread of its message is dropped when it returns. If it raises, the error is logged
        and the connection closes with 1011. Returns the function unchanged.

        :raises UsageError: if there is a message callback already.
        """
        self._runner().on_message(callback)
        return callback

    def ping(self, callback: _OnPayload) -> _OnPayload:
        """Decorator: call `callback` with the payload of each ping. Pongs are sent without it.

        :raises UsageError: if there is a ping callback already.
        """
        self._runner().on_ping(callback)
        return callback

    def pong(self, callback: _OnPayload) -> _OnPayload:
        """Decorator: call `callback` with the payload of each pong.

        :raises UsageError: if there is a pong callback already.
        """
        self._runner().on_pong(callback)
        return callback

    def closed(self, callback: _OnClosed) -> _OnClosed:
        """Decorator: call `callback` with the `CloseOutcome` when the connection has ended."""
        self._runner().on_closed(callback)
        return callback

    def _runner(self) -> CallbackRunner:
        if self._callbacks is None:
            self._callbacks = self._make_callbacks(self)
        return self._callbacks


# No generators: one that is cancelled is over, and to whoever asks it again that looks like the end of the connection.


class _Readers:
    """A reader for each message."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[MessageReader]:
        return self

    async def __anext__(self) -> MessageReader:
        connection = self._connection
        reader = MessageReader(connection.inbox, connection.environment.limits)
        reader.type = await connection.inbox.begin(reader)
        return reader


class _Frames:
    """The data frames."""

    __slots__ = ("_inbox",)

    def __init__(self, connection: Connection) -> None:
        self._inbox = connection.inbox

    def __aiter__(self) -> AsyncIterator[DataFrame]:
        return self

    def __anext__(self) -> Coroutine[object, None, DataFrame]:
        return self._inbox.next_frame()


class _Text:
    """The messages, all of them text."""

    __slots__ = ("_connection", "_messages")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages = connection.inbox.messages()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        message = await self._messages.__anext__()
        if not isinstance(message, str):
            raise _unsupported(self._connection, "binary", "text")
        return message


class _Binary:
    """The messages, all of them binary."""

    __slots__ = ("_connection", "_messages")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages = connection.inbox.messages()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        message = await self._messages.__anext__()
        if not isinstance(message, bytes):
            raise _unsupported(self._connection, "text", "binary")
        return message


def _unsupported(connection: Connection, got: str, wanted: str) -> Exception:
    connection.refuse(Close(CloseCode.UNSUPPORTED_DATA, f"a {got} message where only {wanted} is taken"))
    return connection.closed_error()
