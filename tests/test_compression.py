"""Compression over real sockets: limits, broken rules, and the state of the contexts after whatever happens."""

import asyncio

import pytest

from helpers.compressing import TAKING_OVER, WIDE, talk
from helpers.pairs import until
from streamws import (
    Limits,
)

pytestmark = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
both_ways = pytest.mark.parametrize("compression", [WIDE, TAKING_OVER], ids=["alone", "takeover"])

KiB = 1024


async def test_readinto_takes_nothing_of_the_next_message(server: bool) -> None:
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
        await wire.turns()
        # Behind the end of the first message comes a part of the second one, which lies in the receive buffer.
        wire.write(stream[15:] + following[:20_000])
        await until(lambda: client._connection.protocol.parser.in_frame)
        await wire.turns()
        wire.write(following[20_000:])
        assert await reading == [(200_000, 0), (50_000, 50_000)]


async def test_stream_limit_counts_nothing_of_the_next_message(server: bool) -> None:
    async with talk(server, limits=Limits(max_stream_size=200_000)) as (client, wire):
        wire.write(wire.packed(bytes(150_000)) + wire.plain(b"N" * 100_000)[:20_000])
        reader = await anext(client.messages())
        assert await reader.read() == bytes(150_000)
        assert client.outcome is None
