"""`lifespan=`: what runs around the time in which a server serves, and the order in which it stops."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from helpers.fixtures import echo
from helpers.frames import text
from helpers.peers import RawClient
from helpers.programs import script
from helpers.waiting import cancelled, iterations, until, within
from streamws import Client, UsageError, WebSocketServer, connect

Lifespan = Callable[[WebSocketServer], AbstractAsyncContextManager[None]]


class Broken(Exception):
    """Raised by the lifespans of the tests."""


def server_with(lifespan: Lifespan, handler: Any = echo, **options: Any) -> WebSocketServer:
    return WebSocketServer("127.0.0.1", 0, handler=handler, lifespan=lifespan, **options)


def url_of(server: WebSocketServer) -> str:
    return f"ws://127.0.0.1:{server.port}"


class Noted:
    """A lifespan that notes what happens, and in which task."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()

    @asynccontextmanager
    async def lifespan(self, server: WebSocketServer) -> AsyncIterator[None]:
        self.tasks.add(asyncio.current_task())
        self.events.append("begins, listening" if server.sockets else "begins")
        try:
            yield
        finally:
            self.tasks.add(asyncio.current_task())
            self.events.append(f"ends, {len(server.sockets)} sockets, {len(server.clients)} clients")


async def test_lifespan_surrounds_the_server_in_one_task() -> None:
    noted = Noted()

    async def handler(client: Client) -> None:
        noted.events.append("handler begins")
        try:
            async for _ in client:
                pass
            await iterations()
        finally:
            noted.events.append("handler ends")

    async with server_with(noted.lifespan, handler) as server, connect(url_of(server), proxy=None) as client:
        await iterations(10)
        await client.send("x")
        assert noted.events == ["begins", "handler begins"]
    assert noted.events == ["begins", "handler begins", "handler ends", "ends, 0 sockets, 0 clients"]
    assert len(noted.tasks) == 1
    assert asyncio.current_task() not in noted.tasks


async def test_lifespan_surrounds_a_drain() -> None:
    noted = Noted()
    async with server_with(noted.lifespan) as server, connect(url_of(server), proxy=None):
        await within(server.drain(0.001))
        assert noted.events == ["begins", "ends, 0 sockets, 0 clients"]


async def test_task_groups_work_in_a_lifespan() -> None:
    ticks: list[str] = []

    async def tick(name: str) -> None:
        ticks.append(name)
        await asyncio.sleep(3600)

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group, asyncio.TaskGroup() as other:
            group.start_soon(tick, "anyio")
            task = other.create_task(tick("asyncio"))
            yield
            group.cancel_scope.cancel()
            task.cancel()

    async with server_with(lifespan) as server, connect(url_of(server), proxy=None) as client:
        await client.send("x")
        assert await client.read_message() == "x"
    assert sorted(ticks) == ["anyio", "asyncio"]


# Errors before the yield ------------------------------------------------------------------------------------


def failing_at_first() -> Lifespan:
    attempts = iter([True, False, False])

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        if next(attempts):
            raise Broken("no database")
        yield

    return lifespan


async def test_error_before_the_yield_is_raised_by_start_and_nothing_listens() -> None:
    server = server_with(failing_at_first())
    with pytest.raises(Broken, match="no database"):
        await server.start()
    assert not server.sockets
    async with server:  # it runs again
        assert server.sockets


async def test_error_before_the_yield_is_raised_by_async_with() -> None:
    with pytest.raises(Broken, match="no database"):
        async with server_with(failing_at_first()):
            raise AssertionError("not reached")


def test_error_before_the_yield_is_raised_by_with(own_loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(Broken, match="no database"), server_with(failing_at_first(), loop=own_loop):
        raise AssertionError("not reached")


@pytest.mark.parametrize("own", [True, False])
def test_error_before_the_yield_is_raised_by_run(own: bool, own_loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(Broken, match="no database"):
        server_with(failing_at_first(), loop=own_loop if own else None).run()


async def test_lifespan_is_left_if_the_server_cannot_listen() -> None:
    noted = Noted()
    server = WebSocketServer("192.0.2.1", 0, handler=echo, lifespan=noted.lifespan)
    with pytest.raises(OSError, match="cannot listen on"):
        await server.start()
    assert noted.events == ["begins", "ends, 0 sockets, 0 clients"]


async def test_start_cancelled_in_the_lifespan_cancels_it() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        yield

    server = server_with(lifespan)
    starting = asyncio.ensure_future(server.start())
    await iterations()
    with pytest.raises(UsageError, match="this server was already started"):
        await server.start()
    starting.cancel()
    assert await cancelled(starting)
    assert events == ["cancelled"]
    assert not server.sockets


async def test_lifespan_that_cancels_itself_before_its_yield_stops_the_start() -> None:
    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        yield

    with pytest.raises(UsageError, match="its lifespan was cancelled, before it had started"):
        await server_with(lifespan).start()


async def test_close_while_the_lifespan_begins_cancels_it() -> None:
    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        await asyncio.sleep(3600)
        yield

    server = server_with(lifespan)
    starting = asyncio.ensure_future(server.start())
    await iterations()
    await server.close()
    with pytest.raises(UsageError, match="this server was closed"):
        await within(starting)


# Errors after the yield -------------------------------------------------------------------------------------


@asynccontextmanager
async def failing_at_last(server: WebSocketServer) -> AsyncIterator[None]:
    yield
    raise Broken("cannot save")


@asynccontextmanager
async def failing_in_anyio(server: WebSocketServer) -> AsyncIterator[None]:
    async def fail() -> None:
        await until(lambda: server.sockets)
        raise Broken("a background task")

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        yield


@asynccontextmanager
async def failing_in_asyncio(server: WebSocketServer) -> AsyncIterator[None]:
    async def fail() -> None:
        await until(lambda: server.sockets)
        raise Broken("a background task")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        yield


@asynccontextmanager
async def cancelling_itself(server: WebSocketServer) -> AsyncIterator[None]:
    task = asyncio.current_task()
    assert task is not None

    async def cancel() -> None:
        await until(lambda: server.sockets)
        task.cancel()

    cancelling = asyncio.ensure_future(cancel())
    try:
        yield
    finally:
        await asyncio.wait([cancelling])


async def test_error_after_the_yield_is_raised_by_each_call_that_stops_the_server() -> None:
    server = server_with(failing_at_last)
    await server.start()
    calls = (server.close(), server.drain(1), server.serve_forever())
    results = await within(asyncio.gather(*calls, return_exceptions=True))
    assert [type(result) for result in results] == [Broken] * 3
    with pytest.raises(Broken):
        await server.close()
    assert not server.sockets


async def test_error_after_the_yield_is_raised_by_async_with() -> None:
    with pytest.raises(Broken, match="cannot save"):
        async with server_with(failing_at_last):
            pass


def test_error_after_the_yield_is_raised_by_with(own_loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(Broken, match="cannot save"), server_with(failing_at_last, loop=own_loop):
        pass


@pytest.mark.parametrize("lifespan", [failing_in_anyio, failing_in_asyncio])
async def test_task_group_that_fails_stops_the_server(lifespan: Lifespan) -> None:
    server = server_with(lifespan)
    async with asyncio.timeout(10):
        with pytest.raises(ExceptionGroup) as error:
            async with server:
                await server.serve_forever()
    assert error.group_contains(Broken)
    assert not server.sockets


@pytest.mark.parametrize("lifespan", [failing_in_anyio, failing_in_asyncio])
def test_task_group_that_fails_ends_run(lifespan: Lifespan) -> None:
    with pytest.raises(ExceptionGroup) as error:
        server_with(lifespan).run()
    assert error.group_contains(Broken)


async def test_asyncio_group_that_fails_waits_for_the_handlers() -> None:
    events: list[str] = []

    async def handler(client: Client) -> None:
        await client.wait_closed()
        await iterations()
        events.append("handler ends")

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        async def fail() -> None:
            await connected.wait()
            raise Broken("a background task")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                yield
        finally:
            events.append("lifespan ends")

    connected = asyncio.Event()
    server = server_with(lifespan, handler)
    await server.start()
    async with connect(url_of(server), proxy=None) as client:
        connected.set()
        await within(client.wait_closed())
        assert client.outcome is not None
        assert client.outcome.code == 1001
    with pytest.raises(ExceptionGroup):
        await within(server.serve_forever())
    assert events == ["handler ends", "lifespan ends"]


async def test_lifespan_that_cancels_itself_stops_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with server_with(cancelling_itself) as server:
        await within(server.serve_forever())
        assert not server.sockets
    assert "the lifespan was cancelled: stopping the server" in caplog.text


async def test_task_group_that_fails_ends_a_drain() -> None:
    failing = asyncio.Event()

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        async def fail() -> None:
            await failing.wait()
            raise Broken("a background task")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            yield

    server = server_with(lifespan)
    await server.start()
    async with connect(url_of(server), proxy=None), connect(url_of(server), proxy=None):
        draining = asyncio.create_task(server.drain(3600))
        await until(lambda: not server.sockets)
        failing.set()
        with pytest.raises(ExceptionGroup):
            await within(draining)


def test_lifespan_that_cancels_itself_ends_run() -> None:
    server = server_with(cancelling_itself)
    server.run()
    assert not server.sockets


async def test_close_by_a_task_of_the_lifespan_does_not_wait_for_the_lifespan() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        async def stop() -> None:
            await stopping.wait()
            await server.close()
            events.append("closed")

        async with asyncio.TaskGroup() as group:
            group.create_task(stop())
            yield
        events.append("lifespan ends")

    stopping = asyncio.Event()
    async with server_with(lifespan) as server, connect(url_of(server), proxy=None):
        stopping.set()
        await within(server.serve_forever())
    assert events == ["closed", "lifespan ends"]


async def test_close_cancelled_while_the_lifespan_ends_cancels_the_lifespan() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        yield
        leaving.set()
        try:
            await asyncio.sleep(3600)
        finally:
            events.append("lifespan ends")

    leaving = asyncio.Event()
    server = server_with(lifespan)
    await server.start()
    closing = asyncio.ensure_future(server.close())
    await within(leaving.wait())
    closing.cancel()
    assert await cancelled(closing)
    assert events == ["lifespan ends"]


# Contexts and threads ---------------------------------------------------------------------------------------

POOL: ContextVar[str] = ContextVar("POOL", default="none")


async def test_handlers_see_the_context_variables_of_the_lifespan() -> None:
    @asynccontextmanager
    async def lifespan(server: WebSocketServer) -> AsyncIterator[None]:
        token = POOL.set("the pool")
        yield
        POOL.reset(token)  # the same context

    async def handler(client: Client) -> None:
        await client.send(POOL.get())
        POOL.set("a copy")

    async with server_with(lifespan, handler) as server:
        for _ in range(2):
            async with connect(url_of(server), proxy=None) as client:
                assert await client.read_message() == "the pool"
    assert POOL.get() == "none"


async def test_handler_that_closes_the_server_is_not_inside_the_lifespan() -> None:
    noted = Noted()

    async def handler(client: Client) -> None:
        await server.close()
        noted.events.append("closed")
        closed.set()

    closed = asyncio.Event()
    server = server_with(noted.lifespan, handler)
    async with server, connect(url_of(server), proxy=None):
        await within(closed.wait())
    assert noted.events == ["begins", "ends, 0 sockets, 0 clients", "closed"]


def test_lifespan_error_is_raised_by_close_in_another_thread() -> None:
    server = server_with(failing_at_last)
    errors: list[BaseException] = []
    started = threading.Event()

    async def serve() -> None:
        await server.start()
        started.set()
        await server.serve_forever()

    def run() -> None:
        try:
            asyncio.run(serve())
        except Broken as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    with pytest.raises(Broken, match="cannot save"):
        asyncio.run(server.close())
    thread.join(10)
    assert [str(error) for error in errors] == ["cannot save"]


PROGRAM = """
import asyncio, logging, sys
from contextlib import asynccontextmanager
from helpers.fixtures import echo
from streamws import Timeouts, WebSocketServer

logging.getLogger("streamws").addHandler(logging.NullHandler())

@asynccontextmanager
async def lifespan(server):
    print("begins", flush=True)
    if sys.argv[1:] == ["hang"]:
        await asyncio.sleep(3600)
    print_port = asyncio.create_task(say(server))
    yield
    print("leaving", flush=True)
    if {hang_at_the_end}:
        await asyncio.sleep(3600)
    print("ends", flush=True)

async def say(server):
    while not server.sockets:
        await asyncio.sleep(0)
    print(server.port, flush=True)

{prepare}
WebSocketServer("127.0.0.1", 0, handler=echo, lifespan=lifespan, timeouts=Timeouts(close=60)).run()
print("stopped", flush=True)
"""


async def test_signal_while_the_lifespan_begins_ends_run() -> None:
    async with script(PROGRAM.format(prepare='sys.argv[1:] = ["hang"]', hang_at_the_end=False)) as program:
        await program.says("^begins$")
        program.process.send_signal(signal.SIGTERM)
        await program.says("^stopped$")
        assert (await program.end(), program.stderr) == (0, "")


async def test_run_leaves_the_lifespan_at_a_signal() -> None:
    async with script(PROGRAM.format(prepare="", hang_at_the_end=False)) as program:
        raw = await RawClient.connect(("127.0.0.1", int(await program.says(r"^\d+$"))))
        await raw.upgrade()
        await raw.send(text("x"))
        await raw.read_frame()
        program.process.send_signal(signal.SIGTERM)
        await raw.read_frame()
        raw.close()
        await program.says("^leaving$")
        await program.says("^ends$")
        assert (await program.end(), program.stderr) == (0, "")


async def test_second_signal_cancels_a_lifespan_that_does_not_end() -> None:
    async with script(PROGRAM.format(prepare="", hang_at_the_end=True)) as program:
        await program.says(r"^\d+$")
        program.process.send_signal(signal.SIGTERM)
        await program.says("^leaving$")
        program.process.send_signal(signal.SIGTERM)
        await program.says("^stopped$")
        assert (await program.end(), program.stderr) == (0, "")


# Mistakes ---------------------------------------------------------------------------------------------------


async def generator(server: WebSocketServer) -> AsyncIterator[None]:
    yield


async def coroutine(server: WebSocketServer) -> None: ...


@pytest.mark.parametrize("lifespan", [generator, coroutine, 7])
def test_lifespan_that_is_not_a_function_for_a_context_manager_is_refused(lifespan: Any) -> None:
    with pytest.raises(TypeError, match=r"lifespan must (return an async context manager: decorate|be a function)"):
        server_with(lifespan)


async def test_lifespan_that_returns_something_else_is_refused_at_the_start() -> None:
    wrong: Any = lambda server: 7  # noqa: E731
    with pytest.raises(TypeError, match="lifespan must return an async context manager, not 7"):
        await server_with(wrong).start()
