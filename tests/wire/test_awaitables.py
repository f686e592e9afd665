"""The awaitables of the kernels: what asyncio may do with them, and how a task is woken."""

import asyncio
import contextvars
import gc
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from helpers.wires import Wire

BOUND = 10  # seconds that nothing here takes

Drive = Callable[[Any], Any]


class Source:
    """Makes operations that wait for one value; several of them share its waiter."""

    def __init__(self, wire: Wire) -> None:
        self.kernels = wire.kernels
        self.loop = asyncio.get_running_loop()
        self.waiter = wire.kernels.Waiter(self.loop, asyncio.CancelledError)
        self.value: object = wire.kernels.PENDING
        self.abandoned = 0
        source = self

        class Get(wire.kernels.Operation):  # type: ignore[misc, name-defined]
            def poll(self) -> object:
                if source.value is source.kernels.PENDING:
                    source.waiter.rearm()
                    self.waiter = source.waiter
                    return source.value
                value, source.value = source.value, source.kernels.PENDING
                if isinstance(value, ZeroDivisionError):
                    raise value
                return value

            def abandon(self) -> None:
                source.abandoned += 1

        self.get: Callable[[], Any] = Get

    def put(self, value: object, direct: bool = False) -> None:
        self.value = value
        self.waiter.wake(direct)


async def started(coroutine: Any) -> asyncio.Task[Any]:
    """A task for the coroutine that has run up to its first wait."""
    task: asyncio.Task[Any] = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def outside_of_tasks(function: Callable[[], object]) -> None:
    """Call the function from the loop, while no task runs."""
    called = asyncio.Event()

    def call() -> None:
        assert asyncio.current_task() is None
        try:
            function()
        finally:
            called.set()

    asyncio.get_running_loop().call_soon(call)
    await called.wait()


@pytest.fixture(autouse=True)
async def bound() -> Any:
    async with asyncio.timeout(BOUND):
        yield


# Without waiting --------------------------------------------------------------------------------------------

VALUES = [
    None,
    0,
    "text",
    (),
    (1, 2),
    ValueError("a value"),
    StopIteration("inner"),
    StopIteration,
    asyncio.CancelledError(),
    [1],
]


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
    source.put(value)
    assert drive(source.get()) is value
    assert drive(wire.kernels.Done(value)) is value


async def test_ready_operation_does_not_suspend(wire: Wire) -> None:
    source = Source(wire)
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "turn")
    source.put(1)
    assert await source.get() == 1
    assert await wire.kernels.Done(2) == 2
    assert turns == []


@pytest.mark.parametrize("drive", DRIVES)
async def test_operation_awaited_again_raises(wire: Wire, drive: Drive) -> None:
    source = Source(wire)
    source.put(1)
    operation = source.get()
    assert drive(operation) == 1
    source.put(2)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation
    assert await source.get() == 2


@pytest.mark.parametrize("drive", DRIVES)
async def test_operation_that_raised_is_finished(wire: Wire, drive: Drive) -> None:
    source = Source(wire)
    operation = source.get()
    source.put(ZeroDivisionError("poll"))
    with pytest.raises(ZeroDivisionError, match="poll"):
        drive(operation)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        drive(operation)


async def test_done_may_be_awaited_again(wire: Wire) -> None:
    done = wire.kernels.Done("value")
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
        await wire.kernels.Operation()


async def test_operation_is_a_coroutine_to_asyncio(wire: Wire) -> None:
    operations: list[Any] = [Source(wire).get(), wire.kernels.Done(1)]
    for operation in operations:
        assert iter(operation) is operation.__await__() is operation
        assert not asyncio.isfuture(operation)
        assert inspect.isawaitable(operation)
        assert asyncio.iscoroutine(operation)
    assert asyncio.isfuture(Source(wire).waiter)
    assert repr(wire.kernels.PENDING) == "PENDING"


async def test_operation_never_awaited_is_silent(wire: Wire) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = Source(wire)
        for operation in (source.get(), wire.kernels.Done(1)):
            del operation
        del source
        gc.collect()


# Waiting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_waiting_task_gets_value(wire: Wire, direct: bool, value: object) -> None:
    source = Source(wire)

    async def get() -> list[object]:
        return [await source.get()]  # a task cannot end with some of the values

    task = await started(get())
    assert source.waiter.waiting_task() is task
    await outside_of_tasks(lambda: source.put(value, direct))
    (got,) = await task
    assert got is value
    assert source.waiter.waiting_task() is None


async def test_direct_wake_runs_task_at_once(wire: Wire) -> None:
    source = Source(wire)
    order: list[str] = []

    async def wait() -> None:
        order.append(await source.get())
        order.append(await source.get())
        assert asyncio.current_task() is task

    def put() -> None:
        source.put("first", direct=True)
        order.append("put the first")
        source.put("second", direct=True)
        order.append("put the second")

    task = await started(wait())
    await outside_of_tasks(put)
    await task
    assert order == ["first", "put the first", "second", "put the second"]


async def test_wake_by_the_loop_runs_task_in_the_next_turn(wire: Wire) -> None:
    source = Source(wire)
    order: list[str] = []

    async def wait() -> None:
        order.append(await source.get())

    task = await started(wait())
    source.put("value")
    order.append("put")
    assert source.waiter.done()
    assert not source.waiter.cancelled()
    await task
    assert order == ["put", "value"]


@pytest.mark.parametrize("direct", [True, False])
async def test_task_is_woken_in_its_own_context(wire: Wire, direct: bool) -> None:
    source = Source(wire)
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def wait() -> str:
        name.set("task")
        await source.get()
        return name.get()

    task = await started(wait())

    def put() -> None:
        name.set("loop")
        source.put(1, direct)
        assert name.get() == "loop"

    await outside_of_tasks(put)
    assert await task == "task"


@pytest.mark.parametrize("direct", [True, False])
async def test_wake_without_a_waiting_task_does_nothing(wire: Wire, direct: bool) -> None:
    source = Source(wire)
    source.waiter.wake(direct)
    assert not source.waiter.done()
    task = await started(source.get())
    source.waiter.wake(False)
    source.waiter.wake(direct)
    source.value = 1
    assert await task == 1
    source.waiter.wake(direct)
    assert source.waiter.waiting_task() is None


async def test_operation_woken_for_nothing_waits_again(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    for direct in (True, False, True):
        await outside_of_tasks(lambda direct=direct: source.waiter.wake(direct))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert source.waiter.waiting_task() is task
    source.put(1)
    assert await task == 1
    assert source.abandoned == 0


async def test_error_of_poll_reaches_the_waiting_task(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    await outside_of_tasks(lambda: source.put(ZeroDivisionError("late"), direct=True))
    with pytest.raises(ZeroDivisionError, match="late"):
        await task


async def test_waiter_serves_one_wait_after_the_other(wire: Wire) -> None:
    source = Source(wire)

    async def read() -> list[object]:
        return [await source.get() for _ in range(100)]

    task = await started(read())
    for number in range(100):
        await outside_of_tasks(lambda number=number: source.put(number, direct=number % 2 == 0))  # type: ignore[misc]
        await asyncio.sleep(0)
    assert await task == list(range(100))


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
    source.waiter = wire.kernels.Waiter(source.loop, asyncio.CancelledError)
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


# Cancelling -------------------------------------------------------------------------------------------------


async def test_task_cancelled_while_it_waits_abandons(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    task.cancel()
    assert source.waiter.done()
    assert source.waiter.cancelled()
    source.put("for the next")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert source.abandoned == 1
    source.waiter = wire.kernels.Waiter(source.loop, asyncio.CancelledError)
    assert await source.get() == "for the next"


async def test_cancelled_error_carries_message(wire: Wire) -> None:
    source = Source(wire)
    seen: list[tuple[object, ...]] = []

    async def wait() -> None:
        try:
            await source.get()
        except asyncio.CancelledError as error:
            seen.append(error.args)

    for args in ((), ("enough",)):
        source.waiter = wire.kernels.Waiter(source.loop, asyncio.CancelledError)
        task = await started(wait())
        task.cancel(*args)
        await task
    assert seen == [(), ("enough",)]


async def test_task_cancelled_after_its_wake_leaves_the_value(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    source.put("kept")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.abandoned == 1
    assert await source.get() == "kept"


async def test_task_cancelled_before_it_starts_never_polls(wire: Wire) -> None:
    source = Source(wire)
    source.put("kept")
    task: asyncio.Task[Any] = asyncio.create_task(source.get())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.abandoned == 1
    assert await source.get() == "kept"


async def test_task_may_go_on_after_a_cancelled_wait(wire: Wire) -> None:
    source = Source(wire)

    async def stubborn() -> object:
        try:
            return await source.get()
        except asyncio.CancelledError:
            return await source.get()

    task = await started(stubborn())
    task.cancel()
    await asyncio.sleep(0)
    assert source.waiter.waiting_task() is task
    await outside_of_tasks(lambda: source.put("second", direct=True))
    assert await task == "second"


async def test_waiter_cancelled_twice_answers_once(wire: Wire) -> None:
    source = Source(wire)
    assert source.waiter.cancel() is False
    task = await started(source.get())
    assert source.waiter.cancel() is True
    assert source.waiter.cancel() is False
    with pytest.raises(asyncio.CancelledError):
        source.waiter.result()
    with pytest.raises(asyncio.CancelledError):
        source.waiter.exception()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.waiter.rearm()
    assert not source.waiter.done()
    assert not source.waiter.cancelled()
    assert source.waiter.result() is None
    assert source.waiter.exception() is None


# The interfaces, by hand ------------------------------------------------------------------------------------


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
            assert operation.send(None) is source.waiter
        with pytest.raises(Failing) as raised:
            operation.throw(*args)
        given = next((arg for arg in args if isinstance(arg, Failing)), raised.value)
        assert raised.value is given
        assert source.abandoned == count
        with pytest.raises(RuntimeError, match="cannot reuse"):
            operation.send(None)
        with pytest.raises(Failing):
            wire.kernels.Done(1).throw(*args)


async def test_close_abandons_once(wire: Wire) -> None:
    source = Source(wire)
    operation = source.get()
    assert operation.send(None) is source.waiter
    for _ in range(2):
        operation.close()
        assert source.abandoned == 1
    with pytest.raises(RuntimeError, match="cannot reuse"):
        operation.send(None)


async def test_close_of_a_finished_operation_does_nothing(wire: Wire) -> None:
    source = Source(wire)
    source.put(1)
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
    assert drive_send(operation) == 1
    assert operation.finished


async def test_pending_operation_yields_its_waiter_as_a_future(wire: Wire) -> None:
    source = Source(wire)
    for step in (lambda operation: operation.send(None), next):
        source.waiter._asyncio_future_blocking = False
        assert step(source.get()) is source.waiter
        assert source.waiter._asyncio_future_blocking is True
    assert source.waiter.get_loop() is source.loop


async def test_waiter_callback_can_be_removed(wire: Wire) -> None:
    source = Source(wire)
    called: list[object] = []
    source.waiter.add_done_callback(called.append, context=contextvars.copy_context())
    assert source.waiter.remove_done_callback(print) == 0
    assert source.waiter.remove_done_callback(called.append) == 1
    assert source.waiter.remove_done_callback(called.append) == 0
    source.waiter.wake(True)
    assert called == []
    source.waiter.add_done_callback(called.append)
    assert source.waiter.waiting_task() is called
    source.waiter.wake(True)  # without a context the loop calls
    assert called == []
    await asyncio.sleep(0)
    assert called == [source.waiter]


async def test_wide_text_holds_text_and_size(wire: Wire) -> None:
    wide = wire.kernels.WideText("é", 2)
    assert (wide.text, wide.size) == ("é", 2)
