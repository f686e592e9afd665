"""Tasks that were woken are not kept alive, and asyncio's record of who awaits whom stays right (Python 3.14)."""

import asyncio
import contextvars
import gc
import io
import sys
import weakref
from typing import Any

from helpers.peers import pair
from helpers.sources import Call, Source, started
from helpers.waiting import cancelled
from helpers.wires import Wire
from streamws import Client, Opcode


async def is_alive(reference: "weakref.ref[Any]") -> bool:
    await asyncio.sleep(0)  # the loop may still refer to the task in the callback that it runs
    gc.collect()
    return reference() is not None


async def test_task_that_ended_after_its_wake_is_freed(wire: Wire, call: Call) -> None:
    source = Source(wire)
    task = await started(source.get())
    await call(lambda: source.put("value"))
    assert await task == "value"
    reference = weakref.ref(task)
    del task
    assert not await is_alive(reference)


async def test_task_that_was_cancelled_is_freed(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    task.cancel()
    assert await cancelled(task)
    reference = weakref.ref(task)
    del task
    assert not await is_alive(reference)


async def test_task_that_read_a_connection_is_freed() -> None:
    async def read(client: Client) -> None:
        await client.read_message()
        await client.read_message()

    async with pair() as (client, peer):
        task = await started(read(client))
        for _ in range(2):
            peer.send(Opcode.TEXT, b"message")
            await peer.settle()
        await task
        reference = weakref.ref(task)
        del task
        assert not await is_alive(reference)


if sys.version_info >= (3, 14):

    def record(future: Any) -> set[Any]:
        """Return the tasks that asyncio lists as awaiting a future."""
        return set(future._asyncio_awaited_by or ())

    async def test_future_of_waiter_is_recorded_only_while_a_task_awaits_it(wire: Wire, call: Call) -> None:
        source = Source(wire)
        elsewhere = asyncio.Event()
        seen: list[set[Any]] = []

        async def wait() -> None:
            for _ in range(3):
                await source.get()
                seen.append(record(future))
            await elsewhere.wait()

        task = await started(wait())
        for _ in range(3):
            future = source.waiter.arm()
            assert record(future) == {task}
            await call(lambda: source.put("value"))
            await asyncio.sleep(0)
        assert record(future) == set()
        assert seen == [set(), set(), set()]
        elsewhere.set()
        await task

    async def test_future_of_waiter_is_recorded_for_the_next_task_alone(wire: Wire, call: Call) -> None:
        source = Source(wire)
        for _ in range(2):
            task = await started(source.get())
            assert record(source.waiter.arm()) == {task}
            await call(lambda: source.put("value"))
            await task

    async def test_future_is_recorded_until_a_task_with_entered_context_is_woken(wire: Wire) -> None:
        source = Source(wire)
        context = contextvars.copy_context()
        seen: list[object] = []

        def put() -> None:
            future = source.waiter.arm()
            source.put("value")
            seen.append((record(future), future.done()))

        async def get() -> object:
            return await source.get()

        task = asyncio.get_running_loop().create_task(get(), context=context)
        await asyncio.sleep(0)
        future = source.waiter.arm()
        asyncio.get_running_loop().call_soon(put, context=context)
        assert await task == "value"
        assert seen == [({task}, True)]
        assert record(future) == set()

    async def test_call_graph_of_reading_tasks() -> None:
        """Of a task that reads, of one that awaits it, and of both after the first was woken and ended."""
        elsewhere = asyncio.Event()

        async def read(client: Client) -> object:
            async for message in client:
                return message
            return None

        async def outer(task: "asyncio.Task[object]") -> None:
            await task
            await elsewhere.wait()

        def functions(graph: asyncio.FutureCallGraph | None) -> list[str]:
            assert graph is not None
            return [entry.frame.f_code.co_name for entry in graph.call_stack]

        async with pair() as (client, peer):
            reading = await started(read(client))
            awaiting = await started(outer(reading))
            graph = asyncio.capture_call_graph(reading)
            assert graph is not None
            assert functions(graph) == ["read"]
            (parent,) = graph.awaited_by
            assert parent.future is awaiting
            assert functions(parent) == ["outer"]
            peer.send(Opcode.TEXT, b"message")
            assert await reading == "message"
            await asyncio.sleep(0)
            graph = asyncio.capture_call_graph(reading)
            assert graph == asyncio.FutureCallGraph(reading, (), ())
            assert functions(asyncio.capture_call_graph(awaiting)) == ["wait", "outer"]
            printed = io.StringIO()
            asyncio.print_call_graph(awaiting, file=printed)
            assert "outer()" in printed.getvalue()
            assert "read()" not in printed.getvalue()
            elsewhere.set()
            await awaiting
