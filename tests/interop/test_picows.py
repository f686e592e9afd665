"""The client and the server of picows' core, which calls back for each frame."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TEXT,
    UNAUTHORIZED,
    GivenFragments,
    Refusals,
    ServerPeer,
)
from interop.serving import MESSAGES, serving
from streamws import Cause, Client, Close, Side


class Frame(NamedTuple):
    """A frame that the peer received."""

    kind: WSMsgType
    payload: bytes
    fin: bool = True


class Peer(WSListener):
    """Queues the frames it receives, and answers Close frames."""

    transport: WSTransport

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames.put_nowait(Frame(frame.msg_type, frame.get_payload_as_bytes(), frame.fin))
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def send(self, message: str | bytes, fin: bool = True) -> None:
        self.transport.send(*encoded(message), fin)


def encoded(message: str | bytes) -> tuple[WSMsgType, bytes]:
    if isinstance(message, str):
        return WSMsgType.TEXT, message.encode()
    return WSMsgType.BINARY, message


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Peer]:
    peer = Peer()
    transport, _ = await ws_connect(lambda: peer, url)
    try:
        yield peer
    finally:
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
async def test_server_echoes_message(message: str | bytes) -> None:
    async with serving() as served, connect(served.url) as peer:
        peer.send(message)
        assert await peer.frames.get() == Frame(*encoded(message))


async def test_server_echoes_burst_in_order() -> None:
    async with serving() as served, connect(served.url) as peer:
        messages = [b"%d" % number * 50 for number in range(1000)]
        for message in messages:
            peer.send(message)
        assert [(await peer.frames.get()).payload for _ in messages] == messages


async def test_server_joins_fragments() -> None:
    async with serving() as served, connect(served.url) as peer:
        peer.send("ab", fin=False)
        peer.transport.send(WSMsgType.CONTINUATION, b"\xc3", False)
        peer.transport.send_ping(b"between")
        peer.transport.send(WSMsgType.CONTINUATION, b"\xbc", True)
        assert await peer.frames.get() == Frame(WSMsgType.PONG, b"between")
        assert await peer.frames.get() == Frame(WSMsgType.TEXT, "abü".encode())


async def test_client_receives_fragments_as_sent() -> None:
    async def stream(client: Client) -> None:
        async with client.writer.fragment() as message:
            await message.send("a")
            await client.writer.pong(b"between")
            await message.send("b")

    async with serving(stream) as served, connect(served.url) as peer:
        seen = [await peer.frames.get() for _ in range(5)]

    assert seen == [
        Frame(WSMsgType.TEXT, b"a", fin=False),
        Frame(WSMsgType.PONG, b"between"),
        Frame(WSMsgType.CONTINUATION, b"b", fin=False),
        Frame(WSMsgType.CONTINUATION, b""),
        Frame(WSMsgType.CLOSE, b"\x03\xe8"),
    ]


async def test_server_answers_pings() -> None:
    async with serving() as served, connect(served.url) as peer:
        assert len(await peer.transport.measure_roundtrip_time(5)) == 5


async def test_client_answers_ping() -> None:
    async def ping(client: Client) -> None:
        await client.send(str(await client.writer.ping(b"beat")))

    async with serving(ping) as served, connect(served.url) as peer:
        assert float((await peer.frames.get()).payload) > 0


async def test_server_answers_close() -> None:
    async with serving() as served, connect(served.url) as peer:
        peer.transport.send_close(WSCloseCode.GOING_AWAY, b"off")
        assert await peer.frames.get() == Frame(WSMsgType.CLOSE, b"\x03\xe9")
        outcome = await served.outcomes.get()

    assert (outcome.cause, outcome.initiator) == (Cause.CLEAN, Side.REMOTE)
    assert (outcome.received, outcome.sent) == (Close(1001, "off"), Close(1001))


async def test_server_closes_connection() -> None:
    async def leave(client: Client) -> None:
        await client.close(4000, "bye")

    async with serving(leave) as served, connect(served.url) as peer:
        assert await peer.frames.get() == Frame(WSMsgType.CLOSE, b"\x0f\xa0bye")
        outcome = await served.outcomes.get()

    assert (outcome.cause, outcome.initiator) == (Cause.CLOSED_WITH_ERROR, Side.LOCAL)
    assert (outcome.sent, outcome.received) == (Close(4000, "bye"), Close(4000))


# The server of picows --------------------------------------------------------------------------------------------


class Conversation(WSListener):
    def __init__(self, path: str, subprotocol: str, closes: asyncio.Queue[Close]) -> None:
        self._path = path
        self._subprotocol = subprotocol
        self._closes = closes
        self._leaves = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        match self._path.split("/")[1:]:
            case ["subprotocol"]:
                transport.send(WSMsgType.TEXT, self._subprotocol.encode())
            case ["fragments"]:
                transport.send(WSMsgType.TEXT, TEXT[0].encode(), False)
                transport.send_ping(BEAT)
                for part in TEXT[1:]:
                    transport.send(WSMsgType.CONTINUATION, part.encode(), part is TEXT[-1])
            case ["ping"]:
                transport.send_ping(BEAT)
            case ["leave", code]:
                self._leaves = True
                transport.send(WSMsgType.CLOSE, int(code).to_bytes(2, "big") + REASON.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        match frame.msg_type:
            case WSMsgType.CLOSE:
                self._closes.put_nowait(Close(int.from_bytes(payload[:2], "big"), payload[2:].decode()))
                if not self._leaves:
                    transport.send(WSMsgType.CLOSE, payload)
                transport.disconnect()
            case WSMsgType.PONG:
                assert payload == BEAT
                transport.send(WSMsgType.TEXT, b"pong")
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                transport.send(frame.msg_type, payload, frame.fin)


@pytest.fixture
async def peer() -> AsyncIterator[ServerPeer]:
    closes: asyncio.Queue[Close] = asyncio.Queue()

    def answer(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        match request.path.decode():
            case "/unauthorized":
                refusal = WSUpgradeResponse.create_error_response(401, UNAUTHORIZED.encode())
                return WSUpgradeResponseWithListener(refusal, None)
            case "/busy":
                refusal = WSUpgradeResponse.create_error_response(503, b"", {"Retry-After": RETRY_AFTER})
                return WSUpgradeResponseWithListener(refusal, None)
        speaks = SUBPROTOCOL in request.headers.get("Sec-WebSocket-Protocol", "")
        headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if speaks else None
        response = WSUpgradeResponse.create_101_response(extra_headers=headers)
        conversation = Conversation(request.path.decode(), SUBPROTOCOL if speaks else "", closes)
        return WSUpgradeResponseWithListener(response, conversation)

    async with await ws_create_server(answer, "127.0.0.1", 0) as server:
        yield ServerPeer(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", closes.get)


class TestConnect(GivenFragments, Refusals):
    """`connect()` with this server."""
