"""`Client`: reading messages and frames, closing, and attributes."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import close_payload, xor
from helpers.peers import QUIET, Peer, open_peer, pair
from helpers.waiting import until
from streamws import (
    Cause,
    Client,
    CloseOutcome,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    DataFrame,
    IncompleteMessage,
    Limits,
    MessageReader,
    Opcode,
    Side,
    State,
    Timeouts,
    WebSocketServer,
)

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


async def collect(client: Client) -> list[str | bytes]:
    return [message async for message in client]


async def collect_all(iterable: AsyncIterable[object]) -> list[object]:
    return [item async for item in iterable]


# Whole messages ---------------------------------------------------------------------------------------------


async def test_client_iterates_over_messages_in_their_types() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"text")
        peer.send(BINARY, b"binary")
        peer.send(TEXT, "grüße".encode())
        peer.send(TEXT)
        peer.send(BINARY)
        peer.send_close()
        assert await collect(client) == ["text", b"binary", "grüße", "", b""]


async def test_client_iterates_over_messages_of_one_chunk() -> None:
    async with pair() as (client, peer):
        peer.write(b"".join(frame(TEXT, b"%d" % n) for n in range(100)) + frame(Opcode.CLOSE, close_payload(1000)))
        assert await collect(client) == [str(n) for n in range(100)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_client_reads_message_of_size(opcode: Opcode, size: int) -> None:
    payload = bytes(97 + n % 26 for n in range(size))
    async with pair() as (client, peer):
        peer.send(opcode, payload)
        assert await client.read_message() == (payload.decode() if opcode is TEXT else payload)


async def test_client_reads_message_that_came_byte_by_byte() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.read_message())
        for byte in frame(TEXT, "ä€😀".encode()):
            peer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert await reading == "ä€😀"


async def test_client_reads_fragmented_message_as_one() -> None:
    async with pair() as (client, peer):
        first, second = "ä".encode()
        peer.send(TEXT, b"a" + bytes([first]), fin=False)
        peer.send(CONTINUATION, b"", fin=False)
        peer.send(Opcode.PING, b"between")
        peer.send(CONTINUATION, bytes([second]) + b"z")
        assert await client.read_message() == "aäz"
        assert await peer.read_frame() == (0x8A, b"between")


@pytest.mark.parametrize("code", [1000, 1001, None])
async def test_client_iteration_ends_after_clean_close(code: int | None) -> None:
    async with pair() as (client, peer):
        peer.send_close(code)
        assert await collect(client) == []
        assert await collect(client) == []
        assert client.outcome is not None
        assert client.outcome.clean
        assert client.outcome.code == (code or 1005)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1011, 1012, 3000, 4999])
async def test_client_iteration_raises_after_unclean_close(code: int) -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"last")
        peer.send_close(code, "why")
        messages = aiter(client)
        assert await anext(messages) == "last"
        with pytest.raises(ConnectionClosedError) as caught:
            await anext(messages)
        assert (caught.value.outcome.code, caught.value.outcome.reason) == (code, "why")
        assert caught.value.outcome.cause is Cause.PEER_ERROR


async def test_client_iteration_raises_when_peer_drops_connection() -> None:
    async with pair() as (client, peer):
        await peer.close()
        with pytest.raises(ConnectionClosedError) as caught:
            await collect(client)
        assert not isinstance(caught.value, IncompleteMessage)
        assert caught.value.outcome == CloseOutcome(Cause.RESET, Side.REMOTE, None, None)
        assert caught.value.outcome.code == 1006


@pytest.mark.parametrize("code", [1000, 1001])
async def test_client_read_message_raises_after_clean_close(code: int) -> None:
    async with pair() as (client, peer):
        peer.send_close(code)
        with pytest.raises(ConnectionClosed) as caught:
            await client.read_message()
        assert type(caught.value) is ConnectionClosed
        assert caught.value.outcome is not None
        assert caught.value.outcome.code == code


async def test_client_reads_messages_received_before_close() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(Opcode.CLOSE, close_payload(1000)))
        assert await peer.read_close() == (1000, "")
        await client.wait_closed()
        assert await client.read_message() == "one"
        assert await client.read_message() == "two"
        with pytest.raises(ConnectionClosed):
            await client.read_message()


async def test_client_goes_on_in_new_loop_after_break() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
        async for message in client:
            assert message == "one"
            break
        async for message in client:
            assert message == "two"
            break


# Messages that are cut off ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "received", "missing"),
    [
        (frame(TEXT, b"abc", fin=False), 3, None),
        (frame(BINARY, b"abc", fin=False) + frame(CONTINUATION, b"de", fin=False), 5, None),
        (header(BINARY, 10) + xor(b"abcd"), 4, 6),
        (header(TEXT, 70000) + xor(b"abcd"), 4, 69996),
        (header(BINARY, 10), 0, 10),
        (frame(TEXT, b"abc", fin=False) + header(CONTINUATION, 9) + xor(b"d"), 4, 8),
    ],
    ids=["fragment", "fragments", "frame", "large frame", "header", "frame of fragments"],
)
async def test_client_read_raises_incomplete_when_peer_drops_inside_message(
    sent: bytes, received: int, missing: int | None
) -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"whole") + sent)
        await peer.close()
        assert await client.read_message() == "whole"
        with pytest.raises(IncompleteMessage) as caught:
            await client.read_message()
        assert (caught.value.received, caught.value.missing) == (received, missing)
        with pytest.raises(IncompleteMessage):
            await collect(client)


async def test_client_read_raises_incomplete_when_close_comes_inside_fragmented_message() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"abc", fin=False)
        peer.send_close()
        with pytest.raises(IncompleteMessage) as caught:
            await collect(client)
        assert (caught.value.received, caught.value.missing) == (3, None)


async def test_client_reads_one_by_one_count_incomplete_message_only() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"a" * 50) + frame(BINARY, b"abc", fin=False))
        await peer.close()
        assert await client.read_message() == b"a" * 50
        with pytest.raises(IncompleteMessage) as caught:
            await client.read_message()
        assert caught.value.received == 3


# Frames -----------------------------------------------------------------------------------------------------


async def test_client_reads_frames_of_whole_and_fragmented_messages() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, "ä".encode())
        peer.send(TEXT, b"ascii")
        peer.send(BINARY, b"b")
        peer.send(TEXT, b"one", fin=False)
        peer.send(CONTINUATION, b"", fin=False)
        peer.send(CONTINUATION, b"three")
        frames = [await client.read_frame() for _ in range(6)]
        assert frames == [
            DataFrame(TEXT, "ä".encode()),
            DataFrame(TEXT, b"ascii"),
            DataFrame(BINARY, b"b"),
            DataFrame(TEXT, b"one", fin=False),
            DataFrame(CONTINUATION, b"", fin=False),
            DataFrame(CONTINUATION, b"three"),
        ]


async def test_client_iterates_over_frames_until_clean_close() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"one", fin=False)
        peer.send(CONTINUATION, b"two")
        peer.send_close()
        frames = [item async for item in client.frames()]
        assert frames == [DataFrame(TEXT, b"one", fin=False), DataFrame(CONTINUATION, b"two")]


async def test_client_iteration_over_frames_raises_after_unclean_close() -> None:
    async with pair() as (client, peer):
        peer.send_close(1011)
        with pytest.raises(ConnectionClosedError):  # noqa: PT012
            async for _ in client.frames():
                raise AssertionError("there is no frame")


async def test_client_read_frame_raises_incomplete_when_message_is_cut() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"one", fin=False)
        peer.send_close()
        assert await client.read_frame() == DataFrame(TEXT, b"one", fin=False)
        with pytest.raises(IncompleteMessage) as caught:
            await client.read_frame()
        assert (caught.value.received, caught.value.missing) == (3, None)


async def test_client_read_message_after_read_frame_leaves_rest_of_message() -> None:
    async with pair() as (client, peer):
        peer.write(
            frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"left", fin=False) + frame(CONTINUATION, b"left")
        )
        peer.send(TEXT, b"next")
        assert await client.read_frame() == DataFrame(TEXT, b"one", fin=False)
        assert await client.read_message() == "next"


async def test_client_read_message_after_last_frame_reads_next_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"two") + frame(TEXT, b"next"))
        assert (await client.read_frame()).payload == b"one"
        assert (await client.read_frame()).payload == b"two"
        assert await client.read_message() == "next"


async def test_client_read_frame_after_read_message_reads_next_frame() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one") + frame(BINARY, b"two", fin=False))
        assert await client.read_message() == "one"
        assert await client.read_frame() == DataFrame(BINARY, b"two", fin=False)


async def test_client_messages_after_read_frame_leaves_rest_of_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"left") + frame(BINARY, b"next"))
        assert (await client.read_frame()).payload == b"one"
        async for reader in client.messages():
            assert await reader.get() == b"next"
            break


async def test_client_read_frame_after_messages_leaves_rest_of_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"left") + frame(BINARY, b"next"))
        async for reader in client.messages():
            assert await reader.read() is not None
            break
        assert await client.read_frame() == DataFrame(BINARY, b"next")


@pytest.mark.parametrize("way", ["messages", "text", "frames"])
async def test_client_iterator_goes_on_after_it_was_cancelled(way: str) -> None:
    async with pair() as (client, peer):
        iterator: AsyncIterator[object] = getattr(client, way)()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.01)
        cancelled = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        cancelled.cancel()
        peer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
        for expected in ("one", "two"):
            item = await anext(iterator)
            if isinstance(item, MessageReader):
                item = await item.get()
            assert item == (DataFrame(TEXT, expected.encode()) if way == "frames" else expected)
        peer.send_close()
        assert await anext(iterator, "the end") == "the end"


@pytest.mark.parametrize("way", ["messages", "text", "binary", "frames"])
async def test_client_iterator_refuses_second_reader_only(way: str) -> None:
    async with pair() as (client, peer):
        first = asyncio.create_task(client.read_message(), name="the reader")
        await asyncio.sleep(0)
        with pytest.raises(ConcurrencyError, match=r"the reader waits in read_message\(\)"):
            await anext(getattr(client, way)())
        peer.send(TEXT, b"message")
        assert await first == "message"


# One kind of message ----------------------------------------------------------------------------------------


async def test_client_text_gives_text() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"one")
        peer.send(TEXT, "zwölf".encode())
        peer.send_close()
        assert [message async for message in client.text()] == ["one", "zwölf"]


async def test_client_binary_gives_bytes() -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"one")
        peer.send(BINARY, b"\xff")
        peer.send_close()
        assert [message async for message in client.binary()] == [b"one", b"\xff"]


@pytest.mark.parametrize("wanted", [TEXT, BINARY])
async def test_client_closes_with_1003_when_other_kind_of_message_comes(wanted: Opcode) -> None:
    other = BINARY if wanted is TEXT else TEXT
    async with pair() as (client, peer):
        peer.write(frame(wanted, b"fine") + frame(other, b"not fine"))
        got: list[str | bytes] = []
        with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
            if wanted is TEXT:
                async for text in client.text():
                    got.append(text)
            else:
                async for data in client.binary():
                    got.append(data)
        assert got == ["fine" if wanted is TEXT else b"fine"]
        assert caught.value.outcome.code == 1003
        code, reason = await peer.read_close()
        assert code == 1003
        assert other.name.lower() in reason


# Sending ----------------------------------------------------------------------------------------------------


async def test_client_send_is_writer_send() -> None:
    async with pair() as (client, peer):
        await client.send("text")
        await client.writer.send(b"binary")
        assert await peer.read_frames(2) == [(0x81, b"text"), (0x82, b"binary")]


async def test_client_echoes() -> None:
    async with pair() as (client, peer):

        async def echo() -> None:
            async for message in client:
                await client.send(message)

        echoing = asyncio.create_task(echo())
        for size in (0, 1, 125, 126, 65535, 65536, 300_000):
            peer.send(BINARY, b"x" * size)
            assert await peer.read_frame() == (0x82, b"x" * size)
        peer.send_close()
        await echoing


# Closing ----------------------------------------------------------------------------------------------------


async def test_client_close_returns_after_end_of_tcp() -> None:
    async with pair() as (client, peer):
        closing = asyncio.create_task(client.close(4000, "done"))
        assert await peer.read_close() == (4000, "done")
        assert client.state.name == "CLOSING"
        assert not closing.done()
        peer.send_close(4000)
        await closing
        assert client.state is State.CLOSED
        await peer.read_end()


@pytest.mark.usefixtures("fast_timers")
async def test_client_close_is_bounded_when_peer_ignores_it() -> None:
    async with pair(timeouts=Timeouts(close=0.2)) as (client, peer):
        await client.close()
        assert client.state is State.CLOSED
        assert client.outcome is not None
        assert client.outcome.cause is Cause.CLOSE_TIMEOUT
        assert client.outcome.initiator is Side.LOCAL
        assert not client.outcome.clean
        assert await peer.read_close() == (1000, "")


@pytest.mark.usefixtures("fast_timers")
async def test_client_read_is_bounded_when_peer_half_closes_and_does_not_read() -> None:
    async with pair(timeouts=Timeouts(close=0.2, ping_interval=None), small_buffers=True) as (client, peer):
        reading = asyncio.create_task(client.read_message())
        sending = asyncio.create_task(client.send(b"x" * 10_000_000))
        await asyncio.sleep(0)
        peer.half_close()
        for task in (reading, sending):
            with pytest.raises(ConnectionClosedError) as caught:
                await task
            assert caught.value.outcome.cause is Cause.RESET
            assert caught.value.outcome.initiator is Side.REMOTE


async def test_client_close_called_twice_sends_the_first_code() -> None:
    async with pair() as (client, peer):
        closing = [asyncio.create_task(client.close(4001)), asyncio.create_task(client.close(4002))]
        assert await peer.read_close() == (4001, "")
        peer.send_close(4001)
        await asyncio.gather(*closing)
        await client.close(4003)
        await peer.read_end()
        assert client.outcome is not None
        assert client.outcome.code == 4001


async def test_client_and_peer_close_at_once() -> None:
    async with pair() as (client, peer):
        peer.send_close(1001)
        await peer.writer.drain()
        await client.close(4000)
        assert client.outcome is not None
        assert client.outcome.received is not None
        assert client.outcome.received.code == 1001
        assert client.outcome.sent is not None
        assert client.outcome.sent.code == 4000
        assert client.outcome.initiator is Side.LOCAL
        assert await peer.read_close() == (4000, "")
        await peer.read_end()


async def test_client_close_after_peer_closed_does_nothing() -> None:
    async with pair() as (client, peer):
        peer.send_close(1001)
        await client.wait_closed()
        await client.close(4000)
        assert client.outcome is not None
        assert client.outcome.code == 1001
        assert client.outcome.initiator is Side.REMOTE


async def test_client_close_after_connection_was_lost_does_nothing() -> None:
    async with pair() as (client, peer):
        await peer.close()
        await client.wait_closed()
        await client.close()
        assert client.outcome == CloseOutcome(Cause.RESET, Side.REMOTE, None, None)


async def test_client_close_checks_arguments_after_connection_was_lost_too() -> None:
    async with pair() as (client, peer):
        await peer.close()
        await client.wait_closed()
        with pytest.raises(ValueError, match="999"):
            await client.close(999)


@pytest.mark.parametrize("messages", [1, 100])
async def test_client_close_ends_with_unread_data(messages: int) -> None:
    limits = Limits(read_high=1024, read_low=1024)
    async with pair(limits, Timeouts(close=2)) as (client, peer):
        peer.write(frame(BINARY, b"x" * 60_000) * messages)
        closing = asyncio.create_task(client.close())
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing
        assert client.outcome is not None
        assert client.outcome.clean


async def test_client_close_ends_while_network_is_paused() -> None:
    limits = Limits(read_high=1024, read_low=1024)
    async with pair(limits, Timeouts(close=2)) as (client, peer):
        peer.write(frame(BINARY, b"x" * 1000) * 10_000)
        await until(lambda: client._connection.inbox.paused)
        closing = asyncio.create_task(client.close())
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing
        assert client.outcome is not None
        assert client.outcome.clean


@pytest.mark.usefixtures("fast_timers")
async def test_client_close_drops_connection_when_outgoing_buffer_stays_full() -> None:
    async with pair(timeouts=Timeouts(close=0.2), small_buffers=True) as (client, _):
        sending = asyncio.create_task(client.send(b"x" * (8 << 20)))
        await asyncio.sleep(0)
        assert not sending.done()
        await client.close()
        assert client.state is State.CLOSED
        with pytest.raises(ConnectionClosed):
            await sending


async def test_client_close_waits_for_full_outgoing_buffer_that_is_read() -> None:
    async with pair(small_buffers=True) as (client, peer):
        sending = asyncio.create_task(client.send(b"x" * (4 << 20)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        first, payload = await peer.read_frame()
        assert (first, len(payload)) == (0x82, 4 << 20)
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing
        with pytest.raises(ConnectionClosed):
            await sending
        assert client.outcome is not None
        assert client.outcome.clean


async def test_client_cancelled_close_goes_on_closing() -> None:
    async with pair() as (client, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.close(4000), 0.05)
        assert await peer.read_close() == (4000, "")
        peer.send_close(4000)
        await client.wait_closed()


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 65536])
async def test_client_close_refuses_code_that_must_not_be_sent(code: int) -> None:
    async with pair() as (client, peer):
        with pytest.raises(ValueError, match=str(code)):
            await client.close(code)
        assert client.state is State.OPEN
        await peer.settle()


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
async def test_client_close_sends_code(code: int) -> None:
    async with pair() as (client, peer):
        closing = asyncio.create_task(client.close(code))
        assert await peer.read_close() == (code, "")
        peer.send_close(code)
        await closing
        assert client.outcome is not None
        assert client.outcome.clean == (code <= 1001)
        assert client.outcome.cause is (Cause.CLEAN if code <= 1001 else Cause.CLOSED_WITH_ERROR)


@pytest.mark.parametrize("reason", ["x" * 124, "ä" * 62])
async def test_client_close_refuses_reason_that_is_too_long(reason: str) -> None:
    async with pair() as (client, peer):
        with pytest.raises(ValueError, match="124"):
            await client.close(1000, reason)
        await peer.settle()


@pytest.mark.parametrize("reason", [b"bye", bytearray(80), memoryview(bytes(80)), 80, None])
async def test_client_close_refuses_reason_that_is_not_text(reason: Any) -> None:
    async with pair() as (client, peer):
        with pytest.raises(TypeError, match=f"close reason must be str, not {type(reason).__name__}"):
            await client.close(1000, reason)
        assert client.state is State.OPEN
        await peer.settle()


async def test_client_close_sends_longest_reason() -> None:
    async with pair() as (client, peer):
        closing = asyncio.create_task(client.close(1000, "x" * 123))
        assert await peer.read_close() == (1000, "x" * 123)
        peer.send_close()
        await closing


async def test_client_reads_messages_received_before_its_own_close() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"had come")
        await peer.settle()
        closing = asyncio.create_task(client.close())
        await peer.read_close()
        peer.send(TEXT, b"too late")
        peer.send_close()
        await closing
        assert await collect(client) == ["had come"]


@pytest.mark.parametrize("size", [10, 1001], ids=["small", "over the limit"])
@pytest.mark.parametrize("how", ["__aiter__", "messages", "frames"])
async def test_client_iteration_skips_frame_received_after_own_close(how: str, size: int) -> None:
    async with pair(Limits(max_message_size=1000)) as (client, peer):
        reading = asyncio.create_task(collect_all(getattr(client, how)()))
        closing = asyncio.create_task(client.close())
        await peer.read_close()
        peer.write(frame(BINARY, b"x" * size)[:-1])
        await until(lambda: client._connection.protocol.parser.frame.missing == 1)
        peer.write(frame(BINARY, b"x" * size)[-1:])
        peer.send_close()
        await closing
        assert await reading == []
        assert client.outcome is not None
        assert client.outcome.cause is Cause.CLEAN


async def test_client_iteration_ends_when_other_task_closes() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(collect(client))
        closing = asyncio.create_task(client.close())
        await peer.read_close()
        peer.send_close()
        await closing
        assert await reading == []


async def test_client_iteration_raises_when_other_task_closes_with_error() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(collect(client))
        closing = asyncio.create_task(client.close(1011, "broken"))
        await peer.read_close()
        peer.send_close(1011)
        await closing
        with pytest.raises(ConnectionClosedError) as caught:
            await reading
        assert caught.value.outcome.cause is Cause.CLOSED_WITH_ERROR
        assert caught.value.outcome.initiator is Side.LOCAL


async def test_client_wait_closed_serves_many_tasks() -> None:
    async with pair() as (client, peer):
        waiting = [asyncio.create_task(client.wait_closed()) for _ in range(3)]
        cancelled = asyncio.create_task(client.wait_closed())
        await asyncio.sleep(0)
        cancelled.cancel()
        peer.send_close()
        await asyncio.gather(*waiting)
        await client.wait_closed()
        assert cancelled.cancelled()


# What is known of the connection ----------------------------------------------------------------------------


async def test_client_outcome_is_none_while_open() -> None:
    async with pair() as (client, _):
        assert client.outcome is None
        assert client.state is State.OPEN


async def test_client_outcome_tells_of_broken_rule() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"before") + b"\x83\x80" + bytes(4))
        assert await client.read_message() == "before"
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert client.outcome is not None
        assert client.outcome.cause is Cause.PROTOCOL_ERROR
        assert client.outcome.initiator is Side.REMOTE
        assert client.outcome.sent is not None
        assert client.outcome.sent.code == 1002
        assert "0x3" in client.outcome.detail
        assert (await peer.read_close())[0] == 1002


async def test_client_latency_is_last_round_trip() -> None:
    async with pair() as (client, peer):
        assert client.latency is None
        pinging = asyncio.create_task(client.writer.ping(b"p"))
        assert await peer.read_frame() == (0x89, b"p")
        peer.send(Opcode.PONG, b"p")
        assert await pinging == client.latency
        assert client.latency is not None


async def test_client_knows_its_peer() -> None:
    async with pair() as (client, peer):
        assert (client.addr, client.port) == peer.writer.get_extra_info("sockname")
        assert client.request.target == "/"
        assert client.response.status == 101
        assert client.subprotocol is None
        assert repr(client) == f"<Client {client.id} of {client.addr}:{client.port}, open>"
        await peer.close()
        await client.wait_closed()
        assert repr(client).endswith(", closed>")
        assert (client.addr, client.port) != ("", 0)


async def test_clients_have_different_ids() -> None:
    ids: list[int] = []

    async def note(client: Client) -> None:
        ids.append(client.id)
        await client.wait_closed()

    async with asyncio.timeout(5), WebSocketServer("127.0.0.1", 0, handler=note, timeouts=QUIET) as server:
        port = server.sockets[0].getsockname()[1]
        peers: list[Peer] = [await open_peer(port) for _ in range(3)]
        for peer in peers:
            await peer.settle()
            await peer.close()
    assert len(set(ids)) == 3
