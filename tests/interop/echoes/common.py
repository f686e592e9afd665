"""Helpers for the echo programs. Each runs in a process and sends every message back unchanged.

A server prints its port, and serves until it is stopped. A client goes through the cases of a fuzzing server, which
speaks Autobahn's protocol: /getCaseCount says how many cases there are, /runCase is one of them, and /updateReports
has the server write its verdicts.

Compression is on, as far as a library has it, and keepalive is off: the fuzzing peer may be busy for long.
"""

import argparse
import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

HOST = "127.0.0.1"

MAX_MESSAGE_SIZE = 32 << 20
"""16 MiB messages, and 4 MiB ones in 64-byte fragments, are among the cases."""

PATIENCE = 600.0
"""Seconds for one case. The fuzzing server ends the longest ones after 480."""


class Arguments(argparse.Namespace):
    url: str
    agent: str
    at_once: int


def serve(start: Callable[[], Awaitable[int]]) -> None:
    """Start a server, print its port, and run until the process is stopped."""

    async def run() -> None:
        print(await start(), flush=True)
        await asyncio.get_running_loop().create_future()

    asyncio.run(run())


def client_parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser()
    result.add_argument("url", help="of the fuzzing server")
    result.add_argument("--agent", default="streamws", help="the name in its report")
    result.add_argument("--at-once", type=int, default=1, help="how many cases run at the same time: many only wait")
    return result


def go_through_cases(echo: Callable[[str], Awaitable[None]], arguments: Arguments) -> None:
    """Run the cases of a fuzzing server.

    :param echo: connects to a URL, and sends messages back until the connection ends."""
    # Not at the top, because the caller decides which build is imported.
    from streamws import ConnectionClosed, connect

    async def work_off(cases: Iterator[int]) -> None:
        for number in cases:
            try:
                async with asyncio.timeout(PATIENCE):
                    await echo(f"{arguments.url}/runCase?case={number}&agent={arguments.agent}")
            except Exception:
                print(f"case number {number}:")
                traceback.print_exc()

    async def run() -> None:
        async with connect(f"{arguments.url}/getCaseCount", proxy=None) as client:
            count = int(await client.read_message())
        cases = iter(range(1, count + 1))
        await asyncio.gather(*(work_off(cases) for _ in range(arguments.at_once)))
        with suppress(ConnectionClosed):
            async with connect(f"{arguments.url}/updateReports?agent={arguments.agent}", proxy=None) as client:
                await client.wait_closed()

    asyncio.run(run())
