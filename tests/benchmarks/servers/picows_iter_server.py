"""picows' async-iterator interface, `picows.websockets`.

Measured and not used: a loop over `recv()` costs the same with small messages and twice as much
with 64 KiB ones; a longer queue (`max_queue`) changes nothing.
"""

import asyncio

from picows.websockets import ServerConnection, broadcast, serve

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


async def start(arguments: Arguments) -> int:
    server = await serve(
        HANDLERS[arguments.handler],
        HOST,
        arguments.port,
        compression=None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
    )
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    run(start)
