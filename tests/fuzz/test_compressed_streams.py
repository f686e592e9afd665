"""Compressed and uncompressed messages in random chunks, read by random methods: each reader gets its own message."""

import asyncio
import importlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.compressing import Packer
from helpers.frames import header, xor
from helpers.taps import BINARY, CONTINUATION, TEXT
from helpers.virtual import ALL, NoSocket, VirtualLoop, agree, build_of, connected, packages

HOWS = ["get", "read", "some", "readinto", "readline", "chunks", "text", "message", "frames", "leave"]
LIMIT = 3000

fuzz = settings(
    max_examples=int(os.environ.get("STREAMWS_CONVERSATIONS") or 40), deadline=None, derandomize="CI" in os.environ
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, bytes, bool, list[int]]:
    """Draw a message: opcode, data, whether it is compressed, and where it is cut into fragments."""
    size = draw(st.integers(0, 200) | st.sampled_from([30, 60, 125, 126, LIMIT // 2, LIMIT, LIMIT]))
    word = draw(st.sampled_from([b"a", b"line\n", "é€𝄞".encode(), b"0123456789abcdef"]))
    opcode = draw(st.sampled_from([TEXT, BINARY, BINARY]))
    data = (word * (size // len(word) + 1))[: size if opcode == BINARY else size // len(word) * len(word)]
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=2))
    return opcode, data, draw(st.booleans()), sorted(cuts)


def frames(message: tuple[int, bytes, bool, list[int]], packer: Packer) -> bytes:
    opcode, data, packed, cuts = message
    stream = b""
    places = [0, *cuts, len(data)]
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        fin = number == len(cuts)
        payload = packer.part(data[start:end], fin) if packed else data[start:end]
        first = CONTINUATION if number else opcode
        rsv = 4 if packed and not number else 0
        stream += header(first, len(payload), fin=fin, rsv=rsv, masked=True) + xor(payload)
    return stream


async def read(client: Any, how: str) -> bytes | str | None:
    """Read a message by one method.

    :returns: The message, or None if the reader left it.
    """
    if how == "message":
        message: bytes | str = await client.read_message()
        return message
    if how == "frames":
        parts = [await client.read_frame()]
        while not parts[-1].fin:
            parts.append(await client.read_frame())
        return b"".join(part.payload for part in parts)
    reader = await anext(client.messages())
    data = b""
    match how:
        case "get":
            whole: bytes | str = await reader.get()
            data = whole.encode() if isinstance(whole, str) else whole
        case "read":
            return bytes(await reader.read())
        case "text":
            if reader.type == TEXT:
                return "".join([part async for part in reader.text()])
            return bytes(await reader.read())
        case "chunks":
            return b"".join([chunk async for chunk in reader])
        case "leave":
            await reader.read(20)
            reader.leave()
            return None
        case "readinto":
            buffer = bytearray(50)
            while size := await reader.readinto(buffer):
                data += buffer[:size]
    if how in ("get", "readinto"):
        return data
    while part := await (reader.readline() if how == "readline" else reader.read(7)):
        data += part
    return data


@contextmanager
def inflating(package: str, size: int) -> Iterator[None]:
    """Inflate `size` bytes at a time for readers that read piece by piece."""
    inflation: Any = importlib.import_module(f"{package}.streams.inflation")
    before, inflation.PIECE = inflation.PIECE, size
    try:
        yield
    finally:
        inflation.PIECE = before


@pytest.mark.parametrize("package", packages(), ids=build_of)
@fuzz
@given(
    contents=st.lists(st.tuples(messages(), st.sampled_from(HOWS)), min_size=1, max_size=6),
    lengths=st.lists(st.integers(1, 9) | st.integers(1, 300) | st.just(1 << 16), min_size=1, max_size=5),
    takeover=st.booleans(),
    piece=st.sampled_from([1, 30, 30, 1 << 16]),
    marks=st.sampled_from([{}, {"read_high": 400, "read_low": 100}]),
    late=st.booleans(),
)
def test_each_reader_returns_its_own_message(
    package: str,
    contents: list[tuple[tuple[int, bytes, bool, list[int]], str]],
    lengths: list[int],
    takeover: bool,
    piece: int,
    marks: dict[str, int],
    late: bool,
) -> None:
    wishes = {"window_bits": 15, "peer_window_bits": 15, "peer_takeover": takeover, "takeover": takeover}
    assert agree((package, package), (wishes, wishes))[0]["peer_takeover"] is takeover
    packer = Packer(15, takeover)
    stream = b"".join(frames(message, packer) for message, _ in contents)
    loop = VirtualLoop()
    try:
        end, other = connected(
            loop,
            (package, package),
            socket=NoSocket(),
            limits={"max_message_size": LIMIT, "max_stream_size": LIMIT, "write_high": ALL, **marks},
            compressions=(wishes, wishes),
        )

        async def read_all() -> list[bytes | str | None]:
            return [await read(end.client, how) for _, how in contents]

        with inflating(package, piece):
            reading = loop.create_task(read_all())
            if not late:
                loop.settle()
            other.transport.write(stream)
            for number in range(len(stream)):
                if not other.transport.can_move:
                    loop.settle()
                    if not other.transport.can_move:
                        break
                loop.call_soon(other.transport.move, lengths[number % len(lengths)] if number < 400 else ALL)
                loop.settle()
            assert reading.done(), "a reader waits for what has come"
            for got, (message, how) in zip(reading.result(), contents, strict=True):
                seen = got.encode() if isinstance(got, str) else got
                assert seen == (None if how == "leave" else message[1])
        for each in (end, other):
            each.transport.drop(None, 0)
        loop.settle()
    finally:
        loop.end()
    assert not asyncio.all_tasks(loop)
