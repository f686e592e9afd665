"""The harm that is done to Redis, to the network and to the server processes, by chance."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count

from chaos.arrangement import TOPICS
from chaos.clients import Announcer, World
from chaos.cluster import Cluster
from chaos.processes import ServerProcess
from chaos.redis_servers import MasterAndReplica, Redis

Harm = Callable[[], Coroutine[None, None, None]]


class Harms:
    """Does harm of all kinds, by chance. Several may happen at the same time.

    :param pause: the most seconds between the beginnings of two of them.
    :param factor: makes them longer or shorter.
    """

    def __init__(self, world: World, redis: Redis, announcer: Announcer, pause: float, factor: float) -> None:
        self._world = world
        self._record = world.record
        self._random = world.random
        self._redis = redis
        self._announcer = announcer
        self._pause = pause
        self._factor = factor

    async def run(self, seconds: float) -> None:
        """Do harm for a time; then wait until the last one has ended."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        kinds = self._kinds()
        tasks: list[asyncio.Task[None]] = []
        while loop.time() < end:
            await self._world.rest(self._pause)
            (harm,) = self._random.choices([*kinds], [*kinds.values()])
            tasks.append(asyncio.create_task(harm()))
        await asyncio.gather(*tasks)

    def _kinds(self) -> dict[Harm, int]:
        """Return all kinds of harm, and how often each is done."""
        kinds: dict[Harm, int] = {
            self.stop_redis: 3,
            self.kill_connections: 4,
            self.flush_scripts: 2,
            self.kill_process: 2,
            self.end_process: 1,
            self.stop_process: 2,
        }
        redis = self._redis
        if isinstance(redis, Cluster):
            # Its nodes tell their own addresses, so there is no proxy in between.
            return kinds | {self.kill_redis: 3, partial(self.fail_over_cluster, redis): 3, partial(self.move, redis): 6}
        kinds |= {self.cut: 6, self.stall: 6, self.slow: 3, self.refuse: 2, self.flood: 1}
        if isinstance(redis, MasterAndReplica):
            return kinds | {partial(self.fail_over, redis): 6}
        kinds[self.kill_redis] = 4
        if not redis.keeps_all:
            kinds[self.flush_data] = 1
        if redis.phase == "snapshots":
            kinds[self.save] = 2
        return kinds

    def _seconds(self, most: float) -> float:
        """Return a random time; short ones are more frequent."""
        return self._random.random() ** 2 * most * self._factor

    # Redis -----------------------------------------------------------------------------------------------------

    async def kill_redis(self) -> None:
        async with self._redis.busy:
            down = self._random.choice([0.0, self._seconds(3)])
            await self._redis.choose()
            self._record.did("Redis killed", f"at port {self._redis.port} for {down:.2f} s")
            await self._redis.kill()
            await asyncio.sleep(down)
            await self._redis.start_again()
            self._record.happened("Redis started")
            await self._settle()

    async def _settle(self) -> None:
        await self._redis.settle()
        self._lost()

    def _lost(self) -> None:
        if not self._redis.keeps_all:
            self._world.truth.data_lost()

    async def stop_redis(self) -> None:
        async with self._redis.busy:
            seconds = self._seconds(3)
            await self._redis.choose()
            self._record.did("Redis stopped", f"at port {self._redis.port} for {seconds:.2f} s")
            self._redis.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._redis.signal(signal.SIGCONT)
            await self._settle()

    async def fail_over(self, redis: MasterAndReplica) -> None:
        async with redis.busy:
            alive = self._random.random() < 0.5
            self._record.did("Redis failed over", "while both are alive" if alive else "after the master was killed")
            await redis.fail_over(alive)
            self._lost()
            for process in self._world.processes:
                process.proxy.target = redis.port
                if self._random.random() < 0.5:
                    process.proxy.cut(reset=True)
            await self._world.rest(self._factor)
            await redis.renew_replica()
            await self._world.rest(self._factor)  # let it get all data
            self._record.happened("the replica follows")

    async def fail_over_cluster(self, redis: Cluster) -> None:
        async with redis.busy:
            self._record.did("Redis failed over", "by itself")
            await redis.fail_over()

    async def move(self, redis: Cluster) -> None:
        async with redis.busy:
            topic = self._random.choice([*TOPICS])
            self._record.did("slots moved", f"that of topic {topic}")

            def note() -> None:
                self._record.happened(f"Redis has replaced a master while the slot of topic {topic} moved")
                self._world.truth.data_lost(in_parts=topic)

            await redis.move(f"{{streamws:{topic}}}", note)

    async def kill_connections(self) -> None:
        kind = self._random.choice(["pubsub", "normal"])
        await self._ask("connections killed by Redis", "CLIENT", "KILL", "TYPE", kind)

    async def flush_scripts(self) -> None:
        await self._ask("scripts flushed", "SCRIPT", "FLUSH")

    async def save(self) -> None:
        await self._ask("snapshots made", "SAVE")

    async def flush_data(self) -> None:
        await self._ask("data flushed", "FLUSHALL")
        self._lost()

    async def _ask(self, kind: str, *command: str) -> None:
        async with self._redis.busy:
            self._record.did(kind, " ".join(command))
            await self._redis.choose()
            await self._redis.ask(*command)

    # The network between a process and Redis -------------------------------------------------------------------

    def _process(self) -> ServerProcess:
        return self._random.choice(self._world.processes)

    async def cut(self) -> None:
        process = self._process()
        reset = self._random.random() < 0.5
        self._record.did("connections cut", f"of {process}, with {'RST' if reset else 'FIN'}")
        both = self._random.random() < 0.5
        process.proxy.cut(reset, None if both else (self._random.random() < 0.5 for _ in count()))

    async def stall(self) -> None:
        process = self._process()
        flows = [*self._random.choice([("up",), ("down",), ("up", "down")])]
        seconds = self._seconds(4)
        self._record.did("network stalled", f"{' and '.join(flows)} at {process} for {seconds:.2f} s")
        for flow in flows:
            getattr(process.proxy, flow).open.clear()
        await asyncio.sleep(seconds)
        for flow in flows:
            getattr(process.proxy, flow).open.set()

    async def slow(self) -> None:
        process = self._process()
        delay, seconds = self._seconds(0.4), self._seconds(5)
        self._record.did("network slow", f"at {process}: {delay * 1000:.0f} ms in pieces, for {seconds:.2f} s")
        process.proxy.up.delay = process.proxy.down.delay = delay
        await asyncio.sleep(seconds)
        process.proxy.up.delay = process.proxy.down.delay = 0.0

    async def refuse(self) -> None:
        process = self._process()
        seconds = self._seconds(3)
        self._record.did("connections refused", f"of {process} for {seconds:.2f} s")
        process.proxy.refusing = True
        process.proxy.cut(reset=True)
        await asyncio.sleep(seconds)
        process.proxy.refusing = False

    async def flood(self) -> None:
        """Fill the output buffer of Redis for the subscriber of one process."""
        process = self._process()
        self._record.did("output buffers flooded", f"of {process}")
        process.proxy.down.open.clear()
        await self._announcer.flood(process)
        process.proxy.down.open.set()

    # Server processes ------------------------------------------------------------------------------------------

    def _take(self) -> ServerProcess | None:
        """Return a process that may end, and that nobody else harms. The first one lives as long as the phase."""
        free = [process for process in self._world.processes[1:] if not process.busy.locked()]
        return self._random.choice(free) if free else None

    async def kill_process(self) -> None:
        process = self._take()
        if process is not None:
            async with process.busy:
                self._record.did("processes killed", str(process))
                await process.kill()
                await self._world.rest(2 * self._factor)
                await process.start()
                self._record.happened(f"{process} started")

    async def end_process(self) -> None:
        process = self._take()
        if process is not None:
            async with process.busy:
                self._record.did("processes ended by SIGTERM", str(process))
                await process.terminate()
                await process.start()
                self._record.happened(f"{process} started")

    async def stop_process(self) -> None:
        process = self._process()
        async with process.busy:
            seconds = self._seconds(5)
            self._record.did("processes stopped", f"{process} for {seconds:.2f} s")
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            process.signal(signal.SIGCONT)
