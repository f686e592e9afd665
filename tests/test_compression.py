"""Compression over real sockets: limits, broken rules, and contexts that stay in step whatever happens."""

import asyncio
import json
import random
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import cache
from sys import maxsize
from typing import Any

import attrs
import pytest

import streamws.wire.deflate
from helpers.compressing import TAKING_OVER, WIDE, CompressingPeer, CountingCodec, Packer, counted, talk
from helpers.frames import request
from helpers.peers import Peer, pair, scripted
from helpers.waiting import iterations, until
from streamws import (
    Cause,
    Client,
    Compression,
    ConnectionClosedError,
    DataFrame,
    DeflateTerms,
    IncompleteMessage,
    Limits,
    MessageReader,
    Opcode,
    Side,
    Timeouts,
    connect,
)

pytestmark = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
both_ways = pytest.mark.parametrize("compression", [WIDE, TAKING_OVER], ids=["alone", "takeover"])

KiB = 1024
MiB = 1024 * KiB
PIECE = streamws.wire.deflate.PIECE
TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def refusal(client: Client) -> tuple[int, str, str]:
    """Return code, cause and initiator of a connection that has ended."""
    outcome = client.outcome
    assert outcome is not None
    return outcome.code, outcome.cause, outcome.initiator


# Where one message ends --------------------------------------------------------------------------------


async def test_readinto_reads_nothing_of_the_next_message(server: bool) -> None:
    async with talk(server) as (client, wire):
        stream = wire.packed(bytes(200_000))
        following = wire.plain(b"N" * 50_000)

        async def read() -> list[tuple[int, int]]:
            seen = []
            async for reader in client.messages():
                buffer, size, strange = bytearray(30_000), 0, 0
                while count := await reader.readinto(buffer):
                    size += count
                    strange += buffer[:count].count(b"N")
                seen.append((size, strange))
                if len(seen) == 2:
                    break
            return seen

        reading = asyncio.create_task(read())
        wire.write(stream[:15])
        await iterations(8)
        # The chunk with the end of the first message has a part of the second one, which stays in the receive buffer.
        wire.write(stream[15:] + following[:20_000])
        await until(lambda: client._connection.protocol.parser.frame.active)
        await iterations(8)
        wire.write(following[20_000:])
        assert await reading == [(200_000, 0), (50_000, 50_000)]


async def test_stream_limit_counts_nothing_of_the_next_message(server: bool) -> None:
    async with talk(server, limits=Limits(max_stream_size=200_000)) as (client, wire):
        wire.write(wire.packed(bytes(150_000)) + wire.plain(b"N" * 100_000)[:20_000])
        reader = await anext(client.messages())
        assert await reader.read() == bytes(150_000)
        assert client.outcome is None


# Bombs -----------------------------------------------------------------------------------------------------------

LIMIT = 64 * KiB
BOMBED = Limits(max_message_size=LIMIT, max_stream_size=LIMIT)


@cache
def bomb(size: int) -> bytes:
    """Return compressed data that inflates to `size` MiB of zeros, without an end."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(MiB)
    return b"".join(stream.compress(zeros) for _ in range(size)) + stream.flush(zlib.Z_SYNC_FLUSH)


async def whole(wire: CompressingPeer) -> None:
    wire.write(wire.frame(0xC2, bomb(16)[:-4]))


async def fragments(wire: CompressingPeer) -> None:
    payload = bomb(16)[:-4]
    size = len(payload) // 7
    for place in range(0, len(payload), size):
        first = 0x42 if place == 0 else 0x00
        wire.write(wire.frame(first, payload[place : place + size], fin=place + size >= len(payload)))


async def flood(wire: CompressingPeer) -> None:
    """Send endless small fragments."""
    wire.write(wire.frame(0x42, bomb(1)[:1], fin=False))
    payload = bomb(16)[1:]
    for place in range(0, len(payload), 3):
        wire.write(wire.frame(0x00, payload[place : place + 3], fin=False))


async def single_bytes(wire: CompressingPeer) -> None:
    for byte in wire.frame(0xC2, bomb(1)[:-4]):
        wire.write(bytes([byte]))
        await asyncio.sleep(0)


async def begun(wire: CompressingPeer) -> None:
    """Send the beginning of a frame."""
    stream = wire.frame(0xC2, bomb(16)[:-4])
    wire.write(stream[: len(stream) // 2])


Bombing = Callable[[CompressingPeer], Coroutine[object, None, None]]


async def by_messages(client: Client) -> None:
    async for _ in client:
        raise AssertionError("it was taken")


async def by_message(client: Client) -> None:
    await client.read_message()


async def by_frames(client: Client) -> None:
    while True:
        assert len((await client.read_frame()).payload) <= LIMIT


async def by_get(client: Client) -> None:
    await (await anext(client.messages())).get()


async def by_read(client: Client) -> None:
    await (await anext(client.messages())).read()


async def by_chunks(client: Client) -> None:
    async for chunk in await anext(client.messages()):
        assert len(chunk) <= LIMIT


async def by_readexactly(client: Client) -> None:
    await (await anext(client.messages())).readexactly(MiB)


async def by_readinto(client: Client) -> None:
    reader = await anext(client.messages())
    buffer = bytearray(1000)
    while await reader.readinto(buffer):
        pass


async def by_readuntil(client: Client) -> None:
    await (await anext(client.messages())).readuntil(b"end")


async def by_readline(client: Client) -> None:
    await (await anext(client.messages())).readline()


WAYS = [
    by_messages,
    by_message,
    by_frames,
    by_get,
    by_read,
    by_chunks,
    by_readexactly,
    by_readinto,
    by_readuntil,
    by_readline,
]
STREAMING = WAYS[4:]
ways = pytest.mark.parametrize("reading", WAYS)
Reading = Callable[[Client], Coroutine[object, None, None]]


@pytest.mark.parametrize(
    ("bombing", "reading"),
    [
        *[(bombing, reading) for bombing in (whole, fragments, single_bytes) for reading in WAYS],
        *[(bombing, reading) for bombing in (begun, flood) for reading in STREAMING],
    ],
)
async def test_bomb_is_refused(server: bool, bombing: Bombing, reading: Reading) -> None:
    async with talk(server, limits=BOMBED) as (client, wire):
        sending = asyncio.create_task(bombing(wire))
        with pytest.raises(ConnectionClosedError):
            await reading(client)
        assert refusal(client) == (1009, Cause.LIMIT, Side.REMOTE)
        assert (await wire.read_close())[0] == 1009
        await sending


@pytest.mark.parametrize("reading", [by_messages, by_message, by_get])
async def test_flood_of_bomb_without_end_is_refused(server: bool, reading: Reading) -> None:
    async with talk(server, limits=BOMBED) as (client, wire):
        task = asyncio.ensure_future(reading(client))
        await flood(wire)
        with pytest.raises(ConnectionClosedError):
            await task
        assert refusal(client) == (1009, Cause.LIMIT, Side.REMOTE)
        assert (await wire.read_close())[0] == 1009


@both_ways
@pytest.mark.parametrize("reading", [by_message, by_read, by_chunks, by_frames])
async def test_bomb_costs_no_more_than_its_limit(server: bool, compression: Compression, reading: Reading) -> None:
    limits = attrs.evolve(BOMBED, max_message_size=MiB // 2, max_stream_size=MiB // 2)
    async with talk(server, compression, limits=limits) as (client, wire):
        stream = wire.frame(0xC2, bomb(16)[:-4])
        tracemalloc.start()
        try:
            wire.write(stream)
            with pytest.raises((ConnectionClosedError, AssertionError)):
                await reading(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * MiB
        await until(lambda: client.outcome)


@both_ways
@pytest.mark.parametrize("claimed", [False, True])
async def test_unread_bombs_are_not_inflated(server: bool, compression: Compression, claimed: bool) -> None:
    limits = Limits(read_high=20_000, read_low=10_000)
    async with talk(server, compression, limits=limits) as (client, wire):
        if claimed:
            wire.write(wire.plain("first"))
            assert await client.read_message() == "first"
        stream = wire.frame(0xC2, bomb(4)[:-4])
        tracemalloc.start()
        try:
            for _ in range(10):
                wire.write(stream)
            await until(lambda: client._connection.inbox.paused)
            assert client._connection.inbox.queue.size < 300_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MiB
        closing = asyncio.create_task(client.close())
        while (await wire.read_frame())[0] != 0x88:
            pass
        wire.write(wire.frame(0x88, b"\x03\xe8"))
        wire.writer.write_eof()
        await closing


@both_ways
@pytest.mark.parametrize("chunks", [0, 1])
async def test_bomb_that_is_left_is_skipped_within_its_budget(
    server: bool, compression: Compression, chunks: int
) -> None:
    async with talk(server, compression, limits=Limits(max_skip=LIMIT)) as (client, wire):
        wire.write(wire.packed(bytes(4 * MiB)) + wire.packed("next"))
        async with await anext(client.messages()) as reader:
            for _ in range(chunks):
                await anext(reader)
        if compression is WIDE:  # later messages do not refer to it
            assert await client.read_message() == "next"
        else:
            with pytest.raises(ConnectionClosedError):
                await client.read_message()
            assert refusal(client) == (1008, Cause.LIMIT, Side.REMOTE)
            assert (await wire.read_close())[0] == 1008


@both_ways
@pytest.mark.parametrize("in_fragments", [False, True])
async def test_skipped_data_that_inflates_to_nothing_counts(
    server: bool, compression: Compression, in_fragments: bool
) -> None:
    nothing = b"\x00\x00\x00\xff\xff" * 300
    async with talk(server, compression, limits=Limits(max_skip=4000)) as (client, wire):
        wire.write(wire.frame(0x42, b"\x00\x02\x00\xfd\xffhi", fin=False))
        async with await anext(client.messages()) as reader:
            assert await reader.readexactly(2) == b"hi"
        if in_fragments:
            for _ in range(3):
                wire.write(wire.frame(0x00, nothing, fin=False))
        else:
            wire.write(wire.frame(0x80, nothing * 4)[:-1])
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert refusal(client) == (1008, Cause.LIMIT, Side.REMOTE)


async def sizes_of_messages(client: Client, count: int) -> int:
    size = 0
    for _ in range(count):
        size += len(await client.read_message())
    return size


async def sizes_of_frames(client: Client, count: int) -> int:
    size = 0
    for _ in range(count):
        size += len((await client.read_frame()).payload)
    return size


async def sizes_of_chunks(client: Client, count: int) -> int:
    size = 0
    for _ in range(count):
        async for chunk in await anext(client.messages()):
            size += len(chunk)
    return size


async def sizes_in_buffer(client: Client, count: int) -> int:
    size = 0
    buffer = bytearray(50_000)
    for _ in range(count):
        reader = await anext(client.messages())
        while more := await reader.readinto(buffer):
            size += more
    return size


async def sizes_in_callback(client: Client, count: int) -> int:
    sizes: list[int] = []

    @client.message
    async def on_message(reader: MessageReader) -> None:
        sizes.append(len(await reader.get()))

    await until(lambda: len(sizes) == count)
    return sum(sizes)


@both_ways
@pytest.mark.parametrize(
    "read", [sizes_of_messages, sizes_of_frames, sizes_of_chunks, sizes_in_buffer, sizes_in_callback]
)
async def test_other_tasks_run_while_much_is_inflated(
    server: bool, compression: Compression, read: Callable[[Client, int], Awaitable[int]]
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with talk(server, compression) as (client, wire):
        for _ in range(16):
            wire.write(wire.packed(bytes(MiB)))
        await wire.settle()
        counting = asyncio.create_task(count_turns())
        try:
            assert await read(client, 16) == 16 * MiB
        finally:
            counting.cancel()
        assert turns >= 8


async def test_refused_message_is_not_inflated_further(server: bool) -> None:
    async with talk(server, limits=Limits(max_message_size=1000)) as (client, wire):
        wire.write(wire.frame(0xC2, bomb(4)[:-4]))
        reader = await anext(client.messages())
        with pytest.raises(ConnectionClosedError):
            await reader.read()
        size = 0
        with suppress(ConnectionClosedError):
            while chunk := await reader.read(10_000):
                size += len(chunk)
        assert size <= 2 * PIECE


# Limits ----------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("limit", [1, 1000, PIECE])
@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("data", [bytes, noise])
async def test_message_of_exactly_the_limit_is_accepted(
    server: bool, compression: Compression, limit: int, level: int, data: Callable[[int], bytes]
) -> None:
    """Even if compression makes the data longer."""
    message = data(limit)
    limits = Limits(max_message_size=limit, max_stream_size=limit)
    async with talk(server, compression, limits=limits) as (client, wire):
        wire.packer = Packer(15, compression.peer_takeover, level)
        for _ in range(2):
            wire.write(wire.packed(message))
            assert await client.read_message() == message
            wire.write(wire.packed(message))
            assert await client.read_frame() == DataFrame(BINARY, message)
            wire.write(wire.packed(message))
            assert await (await anext(client.messages())).get() == message
            wire.write(wire.packed(message))
            assert await (await anext(client.messages())).read() == message
            wire.write(wire.packed(message))
            assert b"".join([chunk async for chunk in await anext(client.messages())]) == message
        wire.write(wire.packed(message + b"x"))
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert (await wire.read_close())[0] == 1009


@both_ways
@pytest.mark.parametrize("waits", [True, False])
async def test_fragments_of_exactly_the_limit_are_accepted(server: bool, compression: Compression, waits: bool) -> None:
    parts = [b"a" * 300, noise(300), b"c" * 400]
    async with talk(server, compression, limits=Limits(max_message_size=1000)) as (client, wire):
        for more, ways in ((b"", [client.read_message] * 2), (b"d", [client.read_message])):
            for way in ways:
                frames = wire.packed_parts([*parts, more])
                reading = asyncio.ensure_future(way())
                for frame in frames:
                    wire.write(frame)
                    if waits:
                        await iterations(8)
                if more:
                    with pytest.raises(ConnectionClosedError):
                        await reading
                else:
                    assert await reading == b"".join(parts)
        assert refusal(client) == (1009, Cause.LIMIT, Side.REMOTE)


async def test_empty_compressed_fragments_are_bounded(server: bool) -> None:
    async with talk(server, limits=Limits(max_message_size=10_000)) as (client, wire):
        wire.write(wire.frame(0x42, fin=False) + wire.frame(0x00, fin=False) * 200)
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert (await wire.read_close())[0] == 1009


async def by_text(client: Client) -> str:
    async for text in client.text():
        return text
    raise EOFError


async def by_get_of_message(client: Client) -> str | bytes:
    return await (await anext(client.messages())).get()


async def by_read_to_end(client: Client) -> str:
    return (await (await anext(client.messages())).read()).decode()


async def by_text_of_message(client: Client) -> str:
    return "".join([piece async for piece in (await anext(client.messages())).text()])


async def by_iterating(client: Client) -> str:
    return b"".join([piece async for piece in await anext(client.messages())]).decode()


async def by_data_frames(client: Client) -> str:
    data = b""
    while True:
        frame = await client.read_frame()
        data += frame.payload
        if frame.fin:
            return data.decode()


@both_ways
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "reading",
    [Client.read_message, by_text, by_get_of_message, by_read_to_end, by_text_of_message, by_iterating, by_data_frames],
)
async def test_compressed_message_without_bytes_is_empty(
    server: bool, reading: Callable[[Client], Awaitable[str | bytes]], compression: Compression, waits: bool
) -> None:
    async with talk(server, compression) as (client, wire):
        for frames in (
            [wire.frame(0xC1)],  # as Mojolicious sends it
            [wire.frame(0x41, fin=False), wire.frame(0x00)],
            [wire.frame(0x41, fin=False), wire.frame(0x00, fin=False), wire.frame(0x00, b"\x00")],
        ):
            read = asyncio.ensure_future(reading(client))
            for frame in frames:
                if waits:
                    await iterations(3)
                wire.write(frame)
            assert await read == ""
            wire.write(wire.packed("Hello"))
            assert await reading(client) == "Hello"


@both_ways
async def test_unread_compressed_message_without_bytes_is_skipped(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        for frames in (wire.frame(0xC1), wire.frame(0x42, fin=False) + wire.frame(0x00)):
            wire.write(frames + wire.packed("Hello"))
            async with await anext(client.messages()):
                pass
            assert await client.read_message() == "Hello"


@both_ways
async def test_largest_limit_is_no_limit(server: bool, compression: Compression) -> None:
    async with talk(server, compression, limits=Limits(max_message_size=maxsize)) as (client, wire):
        for message in ("text" * 1000, bytes(300_000)):
            wire.write(wire.packed(message))
            assert await client.read_message() == message
        wire.write(b"".join(wire.packed_parts([b"a", b"b"])))
        assert await client.read_message() == b"ab"


# Broken rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreed", "frames"),
    [
        (False, [(0xC1, b"\x00")]),
        (False, [(0x42, b"\x00")]),
        (True, [(0x41, b"\x00"), (0xC0, b"\x00")]),
        (True, [(0x01, b""), (0xC0, b"")]),
        (True, [(0x41, b"\x00"), (0x40, b"\x00")]),
        (True, [(0x41, b"\x00"), (0xC1, b"\x00")]),
        (True, [(0xC8, b"\x03\xe8")]),
        (True, [(0xC9, b"")]),
        (True, [(0xCA, b"")]),
        (True, [(0x41, b"\x00"), (0xC9, b"")]),
        (True, [(0xE1, b"\x00")]),
        (True, [(0xD2, b"\x00")]),
        (True, [(0xF2, b"\x00")]),
        (True, [(0xA1, b"")]),
        (True, [(0x92, b"")]),
        (True, [(0xC3, b"\x00")]),
        (True, [(0xC0, b"\x00")]),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
async def test_reserved_bits_in_the_wrong_place_are_refused(
    server: bool, agreed: bool, frames: list[tuple[int, bytes]], cut: bool
) -> None:
    async with talk(server, agreed=agreed) as (client, wire):
        for first, payload in frames:
            frame = wire.frame(first, payload, fin=first >= 0x80)
            wire.write(frame[:1] if cut else frame)
            if cut:
                await iterations(8)
                wire.write(frame[1:])
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert refusal(client) == (1002, Cause.PROTOCOL_ERROR, Side.REMOTE)
        assert (await wire.read_close())[0] == 1002


CORRUPT = b"\xff" * 20
NO_TEXT = zlib.compress(b"all is fine, up to \xff", wbits=-15)  # with a final block
SPOILT = [(0xC2, CORRUPT), (0xC1, CORRUPT), (0xC1, NO_TEXT + b"\x00")]
spoilt = pytest.mark.parametrize(("first", "payload"), SPOILT, ids=["binary", "text", "no text"])


@spoilt
@both_ways
@ways
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "fragments"])
async def test_corrupt_message_is_refused(
    server: bool, compression: Compression, reading: Reading, first: int, payload: bytes, cut: bool
) -> None:
    async with talk(server, compression) as (client, wire):
        if cut:
            wire.write(wire.frame(first, payload[:5], fin=False) + wire.frame(0x80, payload[5:]))
        else:
            wire.write(wire.frame(first, payload))
        with pytest.raises(ConnectionClosedError) as caught:
            await reading(client)
        assert caught.value.outcome.cause is Cause.PROTOCOL_ERROR
        assert refusal(client) == (1007, Cause.PROTOCOL_ERROR, Side.REMOTE)
        code, reason = await wire.read_close()
        assert code == 1007
        assert reason == caught.value.outcome.detail
        with pytest.raises(ConnectionClosedError):
            await client.read_message()


@spoilt
@both_ways
@ways
async def test_corrupt_message_read_after_a_clean_end_is_refused(
    server: bool, compression: Compression, reading: Reading, first: int, payload: bytes
) -> None:
    async with talk(server, compression) as (client, wire):
        wire.write(wire.frame(first, payload) + wire.packed("behind it") + wire.frame(0x88, b"\x03\xe8"))
        assert (await wire.read_close())[0] == 1000
        await wire.close()
        await client.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await reading(client)
        assert caught.value.outcome.cause is Cause.PROTOCOL_ERROR
        for way in (by_messages, by_message, by_frames, by_chunks):
            with pytest.raises(ConnectionClosedError):
                await way(client)


@ways
async def test_bomb_read_after_a_clean_end_is_refused(server: bool, reading: Reading) -> None:
    async with talk(server, limits=BOMBED) as (client, wire):
        wire.write(wire.frame(0xC2, bomb(16)[:-4]) + wire.frame(0x88, b"\x03\xe8"))
        assert (await wire.read_close())[0] == 1000
        await wire.close()
        await client.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await reading(client)
        assert caught.value.outcome.cause is Cause.LIMIT


async def test_messages_before_a_corrupt_one_are_read(server: bool) -> None:
    async with talk(server) as (client, wire):
        wire.write(wire.packed("one") + wire.plain("two") + wire.frame(0xC2, CORRUPT) + wire.packed("four"))
        assert await client.read_message() == "one"
        assert await client.read_message() == "two"
        with pytest.raises(ConnectionClosedError):
            await client.read_message()


async def test_corrupt_message_is_not_called_incomplete(server: bool) -> None:
    """The refusal truncates a later message, not this one."""
    async with talk(server) as (client, wire):
        wire.write(wire.frame(0xC2, CORRUPT) + wire.plain(bytes(1000))[:500])
        await until(lambda: client._connection.protocol.parser.frame.active)
        with pytest.raises(ConnectionClosedError) as caught:
            await client.read_message()
        assert not isinstance(caught.value, IncompleteMessage)


@both_ways
async def test_truncated_compressed_message_is_incomplete(server: bool, compression: Compression) -> None:
    for reading in WAYS:
        async with talk(server, compression) as (client, wire):
            if reading is by_frames:
                wire.write(wire.packed(noise(1000))[:500])
            else:
                wire.write(wire.packed_parts([b"not a whole line", b"rest"])[0])
            task = asyncio.ensure_future(reading(client))
            await iterations(8)
            await wire.close()
            with pytest.raises(IncompleteMessage):
                await task


# The context of received messages after failed reads ----------------------------------------------------------------

PARTS = [b"one, of many words, and one\n", noise(500), b"three, of many words", b"", b"four" * 9]
MESSAGE = b"".join(PARTS)


async def read_rest(reader: MessageReader, how: str) -> bytes:
    """Read a message to its end with repeated calls of one method."""
    data = b""
    while not reader.at_eof():
        match how:
            case "read":
                data += await reader.read()
            case "some":
                data += await reader.read(50)
            case "readinto":
                buffer = bytearray(70)
                data += buffer[: await reader.readinto(buffer)]
            case "readline":
                data += await reader.readline()
            case "readuntil":
                try:
                    data += await reader.readuntil(b"words")
                except asyncio.IncompleteReadError as error:
                    data += error.partial
            case "readexactly":
                try:
                    data += await reader.readexactly(33)
                except asyncio.IncompleteReadError as error:
                    data += error.partial
            case "chunks":
                async for chunk in reader:
                    data += chunk
    return data


HOWS = ["read", "some", "readinto", "readline", "readuntil", "readexactly", "chunks"]


@both_ways
@pytest.mark.parametrize("first", HOWS)
async def test_stream_goes_on_by_any_method_after_a_cancelled_one(
    server: bool, compression: Compression, first: str
) -> None:
    async with talk(server, compression, seconds=20) as (client, wire):
        for second in HOWS:
            frames = wire.packed_parts(PARTS)
            wire.write(frames[0] + frames[1][: len(frames[1]) // 2])
            reader = await anext(client.messages())
            got = bytearray()

            async def read(reader: MessageReader, got: bytearray) -> None:
                while True:
                    if first == "chunks":
                        got += await anext(reader)
                    elif first == "some":
                        got += await reader.read(50)
                    elif first == "readinto":
                        buffer = bytearray(70)
                        got += buffer[: await reader.readinto(buffer)]
                    elif first == "readexactly":
                        got += await reader.readexactly(33)
                    elif first == "readline":
                        got += await reader.readline()
                    elif first == "readuntil":
                        got += await reader.readuntil(b"words")
                    else:
                        got += await reader.read()

            reading = asyncio.create_task(read(reader, got))
            await iterations(8)
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            wire.write(frames[1][len(frames[1]) // 2 :] + b"".join(frames[2:]) + wire.packed("next"))
            assert bytes(got) + await read_rest(reader, second) == MESSAGE
            assert await client.read_message() == "next"


@both_ways
@pytest.mark.parametrize("first", ["message", "async for", "get"])
@pytest.mark.parametrize("sent", [0, 1, 3])
async def test_message_is_read_by_any_method_after_a_cancelled_one(
    server: bool, compression: Compression, first: str, sent: int
) -> None:
    async def begin(client: Client) -> object:
        if first == "get":
            return await (await anext(client.messages())).get()
        return await (client.read_message() if first == "message" else anext(aiter(client)))

    async with talk(server, compression, seconds=20) as (client, wire):
        for second in ("message", "frames", *HOWS):
            frames = wire.packed_parts(PARTS)
            half = len(frames[sent]) // 2
            reading = asyncio.ensure_future(begin(client))
            for frame in frames[:sent]:
                wire.write(frame)
                await iterations(8)
            wire.write(frames[sent][:half])
            await iterations(8)
            if first == "get" and (sent or half):
                reading.cancel()
                await asyncio.wait([reading])
                wire.write(frames[sent][half:] + b"".join(frames[sent + 1 :]) + wire.packed("next"))
                # The rest of the message is skipped.
                assert await client.read_message() == "next"
                continue
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            wire.write(frames[sent][half:] + b"".join(frames[sent + 1 :]) + wire.packed("next"))
            if second == "message":
                assert await client.read_message() == MESSAGE
            elif second == "frames":
                got = [await client.read_frame() for _ in PARTS]
                assert [frame.payload for frame in got] == PARTS
                assert [frame.fin for frame in got] == [False] * (len(PARTS) - 1) + [True]
                assert [frame.opcode for frame in got] == [BINARY] + [CONTINUATION] * (len(PARTS) - 1)
            else:
                assert await read_rest(await anext(client.messages()), second) == MESSAGE
            assert await client.read_message() == "next"


@both_ways
@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("come", [0, 2, 5])
async def test_message_left_early_does_not_disturb_the_next_ones(
    server: bool, compression: Compression, part: int, come: int
) -> None:
    async with talk(server, compression) as (client, wire):
        for how in ("leave", "break", "message", "frame"):
            frames = wire.packed_parts(PARTS)
            wire.write(b"".join(frames[:come]) + frames[come][:9] if come < 5 else b"".join(frames))
            if how == "frame":
                if come:
                    assert (await client.read_frame()).payload == PARTS[0]
            else:
                reader = await anext(client.messages())
                if part and come >= part:
                    await reader.readexactly(len(PARTS[0]) * part // 2)
                if how == "leave":
                    reader.leave()
            behind = frames[come][9:] + b"".join(frames[come + 1 :]) if come < 5 else b""
            if how == "frame" and not come:
                wire.write(behind)
                assert await client.read_message() == MESSAGE
                behind = b""
            wire.write(behind + wire.packed(MESSAGE) + wire.plain("plain") + wire.packed("next"))
            assert await client.read_message() == MESSAGE
            assert await client.read_message() == "plain"
            assert await client.read_message() == "next"


@both_ways
async def test_compressed_and_plain_messages_are_mixed(server: bool, compression: Compression) -> None:
    messages: list[str | bytes] = ["a", b"b" * 300, "ü" * 200, "", b"", noise(2000), "a"]
    async with talk(server, compression) as (client, wire):
        for step in (1, 2, 3):
            stream = b""
            for number, message in enumerate(messages):
                stream += wire.plain(message) if number % step == 0 else wire.packed(message)
                stream += wire.packed(message) if number % step == 0 else wire.plain(message)
            wire.write(stream)
            for message in messages:
                assert [await client.read_message() for _ in range(2)] == [message] * 2


@both_ways
async def test_pings_come_between_compressed_fragments(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        for text in ("é€𝄞" * 20, "again é"):
            data = text.encode()
            parts = [data[place : place + 7] for place in range(0, len(data), 7)]
            reading = asyncio.ensure_future(client.read_message())
            for frame in wire.packed_parts(parts, opcode=1):
                wire.write(frame + wire.frame(0x89, b"between"))
                assert await wire.read_frame() == (0x8A, b"between")
            assert await reading == text


@both_ways
async def test_frames_are_read_inflated(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        for _ in range(2):
            wire.write(wire.packed("whole") + b"".join(wire.packed_parts([b"a", b"", "é".encode()[:1], b"b" * 99])))
            wire.write(wire.plain(b"plain"))
            got = [await client.read_frame() for _ in range(6)]
            assert got == [
                DataFrame(TEXT, b"whole"),
                DataFrame(BINARY, b"a", False),
                DataFrame(CONTINUATION, b"", False),
                DataFrame(CONTINUATION, b"\xc3", False),
                DataFrame(CONTINUATION, b"b" * 99, True),
                DataFrame(BINARY, b"plain"),
            ]


@both_ways
async def test_stream_delivers_a_compressed_frame_before_it_is_complete(server: bool, compression: Compression) -> None:
    data = noise(20_000)
    async with talk(server, compression) as (client, wire):
        for _ in range(2):
            frame = wire.packed(data)
            wire.write(frame[:10_000])
            reader = await anext(client.messages())
            assert await reader.readexactly(5000) == data[:5000]
            assert not reader.at_eof()
            wire.write(frame[10_000:])
            assert await reader.read() == data[5000:]
            assert reader.at_eof()


# The smallest window ---------------------------------------------------------------------------------------------

SMALL_WINDOWS = "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8"


async def test_window_of_8_bits_is_accepted_and_kept(server: bool) -> None:
    message = noise(300) * 30  # it repeats at a distance that is too large for this window
    sent = bytearray()

    async def exchange(client: Client, peer: Peer) -> None:
        assert client.compression is not None
        assert (client.compression.window_bits, client.compression.peer_window_bits) == (8, 8)
        peer.send(BINARY | 0x40, Packer(9).message(message))
        assert await client.read_message() == message
        await client.send(message, compress=True)
        first, payload = await peer.read_frame()
        assert first == BINARY | 0xC0
        stream = zlib.decompressobj(-8)
        payload += b"\x00\x00\xff\xff"
        while piece := stream.decompress(payload, 1):  # byte by byte, so that the window cannot be exceeded
            sent.extend(piece)
            payload = stream.unconsumed_tail

    if server:
        head = request({"Sec-WebSocket-Extensions": SMALL_WINDOWS})
        async with pair(head=head, compression=True) as (client, peer):
            assert "server_max_window_bits=8" in peer.fields["sec-websocket-extensions"]
            assert "client_max_window_bits=8" in peer.fields["sec-websocket-extensions"]
            await exchange(client, peer)
    else:

        async def script(peer: Peer) -> None:
            await peer.accept(f"Sec-WebSocket-Extensions: {SMALL_WINDOWS}")
            await done.wait()
            await peer.close_after_client()

        done = asyncio.Event()
        async with asyncio.timeout(10), scripted(script) as peers, connect(peers.url, compression=True) as client:
            await exchange(client, peers.peers[0])
            done.set()
    assert bytes(sent) == message


# What is sent ----------------------------------------------------------------------------------------------------


@both_ways
async def test_sends_that_fail_or_are_cancelled_do_not_disturb_the_next_ones(
    server: bool, compression: Compression
) -> None:
    async with talk(server, compression) as (client, wire):
        for _ in range(3):
            for bad in ("lone \ud800 surrogate" * 20,):
                with pytest.raises(UnicodeEncodeError):
                    await client.send(bad)
                with pytest.raises(UnicodeEncodeError):
                    async with client.writer.fragment() as stream:
                        await stream.send(bad)
            await client.send("fine" * 10)
            assert await wire.read_message() == (True, "fine" * 10)
            async with client.writer.fragment() as stream:
                await stream.send("part" * 20)
                cancelled = asyncio.ensure_future(client.send("never sent" * 9))
                queued = [asyncio.ensure_future(client.send("queued" * 9, compress)) for compress in (None, False)]
                failing = asyncio.ensure_future(client.send("lone \ud800 surrogate" * 20))
                await iterations(8)
                cancelled.cancel()
                with pytest.raises(UnicodeEncodeError):
                    await stream.send("lone \ud800 surrogate")
                await stream.send("part" * 20)
            assert await wire.read_message() == (True, "part" * 40)
            assert await wire.read_message() == (True, "queued" * 9)
            assert await wire.read_message() == (False, "queued" * 9)
            await asyncio.wait([cancelled, failing, *queued])
            assert cancelled.cancelled()
            assert isinstance(failing.exception(), UnicodeEncodeError)


@both_ways
async def test_fragment_writer_that_is_left_before_its_first_part_sends_nothing(
    server: bool, compression: Compression
) -> None:
    async with talk(server, compression) as (client, wire):
        await client.send("before" * 9)
        assert await wire.read_message() == (True, "before" * 9)
        with pytest.raises(LookupError):
            async with client.writer.fragment(compress=True):
                raise LookupError
        await client.send("before" * 9)
        assert await wire.read_message() == (True, "before" * 9)


@both_ways
async def test_fragment_writer_that_is_left_inside_a_message_closes(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        stream = client.writer.fragment(compress=True)
        await stream.__aenter__()
        await stream.send("part")
        await stream.__aexit__(LookupError, LookupError(), None)
        first, _ = await wire.read_frame()
        assert first == 0x41
        assert (await wire.read_close())[0] == 1011


@both_ways
async def test_peer_inflates_all_messages(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        for _ in range(2):
            for data in ("text é" * 30, b"", "", bytearray(b"abc" * 99), memoryview(bytes(400))[::2], noise(70_000)):
                sending = asyncio.ensure_future(client.send(data))
                _, got = await wire.read_message()
                assert got == (data if isinstance(data, str) else bytes(data))
                await sending
            await client.writer.feed(["é", "", "ü" * 300])
            assert await wire.read_message() == (True, "é" + "ü" * 300)
            async with client.writer.fragment() as stream:
                await stream.send(b"one" * 99)
                await client.writer.pong(b"between")
                await stream.send(b"two" * 99)
            first, part = await wire.read_frame()
            assert first == 0x42
            assert await wire.read_frame() == (0x8A, b"between")
            _, other = await wire.read_frame()
            last, end = await wire.read_frame()
            assert last == 0x80
            assert wire.unpacker.message(part + other + end) == b"one" * 99 + b"two" * 99
            async with client.writer.data_frame(300) as frame:
                await frame.write(b"d" * 300)
            assert await wire.read_message() == (False, b"d" * 300)
            await client.writer.write_frame(DataFrame(TEXT, b"e" * 300, False))
            await client.writer.write_frame(DataFrame(CONTINUATION, b"f"))
            assert await wire.read_message() == (False, "e" * 300 + "f")


@pytest.mark.parametrize(
    ("compression", "data", "compress", "packed"),
    [
        (Compression(), "a" * 255, None, False),
        (Compression(), "a" * 256, None, True),
        (Compression(), b"a" * 256, None, True),
        (Compression(threshold=0), "a" * 9, None, True),
        (Compression(text=False), "a" * 999, None, False),
        (Compression(text=False), b"a" * 999, None, True),
        (Compression(binary=False), b"a" * 999, None, False),
        (Compression(binary=False), "a" * 999, None, True),
        (Compression(text=False, binary=False), "a" * 999, True, True),
        (Compression(), "a" * 99, True, True),
        (Compression(), "a" * 999, False, False),
        (Compression(), noise(999), None, False),  # compressed, it would be longer
        (Compression(takeover=True), noise(999), None, True),  # later messages may refer to it
    ],
)
async def test_writer_compresses_by_kind_size_and_wish(
    server: bool, compression: Compression, data: str | bytes, compress: bool | None, packed: bool
) -> None:
    async with talk(server, compression) as (client, wire):
        await client.send(data, compress)
        assert await wire.read_message() == (packed, data)
        await client.writer.send(data, compress=compress)
        assert await wire.read_message() == (packed, data)
        fragmented = packed or (isinstance(data, bytes) and compress is None and compression == Compression())
        fragmented = fragmented and not (len(data) < 256 and compress is None and compression.threshold)
        async with client.writer.fragment(compress=compress) as stream:
            await stream.send(data)
        assert await wire.read_message() == (fragmented, data)
        await client.writer.feed([data, data[:1]], compress=compress)
        assert await wire.read_message() == (fragmented, data + data[:1])  # type: ignore[operator]


@pytest.mark.parametrize("compress", [None, True, False])
async def test_writer_compresses_nothing_without_agreement(server: bool, compress: bool | None) -> None:
    async with talk(server, agreed=False) as (client, wire):
        await client.send("a" * 999, compress)
        assert await wire.read_message() == (False, "a" * 999)
        await client.writer.feed(["a" * 999], compress=compress)
        assert await wire.read_message() == (False, "a" * 999)


@pytest.mark.parametrize("agreed", [True, False])
async def test_writer_names_the_type_that_it_cannot_send(server: bool, agreed: bool) -> None:
    async with talk(server, agreed=agreed) as (client, _):
        for bad in (None, 1, 1.5, ["a"], {"a": 1}):
            unfit: Any = bad
            with pytest.raises(TypeError, match=f"str or bytes-like, not {type(bad).__name__}"):
                await client.send(unfit)


@both_ways
async def test_compression_saves_bytes(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        texts = [
            json.dumps([{"number": number, "name": f"name {number}"} for number in range(n, n + 40)]) for n in range(9)
        ]
        for text in texts:
            await client.send(text)
            assert await wire.read_message() == (True, text)
        assert wire.bytes_read < sum(map(len, texts)) / (5 if compression is WIDE else 9)


# What is kept ----------------------------------------------------------------------------------------------------


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingCodec]:
    with counted(monkeypatch) as counting:
        yield counting


async def test_idle_connection_holds_no_streams(server: bool, codec: CountingCodec) -> None:
    async with talk(server) as (client, wire):
        for _ in range(3):
            wire.write(wire.packed("question" * 9))
            await client.send(await client.read_message())
            assert await wire.read_message() == (True, "question" * 9)
        assert codec.alive == 1, "the compressor that all share"


async def test_idle_connection_frees_a_compressor_with_takeover(server: bool, codec: CountingCodec) -> None:
    compression = attrs.evolve(TAKING_OVER, peer_takeover=False)
    timeouts = Timeouts(close=5, ping_interval=0.05, ping_timeout=None)
    async with talk(server, compression, timeouts=timeouts) as (client, wire):
        for _ in range(2):
            await client.send("again" * 30)
            while (received := await wire.read_frame())[0] == 0x89:
                wire.write(wire.frame(0x8A, received[1]))
            assert wire.unpacker.message(received[1]) == b"again" * 30
            assert codec.alive == 1
            while codec.alive:
                async with asyncio.timeout(5):
                    first, payload = await wire.read_frame()
                assert first == 0x89
                wire.write(wire.frame(0x8A, payload))


# Callbacks and unread messages -------------------------------------------------------------------------------------


@both_ways
async def test_discarded_messages_do_not_disturb_later_ones(server: bool, compression: Compression) -> None:
    limits = Limits(read_high=4000, read_low=1000)
    async with talk(server, compression, limits=limits) as (client, wire):
        client._connection.inbox.discard_unread()
        for _ in range(20):
            wire.write(wire.packed(noise(900)) + b"".join(wire.packed_parts([noise(500), noise(800)])))
            await wire.settle()
        assert not client._connection.inbox.paused
        reading = asyncio.ensure_future(client.read_message())
        wire.write(wire.packed("the last one"))
        while await reading != "the last one":
            reading = asyncio.ensure_future(client.read_message())


@pytest.mark.parametrize("way", ["messages", "fragments"])
async def test_discarded_bombs_are_inflated_up_to_max_skip(server: bool, way: str) -> None:
    limits = Limits(max_skip=100_000, read_high=1000, read_low=500)
    async with talk(server, TAKING_OVER, limits=limits) as (client, wire):
        client._connection.inbox.discard_unread()
        zeros = bytes(99_000)
        for _ in range(3):
            wire.write(wire.packed(zeros) + wire.plain(noise(1500)))
            await wire.settle()
        assert client.outcome is None
        frames = wire.packed_parts([zeros, zeros, noise(1500)])
        if way == "messages":
            frames = [wire.packed(zeros), wire.packed(zeros), wire.plain(noise(1500))]
        wire.write(b"".join(frames))
        assert await wire.read_close() == (1008, "skipped more than max_skip (100000 bytes) of an unread message")
        assert refusal(client) == (1008, Cause.LIMIT, Side.REMOTE)


async def test_client_shows_the_negotiated_terms(server: bool) -> None:
    wanted = Compression(window_bits=10, peer_window_bits=11, takeover=True)
    async with talk(server, wanted) as (client, _):
        assert client.compression == DeflateTerms(10, True, 11, False)
    async with talk(server, wanted, agreed=False) as (client, _):
        assert client.compression is None


@both_ways
async def test_message_callback_gets_inflated_messages(server: bool, compression: Compression) -> None:
    async with talk(server, compression) as (client, wire):
        done = asyncio.Event()

        @client.message
        async def echo(reader: MessageReader) -> None:
            await client.writer.feed(reader)
            done.set()

        for text in ("one é" * 50, "two é" * 50):
            done.clear()
            wire.write(wire.packed(text))
            await done.wait()
            assert await wire.read_message() == (True, text)
        await wire.close()
        await client.wait_closed()
