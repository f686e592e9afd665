"""`AsgiClient`: a connection of an ASGI server, with the interface of `Client`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import attrs

from ..callbacks import NO_FAILURE, ClosedCallback, end_task
from ..client import _ids
from ..codes import CLEAN_CODES, Cause, Close, CloseCode, CloseOutcome, Side
from ..errors import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    DecodeError,
    UsageError,
    describe,
    tells_of_end,
)
from ..extra_info import typed_extra_info
from ..handshake.head import Accept, Request, Response
from ..handshake.headers import HeaderFields, Headers
from ..keys import Key, typed_get
from ..messages.codec import Codec
from ..messages.typed import Typed
from ..options import check_seconds
from ..wire.frames import Buffer
from ..wire.protocol import State, check_close, size_of, unchanging
from .missing import add_missing
from .receiving import Receiving
from .scope import Receive, Scope, Send, WebSocket, offers_response, request_of

_CLOSE_TIMEOUT = 10.0
_GRACE = 1.0
"""The seconds to wait for the `websocket.disconnect` event after `send` has raised."""

_OnClosed = TypeVar("_OnClosed", bound=ClosedCallback)
_T = TypeVar("_T")
_Received = TypeVar("_Received")
_Sent = TypeVar("_Sent")
_Kind = TypeVar("_Kind", str, bytes, str | bytes)

logger: logging.Logger = logging.getLogger("streamws")


def from_scope(scope: Scope, receive: Receive, send: Send, *, accepted: bool = False) -> "AsgiClient":
    """Return a connection of an ASGI application, usually in `async with ... as client`.

    :param scope: the scope of a WebSocket. Call this in the task in which the server called the application.
    :param receive: the `receive` function of the server. From now on, only the connection may call it.
    :param send: the `send` function of the server. From now on, only the connection may call it.
    :param accepted: whether the application has accepted the connection already.
    :raises UsageError: if it is not the scope of a WebSocket, or the event loop is not one of asyncio, as under trio.
    """
    return AsgiClient(scope, receive, send, request_of(scope), connected=accepted, accepted=accepted)


def from_websocket(websocket: WebSocket) -> "AsgiClient":
    """Return the connection of a `WebSocket` of Starlette or FastAPI, usually in `async with ... as client`.

    :param websocket: whether or not `await websocket.accept()` was called. From now on, do not receive or send with it.
    :raises UsageError: if it is closed, or the event loop is not one of asyncio, as under trio.
    """
    received, sent = websocket.client_state.name, websocket.application_state.name
    if "DISCONNECTED" in (received, sent) or sent == "RESPONSE":
        raise UsageError("cannot use this WebSocket: it was closed or refused already")
    scope, connected, accepted = websocket.scope, received == "CONNECTED", sent == "CONNECTED"
    return AsgiClient(
        scope, websocket.receive, websocket.send, request_of(scope), connected=connected, accepted=accepted
    )


def _is_answered(error: BaseException) -> bool:
    """Return whether Starlette closes an open connection because of this exception."""
    # It answers an `HTTPException` only before the connection is accepted.
    names = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
    return ("starlette.exceptions", "WebSocketException") in names


async def _send_nothing(event: dict[str, object]) -> None:
    """Replaces the `send` of the server after the end, so that the connection does not keep it alive."""


class AsgiClient:
    """One WebSocket connection of an ASGI server. You get it from `from_scope` or `from_websocket`.

    It is used like a `Client`, as far as ASGI allows: messages are sent and received whole, and the server takes care
    of frames, pings and compression. The attributes that are missing raise a `UsageError` that says what to write
    instead.

    The first read or send accepts the connection, and so does `wait_closed`. Before that you can call `accept`, to
    choose a subprotocol or add header fields, or `refuse`.

    As an async context manager, it is to the block what a server of streamws is to a handler. When the block ends, the
    connection closes with 1000; when it raises, with 1011. A `ConnectionClosed` of this connection is no failure: it
    ends the block quietly, and `outcome` tells more. If the connection was not accepted, a block that ends normally
    refuses it, and a block that raises leaves the answer to the server.

    One task at a time reads; any number of tasks send. The connection belongs to the event loop of the server, and to
    the task in which it was made: when that task ends, the connection has ended.
    """

    __slots__ = (
        "__weakref__",
        "_accepting",
        "_announced",
        "_backlog",
        "_callbacks",
        "_closing",
        "_ended",
        "_loop",
        "_outcome",
        "_reading",
        "_receiving",
        "_send_event",
        "_sender",
        "_state",
        "_subprotocol",
        "_task",
        "_tasks",
        "_turn",
        "id",
        "request",
        "scope",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, request: Request, *, connected: bool, accepted: bool
    ) -> None:
        """:param connected: whether the application has received the event `websocket.connect`."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise UsageError(
                "an ASGI connection needs a running event loop of asyncio; call this in a coroutine of the "
                "application, and use an asyncio worker of the server, not trio"
            ) from error
        self.id: int = next(_ids)
        """A number that no other connection of this process has."""
        self.scope: Scope = scope
        """The scope that the server passed to the application, with the additions of frameworks."""
        self.request: Request = request
        """The request of the opening handshake."""
        self._send_event = cast(Callable[[dict[str, object]], Awaitable[None]], send)
        self._receiving = Receiving(receive, self._end)
        self._state = State.CONNECTING
        self._subprotocol: str | None = None
        self._outcome: CloseOutcome | None = None
        self._announced: CloseOutcome | None = None  # the outcome while it was closing
        self._ended = asyncio.Event()
        self._reading = False  # whether a task reads
        self._backlog = 0
        self._turn = asyncio.Lock()  # for the tasks that send: ASGI says nothing about several at once
        self._sender: asyncio.Task[Any] | None = None  # waits for the server to take a message
        self._accepting: asyncio.Task[Exception | None] | None = None  # sends the event `websocket.accept`
        self._closing: asyncio.Task[None] | None = None  # sends the event `websocket.close`
        self._tasks: set[asyncio.Task[None]] = set()  # of callbacks
        self._callbacks = asyncio.Lock()  # runs them one after the other
        self._task = asyncio.current_task()
        if self._task is not None:
            self._task.add_done_callback(self._task_ended)
        if connected:
            self._receiving.connected.set()
        if accepted:
            self._state = State.OPEN
            self._receiving.start()

    def __repr__(self) -> str:
        return f"<AsgiClient {self.id} of {self.addr}:{self.port}, {self._state.name.lower()}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            await self.close()
            return False
        if self._tells_of_end(error):
            await self._ended.wait()
            return True
        if (self._state is State.OPEN or self._accepting is not None) and not _is_answered(error):
            cause = Cause.HANDLER_ERROR if isinstance(error, Exception) else Cause.LOCAL_CANCEL
            self._begin_close(Close(CloseCode.INTERNAL_ERROR), cause, Side.LOCAL, f"the application raised {error!r}")
            await self._ended.wait()
        return False  # the framework or the server reports the error, and answers if the connection was not accepted

    def _tells_of_end(self, error: BaseException) -> bool:
        """Return whether `error` only tells that this connection ended, or is a group that contains no others."""
        if isinstance(error, ExceptionGroup):
            return all(map(self._tells_of_end, error.exceptions))
        if not isinstance(error, (ConnectionClosed, DecodeError)) or error.outcome is None:
            return False
        return error.outcome is self._outcome or error.outcome is self._announced

    # The opening handshake -------------------------------------------------------------------------------------

    async def accept(self, subprotocol: str | None = None, headers: HeaderFields = ()) -> None:
        """Accept the connection. Without it, the first read or send accepts it.

        :param subprotocol: the subprotocol, one of `request.subprotocols`; None for no subprotocol.
        :param headers: additional header fields of the response, such as `Set-Cookie`. Not all servers send them.
        :raises UsageError: if the connection was accepted or refused already.
        :raises ValueError: if the client does not offer the subprotocol.
        :raises InvalidHeader: if a field would break the message, or belongs to the handshake itself.
        :raises ConnectionClosed: if the client has disconnected.

        If it is cancelled before the server was told to accept, it has no effect; later, the server still accepts.
        """
        fields = Accept(headers, subprotocol).headers
        if subprotocol is not None and subprotocol not in self.request.subprotocols:
            raise ValueError(f"the client does not offer the subprotocol {subprotocol!r:.80}: see request.subprotocols")
        self._check_loop("client.accept()")
        async with self._turn:
            await self._wait_accepting()
            if self._state is not State.CONNECTING:
                self._raise_if_closed("cannot accept")
                raise UsageError("cannot accept: the connection is open already; accept before the first read or send")
            await self._accept(subprotocol, fields)

    async def _open(self) -> None:
        """Accept the connection, unless it was accepted."""
        async with self._turn:
            if self._state is State.CONNECTING:
                await self._accept(None, Headers())

    async def _accept(self, subprotocol: str | None, fields: Headers) -> None:
        """Accept the connection in a task of its own, because ASGI does not say what cancelling `send` does."""
        if self._accepting is None:
            await self._connect()
            self._raise_if_closed("cannot accept")
            caller = cast("asyncio.Task[Any]", asyncio.current_task())
            sending = self._send_accept(subprotocol, fields, caller, caller.cancelling())
            self._accepting = self._loop.create_task(sending)
        accepting = self._accepting
        await asyncio.wait([accepting])
        if accepting.cancelled():
            self._raise_if_closed("cannot accept")
        error = accepting.result()
        if error is not None:
            try:
                raise error
            finally:
                del error  # it refers to this frame

    async def _send_accept(
        self, subprotocol: str | None, fields: Headers, caller: "asyncio.Task[Any]", cancelling: int
    ) -> Exception | None:
        """Send the event `websocket.accept`; return the error if there is one.

        :param cancelling: `caller.cancelling()` at the call. If it is more now, the caller was cancelled since then.
        """
        event: dict[str, object] = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": _encoded(fields)}
        try:
            if caller.cancelling() > cancelling:
                return None
            try:
                await self._send_event(event)
            except Exception as error:
                await self._explain(error, "cannot accept")
                raise
        except Exception as error:
            return error
        finally:
            self._accepting = None
        if self._state is State.CONNECTING:
            self._state = State.OPEN
            self._subprotocol = subprotocol
        return None

    async def _wait_accepting(self) -> None:
        """Wait for an accept whose caller was cancelled."""
        if self._accepting is not None:
            await asyncio.wait([self._accepting])

    async def _connect(self) -> None:
        """Wait until the server has announced the connection."""
        self._receiving.start()
        await self._receiving.connected.wait()

    async def refuse(self, response: Response) -> None:
        """Refuse the connection with a response of HTTP, such as `Response(401, "token expired")`.

        Servers without the ASGI extension `websocket.http.response`, such as Daphne, answer 403 instead.

        :raises UsageError: if the connection was accepted or refused already; call `close` then.
        :raises ConnectionClosed: if the client has disconnected.
        """
        if not isinstance(response, Response):
            raise TypeError(f"refuse() takes a Response, not {type(response).__name__}")
        self._check_loop("client.refuse()")
        async with self._turn:
            await self._wait_accepting()
            if self._state is not State.CONNECTING:
                raise UsageError(f"cannot refuse: the connection is {self._state.name.lower()} already; call close()")
            await self._refuse(response if offers_response(self.scope) else None, Close(CloseCode.POLICY_VIOLATION))

    async def _refuse(self, response: Response | None, close: Close) -> None:
        """Refuse the connection with a response; with None, send `close`, so that the server answers 403."""
        await self._connect()
        self._raise_if_closed("cannot refuse")
        self._state = State.CLOSING
        status = 403 if response is None else response.status
        outcome = CloseOutcome(
            Cause.CLOSED_WITH_ERROR, Side.LOCAL, None, None, f"the application refused the connection with {status}"
        )
        try:
            if response is None:
                await self._send_close(close)
                return
            fields = _encoded(response.headers)
            if "Content-Length" not in response.headers and status not in (204, 304):
                fields.append((b"content-length", b"%d" % len(response.body)))
            await self._send_event({"type": "websocket.http.response.start", "status": status, "headers": fields})
            await self._send_event({"type": "websocket.http.response.body", "body": response.body, "more_body": False})
        except asyncio.CancelledError:
            outcome = _not_sent(None)
            raise
        except Exception as error:
            outcome = _lost(error)
            if isinstance(error, OSError):
                raise ConnectionClosedError(outcome, "cannot refuse") from error
            raise
        finally:
            self._end(outcome)

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the messages: `str` for text, `bytes` for binary.

        The iteration ends after a clean close. It raises `ConnectionClosedError` after any other end of the
        connection, as far as the server reports it. Cancelling it loses nothing. After the loop is left, the next read
        gets the next message.
        """
        return _Messages[str | bytes](self, None)

    def read_message(self) -> Coroutine[object, None, str | bytes]:
        """Read the next message: `str` for text, `bytes` for binary.

        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises ConcurrencyError: if another task is reading this connection.

        Cancelling it loses nothing, even if the server cannot cancel its `receive`.
        """
        return self._read("client.read_message()", iterating=False)

    def text(self) -> AsyncIterator[str]:
        """Iterate over the messages, which must be text: a binary message closes the connection with 1003.

        It ends and raises as `async for message in client` does, and raises `ConnectionClosedError` after a binary
        message.
        """
        return _Messages[str](self, str)

    def binary(self) -> AsyncIterator[bytes]:
        """Iterate over the messages, which must be binary: a text message closes the connection with 1003.

        It ends and raises as `async for message in client` does, and raises `ConnectionClosedError` after a text
        message.
        """
        return _Messages[bytes](self, bytes)

    async def _read(self, call: str, *, iterating: bool) -> str | bytes:
        """Read the next message.

        :param iterating: whether a clean end of the connection ends an iteration instead of raising `ConnectionClosed`.
        """
        if self._reading:
            raise ConcurrencyError(
                f"cannot call {call}: another task reads the same connection; only one task at a time can read"
            )
        message = self._receiving.next_ready()
        if message is not None:
            return message
        self._check_loop(call)
        self._reading = True
        try:
            if self._state is State.CONNECTING:
                await self._open()
            while True:
                message = self._receiving.next_ready()
                if message is not None:
                    return message
                if self._outcome is not None and self._state is State.CLOSED:
                    if iterating and self._outcome.clean:
                        raise StopAsyncIteration
                    raise _closed_error(self._outcome)
                await self._receiving.wait()
        finally:
            self._reading = False

    async def _refuse_type(self, message: str | bytes) -> ConnectionClosed:
        """Close the connection because of the type of a message; return the exception for the reader."""
        received, wanted = ("binary", "text") if isinstance(message, bytes) else ("text", "binary")
        reason = f"received a {received} message where only {wanted} is accepted"
        self._begin_close(Close(CloseCode.UNSUPPORTED_DATA, reason), Cause.LIMIT, Side.REMOTE, reason)
        await self._ended.wait()
        return _closed_error(self._known_outcome())

    # Writing ---------------------------------------------------------------------------------------------------

    def send(self, data: str | Buffer, *, text: bool = False) -> Coroutine[object, None, None]:
        """Send one message: `str` as text, bytes-like as binary.

        Unlike `Client.send`, it does nothing before it is awaited. Awaiting it waits as long as the server makes it
        wait, which is how a server slows down its application if the peer reads too slowly.

        :param data: the message. A bytes-like object may be changed again after the call.
        :param text: whether bytes-like data, which must be valid UTF-8, is sent as text.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed, or if it ends while the server
            makes it wait.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeDecodeError: if `text` is true, and `data` is not valid UTF-8.

        Any number of tasks may send. Their messages leave in the order in which they are awaited. If it is cancelled
        while it waits for other tasks, the message is not sent; later, the server decides.
        """
        message = unchanging(data)
        if text and isinstance(message, bytes):
            message = message.decode()
        return self._send(message)

    async def _send(self, message: str | bytes) -> None:
        self._check_loop("client.send()")
        if self._state is State.CONNECTING:
            await self._open()
        size = size_of(message)
        self._backlog += size
        try:
            async with self._turn:
                self._raise_if_closed("cannot send")
                key = "text" if isinstance(message, str) else "bytes"
                # As `asyncio.timeout` does: a task for each message would cost more.
                sender = self._sender = cast("asyncio.Task[Any]", asyncio.current_task())
                cancelling = sender.cancelling()
                try:
                    await self._send_event({"type": "websocket.send", key: message})
                    if self._sender is None:  # the server has ignored that `_end` cancelled it
                        sender.uncancel()
                except BaseException as error:
                    if self._sender is None and sender.uncancel() <= cancelling:
                        raise _closed_error(self._known_outcome(), "cannot send") from error
                    self._sender = None
                    if isinstance(error, Exception):
                        await self._explain(error, "cannot send")
                    raise
                finally:
                    self._sender = None
        finally:
            self._backlog -= size

    async def _explain(self, error: Exception, refused: str) -> None:
        """Raise `ConnectionClosed` if a `send` of the server has raised an error because the connection has ended.

        :param refused: the beginning of the text of the exception.
        """
        # Starlette raises an exception of its own while it handles the `OSError`.
        lost = isinstance(error, OSError) or isinstance(error.__context__, OSError)
        receiving = self._receiving.task
        if receiving is not None:
            # The event with the close code may be there, or arrive at once (the specification allows both).
            self._receiving.drain(True)
            try:
                await asyncio.wait([receiving], timeout=_GRACE if lost else 0)
            finally:
                self._receiving.drain(False)
        if lost:
            self._end(_lost(error))
        if self._state is State.CLOSED:
            raise _closed_error(self._known_outcome(), refused) from error

    def _raise_if_closed(self, refused: str) -> None:
        if self._outcome is not None:
            raise _closed_error(self._outcome, refused)

    # Typed messages --------------------------------------------------------------------------------------------

    def typed(
        self,
        codec: Codec[_Received, _Sent],
        on_error: Callable[["AsgiClient", str | bytes, DecodeError], Awaitable[None] | None] | None = None,
    ) -> Typed[_Received, _Sent]:
        """Send and read typed messages: `moves = client.typed(Json(Move))`, then `async for move in moves`.

        It does what `Client.typed` does. There is no `@moves.message`: iterate instead.
        """
        return Typed(self, codec, on_error)

    # Closing ---------------------------------------------------------------------------------------------------

    async def close(
        self,
        code: int = 1000,
        reason: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """Close the connection. Returns when the server was told to; the server does the closing handshake.

        :param code: 1000, another code that RFC 6455 section 7.4.1 lets an endpoint send, or 3000 to 4999.
        :param reason: at most 123 bytes in UTF-8.
        :param timeout: the seconds after which it gives up, if the server makes it wait; None for 10 seconds.
        :raises ValueError: for another code, a longer reason, or a timeout that is not positive.
        :raises TypeError: if the reason is not `str`, or the timeout is not a number.

        A connection that was not accepted is refused with 403. Messages whose `send` was awaited before are sent
        first; unread messages are discarded. If the connection is closing or closed already, it only waits for the end.
        Cancelling it does not stop the close. Any number of tasks may call it.
        """
        check_close(code, reason)
        if timeout is not None:
            check_seconds("timeout", timeout)
        self._check_loop("client.close()")
        cause = Cause.CLEAN if code in CLEAN_CODES else Cause.CLOSED_WITH_ERROR
        self._begin_close(Close(code, reason), cause, Side.LOCAL, "", timeout)
        await self._ended.wait()

    def _begin_close(
        self, close: Close, cause: Cause, initiator: Side, detail: str, timeout: float | None = None
    ) -> None:
        """Begin to close or refuse the connection, in a task of its own, which nothing cancels but the timeout."""
        if self._closing is not None or self._state not in (State.CONNECTING, State.OPEN):
            return
        outcome = CloseOutcome(cause, initiator, None, close, detail)
        if self._state is State.OPEN:
            self._announce(outcome)
        self._closing = self._loop.create_task(self._close(close, outcome, timeout or _CLOSE_TIMEOUT))

    def _announce(self, outcome: CloseOutcome) -> None:
        """Note that an open connection is closing."""
        self._state = State.CLOSING
        self._outcome = self._announced = outcome
        # Granian sends no Close frame while a `receive` is under way.
        self._receiving.stop()
        self._receiving.discard()

    async def _close(self, close: Close, outcome: CloseOutcome, timeout: float) -> None:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout), self._turn:
                await self._wait_accepting()
                if self._state is State.CONNECTING:
                    await self._refuse(None, close)
                if self._state is State.OPEN:  # it was accepted in the meantime
                    self._announce(outcome)
                if self._state is State.CLOSED:
                    return
                try:
                    await self._send_close(close)
                except OSError:
                    raise
                except Exception as error:
                    # Daphne sends only 1000 and 3000 to 4999. The connection must not stay open because of that.
                    close = Close(CloseCode.NORMAL)
                    await self._send_close(close)
                    refused = f"the ASGI server refused the close code: {describe(error)}"
                    detail = f"{outcome.detail}; {refused}" if outcome.detail else refused
                    outcome = attrs.evolve(outcome, sent=close, detail=detail)
        except TimeoutError:
            outcome = _not_sent(close if self._outcome is not None else None)
        except Exception as error:
            outcome = _lost(error)
        finally:
            self._end(outcome)

    async def _send_close(self, close: Close) -> None:
        # Daphne takes no `CloseCode`.
        await self._send_event({"type": "websocket.close", "code": int(close.code), "reason": close.reason})

    async def wait_closed(self) -> None:
        """Wait until the connection has ended; `outcome` then says how.

        The end is not seen while more than 64 KiB of messages are unread. Any number of tasks may wait. Cancelling one
        has no effect on the connection.
        """
        self._check_loop("client.wait_closed()")
        if self._state is State.CONNECTING:
            try:
                await self._open()
            except ConnectionClosed:
                return
        await self._ended.wait()

    def _end(self, outcome: CloseOutcome) -> None:
        """Note how the connection has ended, unless that is known already."""
        if self._state is State.CLOSED:
            return
        task = asyncio.current_task()
        if self._outcome is not None and self._closing is not task:
            return  # the event `websocket.close` is under way, and its task will note the end
        self._state = State.CLOSED
        self._outcome = outcome
        if self._task is not None:
            self._task.remove_done_callback(self._task_ended)
            self._task = None
        if self._sender is not None and self._sender is not task:
            self._sender.cancel()
        self._sender = None
        for other in (self._accepting, self._closing):
            if other is not None and other is not task:
                other.cancel()
        self._accepting = self._closing = None
        self._receiving.stop()
        self._receiving.end()
        self._send_event = _send_nothing
        self._ended.set()

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        """Note that the application has ended. The server closes the connection, and may not tell that any more."""
        how = "was cancelled" if task.cancelled() else "has ended"
        self._end(CloseOutcome(Cause.LOCAL_CANCEL, Side.LOCAL, None, None, f"the task of the ASGI application {how}"))

    # About the connection --------------------------------------------------------------------------------------

    @property
    def addr(self) -> str:
        """The address of the client, as the server tells it; for a Unix socket, the path of the socket."""
        return self.request.remote[0]

    @property
    def port(self) -> int:
        """The port of the client; for a Unix socket, the same number as `id`."""
        return self.request.remote[1] or self.id

    @property
    def remote(self) -> tuple[str, int]:
        """The address and port of the client, as the server tells them; `("unknown", 0)` if it does not."""
        return self.request.remote

    @typed_extra_info
    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection: `peername` or `sockname`. ASGI has no other.

        :param default: returned if there is no such information.
        """
        return self.request.get_extra_info(name, default)

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol given to `accept`. It is None if the connection was accepted without the `AsgiClient`."""
        return self._subprotocol

    @property
    def state(self) -> State:
        """The state of the connection: CONNECTING until it is accepted, then OPEN, CLOSING and CLOSED."""
        return self._state

    @property
    def backlog(self) -> int:
        """The size of the messages that the server has not taken yet, in bytes, or characters of text."""
        return self._backlog

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end: initiator, close codes and cause. None while it is open.

        If this side did not close the connection, it is what the server reports. ASGI does not say which side closed:
        the initiator is the peer, except for the code 1012, which servers send when they stop.
        """
        return self._outcome

    def _known_outcome(self) -> CloseOutcome:
        assert self._outcome is not None
        return self._outcome

    def _check_loop(self, call: str) -> None:
        try:
            running: object = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            raise UsageError(
                f"cannot call {call} outside the event loop of the connection: write "
                f"asyncio.run_coroutine_threadsafe({call}, loop)"
            )

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

    def closed(self, callback: _OnClosed) -> _OnClosed:
        """Decorator: call `callback` with the `CloseOutcome` when the connection has ended.

        :param callback: a function or coroutine function. If it raises, the error is logged.
        :returns: the function, unchanged.
        :raises UsageError: if `callback` is not a function.
        """
        if not callable(callback):
            raise UsageError(
                f"client.closed registers a callback, which must be a function, not {type(callback).__name__}: to "
                "close the connection, write client.close(); to wait for its end, client.wait_closed()"
            )
        self._check_loop("client.closed")
        task = self._loop.create_task(self._call_closed(callback))
        self._tasks.add(task)
        task.add_done_callback(partial(end_task, self._tasks))
        return callback

    async def _call_closed(self, callback: ClosedCallback) -> None:
        await self._ended.wait()
        async with self._callbacks:
            try:
                result = callback(self._known_outcome())
                if isawaitable(result):
                    await result
            except NO_FAILURE:
                raise
            except BaseException as error:
                if not tells_of_end(error):
                    name = getattr(callback, "__qualname__", repr(callback))
                    logger.error("%s:%d: the callback %s raised an exception", *self.remote, name, exc_info=error)


class _Messages(Generic[_Kind]):
    """Iterates over the messages.

    :param kind: the type that the messages must have; None for any.
    """

    __slots__ = ("_client", "_kind")

    def __init__(self, client: AsgiClient, kind: type[_Kind] | None) -> None:
        self._client = client
        self._kind: type[_Kind] | None = kind

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[object, None, _Kind]:
        if self._kind is not None:
            return self._read_kind(self._kind)
        return cast(Coroutine[object, None, _Kind], self._client._read("async for", iterating=True))

    async def _read_kind(self, kind: type[_Kind]) -> _Kind:
        message = await self._client._read("async for", iterating=True)
        if isinstance(message, kind):
            return message
        raise await self._client._refuse_type(message)


def _closed_error(outcome: CloseOutcome, refused: str = "") -> ConnectionClosed:
    return (ConnectionClosed if outcome.clean else ConnectionClosedError)(outcome, refused)


def _lost(error: Exception) -> CloseOutcome:
    """Return the outcome of a connection whose end only an error of `send` has told."""
    return CloseOutcome(Cause.RESET, Side.REMOTE, None, None, f"cannot send: {describe(error)}")


def _not_sent(close: Close | None) -> CloseOutcome:
    """Return the outcome of a connection whose close or refusal the server has not taken in time."""
    return CloseOutcome(Cause.CLOSE_TIMEOUT, Side.LOCAL, None, close, "the server did not send the close")


def _encoded(fields: Headers) -> list[tuple[bytes, bytes]]:
    """Return header fields as ASGI wants them."""
    return [(name.lower().encode(), value.encode()) for name, value in fields.items_all()]


add_missing(AsgiClient)
