"""Broadcasts to clients with and without compression."""

import asyncio
import random
from collections.abc import Iterator

import attrs
import pytest

from helpers.compressing import TAKING_OVER, WIDE, CountingCodec, counted, open_compressing
from helpers.peers import QUIET
from helpers.waiting import until
from streamws import Client, WebSocketServer


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingCodec]:
    with counted(monkeypatch) as counting:
        yield counting


MESSAGES: list[str | bytes] = ["text é" * 300, random.Random(1).randbytes(3000) * 3, "", "text é" * 300]
OFFERS = [
    None,
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=12; server_no_context_takeover",
]


async def test_broadcast_reaches_clients_with_any_compression() -> None:
    async with asyncio.timeout(10):

        async def hold(client: Client) -> None:
            await client.wait_closed()

        async with WebSocketServer("127.0.0.1", 0, handler=hold, compression=TAKING_OVER, timeouts=QUIET) as socket:
            port = socket.sockets[0].getsockname()[1]
            wires = []
            for offer in OFFERS:
                takeover = offer is not None and "takeover" not in offer
                bits = 9 if offer and "=9" in offer else 12 if offer and "=12" in offer else 15
                wires.append(
                    await open_compressing(port, attrs.evolve(WIDE, window_bits=bits, takeover=takeover), offer)
                )
            await until(lambda: len(socket.clients) == len(OFFERS))
            for number, message in enumerate(MESSAGES * 2):
                compress = [None, True][number // 4]
                busy = list(socket.clients.values())[number % len(OFFERS)]
                async with busy.writer.fragment() as stream:  # the broadcast waits for its turn
                    await stream.send(b"busy")
                    assert socket.broadcast(message, compress=compress) == len(OFFERS)
                assert socket.broadcast(message, compress=False) == len(OFFERS)
                for place, wire in enumerate(wires):
                    if place == number % len(OFFERS):
                        assert (await wire.read_message())[1] == b"busy"
                    assert (await wire.read_message())[1] == message
                    assert await wire.read_message() == (False, message)
            for wire in wires:
                await wire.close()


async def test_broadcast_is_compressed_once(codec: CountingCodec) -> None:
    async with asyncio.timeout(10):

        async def hold(client: Client) -> None:
            await client.wait_closed()

        async with WebSocketServer("127.0.0.1", 0, handler=hold, compression=WIDE, timeouts=QUIET) as socket:
            port = socket.sockets[0].getsockname()[1]
            wires = [await open_compressing(port, WIDE) for _ in range(8)]
            await until(lambda: len(socket.clients) == 8)
            for number in range(1, 4):
                assert socket.broadcast("to all" * 99) == 8
                assert codec.compressed == number
                for wire in wires:
                    assert await wire.read_message() == (True, "to all" * 99)
            assert codec.alive == 1
            for wire in wires:
                await wire.close()


async def test_broadcast_uses_no_context_of_a_fragmented_message_under_way() -> None:
    async with asyncio.timeout(10):

        async def hold(client: Client) -> None:
            await client.wait_closed()

        part = random.Random(2).randbytes(400)
        async with WebSocketServer("127.0.0.1", 0, handler=hold, compression=WIDE, timeouts=QUIET) as socket:
            port = socket.sockets[0].getsockname()[1]
            wires = [await open_compressing(port, WIDE) for _ in range(2)]
            await until(lambda: len(socket.clients) == 2)
            busy = next(iter(socket.clients.values()))
            async with busy.writer.fragment(compress=True) as stream:
                await stream.send(part)
                assert socket.broadcast(part * 2, compress=True) == 2
                await stream.send(part)
            assert await wires[0].read_message() == (True, part * 2)
            for wire in wires:
                assert await wire.read_message() == (True, part * 2)
                await wire.close()
