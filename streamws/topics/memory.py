"""`MemoryBroker`: keeps topics in the memory of this process."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import islice
from secrets import token_hex
from time import time

from ..errors import BrokerError, BrokerUnavailable
from .broker import Outgoing, Page, Receiver
from .held import size_of
from .stats import BrokerStats
from .values import Connection, History, Position, PresenceEvent, Published, Record, new_tuple

_REMEMBERED = 300.0
"""The seconds for which an idempotency key is remembered."""

_MOST_REMEMBERED = 100_000
"""The most idempotency keys that are remembered."""


_MOST_FORGOTTEN = 10_000
"""The most unused topics whose positions are remembered."""

_NOT_OPEN = "this MemoryBroker is not open"


class _Kept:
    """What the broker keeps of one topic."""

    __slots__ = ("connections", "epoch", "offset", "records", "seconds", "size", "subscribers", "times", "users")

    def __init__(self, position: Position) -> None:
        self.epoch, self.offset = position  # of the last publication
        self.records: deque[Record] = deque()  # the history; the offsets have no gaps
        self.times: deque[float] = deque()  # when each of the records was published, by the clock of the loop
        self.size = 0  # the bytes of the records
        self.seconds = 0.0  # how long the history keeps a record
        self.subscribers: tuple[Receiver, ...] = ()
        self.connections: dict[str, Connection] = {}
        self.users: dict[str, int] = {}  # the number of connections of each

    @property
    def position(self) -> Position:
        return new_tuple(Position, (self.epoch, self.offset))

    def add(self, record: Record, history: History, now: float) -> None:
        """Add a publication to the history, and drop those for which there is no room any more."""
        self.seconds = history.seconds
        self.records.append(record)
        self.times.append(now)
        self.size += size_of(record)
        while len(self.records) > history.size or self.size > history.max_bytes:
            self.drop_oldest()
        self.expire(now)

    def expire(self, now: float) -> None:
        """Drop the publications that are too old."""
        while self.times and self.times[0] + self.seconds <= now:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        self.times.popleft()
        self.size -= size_of(self.records.popleft())


class _Store:
    """The topics of one `MemoryBroker`, or of several that share them."""

    __slots__ = ("_delivering", "_undelivered", "forgotten", "published", "timer", "timer_loop", "topics")

    def __init__(self) -> None:
        self.topics: dict[str, _Kept] = {}
        self.forgotten: OrderedDict[str, Position] = OrderedDict()
        """The positions of topics that were forgotten, and in which nothing was published since. With them, a follower
        that comes back to a quiet topic is told that it has missed nothing."""
        self.published: OrderedDict[tuple[str, str], tuple[float, Published]] = OrderedDict()
        """The time and the result of each publication with an idempotency key, oldest first."""
        self.timer: asyncio.TimerHandle | None = None
        self.timer_loop: asyncio.AbstractEventLoop | None = None
        self._delivering = False
        self._undelivered: deque[tuple[str, _Kept, Record | PresenceEvent]] = deque()

    def deliver(self, name: str, kept: _Kept, item: Record | PresenceEvent) -> None:
        """Deliver a publication or presence event to all subscribers of a topic.

        What a receiver publishes meanwhile is delivered afterwards, so that all get the same order.
        """
        if self._delivering:
            self._undelivered.append((name, kept, item))
            return
        self._delivering = True
        try:
            while True:
                if isinstance(item, Record):
                    for receiver in kept.subscribers:
                        receiver.received(name, item)
                else:
                    for receiver in kept.subscribers:
                        receiver.presence_changed(name, item)
                if not self._undelivered:
                    return
                name, kept, item = self._undelivered.popleft()
        finally:
            self._delivering = False

    def topic(self, name: str) -> _Kept:
        kept = self.topics.get(name)
        if kept is None:
            position = self.forgotten.pop(name, None) or Position(token_hex(8), 0)
            kept = self.topics[name] = _Kept(position)
        return kept

    def forget_unused(self, name: str) -> None:
        """Forget a topic without subscribers, history and presence."""
        kept = self.topics.get(name)
        if kept is not None and not (kept.subscribers or kept.records or kept.connections):
            del self.topics[name]
            self.forgotten[name] = kept.position
            if len(self.forgotten) > _MOST_FORGOTTEN:
                self.forgotten.popitem(last=False)

    def expire_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop histories that are too old, even if nobody uses their topics any more."""
        if self.timer is None or self.timer_loop is not loop:
            now = loop.time()
            ends = [kept.times[0] + kept.seconds for kept in self.topics.values() if kept.times]
            if self.published:
                ends.append(next(iter(self.published.values()))[0] + _REMEMBERED)
            if ends:
                # At most once a second: it looks at all topics.
                self.timer_loop = loop
                self.timer = loop.call_at(max(min(ends), now + 1.0), self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        now = loop.time()
        for name, kept in [*self.topics.items()]:
            if kept.times:
                kept.expire(now)
                self.forget_unused(name)
        while self.published and next(iter(self.published.values()))[0] + _REMEMBERED <= now:
            self.published.popitem(last=False)
        self.expire_later(loop)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class MemoryBroker:
    """A broker in the memory of this process. It never waits, and loses nothing while the process lives.

    :param shared: another `MemoryBroker`, with which this one shares its topics; for tests of several `Topics`.

    One `MemoryBroker` works for one `Topics`. It remembers idempotency keys for 5 minutes, the last 100,000 of them,
    and the positions of the last 10,000 topics that nothing uses any more.
    """

    def __init__(self, shared: "MemoryBroker | None" = None) -> None:
        if not isinstance(shared, MemoryBroker | None):
            raise TypeError(f"shared must be another MemoryBroker, not {shared!r}")
        self._store: _Store = _Store() if shared is None else shared._store
        self._receiver: Receiver | None = None
        self._subscribed: set[str] = set()
        self._present: set[tuple[str, str]] = set()  # topic and connection

    def __repr__(self) -> str:
        return f"<MemoryBroker, {self.kept} topics>"

    @property
    def kept(self) -> int:
        """The number of topics that are kept, because they have followers, a history, or members."""
        return len(self._store.topics)

    @property
    def stats(self) -> BrokerStats:
        """The subscriptions of its `Topics`, and the topics that are kept; see `WatchedBroker`."""
        return BrokerStats(len(self._subscribed), kept=self.kept)

    async def open(self, receiver: Receiver) -> None:
        """Begin to work for one `Topics`; see `Broker.open`."""
        if self._receiver is not None:
            raise BrokerError("this MemoryBroker is in use: make another one, with shared= to share its topics")
        self._receiver = receiver

    async def close(self) -> None:
        """End all subscriptions, and the presence of all connections; see `Broker.close`."""
        for name in [*self._subscribed]:
            await self.unsubscribe(name)
        for name, connection in [*self._present]:
            await self.exit(name, connection)
        self._receiver = None
        self._store.stop()

    def _receive(self) -> Receiver:
        if self._receiver is None:
            raise BrokerUnavailable(_NOT_OPEN)
        return self._receiver

    # Publications ----------------------------------------------------------------------------------------------

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        """Publish messages, and deliver them at once; see `Broker.publish`."""
        return [self.publish_now(message) for message in batch]

    def publish_now(self, message: Outgoing) -> Published:
        """Publish a message without waiting; see `ImmediateBroker`."""
        if self._receiver is None:
            raise BrokerUnavailable(_NOT_OPEN)
        store = self._store
        name, payload, key, idempotency, history = message
        if idempotency is not None:
            earlier = store.published.get((name, idempotency))
            if earlier is not None:
                return Published(earlier[1].position, True)
        kept = store.topics.get(name)
        if kept is None:
            if history is None:
                # Nobody could receive it, or ask for it later.
                store.forgotten.pop(name, None)
                published = Published(None)
                if idempotency is not None:
                    self._remember(name, idempotency, published)
                return published
            kept = store.topic(name)
        kept.offset += 1
        position = new_tuple(Position, (kept.epoch, kept.offset))
        record = new_tuple(Record, (payload, position, key, time()))
        if history is not None:
            loop = asyncio.get_running_loop()
            kept.add(record, history, loop.time())
            if store.timer is None:
                store.expire_later(loop)
        elif kept.records:
            # The history must not have a gap, and does not get this publication.
            kept.records.clear()
            kept.times.clear()
            kept.size = 0
        published = new_tuple(Published, (position, False))
        if idempotency is not None:
            self._remember(name, idempotency, published)
        store.deliver(name, kept, record)
        if not (kept.records or kept.subscribers):
            store.forget_unused(name)
        return published

    def _remember(self, name: str, idempotency: str, published: Published) -> None:
        loop = asyncio.get_running_loop()
        remembered = self._store.published
        remembered[name, idempotency] = loop.time(), published
        if len(remembered) > _MOST_REMEMBERED:
            remembered.popitem(last=False)
        if self._store.timer is None:
            self._store.expire_later(loop)

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver the publications of a topic; see `Broker.subscribe`."""
        receiver = self._receive()
        if topic not in self._subscribed:
            self._subscribed.add(topic)
            self._store.topic(topic).subscribers += (receiver,)

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering the publications of a topic; see `Broker.unsubscribe`."""
        receiver = self._receive()
        if topic in self._subscribed:
            self._subscribed.remove(topic)
            kept = self._store.topics[topic]
            kept.subscribers = tuple(other for other in kept.subscribers if other is not receiver)
            self._store.forget_unused(topic)

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        """Read the history of a topic; see `Broker.read_history`."""
        self._receive()
        kept = self._store.topics.get(topic)
        if kept is None:
            forgotten = self._store.forgotten.get(topic)
            position = forgotten or Position("", 0)
            return Page((), position, position.offset == 0 if since is None else since == forgotten)
        if kept.times:
            kept.expire(asyncio.get_running_loop().time())
        position = kept.position
        first = position.offset - len(kept.records) + 1  # the offset of the oldest record
        after = 0 if since is None or since.epoch != position.epoch else since.offset
        complete = (since is None or since.epoch == position.epoch) and first - 1 <= after <= position.offset
        if limit == 0:
            return Page((), position, complete)
        start = min(max(after + 1 - first, 0), len(kept.records))
        stop = len(kept.records)
        if limit is not None:
            start, stop = (max(start, stop - limit), stop) if reverse else (start, min(stop, start + limit))
        records = list(islice(kept.records, start, stop))
        return Page(records, position, complete)

    # Presence --------------------------------------------------------------------------------------------------

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        """Make a connection present in a topic; see `Broker.enter`."""
        self._receive()
        kept = self._store.topic(topic)
        if connection in kept.connections and kept.connections[connection].user == user:
            kept.connections[connection] = Connection(user, data)
            return
        await self.exit(topic, connection)
        kept = self._store.topic(topic)
        kept.connections[connection] = Connection(user, data)
        kept.users[user] = kept.users.get(user, 0) + 1
        self._present.add((topic, connection))
        self._store.deliver(topic, kept, PresenceEvent("join", user, data, connection, kept.users[user] == 1))

    async def exit(self, topic: str, connection: str) -> None:
        """Make a connection leave a topic; see `Broker.exit`."""
        self._receive()
        self._present.discard((topic, connection))
        kept = self._store.topics.get(topic)
        gone = None if kept is None else kept.connections.pop(connection, None)
        if kept is None or gone is None:
            return
        kept.users[gone.user] -= 1
        last = kept.users[gone.user] == 0
        if last:
            del kept.users[gone.user]
        self._store.deliver(topic, kept, PresenceEvent("leave", gone.user, gone.data, connection, last))
        self._store.forget_unused(topic)

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        """Return who is present in a topic; see `Broker.connections`."""
        self._receive()
        kept = self._store.topics.get(topic)
        return {} if kept is None else kept.connections.copy()
