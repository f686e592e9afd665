"""How a suspended reader goes on: at once, without a turn of the loop.

A task that awaits a future registers its wake-up as a callback of the future, and `set_result` has the loop call that
in the next turn. Where no task is running, a Waiter calls it itself, in the task's context, with a future that is done;
the future that the task waited on stays as it was and serves for the next wait.
"""

import asyncio
import sys
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable

from .operation import run_in

_current_task: Callable[[AbstractEventLoop], object] = asyncio.current_task
if sys.version_info < (3, 12):
    # There it is written in Python, and a tenth of the instructions that a message costs.
    _current_task = vars(asyncio.tasks)["_current_tasks"].get


class Waiter:
    """The place where one task at a time waits."""

    __slots__ = ("_finished", "_future", "_loop", "_unused")

    def __init__(self, loop: AbstractEventLoop, finished: "Future[None]") -> None:
        """`finished` is any future of the loop that is done."""
        self._loop = loop
        self._finished = finished
        self._future: Future[None] | None = None
        self._unused = False  # whether the task was called and the future left as it was

    def arm(self) -> "Future[None]":
        """The future to wait on."""
        future = self._future
        if self._unused and future is not None:
            self._unused = False
            return future
        if future is None or future.done():
            future = self._future = self._loop.create_future()
        return future

    def is_cancelled(self) -> bool:
        """Whether the task that waited here is being cancelled, and has not run since."""
        return self._future is not None and self._future.cancelled()

    def wake(self, soon: bool) -> None:
        """Let the task go on: at once if that can be, or in any case `soon`, in the loop's next turn."""
        future = self._future
        if future is None:
            return
        callbacks = future._callbacks
        if not callbacks:
            return  # the task runs or is about to, and finds out for itself
        # A task that is stepped from inside another one would be stuck for ever: then the loop wakes it.
        if not soon and len(callbacks) == 1 and _current_task(self._loop) is None:
            callback, context = callbacks[0]
            future.remove_done_callback(callback)
            self._unused = True
            if run_in(context, callback, self._finished):
                return
            # Whoever brought the data runs in the context of the task.
            self._unused = False
            future.add_done_callback(callback, context=context)
        future.set_result(None)

    def wake_later(self) -> None:
        """Let the task that is about to wait go on when everything else of the loop has had its turn."""
        self._loop.call_soon(self.wake, True)

    def waiting_task(self) -> object:
        """The task that waits here, or None."""
        callbacks = self._future._callbacks if self._future is not None else None
        return getattr(callbacks[0][0], "__self__", None) if callbacks else None
