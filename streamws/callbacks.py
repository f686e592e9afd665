"""Calls the functions that the decorators of a `Client` register. They use the same streams as an application."""

import logging
from asyncio import CancelledError, Future, Task, wait
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from inspect import isawaitable
from types import CoroutineType
from typing import Any, TypeVar

from .codes import Cause, CloseCode, CloseOutcome, Side
from .connection import Connection
from .errors import ConcurrencyError, ConnectionClosed, UsageError, tells_of_end
from .streams.iterators import begin_message
from .streams.reader import MessageReader

MessageCallback = Callable[[MessageReader], Awaitable[None] | None]
PayloadCallback = Callable[[bytes], Awaitable[None] | None]
ClosedCallback = Callable[[CloseOutcome], Awaitable[None] | None]
Spawn = Callable[[Coroutine[object, None, None]], "Task[None]"]
"""Starts a task and keeps a reference to it until it ends. A server waits for these tasks when it stops."""

NO_FAILURE = (CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""Exceptions that end a task or the program. Any other exception is a failure of the function that raised it."""

_Argument = TypeVar("_Argument")

logger: logging.Logger = logging.getLogger("streamws")


class Callbacks:
    """Calls the callbacks of one client, one after the other."""

    __slots__ = ("_connection", "_failed", "_message", "_queue", "_running", "_spawn", "_waiting")

    def __init__(self, connection: Connection, spawn: Spawn) -> None:
        self._connection = connection
        self._spawn = spawn
        self._running = False  # whether a callback runs
        self._queue: list[Future[None]] = []  # the callbacks that wait, in the order of their events
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
        self._connection.on_ping = self._receiver(callback)

    def on_pong(self, callback: PayloadCallback) -> None:
        if self._connection.on_pong is not None:
            raise UsageError("cannot register @client.pong twice")
        self._connection.on_pong = self._receiver(callback)

    def on_closed(self, callback: ClosedCallback) -> None:
        self._spawn(self._call_closed(callback))

    def _receiver(self, callback: PayloadCallback) -> Callable[[bytes], None] | None:
        """Return a function that calls a callback with a payload; None if no payload will arrive any more."""
        if self._connection.is_closed:
            return None
        context = copy_context()
        return lambda payload: self._receive(callback, payload, context)

    def _receive(self, callback: PayloadCallback, payload: bytes, context: Context) -> None:
        """Call a callback for a ping or pong. Reading is not paused for these, so the number that waits is limited.

        :param context: the context in which the callback was registered. The task that receives a ping has another one.
        """
        if self._waiting >= self._connection.environment.limits.max_control_backlog:
            reason = "ping flood: pings and pongs arrive faster than their callbacks run"
            self._connection.fail(CloseCode.POLICY_VIOLATION, reason, Cause.LIMIT)
            return
        self._waiting += 1
        context.copy().run(self._spawn, self._call_payload(callback, payload))

    async def _call_payload(self, callback: PayloadCallback, payload: bytes) -> None:
        try:
            await self._call(callback, payload)
        finally:
            self._waiting -= 1

    async def _read_messages(self, callback: MessageCallback) -> None:
        connection = self._connection
        inbox = connection.inbox
        limits = connection.environment.limits
        read = begin_message(inbox, limits)
        try:
            while not self._failed:
                reader = read.next_ready()
                if reader is None:
                    awaitable = None  # an idle connection keeps no coroutine that has ended
                    reader = await read
                    read = begin_message(inbox, limits)
                if self._running:
                    await self._wait()
                try:
                    awaitable = self._begin(callback, reader)
                    if awaitable is not None:
                        await awaitable
                except (KeyboardInterrupt, SystemExit):
                    self._failed = True
                    raise
                except (CancelledError, GeneratorExit):
                    raise
                except BaseException as error:
                    self._failed = not report(connection, callback, error)
                finally:
                    self._end(reader)
        except (ConnectionClosed, StopAsyncIteration):
            pass  # the closed callback and client.outcome report it
        except ConcurrencyError:
            logger.exception(
                "%s: cannot run @client.message: another task is already reading this connection",
                connection.peer(),
                extra=connection.log_fields(),
            )

    def _begin(self, callback: Callable[[Any], Awaitable[None] | None], argument: object) -> Awaitable[None] | None:
        """Begin to run a callback; return what must be awaited, or None if it has run."""
        self._running = True
        if self._failed:
            return None
        result = callback(argument)
        # `isawaitable` alone would cost as much as a small message.
        return result if result is not None and (type(result) is CoroutineType or isawaitable(result)) else None

    def _end(self, reader: MessageReader | None) -> None:
        """Note that a callback has run, which may have read from `reader`, and run the next one."""
        if reader is not None:
            reader.leave()
        self._running = False
        if self._queue:
            self._run_next()

    async def _call_closed(self, callback: ClosedCallback) -> None:
        await self._connection.wait_closed()
        if self._message is not None:
            await wait([self._message])
        outcome = self._connection.outcome()
        assert outcome is not None
        await self._call(callback, outcome, True)

    async def _call(
        self, callback: Callable[[_Argument], Awaitable[None] | None], argument: _Argument, after_failure: bool = False
    ) -> None:
        """Call a callback when those before it have run."""
        if self._running:
            await self._wait()
        self._running = True
        try:
            if (after_failure or not self._failed) and not await call(self._connection, callback, argument):
                self._failed = True
        except (KeyboardInterrupt, SystemExit):
            self._failed = True
            raise
        finally:
            self._end(None)

    async def _wait(self) -> None:
        """Wait until the callbacks before this one have run."""
        future: Future[None] = self._connection.environment.loop.create_future()
        self._queue.append(future)
        try:
            await future
        except BaseException:
            if future in self._queue:
                self._queue.remove(future)
            else:
                self._run_next()  # cancelled when its turn had come
            raise

    def _run_next(self) -> None:
        """Let the first callback that waits run. Until it does, no other may begin."""
        while self._queue:
            future = self._queue.pop(0)
            if not future.done():
                future.set_result(None)
                self._running = True
                return
        self._running = False


async def call(
    connection: Connection, callback: Callable[[_Argument], Awaitable[None] | None], argument: _Argument
) -> bool:
    """Call a callback. If it raises, log the error and close the connection with 1011.

    :returns: whether it succeeded.
    """
    try:
        result = callback(argument)
        if isawaitable(result):
            await result
    except NO_FAILURE:
        raise
    except BaseException as error:
        return report(connection, callback, error)
    return True


def end_task(tasks: "set[Task[None]]", task: "Task[None]") -> None:
    """Remove a task that has ended, and report its exception, if any."""
    tasks.discard(task)
    error = None if task.cancelled() else task.exception()
    # The loop has already raised a `SystemExit` or `KeyboardInterrupt` itself, to end the program.
    if error is not None and not isinstance(error, NO_FAILURE):
        task.get_loop().call_exception_handler({"message": f"{task!r} raised", "exception": error, "task": task})


def report(connection: Connection, callback: object, error: BaseException) -> bool:
    """Log the error that a callback raised, and close the connection with 1011.

    :returns: whether it is no failure: the callback used a connection that has ended.
    """
    if tells_of_end(error):
        return True
    name = getattr(callback, "__qualname__", repr(callback))
    fields = connection.log_fields()
    logger.error("%s: the callback %s raised an exception", connection.peer(), name, exc_info=error, extra=fields)
    connection.fail(
        CloseCode.INTERNAL_ERROR, "", Cause.HANDLER_ERROR, Side.LOCAL, f"the callback {name} raised {error!r}"
    )
    return False
