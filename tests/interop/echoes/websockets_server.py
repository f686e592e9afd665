"""The asyncio server of websockets. Compression is on by default."""

from websockets.asyncio.server import ServerConnection, serve

from interop.echoes import common


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def start() -> int:
    server = await serve(echo, common.HOST, 0, max_size=common.MAX_MESSAGE_SIZE, ping_interval=None)
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


if __name__ == "__main__":
    common.serve(start)
