"""picows' async-iterator interface, `picows.websockets`.

Measured and not used: a loop over `recv()` costs the same with small messages and twice as much
with 64 KiB ones; a longer queue (`max_queue`) changes nothing.

It compresses with level 6 and memory level 8 and has no settings for them, nor for what it answers: whatever is asked
for, it agrees to windows of 15 bits and takeover. What it takes from `zlib` when it is imported is prepared for the
cases that ask for other levels, and its answer is made in `process_response`, which it obeys.
"""

from __future__ import annotations

import asyncio
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from zlib_ng import zlib_ng

from benchmarks.deflate import Settings
from benchmarks.servers.common import BROADCAST, HOST, MAX_MESSAGE_SIZE, TRANSFER, Arguments, run

if TYPE_CHECKING:
    from picows.websockets import Request, Response, ServerConnection

clients: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def broadcast_on_command(connection: ServerConnection) -> None:
    from picows.websockets import broadcast

    clients.add(connection)
    try:
        async for message in connection:
            for _ in range(int(message)):
                broadcast(clients, BROADCAST)
                await asyncio.sleep(0)
    finally:
        clients.discard(connection)


async def upload(connection: ServerConnection) -> None:
    received = 0
    async for message in connection:
        if isinstance(message, bytes):
            received += len(message)
        else:
            await connection.send(str(received))
            received = 0


async def download(connection: ServerConnection) -> None:
    async for message in connection:
        for _ in range(int(message) // len(TRANSFER)):
            await connection.send(TRANSFER)


HANDLERS = {"echo": echo, "broadcast": broadcast_on_command, "upload": upload, "download": download}


def prepare_zlib(settings: Settings, other: bool) -> None:
    """Have picows, which is not imported yet, find the codec with the settings. `other`: zlib-ng."""
    codec: Any = zlib_ng if other else zlib
    compressobj, decompressobj = codec.compressobj, codec.decompressobj
    if settings.window_bits is not None:
        compressobj = partial(compressobj, level=settings.level, memLevel=settings.mem_level)
    zlib.compressobj, zlib.decompressobj = compressobj, decompressobj


def compression(settings: Settings | None) -> dict[str, Any]:
    """The arguments of `serve` for it."""
    if settings is None:
        return {"compression": None}
    if settings.window_bits is None:
        return {}

    def agree(connection: object, request: Request, response: Response) -> Response:
        response.headers["Sec-WebSocket-Extensions"] = settings.parameters
        return response

    return {"process_response": agree}


async def start(arguments: Arguments) -> int:
    if arguments.deflate is not None:
        prepare_zlib(arguments.deflate, arguments.zlib_ng)
    from picows.websockets import serve  # which takes what it needs from zlib

    server = await serve(
        HANDLERS[arguments.handler],
        HOST,
        arguments.port,
        ssl=arguments.context,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
        **compression(arguments.deflate),
    )
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    run(start)
