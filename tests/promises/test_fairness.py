"""A connection that always has more to read does not block others (ARCHITECTURE.md, Promises, 13)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from streamws import Limits, Timeouts
from streamws.connection import AsyncioConnection, Connection, Environment
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
