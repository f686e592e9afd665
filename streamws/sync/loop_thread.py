"""The thread whose event loop serves all blocking connections of this process.

It starts with the first connection, and ends with the program: then it closes the connections that are open. A child
process made by `fork` has no such thread; it starts its own with its first connection.
"""

import asyncio
import atexit
import os
import signal
import sys
from _thread import LockType, interrupt_main
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock, Thread, get_ident, main_thread
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from ..errors import UsageError
from ..net.loops import fast_loops

_GRACE = 1.0
"""The most seconds that the end of the program waits for the closing handshakes of connections left open."""

LONGEST_WAIT: float = 0.1 if sys.platform == "win32" else TIMEOUT_MAX
"""The most seconds for which to wait for a lock at a time. On Windows, Ctrl-C does not interrupt such a wait."""

_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT")

_T = TypeVar("_T")


class Served(Protocol):
    """A connection of the thread."""

    async def end_with_program(self, seconds: float) -> None:
        """Close the connection within some seconds, because the program ends."""


if sys.platform == "win32":
    _BaseLoop = asyncio.ProactorEventLoop
else:
    _BaseLoop = asyncio.SelectorEventLoop


class _Loop(_BaseLoop):
    """asyncio's loop. A child process made by `fork` leaves that of its parent alone."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def __del__(self) -> None:
        # In a child process, the loop seems to be running. Closing it there would change the epoll of the parent.
        if self._process == os.getpid():
            super().__del__()


def _make_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop if it is installed: it needs a third less time to wake another thread and be woken."""
    if fast_loops is None or sys.platform == "win32":
        return _Loop()
    loop: asyncio.AbstractEventLoop = fast_loops.new_event_loop()
    return loop


def wait(lock: LockType, deadline: float | None) -> bool:
    """Wait until another thread releases a lock. An exception of a signal handler interrupts it.

    :param deadline: the latest time, by `monotonic`; None for no limit.
    :returns: whether it was released.
    """
    while not lock.acquire(
        True, LONGEST_WAIT if deadline is None else max(0.0, min(LONGEST_WAIT, deadline - monotonic()))
    ):
        if deadline is not None and monotonic() >= deadline:
            return False
    return True


class _Call(Generic[_T]):
    """A coroutine that runs in the loop for another thread.

    The futures of asyncio and concurrent.futures are not used, because an exception of a signal handler may leave their
    locks locked. Only the loop releases `done`.
    """

    __slots__ = ("_make", "_task", "abandoned", "done", "error", "result")

    def __init__(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self.abandoned = False  # whether the thread does not wait any more
        self.done = Lock()
        self.done.acquire()
        self.result: list[_T] = []
        self.error: BaseException | None = None

    def start(self) -> None:
        if not self.abandoned:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self.result.append(await self._make())
        except BaseException as error:
            self.error = error
        finally:
            self.done.release()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class LoopThread:
    """A thread that runs an event loop until the program ends."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = _make_loop()
        self.served: set[Served] = set()
        """The connections that have not ended. Only this thread changes it."""
        self.inherited: bool = False
        """Whether it belongs to the parent process: this is a child made by `fork`."""
        self._number: int | None = None
        # A daemon, because the interpreter would wait for another thread before it calls `stop`.
        self._thread = Thread(target=self._run, name="streamws.sync", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def discard(self) -> None:
        """End the thread, which has no connections."""
        if self._thread.ident is None:
            self.loop.close()
        else:
            self.loop.call_soon_threadsafe(self.loop.stop)

    def check_caller(self, call: str) -> None:
        """Raise `UsageError` if the caller runs in this thread, which would wait for itself.

        :param call: the call that would wait.
        """
        if get_ident() == self._number:
            raise UsageError(
                f"cannot call {call} in the thread of the event loop that serves it, for example in a method of an "
                "observer: it would wait for itself; call it in another thread"
            )

    def run(self, make: Callable[[], Coroutine[Any, Any, _T]], call: str, timeout: float | None = None) -> _T:
        """Run a coroutine in this thread; return its result.

        :param make: makes the coroutine, in this thread.
        :param call: the call that waits, for an error.
        :param timeout: the seconds after which the coroutine is cancelled.
        :raises TimeoutError: without a message, if it took longer. An exception of the coroutine is raised too.

        If an exception such as `KeyboardInterrupt` interrupts the wait, the coroutine is cancelled.
        """
        self.check_caller(call)
        made = _Call(make)
        deadline = None if timeout is None else monotonic() + timeout
        try:
            try:
                self.loop.call_soon_threadsafe(made.start)
            except RuntimeError:  # the loop is closed
                raise _ended(call) from None
            if not wait(made.done, deadline):
                raise TimeoutError
        except BaseException:
            made.abandoned = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(made.cancel)
            raise
        if made.error is None:
            return made.result[0]
        error, made.error = made.error, None
        try:
            raise error
        finally:
            del error, made  # the traceback of the error refers to this frame: both would live until a collection

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # The main thread processes signals. They interrupt its waits only if it receives them itself.
            faults = {getattr(signal, name) for name in _FAULTS}
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        self._number = get_ident()
        loop = self.loop
        while True:
            try:
                loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit):
                _interrupt_main()  # raised by an observer, to end the program; that will call `stop`
        loop.close()

    def stop(self) -> None:
        """Close all connections with 1001, and end the thread. It takes little more than a second at most."""
        with suppress(RuntimeError):  # the loop is closed
            asyncio.run_coroutine_threadsafe(self._stop(), self.loop)
        if self._thread.ident != get_ident():
            self._thread.join(2 * _GRACE)

    async def _stop(self) -> None:
        loop = self.loop
        try:
            # No connection takes longer than `_GRACE`.
            await asyncio.gather(*(served.end_with_program(_GRACE) for served in self.served), return_exceptions=True)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=_GRACE / 2)
        finally:
            loop.stop()


def _interrupt_main() -> None:
    """Raise KeyboardInterrupt in the main thread, also while it sleeps."""
    main = main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)
    else:
        interrupt_main()  # on Windows, this wakes it


def _ended(call: str) -> UsageError:
    return UsageError(f"cannot call {call}: the program is ending, and has closed its blocking connections")


class _Process:
    """The loop thread of this process."""

    def __init__(self) -> None:
        self.thread: LoopThread | None = None
        self.ending = False  # whether the interpreter is shutting down
        self.inherited: list[LoopThread] = []  # of the parent processes; kept, because they must not be cleaned up


_process = _Process()


def loop_thread(call: str) -> LoopThread:
    """Return the loop thread of this process; start it at first use.

    :param call: the call that needs it, for an error.
    :raises UsageError: if the interpreter is shutting down.
    """
    thread = _process.thread
    if thread is not None:
        return thread
    if _process.ending:
        raise _ended(call)
    made = LoopThread()
    try:
        made.start()
        _stop_with_child()
        # Another thread, or a signal handler, may have made one too. No function is called here, so this is atomic.
        if _process.thread is None and not _process.ending:
            _process.thread = made
    finally:
        if _process.thread is not made:
            made.discard()
    return loop_thread(call)


def _stop_with_child() -> None:
    """Call `_stop` at the end of a child process of multiprocessing, which may not call the functions of atexit."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _stop, exitpriority=-100)  # after those of the application


def _stop() -> None:
    """Stop the loop thread: the interpreter is shutting down."""
    _process.ending = True
    thread, _process.thread = _process.thread, None
    if thread is not None:
        thread.stop()


def _leave_to_parent() -> None:
    """Forget the loop thread of the parent process: this is a child, in which only the thread that forked runs."""
    thread, _process.thread = _process.thread, None
    if thread is not None:
        thread.inherited = True
        _process.inherited.append(thread)


# Functions that the application registers later are called earlier, and can still use their connections.
atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
