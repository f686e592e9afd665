"""`connect()` with the server of aiohttp."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType, web

from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    UNAUTHORIZED,
    Pings,
    Refusals,
    ServerPeer,
)
from streamws import Close

CLOSES: web.AppKey[asyncio.Queue[Close]] = web.AppKey("closes")


async def converse(request: web.Request) -> web.WebSocketResponse:
    peer = web.WebSocketResponse(protocols=[SUBPROTOCOL], autoping=request.path != "/ping")
    await peer.prepare(request)
    match request.path.split("/")[1:]:
        case ["ping"]:
            await peer.ping(BEAT)
        case ["subprotocol"]:
            await peer.send_str(peer.ws_protocol or "")
        case ["leave", code]:
            await peer.close(code=int(code), message=REASON.encode())
            assert peer.close_code is not None
            request.app[CLOSES].put_nowait(Close(peer.close_code))
            return peer
    while True:
        match await peer.receive():
            case (WSMsgType.TEXT, text, _):
                await peer.send_str(text)
            case (WSMsgType.BINARY, data, _):
                await peer.send_bytes(data)
            case (WSMsgType.PONG, data, _):
                assert data == BEAT
                await peer.send_str("pong")
            case (WSMsgType.CLOSE, code, reason):
                request.app[CLOSES].put_nowait(Close(code, reason or ""))
                return peer
            case unexpected:
                raise AssertionError(unexpected)


async def unauthorized(request: web.Request) -> web.Response:
    return web.Response(status=401, text=UNAUTHORIZED)


async def busy(request: web.Request) -> web.Response:
    return web.Response(status=503, headers={"Retry-After": RETRY_AFTER})


@pytest.fixture
async def peer() -> AsyncIterator[ServerPeer]:
    application = web.Application()
    application[CLOSES] = asyncio.Queue()
    application.add_routes(
        [web.get("/unauthorized", unauthorized), web.get("/busy", busy), web.get("/{path:.*}", converse)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield ServerPeer(f"ws://127.0.0.1:{runner.addresses[0][1]}", application[CLOSES].get)
    finally:
        await runner.cleanup()


class TestConnect(Pings, Refusals):
    """`connect()` with this server, which cannot send fragments."""
