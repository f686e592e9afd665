"""Wait for events, tasks and conditions, and fail instead of waiting for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""

_Result = TypeVar("_Result")


async def within(awaitable: Awaitable[_Result]) -> _Result:
    """Await something that must happen."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for a condition that no event announces."""
    iterations = 0
    async with asyncio.timeout(patience):
        while not condition():
            # What happens inside this process needs a few loop iterations; only other processes and timers need time.
            await asyncio.sleep(0 if iterations < 100 else 0.002)
            iterations += 1


async def iterations(count: int = 4) -> None:
    """Let the loop run for some iterations. After four, data sent over loopback has been received and processed."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[Any]") -> bool:
    """Wait for a task and return whether it was cancelled. Raises any other exception of it."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()
