"""Listening and connecting, with the fastest transports for the loop, and the TLS layer above them."""

import asyncio
import os
import socket
import ssl as tls
import sys
from asyncio import AbstractEventLoop, BaseEventLoop, BufferedProtocol, Future, SelectorEventLoop, Server
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from .loops import fast_loops, is_uvloop, share_of
from .selector import SelectorTransport
from .tls.layer import AsyncioTls

fast_transports: Any = None
"""The module aiofastnet, if the `speed` extra is installed."""
try:
    import aiofastnet

    fast_transports = aiofastnet
except ImportError:
    pass

Upper = Any
"""A `Receiver` that is also an `asyncio.BufferedProtocol` and has `abort`. Python has no type for an intersection."""

Factory = Callable[[], Upper]
Listen = Callable[..., Awaitable[Server]]


def _listen_functions(loop: AbstractEventLoop) -> tuple[Listen, Listen]:
    """Return functions that listen on TCP and on a Unix socket."""
    # uvloop's loop is not a BaseEventLoop. It accepts connections faster than aiofastnet does, and `Network` bypasses
    # its transports when it writes.
    if fast_transports is not None and isinstance(loop, BaseEventLoop):
        return partial(fast_transports.create_server, loop), partial(fast_transports.create_unix_server, loop)
    return loop.create_server, loop.create_unix_server


def _has_add_reader(loop: AbstractEventLoop) -> bool:
    """Return whether `loop.add_reader` watches file descriptors."""
    if sys.platform == "win32":
        return False  # it can only watch sockets
    return isinstance(loop, SelectorEventLoop) or is_uvloop(loop)


def new_loop() -> AbstractEventLoop:
    """Return a new loop for `run()`: uvloop's if it is installed, else asyncio's."""
    loop: AbstractEventLoop = asyncio.new_event_loop() if fast_loops is None else fast_loops.new_event_loop()
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

    :param factory: makes the connection object for each accepted socket.
    :param sock: a bound socket, instead of `host` and `port`.
    :param path: the path of a Unix socket, instead of `host` and `port`.
    :param ssl: the context for TLS; None for plain connections.
    :param backlog: the most connections that the system holds until they are accepted.
    :param handshake_timeout: seconds for the TLS handshake.
    :returns: the server, which accepts connections already.
    :raises OSError: if the address is not available.
    """
    tcp, unix = _listen_functions(loop)
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
        # `create_server` could do this too. But if it were cancelled then, nobody would have the server to close it.
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
    """Start a client's connection on a connected socket.

    :param ssl: the context for TLS; None for a plain connection.
    :param server_hostname: the name that the server's certificate must have.
    :raises OSError: if the connection or TLS fails.
    """
    protocol: Upper = connection
    done: Future[None] = loop.create_future()
    if ssl is None:
        done.set_result(None)
    else:
        protocol = AsyncioTls(connection, loop, share_of(loop), ssl, server_hostname=server_hostname, done=done)
    try:
        if _has_add_reader(loop):
            SelectorTransport(loop, sock, protocol).start()
        else:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            if is_uvloop(loop) and transport.is_closing():
                # If the first write failed, uvloop has closed the descriptor. `sock` must not close it again, because
                # the number may already belong to another file.
                sock.detach()
        await done
    except BaseException:
        if not done.cancel() and not done.cancelled():
            done.exception()  # mark it as retrieved: the error raised here is reported instead
        protocol.abort()
        raise


def reason_of(error: Exception) -> str:
    """Return why a network call failed, in the system's words."""
    number = error.errno if isinstance(error, OSError) else None
    # The resolver's errors have negative numbers, which `os.strerror` does not know, and bring their own text.
    return os.strerror(number) if number is not None and number > 0 else getattr(error, "strerror", None) or str(error)
