"""The other end of a connection: it sends exactly the bytes that a test gives it, and checks each frame it receives.

`Peer` is either end, frame by frame. `pair()` connects one to a server's `Client` that the test holds; `scripted()` is
a server for `connect()` that runs a script with each connection. `RawClient` is a client on a bare socket, for tests
that decide when something is read and how a connection ends.
"""

import asyncio
import itertools
import socket
import ssl as tls
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import attrs

from helpers.frames import (
    CLOSE,
    PING,
    PONG,
    Answer,
    answer,
    close_payload,
    fields_of,
    frame,
    parse_frame,
    request,
    server_close,
    take_frame,
)
from helpers.waiting import PATIENCE, iterations, until
from streamws import Cause, Client, Limits, Timeouts, WebSocketServer
from streamws.handshake.server import accept_key

QUIET = Timeouts(open=5, close=5, ping_interval=None, ping_timeout=None)
"""No keepalive pings among the frames of a test."""
SMALL_BUFFER = 8192
NARROW_BUFFER = 4096
"""The receive buffer for a client of `narrow_socket()`."""
NARROW = Limits(write_high=4000, write_low=1000)
"""With small buffers, senders soon have to wait."""

Address = tuple[str, int] | str


@attrs.define
class Collected:
    """What a peer received."""

    messages: list[bytes] = attrs.field(factory=list)
    close: int | None = None
    pongs: list[bytes] = attrs.field(factory=list)
    rest: bytes = b""
    """The payloads of a message that is not complete."""


class Peer:
    """Either end of a connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool) -> None:
        """:param masks: whether this end is a client, which masks its frames."""
        self.reader = reader
        self.writer = writer
        self.head = b""
        """The head that this end received in the opening handshake."""
        self._masks = masks
        self._numbers = itertools.count()

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the received head, with names in lower case."""
        return fields_of(self.head)

    @property
    def address(self) -> tuple[str, int]:
        """The address of the end under test."""
        host, port = self.writer.get_extra_info("peername")[:2]
        return host, port

    # Opening handshake of a server ------------------------------------------------------------------------------

    async def read_head(self) -> bytes:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        return self.head

    def acceptance(self, *fields: str) -> bytes:
        """Return the response that accepts the request."""
        accept = accept_key(self.fields["sec-websocket-key"].encode()).decode()
        lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}", *fields]
        return answer("101 Switching Protocols", *lines, length=False)

    async def accept(self, *fields: str, behind: bytes = b"") -> None:
        """Read the request and accept it; `behind` leaves in the same packet as the response."""
        await self.read_head()
        self.write(self.acceptance(*fields) + behind)

    # Sending ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes as they are, in one write."""
        self.writer.write(data)

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
        """Encode a frame as this end sends it."""
        return frame(opcode, payload, fin=fin, masked=self._masks)

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send a frame."""
        self.write(self.frame(opcode, payload, fin=fin))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self.send(CLOSE, close_payload(code, reason))

    # Receiving --------------------------------------------------------------------------------------------------

    async def read_frame(self) -> tuple[int, bytes]:
        """Return first byte and unmasked payload of the next frame."""
        parsing = parse_frame(not self._masks)
        size = next(parsing)
        try:
            while True:
                size = parsing.send(await self.reader.readexactly(size))
        except StopIteration as done:
            first, payload = done.value
            return first, payload

    async def read_frames(self, count: int) -> list[tuple[int, bytes]]:
        return [await self.read_frame() for _ in range(count)]

    async def read_close(self) -> tuple[int, str]:
        """Return code and reason of the Close frame that must be next."""
        first, payload = await self.read_frame()
        assert first == CLOSE, (first, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def settle(self) -> None:
        """Wait until the end under test has processed all that was sent; it may not have sent anything else."""
        payload = b"settled %d" % next(self._numbers)
        self.send(PING, payload)
        assert await self.read_frame() == (PONG, payload)

    async def read_end(self) -> None:
        """Wait for the end of the TCP connection; no byte may come before it."""
        assert await self.reader.read() == b""

    async def read_rest(self) -> bytes:
        """Return all bytes up to the end of the connection, however it ends."""
        received = b""
        with suppress(ConnectionError, tls.SSLError):
            while data := await self.reader.read(65536):
                received += data
        return received

    # Ending -----------------------------------------------------------------------------------------------------

    async def close_after_client(self) -> tuple[int, str]:
        """Answer the client's Close frame, end the connection as a server does, and return what the frame said."""
        code, reason = await self.read_close()
        self.write(server_close(code))
        self.writer.close()
        return code, reason

    async def close(self) -> None:
        """End the TCP connection (FIN)."""
        self.writer.close()
        with suppress(ConnectionError):  # the other end may have been faster
            await self.writer.wait_closed()

    def half_close(self) -> None:
        """Send nothing more (FIN), and still receive."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Drop the TCP connection (RST)."""
        _reset_on_close(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()


def _reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def collect(peer: Peer, received: Collected) -> None:
    """Read until the connection ends, and answer pings. Fragments must be in order."""
    begun = False
    with suppress(asyncio.IncompleteReadError):
        while True:
            first, payload = await peer.read_frame()
            assert received.close is None, "a frame after Close"
            if first == CLOSE:
                received.close = int.from_bytes(payload[:2], "big")
            elif first == PING:
                peer.send(PONG, payload)
            elif first == PONG:
                received.pongs.append(payload)
            else:
                assert first & 0x70 == 0
                assert (first & 0x0F == 0) is begun, "a fragment out of order"
                begun = first < 0x80
                received.rest += payload
                if not begun:
                    received.messages.append(received.rest)
                    received.rest = b""


# A server's `Client` and its peer ---------------------------------------------------------------------------


async def open_peer(port: int, head: bytes | None = None, *, small_buffers: bool = False) -> Peer:
    """Connect to a server and do the opening handshake, with `head` as the request."""
    sock = socket.socket()
    if small_buffers:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # With a small limit, the peer reads from the socket only if the test reads from the peer.
    reader, writer = await asyncio.open_connection(sock=sock, limit=SMALL_BUFFER if small_buffers else 1 << 16)
    writer.transport.set_write_buffer_limits(0)
    peer = Peer(reader, writer, masks=True)
    peer.write(head or request())
    assert (await peer.read_head()).startswith(b"HTTP/1.1 101 "), peer.head
    return peer


@asynccontextmanager
async def pair(
    limits: Limits | None = None,
    timeouts: Timeouts = QUIET,
    *,
    head: bytes | None = None,
    small_buffers: bool = False,
    seconds: float = 10,
    **options: Any,
) -> AsyncIterator[tuple[Client, Peer]]:
    """Connect a server's `Client` and its peer; both end within `seconds`.

    :param head: the request of the peer.
    :param options: of the server.
    """
    clients: asyncio.Queue[Client] = asyncio.Queue()

    async def hold(client: Client) -> None:
        clients.put_nowait(client)
        await client.wait_closed()

    async with (
        asyncio.timeout(seconds),
        WebSocketServer("127.0.0.1", 0, handler=hold, limits=limits, timeouts=timeouts, **options) as server,
    ):
        peer = await open_peer(server.sockets[0].getsockname()[1], head, small_buffers=small_buffers)
        client = await clients.get()
        if small_buffers:
            # A fixed size: the kernel would grow the buffer to megabytes while the peer does not read.
            accepted = client._connection.transport.get_extra_info("socket")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        try:
            yield client, peer
        finally:
            await peer.close()


async def outlast_keepalive(timeouts: Timeouts) -> None:
    """Wait as long as the keepalive takes to close a connection whose peer is silent."""
    async with pair(timeouts=timeouts) as (silent, _):
        await until(lambda: silent.outcome)
        assert silent.outcome is not None
        assert silent.outcome.cause is Cause.KEEPALIVE


async def full_network(client: Client) -> None:
    """Send so much, over small buffers, that further senders wait until the peer has read most of it."""
    for _ in range(6):
        client.send(b"f" * 10_000).close()
    await iterations()
    assert client._connection.outbox.paused


# A server for `connect()` -----------------------------------------------------------------------------------

Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """A server that runs a script with each connection."""

    def __init__(self, script: Script, scheme: str) -> None:
        self._script = script
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.peers: list[Peer] = []
        """The connections so far."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def heads(self) -> list[bytes]:
        """The requests so far."""
        return [peer.head for peer in self.peers]

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, masks=False)
        async with self._changed:
            self.peers.append(peer)
            self._changed.notify_all()
        try:
            await self._script(peer)
        finally:
            writer.close()

    async def peer(self, number: int = 0) -> Peer:
        """Wait for the connection of that number."""
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

    def cancel(self) -> None:
        """Cancel the scripts that still run."""
        for task in self._tasks:
            task.cancel()


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
        server.cancel()


def answering(*pieces: bytes, close: bool = False) -> Script:
    """Make a script that reads the request, sends the pieces, and closes or waits for the client to close."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        for piece in pieces:
            peer.write(piece)
            await peer.writer.drain()
            await asyncio.sleep(0)
        if not close:
            await peer.read_rest()

    return script


async def silent(peer: Peer) -> None:
    """A script that reads everything and sends nothing."""
    await peer.read_rest()


async def echo(peer: Peer) -> None:
    """A script that accepts, and sends small messages back until the client closes."""
    await peer.accept()
    while True:
        first, payload = await peer.read_frame()
        peer.send(first, payload)
        if first == CLOSE:
            return


async def hardy(peer: Peer) -> None:
    """As `echo`, but the client may drop the connection at any time."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await echo(peer)


@contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """Give an address at which no one is accepted: the backlog of its listening socket is full."""
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


# A client on a bare socket ----------------------------------------------------------------------------------


class RawClient:
    """A TCP or Unix connection to a server. It reads from its socket only when a test asks it to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.address: tuple[str, int] = ("", 0)
        """This end's address, by which the server knows the connection."""
        self._received = b""

    @classmethod
    async def connect(cls, address: Address, receive_buffer: int | None = None) -> "RawClient":
        """Connect.

        :param receive_buffer: bytes that the kernel holds for a client that does not read.
        """
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client = cls(sock)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        if not isinstance(address, str):
            client.address = sock.getsockname()[:2]
        return client

    # Sending ----------------------------------------------------------------------------------------------------

    async def send(self, data: bytes, split: int = 0) -> None:
        """Send bytes, in chunks of `split` bytes that the server reads one by one."""
        loop = asyncio.get_running_loop()
        size = split or len(data) or 1
        async with asyncio.timeout(PATIENCE):
            for start in range(0, len(data), size):
                await loop.sock_sendall(self.sock, data[start : start + size])
                # In the first iteration the loop sees that the socket is readable, in the second one it reads.
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def upgrade(self, head: bytes | None = None) -> Answer:
        """Do the opening handshake, which must succeed."""
        await self.send(request() if head is None else head)
        answer = await self.read_answer()
        assert answer.status == 101, answer
        return answer

    # Receiving --------------------------------------------------------------------------------------------------

    async def receive(self) -> bool:
        """Read once from the socket and return whether the connection goes on."""
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        self._received += data
        return bool(data)

    async def _receive_more(self) -> None:
        assert await self.receive(), f"the connection ended after {self._received!r}"

    async def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self._received) < size:
            await self._receive_more()
        data, self._received = self._received[:size], self._received[size:]
        return data

    async def read_answer(self) -> Answer:
        """Return a response with its body."""
        while b"\r\n\r\n" not in self._received:
            await self._receive_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        version, status, reason = head.decode("latin-1").split("\r\n")[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = fields_of(head)
        body = await self.read(int(headers.get("content-length", "0")))
        return Answer(int(status), reason, headers, body)

    async def read_frame(self) -> tuple[int, bytes]:
        """Return first byte and payload of the next frame."""
        while (taken := take_frame(self._received)) is None:
            await self._receive_more()
        first, payload, self._received = taken
        return first, payload

    async def read_until_eof(self) -> bytes:
        """Return all bytes up to the end of the connection, which must be a FIN."""
        while await self.receive():
            pass
        return self.take()

    def take(self) -> bytes:
        """Return what was received and not yet returned."""
        data, self._received = self._received, b""
        return data

    # Ending -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Send nothing more (FIN), and still receive."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection (FIN)."""
        self.sock.close()

    def reset(self) -> None:
        """Drop the connection (RST)."""
        _reset_on_close(self.sock)
        self.sock.close()


def narrow_socket() -> socket.socket:
    """Make a listening socket whose connections hold few bytes in the kernel, so that a slow reader soon shows."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return sock
