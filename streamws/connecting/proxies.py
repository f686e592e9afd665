"""Through which proxy a client reaches a server, and how: HTTP CONNECT, or SOCKS by python-socks."""

import asyncio
import socket
from importlib import import_module
from types import ModuleType
from urllib.request import getproxies, proxy_bypass

import attrs

from ..errors import InvalidHandshake, InvalidURL, ProxyError
from ..handshake.client import ResponseReader, check_tunnel, connect_request
from ..handshake.url import Url, bracketed, split_url, without_password
from ..net.transports import reason_of


def _optional(name: str) -> ModuleType | None:
    """A module of the `socks` extra, if it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


_socks: ModuleType | None = _optional("python_socks")
_socks_asyncio: ModuleType | None = _optional("python_socks.async_.asyncio")

_SOCKS_TIMEOUT = 3600.0
"""Seconds; the attempt has a deadline of its own, which is shorter."""

_DEFAULT_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@attrs.frozen
class Proxy:
    """A proxy as its URL says."""

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """Take the URL of a proxy apart.

    :raises InvalidURL: if it is none, or of a kind that is not supported.
    """
    parts, host, port, credentials = split_url(text if "://" in text else f"http://{text}", _DEFAULT_PORTS, _invalid)
    if credentials is not None and parts.scheme != "http" and not all(map(_suits_socks, filter(None, credentials))):
        raise _invalid(text, "SOCKS takes up to 255 characters of ASCII for user name and password")
    return Proxy(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port, credentials)


def _invalid(text: str, why: str) -> InvalidURL:
    return InvalidURL(f"{without_password(text)!r:.200} is not the URL of a proxy: {why}")


def _suits_socks(text: str) -> bool:
    return text.isascii() and len(text) <= 255  # RFC 1929 section 2


def proxy_of_environment(url: Url) -> Proxy | None:
    """The proxy that the environment or the system names for a URL, as the standard library finds them.

    `wss_proxy` or `https_proxy` for wss://, `ws_proxy` or `http_proxy` for ws://, then `socks_proxy`, `all_proxy`.

    :raises InvalidURL: if what it names is no URL of a proxy.
    """
    if proxy_bypass(url.host_and_port) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    for name in ("wss", "https", "socks", "all") if url.secure else ("ws", "http", "socks", "all"):
        text = proxies.get(name)
        if text:
            try:
                return parse_proxy(_with_kind(name, text))
            except InvalidURL as error:
                raise InvalidURL(f"{error}; it is what {name}_proxy says") from None
    return None


def _with_kind(name: str, text: str) -> str:
    """A proxy's URL as environments have it, where "socks" says nothing of the version: 5, since 4 has no names."""
    scheme, separator, place = text.rpartition("://")
    if scheme.lower() == "socks" or (name == "socks" and not separator):
        return f"socks5h://{place}"
    return text


async def tunnel(sock: socket.socket, proxy: Proxy, url: Url, user_agent: str | None, reader: ResponseReader) -> None:
    """Have an HTTP proxy connect `sock`, which is connected to it, to the server.

    :param reader: of the proxy's answer.
    :raises ProxyError: if it does not.
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
                raise ProxyError(f"the proxy {proxy} closed the connection without an answer")
    except InvalidHandshake as error:
        raise ProxyError(f"the proxy {proxy} did not answer in HTTP: {error}") from error
    except OSError as error:
        if isinstance(error, ProxyError):
            raise
        raise ProxyError(f"the connection to the proxy {proxy} broke: {reason_of(error)}") from error
    check_tunnel(response, str(proxy))
    if reader.rest:
        raise ProxyError(f"the proxy {proxy} sent something of its own into the tunnel")


async def connect_through_socks(proxy: Proxy, url: Url, local_address: tuple[str, int] | None) -> socket.socket:
    """A socket that a SOCKS proxy has connected to the server. The proxy looks names up, but for plain socks4.

    :raises ProxyError: if it does not connect it, or python-socks is not installed.
    """
    if _socks is None or _socks_asyncio is None:
        error = ProxyError(f"the proxy {proxy} needs python-socks: pip install 'streamws[socks]'")
        raise error from ModuleNotFoundError("python_socks")
    kind = _socks.ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else _socks.ProxyType.SOCKS5
    username, password = proxy.credentials or (None, None)
    loop = asyncio.get_running_loop()
    way = _socks_asyncio.Proxy(
        kind, proxy.host, proxy.port, username, password, rdns=proxy.scheme != "socks4", loop=loop
    )
    try:
        sock: socket.socket = await way.connect(url.name, url.port, timeout=_SOCKS_TIMEOUT, local_addr=local_address)
    except _socks.ProxyConnectionError as error:
        raise ProxyError(f"cannot connect to the proxy {proxy}: {reason_of(error)}") from error
    except Exception as error:  # what it raises is not all of one kind
        why = f"{error}" or type(error).__name__
        raise ProxyError(f"the proxy {proxy} does not connect to {url.host_and_port}: {why}") from error
    sock.setblocking(False)
    return sock
