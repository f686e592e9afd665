"""What has come and is not read: limits, marks, cancelling, one reader at a time, and how readers wake up."""

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import xor as mask
from helpers.peers import pair
from helpers.waiting import until
from streamws import (
    Cause,
    Client,
    ConcurrencyError,
    ConnectionClosedError,
    DataFrame,
    Limits,
    MessageReader,
    Opcode,
)
from streamws.net.loops import LARGE_BUFFER_SIZE

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION
SMALL = Limits(max_message_size=1000)


def is_reading(client: Client) -> bool:
    reading: bool = client._connection.transport.is_reading()
    return reading


async def until_paused(client: Client) -> None:
    await until(lambda: not is_reading(client))


def receive(client: Client, data: bytes) -> None:
    """Data comes off the network while the calling task runs."""
    client._connection.receive(data, len(data))


# Limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize(
    "sent",
    [
        frame(BINARY, b"x" * 1000),
        frame(TEXT, b"x" * 1000),
        frame(TEXT, "ä".encode() * 500),
        frame(BINARY, b"x" * 800, fin=False) + frame(CONTINUATION, b"x" * 200, fin=False) + frame(CONTINUATION),
        frame(BINARY, fin=False)
        + frame(CONTINUATION, fin=False) * 13
        + frame(CONTINUATION, b"x" * 1000),  # 15 times 64
    ],
    ids=["binary", "ascii", "text", "fragments", "empty fragments"],
)
async def test_inbox_takes_message_at_limit(sent: bytes, settled: bool) -> None:
    async with pair(SMALL) as (client, peer):
        peer.write(sent)
        if settled:
            await peer.settle()
        assert await client.read_message()
        await peer.settle()


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize(
    "sent",
    [
        frame(BINARY, b"x" * 1001),
        frame(TEXT, b"x" * 1001),
        frame(TEXT, "ä".encode() * 500 + b"x"),
        frame(BINARY, b"x" * 800, fin=False) + frame(CONTINUATION, b"x" * 201),
        frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 14 + frame(CONTINUATION, b"x"),  # 16 times 64
        frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 15,
    ],
    ids=["binary", "ascii", "text", "fragments", "empty fragments", "no end"],
)
async def test_inbox_refuses_message_over_limit_with_1009(sent: bytes, settled: bool) -> None:
    async with pair(SMALL) as (client, peer):
        peer.write(frame(TEXT, b"before") + sent)
        if settled:
            await peer.settle()
        assert await client.read_message() == "before"
        with pytest.raises(ConnectionClosedError) as caught:
            await client.read_message()
        assert caught.value.outcome.code == 1009
        assert caught.value.outcome.cause is Cause.LIMIT
        code, reason = await peer.read_close()
        assert code == 1009
        assert "max_message_size (1000)" in reason


@pytest.mark.parametrize(
    "sent",
    [
        header(BINARY, 1001),
        header(TEXT, 1 << 62),
        header(BINARY, (1 << 63) - 1),
        header(BINARY, 1001, fin=False),
        frame(BINARY, b"x" * 400, fin=False) + header(CONTINUATION, 601),
        frame(BINARY, b"x" * 400, fin=False) + header(CONTINUATION, (1 << 63) - 1),
    ],
    ids=["frame", "huge", "largest", "first fragment", "fragment", "largest fragment"],
)
@pytest.mark.parametrize("waiting", [True, False])
async def test_inbox_refuses_declared_length_over_limit_before_payload_comes(sent: bytes, waiting: bool) -> None:
    async with pair(SMALL) as (client, peer):
        if waiting:
            reading = asyncio.create_task(client.read_message())
            await asyncio.sleep(0)
            peer.write(sent)
        else:
            peer.write(sent)
            await peer.writer.drain()
            reading = asyncio.create_task(client.read_message())
        assert (await peer.read_close())[0] == 1009
        with pytest.raises(ConnectionClosedError):
            await reading


@pytest.mark.parametrize(
    "sent",
    [
        header(BINARY, 1000),
        header(BINARY, 936, fin=False),
        frame(BINARY, b"x" * 400, fin=False) + header(CONTINUATION, 472),
    ],
    ids=["frame", "first fragment", "fragment"],
)
async def test_inbox_waits_for_declared_length_at_limit(sent: bytes) -> None:
    async with pair(SMALL) as (client, peer):
        reading = asyncio.create_task(client.read_message())
        peer.write(sent)
        await until(client._connection.protocol.parser.frame.in_data_frame)
        assert not reading.done()
        assert client.outcome is None
        await peer.close()
        with pytest.raises(ConnectionClosedError) as caught:
            await reading
        assert caught.value.outcome.cause is Cause.RESET


@pytest.mark.parametrize(
    "sent",
    [frame(BINARY, b"x" * 1001), header(BINARY, 1001), header(BINARY, 1001, fin=False)],
    ids=["frame", "header", "fragment"],
)
async def test_inbox_refuses_frame_over_limit_with_1009(sent: bytes) -> None:
    async with pair(SMALL) as (client, peer):
        peer.write(sent)
        with pytest.raises(ConnectionClosedError):
            await client.read_frame()
        assert (await peer.read_close())[0] == 1009


async def test_inbox_takes_frames_at_limit_of_message_over_it() -> None:
    async with pair(SMALL) as (client, peer):
        peer.send(BINARY, b"x" * 1000, fin=False)
        peer.send(CONTINUATION, b"y" * 1000)
        assert await client.read_frame() == DataFrame(BINARY, b"x" * 1000, fin=False)
        assert await client.read_frame() == DataFrame(CONTINUATION, b"y" * 1000)


async def test_inbox_counts_messages_one_by_one() -> None:
    async with pair(SMALL) as (client, peer):
        peer.write((frame(BINARY, b"x" * 400, fin=False) + frame(CONTINUATION, b"x" * 400)) * 3)
        await peer.settle()
        for _ in range(3):
            assert await client.read_message() == b"x" * 800
        assert client._connection.inbox.queue.size == 0


# The marks --------------------------------------------------------------------------------------------------


async def test_inbox_pauses_network_over_high_mark_and_resumes_at_low_mark() -> None:
    limits = Limits(read_high=50_000, read_low=10_000)
    async with pair(limits, small_buffers=True) as (client, peer):
        count = 2000
        peer.write(frame(BINARY, b"x" * 1000) * count)
        blocked = asyncio.create_task(peer.writer.drain())
        await until_paused(client)
        assert client._connection.inbox.queue.size > 50_000 - 2000
        assert not blocked.done()
        while not is_reading(client):
            assert client._connection.inbox.queue.size > 10_000 - 2000
            assert await client.read_message() == b"x" * 1000
            count -= 1
        assert client._connection.inbox.queue.size <= 10_000
        for _ in range(count):
            assert await client.read_message() == b"x" * 1000
        await blocked
        await peer.settle()


async def test_inbox_counts_small_messages_with_their_overhead() -> None:
    async with pair(Limits(read_high=10_000, read_low=1000)) as (client, peer):
        peer.write(frame(BINARY) * 200)
        await until_paused(client)
        for _ in range(200):
            assert await client.read_message() == b""
        assert is_reading(client)


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("fragments", [1, 10])
@pytest.mark.parametrize("read", ["read_message", "get", "read"])
async def test_inbox_lifts_mark_for_read_of_larger_message(read: str, fragments: int, waiting: bool) -> None:
    limits = Limits(read_high=10_000, read_low=1000)
    size = 500_000 // fragments
    parts = [
        frame(BINARY if place == 0 else CONTINUATION, b"x" * size, fin=place == fragments - 1)
        for place in range(fragments)
    ]

    async def message(client: Client) -> str | bytes:
        if read == "read_message":
            return await client.read_message()
        reader = await anext(client.messages())
        return await (reader.get() if read == "get" else reader.read())

    async with pair(limits) as (client, peer):
        if not waiting:
            peer.write(b"".join(parts))
            await until_paused(client)
        reading = asyncio.create_task(message(client))
        await asyncio.sleep(0)
        if waiting:
            peer.write(b"".join(parts))
        assert await reading == b"x" * 500_000
        await peer.settle()
        peer.write(frame(BINARY, b"y" * 6000) * 4)
        await until_paused(client)


async def test_inbox_lifts_mark_for_read_of_larger_frame() -> None:
    async with pair(Limits(read_high=10_000, read_low=1000)) as (client, peer):
        peer.send(BINARY, b"x" * 500_000, fin=False)
        await until_paused(client)
        assert (await client.read_frame()).payload == b"x" * 500_000


async def test_inbox_pauses_network_again_after_waiting_read_was_cancelled() -> None:
    async with pair(Limits(read_high=10_000, read_low=1000)) as (client, peer):
        reading = asyncio.create_task(client.read_message())
        wire = header(BINARY, 500_000) + mask(b"x" * 500_000)
        peer.write(wire[:100_000])
        await until(lambda: client._connection.protocol.parser.frame.buffered() >= 50_000)
        assert is_reading(client)
        reading.cancel()
        peer.write(wire[100_000:])
        await until_paused(client)
        assert await client.read_message() == b"x" * 500_000


async def test_inbox_bounds_frame_that_is_streamed() -> None:
    limits = Limits(read_high=10_000, read_low=1000)
    async with pair(limits) as (client, peer):
        size = 4 << 20
        peer.send(BINARY, b"x" * size)
        await until_paused(client)
        reader = await anext(client.messages())
        largest = total = 0
        while part := await reader.read(1 << 30):
            largest = max(largest, len(part))
            total += len(part)
        assert total == size
        assert largest <= 10_000 + LARGE_BUFFER_SIZE  # the mark, and what one read from the network takes


async def test_inbox_answers_ping_and_sees_close_while_no_one_reads() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"unread") * 10)
        await peer.settle()
        peer.send_close()
        assert await peer.read_close() == (1000, "")
        await client.wait_closed()


# Cancelling -------------------------------------------------------------------------------------------------


async def test_inbox_read_that_timed_out_loses_nothing() -> None:
    wire = frame(TEXT, b"whole message")
    async with pair() as (client, peer):
        peer.write(wire[:10])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read_message(), 0.05)
        peer.write(wire[10:])
        assert await asyncio.wait_for(client.read_message(), 5) == "whole message"


@pytest.mark.parametrize("first", ["cancel", "data"])
async def test_inbox_read_cancelled_in_turn_of_data_loses_nothing(first: str) -> None:
    loop = asyncio.get_running_loop()
    async with pair() as (client, peer):
        for number in range(20):
            reading = asyncio.create_task(client.read_message())
            await asyncio.sleep(0)
            peer.send(TEXT, b"%d" % number)
            if first == "cancel":
                loop.call_soon(reading.cancel)
            else:
                loop.call_at(loop.time(), reading.cancel)
            try:
                message = await reading
            except asyncio.CancelledError:
                message = await client.read_message()
            assert message == str(number)


async def test_inbox_read_cancelled_after_it_was_woken_loses_nothing() -> None:
    async with pair() as (client, _):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        receive(client, frame(TEXT, b"message"))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await client.read_message() == "message"


async def test_inbox_read_cancelled_before_data_comes_in_same_turn_loses_nothing() -> None:
    async with pair() as (client, _):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        reading.cancel("why")
        receive(client, frame(TEXT, b"message"))
        assert await client.read_message() == "message"
        with pytest.raises(asyncio.CancelledError, match="why"):
            await reading


async def test_inbox_next_read_waits_while_cancelled_one_is_not_done() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        reading.cancel()
        peer.send(TEXT, b"message")
        assert await client.read_message() == "message"
        await asyncio.wait([reading])
        assert reading.cancelled()


async def test_inbox_task_reads_on_after_it_suppressed_its_cancellation() -> None:
    async with pair() as (client, peer):

        async def stubborn() -> str | bytes:
            try:
                return await client.read_message()
            except asyncio.CancelledError:
                return await client.read_message()

        reading = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.sleep(0)
        peer.send(TEXT, b"message")
        assert await reading == "message"


async def test_inbox_iteration_cancelled_can_be_taken_up_again() -> None:
    async with pair() as (client, peer):
        messages = aiter(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(messages)
        peer.send(TEXT, b"message")
        assert await anext(messages) == "message"


# One reader at a time ---------------------------------------------------------------------------------------


async def iterate(client: Client) -> object:
    async for message in client:
        return message
    return None


async def message_stream(client: Client) -> object:
    return await anext(client.messages())


WAYS: dict[str, Callable[[Client], Coroutine[object, None, object]]] = {
    "async for": iterate,
    "read_message()": lambda client: client.read_message(),
    "read_frame()": lambda client: client.read_frame(),
    "messages()": message_stream,
}


@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
async def test_inbox_refuses_second_reader_and_names_both(first: str, second: str) -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(WAYS[first](client), name="the first")
        await asyncio.sleep(0)
        with pytest.raises(ConcurrencyError) as caught:
            await asyncio.create_task(WAYS[second](client), name="the second")
        message = str(caught.value)
        assert message.startswith(
            f"cannot call {second} in the second: the first waits in {first} on the same connection"
        )
        peer.send(TEXT, b"message")
        got = await reading
        if isinstance(got, DataFrame):
            assert got.payload == b"message"
        elif isinstance(got, MessageReader):
            assert await got.get() == "message"
        else:
            assert got == "message"


async def test_inbox_refuses_second_reader_while_message_reader_waits() -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"a", fin=False)
        reader = await anext(client.messages())
        reading = asyncio.create_task(reader.readexactly(3), name="the first")
        await asyncio.sleep(0)
        for read in (client.read_message(), reader.read()):
            with pytest.raises(ConcurrencyError, match="the first waits in a MessageReader"):
                await read
        peer.send(CONTINUATION, b"bcd")
        assert await reading == b"abc"
        assert await reader.read() == b"d"


async def test_inbox_refuses_second_reader_while_first_one_is_woken_and_not_run() -> None:
    async with pair() as (client, _):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        receive(client, frame(TEXT, b"message"))
        with pytest.raises(ConcurrencyError):
            await client.read_message()
        assert await reading == "message"


async def test_inbox_takes_other_task_after_first_one_is_done() -> None:
    async with pair() as (client, peer):
        for number in range(5):
            reading = asyncio.create_task(client.read_message())
            await asyncio.sleep(0)
            peer.send(TEXT, b"%d" % number)
            assert await reading == str(number)


# Awaitables that asyncio takes for coroutines ---------------------------------------------------------------


async def test_awaitable_can_be_closed_without_await() -> None:
    async with pair() as (client, peer):
        client.read_message().close()
        client.send("x").close()
        peer.send(TEXT, b"message")
        assert await client.read_message() == "message"
        assert await peer.read_frame() == (0x81, b"x")


async def test_awaitable_can_be_dropped_without_await() -> None:
    async with pair() as (client, peer):
        dropped = [client.read_message(), client.read_frame(), client.send("x"), client.writer.pong()]
        dropped.clear()
        peer.send(TEXT, b"message")
        assert await client.read_message() == "message"
        assert await peer.read_frames(2) == [(0x81, b"x"), (0x8A, b"")]


async def test_read_cannot_be_awaited_twice() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"message")
        read = client.read_message()
        assert await read == "message"
        with pytest.raises(RuntimeError, match="already awaited"):
            await read


# How readers wake up ----------------------------------------------------------------------------------------


async def test_inbox_wakes_reader_in_its_context() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    async with pair() as (client, peer):

        async def read() -> str:
            variable.set("inside")
            await client.read_message()
            return variable.get()

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        peer.send(TEXT, b"message")
        assert await reading == "inside"
        assert variable.get() == "outside"


async def test_inbox_wakes_reader_as_the_current_task() -> None:
    async with pair() as (client, peer):

        async def read() -> object:
            await client.read_message()
            return asyncio.current_task()

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        peer.send(TEXT, b"message")
        assert await reading is reading


async def test_inbox_wakes_reader_when_data_comes_while_other_task_runs() -> None:
    async with pair() as (client, _):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        receive(client, frame(TEXT, b"message"))
        assert not reading.done()
        assert await reading == "message"


async def test_inbox_gives_all_messages_that_came_while_reader_was_woken_and_not_run() -> None:
    async with pair() as (client, _):

        async def read() -> list[str | bytes]:
            return [await client.read_message() for _ in range(3)]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        for payload in (b"1", b"2", b"3"):
            receive(client, frame(TEXT, payload))
        assert await reading == ["1", "2", "3"]


async def test_inbox_wakes_reader_when_other_task_ends_connection() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.read_message())
        await asyncio.sleep(0)
        client._connection.abort()
        with pytest.raises(ConnectionClosedError):
            await reading
        await peer.read_end()


async def test_reader_may_close_connection_from_inside_its_wake_up() -> None:
    async with pair() as (client, peer):

        async def read() -> None:
            await client.read_message()
            await client.close(4000)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        peer.write(frame(TEXT, b"one") + frame(TEXT, b"passed over"))
        assert await peer.read_close() == (4000, "")
        peer.send_close(4000)
        await reading


FACTORIES: list[object] = [None]
if sys.version_info >= (3, 12):

    def eager_tasks(loop: Any, coroutine: Any, *, eager_start: bool = True, **options: Any) -> Any:
        """Start a task eagerly. uvloop passes `eager_start`, which the factory of Python 3.12 and 3.13.0 refuses."""
        return asyncio.eager_task_factory(loop, coroutine, **options)

    FACTORIES.append(eager_tasks)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("factory", FACTORIES)
async def test_inbox_serves_any_kind_of_task(factory: None, debug: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    loop.set_task_factory(factory)
    async with pair() as (client, peer):

        async def echo() -> None:
            async for message in client:
                await client.send(message)

        echoing = asyncio.create_task(echo())
        for number in range(3):
            peer.send(TEXT, b"%d" % number)
            assert await peer.read_frame() == (0x81, b"%d" % number)
        peer.send_close()
        await echoing


@pytest.mark.parametrize("factory", FACTORIES)
async def test_inbox_serves_reads_that_are_tasks_themselves(factory: None) -> None:
    asyncio.get_running_loop().set_task_factory(factory)
    async with pair() as (client, peer):
        for ready in (True, False):
            if ready:
                peer.send(TEXT, b"message")
                await peer.settle()
            reading = asyncio.create_task(client.read_message())
            await asyncio.sleep(0)
            if not ready:
                peer.send(TEXT, b"message")
            assert await reading == "message"


async def test_waiting_read_can_be_shown() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.read_message(), name="the reader")
        await asyncio.sleep(0)
        assert "the reader" in repr(reading)
        assert reading.get_stack() == []
        peer.send_close()
        with pytest.raises(Exception, match=r"^closed by the peer with 1000$"):
            await reading
