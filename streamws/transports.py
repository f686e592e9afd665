"""Which transports carry the connections, in both roles: the loop's own, or aiofastnet's where they cost less."""

import asyncio
import os
import socket
import ssl as tls
import sys
from asyncio import AbstractEventLoop, BaseEventLoop, Server
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from .connection import AsyncioConnection


def _optional(name: str) -> ModuleType | None:
    """A module of the `speed` extra, if it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


fast: ModuleType | None = _optional("aiofastnet")
loops: ModuleType | None = _optional("winloop" if sys.platform == "win32" else "uvloop")

_DAY = 24 * 3600.0
"""Seconds of a TLS handshake without a deadline; for None, loops would take a minute."""

Factory = Callable[[], AsyncioConnection]
Listen = Callable[..., Awaitable[Server]]
Dial = Callable[..., Awaitable[object]]


def _ways_to_listen(loop: AbstractEventLoop, ssl: tls.SSLContext | None) -> tuple[Listen, Listen]:
    """What listens on TCP and on a Unix socket."""
    # With TLS, aiofastnet has the loop report an error for each peer that leaves in the TLS handshake.
    # uvloop is no BaseEventLoop; its transports accept faster, and writes go past them to the socket (measured).
    if fast is not None and ssl is None and isinstance(loop, BaseEventLoop):
        return (
            partial(fast.create_server, loop),
            partial(fast.create_unix_server, loop),
        )
    return loop.create_server, loop.create_unix_server


def _ways_to_dial(loop: AbstractEventLoop, ssl: tls.SSLContext | None) -> tuple[Dial, Dial]:
    """What connects by TCP and to a Unix socket."""
    # aiofastnet's TLS costs 4 to 12 % less CPU than uvloop's, all in all (measured).
    if fast is not None and (ssl is not None or isinstance(loop, BaseEventLoop)):
        seen: Any = loop if ssl is None or sys.platform == "win32" else _Calm(loop)
        return partial(fast.create_connection, seen), partial(fast.create_unix_connection, seen)
    return loop.create_connection, loop.create_unix_connection


class _Calm:
    """A loop as aiofastnet 1.2 sees it, whose TLS reports a peer that hangs up in the handshake as a bug.

    It hands the class `ConnectionResetError` to the loop's exception handler, beside raising what `dial` tells of.
    Not on Windows, where aiofastnet looks at the loop's type.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if context.get("exception") is not ConnectionResetError:
            self._loop.call_exception_handler(context)


def new_loop() -> AbstractEventLoop:
    """A loop for `run()`: the `speed` extra's, or asyncio's own."""
    loop: AbstractEventLoop = asyncio.new_event_loop() if loops is None else loops.new_event_loop()
    return loop


async def listen(
    loop: AbstractEventLoop,
    factory: Factory,
    *,
    host: str | Sequence[str] | None,
    port: int | None,
    sock: socket.socket | None,
    path: str | None,
    ssl: tls.SSLContext | None,
    reuse_port: bool | None,
    backlog: int,
    handshake_timeout: float | None,
) -> Server:
    """Start a server on a TCP address, a bound socket, or the path of a Unix socket.

    :raises OSError: if the address cannot be had.
    """
    tcp, unix = _ways_to_listen(loop, ssl)
    timeout = None if ssl is None else handshake_timeout or _DAY
    if path is not None:
        server = await unix(factory, path, ssl=ssl, backlog=backlog, ssl_handshake_timeout=timeout, start_serving=False)
    else:
        server = await tcp(
            factory,
            host,
            port,
            sock=sock,
            ssl=ssl,
            reuse_port=reuse_port,
            backlog=backlog,
            ssl_handshake_timeout=timeout,
            start_serving=False,
        )
    try:
        # Not at once: loops wait after it, and cancelled there they leave a server that no one can stop.
        await server.start_serving()
    except BaseException:
        server.close()
        raise
    return server


async def dial(
    loop: AbstractEventLoop,
    factory: Factory,
    *,
    sock: socket.socket | None,
    path: str | None,
    ssl: tls.SSLContext | None,
    server_hostname: str | None,
    handshake_timeout: float | None,
) -> None:
    """Make a connected socket, or a connection to the path of a Unix socket, the transport of what `factory` makes.

    :raises OSError: if the connection or TLS fails.
    """
    tcp, unix = _ways_to_dial(loop, ssl)
    timeout = None if ssl is None else handshake_timeout or _DAY
    if path is not None:
        await unix(factory, path, ssl=ssl, server_hostname=server_hostname, ssl_handshake_timeout=timeout)
    else:
        await tcp(factory, sock=sock, ssl=ssl, server_hostname=server_hostname, ssl_handshake_timeout=timeout)


def reason_of(error: Exception) -> str:
    """Why the network failed, in the words of the system."""
    number = error.errno if isinstance(error, OSError) else None
    # Those of the resolver are not among the system's, and have words of their own.
    return os.strerror(number) if number is not None and number > 0 else getattr(error, "strerror", None) or str(error)
