"""`Publisher`: publishes messages, with a deadline or in the background."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import BrokerError, BrokerUnavailable, PublishTimeout, describe
from ..options import ITEM_OVERHEAD, TopicLimits
from .broker import Broker, ImmediateBroker, Outgoing
from .counting import Counts
from .retrying import Waits, broker_error
from .values import Published

logger: logging.Logger = logging.getLogger("streamws.topics")

OnError = Callable[[str, BrokerError], None]

_BATCH = 512
"""The most publications in one call to the broker."""


class _Waiting(NamedTuple):
    message: Outgoing
    size: int
    deadline: float


class Publisher:
    """Makes the publications of one `Topics`.

    :param on_error: called with the topic and the error for each publication of `publish_soon` that has failed.
    """

    __slots__ = (
        "_broker",
        "_closed",
        "_counts",
        "_limits",
        "_on_error",
        "_queue",
        "_size",
        "_task",
        "failed",
        "publish_now",
    )

    def __init__(self, broker: Broker, limits: TopicLimits, on_error: OnError | None, counts: Counts) -> None:
        self._broker = broker
        self.publish_now: Callable[[Outgoing], Published] | None = (
            broker.publish_now if isinstance(broker, ImmediateBroker) else None
        )
        """Publishes one message without waiting; None if the broker cannot do that."""
        self._limits = limits
        self._counts = counts
        self._on_error = on_error
        self._queue: deque[_Waiting] = deque()  # of `publish_soon`; those under way are its first ones
        self._size = 0  # the bytes in the queue
        self._task: asyncio.Task[None] | None = None  # publishes what is in the queue
        self._closed = False
        self.failed: int = 0
        """The number of publications of `publish_soon` that have failed after it had returned True."""

    @property
    def waiting(self) -> int:
        """The bytes of the publications of `publish_soon` that wait, with `ITEM_OVERHEAD` for each."""
        return self._size

    async def publish(self, message: Outgoing, timeout: float | None) -> Published:  # noqa: ASYNC109
        """Publish one message.

        :param timeout: the deadline in seconds; None for `TopicLimits.publish_timeout`.
        :raises PublishTimeout: if the broker does not answer in time.
        :raises BrokerError: if the broker fails otherwise.
        """
        seconds = self._limits.publish_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                (result,) = await self._broker.publish((message,))
        except BrokerError as error:
            self._counts.fail(error)
            raise
        except TimeoutError as error:
            self._counts.timed_out += 1
            raise PublishTimeout(
                f"the broker did not answer within {seconds:g} s: topic {message.topic!r} may have got the publication"
            ) from error
        except Exception as error:
            self._counts.failed += 1
            raise broker_error(error, f"publish in topic {message.topic!r}") from error
        if isinstance(result, BrokerError):
            self._counts.fail(result)
            raise result
        self._counts.published += 1
        return result

    def publish_soon(self, message: Outgoing) -> bool:
        """Publish one message later; return False if too much waits already."""
        size = len(message.payload) + ITEM_OVERHEAD
        if self._closed or self._size + size > self._limits.max_publish_soon:
            self._counts.refused += 1
            return False
        loop = asyncio.get_running_loop()
        self._queue.append(_Waiting(message, size, loop.time() + self._limits.publish_timeout))
        self._size += size
        if self._task is None:
            # Never an eager task, which would begin at once.
            self._task = asyncio.Task(self._publish_queued(), loop=loop)
        return True

    async def _publish_queued(self) -> None:
        """Publish what is in the queue, in order, one batch at a time."""
        waits = Waits()
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch = [self._queue[place] for place in range(min(len(self._queue), _BATCH))]
                try:
                    async with asyncio.timeout_at(max(batch[-1].deadline, loop.time())):
                        results = await self._broker.publish([waiting.message for waiting in batch])
                    if len(results) != len(batch):
                        raise BrokerError(f"the broker returned {len(results)} results for {len(batch)} publications")
                except BrokerUnavailable as error:
                    # Nothing was published. The first ones have failed if their time is over.
                    late = [waiting for waiting in batch if waiting.deadline <= loop.time()]
                    self._remove([error] * len(late))
                    if self._queue:
                        await waits.pause()
                    continue
                except Exception as error:
                    if isinstance(error, TimeoutError) and not isinstance(error, BrokerError):
                        failure: BrokerError = PublishTimeout("the broker did not answer in time")
                    else:
                        failure = broker_error(error, "publish")
                    self._remove([failure] * len(batch))
                    continue
                waits = Waits()
                self._remove(results)
                await asyncio.sleep(0)  # a broker that never waits must not keep the other tasks waiting
        finally:
            self._task = None

    def _remove(self, results: Sequence[Published | BrokerError]) -> None:
        """Remove the first publications of the queue, and report those that have failed."""
        for result in results:
            waiting = self._queue.popleft()
            self._size -= waiting.size
            if isinstance(result, BrokerError):
                self._report(waiting.message.topic, result)
            else:
                self._counts.published += 1

    def _report(self, topic: str, error: BrokerError) -> None:
        self.failed += 1
        self._counts.fail(error)
        if self._on_error is None:
            logger.warning("publish_soon in topic %r has failed: %s", topic, describe(error))
            return
        try:
            self._on_error(topic, error)
        except Exception:
            logger.exception("on_error of the topics raised")

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109
        """Wait for the publications of `publish_soon`, up to `timeout` seconds; the others have failed."""
        self._closed = True
        task = self._task
        if task is None:
            return
        try:
            await asyncio.wait([task], timeout=timeout)
        finally:
            task.cancel()
            await asyncio.wait([task])
            error = BrokerError(f"not published within {timeout:g} s after the end of the topics")
            self._remove([error] * len(self._queue))
