"""Handlers for the signals that ask a program to end."""

import signal
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from contextlib import suppress

STOPS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a program to stop."""


Signalled = Callable[[int], object]
"""Called with the number of a signal."""


def can_handle_signals() -> bool:
    """Return whether this thread can handle signals: in Python only the main thread can."""
    return threading.current_thread() is threading.main_thread()


def on_signals(loop: AbstractEventLoop, numbers: Iterable[int], signalled: Signalled) -> Callable[[], None]:
    """Call `signalled` in the loop when the process receives one of these signals.

    :returns: a function that removes the handlers.
    :raises ValueError, OSError, RuntimeError: if a signal cannot be handled. Then no handler is installed.
    """
    removals: list[Callable[[], None]] = []

    def remove() -> None:
        for removal in removals:
            removal()

    try:
        for number in numbers:
            removals.append(_on_signal(loop, number, signalled))
    except BaseException:
        remove()
        raise
    return remove


_handled: dict[tuple[AbstractEventLoop, int], tuple[list[Signalled], Callable[[], None]]] = {}
"""For each signal that is handled: what is called, and the function that removes the handler."""


def _on_signal(loop: AbstractEventLoop, number: int, signalled: Signalled) -> Callable[[], None]:
    """Add one of the functions that are called at a signal: several servers may run in one program."""
    key = (loop, number)
    if key not in _handled:
        called: list[Signalled] = []
        _handled[key] = called, _set_handler(loop, number, lambda: _call_all(called, number))
    added, restore = _handled[key]
    added.append(signalled)

    def remove() -> None:
        added.remove(signalled)
        if not added:
            del _handled[key]
            restore()

    return remove


def _call_all(called: list[Signalled], number: int) -> None:
    for signalled in dict.fromkeys(called):  # once, also if several tasks wait for the same server
        signalled(number)


def _set_handler(loop: AbstractEventLoop, number: int, handle: Callable[[], None]) -> Callable[[], None]:
    """Set the only handler that a signal has in a loop; return a function that restores the handler before it."""
    previous = signal.getsignal(number)
    try:
        loop.add_signal_handler(number, handle)
    except NotImplementedError:  # asyncio on Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle))

    def restore() -> None:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(number)  # this restores Python's default, not the handler of `asyncio.run`
        if previous is not None:
            signal.signal(number, previous)

    return restore
