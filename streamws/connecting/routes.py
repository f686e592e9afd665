"""How a server is reached: directly, through a proxy, by a Unix socket or one that is there; with or without TLS."""

import asyncio
import math
import os
import socket
import ssl as tls
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import attrs
from aiohappyeyeballs import AddrInfoType, start_connection

from ..connection import AsyncioConnection
from ..errors import ConnectError, ProxyError, StreamwsError, UsageError
from ..handshake.client import ResponseReader, proxy_refused, refused
from ..handshake.head import Response
from ..handshake.url import Url, bracketed
from ..net.transports import dial, reason_of
from ..options import Limits
from .proxies import Proxy, connect_through_socks, parse_proxy, proxy_of_environment, tunnel

_HEAD_START = 0.25
"""Seconds that an address family has before the other one is tried too (RFC 8305 section 5)."""


class Progress:
    """How far an attempt to connect has come, and the connection that it led to."""

    __slots__ = ("ended", "reader", "refused", "waits_for")

    def __init__(self) -> None:
        self.waits_for: str = "the URL"
        """What the attempt waits for, for the error if it takes too long."""
        self.reader: ResponseReader | None = None
        """Who reads the server's answer, or a proxy's, while it is read."""
        self.refused: Callable[[Response], StreamwsError] = refused
        """Makes the error for an answer that refuses."""
        self.ended: float = math.inf
        """When the connection ended, by the loop's clock."""


@attrs.frozen
class Route:
    """How the server is reached."""

    ssl: tls.SSLContext | None
    server_hostname: str | None
    sock: socket.socket | None
    path: str | None
    local_address: tuple[str, int] | None
    proxy: Proxy | bool

    def place(self, url: Url) -> str:
        """Where that is, for people."""
        return self.path or url.host_and_port

    async def socket_to(self, url: Url, user_agent: str | None, limits: Limits, progress: Progress) -> socket.socket:
        """A socket that is connected to the server, or to a proxy that passes all on.

        :raises ConnectError, ProxyError, InvalidURL: if there is none to be had.
        """
        if self.sock is not None:
            if self.sock.fileno() < 0:
                raise UsageError("the socket given is closed: it serves one connection")
            self.sock.setblocking(False)
            return self.sock
        if self.path is not None:
            progress.waits_for = f"a connection to {self.path}"
            return _connect_unix(self.path)
        proxy = proxy_of_environment(url) if self.proxy is True else self.proxy or None
        if proxy is None:
            where = f"{bracketed(url.host)}:{url.port}"
            progress.waits_for = f"a connection to {where}"
            return await self._connect(url.host, url.port, where, ConnectError)
        progress.waits_for = f"the proxy {proxy}"
        if proxy.scheme != "http":
            return await connect_through_socks(proxy, url, self.local_address)
        sock = await self._connect(proxy.host, proxy.port, f"the proxy {proxy}", ProxyError)
        reader = ResponseReader(limits, connect=True)
        progress.reader, progress.refused = reader, partial(proxy_refused, str(proxy))
        try:
            await tunnel(sock, proxy, url, user_agent, reader)
        except BaseException:
            sock.close()
            raise
        progress.reader = None
        return sock

    async def _connect(self, host: str, port: int, place: str, failure: type[ConnectError]) -> socket.socket:
        """A socket connected to whichever address of the host answers first."""
        loop = asyncio.get_running_loop()
        places = await _find(host, port, host if failure is ConnectError else place, failure)
        local = None
        if self.local_address is not None:
            local = await _find(*self.local_address, self.local_address[0], failure)
            place += f" from {bracketed(self.local_address[0])}:{self.local_address[1]}"
        try:
            return await start_connection(
                places, local_addr_infos=local, happy_eyeballs_delay=_HEAD_START, interleave=1, loop=loop
            )
        except (OSError, RuntimeError) as error:  # uvloop's may be either
            raise failure(f"cannot connect to {place}: {reason_of(error)}") from error

    async def dial(self, connection: AsyncioConnection, url: Url, sock: socket.socket, server_hostname: str) -> None:
        """Give a connection its transport, with TLS if the URL wants that.

        :raises ConnectError: if TLS fails.
        """
        context = self.ssl or _default_context() if url.secure else None
        name = server_hostname if url.secure else None
        place = self.place(url)
        try:
            await dial(asyncio.get_running_loop(), connection, sock, context, name)
        except tls.SSLError as error:
            raise ConnectError(f"TLS with {place} failed: {_tls_reason(error, name)}") from error
        except OSError as error:
            what = f"TLS with {place} failed" if url.secure else f"cannot connect to {place}"
            raise ConnectError(f"{what}: {reason_of(error) or 'the server hung up'}") from error


def route_of(
    ssl: tls.SSLContext | None,
    server_hostname: str | None,
    sock: socket.socket | None,
    path: str | PathLike[str] | None,
    local_address: tuple[str, int] | None,
    proxy: str | bool | None,
) -> Route:
    """The route that the arguments of `connect` say.

    :raises ValueError, TypeError, InvalidURL: if they make no sense.
    """
    if ssl is not None and not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext, not {ssl!r}")
    ways = (("sock", sock), ("path", path), ("local_address", local_address))
    given = [name for name, value in ways if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} do not go together")
    if path is not None and not hasattr(socket, "AF_UNIX"):
        raise ValueError("there are no Unix sockets on this system: leave path out")
    if isinstance(proxy, str) and (sock is not None or path is not None):
        raise ValueError(f"proxy and {given[0]} do not go together")
    if sock is not None:
        if isinstance(sock, tls.SSLSocket):  # what goes past Python's object goes past its encryption
            raise TypeError("sock must be a plain socket, not an ssl.SSLSocket: TLS is for a wss:// URL and ssl=")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"sock must be a stream socket, not {sock.type!r}")
        try:
            sock.getpeername()
        except OSError as error:
            raise ValueError(f"sock must be a connected socket: {error.strerror}") from error
    chosen = parse_proxy(proxy) if isinstance(proxy, str) else bool(proxy) and sock is None and path is None
    return Route(ssl, server_hostname, sock, None if path is None else os.fspath(path), local_address, chosen)


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        # Never under way (unix(7)); loops take EAGAIN, of a full backlog, for that, and what follows it for success.
        sock.connect(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise ConnectError(f"cannot connect to {path}: {reason_of(error)}") from error
        raise
    return sock


async def _find(host: str, port: int, whose: str, failure: type[ConnectError]) -> Sequence[AddrInfoType]:
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise failure(f"cannot find the address of {whose}: {reason_of(error)}") from error


# What OpenSSL says in verify_code.
_OTHER_NAME = frozenset({62, 64})
_OTHER_AUTHORITY = frozenset({18, 19, 20, 21})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})


def _tls_reason(error: tls.SSLError, name: str | None) -> str:
    if isinstance(error, tls.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return f"its certificate is not valid for {name!r}"
        hint = "; to trust it, name its certificate authority, by ssl= or in SSL_CERT_FILE"
        return error.verify_message + (hint if error.verify_code in _OTHER_AUTHORITY else "")
    if error.reason in _NO_TLS:
        return f"the server does not speak TLS on this port; is it ws://? ({error.reason})"
    return error.reason or str(error)


_context: tls.SSLContext | None = None


def _default_context() -> tls.SSLContext:
    global _context
    if _context is None:
        _context = tls.create_default_context()  # takes some 20 ms
    return _context
