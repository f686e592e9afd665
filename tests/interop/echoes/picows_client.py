"""picows' async-iterator interface, because its core has no compression and does not assemble messages."""

from contextlib import suppress

from picows.websockets import connect
from picows.websockets.exceptions import ConnectionClosed

from interop.echoes.common import MAX_MESSAGE_SIZE, Arguments, client_parser, run_cases


async def echo(url: str) -> None:
    async with connect(
        url, compression="deflate", max_size=MAX_MESSAGE_SIZE, ping_interval=None, proxy=None
    ) as connection:
        with suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)


if __name__ == "__main__":
    run_cases(echo, client_parser().parse_args(namespace=Arguments()))
