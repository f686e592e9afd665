"""The library `centrifuge` for JavaScript, unchanged, with two processes behind nginx whose topics are in Redis.

Each process serves one client. Meanwhile somebody publishes the numbers from 1.
"""

import asyncio
import json
from asyncio.subprocess import STDOUT
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from helpers.processes import running
from helpers.waiting import until
from interop.peers.programs import FOLDER
from interop.peers.two_processes import Processes, behind_nginx
from streamws import BrokerError
from streamws.messages import Json
from streamws.topics import History, RedisBroker, Topic, Topics
from topics.redis_server import RedisServer

HISTORY = History(size=1000)
SOURCE = f"""
import os
from contextlib import asynccontextmanager

from streamws import WebSocketServer
from streamws.messages import Json
from streamws.topics import CentrifugoEndpoint, History, RedisBroker, Topics

topics = Topics(RedisBroker(os.environ["REDIS_URL"]))
news = topics.topic("news", Json(int), history={HISTORY!r})


async def authorize(client, action, topic):
    return action == "subscribe"


@asynccontextmanager
async def lifespan(server):
    async with topics:
        yield


endpoint = CentrifugoEndpoint(topics, authorize=authorize)
WebSocketServer("127.0.0.1", int(os.environ["PORT"]), handler=endpoint, lifespan=lifespan).run()
"""
KEEPS_DATA = ("--appendonly", "yes")
SCRIPT = FOLDER / "centrifuge_follower.mjs"


class Page:
    """A client, and what it has told."""

    def __init__(self) -> None:
        self.connections = 0
        self.subscriptions: list[tuple[bool, bool]] = []
        """Whether it was recovering, and whether it has recovered, each time."""
        self.numbers: list[int] = []
        """What it got."""

    async def listen(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            match json.loads(line):
                case ["connected"]:
                    self.connections += 1
                case ["subscribed", was_recovering, recovered]:
                    self.subscriptions.append((was_recovering, recovered))
                case ["publication", _, number]:
                    self.numbers.append(number)
                case other:
                    raise AssertionError(other)


class House:
    """The processes, two clients, and the one who publishes."""

    def __init__(self, processes: Processes, news: Topic[int]) -> None:
        self.processes = processes
        self.pages = [Page(), Page()]
        self.published = 0
        self._news = news
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{self.processes.port}/"
            for page in self.pages:
                program = await stack.enter_async_context(running("node", SCRIPT, url, errors=STDOUT))
                assert program.stdout is not None
                self._tasks.append(asyncio.create_task(page.listen(program.stdout)))
                await self.until(lambda: page.subscriptions)  # noqa: B023
            self._tasks.append(asyncio.create_task(self._publish()))
            await self.go_on()
            assert [self.processes.clients(name) for name in self.processes.ports] == [1, 1]
            yield
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _publish(self) -> None:
        while True:
            try:
                await self._news.publish(self.published + 1, idempotency=str(self.published + 1))
            except BrokerError:
                await asyncio.sleep(0.02)
            else:
                self.published += 1
                await asyncio.sleep(0.01)

    async def go_on(self) -> None:
        """Wait until some numbers are published and have arrived."""
        goal = self.published + 10
        await self.until(lambda: all(page.numbers and page.numbers[-1] >= goal for page in self.pages))

    async def until(self, condition: Callable[[], object]) -> None:
        def happened() -> object:
            for task in self._tasks:
                assert not task.done(), task
            return condition()

        await until(happened, 30)


@pytest.fixture
async def house(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[House]:
    program = tmp_path / "server.py"
    program.write_text(SOURCE)
    async with (
        behind_nginx(tmp_path, lambda port: [str(program)], REDIS_URL=redis_server.url) as processes,
        Topics(RedisBroker(redis_server.url)) as topics,
    ):
        house = House(processes, topics.topic("news", Json(int), history=HISTORY))
        async with house.open():
            yield house


@pytest.mark.parametrize("redis_server", [KEEPS_DATA], indirect=True)
async def test_clients_recover_after_redis_was_restarted_with_its_data(house: House, redis_server: RedisServer) -> None:
    redis_server.restart()
    await house.go_on()
    for page in house.pages:
        assert page.connections == 1
        assert page.subscriptions == [(False, False), (True, True)]
        assert page.numbers == [*range(1, page.numbers[-1] + 1)]


async def test_clients_are_told_of_the_gap_after_redis_was_restarted_without_its_data(
    house: House, redis_server: RedisServer
) -> None:
    redis_server.restart()
    await house.go_on()
    for page in house.pages:
        assert page.connections == 1
        assert page.subscriptions == [(False, False), (True, False)]
        assert page.numbers == sorted(set(page.numbers))


async def test_client_recovers_at_the_other_process_when_its_own_is_killed(house: House) -> None:
    await house.processes.kill(8002)
    await house.go_on()
    assert house.processes.clients(8001) == 2
    untouched, moved = house.pages
    assert (untouched.connections, untouched.subscriptions) == (1, [(False, False)])
    assert (moved.connections, moved.subscriptions) == (2, [(False, False), (True, True)])
    for page in house.pages:
        assert page.numbers == [*range(1, page.numbers[-1] + 1)]
