"""How a client reaches a server: by TCP, a proxy, a Unix socket or a given socket; with or without TLS."""

import asyncio
import os
import socket
import ssl as tls
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import attrs
from aiohappyeyeballs import AddrInfoType, start_connection

from ..connection import Connection
from ..errors import ConnectError, ProxyError, StreamwsError, UsageError
from ..handshake.client import refused_error
from ..handshake.head import Response
from ..handshake.response_reader import ResponseReader
from ..handshake.url import Url, bracketed
from ..net.addresses import is_tcp
from ..net.transports import dial, reason_of
from ..options import Limits
from .proxies import Proxy, connect_through_socks, open_tunnel, parse_proxy, proxy_from_environment, refused_by_proxy

_CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried too, while the first one has not answered (RFC 8305 section 5)."""


class Progress:
    """The step that an attempt to connect is waiting for, for the error after a timeout."""

    __slots__ = ("_make_error", "_reader", "waiting_for")

    def __init__(self) -> None:
        self.waiting_for: str = "the URL"
        """The step, in words."""
        self._reader: ResponseReader | None = None
        self._make_error: Callable[[Response], StreamwsError] = refused_error

    def reading(self, reader: ResponseReader, make_error: Callable[[Response], StreamwsError] = refused_error) -> None:
        """Note that a response is being read.

        :param make_error: makes the error for a response that refuses the connection.
        """
        self._reader = reader
        self._make_error = make_error

    def response_read(self) -> None:
        """Note that the response is complete."""
        self._reader = None

    def refusal(self) -> StreamwsError | None:
        """Return the error for a response that refuses the connection and of which only the body is incomplete."""
        response = None if self._reader is None else self._reader.finish()
        return None if response is None or response.status == 101 else self._make_error(response)


@attrs.frozen
class Route:
    """How to reach the server, by the arguments of `connect`."""

    ssl: tls.SSLContext | None
    server_hostname: str | None
    sock: socket.socket | None
    path: str | None
    local_address: tuple[str, int] | None
    proxy: Proxy | bool
    """True for the proxy that the environment names, False for no proxy."""

    def destination(self, url: Url) -> str:
        """Return the server's address for messages."""
        return self.path or url.host_and_port

    async def open_socket(self, url: Url, user_agent: str | None, limits: Limits, progress: Progress) -> socket.socket:
        """Return a socket that is connected to the server, directly or through a proxy.

        :param user_agent: the User-Agent field of the request to an HTTP proxy.
        :raises ConnectError: if the socket cannot be connected.
        :raises ProxyError: if the proxy refuses or fails.
        :raises InvalidURL: if the environment names a proxy by a URL that is not valid.
        """
        if self.sock is not None:
            if self.sock.fileno() < 0:
                raise UsageError("sock is closed: a socket can be used for one connection only")
            self.sock.setblocking(False)
            return self.sock
        if self.path is not None:
            progress.waiting_for = f"a connection to {self.path}"
            return _connect_unix(self.path)
        proxy = proxy_from_environment(url) if self.proxy is True else self.proxy or None
        if proxy is None:
            progress.waiting_for = f"a connection to {url.host_and_port}"
            return await self._connect_tcp(url.host, url.port, url.host, url.host_and_port, ConnectError)
        progress.waiting_for = f"the proxy {proxy}"
        if proxy.scheme != "http":
            return await connect_through_socks(proxy, url, self.local_address)
        name = f"the proxy {proxy}"
        sock = await self._connect_tcp(proxy.host, proxy.port, name, name, ProxyError)
        reader = ResponseReader(limits, connect=True)
        progress.reading(reader, partial(refused_by_proxy, str(proxy)))
        try:
            await open_tunnel(sock, proxy, url, user_agent, reader)
        except BaseException:
            sock.close()
            raise
        progress.response_read()
        return sock

    async def _connect_tcp(
        self, host: str, port: int, host_text: str, destination: str, error_type: type[ConnectError]
    ) -> socket.socket:
        """Return a socket that is connected to the first address of the host that accepts (RFC 8305).

        :param host_text: the host for the message if it cannot be resolved.
        :param destination: the host and port for the message if no address accepts.
        """
        loop = asyncio.get_running_loop()
        addresses = await _resolve(host, port, host_text, error_type)
        local = None
        if self.local_address is not None:
            local = await _resolve(*self.local_address, self.local_address[0], error_type)
            destination += f" from {bracketed(self.local_address[0])}:{self.local_address[1]}"
        try:
            return await start_connection(
                addresses,
                local_addr_infos=local,
                happy_eyeballs_delay=_CONNECTION_ATTEMPT_DELAY,
                interleave=1,
                loop=loop,
            )
        except (OSError, RuntimeError) as error:  # uvloop raises either
            raise error_type(f"cannot connect to {destination}: {reason_of(error)}") from error

    async def start_transport(
        self, connection: Connection, url: Url, sock: socket.socket, server_hostname: str
    ) -> None:
        """Give a connection its transport, with TLS if the URL is wss.

        :param server_hostname: the name that the server's certificate must have.
        :raises ConnectError: if the TLS handshake fails.
        """
        context = self.ssl or _default_context() if url.secure else None
        name = server_hostname if url.secure else None
        destination = self.destination(url)
        try:
            await dial(asyncio.get_running_loop(), connection, sock, context, name)
        except tls.SSLError as error:
            raise ConnectError(f"TLS with {destination} failed: {_tls_reason(error, name)}") from error
        except OSError as error:
            failure = f"TLS with {destination} failed" if url.secure else f"cannot connect to {destination}"
            raise ConnectError(f"{failure}: {reason_of(error) or 'the server closed the connection'}") from error


def make_route(
    ssl: tls.SSLContext | None,
    server_hostname: str | None,
    sock: socket.socket | None,
    path: str | PathLike[str] | None,
    local_address: tuple[str, int] | None,
    proxy: str | bool | None,
) -> Route:
    """Check the arguments of `connect` that say how to reach the server.

    :raises ValueError, TypeError, InvalidURL: if one is not valid, or excludes another one.
    """
    if ssl is not None and not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext, not {ssl!r}")
    exclusive = (("sock", sock), ("path", path), ("local_address", local_address))
    given = [name for name, value in exclusive if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} cannot be used together")
    if path is not None and not hasattr(socket, "AF_UNIX"):
        raise ValueError("path cannot be used: this system has no Unix sockets")
    if isinstance(proxy, str) and (sock is not None or path is not None):
        raise ValueError(f"proxy and {given[0]} cannot be used together")
    if sock is not None:
        if isinstance(sock, tls.SSLSocket):  # the transport uses the file descriptor, past the SSLSocket's encryption
            raise TypeError("sock must be a plain socket, not an ssl.SSLSocket; for TLS use a wss:// URL and ssl=")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"sock must be a stream socket, not {sock.type!r}")
        try:
            sock.getpeername()
        except OSError as error:
            if not _has_port(sock):
                raise ValueError(f"sock must be a connected socket: {error.strerror}") from error
    chosen = parse_proxy(proxy) if isinstance(proxy, str) else bool(proxy) and sock is None and path is None
    return Route(ssl, server_hostname, sock, None if path is None else os.fspath(path), local_address, chosen)


def _has_port(sock: socket.socket) -> bool:
    """Return whether a socket has a local port. A socket that was connected keeps it after a reset by the peer."""
    return is_tcp(sock) and sock.getsockname()[1] != 0


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        # A Unix socket connects at once or fails (unix(7)). EAGAIN means that the server's backlog is full. Do not use
        # `loop.sock_connect`: it would treat EAGAIN as a connection in progress, and then as success.
        sock.connect(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise ConnectError(f"cannot connect to {path}: {reason_of(error)}") from error
        raise
    return sock


async def _resolve(host: str, port: int, host_text: str, error_type: type[ConnectError]) -> Sequence[AddrInfoType]:
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise error_type(f"cannot find the address of {host_text}: {reason_of(error)}") from error


# TLS ------------------------------------------------------------------------------------------------------------

# Values of OpenSSL for `SSLCertVerificationError.verify_code` and `SSLError.reason`
_WRONG_NAME = frozenset({62, 64})  # of the host, or its IP address
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})  # self-signed, or an issuer that is not known
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})


def _tls_reason(error: tls.SSLError, name: str | None) -> str:
    """Return why a TLS handshake failed, and how to fix it where that is known."""
    if isinstance(error, tls.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"its certificate is not valid for {name!r}"
        hint = "; to trust it, give its certificate authority in ssl= or SSL_CERT_FILE"
        return error.verify_message + (hint if error.verify_code in _UNKNOWN_AUTHORITY else "")
    if error.reason in _NOT_TLS:
        return f"the server does not speak TLS on this port; try ws:// ({error.reason})"
    return error.reason or str(error)


_context: tls.SSLContext | None = None


def _default_context() -> tls.SSLContext:
    """Return a context that verifies certificates, the same one each time: making one takes about 20 ms."""
    global _context
    if _context is None:
        _context = tls.create_default_context()
    return _context
