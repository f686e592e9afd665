"""Headless Chromium: a page that streamws serves talks to streamws."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from helpers.processes import running
from interop.serving import echo

from streamws import Cause, Client, CloseOutcome, Limits, Request, Response, WebSocketServer

PAGE = Path(__file__).parent / "page.html"
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
)


@asynccontextmanager
async def chromium(url: str, folder: Path) -> AsyncIterator[None]:
    """Have Chromium show a page while the block runs; it keeps its files in `folder`."""
    with (folder / "chromium.log").open("wb") as log:
        command = [
            "chromium",
            *OPTIONS,
            f"--user-data-dir={folder / 'profile'}",
            url,
        ]
        async with running(*command, errors=log):
            yield


class Site:
    """A server with the page of the tests, and what came of it."""

    def __init__(self) -> None:
        self.results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outcomes: dict[str, list[CloseOutcome]] = {}
        # A browser sends large messages in fragments, which count 64 bytes each on top of the 1 MiB.
        limits = Limits(max_message_size=2 << 20)
        self.socket = WebSocketServer(
            "127.0.0.1", 0, handler=self.handle, subprotocols=["chat.v1"], limits=limits
        )
        self.socket.request(self.answer)

    def answer(self, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        if request.path == "/":
            return Response(200, PAGE.read_bytes(), content_type="text/html")
        return Response(404)

    async def handle(self, client: Client) -> None:
        path = client.request.path
        if path == "/goodbye":
            await client.close(3000, "tschüß")
        elif path == "/ping":
            await client.send(f"pong came: {await client.writer.ping() > 0}")
        elif path == "/report":
            self.results.put_nowait(json.loads(await client.read_message()))
        else:
            try:
                await echo(client)
            finally:
                await client.wait_closed()
                assert client.outcome is not None
                self.outcomes.setdefault(path, []).append(client.outcome)


async def test_page_talks_to_server(tmp_path: Path) -> None:
    site = Site()
    async with asyncio.timeout(60), site.socket as socket:
        url = f"http://127.0.0.1:{socket.sockets[0].getsockname()[1]}/"
        async with chromium(url, tmp_path):
            results = await site.results.get()

    opened = {"opened": True, "failed": False, "protocol": "", "extensions": "", "wasClean": True}
    assert results == {
        "echo": opened | {"same": [True] * 6, "code": 4001, "reason": ""},
        "goodbye": opened | {"received": [], "code": 3000, "reason": "tschüß"},
        "ping": opened | {"received": ["pong came: True"], "code": 1000, "reason": ""},
        "protocol": opened | {"received": [], "code": 3000, "reason": "tschüß", "protocol": "chat.v1"},
        "foreign": {
            "opened": False,
            "failed": True,
            "received": [],
            "code": 1006,
            "reason": "",
            "wasClean": False,
        },
        "unload": "left open",
    }
    first = site.outcomes["/echo"][0]
    assert first.cause is Cause.PEER_ERROR
    assert str(first.received) == "4001 done"
