"""Wakes the task that waits for data, without the event loop in between.

A task that awaits a future registers its wake-up as a callback of the future, and `set_result` makes the loop call it
in the next iteration. If no task is running, a `Waiter` takes that callback and calls it at once, in the task's context
and with a future that is done. The future that the task awaited stays pending and serves for the next wait.
"""

from asyncio import AbstractEventLoop, Future

from .internals import WAKES_DIRECTLY, callbacks_of, current_task, task_of
from .operation import run_in


class Waiter:
    """A place where one task at a time waits."""

    __slots__ = ("_finished", "_future", "_loop", "_task", "_untouched")

    def __init__(self, loop: AbstractEventLoop, finished: "Future[None]") -> None:
        """Make a waiter for tasks of one loop.

        :param finished: any future of the loop that is done; tasks are woken with it.
        """
        self._loop = loop
        self._finished = finished
        self._future: Future[None] | None = None
        self._untouched = False  # whether the last task was woken past its future, so that the future is still pending
        self._task: object = None  # the task that waits, in the plain way

    def arm(self) -> "Future[None]":
        """The future to await."""
        future = self._future
        if not WAKES_DIRECTLY:
            self._task = current_task(self._loop)
        if self._untouched and future is not None:
            self._untouched = False
            return future
        if future is None or future.done():
            future = self._future = self._loop.create_future()
        return future

    def is_cancelled(self) -> bool:
        """Whether the task that waited here is being cancelled and has not run since."""
        return self._future is not None and self._future.cancelled()

    def wake(self, soon: bool) -> bool:
        """Let the task run: now if possible, or in the next loop iteration.

        :param soon: True for the next loop iteration in any case.
        :returns: whether the task is still to run.
        """
        future = self._future
        if future is None:
            return False
        if not WAKES_DIRECTLY:
            self._task = None
            if not future.done():
                future.set_result(None)
            return True
        callbacks = callbacks_of(future)
        if not callbacks:
            return False  # the task is running or about to run, and will see the data itself
        # A task that is stepped from inside another task would be stuck for ever; then the loop wakes it.
        if not soon and len(callbacks) == 1 and current_task(self._loop) is None:
            callback, context = callbacks[0]
            future.remove_done_callback(callback)
            self._untouched = True
            if run_in(context, callback, self._finished):
                return False
            # The caller runs in the context of the task.
            self._untouched = False
            future.add_done_callback(callback, context=context)
        future.set_result(None)
        return True

    def wake_later(self) -> None:
        """Let the task that is about to wait run after everything else in this loop iteration."""
        self._loop.call_soon(self.wake, True)

    def waiting_task(self) -> object:
        """The task that waits here, or None."""
        if self._future is None or self._future.done():
            return None
        if not WAKES_DIRECTLY:
            return self._task
        callbacks = callbacks_of(self._future)
        return task_of(callbacks[0][0]) if callbacks else None
