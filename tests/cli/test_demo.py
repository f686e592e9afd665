"""`streamws demo`, run from the command line."""

import asyncio
import errno
import json
import os
import signal
import socket
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from helpers.programs import SECONDS, Program
from streamws.about import __version__
from streamws.cli.main import main
from topics.redis_server import RedisServer


def demo(*arguments: str, port: str = "0") -> Program:
    return Program("-m", "streamws", "demo", "--host", "127.0.0.1", "--port", port, *arguments)


async def ask(peer: ClientConnection, method: str, /, **parameters: object) -> Any:
    """Send a command and return its result, or its error."""
    async with asyncio.timeout(SECONDS):
        await peer.send(json.dumps({"id": 1, method: parameters}))
        while (reply := json.loads(await peer.recv())).get("id") != 1:
            pass
    return reply.get(method, reply.get("error"))


async def test_demo_serves_chat_at_printed_url() -> None:
    async with demo() as program:
        url = (await program.says(r"(http://127\.0\.0\.1:\d+/)")).replace("http:", "ws:")
        async with connect(url, proxy=None) as ada:
            await ask(ada, "connect", data={"name": " Ada "})
            assert (await ask(ada, "subscribe", channel="room:lobby"))["recoverable"]
            assert await ask(ada, "rpc", method="say", data={"channel": "room:lobby", "text": "hello"}) == {
                "data": None
            }
            page = await ask(ada, "history", channel="room:lobby", limit=10)
            (publication,) = page["publications"]
            assert publication["data"]["name"] == "Ada"
            assert publication["data"]["text"] == "hello"
            clock = await ask(ada, "history", channel="room:clock", limit=10)
            assert clock["publications"][0]["data"]["text"] == "tick 1"
            presence = (await ask(ada, "presence", channel="room:lobby"))["presence"]
            assert [member["user"] for member in presence.values()] == ["Ada"]
        assert await program.interrupt() == 0
        assert program.stdout.startswith(f"Chat (streamws {__version__}, ")
        assert program.stderr == ""


async def test_two_demos_share_their_rooms_through_redis(redis_server: RedisServer) -> None:
    async with demo("--redis", redis_server.url) as one, demo("--redis", redis_server.url) as two:
        urls = [(await program.says(r"(http://\S+)")).replace("http:", "ws:") for program in (one, two)]
        async with connect(urls[0], proxy=None) as ada, connect(urls[1], proxy=None) as bob:
            for peer, name in ((ada, "Ada"), (bob, "Bob")):
                await ask(peer, "connect", data={"name": name})
                await ask(peer, "subscribe", channel="room:lobby")
            await ask(ada, "rpc", method="say", data={"channel": "room:lobby", "text": "hello"})
            page = await ask(bob, "history", channel="room:lobby", limit=10)
            assert [publication["data"]["text"] for publication in page["publications"]] == ["hello"]
            presence = (await ask(bob, "presence", channel="room:lobby"))["presence"]
            assert sorted(member["user"] for member in presence.values()) == ["Ada", "Bob"]
            redis_server.kill()
            await one.logs("lost the connection to Redis")
        assert await one.interrupt() == 0
        assert await two.interrupt() == 0
        assert "Traceback" not in one.stderr + two.stderr


@pytest.mark.parametrize("redis_server", [("--requirepass", "secret")], indirect=True)
async def test_demo_prints_one_line_and_exits_with_1_when_redis_refuses_it(redis_server: RedisServer) -> None:
    async with demo("--redis", redis_server.url) as program:
        assert await program.end() == 1
    (line,) = program.stderr.splitlines()
    assert line.startswith(f"streamws: Redis at 127.0.0.1:{redis_server.port} cannot be used: ")


async def test_demo_refuses_what_the_page_does_not_send() -> None:
    async with demo() as program:
        url = (await program.says(r"(http://\S+)")).replace("http:", "ws:")
        for data in (None, {"name": ""}, {"name": "x" * 31}, {"name": 5}):
            async with connect(url, proxy=None) as peer:
                assert (await ask(peer, "connect", data=data))["code"] == 400
        async with connect(url, proxy=None) as peer:
            await ask(peer, "connect", data={"name": "Ada"})
            for say in (None, {"channel": "room:lobby"}, {"channel": "room:attic", "text": "x"}):
                assert (await ask(peer, "rpc", method="say", data=say))["code"] == 107
            for text in ("", " \n", "x" * 2001):
                said = {"channel": "room:lobby", "text": text}
                assert (await ask(peer, "rpc", method="say", data=said))["code"] == 400
            assert (await ask(peer, "publish", channel="room:lobby", data={}))["code"] == 103
            assert (await ask(peer, "subscribe", channel="room:attic"))["code"] == 103
            assert (await ask(peer, "history", channel="room:lobby", limit=10))["publications"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_demo_closes_clients_and_exits_with_0_when_signalled(number: signal.Signals) -> None:
    async with demo() as program:
        url = (await program.says(r"(http://\S+)")).replace("http:", "ws:")
        async with connect(url, proxy=None) as peer:
            await ask(peer, "connect", data={"name": "Ada"})
            await ask(peer, "subscribe", channel="room:clock")
            ending = asyncio.create_task(program.interrupt(number))
            async with asyncio.timeout(SECONDS):
                async for _ in peer:  # until a clean end
                    pass
        assert await ending == 0
    assert program.stderr == ""


async def test_demo_prints_one_line_and_exits_with_1_when_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with demo(port=port) as program:
            assert await program.end() == 1
    (line,) = program.stderr.splitlines()
    assert line.startswith(f"streamws: cannot listen on '127.0.0.1', port {port}: {os.strerror(errno.EADDRINUSE)}")


def test_demo_names_invalid_arguments_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--port", "65536"])
    assert ended.value.code == 2
    assert "port must be from 0 to 65535" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--redis", "localhost"])
    assert ended.value.code == 2
    assert "Redis URL must specify one of the following schemes" in capsys.readouterr().err
