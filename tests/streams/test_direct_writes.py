"""Direct writes to the socket keep their order with data in the write buffer of the transport."""

import asyncio
import os

import pytest

from helpers.peers import pair


@pytest.mark.parametrize("size", [100, 20_000, 3_000_000])
async def test_client_sends_in_order_while_the_socket_is_full(size: int) -> None:
    """The rest of a partial write follows the data in the transport's buffer."""
    messages = [bytes([number]) * 7 + os.urandom(size) for number in range(5)]
    async with pair() as (client, peer):
        sending = asyncio.gather(*(client.send(message) for message in messages), client.send("last"))
        for message in messages:
            first, payload = await peer.read_frame()
            assert (first, payload == message) == (0x82, True)
        assert await peer.read_frame() == (0x81, b"last")
        await sending


async def test_client_sends_directly_again_after_the_socket_drained() -> None:
    async with pair() as (client, peer):
        large = client.send(b"x" * 5_000_000)
        assert len((await peer.read_frame())[1]) == 5_000_000
        await large
        await client.send("small")
        assert await peer.read_frame() == (0x81, b"small")


async def test_client_raises_when_it_sends_to_a_peer_that_reset() -> None:
    async with pair() as (client, peer):
        peer.writer.transport.abort()
        await client.wait_closed()
        outcome = client.outcome
        assert outcome is not None
        assert outcome.sent is None
