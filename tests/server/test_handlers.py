"""Handlers own their connections, which end with them; connections live on after callbacks."""

import asyncio
import logging
import re
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, client_of, echo
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, binary, close, close_of, text
from helpers.frames import client_frame as frame
from helpers.waiting import until, within
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConnectionClosed,
    ConnectionClosedError,
    Limits,
    MessageReader,
    Request,
    Side,
    State,
)

NORMAL = b"\x88\x02\x03\xe8"
FAILED = b"\x88\x02\x03\xf3"


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- what a handler may be


async def test_handler_may_return_a_future(serve: Serve, connect: Connect) -> None:
    futures: list[asyncio.Future[None]] = []

    def handler(client: Client) -> asyncio.Future[None]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    server = await serve(handler)
    raw = await connect(server)
    await until(lambda: futures)
    await raw.send(text("unread") + frame(PING, b"?"))
    assert await raw.read_frame() == (PONG, b"?")
    futures[0].set_result(None)
    assert await raw.read(4) == NORMAL


async def test_handler_may_return_a_task_or_any_awaitable(serve: Serve, connect: Connect) -> None:
    class Greeting:
        def __init__(self, client: Client) -> None:
            self.client = client

        def __await__(self) -> Generator[Any, None, None]:
            yield from self.client.send("hello").__await__()

    for handler in (lambda client: asyncio.ensure_future(greet(client)), Greeting):
        raw = await connect(await serve(handler))
        assert await raw.read_frame() == (TEXT, b"hello")
        assert await raw.read(4) == NORMAL


async def greet(client: Client) -> None:
    await client.send("hello")


async def test_handler_whose_future_fails_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(client: Client) -> asyncio.Future[None]:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(ValueError("a mistake"))
        return failed

    raw = await connect(await serve(handler))
    assert await raw.read(4) == FAILED
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a mistake"


async def test_handler_that_raises_before_it_is_awaited_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(client: Client) -> asyncio.Future[None]:
        raise ValueError("a mistake")

    server = await serve(handler)
    raw, other = await connect(server), await connect(server)
    for each in (raw, other):
        assert await each.read(4) == FAILED
    assert [record.getMessage() for record in errors(caplog)] == [
        "{}:{}: the handler raised".format(*each.address) for each in (raw, other)
    ]


async def test_handler_that_returns_no_awaitable_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(client: Client) -> int:
        return client.id

    broken: Any = handler
    raw = await connect(await serve(broken))
    assert await raw.read(4) == FAILED
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert re.fullmatch(r"the handler returned \d+, which cannot be awaited: .*`async def`", str(record.exc_info[1]))


# --- the context of handlers and callbacks

USER: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("kind", ["handler", "connection"])
async def test_handlers_run_in_copies_of_the_context_in_which_the_server_was_started(
    kind: str, serve: Serve, connect: Connect
) -> None:
    seen: list[str] = []

    async def on_request(request: Request) -> None:
        seen.append(USER.get())
        USER.set("of a request")

    async def serve_one(client: Client) -> None:
        seen.append(USER.get())
        USER.set(f"number {len(seen)}")
        await asyncio.sleep(0)
        seen.append(USER.get())
        async for _ in client:
            await client.send(USER.get())

    USER.set("the one who starts")
    if kind == "handler":
        server = await serve(serve_one, request=on_request)
    else:
        server = await serve(connection=serve_one, request=on_request)
    USER.set("the one who connects")
    raws = []
    for _ in range(2):
        raws.append(await connect(server))
        await until(lambda: len(seen) == 3 * len(raws))
    assert seen == ["the one who starts"] * 2 + ["number 2"] + ["the one who starts"] * 2 + ["number 5"]
    # Each message wakes its handler in the handler's own context.
    for raw, name in zip(raws, (b"number 2", b"number 5"), strict=True):
        await raw.send(text("who?"))
        assert await raw.read_frame() == (TEXT, name)
    assert USER.get() == "the one who connects"


# --- a handler owns its connection


async def test_handler_that_returns_closes_with_1000(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.send(await client.read_message())

    server = await serve(handler)
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(text("a"))
    assert await raw.read_frame() == (TEXT, b"a")
    assert await raw.read(4) == NORMAL
    states = [client.state]
    await raw.send(close())
    assert await raw.read_until_eof() == b""
    await within(client.wait_closed())
    assert client.outcome == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000), Close(1000))
    assert [*states, client.state] == [State.CLOSING, State.CLOSED]


async def test_handler_that_raises_closes_with_1011_and_is_logged_once(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(client: Client) -> None:
        await client.read_message()
        raise ValueError("a mistake")

    server = await serve(handler)
    raw, bystander = await connect(server), await connect(server)
    client = client_of(server, raw)
    await raw.send(text("a"))
    assert await raw.read_until_eof() == FAILED
    raw.close()
    await within(client.wait_closed())
    detail = "the handler raised ValueError('a mistake')"
    assert client.outcome == CloseOutcome(Cause.HANDLER_ERROR, Side.LOCAL, None, Close(1011), detail)
    (record,) = errors(caplog)
    assert record.getMessage() == "{}:{}: the handler raised".format(*raw.address)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a mistake"
    assert client_of(server, bystander).state is State.OPEN


async def test_handler_cancelled_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def handler(client: Client) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await client.read_message()

    server = await serve(handler)
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(frame(PING))
    assert await raw.read_frame() == (PONG, b"")
    tasks[0].cancel()
    assert await raw.read_until_eof() == FAILED
    raw.close()
    await within(client.wait_closed())
    assert client.outcome is not None
    assert (client.outcome.cause, client.outcome.initiator) == (Cause.LOCAL_CANCEL, Side.LOCAL)
    assert errors(caplog) == []


@pytest.mark.parametrize("call", ["send", "read_message", "ping", "fragment", "async for"])
async def test_handler_using_a_dead_connection_is_not_logged(
    call: str, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    raised = asyncio.get_running_loop().create_future()

    async def use(client: Client) -> None:
        if call == "send":
            await client.send("too late")
        elif call == "read_message":
            await client.read_message()
        elif call == "ping":
            await client.writer.ping()
        elif call == "fragment":
            async with client.writer.fragment() as stream:
                await stream.send("too late")
        else:
            async for _ in client:
                pass

    async def handler(client: Client) -> None:
        await client.wait_closed()
        try:
            await use(client)
        except ConnectionClosed as error:
            raised.set_result(error)
            raise

    raw = await connect(await serve(handler))
    raw.reset()
    error = await within(raised)
    assert isinstance(error, ConnectionClosedError)
    assert error.outcome.cause is Cause.RESET
    assert errors(caplog) == []


async def read_and_send(client: Client) -> None:
    """Both tasks of the group raise when the connection ends."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(client.writer.ping())
        tasks.create_task(client.read_message())


async def test_handler_with_task_group_using_a_dead_connection_is_not_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(read_and_send)
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(text("a"))
    await raw.read_frame()
    raw.reset()
    await within(client.wait_closed())
    await within(server.close())  # the handler has returned
    assert errors(caplog) == []


async def test_callback_with_task_group_using_a_dead_connection_is_not_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(connection=read_and_send)
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.read_frame()
    raw.reset()
    await within(client.wait_closed())
    await within(server.close())
    assert errors(caplog) == []


async def test_handler_with_task_group_raising_another_error_is_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def mistake() -> None:
        raise ValueError("mine")

    async def handler(client: Client) -> None:
        await client.wait_closed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.send("too late"))
            tasks.create_task(mistake())

    raw = await connect(await serve(handler))
    raw.reset()
    await until(lambda: errors(caplog))
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert "mine" in repr(record.exc_info[1])


async def test_handler_closes_with_its_own_code(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.close(4001, "enough")

    server = await serve(handler)
    raw = await connect(server)
    client = client_of(server, raw)
    assert await raw.read_frame() == (CLOSE, b"\x0f\xa1enough")
    await raw.send(text("on its way") + close(4001))
    assert await raw.read_until_eof() == b""
    await within(client.wait_closed())
    sent, received = Close(4001, "enough"), Close(4001)
    assert client.outcome == CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, received, sent)


# --- connection callbacks


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_connection_lives_on_after_its_callback(kind: str, serve: Serve, connect: Connect) -> None:
    def notified(client: Client) -> None:
        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.send(await reader.get())

    async def notified_later(client: Client) -> None:
        await asyncio.sleep(0)
        notified(client)

    server = await serve(connection=notified if kind == "sync" else notified_later)
    raw = await connect(server)
    client = client_of(server, raw)
    for _ in range(3):
        await raw.send(text("a") + binary(b"b"))
        assert [await raw.read_frame(), await raw.read_frame()] == [(TEXT, b"a"), (BINARY, b"b")]
    await raw.send(close(1001, "bye"))
    assert close_of(await raw.read_until_eof()) == (1001, "")
    await within(client.wait_closed())
    assert client.outcome is not None
    assert client.outcome.clean
    assert client.id not in server.clients


async def test_connection_lives_on_until_the_server_side_closes_it(serve: Serve, connect: Connect) -> None:
    server = await serve(connection=lambda client: None)
    raw = await connect(server)
    await raw.send(frame(PING, b"there?"))
    assert await raw.read_frame() == (PONG, b"there?")
    closing = asyncio.ensure_future(client_of(server, raw).close(1000, "enough"))
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8enough")
    await raw.send(close())
    assert await raw.read_until_eof() == b""
    await within(closing)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_connection_callback_that_raises_closes_with_1011(
    kind: str, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def notified(client: Client) -> None:
        raise ValueError("a mistake")

    async def notified_later(client: Client) -> None:
        raise ValueError("a mistake")

    raw = await connect(await serve(connection=notified if kind == "sync" else notified_later))
    assert await raw.read_until_eof() == FAILED
    (record,) = errors(caplog)
    assert "{}:{}: the callback ".format(*raw.address) in record.getMessage()


async def test_callbacks_of_one_connection_run_in_order(serve: Serve, connect: Connect) -> None:
    told: list[str] = []
    done = asyncio.Event()

    async def tell(what: str) -> None:
        told.append(f"{what} begins")
        await asyncio.sleep(0.01)
        told.append(f"{what} ends")

    def notified(client: Client) -> None:
        @client.message
        async def on_message(reader: MessageReader) -> None:
            await tell(str(await reader.get()))

        @client.closed
        async def on_closed(outcome: CloseOutcome) -> None:
            await tell(str(outcome.cause))
            done.set()

    raw = await connect(await serve(connection=notified))
    await raw.send(text("one") + text("two") + close())
    await within(done.wait())
    expected = [f"{what} {when}" for what in ("one", "two", "clean") for when in ("begins", "ends")]
    assert told == expected


async def test_message_callback_that_raises_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def notified(client: Client) -> None:
        @client.message
        async def on_message(reader: MessageReader) -> None:
            raise ValueError("a mistake")

    raw = await connect(await serve(connection=notified))
    await raw.send(text("a") + text("b"))
    assert await raw.read_until_eof() == FAILED
    assert len(errors(caplog)) == 1


async def test_ping_and_pong_callbacks_get_the_payload(serve: Serve, connect: Connect) -> None:
    told: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def notified(client: Client) -> None:
        @client.ping
        def on_ping(payload: bytes) -> None:
            told.put_nowait(("ping", payload))

        @client.pong
        async def on_pong(payload: bytes) -> None:
            told.put_nowait(("pong", payload))

    raw = await connect(await serve(connection=notified))
    await raw.send(frame(PING, b"1"))
    assert await raw.read_frame() == (PONG, b"1")
    await raw.send(frame(PONG, b"2"))
    assert [await within(told.get()), await within(told.get())] == [("ping", b"1"), ("pong", b"2")]


# --- unread data

SMALL = Limits(read_high=1000, read_low=500)


async def test_unread_data_is_discarded_with_one_warning(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(connection=lambda client: None, limits=SMALL)
    raw, other = await connect(server), await connect(server)
    for number in range(5):
        await raw.send(binary(bytes(3000)) + frame(PING, b"%d" % number))
        assert await raw.read_frame() == (PONG, b"%d" % number)
    assert len(warnings(caplog)) == 1
    assert "{}:{}: ".format(*raw.address) in warnings(caplog)[0]
    assert "discarded 3064 unread bytes: nothing reads this connection; iterate over the cl" in warnings(caplog)[0]
    await other.send(binary(bytes(3000)) + frame(PING))
    assert await other.read_frame() == (PONG, b"")
    assert len(warnings(caplog)) == 2


async def test_unread_data_is_discarded_inside_a_frame(serve: Serve, connect: Connect) -> None:
    server = await serve(connection=lambda client: None, limits=SMALL)
    raw = await connect(server)
    await raw.send(frame(0x02, bytes(500_000), fin=False) + frame(0x80, bytes(500_000)) + frame(PING))
    assert await raw.read_frame() == (PONG, b"")


async def test_unread_data_received_during_a_slow_callback_is_discarded(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = asyncio.Event()

    async def notified(client: Client) -> None:
        await go_on.wait()

    raw = await connect(await serve(connection=notified, limits=SMALL))
    await raw.send(binary(bytes(3000)))
    await raw.send(frame(PING))
    go_on.set()
    assert await raw.read_frame() == (PONG, b"")
    assert len(warnings(caplog)) == 1


async def test_unread_data_at_the_end_causes_a_warning(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await connect(await serve(connection=lambda client: None))
    await raw.send(text("for no one") + close())
    assert await raw.read_until_eof() == NORMAL
    await until(lambda: warnings(caplog))
    assert len(warnings(caplog)) == 1


async def test_reading_after_the_callback_gets_later_data(serve: Serve, connect: Connect) -> None:
    """A task that the callback started may read too."""
    tasks: list[asyncio.Task[None]] = []

    def notified(client: Client) -> None:
        tasks.append(asyncio.ensure_future(echo(client)))

    raw = await connect(await serve(connection=notified, limits=SMALL))
    await raw.send(binary(bytes(3000)))
    assert await raw.read_frame() == (BINARY, bytes(3000))
    await raw.send(close())
    assert await raw.read_until_eof() == NORMAL
    await within(tasks[0])
