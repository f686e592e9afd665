"""Errors of brokers, and the waits before the next attempt."""

import asyncio
import random

from ..errors import BrokerError, describe

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
"""Bounds of the seconds between two attempts to use a broker that is not available. Chance can double them."""


class Waits:
    """Waits between the attempts to use a broker that is not available."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = _FIRST_WAIT

    def next(self) -> float:
        """Return the seconds to wait before the next attempt: longer each time, and up to twice as long by chance."""
        seconds = self._seconds * random.uniform(1, 2)
        self._seconds = min(2 * self._seconds, _LONGEST_WAIT)
        return seconds

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.next())


def broker_error(error: Exception, action: str) -> BrokerError:
    """Return the error to raise for an exception of a broker.

    :param action: what the broker was asked to do, after "cannot".
    """
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, TimeoutError):
        return BrokerError(f"cannot {action}: the broker did not answer in time")
    return BrokerError(f"cannot {action}: {describe(error)}")
