"""Through which proxy a client reaches a server, and how: HTTP CONNECT, or SOCKS by python-socks."""

import asyncio
import socket
from importlib import import_module
from types import ModuleType
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs

from .errors import InvalidHandshake, InvalidURL, ProxyError
from .handshake.client import ResponseReader, check_tunnel, connect_request
from .handshake.url import Url, without_password
from .options import Limits


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
        return f"{self.scheme}://{self.host}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """Take the URL of a proxy apart.

    :raises InvalidURL: if it is none, or of a kind that is not supported.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise InvalidURL(f"{without_password(text)!r:.200} is not the URL of a proxy: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        kinds = ", ".join(f"{scheme}://" for scheme in _DEFAULT_PORTS)
        raise InvalidURL(f"{without_password(text)!r:.200} is not the URL of a proxy: it is one of {kinds} and a host")
    credentials = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], credentials)


def proxy_of_environment(url: Url) -> Proxy | None:
    """The proxy that the environment or the system names for a URL, as the standard library finds them.

    `wss_proxy` or `https_proxy` for wss://, `ws_proxy` or `http_proxy` for ws://, then `socks_proxy`, `all_proxy`.

    :raises InvalidURL: if what it names is no URL of a proxy.
    """
    if proxy_bypass(url.host_and_port) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    for name in ("wss", "https") if url.secure else ("ws", "http"):
        if proxies.get(name):
            return parse_proxy(proxies[name])
    if proxies.get("socks"):
        text = proxies["socks"]
        return parse_proxy(text if "://" in text else f"socks5h://{text}")
    return parse_proxy(proxies["all"]) if proxies.get("all") else None


async def tunnel(sock: socket.socket, proxy: Proxy, url: Url, user_agent: str | None, limits: Limits) -> None:
    """Have an HTTP proxy connect `sock`, which is connected to it, to the server.

    :raises ProxyError: if it does not.
    """
    loop = asyncio.get_running_loop()
    reader = ResponseReader(limits, connect=True)
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
        raise ProxyError(f"the connection to the proxy {proxy} broke: {error}") from error
    check_tunnel(response)
    if reader.rest:
        raise ProxyError(f"the proxy {proxy} sent something of its own into the tunnel")


async def connect_through_socks(proxy: Proxy, url: Url) -> socket.socket:
    """A socket that a SOCKS proxy has connected to the server. Names are resolved by the proxy.

    :raises ProxyError: if it does not connect it, or python-socks is not installed.
    """
    if _socks is None or _socks_asyncio is None:
        raise ProxyError(f"the proxy {proxy} needs python-socks: pip install 'streamws[socks]'")
    kind = {"socks4": _socks.ProxyType.SOCKS4, "socks4a": _socks.ProxyType.SOCKS4}.get(
        proxy.scheme, _socks.ProxyType.SOCKS5
    )
    username, password = proxy.credentials or (None, None)
    remote = proxy.scheme in ("socks4a", "socks5h", "socks5")
    way = _socks_asyncio.Proxy(
        kind, proxy.host, proxy.port, username, password, rdns=remote, loop=asyncio.get_running_loop()
    )
    try:
        sock = await way.connect(url.host, url.port, timeout=_SOCKS_TIMEOUT)
    except (OSError, _socks.ProxyError, _socks.ProxyConnectionError, _socks.ProxyTimeoutError) as error:
        raise ProxyError(f"the proxy {proxy} does not connect to {url.host_and_port}: {error}") from error
    connected: socket.socket = sock
    connected.setblocking(False)
    return connected
