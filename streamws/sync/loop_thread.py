"""The thread whose event loop serves all blocking connections of this process.

It starts with the first connection, and ends with the program: then it closes the connections that are open. A child
process made by `fork` has no such thread; it starts its own with its first connection.
"""

import asyncio
import atexit
import os
import signal
import sys
from _thread import interrupt_main
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock, Thread, get_ident
from time import monotonic
from typing import Any, Protocol, TypeVar

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

    def leave_to_parent(self) -> None:
        """Belong to the parent process: this is a child made by `fork`."""


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


class LoopThread:
    """A thread that runs an event loop until the program ends."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = _make_loop()
        self.served: set[Served] = set()
        """The connections that have not ended. Only this thread changes it."""
        # A daemon, because the interpreter would wait for another thread before it calls `stop`.
        self._thread = Thread(target=self._run, name="streamws.sync", daemon=True)
        self._thread.start()
        self._number = self._thread.ident

    def check_caller(self, call: str) -> None:
        """Raise `UsageError` if the caller runs in this thread, which would wait for itself.

        :param call: the call that may wait.
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

        async def made() -> _T:
            return await make()

        coroutine = made()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            raise _ended(call) from None
        deadline = monotonic() + (TIMEOUT_MAX if timeout is None else timeout)
        try:
            while not wait((future,), max(0.0, min(LONGEST_WAIT, deadline - monotonic()))).done:
                if monotonic() >= deadline:
                    raise TimeoutError
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # The main thread processes signals. They interrupt its waits only if it receives them itself.
            faults = {getattr(signal, name) for name in _FAULTS}
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        loop = self.loop
        while True:
            try:
                loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit):
                interrupt_main()  # raised by an observer, to end the program; that will call `stop`
        loop.close()

    def stop(self) -> None:
        """Close all connections with 1001, and end the thread. It takes little more than a second at most."""
        with suppress(RuntimeError):  # the loop is closed
            asyncio.run_coroutine_threadsafe(self._stop(), self.loop)
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


def _ended(call: str) -> UsageError:
    return UsageError(f"cannot call {call}: the program is ending, and has closed its blocking connections")


class _Process:
    """The loop thread of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.thread: LoopThread | None = None
        self.ending = False  # whether the interpreter is shutting down
        self.inherited: list[LoopThread] = []  # of the parent processes; kept, because they must not be cleaned up


_process = _Process()


def loop_thread(call: str) -> LoopThread:
    """Return the loop thread of this process; start it at first use.

    :param call: the call that needs it, for an error.
    :raises UsageError: if the interpreter is shutting down.
    """
    with _process.lock:
        if _process.ending:
            raise _ended(call)
        if _process.thread is None:
            _process.thread = LoopThread()
        return _process.thread


def _stop() -> None:
    """Stop the loop thread: the interpreter is shutting down."""
    with _process.lock:
        _process.ending = True
        thread, _process.thread = _process.thread, None
    if thread is not None:
        thread.stop()


def _leave_to_parent() -> None:
    """Forget the loop thread of the parent process: this is a child, in which only the thread that forked runs."""
    _process.lock = Lock()  # another thread may have held it
    thread, _process.thread = _process.thread, None
    if thread is not None:
        _process.inherited.append(thread)
        for served in thread.served:
            served.leave_to_parent()


# Functions that the application registers later are called earlier, and can still use their connections.
atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
