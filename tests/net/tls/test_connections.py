"""Connections over TLS and real sockets, in both roles."""

import asyncio
import gc
import os
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from helpers.attempts import failing, message_of
from helpers.fixtures import Connect, Serve, address_of, echo
from helpers.frames import BINARY, CLOSE, binary, close, close_of, frames, request, text
from helpers.leaks import open_sockets
from helpers.peers import Peer, RawClient, scripted, silent
from helpers.tls import TlsClient
from helpers.waiting import until, within
from streamws import Cause, Client, ConnectError, Limits, Timeouts, WebSocketServer, connect
from streamws.connection import AsyncioConnection, Environment
from streamws.net import poll
from streamws.net.transports import dial


@pytest.fixture(params=["epoll", "add_reader"], autouse=True)
def _watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with an epoll, and as on systems that have none."""
    monkeypatch.setattr(poll, "HAS_EPOLL", request.param == "epoll")


QUIET = Timeouts(open=5, close=5, ping_interval=None)
LARGE = 1_000_000


@pytest.fixture
def version() -> ssl.TLSVersion:
    """The version of the `contexts`. Tests in memory run with the other one too."""
    return ssl.TLSVersion.TLSv1_3


def url_of(server: WebSocketServer) -> str:
    return f"wss://localhost:{address_of(server)[1]}"


@asynccontextmanager
async def sealed(connect: Connect, server: WebSocketServer, context: ssl.SSLContext) -> AsyncIterator[TlsClient]:
    """Connect a `TlsClient` and do the TLS handshake."""
    client = TlsClient(await connect(server, upgrade=False), context)
    await client.shake_hands()
    yield client
    client.raw.close()


# Data ------------------------------------------------------------------------------------------------------------


async def test_client_and_server_exchange_large_messages_read_later(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Each end waits to send until the other one reads; nothing is lost or out of order."""
    server = await serve(echo, ssl=server_context, timeouts=QUIET)
    messages = [os.urandom(LARGE) for _ in range(8)]
    async with asyncio.timeout(20), connect(url_of(server), ssl=client_context, timeouts=QUIET) as client:

        async def send() -> None:
            for message in messages:
                await client.send(message)

        sending = asyncio.create_task(send())
        held = client._connection.transport.get_write_buffer_size
        await until(lambda: held() > 0 or sending.done())
        for message in messages:
            assert await client.read_message() == message
        await sending
    assert client.outcome is not None
    assert client.outcome.cause is Cause.CLEAN


async def test_server_serves_clients_of_the_standard_library(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The client sends everything before it reads."""
    server = await serve(echo, ssl=server_context, timeouts=QUIET)
    messages = [os.urandom(size) for size in (1, 16_384, 65_535, 300_000, 2)]

    def talk() -> bytes:
        received = b""
        with (
            socket.create_connection(address_of(server), timeout=10) as sock,
            client_context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(request())
            for message in messages:
                tls.sendall(binary(message))
            tls.sendall(close())
            while data := tls.recv(65_536):
                received += data
        return received

    received = await within(asyncio.to_thread(talk))
    answers = frames(received.partition(b"\r\n\r\n")[2])
    assert answers == [*((BINARY, message) for message in messages), (CLOSE, b"\x03\xe8")]


async def test_client_talks_to_servers_of_asyncio(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    messages = [os.urandom(size) for size in (1, 16_384, LARGE)]
    received = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        for message in messages:
            received.append((await peer.read_frame())[1] == message)
            peer.send(BINARY, message)
        await peer.close_after_client()

    async with (
        scripted(script, ssl=server_context) as server,
        asyncio.timeout(20),
        connect(server.url, ssl=client_context, timeouts=QUIET) as client,
    ):
        for message in messages:
            await client.send(message)
        assert [await client.read_message() for _ in messages] == messages
    assert received == [True] * 3


async def test_server_streams_a_frame_to_a_slow_reader(
    serve: Serve, connect: Connect, contexts: dict[bool, ssl.SSLContext]
) -> None:
    """The frame waits in the transport part by part, even if the socket accepts only a piece of a part."""
    pieces = [os.urandom(70_000) for _ in range(60)]

    async def handler(client: Client) -> None:
        async with client.writer.data_frame(sum(map(len, pieces))) as frame:
            for piece in pieces:
                await frame.write(piece)
        await client.wait_closed()

    server = await serve(handler, ssl=contexts[True], timeouts=QUIET)
    async with sealed(connect, server, contexts[False]) as client:
        await client.upgrade()
        await client.send(close())
        received = await client.read_until_eof()
    assert received[:2] == b"\x82\x7f"
    assert received[10:].startswith(b"".join(pieces))


# Ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notified", [True, False])
async def test_server_sees_a_peer_that_ends_without_a_close_frame(
    serve: Serve, connect: Connect, contexts: dict[bool, ssl.SSLContext], notified: bool
) -> None:
    """With or without a close_notify, the end of TLS without a Close frame is a reset, and is answered."""
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()

    async def handler(client: Client) -> None:
        opened.set_result(client)
        await client.wait_closed()

    server = await serve(handler, ssl=contexts[True], timeouts=QUIET)
    async with sealed(connect, server, contexts[False]) as client:
        await client.upgrade()
        await client.send(text("last"))
        if notified:
            await client.raw.send(client.end.end())
        else:
            client.raw.end()
        assert await client.read_until_eof() == b""
        assert client.end.ended
    outcome = (await within(opened)).outcome
    assert outcome is not None
    assert outcome.cause is Cause.RESET


async def test_client_sees_a_server_that_ends_without_a_close_frame(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=b"\x81\x04last")

    async with scripted(script, ssl=server_context) as server, asyncio.timeout(10):
        client = await connect(server.url, ssl=client_context)
        assert await client.read_message() == "last"
        await client.wait_closed()
    assert client.outcome is not None
    assert client.outcome.cause is Cause.RESET


async def test_server_that_fails_sends_close_to_a_peer_that_floods_it(
    serve: Serve, connect: Connect, contexts: dict[bool, ssl.SSLContext]
) -> None:
    """Unread received data neither delays the Close frame nor causes a reset."""
    flooded = asyncio.Event()

    async def handler(client: Client) -> None:
        await flooded.wait()
        raise LookupError

    limits = Limits(read_high=50_000, read_low=10_000)
    server = await serve(handler, ssl=contexts[True], timeouts=QUIET, limits=limits)
    async with sealed(connect, server, contexts[False]) as client:
        await client.upgrade()
        await client.send(binary(bytes(10_000)) * 10)
        (served,) = server.clients.values()
        await until(lambda: served._connection.inbox.paused)
        await client.send(binary(bytes(100_000)))
        flooded.set()
        while not client.end.ended:
            assert await client.receive()
        await client.send(binary(bytes(100_000)) + close(1011))
        client.raw.end()
        received = await client.read_until_eof()
    assert close_of(received)[0] == 1011


async def test_server_frees_a_connection_at_its_end(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """In both roles, without the garbage collector."""
    layers: list[weakref.ref[Any]] = []

    async def handler(client: Client) -> None:
        layers.append(weakref.ref(client._connection.transport))
        await client.wait_closed()

    async def talk() -> None:
        async with asyncio.timeout(10), connect(url_of(server), ssl=client_context) as client:
            layers.append(weakref.ref(client._connection.transport))
            await client.writer.ping()

    server = await serve(handler, ssl=server_context, timeouts=QUIET)
    gc.disable()
    try:
        await asyncio.create_task(talk())
        await until(lambda: not any(layer() for layer in layers))
    finally:
        gc.enable()
    assert len(layers) == 2


# The handshake ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.end])
async def test_server_reports_nothing_when_client_leaves_after_its_certificate(
    serve: Serve, connect: Connect, contexts: dict[bool, ssl.SSLContext], leave: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, ssl=contexts[True], timeouts=QUIET)
    before = open_sockets()
    client = TlsClient(await connect(server, upgrade=False), contexts[False])
    await client.raw.send(client.end.step())
    assert await client.raw.receive()
    leave(client.raw)
    if leave is RawClient.end:
        await client.raw.read_until_eof()
        client.raw.close()
    await until(lambda: open_sockets() <= before)
    assert not server.clients
    assert caplog.messages == []


async def test_client_times_out_when_server_is_silent(client_context: ssl.SSLContext) -> None:
    async with scripted(silent) as server, asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await connect(server.url.replace("ws:", "wss:"), ssl=client_context, timeouts=Timeouts(open=0.1))


class Silent:
    """Stands in for the opening handshake, and ignores everything."""

    def connected(self, connection: object) -> None: ...

    def received(self, connection: object, data: bytes) -> None: ...

    def lost(self, connection: object, error: Exception | None) -> None: ...


@pytest.fixture
def near_and_far() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.mark.parametrize("turns", range(7))
async def test_dial_cancelled_while_handshake_fails_reports_nothing(
    near_and_far: tuple[socket.socket, socket.socket], client_context: ssl.SSLContext, turns: int
) -> None:
    """Whichever happens first: no exception is left unretrieved, and no socket open."""
    loop = asyncio.get_running_loop()
    environment = Environment(loop, Limits(), Timeouts())
    connection = AsyncioConnection(environment, False, cast(Any, Silent()))
    near, far = near_and_far
    far.send(b"this is no handshake")
    task = asyncio.create_task(dial(loop, connection, near, client_context, "localhost"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ssl.SSLError)):
        await task
    environment.close()


async def test_client_refuses_a_context_for_servers(server_context: ssl.SSLContext) -> None:
    async with scripted(silent) as server:
        error = await failing(server.url.replace("ws:", "wss:"), ConnectError, ssl=server_context)
    assert "PROTOCOL_TLS_SERVER" in message_of(error)


def test_server_refuses_a_context_for_clients(client_context: ssl.SSLContext) -> None:
    """At once, where the mistake is: not by each connection."""
    with pytest.raises(ValueError, match=r"ssl must be a context for servers: .*ssl\.PROTOCOL_TLS_SERVER"):
        WebSocketServer("127.0.0.1", 0, handler=echo, ssl=client_context)
