"""Handlers for the signals that ask a program to end."""

import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def on_signals(loop: AbstractEventLoop, signalled: Callable[[int], None]) -> Callable[[], None]:
    """Call `signalled` in the loop when the process receives SIGINT or SIGTERM.

    :param signalled: called with the number of the signal.
    :returns: a function that removes the handlers.
    """
    try:
        for number in _NUMBERS:
            loop.add_signal_handler(number, signalled, number)
    except NotImplementedError:  # asyncio on Windows
        previous = {
            number: signal.signal(number, lambda number, _: loop.call_soon_threadsafe(signalled, number))
            for number in _NUMBERS
        }

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore

    def remove() -> None:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)

    return remove
