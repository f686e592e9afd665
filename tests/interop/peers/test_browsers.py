"""Headless browsers: a page served by streamws connects to streamws."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import echo
from helpers.inside import is_full
from helpers.waiting import until
from interop.conversations import DEFAULT, TAKEOVER
from interop.peers.browser import Page, chromium, firefox
from streamws import (
    Client,
    Close,
    CloseOutcome,
    Compression,
    Limits,
    Request,
    Response,
    WebSocketServer,
)

HTML = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="/page.js"></script>'
SCRIPT = (Path(__file__).parent / "page.js").read_bytes()
OPENED = {"opened": True, "protocol": "", "extensions": "", "wasClean": True}
FLOOD = 1 << 10
REASON = "ü" * 61
# A browser sends large messages in fragments, and each fragment counts as 64 bytes on top of the 1 MiB.
LIMITS = Limits(max_message_size=2 << 20)

Browser = Callable[[str, Path], AbstractAsyncContextManager[Page]]


class Site:
    """A server of the tests' page."""

    def __init__(self, compression: Compression | None = None) -> None:
        self.outcomes: asyncio.Queue[CloseOutcome] = asyncio.Queue()
        self.socket = WebSocketServer(
            "127.0.0.1", 0, handler=self.handle, subprotocols=["chat.v1"], limits=LIMITS, compression=compression
        )
        self.socket.request(self.answer)
        self._read = asyncio.Event()
        self._stuck = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.port}/"

    async def answer(self, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        match request.path:
            case "/page.js":
                return Response(200, SCRIPT, content_type="text/javascript; charset=utf-8")
            case "/read":
                self._read.set()
            case "/stuck":
                await self._stuck.wait()
        return Response(200, HTML, content_type="text/html")

    async def handle(self, client: Client) -> None:
        client.closed(self.outcomes.put_nowait)
        match client.request.path.split("/")[1:]:
            case ["goodbye", code]:
                await client.close(int(code), REASON)
            case ["ping"]:
                await client.send(f"pong came: {await client.writer.ping() > 0}")
            case ["pieces"]:
                await client.writer.feed(["a", "ü" * 100_000, "🌍"])
            case ["flood"]:
                await until(lambda: is_full(client))
                await client.send("full")
                await self._read.wait()
                numbers = [(await self._binary(client))[:4] for _ in range(FLOOD)]
                await client.send(str(numbers == [number.to_bytes(4, "big") for number in range(FLOOD)]))
                await client.wait_closed()
            case ["messages"]:
                await self._send(client)
            case ["stalled"]:
                sending = asyncio.create_task(self._send(client))
                await until(lambda: client._connection.outbox.paused)
                self._stuck.set()
                await sending
            case _:
                await echo(client)

    async def _binary(self, client: Client) -> bytes:
        message = await client.read_message()
        assert isinstance(message, bytes)
        return message

    async def _send(self, client: Client) -> None:
        for number in range(FLOOD):
            await client.send(number.to_bytes(4, "big") + bytes(65532))


@pytest.fixture(params=[chromium, firefox], ids=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    chosen: Browser = request.param
    return chosen


@asynccontextmanager
async def visit(browser: Browser, folder: Path) -> AsyncIterator[tuple[Page, Site]]:
    site = Site()
    async with site.socket, browser(site.url, folder) as page:
        yield page, site


async def test_page_and_worker_receive_echoes_and_close(browser: Browser, tmp_path: Path) -> None:
    async with visit(browser, tmp_path) as (page, plain):
        await expect_echoes(page, plain, "")
        for compression in (DEFAULT, TAKEOVER):
            site = Site(compression)
            async with site.socket:
                await page.open(site.url)
                await expect_echoes(page, site, "permessage-deflate")
        assert page.complaints == []


async def expect_echoes(page: Page, site: Site, extension: str) -> None:
    for call, kind in [
        ("echo('arraybuffer')", "ArrayBuffer"),
        ("echo('blob')", "Blob"),
        ("""inWorker("echo('arraybuffer')")""", "ArrayBuffer"),
    ]:
        seen = await page.evaluate(call)
        outcome = await site.outcomes.get()
        expected = {"received": [True] * 16, "types": [kind], "code": 4001, "reason": ""}
        assert seen.pop("extensions").partition(";")[0] == extension
        assert seen | {"extensions": ""} == OPENED | expected
        assert outcome.received == Close(4001, "done")


ACTIONS: list[tuple[str, dict[str, Any]]] = [
    ("connection('/ping')", {"received": ["pong came: True"], "code": 1000, "reason": ""}),
    ("connection('/pieces')", {"received": ["a" + "ü" * 100_000 + "🌍"], "code": 1000, "reason": ""}),
    (
        "connection('/ping', undefined, {protocols: ['chat.v0', 'chat.v1']})",
        {"received": ["pong came: True"], "code": 1000, "reason": "", "protocol": "chat.v1"},
    ),
    *(
        (f"connection('/goodbye/{code}')", {"received": [], "code": code, "reason": REASON})
        for code in (1000, 1001, 1011, 3000, 4999)
    ),
]


async def test_page_and_worker_observe_actions_of_server(browser: Browser, tmp_path: Path) -> None:
    async with visit(browser, tmp_path) as (page, _):
        for call, expected in ACTIONS:
            assert await page.evaluate(call) == OPENED | expected
            assert await page.evaluate(f'inWorker("{call}")') == OPENED | expected
        assert page.complaints == []


async def test_page_closes_with_codes_and_when_tab_is_closed(browser: Browser, tmp_path: Path) -> None:
    async with visit(browser, tmp_path) as (page, site):
        refused = await page.evaluate("leave([1000, 3000, 4999, 1001, 1011])")
        await page.evaluate("new Promise((done) => new WebSocket(base).onopen = done).then(() => 0)")
        await page.close()
        outcomes = [await site.outcomes.get() for _ in range(6)]

    assert refused == [[1001, "InvalidAccessError"], [1011, "InvalidAccessError"]]
    assert [outcome.received for outcome in outcomes] == [
        *(Close(code, REASON) for code in (1000, 3000, 4999)),
        *(Close(1005) for _ in refused),
        Close(1001),
    ]


async def test_floods_in_both_directions(browser: Browser, tmp_path: Path) -> None:
    async with visit(browser, tmp_path) as (page, _):
        assert await page.evaluate("flood()") == {"received": ["full", "True"], "buffered": [0, True, True, 0]}
        assert await page.evaluate("receiveFlood()") == [FLOOD, True]
        assert await page.evaluate("inWorker('receiveFlood()')") == [FLOOD, True]
        assert page.complaints == []


async def test_page_that_does_not_read_stream_holds_up_server(tmp_path: Path) -> None:
    async with visit(chromium, tmp_path) as (page, _):  # Firefox has no WebSocketStream
        assert await page.evaluate("readFlood()") == [FLOOD, True]
        assert page.complaints == []


async def test_server_refuses_page_of_other_host(
    browser: Browser, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    async with visit(browser, tmp_path) as (page, _):
        seen = await page.evaluate("connection('', undefined, {url: `ws://localhost:${location.port}/`})")

    assert seen == {"opened": False, "received": [], "code": 1006, "reason": "", "wasClean": False}
    assert "refused with 403" in caplog.text
