"""The decorators of `Client`: `message`, `ping`, `pong` and `closed`."""

import asyncio
import contextvars
import functools
import inspect
import logging
import pydoc
import re
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import xor
from helpers.peers import pair
from helpers.waiting import cancelled, iterations, until
from streamws import (
    Cause,
    Client,
    CloseOutcome,
    ConcurrencyError,
    ConnectionClosedError,
    Limits,
    MessageReader,
    Opcode,
    Side,
    StaleReader,
    UsageError,
)

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_message_callback_gets_reader_of_each_message() -> None:
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.writer.send(await reader.get())

        peer.write(frame(TEXT, b"one") + frame(BINARY, b"two"))
        assert await peer.read_frames(2) == [(0x81, b"one"), (0x82, b"two")]
        peer.send(TEXT, b"three", fin=False)
        peer.send(CONTINUATION, b"four")
        assert await peer.read_frame() == (0x81, b"threefour")


async def test_message_callback_may_be_a_plain_function() -> None:
    types: list[Opcode] = []
    async with pair() as (client, peer):

        @client.message
        def on_message(reader: MessageReader) -> None:
            types.append(reader.type)
            client.send("seen").close()

        peer.write(frame(TEXT, b"unread") + frame(BINARY, b"unread"))
        assert await peer.read_frames(2) == [(0x81, b"seen")] * 2
    assert types == [TEXT, BINARY]


class Handler:
    """Its instances are callbacks, and so are its methods."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, reader: MessageReader) -> None:
        await self.client.send(await reader.get())

    async def method(self, reader: MessageReader) -> None:
        await self(reader)

    async def with_more(self, more: int, reader: MessageReader) -> None:
        assert more == 1
        await self(reader)

    def returns_coroutine(self, reader: MessageReader) -> Awaitable[None]:
        return self(reader)

    def returns_task(self, reader: MessageReader) -> Awaitable[None]:
        return asyncio.create_task(self(reader))

    def returns_awaitable(self, reader: MessageReader) -> Awaitable[None]:
        return Awaited(self(reader))

    def returns_operation(self, reader: MessageReader) -> Awaitable[None]:
        reader.leave()
        return self.client.send("seen")

    def returns_another_value(self, reader: MessageReader) -> None:
        reader.leave()
        self.client.send("seen").close()
        other: Any = "a value"
        return other  # type: ignore[no-any-return]


class Awaited:
    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        return self.coroutine.__await__()


@pytest.mark.parametrize(
    ("register", "answer"),
    [
        (lambda handler: handler, b"message"),
        (lambda handler: handler.method, b"message"),
        (lambda handler: functools.partial(handler.with_more, 1), b"message"),
        (lambda handler: lambda reader: handler(reader), b"message"),
        (lambda handler: handler.returns_coroutine, b"message"),
        (lambda handler: handler.returns_task, b"message"),
        (lambda handler: handler.returns_awaitable, b"message"),
        (lambda handler: handler.returns_operation, b"seen"),
        (lambda handler: handler.returns_another_value, b"seen"),
    ],
    ids=["object", "method", "partial", "lambda", "coroutine", "task", "awaitable", "operation", "value"],
)
async def test_message_callback_may_be_any_callable(register: Callable[[Handler], Any], answer: bytes) -> None:
    async with pair() as (client, peer):
        client.message(register(Handler(client)))
        for _ in range(2):
            peer.write(frame(TEXT, b"message") * 3)
            assert await peer.read_frames(3) == [(0x81, answer)] * 3


async def test_message_callbacks_run_in_one_task_and_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(1)
    tasks: set[object] = set()
    values: list[int] = []
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            tasks.add(asyncio.current_task())
            values.append(variable.get())
            variable.set(variable.get() + 1)
            await reader.get()
            await client.send("seen")

        for _ in range(3):
            peer.write(frame(TEXT, b"message") * 2)
            await peer.read_frames(2)
    assert values == [1, 2, 3, 4, 5, 6]
    assert variable.get() == 1
    assert len(tasks) == 1
    assert None not in tasks


@pytest.mark.parametrize("kind", ["ping", "pong", "closed"])
async def test_callback_runs_in_a_copy_of_the_context_in_which_it_was_registered(kind: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    values: list[str] = []
    async with pair() as (client, peer):

        def register() -> None:
            variable.set("registered")
            if kind == "ping":
                client.ping(lambda payload: note())
            elif kind == "pong":
                client.pong(lambda payload: note())
            else:
                client.closed(lambda outcome: note())

        def note() -> None:
            values.append(variable.get())
            variable.set("changed by a callback")

        contextvars.copy_context().run(register)
        # Another task reads in a context of its own, in which its chunks are received.
        variable.set("reading")
        reading = asyncio.create_task(client.read_message())
        for _ in range(2):
            peer.write(frame(Opcode.PING, b"1") + frame(Opcode.PONG, b"2"))
        peer.send(TEXT, b"message")
        await reading
        peer.send_close()
        await client.wait_closed()
        await until(lambda: len(values) == (1 if kind == "closed" else 2))
    assert set(values) == {"registered"}


async def test_message_callback_goes_on_reading_after_a_timeout_inside_get() -> None:
    timeouts = 0
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            nonlocal timeouts
            while True:
                try:
                    await client.send(await asyncio.wait_for(reader.get(), 0.01))
                    return
                except TimeoutError:
                    timeouts += 1
                    if timeouts == 2:
                        peer.send(CONTINUATION, b"two")

        peer.send(TEXT, b"one", fin=False)
        assert await peer.read_frame() == (0x81, b"onetwo")
        assert timeouts >= 2
        peer.send(TEXT, b"three")
        assert await peer.read_frame() == (0x81, b"three")


async def test_message_callback_may_read_the_next_messages_itself() -> None:
    got: list[object] = []
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            first = await reader.read(1)
            frames = [await client.read_frame(), await client.read_frame()]
            message = await client.read_message()
            with pytest.raises(StaleReader):
                await reader.read()
            async for inner in client.messages():
                got.append((first, [part.payload for part in frames], message, await inner.get()))
                break
            await client.send("read")

        for _ in range(2):
            for _ in range(4):
                peer.send(TEXT, b"ab", fin=False)
                await peer.settle()
                peer.send(CONTINUATION, b"cd")
            assert await peer.read_frame() == (0x81, b"read")
    assert got == [(b"a", [b"ab", b"cd"], "abcd", "abcd")] * 2


async def test_message_callback_refuses_reads_of_other_tasks(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.send(await reader.get())

        await asyncio.sleep(0)
        with pytest.raises(ConcurrencyError, match=r"waits in messages\(\)"):
            await client.read_message()
        peer.send(TEXT, b"still served")
        assert await peer.read_frame() == (0x81, b"still served")
    assert errors(caplog) == []


@pytest.mark.parametrize("suspended", [False, True])
async def test_message_callback_that_cancels_its_task_is_the_last_one(
    suspended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[object] = []
    ended = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            got.append(await reader.get())
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if suspended:
                await asyncio.sleep(0)
            raise asyncio.CancelledError

        @client.closed
        def on_closed(outcome: CloseOutcome) -> None:
            ended.set()

        peer.write(frame(TEXT, b"first") + frame(TEXT, b"second"))
        await peer.settle()
        assert await client.read_message() == "second"
        peer.send_close()
        await ended.wait()
    assert got == ["first"]
    assert errors(caplog) == []


async def test_ping_callback_comes_between_message_callbacks() -> None:
    called: list[object] = []
    go_on = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            called.append(await reader.get())
            await go_on.wait()

        @client.ping
        async def on_ping(payload: bytes) -> None:
            await asyncio.sleep(0)
            called.append(payload)

        peer.send(TEXT, b"one")
        await until(lambda: called)
        peer.write(frame(Opcode.PING, b"ping") + frame(TEXT, b"two"))
        assert await peer.read_frame() == (0x8A, b"ping")
        await iterations()
        assert called == ["one"]
        go_on.set()
        await until(lambda: len(called) == 3)
    assert called == ["one", b"ping", "two"]


@pytest.mark.parametrize("late", [False, True])
async def test_callback_that_is_cancelled_while_it_waits_does_not_hold_up_the_others(late: bool) -> None:
    """Its task may be cancelled before it is its turn, or between that and the next loop iteration."""
    called: list[object] = []
    go_on = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            called.append(await reader.get())
            if called == ["one"]:
                await go_on.wait()
                if late:
                    asyncio.get_running_loop().call_soon(ping.cancel)

        @client.ping
        def on_ping(payload: bytes) -> None:
            called.append(payload)

        peer.send(TEXT, b"one")
        await until(lambda: called)
        before = asyncio.all_tasks()
        peer.send(Opcode.PING, b"1")
        assert await peer.read_frame() == (0x8A, b"1")
        await asyncio.sleep(0)
        [ping] = asyncio.all_tasks() - before
        peer.send(Opcode.PING, b"2")
        assert await peer.read_frame() == (0x8A, b"2")
        await asyncio.sleep(0)
        if not late:
            ping.cancel()
        go_on.set()
        assert await cancelled(ping) is not late or b"1" not in called
        peer.send(TEXT, b"two")
        await until(lambda: called[-1:] == ["two"])
    assert called == ["one", b"2", "two"]


async def test_callback_waits_that_are_refused_while_one_raised_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    called: list[object] = []
    async with pair() as (client, peer):

        @client.ping
        async def on_ping(payload: bytes) -> None:
            await asyncio.sleep(0)
            raise KeyError("mine")

        @client.message
        async def on_message(reader: MessageReader) -> None:
            called.append(await reader.get())

        peer.write(frame(Opcode.PING, b"1"))
        await until(lambda: client.outcome)
        peer.write(frame(TEXT, b"late"))
        assert await peer.read_frame() == (0x8A, b"1")
        assert (await peer.read_close())[0] == 1011
        await peer.close()
        await client.wait_closed()
    assert called == []
    assert len(errors(caplog)) == 1


async def test_message_callback_gets_message_before_it_is_complete() -> None:
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.send(await reader.read(4))
            await client.send(await reader.read())

        peer.write(header(BINARY, 8) + xor(b"12345678")[:4])
        assert await peer.read_frame() == (0x82, b"1234")
        peer.write(xor(b"12345678")[4:])
        assert await peer.read_frame() == (0x82, b"5678")


async def test_message_callback_skips_unread_messages() -> None:
    readers: list[MessageReader] = []
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            readers.append(reader)
            await client.send(await reader.read(1))

        peer.write(frame(BINARY, b"abc", fin=False) + frame(CONTINUATION, b"def") + frame(BINARY, b"xyz"))
        assert await peer.read_frames(2) == [(0x82, b"a"), (0x82, b"x")]
        with pytest.raises(Exception, match="over"):
            await readers[0].read()


async def test_message_callback_that_leaves_too_much_closes_with_1008() -> None:
    async with pair(Limits(max_skip=1000)) as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            pass

        peer.send(BINARY, b"x" * 2000, fin=False)
        assert (await peer.read_close())[0] == 1008


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_ping_and_pong_callbacks_get_payload(asynchronous: bool) -> None:
    called: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    async with pair() as (client, peer):
        if asynchronous:

            @client.ping
            async def on_ping(payload: bytes) -> None:
                called.put_nowait(("ping", payload))

            @client.pong
            async def on_pong(payload: bytes) -> None:
                called.put_nowait(("pong", payload))

        else:

            @client.ping
            def on_ping_too(payload: bytes) -> None:
                called.put_nowait(("ping", payload))

            @client.pong
            def on_pong_too(payload: bytes) -> None:
                called.put_nowait(("pong", payload))

        peer.send(Opcode.PING, b"1")
        assert await called.get() == ("ping", b"1")
        peer.send(Opcode.PONG, b"2")
        assert await called.get() == ("pong", b"2")
        peer.send(Opcode.PING)
        assert await called.get() == ("ping", b"")
        assert await peer.read_frames(2) == [(0x8A, b"1"), (0x8A, b"")]


async def test_ping_callback_gets_every_ping_of_a_burst_in_order() -> None:
    payloads: list[bytes] = []
    async with pair() as (client, peer):

        @client.ping
        async def on_ping(payload: bytes) -> None:
            await asyncio.sleep(0)
            payloads.append(payload)

        peer.write(b"".join(frame(Opcode.PING, b"%d" % number) for number in range(10)))
        await peer.read_frames(10)
        await until(lambda: len(payloads) == 10)
    assert payloads == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_closed_callback_gets_outcome(asynchronous: bool) -> None:
    called: asyncio.Queue[CloseOutcome] = asyncio.Queue()
    async with pair() as (client, peer):
        if asynchronous:

            @client.closed
            async def on_closed(outcome: CloseOutcome) -> None:
                called.put_nowait(outcome)

        else:

            @client.closed
            def on_closed_too(outcome: CloseOutcome) -> None:
                called.put_nowait(outcome)

        peer.send_close(3000, "why")
        outcome = await called.get()
        assert (outcome.code, outcome.reason) == (3000, "why")
        assert outcome == client.outcome


async def test_closed_callback_is_called_when_peer_drops_connection() -> None:
    called: asyncio.Queue[CloseOutcome] = asyncio.Queue()
    async with pair() as (client, peer):
        client.closed(called.put_nowait)
        await peer.close()
        assert (await called.get()).cause is Cause.RESET


async def test_closed_callback_registered_after_end_is_called() -> None:
    called: asyncio.Queue[CloseOutcome] = asyncio.Queue()
    async with pair() as (client, peer):
        await peer.close()
        await client.wait_closed()
        client.closed(called.put_nowait)
        assert (await called.get()).cause is Cause.RESET


async def test_decorators_return_function_unchanged() -> None:
    async with pair() as (client, _):

        def on_message(reader: MessageReader) -> None:
            pass

        def on_payload(payload: bytes) -> None:
            pass

        def on_closed(outcome: CloseOutcome) -> None:
            pass

        assert client.message(on_message) is on_message
        assert client.ping(on_payload) is on_payload
        assert client.pong(on_payload) is on_payload
        assert client.closed(on_closed) is on_closed


async def test_second_message_callback_is_refused() -> None:
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.send(await reader.get())

        with pytest.raises(UsageError, match="one callback"):
            client.message(on_message)
        peer.send(TEXT, b"still served")
        assert await peer.read_frame() == (0x81, b"still served")


@pytest.mark.parametrize("kind", ["ping", "pong"])
async def test_second_callback_for_a_control_frame_is_refused(kind: str) -> None:
    async with pair() as (client, _):

        def callback(payload: bytes) -> None: ...

        register = getattr(client, kind)
        register(callback)
        with pytest.raises(UsageError, match=f"cannot register @client.{kind} twice"):
            register(callback)


async def test_callbacks_run_one_after_the_other_in_order() -> None:
    running = 0
    called: list[object] = []
    done = asyncio.Event()

    async def note(what: object) -> None:
        nonlocal running
        assert running == 0
        running += 1
        for _ in range(3):
            await asyncio.sleep(0)
        called.append(what)
        running -= 1

    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await note(await reader.get())

        client.ping(note)

        @client.closed
        async def on_closed(outcome: CloseOutcome) -> None:
            await note(outcome.code)
            done.set()

        peer.write(b"".join(frame(TEXT, b"%d" % n) + frame(Opcode.PING, b"%d" % n) for n in range(5)))
        peer.send_close(3000)
        await done.wait()
    assert [what for what in called if isinstance(what, str)] == ["0", "1", "2", "3", "4"]
    assert [what for what in called if isinstance(what, bytes)] == [b"0", b"1", b"2", b"3", b"4"]
    assert called[-1] == 3000
    assert len(called) == 11


MISUSES: dict[str, tuple[str, str]] = {
    "message": ("client.message", "client.send(...)"),
    "ping": ("client.ping", "client.writer.ping(...)"),
    "pong": ("client.pong", "client.writer.pong(...)"),
    "closed": ("client.closed", "client.close()"),
}


@pytest.mark.parametrize("which", MISUSES)
async def test_decorator_of_anything_but_a_function_is_an_error_that_names_the_call(which: str) -> None:
    name, instead = MISUSES[which]
    async with pair() as (client, peer):
        decorator = getattr(client, which)
        for arguments in ((), (b"payload",), ("text",), (1000,)):
            with pytest.raises(UsageError, match=f"^{re.escape(name)} registers .* {re.escape(instead)}"):
                decorator(*arguments)
        peer.send(Opcode.PING, b"x")
        assert await peer.read_frame() == (0x8A, b"x")


@pytest.mark.parametrize("which", MISUSES)
async def test_decorator_in_a_condition_is_an_error_that_names_the_state(which: str) -> None:
    async with pair() as (client, _):
        with pytest.raises(UsageError, match=rf"client\.{which} is a decorator: ask client\.state"):
            bool(getattr(client, which))
        with pytest.raises(UsageError, match=r"client\.state"):
            assert not getattr(client, which)
        assert repr(getattr(client, which)).startswith(f"<decorator {which} of <Client ")


@pytest.mark.parametrize("which", MISUSES)
async def test_decorator_in_another_thread_is_an_error(which: str) -> None:
    async with pair() as (client, _):
        with pytest.raises(UsageError, match=rf"cannot use client\.{which} in this thread"):
            await asyncio.to_thread(lambda: getattr(client, which)(print))
        getattr(client, which)(print)


@pytest.mark.parametrize("which", ["message", "ping", "pong", "closed"])
async def test_help_shows_what_a_decorator_does(which: str) -> None:
    async with pair() as (client, _):
        described = inspect.getdoc(getattr(Client, which))
        assert described
        assert described.startswith("Decorator: call `callback` with ")
        for decorator in (getattr(client, which), getattr(Client, which)):
            assert decorator.__name__ == which
            assert inspect.getdoc(decorator) == described
            assert described.splitlines()[0] in pydoc.render_doc(decorator)


async def test_decorator_may_be_called_through_the_class() -> None:
    payloads: list[bytes] = []
    async with pair() as (client, peer):
        assert Client.ping(client, payloads.append) == payloads.append
        peer.send(Opcode.PING, b"x")
        assert await peer.read_frame() == (0x8A, b"x")
        await until(lambda: payloads == [b"x"])


class Unusual(BaseException):
    """Not an `Exception`, and neither the end of a task nor of the program."""


@pytest.mark.parametrize("which", ["message", "ping", "pong"])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("kind", [KeyError, Unusual])
async def test_callback_that_raises_is_logged_once_and_closes_with_1011(
    which: str, asynchronous: bool, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(argument: object) -> None:
        raise kind("mine")

    async def fail_later(argument: object) -> None:
        await asyncio.sleep(0)
        raise kind("mine")

    opcode = {"message": TEXT, "ping": Opcode.PING, "pong": Opcode.PONG}[which]
    async with pair() as (client, peer):
        getattr(client, which)(fail_later if asynchronous else fail)
        peer.write(frame(opcode, b"p") + frame(opcode, b"p"))
        if which == "ping":
            await peer.read_frames(2)
        assert await peer.read_close() == (1011, "")
        await peer.close()
        await client.wait_closed()
        assert client.outcome is not None
        assert client.outcome.cause is Cause.HANDLER_ERROR
        assert client.outcome.initiator is Side.LOCAL
        assert f"{kind.__name__}('mine')" in client.outcome.detail
    [record] = errors(caplog)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], kind)
    assert "fail" in record.getMessage()
    assert f"{client.addr}:{client.port}" in record.getMessage()


async def test_closed_callback_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    called = asyncio.Event()
    async with pair() as (client, peer):

        @client.closed
        def fail(outcome: CloseOutcome) -> None:
            called.set()
            raise KeyError("mine")

        peer.send_close()
        await called.wait()
        assert client.outcome is not None
        assert client.outcome.clean
    [record] = errors(caplog)
    assert "fail" in record.getMessage()


async def test_callback_that_uses_ended_connection_is_not_an_error(caplog: pytest.LogCaptureFixture) -> None:
    called = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            called.set()
            await client.wait_closed()
            await client.send("late")

        peer.send(TEXT, b"message")
        await called.wait()
        await peer.close()
    assert errors(caplog) == []


async def test_closed_callback_is_last_when_message_callback_goes_on_after_end() -> None:
    called: list[str] = []
    done = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.wait_closed()
            for _ in range(5):
                await asyncio.sleep(0)
            called.append(await reader.get(Opcode.TEXT))

        @client.closed
        def on_closed(outcome: CloseOutcome) -> None:
            called.append("closed")
            done.set()

        peer.write(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(Opcode.CLOSE))
        await done.wait()
    assert called == ["one", "two", "closed"]


async def test_message_callback_may_close_connection() -> None:
    closed = asyncio.Event()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.close(4000, "enough")
            closed.set()

        peer.send(TEXT, b"message")
        assert await peer.read_close() == (4000, "enough")
        peer.send_close(4000)
        await closed.wait()
        assert client.outcome is not None
        assert client.outcome.cause is Cause.CLOSED_WITH_ERROR


@pytest.mark.parametrize("which", ["ping", "pong"])
async def test_ping_and_pong_callbacks_may_close_connection(which: str) -> None:
    async with pair() as (client, peer):

        async def close(payload: bytes) -> None:
            await client.close(4000)

        getattr(client, which)(close)
        peer.send(Opcode.PING if which == "ping" else Opcode.PONG, b"p")
        if which == "ping":
            assert await peer.read_frame() == (0x8A, b"p")
        assert await peer.read_close() == (4000, "")
        peer.send_close(4000)
        await client.wait_closed()


async def test_message_callback_may_wait_for_pong() -> None:
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.writer.ping(b"p")
            await client.send("answered")

        peer.send(TEXT, b"message")
        assert await peer.read_frame() == (0x89, b"p")
        peer.send(Opcode.PONG, b"p")
        assert await peer.read_frame() == (0x81, b"answered")


async def test_message_callback_raises_incomplete_when_message_is_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: asyncio.Queue[ConnectionClosedError] = asyncio.Queue()
    async with pair() as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            try:
                await reader.get()
            except ConnectionClosedError as error:
                raised.put_nowait(error)
                raise

        peer.write(header(TEXT, 10) + xor(b"part"))
        await peer.close()
        assert "4 bytes into a message; at least 6 more bytes were expected" in str(await raised.get())
    assert errors(caplog) == []


async def test_callback_is_not_called_for_messages_after_one_that_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[object] = []

    async def fail(client: Client, reader: MessageReader) -> None:
        got.append(await reader.get())
        raise KeyError("mine")

    async with pair() as (client, peer):
        client.message(lambda reader: fail(client, reader))
        peer.write(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(TEXT, b"3"))
        assert (await peer.read_close())[0] == 1011
        await peer.close()
        await client.wait_closed()
    assert got == ["1"]
    assert len(errors(caplog)) == 1


async def test_message_callback_next_to_another_reader_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.read_message(), name="the reader")
        await asyncio.sleep(0)

        @client.message
        async def on_message(reader: MessageReader) -> None:
            raise AssertionError("called")

        await asyncio.sleep(0)
        peer.send(TEXT, b"message")
        assert await reading == "message"
    [record] = errors(caplog)
    assert record.exc_info is not None
    assert "the reader waits in read_message()" in str(record.exc_info[1])


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
async def test_control_frames_waiting_for_a_slow_callback_are_bounded(opcode: Opcode) -> None:
    async with pair(Limits(max_control_backlog=100)) as (client, peer):

        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.wait_closed()

        @client.ping
        @client.pong
        async def on_control(payload: bytes) -> None:
            pass

        peer.send(TEXT, b"message")
        peer.write(frame(opcode) * 101)
        while (first := (await peer.read_frame())[0]) == 0x8A:
            pass
        assert first == 0x88
        await peer.close()
        await client.wait_closed()
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.code) == (Cause.LIMIT, 1008)
