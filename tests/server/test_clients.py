"""The mapping of a server's clients, and broadcasts."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, addresses_of, client_of, echo
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, close, frames
from helpers.frames import client_frame as frame
from helpers.peers import NARROW_BUFFER, narrow_socket
from helpers.waiting import until, within
from streamws import Cause, Client, Limits, Side, State, WebSocketServer

# --- the mapping


async def test_clients_are_found_by_id(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    clients = server.clients
    assert dict(clients) == {}
    raws = [await connect(server) for _ in range(3)]
    assert addresses_of(server) == [raw.address for raw in raws]
    assert [client.id for client in clients.values()] == [*clients]
    assert len(clients) == 3


async def test_clients_is_a_live_view_that_cannot_be_changed(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    clients: Any = server.clients
    raw, other = await connect(server), await connect(server)
    with pytest.raises(TypeError):
        del clients[client_of(server, raw).id]
    await raw.send(close())
    assert await raw.read_until_eof() == b"\x88\x02\x03\xe8"
    await until(lambda: addresses_of(server) == [other.address])
    other.reset()
    await until(lambda: not clients)


async def test_clients_contains_a_closing_client(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    client = client_of(server, raw)
    closing = asyncio.ensure_future(client.close())
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8")
    assert server.clients[client.id] is client
    await raw.send(close())
    await within(closing)
    assert not server.clients


async def test_clients_lacks_a_client_in_the_handshake(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server, upgrade=False)
    await raw.send(b"GET / HTTP/1.1\r\n")
    assert not server.clients


# --- broadcasts


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("größer", (TEXT, "größer".encode())),
        ("", (TEXT, b"")),
        (b"x" * 126, (BINARY, b"x" * 126)),
        (bytearray(b"x" * 70_000), (BINARY, b"x" * 70_000)),
        (memoryview(b"abc")[1:], (BINARY, b"bc")),
    ],
)
async def test_broadcast_reaches_all(
    data: str | bytes, received: tuple[int, bytes], serve: Serve, connect: Connect
) -> None:
    server = await serve(echo)
    assert server.broadcast(data) == 0
    raws = [await connect(server) for _ in range(3)]
    assert server.broadcast(data) == 3
    assert [await raw.read_frame() for raw in raws] == [received] * 3


async def test_broadcast_reaches_given_clients_only(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raws = [await connect(server) for _ in range(3)]
    chosen = (client_of(server, raw) for raw in raws[:2])
    assert server.broadcast("a", to=chosen) == 2
    assert server.broadcast("b", to=[]) == 0
    assert server.broadcast("c") == 3
    received = [[await raw.read_frame() for _ in range(2)] for raw in raws[:2]]
    assert received == [[(TEXT, b"a"), (TEXT, b"c")]] * 2
    assert await raws[2].read_frame() == (TEXT, b"c")


@pytest.mark.parametrize("data", [None, 1, ["a"], {}])
async def test_broadcast_sends_str_and_bytes(data: Any, serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    with pytest.raises(TypeError, match=r"message must be str or bytes-like, not \w+; encode it first"):
        server.broadcast(data)
    assert server.broadcast("a") == 1
    assert await raw.read_frame() == (TEXT, b"a")


async def test_broadcast_before_the_start_does_nothing() -> None:
    assert WebSocketServer(port=0, handler=echo).broadcast("a") == 0


async def test_broadcast_keeps_the_order_of_messages(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.send("first")
        server.broadcast("second")
        await client.send("third")
        await client.read_message()

    server = await serve(handler)
    raw = await connect(server)
    assert [(await raw.read_frame())[1] for _ in range(3)] == [b"first", b"second", b"third"]


async def test_broadcast_waits_for_the_end_of_a_fragmented_message(serve: Serve, connect: Connect) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(client: Client) -> None:
        async with client.writer.fragment() as stream:
            await stream.send("one")
            begun.set()
            await go_on.wait()
            await stream.send("two")
        await client.read_message()

    server = await serve(handler)
    raw = await connect(server)
    await within(begun.wait())
    assert server.broadcast("between") == 1
    assert server.broadcast(b"them") == 1
    await raw.send(frame(PING))
    assert [await raw.read_frame() for _ in range(2)] == [(0x01, b"one"), (PONG, b"")]
    go_on.set()
    received = [await raw.read_frame() for _ in range(4)]
    assert received == [(0x00, b"two"), (0x80, b""), (TEXT, b"between"), (BINARY, b"them")]


async def test_broadcast_skips_closing_and_closed_clients(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    closing, open_one = await connect(server), await connect(server)
    client = client_of(server, closing)
    task = asyncio.ensure_future(client.close())
    assert await closing.read_frame() == (CLOSE, b"\x03\xe8")
    assert client.state is State.CLOSING
    assert server.broadcast("a") == 1
    assert await open_one.read_frame() == (TEXT, b"a")
    await closing.send(close())
    assert await closing.read_until_eof() == b""
    await within(task)
    assert server.broadcast("b", to=[client]) == 0


# --- slow clients

SLOW = Limits(write_high=2000, write_low=1000, max_write_backlog=20_000)


async def test_broadcast_closes_a_slow_client_and_no_other(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, sock=narrow_socket(), limits=SLOW)
    slow = await connect(server, receive_buffer=NARROW_BUFFER)
    fast = await connect(server)
    client = client_of(server, slow)
    message = bytes(1000)
    sent = 0
    while server.broadcast(message) == 2:
        sent += 1
        assert sent < 1000, "nothing bounds what the slow one leaves unread"
        assert await fast.read_frame() == (BINARY, message)
        # One loop iteration each, because frames of the iteration in which the connection fails are not sent.
        await asyncio.sleep(0)
    assert await fast.read_frame() == (BINARY, message)
    # Messages sent before are received whole, then the Close frame.
    *messages, (first, payload) = frames(await slow.read_until_eof())
    assert messages == [(BINARY, message)] * sent
    assert (first, payload[:2]) == (CLOSE, b"\x03\xf0")
    assert b" sent bytes are unread" in payload
    slow.close()
    await within(client.wait_closed())
    assert client.outcome is not None
    assert (client.outcome.cause, client.outcome.initiator) == (Cause.LIMIT, Side.REMOTE)
    assert client.outcome.code == 1008
    assert addresses_of(server) == [fast.address]


async def test_broadcast_to_slow_clients_holds_each_message_once(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, sock=narrow_socket())
    slow = [await connect(server, receive_buffer=NARROW_BUFFER) for _ in range(20)]
    size, count = 50_000, 40
    tracemalloc.start()
    try:
        for _ in range(count):
            assert server.broadcast(bytes(size)) == 20
            await asyncio.sleep(0)
        assert size * count < tracemalloc.get_traced_memory()[0] < size * count * 1.5
    finally:
        tracemalloc.stop()
    for raw in slow:
        raw.close()


async def test_broadcast_does_not_wait(serve: Serve, connect: Connect) -> None:
    """A client that reads later gets all messages."""
    server = await serve(echo, sock=narrow_socket())
    slow = await connect(server, receive_buffer=NARROW_BUFFER)
    for number in range(500):
        assert server.broadcast(b"%1000d" % number) == 1
    assert [await slow.read_frame() for _ in range(500)] == [(BINARY, b"%1000d" % n) for n in range(500)]


async def test_send_waits_for_a_slow_client(serve: Serve, connect: Connect) -> None:
    sent = 0

    async def handler(client: Client) -> None:
        nonlocal sent
        while True:
            await client.send(bytes(1000))
            sent += 1

    server = await serve(handler, sock=narrow_socket(), limits=SLOW)
    slow = await connect(server, receive_buffer=NARROW_BUFFER)
    other = await connect(server)
    await other.read(300_000)  # meanwhile the handler of the slow one has filled the buffers
    assert sent >= 300
    from_slow = await slow.read(100_000)
    assert len(frames(from_slow[: 1004 * 99])) == 99
