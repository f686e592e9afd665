"""`MessageReader`: one message read as a stream."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import xor
from helpers.peers import Peer, pair
from helpers.waiting import iterations
from streamws import (
    ConcurrencyError,
    ConnectionClosedError,
    IncompleteMessage,
    Limits,
    MessageReader,
    Opcode,
    ReadError,
    StaleReader,
)

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


@contextlib.asynccontextmanager
async def reading(
    *parts: bytes, opcode: Opcode = BINARY, limits: Limits | None = None
) -> AsyncIterator[tuple[MessageReader, Peer]]:
    """Return the reader of a message that was received in one frame, or in a fragment for each part."""
    async with pair(limits) as (client, peer):
        last = len(parts) - 1
        for place, part in enumerate(parts):
            peer.send(opcode if place == 0 else CONTINUATION, part, fin=place == last)
        yield await anext(client.messages()), peer


FRAGMENTED = [
    (b"first\nse", b"cond\nlast"),
    (b"first\nsecond\nlast",),
    (b"", b"first\n", b"second\nlast", b""),
]


# The whole message ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [(b"whole",), (b"who", b"le")])
async def test_reader_gets_binary_message(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        assert reader.type is BINARY
        assert await reader.get() == b"whole"
        assert reader.at_eof()


@pytest.mark.parametrize("parts", ["grüße".encode(), b"ascii"])
async def test_reader_gets_text_message(parts: bytes) -> None:
    async with reading(parts, opcode=TEXT) as (reader, _):
        assert reader.type is TEXT
        assert await reader.get() == parts.decode()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_reader_gets_message_of_the_requested_kind(opcode: Opcode) -> None:
    async with reading("grüße".encode(), opcode=opcode) as (reader, _):
        assert await reader.get(Opcode.TEXT) == "grüße"
    async with reading("grüße".encode(), opcode=opcode) as (reader, _):
        assert await reader.get(Opcode.BINARY) == "grüße".encode()


async def test_reader_get_raises_when_binary_message_is_not_utf8() -> None:
    async with reading(b"\xff") as (reader, _):
        with pytest.raises(UnicodeDecodeError):
            await reader.get(Opcode.TEXT)


@pytest.mark.parametrize("kind", [CONTINUATION, Opcode.PING, Opcode.CLOSE, Opcode.PONG])
async def test_reader_get_refuses_other_kinds(kind: Opcode) -> None:
    async with reading(b"whole") as (reader, _):
        with pytest.raises(ValueError, match=kind.name):
            await reader.get(kind)  # type: ignore[call-overload]
        assert await reader.get() == b"whole"


@pytest.mark.parametrize("kind", [None, TEXT, BINARY])
async def test_reader_get_keeps_type_after_a_cancelled_read_passed_an_empty_fragment(kind: Opcode | None) -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"", fin=False)
        reader = await anext(client.messages())
        reading = asyncio.create_task(reader.read())
        await peer.settle()
        reading.cancel()
        peer.send(CONTINUATION, "grüße".encode())
        assert await reader.get(kind) == ("grüße".encode() if kind is BINARY else "grüße")  # type: ignore[arg-type]


async def test_reader_get_raises_after_part_was_read() -> None:
    async with reading(b"whole") as (reader, _):
        assert await reader.read(2) == b"wh"
        with pytest.raises(ReadError, match="read already"):
            await reader.get()
        assert await reader.read() == b"ole"


async def test_reader_get_raises_second_time() -> None:
    async with reading(b"whole") as (reader, _):
        await reader.get()
        with pytest.raises(ReadError, match="read already"):
            await reader.get()
        assert await reader.read() == b""


# Parts of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", FRAGMENTED)
async def test_reader_reads_to_the_end(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        assert await reader.read() == b"first\nsecond\nlast"
        assert reader.at_eof()
        assert await reader.read() == b""
        assert await reader.read(5) == b""


async def test_reader_reads_up_to_n_bytes() -> None:
    async with reading(b"abcdefgh") as (reader, _):
        assert await reader.read(3) == b"abc"
        assert await reader.read(0) == b""
        assert not reader.at_eof()
        assert await reader.read(100) == b"defgh"
        assert await reader.read(1) == b""
        assert reader.at_eof()


async def test_reader_reads_text_message_in_bytes() -> None:
    async with reading("äö".encode(), opcode=TEXT) as (reader, _):
        assert await reader.read(1) == b"\xc3"
        assert await reader.read() == b"\xa4\xc3\xb6"


async def test_reader_reads_empty_message() -> None:
    async with reading(b"") as (reader, _):
        assert not reader.at_eof()
        assert await reader.read(10) == b""
        assert reader.at_eof()


@pytest.mark.parametrize("parts", FRAGMENTED)
async def test_reader_reads_exactly(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        assert await reader.readexactly(7) == b"first\ns"
        assert await reader.readexactly(0) == b""
        assert await reader.readexactly(10) == b"econd\nlast"
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(1)
        assert caught.value.partial == b""


async def test_reader_readexactly_raises_at_end_with_the_rest() -> None:
    async with reading(b"ab", b"cd") as (reader, _):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(5)
        assert (caught.value.partial, caught.value.expected) == (b"abcd", 5)
        assert reader.at_eof()


async def test_reader_readexactly_refuses_negative_size() -> None:
    async with reading(b"ab") as (reader, _):
        with pytest.raises(ValueError, match="0 or more"):
            await reader.readexactly(-1)


@pytest.mark.parametrize("parts", FRAGMENTED)
async def test_reader_reads_into_buffer(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        got = b""
        buffer = bytearray(4)
        while size := await reader.readinto(buffer):
            got += buffer[:size]
        assert got == b"first\nsecond\nlast"


@pytest.mark.parametrize("size", [1000, 65536, 300_000, 2_000_000])
@pytest.mark.parametrize("pause", [False, True])
async def test_reader_reads_large_frames_into_buffer_of_size(size: int, pause: bool) -> None:
    payload = random.Random(size).randbytes(3_000_001)
    async with pair() as (client, peer):

        async def receive() -> bytes:
            got = bytearray()
            async for reader in client.messages():
                buffer = bytearray(size)
                while count := await reader.readinto(buffer):
                    got += memoryview(buffer)[:count]
                    if pause:
                        await asyncio.sleep(0)  # lent bytes are copied, and read from the copy
            return bytes(got)

        receiving = asyncio.create_task(receive())
        await asyncio.sleep(0)
        peer.write(frame(BINARY, payload, fin=False) + frame(CONTINUATION, payload[:100_000]) + frame(TEXT, b"text"))
        peer.send_close()
        assert await receiving == payload + payload[:100_000] + b"text"


async def test_reader_reads_into_part_of_buffer() -> None:
    async with reading(b"abc") as (reader, _):
        buffer = bytearray(b"------")
        assert await reader.readinto(memoryview(buffer)[2:4]) == 2
        assert buffer == b"--ab--"
        assert await reader.read() == b"c"


@pytest.mark.parametrize("buffer", [bytearray(), memoryview(b"read-only")])
async def test_reader_readinto_refuses_buffer(buffer: bytearray | memoryview) -> None:
    async with reading(b"abc") as (reader, _):
        with pytest.raises(ValueError, match="writable"):
            await reader.readinto(buffer)
        assert await reader.read() == b"abc"


@pytest.mark.parametrize("parts", FRAGMENTED)
async def test_reader_reads_lines(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        assert [await reader.readline() for _ in range(4)] == [b"first\n", b"second\n", b"last", b""]


async def test_reader_reads_lines_without_copying_the_rest() -> None:
    # A copy of the rest for each line would take quadratic time.
    async with pair() as (client, peer):
        peer.send(BINARY, b"one\ntwo\nthree\n")
        await peer.settle()
        reader = await anext(client.messages())
        assert await reader.readline() == b"one\n"
        behind = reader._piece
        assert await reader.readuntil(b"o\n") == b"two\n"
        assert reader._piece is behind
        assert await reader.readline() == b"three\n"
        assert reader.at_eof()


@pytest.mark.parametrize("parts", [(b"one--two--",), (b"one-", b"-two-", b"-"), (b"o", b"ne--t", b"wo--")])
async def test_reader_reads_until_separator(parts: tuple[bytes, ...]) -> None:
    async with reading(*parts) as (reader, _):
        assert await reader.readuntil(b"--") == b"one--"
        assert await reader.readuntil(b"--") == b"two--"
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readuntil(b"--")


async def test_reader_readuntil_raises_at_end_with_the_rest() -> None:
    async with reading(b"on", b"e") as (reader, _):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"-")
        assert (caught.value.partial, caught.value.expected) == (b"one", None)
        assert reader.at_eof()


async def test_reader_readuntil_refuses_empty_separator() -> None:
    async with reading(b"one") as (reader, _):
        with pytest.raises(ValueError, match="at least one byte"):
            await reader.readuntil(b"")


@pytest.mark.parametrize("size", [99, 100])
async def test_reader_readuntil_raises_over_limit_and_consumes_nothing(size: int) -> None:
    line = b"x" * size + b"\n"
    async with reading(line[:50], line[50:], limits=Limits(max_message_size=100)) as (reader, _):
        if size == 99:
            assert await reader.readuntil() == line
        else:
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil()
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readline()
            assert await reader.readexactly(101) == line


async def test_reader_iterates_over_chunks() -> None:
    async with reading(b"one", b"", b"two", b"") as (reader, _):
        assert [chunk async for chunk in reader] == [b"one", b"two"]
        assert reader.at_eof()


async def test_reader_mixes_ways_to_read() -> None:
    async with reading(b"abcdef\ngh", b"ij--kl", b"mno") as (reader, _):
        assert await reader.read(1) == b"a"
        assert await reader.readexactly(2) == b"bc"
        assert await reader.readline() == b"def\n"
        buffer = bytearray(1)
        assert await reader.readinto(buffer) == 1
        assert await reader.readuntil(b"--") == b"hij--"
        assert b"".join([chunk async for chunk in reader]) == b"klmno"


# Text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 12))
async def test_reader_cuts_text_between_characters(cut: int) -> None:
    text = "aä€😀b"
    encoded = text.encode()
    async with reading(encoded[:cut], encoded[cut:], opcode=TEXT) as (reader, _):
        pieces = [piece async for piece in reader.text()]
        assert "".join(pieces) == text
        assert all(pieces)


async def test_reader_gives_text_before_message_is_complete() -> None:
    encoded = "aä".encode()
    async with pair() as (client, peer):
        peer.write(header(TEXT, 5) + xor(encoded + b"zz")[:2])
        reader = await anext(client.messages())
        pieces = reader.text()
        assert await anext(pieces) == "a"
        peer.write(xor(encoded + b"zz")[2:])
        assert "".join([piece async for piece in pieces]) == "äzz"


@pytest.mark.parametrize("payload", [b"a\xff", b"a\xc3"])
async def test_reader_text_raises_when_binary_message_is_not_utf8(payload: bytes) -> None:
    async with reading(payload) as (reader, _):
        with pytest.raises(UnicodeDecodeError):
            [piece async for piece in reader.text()]


async def test_reader_raises_when_text_message_is_not_utf8() -> None:
    async with pair() as (client, peer):
        payload = b"good\xff-----"
        peer.write(header(TEXT, len(payload)) + xor(payload)[:4])
        reader = await anext(client.messages())
        assert await reader.read(4) == b"good"
        peer.write(xor(payload)[4:6])
        with pytest.raises(IncompleteMessage):
            await reader.read()
        assert (await peer.read_close())[0] == 1007


async def test_reader_text_gives_the_good_characters_before_it_raises() -> None:
    async with reading(b"a\xc3") as (reader, _):
        pieces = reader.text()
        assert await anext(pieces) == "a"
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                await anext(pieces)
        assert await reader.read() == b"\xc3"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


async def test_reader_reads_on_after_text_raised() -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"\xff", fin=False)
        reader = await anext(client.messages())
        with pytest.raises(UnicodeDecodeError) as caught:
            await anext(reader.text())
        peer.send(CONTINUATION, b"rest")
        assert await reader.readexactly(5) == b"\xffrest"
        assert caught.traceback  # it is held until here


# Streaming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_reader_gives_bytes_of_frame_before_frame_is_complete(opcode: Opcode) -> None:
    size = 1 << 20
    payload = bytes(n % 127 for n in range(size))
    wire = xor(payload)
    async with pair() as (client, peer):
        peer.write(header(opcode, size) + wire[: size // 2])
        reader = await anext(client.messages())
        assert reader.type is opcode
        assert await reader.readexactly(size // 2) == payload[: size // 2]
        waiting = asyncio.create_task(reader.read(10))
        await peer.writer.drain()
        assert not waiting.done()
        peer.write(wire[size // 2 :])
        assert await waiting == payload[size // 2 : size // 2 + 10]
        assert await reader.read() == payload[size // 2 + 10 :]
        assert reader.at_eof()


async def test_reader_returns_each_byte_when_received() -> None:
    async with pair() as (client, peer):
        peer.write(header(BINARY, 10))
        reader = await anext(client.messages())
        for byte in range(10):
            peer.write(xor(bytes(range(10)))[byte : byte + 1])
            assert await reader.read(100) == bytes([byte])
        assert await reader.read() == b""


async def test_reader_streams_message_over_max_message_size() -> None:
    async with pair(Limits(max_message_size=1000)) as (client, peer):
        peer.send(BINARY, b"x" * 500_000, fin=False)
        peer.send(CONTINUATION, b"y" * 500_000)
        size = 0
        async for reader in client.messages():
            async for chunk in reader:
                size += len(chunk)
            break
        assert size == 1_000_000


# Limits -----------------------------------------------------------------------------------------------------


async def test_reader_read_to_the_end_at_max_message_size() -> None:
    async with reading(b"x" * 60, b"x" * 40, limits=Limits(max_message_size=100)) as (reader, _):
        assert await reader.read() == b"x" * 100


async def test_reader_read_to_the_end_over_max_message_size_closes_with_1009() -> None:
    async with reading(b"x" * 60, b"x" * 41, limits=Limits(max_message_size=100)) as (reader, peer):
        with pytest.raises(ConnectionClosedError) as caught:
            await reader.read()
        assert caught.value.outcome.code == 1009
        assert (await peer.read_close())[0] == 1009


async def test_reader_get_at_max_message_size() -> None:
    async with reading(b"x" * 100, limits=Limits(max_message_size=100)) as (reader, _):
        assert await reader.get() == b"x" * 100


async def test_reader_get_over_max_message_size_closes_with_1009() -> None:
    async with reading(b"x" * 101, limits=Limits(max_message_size=100)) as (reader, peer):
        with pytest.raises(ConnectionClosedError) as caught:
            await reader.get()
        assert caught.value.outcome.code == 1009
        assert (await peer.read_close())[0] == 1009


async def test_reader_streams_message_at_max_stream_size() -> None:
    async with reading(b"x" * 60, b"x" * 40, limits=Limits(max_stream_size=100)) as (reader, _):
        assert len(await reader.read()) == 100


@pytest.mark.parametrize("length", [99, 101])
async def test_reader_closes_with_1009_when_declared_length_is_over_max_stream_size(length: int) -> None:
    async with pair(Limits(max_stream_size=100)) as (client, peer):
        peer.write(frame(BINARY, b"x", fin=False) + header(CONTINUATION, length) + xor(b"abc"))
        reader = await anext(client.messages())
        assert await reader.read(1) == b"x"
        if length == 99:
            assert await reader.readexactly(3) == b"abc"
            return
        with pytest.raises(ConnectionClosedError) as caught:
            await reader.read(1)
        assert type(caught.value) is ConnectionClosedError
        assert (await peer.read_close())[0] == 1009


async def test_reader_closes_with_1009_over_max_stream_size() -> None:
    async with reading(b"x" * 60, b"x" * 41, limits=Limits(max_stream_size=100)) as (reader, peer):
        got = b""
        with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
            async for chunk in reader:
                got += chunk
        assert got in (b"", b"x" * 60)
        assert caught.value.outcome.code == 1009
        assert (await peer.read_close())[0] == 1009


# Leaving ----------------------------------------------------------------------------------------------------


async def test_reader_left_by_break_gives_way_to_next_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"x" * 100_000, fin=False) + frame(CONTINUATION, b"y" * 100_000))
        peer.send(BINARY, b"next")
        async for reader in client.messages():
            async for _ in reader:
                break
            break
        assert await client.read_message() == b"next"


async def test_reader_left_by_async_with_gives_way_to_next_message() -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"first", fin=False)
        readers = client.messages()
        async with await anext(readers) as reader:
            assert await reader.read(3) == b"fir"
        peer.send(CONTINUATION, b"rest")
        peer.send(TEXT, b"next")
        assert await (await anext(readers)).get() == "next"


async def test_reader_left_inside_frame_gives_way_to_next_message() -> None:
    async with pair() as (client, peer):
        wire = xor(b"x" * 100_000)
        peer.write(header(BINARY, 100_000) + wire[:50_000])
        async with await anext(client.messages()) as reader:
            assert await reader.read(1) == b"x"
        reading = asyncio.create_task(client.read_message())
        peer.write(wire[50_000:] + frame(TEXT, b"next"))
        assert await reading == "next"


async def test_reader_left_unread_gives_way_to_next_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"unread") + frame(TEXT, b"next"))
        types = []
        async for reader in client.messages():
            types.append(reader.type)
            if len(types) == 2:
                break
        assert types == [BINARY, TEXT]


async def test_reader_left_with_exception_passes_it_on() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"unread") + frame(TEXT, b"next"))
        with pytest.raises(KeyError):
            async with await anext(client.messages()):
                raise KeyError("mine")
        assert await client.read_message() == "next"


METHODS: list[Callable[[MessageReader], Awaitable[object]]] = [
    lambda reader: reader.read(),
    lambda reader: reader.read(1),
    lambda reader: reader.read(0),
    lambda reader: reader.readexactly(1),
    lambda reader: reader.readinto(bytearray(1)),
    lambda reader: reader.readline(),
    lambda reader: reader.readuntil(b"x"),
    lambda reader: reader.get(),
    lambda reader: anext(reader.__aiter__()),
    lambda reader: anext(reader.text()),
]
NAMES = [
    "read",
    "read 1",
    "read 0",
    "readexactly",
    "readinto",
    "readline",
    "readuntil",
    "get",
    "chunks",
    "text",
]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
async def test_reader_raises_stale_after_it_was_left(
    method: Callable[[MessageReader], Awaitable[object]],
) -> None:
    async with reading(b"message") as (reader, _):
        async with reader:
            pass
        with pytest.raises(StaleReader):
            await method(reader)


@pytest.mark.parametrize("read", [0, 3, 7])
async def test_reader_left_is_at_eof_only_if_it_was_before(read: int) -> None:
    async with reading(b"message") as (reader, _):
        assert len(await reader.readexactly(read)) == read
        reader.leave()
        assert reader.at_eof() is (read == 7)


@pytest.mark.parametrize("taken", [0, 2, 4])
@pytest.mark.parametrize("method", METHODS, ids=NAMES)
async def test_reader_raises_stale_after_another_read(
    method: Callable[[MessageReader], Awaitable[object]], taken: int
) -> None:
    """Even if it holds bytes of its message, or has returned all that were received."""
    async with pair() as (client, peer):
        peer.send(BINARY, b"mess", fin=False)
        reader = await anext(client.messages())
        assert taken == 0 or await reader.read(taken) == b"mess"[:taken]
        peer.send(CONTINUATION, b"age")
        peer.send(TEXT, b"next")
        assert await client.read_message() == "next"
        with pytest.raises(StaleReader):
            await method(reader)
        assert not reader.at_eof()


@pytest.mark.parametrize("read", [MessageReader.read, MessageReader.get], ids=["read", "get"])
async def test_reader_left_while_it_waits_raises_at_once_and_lets_the_next_one_read(
    read: Callable[[MessageReader], Awaitable[object]],
) -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"", fin=False)
        reader = await anext(client.messages())
        reading = asyncio.ensure_future(read(reader))
        await peer.settle()
        reader.leave()
        with pytest.raises(StaleReader):
            await reading
        peer.send(CONTINUATION, b"rest")
        peer.send(TEXT, b"next")
        assert await client.read_message() == "next"


async def test_stale_reader_does_not_disturb_next_reader() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"first") + frame(BINARY, b"second"))
        readers = client.messages()
        stale = await anext(readers)
        fresh = await anext(readers)
        with pytest.raises(StaleReader):
            await stale.read()
        stale.leave()
        assert await fresh.read() == b"second"


async def test_reader_left_skips_up_to_max_skip() -> None:
    async with pair(Limits(max_skip=10_000)) as (client, peer):
        peer.write(header(BINARY, 9000) + xor(b"x" * 9000)[:100])
        async with await anext(client.messages()) as reader:
            assert await reader.read(1) == b"x"
        peer.write(xor(b"x" * 9000)[100:] + frame(TEXT, b"next"))
        assert await client.read_message() == "next"


@pytest.mark.parametrize("fragments", [1, 20])
async def test_reader_left_closes_with_1008_over_max_skip(fragments: int) -> None:
    async with pair(Limits(max_skip=10_000)) as (client, peer):
        peer.send(BINARY, b"begun", fin=False)
        async with await anext(client.messages()) as reader:
            assert await reader.read(1) == b"b"
        for _ in range(fragments):
            peer.send(CONTINUATION, b"x" * (20_000 // fragments), fin=False)
        with pytest.raises(ConnectionClosedError) as caught:
            await client.read_message()
        assert caught.value.outcome.code == 1008
        code, reason = await peer.read_close()
        assert code == 1008
        assert "max_skip" in reason


async def test_reader_left_closes_with_1008_and_answers_no_ping_behind_the_limit() -> None:
    async with pair(Limits(max_skip=1000)) as (client, peer):
        peer.send(BINARY, b"ab", fin=False)
        async with await anext(client.messages()) as reader:
            assert await reader.read(2) == b"ab"
        rest = frame(CONTINUATION, bytes(2000)) + frame(Opcode.PING, b"late")
        peer.write(rest)
        assert (await peer.read_close())[0] == 1008
        await peer.read_end()


async def test_reader_left_with_flood_of_empty_fragments_closes_with_1008() -> None:
    async with pair(Limits(max_skip=10_000)) as (client, peer):
        peer.send(BINARY, b"begun", fin=False)
        async with await anext(client.messages()):
            pass
        peer.write(frame(CONTINUATION, fin=False) * 200)
        assert (await peer.read_close())[0] == 1008
        assert client.outcome is not None
        assert client.outcome.cause == "limit"


# The end of the connection ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [METHODS[0], lambda reader: reader.readexactly(5), *METHODS[5:8]],
    ids=["read", "readexactly", "readline", "readuntil", "get"],
)
async def test_reader_raises_incomplete_when_connection_ends_inside_message(
    method: Callable[[MessageReader], Awaitable[object]],
) -> None:
    async with pair() as (client, peer):
        peer.write(header(BINARY, 10) + xor(b"abcd"))
        reader = await anext(client.messages())
        waiting = asyncio.ensure_future(method(reader))
        await peer.close()
        with pytest.raises(IncompleteMessage) as caught:
            await waiting
        assert (caught.value.received, caught.value.missing) == (4, 6)


async def test_reader_returns_received_bytes_before_it_raises_incomplete() -> None:
    async with pair() as (client, peer):
        peer.write(header(BINARY, 10) + xor(b"abcd"))
        reader = await anext(client.messages())
        await peer.close()
        await client.wait_closed()
        with pytest.raises(IncompleteMessage):
            await reader.read()
        assert await reader.readexactly(3) == b"abc"
        assert await reader.read(10) == b"d"
        with pytest.raises(IncompleteMessage):
            await reader.read(10)
        assert not reader.at_eof()


async def test_reader_of_whole_message_reads_on_after_end_of_connection() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"whole") + frame(TEXT, b"second"))
        readers = client.messages()
        reader = await anext(readers)
        await peer.close()
        await client.wait_closed()
        assert await reader.read() == b"whole"
        assert await (await anext(readers)).get() == "second"
        with pytest.raises(ConnectionClosedError):
            await anext(readers)


async def test_messages_end_after_clean_close() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"one")
        peer.send_close()
        assert [await reader.get() async for reader in client.messages()] == ["one"]


# Several tasks ----------------------------------------------------------------------------------------------


async def test_messages_alone_give_readers() -> None:
    with pytest.raises(TypeError, match=r"client.messages\(\) and @client.message give one"):
        MessageReader()


WAITING: list[Callable[[MessageReader], Awaitable[object]]] = [
    lambda reader: reader.read(),
    lambda reader: reader.readexactly(8),
    lambda reader: reader.readline(),
    lambda reader: reader.readuntil(b"h"),
]


@pytest.mark.parametrize("second", METHODS, ids=NAMES)
@pytest.mark.parametrize("first", WAITING, ids=["read", "readexactly", "readline", "readuntil"])
async def test_reader_refuses_second_task_only(
    first: Callable[[MessageReader], Awaitable[object]], second: Callable[[MessageReader], Awaitable[object]]
) -> None:
    """The bytes that the first one has seen, and that are not enough for it, are not for the second one."""
    async with pair() as (client, peer):
        peer.write(header(BINARY, 8) + xor(b"abcdefgh")[:3])
        reader = await anext(client.messages())
        task = asyncio.ensure_future(first(reader))
        await iterations()
        with pytest.raises((ConcurrencyError, ReadError)) as caught:
            await second(reader)
        assert caught.type is (ReadError if second is METHODS[NAMES.index("get")] else ConcurrencyError)
        peer.write(xor(b"abcdefgh")[3:])
        assert await task == b"abcdefgh"


async def test_reader_reads_its_last_bytes_while_another_task_awaits_the_next_message() -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"abcdef")
        readers = client.messages()
        reader = await anext(readers)
        assert await reader.read(2) == b"ab"
        following = asyncio.ensure_future(anext(readers))
        await asyncio.sleep(0)
        assert await reader.read() == b"cdef"
        peer.send(TEXT, b"next")
        assert await (await following).get() == "next"


async def test_reader_gets_each_way_in_tasks() -> None:
    async with reading(b"one\n", b"two-", b"abc", b"de", b"end") as (reader, _):
        [line] = await asyncio.gather(reader.readline())
        assert line == b"one\n"
        assert await asyncio.create_task(reader.readuntil(b"-")) == b"two-"
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"abcd"
        buffer = bytearray(4)
        assert await asyncio.create_task(reader.readinto(buffer)) == 1
        async with asyncio.TaskGroup() as group:
            last = group.create_task(reader.read())
        assert (bytes(buffer[:1]), last.result()) == (b"e", b"end")


async def test_reader_can_be_left_by_a_stack() -> None:
    async with pair() as (client, peer):
        peer.write(frame(BINARY, b"unread") + frame(TEXT, b"next"))
        async with contextlib.AsyncExitStack() as stack:
            reader = await anext(client.messages())
            assert await stack.enter_async_context(reader) is reader
        with pytest.raises(StaleReader):
            await reader.read()
        assert await client.read_message() == "next"


async def test_reader_is_freed_when_it_is_dropped() -> None:
    """Also where its result was handed over by an exception object that is used again."""

    def readers() -> int:
        return sum(type(found) is MessageReader for found in gc.get_objects())

    async with pair() as (client, peer):
        counts: list[int] = []

        async def handler() -> None:
            async for reader in client.messages():
                await reader.get()
                del reader
                await asyncio.sleep(0)  # the chunk is processed
                counts.append(readers())

        before = readers()
        task = asyncio.create_task(handler())
        await asyncio.sleep(0)
        peer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
        peer.send_close()
        await task
        assert counts == [before, before]


# Cancelling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda reader: reader.read(),
        lambda reader: reader.readexactly(8),
        lambda reader: reader.readline(),
        lambda reader: reader.readuntil(b"h"),
        lambda reader: reader.get(),
    ],
    ids=["read", "readexactly", "readline", "readuntil", "get"],
)
async def test_reader_cancelled_keeps_its_position(read: Callable[[MessageReader], Awaitable[bytes]]) -> None:
    wire = xor(b"abcdefgh")
    async with pair() as (client, peer):
        peer.write(header(BINARY, 8) + wire[:3])
        reader = await anext(client.messages())
        for byte in range(3, 8):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await read(reader)
            peer.write(wire[byte : byte + 1])
        assert await read(reader) == b"abcdefgh"


async def test_reader_read_n_cancelled_keeps_its_position() -> None:
    async with pair() as (client, peer):
        peer.write(header(BINARY, 2))
        reader = await anext(client.messages())
        waiting = asyncio.create_task(reader.read(2))
        await asyncio.sleep(0)
        waiting.cancel()
        peer.write(xor(b"ab"))
        assert await reader.readexactly(2) == b"ab"
        await asyncio.wait([waiting])
        assert waiting.cancelled()


async def test_reader_shows_its_position() -> None:
    async with reading(b"abc", opcode=TEXT) as (reader, _):
        assert repr(reader) == "<MessageReader of a text message, 0 bytes so far>"
        await reader.read(1)
        assert repr(reader) == "<MessageReader of a text message, 3 bytes so far>"
        await reader.read()
        assert repr(reader) == "<MessageReader of a text message, at its end>"
        reader.leave()
        assert repr(reader) == "<MessageReader of a text message, left>"
