"""Followers on real connections: TCP, TLS and Unix sockets, compressed or not, and those of ASGI servers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from helpers.fixtures import Serve
from helpers.uvicorn_servers import start_server
from helpers.waiting import until, within
from streamws import Client, ConnectionClosed, Limits, connect
from streamws.asgi import AsgiClient, from_scope
from streamws.topics import Gap, History, PresenceEvent, Topic, Topics

HISTORY = History()
LIMITS = Limits(write_high=4096, write_low=1024)
BACKLOG = 400_000
TEXT = "x" * 20_000


def numbered(number: int) -> str:
    return f"{number} {TEXT}"


def number_of(message: str | bytes) -> int:
    return int(str(message).split()[0])


def described(event: PresenceEvent) -> str:
    return f"0 {event.kind} {event.user}"


async def read_to(client: Client, last: int) -> list[int]:
    """Read the numbers of publications, up to the last one."""
    numbers: list[int] = []
    while not numbers or numbers[-1] != last:
        message = await within(client.read_message())
        if len(message) > 100:
            numbers.append(number_of(message))
    return numbers


async def overwhelm(topic: Topic[str | bytes], follower: Any, peer: Client) -> None:
    """Publish until something is dropped, while the peer does not read; then read everything."""
    count = 0
    while not topic.lost(follower):
        count += 1
        await topic.publish(numbered(count))
        await asyncio.sleep(0)
    for _ in range(5):
        count += 1
        await topic.publish(numbered(count))
    lost = topic.lost(follower)
    numbers = await read_to(peer, count)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == count - lost


@pytest.mark.parametrize("transport", ["tcp", "tls", "unix"])
@pytest.mark.parametrize("compression", [True, None], ids=["compressed", "plain"])
async def test_followers_on_each_transport(
    topics: Topics,
    serve: Serve,
    tmp_path: Path,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    transport: str,
    compression: bool | None,
) -> None:
    topic = topics.topic("news", history=HISTORY)
    gaps: list[Gap] = []
    joined: list[Client] = []

    async def handler(client: Client) -> None:
        await topic.join(client, slow="drop-oldest", backlog=BACKLOG, on_gap=lambda _, gap: gaps.append(gap))
        joined.append(client)
        await client.wait_closed()

    path = str(tmp_path / "s")
    options: dict[str, Any] = {"path": path} if transport == "unix" else {}
    if transport == "tls":
        options["ssl"] = server_context
    server = await serve(handler, limits=LIMITS, compression=compression, **options)
    scheme = "wss" if transport == "tls" else "ws"
    url = f"{scheme}://localhost/" if transport == "unix" else f"{scheme}://127.0.0.1:{server.port}/"
    to: dict[str, Any] = {"path": path} if transport == "unix" else {}
    if transport == "tls":
        to["ssl"] = client_context
    async with connect(url, compression=compression, **to) as one, connect(url, compression=compression, **to) as two:
        await until(lambda: len(joined) == 2)
        for number in range(1, 4):
            await topic.publish(f"{number}")
            assert [number_of(await within(peer.read_message())) for peer in (one, two)] == [number] * 2
        assert gaps == []
    await until(lambda: topics.followed == 0)
    assert topics._core.outlets == {}


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_slow_followers_lose_exactly_what_is_counted(
    topics: Topics, serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext, transport: str
) -> None:
    topic = topics.topic("news")
    joined: list[Client] = []

    async def handler(client: Client) -> None:
        await topic.join(client, slow="drop-oldest", backlog=BACKLOG)
        joined.append(client)
        await client.wait_closed()

    options: dict[str, Any] = {"ssl": server_context} if transport == "tls" else {}
    server = await serve(handler, limits=LIMITS, compression=None, **options)
    to: dict[str, Any] = {"ssl": client_context} if transport == "tls" else {}
    scheme = "wss" if transport == "tls" else "ws"
    async with connect(f"{scheme}://127.0.0.1:{server.port}/", compression=None, **to) as peer:
        await until(lambda: len(joined) == 1)
        (follower,) = joined
        await overwhelm(topic, follower, peer)
        await until(lambda: follower.writer.held == 0)
        await topic.publish(numbered(7))
        assert await read_to(peer, 7) == [7]  # it is fast again


class Application:
    """An ASGI application whose connections follow a topic."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.topic = topics.topic("news", history=HISTORY)
        self.present: list[AsgiClient] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        slow: Any = "disconnect" if scope["path"] == "/disconnect" else "drop-oldest"
        async with from_scope(scope, receive, send) as client:
            await self.topic.join(client, slow=slow, backlog=BACKLOG, presence_frame=described)
            await self.topic.presence.enter(client, "ann")
            self.present.append(client)
            async for message in client:
                await self.topic.publish(message)


@asynccontextmanager
async def served(application: Application, implementation: str) -> AsyncIterator[str]:
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, ws=implementation, lifespan="off", log_level="warning"
    )
    server, port = await start_server(config)
    try:
        yield f"ws://127.0.0.1:{port}/"
    finally:
        await server.shutdown()


@pytest.mark.parametrize("implementation", ["streamws.asgi.uvicorn:Protocol", "websockets-sansio"])
async def test_connections_of_asgi_servers_follow(topics: Topics, implementation: str) -> None:
    application = Application(topics)
    topic = application.topic
    async with served(application, implementation) as url:
        async with connect(url, proxy=None) as one, connect(url, proxy=None) as two:
            assert await within(two.read_message()) == "0 join ann"
            assert [await within(one.read_message()) for _ in range(2)] == ["0 join ann"] * 2
            await one.send("1")
            for client in (one, two):
                assert await within(client.read_message()) == "1"
        await until(lambda: topics._core.outlets == {})
        assert await topic.presence.members() == {}
        async with connect(url, proxy=None, compression=None) as slow:
            await until(lambda: len(application.present) == 3)
            await overwhelm(topic, application.present[-1], slow)
        await until(lambda: topics._core.outlets == {})
        async with connect(f"{url}disconnect", proxy=None, compression=None) as slow:
            await until(lambda: len(application.present) == 4)
            while topics.followed:
                await topic.publish(numbered(1))
                await asyncio.sleep(0)
            with pytest.raises(ConnectionClosed):
                await read_to(slow, 0)
            assert slow.outcome is not None
            assert slow.outcome.code == 1013
    await until(lambda: topics._core._tasks == set())
