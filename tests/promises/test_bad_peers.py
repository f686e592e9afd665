"""Clients that vanish, never read, or flood: how the server ends them, and that others are not disturbed."""

import asyncio
import logging
import socket
from collections.abc import Callable

import pytest

from helpers.fixtures import Connect, Serve, client_of, echo, send_until_closed
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, binary, close, frames, text, xor
from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.leaks import open_sockets
from helpers.peers import NARROW_BUFFER, RawClient, narrow_socket
from helpers.waiting import until, within
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    IncompleteMessage,
    Limits,
    Side,
    Timeouts,
    WebSocketServer,
)

leaving = pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset], ids=["FIN", "RST"])


async def undisturbed(raw: RawClient) -> bool:
    await raw.send(text("still there?"))
    return await raw.read_frame() == (TEXT, b"still there?")


# --- vanishing


@leaving
@pytest.mark.parametrize(
    ("begun", "received", "missing"),
    [
        (frame(0x02, bytes(10), fin=False), 10, None),
        (header(BINARY, 100) + bytes(30), 30, 70),
        (frame(0x01, b"abc", fin=False) + header(0x80, 70_000) + xor(b"de"), 5, 69_998),
    ],
    ids=["between fragments", "inside a frame", "inside the last frame"],
)
async def test_server_reports_incomplete_message_when_client_vanishes(
    begun: bytes,
    received: int,
    missing: int | None,
    leave: Callable[[RawClient], None],
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: asyncio.Future[IncompleteMessage] = asyncio.get_running_loop().create_future()

    async def handler(client: Client) -> None:
        try:
            await echo(client)
        except IncompleteMessage as error:
            raised.set_result(error)
            raise

    server = await serve(handler)
    raw, bystander = await connect(server), await connect(server)
    caplog.set_level(logging.INFO, "streamws")
    await raw.send(begun)
    leave(raw)
    error = await within(raised)
    assert (error.received, error.missing) == (received, missing)
    assert (error.outcome.cause, error.outcome.initiator) == (Cause.RESET, Side.REMOTE)
    assert (error.outcome.sent, error.outcome.received) == (None, None)
    assert caplog.messages == ["{}:{}: {}".format(*raw.address, error.outcome)]
    assert await undisturbed(bystander)


@leaving
@pytest.mark.parametrize("begun", [b"", b"\x82", b"\x82\xfe\x01", text("a") + b"\x82"])
async def test_server_reports_reset_when_client_vanishes_between_messages(
    begun: bytes, leave: Callable[[RawClient], None], serve: Serve, connect: Connect
) -> None:
    server = await serve(echo)
    raw, bystander = await connect(server), await connect(server)
    client = client_of(server, raw)
    await raw.send(begun)
    leave(raw)
    await within(client.wait_closed())
    assert client.outcome is not None
    assert (client.outcome.cause, client.outcome.code) == (Cause.RESET, 1006)
    assert await undisturbed(bystander)


@leaving
@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost"])
async def test_server_drops_a_client_that_vanishes_in_the_handshake(
    begun: bytes, leave: Callable[[RawClient], None], serve: Serve, connect: Connect
) -> None:
    server = await serve(echo)
    bystander = await connect(server)
    before = open_sockets()
    raw = await connect(server, upgrade=False)
    await raw.send(begun)
    leave(raw)
    await until(lambda: open_sockets() <= before)
    assert await undisturbed(bystander)


@leaving
async def test_server_ends_when_client_vanishes_after_close(
    leave: Callable[[RawClient], None], serve: Serve, connect: Connect
) -> None:
    async def handler(client: Client) -> None:
        pass

    server = await serve(handler)
    raw = await connect(server)
    client = client_of(server, raw)
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8")
    leave(raw)
    await within(client.wait_closed())
    assert client.outcome is not None
    assert (client.outcome.received, client.outcome.sent) == (None, Close(1000))
    assert not client.outcome.clean


async def test_server_answers_a_client_that_half_closed(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo))
    await raw.send(text("a") + frame(PING) + text("b"))
    raw.end()
    received = frames(await raw.read_until_eof())
    assert sorted(received) == [(TEXT, b"a"), (TEXT, b"b"), (PONG, b"")]


# --- not answering Close


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("keeps", ["silent", "sending"])
async def test_server_drops_a_client_that_never_answers_close(keeps: str, serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.close(1000, "bye")

    server = await serve(handler, timeouts=Timeouts(close=0.2))
    raw = await connect(server)
    client = client_of(server, raw)
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8bye")
    if keeps == "sending":
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await within(send_for_ever(raw))
    else:
        assert await raw.read_until_eof() == b""
    await within(client.wait_closed())
    detail = "waited 0.2 s"
    outcome = CloseOutcome(Cause.CLOSE_TIMEOUT, Side.LOCAL, None, Close(1000, "bye"), detail)
    assert client.outcome == outcome


async def send_for_ever(raw: RawClient) -> None:
    while True:
        await raw.send(text("not listening") + frame(PING))
        await asyncio.sleep(0.01)


async def test_server_finds_close_behind_much_data(serve: Serve, connect: Connect) -> None:
    """The server skips unread data to find it, even over the high-water mark."""
    go_on = asyncio.Event()

    async def handler(client: Client) -> None:
        await go_on.wait()

    server = await serve(handler, limits=Limits(read_high=1000, read_low=500))
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(binary(bytes(100_000)))
    go_on.set()
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8")
    await raw.send(binary(bytes(100_000)) + frame(0x02, bytes(100_000), fin=False) + close())
    assert await raw.read_until_eof() == b""
    await within(client.wait_closed())
    assert client.outcome == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000), Close(1000))


# --- never reading

NARROW_LIMITS = Limits(
    write_high=2000, write_low=1000, max_write_backlog=20_000, max_control_backlog=100, read_high=10_000, read_low=5000
)


async def test_server_drops_a_client_that_floods_pings_and_never_reads(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, sock=narrow_socket(), limits=NARROW_LIMITS)
    raw, bystander = await connect(server, receive_buffer=NARROW_BUFFER), await connect(server)
    client = client_of(server, raw)
    pings = 0
    while client.outcome is None:
        await raw.send(frame(PING, b"%125d" % pings))
        pings += 1
        assert pings < 10_000, "nothing bounds the pongs that are not read"
    *pongs, (first, payload) = frames(await raw.read_until_eof())
    assert pongs == [(PONG, b"%125d" % number) for number in range(len(pongs))]
    assert (first, payload) == (CLOSE, b"\x03\xf0ping flood: too many unread pongs")
    raw.close()
    await within(client.wait_closed())
    reason = "ping flood: too many unread pongs"
    assert client.outcome == CloseOutcome(Cause.LIMIT, Side.REMOTE, None, Close(1008, reason), reason)
    assert await undisturbed(bystander)


async def test_server_keeps_a_client_that_sends_many_pings_and_reads(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, sock=narrow_socket(), limits=NARROW_LIMITS)
    raw = await connect(server, receive_buffer=NARROW_BUFFER)
    for number in range(1000):
        await raw.send(frame(PING, b"%125d" % number))
        assert await raw.read_frame() == (PONG, b"%125d" % number)


async def test_server_stops_reading_from_a_client_that_never_reads(serve: Serve, connect: Connect) -> None:
    """The echo waits, then the server stops reading, so that its buffers are bounded."""
    server = await serve(echo, sock=narrow_socket(), limits=NARROW_LIMITS)
    raw, bystander = await connect(server, receive_buffer=NARROW_BUFFER), await connect(server)
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    sending = asyncio.ensure_future(send_all(raw, binary(bytes(1000)) * 2000))
    for _ in range(200):
        assert await undisturbed(bystander)
    assert not sending.done()
    received = [await raw.read_frame() for _ in range(2000)]
    assert received == [(BINARY, bytes(1000))] * 2000
    await within(sending)


async def send_all(raw: RawClient, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(raw.sock, data)


@pytest.mark.usefixtures("fast_timers")
async def test_server_drops_a_slow_client_that_does_not_read_its_close(serve: Serve, connect: Connect) -> None:
    """The Close frame cannot reach it, but the connection ends after `Timeouts.close`."""
    limits, timeouts = NARROW_LIMITS, Timeouts(close=0.2)
    server = await serve(echo, sock=narrow_socket(), limits=limits, timeouts=timeouts)
    raw = await connect(server, receive_buffer=NARROW_BUFFER)
    client = client_of(server, raw)
    while server.broadcast(bytes(1000)):
        pass
    await within(client.wait_closed())
    assert client.outcome is not None
    assert (client.outcome.cause, client.outcome.code) == (Cause.LIMIT, 1008)
    assert not server.clients


async def test_server_raises_in_the_handler_of_a_client_that_is_too_slow(serve: Serve, connect: Connect) -> None:
    """A waiting `send` raises."""
    ended: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    server = await serve(
        send_until_closed(ended), sock=narrow_socket(), limits=NARROW_LIMITS, timeouts=Timeouts(close=0.2)
    )
    await connect(server, receive_buffer=NARROW_BUFFER)
    await until(lambda: flood(server) == 0)
    assert await within(ended) is Cause.LIMIT


def flood(server: WebSocketServer) -> int:
    return server.broadcast(bytes(1000))
