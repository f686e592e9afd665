"""The program of docs/howto/several-processes.md in two processes behind nginx, while they die and are replaced."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from urllib.parse import urlencode

import pytest

from helpers.blocks import examples
from helpers.waiting import until
from interop.peers.two_processes import PAGE, Processes, behind_nginx
from streamws import Backoff, Client, ConnectionClosed, Timeouts, connect
from topics.redis_server import RedisServer

BACKOFF = Backoff(first=0.02, most=0.2, restart=(0.02, 0.2))
IMPATIENT = Timeouts(open=1, ping_interval=1, ping_timeout=1)


class Follower:
    """A client that comes back with its last position whenever its connection is lost."""

    def __init__(self, url: str, name: str, timeouts: Timeouts) -> None:
        self._url = url
        self._timeouts = timeouts
        self._query: dict[str, str] = {"name": name}
        self.connections = 0
        self.closes: list[int] = []
        """The codes with which its connections ended."""
        self.joined = False
        self.said: list[tuple[int, str]] = []
        """The publications that it got: their offsets and texts."""
        self.epochs: set[str] = set()
        self.gaps: list[int] = []
        """The offsets after which it was told that something is missing."""

    @property
    def last(self) -> int:
        """The offset of the last publication that it got."""
        return self.said[-1][0] if self.said else 0

    async def run(self) -> None:
        async for client in connect(
            lambda: f"{self._url}?{urlencode(self._query)}", backoff=BACKOFF, timeouts=self._timeouts, proxy=None
        ):
            self.connections += 1
            self.joined = False
            with suppress(ConnectionClosed):
                async for text in client.text():
                    await self.receive(client, text)
            await client.wait_closed()
            assert client.outcome is not None
            self.closes.append(client.outcome.code)

    async def receive(self, client: Client, text: str) -> None:
        """Note a message."""
        message = json.loads(text)
        if "position" in message:
            epoch, offset = message["position"]
            self.said.append((offset, message["text"]))
            self.epochs.add(epoch)
            self._query |= {"epoch": epoch, "offset": str(offset)}
        elif "missing since" in message:
            self.gaps.append(message["missing since"])
        else:
            assert "members" in message
            self.joined = True


class Speaker(Follower):
    """A follower that says one text after the other, each one until it has got it back."""

    def __init__(self, url: str, name: str, timeouts: Timeouts) -> None:
        super().__init__(url, name, timeouts)
        self._name = name
        self.count = 0
        """The number of texts that it has said and got."""

    @property
    def texts(self) -> list[str]:
        """The texts that it has said and got."""
        return [f"{self._name} {number}" for number in range(self.count)]

    async def receive(self, client: Client, text: str) -> None:
        before = self.joined, self.count
        await super().receive(client, text)
        if self.said and self.said[-1][1] == f"{self._name} {self.count}":
            self.count += 1
        # Not while it gets what it has missed: its text may be among that.
        if self.joined and (self.joined, self.count) != before:
            await asyncio.sleep(0.03)
            await client.send(f"{self._name} {self.count}")


class Room:
    """Two speakers and 20 followers, who connect through nginx."""

    def __init__(self, processes: Processes, timeouts: Timeouts) -> None:
        url = f"ws://127.0.0.1:{processes.port}/red"
        self.followers = [Follower(url, f"follower{number}", timeouts) for number in range(20)]
        self.speakers = [Speaker(url, f"speaker{number}", timeouts) for number in range(2)]
        self.epochs = 1
        """The number of epochs in the end."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def all(self) -> list[Follower]:
        """All clients."""
        return [*self.followers, *self.speakers]

    async def enter(self) -> None:
        """Connect all clients, first the followers, so that these get every publication."""
        for clients in (self.followers, self.speakers):
            self._tasks += [asyncio.create_task(client.run()) for client in clients]
            await self.until(lambda: all(client.joined for client in clients))  # noqa: B023

    async def go_on(self) -> None:
        """Wait until each speaker has said ten more texts, and everyone has got them."""
        goals = [speaker.count + 10 for speaker in self.speakers]
        await self.until(lambda: all(one.count >= goal for one, goal in zip(self.speakers, goals, strict=True)))
        newest = max(speaker.last for speaker in self.speakers)
        await self.until(lambda: all(client.last >= newest for client in self.all))

    async def leave(self) -> None:
        """End all connections, and check that nobody has missed anything."""
        await self.go_on()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        assert {len(client.epochs) for client in self.all} == {self.epochs}
        assert len(set[str]().union(*(client.epochs for client in self.all))) == self.epochs
        longest = max((client.said for client in self.followers), key=len)
        for client in self.followers:
            assert client.gaps == []
            assert [offset for offset, _ in client.said] == [*range(1, len(client.said) + 1)]
            assert client.said == longest[: len(client.said)]
        for speaker in self.speakers:
            assert speaker.gaps == []
            offsets = [offset for offset, _ in speaker.said]
            assert offsets == [*range(offsets[0], offsets[-1] + 1)]
            heard = dict.fromkeys(text for _, text in longest)  # a text may have been published before a process died
            assert [text for text in heard if text in speaker.texts] == speaker.texts

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, while no client fails."""

        def happened() -> object:
            for task in self._tasks:
                assert not task.done(), task
            return condition()

        await until(happened, 30)


@pytest.fixture
async def processes(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Processes]:
    """The program of the page. It drains in a second, not in ten."""
    [source] = [example.source for example in examples() if (example.page, example.name) == (PAGE, "several-processes")]
    for old, new in {"redis://localhost": redis_server.url, "drain=10": "drain=1"}.items():
        assert old in source
        source = source.replace(old, new)
    program = tmp_path / "server.py"
    program.write_text(source)
    async with behind_nginx(tmp_path, lambda port: [str(program)]) as processes:
        yield processes


@pytest.fixture
async def room(processes: Processes, request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    """A room in which speakers and followers are, and where nobody misses anything. The parameter is their timeouts."""
    room = Room(processes, getattr(request, "param", Timeouts()))
    await room.enter()
    await room.go_on()
    yield room
    await room.leave()


async def test_clients_recover_at_the_other_process_when_one_is_killed(processes: Processes, room: Room) -> None:
    lost = processes.clients(8001)
    assert (lost, processes.clients(8002)) == (11, 11)
    await processes.kill(8001)
    await room.go_on()
    assert sorted(client.connections for client in room.all) == [1] * 11 + [2] * 11
    assert processes.clients(8002) == 22

    await processes.start(8001)
    async with AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(connect(f"ws://127.0.0.1:{processes.port}/blue", proxy=None))
            assert json.loads(await client.read_message())["members"]
        assert sorted([processes.clients(8001), processes.clients(8002) - 22]) == [2, 3]


async def test_nobody_misses_anything_while_processes_are_replaced_one_after_the_other(
    processes: Processes, room: Room
) -> None:
    for name in processes.ports:
        await processes.stop(name)
        await processes.start(name)
        await room.go_on()
    assert sorted(client.connections for client in room.all) == [2] * 11 + [3] * 11
    assert (processes.clients(8001), processes.clients(8002)) == (22, 0)


@pytest.mark.parametrize("room", [IMPATIENT], ids=["impatient"], indirect=True)
async def test_clients_recover_at_the_other_process_when_one_hangs(processes: Processes, room: Room) -> None:
    processes.running[8001].process.send_signal(SIGSTOP)
    await room.go_on()
    await until(lambda: processes.clients(8002) == 22)
    processes.running[8001].process.send_signal(SIGCONT)


async def test_clients_come_back_after_both_processes_were_killed(processes: Processes, room: Room) -> None:
    for name in processes.ports:
        await processes.kill(name)
    await asyncio.gather(*map(processes.start, processes.ports))
    await room.go_on()
    assert {client.connections for client in room.all} == {2}


@pytest.mark.parametrize("redis_server", [("--appendonly", "yes")], ids=["with its data"], indirect=True)
async def test_nobody_misses_anything_when_redis_is_restarted(redis_server: RedisServer, room: Room) -> None:
    redis_server.kill()
    # Those who send are told that it is not possible now; the others notice nothing.
    await room.until(lambda: all(speaker.closes for speaker in room.speakers))
    redis_server.start()
    await room.go_on()
    assert {code for speaker in room.speakers for code in speaker.closes} == {1013}
    assert {client.connections for client in room.followers} == {1}
    room.epochs = 2
