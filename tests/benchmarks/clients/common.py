"""Code shared by all clients under measurement: command line, event loop, and number of connections."""

import argparse
import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.sealing import client_context
from benchmarks.servers import common


class Arguments(common.Arguments):
    url: str
    connections: int

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for a wss URL; None for ws."""
        return client_context() if self.url.startswith("wss:") else None


def parser() -> argparse.ArgumentParser:
    """Return a parser for the options of clients."""
    result = argparse.ArgumentParser(description="A client under measurement. It echoes every message.")
    result.add_argument("--url", required=True, help="the URL to connect to")
    result.add_argument("--connections", type=int, default=1, help="the number of connections to open (default: 1)")
    common.add_process_options(result)
    return result


async def echo_messages(connect: Callable[..., Any], arguments: Arguments) -> None:
    """Echo over one connection, with the API that picows-iter and websockets share.

    :param connect: The `connect` of the library.
    """
    async with connect(
        arguments.url,
        ssl=arguments.context,
        compression=None,
        max_size=common.MAX_MESSAGE_SIZE,
        ping_interval=None,
        proxy=None,
    ) as connection:
        async for message in connection:
            await connection.send(message)


def run(echo: Callable[[Arguments], Awaitable[None]], arguments: Arguments | None = None) -> None:
    """Open the connections, and echo until the peer has closed all of them.

    :param echo: Opens one connection and echoes its messages.
    """
    chosen = parser().parse_args(namespace=Arguments()) if arguments is None else arguments
    loop = common.new_loop(chosen)

    async def echo_all() -> None:
        await asyncio.gather(*(echo(chosen) for _ in range(chosen.connections)))

    loop.run_until_complete(echo_all())
