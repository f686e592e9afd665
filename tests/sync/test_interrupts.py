"""The blocking client when a signal handler or a finalizer interrupts it, at the worst moments."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from helpers.elsewhere import Elsewhere
from helpers.threads import Background, until
from helpers.waiting import PATIENCE
from streamws import Cause, Client, CloseCode, ConcurrencyError, ConnectionClosed, Limits
from streamws.sync import Client as Blocking
from streamws.sync import connect, link, loop_thread

Link = link.Link


def counting(count: int, size: int = 1) -> Callable[[Client], Any]:
    """Return a handler that sends numbers, padded to a size."""

    async def handler(client: Client) -> None:
        for number in range(count):
            await client.send(str(number).ljust(size))
        await client.wait_closed()

    return handler


@pytest.fixture(autouse=True)
def restored_tracer() -> Iterator[None]:
    """Restore the tracer, which measures the coverage, and which the tests replace."""
    before = sys.gettrace()
    yield
    sys.settrace(before)


def at_line(code: Any, number: int, action: Callable[[], object]) -> None:
    """Call a function once, when this thread is about to run a line of a function, counted from its `def`."""

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and frame.f_lineno - code.co_firstlineno == number:
            sys.settrace(None)
            action()
        return local

    sys.settrace(lambda frame, _event, _arg: local if frame.f_code is code else None)


def interrupt() -> None:
    raise KeyboardInterrupt


def line_numbers(code: Any) -> list[int]:
    return sorted({line - code.co_firstlineno for _, _, line in code.co_lines() if line} - {0})


# Calls of handlers and finalizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [Link.send, Link._ask_to_flush])
def test_handler_may_use_the_connection_inside_send(elsewhere: Elsewhere, function: Any) -> None:
    for number in line_numbers(function.__code__):
        with connect(elsewhere.url()) as ws:
            at_line(function.__code__, number, lambda ws=ws: (ws.ping(timeout=PATIENCE), ws.send("nested")))  # type: ignore[misc]
            ws.send("outer")
            sys.settrace(None)
            ws.send("last")
            received = [ws.read_message()]
            while received[-1] != "last":
                received.append(ws.read_message())
            assert "outer" in received


def test_handler_may_connect_while_the_first_connect_starts_the_thread(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = elsewhere.url()
    make = loop_thread._make_loop

    def make_and_connect() -> Any:
        monkeypatch.setattr(loop_thread, "_make_loop", make)
        with connect(url) as nested:
            nested.send("nested")
            assert nested.read_message() == "nested"
        return make()

    monkeypatch.setattr(loop_thread, "_make_loop", make_and_connect)
    with connect(url) as ws:
        ws.send("outer")
        assert ws.read_message() == "outer"
    until(lambda: [thread.name for thread in threading.enumerate()].count("streamws.sync") == 1)


def test_handler_may_read_what_the_interrupted_read_waits_for(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        nested: list[Any] = []

        def handle(lock: Any, deadline: Any) -> bool:
            if not nested:
                with pytest.raises(ConcurrencyError, match="in a signal handler"):
                    ws.read_message()
                ws.send("for the handler")
                until(lambda: ws._link._messages)
                nested.append(ws.read_message())
                ws.send("for the read")
            return loop_thread.wait(lock, deadline)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link, "wait", handle)
            assert ws.read_message() == "for the read"
        assert nested == ["for the handler"]


def test_finalizer_in_the_thread_of_the_loop_may_send(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:

        class Session:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                ws.send("bye")

        Session()
        ws._link.thread.loop.call_soon_threadsafe(gc.collect)
        assert ws.read_message() == "bye"


def interrupts(call: Callable[[], object]) -> bool:
    """Return whether `KeyboardInterrupt` ended a call."""
    try:
        call()
    except KeyboardInterrupt:
        return True
    return False


def read_for_ever(ws: Blocking, read: list[int]) -> None:
    while True:
        read.append(int(ws.read_message(PATIENCE)))


# Exceptions of handlers -------------------------------------------------------------------------------------------


def test_interrupted_read_loses_nothing_and_reading_goes_on(elsewhere: Elsewhere) -> None:
    limits = Limits(read_high=4000, read_low=1000)
    lines = [number for number in line_numbers(Link._ask_for_room.__code__) if number > 1]
    with connect(elsewhere.url(counting(400, 300)), limits=limits) as ws:
        expected = 0
        for number in [*lines, *lines]:
            until(lambda: ws._link._room)
            at_line(Link._ask_for_room.__code__, number, interrupt)
            read: list[int] = []
            assert interrupts(partial(read_for_ever, ws, read))
            assert read == list(range(expected, expected + len(read)))
            expected += len(read)
        assert [int(ws.read_message(PATIENCE)) for _ in range(400 - expected)] == list(range(expected, 400))


def test_interrupted_schedule_does_not_wedge_reading(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(read_high=4000, read_low=1000)
    schedule = Link._schedule
    with connect(elsewhere.url(counting(200, 300)), limits=limits) as ws:

        def interrupted(self: Link, function: Any) -> None:
            monkeypatch.setattr(Link, "_schedule", schedule)
            raise KeyboardInterrupt

        until(lambda: ws._link._room)
        monkeypatch.setattr(Link, "_schedule", interrupted)
        read: list[int] = []
        assert interrupts(partial(read_for_ever, ws, read))
        read += [int(ws.read_message(PATIENCE)) for _ in range(200 - len(read))]
        assert read == list(range(200))


def test_interrupted_send_does_not_wedge_the_next(elsewhere: Elsewhere) -> None:
    for function in (Link.send, Link._ask_to_flush, Link._schedule):
        reached = 0
        for number in line_numbers(function.__code__):
            with connect(elsewhere.url()) as ws:
                at_line(function.__code__, number, interrupt)
                reached += interrupts(partial(ws.send, "interrupted"))
                sys.settrace(None)
                ws.send("next")
                message = ws.read_message(PATIENCE)
                assert (ws.read_message(PATIENCE) if message == "interrupted" else message) == "next"
        assert reached


def test_interrupted_ping_leaves_the_connection_usable(elsewhere: Elsewhere) -> None:
    function = loop_thread.LoopThread.run
    reached = 0
    with connect(elsewhere.url()) as ws:
        for number in line_numbers(function.__code__):
            at_line(function.__code__, number, interrupt)
            reached += interrupts(partial(ws.ping, timeout=PATIENCE))
            sys.settrace(None)
            assert ws.ping(timeout=PATIENCE) > 0
    assert reached


def test_interrupted_connect_leaves_nothing_open(elsewhere: Elsewhere) -> None:
    connect(elsewhere.url()).close()
    thread = loop_thread._process.thread
    assert thread is not None
    for function in (loop_thread.LoopThread.run, loop_thread.wait):
        reached = 0
        for number in line_numbers(function.__code__):
            at_line(function.__code__, number, interrupt)
            reached += interrupts(lambda: connect(elsewhere.url()).close())
            sys.settrace(None)
            connect(elsewhere.url()).close()
            until(lambda: not thread.served)
        assert reached


def test_interrupted_decoding_puts_the_message_back(elsewhere: Elsewhere) -> None:
    class Interrupted:
        text = True

        def encode(self, message: int) -> bytes:
            return b"%d" % message

        def decode(self, data: str | bytes) -> int:
            raise KeyboardInterrupt

    with connect(elsewhere.url()) as ws:
        ws.send("5")
        with pytest.raises(KeyboardInterrupt):
            ws.typed(Interrupted()).read_message()
        assert ws.read_message() == "5"


# Races of the threads ---------------------------------------------------------------------------------------------


def test_close_sends_what_was_sent_before_although_the_loop_was_not_woken(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[str | bytes] = []

    async def handler(client: Client) -> None:
        async for message in client:
            received.append(message)

    held, go = threading.Event(), threading.Event()
    schedule = Link._schedule

    def slow(self: Link, function: Any) -> None:
        if threading.current_thread().name == "slow":
            held.set()
            assert go.wait(PATIENCE)
        schedule(self, function)

    ws = connect(elsewhere.url(handler))
    monkeypatch.setattr(Link, "_schedule", slow)
    sender = Background(ws.send, "of another thread", name="slow")
    assert held.wait(PATIENCE)
    ws._link._asked = ws._link._flushes  # as if the other thread had asked
    ws.send("of this thread")
    ws.close()
    go.set()
    sender.get()
    assert received == ["of another thread", "of this thread"]


def test_last_message_is_read_before_the_end(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        await client.read_message()
        await client.send("last")

    for number in line_numbers(Link._wait.__code__):
        with connect(elsewhere.url(handler)) as ws:

            def end(ws: Any = ws) -> None:
                ws.send("go")
                until(lambda: ws._link._end is not None)

            at_line(Link._wait.__code__, number, end)
            try:
                message = ws.read_message(0)
            except TimeoutError:
                message = ws.read_message() if ws._link._end is not None else "last"
            finally:
                sys.settrace(None)
            assert message == "last"


def test_error_of_the_receiving_task_ends_reads(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:

        def fail(message: object) -> int:
            raise MemoryError

        reader = Background(ws.read_message)
        until(lambda: ws._link._waiting)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link, "sys", type("fake", (), {"getsizeof": staticmethod(fail)}))
            ws._link._outgoing.append(("x", None, False))
            ws._link._schedule(ws._link._flush)
            with pytest.raises(MemoryError):
                reader.get()
        with pytest.raises(MemoryError):
            ws.read_message()
    until(lambda: elsewhere.outcomes)
    outcome = elsewhere.outcomes[0]
    assert outcome is not None
    assert outcome.received is not None
    assert outcome.received.code == CloseCode.INTERNAL_ERROR


def test_link_dropped_at_once_is_freed(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Link.__init__

    def made(self: Link, *arguments: Any) -> None:
        make(self, *arguments)
        self.drop()

    monkeypatch.setattr(Link, "__init__", made)
    ws = connect(elsewhere.url())
    until(lambda: not ws._link.thread.served)


# Limits and leaks -------------------------------------------------------------------------------------------------


def test_sender_that_waits_is_never_over_the_limit(elsewhere: Elsewhere) -> None:
    limits = Limits(write_high=256 << 10, write_low=64 << 10, max_write_backlog=256 << 10)

    async def deaf(client: Client) -> None:
        await client.wait_closed()

    ws = connect(elsewhere.url(deaf, limits=Limits(read_high=1000, read_low=1)), limits=limits)

    def send_without_end() -> None:
        while True:
            ws.send(bytes(60_000))

    sender = Background(send_without_end)
    sent = -1
    while not ws._link._senders or sent != ws.stats.messages_sent:  # until all buffers are full
        sent = ws.stats.messages_sent
        sender.join(0.05)
        assert sender.is_alive()
    ws.abort()
    with pytest.raises(ConnectionClosed):
        sender.get()
    assert ws.outcome is not None
    assert ws.outcome.cause is Cause.RESET


def test_timeouts_have_no_upper_limit(elsewhere: Elsewhere) -> None:
    for timeout in (float("inf"), 1e18, 10**400):
        with connect(elsewhere.url()) as ws:
            ws.send("x")
            assert ws.read_message(timeout) == "x"
            assert ws.ping(timeout=timeout) > 0
            ws.close(timeout=timeout)


def test_closed_connection_leaves_no_cycle(elsewhere: Elsewhere) -> None:
    def links() -> int:
        return sum(isinstance(thing, Link) for thing in gc.get_objects())

    url = elsewhere.url()
    connect(url).close()
    gc.collect()
    before = links()
    gc.disable()
    try:
        for _ in range(5):
            ws = connect(url)
            with pytest.raises(ValueError, match="125"):
                ws.ping(bytes(126))
            ws.close()
            del ws
        until(lambda: links() <= before)
    finally:
        gc.enable()
