"""A connection, reader or sender that never has to wait does not block others (ARCHITECTURE.md, Promises, 13)."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from helpers.frames import client_frame
from helpers.peers import pair
from helpers.waiting import until
from streamws import Client, ConcurrencyError, DataFrame, Limits, MessageReader, Opcode, Timeouts
from streamws.connection import AsyncioConnection, Connection, Environment
from streamws.net import iteration
from streamws.net.loops import RECEIVE_BUFFER_SIZE, share_of


class Transport(asyncio.Transport):
    """Records when reading is paused and resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[str] = []
        self.closing = False

    def pause_reading(self) -> None:
        self.changes.append("pause")

    def resume_reading(self) -> None:
        self.changes.append("resume")

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


class Opened:
    """Stands in for the opening handshake."""

    def connected(self, connection: Connection) -> None:
        connection.start()

    def received(self, connection: Connection, data: bytes) -> None: ...

    def lost(self, connection: Connection, error: Exception | None) -> None: ...


@pytest.fixture
async def environment() -> AsyncIterator[Environment]:
    loop = asyncio.get_running_loop()
    share = share_of(loop)
    before, share.greedy = share.greedy, True
    environment = Environment(loop, Limits(read_high=1 << 20), Timeouts())
    yield environment
    environment.close()
    share.greedy = before


def connected(environment: Environment) -> tuple[AsyncioConnection, Transport]:
    connection = AsyncioConnection(environment, True, Opened())
    transport = Transport()
    connection.connection_made(transport)
    return connection, transport


def read(connection: AsyncioConnection, size: int = RECEIVE_BUFFER_SIZE, *, large: bool = False) -> None:
    """Deliver a read: small messages, or a part of a large frame."""
    buffer = connection.get_buffer(-1)
    if large:
        if not connection.protocol.parser.frame.active:
            buffer[:14] = b"\x82\xff\0\0\0\0\xff\xff\xff\xff" + bytes(4)
    else:
        message = b"\x82\x8a" + bytes(14)
        buffer[:] = message * (len(buffer) // len(message))
    connection.buffer_updated(min(size, len(buffer)))


async def test_full_read_pauses_reading_where_the_loop_would_read_on(environment: Environment) -> None:
    connection, transport = connected(environment)
    read(connection)
    assert transport.changes == ["pause"]
    await asyncio.sleep(0)
    assert transport.changes == ["pause", "resume"]
    connection.connection_lost(None)


async def test_read_that_leaves_room_does_not_pause_reading(environment: Environment) -> None:
    connection, transport = connected(environment)
    read(connection, RECEIVE_BUFFER_SIZE - 1)
    await asyncio.sleep(0)
    assert transport.changes == []
    connection.connection_lost(None)


async def test_large_frame_does_not_pause_reading(environment: Environment) -> None:
    connection, transport = connected(environment)
    for _ in range(3):
        read(connection, 1 << 20, large=True)
    await asyncio.sleep(0)
    assert transport.changes == ["pause"]  # because the unread bytes are over the high-water mark
    assert connection.inbox.paused
    connection.connection_lost(None)


async def test_fair_loop_is_not_paused(environment: Environment) -> None:
    environment.share.greedy = False
    connection, transport = connected(environment)
    read(connection)
    await asyncio.sleep(0)
    assert transport.changes == []
    connection.connection_lost(None)


async def test_connection_paused_for_its_reader_stays_paused(environment: Environment) -> None:
    connection, transport = connected(environment)
    while not connection.inbox.paused:
        read(connection)
    await asyncio.sleep(0)
    assert connection.inbox.paused
    assert transport.changes == ["pause"]  # once, and the next loop iteration does not resume it
    connection.connection_lost(None)


@pytest.mark.parametrize("how", ["closing", "lost"])
async def test_connection_that_ended_is_not_resumed(environment: Environment, how: str) -> None:
    connection, transport = connected(environment)
    read(connection)
    if how == "closing":
        transport.closing = True
    else:
        connection.connection_lost(None)
    await asyncio.sleep(0)
    assert transport.changes == ["pause"]
    if how == "closing":
        connection.connection_lost(None)


# Readers and senders that never have to wait ----------------------------------------------------------------


class Others:
    """Counts the loop iterations in which other callbacks ran."""

    def __init__(self) -> None:
        self.runs = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._run)

    def _run(self) -> None:
        self.runs += 1
        self._handle = self._loop.call_soon(self._run)

    def stop(self) -> None:
        self._handle.cancel()


@pytest.fixture
async def others() -> AsyncIterator[Others]:
    others = Others()
    await asyncio.sleep(0)
    yield others
    others.stop()


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a millisecond pass whenever the time is looked at."""
    monkeypatch.setattr(iteration, "monotonic", itertools.count(1000.0, 0.001).__next__)


async def send(client: Client) -> None:
    for _ in range(MANY):
        await client.send("x")


async def pong(client: Client) -> None:
    for _ in range(MANY):
        await client.writer.pong(b"x")


async def fragments(client: Client) -> None:
    async with client.writer.fragment() as stream:
        for _ in range(MANY):
            await stream.send("x")


async def small_fragmented_messages(client: Client) -> None:
    for _ in range(MANY):
        async with client.writer.fragment() as stream:
            await stream.send("x")


async def data_frame(client: Client) -> None:
    async with client.writer.data_frame(MANY) as frame:
        for _ in range(MANY):
            await frame.write(b"x")


async def write_frame(client: Client) -> None:
    for _ in range(MANY):
        await client.writer.write_frame(DataFrame(Opcode.TEXT, b"x"))


async def feed(client: Client) -> None:
    async def source() -> AsyncIterator[str]:
        for _ in range(MANY):
            yield "x"

    await client.writer.feed(source())


MANY = 200
SENDERS = [send, pong, fragments, small_fragmented_messages, data_frame, write_frame, feed]


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("sender", SENDERS)
async def test_sender_that_never_has_to_wait_lets_others_run(
    sender: Callable[[Client], Awaitable[None]], others: Others
) -> None:
    async with pair() as (client, _):
        before = others.runs
        await sender(client)
        assert others.runs - before >= 3
        assert not client._connection.outbox.paused


@pytest.mark.usefixtures("slow_clock")
async def test_few_messages_are_sent_without_suspending(others: Others) -> None:
    async with pair() as (client, peer):
        for _ in range(20):
            await asyncio.sleep(0)
            before = others.runs
            for number in range(10):
                await client.send(str(number))
            assert others.runs == before
        assert await peer.read_frames(200) == [(0x81, b"%d" % number) for number in range(10)] * 20


@pytest.mark.usefixtures("slow_clock")
async def test_send_that_is_not_awaited_leaves_no_warning() -> None:
    async with pair() as (client, peer):
        sent = [client.send("x") for _ in range(MANY)]
        assert len({type(sending) for sending in sent}) == 2  # some of them would let others run
        assert len(await peer.read_frames(MANY)) == MANY
        assert await asyncio.gather(*sent) == [None] * MANY


async def messages(client: Client) -> AsyncIterator[object]:
    async for message in client:
        yield message


async def read_message(client: Client) -> AsyncIterator[object]:
    while True:
        yield await client.read_message()


async def texts(client: Client) -> AsyncIterator[object]:
    async for message in client.text():
        yield message


async def frames(client: Client) -> AsyncIterator[object]:
    async for frame in client.frames():
        yield frame


async def readers(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        yield await reader.get()


async def pieces(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        async for piece in reader:
            yield piece


async def lines(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        while line := await reader.readline():
            yield line


async def parts(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        while part := await reader.read(2):
            yield part


async def exact_parts(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        while not reader.at_eof():
            yield await reader.readexactly(2)


async def parts_into_a_buffer(client: Client) -> AsyncIterator[object]:
    buffer = bytearray(2)
    async for reader in client.messages():
        while await reader.readinto(buffer):
            yield bytes(buffer)


async def pieces_of_text(client: Client) -> AsyncIterator[object]:
    async for reader in client.messages():
        async for text in reader.text():
            yield text


WHOLE = [client_frame(Opcode.TEXT, b"x\n")] * MANY
FRAGMENTS = [
    client_frame(Opcode.TEXT, b"x\n", fin=False),
    *[client_frame(Opcode.CONTINUATION, b"x\n", fin=False)] * (MANY - 2),
    client_frame(Opcode.CONTINUATION, b"x\n"),
]
LINES = [client_frame(Opcode.TEXT, b"x\n" * MANY)]
READERS = [
    *[(reader, WHOLE) for reader in (messages, read_message, texts, frames, readers)],
    *[(reader, FRAGMENTS) for reader in (frames, pieces, pieces_of_text)],
    *[(reader, LINES) for reader in (lines, parts, exact_parts, parts_into_a_buffer)],
]


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize(("reader", "chunk"), READERS)
async def test_reader_of_ready_data_lets_others_run(
    reader: Callable[[Client], AsyncIterator[object]], chunk: list[bytes], others: Others
) -> None:
    async with pair() as (client, peer):
        peer.write(b"".join(chunk))
        await until(lambda: client._connection.inbox.queue.size > 0)
        received = []
        async for item in reader(client):
            received.append(item)
            if len(received) == 1:
                before = others.runs
            if len(received) == MANY:
                break
        assert others.runs - before >= 3


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("reads", [True, False])
async def test_callback_of_ready_messages_lets_others_run(reads: bool, others: Others) -> None:
    called: list[int] = []
    async with pair() as (client, peer):
        peer.write(b"".join(WHOLE))
        await until(lambda: client._connection.inbox.queue.size > 0)

        async def get(reader: MessageReader) -> None:
            assert await reader.get() == "x\n"
            called.append(others.runs)

        def leave(reader: MessageReader) -> None:
            called.append(others.runs)

        client.message(get if reads else leave)
        await until(lambda: len(called) == MANY)
    assert called[-1] - called[0] >= 3


@pytest.mark.usefixtures("slow_clock")
async def test_few_ready_messages_are_read_without_suspending(others: Others) -> None:
    async with pair() as (client, peer):
        for _ in range(20):
            peer.write(b"".join(WHOLE[:10]))
            await client.read_message()
            before = others.runs
            for _ in range(9):
                await client.read_message()
            assert others.runs == before


@pytest.mark.usefixtures("slow_clock")
async def test_reader_that_gives_way_is_the_only_one(others: Others) -> None:
    async with pair() as (client, peer):
        peer.write(b"".join(WHOLE))
        await until(lambda: client._connection.inbox.queue.size > 0)

        async def read() -> None:
            for _ in range(MANY):
                assert await client.read_message() == "x\n"

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        assert not reading.done()
        with pytest.raises(ConcurrencyError):
            await client.read_message()
        await reading


@pytest.mark.usefixtures("slow_clock")
async def test_cancelling_a_reader_that_gives_way_loses_nothing(others: Others) -> None:
    async with pair() as (client, peer):
        peer.write(b"".join(client_frame(Opcode.TEXT, b"%d" % number) for number in range(MANY)))
        await until(lambda: client._connection.inbox.queue.size > 0)
        received: list[object] = []

        async def read() -> None:
            async for message in client:
                received.append(message)

        while len(received) < MANY:
            reading = asyncio.create_task(read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        assert received == [str(number) for number in range(MANY)]
