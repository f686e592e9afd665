"""Measures the CPU time of Redis for what `RedisBroker` asks of it; the assumptions of `simulate_scale.py`.

It starts a `redis-server` of its own. The times are those that Redis itself reports, so the load of the machine matters
little.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from redis.asyncio import Redis

from benchmarks.servers.members import PUBLICATION
from streamws.topics import History, Outgoing, Position, PresenceEvent, Record, RedisBroker
from topics.redis_server import RedisServer

TOPICS = 2_000
IN_A_BATCH = 200
NODES = 20
KEPT = 100
MISSED = 10
ROUNDS = 5

HISTORY = History(size=KEPT)


class Ignoring:
    """A receiver that ignores everything."""

    def received(self, topic: str, record: Record) -> None: ...
    def lost(self, topics: Sequence[str] | None = None) -> None: ...
    def presence_changed(self, topic: str, event: PresenceEvent) -> None: ...


class Costs:
    """Measures the CPU time of one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def _used(self) -> float:
        found = await self._redis.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    async def measure(self, operations: int, work: Callable[[], Awaitable[None]]) -> float:
        """Return the microseconds of each operation, the median of several rounds."""
        rounds = []
        for _ in range(ROUNDS):
            before = await self._used()
            await work()
            rounds.append((await self._used() - before) / operations * 1e6)
        return median(rounds)


@asynccontextmanager
async def broker(url: str) -> AsyncIterator[RedisBroker]:
    """Open a broker."""
    opened = RedisBroker(url)
    await opened.open(Ignoring())
    try:
        yield opened
    finally:
        await opened.close()


async def publish(to: RedisBroker, topics: Sequence[str], history: History | None) -> None:
    """Publish once in each topic."""
    for start in range(0, len(topics), IN_A_BATCH):
        names = topics[start : start + IN_A_BATCH]
        for result in await to.publish([Outgoing(name, PUBLICATION, None, None, history) for name in names]):
            if isinstance(result, Exception):
                raise result


async def in_batches(topics: Sequence[str], call: Callable[[str], Awaitable[object]]) -> None:
    """Call a function for each topic, for some of them at a time."""
    for start in range(0, len(topics), IN_A_BATCH):
        await asyncio.gather(*map(call, topics[start : start + IN_A_BATCH]))


async def measure(url: str) -> dict[str, float]:
    """Measure everything.

    :returns: the microseconds of each, by name.
    """
    topics = [f"topic:{number}" for number in range(TOPICS)]
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(url))
        costs = Costs(redis)
        first, *others = [await stack.enter_async_context(broker(url)) for _ in range(NODES)]
        found = {"publish without history": await costs.measure(TOPICS, lambda: publish(first, topics, None))}
        for _ in range(KEPT):
            await publish(first, topics, HISTORY)
        found["publish"] = await costs.measure(TOPICS, lambda: publish(first, topics, HISTORY))
        ends = {name: (await first.read_history(name, HISTORY, None, 0, False)).position for name in topics}

        async def read(back: int) -> None:
            async def read_one(name: str) -> None:
                epoch, offset = ends[name]
                page = await first.read_history(name, HISTORY, Position(epoch, offset - back), None, False)
                if len(page.records) != back or not page.complete:
                    raise ValueError(f"{name}: {len(page.records)} publications instead of {back}")

            await in_batches(topics, read_one)

        found["history"] = await costs.measure(TOPICS, lambda: read(0))
        found[f"history with {MISSED} publications"] = await costs.measure(TOPICS, lambda: read(MISSED))

        async def follow() -> None:
            await in_batches(topics, others[0].subscribe)

        async def change() -> None:
            await follow()
            await in_batches(topics, others[0].unsubscribe)

        found["subscribe, then unsubscribe"] = await costs.measure(TOPICS, change)
        for other in others[1:]:
            await in_batches(topics, other.subscribe)
        alone = found["publish"]
        together = await costs.measure(TOPICS, lambda: publish(first, topics, HISTORY))
        found["fan-out"] = (together - alone) / (NODES - 2)
        found["enter, then exit"] = await costs.measure(TOPICS, lambda: present(first, topics))
        return found


async def present(at: RedisBroker, topics: Sequence[str]) -> None:
    """Enter each topic, and exit."""
    await in_batches(topics, lambda name: at.enter(name, "connection", "user", "null"))
    await in_batches(topics, lambda name: at.exit(name, "connection"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            found = asyncio.run(measure(server.url))
        finally:
            server.kill()
    print("| of Redis, for each | µs of CPU time |\n|---|---|")
    for name, microseconds in found.items():
        print(f"| {name} | {microseconds:.2f} |")


if __name__ == "__main__":
    main()
