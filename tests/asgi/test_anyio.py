"""anyio around every read and send: handlers of a `WebSocketServer`, whose tasks are woken directly, and of Starlette.

Each handler runs in both. They use cancel scopes, task groups and streams of anyio, and nothing may get lost.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi.test_under_uvicorn import serving
from helpers.fixtures import url_of
from helpers.waiting import iterations, until, within
from streamws import Client, ConnectionClosed, WebSocketServer, connect
from streamws.asgi import AsgiClient, from_websocket
from streamws.messages import Channel


class Connection(Channel, Protocol):
    """What `Client` and `AsgiClient` have in common, as far as the handlers need it."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...


Handler = Callable[[Connection], Awaitable[None]]

current: list[Handler] = []
errors: list[BaseException] = []


async def run(client: Client | AsgiClient) -> None:
    """Run the handler of the test, and keep its error for the test."""
    try:
        await current[0](client)
    except BaseException as error:
        errors.append(error)
        raise


async def endpoint(websocket: WebSocket) -> None:
    async with from_websocket(websocket) as client:
        await run(client)


application = Starlette(routes=[WebSocketRoute("/", endpoint)])


@pytest.fixture(params=["WebSocketServer", "Starlette"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    errors.clear()
    if request.param == "Starlette":
        async with serving(application, "websockets-sansio") as url:
            yield url
    else:
        async with WebSocketServer("127.0.0.1", 0, handler=run) as server:
            yield url_of(server)


async def talk(url: str, handler: Handler, messages: list[str], pause: int = 0) -> list[str | bytes]:
    """Let a handler run, send it messages, and return the messages that it has sent until it has ended.

    :param pause: the number of loop iterations between two messages.
    """
    current[:] = [handler]
    async with asyncio.timeout(20), connect(url, proxy=None) as client:
        for message in messages:
            await client.send(message)
            if pause:
                await iterations(pause)
        received = [message async for message in client]
    assert errors == []
    return received


NUMBERS = [str(number) for number in range(60)]


@pytest.mark.parametrize("pause", [0, 1, 5, 20])
async def test_cancel_scope_around_every_read_loses_nothing(url: str, pause: int) -> None:
    async def handler(client: Connection) -> None:
        cancelled = 0
        for number in NUMBERS:
            message = None
            while message is None:
                with anyio.move_on_after(0.0005) as scope:
                    message = await client.read_message()
                cancelled += scope.cancelled_caught
            assert message == number
        await client.send(str(cancelled))

    await talk(url, handler, NUMBERS, pause)


@pytest.mark.parametrize("after", range(7))
async def test_scope_that_is_cancelled_as_a_message_arrives_loses_nothing(url: str, after: int) -> None:
    """The scope is cancelled some loop iterations after the peer was asked for a message."""

    async def handler(client: Connection) -> None:
        read: list[str | bytes] = []
        for number in range(10):
            async with anyio.create_task_group() as group:

                async def receive(task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
                    task_status.started()
                    read.append(await client.read_message())

                await group.start(receive)
                await client.send(str(number))
                for _ in range(after):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        while len(read) < 10:
            read.append(await client.read_message())
        assert read == NUMBERS[:10]

    current[:] = [handler]
    async with asyncio.timeout(20), connect(url, proxy=None) as client:
        async for message in client:
            await client.send(message)
    assert errors == []


async def test_read_in_a_scope_that_was_cancelled_before(url: str) -> None:
    async def handler(client: Connection) -> None:
        read: list[str | bytes] = []
        while len(read) < len(NUMBERS):
            with anyio.CancelScope() as scope:
                scope.cancel()
                read.append(await client.read_message())  # if the message is there, it need not wait
            if scope.cancelled_caught:
                read.append(await client.read_message())
        assert read == NUMBERS

    await talk(url, handler, NUMBERS)


async def test_fail_after_around_reads_and_sends(url: str) -> None:
    async def handler(client: Connection) -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await client.read_message()
        with anyio.fail_after(10):
            await client.send("go")
        for number in NUMBERS:
            with anyio.fail_after(10):
                assert await client.read_message() == number
            with anyio.fail_after(10):
                await client.send(number)

    current[:] = [handler]
    async with asyncio.timeout(20), connect(url, proxy=None) as client:
        assert await client.read_message() == "go"
        for number in NUMBERS:
            await client.send(number)
        assert [message async for message in client] == NUMBERS
    assert errors == []


async def test_cancel_scope_around_sends_to_a_slow_peer(url: str) -> None:
    """A cancelled send has sent its whole message, or nothing, and the connection goes on."""
    sent = bytes(100_000)

    async def handler(client: Connection) -> None:
        cancelled = 0
        number = 0
        while cancelled < 3:
            with anyio.move_on_after(0.01) as scope:
                await client.send(number.to_bytes(4) + sent)
            number += 1
            cancelled += scope.cancelled_caught
        waiting.set()
        await client.send("last")

    waiting = asyncio.Event()
    current[:] = [handler]
    async with asyncio.timeout(20), connect(url, proxy=None) as client:
        await within(waiting.wait())
        *messages, last = [message async for message in client]
    assert errors == []
    assert last == "last"
    numbers = [int.from_bytes(message[:4]) for message in messages if isinstance(message, bytes)]
    assert all(len(message) == 4 + len(sent) for message in messages)
    assert numbers == sorted(set(numbers))


async def test_task_group_with_reader_and_writer(url: str) -> None:
    async def handler(client: Connection) -> None:
        into, out = anyio.create_memory_object_stream[str | bytes](3)

        async def read() -> None:
            async with into:
                async for message in client:
                    if message == "stop":
                        return
                    await into.send(message)

        async def write() -> None:
            async with out:
                async for message in out:
                    await client.send(message)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)

    assert await talk(url, handler, [*NUMBERS, "stop"]) == NUMBERS


async def test_reader_cancels_the_writer(url: str) -> None:
    async def handler(client: Connection) -> None:
        async def write() -> None:
            while True:
                await client.send("tick")
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            assert await client.read_message() == "stop"
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await client.send("bye")

    received = await talk(url, handler, ["stop"])
    assert received[-1] == "bye"
    assert set(received[:-1]) <= {"tick"}


async def test_shielded_send_in_a_cancelled_scope(url: str) -> None:
    async def handler(client: Connection) -> None:
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await client.send("bye")
                    assert await client.read_message() == "a"

    assert await talk(url, handler, ["a"]) == ["bye"]


async def test_error_of_a_task_cancels_the_reader(url: str) -> None:
    async def handler(client: Connection) -> None:
        async def fail() -> None:
            await anyio.lowlevel.checkpoint()
            raise ZeroDivisionError

        with pytest.RaisesGroup(ZeroDivisionError):
            async with anyio.create_task_group() as group:
                group.start_soon(fail)
                await client.read_message()
        assert await client.read_message() == "a"
        await client.send("done")

    current[:] = [handler]
    async with asyncio.timeout(20), connect(url, proxy=None) as client:
        await iterations(20)
        await client.send("a")
        assert [message async for message in client] == ["done"]
    assert errors == []


async def test_end_of_the_connection_ends_the_task_group(url: str) -> None:
    ended: list[str] = []

    async def handler(client: Connection) -> None:
        async def tick() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("tick")

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            async for message in client:
                await client.send(message)
            group.cancel_scope.cancel()
        with pytest.raises(ConnectionClosed):
            await client.send("too late")
        ended.append("handler")

    current[:] = [handler]
    async with connect(url, proxy=None) as client:
        await client.send("a")
        assert await client.read_message() == "a"
    await until(lambda: len(ended) == 2 or errors)
    assert ended == ["tick", "handler"]
    assert errors == []
