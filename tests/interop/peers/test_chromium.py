"""Headless Chromium: a page served by streamws connects to streamws."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import echo
from interop.peers.browser import Page, chromium
from streamws import Client, Close, CloseOutcome, Compression, Limits, Request, Response, WebSocketServer

HTML = (Path(__file__).parent / "page.html").read_bytes()
OPENED = {"opened": True, "protocol": "", "extensions": "", "wasClean": True}
# A browser sends large messages in fragments, and each fragment counts as 64 bytes on top of the 1 MiB.
LIMITS = Limits(max_message_size=2 << 20)


class Site:
    """A server of the tests' page."""

    def __init__(self, compression: Compression | bool) -> None:
        self.outcomes: asyncio.Queue[CloseOutcome] = asyncio.Queue()
        self.socket = WebSocketServer(
            "127.0.0.1", 0, handler=self.handle, subprotocols=["chat.v1"], limits=LIMITS, compression=compression
        )
        self.socket.request(self.answer)

    def answer(self, request: Request) -> Response | None:
        return None if "Upgrade" in request.headers else Response(200, HTML, content_type="text/html")

    async def handle(self, client: Client) -> None:
        client.closed(self.outcomes.put_nowait)
        match client.request.path:
            case "/goodbye":
                await client.close(3000, "tschüß")
            case "/ping":
                await client.send(f"pong came: {await client.writer.ping() > 0}")
            case "/pieces":
                await client.writer.feed(["a", "ü" * 100_000, "🌍"])
            case _:
                await echo(client)


@asynccontextmanager
async def visit(folder: Path, compression: Compression | bool = False) -> AsyncIterator[tuple[Page, Site]]:
    site = Site(compression)
    async with site.socket as socket:
        port = socket.sockets[0].getsockname()[1]
        async with chromium(f"http://127.0.0.1:{port}/", folder) as page:
            yield page, site


@pytest.mark.parametrize(
    "compression",
    [False, True, Compression(threshold=0, window_bits=15, takeover=True, peer_takeover=True)],
    ids=["plain", "compressed", "takeover"],
)
async def test_page_receives_echoes_and_closes(tmp_path: Path, compression: Compression | bool) -> None:
    async with visit(tmp_path, compression) as (page, site):
        seen = await page.evaluate("echo()")
        outcome = await site.outcomes.get()

    assert seen.pop("extensions").partition(";")[0] == ("permessage-deflate" if compression else "")
    assert seen | {"extensions": ""} == OPENED | {"received": [True] * 6, "code": 4001, "reason": ""}
    assert outcome.received == Close(4001, "done")
    assert page.complaints == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("connection(base + '/goodbye')", {"received": [], "code": 3000, "reason": "tschüß"}),
        (
            "connection(base + '/goodbye', undefined, ['chat.v0', 'chat.v1'])",
            {"received": [], "code": 3000, "reason": "tschüß", "protocol": "chat.v1"},
        ),
        ("connection(base + '/ping')", {"received": ["pong came: True"], "code": 1000, "reason": ""}),
        (
            "connection(base + '/pieces')",
            {"received": ["a" + "ü" * 100_000 + "🌍"], "code": 1000, "reason": ""},
        ),
    ],
    ids=["close", "subprotocol", "ping", "fragments"],
)
async def test_page_observes_actions_of_server(tmp_path: Path, call: str, expected: dict[str, Any]) -> None:
    async with visit(tmp_path) as (page, _):
        assert await page.evaluate(call) == OPENED | expected
        assert page.complaints == []


async def test_server_refuses_page_of_other_host(tmp_path: Path) -> None:
    async with visit(tmp_path) as (page, _):
        seen = await page.evaluate("connection(`ws://localhost:${location.port}/`)")
        (complaint,) = page.complaints

    assert seen == {"opened": False, "received": [], "code": 1006, "reason": "", "wasClean": False}
    assert "Unexpected response code: 403" in complaint["entry"]["text"]


async def test_page_closes_connection_when_tab_is_closed(tmp_path: Path) -> None:
    async with visit(tmp_path) as (page, site):
        await page.evaluate("new Promise((done) => new WebSocket(base).onopen = done).then(() => 0)")
        await page.close()
        outcome = await site.outcomes.get()

    assert outcome.clean
    assert outcome.received == Close(1001)
