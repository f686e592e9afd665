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

_QUIET = 10.0
"""The least seconds between two failures of `publish_soon` that are logged."""


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
        "_pause",
        "_put_off",
        "_queue",
        "_quiet_until",
        "_size",
        "_task",
        "_unavailable",
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
        self._put_off: deque[_Waiting] = deque()  # publications of topics that are not available
        self._unavailable: set[str] = set()  # the topics of these publications
        self._size = 0  # the bytes of the queue and of what was put off
        self._task: asyncio.Task[None] | None = None  # publishes what is in the queue
        self._pause: asyncio.Future[None] | None = None  # of the task, while everything is put off
        self._closed = False
        self._quiet_until = 0.0  # when the next failure is logged
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
        elif self._pause is not None and not self._pause.done() and message.topic not in self._unavailable:
            self._pause.set_result(None)
        return True

    async def _publish_queued(self) -> None:
        """Publish what is in the queue, one batch at a time. The publications of each topic keep their order.

        Those of a topic that is not available are put off. The other topics do not wait for it.
        """
        waits = Waits()
        again = 0.0  # when those that were put off are tried again
        loop = asyncio.get_running_loop()
        try:
            while self._queue or self._put_off:
                if again <= loop.time():
                    self._put_back()
                batch = self._next_batch()
                if not batch:
                    self._pause = loop.create_future()
                    await asyncio.wait([self._pause], timeout=again - loop.time())
                    self._pause = None
                    continue
                try:
                    # Its own deadline, however long it has waited: what is sent may be published.
                    async with asyncio.timeout(self._limits.publish_timeout):
                        results = await self._broker.publish([waiting.message for waiting in batch])
                    if len(results) != len(batch):
                        raise BrokerError(f"the broker returned {len(results)} results for {len(batch)} publications")
                except Exception as error:
                    if isinstance(error, TimeoutError) and not isinstance(error, BrokerError):
                        failure: BrokerError = PublishTimeout("the broker did not answer in time")
                    else:
                        failure = broker_error(error, "publish")
                    results = [failure] * len(batch)
                self._process(results)
                if not self._put_off:
                    waits = Waits()
                elif again <= loop.time():
                    again = loop.time() + waits.next()
                await asyncio.sleep(0)  # a broker that never waits must not keep the other tasks waiting
        finally:
            self._task = None

    def _put_back(self) -> None:
        """Let those that were put off be the first ones of the queue again."""
        self._queue.extendleft(reversed(self._put_off))
        self._put_off.clear()
        self._unavailable.clear()

    def _next_batch(self) -> list[_Waiting]:
        """Put off those whose topic is not available; return the first ones of the others, which stay in the queue."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < _BATCH:
            waiting = self._queue.popleft()
            if waiting.message.topic in self._unavailable:
                self._put_off.append(waiting)
            else:
                batch.append(waiting)
        self._queue.extendleft(reversed(batch))
        return batch

    def _process(self, results: Sequence[Published | BrokerError]) -> None:
        """Process the results of the first publications of the queue.

        Those that were not made because the broker was not available are put off. They have failed if their time is
        over, or if a later one of the same topic may have been made: the order would change.
        """
        batch = [self._queue.popleft() for _ in results]
        now = asyncio.get_running_loop().time()
        made: set[str] = set()
        failures: deque[tuple[_Waiting, BrokerError]] = deque()
        put_off: deque[_Waiting] = deque()
        for waiting, result in zip(reversed(batch), reversed(results), strict=True):
            topic = waiting.message.topic
            if isinstance(result, BrokerUnavailable) and topic not in made and waiting.deadline > now:
                put_off.appendleft(waiting)
                self._unavailable.add(topic)
                continue
            if isinstance(result, BrokerError):
                failures.appendleft((waiting, result))
            if not isinstance(result, BrokerUnavailable):
                made.add(topic)
            self._size -= waiting.size
            if isinstance(result, Published):
                self._counts.published += 1
        self._put_off += put_off
        for waiting, error in failures:
            self._report(waiting.message.topic, error)

    def _report(self, topic: str, error: BrokerError) -> None:
        self.failed += 1
        self._counts.fail(error)
        if self._on_error is None:
            now = asyncio.get_running_loop().time()
            if now >= self._quiet_until:
                self._quiet_until = now + _QUIET
                logger.warning(
                    "publish_soon in topic %r has failed: %s; failures so far: %d", topic, describe(error), self.failed
                )
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
            self._put_back()
            self._process([error] * len(self._queue))
