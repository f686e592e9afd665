"""A real loopback connection: the test holds the server side as a `Client`, and the peer as raw frames."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from streamws import Client, Limits, Opcode, Timeouts, WebSocketServer

KEY = b"\x11\x22\x33\x44"
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
QUIET = Timeouts(open=5, close=5, ping_interval=None, ping_timeout=None)
"""No keepalive pings among the frames of a test."""
SMALL_BUFFER = 8192


def mask(payload: bytes) -> bytes:
    key = KEY * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key[: len(payload)], "big")
    return number.to_bytes(len(payload), "big")


def header(opcode: int, length: int, *, fin: bool = True) -> bytes:
    """The header of a masked frame."""
    first = opcode | (0x80 if fin else 0)
    if length < 126:
        start = bytes((first, 0x80 | length))
    elif length < 65536:
        start = bytes((first, 0xFE)) + length.to_bytes(2, "big")
    else:
        start = bytes((first, 0xFF)) + length.to_bytes(8, "big")
    return start + KEY


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A masked frame."""
    return header(opcode, len(payload), fin=fin) + mask(payload)


def close_payload(code: int | None, reason: str = "") -> bytes:
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something internal has come about, for which there is no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Peer:
    """The other end of the connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._numbers = itertools.count()

    def write(self, data: bytes) -> None:
        """Send bytes as they are, in one write."""
        self.writer.write(data)

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send a masked frame."""
        self.writer.write(frame(opcode, payload, fin=fin))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self.send(Opcode.CLOSE, close_payload(code, reason))

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload."""
        first, length = await self.reader.readexactly(2)
        assert length < 0x80, "a server masks nothing"
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first, await self.reader.readexactly(length)

    async def read_frames(self, count: int) -> list[tuple[int, bytes]]:
        return [await self.read_frame() for _ in range(count)]

    async def read_close(self) -> tuple[int, str]:
        """Code and reason of the Close frame that must come next."""
        first, payload = await self.read_frame()
        assert first == 0x88, (first, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def settle(self) -> None:
        """Wait until the other side has worked off what was sent; nothing else may come from there."""
        payload = b"settled %d" % next(self._numbers)
        self.send(Opcode.PING, payload)
        assert await self.read_frame() == (0x8A, payload)

    async def read_end(self) -> None:
        """Wait for the end of the TCP connection; nothing may come before it."""
        assert await self.reader.read() == b""

    async def close(self) -> None:
        """Drop the TCP connection."""
        self.writer.close()
        with suppress(ConnectionError):  # where the other side was faster
            await self.writer.wait_closed()

    def half_close(self) -> None:
        self.writer.write_eof()


async def open_peer(port: int, *, small_buffers: bool = False) -> Peer:
    """Connect to a server and do the opening handshake."""
    sock = socket.socket()
    if small_buffers:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A reader that takes little, so that a test that does not read is a peer that does not read.
    reader, writer = await asyncio.open_connection(sock=sock, limit=SMALL_BUFFER if small_buffers else 2**16)
    writer.transport.set_write_buffer_limits(0)
    peer = Peer(reader, writer)
    peer.write(REQUEST)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return peer


@asynccontextmanager
async def pair(
    limits: Limits | None = None,
    timeouts: Timeouts = QUIET,
    *,
    small_buffers: bool = False,
    seconds: float = 10,
) -> AsyncIterator[tuple[Client, Peer]]:
    """A connection: its server side, which belongs to the test, and its peer; both end within `seconds`."""
    clients: asyncio.Queue[Client] = asyncio.Queue()

    async def hold(client: Client) -> None:
        clients.put_nowait(client)
        await client.wait_closed()

    async with (
        asyncio.timeout(seconds),
        WebSocketServer("127.0.0.1", 0, handler=hold, limits=limits, timeouts=timeouts) as server,
    ):
        peer = await open_peer(server.sockets[0].getsockname()[1], small_buffers=small_buffers)
        client = await clients.get()
        if small_buffers:
            # A fixed size: a socket's buffer would else grow to megabytes while no one reads.
            accepted = client._connection.transport.get_extra_info("socket")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        try:
            yield client, peer
        finally:
            await peer.close()
