"""Every use of what CPython and asyncio do not promise, each with a plain way beside it.

This module and `internals.h`, its C half, are the only ones that rely on such things. Each use is checked once, at
import. The plain way is taken if the check fails, or if the environment variable `STREAMWS_PLAIN` is set:

| what | used for | the plain way |
|---|---|---|
| `Future._asyncio_future_blocking` | an operation is its own coroutine | a generator that awaits the future |
| `Future._callbacks` | a reader is woken when its data arrives | `set_result`: one loop iteration later |
| `asyncio.tasks._current_tasks` (3.11) | whether a task is running | `asyncio.current_task` |
| `am_send`, `tp_iternext` (C) | awaiting without a Python call | the methods `send` and `__next__` |
| `_PyBytes_Resize` (C) | give unused memory of a payload back without a copy | copy it |
| the layout of `_ssl._SSLSocket` (C) | encrypt without a copy | `ssl.MemoryBIO` |
"""

import asyncio
import sys
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Any

from ..about import PLAIN
from .checks import futures_can_be_yielded, futures_show_callbacks

YIELDS_FUTURES: bool = not PLAIN and futures_can_be_yielded()
"""Whether an operation may yield a future to the task that awaits it, as `Future.__await__` does."""

WAKES_DIRECTLY: bool = not PLAIN and futures_show_callbacks()
"""Whether the wake-up of a task can be taken from the future it awaits and called without the loop."""

current_task: Callable[[AbstractEventLoop], object] = asyncio.current_task
"""The task that runs on a loop, or None."""
if sys.version_info < (3, 12) and not PLAIN and isinstance(getattr(asyncio.tasks, "_current_tasks", None), dict):
    # `asyncio.current_task` is written in Python there: a tenth of the instructions that a message costs.
    current_task = asyncio.tasks._current_tasks.get


def mark_yielded(future: Any) -> None:
    """Tell the task that it is to await the future that an operation is about to yield."""
    future._asyncio_future_blocking = True


def callbacks_of(future: "Future[None]") -> list[Any]:
    """The callbacks of a future with their contexts; empty if there is none."""
    return future._callbacks or []


def task_of(callback: object) -> object:
    """The task whose wake-up `callback` is, or None."""
    return getattr(callback, "__self__", None)
