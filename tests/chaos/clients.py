"""The clients of a run: followers, publishers, members. They come back to any process when their connection ends."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlencode

from chaos.arrangement import FLOODED, KEYED, LONG, PEOPLE, TOPICS
from chaos.attending import Attending
from chaos.following import Following
from chaos.processes import TIMEOUTS, ServerProcess
from chaos.record import Record
from chaos.truth import Truth
from streamws import Client, Limits, StreamwsError, connect
from streamws.topics import Position

ENDS = (OSError, StreamwsError, EOFError)
"""Errors of connections that have ended, or could not be made."""

_ATTEMPTS = 5
"""The most attempts of a publisher at one process."""


class World:
    """What all clients of a phase share.

    :param keeps_all: whether Redis never loses data.
    """

    def __init__(
        self, processes: list[ServerProcess], keeps_all: bool, random: Random, record: Record, truth: Truth
    ) -> None:
        self.processes = processes
        self.random = random
        self.record = record
        self.truth = truth
        self.churning = asyncio.Event()
        """Cleared while clients neither leave nor read slowly, so that all can be compared."""
        self.churning.set()
        self.keeps_all = keeps_all
        self.publishing = asyncio.Event()
        """Cleared while nothing new is published."""
        self.publishing.set()
        self.present: set[str] = set()
        """The members that have entered and are connected."""

    def process(self, avoided: ServerProcess | None = None) -> ServerProcess:
        """Return any process that runs, but not that one."""
        running = [process for process in self.processes if process.running and process is not avoided]
        return self.random.choice(running or self.processes)

    async def rest(self, most: float) -> None:
        """Wait for a random time, in seconds."""
        await asyncio.sleep(self.random.random() * most)

    async def leave(self, most: float) -> None:
        """Wait for a random time, and until the clients churn."""
        await self.rest(most)
        await self.churning.wait()


async def first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Wait until one of them ends, and cancel the others. Ends of connections are no errors."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            with suppress(*ENDS):
                task.result()


class Follower:
    """A client that follows one topic for as long as the run lasts.

    :param way: `/join` or `/feed`.
    :param pause: the most seconds for which a slow reader pauses; 0 for a fast one.
    """

    def __init__(self, world: World, number: int, topic: str, way: str, slow: str, pause: float) -> None:
        self.topic = topic
        self._world = world
        self._way = way
        self._slow = slow
        self._pause = pause
        name = f"follower {number} ({way[1:]}, {slow}{', slow' if pause else ''})"
        drops = slow not in ("disconnect", "wait")
        self.following = Following(
            name, topic, world.truth, world.record,
            latest=slow == "latest", whole=world.keeps_all and topic in LONG and not drops,
        )  # fmt: skip
        self.attending: Attending | None = None
        if topic == PEOPLE and way == "/join" and not pause:
            self.attending = Attending(name, world.record, world.keeps_all, drops)
        # A slow reader takes little into its own buffers.
        self._limits = Limits(read_high=4096, read_low=1024) if pause else Limits()

    async def run(self) -> None:
        world = self._world
        while True:
            stays = 8 if world.random.random() < 0.3 else 600
            await first_of(self._follow(), world.leave(stays))
            self.following.cut()
            world.record.figures["reconnects"] += 1
            await world.rest(0.05 if world.random.random() < 0.7 or not world.churning.is_set() else 3)

    async def _follow(self) -> None:
        world = self._world
        process = world.process()
        query = {"topic": self.topic, "slow": self._slow}
        since = self.following.since
        if since is not None:
            query |= {"epoch": since.epoch, "offset": str(since.offset)}
        if self.attending is not None:
            query["presence"] = "yes"
            self.attending.begin()
        if world.random.random() < 0.5:
            query["replay"] = "yes"
        sock = socket.socket()
        sock.setblocking(False)
        if self._pause:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", process.port))
        except BaseException:
            sock.close()
            raise
        url = process.url(f"{self._way}?{urlencode(query)}")
        async with connect(url, sock=sock, limits=self._limits, timeouts=TIMEOUTS) as client:
            async for text in client.text():
                message = json.loads(text)
                if "event" in message or "present" in message:
                    assert self.attending is not None
                    self.attending.receive(message)
                else:
                    if "gap" in message and self.attending is not None:
                        self.attending.note_gap()
                    self.following.receive(message)
                if self._pause and world.churning.is_set() and world.random.random() < 0.05:
                    await world.rest(self._pause)


class Publication(NamedTuple):
    """A publication that is to be made."""

    name: str
    topic: str
    key: str | None
    padding: int

    def request(self, **more: bool) -> str:
        """Return the request to a process."""
        payload = f"{self.name} {'x' * self.padding}"
        return json.dumps({"name": self.name, "topic": self.topic, "payload": payload, "key": self.key, **more})


class Publications:
    """Makes the publications of one publisher, with increasing numbers."""

    def __init__(self, world: World, publisher: str) -> None:
        self._world = world
        self._publisher = publisher
        self._number = 0

    def next(self, topic: str | None = None, padding: int | None = None) -> Publication:
        """Return the next one.

        :param topic: by default any topic.
        :param padding: by default a random size.
        """
        random = self._world.random
        self._number += 1
        topic = topic or random.choice([*TOPICS])
        key = random.choice("abcde") if topic == KEYED else None
        publication = Publication(
            f"{self._publisher}.{self._number}", topic, key, padding or random.choice([10, 100, 1000])
        )
        self._world.truth.attempt(topic, publication.name)
        self._world.record.figures["publications"] += 1
        return publication


def connect_to_publish(world: World, avoided: ServerProcess | None = None) -> AbstractAsyncContextManager[Client]:
    """Connect to any process, but not to that one."""
    return connect(world.process(avoided).url("/publish"), proxy=None, timeouts=TIMEOUTS)


async def publish(world: World, client: Client, publication: Publication) -> Position:
    """Make a publication: repeat it until it is acknowledged. Return its position.

    :raises TimeoutError: if this process cannot do it. Then try another one.
    """
    figures = world.record.figures
    for _ in range(_ATTEMPTS):
        figures["attempts to publish"] += 1
        await client.send(publication.request())
        async with asyncio.timeout(3):
            answer = json.loads(await client.read_message())
        assert answer["name"] == publication.name
        if "at" in answer:
            figures["acknowledged"] += 1
            figures["acknowledged as repeated"] += answer["duplicate"]
            position = Position(*answer["at"])
            world.truth.see(publication.topic, position, publication.name, publication.key)
            return position
        await world.rest(0.2)
    raise TimeoutError


async def publish_all(
    world: World, publications: Sequence[Publication], avoided: ServerProcess | None = None
) -> list[Position]:
    """Make publications at any process, but not at that one. Return their positions."""
    waiting = deque(publications)
    positions: list[Position] = []
    while waiting:
        with suppress(*ENDS):
            async with connect_to_publish(world, avoided) as client:
                while waiting:
                    positions.append(await publish(world, client, waiting[0]))
                    waiting.popleft()
    return positions


class Announcer:
    """Makes publications on request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends = Publications(world, "end")
        self._floods = [Publications(world, f"flood-{number}") for number in range(4)]
        self._flooding = asyncio.Lock()

    async def announce(self, topic: str) -> Position:
        """Publish in a topic, and return the position."""
        (position,) = await publish_all(self._world, [self._ends.next(topic)])
        return position

    async def flood(self, process: ServerProcess) -> None:
        """Make more large publications at once than the buffers of the system and of Redis hold for one process."""
        async with self._flooding:
            floods = [[each.next(FLOODED, 60_000) for _ in range(30)] for each in self._floods]
            await asyncio.gather(*[publish_all(self._world, flood, process) for flood in floods])


class Publisher:
    """Makes one publication after the other, in topics by chance. Each is repeated until it is acknowledged.

    :param pause: the most seconds between two publications.
    """

    def __init__(self, world: World, name: str, pause: float) -> None:
        self._world = world
        self._publications = Publications(world, name)
        self._pause = pause
        self._waiting: Publication | None = None

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return self._waiting is None

    async def run(self) -> None:
        world = self._world
        while True:
            with suppress(*ENDS):
                async with connect_to_publish(world) as client:
                    for _ in range(world.random.randrange(1, 300)):
                        await self._publish(client)
                        await world.rest(self._pause)
            await world.rest(0.05)

    async def _publish(self, client: Client) -> None:
        if self._waiting is None:
            await self._world.publishing.wait()
            self._waiting = self._publications.next()
        await publish(self._world, client, self._waiting)
        self._waiting = None


class SoonPublisher:
    """Makes publications with `publish_soon`, which are not acknowledged. Those of one process keep their order."""

    def __init__(self, world: World, name: str, pause: float) -> None:
        self._world = world
        self._name = name
        self._pause = pause

    async def run(self) -> None:
        world = self._world
        sessions = 0
        while True:
            with suppress(*ENDS):
                async with connect_to_publish(world) as client:
                    sessions += 1
                    publications = Publications(world, f"{self._name}-{sessions}")
                    for _ in range(world.random.randrange(1, 300)):
                        await world.publishing.wait()
                        await self._publish(client, publications.next())
                        await world.rest(self._pause)
            await world.rest(0.05)

    async def _publish(self, client: Client, publication: Publication) -> None:
        await client.send(publication.request(soon=True))
        async with asyncio.timeout(3):
            answer = json.loads(await client.read_message())
        figures = self._world.record.figures
        figures["accepted by publish_soon" if answer["accepted"] else "refused by publish_soon"] += 1


class Member:
    """A user who enters and leaves, with a new connection each time."""

    def __init__(self, world: World, number: int) -> None:
        self.settled = False
        """Whether it has entered, or left, and stays as it is in peace."""
        self._world = world
        self._user = f"user {number % 4}"  # some have several connections
        self._name = f"member {number}"
        self._count = 0

    async def run(self) -> None:
        world = self._world
        while True:
            await first_of(self._be_present(), world.leave(10))
            self.settled = False
            await world.rest(0.5)

    async def _be_present(self) -> None:
        world = self._world
        self._count += 1
        id = f"{self._name}, {self._count}"
        query = urlencode({"user": self._user, "id": id})
        async with connect(world.process().url(f"/member?{query}"), proxy=None, timeouts=TIMEOUTS) as client:
            try:
                if await client.read_message() == "entered":
                    self.settled = True
                    world.present.add(id)
                    world.record.figures["entered"] += 1
                if world.random.random() < 0.3:
                    await first_of(client.wait_closed(), world.leave(5))
                    world.present.discard(id)
                    await client.send("leave")
                await client.wait_closed()
            finally:
                world.present.discard(id)
                if world.random.random() < 0.3:
                    client.abort()
