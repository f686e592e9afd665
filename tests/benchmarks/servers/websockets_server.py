"""websockets, its asyncio server."""

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.extensions import permessage_deflate
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from zlib_ng import zlib_ng

from benchmarks.deflate import Settings
from benchmarks.servers.common import BROADCAST, HOST, MAX_MESSAGE_SIZE, TRANSFER, Arguments, run

clients: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def broadcast_on_command(connection: ServerConnection) -> None:
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


def compression(settings: Settings | None) -> dict[str, Any]:
    """The arguments of `serve` for it; by default it is a window of 12 bits, memory level 5, level 6."""
    if settings is None:
        return {"compression": None}
    if settings.window_bits is None:
        return {}
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=not settings.takeover,
        client_no_context_takeover=not settings.takeover,
        server_max_window_bits=settings.window_bits,
        client_max_window_bits=settings.window_bits,
        compress_settings={"level": settings.level, "memLevel": settings.mem_level},
    )
    return {"compression": None, "extensions": [factory]}


async def start(arguments: Arguments) -> int:
    if arguments.zlib_ng:
        vars(permessage_deflate)["zlib"] = zlib_ng
    server = await serve(
        HANDLERS[arguments.handler],
        HOST,
        arguments.port,
        ssl=arguments.context,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
        **compression(arguments.deflate),
    )
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


if __name__ == "__main__":
    run(start)
