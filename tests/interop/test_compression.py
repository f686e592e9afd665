"""Compression with other libraries, in both roles: each side inflates what the other one compresses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from picows import websockets as picows
from websockets.asyncio import client as websockets_client
from websockets.asyncio import server as websockets_server
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

from interop.conversations import COMPRESSED, TOLERANT
from interop.serving import serving
from streamws import Client, Compression, connect

settings = pytest.mark.parametrize(
    "compression",
    [
        Compression(threshold=0, window_bits=bits, peer_window_bits=bits, takeover=takeover, peer_takeover=takeover)
        for bits in (9, 12, 15)
        for takeover in (False, True)
    ]
    + [TOLERANT],
    ids=lambda compression: f"{compression.window_bits}{' takeover' if compression.peer_takeover else ''}",
)


def agreed(client: Client) -> bool:
    """Return whether both sides agreed to compress."""
    return "permessage-deflate" in client.response.headers.get("Sec-WebSocket-Extensions", "")


async def echo(client: Client) -> None:
    """Echo every message twice: in one frame, and in two fragments."""
    assert agreed(client)
    async for message in client:
        await client.send(message)
        middle = len(message) // 2
        await client.writer.feed([message[:middle], message[middle:]])


# Clients of other libraries --------------------------------------------------------------------------------------

Send = Callable[[str | bytes], Any]
Connect = Callable[[str, Compression], AbstractAsyncContextManager[tuple[Send, Callable[[], Any]]]]


@asynccontextmanager
async def websockets(url: str, compression: Compression) -> AsyncIterator[tuple[Send, Callable[[], Any]]]:
    factory = ClientPerMessageDeflateFactory(
        server_max_window_bits=compression.window_bits,
        client_max_window_bits=compression.peer_window_bits,
        server_no_context_takeover=not compression.takeover,
        client_no_context_takeover=not compression.peer_takeover,
    )
    async with websockets_client.connect(url, proxy=None, compression=None, extensions=[factory]) as peer:
        assert peer.protocol.extensions
        yield peer.send, peer.recv


@asynccontextmanager
async def aiohttp_client(url: str, compression: Compression) -> AsyncIterator[tuple[Send, Callable[[], Any]]]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=compression.window_bits) as peer,
    ):
        assert peer.compress

        async def send(message: str | bytes) -> None:
            await (peer.send_str(message) if isinstance(message, str) else peer.send_bytes(message))

        async def receive() -> str | bytes:
            return (await peer.receive()).data  # type: ignore[no-any-return]

        yield send, receive


@asynccontextmanager
async def picows_client(url: str, compression: Compression) -> AsyncIterator[tuple[Send, Callable[[], Any]]]:
    async with picows.connect(url, compression="deflate", proxy=None) as peer:
        yield peer.send, peer.recv


@settings
@pytest.mark.parametrize("connect_peer", [websockets, aiohttp_client, picows_client])
async def test_server_echoes_compressed_messages_to_client_of_other_library(
    connect_peer: Connect, compression: Compression
) -> None:
    async with (
        serving(echo, compression=compression) as served,
        connect_peer(served.url, compression) as (send, receive),
    ):
        for message in COMPRESSED:
            await send(message)
            assert await receive() == message
            assert await receive() == message


# Servers of other libraries --------------------------------------------------------------------------------------


@asynccontextmanager
async def websockets_serving(compression: Compression) -> AsyncIterator[int]:
    factory = ServerPerMessageDeflateFactory(
        server_max_window_bits=compression.peer_window_bits,
        client_max_window_bits=compression.window_bits,
        server_no_context_takeover=not compression.peer_takeover,
        client_no_context_takeover=not compression.takeover,
    )

    async def handle(peer: websockets_server.ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)
            await peer.send([message[: len(message) // 2], message[len(message) // 2 :]])

    async with websockets_server.serve(handle, "127.0.0.1", 0, compression=None, extensions=[factory]) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def aiohttp_serving(compression: Compression) -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        peer = web.WebSocketResponse(compress=True)
        await peer.prepare(request)
        async for message in peer:
            for _ in range(2):
                if message.type is WSMsgType.TEXT:
                    await peer.send_str(message.data)
                else:
                    await peer.send_bytes(message.data)
        return peer

    application = web.Application()
    application.add_routes([web.get("/", handle)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def picows_serving(compression: Compression) -> AsyncIterator[int]:
    async def handle(peer: Any) -> None:
        async for message in peer:
            await peer.send(message)
            await peer.send(message)

    async with picows.serve(handle, "127.0.0.1", 0, compression="deflate") as server:
        yield next(iter(server.sockets)).getsockname()[1]


@settings
@pytest.mark.parametrize("peer", [websockets_serving, aiohttp_serving, picows_serving])
async def test_client_receives_compressed_echoes_from_server_of_other_library(
    peer: Callable[[Compression], AbstractAsyncContextManager[int]], compression: Compression
) -> None:
    async with (
        asyncio.timeout(20),
        peer(compression) as port,
        connect(f"ws://127.0.0.1:{port}/", compression=compression) as client,
    ):
        assert agreed(client)
        for message in COMPRESSED:
            await client.send(message)
            assert [await client.read_message() for _ in range(2)] == [message] * 2
        await client.writer.feed(["ü" * 300, "", "a"])
        assert await client.read_message() == "ü" * 300 + "a"
