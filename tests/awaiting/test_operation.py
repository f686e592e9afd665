"""The awaitables of the kernels: what asyncio may do with them."""

import asyncio
import gc
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from helpers.sources import VALUES, Source, started
from helpers.wires import Wire

BOUND = 10  # seconds that nothing here takes

Drive = Callable[[Any], Any]


# Without waiting --------------------------------------------------------------------------------------------


def drive_send(operation: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        operation.send(None)
    return stop.value.value


def drive_next(operation: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        next(operation)
    return stop.value.value


def drive_await(operation: Any) -> Any:
    async def wait() -> object:
        return await operation

    return drive_send(wait())


def drive_iterator(operation: Any) -> Any:
    return drive_next(operation.__await__())


DRIVES = [drive_send, drive_next, drive_await, drive_iterator]


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_ready_operation_gives_value_as_it_is(wire: Wire, drive: Drive, value: object) -> None:
    source = Source(wire)
    source.value = value
    assert drive(source.get()) is value
    assert drive(wire.operation.Done(value)) is value


async def test_ready_operation_does_not_suspend(wire: Wire) -> None:
    source = Source(wire)
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "turn")
    source.value = 1
    assert await source.get() == 1
    assert await wire.operation.Done(2) == 2
    assert turns == []


@pytest.mark.parametrize("drive", DRIVES)
async def test_operation_awaited_again_raises(wire: Wire, drive: Drive) -> None:
    source = Source(wire)
    source.value = 1
    operation = source.get()
    assert drive(operation) == 1
    source.value = 2
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation
    assert await source.get() == 2


@pytest.mark.parametrize("drive", DRIVES)
async def test_operation_that_raised_is_finished(wire: Wire, drive: Drive) -> None:
    source = Source(wire)
    operation = source.get()
    source.value = ZeroDivisionError("poll")
    with pytest.raises(ZeroDivisionError, match="poll"):
        drive(operation)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        drive(operation)


@pytest.mark.parametrize("drive", DRIVES)
async def test_operation_that_failed_is_finished(wire: Wire, drive: Drive) -> None:
    source = Source(wire)
    operation = source.get()
    source.value = error = FloatingPointError("failed")
    with pytest.raises(FloatingPointError) as raised:
        drive(operation)
    assert raised.value is error
    assert operation.finished
    with pytest.raises(RuntimeError, match="cannot reuse"):
        drive(operation)


async def test_done_may_be_awaited_again(wire: Wire) -> None:
    done = wire.operation.Done("value")
    assert [await done, await done, drive_next(done), drive_send(done)] == 4 * ["value"]
    task: asyncio.Task[Any] = asyncio.create_task(done)
    assert await asyncio.wait_for(done, BOUND) == await task == "value"
    assert done.close() is None
    with pytest.raises(KeyError):
        done.throw(KeyError)
    assert await done == "value"
    assert done.value == "value"


async def test_operation_without_poll_raises(wire: Wire) -> None:
    with pytest.raises(NotImplementedError):
        await wire.operation.Operation()


async def test_operation_is_a_coroutine_to_asyncio(wire: Wire) -> None:
    operations: list[Any] = [Source(wire).get(), wire.operation.Done(1)]
    for operation in operations:
        assert iter(operation) is operation.__await__() is operation
        assert not asyncio.isfuture(operation)
        assert inspect.isawaitable(operation)
        assert asyncio.iscoroutine(operation)
    assert (repr(wire.operation.PENDING), repr(wire.operation.FAILED)) == ("PENDING", "FAILED")


async def test_operation_never_awaited_is_silent(wire: Wire) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = Source(wire)
        for operation in (source.get(), wire.operation.Done(1)):
            del operation
        del source
        gc.collect()


# In tasks ---------------------------------------------------------------------------------------------------


async def test_gather_takes_operations(wire: Wire) -> None:
    sources = [Source(wire) for _ in range(3)]
    gathered = asyncio.gather(*(source.get() for source in sources))
    await asyncio.sleep(0)
    for number, source in enumerate(sources):
        source.put(number)
    assert await gathered == [0, 1, 2]


async def test_wait_for_takes_operations(wire: Wire) -> None:
    source = Source(wire)
    asyncio.get_running_loop().call_soon(source.put, "value")
    assert await asyncio.wait_for(source.get(), BOUND) == "value"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.get(), 0.01)
    assert source.abandoned == 1
    source.put("next")
    assert await source.get() == "next"


async def test_timeout_takes_operations(wire: Wire) -> None:
    source = Source(wire)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await source.get()
    assert source.abandoned == 1
    asyncio.get_running_loop().call_soon(source.put, "value")
    async with asyncio.timeout(BOUND):
        assert await source.get() == "value"


async def test_shield_and_task_group_take_operations(wire: Wire) -> None:
    one, other = Source(wire), Source(wire)
    async with asyncio.TaskGroup() as group:
        task: asyncio.Task[Any] = group.create_task(one.get())
        shielded = asyncio.shield(other.get())
        await asyncio.sleep(0)
        one.put(1)
        other.put(2)
        assert await shielded == 2
    assert task.result() == 1


async def test_operation_works_in_debug_mode(wire: Wire) -> None:
    asyncio.get_running_loop().set_debug(True)
    source = Source(wire)
    task = await started(source.get())
    assert "Get" in repr(task)
    assert task.get_stack() == []
    source.put(1)
    assert await task == 1


# By hand ----------------------------------------------------------------------------------------------------


class Failing(Exception):
    """An error thrown into an operation."""


@pytest.mark.parametrize("begun", [True, False])
async def test_throw_abandons_and_raises(wire: Wire, begun: bool) -> None:
    source = Source(wire)
    trace = None
    try:
        raise Failing("traced")
    except Failing as error:
        trace = error.__traceback__
    throws: list[tuple[Any, ...]] = [
        (Failing,),
        (Failing("instance"),),
        (Failing, Failing("value")),
        (Failing, Failing("value"), trace),
        (Failing, None, None),
    ]
    for count, args in enumerate(throws, 1):
        operation = source.get()
        if begun:
            assert operation.send(None) is operation.future
            operation.future._asyncio_future_blocking = False  # as a task does with what it is given
        with pytest.raises(Failing) as raised:
            operation.throw(*args)
        given = next((arg for arg in args if isinstance(arg, Failing)), raised.value)
        assert raised.value is given
        assert source.abandoned == count
        with pytest.raises(RuntimeError, match="cannot reuse"):
            operation.send(None)
        with pytest.raises(Failing):
            wire.operation.Done(1).throw(*args)


async def test_close_abandons_once(wire: Wire) -> None:
    source = Source(wire)
    operation = source.get()
    assert operation.send(None) is operation.future
    for _ in range(2):
        operation.close()
        assert source.abandoned == 1
    with pytest.raises(RuntimeError, match="cannot reuse"):
        operation.send(None)


async def test_close_of_a_finished_operation_does_nothing(wire: Wire) -> None:
    source = Source(wire)
    source.value = 1
    operation = source.get()
    assert await operation == 1
    operation.close()
    assert source.abandoned == 0


async def test_finished_says_whether_an_operation_is_used_up(wire: Wire) -> None:
    source = Source(wire)
    operation = source.get()
    assert not operation.finished
    operation.send(None)
    assert not operation.finished
    source.put(1)
    operation.future._asyncio_future_blocking = False  # as a task does with what it is given
    if not operation.future.done():
        operation.future.set_result(None)
    assert drive_send(operation) == 1
    assert operation.finished


async def test_pending_operation_yields_its_future(wire: Wire) -> None:
    steps: list[Drive] = [lambda operation: operation.send(None), next]
    for step in steps:
        source = Source(wire)
        operation = source.get()
        future = step(operation)
        assert future is operation.future is source.waiter.arm()
        assert asyncio.isfuture(future)
        assert future._asyncio_future_blocking is True


async def test_wide_text_holds_text_and_size(wire: Wire) -> None:
    wide = wire.payload.WideText("é", 2)
    assert (wide.text, wide.size) == ("é", 2)
