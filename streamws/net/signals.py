"""The signals that ask a program to end."""

import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def on_signals(loop: AbstractEventLoop, signalled: Callable[[int], None]) -> Callable[[], None]:
    """Have SIGINT and SIGTERM call `signalled` on the loop; returns what undoes it."""
    try:
        for number in _NUMBERS:
            loop.add_signal_handler(number, signalled, number)
    except NotImplementedError:  # Windows
        before = {
            number: signal.signal(number, lambda number, _: loop.call_soon_threadsafe(signalled, number))
            for number in _NUMBERS
        }

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore

    def remove() -> None:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)

    return remove
