"""websockets, its asyncio client."""

from websockets.asyncio.client import connect

from benchmarks.clients.common import Arguments, run
from benchmarks.servers.common import MAX_MESSAGE_SIZE


async def echo(arguments: Arguments) -> None:
    async with connect(
        arguments.url,
        ssl=arguments.context,
        compression=None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
        proxy=None,
    ) as connection:
        async for message in connection:
            await connection.send(message)


if __name__ == "__main__":
    run(echo)
