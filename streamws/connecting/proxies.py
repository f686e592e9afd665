"""Choosing a proxy, and connecting through it (by HTTP CONNECT, or by SOCKS with python-socks)."""

import asyncio
import socket
from typing import Any
from urllib.request import getproxies, proxy_bypass

import attrs

from ..errors import InvalidHandshake, InvalidURL, ProxyError
from ..handshake.client import refused_error
from ..handshake.head import Response
from ..handshake.headers import Headers
from ..handshake.response_reader import ResponseReader
from ..handshake.url import Url, basic_authorization, bracketed, split_url, without_password
from ..net.transports import reason_of

_socks: Any = None  # python-socks, if the `socks` extra is installed
try:
    import python_socks.async_.asyncio

    _socks = python_socks
except ImportError:
    pass

_NO_TIMEOUT = 3600.0
"""In seconds. python-socks wants a timeout, but `Timeouts.open` covers the whole attempt and is shorter."""

_DEFAULT_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@attrs.frozen
class Proxy:
    """The URL of a proxy, parsed."""

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = attrs.field(repr=False)
    """User name and password."""

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """Parse the URL of a proxy.

    :param text: such as "socks5://user:password@proxy.example:1080". Without a scheme it is an HTTP proxy.
    :raises InvalidURL: if it is not valid, or its scheme is not supported.
    """
    parts, host, port, credentials = split_url(text if "://" in text else f"http://{text}", _DEFAULT_PORTS, _invalid)
    if credentials is not None and parts.scheme != "http" and not all(map(_suits_socks, filter(None, credentials))):
        raise _invalid(text, "user name and password for SOCKS must be ASCII, at most 255 characters each")
    return Proxy(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port, credentials)


def _invalid(text: str, reason: str) -> InvalidURL:
    return InvalidURL(f"{without_password(text)!r:.200} is not a valid proxy URL: {reason}")


def _suits_socks(text: str) -> bool:
    return text.isascii() and len(text) <= 255  # RFC 1929 section 2


def proxy_from_environment(url: Url) -> Proxy | None:
    """Return the proxy for a URL that the environment or the system settings name, as the standard library finds them.

    For wss:// the first of `wss_proxy`, `https_proxy`, `socks_proxy` and `all_proxy` counts; for ws:// the first of
    `ws_proxy`, `http_proxy`, `socks_proxy` and `all_proxy`. `no_proxy` lists hosts that need none.

    :raises InvalidURL: if the setting is not a valid proxy URL.
    """
    if proxy_bypass(url.host_and_port) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    for name in ("wss", "https", "socks", "all") if url.secure else ("ws", "http", "socks", "all"):
        text = proxies.get(name)
        if text:
            try:
                return parse_proxy(_with_socks_version(name, text))
            except InvalidURL as error:
                raise InvalidURL(f"{error} (set by {name}_proxy)") from None
    return None


def _with_socks_version(name: str, text: str) -> str:
    """Return a proxy's URL, with "socks5h" if the environment only says "socks".

    SOCKS 4 does not support host names, and "socks5h" lets the proxy resolve them.
    """
    scheme, separator, rest = text.rpartition("://")
    if scheme.lower() == "socks" or (name == "socks" and not separator):
        return f"socks5h://{rest}"
    return text


# HTTP -----------------------------------------------------------------------------------------------------------


def connect_request(url: Url, credentials: tuple[str, str] | None, user_agent: str | None) -> bytes:
    """Return the CONNECT request for a tunnel to a server (RFC 9110 section 9.3.6).

    :param credentials: the proxy's user name and password.
    """
    authority = f"{bracketed(url.name)}:{url.port}"
    fields = [("Host", authority)]
    if credentials is not None:
        fields.append(("Proxy-Authorization", basic_authorization(credentials)))
    if user_agent is not None:
        fields.append(("User-Agent", user_agent))
    return f"CONNECT {authority} HTTP/1.1".encode() + Headers(fields).wire + b"\r\n\r\n"


def check_tunnel(response: Response, proxy: str) -> None:
    """Check that the proxy has opened the tunnel.

    :raises ProxyError: if the response is not a 2xx.
    """
    if not 200 <= response.status < 300:
        raise refused_by_proxy(proxy, response)


def refused_by_proxy(proxy: str, response: Response) -> ProxyError:
    """Return the error for a proxy's response other than 2xx."""
    message = f"the proxy {proxy} refused to connect: {refused_error(response)}"
    return ProxyError(message, response.status, response.body)


async def open_tunnel(
    sock: socket.socket, proxy: Proxy, url: Url, user_agent: str | None, reader: ResponseReader
) -> None:
    """Ask an HTTP proxy to connect to the server; after that, `sock` leads to the server.

    :param sock: a socket that is connected to the proxy.
    :param reader: reads the proxy's response.
    :raises ProxyError: if the proxy refuses or fails.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, connect_request(url, proxy.credentials, user_agent))
        while True:
            data = await loop.sock_recv(sock, 4096)
            response = reader.feed(data) if data else reader.finish()
            if response is not None:
                break
            if not data:
                raise ProxyError(f"the proxy {proxy} closed the connection without a response")
    except InvalidHandshake as error:
        raise ProxyError(f"invalid response from the proxy {proxy}: {error}") from error
    except OSError as error:
        if isinstance(error, ProxyError):
            raise
        raise ProxyError(f"lost the connection to the proxy {proxy}: {reason_of(error)}") from error
    check_tunnel(response, str(proxy))
    if reader.rest:  # the server only sends after the handshake request, which was not sent yet
        raise ProxyError(f"the proxy {proxy} sent data of its own into the tunnel")


# SOCKS ----------------------------------------------------------------------------------------------------------


async def connect_through_socks(proxy: Proxy, url: Url, local_address: tuple[str, int] | None) -> socket.socket:
    """Return a socket that a SOCKS proxy has connected to the server.

    The proxy resolves the server's name, except with plain socks4, which only knows addresses.

    :raises ProxyError: if the proxy refuses or fails, or python-socks is not installed.
    """
    if _socks is None:
        error = ProxyError(f"cannot use the proxy {proxy} without python-socks: pip install 'streamws[socks]'")
        raise error from ModuleNotFoundError("python_socks")
    version = _socks.ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else _socks.ProxyType.SOCKS5
    username, password = proxy.credentials or (None, None)
    connector = _socks.async_.asyncio.Proxy(
        version,
        proxy.host,
        proxy.port,
        username,
        password,
        rdns=proxy.scheme != "socks4",
        loop=asyncio.get_running_loop(),
    )
    try:
        sock: socket.socket = await connector.connect(url.name, url.port, timeout=_NO_TIMEOUT, local_addr=local_address)
    except _socks.ProxyConnectionError as error:
        raise ProxyError(f"cannot connect to the proxy {proxy}: {reason_of(error)}") from error
    except Exception as error:  # the errors of python-socks have no common base class
        reason = f"{error}" or type(error).__name__
        raise ProxyError(f"the proxy {proxy} cannot connect to {url.host_and_port}: {reason}") from error
    sock.setblocking(False)
    return sock
