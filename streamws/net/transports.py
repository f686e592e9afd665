"""Listening and connecting, with the fastest transports for the loop, and the TLS layer above them."""

import asyncio
import os
import socket
import ssl as tls
from asyncio import AbstractEventLoop, AbstractServer, Future
from collections.abc import Callable, Sequence
from typing import Any

from .accepting import Connections, Listener, Openings, Server
from .addresses import is_tcp
from .binding import bind_tcp, bind_unix
from .loops import fast_loops, has_own_transports, is_uvloop, share_of
from .selector import over_socket
from .tls.layer import AsyncioTls, Tls

Upper = Any
"""A `Receiver` that is also an `asyncio.BufferedProtocol` and has `abort`. Python has no type for an intersection."""

Factory = Callable[[], Upper]


def tls_layer_of(loop: AbstractEventLoop) -> type[Tls]:
    """Return the class of the TLS layer for connections of a loop."""
    return Tls if has_own_transports(loop) else AsyncioTls


def new_loop() -> AbstractEventLoop:
    """Return a new loop for `run()`: uvloop's if it is installed, else asyncio's."""
    loop: AbstractEventLoop = asyncio.new_event_loop() if fast_loops is None else fast_loops.new_event_loop()
    return loop


async def listen(
    loop: AbstractEventLoop,
    factory: Factory,
    connections: Connections,
    openings: Openings,
    *,
    host: str | Sequence[str] | None,
    port: int | None,
    sock: socket.socket | None,
    path: str | None,
    mode: int | None,
    ssl: tls.SSLContext | None,
    reuse_port: bool | None,
    backlog: int,
    handshake_timeout: float | None,
) -> Server:
    """Start a server on a TCP address, a bound socket, or the path of a Unix socket.

    :param factory: makes the connection object for each accepted socket.
    :param connections: the connections that the factory has made.
    :param openings: pauses accepting while too many opening handshakes are under way.
    :param sock: a bound socket, instead of `host` and `port`.
    :param path: the path of a Unix socket, instead of `host` and `port`.
    :param mode: the permissions of that path; None for those that the umask gives.
    :param ssl: the context for TLS; None for plain connections.
    :param backlog: the most connections that the system holds until they are accepted.
    :param handshake_timeout: seconds for the TLS handshake.
    :returns: the server, which accepts connections already.
    :raises OSError: if the address is not available.
    """
    protocol: Callable[[], Any] = factory
    if ssl is not None:
        share, context = share_of(loop), ssl
        kind = tls_layer_of(loop)

        def protocol() -> Tls:
            layer = kind(factory(), loop, share, context, timeout=handshake_timeout)
            if openings.is_flooded():
                layer.abort()
            return layer

    async def start(listening: socket.socket) -> Listener | AbstractServer:
        listening.setblocking(False)
        if not has_own_transports(loop):
            return await loop.create_server(protocol, sock=listening, backlog=backlog)
        if is_tcp(listening):
            # Accepted sockets inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.listen(backlog)
        listener = Listener(loop, listening, protocol, openings)
        try:
            listener.resume()
        except BaseException:
            listener.close()
            raise
        return listener

    if path is not None:
        sockets = [bind_unix(path, mode)]
    elif sock is not None:
        sockets = [sock]
    else:
        sockets = await bind_tcp(loop, host, port or 0, reuse_port=reuse_port)
    server = Server(loop, sockets, start, connections)
    try:
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
        layer = tls_layer_of(loop)
        protocol = layer(connection, loop, share_of(loop), ssl, server_hostname=server_hostname, done=done)
    try:
        if has_own_transports(loop):
            over_socket(loop, sock, protocol).start()
        else:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            if is_uvloop(loop) and transport.is_closing():
                # If the first write failed, winloop has closed the descriptor. `sock` must not close it again, because
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
