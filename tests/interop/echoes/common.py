"""Code shared by the echo programs. Each program is a process that echoes every message.

A server prints its port and serves until it is stopped. A client runs the cases of a fuzzing server by Autobahn's
protocol: /getCaseCount sends the number of cases, /runCase runs one of them, and /updateReports makes the server write
its verdicts.

Compression is on if the library has it. Keepalive is off, because the fuzzing peer may be busy for a long time.
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
    """Run a server until the process is stopped.

    :param start: Starts the server and returns its port.
    """

    async def run() -> None:
        print(await start(), flush=True)
        await asyncio.get_running_loop().create_future()

    asyncio.run(run())


def client_parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser()
    result.add_argument("url", help="the URL of the fuzzing server")
    result.add_argument("--agent", default="streamws", help="the name of the client in the report (default: streamws)")
    result.add_argument("--at-once", type=int, default=1, help="the number of cases to run concurrently (default: 1)")
    return result


def run_cases(echo: Callable[[str], Awaitable[None]], arguments: Arguments) -> None:
    """Run all cases of the fuzzing server.

    :param echo: Connects to a URL, and echoes until the connection ends.
    """
    # Not at the top, because the caller decides first which build is imported.
    from streamws import ConnectionClosed, connect

    async def run_each(cases: Iterator[int]) -> None:
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
        await asyncio.gather(*(run_each(cases) for _ in range(arguments.at_once)))
        with suppress(ConnectionClosed):
            async with connect(f"{arguments.url}/updateReports?agent={arguments.agent}", proxy=None) as client:
                await client.wait_closed()

    asyncio.run(run())
