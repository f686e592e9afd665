"""Which transports carry the connections: the loop's, or aiofastnet's or our own where they cost less; TLS on top."""

import asyncio
import os
import socket
import ssl as tls
import sys
from asyncio import AbstractEventLoop, BaseEventLoop, BufferedProtocol, Future, SelectorEventLoop, Server
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from .loops import share_of
from .selector import SelectorTransport
from .tls.layer import AsyncioTls


def _optional(name: str) -> ModuleType | None:
    """A module of the `speed` extra, if it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


fast: ModuleType | None = _optional("aiofastnet")
loops: ModuleType | None = _optional("winloop" if sys.platform == "win32" else "uvloop")

Upper = Any
"""A `Receiver` that is an `asyncio.BufferedProtocol` too, with `abort`: a type for both cannot be written."""

Factory = Callable[[], Upper]
Listen = Callable[..., Awaitable[Server]]


def _ways_to_listen(loop: AbstractEventLoop) -> tuple[Listen, Listen]:
    """What listens on TCP and on a Unix socket."""
    # uvloop is no BaseEventLoop; its transports accept faster, and writes go past them to the socket (measured).
    if fast is not None and isinstance(loop, BaseEventLoop):
        return partial(fast.create_server, loop), partial(fast.create_unix_server, loop)
    return loop.create_server, loop.create_unix_server


def _tells_when_ready(loop: AbstractEventLoop) -> bool:
    """Whether a loop tells when a descriptor can be read."""
    if sys.platform == "win32":
        return False  # of sockets, but they are no descriptors
    return isinstance(loop, SelectorEventLoop) or (loops is not None and isinstance(loop, loops.Loop))


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
    tcp, unix = _ways_to_listen(loop)
    protocol: Callable[[], BufferedProtocol] = factory
    if ssl is not None:
        share, context = share_of(loop), ssl

        def protocol() -> AsyncioTls:
            return AsyncioTls(factory(), loop, share, context, timeout=handshake_timeout)

    if path is not None:
        server = await unix(protocol, path, backlog=backlog, start_serving=False)
    else:
        server = await tcp(protocol, host, port, sock=sock, reuse_port=reuse_port, backlog=backlog, start_serving=False)
    try:
        # Not at once: loops wait after it, and cancelled there they leave a server that no one can stop.
        await server.start_serving()
    except BaseException:
        server.close()
        raise
    return server


async def dial(
    loop: AbstractEventLoop,
    connection: Upper,
    sock: socket.socket,
    ssl: tls.SSLContext | None,
    server_hostname: str | None,
) -> None:
    """Make a connected socket the transport of a connection, with TLS if there is a context for it.

    :raises OSError: if the connection or TLS fails.
    """
    protocol: Upper = connection
    done: Future[None] = loop.create_future()
    if ssl is None:
        done.set_result(None)
    else:
        protocol = AsyncioTls(connection, loop, share_of(loop), ssl, server_hostname=server_hostname, done=done)
    try:
        if _tells_when_ready(loop):
            SelectorTransport(loop, sock, protocol).start()
        else:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            if loops is not None and isinstance(loop, loops.Loop) and transport.is_closing():
                # If the first write failed, uvloop has closed the descriptor before it took over the socket's object,
                # which would close the number once more: by then, perhaps, someone else's.
                sock.detach()
        await done
    except BaseException:
        if not done.cancel() and not done.cancelled():
            done.exception()  # this error is the one to tell of
        protocol.abort()
        raise


def reason_of(error: Exception) -> str:
    """Why the network failed, in the words of the system."""
    number = error.errno if isinstance(error, OSError) else None
    # Those of the resolver are not among the system's, and have words of their own.
    return os.strerror(number) if number is not None and number > 0 else getattr(error, "strerror", None) or str(error)
