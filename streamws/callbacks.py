"""The decorators of `Client`: thin sugar over its streams."""

import inspect
from asyncio import Lock, Task, wait
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from .client import Client, ClosedCallback, MessageCallback, PayloadCallback
from .codes import Cause, CloseCode, Side
from .connection import Connection, logger
from .errors import ConcurrencyError, ConnectionClosed, UsageError, tells_of_end

_Argument = TypeVar("_Argument")


class Callbacks:
    """Calls the functions that one client's decorators registered, one after the other."""

    __slots__ = ("_client", "_connection", "_failed", "_lock", "_message", "_spawn", "_waiting")

    def __init__(
        self, client: Client, connection: Connection, spawn: Callable[[Coroutine[object, None, None]], Task[None]]
    ) -> None:
        """`spawn` starts a task that someone waits for when the server stops."""
        self._client = client
        self._connection = connection
        self._spawn = spawn
        self._lock = Lock()  # first come, first served: so callbacks run in the order of what they tell
        self._message: Task[None] | None = None
        self._waiting = 0  # pings and pongs that came and whose callbacks have not run
        self._failed = False  # whether one raised: then only `closed` is called

    def on_message(self, callback: MessageCallback) -> None:
        if self._message is not None:
            raise UsageError("this client has a @client.message callback already; one message goes to one callback")
        self._message = self._spawn(self._read_messages(callback))

    def on_ping(self, callback: PayloadCallback) -> None:
        if self._connection.on_ping is not None:
            raise UsageError("this client has a @client.ping callback already")

        self._connection.on_ping = lambda payload: self._receive(callback, payload)

    def on_pong(self, callback: PayloadCallback) -> None:
        if self._connection.on_pong is not None:
            raise UsageError("this client has a @client.pong callback already")

        self._connection.on_pong = lambda payload: self._receive(callback, payload)

    def on_closed(self, callback: ClosedCallback) -> None:
        self._spawn(self._tell_closed(callback))

    def _receive(self, callback: PayloadCallback, payload: bytes) -> None:
        """A ping or a pong has come: reading is not paused for those, so what waits for its callback is bounded."""
        if self._waiting >= self._connection.environment.limits.max_control_backlog:
            reason = "pings and pongs came faster than their callbacks run"
            self._connection.fail(CloseCode.POLICY_VIOLATION, reason, Cause.LIMIT)
            return
        self._waiting += 1
        self._spawn(self._tell(callback, payload))

    async def _tell(self, callback: PayloadCallback, payload: bytes) -> None:
        try:
            await self._call(callback, payload)
        finally:
            self._waiting -= 1

    async def _read_messages(self, callback: MessageCallback) -> None:
        try:
            async for reader in self._client.messages():
                async with reader:
                    await self._call(callback, reader)
                if self._failed:
                    return
        except ConnectionClosed:
            pass  # the closed callback and client.outcome tell of it
        except ConcurrencyError:
            logger.exception("%s: @client.message gets no messages, another task reads them", self._connection.peer())

    async def _tell_closed(self, callback: ClosedCallback) -> None:
        await self._client.wait_closed()
        if self._message is not None:
            await wait([self._message])
        outcome = self._client.outcome
        assert outcome is not None
        async with self._lock:
            await call(self._connection, callback, outcome)

    async def _call(self, callback: Callable[[_Argument], Awaitable[None] | None], argument: _Argument) -> None:
        async with self._lock:
            if not self._failed:
                self._failed = not await call(self._connection, callback, argument)


async def call(
    connection: Connection, callback: Callable[[_Argument], Awaitable[None] | None], argument: _Argument
) -> bool:
    """Call a callback; what it raises is logged and closes the connection with 1011. Returns whether all went well."""
    name = getattr(callback, "__qualname__", repr(callback))
    try:
        result = callback(argument)
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        if tells_of_end(error):
            return True  # it used a connection that had ended, and learned of it
        logger.exception("%s: the callback %s raised", connection.peer(), name)
        detail = f"the callback {name} raised {error!r}"
        connection.fail(CloseCode.INTERNAL_ERROR, "", Cause.HANDLER_ERROR, Side.LOCAL, detail)
        return False
    return True
