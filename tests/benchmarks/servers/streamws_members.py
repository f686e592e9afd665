"""The task of `members` with streamws: with `Topics`, and by hand with a dict of clients for each topic.

Both can receive the publications from Redis: with `RedisBroker`, and by hand with hiredis.

Import it after `choose_build`.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from benchmarks.servers.common import HOST
from benchmarks.servers.members import HISTORY, PUBLICATION, Member
from benchmarks.servers.redis_channels import RedisChannels
from streamws import Client, WebSocketServer
from streamws.topics import History, MemoryBroker, Position, RedisBroker, Topic, Topics


class WithTopics:
    """The handler of a server with topics, and its lifespan.

    :param redis: the port of the Redis to use; None for none.
    """

    def __init__(self, history: bool, redis: int | None) -> None:
        self._history = History(size=HISTORY) if history else None
        self._topics = Topics(MemoryBroker() if redis is None else RedisBroker(f"redis://{HOST}:{redis}"))
        self.starts: dict[str, Position] = {}
        """The positions at which the first clients have joined."""

    @asynccontextmanager
    async def lifespan(self, socket: WebSocketServer) -> AsyncIterator[None]:
        async with self._topics:
            yield

    async def handle(self, client: Client) -> None:
        await _TopicMember(client, self.topic, self.starts).obey(client)

    def topic(self, name: str) -> Topic[str | bytes]:
        return self._topics.topic(name, history=self._history)


class _TopicMember(Member):
    def __init__(self, client: Client, topic: Callable[[str], Topic[str | bytes]], starts: dict[str, Position]) -> None:
        self._client = client
        self._topic = topic
        self._starts = starts

    async def join(self, topics: Sequence[str], returning: bool) -> None:
        for name in topics:
            joined = await self._topic(name).join(self._client, since=self._starts[name] if returning else None)
            self._starts.setdefault(name, joined.position)

    async def leave(self, topics: Sequence[str]) -> None:
        for name in topics:
            await self._topic(name).leave(self._client)

    async def publish(self, topic: str) -> None:
        await self._topic(topic).publish(PUBLICATION)

    async def send(self, message: str) -> None:
        await self._client.send(message)


class ByHand:
    """The least that an application without topics needs: for each topic the clients, and the last publications.

    :param redis: the port of the Redis to use; None for none.
    """

    def __init__(self, history: bool, redis: int | None) -> None:
        self.size = HISTORY if history else 0
        self.rooms: defaultdict[str, dict[Client, None]] = defaultdict(dict)
        self.histories: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=self.size))
        self._redis = redis
        self._channels: RedisChannels | None = None

    @asynccontextmanager
    async def lifespan(self, socket: WebSocketServer) -> AsyncIterator[None]:
        self.broadcast = socket.broadcast
        if self._redis is not None:
            self._channels = await RedisChannels.open(self._redis, self._deliver)
        yield

    async def handle(self, client: Client) -> None:
        member = _MemberByHand(client, self)
        try:
            await member.obey(client)
        finally:
            await member.leave([*member.joined])

    def join(self, name: str, client: Client) -> None:
        """Let a client follow a topic."""
        if self._channels is not None and name not in self.rooms:
            self._channels.subscribe(name.encode())
        self.rooms[name][client] = None

    def _deliver(self, channel: bytes, message: bytes) -> None:
        self.broadcast(message.decode(), self.rooms[channel.decode()])


class _MemberByHand(Member):
    def __init__(self, client: Client, all_topics: ByHand) -> None:
        self._client = client
        self._all = all_topics
        self.joined: dict[str, None] = {}

    async def join(self, topics: Sequence[str], returning: bool) -> None:
        for name in topics:
            if returning:
                for message in self._all.histories[name]:
                    await self._client.send(message)
            self._all.join(name, self._client)
            self.joined[name] = None

    async def leave(self, topics: Sequence[str]) -> None:
        for name in topics:
            room = self._all.rooms[name]
            del room[self._client], self.joined[name]
            if not room:
                del self._all.rooms[name]

    async def publish(self, topic: str) -> None:
        self._all.broadcast(PUBLICATION, self._all.rooms[topic])
        if self._all.size:
            self._all.histories[topic].append(PUBLICATION)

    async def send(self, message: str) -> None:
        await self._client.send(message)
