"""What the topics of one `Topics` share: the broker, the connections and the tasks."""

import asyncio
import logging
from asyncio import _get_running_loop
from collections.abc import Coroutine, Sequence
from secrets import token_hex

from ..channel import Recipient
from ..errors import ConnectionClosed, LimitExceeded, UsageError
from ..options import TopicLimits
from .attendance import Attendance
from .audience import AnyTopic, Audience
from .broker import Broker, ImmediateBroker
from .counting import Counts
from .outlet import Outlet
from .publishing import OnError, Publisher
from .stats import BrokerStats, TopicsStats
from .values import PresenceEvent, Record

logger: logging.Logger = logging.getLogger("streamws.topics")


class Core:
    """The state of one `Topics`. To the broker, it is the `Receiver`."""

    __slots__ = (
        "_ids",
        "_loop",
        "_node",
        "_tasks",
        "audiences",
        "broker",
        "counts",
        "is_open",
        "limits",
        "outlets",
        "publisher",
        "timeout",
    )

    def __init__(self, broker: Broker, limits: TopicLimits, on_error: OnError | None) -> None:
        self.broker: Broker = broker
        self.limits: TopicLimits = limits
        self.timeout: float | None = None if isinstance(broker, ImmediateBroker) else limits.broker_timeout
        """The seconds after which a call to the broker has failed; None if it never waits."""
        self.audiences: dict[str, Audience] = {}
        """The topics that have followers in this process, by their names."""
        self.outlets: dict[Recipient, Outlet] = {}
        """The connections that follow topics or are present in them."""
        self.counts: Counts = Counts()
        self.publisher: Publisher = Publisher(broker, limits, on_error, self.counts)
        self._node = token_hex(6)
        self._ids = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_open: bool = False
        """Whether the topics are used inside of their `async with`."""
        self._loop: asyncio.AbstractEventLoop | None = None

    # Opening and closing ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the broker."""
        if self._loop is not None:
            raise UsageError("these topics were already entered: make a new Topics")
        self._loop = asyncio.get_running_loop()
        await self.broker.open(self)
        self.is_open = True

    async def close(self) -> None:
        """Wait for the publications under way, end all subscriptions, and close the broker."""
        timeout = self.limits.close_timeout
        try:
            await self.publisher.close(timeout)
        finally:
            self.is_open = False
            for outlet in [*self.outlets.values()]:
                outlet.forget()
            self.outlets.clear()
            for audience in [*self.audiences.values()]:
                audience.close()
            self.audiences.clear()
            try:
                await self._end_tasks()
            finally:
                try:
                    async with asyncio.timeout(timeout):
                        await self.broker.close()
                except TimeoutError:
                    logger.warning("the broker did not close within %g s", timeout)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check_open(self) -> None:
        """Check that the topics are used inside of their `async with`, on their loop."""
        if not self.is_open:
            raise UsageError("these topics are not open: use them inside of `async with Topics(broker) as topics:`")
        if _get_running_loop() is not self._loop:
            raise UsageError(
                "these topics belong to another event loop: write a coroutine that uses them, and run it with "
                "asyncio.run_coroutine_threadsafe(coroutine, loop)"
            )

    def spawn(self, coroutine: Coroutine[object, None, None]) -> "asyncio.Task[None]":
        """Start a task, which is cancelled when the topics are closed."""
        assert self._loop is not None
        # Not by the task factory of the loop: with an eager one, the task would begin before the caller has it.
        task = asyncio.Task(coroutine, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def _end_task(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None and not isinstance(error, ConnectionClosed):
                logger.error("a task of the topics has failed", exc_info=error)

    # Topics and connections ------------------------------------------------------------------------------------

    def audience(self, topic: AnyTopic) -> Audience:
        """Return the audience of a topic, which may be new."""
        audience = self.audiences.get(topic.name)
        if audience is None:
            audience = Audience(
                topic, self.broker, self.timeout, self.limits, self.counts, self.spawn, self._forget_audience
            )
            self.audiences[topic.name] = audience
        return audience

    def _forget_audience(self, audience: Audience) -> None:
        if self.audiences.get(audience.name) is audience:
            del self.audiences[audience.name]

    def find_outlet(self, client: Recipient) -> Outlet | None:
        """Return the outlet of a connection; None if it neither follows a topic nor is present in one.

        :raises TypeError: if it is not a connection.
        """
        outlet = self.outlets.get(client)
        if outlet is None and not hasattr(client, "outcome"):
            raise TypeError(
                f"client must be a connection of streamws, such as a Client, not {client!r}; inside of an ASGI "
                "application, make one with streamws.asgi.from_scope or from_websocket"
            )
        return outlet

    def outlet(self, client: Recipient, action: str) -> Outlet:
        """Return the outlet of a connection, which may be new.

        :param action: what the connection is going to do, for the error.
        :raises ConnectionClosed: if the connection has ended or is closing.
        :raises TypeError: if it is not a connection.
        """
        outlet = self.find_outlet(client)
        outcome = client.outcome
        if outcome is not None:
            raise ConnectionClosed(outcome, f"cannot {action}")
        if outlet is None:
            self._ids += 1
            outlet = Outlet(client, f"{self._node}-{self._ids}", self)
            self.outlets[client] = outlet
        return outlet

    def check_room(self, outlet: Outlet, name: str) -> None:
        """Check that a connection may follow one more topic, or be present in it.

        :raises LimitExceeded: if it may not.
        """
        most = self.limits.max_topics_per_client
        if len(outlet.followers) + len(outlet.present) < most:
            return
        used = len(outlet.followers.keys() | outlet.present.keys())
        if used >= most and name not in outlet.followers and name not in outlet.present:
            raise LimitExceeded(
                f"the connection uses {used} topics already (TopicLimits.max_topics_per_client: {most})"
            )

    def forget_unused(self, outlet: Outlet) -> None:
        """Forget a connection that neither follows a topic nor is present in one.

        A connection of streamws is remembered until it ends: a new outlet would register another callback with it.
        """
        used = outlet.followers or outlet.present or outlet.limited or outlet.sending
        if outlet.writer is None and not used and not outlet.closed:
            outlet.forget()
            self.outlets.pop(outlet.client, None)

    def end_outlet(self, outlet: Outlet) -> None:
        """End everything of a connection that has ended."""
        self.outlets.pop(outlet.client, None)
        for name, follower in [*outlet.followers.items()]:
            audience = self.audiences.get(name)
            follower.left = True
            if audience is not None:
                audience.remove(follower)
        outlet.followers.clear()
        for attendance in [*outlet.present.values()]:
            attendance.leave_soon()

    def stats(self) -> TopicsStats:
        """Return the counters of the topics. Any thread may call this."""
        counts = self.counts
        audiences = [*self.audiences.values()]
        outlets = [*self.outlets.values()]
        broker: object = getattr(self.broker, "stats", None)
        return TopicsStats(
            followed=len(audiences),
            followers=sum(audience.followers for audience in audiences),
            present=sum(len(outlet.present) for outlet in outlets),
            recovering=sum(audience.recovering for audience in audiences),
            joined=counts.joined,
            recovered=counts.recovered,
            not_recovered=counts.not_recovered,
            published=counts.published,
            failed=counts.failed,
            timed_out=counts.timed_out,
            refused=counts.refused,
            publish_soon_failed=self.publisher.failed,
            publish_soon_bytes=self.publisher.waiting,
            received=counts.received,
            gaps=counts.gaps,
            dropped=counts.dropped,
            replaced=counts.replaced,
            disconnected=counts.disconnected,
            losses=counts.losses,
            broker=broker if isinstance(broker, BrokerStats) else None,
        )

    # Presence --------------------------------------------------------------------------------------------------

    def attendance(self, outlet: Outlet, name: str) -> Attendance:
        """Return the presence of a connection in a topic, which may be new."""
        attendance = outlet.present.get(name)
        if attendance is None:

            def forget() -> None:
                if outlet.present.get(name) is attendance:
                    del outlet.present[name]
                    self.forget_unused(outlet)

            attendance = Attendance(name, self.broker, self.timeout, self.spawn, forget)
            outlet.present[name] = attendance
        return attendance

    # From the broker -------------------------------------------------------------------------------------------

    def received(self, topic: str, record: Record) -> None:
        """Deliver a publication; see `Receiver`."""
        audience = self.audiences.get(topic)
        if audience is not None:
            self.counts.received += 1
            audience.received(record)

    def lost(self, topics: Sequence[str] | None = None) -> None:
        """Recover publications and presence events that may be missing; see `Receiver`."""
        self.counts.losses += 1
        for name in [*(self.audiences if topics is None else topics)]:
            audience = self.audiences.get(name)
            if audience is not None:
                audience.lost()

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        """Deliver a presence event; see `Receiver`."""
        audience = self.audiences.get(topic)
        if audience is not None:
            audience.presence_changed(event)
