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
    removals: list[Callable[[], object]] = []

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


def _on_signal(loop: AbstractEventLoop, number: int, signalled: Signalled) -> Callable[[], object]:
    previous = signal.getsignal(number)
    try:
        loop.add_signal_handler(number, signalled, number)
    except NotImplementedError:  # asyncio on Windows
        signal.signal(number, lambda number, _: loop.call_soon_threadsafe(signalled, number))

    def remove() -> None:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(number)  # this restores Python's default, not the handler of `asyncio.run`
        if previous is not None:
            signal.signal(number, previous)

    return remove
