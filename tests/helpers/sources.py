"""Operations that wait for the values of one source, on either build."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .wires import Wire

VALUES = [
    None,
    0,
    "text",
    (),
    (1, 2),
    ValueError("a value"),
    StopIteration("inner"),
    StopIteration,
    asyncio.CancelledError(),
    [1],
]
"""Values that an awaitable could mistake for an exception, or for no result."""


class Source:
    """Makes operations that wait for its value, and share its waiter."""

    def __init__(self, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        finished.set_result(None)
        pending, failed = wire.operation.PENDING, wire.operation.FAILED
        self._pending = pending
        self.waiter = wire.waiter.Waiter(loop, finished)
        self.value: object = pending
        self.abandoned = 0
        source = self

        class Get(wire.operation.Operation):  # type: ignore[misc, name-defined]
            def poll(self) -> object:
                value, source.value = source.value, pending
                if value is pending:
                    self.future = source.waiter.arm()
                elif isinstance(value, ZeroDivisionError):
                    raise value
                elif isinstance(value, FloatingPointError):
                    self.error = value
                    return failed
                return value

            def abandon(self) -> None:
                source.abandoned += 1

        self.get: Callable[[], Any] = Get
        """Make an operation for the next value. It raises a ZeroDivisionError, and fails with a FloatingPointError."""

    def put(self, value: object) -> None:
        """Set a value and wake the task that waits for it."""
        self.value = value
        self.waiter.wake(False)


async def started(coroutine: Any) -> asyncio.Task[Any]:
    """Start a task and let it run up to its first wait."""
    task: asyncio.Task[Any] = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


Call = Callable[[Callable[[], object]], Awaitable[None]]


async def outside_of_tasks(function: Callable[[], object]) -> None:
    """Call the function from the loop, outside any task."""
    called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call() -> None:
        assert asyncio.current_task() is None
        try:
            function()
        except BaseException as error:
            called.set_exception(error)
        else:
            called.set_result(None)

    asyncio.get_running_loop().call_soon(call)
    await called


async def inside_a_task(function: Callable[[], object]) -> None:
    """Call the function from the task that awaits this."""
    function()
