"""Wakes the task that waits for data at once, not in the next loop iteration.

A task that awaits a future adds a callback to it, which wakes the task. `set_result` makes the loop call that callback
in the next iteration. A `Waiter` removes the callback from the future and calls it itself if no task is running: in the
task's context, and with another future that is done. The awaited future stays pending and is used for the next wait.

Since Python 3.14, asyncio records for each future which tasks await it, and a wake-up removes its task from the record
of the future that it is called with. For the awaited future the `Waiter` does that itself: otherwise
`asyncio.capture_call_graph` would be wrong, and the future would keep the task alive.
"""

from asyncio import AbstractEventLoop, Future
from weakref import ref

from .internals import WAKES_DIRECTLY, callbacks_of, current_task, task_of
from .operation import count_callbacks, wake_by


class Waiter:
    """Lets one task at a time wait, and wakes it."""

    __slots__ = ("_finished", "_future", "_loop", "_task", "_untouched")

    def __init__(self, loop: AbstractEventLoop, finished: "Future[None]") -> None:
        """Create a waiter for the tasks of one loop.

        :param finished: any future of the loop that is done. The callback that wakes a task gets it as its argument.
        """
        self._loop = loop
        self._finished = finished
        self._future: Future[None] | None = None
        self._untouched = False  # whether the last task was woken directly, so that `_future` is still pending
        self._task: ref[object] | None = None  # the task that waits, in the plain way

    def arm(self) -> "Future[None]":
        """Return the future that the task must await next."""
        future = self._future
        if not WAKES_DIRECTLY:
            task = current_task(self._loop)
            self._task = None if task is None else ref(task)
        if self._untouched and future is not None:
            self._untouched = False
            return future
        if future is None or future.done():
            future = self._future = self._loop.create_future()
        return future

    def is_cancelled(self) -> bool:
        """Return whether the task that waited here was cancelled and has not run since."""
        return self._future is not None and self._future.cancelled()

    def wake(self, soon: bool) -> bool:
        """Wake the task that waits, if there is one: now if possible, else in the next loop iteration.

        :param soon: whether to wake it in the next loop iteration in any case.
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
        count = count_callbacks(future)
        if not count:
            return False  # the task is running or about to run, and will see the data itself
        # asyncio cannot run a task from inside another one; in that case the loop wakes it.
        if not soon and count == 1 and current_task(self._loop) is None:
            self._untouched = True
            if wake_by(future, self._finished):
                return False
            # The caller itself runs in the task's context, which cannot be entered twice.
            self._untouched = False
        future.set_result(None)
        return True

    def wake_later(self) -> None:
        """Wake the task that is about to wait in the next loop iteration, so that the others run first."""
        self._loop.call_soon(self.wake, True)

    def waiting_task(self) -> object:
        """Return the task that waits here, or None."""
        if self._future is None or self._future.done():
            return None
        if not WAKES_DIRECTLY:
            return None if self._task is None else self._task()
        callbacks = callbacks_of(self._future)
        return task_of(callbacks[0][0]) if callbacks else None
