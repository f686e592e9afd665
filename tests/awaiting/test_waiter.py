"""How a waiting task is woken, and what cancelling it does, on both builds."""

import asyncio
import contextvars

import pytest

from helpers.sources import VALUES, Call, Source, inside_a_task, outside_of_tasks, started
from helpers.wires import Wire
from streamws.awaiting.internals import WAKES_DIRECTLY

# Waking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_waiting_task_gets_value(wire: Wire, call: Call, value: object) -> None:
    source = Source(wire)

    async def get() -> list[object]:
        return [await source.get()]  # a task cannot end with some of the values

    assert source.waiter.waiting_task() is None
    task = await started(get())
    assert source.waiter.waiting_task() is task
    await call(lambda: source.put(value))
    (got,) = await task
    assert got is value
    assert source.waiter.waiting_task() is None


async def test_wake_from_the_loop_runs_task_at_once(wire: Wire) -> None:
    source = Source(wire)
    order: list[str] = []

    async def wait() -> None:
        order.append(await source.get())
        order.append(await source.get())
        assert asyncio.current_task() is task

    def put(value: str) -> None:
        source.put(value)
        order.append(f"put the {value}")

    task = await started(wait())
    await outside_of_tasks(lambda: put("first"))
    await asyncio.sleep(0)
    await outside_of_tasks(lambda: put("second"))
    await task
    if WAKES_DIRECTLY:
        assert order == ["first", "put the first", "second", "put the second"]
    else:
        assert order == ["put the first", "first", "put the second", "second"]


async def test_wake_from_a_task_runs_task_in_the_next_turn(wire: Wire) -> None:
    source = Source(wire)
    order: list[str] = []

    async def wait() -> None:
        order.append(await source.get())

    task = await started(wait())
    source.put("value")
    order.append("put")
    await task
    assert order == ["put", "value"]


async def test_task_is_woken_in_its_own_context(wire: Wire, call: Call) -> None:
    source = Source(wire)
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def wait() -> str:
        name.set("task")
        await source.get()
        return name.get()

    task = await started(wait())

    def put() -> None:
        name.set("caller")
        source.put(1)
        assert name.get() == "caller"

    await call(put)
    assert await task == "task"


async def test_wake_without_a_waiting_task_does_nothing(wire: Wire, call: Call) -> None:
    source = Source(wire)
    await call(lambda: source.waiter.wake(False))
    task = await started(source.get())
    await call(lambda: source.put(1))
    await call(lambda: source.waiter.wake(False))
    assert await task == 1
    await call(lambda: source.waiter.wake(False))
    assert source.waiter.waiting_task() is None
    assert not source.waiter.is_cancelled()


async def test_wake_for_an_awaitable_that_was_dropped_does_nothing(wire: Wire, call: Call) -> None:
    source = Source(wire)
    source.get().send(None)  # stepped by hand: no task has registered its wake-up
    # The plain way cannot see that: it takes the task that runs for the one that waits.
    assert source.waiter.waiting_task() is (None if WAKES_DIRECTLY else asyncio.current_task())
    await call(lambda: source.waiter.wake(False))
    task = await started(source.get())
    await call(lambda: source.put(1))
    assert await task == 1


async def test_wake_goes_by_the_loop_when_others_watch_the_future(wire: Wire) -> None:
    source = Source(wire)
    watched: list[object] = []
    task = await started(source.get())
    future = source.waiter.arm()
    future.add_done_callback(watched.append)
    await outside_of_tasks(lambda: source.put(1))
    assert await task == 1
    assert watched == [future]


async def test_operation_woken_for_nothing_waits_again(wire: Wire) -> None:
    source = Source(wire)
    task = await started(source.get())
    calls: list[Call] = [outside_of_tasks, inside_a_task, outside_of_tasks]
    for call in calls:
        await call(lambda: source.waiter.wake(False))
        await asyncio.sleep(0)
        assert source.waiter.waiting_task() is task
    source.put(1)
    assert await task == 1
    assert source.abandoned == 0


@pytest.mark.parametrize("error", [ZeroDivisionError("raised"), FloatingPointError("failed")], ids=repr)
async def test_error_reaches_the_waiting_task(wire: Wire, call: Call, error: ArithmeticError) -> None:
    source = Source(wire)
    task = await started(source.get())
    await call(lambda: source.put(error))
    with pytest.raises(ArithmeticError) as raised:
        await task
    assert raised.value is error


async def test_waiter_serves_one_wait_after_the_other(wire: Wire) -> None:
    source = Source(wire)

    async def read() -> list[object]:
        return [await source.get() for _ in range(100)]

    task = await started(read())
    for number in range(100):
        call = inside_a_task if number % 3 else outside_of_tasks
        await call(lambda number=number: source.put(number))  # type: ignore[misc]
        await asyncio.sleep(0)
    assert await task == list(range(100))


async def test_task_whose_context_is_entered_is_woken_in_the_next_turn(wire: Wire) -> None:
    source = Source(wire)
    context = contextvars.copy_context()

    async def get() -> object:
        return await source.get()

    task = asyncio.get_running_loop().create_task(get(), context=context)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(source.put, "value", context=context)
    async with asyncio.timeout(5):
        assert await task == "value"


# Cancelling -------------------------------------------------------------------------------------------------


async def test_task_cancelled_while_it_waits_abandons(wire: Wire, call: Call) -> None:
    source = Source(wire)
    task = await started(source.get())
    task.cancel()
    assert source.waiter.is_cancelled()
    assert source.waiter.waiting_task() is None
    await call(lambda: source.put("for the next"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert source.abandoned == 1
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
    task: asyncio.Task[object] = asyncio.create_task(source.get())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.abandoned == 1
    assert await source.get() == "kept"


async def test_task_may_go_on_after_a_cancelled_wait(wire: Wire, call: Call) -> None:
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
    assert not source.waiter.is_cancelled()
    await call(lambda: source.put("second"))
    assert await task == "second"


async def test_next_task_may_wait_while_the_cancelled_one_has_not_run(wire: Wire, call: Call) -> None:
    source = Source(wire)
    first = await started(source.get())
    second = asyncio.create_task(source.get())
    first.cancel()
    assert source.waiter.is_cancelled()
    await asyncio.wait([first])
    await asyncio.sleep(0)
    assert source.waiter.waiting_task() is second
    await call(lambda: source.put("value"))
    assert await second == "value"
    assert first.cancelled()
