"""The page about troubleshooting quotes log lines and errors exactly: each is provoked here, and none is missing."""

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers.blocks import ROOT
from helpers.fixtures import Connect, Serve, echo
from helpers.frames import request
from helpers.peers import answering, scripted
from helpers.processes import python_environment
from helpers.waiting import within
from streamws import Client, Limits, Router, Timeouts, WebSocketServer, connect

PAGE = (ROOT / "docs" / "topics" / "troubleshooting.md").read_text("utf-8")
LINES = [line for block in re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]

Log = pytest.LogCaptureFixture
Scenario = Callable[[Serve, Connect], Awaitable[list[str]]]
"""Provokes a failure, and returns the errors that the client has seen; the log is seen by the test."""

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def shown(error: BaseException) -> str:
    """Return an error as the last line of its traceback shows it, without the module."""
    return f"{type(error).__name__}: {error}"


async def error_of(awaitable: Awaitable[object]) -> str:
    """Return the error that the awaitable must raise."""
    try:
        await within(awaitable)
    except Exception as error:
        return shown(error)
    raise AssertionError("nothing was raised")


def url_of(server: WebSocketServer, path: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{server.port}{path}"


@scenario
async def foreign_host(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo, hosts=["example.org"])
    await error_of(connect(url_of(server), headers={"Host": "evil.example"}))
    return []


@scenario
async def foreign_origin(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo)
    return [await error_of(connect(url_of(server), origin="https://example.org"))]


@scenario
async def no_route(serve: Serve, connect_raw: Connect) -> list[str]:
    router = Router()
    router.route("/chat")(echo)
    server = await serve(router)
    return [await error_of(connect(url_of(server, "/chat/")))]


@scenario
async def no_upgrade(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo)
    for field in ("Upgrade", "Connection"):
        raw = await connect_raw(server, upgrade=False)
        await raw.send(request({field: None}))
        assert (await raw.read_answer()).status == 426
    return []


@scenario
async def answers_of_others(serve: Serve, connect_raw: Connect) -> list[str]:
    errors = []
    for head, body in (("502 Bad Gateway", b"the upstream is down\n"), ("200 OK", b"<h1>Welcome</h1>\n")):
        answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head.encode(), len(body), body)
        async with scripted(answering(answer)) as other:
            errors.append(await error_of(connect(other.url)))
    return errors


@scenario
async def full_server(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo, limits=Limits(max_clients=1))
    async with connect(url_of(server)):
        return [await error_of(connect(url_of(server)))]


@scenario
async def old_version(serve: Serve, connect_raw: Connect) -> list[str]:
    raw = await connect_raw(await serve(echo), upgrade=False)
    await raw.send(request(version="1.0"))
    assert (await raw.read_answer()).status == 505
    return []


@scenario
async def tls_on_one_side(serve: Serve, connect_raw: Connect) -> list[str]:
    return [await error_of(connect(url_of(await serve(echo), scheme="wss")))]


@scenario
async def no_server(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo)
    taken = await error_of(WebSocketServer("127.0.0.1", server.port, handler=echo).start())
    url = url_of(server)
    await server.close()
    return [await error_of(connect(url)), taken]


@scenario
async def lost_connection(serve: Serve, connect_raw: Connect) -> list[str]:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(client: Client) -> None:
        ended.set_result(await error_of(client.read_message()))

    raw = await connect_raw(await serve(handler))
    raw.close()
    return [await ended]


@scenario
async def large_message(serve: Serve, connect_raw: Connect) -> list[str]:
    server = await serve(echo)
    async with connect(url_of(server)) as client:
        await client.send("x" * (1024 * 1024 + 1))
        return [await error_of(client.read_message())]


@scenario
async def failing_handler(serve: Serve, connect_raw: Connect) -> list[str]:
    async def handler(client: Client) -> None:
        raise ValueError("no such room")

    async with connect(url_of(await serve(handler))) as client:
        return [await error_of(client.read_message())]


@scenario
async def silent_peer(serve: Serve, connect_raw: Connect) -> list[str]:
    raw = await connect_raw(await serve(echo, timeouts=Timeouts(ping_interval=0.02, ping_timeout=0.02)))
    assert await raw.read_frame()  # the ping
    assert (await raw.read_frame())[1][:2] == (1011).to_bytes(2, "big")
    raw.close()
    return []


@scenario
async def handler_that_returns(serve: Serve, connect_raw: Connect) -> list[str]:
    async def handler(client: Client) -> None: ...

    async with connect(url_of(await serve(handler))) as client:
        await client.wait_closed()
        return [await error_of(client.send("text"))]


@scenario
async def unread_data(serve: Serve, connect_raw: Connect) -> list[str]:
    def on_connection(client: Client) -> None: ...

    async with connect(url_of(await serve(connection=on_connection))) as client:
        await client.writer.ping()  # the callback has returned
        await client.send("hello")
        await client.writer.ping()
    return []


@scenario
async def two_readers(serve: Serve, connect_raw: Connect) -> list[str]:
    async with connect(url_of(await serve(echo))) as client:

        async def read() -> str | bytes:
            return await client.read_message()

        first = asyncio.create_task(read(), name="first")
        await asyncio.sleep(0)
        error = await error_of(asyncio.create_task(read(), name="second"))
        first.cancel()
        return [error]


@scenario
async def wrong_names(serve: Serve, connect_raw: Connect) -> list[str]:
    errors = []
    async with connect(url_of(await serve(echo))) as client:
        for thing, name in ((connect("ws://localhost/"), "send"), (client, "recv")):
            with pytest.raises(AttributeError) as caught:
                getattr(thing, name)
            errors.append(shown(caught.value))
    with pytest.raises(TypeError) as refused:
        connect("ws://localhost/", max_size=2**20)  # type: ignore[call-arg]
    return [*errors, shown(refused.value)]


@scenario
async def missing_extra(serve: Serve, connect_raw: Connect) -> list[str]:
    program = "import sys; sys.modules['werkzeug'] = None; import streamws; streamws.Router"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, env=python_environment()
    )
    return [done.stderr.splitlines()[-1].removeprefix("streamws.errors.")]


@pytest.fixture
def connect_raw(connect: Connect) -> Connect:
    return connect


def normalized(line: str) -> str:
    """Replace what differs from run to run."""
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:50312", line)
    line = re.sub(r"port \d+:", "port 50312:", line)
    return line.replace("for 0.02 s after a ping", "for 20 s after a ping")


async def test_page_quotes_exactly_what_is_logged_and_raised(serve: Serve, connect_raw: Connect, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "streamws")
    seen: set[str] = set()
    servers: list[WebSocketServer] = []

    async def serve_and_remember(*arguments: Any, **options: Any) -> WebSocketServer:
        servers.append(await serve(*arguments, **options))
        return servers[-1]

    for provoke in SCENARIOS:
        caplog.clear()
        errors = {normalized(error) for error in await provoke(serve_and_remember, connect_raw)}
        while servers:
            await within(servers.pop().close())  # all its connections have ended, and have been logged
        logged = {normalized(line) for line in caplog.messages}
        assert errors <= set(LINES)
        assert (errors | logged) & set(LINES)
        seen |= errors | logged
    assert [line for line in LINES if line not in seen] == []
