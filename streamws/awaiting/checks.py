"""The checks of `internals`, which test the running interpreter.

This module is never compiled, because the interpreter's own `await` is tested, not Cython's.
"""

import gc
from asyncio import Future
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any


class _NoLoop:
    """The methods of an event loop that a pending future calls."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: object, context: Context | None = None) -> None:
        raise AssertionError("a pending future calls nothing")


def _future() -> "Future[None]":
    loop: Any = _NoLoop()
    return Future(loop=loop)


def futures_can_be_yielded() -> bool:
    """Return whether awaiting a future yields it with `_asyncio_future_blocking` set, which was unset before."""
    future: Any = _future()
    try:
        before = future._asyncio_future_blocking
        yielded = next(future.__await__())
        return before is False and yielded is future and future._asyncio_future_blocking is True
    except Exception:
        return False
    finally:
        future._asyncio_future_blocking = False


def futures_show_callbacks() -> bool:
    """Return whether `Future._callbacks` lists each callback with its context, and is empty if there is none."""
    try:
        future, callback, context, empty = futures_to_compare()
        listed = list(future._callbacks)
        return not empty._callbacks and listed == [(callback, context)] and future.remove_done_callback(callback) == 1
    except Exception:
        return False


def futures_to_compare() -> tuple[Any, Callable[..., object], Context, Any]:
    """Return a future with one callback, that callback, its context, and a future of the same loop without any."""
    loop: Any = _NoLoop()
    future: Future[None] = Future(loop=loop)
    empty: Future[None] = Future(loop=loop)
    callback: Any = [].append
    context = copy_context()
    future.add_done_callback(callback, context=context)
    return future, callback, context, empty


def awaits_to(awaitable: Any, value: object) -> bool:
    """Return whether a coroutine that awaits `awaitable` gets `value` without being suspended."""

    async def get() -> object:
        return await awaitable

    coroutine = get()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value is value
    except Exception:
        return False
    coroutine.close()
    return False


def class_shows_dictionary() -> bool:
    """Return whether the garbage collector finds the dictionary of a class, which `vars` only shows."""

    class Example:
        present = 1

    try:
        [dictionary] = gc.get_referents(vars(Example))
        dictionary["added"] = 2
        return Example.present == 1 and getattr(Example(), "added", None) == 2
    except Exception:
        return False
