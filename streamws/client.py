"""`Client`: one connection, as the application of a server or a client uses it."""

import itertools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from .callbacks import Callbacks, ClosedCallback, MessageCallback, PayloadCallback, Spawn
from .codes import Cause, Close, CloseCode, CloseOutcome
from .connection import Connection
from .errors import DecodeError, UsageError
from .extra_info import typed_extra_info
from .handshake.agreement import Agreement
from .handshake.extensions import DeflateTerms
from .handshake.head import Request, Response
from .keys import Key, typed_get
from .messages.codec import Codec
from .messages.typed import Typed
from .options import check_seconds
from .streams.inbox import Inbox
from .streams.iterators import Frames, Messages, MessagesOfType, Readers
from .streams.reader import MessageReader
from .streams.reads import next_frame, whole_message
from .streams.shared import SharedMessage
from .streams.writer import Writer
from .watching.counting import stats_of
from .watching.stats import ConnectionStats
from .wire.frames import Buffer, DataFrame
from .wire.protocol import State

_ids = itertools.count(1)


_OnMessage = TypeVar("_OnMessage", bound=MessageCallback)
_OnPayload = TypeVar("_OnPayload", bound=PayloadCallback)
_OnClosed = TypeVar("_OnClosed", bound=ClosedCallback)
_Method = TypeVar("_Method")
_T = TypeVar("_T")
Received = TypeVar("Received")
Sent = TypeVar("Sent")


class Registration:
    """A decorator of one client, such as `client.ping`. To a type checker it is a bound method."""

    def __init__(self, decorator: "_Decorator", client: "Client") -> None:
        self._decorator = decorator
        self._client = client
        self.__name__: str = decorator.__name__
        self.__doc__ = decorator.__doc__

    def __call__(self, callback: object = None) -> Any:
        decorator = self._decorator
        name = f"client.{decorator.__name__}"
        if not callable(callback):
            given = "" if callback is None else f", not {type(callback).__name__}"
            raise UsageError(f"{name} registers a callback, which must be a function{given}: {decorator.instead}")
        self._client._connection.outbox.check_thread(name)
        return decorator.__wrapped__(self._client, callback)

    def __bool__(self) -> bool:
        # Without this, `if client.closed:` would be true while the connection is open.
        raise UsageError(
            f"client.{self._decorator.__name__} is a decorator: ask client.state or client.outcome instead"
        )

    def __repr__(self) -> str:
        return f"<decorator {self._decorator.__name__} of {self._client!r}>"


class _Decorator:
    """A method of `Client` that registers a callback."""

    def __init__(self, function: Any, instead: str) -> None:
        self.__wrapped__ = function
        self.__name__: str = function.__name__
        self.__doc__ = function.__doc__
        self.instead: str = instead
        """A hint for a caller who expects the name to do something else."""

    def __get__(self, client: "Client | None", owner: object = None) -> Any:
        return self if client is None else Registration(self, client)

    def __call__(self, client: "Client", callback: object = None) -> Any:
        return Registration(self, client)(callback)


def _registers(instead: str) -> Callable[[_Method], _Method]:
    """Make a method of `Client` a decorator that raises `UsageError` in a condition, or if it is not given a function.

    :param instead: the end of the error text: what to write instead.
    """

    def decorate(function: Any) -> Any:
        return _Decorator(function, instead)

    return decorate


class Client:
    """One WebSocket connection. You get it from a server's handler or callback, or from `connect`.

    One task at a time reads; any number of tasks send. The ways to read (`async for`, `read_message`, `read_frame`,
    `messages`, `text`, `binary`, `frames`) can be mixed: each begins where the last one ended.

    A connection belongs to the thread of its event loop. In another thread, `send`, `close`, `wait_closed` and the
    methods of `writer` return a coroutine for `asyncio.run_coroutine_threadsafe`. Attributes, and values by
    `Key`, may be read there. All other calls raise `UsageError`.
    """

    __slots__ = (
        "__weakref__",
        "_agreement",
        "_callbacks",
        "_connection",
        "_spawn",
        "id",
        "request",
        "writer",
    )

    def __init__(
        self,
        connection: Connection,
        request: Request,
        agreement: Agreement,
        spawn: Spawn,
    ) -> None:
        self._connection = connection
        self._spawn = spawn
        self._agreement = agreement
        self._callbacks: Callbacks | None = None
        self.writer: Writer = connection.writer
        """Sends fragments, frames and pings."""
        self.id: int = next(_ids)
        """A number that no other connection of this process has."""
        self.request: Request = request
        """The request of the opening handshake."""
        connection.client_id = self.id
        # Not the request, which refers to the connection.
        connection.target = request.target
        if not self._connection._server:
            connection.server_name = request.host

    def __del__(self) -> None:
        connection = self._connection
        # The connections of a server, and those with callbacks, are used without the client.
        if not connection._server and self._callbacks is None and connection.is_open:
            warnings.warn(
                f"unclosed {self!r}: use `async with`, or await close()", ResourceWarning, stacklevel=1, source=self
            )

    def __repr__(self) -> str:
        return f"<Client {self.id} of {self.addr}:{self.port}, {self.state.name.lower()}>"

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the messages: `str` for text, `bytes` for binary.

        The iteration ends after a clean close.

        :raises ConnectionClosedError: after any other end of the connection.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task is reading this connection.

        Cancelling it loses nothing. After the loop is left, the next read gets the next message.
        """
        return Messages(self._inbox("async for"), self)

    def read_message(self) -> Coroutine[object, None, str | bytes]:
        """Read the next whole message: `str` for text, `bytes` for binary.

        :returns: an awaitable, which `create_task`, `wait_for` and `gather` accept as a coroutine.
        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task is reading this connection.

        A message over `Limits.max_message_size` closes the connection with 1009. Cancelling it loses nothing: it
        consumes nothing before the message is complete. (RFC 6455 section 5.6)
        """
        return whole_message(self._inbox("client.read_message()"))

    def read_frame(self) -> Coroutine[object, None, DataFrame]:
        """Read the next data frame: a whole message or a fragment of one.

        :returns: an awaitable, as for `read_message`.

        Errors, the limit and cancelling are as for `read_message`. If not all frames of a message were read, the next
        `read_message` or `messages` skips the rest of it. (RFC 6455 section 5.4)
        """
        return next_frame(self._inbox("client.read_frame()"))

    def messages(self) -> AsyncIterator[MessageReader]:
        """Iterate over the messages as streams, with a `MessageReader` for each, from the moment it begins.

        Continuing with the next message skips the unread rest of the last one, up to `Limits.max_skip` bytes. The
        iteration ends after a clean close and raises `ConnectionClosedError` after any other end. Cancelling it loses
        nothing, and it can be continued.
        """
        return Readers(self._inbox("client.messages()"), self._connection.environment.limits, self)

    def frames(self) -> AsyncIterator[DataFrame]:
        """Iterate over the data frames, as `read_frame` returns them.

        It ends and raises as `async for message in client` does.
        """
        return Frames(self._inbox("client.frames()"), self)

    def text(self) -> AsyncIterator[str]:
        """Iterate over the messages, which must be text: a binary message closes the connection with 1003.

        It ends and raises as `async for message in client` does, and raises `ConnectionClosedError` after a binary
        message.
        """
        return MessagesOfType(self._inbox("client.text()"), str, self)

    def binary(self) -> AsyncIterator[bytes]:
        """Iterate over the messages, which must be binary: a text message closes the connection with 1003.

        It ends and raises as `async for message in client` does, and raises `ConnectionClosedError` after a text
        message.
        """
        return MessagesOfType(self._inbox("client.binary()"), bytes, self)

    def _inbox(self, call: str) -> Inbox:
        """Return the inbox, for a call that reads."""
        inbox = self._connection.inbox
        inbox.check_thread(call)
        return inbox

    # Writing ---------------------------------------------------------------------------------------------------

    def send(
        self, data: str | Buffer, compress: bool | None = None, *, text: bool = False
    ) -> Coroutine[object, None, None]:
        """Send one message in one frame: `str` as text, bytes-like as binary. The same as `writer.send`.

        The message is sent when the call returns. Awaiting the result waits while the peer reads too slowly
        (`Limits.write_high`). While another task sends a message in parts, this message waits for its turn. A task that
        sends without having to wait lets other tasks run after a few milliseconds.

        :param data: the message. A bytes-like object may be changed again after the await.
        :param compress: whether to compress this message, if compression was negotiated; by default the `Compression`
            of the connection decides.
        :param text: whether bytes-like data, which must be valid UTF-8, is sent as text.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeDecodeError: if `text` is true, and `data` is not valid UTF-8.
        :raises WriteError: when awaited, if this task itself is sending a message in parts.

        Cancelling the await does not harm the connection: a message that was sent arrives, and a message that waited
        for its turn is not sent. Any number of tasks may send. Messages leave in the order of the calls.
        (RFC 6455 section 5.6; RFC 7692)
        """
        return self.writer._send_text(data, compress) if text else self.writer._send(data, compress)

    # Typed messages --------------------------------------------------------------------------------------------

    def typed(
        self,
        codec: Codec[Received, Sent],
        on_error: Callable[["Client", str | bytes, DecodeError], Awaitable[None] | None] | None = None,
    ) -> Typed[Received, Sent]:
        """Send and read typed messages: `moves = client.typed(Json(Move))`, then `async for move in moves`.

        :param codec: encodes and decodes the messages: `streamws.messages.Json`, or a codec of your own.
        :param on_error: a function or coroutine function, called with the client, the message and the `DecodeError` if
            a message cannot be decoded. It may send an answer; reading then goes on. Without it, the connection closes
            with 1007, and the read raises the `DecodeError`.
        :returns: a `streamws.messages.Typed`. It shares the connection with the other ways to read and send.
        """
        return Typed(self, codec, on_error)

    def _fail_message(self, reason: str) -> None:
        """Fail the connection because a message cannot be decoded; nothing more is read."""
        self._connection.inbox.fail((Close(CloseCode.INVALID_DATA, reason), Cause.PROTOCOL_ERROR))

    # Closing ---------------------------------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Close the connection: the closing handshake, then TCP. Returns when both are done.

        :param code: 1000, another code that RFC 6455 section 7.4.1 lets an endpoint send, or 3000 to 4999.
        :param reason: at most 123 bytes in UTF-8.
        :param timeout: the seconds after which the connection is dropped; None for `Timeouts.close`. If the connection
            is closing already, this can only make its deadline earlier.
        :raises ValueError: for another code, a longer reason, or a timeout that is not positive.
        :raises TypeError: if the reason is not `str`, or the timeout is not a number.
        :raises UsageError: if it is awaited in another thread than that of the event loop.

        It takes no longer than the timeout, whatever the peer does. Unread data is discarded. If the connection is
        closing or closed already, the code has no effect, and it only waits for the end. Cancelling it does not stop
        the closing handshake. Any number of tasks may call it. (RFC 6455 section 7.1.2)
        """
        self._connection.outbox.check_await("client.close()")
        if timeout is not None:
            check_seconds("timeout", timeout)
        self._connection.begin_close(code, reason, timeout)
        await self._connection.wait_closed()

    def abort(self) -> None:
        """End the connection at once, without a closing handshake.

        The `backlog` is discarded. Tasks that wait to send raise `ConnectionClosedError`.
        Messages that were received before can still be read; then reads raise `ConnectionClosedError`, or
        `IncompleteMessage` inside a message. `close` and `wait_closed` return. The cause in `outcome` is
        `Cause.RESET`, and the initiator is `Side.LOCAL`, unless the connection was closing already.

        It has no effect on a connection that has ended. To call it from another thread, write
        `loop.call_soon_threadsafe(client.abort)`.

        :raises UsageError: in another thread than that of the event loop.
        """
        self._connection.outbox.check_thread("client.abort()")
        self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended; `outcome` then says how.

        :raises UsageError: if it is awaited in another thread than that of the event loop.

        Any number of tasks may wait. Cancelling one has no effect on the connection.
        """
        self._connection.outbox.check_await("client.wait_closed()")
        await self._connection.wait_closed()

    def _call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call a function when the connection has ended; for topics."""
        self._connection.call_when_closed(callback)

    @property
    def _shares_frames(self) -> bool:
        """Whether other connections may get the same frames. Those of a client are masked (RFC 6455 section 5.3)."""
        return self._connection._server

    # About the connection --------------------------------------------------------------------------------------

    @property
    def addr(self) -> str:
        """The peer's address, or the address of the proxy in front of it; for a Unix socket, the path of the socket."""
        return self._connection.address()[0]

    @property
    def port(self) -> int:
        """The peer's port; for a Unix socket, the same number as `id`."""
        return self._connection.address()[1] or self.id

    @property
    def remote(self) -> tuple[str, int]:
        """The address and port of the peer, or those that one of the server's `trusted_proxies` has forwarded.

        See `Request.remote`. For a Unix socket, it is the path of the socket and 0.
        """
        return self._connection.remote

    @typed_extra_info
    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection, as asyncio's transports do.

        :param name: `peername`, `sockname` or `socket`; with TLS also `peercert`, `cipher`, `compression`,
            `ssl_object` or `sslcontext`.
        :param default: returned if there is no such information, or the connection has ended.
        :raises UsageError: in another thread than that of the event loop.
        """
        self._connection.outbox.check_thread("client.get_extra_info()")
        return self._connection.get_extra_info(name, default)

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, if any (RFC 6455 section 1.9)."""
        return self._agreement.subprotocol

    @property
    def response(self) -> Response:
        """The response of the opening handshake."""
        return self._agreement.response

    @property
    def compression(self) -> DeflateTerms | None:
        """The negotiated compression; None for no compression (RFC 7692 section 7.1)."""
        return self._agreement.terms

    @property
    def state(self) -> State:
        """The state of the connection: OPEN, CLOSING or CLOSED."""
        return self._connection.protocol.state

    @property
    def latency(self) -> float | None:
        """The last round-trip time of a ping in seconds; None before the first pong."""
        return self._connection.pings.latency

    @property
    def stats(self) -> ConnectionStats:
        """Counters of the connection: messages, bytes, backlog, round trip. They may be read in any thread."""
        return stats_of(self._connection)

    @property
    def backlog(self) -> int:
        """The number of bytes that were sent and not yet written to the socket; 0 after the end of the connection.

        With TLS, most of them are encrypted bytes. Messages that wait until another message has been sent in parts
        count too, each with 64 additional bytes. See `Limits.write_high` and `Limits.max_write_backlog`.
        """
        return self._connection.backlog()

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end: initiator, close codes and cause. None while it is open."""
        return self._connection.outcome()

    # Values of the application ---------------------------------------------------------------------------------

    def __getitem__(self, key: Key[_T]) -> _T:
        """Return the value that was stored by `key`, with this client or with its request.

        :raises KeyError: if there is none.
        :raises TypeError: if `key` is not a `Key`.
        """
        value: _T = self.request[key]
        return value

    def __setitem__(self, key: Key[_T], value: _T) -> None:
        """Store a value; it is also a value of the request.

        :raises TypeError: if `key` is not a `Key`.
        """
        self.request[key] = value

    def __delitem__(self, key: Key[_T]) -> None:
        """Remove the value that was stored by `key`.

        :raises KeyError: if there is none.
        :raises TypeError: if `key` is not a `Key`.
        """
        del self.request[key]

    def __contains__(self, key: object) -> bool:
        """Return whether a value was stored by `key`.

        :raises TypeError: if `key` is not a `Key`.
        """
        return key in self.request

    @typed_get
    def get(self, key: Key[_T], default: object = None) -> object:
        """Return the value that was stored by `key`, or `default` if there is none.

        :raises TypeError: if `key` is not a `Key`.
        """
        return self.request.get(key, default)

    # Callbacks -------------------------------------------------------------------------------------------------

    @_registers("to send a message, write client.send(...)")
    def message(self, callback: _OnMessage) -> _OnMessage:
        """Decorator: call `callback` with a `MessageReader` for each message, one after the other.

        When the callback returns, the unread rest of its message is skipped. If it raises, the error is logged and the
        connection closes with 1011.

        :param callback: a function or coroutine function.
        :returns: the function, unchanged.
        :raises UsageError: if there is a message callback already, or if `callback` is not a function.
        """
        self._runner().on_message(callback)
        return callback

    @_registers("to send a ping, write client.writer.ping(...)")
    def ping(self, callback: _OnPayload) -> _OnPayload:
        """Decorator: call `callback` with the payload of each ping. Pings are answered without it.

        :param callback: a function or coroutine function.
        :returns: the function, unchanged.
        :raises UsageError: if there is a ping callback already, or if `callback` is not a function.
        """
        self._runner().on_ping(callback)
        return callback

    @_registers("to send a pong, write client.writer.pong(...)")
    def pong(self, callback: _OnPayload) -> _OnPayload:
        """Decorator: call `callback` with the payload of each pong.

        :param callback: a function or coroutine function.
        :returns: the function, unchanged.
        :raises UsageError: if there is a pong callback already, or if `callback` is not a function.
        """
        self._runner().on_pong(callback)
        return callback

    @_registers("to close the connection, write client.close(); to wait for its end, client.wait_closed()")
    def closed(self, callback: _OnClosed) -> _OnClosed:
        """Decorator: call `callback` with the `CloseOutcome` when the connection has ended.

        :param callback: a function or coroutine function.
        :returns: the function, unchanged.
        :raises UsageError: if `callback` is not a function.
        """
        self._runner().on_closed(callback)
        return callback

    def _runner(self) -> Callbacks:
        if self._callbacks is None:
            self._callbacks = Callbacks(self._connection, self._spawn)
        return self._callbacks


def send_to_all(message: SharedMessage, clients: tuple[Client, ...]) -> int:
    """Send a message to many clients without waiting; return the number of clients that it is on its way to."""
    count = 0
    for client in clients:
        if client.writer._send_shared(message):
            count += 1
    return count
