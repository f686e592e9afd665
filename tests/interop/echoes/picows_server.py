"""picows' async-iterator interface, because its core has no compression and does not assemble messages."""

from picows.websockets import ServerConnection, serve

from interop.echoes import common


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def start() -> int:
    server = await serve(
        echo, common.HOST, 0, compression="deflate", max_size=common.MAX_MESSAGE_SIZE, ping_interval=None
    )
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    common.serve(start)
