"""`DataFrameWriter`: sends one frame of declared length in parts, and never lets a truncated one look complete."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from helpers.fixtures import outcome_of
from helpers.frames import client_frame as frame
from helpers.peers import Peer, outlast_keepalive, pair
from helpers.waiting import until
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConnectionClosed,
    ConnectionClosedError,
    DataFrame,
    Limits,
    Opcode,
    Side,
    State,
    Timeouts,
    WriteError,
)

TEXT, BINARY = Opcode.TEXT, Opcode.BINARY


async def broken(client: Client, peer: Peer, rest: bytes) -> CloseOutcome:
    """Check that the peer reads `rest` and then the end of the connection. A Close frame would look like payload."""
    assert await peer.reader.read() == rest
    await peer.close()
    await client.wait_closed()
    outcome = outcome_of(client)
    assert (outcome.sent, outcome.withheld, outcome.code) == (None, Close(1011), 1011)
    assert (outcome.cause, outcome.initiator) == (Cause.LOCAL_CANCEL, Side.LOCAL)
    return outcome


# What is sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parts", "expected"),
    [
        (BINARY, [b"whole"], (0x82, b"whole")),
        (BINARY, [b"a", bytearray(b"b"), memoryview(b"cd"), "ef"], (0x82, b"abcdef")),
        (BINARY, [memoryview(b"s-t-e-p-")[::2], memoryview(b"abcdefgh").cast("I")], (0x82, b"stepabcdefgh")),
        (BINARY, [b"", b"a", b"", b"b", b""], (0x82, b"ab")),
        (BINARY, [], (0x82, b"")),
        (BINARY, [b"", b""], (0x82, b"")),
        (TEXT, [], (0x81, b"")),
        (TEXT, ["grü", "ße"], (0x81, "grüße".encode())),
        (TEXT, [b"gr\xc3", b"\xbc"], (0x81, "grü".encode())),
    ],
)
async def test_data_frame_is_sent_as_one_frame(
    kind: Opcode, parts: list[str | bytes], expected: tuple[int, bytes]
) -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(len(expected[1]), kind) as stream:
            assert stream.length == stream.remaining == len(expected[1])
            for part in parts:
                await stream.write(part)
            assert stream.remaining == 0
        await client.send("next")
        assert await peer.read_frames(2) == [expected, (0x81, b"next")]


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("part", [1, 7000, 70_000, 400_000])
async def test_data_frame_of_size_is_sent_in_parts_of_size(size: int, part: int) -> None:
    payload = bytes(n * 7 & 0xFF for n in range(size))
    part = max(part, size // 1000)

    async with pair() as (client, peer):

        async def write() -> None:
            async with client.writer.data_frame(size) as stream:
                for start in range(0, size, part):
                    await stream.write(payload[start : start + part])

        writing = asyncio.create_task(write())
        assert await peer.read_frame() == (0x82, payload)
        await writing


async def test_data_frame_is_sent_before_it_is_complete() -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(6) as stream:
            await stream.write(b"abc")
            assert stream.remaining == 3
            assert await peer.reader.readexactly(5) == b"\x82\x06abc"
            await stream.write(b"de")
            assert await peer.reader.readexactly(2) == b"de"
            await stream.write(b"f")
        assert await peer.reader.readexactly(1) == b"f"


async def test_data_frame_part_may_be_changed_after_write() -> None:
    async with pair() as (client, peer):
        buffer = bytearray(b"a" * 100_000)

        async def write() -> None:
            async with client.writer.data_frame(2 * len(buffer)) as stream:
                await stream.write(buffer)
                buffer[:] = b"b" * len(buffer)
                await stream.write(memoryview(buffer))
                buffer[:] = b"c" * len(buffer)

        writing = asyncio.create_task(write())
        assert await peer.read_frame() == (0x82, b"a" * 100_000 + b"b" * 100_000)
        await writing


async def test_data_frame_waits_while_peer_does_not_read() -> None:
    limits = Limits(write_high=20_000, write_low=5_000)
    written = 0
    async with pair(limits, small_buffers=True) as (client, peer):

        async def write() -> None:
            nonlocal written
            async with client.writer.data_frame(4_000_000) as stream:
                while stream.remaining:
                    await stream.write(bytes(10_000))
                    written += 10_000

        writing = asyncio.create_task(write())
        await until(lambda: client.writer._outbox.paused)
        before = written
        for _ in range(20):
            await asyncio.sleep(0)
        assert written == before < 1_000_000
        assert await peer.read_frame() == (0x82, bytes(4_000_000))
        await writing


async def test_data_frame_raises_when_connection_is_lost_before_its_last_part_was_written() -> None:
    async with pair(small_buffers=True) as (client, _):

        async def write() -> None:
            async with client.writer.data_frame(4_000_000) as stream:
                await stream.write(bytes(4_000_000))

        writing = asyncio.create_task(write())
        await until(lambda: client.writer._outbox.paused)
        client._connection.abort()
        with pytest.raises(ConnectionClosedError):
            await writing


# Mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [-1, 1 << 63])
async def test_data_frame_refuses_length(length: int) -> None:
    async with pair() as (client, _):
        with pytest.raises(ValueError, match="2\\*\\*63"):
            client.writer.data_frame(length)


async def test_data_frame_refuses_length_that_is_not_an_int() -> None:
    async with pair() as (client, _):
        with pytest.raises(TypeError, match="float"):
            client.writer.data_frame(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Opcode.CONTINUATION, Opcode.PING])
async def test_data_frame_refuses_kind(kind: Opcode) -> None:
    async with pair() as (client, _):
        with pytest.raises(ValueError, match=kind.name):
            client.writer.data_frame(1, kind)


@pytest.mark.parametrize("first", [b"", b"abc"])
async def test_data_frame_refuses_too_much_and_sends_nothing_of_it(first: bytes) -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(5) as stream:
            await stream.write(first)
            with pytest.raises(ValueError, match=f"{5 - len(first)} of the frame's 5 bytes remain"):
                await stream.write(bytes(6 - len(first)))
            assert stream.remaining == 5 - len(first)
            await stream.write(b"12345"[len(first) :])
            with pytest.raises(ValueError, match="0 of the frame's 5 bytes remain"):
                await stream.write(b"6")
        await client.send("next")
        assert await peer.read_frames(2) == [(0x82, first + b"12345"[len(first) :]), (0x81, b"next")]


@pytest.mark.parametrize(
    ("length", "first", "bad", "good"),
    [
        (2, b"", b"\xff", b"ok"),
        (3, "a", b"\xa9", "é"),
        (2, b"\xc3", b"a", b"\xa9"),
        (2, b"", b"a\xc3", "ok"),
        (2, b"\xc3", "a", b"\xa9"),
    ],
)
async def test_data_frame_of_text_refuses_invalid_utf8(
    length: int, first: str | bytes, bad: str | bytes, good: str | bytes
) -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(length, TEXT) as stream:
            await stream.write(first)
            with pytest.raises(WriteError, match=r"UTF-8|inside a character"):
                await stream.write(bad)
            await stream.write(good)
        sent = b"".join(part.encode() if isinstance(part, str) else part for part in (first, good))
        assert await peer.read_frame() == (0x81, sent)


@pytest.mark.parametrize("data", [1, None, ["a"]])
async def test_data_frame_refuses_part_of_other_type(data: object) -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(1) as stream:
            with pytest.raises(TypeError, match=type(data).__name__):
                await stream.write(data)  # type: ignore[arg-type]
            await stream.write(b"a")
        assert await peer.read_frame() == (0x82, b"a")


async def test_data_frame_writer_is_good_for_one_frame() -> None:
    async with pair() as (client, peer):
        stream = client.writer.data_frame(1)
        with pytest.raises(WriteError, match="outside the `async with"):
            await stream.write(b"a")
        async with stream:
            await stream.write(b"a")
        with pytest.raises(WriteError, match="outside the `async with"):
            await stream.write(b"a")
        with pytest.raises(WriteError, match="one frame"):
            async with stream:
                raise AssertionError("entered")
        await client.send("next")
        assert await peer.read_frames(2) == [(0x82, b"a"), (0x81, b"next")]


# Leaving it early -------------------------------------------------------------------------------------------


async def test_data_frame_left_early_breaks_the_connection() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="of 8 bytes was left with 3 bytes unsent"):
            async with client.writer.data_frame(8) as stream:
                await stream.write(b"12345")
        outcome = await broken(client, peer, b"\x82\x0812345")
        assert "with 3 bytes unsent" in outcome.detail
        with pytest.raises(ConnectionClosedError):
            await client.send("next")


async def test_data_frame_left_early_and_unwritten_closes_with_1011() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="of 8 bytes was left with 8 bytes unsent"):
            async with client.writer.data_frame(8):
                pass
        assert await peer.read_close() == (1011, "")
        await peer.close()
        await client.wait_closed()
        assert (outcome_of(client).code, outcome_of(client).withheld) == (1011, None)


async def test_data_frame_left_by_exception_breaks_the_connection() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):  # noqa: PT012
            async with client.writer.data_frame(8) as stream:
                await stream.write(b"12345")
                raise KeyError("mine")
        assert "KeyError" in (await broken(client, peer, b"\x82\x0812345")).detail


async def test_data_frame_left_by_exception_before_first_part_lets_connection_go_on() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):
            async with client.writer.data_frame(8):
                raise KeyError("mine")
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")


async def test_data_frame_left_by_exception_after_its_last_byte_is_sent() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):  # noqa: PT012
            async with client.writer.data_frame(1) as stream:
                await stream.write(b"a")
                raise KeyError("mine")
        await client.send("next")
        assert await peer.read_frames(2) == [(0x82, b"a"), (0x81, b"next")]


async def test_data_frame_cancelled_breaks_the_connection_and_lets_no_other_sender_in() -> None:
    async with pair() as (client, peer):

        async def write() -> None:
            async with client.writer.data_frame(8) as stream:
                await stream.write(b"12345")
                await asyncio.Event().wait()

        writing = asyncio.create_task(write())
        assert await peer.reader.readexactly(7) == b"\x82\x0812345"
        waiting = asyncio.create_task(client.send("678"))
        await asyncio.sleep(0)
        writing.cancel()
        await broken(client, peer, b"")
        for task, error in ((writing, asyncio.CancelledError), (waiting, ConnectionClosedError)):
            with pytest.raises(error):
                await task


async def test_data_frame_cancelled_under_back_pressure_breaks_the_connection() -> None:
    async with pair(Limits(write_high=20_000, write_low=5_000), small_buffers=True) as (client, peer):

        async def write() -> None:
            async with client.writer.data_frame(4_000_000) as stream:
                while True:
                    await stream.write(bytes(100_000))

        writing = asyncio.create_task(write())
        await until(lambda: client.writer._outbox.paused)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert len(await peer.reader.read()) < 1_000_000
        await peer.close()
        await client.wait_closed()
        assert outcome_of(client).code == 1011


# Other senders, and control frames --------------------------------------------------------------------------


async def test_other_senders_wait_for_end_of_data_frame() -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(4) as stream:
            await stream.write(b"ab")
            senders: list[Callable[[], Awaitable[None]]] = [
                lambda: client.send("1"),
                lambda: client.writer.write_frame(DataFrame(TEXT, b"2")),
                lambda: client.writer.feed(["3"]),
            ]
            tasks = [asyncio.ensure_future(sender()) for sender in senders]
            await asyncio.sleep(0)
            await stream.write(b"cd")
            # The last byte passes the turn on, even if the block goes on.
            frames = await peer.read_frames(5)
        assert frames == [(0x82, b"abcd"), (0x81, b"1"), (0x81, b"2"), (0x01, b"3"), (0x80, b"")]
        await asyncio.gather(*tasks)


async def test_control_frames_wait_for_end_of_data_frame() -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(4) as stream:
            await stream.write(b"ab")
            pinging = asyncio.create_task(client.writer.ping(b"p"))
            await client.writer.pong(b"q")
            got = asyncio.create_task(client.read_message())
            for number in range(20):
                peer.send(Opcode.PING, b"%d" % number)
            peer.send(TEXT, b"message")
            assert await got == "message"
            await stream.write(b"cd")
        first, *others = await peer.read_frames(18)
        assert first == (0x82, b"abcd")
        # Of many pings only the last ones are answered (RFC 6455 section 5.5.3). Our own pong is sent between them.
        assert [other for other in others if other[0] == 0x89] == [(0x89, b"p")]
        assert [payload for opcode, payload in others if opcode == 0x8A] == [b"%d" % n for n in range(4, 20)]
        peer.send(Opcode.PONG, b"p")
        await pinging


async def test_keepalive_ping_waits_for_end_of_data_frame() -> None:
    timeouts = Timeouts(open=5, close=5, ping_interval=0.05, ping_timeout=5)
    async with pair(timeouts=timeouts) as (client, peer):
        async with client.writer.data_frame(2) as stream:
            await stream.write(b"a")
            await until(lambda: client._connection.protocol.due)
            await stream.write(b"b")
        assert await peer.read_frame() == (0x82, b"ab")
        assert (await peer.read_frame())[0] == 0x89


BRISK = Timeouts(open=5, close=5, ping_interval=0.05, ping_timeout=0.2)


@pytest.mark.usefixtures("fast_timers")
async def test_keepalive_does_not_count_the_time_of_a_slowly_written_data_frame() -> None:
    async with pair(timeouts=BRISK) as (client, peer):
        async with client.writer.data_frame(2) as stream:
            await stream.write(b"a")
            await outlast_keepalive(BRISK)
            await outlast_keepalive(BRISK)
            await stream.write(b"b")
        assert await peer.read_frame() == (0x82, b"ab")
        first, payload = await peer.read_frame()
        assert first == 0x89
        peer.send(Opcode.PONG, payload)
        await until(lambda: client.latency is not None)
        assert client.outcome is None


async def test_keepalive_does_not_count_the_time_of_a_slowly_read_data_frame() -> None:
    async with pair(Limits(write_high=20_000, write_low=5_000), BRISK, small_buffers=True) as (client, peer):

        async def write() -> None:
            async with client.writer.data_frame(2_000_000) as stream:
                while stream.remaining:
                    await stream.write(bytes(100_000))

        writing = asyncio.create_task(write())
        enough = asyncio.create_task(outlast_keepalive(BRISK))
        assert await peer.reader.readexactly(10)
        received = 0
        while received < 2_000_000:
            received += len(await peer.reader.readexactly(1000))
            if not enough.done():
                await asyncio.sleep(0.001)
        await enough
        await writing
        assert client.outcome is None


async def test_keepalive_closes_when_peer_stops_reading_a_data_frame() -> None:
    async with pair(Limits(write_high=20_000, write_low=5_000), BRISK, small_buffers=True) as (client, _):
        with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
            async with client.writer.data_frame(4_000_000) as stream:
                writing = asyncio.create_task(stream.write(bytes(3_000_000)))
                await until(lambda: client.outcome)
                client._connection.abort()
                await writing
        assert caught.value.outcome.cause is Cause.KEEPALIVE


# Closing meanwhile ------------------------------------------------------------------------------------------


async def test_close_waits_for_end_of_data_frame() -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(4) as stream:
            await stream.write(b"ab")
            closing = asyncio.create_task(client.close(1000, "bye"))
            await until(lambda: client.state is State.CLOSING)
            with pytest.raises(ConnectionClosed):
                await client.send("late")
            await stream.write(b"c")
            await stream.write(b"d")
        assert await peer.read_frame() == (0x82, b"abcd")
        assert await peer.read_close() == (1000, "bye")
        peer.send_close()
        await closing
        assert outcome_of(client).clean


async def test_data_frame_is_completed_after_close_of_peer() -> None:
    async with pair() as (client, peer):
        async with client.writer.data_frame(4) as stream:
            await stream.write(b"ab")
            peer.send_close(1000)
            await until(lambda: client.state is State.CLOSING)
            await stream.write(b"cd")
        assert await peer.read_frame() == (0x82, b"abcd")
        assert await peer.read_close() == (1000, "")
        await peer.read_end()
        await client.wait_closed()
        assert outcome_of(client).clean


@pytest.mark.usefixtures("fast_timers")
async def test_data_frame_that_never_ends_does_not_hold_up_close() -> None:
    async with pair(timeouts=Timeouts(open=5, close=0.1, ping_interval=None)) as (client, peer):
        with pytest.raises(ConnectionClosedError):  # noqa: PT012
            async with client.writer.data_frame(4) as stream:
                await stream.write(b"ab")
                await client.close()
                await stream.write(b"cd")
        assert (await peer.reader.read(4)) == b"\x82\x04ab"
        outcome = outcome_of(client)
        assert (outcome.cause, outcome.withheld) == (Cause.CLOSE_TIMEOUT, Close(1000))


async def test_data_frame_left_early_after_close_breaks_the_connection() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="with 2 bytes unsent"):  # noqa: PT012
            async with client.writer.data_frame(4) as stream:
                await stream.write(b"ab")
                closing = asyncio.create_task(client.close())
                await until(lambda: client.state is State.CLOSING)
        assert await peer.reader.read() == b"\x82\x04ab"
        await peer.close()
        await closing
        assert (outcome_of(client).cause, outcome_of(client).sent) == (Cause.LOCAL_CANCEL, None)


async def test_data_frame_raises_when_peer_vanishes() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
            async with client.writer.data_frame(4) as stream:
                await stream.write(b"ab")
                peer.writer.transport.abort()
                await client.wait_closed()
                await stream.write(b"cd")
        assert caught.value.outcome.cause is Cause.RESET


async def test_data_frame_raises_at_its_end_when_peer_vanished() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosedError):  # noqa: PT012
            async with client.writer.data_frame(4) as stream:
                await stream.write(b"ab")
                peer.writer.transport.abort()
                await client.wait_closed()


async def test_data_frame_raises_when_peer_breaks_a_rule() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
            async with client.writer.data_frame(4) as stream:
                await stream.write(b"ab")
                peer.write(frame(3))
                await until(lambda: client.state is State.CLOSING)
                await stream.write(b"cd")
        assert caught.value.outcome.cause is Cause.PROTOCOL_ERROR
        assert await peer.reader.read() == b"\x82\x04ab"


async def test_data_frame_cannot_be_entered_on_closed_connection() -> None:
    async with pair() as (client, peer):
        peer.send_close()
        await client.wait_closed()
        with pytest.raises(ConnectionClosed):
            async with client.writer.data_frame(1):
                raise AssertionError("entered")


async def test_data_frame_to_a_slow_peer_is_never_completed_by_a_close_frame() -> None:
    limits = Limits(write_high=2_000, write_low=1_000, max_write_backlog=3_000)
    async with pair(limits, small_buffers=True) as (client, peer):
        async with client.writer.data_frame(100_000) as stream:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await stream.write(b"a" * 99_998)
            waiting = asyncio.create_task(stream.write(b"bb"))
            await until(lambda: client.outcome)
        assert outcome_of(client).cause is Cause.LIMIT
        assert await peer.read_frame() == (0x82, b"a" * 99_998 + b"bb")
        assert (await peer.read_close())[0] == 1008
        with pytest.raises(ConnectionClosedError):  # as send does
            await waiting


async def test_data_frame_left_early_sends_the_written_bytes_and_nothing_after() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):  # noqa: PT012
            async with client.writer.data_frame(8) as stream:
                for part in (b"1", b"2", b"3", b"4"):
                    await stream.write(part)
                raise KeyError("mine")
        await broken(client, peer, b"\x82\x081234")
