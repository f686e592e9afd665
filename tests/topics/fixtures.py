"""Fixtures for topics."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from streamws.topics import Broker, MemoryBroker, Topics
from topics.channels import Channel
from topics.flaky import FlakyBroker
from topics.redis_server import RedisServer

OpenTopics = Callable[..., Awaitable[Topics]]


@pytest.fixture
async def open_topics() -> AsyncIterator[OpenTopics]:
    """Opens topics, which are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(broker: Broker | None = None, **options: Any) -> Topics:
            return await stack.enter_async_context(Topics(broker or MemoryBroker(), **options))

        yield start


@pytest.fixture
def redis_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of the test's own, which runs. The parameter is its options."""
    server = RedisServer(tmp_path, *getattr(request, "param", ()))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def topics(open_topics: OpenTopics) -> Topics:
    """Topics on a broker in memory."""
    return await open_topics()


@pytest.fixture
async def flaky(memory: MemoryBroker) -> FlakyBroker:
    """A broker that fails when the test says so."""
    return FlakyBroker(memory)


@pytest.fixture
def memory() -> MemoryBroker:
    """What the flaky broker shares."""
    return MemoryBroker()


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    """A connection that is not of streamws."""
    channel = Channel()
    yield channel
    channel.end()
