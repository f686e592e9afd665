"""Keepalive pings of the server, and signs of life (ARCHITECTURE.md, Promises, 6)."""

import asyncio
from collections.abc import Callable

import pytest

from helpers.fixtures import Connect, Serve, client_of, echo, send_until_closed
from helpers.frames import CLOSE, PING, PONG, TEXT, binary, close_of, request, text
from helpers.frames import client_frame as frame
from helpers.peers import NARROW_BUFFER, RawClient, narrow_socket, pair
from helpers.waiting import until, within
from streamws import Cause, Client, Close, CloseOutcome, ConnectionClosedError, Limits, Opcode, Side, Timeouts

BRISK = Timeouts(ping_interval=0.1, ping_timeout=0.4)
fast = pytest.mark.usefixtures("fast_timers")
REASON = "received nothing for 0.4 s after a ping"


async def pinged(raw: RawClient) -> bytes:
    """Return the payload of the next ping of the server."""
    first, payload = await raw.read_frame()
    assert first == PING
    return payload


@fast
async def test_server_closes_when_pings_are_not_answered(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=BRISK)
    raw = await connect(server)
    client = client_of(server, raw)
    await pinged(raw)
    assert close_of(await raw.read_until_eof()) == (1011, REASON)
    raw.close()
    await within(client.wait_closed())
    assert client.outcome == CloseOutcome(Cause.KEEPALIVE, Side.REMOTE, None, Close(1011, REASON), REASON)


@fast
async def test_server_keeps_a_client_that_answers_pings(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=BRISK)
    raw, silent = await connect(server), await connect(server)
    payloads = set()
    for _ in range(6):
        payload = await pinged(raw)
        payloads.add(payload)
        await raw.send(frame(PONG, payload))
    assert len(payloads) == 6, "each ping can be told from the others"
    await raw.send(text("still there"))
    first, payload = await raw.read_frame()
    while first == PING:
        first, payload = await raw.read_frame()
    assert (first, payload) == (TEXT, b"still there")
    await pinged(silent)
    assert close_of(await silent.read_until_eof())[0] == 1011


async def test_answered_ping_does_not_hold_back_the_next_one(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=Timeouts(ping_interval=0.05, ping_timeout=3600))
    raw = await connect(server)
    for _ in range(3):
        await raw.send(frame(PONG, await pinged(raw)))


@fast
async def test_server_takes_any_byte_as_sign_of_life(serve: Serve, connect: Connect) -> None:
    """The client sends one byte of a frame for each ping, and no pong."""
    raw = await connect(await serve(echo, timeouts=BRISK))
    message = text("")
    for byte in message:
        await pinged(raw)
        await raw.send(bytes((byte,)))
    assert await raw.read_frame() == (TEXT, b"")


async def test_server_keeps_a_slow_reader_until_it_stops_reading() -> None:
    timeouts = Timeouts(ping_interval=0.1, ping_timeout=0.5, close=0.2)
    async with pair(Limits(write_high=4096, write_low=1024), timeouts, small_buffers=True) as (client, peer):

        async def send() -> None:
            while True:
                await client.send(bytes(3000))

        sending = asyncio.create_task(send())
        taken = pings = 0
        while pings < 2 or taken < 60_000:
            first, payload = await peer.read_frame()
            taken += len(payload)
            if first == PING:
                pings += 1
                peer.send(Opcode.PONG, payload)
            await asyncio.sleep(0.03)
        assert client.outcome is None
        # Now the peer stops reading, and the server closes.
        with pytest.raises(ConnectionClosedError) as caught:
            await sending
        assert caught.value.outcome.cause is Cause.KEEPALIVE


@fast
async def test_server_sends_no_pings_without_an_interval(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=Timeouts(ping_interval=None, ping_timeout=0.1))
    raw = await connect(server)
    ended = await connect(await serve(echo, timeouts=BRISK))
    await pinged(ended)
    await ended.read_until_eof()  # long enough for a keepalive
    await raw.send(text("a"))
    assert await raw.read_frame() == (TEXT, b"a")


@fast
async def test_server_closes_no_client_without_a_ping_timeout(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo, timeouts=Timeouts(ping_interval=0.1, ping_timeout=None)))
    for _ in range(4):
        await pinged(raw)


@fast
async def test_server_stops_its_pong_timer_while_reading_is_paused(serve: Serve, connect: Connect) -> None:
    go_on = asyncio.Event()

    async def handler(client: Client) -> None:
        if client.request.path == "/late":
            await go_on.wait()
        await echo(client)

    limits = Limits(read_high=1000, read_low=500)
    server = await serve(handler, timeouts=BRISK, limits=limits)
    raw = await connect(server, request(target="/late"))
    client = client_of(server, raw)
    # The server does not read this, and would not see a pong after it.
    sending = asyncio.ensure_future(raw.send(binary(bytes(1000)) * 20))
    await pinged(raw)
    for _ in range(2):  # meanwhile the server closes silent clients
        silent = await connect(server)
        await pinged(silent)
        assert close_of(await silent.read_until_eof())[0] == 1011
    assert client.outcome is None
    go_on.set()
    received = 0
    while received < 20:
        received += (await raw.read_frame())[0] != PING
    await within(sending)


@fast
@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset], ids=["FIN", "RST"])
async def test_server_notices_a_vanished_client_while_reading_is_paused(
    leave: Callable[[RawClient], None], serve: Serve, connect: Connect
) -> None:
    """The server notices by sending, not by reading."""

    async def handler(client: Client) -> None:
        await client.wait_closed()

    server = await serve(handler, timeouts=BRISK, limits=Limits(read_high=1000, read_low=500))
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(binary(bytes(3000)))
    await raw.send(binary(bytes(3000)))
    leave(raw)
    await within(client.wait_closed())
    assert client.outcome is not None
    assert client.outcome.cause is Cause.RESET
    assert not server.clients


@fast
async def test_client_latency_is_known_after_a_pong(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=BRISK)
    raw = await connect(server)
    client = client_of(server, raw)
    payload = await pinged(raw)
    await raw.send(frame(PONG, b"another"))
    assert client.latency is None
    await raw.send(frame(PONG, payload))
    await until(lambda: client.latency is not None)
    assert client.latency is not None
    assert client.latency >= 0


async def test_client_ping_returns_the_round_trip_time(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    client = client_of(server, raw)
    waiting = asyncio.ensure_future(client.writer.ping(b"mine"))
    assert await pinged(raw) == b"mine"
    await raw.send(frame(PONG, b"mine"))
    assert await within(waiting) == client.latency


@fast
async def test_server_closes_when_peer_never_reads(serve: Serve, connect: Connect) -> None:
    ended: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    timeouts = Timeouts(ping_interval=0.1, ping_timeout=0.2, close=0.2)
    server = await serve(send_until_closed(ended), sock=narrow_socket(), timeouts=timeouts)
    await connect(server, receive_buffer=NARROW_BUFFER)
    assert await within(ended) is Cause.KEEPALIVE
    await until(lambda: not server.clients)


@fast
async def test_server_sends_no_ping_while_closing(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.close()

    server = await serve(handler, timeouts=Timeouts(ping_interval=0.1, ping_timeout=0.1, close=0.5))
    raw = await connect(server)
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8")
    assert await raw.read_until_eof() == b""
