"""`client.stats` and `socket.stats`: the numbers are those that the peer counts on its side."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import attrs
import pytest

from helpers.compressing import OFFER, RSV1, TAKING_OVER, WIDE, Packer
from helpers.fixtures import Connect, Serve, address_of, client_of
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, frames, request
from helpers.peers import QUIET, Peer, scripted
from helpers.waiting import iterations, until
from streamws import (
    Cause,
    Client,
    Compression,
    ConnectionStats,
    DataFrame,
    Limits,
    Opcode,
    Request,
    ServerStats,
    Timeouts,
    WebSocketServer,
    connect,
)


class Meter:
    """A reader that counts the bytes read from it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.data = b""

    async def readexactly(self, n: int) -> bytes:
        return self._count(await self._reader.readexactly(n))

    async def readuntil(self, separator: bytes) -> bytes:
        return self._count(await self._reader.readuntil(separator))

    async def read(self, n: int = -1) -> bytes:
        return self._count(await self._reader.read(n))

    def _count(self, data: bytes) -> bytes:
        self.data += data
        return data


class MeteredPeer(Peer):
    """A peer that counts the bytes that it sends and receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool) -> None:
        self.meter = Meter(reader)
        self.sent = 0
        counting: Any = self.meter
        super().__init__(counting, writer, masks=masks)

    @property
    def received(self) -> int:
        return len(self.meter.data)

    @property
    def received_messages(self) -> int:
        received = frames(self.meter.data, masked=not self._masks)
        return sum(first >= 0x80 and first & 0x0F < 8 for first, _ in received)

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        super().write(data)

    def begin(self) -> None:
        """Count from now: the opening handshake is complete."""
        self.sent = 0
        self.meter.data = b""


async def hold(client: Client) -> None:
    await client.wait_closed()


async def open_metered(
    socket: WebSocketServer, trusted: ssl.SSLContext | None = None, head: bytes | None = None
) -> MeteredPeer:
    name = None if trusted is None else "localhost"
    reader, writer = await asyncio.open_connection(*address_of(socket), ssl=trusted, server_hostname=name)
    peer = MeteredPeer(reader, writer, masks=True)
    peer.write(head or request())
    assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
    peer.begin()
    return peer


Ends = Callable[[], Awaitable[tuple[Client, MeteredPeer]]]


@pytest.fixture(params=["server", "client"])
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["plain", "tls"])
async def ends(
    request: pytest.FixtureRequest, role: str, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncIterator[Ends]:
    """Connect a `Client` of either role, and its peer."""
    encrypted = request.param == "tls"
    async with AsyncExitStack() as stack:

        async def connect_ends() -> tuple[Client, MeteredPeer]:
            limits = Limits(read_high=200_000)
            if role == "server":
                context = server_context if encrypted else None
                socket = WebSocketServer("127.0.0.1", 0, handler=hold, ssl=context, timeouts=QUIET, limits=limits)
                await stack.enter_async_context(socket)
                peer = await open_metered(socket, client_context if encrypted else None)
                stack.push_async_callback(peer.close)
                await until(lambda: socket.clients)
                return next(iter(socket.clients.values())), peer
            peers: asyncio.Queue[MeteredPeer] = asyncio.Queue()
            done = asyncio.Event()

            async def script(plain: Peer) -> None:
                peer = MeteredPeer(plain.reader, plain.writer, masks=False)
                await peer.accept()
                peer.begin()
                peers.put_nowait(peer)
                await done.wait()

            server = await stack.enter_async_context(scripted(script, ssl=server_context if encrypted else None))
            stack.callback(done.set)
            url = server.url.replace("127.0.0.1", "localhost") if encrypted else server.url
            trusted = client_context if encrypted else None
            client = await connect(url, ssl=trusted, timeouts=QUIET, limits=limits, proxy=None)

            async def drop() -> None:
                client._connection.abort()
                await client.wait_closed()

            stack.push_async_callback(drop)
            return client, await peers.get()

        async with asyncio.timeout(10):
            yield connect_ends


async def send_and_read(client: Client, peer: MeteredPeer) -> int:
    """Whole messages of all sizes and types, many of them in one chunk."""
    small = [peer.frame(TEXT, b"a"), peer.frame(BINARY, b""), peer.frame(TEXT, "ä€".encode()), peer.frame(TEXT)]
    peer.write(b"".join(small * 10))
    peer.write(peer.frame(BINARY, bytes(70_000)) + peer.frame(TEXT, b"x" * 126))
    for _ in range(42):
        await client.read_message()
    messages: list[Any] = ["a", b"b", bytearray(3), memoryview(b"four"), "ü" * 100, bytes(20_000), "x" * 70_000]
    for message in messages:
        await client.send(message)
    await client.send(bytes(600_000))
    for size in (5, 20_000, 600_000):  # text that exists as bytes, as from an encoder of JSON
        await client.send(b"x" * size, text=True)
        await client.writer.send(bytearray(size), text=True)
    for _ in range(20):
        client.send("burst").close()
    return 42


async def send_in_parts(client: Client, peer: MeteredPeer) -> int:
    """Messages in fragments and in frames of declared length, with control frames and waiting senders in between."""
    peer.send(TEXT, b"one ", fin=False)
    peer.send(PING, b"between")
    peer.send(0, b"and ", fin=False)
    peer.send(0x80, b"two")
    peer.send(PONG, b"unasked")
    assert await client.read_message() == "one and two"
    async with client.writer.fragment() as stream:
        await stream.send("one")
        waiting = asyncio.create_task(client.writer.send("waits for its turn"))
        client.writer.ping(b"p").close()
        await stream.send("two")
    await waiting
    await client.writer.feed(["a", "b"])
    await client.writer.write_frame(DataFrame(Opcode.BINARY, b"a", fin=False))
    await client.writer.write_frame(DataFrame(Opcode.CONTINUATION, b"b"))
    async with client.writer.data_frame(100_000) as frame:
        await frame.write(bytes(30_000))
        await frame.write(bytes(70_000))
    async with client.writer.fragment():
        pass
    await client.writer.pong(b"heartbeat")
    return 1


async def stream(client: Client, peer: MeteredPeer) -> int:
    """Messages that are streamed, and left before their end."""
    large = peer.frame(BINARY, bytes(150_000))
    peer.write(large[:40_000])
    messages = client.messages()
    message = await anext(messages)
    buffer = bytearray(50_000)
    assert await message.readinto(buffer) > 0
    peer.write(large[40_000:])
    total = 0
    while size := await message.readinto(buffer):
        total += size
    peer.write(large * 2 + peer.frame(TEXT, b"left", fin=False))
    await (await anext(messages)).read(10)
    await (await anext(messages)).read(10)
    await anext(messages)
    return 3


@pytest.mark.parametrize("traffic", [send_and_read, send_in_parts, stream])
async def test_client_counts_what_its_peer_counts(
    ends: Ends, traffic: Callable[[Client, MeteredPeer], Awaitable[int]]
) -> None:
    client, peer = await ends()
    assert client.stats.bytes_received == client.stats.bytes_sent == 0
    reading = asyncio.create_task(read_until(peer, PONG, b"end"))
    received = await traffic(client, peer)
    peer.send(PING, b"end")
    await reading
    stats = client.stats
    assert stats.bytes_received == peer.sent
    assert stats.bytes_sent == peer.received
    assert stats.messages_received == received
    assert stats.messages_sent == peer.received_messages
    assert stats.backlog == stats.inflated_received == stats.compressed_sent == 0


async def read_until(peer: Peer, first: int, payload: bytes) -> None:
    while await peer.read_frame() != (first, payload):
        pass


async def test_client_counts_the_closing_handshake_and_then_no_more(ends: Ends, role: str) -> None:
    client, peer = await ends()
    peer.send(TEXT, b"unread")
    await peer.settle()
    closing = asyncio.create_task(client.close())
    assert (await peer.read_close())[0] == 1000
    peer.send(TEXT, b"discarded")
    peer.send(CLOSE, b"\x03\xe8")
    if role == "client":
        peer.writer.close()
    await closing
    stats = client.stats
    assert stats.bytes_received == peer.sent
    assert stats.bytes_sent == peer.received
    assert stats.messages_received == 1
    assert client.stats == stats  # not even its duration changes
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        stats.backlog = 1  # type: ignore[misc]


async def test_client_knows_its_age_and_round_trip(serve: Serve, connect: Connect) -> None:
    socket = await serve(hold, timeouts=QUIET)
    raw = await connect(socket)
    client = client_of(socket, raw)
    stats = client.stats
    assert stats.round_trip is None
    assert timedelta(0) <= datetime.now(UTC) - stats.opened_at < timedelta(seconds=60)
    await asyncio.sleep(0.001)
    assert stats.duration < client.stats.duration < 60
    assert client.stats.opened_at == stats.opened_at
    server_stats = socket.stats
    assert server_stats.started_at is not None
    assert server_stats.started_at <= stats.opened_at
    assert server_stats.duration >= stats.duration


# Compression ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def compressing(compression: Compression) -> AsyncIterator[tuple[Client, MeteredPeer, WebSocketServer]]:
    async with (
        asyncio.timeout(10),
        WebSocketServer("127.0.0.1", 0, handler=hold, compression=compression, timeouts=QUIET) as socket,
    ):
        peer = await open_metered(socket, head=request({"Sec-WebSocket-Extensions": OFFER}))
        await until(lambda: socket.clients)
        yield next(iter(socket.clients.values())), peer, socket
        await peer.close()


@pytest.mark.parametrize("compression", [WIDE, TAKING_OVER], ids=["no takeover", "takeover"])
async def test_client_counts_compressed_data_on_both_sides_of_the_codec(compression: Compression) -> None:
    data = b"the same again " * 10_000
    async with compressing(compression) as (client, peer, _):
        packer = Packer(takeover=compression.peer_takeover)
        whole, first, last = packer.message(data), packer.part(data, False), packer.part(b"end", True)
        peer.write(peer.frame(BINARY | RSV1, whole))
        peer.write(peer.frame(BINARY | RSV1, first, fin=False) + peer.frame(0, last))
        assert client.stats.inflated_received == 0  # nothing is inflated before it is read
        await client.read_message()
        await client.read_message()
        await client.send(data)
        await client.send("plain", compress=False)
        async with client.writer.fragment(Opcode.BINARY) as stream:
            await stream.send(data)
        peer.send(PING, b"end")
        await read_until(peer, PONG, b"end")
        sent = [payload for first, payload in frames(peer.meter.data) if first & 0x0F < 8]
        stats = client.stats
        assert stats.bytes_received == peer.sent
        assert stats.bytes_sent == peer.received
        assert (stats.messages_received, stats.messages_sent) == (2, 3)
        assert stats.compressed_received == len(whole) + len(first) + len(last)
        assert stats.inflated_received == 2 * len(data) + len(b"end")
        assert stats.compressed_sent == sum(map(len, sent)) - len(b"plain")
        assert stats.inflated_sent == 2 * len(data)


async def test_client_counts_no_data_that_is_skipped_or_read_after_the_end_as_inflated() -> None:
    async with compressing(WIDE) as (client, peer, socket):
        packer = Packer()
        for _ in range(2):
            peer.send(TEXT | RSV1, packer.message(b"skipped" * 100))
        async with await anext(client.messages()):
            pass
        await peer.settle()
        assert client.stats.messages_received == 2
        assert client.stats.inflated_received == client.stats.compressed_received == 0
        peer.send(CLOSE, b"\x03\xe8")
        await client.wait_closed()
        assert await client.read_message() == "skipped" * 100
        assert client.stats.inflated_received == socket.stats.inflated_received == 0


async def test_client_counts_data_that_compression_would_enlarge_as_sent_uncompressed() -> None:
    async with compressing(WIDE) as (client, peer, _):
        await client.send(b"7")
        assert await peer.read_frame() == (BINARY, b"7")
        assert client.stats.compressed_sent == client.stats.inflated_sent == 0


@pytest.mark.parametrize("compression", [None, WIDE, TAKING_OVER], ids=["plain", "no takeover", "takeover"])
async def test_broadcast_counts_for_each_client(serve: Serve, compression: Compression | None) -> None:
    socket = await serve(hold, compression=compression, timeouts=QUIET)
    head = None if compression is None else request({"Sec-WebSocket-Extensions": OFFER})
    peers = [await open_metered(socket, head=head) for _ in range(3)]
    await until(lambda: len(socket.clients) == 3)
    first, *others = socket.clients.values()
    async with first.writer.fragment(Opcode.TEXT, compress=False) as stream:
        await stream.send("wait ")
        socket.broadcast("to all " * 100)
        assert first.stats.messages_sent == 0
    for client, peer in zip(socket.clients.values(), peers, strict=True):
        peer.send(PING, b"end")
        await read_until(peer, PONG, b"end")
        stats = client.stats
        assert stats.messages_sent == peer.received_messages == (2 if client is first else 1)
        assert stats.bytes_sent == peer.received
        assert stats.inflated_sent == (0 if compression is None else 700)
        assert stats.compressed_sent == others[0].stats.compressed_sent
        assert (stats.compressed_sent > 0) == (compression is not None)
    assert socket.stats.messages_sent == 4
    assert socket.stats.bytes_sent == sum(peer.received for peer in peers)
    for peer in peers:
        await peer.close()


# The server -------------------------------------------------------------------------------------------------


def sums(stats: ServerStats, clients: list[ConnectionStats]) -> bool:
    """Return whether the numbers of the server are the sums of those of its clients."""
    names = {field.name for field in attrs.fields(ConnectionStats)} - {"backlog", "round_trip", "opened_at", "duration"}
    return all(getattr(stats, name) == sum(getattr(client, name) for client in clients) for name in names)


async def test_server_counts_clients_that_have_ended_too(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        async for message in client:
            await client.send(message)

    socket = await serve(handler, timeouts=QUIET)
    before = socket.stats
    assert (before.connections, before.opened, sum(before.closed.values())) == (0, 0, 0)
    assert set(before.closed) == set(Cause)
    peers = [await open_metered(socket) for _ in range(4)]
    await until(lambda: len(socket.clients) == 4)
    clients = list(socket.clients.values())
    for number, peer in enumerate(peers):
        peer.send(TEXT, bytes(number))
        await peer.read_frame()
    assert sums(socket.stats, [client.stats for client in clients])
    peers[0].send_close()
    peers[1].reset()
    peers[2].send(0x80, b"a stray continuation")
    await peers[2].read_frame()
    await peers[2].close()
    for client in clients[:3]:
        await client.wait_closed()
    after = socket.stats
    assert sums(after, [client.stats for client in clients])
    assert (after.connections, after.opened, after.messages_sent) == (1, 4, 4)
    ended = {cause: count for cause, count in after.closed.items() if count}
    assert ended == {Cause.CLEAN: 1, Cause.RESET: 1, Cause.PROTOCOL_ERROR: 1}
    for peer in peers:
        await peer.close()
    await until(lambda: not socket.clients)
    assert socket.stats.opened == sum(socket.stats.closed.values()) == 4


async def test_server_counts_handshakes_by_how_they_end(serve: Serve, connect: Connect) -> None:
    release = asyncio.Event()

    async def authenticate(_: Request) -> None:
        await release.wait()

    socket = await serve(hold, request=authenticate)
    silent = await connect(socket, upgrade=False)
    await until(lambda: socket.stats.handshakes == 1)
    waiting = await connect(socket, upgrade=False)
    await waiting.send(request())
    await until(lambda: socket.stats.handshakes == 2)
    bad = await connect(socket, upgrade=False)
    await bad.send(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: socket.stats.refused == {400: 1})
    assert socket.stats.handshakes == 2
    silent.close()
    await until(lambda: socket.stats.failed == 1)
    assert socket.stats.handshakes == 1
    release.set()
    await until(lambda: socket.stats.connections == 1)
    bad.close()
    await iterations()
    stats = socket.stats
    assert (stats.handshakes, stats.failed, stats.opened, stats.refused) == (0, 1, 1, {400: 1})


async def test_server_counts_a_failed_tls_handshake(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext
) -> None:
    socket = await serve(hold, ssl=server_context)
    raw = await connect(socket, upgrade=False)
    await raw.send(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: socket.stats.failed == 1)
    assert socket.stats.handshakes == 0
    assert socket.stats.refused == {}


async def test_stats_show_the_backlog_of_a_slow_peer(serve: Serve, connect: Connect) -> None:
    socket = await serve(hold, timeouts=Timeouts(close=0.1))
    raw = await connect(socket, receive_buffer=4096)
    other = await connect(socket)
    client = client_of(socket, raw)
    client.send(bytes(10_000_000)).close()
    stats = socket.stats
    backlog = client.stats.backlog
    assert 1_000_000 < backlog < 10_000_000
    assert stats.backlog == stats.largest_backlog == backlog
    assert client.stats.bytes_sent == 10_000_010
    assert client_of(socket, other).stats.backlog == 0
    raw.close()
    await until(lambda: len(socket.clients) == 1)
    assert client.stats.backlog == socket.stats.backlog == 0


async def test_stats_may_be_read_in_any_thread_while_connections_come_and_go(serve: Serve) -> None:
    async def handler(client: Client) -> None:
        async for message in client:
            await client.send(message)

    socket = await serve(handler)
    seen: list[ServerStats] = []
    clients: list[Client] = []
    stop = threading.Event()
    errors: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                seen.append(socket.stats)
                for client in clients[-3:]:
                    assert client.stats.messages_sent >= 0
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(40):
            async with connect("ws://{}:{}".format(*address_of(socket)), proxy=None) as client:
                clients.append(client)
                clients.extend(socket.clients.values())
                for _ in range(5):
                    await client.send("hello")
                    await client.read_message()
    finally:
        stop.set()
        thread.join()
    assert not errors
    await until(lambda: not socket.clients)
    seen.append(socket.stats)
    for earlier, later in pairwise(seen):
        assert earlier.messages_received <= later.messages_received
        assert earlier.bytes_sent <= later.bytes_sent
        assert earlier.opened <= later.opened
        assert earlier.opened == earlier.connections + sum(earlier.closed.values())
    assert seen[-1].messages_received == 200


async def test_server_has_stats_before_it_starts() -> None:
    stats = WebSocketServer("127.0.0.1", 0, handler=hold).stats
    assert (stats.started_at, stats.duration, stats.connections, stats.round_trip) == (None, 0.0, 0, None)
