"""Working proxies: HTTP CONNECT, SOCKS4, SOCKS4a and SOCKS5."""

import asyncio
import ipaddress
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs

from helpers.waiting import PATIENCE

Place = tuple[str, int]


class Refusal(Exception):
    """The proxy refuses to connect, and answers with `data`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


@attrs.define
class ProxyServer:
    """A proxy, and the requests that it received."""

    port: int = 0
    asked: list[Place] = attrs.Factory(list)
    """Hosts (as names or addresses, like in the requests) and ports."""
    heads: list[bytes] = attrs.Factory(list)
    """The heads of requests to an HTTP proxy."""
    clients: list[Place] = attrs.Factory(list)
    """The addresses of its clients."""
    tasks: set[asyncio.Task[None]] = attrs.Factory(set)
    refusal: bytes = b""
    """The answer with which it refuses every request."""
    target: Place | None = None
    """The address to which it connects instead of the requested one."""
    credentials: tuple[str, str] | None = None
    """User name and password that it requires."""

    def url(self, scheme: str, credentials: str = "") -> str:
        return f"{scheme}://{credentials}127.0.0.1:{self.port}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _http(proxy: ProxyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    proxy.heads.append(head)
    method, target, version = head.split(b"\r\n")[0].decode().split(" ")
    assert (method, version) == ("CONNECT", "HTTP/1.1")
    host, _, port = target.rpartition(":")
    proxy.asked.append((host, int(port)))
    if proxy.credentials is not None:
        basic = b64encode(":".join(proxy.credentials).encode())
        if b"\r\nProxy-Authorization: Basic " + basic + b"\r\n" not in head:
            raise Refusal(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nwho?")
    return b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"


async def _socks4(proxy: ProxyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    version, command = await reader.readexactly(2)
    assert (version, command) == (4, 1)
    port = int.from_bytes(await reader.readexactly(2), "big")
    address = await reader.readexactly(4)
    user = (await reader.readuntil(b"\0"))[:-1].decode()
    host = str(ipaddress.IPv4Address(address))
    if address[:3] == b"\0\0\0":  # 4a: a name follows
        host = (await reader.readuntil(b"\0"))[:-1].decode()
    proxy.asked.append((host, port))
    if proxy.credentials is not None and user != proxy.credentials[0]:
        raise Refusal(b"\0\x5d" + bytes(6))
    return b"\0\x5a" + bytes(6)


async def _socks5(proxy: ProxyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    version, count = await reader.readexactly(2)
    assert version == 5
    methods = await reader.readexactly(count)
    if proxy.credentials is None:
        writer.write(b"\5\0")
    elif 2 not in methods:
        raise Refusal(b"\5\xff")
    else:
        writer.write(b"\5\2")
        assert await reader.readexactly(1) == b"\1"
        given = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
        if tuple(given) != proxy.credentials:
            raise Refusal(b"\1\1")
        writer.write(b"\1\0")
    assert await reader.readexactly(3) == b"\5\1\0"
    kind = (await reader.readexactly(1))[0]
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        host = str(ipaddress.ip_address(await reader.readexactly({1: 4, 4: 16}[kind])))
    proxy.asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
    return b"\5\0\0\1" + bytes(6)


_KINDS = {"http": _http, "socks4": _socks4, "socks4a": _socks4, "socks5": _socks5, "socks5h": _socks5}


@asynccontextmanager
async def proxy_server(
    kind: str,
    *,
    refusal: bytes = b"",
    target: Place | None = None,
    credentials: tuple[str, str] | None = None,
) -> AsyncIterator[ProxyServer]:
    """Run a proxy on a free port of 127.0.0.1. Every connection through it must have ended when the block does."""
    proxy = ProxyServer(refusal=refusal, target=target, credentials=credentials)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed = await _KINDS[kind](proxy, reader, writer)
        if proxy.refusal:
            raise Refusal(proxy.refusal)
        far_reader, far_writer = await asyncio.open_connection(*(proxy.target or proxy.asked[-1]))
        try:
            writer.write(agreed)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.tasks.add(task)
        proxy.clients.append(writer.get_extra_info("peername")[:2])
        try:
            await forward(reader, writer)
        except Refusal as error:
            writer.write(error.data)
        finally:
            writer.close()

    listener = await asyncio.start_server(run, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*proxy.tasks)
    finally:
        listener.close()
        for task in proxy.tasks:
            task.cancel()
