"""Every public awaitable is cancelled wherever it waits: the connection goes on, or closes with an error.

What there is to await is found by introspection of the sources, so that a new method needs a scenario here.
"""

import asyncio
import inspect
import tracemalloc
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import attrs
import pytest

from helpers.builds import load_pure
from helpers.fixtures import echo
from helpers.frames import client_frame as frame
from helpers.leaks import open_sockets
from helpers.peers import NARROW, QUIET, Collected, Peer, collect, full_network, open_peer, pair
from helpers.waiting import cancelled, iterations, until
from streamws import (
    Backoff,
    Cause,
    Client,
    ConnectionClosedError,
    DataFrame,
    MessageReader,
    Opcode,
    Server,
    State,
    WebSocketServer,
    connect,
)

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


async def works(client: Client, peer: Peer) -> None:
    """Check that the connection works in both directions, and that nothing else was sent."""
    await peer.settle()
    await client.send("there")
    assert await peer.read_frame() == (0x81, b"there")
    peer.send(TEXT, b"and back")
    assert await client.read_message() == "and back"


# What there is to await -------------------------------------------------------------------------------------

AWAITED = (Coroutine, Awaitable, AsyncIterator, AsyncGenerator)
DUNDERS = {"__aiter__", "__anext__", "__aenter__", "__aexit__"}


def is_awaited(method: Any) -> bool:
    """Return whether a method is a coroutine function, or returns an awaitable or an async iterator."""
    if not inspect.isfunction(method) or inspect.iscoroutinefunction(method):
        return inspect.isfunction(method)
    returned = typing.get_type_hints(method).get("return")
    return (typing.get_origin(returned) or returned) in AWAITED


def public_awaitables() -> set[str]:
    """Find the awaitables of all public classes, in the `.py` files: compiled methods have no annotations."""
    package = load_pure()
    classes = [getattr(package, name) for name in package.__all__ if inspect.isclass(getattr(package, name))]
    return {
        f"{cls.__name__}.{name}"
        for cls in classes
        for owner in cls.__mro__
        if owner.__module__.startswith(package.__name__)
        for name, method in vars(owner).items()
        if (name in DUNDERS or not name.startswith("_")) and is_awaited(method)
    }


def test_every_public_awaitable_has_a_scenario() -> None:
    assert public_awaitables() == READS.keys() | WRITES.keys() | ENDS.keys() | SERVERS.keys() | CONNECTS.keys()


# Reading ----------------------------------------------------------------------------------------------------

FIRST = "grün\ngelb\n".encode()
SECOND = b"next"


@attrs.frozen
class Reading:
    """A way to read the first one of two messages."""

    read: Callable[[], Awaitable[bytes]]
    """The call that is cancelled, and then repeated."""
    rest: Callable[[], Awaitable[bytes]]
    """The rest of the first message after it."""


Start = Callable[[Client], Awaitable[Reading]]


async def nothing() -> bytes:
    return b""


def as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


async def whole_messages(client: Client) -> Reading:
    async def read() -> bytes:
        return as_bytes(await client.read_message())

    return Reading(read, nothing)


def iterated(iterate: Callable[[Client], AsyncIterator[Any]]) -> Start:
    async def start(client: Client) -> Reading:
        messages = iterate(client)

        async def read() -> bytes:
            return as_bytes(await anext(messages))

        return Reading(read, nothing)

    return start


def by_frames(
    next_frame: Callable[[Client], Callable[[], Awaitable[DataFrame]]],
) -> Start:
    async def start(client: Client) -> Reading:
        get = next_frame(client)
        fin = False

        async def read() -> bytes:
            nonlocal fin
            got = await get()
            fin = got.fin
            return got.payload

        async def rest() -> bytes:
            payload = b""
            while not fin:
                payload += await read()
            return payload

        return Reading(read, rest)

    return start


def iterated_frames(client: Client) -> Callable[[], Awaitable[DataFrame]]:
    frames = client.frames()
    return lambda: anext(frames)


async def message_readers(client: Client) -> Reading:
    readers = client.messages()
    got: list[MessageReader] = []

    async def read() -> bytes:
        if not got:
            got.append(await anext(readers))
        return as_bytes(await got[0].get())

    return Reading(read, nothing)


def in_parts(
    read_part: Callable[[MessageReader], Callable[[], Awaitable[bytes]]],
) -> Start:
    async def start(client: Client) -> Reading:
        reader = await anext(client.messages())
        return Reading(read_part(reader), reader.read)

    return start


def into(reader: MessageReader) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        buffer = bytearray(4)
        return bytes(buffer[: await reader.readinto(buffer)])

    return read


def chunk(reader: MessageReader) -> Callable[[], Awaitable[bytes]]:
    chunks = aiter(reader)
    return lambda: anext(chunks)


def piece_of_text(reader: MessageReader) -> Callable[[], Awaitable[bytes]]:
    pieces = reader.text()

    async def read() -> bytes:
        return (await anext(pieces)).encode()

    return read


def whole(reader: MessageReader) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        return as_bytes(await reader.get())

    return read


async def in_a_block(client: Client) -> Reading:
    """When its block is cancelled, the rest of the message is skipped, and the next read returns the next message."""
    left = False

    async def read() -> bytes:
        nonlocal left
        if left:
            return FIRST
        left = True
        async with await anext(client.messages()) as reader:
            return await reader.read()

    return Reading(read, nothing)


READS: dict[str, Start] = {
    "Client.read_message": whole_messages,
    "Client.__aiter__": iterated(aiter),
    "Client.text": iterated(lambda client: client.text()),
    "Client.binary": iterated(lambda client: client.binary()),
    "Client.read_frame": by_frames(lambda client: client.read_frame),
    "Client.frames": by_frames(iterated_frames),
    "Client.messages": message_readers,
    "MessageReader.get": in_parts(whole),
    "MessageReader.read": in_parts(lambda reader: reader.read),
    "MessageReader.readexactly": in_parts(lambda reader: lambda: reader.readexactly(7)),
    "MessageReader.readinto": in_parts(into),
    "MessageReader.readline": in_parts(lambda reader: reader.readline),
    "MessageReader.readuntil": in_parts(lambda reader: lambda: reader.readuntil(b"b\n")),
    "MessageReader.__aiter__": in_parts(chunk),
    "MessageReader.__anext__": in_parts(lambda reader: lambda: reader.__anext__()),
    "MessageReader.text": in_parts(piece_of_text),
    "MessageReader.__aenter__": in_a_block,
    "MessageReader.__aexit__": in_a_block,
}


async def write_to_socket(client: Client, peer: Peer, data: bytes) -> None:
    peer.write(data)
    await iterations()


async def hand_over(client: Client, peer: Peer, data: bytes) -> None:
    """Deliver data byte by byte while a task runs, so that a reader continues one loop iteration after it is woken."""
    for byte in data:
        client._connection.receive(bytes([byte]), 1)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("begun", "more", "delay"),
    [(False, 0, 0), (True, 0, 0), (True, 1, 0), (True, 1000, 0), (True, 1000, 1), (True, 1000, 2)],
    ids=["unbegun", "waiting", "with a byte", "with the rest", "a turn after the rest", "two turns after the rest"],
)
@pytest.mark.parametrize("deliver", [write_to_socket, hand_over])
@pytest.mark.parametrize("name", READS)
async def test_read_cancelled_at_any_byte_loses_nothing(
    name: str, deliver: Callable[[Client, Peer, bytes], Awaitable[None]], begun: bool, more: int, delay: int
) -> None:
    kind = BINARY if name == "Client.binary" else TEXT
    wire = frame(kind, FIRST[:3], fin=False) + frame(CONTINUATION, FIRST[3:]) + frame(kind, SECOND)
    lead = 6 if name.startswith("MessageReader") else 0  # a reader exists once a message has begun
    async with pair() as (client, peer):
        for place in range(lead, len(wire) - len(SECOND)):
            await deliver(client, peer, wire[:lead])
            reading = await READS[name](client)
            task = asyncio.ensure_future(run(reading.read))
            if begun:
                await asyncio.sleep(0)
            await deliver(client, peer, wire[lead:place] if begun else b"")
            now = wire[lead if not begun else place :][:more]
            if deliver is hand_over:
                client._connection.receive(now, len(now))
            else:
                peer.write(now)
            await iterations(delay)
            task.cancel()
            read_again = await cancelled(task)
            peer.write(wire[lead if not begun else place :][len(now) :])
            got = await reading.read() if read_again else task.result()
            assert got + await reading.rest() == FIRST
            assert as_bytes(await client.read_message()) == SECOND
            if not read_again:
                break
        await works(client, peer)


async def run(read: Callable[[], Awaitable[bytes]]) -> bytes:
    return await read()


# Writing ----------------------------------------------------------------------------------------------------


class Steps(Coroutine[Any, Any, None]):
    """A coroutine whose task is cancelled when it has suspended for the `last` time."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], last: int) -> None:
        self._coroutine = coroutine
        self._last = last
        self.count = 0

    def send(self, value: Any) -> Any:
        result = self._coroutine.send(value)
        self.count += 1
        if self.count == self._last:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        return result

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError


PART = b"x" * 15_000
MESSAGE = PART * 3


async def write_frames(client: Client) -> None:
    for opcode, fin in ((BINARY, False), (CONTINUATION, False), (CONTINUATION, True)):
        await client.writer.write_frame(DataFrame(opcode, PART, fin))


async def fragments(client: Client) -> None:
    async with client.writer.fragment() as stream:
        for _ in range(3):
            await stream.send(PART)


async def data_frame(client: Client) -> None:
    async with client.writer.data_frame(len(MESSAGE)) as stream:
        for _ in range(3):
            await stream.write(PART)


async def feed(client: Client) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield PART

    await client.writer.feed(source())


@attrs.frozen
class Writing:
    """A way to send `MESSAGE`, or a control frame."""

    act: Callable[[Client], Coroutine[Any, Any, object]]
    breaks: bool = False
    """Whether cancelling it inside the message closes the connection."""
    in_turn: bool = True
    """Whether it waits for the end of another message."""


WRITES = {
    "Client.send": Writing(lambda client: client.send(MESSAGE)),
    "Writer.send": Writing(lambda client: client.writer.send(MESSAGE)),
    "Writer.ping": Writing(lambda client: client.writer.ping(b"mine"), in_turn=False),
    "Writer.pong": Writing(lambda client: client.writer.pong(b"mine"), in_turn=False),
    "Writer.feed": Writing(feed, breaks=True),
    "FragmentWriter.__aenter__": Writing(fragments, breaks=True),
    "FragmentWriter.send": Writing(fragments, breaks=True),
    "FragmentWriter.__aexit__": Writing(fragments, breaks=True),
    "DataFrameWriter.__aenter__": Writing(data_frame, breaks=True),
    "DataFrameWriter.write": Writing(data_frame, breaks=True),
    "DataFrameWriter.__aexit__": Writing(data_frame, breaks=True),
    "Writer.write_frame": Writing(write_frames, breaks=True),
}


HELD = [b"held", b"until"]


async def other_message(client: Client) -> None:
    """Other senders wait for the end of this message."""

    async def hold() -> None:
        async with client.writer.fragment() as stream:
            for part in HELD:
                await stream.send(part)
                await iterations()

    task = asyncio.create_task(hold())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    await asyncio.sleep(0)


tasks: set[asyncio.Task[None]] = set()


@pytest.mark.parametrize("obstacle", [full_network, other_message])
@pytest.mark.parametrize("name", WRITES)
async def test_write_cancelled_at_any_step_leaves_whole_messages(
    name: str, obstacle: Callable[[Client], Awaitable[None]]
) -> None:
    writing = WRITES[name]
    last = -1
    done = broken = False
    while not done:
        last += 1
        async with pair(NARROW, small_buffers=True) as (client, peer):
            await obstacle(client)
            steps = Steps(writing.act(client), last)
            task = asyncio.create_task(steps)
            if not last:
                task.cancel()
            got = Collected()
            collecting = asyncio.create_task(collect(peer, got))
            done = not await cancelled(task)
            whole = {MESSAGE, b"".join(HELD), b"f" * 10_000, b"after"}
            if client.outcome is None:
                await client.send("after")
                await client.writer.ping()
                assert got.messages[-1] == b"after"
                assert not got.rest
                assert client.outcome is None
                # A sender that waited for its turn sent nothing; data that waited for the network was already accepted.
                assert last or obstacle is full_network or MESSAGE not in got.messages
            else:
                assert writing.breaks
                broken = True
                assert (client.outcome.code, client.outcome.cause) == (1011, Cause.LOCAL_CANCEL)
                with pytest.raises(ConnectionClosedError):
                    await client.send("after")
                await collecting
                await peer.close()
                await client.wait_closed()
                withheld = client.outcome.withheld is not None
                assert (got.close is None) is withheld
            assert set(got.messages) <= whole
            collecting.cancel()
            await cancelled(collecting)
    assert broken is writing.breaks
    assert last > 1 or (obstacle is other_message and not writing.in_turn), "it never waited"


# Closing ----------------------------------------------------------------------------------------------------

ENDS: dict[str, Callable[[Client], Coroutine[Any, Any, None]]] = {
    "Client.close": lambda client: client.close(4000, "bye"),
    "Client.wait_closed": lambda client: client.wait_closed(),
}


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("name", ENDS)
async def test_cancelled_wait_for_the_end_leaves_others_waiting(name: str, last: int) -> None:
    async with pair() as (client, peer):
        task = asyncio.create_task(Steps(ENDS[name](client), last))
        if not last:
            task.cancel()
        assert await cancelled(task)
        if client.outcome is None:
            await works(client, peer)
            closing = asyncio.create_task(client.close(4000, "bye"))
        else:
            assert (name, last) == ("Client.close", 1)
            closing = asyncio.create_task(client.wait_closed())
        assert await peer.read_close() == (4000, "bye")
        peer.send_close(4000)
        await closing
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.code) == (Cause.CLOSED_WITH_ERROR, 4000)


@pytest.mark.parametrize("name", ENDS)
async def test_wait_for_the_end_returns_at_once_after_it(name: str) -> None:
    async with pair() as (client, peer):
        await peer.close()
        await client.wait_closed()
        steps = Steps(ENDS[name](client), 1000)
        await asyncio.wait([asyncio.create_task(steps)])
        assert steps.count == 0


async def test_cancelled_waits_for_the_end_leave_nothing_behind() -> None:
    async with pair() as (client, peer):

        async def wait_in_vain(times: int) -> None:
            for _ in range(times):
                task = asyncio.create_task(client.wait_closed())
                await asyncio.sleep(0)
                task.cancel()
                assert await cancelled(task)

        await wait_in_vain(10)
        tracemalloc.start()
        await wait_in_vain(100)
        before = tracemalloc.get_traced_memory()[0]
        await wait_in_vain(1000)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert after - before < 20_000, "1000 futures take more"
        await works(client, peer)


# The server -------------------------------------------------------------------------------------------------


async def hold(client: Client) -> None:
    await client.wait_closed()


async def is_served(server: WebSocketServer) -> bool:
    peer = await open_peer(server.sockets[0].getsockname()[1])
    await peer.settle()
    await peer.close()
    return True


def new_server() -> WebSocketServer:
    return WebSocketServer("127.0.0.1", 0, handler=hold, timeouts=QUIET)


async def start_cancelled(start: Callable[[WebSocketServer], Coroutine[Any, Any, object]]) -> None:
    """The server does not listen, and can be started again."""
    last = -1
    done = False
    while not done:
        last += 1
        before = open_sockets()
        server = new_server()
        task = asyncio.create_task(Steps(start(server), last))
        if not last:
            task.cancel()
        done = not await cancelled(task)
        if not done:
            await iterations()  # a closed transport closes its socket in a later iteration
            assert open_sockets() <= before
            await server.start()
        assert await is_served(server)
        await server.close()
    assert last > 0, "it never waited"


async def close_cancelled(close: Callable[[WebSocketServer], Coroutine[Any, Any, object]]) -> None:
    """All connections are dropped at once."""
    last = -1
    done = False
    while not done:
        last += 1
        server = new_server()
        await server.start()
        port = server.sockets[0].getsockname()[1]
        peer = await open_peer(port)
        (client,) = server.clients.values()
        task = asyncio.create_task(Steps(close(server), last))
        if not last:
            task.cancel()
            assert await cancelled(task)
            assert await is_served(server)
            await peer.close()
            await server.close()
            continue
        await asyncio.sleep(0)
        answering = asyncio.create_task(answer_close(peer))
        done = not await cancelled(task)
        await client.wait_closed()
        assert client.outcome is not None
        assert client.outcome.code in (1001, 1012)
        assert not server.clients
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.close()
        await answering
        await peer.close()
    assert last > 1, "it never waited"


async def answer_close(peer: Peer) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await peer.read_close()
        peer.send_close(1001)


async def serve_forever_cancelled(serve: Callable[[WebSocketServer], Coroutine[Any, Any, object]]) -> None:
    """The server goes on serving."""
    async with new_server() as server:
        for last in (0, 1):
            task = asyncio.create_task(Steps(serve(server), last))
            if not last:
                task.cancel()
            assert await cancelled(task)
            assert await is_served(server)


def listening(server: WebSocketServer) -> Server:
    """Return what `start` returned."""
    assert server._server is not None
    return server._server


async def start_serving_cancelled(serve: Callable[[WebSocketServer], Coroutine[Any, Any, object]]) -> None:
    """The server serves already, so that it never waits."""
    async with new_server() as server:
        task = asyncio.create_task(serve(server))
        task.cancel()
        assert await cancelled(task)
        assert await is_served(server)
        await serve(server)
        assert await is_served(server)


async def listening_cancelled(serve: Callable[[WebSocketServer], Coroutine[Any, Any, object]]) -> None:
    """The server stops listening, as asyncio's does; its connections live on."""
    async with new_server() as server:
        port = server.port
        peer = await open_peer(port)
        task = asyncio.create_task(Steps(serve(server), 1))
        assert await cancelled(task)
        assert not listening(server).is_serving()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        (client,) = server.clients.values()
        assert client.state is State.OPEN
        answering = asyncio.create_task(answer_close(peer))
    await answering
    await peer.close()


Call = Callable[[WebSocketServer], Coroutine[Any, Any, object]]

SERVERS: dict[str, tuple[Callable[[Call], Awaitable[None]], Call]] = {
    "WebSocketServer.start": (start_cancelled, lambda server: server.start()),
    "WebSocketServer.__aenter__": (start_cancelled, lambda server: server.__aenter__()),
    "WebSocketServer.close": (close_cancelled, lambda server: server.close()),
    "WebSocketServer.drain": (close_cancelled, lambda server: server.drain(0.001)),
    "WebSocketServer.__aexit__": (close_cancelled, lambda server: server.__aexit__(None, None, None)),
    "WebSocketServer.serve_forever": (serve_forever_cancelled, lambda server: server.serve_forever()),
    "Server.start_serving": (start_serving_cancelled, lambda server: listening(server).start_serving()),
    "Server.wait_closed": (serve_forever_cancelled, lambda server: listening(server).wait_closed()),
    "Server.serve_forever": (listening_cancelled, lambda server: listening(server).serve_forever()),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_server_cancelled_at_any_step(name: str) -> None:
    check, call = SERVERS[name]
    async with asyncio.timeout(10):
        await check(call)


# Connecting -------------------------------------------------------------------------------------------------


async def visit(url: str) -> None:
    async with connect(url, proxy=None, timeouts=QUIET) as client:
        await client.send("there")
        assert await client.read_message() == "there"


async def visits(url: str) -> None:
    async for client in connect(url, proxy=None, timeouts=QUIET, backoff=Backoff(first=0, most=0)):
        await client.send("there")
        assert await client.read_message() == "there"
        await client.close()


CONNECTS: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
    "Connecting.__aenter__": visit,
    "Connecting.__aexit__": visit,
    "Connecting.__aiter__": visits,
}


@pytest.mark.parametrize("name", CONNECTS)
async def test_connecting_cancelled_at_any_step_leaves_nothing_behind(name: str) -> None:
    async with WebSocketServer("127.0.0.1", 0, handler=echo, timeouts=QUIET) as server:
        port = server.sockets[0].getsockname()[1]
        last = -1
        done = False
        while not done and last < 40:
            last += 1
            task = asyncio.create_task(Steps(CONNECTS[name](f"ws://127.0.0.1:{port}/"), last))
            if not last:
                task.cancel()
            done = not await cancelled(task)
            await until(lambda: not server.clients)
            assert await is_served(server)
    assert last > 3, "it never waited"
