"""What every client under measurement has in common: command line, loop, and how often it connects."""

import argparse
import asyncio
import ssl
from collections.abc import Awaitable, Callable

from benchmarks.sealing import client_context
from benchmarks.servers import common


class Arguments(common.Arguments):
    url: str
    connections: int

    @property
    def context(self) -> ssl.SSLContext | None:
        """For a URL that wants one."""
        return client_context() if self.url.startswith("wss:") else None


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser()
    result.add_argument("--url", required=True)
    result.add_argument("--connections", type=int, default=1)
    common.add_surroundings(result)
    return result


def run(echo: Callable[[Arguments], Awaitable[None]], arguments: Arguments | None = None) -> None:
    """Connect, and echo until the other side closes."""
    chosen = parser().parse_args(namespace=Arguments()) if arguments is None else arguments
    loop = common.new_loop(chosen)

    async def all_of_them() -> None:
        await asyncio.gather(*(echo(chosen) for _ in range(chosen.connections)))

    loop.run_until_complete(all_of_them())
