"""`FlakyBroker`: a broker that fails, hangs, delivers late and twice, and loses publications, when a test says so."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex

from streamws import BrokerError, BrokerUnavailable
from streamws.topics import (
    Connection,
    History,
    MemoryBroker,
    Outgoing,
    Page,
    Position,
    PresenceEvent,
    Published,
    Receiver,
    Record,
)
from streamws.topics.held import size_of


class FlakyBroker:
    """A broker with the memory of a `MemoryBroker`. It keeps the promises of `Broker`, but no more."""

    def __init__(self, shared: MemoryBroker | None = None) -> None:
        self.memory = MemoryBroker(shared)
        self.receiver: Receiver
        self.closed = False
        self.calls: list[str] = []
        """The calls of `subscribe` and `unsubscribe`."""
        self.down = False
        """Whether all calls raise `BrokerUnavailable`. Publications are lost meanwhile."""
        self.error: Exception | None = None
        """What all calls raise instead."""
        self.late = False
        """Whether deliveries wait for `deliver`."""
        self.lose = 0
        """How many of the next deliveries are lost."""
        self.repeat = False
        """Whether each publication is delivered twice."""
        self._continued: dict[str, Position] = {}
        """The next name of each epoch that was continued, and the offset up to which both agree."""
        self.slow = 0
        """How many iterations of the loop each call takes."""
        self.subscribing = asyncio.Event()
        """While it is not set, `subscribe` waits."""
        self.subscribing.set()
        self._hanging: asyncio.Event | None = None
        self._waiting: deque[Callable[[], None]] = deque()

    # Faults ----------------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """Let all calls wait until `go_on`."""
        if self._hanging is None:
            self._hanging = asyncio.Event()

    def go_on(self) -> None:
        """Let all calls go on."""
        if self._hanging is not None:
            self._hanging.set()
            self._hanging = None

    def fail(self) -> None:
        """Go down: what is on its way is lost, too."""
        self.down = True
        self._waiting.clear()

    def recover(self) -> None:
        """Come up again, with all subscriptions."""
        if self.down:
            self.down = False
            self.receiver.lost()

    def forget(self) -> None:
        """Lose all histories and offsets, but not the subscriptions."""
        for kept in self.memory._store.topics.values():
            kept.epoch = token_hex(8)
            kept.offset = kept.size = 0
            kept.records.clear()
            kept.times.clear()

    def restart(self, forgotten: int = 0) -> None:
        """Restart with all data: the epochs continue under new names.

        :param forgotten: how many of the last publications of each topic with a history are lost.
        """
        for kept in self.memory._store.topics.values():
            for _ in range(min(forgotten, len(kept.records))):
                kept.times.pop()
                kept.size -= size_of(kept.records.pop())
                kept.offset -= 1
            kept.epoch = self._continue(kept.position)
            for place, record in enumerate(kept.records):
                kept.records[place] = record._replace(position=Position(kept.epoch, record.position.offset))
        positions = self.memory._store.forgotten
        for name, position in positions.items():
            positions[name] = Position(self._continue(position), position.offset)

    def _continue(self, position: Position) -> str:
        fresh = token_hex(8)
        self._continued[position.epoch] = Position(fresh, position.offset)
        return fresh

    def current(self, position: Position) -> Position:
        """Return a position with the name that its epoch has now."""
        epoch, offset = position
        while epoch in self._continued and offset <= self._continued[epoch].offset:
            epoch = self._continued[epoch].epoch
        return Position(epoch, offset)

    def deliver(self, count: int | None = None) -> None:
        """Deliver what waits, or the first part of it."""
        for _ in range(len(self._waiting) if count is None else min(count, len(self._waiting))):
            self._waiting.popleft()()

    async def _pass(self) -> None:
        for _ in range(self.slow):
            await asyncio.sleep(0)
        while self._hanging is not None:
            await self._hanging.wait()
        if self.error is not None:
            raise self.error
        if self.down:
            raise BrokerUnavailable("the broker is down")

    # From the memory -------------------------------------------------------------------------------------------

    def received(self, topic: str, record: Record) -> None:
        if self.down:
            return
        if self.lose:
            self.lose -= 1
            return
        for _ in range(1 + self.repeat):
            self._deliver(lambda: self.receiver.received(topic, record))

    def lost(self, topics: Sequence[str] | None = None) -> None:
        raise AssertionError("a MemoryBroker loses nothing")

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        if not self.down:
            self._deliver(lambda: self.receiver.presence_changed(topic, event))

    def _deliver(self, call: Callable[[], None]) -> None:
        self._waiting.append(call)
        if not self.late:
            self.deliver()

    # The protocol ----------------------------------------------------------------------------------------------

    async def open(self, receiver: Receiver) -> None:
        self.receiver = receiver
        await self.memory.open(self)

    async def close(self) -> None:
        self.closed = True
        await self.memory.close()

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        await self._pass()
        return await self.memory.publish(batch)

    async def subscribe(self, topic: str) -> None:
        self.calls.append(f"subscribe {topic}")
        await self.subscribing.wait()
        await self._pass()
        await self.memory.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        self.calls.append(f"unsubscribe {topic}")
        await self._pass()
        await self.memory.unsubscribe(topic)
        self.deliver()  # what is on its way arrives before the answer, not in the next subscription

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        await self._pass()
        beyond = False  # whether the position is one that was lost in a restart
        if since is not None:
            since = self.current(since)
            continued = self._continued.get(since.epoch)
            if continued is not None:
                since, beyond = self.current(Position(since.epoch, continued.offset)), True
        page = await self.memory.read_history(topic, history, since, limit, reverse)
        await self._pass()
        return page._replace(complete=False) if beyond else page

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        await self._pass()
        await self.memory.enter(topic, connection, user, data)

    async def exit(self, topic: str, connection: str) -> None:
        await self._pass()
        await self.memory.exit(topic, connection)

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        await self._pass()
        return await self.memory.connections(topic)
