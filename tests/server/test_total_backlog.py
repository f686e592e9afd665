"""`Limits.max_total_backlog`: the total that the connections of a server store for peers that do not read."""

import asyncio
import gc
import logging
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from helpers.fixtures import Connect, Serve, client_of
from helpers.frames import BINARY
from helpers.peers import NARROW_BUFFER, Peer, narrow_socket, scripted
from helpers.tls import TlsClient
from helpers.waiting import iterations, until, within
from streamws import Cause, Client, Limits, Timeouts, WebSocketServer, connection
from streamws import connect as connect_to
from streamws.net import transports

TOTAL = 4_000_000
HIGH = 20_000
LIMITS = Limits(write_high=HIGH, write_low=5000, max_total_backlog=TOTAL, max_write_backlog=TOTAL)
QUIET = Timeouts(close=5, ping_interval=None)


async def hold(client: Client) -> None:
    await client.wait_closed()


@pytest.fixture(params=["plain", "tls"])
def context(request: pytest.FixtureRequest, server_context: ssl.SSLContext) -> ssl.SSLContext | None:
    return server_context if request.param == "tls" else None


@asynccontextmanager
async def held(
    server: WebSocketServer, count: int, context: ssl.SSLContext | None, connect: Connect, trusted: ssl.SSLContext
) -> AsyncIterator[list[Client]]:
    """Connect peers that never read; yields the server's clients for them."""
    clients = []
    for _ in range(count):
        raw = await connect(server, upgrade=False, receive_buffer=NARROW_BUFFER)
        if context is None:
            await raw.upgrade()
        else:
            tls = TlsClient(raw, trusted)
            await tls.shake_hands()
            await tls.upgrade()
        clients.append(client_of(server, raw))
    yield clients
    for client in clients:
        client._connection.abort()
    await until(lambda: not server.clients)


def send(client: Client, data: bytes) -> None:
    """Send and do not wait."""
    client.send(data).close()


async def test_server_holds_no_more_than_the_total_and_drops_the_worst_connections(
    serve: Serve,
    connect: Connect,
    context: ssl.SSLContext | None,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await serve(hold, sock=narrow_socket(), limits=LIMITS, timeouts=QUIET, ssl=context)
    async with held(server, 8, context, connect, client_context) as clients:
        gc.collect()
        tracemalloc.start()
        try:
            with caplog.at_level(logging.INFO, "streamws"):
                sent = 0
                while sent < 4 * TOTAL:
                    # The first clients get more than the others.
                    for place, client in enumerate(clients):
                        size = 10_000 if place < 4 else 2000
                        send(client, bytes(size))
                        sent += size
                    await iterations(1)
                    assert tracemalloc.get_traced_memory()[0] < 1.2 * TOTAL + 8 * HIGH
                await iterations()
        finally:
            tracemalloc.stop()
        dropped = [client for client in clients if client.outcome is not None]
        assert set(dropped) == set(clients[:4]), "those that hold most"
        for client in dropped:
            assert client.outcome is not None
            assert client.outcome.cause is Cause.LIMIT
            assert client.outcome.sent is not None
            assert client.outcome.sent.code == 1008
            assert client.outcome.detail.endswith(" sent bytes are unread (Limits.max_total_backlog)")
            await within(client.wait_closed())
        assert len([line for line in caplog.messages if "Limits.max_total_backlog" in line]) == len(dropped)


async def test_server_drops_so_many_connections_that_it_need_not_count_again_soon(
    serve: Serve, connect: Connect, client_context: ssl.SSLContext
) -> None:
    server = await serve(hold, sock=narrow_socket(), limits=LIMITS, timeouts=QUIET)
    async with held(server, 40, None, connect, client_context) as clients:
        while not (dropped := [client for client in clients if client.outcome is not None]):
            for client in clients:
                send(client, bytes(1000))
            await iterations(1)
        # Each one holds a fortieth of the total.
        assert len(dropped) == 3, "a sixteenth of the total is free"


async def test_messages_that_are_awaited_do_not_count(
    serve: Serve, connect: Connect, context: ssl.SSLContext | None, client_context: ssl.SSLContext
) -> None:
    """Each connection holds one large message, and a ping behind it."""
    server = await serve(hold, sock=narrow_socket(), limits=LIMITS, timeouts=QUIET, ssl=context)
    async with held(server, 6, context, connect, client_context) as clients:
        for client in clients:
            send(client, bytes(TOTAL // 2))
            assert client._connection.outbox.paused
            client.writer.ping().close()
        await iterations()
        assert [client.outcome for client in clients] == [None] * len(clients)


@pytest.mark.parametrize("own", [True, False], ids=["own transports", "loop's transports"])
async def test_broadcast_counts_only_where_each_connection_holds_a_copy(
    own: bool,
    serve: Serve,
    connect: Connect,
    context: ssl.SSLContext | None,
    client_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not own:
        for module in (transports, connection):
            monkeypatch.setattr(module, "has_own_transports", lambda loop: False)
    server = await serve(hold, sock=narrow_socket(), limits=LIMITS, timeouts=QUIET, ssl=context)
    async with held(server, 6, context, connect, client_context) as clients:
        for _ in range(TOTAL // 2 // 10_000):
            server.broadcast(bytes(10_000), to=clients)
            await iterations(1)
        await iterations()
        copied = context is not None or not own
        assert any(client.outcome is not None for client in clients) == copied


async def test_connections_whose_peers_read_do_not_count_any_more(serve: Serve, connect: Connect) -> None:
    server = await serve(hold, sock=narrow_socket(), limits=LIMITS, timeouts=QUIET)
    raw = await connect(server, receive_buffer=NARROW_BUFFER)
    client = client_of(server, raw)
    for _ in range(6):
        for _ in range(30):
            send(client, bytes(50_000))  # well over a sixth of the total
            await iterations(1)
        assert client._connection.outbox.paused
        for _ in range(30):
            assert await raw.read_frame() == (BINARY, bytes(50_000))
        await until(lambda: not client._connection.outbox.paused)
    assert client.outcome is None


async def test_closing_connections_count_until_their_end(serve: Serve, connect: Connect) -> None:
    """A connection over its own limit sends a Close frame behind its backlog, unless the total is over its limit."""
    limits = Limits(write_high=HIGH, write_low=5000, max_total_backlog=TOTAL, max_write_backlog=TOTAL // 2)
    server = await serve(hold, sock=narrow_socket(), limits=limits, timeouts=QUIET)
    first, second = [client_of(server, await connect(server, receive_buffer=NARROW_BUFFER)) for _ in range(2)]
    for client in (first, second):
        while client.outcome is None:
            send(client, bytes(50_000))
            await iterations(1)
    await iterations()
    assert [client.id for client in server.clients.values()] == [second.id], "the first one was dropped"


async def test_client_has_no_total() -> None:
    limits = Limits(write_high=4000, write_low=1000, max_total_backlog=50_000, max_write_backlog=50_000_000)

    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await done.wait()  # it reads nothing

    async with scripted(script) as server:
        client = await within(connect_to(server.url, limits=limits, timeouts=QUIET))
        for _ in range(500):
            send(client, bytes(50_000))
            await iterations(1)
        assert client._connection.outbox.paused
        assert client.outcome is None
        client._connection.abort()
        done.set()
