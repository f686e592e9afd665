"""Results are handed over by an exception object that is used again (Python 3.12 to 3.14): nobody can notice."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.wires import Wire
from streamws import Client, WebSocketServer, connect
from streamws.about import PLAIN

VALUES = [
    "",
    "text",
    b"",
    b"bytes",
    {},
    {"type": "event"},
    None,
    7,
    (),
    (1, 2),
    ("text",),
    ValueError("x"),
    StopIteration("y"),
    StopIteration,
]


@pytest.fixture(params=[False, True], ids=["new", "kept"])
def wire_with_results(request: pytest.FixtureRequest, wire: Wire) -> Iterator[Wire]:
    """Return a build whose results may be handed over by the kept exception, or must not."""
    wire.operation.keep_results(request.param)
    yield wire
    wire.operation.keep_results(False)


def awaited(awaitable: Any) -> Any:
    """Return the result of an awaitable that has one already."""

    async def wait() -> object:
        return await awaitable

    try:
        wait().send(None)
    except StopIteration as stop:  # not `pytest.raises`, which holds it for longer
        return stop.value
    raise AssertionError("the awaitable has no result")


def stopped(awaitable: Any) -> StopIteration:
    """Return the exception that carries the result."""
    try:
        next(awaitable)
    except StopIteration as stop:
        return stop
    raise AssertionError("the awaitable has no result")


def raises_for_results(wire: Wire) -> bool:
    """Return whether the interpreter takes a result out of an exception, which tracers see."""
    return PLAIN or wire.build != "compiled" or (3, 12) <= sys.version_info < (3, 15)


def carried(seen: list[BaseException]) -> list[object]:
    """Return the results that exceptions carry, without those of the test's own coroutine."""
    different = {id(error): error for error in seen}.values()
    return [error.value for error in different if isinstance(error, StopIteration) and error.value in ("a", "b", b"c")]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_results_are_what_they_were(wire_with_results: Wire, value: object) -> None:
    done = wire_with_results.operation.Done
    for _ in range(3):
        assert awaited(done(value)) is value
        assert stopped(done(value)).value is value


def test_end_frees_the_last_result(wire: Wire) -> None:
    value = bytes(range(100))
    before = sys.getrefcount(value)
    wire.operation.keep_results(True)
    awaited(wire.operation.Done(value))
    wire.operation.keep_results(False)
    assert sys.getrefcount(value) == before


def test_next_result_frees_the_one_before(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    value = bytes(range(100))
    before = sys.getrefcount(value)
    awaited(done(value))
    awaited(done("another"))
    assert sys.getrefcount(value) == before


def test_traceback_does_not_grow(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    first = len(list(traceback.walk_tb(stopped(done("text")).__traceback__)))
    for _ in range(50):
        last = stopped(done("text"))
    assert len(list(traceback.walk_tb(last.__traceback__))) == first


def change_traceback(stop: StopIteration) -> None:
    pass  # `stopped` left one


def change_context(stop: StopIteration) -> None:
    stop.__traceback__ = None
    stop.__context__ = ValueError("context")


def change_cause(stop: StopIteration) -> None:
    stop.__traceback__ = None
    stop.__cause__ = ValueError("cause")


def change_notes(stop: StopIteration) -> None:
    stop.__traceback__ = None
    stop.add_note("note")


def change_attributes(stop: StopIteration) -> None:
    stop.__traceback__ = None
    stop.mark = 1  # type: ignore[attr-defined]


def change_arguments(stop: StopIteration) -> None:
    stop.__traceback__ = None
    stop.args = ("argument",)


CHANGES = [change_traceback, change_context, change_cause, change_notes, change_attributes, change_arguments]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_exception_is_not_used_again(wire_with_results: Wire, change: Callable[[StopIteration], None]) -> None:
    done = wire_with_results.operation.Done
    stop = stopped(done("first"))
    change(stop)
    del stop
    again = stopped(done("second"))
    assert again.value == "second"
    assert (again.__context__, again.__cause__) == (None, None)
    assert not hasattr(again, "mark")
    assert not hasattr(again, "__notes__")
    assert again.args in ((), ("second",))


def test_exception_that_is_held_keeps_its_result(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    held = [stopped(done(text)) for text in ("a", "b", "c")]
    wire_with_results.operation.keep_results(False)
    assert [stop.value for stop in held] == ["a", "b", "c"]


def test_finalizer_may_end_another_await(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    inner: list[object] = []

    class Last:
        def __del__(self) -> None:
            inner.append(awaited(done("inner")))

    stop: Any = stopped(done("first"))
    stop.__traceback__ = None
    stop.value = Last()
    del stop
    assert awaited(done("outer")) == "outer"
    assert inner == ["inner"]


@pytest.mark.parametrize("next_result", ["outer", None])
def test_finalizer_in_a_dict_may_end_another_await(wire_with_results: Wire, next_result: str | None) -> None:
    """Events of ASGI are dicts, and the application may store anything in them."""
    done = wire_with_results.operation.Done
    inner: list[object] = []

    class Last:
        def __del__(self) -> None:
            inner.append(awaited(done({"inner": 1})))

    assert len(awaited(done({"stored": Last()}))) == 1
    if next_result is None:
        wire_with_results.operation.keep_results(False)
    else:
        assert awaited(done(next_result)) == next_result
    assert inner == [{"inner": 1}]
    assert awaited(done("after")) == "after"


def test_tracer_that_holds_exceptions_sees_each_result(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    held: list[BaseException] = []

    def trace(frame: object, event: str, argument: Any) -> Any:
        if event == "exception":
            held.append(argument[1])
        return trace

    async def wait() -> list[object]:
        return [await done("a"), await done("b"), await done(b"c")]

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        coroutine = wait()
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
    finally:
        sys.settrace(before)
    assert stop.value.value == ["a", "b", b"c"]
    # Python 3.11 avoids the exception only if nothing traces.
    raised = raises_for_results(wire_with_results) or sys.version_info < (3, 12)
    assert carried(held) == (["a", "b", b"c"] if raised else [])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12")
def test_monitor_that_holds_exceptions_sees_each_result(wire_with_results: Wire) -> None:
    done = wire_with_results.operation.Done
    held: list[BaseException] = []
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 - mypy checks for Python 3.11 too
    events = monitoring.events

    async def wait() -> list[object]:
        return [await done("a"), await done("b"), await done(b"c")]

    def hold(code: object, offset: int, error: BaseException) -> None:
        held.append(error)

    tool = 3
    monitoring.use_tool_id(tool, "test")
    try:
        for event in (events.RAISE, events.STOP_ITERATION):
            monitoring.register_callback(tool, event, hold)
        monitoring.set_events(tool, events.RAISE | events.STOP_ITERATION)
        coroutine = wait()
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
    finally:
        monitoring.set_events(tool, 0)
        for event in (events.RAISE, events.STOP_ITERATION):
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    assert stop.value.value == ["a", "b", b"c"]
    wire_with_results.operation.keep_results(False)
    assert carried(held) == (["a", "b", b"c"] if raises_for_results(wire_with_results) else [])


async def test_message_is_freed_when_its_reader_drops_it() -> None:
    counts: list[int] = []

    async def handler(client: Client) -> None:
        message = await client.read_message()
        await asyncio.sleep(0)  # the chunk is processed
        counts.append(sys.getrefcount(message))
        await client.send("done")

    async with WebSocketServer("127.0.0.1", 0, handler=handler) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.send(bytes(range(200)))
            assert await client.read_message() == "done"
    own = bytes(range(200))
    assert counts == [sys.getrefcount(own)]
