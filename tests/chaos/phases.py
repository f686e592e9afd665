"""One phase of a run: harm and peace in turn, and what must be right in peace."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from chaos.arrangement import TOPICS
from chaos.clients import Announcer, Follower, Member, Publisher, SoonPublisher, World
from chaos.cluster import Cluster
from chaos.harm import Harms
from chaos.processes import ServerProcess
from chaos.record import Record
from chaos.redis_servers import MasterAndReplica, Redis, make_servers
from chaos.truth import Truth

PATIENCE = 60.0
"""The seconds in which everything must be right again. It takes at most some ten, if the machine is not too busy."""

GROWTH = {"memory": (1.15, 12 << 20), "objects": (1.25, 10_000)}
"""What may grow in a process between two times of peace: by this factor and this number of bytes or objects."""


class Size(NamedTuple):
    """How much happens at once."""

    processes: int
    followers: int
    publishers: int
    members: int
    pause: float
    """The most seconds between two harms."""
    factor: float
    """Makes harm longer or shorter."""


SMALL = Size(2, 8, 2, 3, 0.4, 0.2)
LARGE = Size(3, 42, 6, 12, 2.0, 1.0)


def make_redis(folder: Path, phase: str, random: Random) -> Redis:
    """Make the Redis of a phase."""
    if phase == "cluster":
        return Cluster(folder, random)
    if phase == "failover":
        return MasterAndReplica(phase, make_servers(folder, ["one", "two"], phase))
    return Redis(phase, make_servers(folder, ["one"], phase))


class Phase:
    """One phase, with a Redis and server processes of its own."""

    def __init__(self, name: str, size: Size, folder: Path, random: Random, record: Record) -> None:
        self.name = name
        self._size = size
        self._record = record
        self._random = random
        folder.mkdir()
        self._redis = make_redis(folder, name, random)
        self._truth = Truth(record)
        processes = [ServerProcess(number, folder, self._redis, record) for number in range(size.processes)]
        self._world = World(processes, self._redis.keeps_all, random, record, self._truth)
        self._followers = self._make_followers()
        self._publishers = [Publisher(self._world, f"p{number}", 0.05) for number in range(size.publishers)]
        self._members = [Member(self._world, number) for number in range(size.members)]
        self._announcer = Announcer(self._world)
        self._tasks: list[asyncio.Task[None]] = []

    def _make_followers(self) -> list[Follower]:
        followers: list[Follower] = []
        ways = [("/join", slow) for slow in ("disconnect", "drop-oldest", "drop-newest", "latest")]
        ways += [("/feed", slow) for slow in ("wait", "disconnect", "drop-oldest", "drop-newest", "latest")]
        for number in range(self._size.followers):
            topic = [*TOPICS][number % len(TOPICS)]
            way, slow = self._random.choice(ways)
            if number // len(TOPICS) % 3 == 0:
                way, slow, pause = "/join", "disconnect", 0.0
            else:
                pause = self._random.choice([0.0, 1.0, 4.0])
            followers.append(Follower(self._world, number, topic, way, slow, pause))
        return followers

    async def run(self, seconds: float, round_seconds: float) -> None:
        """Do harm for some seconds, in rounds; after each of them there is peace."""
        try:
            await self._redis.start()
            await asyncio.gather(*[process.start() for process in self._world.processes])
            clients: list[Follower | Publisher | Member | SoonPublisher]
            clients = [*self._followers, *self._publishers, *self._members, SoonPublisher(self._world, "soon", 0.05)]
            self._tasks = [asyncio.create_task(client.run()) for client in clients]
            rounds = max(1, round(seconds / round_seconds))
            for number in range(1, rounds + 1):
                await self._round(seconds / rounds)
                await self._peace(f"{self.name}, round {number} of {rounds}")
            await self._end()
        finally:
            for task in self._tasks:
                task.cancel()
            for process in self._world.processes:
                await process.end()
            await self._redis.end()

    async def _round(self, seconds: float) -> None:
        """Do harm for some seconds."""
        self._world.churning.set()
        self._world.publishing.set()
        await Harms(self._world, self._redis, self._announcer, self._size.pause, self._size.factor).run(seconds)
        for process in self._world.processes:
            process.proxy.heal()

    # Peace -----------------------------------------------------------------------------------------------------

    async def _peace(self, label: str) -> None:
        """Wait until everything is right, and check that it is."""
        world, record = self._world, self._record
        loop = asyncio.get_running_loop()
        begun = loop.time()
        record.happened(f"{label}: peace")
        world.churning.clear()
        world.publishing.clear()
        if not await self._until(lambda: all(publisher.idle for publisher in self._publishers)):
            record.fault("never acknowledged", f"{label}: {sum(not each.idle for each in self._publishers)} publishers")
        await self._check_followers()
        await self._check_presence(label)
        self._truth.finish()
        record.longest_recovery = max(record.longest_recovery, loop.time() - begun)
        for process in self._world.processes:
            await self._check_memory(label, process)
        self._show(label)
        self._check_tasks()

    async def _until(self, right: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Wait until something is right; return whether it is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not right():
            if loop.time() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _check_followers(self) -> None:
        """Check that all followers receive the last publication of their topic, or are told of a gap.

        Nothing is published afterwards that would show them that something is missing.
        """
        cutting = asyncio.create_task(self._cut_once())
        last = {topic: await self._announcer.announce(topic) for topic in TOPICS}
        await cutting
        followed = [follower.following for follower in self._followers]
        await self._until(lambda: all(each.has(last[each.topic]) for each in followed))
        for following in followed:
            following.finish(last[following.topic])

    async def _cut_once(self) -> None:
        """Cut the connections of all processes, each at another time."""
        for process in self._world.processes:
            await self._world.rest(0.1)
            process.proxy.cut(reset=self._random.random() < 0.5)
        if isinstance(self._redis, Cluster):
            await self._redis.ask_all("CLIENT", "KILL", "TYPE", "PUBSUB")

    async def _check_presence(self, label: str) -> None:
        """Check that all processes, and all followers, know who is present."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while differences := await self._presence_differences():
            if loop.time() > end:
                for difference in differences:
                    self._record.fault("presence differences", f"{label}: {difference}")
                return
            await asyncio.sleep(0.1)

    async def _presence_differences(self) -> list[str]:
        unsettled = sum(not member.settled for member in self._members)
        differences = [f"{unsettled} members could not enter"] if unsettled else []
        present = self._world.present
        views = {
            follower.following.name: follower.attending.present
            for follower in self._followers
            if follower.attending is not None and follower.attending.knows
        }
        for process in self._world.processes:
            answer = await process.ask("presence")
            if "error" in answer:
                differences.append(f"{process}: {answer['error']}")
            else:
                views[str(process)] = set(answer["present"])
        for name, view in views.items():
            if view != present:
                differences.append(f"{name} lacks {sorted(present - view)}, and has {sorted(view - present)}")
        return differences

    async def _check_memory(self, label: str, process: ServerProcess) -> None:
        """Compare what a process holds with what it held in its first time of peace."""
        state = await process.ask("state")
        if "error" in state:
            self._record.fault("server faults", f"{label}: {process}: {state['error']}")
            return
        first = process.first_peace = process.first_peace or state
        for name, (factor, more) in GROWTH.items():
            if state[name] > first[name] * factor + more:
                text = f"{label}: {process} has {state}, and had {first} in its first peace"
                self._record.fault("memory grown", text)

    def _check_tasks(self) -> None:
        """Raise what has failed in the run itself."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError(f"a client of the run has ended: {task}")

    def _show(self, label: str) -> None:
        record = self._record
        print(
            f"{label}: {record.figures['acknowledged']:,} acknowledged, {record.figures['deliveries']:,} deliveries, "
            f"{sum(record.harm.values())} times harm, {record.figures['gaps told']:,} gaps told, "
            f"{sum(record.faults.values())} faults",
            flush=True,
        )

    # The end ---------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """End all clients, and check that nothing is left in the processes and in Redis."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while left := await self._left():
            if loop.time() > end:
                for text in left:
                    self._record.fault("left over", f"{self.name}: {text}")
                break
            await asyncio.sleep(0.1)
        first = self._world.processes[0]  # the only one that was never killed
        sizes = [state["memory"] / 2**20 for state in (first.first_peace, await first.ask("state"))]
        self._record.memory.append(
            f"{self.name}: {sizes[0]:.1f} MiB after the first round, {sizes[1]:.1f} MiB at the end"
        )
        await asyncio.gather(*[process.terminate() for process in self._world.processes])
        for process in self._world.processes:
            process.check_log()

    async def _left(self) -> list[str]:
        """Return what is left in the processes and in Redis."""
        left: list[str] = []
        for process in self._world.processes:
            state = await process.ask("state")
            if "error" in state:
                return [f"{process}: {state['error']}"]
            left += [
                f"{state[name]} {name} in {process}, {process.at_start[name]} at its beginning"
                for name in ("tasks", "clients", "topics", "connections")
                if state[name] > process.at_start[name]
            ]
        if b"members" in await self._redis.ask_all("KEYS", "*}:members"):
            left.append("members in Redis")
        if not isinstance(self._redis, Cluster):  # each of its nodes has other connections and processes
            count = len(self._world.processes)
            processes = await self._redis.ask("ZCARD", "{streamws}:processes")
            if processes != b":%d\r\n" % count:
                left.append(f"{processes!r} processes in Redis, instead of {count}")
            links = -1  # without that of the question
            for kind in ("NORMAL", "PUBSUB"):
                links += (await self._redis.ask("CLIENT", "LIST", "TYPE", kind)).count(b"id=")
            if links != 2 * count:
                left.append(f"{links} connections to Redis, instead of {2 * count}")
        return left
