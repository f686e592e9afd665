"""New objects take the memory of freed ones (`reuse_freed`): nobody can notice."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import ref

import pytest

from helpers.wires import Wire
from streamws import Client, MessageReader, StaleReader, WebSocketServer, connect
from streamws.about import COMPILED, PLAIN
from streamws.streams.iterators import BeginMessage
from streamws.streams.reads import ReadMessage, ReadMessageOfType

MANY = 40
"""More than the memory of freed objects that is kept for each type."""


@asynccontextmanager
async def receiving(*messages: str) -> AsyncIterator[Client]:
    """Yield a client that receives messages."""

    async def send_all(client: Client) -> None:
        for message in messages:
            await client.send(message)
        await client.wait_closed()

    socket = WebSocketServer("127.0.0.1", 0, handler=send_all)
    async with socket as server, connect(f"ws://127.0.0.1:{server.port}") as client:
        yield client


@pytest.mark.parametrize("kind", [int, type("Python", (), {})])
def test_memory_of_other_types_is_not_reused(wire: Wire, kind: type) -> None:
    assert not wire.operation.reuse_freed(kind)


async def test_readers_begin_anew_in_the_memory_of_others() -> None:
    async with receiving(*map(str, range(3 * MANY))) as client:
        number = 0
        for _ in range(3):
            readers: list[MessageReader] = []
            while len(readers) < MANY:
                reader = await anext(client.messages())
                assert repr(reader) == "<MessageReader of a text message, 0 bytes so far>"
                if number % 2:
                    assert await reader.get() == str(number)
                else:
                    assert await reader.read(1) == str(number).encode()[:1]
                    reader.leave()
                readers.append(reader)
                number += 1
            for reader in readers:
                if "left" in repr(reader):
                    with pytest.raises(StaleReader):
                        await reader.get()


async def test_reads_begin_anew_in_the_memory_of_others() -> None:
    async with receiving("one", "two", "three") as client:
        reads: list[Any] = [client.read_message() for _ in range(MANY)]
        for read in reads:
            read.error = ValueError("of another read")
            read.close()
        del read, reads
        assert await client.read_message() == "one"
        fresh: list[Any] = [client.read_message() for _ in range(MANY)]
        assert {type(read) for read in fresh} == {ReadMessage}
        assert not any(read.finished or getattr(read, "error", None) for read in fresh)
        assert await fresh[7] == "two"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await fresh[7]
        assert await anext(client.text()) == "three"


@pytest.mark.parametrize("kind", [ReadMessage, ReadMessageOfType, BeginMessage])
async def test_reused_memory_is_seen_by_the_garbage_collector(kind: type) -> None:
    class Canary:
        pass

    async with receiving("one") as client:
        makes: dict[type, Any] = {
            ReadMessage: client.read_message,
            ReadMessageOfType: client.text().__anext__,
            BeginMessage: client.messages().__anext__,
        }
        for _ in range(3):
            read: Any = makes[kind]()
            made = type(read)
            assert made is kind
            assert gc.is_tracked(read)
            canary = Canary()
            seen = ref(canary)
            read.error = [read, canary]  # a cycle
            del read, canary
            gc.collect()
            assert seen() is None


def test_garbage_collector_does_not_count_objects_in_reused_memory() -> None:
    reused = COMPILED and not PLAIN and "asan" not in os.environ.get("LD_PRELOAD", "")
    kept: list[ReadMessage | None] = [ReadMessage.__new__(ReadMessage) for _ in range(MANY)]
    kept[:] = [None] * MANY
    gc.collect()
    before = gc.get_count()[0]
    for place in range(10):
        kept[place] = ReadMessage.__new__(ReadMessage)
    assert (gc.get_count()[0] - before < 10) is reused
