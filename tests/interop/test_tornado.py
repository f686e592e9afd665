"""The client and the server of tornado, which send no fragments."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

from interop.conversations import (
    BEAT,
    DEFAULT,
    NARROW,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TOLERANT,
    UNAUTHORIZED,
    ClientPeer,
    Peer,
    Pings,
    Refusals,
    ServerPeer,
    exchange_compressed,
    expect_takeover_unasked,
)
from streamws import Close, Compression, DeflateTerms

LIMIT = 2 << 20


class Conversation(WebSocketHandler):
    """The server's end of a connection."""

    def initialize(self, closes: asyncio.Queue[Close], compression: dict[str, Any] | None) -> None:
        self._closes = closes
        self._compression = compression

    def get_compression_options(self) -> dict[str, Any] | None:
        return self._compression

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    async def open(self, *arguments: str, **named: str) -> None:
        match self.request.path.split("/")[1:]:
            case ["subprotocol"]:
                await self.write_message(self.selected_subprotocol or "")
            case ["ping"]:
                self.ping(BEAT)
            case ["leave", code]:
                self.close(int(code), REASON)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, isinstance(message, bytes))

    def on_pong(self, data: bytes) -> None:
        assert data == BEAT
        self.write_message("pong")

    def on_close(self) -> None:
        assert self.close_code is not None
        self._closes.put_nowait(Close(self.close_code, self.close_reason or ""))


class Refusal(RequestHandler):
    """An HTTP answer without an upgrade."""

    def get(self) -> None:
        if self.request.path == "/unauthorized":
            self.set_status(401)
            self.set_header("Content-Type", "text/plain")
            self.write(UNAUTHORIZED)
        else:
            self.set_status(503)
            self.set_header("Retry-After", RETRY_AFTER)


@asynccontextmanager
async def serving(compression: dict[str, Any] | None = None) -> AsyncIterator[ServerPeer]:
    closes: asyncio.Queue[Close] = asyncio.Queue()
    application = Application(
        [
            ("/unauthorized|/busy", Refusal),
            ("/.*", Conversation, {"closes": closes, "compression": compression}),
        ],
        log_function=lambda handler: None,
        websocket_max_message_size=LIMIT,
    )
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield ServerPeer(f"ws://127.0.0.1:{sockets[0].getsockname()[1]}", closes.get)
    finally:
        server.stop()
        await server.close_all_connections()


def client(compression: dict[str, Any] | None = None, **options: Any) -> ClientPeer:
    closes: asyncio.Queue[Close] = asyncio.Queue()

    async def converse(url: str, subprotocols: Sequence[str]) -> None:
        peer: WebSocketClientConnection = await websocket_connect(
            url, subprotocols=list(subprotocols) or None, compression_options=compression, max_message_size=LIMIT
        )

        def on_pong(data: bytes) -> None:
            assert data == BEAT
            peer.write_message("pong")

        peer.on_pong = on_pong  # type: ignore[method-assign]
        match url.split("/")[3:]:
            case ["subprotocol"]:
                await peer.write_message(peer.selected_subprotocol or "")
            case ["ping"]:
                peer.ping(BEAT)
            case ["leave", code]:
                peer.close(int(code), REASON)
        while (message := await peer.read_message()) is not None:
            await peer.write_message(message, isinstance(message, bytes))
        peer.close()
        assert peer.close_code is not None
        closes.put_nowait(Close(peer.close_code, peer.close_reason or ""))

    @asynccontextmanager
    async def run(url: str, subprotocols: Sequence[str]) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(converse(url, subprotocols))
            yield

    return ClientPeer(run, closes.get, **options)


class TestServer(Pings, Refusals):
    """`connect()` with this server."""

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with serving() as peer:
            yield peer


class TestClient(Pings):
    """A server with this client."""

    @pytest.fixture
    def peer(self) -> Peer:
        return client()


# Compression, always with takeover of its own ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "agreed"),
    [
        (DEFAULT, DeflateTerms(12, False, 12, True)),
        (NARROW, DeflateTerms(9, True, 9, True)),
        (TOLERANT, DeflateTerms(15, False, 15, True)),
    ],
)
async def test_server_compresses(own: Compression, agreed: DeflateTerms) -> None:
    async with serving({}) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(
    ("own", "agreed"),
    [
        (Compression(threshold=0, peer_takeover=True), DeflateTerms(12, False, 12, True)),
        (NARROW, DeflateTerms(9, True, 9, True)),
        (TOLERANT, DeflateTerms(15, False, 15, True)),
    ],
)
async def test_client_compresses(own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(client({}), own, agreed)


async def test_client_uses_takeover_unasked() -> None:
    await expect_takeover_unasked(client({}), DEFAULT)
