"""The awaitables in the hands of asyncio: they run, time out and raise where coroutines do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from helpers.peers import NARROW, Collected, Peer, collect, full_network, pair
from helpers.waiting import cancelled
from helpers.waiting import iterations as turns
from streamws import Cause, Client, ConnectionClosed, ConnectionClosedError, DataFrame, MessageReader, Opcode


def following(iterator: AsyncIterator[object]) -> Coroutine[object, None, object]:
    """Return the awaitable of the next item, which is a coroutine to asyncio."""
    item: Any = anext(iterator)
    coroutine: Coroutine[object, None, object] = item
    return coroutine


OPERATIONS: dict[str, tuple[Callable[[Client], Coroutine[object, None, object]], type]] = {
    "read_message": (lambda client: client.read_message(), str),
    "read_frame": (lambda client: client.read_frame(), DataFrame),
    "async for": (lambda client: following(aiter(client)), str),
    "messages": (lambda client: following(client.messages()), MessageReader),
    "text": (lambda client: following(client.text()), str),
    "frames": (lambda client: following(client.frames()), DataFrame),
    "send": (lambda client: client.send("x"), type(None)),
    "ping": (lambda client: client.writer.ping(), float),
    "pong": (lambda client: client.writer.pong(), type(None)),
}
Operation = Coroutine[object, None, object]


async def in_timeout(operation: Operation, seconds: float) -> object:
    async with asyncio.timeout(seconds):
        return await operation


async def in_group(operation: Operation, seconds: float) -> object:
    async with asyncio.timeout(seconds):
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(operation)
        except* ConnectionClosedError as errors:
            raise errors.exceptions[0] from None
        return task.result()


async def in_gather(operation: Operation, seconds: float) -> object:
    async with asyncio.timeout(seconds):
        return (await asyncio.gather(operation))[0]


async def in_task(operation: Operation, seconds: float) -> object:
    async with asyncio.timeout(seconds):
        return await asyncio.create_task(operation)


async def in_shield(operation: Operation, seconds: float) -> object:
    task = asyncio.ensure_future(operation)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)
    except TimeoutError:
        assert not task.done()
        task.cancel()
        assert await cancelled(task)
        raise


async def in_wait_for(operation: Operation, seconds: float) -> object:
    return await asyncio.wait_for(operation, seconds)


async def in_wait(operation: Operation, seconds: float) -> object:
    task = asyncio.create_task(operation)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        assert await cancelled(task)
        raise TimeoutError
    return task.result()


Run = Callable[[Operation, float], Coroutine[Any, Any, object]]
every_run = pytest.mark.parametrize(
    "run_operation", [in_timeout, in_group, in_gather, in_task, in_shield, in_wait_for, in_wait]
)
every_operation = pytest.mark.parametrize("name", OPERATIONS)


@asynccontextmanager
async def answering_pings(peer: Peer) -> AsyncIterator[Collected]:
    """The peer reads everything and answers every ping."""
    got = Collected()
    task = asyncio.create_task(collect(peer, got))
    try:
        yield got
    finally:
        task.cancel()
        await cancelled(task)


@pytest.mark.parametrize("ready", [True, False])
@every_run
@every_operation
async def test_awaitable_gives_its_result_where_coroutines_do(name: str, run_operation: Run, ready: bool) -> None:
    operate, kind = OPERATIONS[name]
    async with pair() as (client, peer):
        if ready:
            peer.send(Opcode.TEXT, b"message")
            await peer.settle()
        async with answering_pings(peer):
            operation = operate(client)
            assert asyncio.iscoroutine(operation)
            running = asyncio.create_task(run_operation(operation, 5))
            await asyncio.sleep(0)
            if not ready:
                peer.send(Opcode.TEXT, b"message")
            assert isinstance(await running, kind)


@every_run
@every_operation
async def test_awaitable_times_out_where_coroutines_do(name: str, run_operation: Run) -> None:
    operate, kind = OPERATIONS[name]
    async with pair(NARROW, small_buffers=True) as (client, peer):
        await full_network(client)
        with pytest.raises(TimeoutError):
            await run_operation(operate(client), 0.01)
        async with answering_pings(peer) as got:
            peer.send(Opcode.TEXT, b"message")
            assert isinstance(await operate(client), kind)
            await client.send(b"after")
            await client.writer.ping()
            assert got.messages[-1] == b"after"
        assert client.outcome is None


@every_run
@every_operation
async def test_awaitable_raises_where_coroutines_do(name: str, run_operation: Run) -> None:
    operate, _ = OPERATIONS[name]
    async with pair(NARROW, small_buffers=True) as (client, peer):
        await full_network(client)
        running = asyncio.create_task(run_operation(operate(client), 5))
        await turns()
        peer.writer.transport.abort()
        with pytest.raises(ConnectionClosedError) as caught:
            await running
        assert caught.value.outcome.cause is Cause.RESET
        with pytest.raises(ConnectionClosed):
            await run_operation(operate(client), 5)
