"""Measures deliveries, joins and the return of all followers inside one process, with topics and other libraries.

No sockets take part: each follower is a task that iterates over what its library calls a subscription. The cases
`topics*` of `run.py` measure followers with sockets. Costs are microseconds of CPU time. Other libraries are measured
if they are installed: `pip install '.[bench]'`.
"""

import argparse
import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from typing import Any

MESSAGE = "x" * 256
KEPT = 10
"""The publications that each follower gets from the history when it comes back."""


class Library(ABC):
    """One library: topics in the memory of this process."""

    name: str

    @abstractmethod
    async def publish(self, topic: str) -> None:
        """Publish one message."""

    @abstractmethod
    def follow(self, topic: str, returning: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Follow a topic.

        :param returning: whether the follower first gets what is in the history.
        """


class Streamws(Library):
    name = "streamws"

    def __init__(self, topics: Any) -> None:
        from streamws.topics import History, Position

        self._topics = topics
        self._history = History(size=KEPT)
        self._start = Position("", 0)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Library]:
        from streamws.topics import MemoryBroker, Topics

        async with Topics(MemoryBroker()) as topics:
            yield cls(topics)

    async def publish(self, topic: str) -> None:
        await self._topics.topic(topic, history=self._history).publish(MESSAGE)

    @asynccontextmanager
    async def follow(self, topic: str, returning: bool = False) -> AsyncIterator[AsyncIterator[Any]]:
        since = self._start if returning else None
        async with self._topics.topic(topic, history=self._history).subscribe(since=since) as feed:
            if returning:
                await anext(feed)  # the gap: nothing is known before the history
            yield feed


class Litestar(Library):
    name = "litestar channels"

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Library]:
        from litestar.channels import ChannelsPlugin
        from litestar.channels.backends.memory import MemoryChannelsBackend

        backend = MemoryChannelsBackend(history=KEPT)
        async with ChannelsPlugin(backend=backend, arbitrary_channels_allowed=True) as plugin:
            yield cls(plugin)

    async def publish(self, topic: str) -> None:
        await self._plugin.wait_published(MESSAGE, topic)

    @asynccontextmanager
    async def follow(self, topic: str, returning: bool = False) -> AsyncIterator[AsyncIterator[Any]]:
        subscriber = await self._plugin.subscribe([topic], history=KEPT if returning else None)
        try:
            yield subscriber.iter_events()
        finally:
            await self._plugin.unsubscribe(subscriber)


class Broadcaster(Library):
    name = "broadcaster"

    def __init__(self, broadcast: Any) -> None:
        self._broadcast = broadcast

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Library]:
        from broadcaster import Broadcast

        async with Broadcast("memory://") as broadcast:
            yield cls(broadcast)

    async def publish(self, topic: str) -> None:
        await self._broadcast.publish(topic, MESSAGE)

    @asynccontextmanager
    async def follow(self, topic: str, returning: bool = False) -> AsyncIterator[AsyncIterator[Any]]:
        if returning:
            raise NotImplementedError("broadcaster has no history")
        async with self._broadcast.subscribe(topic) as subscriber:
            yield aiter(subscriber)


Open = Callable[[], AbstractAsyncContextManager[Library]]
LIBRARIES: dict[str, Open] = {"streamws": Streamws.open, "litestar": Litestar.open, "broadcaster": Broadcaster.open}


class Crowd:
    """Followers of topics, which count what they get."""

    def __init__(self, library: Library, stack: AsyncExitStack) -> None:
        self._library = library
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []
        self.received = 0

    async def add(self, topic: str, returning: bool = False) -> None:
        feed = await self._stack.enter_async_context(self._library.follow(topic, returning))
        self._tasks.append(asyncio.create_task(self._read(feed)))

    async def _read(self, feed: AsyncIterator[Any]) -> None:
        async for _ in feed:
            self.received += 1

    async def until(self, count: int) -> None:
        """Wait until all followers together have received a number of messages."""
        async with asyncio.timeout(60):
            while self.received < count:  # noqa: ASYNC110 (an event would cost as much as what is measured)
                await asyncio.sleep(0)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


async def deliveries(library: Library, topics: int, followers: int, rounds: int) -> float:
    """Publish in each topic, several times; return the cost of a delivery."""
    async with AsyncExitStack() as stack:
        crowd = Crowd(library, stack)
        for number in range(topics):
            for _ in range(followers):
                await crowd.add(str(number))
        await asyncio.sleep(0)
        began = time.process_time()
        for turn in range(rounds):
            for number in range(topics):
                await library.publish(str(number))
            await crowd.until((turn + 1) * topics * followers)
        cost = (time.process_time() - began) / (rounds * topics * followers)
        await crowd.stop()
    return cost * 1e6


async def joins(library: Library, count: int) -> float:
    """Follow topics, and leave them again; return the cost of both."""
    began = time.process_time()
    for number in range(count):
        async with library.follow(str(number % 100)):
            pass
    return (time.process_time() - began) / count * 1e6


async def storm(library: Library, count: int) -> float:
    """All followers come back at once, to one topic with a history; return the cost of each."""
    async with AsyncExitStack() as stack:
        crowd = Crowd(library, stack)
        for _ in range(KEPT):
            await library.publish("all")
        await asyncio.sleep(0.01)
        began = time.process_time()
        await asyncio.gather(*(crowd.add("all", returning=True) for _ in range(count)))
        await crowd.until(count * KEPT)
        cost = (time.process_time() - began) / count
        await crowd.stop()
    return cost * 1e6


def measures(scale: int) -> dict[str, Callable[[Library], Awaitable[float]]]:
    """Return what is measured, by its description.

    :param scale: the number of followers.
    """
    return {
        f"delivery, 1 topic x {scale:,}": lambda library: deliveries(library, 1, scale, 10),
        f"delivery, {scale:,} topics x 1": lambda library: deliveries(library, scale, 1, 3),
        f"delivery, {scale // 10:,} topics x 10": lambda library: deliveries(library, scale // 10, 10, 3),
        "join and leave": lambda library: joins(library, scale),
        f"return of {scale:,} with {KEPT} publications": lambda library: storm(library, scale),
    }


async def measure(open_library: Open, what: Callable[[Library], Awaitable[float]]) -> float | None:
    """Return a cost, or None if the library cannot do that."""
    with suppress(NotImplementedError):
        async with open_library() as library:
            return await what(library)
    return None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--followers", type=int, default=2000, help="their number (default: 2000)")
    arguments.add_argument("--rounds", type=int, default=3, help="how often to measure; the lowest cost counts")
    arguments.add_argument("--json", action="store_true", help="print the costs as JSON")
    options = arguments.parse_args()
    installed = [name for name in LIBRARIES if find_spec(name) is not None]
    costs: dict[str, dict[str, float | None]] = {}
    for title, what in measures(options.followers).items():
        costs[title] = {}
        for name in installed:
            results = [asyncio.run(measure(LIBRARIES[name], what)) for _ in range(options.rounds)]
            costs[title][name] = min((result for result in results if result is not None), default=None)
    if options.json:
        print(json.dumps(costs, indent=2))
        return
    print(f"{'µs of CPU time':42}" + "".join(f"{name:>14}" for name in installed))
    for title, row in costs.items():
        print(f"{title:42}" + "".join(f"{'-' if cost is None else f'{cost:.2f}':>14}" for cost in row.values()))


if __name__ == "__main__":
    main()
