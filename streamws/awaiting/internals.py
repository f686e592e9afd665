"""Every use of an internal of CPython or asyncio that may change without notice, each with a plain way to replace it.

Only this module and its C half, `internals.h`, rely on such internals. Each use is checked once, at import. The plain
way is used if the check fails, or if the environment variable `STREAMWS_PLAIN` is set:

| internal | used for | the plain way |
|---|---|---|
| `Future._asyncio_future_blocking` | yield a future to a task without a generator | a generator that awaits it |
| `Future._callbacks` | wake a reader in the same loop iteration | `set_result`: one iteration later |
| `asyncio.tasks._current_tasks` (3.11) | find the current task | `asyncio.current_task` |
| the layout of `_asyncio.Future` (C) | find that callback without a Python call | `Future._callbacks` |
| `am_send`, `tp_iternext` (C) | await without a Python call | the methods `send` and `__next__` |
| `tp_alloc`, `tp_free` (C) | let new reads take the memory of freed ones | allocate and free it |
| the layout of `StopIteration` (C, 3.12 to 3.14) | hand over a result without a new exception | the same two methods |
| the dictionary of a class | give names to a compiled class, for the errors of `hints` | no such names |
| `_PyBytes_Resize` (C) | shrink a payload without a copy | copy it |
| the layout of `_ssl._SSLSocket` (C) | encrypt without a copy | `ssl.MemoryBIO` |
"""

import asyncio
import gc
import sys
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Any

from ..about import PLAIN
from .checks import class_shows_dictionary, futures_can_be_yielded, futures_show_callbacks

YIELDS_FUTURES: bool = not PLAIN and futures_can_be_yielded()
"""Whether an operation may yield a future to the task that awaits it, as `Future.__await__` does."""

WAKES_DIRECTLY: bool = not PLAIN and futures_show_callbacks()
"""Whether a `Waiter` may call the wake-up of a task itself, without the loop: it takes it from the awaited future."""

current_task: Callable[[AbstractEventLoop], object] = asyncio.current_task
"""Return the task that is running on a loop, or None."""
_current_tasks: Any = getattr(asyncio.tasks, "_current_tasks", None)
if sys.version_info < (3, 12) and not PLAIN and isinstance(_current_tasks, dict):
    # In Python 3.11, `asyncio.current_task` is written in Python: a tenth of the instructions that a message costs.
    current_task = _current_tasks.get

RECORDS_AWAITING: bool = sys.version_info >= (3, 14)
"""Whether asyncio records which tasks await a future, for its call graphs."""

if sys.version_info >= (3, 14):
    add_to_awaited_by: Callable[[Any, Any], None] = asyncio.future_add_to_awaited_by
    """Record that a task awaits a future."""
    discard_from_awaited_by: Callable[[Any, Any], None] = asyncio.future_discard_from_awaited_by
    """Remove a task from the record of a future."""
else:

    def add_to_awaited_by(future: Any, task: Any) -> None:
        """There is no such record."""

    def discard_from_awaited_by(future: Any, task: Any) -> None:
        """There is no such record."""


def mark_yielded(future: Any) -> None:
    """Mark a future that an operation is about to yield, so that the task accepts it."""
    future._asyncio_future_blocking = True


def callbacks_of(future: "Future[None]") -> list[Any]:
    """Return the callbacks of a future, with their contexts; empty if there is none."""
    return future._callbacks or []


def task_of(callback: object) -> object:
    """Return the task that `callback` wakes, or None."""
    return getattr(callback, "__self__", None)


_SHOWS_DICTIONARY = not PLAIN and class_shows_dictionary()


def set_class_attribute(kind: type, name: str, value: object) -> None:
    """Set an attribute of a class, also of a compiled one. Nobody must have looked for this name in the class yet."""
    try:
        setattr(kind, name, value)
    except TypeError:  # a compiled class is immutable
        if _SHOWS_DICTIONARY:
            dictionary: Any = gc.get_referents(vars(kind))[0]
            dictionary[name] = value
