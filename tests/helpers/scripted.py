"""Servers that play exactly the bytes that a test gives them, for the client to connect to."""

import asyncio
import re
import socket
import ssl as tls
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from helpers.rawclient import PATIENCE, apply_mask
from streamws import StreamwsError, connect
from streamws.handshake.server import accept_key


def answer(status: str, *fields: str, body: bytes = b"", length: bool = True) -> bytes:
    """An HTTP answer such as "404 Not Found"; with a Content-Length unless `length` says no."""
    lines = [f"HTTP/1.1 {status}", *fields, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def server_frame(first: int, payload: bytes = b"") -> bytes:
    """A small frame as servers send it."""
    assert len(payload) < 126
    return bytes((first, len(payload))) + payload


def server_close(code: int, reason: str = "") -> bytes:
    return server_frame(0x88, struct.pack("!H", code) + reason.encode())


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        """The request, once it was read."""

    @property
    def fields(self) -> dict[str, str]:
        """The header fields of the request, names in lower case."""
        lines = self.head.decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def address(self) -> tuple[str, int]:
        """Where the client connects from."""
        host, port = self.writer.get_extra_info("peername")[:2]
        return host, port

    async def read_head(self) -> bytes:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        return self.head

    def acceptance(self, *fields: str) -> bytes:
        """The good answer to the request."""
        accept = accept_key(self.fields["sec-websocket-key"].encode()).decode()
        lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}", *fields]
        return answer("101 Switching Protocols", *lines, length=False)

    async def accept(self, *fields: str, behind: bytes = b"") -> None:
        """Read the request and accept it; `behind` goes into the same packet as the answer."""
        await self.read_head()
        self.send(self.acceptance(*fields) + behind)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_frame(self) -> tuple[int, bytes]:
        """The client's next frame: its first byte, and its payload without the mask."""
        first, length = await self.reader.readexactly(2)
        assert length >= 0x80, "a client's frame is masked"
        length -= 0x80
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        mask = await self.reader.readexactly(4)
        return first, apply_mask(await self.reader.readexactly(length), mask)

    async def read_close(self) -> tuple[int, str]:
        """Code and reason of the Close frame that must come next."""
        first, payload = await self.read_frame()
        assert first == 0x88, (first, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def close_after_client(self) -> tuple[int, str]:
        """Answer the client's Close frame, end the connection as a server does, and return what the frame said."""
        code, reason = await self.read_close()
        self.send(server_close(code))
        self.close()
        return code, reason

    async def read_end(self) -> bytes:
        """What comes up to the end of the connection, in order or not."""
        received = b""
        with suppress(ConnectionError, tls.SSLError):
            while data := await self.reader.read(65536):
                received += data
        return received

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Drop the connection (RST)."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """A server of which each connection runs a script; `peers` are the connections so far."""

    def __init__(self, script: Script, scheme: str) -> None:
        self._script = script
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.peers: list[Peer] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def heads(self) -> list[bytes]:
        """The requests that came."""
        return [peer.head for peer in self.peers]

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        async with self._changed:
            self.peers.append(peer)
            self._changed.notify_all()
        try:
            await self._script(peer)
        finally:
            writer.close()

    async def peer(self, number: int = 0) -> Peer:
        """The connection of that number, when it is there."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.peers) > number)
        return self.peers[number]

    async def finish(self) -> None:
        """Wait for the scripts to end; raises what they raised."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)
            for peer in self.peers:
                with suppress(ConnectionError, tls.SSLError):
                    await peer.writer.wait_closed()


@asynccontextmanager
async def scripted(
    script: Script, *, ssl: tls.SSLContext | None = None, path: str | None = None
) -> AsyncIterator[ScriptedServer]:
    """Serve on a free port of 127.0.0.1, or on a Unix socket. Every script must have ended when the block does."""
    server = ScriptedServer(script, "ws" if ssl is None else "wss")
    if path is not None:
        listener = await asyncio.start_unix_server(server.run, path, ssl=ssl)
    else:
        listener = await asyncio.start_server(server.run, "127.0.0.1", 0, ssl=ssl)
        server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
        await server.finish()
    finally:
        listener.close()
        for task in server._tasks:
            task.cancel()


def answering(*pieces: bytes, close: bool = False) -> Script:
    """A script that reads the request and sends the pieces, then waits for the client's end unless it closes."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        for piece in pieces:
            peer.send(piece)
            await peer.writer.drain()
            await asyncio.sleep(0)
        if not close:
            await peer.read_end()

    return script


async def silent(peer: Peer) -> None:
    """A script that takes everything and says nothing."""
    await peer.read_end()


async def hardy(peer: Peer) -> None:
    """As `echo`, whenever the client drops the connection."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await echo(peer)


async def echo(peer: Peer) -> None:
    """A script that accepts, and sends small messages back until the client closes."""
    await peer.accept()
    while True:
        first, payload = await peer.read_frame()
        peer.send(server_frame(first, payload))
        if first == 0x88:
            return


@contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """An address that answers no one: its queue of connections is full, and no one accepts them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address: tuple[str, int] = listener.getsockname()
        waiting = []
        try:
            for _ in range(4):
                sock = socket.socket()
                waiting.append(sock)
                sock.setblocking(False)
                with suppress(BlockingIOError):
                    sock.connect(address)
            yield address
        finally:
            for sock in waiting:
                sock.close()


def closed_port() -> int:
    """A port of 127.0.0.1 on which no one listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


async def failing(url: str, kind: type[StreamwsError], **options: Any) -> Any:
    """The error with which an attempt to connect fails."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(kind) as caught:
            await connect(url, **options)
    assert type(caught.value) is kind
    return caught.value


def message_of(error: BaseException) -> str:
    """An error's message, without the number of a port."""
    return re.sub(r"127\.0\.0\.1:\d+", "SERVER", str(error))
