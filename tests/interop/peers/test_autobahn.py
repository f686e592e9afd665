"""The client and the server of Autobahn|Python on asyncio, which have no back-pressure."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from autobahn.asyncio.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.types import ConnectionDeny

from interop.conversations import (
    BEAT,
    BROWSER_CODES,
    DEFAULT,
    NARROW,
    REASON,
    SUBPROTOCOL,
    TEXT,
    TOLERANT,
    Choice,
    ClientPeer,
    GivenFragments,
    Peer,
    ServerPeer,
    exchange_compressed,
)
from streamws import Close, Compression, DeflateTerms, HandshakeRefused


class Conversation:
    """What both roles do on a connection."""

    closes: asyncio.Queue[Close]
    path = ""

    def onOpen(self: Any) -> None:
        match self.path.split("/")[1:]:
            case ["subprotocol"]:
                self.sendMessage((self.websocket_protocol_in_use or "").encode())
            case ["fragments"]:
                self.beginMessage()
                for part in TEXT:
                    self.sendMessageFrame(part.encode())
                    if part is TEXT[0]:
                        self.sendPing(BEAT)
                self.endMessage()
            case ["ping"]:
                self.sendPing(BEAT)
            case ["leave", code]:
                self.sendClose(int(code), REASON)

    def onMessage(self: Any, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)

    def onPong(self: Any, payload: bytes) -> None:
        assert payload == BEAT
        if self.path == "/ping":
            self.sendMessage(b"pong")

    def onClose(self: Any, wasClean: bool, code: int, reason: str | None) -> None:
        if wasClean:
            self.closes.put_nowait(Close(self.remoteCloseCode, self.remoteCloseReason or ""))


class ServerConversation(Conversation, WebSocketServerProtocol):  # type: ignore[misc]
    """The server's end of a connection."""

    def onConnect(self, request: Any) -> str | None:
        self.path = request.path
        if self.path == "/unauthorized":
            raise ConnectionDeny(401, "who?")
        return SUBPROTOCOL if SUBPROTOCOL in request.protocols else None


class ClientConversation(Conversation, WebSocketClientProtocol):  # type: ignore[misc]
    """The client's end of a connection."""


def settle(factory: Any, closes: asyncio.Queue[Close], options: dict[str, Any]) -> None:
    """Set what both roles need."""
    kind = ServerConversation if isinstance(factory, WebSocketServerFactory) else ClientConversation

    def make() -> Any:
        conversation = kind()
        conversation.closes = closes
        if kind is ClientConversation:
            conversation.path = factory.resource
        return conversation

    factory.protocol = make
    factory.setProtocolOptions(**options)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[ServerPeer]:
    closes: asyncio.Queue[Close] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    factory = WebSocketServerFactory(protocols=[SUBPROTOCOL], loop=loop)
    settle(factory, closes, options)
    server = await loop.create_server(factory, "127.0.0.1", 0)
    try:
        yield ServerPeer(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", closes.get)
    finally:
        server.close()
        await server.wait_closed()


def client(options: dict[str, Any] | None = None, **own: Any) -> ClientPeer:
    closes: asyncio.Queue[Close] = asyncio.Queue()

    @asynccontextmanager
    async def run(url: str, subprotocols: Sequence[str]) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        factory = WebSocketClientFactory(url, protocols=list(subprotocols), loop=loop)
        settle(factory, closes, options or {})
        transport, _ = await loop.create_connection(factory, factory.host, factory.port)
        try:
            yield
        finally:
            transport.close()

    return ClientPeer(run, closes.get, **own)


class TestServer(GivenFragments, Choice):
    """`connect()` with this server."""

    codes = BROWSER_CODES

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with serving() as peer:
            yield peer

    async def test_client_raises_status_of_refusal(self, peer: Peer) -> None:
        with pytest.raises(HandshakeRefused, match=r"^401 Unauthorized: the response has no body$"):
            async with peer.connect("/unauthorized"):
                pass


class TestClient(GivenFragments):
    """A server with this client."""

    codes = BROWSER_CODES

    @pytest.fixture
    def peer(self) -> Peer:
        return client()


# Compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [
        ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
        ({}, NARROW, DeflateTerms(9, True, 9, True)),
        ({}, TOLERANT, DeflateTerms(15, False, 15, True)),
        ({"request_no_context_takeover": True}, NARROW, DeflateTerms(9, False, 9, True)),
        ({"request_max_window_bits": 10}, DEFAULT, DeflateTerms(10, False, 12, False)),
    ],
)
async def test_server_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    def accept(offers: list[Any]) -> Any:
        offer = next(offer for offer in offers if isinstance(offer, PerMessageDeflateOffer))
        return PerMessageDeflateOfferAccept(offer, **settings)

    async with serving(perMessageCompressionAccept=accept) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [
        ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
        ({}, NARROW, DeflateTerms(9, True, 9, False)),
        ({}, TOLERANT, DeflateTerms(15, False, 15, False)),
        ({"request_no_context_takeover": True}, NARROW, DeflateTerms(9, False, 9, False)),
        ({"request_max_window_bits": 10}, DEFAULT, DeflateTerms(10, False, 12, False)),
    ],
)
async def test_client_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    def accept(response: Any) -> Any:
        assert isinstance(response, PerMessageDeflateResponse)
        return PerMessageDeflateResponseAccept(response)

    options = {
        "perMessageCompressionOffers": [PerMessageDeflateOffer(**settings)],
        "perMessageCompressionAccept": accept,
    }
    await exchange_compressed(client(options), own, agreed)
