"""`Client`: dropping the connection, closing it with a deadline of its own, and the backlog."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from helpers.fixtures import Serve, url_of
from helpers.frames import client_frame as frame
from helpers.peers import NARROW, QUIET, Peer, full_network, pair, scripted
from helpers.waiting import iterations, until, within
from streamws import (
    Cause,
    Client,
    ConnectionClosed,
    ConnectionClosedError,
    IncompleteMessage,
    Opcode,
    Side,
    State,
    Timeouts,
    UsageError,
    connect,
)

ROLES = ["server", "client"]
PLENTY = 16 * 1024 * 1024
"""More than the buffers of a connection hold while its peer does not read."""


@asynccontextmanager
async def connected(role: str, timeouts: Timeouts = QUIET) -> AsyncIterator[tuple[Client, Peer]]:
    """Yield a `Client` of either role, and its peer."""
    if role == "server":
        async with pair(timeouts=timeouts) as (client, peer):
            yield client, peer
        return
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await done.wait()

    async with scripted(script) as server, asyncio.timeout(10):
        client = await connect(server.url, timeouts=timeouts, proxy=None)
        try:
            yield client, await server.peer()
        finally:
            done.set()
            client.abort()
            await client.wait_closed()


# abort ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_abort_ends_the_connection_without_a_close_frame(role: str) -> None:
    async with connected(role) as (client, peer):
        client.abort()
        states = [client.state]
        await client.wait_closed()
        assert await peer.read_rest() == b""
        assert [*states, client.state] == [State.CLOSING, State.CLOSED]
        assert client.outcome is not None
        assert client.outcome.cause is Cause.RESET
        assert client.outcome.initiator is Side.LOCAL
        assert (client.outcome.code, client.outcome.sent, client.outcome.received) == (1006, None, None)
        assert str(client.outcome) == "connection lost without a closing handshake: this side dropped the connection"


@pytest.mark.parametrize("role", ROLES)
async def test_abort_may_be_called_again(role: str) -> None:
    async with connected(role) as (client, _):
        client.abort()
        outcome = client.outcome
        client.abort()
        await client.wait_closed()
        client.abort()
        assert client.outcome == outcome


@pytest.mark.parametrize("role", ROLES)
async def test_abort_wakes_all_that_wait(role: str) -> None:
    async with connected(role) as (client, _):
        reading = asyncio.ensure_future(client.read_message())
        closed = asyncio.ensure_future(client.wait_closed())
        pinging = asyncio.ensure_future(client.writer.ping(b"x"))
        sending = asyncio.ensure_future(client.send(bytes(PLENTY)))
        await iterations()
        assert client.backlog
        client.abort()
        assert client.backlog == 0
        for task in (reading, pinging, sending):
            with pytest.raises(ConnectionClosedError) as error:
                await within(task)
            assert error.value.outcome.cause is Cause.RESET
        await within(closed)


async def test_abort_ends_a_closing_handshake_that_is_under_way() -> None:
    async with pair() as (client, peer):
        closing = asyncio.ensure_future(client.close(4000, "enough"))
        assert await peer.read_close() == (4000, "enough")
        client.abort()
        await within(closing)
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.initiator) == (Cause.RESET, Side.LOCAL)
        assert client.outcome.code == 4000


async def test_abort_after_a_whole_closing_handshake_leaves_it_clean() -> None:
    async with connected("client") as (client, peer):
        closing = asyncio.ensure_future(client.close())
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await until(lambda: client.outcome is not None and client.outcome.received)
        client.abort()
        await within(closing)
        assert client.outcome is not None
        assert client.outcome.clean


async def test_nothing_is_sent_after_abort() -> None:
    async with pair() as (client, peer):
        client.abort()
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: "):
            await client.send("too late")
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: "):
            await client.writer.ping()
        await client.close()
        assert await peer.read_rest() == b""


async def test_senders_in_a_queue_raise_after_abort() -> None:
    async with pair() as (client, _):
        async with client.writer.fragment() as stream:
            await stream.send("a part")
            waiting = asyncio.ensure_future(client.send("waits for its turn"))
            await iterations()
            assert client.backlog > len("waits for its turn")
            client.abort()
            assert client.backlog == 0
            with pytest.raises(ConnectionClosed, match="this side dropped the connection"):
                await stream.send("another part")
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: "):
            await waiting


async def test_messages_before_abort_can_be_read_and_a_truncated_one_raises() -> None:
    async with pair() as (client, peer):
        peer.write(frame(Opcode.TEXT, b"whole") + frame(Opcode.TEXT, b"begun", fin=False))
        await until(lambda: client._connection.inbox.queue.size)
        client.abort()
        assert await client.read_message() == "whole"
        with pytest.raises(IncompleteMessage):
            await client.read_message()


async def test_abort_by_a_reader_ignores_what_follows_in_the_same_chunk() -> None:
    async with pair() as (client, peer):

        async def read() -> None:
            await client.read_message()
            client.abort()

        reading = asyncio.ensure_future(read())
        await iterations()
        peer.write(frame(Opcode.TEXT, b"stop") + frame(Opcode.PING, b"x") + frame(Opcode.CLOSE, b"\x03\xe8"))
        await within(reading)
        await client.wait_closed()
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.received, client.outcome.sent) == (Cause.RESET, None, None)


async def test_abort_belongs_to_the_thread_of_the_loop() -> None:
    async with pair() as (client, _):
        errors: list[BaseException] = []

        def abort() -> None:
            try:
                client.abort()
            except UsageError as error:
                errors.append(error)

        thread = threading.Thread(target=abort)
        thread.start()
        thread.join()
        assert [str(error).partition(":")[0] for error in errors] == ["cannot use client.abort() in this thread"]
        assert client.state is State.OPEN


async def test_handler_that_aborts_is_not_logged_as_a_failure(serve: Serve, caplog: Any) -> None:
    async def handler(client: Client) -> None:
        client.abort()
        await client.send("too late")

    server = await serve(handler)
    async with connect(url_of(server), proxy=None) as client:
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_abort_and_backlog_work_over_tls(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    stopped = asyncio.Event()

    async def handler(client: Client) -> None:
        await stopped.wait()

    server = await serve(handler, ssl=server_context)
    url = url_of(server, scheme="wss").replace("127.0.0.1", "localhost")
    client = await connect(url, ssl=client_context, proxy=None)
    assert client.backlog == 0
    # Nothing reads at the other end, so it pauses reading.
    sending = asyncio.ensure_future(client.send(bytes(PLENTY)))
    await until(lambda: client.backlog > 100_000)
    client.abort()
    assert client.backlog == 0
    with pytest.raises(ConnectionClosedError):
        await within(sending)
    await client.wait_closed()
    stopped.set()


async def test_abort_works_on_a_unix_socket(serve: Serve, tmp_path: Any) -> None:
    async def handler(client: Client) -> None:
        client.abort()

    await serve(handler, path=tmp_path / "s")
    async with connect("ws://localhost/", path=tmp_path / "s") as client:
        with pytest.raises(ConnectionClosedError):
            await client.read_message()


# The backlog ------------------------------------------------------------------------------------------------


async def test_backlog_is_what_the_network_has_not_taken() -> None:
    async with pair(NARROW, small_buffers=True) as (client, peer):
        assert client.backlog == 0
        await full_network(client)
        held = client.backlog
        assert 0 < held <= 6 * 10_004
        client.send(b"12345").close()
        assert client.backlog == held + 7
        for _ in range(6):
            await peer.read_frame()
        assert await peer.read_frame() == (0x82, b"12345")
        await until(lambda: client.backlog == 0)


async def test_backlog_counts_frames_that_are_gathered() -> None:
    async with pair() as (client, peer):
        sizes = []
        for _ in range(3):
            client.send("hello").close()
            sizes.append(client.backlog)
        # The first frame of a loop iteration is written at once.
        assert sizes == [0, 7, 14]
        assert await peer.read_frames(3) == [(0x81, b"hello")] * 3
        assert client.backlog == 0
        await client.send("bye")
        client.abort()
        await client.wait_closed()
        assert client.backlog == 0


# close ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_close_has_a_deadline_of_its_own(role: str) -> None:
    async with connected(role, Timeouts(close=None, ping_interval=None)) as (client, peer):
        await within(client.close(4001, "too slow", timeout=0.02))
        assert client.outcome is not None
        assert client.outcome.cause is Cause.CLOSE_TIMEOUT
        assert client.outcome.detail == "waited 0.02 s"
        assert await peer.read_close() == (4001, "too slow")


async def test_close_may_wait_longer_than_other_connections() -> None:
    async with pair(timeouts=Timeouts(close=0.01, ping_interval=None)) as (client, peer):
        closing = asyncio.ensure_future(client.close(timeout=60))
        assert await peer.read_close() == (1000, "")
        await asyncio.sleep(0.05)
        assert not closing.done()
        peer.send_close()
        await within(closing)
        assert client.outcome is not None
        assert client.outcome.clean


async def test_close_called_again_can_make_the_deadline_earlier_but_not_later() -> None:
    async with pair(timeouts=Timeouts(close=60, ping_interval=None)) as (client, _):
        closings = [asyncio.ensure_future(client.close(timeout=seconds)) for seconds in (50, 0.02, 60)]
        closings.append(asyncio.ensure_future(client.close()))
        await within(asyncio.gather(*closings))
        assert client.outcome is not None
        assert client.outcome.detail == "waited 0.02 s"


async def test_close_called_again_shortens_the_deadline_of_the_server() -> None:
    async with pair(timeouts=Timeouts(close=60, ping_interval=None)) as (client, _):
        closing = asyncio.ensure_future(client.close())
        await iterations()
        await within(client.close(timeout=0.01))
        await closing


async def test_cancelled_close_keeps_its_deadline() -> None:
    async with pair(timeouts=Timeouts(close=None, ping_interval=None)) as (client, _):
        closing = asyncio.ensure_future(client.close(timeout=0.02))
        await iterations()
        closing.cancel()
        await within(client.wait_closed())
        assert client.outcome is not None
        assert client.outcome.cause is Cause.CLOSE_TIMEOUT


async def test_close_of_a_closed_connection_with_a_deadline_returns() -> None:
    async with pair() as (client, peer):
        await peer.close()
        await client.wait_closed()
        await client.close(timeout=1)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", True])
async def test_close_refuses_a_bad_deadline(seconds: Any) -> None:
    async with pair() as (client, _):
        kind = TypeError if isinstance(seconds, (str, bool)) else ValueError
        with pytest.raises(kind, match="timeout must be"):
            await client.close(timeout=seconds)
        assert client.state is State.OPEN
