"""Proxies for the tests. Whatever server is asked for, they connect to the one that they were given."""

import asyncio
from asyncio import StreamReader, StreamWriter
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Open = Callable[[StreamReader, StreamWriter], Awaitable[bool]]
"""Answers the client's request for a connection; returns whether it gets one."""


@asynccontextmanager
async def http_proxy(server: str, user: str = "", password: str = "") -> AsyncIterator[str]:
    """Takes CONNECT, if there is a user name from those with it and the password. Gives its host and port."""
    credentials = b"Basic " + b64encode(f"{user}:{password}".encode())

    async def begin(reader: StreamReader, writer: StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"CONNECT ")
        if user and b"\r\nProxy-Authorization: " + credentials + b"\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return False
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        return True

    async with _relaying(begin, server) as place:
        yield place


@asynccontextmanager
async def socks_proxy(server: str) -> AsyncIterator[str]:
    """Takes SOCKS5's command CONNECT with a host name (RFC 1928). Gives its host and port."""

    async def begin(reader: StreamReader, writer: StreamWriter) -> bool:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        assert (await reader.readexactly(4)) == b"\x05\x01\x00\x03"
        [length] = await reader.readexactly(1)
        await reader.readexactly(length + 2)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        return True

    async with _relaying(begin, server) as place:
        yield place


@asynccontextmanager
async def _relaying(begin: Open, server: str) -> AsyncIterator[str]:
    host, _, port = server.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def relay(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            if await begin(reader, writer):
                answers, requests = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_copy(reader, requests), _copy(answers, writer))
        finally:
            writer.close()

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(relay(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        yield "{}:{}".format(*listening.sockets[0].getsockname())
        await asyncio.gather(*tasks)


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
