"""Handlers and arguments of `serve` for libraries with the API of websockets: websockets itself, and picows-iter.

streamws has the two methods of `Connection` too, and uses the handlers that need no others.

The protocols name the methods that the libraries share. The handlers run as they stand here, with no layer between
them and the library, so sharing them does not change what is measured.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

from benchmarks.deflate import Settings
from benchmarks.servers.common import (
    BROADCAST,
    HOST,
    MAX_MESSAGE_SIZE,
    SMALL,
    TRANSFER,
    Arguments,
    longest_wait,
)


class Connection(Protocol):
    """A connection of such a library."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...
    async def send(self, message: str | bytes, /) -> None: ...


Handler = Callable[[Any], Awaitable[None]]


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


def broadcasting(broadcast: Callable[[Iterable[Any], bytes], None]) -> Handler:
    """Return a handler that sends broadcasts on command.

    :param broadcast: The function of the library that sends a message to several connections.
    """
    clients: set[Connection] = set()

    async def broadcast_on_command(connection: Connection) -> None:
        clients.add(connection)
        try:
            async for message in connection:
                turns, in_turn = map(int, message.split())
                for _ in range(turns):
                    for _ in range(in_turn):
                        broadcast(clients, BROADCAST)
                    await asyncio.sleep(0)
        finally:
            clients.discard(connection)

    return broadcast_on_command


async def upload(connection: Connection) -> None:
    received = 0
    async for message in connection:
        if isinstance(message, bytes):
            received += len(message)
        else:
            await connection.send(str(received))
            received = 0


async def download(connection: Connection) -> None:
    async for message in connection:
        for _ in range(int(message) // len(TRANSFER)):
            await connection.send(TRANSFER)


async def tight_send(connection: Connection) -> None:
    async def send_until(end: float) -> None:
        while time.monotonic() < end:
            await connection.send(SMALL)

    async for message in connection:
        await connection.send((await longest_wait(send_until, float(message))).decode())


async def start_serving(
    arguments: Arguments,
    serve: Callable[..., Awaitable[Any]],
    broadcast: Callable[[Iterable[Any], bytes], None],
    configure: Callable[[Settings], dict[str, Any]],
) -> int:
    """Start a server.

    :param serve: The `serve` of the library.
    :param broadcast: The `broadcast` of the library.
    :param configure: Returns the arguments of `serve` for settings of compression other than the library's defaults.
    :returns: Its port.
    """
    handlers: dict[str, Handler] = {
        "echo": echo,
        "broadcast": broadcasting(broadcast),
        "upload": upload,
        "download": download,
        "tight-send": tight_send,
    }
    settings = arguments.deflate
    if settings is None:
        compression: dict[str, Any] = {"compression": None}
    elif settings.window_bits is None:
        compression = {}
    else:
        compression = configure(settings)
    server = await serve(
        handlers[arguments.handler],
        HOST,
        arguments.port,
        ssl=arguments.context,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=arguments.ping,
        backlog=arguments.backlog,
        **compression,
    )
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port
