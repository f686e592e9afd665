"""Known faults of other WebSocket libraries: each test fails for a library that has the fault."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import xor
from helpers.inside import unread, until_paused
from helpers.peers import Peer, outlast_keepalive, pair
from helpers.waiting import until
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConnectionClosedError,
    DataFrame,
    Limits,
    Opcode,
    Side,
    Timeouts,
)
from streamws.net.loops import LARGE_BUFFER_SIZE

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION
MiB = 1 << 20
MARKS = Limits(read_high=10_000, read_low=2_000)
BRISK = Timeouts(close=5, ping_interval=0.05, ping_timeout=0.2)


async def much_time() -> None:
    """Longer than a keepalive takes to give up who is silent: one such client is given up meanwhile."""
    async with pair(timeouts=BRISK) as (silent, _):
        await until(lambda: silent.outcome)
        assert silent.outcome is not None
        assert silent.outcome.cause is Cause.KEEPALIVE


# A frame is delivered only when it is complete ---------------------------------------------------------------


async def test_reader_returns_half_of_a_large_frame_before_the_other_half() -> None:
    payload = bytes(range(256)) * (MiB // 256)
    wire = header(BINARY, MiB) + xor(payload)
    half = len(wire) - MiB // 2
    async with pair() as (client, peer):
        peer.write(wire[:half])
        reader = await anext(client.messages())
        assert await reader.readexactly(MiB // 2) == payload[: MiB // 2]
        assert not reader.at_eof()
        peer.write(wire[half:])
        assert await reader.read() == payload[MiB // 2 :]
        assert reader.at_eof()


# Leaving the loop over a message breaks the reads after it ---------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
async def test_reader_left_by_break_does_not_disturb_the_next_messages(complete: bool) -> None:
    rest = frame(CONTINUATION, b"left") + frame(TEXT, b"two") + frame(BINARY, b"three") + frame(TEXT, b"four")
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"left", fin=False) + (rest if complete else b""))
        async for reader in client.messages():
            async for _ in reader:
                break
            break
        if not complete:
            peer.write(rest)
        assert await client.read_message() == "two"
        assert await client.read_frame() == DataFrame(BINARY, b"three")
        async for message in client:
            assert message == "four"
            break
        await peer.settle()


# A cancelled fragmented send leaves a connection that is open and unusable -----------------------------------


async def fragments(client: Client) -> None:
    async with client.writer.fragment() as stream:
        await stream.send("part")
        await asyncio.Event().wait()


async def fed(client: Client) -> None:
    async def source() -> AsyncIterator[str]:
        yield "part"
        await asyncio.Event().wait()

    await client.writer.feed(source())


@pytest.mark.parametrize("send", [fragments, fed])
async def test_cancelled_fragmented_send_closes_and_fails_waiting_senders_at_once(
    send: Callable[[Client], Coroutine[object, None, None]],
) -> None:
    async with pair() as (client, peer):
        sending = asyncio.create_task(send(client))
        assert await peer.read_frame() == (0x01, b"part")
        waiting = asyncio.create_task(client.send("waiting"))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(ConnectionClosedError) as caught:
            await waiting
        assert (caught.value.outcome.code, caught.value.outcome.cause) == (1011, Cause.LOCAL_CANCEL)
        with pytest.raises(ConnectionClosedError):
            await client.send("later")
        assert await peer.read_close() == (1011, "")
        await peer.read_end()
        assert sending.cancelled()


# The keepalive closes healthy connections --------------------------------------------------------------------


async def test_keepalive_keeps_a_healthy_peer_of_a_slow_reader() -> None:
    """Pongs wait behind data that is not read for a long time."""
    async with pair(MARKS, BRISK) as (client, peer):
        peer.write(frame(BINARY, bytes(1000)) * 50)
        await until_paused(client)

        async def answer() -> None:
            while True:
                first, payload = await peer.read_frame()
                if first == 0x89:
                    peer.send(Opcode.PONG, payload)

        answering = asyncio.create_task(answer())
        await outlast_keepalive(BRISK)
        await outlast_keepalive(BRISK)
        assert client.outcome is None
        for _ in range(50):
            assert await client.read_message() == bytes(1000)
        await outlast_keepalive(BRISK)
        assert client.outcome is None
        answering.cancel()
        await asyncio.wait([answering])


async def test_keepalive_keeps_a_healthy_peer_on_a_slow_line() -> None:
    """The ping waits behind a large message, which the peer reads slowly."""
    async with pair(timeouts=BRISK, small_buffers=True) as (client, peer):
        sending = asyncio.create_task(client.send(bytes(2 * MiB)))
        enough = asyncio.create_task(outlast_keepalive(BRISK))
        missing = 10 + 2 * MiB
        while missing:
            missing -= len(await peer.reader.readexactly(min(missing, 1000)))
            if not enough.done():
                await asyncio.sleep(0.001)
                assert missing > MiB
        await enough
        await sending
        first, payload = await peer.read_frame()
        assert first == 0x89
        peer.send(Opcode.PONG, payload)
        await until(lambda: client.latency is not None)
        assert client.outcome is None


# Closing with unread messages takes the whole close timeout --------------------------------------------------


async def test_close_ends_with_much_unread_data_when_peer_answers() -> None:
    """It does not wait for the timeout, which is off here."""
    async with pair(MARKS, Timeouts(close=None, ping_interval=None)) as (client, peer):
        peer.write(frame(BINARY, bytes(1000)) * 2000)
        await until_paused(client)
        closing = asyncio.create_task(client.close())
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing
        assert client.outcome == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000), Close(1000))


# A message is held whole before it can be read ---------------------------------------------------------------

PATTERN = bytes(range(251)) * 1044  # its length is a multiple of 4, as that of a masking key
MASKED = xor(PATTERN)


async def send_patterns(peer: Peer, count: int, fragmented: bool) -> None:
    if not fragmented:
        peer.write(header(BINARY, count * len(PATTERN)))
    for place in range(count):
        if fragmented:
            opcode = CONTINUATION if place else BINARY
            peer.write(header(opcode, len(PATTERN), fin=place == count - 1))
        peer.write(MASKED)
        await peer.writer.drain()


@pytest.mark.parametrize("fragmented", [True, False])
async def test_reader_streams_a_message_of_64_mib_in_constant_memory(fragmented: bool) -> None:
    count = 64 * MiB // len(PATTERN) + 1
    limits = Limits()
    expected = PATTERN * 2
    async with pair(limits, seconds=30) as (client, peer):
        tracemalloc.start()
        try:
            sending = asyncio.create_task(send_patterns(peer, count, fragmented))
            reader = await anext(client.messages())
            buffer = bytearray(128 * 1024)
            total = most = 0
            while size := await reader.readinto(buffer):
                start = total % len(PATTERN)
                assert buffer[:size] == expected[start : start + size]
                total += size
                most = max(most, unread(client))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await sending
        assert total == count * len(PATTERN) > 64 * MiB
        assert most <= limits.read_high + LARGE_BUFFER_SIZE
        # The receive buffer, the unread bytes, the copy that the reader returns, and a few pieces in this test.
        assert peak < 8 * MiB
        await peer.settle()
