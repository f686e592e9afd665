"""Code shared by all servers under measurement: command line, event loop, and the report that a server is ready."""

import argparse
import asyncio
import logging
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable

from benchmarks.deflate import Settings
from benchmarks.sealing import server_context

HOST = "127.0.0.1"
MAX_MESSAGE_SIZE = 4 << 20
BROADCAST = b"b" * 256
SMALL_SIZE = 20
"""The size of the messages of the handler `tight-send`, in bytes."""
SMALL = b"s" * SMALL_SIZE
TICK = 0.01
TRANSFER = bytes(range(256)) * 4096
"""The 1 MiB of bytes that uploads and downloads repeat."""


class Arguments(argparse.Namespace):
    port: int
    tls: bool
    loop: str
    handler: str
    ping: float | None
    backlog: int
    way: str
    deflate: Settings | None
    zlib_ng: bool
    core: int | None
    lifetime: int
    redis: int | None
    pure: bool
    no_speed: bool

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context, or None for a server without TLS."""
        return server_context() if self.tls else None


def parser() -> argparse.ArgumentParser:
    """Return a parser for the options of servers."""
    result = argparse.ArgumentParser(description="A server under measurement. It prints its port when it is ready.")
    result.add_argument("--port", type=int, default=0, help="the port to listen on (default: any free port)")
    result.add_argument("--tls", action="store_true", help="serve wss with the certificate of the tests")
    result.add_argument(
        "--handler",
        choices=["echo", "broadcast", "upload", "download", "tight-send", "topics", "history"],
        default="echo",
        help="the task of the server; `topics` and `history`, with a history, are in members.py (default: echo)",
    )
    result.add_argument(
        "--deflate",
        type=Settings.parse,
        metavar="SETTINGS",
        help="compress, with the library's settings (default) or with WINDOW_BITS,MEM_LEVEL,LEVEL,TAKEOVER (12,5,6,1)",
    )
    result.add_argument("--ping", type=float, metavar="SECONDS", help="ping idle clients at this interval")
    result.add_argument("--backlog", type=int, default=100, help="connections that may wait to be accepted (100)")
    result.add_argument("--redis", type=int, metavar="PORT", help="publish through the Redis at this port")
    result.add_argument("--zlib-ng", action="store_true", help="compress with zlib-ng")
    add_process_options(result)
    return result


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that servers and clients share."""
    parser.add_argument(
        "--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop (default: asyncio)"
    )
    parser.add_argument("--core", type=int, help="the CPU core to run on (default: any)")
    parser.add_argument("--lifetime", type=int, default=300, help="end after this number of seconds (default: 300)")


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `choose_build` reads."""
    parser.add_argument("--pure", action="store_true", help="import the .py sources instead of the C modules")
    parser.add_argument("--no-speed", action="store_true", help="run without the packages of the speed extra")


def choose_build(arguments: Arguments, speed_packages: Iterable[str]) -> None:
    """Decide which build of streamws is imported. Call it before the first import of streamws.

    :param speed_packages: The packages that cannot be imported with `--no-speed`.
    """
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    if arguments.no_speed:
        for name in speed_packages:
            sys.modules[name] = None  # type: ignore[assignment]  # makes its import raise ImportError


def new_loop(arguments: Arguments) -> asyncio.AbstractEventLoop:
    """Prepare this process for the measurement.

    :returns: The event loop that the arguments name, set as the current one.
    """
    import uvloop  # not at the top, because the load generator imports this module, too

    prepare_process(arguments)
    loop = uvloop.new_event_loop() if arguments.loop == "uvloop" else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def prepare_process(arguments: Arguments) -> None:
    """Prepare this process for the measurement, without an event loop."""
    signal.alarm(arguments.lifetime)
    logging.disable(logging.CRITICAL)
    raise_limit_of_open_files()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})


def raise_limit_of_open_files() -> None:
    """Let this process open as many files as it may."""
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))


async def longest_wait(send_all: Callable[[float], Awaitable[None]], seconds: float) -> bytes:
    """Measure how long another task of this event loop waits while messages are sent in a tight loop.

    :param send_all: Sends messages until a time of `time.monotonic`.
    :returns: The longest wait in seconds, as text of `SMALL_SIZE` bytes.
    """
    longest = 0.0
    last = time.monotonic()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            longest, last = max(longest, now - last - TICK), now

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)  # the task begins
    await send_all(time.monotonic() + seconds)
    longest = max(longest, time.monotonic() - last - TICK)
    ticking.cancel()
    return f"{longest:<{SMALL_SIZE}.6f}".encode()


def report_ready(port: int) -> None:
    """Print the port, for the process that started this one."""
    print(port, flush=True)


def run(start: Callable[[Arguments], Awaitable[int]]) -> None:
    """Run a server until the process is stopped.

    :param start: Starts the server and returns its port.
    """
    arguments = parser().parse_args(namespace=Arguments())
    loop = new_loop(arguments)
    report_ready(loop.run_until_complete(_await(start(arguments))))
    loop.run_forever()


async def _await(port: Awaitable[int]) -> int:
    return await port
