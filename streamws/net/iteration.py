"""The current iteration of an event loop: writes gathered until its end, and readers and senders that take too long.

A task that finds its next message in the queue, or whose message the socket accepts, does not suspend when it awaits
that. In a tight loop it would keep the event loop from everything else. So such reads and sends are counted. When they
have gone on for `LONGEST` seconds in one iteration, the next one suspends its task until the others have run.
"""

from asyncio import AbstractEventLoop, _get_running_loop, get_running_loop
from collections.abc import Callable
from time import monotonic

from ..errors import UsageError
from .sockets import thread_number

LONGEST = 0.002
"""The seconds after which a reader or sender that never had to wait suspends."""

LOOK_EVERY = 16
"""The number of reads and sends after which the time is looked at first."""

_LOOK_MOST = 64
"""The most reads and sends between two looks at the time."""


class Flushable:
    """An outbox with frames to send at the end of the loop iteration."""

    __slots__ = ()

    def end_iteration(self) -> None:
        """Write the gathered frames."""
        raise NotImplementedError


def call_reporting(function: Callable[[], None], loop: AbstractEventLoop) -> None:
    """Call a function of one connection. An exception is reported to the loop, so that the others are still served."""
    try:
        function()
    except Exception as error:
        report(function, error, loop)


def report(origin: object, error: Exception, loop: AbstractEventLoop) -> None:
    """Report an exception that no caller can catch to the exception handler of the loop.

    :param origin: the function or object that raised it.
    """
    loop.call_exception_handler({"message": f"{origin!r} raised", "exception": error})


class Iteration:
    """The current iteration of an event loop. Frames gathered during it are written when it ends."""

    __slots__ = ("_began", "_in_batch", "_left", "_looked", "_scheduled", "_stride", "_waiting", "number", "thread")

    def __init__(self) -> None:
        self._waiting: list[Flushable] = []
        self._scheduled = False  # whether `_end` will be called
        self._in_batch = False  # whether a chunk is being processed
        self._stride = LOOK_EVERY  # the number of reads and sends between two looks at the time
        self._left = LOOK_EVERY  # the number of reads and sends before the next look
        self._began = 0.0  # when the time was first looked at in this iteration or batch; 0 if it was not
        self._looked = 0.0  # when it was looked at last
        self.thread: int = thread_number()
        """The thread in which the loop ran when that was last checked."""
        self.number: int = 1
        """The number of the current loop iteration, counting only those in which a frame was sent."""

    # The thread of the loop ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Remember that the loop runs in this thread. A loop may later run in another thread."""
        self.thread = thread_number()

    def is_foreign(self, loop: AbstractEventLoop) -> bool:
        """Return whether the current thread is not that of the loop."""
        return thread_number() != self.thread and self._is_elsewhere(loop)

    def _is_elsewhere(self, loop: AbstractEventLoop) -> bool:
        if _get_running_loop() is not loop:
            return True
        self.enter()
        return False

    def check_thread(self, loop: AbstractEventLoop, call: str) -> None:
        """Check that `call` is made in the thread of the loop.

        :raises UsageError: if it is made in another thread.
        """
        if self.is_foreign(loop):
            raise UsageError(
                f"cannot use {call} in this thread: a connection belongs to the thread of its event loop; write a "
                "coroutine that uses it, and run it with asyncio.run_coroutine_threadsafe(coroutine, loop)"
            )

    def check_await(self, loop: AbstractEventLoop, call: str) -> None:
        """Check that the result of `call` is awaited in the thread of the loop.

        :raises UsageError: if it is awaited in another thread.
        """
        if self.is_foreign(loop):
            raise UsageError(
                f"cannot await {call} in this thread: a connection belongs to the thread of its event loop; write "
                f"asyncio.run_coroutine_threadsafe({call}, loop)"
            )

    # Gathered writes -------------------------------------------------------------------------------------------

    def begin(self, loop: AbstractEventLoop) -> None:
        """Make the added outboxes write their frames when this loop iteration ends."""
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._end)

    def add(self, outbox: Flushable) -> None:
        """Make `outbox` write its frames when this loop iteration ends. Call `begin` before, in the same iteration."""
        self._waiting.append(outbox)

    def _end(self) -> None:
        self._scheduled = False
        self.number += 1
        self._restart()
        waiting = self._waiting
        self._waiting = []
        for outbox in waiting:
            try:
                outbox.end_iteration()
            except Exception as error:
                report(outbox, error, get_running_loop())

    # Fairness --------------------------------------------------------------------------------------------------

    def begin_batch(self) -> None:
        """Note that a chunk is processed: the time of the tasks that it wakes counts from now."""
        self._in_batch = True
        self._restart()

    def end_batch(self) -> None:
        """Note that the chunk is processed."""
        self._in_batch = False
        self._restart()

    def spend(self, loop: AbstractEventLoop) -> bool:
        """Count a read or send that does not have to wait; return whether to suspend its task all the same."""
        self._left -= 1
        return self._left <= 0 and self._is_over(loop)

    def _is_over(self, loop: AbstractEventLoop) -> bool:
        """Look at the time; return whether reads and sends have gone on for too long."""
        now = monotonic()
        if self._began == 0.0:
            self._began = self._looked = now
            if not self._in_batch:
                self.begin(loop)  # count anew in the next iteration
        else:
            # Look about four times in `LONGEST` seconds, however long the application takes between two calls.
            wanted = self._stride * (LONGEST / 4) / max(now - self._looked, 1e-9)
            self._stride = int(max(1.0, min(wanted, 2.0 * self._stride, _LOOK_MOST)))
            self._looked = now
            if now - self._began >= LONGEST:
                self._restart()
                return True
        self._left = self._stride
        return False

    def _restart(self) -> None:
        self._left = self._stride
        self._began = 0.0
