"""To cancel something, and to see what came of it at the peer."""

import asyncio
from contextlib import suppress
from typing import Any

import attrs

from helpers.pairs import Peer
from streamws import Client, Limits, Opcode

NARROW = Limits(write_high=4000, write_low=1000)
"""With small buffers: whoever sends is soon made to wait."""


async def turns(count: int = 4) -> None:
    """Let the loop turn: in four of them what was sent has been received and worked off."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[Any]") -> bool:
    """Wait for the task; whether it was cancelled. What else it raises is raised."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def full_network(client: Client) -> None:
    """Whoever sends waits until the peer has taken much of this."""
    for _ in range(6):
        client.send(b"f" * 10_000).close()
    await turns()
    assert client._connection.outbox.paused


@attrs.define
class Collected:
    """What the peer got."""

    messages: list[bytes] = attrs.field(factory=list)
    close: int | None = None
    pongs: list[bytes] = attrs.field(factory=list)
    rest: bytes = b""
    """What came of a message that is not complete."""


async def collect(peer: Peer, got: Collected) -> None:
    """Read until the connection ends; a ping is answered. Each frame must be in its place."""
    begun = False
    with suppress(asyncio.IncompleteReadError):
        while True:
            first, payload = await peer.read_frame()
            assert got.close is None, "a frame came after Close"
            if first == 0x88:
                got.close = int.from_bytes(payload[:2], "big")
            elif first == 0x89:
                peer.send(Opcode.PONG, payload)
            elif first == 0x8A:
                got.pongs.append(payload)
            else:
                assert first & 0x70 == 0
                assert (first & 0x0F == 0) is begun, "a frame is not in its place"
                begun = first < 0x80
                got.rest += payload
                if not begun:
                    got.messages.append(got.rest)
                    got.rest = b""
