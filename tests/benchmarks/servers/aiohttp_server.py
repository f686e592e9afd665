"""The server of aiohttp, `web.WebSocketResponse`.

It compresses with level 1, memory level 8 and the window that the client requests, and has no settings for them. The
cases set them by `set_zlib_backend`, which is meant for choosing another zlib. It always inflates with a window of 15
bits and cannot ask the client for no context takeover, so it keeps the memory of the window.
"""

import asyncio
import time
import zlib
from functools import partial
from types import ModuleType, SimpleNamespace

from aiohttp import WSMsgType, set_zlib_backend, web
from zlib_ng import zlib_ng

from benchmarks.deflate import Settings
from benchmarks.servers.common import (
    BROADCAST,
    HOST,
    MAX_MESSAGE_SIZE,
    SMALL,
    TRANSFER,
    Arguments,
    longest_wait,
    run,
)

clients: set[web.WebSocketResponse] = set()
compression_enabled = False
ping_interval: float | None = None


async def prepare(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse(
        compress=compression_enabled, max_msg_size=MAX_MESSAGE_SIZE, heartbeat=ping_interval
    )
    await response.prepare(request)
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    response = await prepare(request)
    async for message in response:
        if message.type is WSMsgType.BINARY:
            await response.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
    return response


async def broadcast_on_command(request: web.Request) -> web.WebSocketResponse:
    response = await prepare(request)
    clients.add(response)
    try:
        async for message in response:
            turns, in_turn = map(int, message.data.split())
            for _ in range(turns):
                for _ in range(in_turn):
                    for client in list(clients):
                        await client.send_bytes(BROADCAST)
                await asyncio.sleep(0)
    finally:
        clients.discard(response)
    return response


async def upload(request: web.Request) -> web.WebSocketResponse:
    response = await prepare(request)
    received = 0
    async for message in response:
        if message.type is WSMsgType.BINARY:
            received += len(message.data)
        elif message.type is WSMsgType.TEXT:
            await response.send_str(str(received))
            received = 0
    return response


async def download(request: web.Request) -> web.WebSocketResponse:
    response = await prepare(request)
    async for message in response:
        for _ in range(int(message.data) // len(TRANSFER)):
            await response.send_bytes(TRANSFER)
    return response


async def tight_send(request: web.Request) -> web.WebSocketResponse:
    response = await prepare(request)

    async def send_until(end: float) -> None:
        while time.monotonic() < end:
            await response.send_bytes(SMALL)

    async for message in response:
        await response.send_str((await longest_wait(send_until, float(message.data))).decode())
    return response


HANDLERS = {
    "echo": echo,
    "broadcast": broadcast_on_command,
    "upload": upload,
    "download": download,
    "tight-send": tight_send,
}


def enable_compression(codec: ModuleType, settings: Settings) -> None:
    """Compress from now on with this codec and these settings."""
    global compression_enabled
    compression_enabled = True
    names = vars(codec)
    if settings.window_bits is not None:
        compressobj = partial(codec.compressobj, memLevel=settings.mem_level)
        names = {**names, "Z_BEST_SPEED": settings.level, "compressobj": compressobj}
    set_zlib_backend(SimpleNamespace(**names))


async def start(arguments: Arguments) -> int:
    global ping_interval
    ping_interval = arguments.ping
    if arguments.deflate is not None:
        enable_compression(zlib_ng if arguments.zlib_ng else zlib, arguments.deflate)
    application = web.Application()
    application.router.add_get("/", HANDLERS[arguments.handler])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, arguments.port, ssl_context=arguments.context, backlog=arguments.backlog)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


if __name__ == "__main__":
    run(start)
