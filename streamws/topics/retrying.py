"""Errors of brokers, and the waits before the next attempt."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from ..errors import BrokerError, BrokerUnavailable, describe

logger: logging.Logger = logging.getLogger("streamws.topics")

_Answer = TypeVar("_Answer")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
"""Bounds of the seconds between two attempts to use a broker that is not available. Chance can double them."""


class Waits:
    """Waits between the attempts to use a broker that is not available.

    :param longest: the seconds up to which they grow.
    """

    __slots__ = ("_longest", "_seconds")

    def __init__(self, longest: float = _LONGEST_WAIT) -> None:
        self._longest = longest
        self._seconds = _FIRST_WAIT

    def next(self) -> float:
        """Return the seconds to wait before the next attempt: longer each time, and up to twice as long by chance."""
        seconds = self._seconds * random.uniform(1, 2)
        self._seconds = min(2 * self._seconds, self._longest)
        return seconds

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.next())


def wake(waiters: Iterable[asyncio.Future[None]], error: BrokerError | None) -> None:
    """Let those who wait for the broker go on.

    :param error: what it raises for them; None if the broker has not failed.
    """
    for future in waiters:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def log_retry(topic: str, error: BrokerError) -> None:
    """Log that a call for a topic has failed, and is repeated.

    That a broker cannot be reached concerns all topics and members. The broker logs it, once.
    """
    level = logging.DEBUG if isinstance(error, BrokerUnavailable) else logging.WARNING
    logger.log(level, "topic %r: %s; trying again", topic, describe(error))


async def ask(call: Callable[[], Awaitable[_Answer]], timeout: float | None, action: str) -> _Answer:  # noqa: ASYNC109
    """Return the answer of a broker.

    :param call: calls the broker.
    :param timeout: the seconds after which it has failed; None for no deadline.
    :param action: what the broker is asked to do, after "cannot".
    :raises BrokerError: if it fails.
    """
    try:
        if timeout is None:
            return await call()
        async with asyncio.timeout(timeout):
            return await call()
    except BrokerError:
        raise  # with the cause that the broker has given it
    except Exception as error:
        raise broker_error(error, action) from error


def broker_error(error: Exception, action: str) -> BrokerError:
    """Return the error to raise for an exception of a broker.

    :param action: what the broker was asked to do, after "cannot".
    """
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, TimeoutError):
        return BrokerError(f"cannot {action}: the broker did not answer in time")
    return BrokerError(f"cannot {action}: {describe(error)}")
