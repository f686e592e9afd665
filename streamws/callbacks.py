"""Calls the functions that the decorators of a `Client` register. They use the same streams as an application."""

import inspect
import logging
from asyncio import Lock, Task, wait
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from .codes import Cause, CloseCode, CloseOutcome, Side
from .connection import Connection
from .errors import ConcurrencyError, ConnectionClosed, UsageError, tells_of_end
from .streams.iterators import Readers
from .streams.reader import MessageReader

MessageCallback = Callable[[MessageReader], Awaitable[None] | None]
PayloadCallback = Callable[[bytes], Awaitable[None] | None]
ClosedCallback = Callable[[CloseOutcome], Awaitable[None] | None]
Spawn = Callable[[Coroutine[object, None, None]], "Task[None]"]
"""Starts a task and keeps a reference to it until it ends. A server waits for these tasks when it stops."""

_Argument = TypeVar("_Argument")

logger: logging.Logger = logging.getLogger("streamws")


class Callbacks:
    """Calls the callbacks of one client, one after the other."""

    __slots__ = ("_connection", "_failed", "_lock", "_message", "_spawn", "_waiting")

    def __init__(self, connection: Connection, spawn: Spawn) -> None:
        self._connection = connection
        self._spawn = spawn
        self._lock = Lock()  # first come, first served: callbacks run in the order of their events
        self._message: Task[None] | None = None  # runs the message callback
        self._waiting = 0  # the received pings and pongs whose callbacks have not run
        self._failed = False  # whether a callback raised; after that only `closed` is called

    def on_message(self, callback: MessageCallback) -> None:
        if self._message is not None:
            raise UsageError("cannot register @client.message twice: each message goes to one callback")
        self._message = self._spawn(self._read_messages(callback))

    def on_ping(self, callback: PayloadCallback) -> None:
        if self._connection.on_ping is not None:
            raise UsageError("cannot register @client.ping twice")
        self._connection.on_ping = lambda payload: self._receive(callback, payload)

    def on_pong(self, callback: PayloadCallback) -> None:
        if self._connection.on_pong is not None:
            raise UsageError("cannot register @client.pong twice")
        self._connection.on_pong = lambda payload: self._receive(callback, payload)

    def on_closed(self, callback: ClosedCallback) -> None:
        self._spawn(self._call_closed(callback))

    def _receive(self, callback: PayloadCallback, payload: bytes) -> None:
        """Call a callback for a ping or pong. Reading is not paused for these, so the number that waits is limited."""
        if self._waiting >= self._connection.environment.limits.max_control_backlog:
            reason = "ping flood: pings and pongs arrive faster than their callbacks run"
            self._connection.fail(CloseCode.POLICY_VIOLATION, reason, Cause.LIMIT)
            return
        self._waiting += 1
        self._spawn(self._call_payload(callback, payload))

    async def _call_payload(self, callback: PayloadCallback, payload: bytes) -> None:
        try:
            await self._call(callback, payload)
        finally:
            self._waiting -= 1

    async def _read_messages(self, callback: MessageCallback) -> None:
        connection = self._connection
        try:
            async for reader in Readers(connection.inbox, connection.environment.limits):
                async with reader:
                    await self._call(callback, reader)
                if self._failed:
                    return
        except ConnectionClosed:
            pass  # the closed callback and client.outcome report it
        except ConcurrencyError:
            logger.exception(
                "%s: cannot run @client.message: another task is already reading this connection", connection.peer()
            )

    async def _call_closed(self, callback: ClosedCallback) -> None:
        await self._connection.wait_closed()
        if self._message is not None:
            await wait([self._message])
        outcome = self._connection.outcome()
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
    """Call a callback. If it raises, log the error and close the connection with 1011.

    :returns: whether it succeeded.
    """
    name = getattr(callback, "__qualname__", repr(callback))
    try:
        result = callback(argument)
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        if tells_of_end(error):
            return True  # the callback used a connection that has ended, which is no fault
        logger.exception("%s: the callback %s raised an exception", connection.peer(), name)
        detail = f"the callback {name} raised {error!r}"
        connection.fail(CloseCode.INTERNAL_ERROR, "", Cause.HANDLER_ERROR, Side.LOCAL, detail)
        return False
    return True
