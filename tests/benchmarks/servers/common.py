"""What every server under measurement has in common: command line, loop, and saying that it is ready."""

import argparse
import asyncio
import logging
import os
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.deflate import Settings
from benchmarks.sealing import server_context

HOST = "127.0.0.1"
MAX_MESSAGE_SIZE = 4 << 20
BROADCAST = b"b" * 256
TRANSFER = bytes(range(256)) * 4096
"""1 MiB of what is sent up and down."""


class Arguments(argparse.Namespace):
    port: int
    tls: bool
    loop: str
    handler: str
    deflate: Settings | None
    zlib_ng: bool
    core: int | None
    lifetime: int
    pure: bool
    no_speed: bool

    @property
    def context(self) -> ssl.SSLContext | None:
        """For TLS, if that is wanted."""
        return server_context() if self.tls else None


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser()
    result.add_argument("--port", type=int, default=0)
    result.add_argument("--tls", action="store_true")
    result.add_argument("--handler", choices=["echo", "broadcast", "upload", "download"], default="echo")
    result.add_argument("--deflate", type=Settings.parse, help="window,memory level,level,takeover, or default")
    result.add_argument("--zlib-ng", action="store_true", help="compress with zlib-ng")
    add_surroundings(result)
    return result


def add_surroundings(parser: argparse.ArgumentParser) -> None:
    """The options of servers and clients alike."""
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--core", type=int, help="the CPU core to run on")
    parser.add_argument("--lifetime", type=int, default=300, help="seconds after which it ends on its own")


def new_loop(arguments: Arguments) -> asyncio.AbstractEventLoop:
    """The loop asked for, made current, in a process that is set up to be measured."""
    signal.alarm(arguments.lifetime)
    logging.disable(logging.CRITICAL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    loop = uvloop.new_event_loop() if arguments.loop == "uvloop" else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def ready(port: int) -> None:
    print(port, flush=True)


def run(start: Callable[[Arguments], Awaitable[int]]) -> None:
    """Start a server, which gives its port, and run until the process is stopped."""
    arguments = parser().parse_args(namespace=Arguments())
    loop = new_loop(arguments)
    ready(loop.run_until_complete(_awaited(start(arguments))))
    loop.run_forever()


async def _awaited(port: Awaitable[int]) -> int:
    return await port
