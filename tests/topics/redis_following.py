"""Followers and publishers that go on whatever happens to Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from helpers.waiting import PATIENCE, until, within
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import Gap, Position, Publication, Topic

T = TypeVar("T")


async def available(call: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
    """Call a function of the broker again and again until it succeeds."""
    async with asyncio.timeout(patience):
        while True:
            try:
                return await call()
            except BrokerError:
                await asyncio.sleep(0.005)


async def unavailable(call: Callable[[], Awaitable[object]]) -> None:
    """Call a function of the broker again and again until the broker is not available."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await call()
            except BrokerUnavailable:
                return
            except BrokerError:
                await asyncio.sleep(0)


class Follower:
    """Follows a topic, and notes what it gets: the payloads, and `"gap"`."""

    def __init__(self, topic: Topic[str | bytes]) -> None:
        self._topic = topic
        self.items: list[str | bytes] = []
        self.gaps: list[Gap] = []
        self.last: Position | None = None
        self.recovered = False

    async def follow(self, begun: "asyncio.Future[None]", since: Position | None) -> None:
        feed = await available(lambda: self._topic.subscribe(since=since).__aenter__())
        try:
            self.recovered = feed.joined.recovered
            begun.set_result(None)
            async for item in feed:
                if isinstance(item, Publication):
                    self.items.append(item.data)
                    self.last = item.position
                else:
                    self.items.append("gap")
                    self.gaps.append(item)
        finally:
            await feed.__aexit__()

    async def has(self, *items: str) -> None:
        await until(lambda: len(self.items) >= len(items))
        assert self.items == [*items]


@asynccontextmanager
async def following(topic: Topic[str | bytes], since: Position | None = None) -> AsyncIterator[Follower]:
    """Follow a topic while the block runs."""
    follower = Follower(topic)
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(follower.follow(begun, since))
    await within(begun)
    yield follower
    task.cancel()
    await asyncio.wait([task])


async def published(topic: Topic[str | bytes], *payloads: str) -> None:
    """Publish each payload once, as soon as the broker is available again."""
    for payload in payloads:
        await available(partial(topic.publish, payload, idempotency=payload))
