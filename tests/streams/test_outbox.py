"""What is sent and when it leaves: gathered writes, lone messages, back-pressure."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from helpers.frames import client_frame as frame
from helpers.peers import Peer, full_network, pair
from helpers.waiting import iterations, until
from streamws import Cause, Client, ConnectionClosed, ConnectionClosedError, Limits, Opcode, Timeouts
from streamws.awaiting.internals import WAKES_DIRECTLY
from streamws.net.network import Network

TEXT, BINARY = Opcode.TEXT, Opcode.BINARY


class Recorder:
    """A transport that notes what is written to it."""

    descriptor = -1  # no socket, so that no bytes go to it past this transport

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def record(client: Client) -> list[bytes]:
    """What is written to the client's transport from now on, write by write."""
    connection = client._connection
    recorder = connection.transport = Recorder(connection.transport)
    connection.outbox.network = Network(recorder)
    return recorder.writes


def text(payload: bytes) -> bytes:
    return bytes((0x81, len(payload))) + payload


# When it leaves ---------------------------------------------------------------------------------------------


async def test_outbox_sends_answers_to_one_chunk_in_one_write() -> None:
    async with pair() as (client, peer):

        async def echo() -> None:
            async for message in client:
                await client.send(message)
                await client.send("again")

        echoing = asyncio.create_task(echo())
        await asyncio.sleep(0)
        writes = record(client)
        peer.write(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(TEXT, b"3"))
        await peer.read_frames(6)
        answers = [text(payload) + text(b"again") for payload in (b"1", b"2", b"3")]
        if WAKES_DIRECTLY:
            assert writes == [b"".join(answers)]
        else:  # the reader runs one loop iteration later, outside of the batch
            assert writes == [text(b"1"), b"".join(answers).removeprefix(text(b"1"))]
        peer.send_close()
        await echoing


async def test_outbox_sends_pongs_with_answers_in_one_write_and_in_order() -> None:
    async with pair() as (client, peer):

        async def echo() -> None:
            async for message in client:
                await client.send(message)

        echoing = asyncio.create_task(echo())
        await asyncio.sleep(0)
        writes = record(client)
        peer.write(frame(TEXT, b"1") + frame(Opcode.PING, b"p") + frame(TEXT, b"2"))
        assert sorted(await peer.read_frames(3)) == [(0x81, b"1"), (0x81, b"2"), (0x8A, b"p")]
        # Without direct wake-ups the answers leave one iteration later: the first at once, the other at its end.
        assert len(writes) == (1 if WAKES_DIRECTLY else 3)
        peer.send_close()
        await echoing


async def test_outbox_sends_lone_message_at_once() -> None:
    async with pair() as (client, _):
        writes = record(client)
        await client.send("lone")
        assert writes == [text(b"lone")]
        await asyncio.sleep(0)
        await client.send("lone again")
        assert writes == [text(b"lone"), text(b"lone again")]


async def test_outbox_gathers_later_messages_of_one_turn() -> None:
    async with pair() as (client, peer):
        writes = record(client)
        for number in range(4):
            await client.send(str(number))
        assert writes == [text(b"0")]
        await asyncio.sleep(0)
        assert writes == [text(b"0"), text(b"1") + text(b"2") + text(b"3")]
        assert await peer.read_frames(4) == [(0x81, b"%d" % number) for number in range(4)]


async def test_outbox_sends_the_next_burst_in_one_write() -> None:
    async with pair() as (client, peer):
        writes = record(client)
        burst = [text(b"%d" % number) for number in range(20)]
        for _ in range(3):
            for number in range(20):
                client.send(str(number)).close()
            await asyncio.sleep(0)
        assert writes == [burst[0], b"".join(burst[1:]), b"".join(burst), b"".join(burst)]
        await client.send("gathered too")
        assert len(writes) == 4
        await asyncio.sleep(0)
        await client.send("lone")
        assert writes[4:] == [text(b"gathered too"), text(b"lone")]
        assert len(await peer.read_frames(62)) == 62


async def test_outbox_does_not_hold_back_many_bytes() -> None:
    async with pair() as (client, _):
        writes = record(client)
        for _ in range(3):
            await client.send("x" * 60_000)
        assert [len(write) for write in writes] == [60_004, 120_008]


@pytest.mark.parametrize("size", [16 * 1024 - 1, 16 * 1024, 100_000])
async def test_outbox_sends_large_message_after_what_was_gathered(size: int) -> None:
    async with pair() as (client, peer):
        sent = [b"first", b"gathered", b"x" * size, b"last"]
        sending = [asyncio.create_task(client.send(payload)) for payload in sent]
        assert [payload for _, payload in await peer.read_frames(4)] == sent
        await asyncio.gather(*sending)


async def test_outbox_keeps_order_of_all_ways_to_send() -> None:
    async with pair() as (client, peer):

        async def answer() -> None:
            async for message in client:
                await client.send(message)
                await client.send("in the batch")

        answering = asyncio.create_task(answer())
        await client.send("first")
        await client.send("gathered")
        client._connection.receive(frame(TEXT, b"woken"), len(frame(TEXT, b"woken")))
        await client.send("last")
        expected = [b"first", b"gathered", b"last", b"woken", b"in the batch"]
        assert [payload for _, payload in await peer.read_frames(5)] == expected
        peer.send_close()
        await answering


async def test_outbox_sends_what_was_gathered_before_close() -> None:
    async with pair() as (client, peer):
        for number in range(3):
            await client.send(str(number))
        closing = asyncio.create_task(client.close())
        assert await peer.read_frames(3) == [(0x81, b"0"), (0x81, b"1"), (0x81, b"2")]
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing


async def test_outbox_sends_answers_to_what_came_before_close() -> None:
    async with pair() as (client, peer):

        async def echo() -> None:
            async for message in client:
                await client.send(message)

        echoing = asyncio.create_task(echo())
        await asyncio.sleep(0)
        peer.write(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(Opcode.CLOSE))
        assert await peer.read_frames(3) == [(0x81, b"1"), (0x81, b"2"), (0x88, b"")]
        await peer.read_end()
        await echoing


async def test_outbox_sends_to_several_connections_in_one_turn() -> None:
    async with pair() as (one, first), pair() as (two, second):
        for number in range(3):
            await one.send(str(number))
            await two.send(str(number))
        expected = [(0x81, b"0"), (0x81, b"1"), (0x81, b"2")]
        assert await first.read_frames(3) == expected
        assert await second.read_frames(3) == expected


async def test_outbox_keeps_order_when_the_flush_of_another_one_wakes_a_task() -> None:
    async with pair(Limits(max_write_backlog=1 << 20), small_buffers=True) as (slow, _), pair() as (other, peer):

        async def tell() -> None:
            with suppress(ConnectionClosedError):
                await slow.read_message()
            await other.send("left")

        telling = asyncio.create_task(tell())
        await asyncio.sleep(0)
        await slow.send("this turn")
        slow.send(b"x" * (4 << 20)).close()
        slow.send("too much, when the turn ends").close()
        await other.send("1")
        await other.send("2, when the turn ends")
        await telling
        assert [payload for _, payload in await peer.read_frames(3)] == [b"1", b"2, when the turn ends", b"left"]


# Back-pressure ----------------------------------------------------------------------------------------------


def fill(client: Client) -> None:
    """Send more than the network takes while the peer does not read."""
    client.send(b"x" * (1 << 20)).close()
    assert client._connection.outbox.paused


async def read_rest(peer: Peer) -> list[bytes]:
    """The text messages that come, up to one that says "end"."""
    texts: list[bytes] = []
    while not texts or texts[-1] != b"end":
        first, payload = await peer.read_frame()
        if first == 0x81:
            texts.append(payload)
    return texts


async def test_send_waits_while_peer_does_not_read_and_goes_on_when_it_does() -> None:
    async with pair(small_buffers=True) as (client, peer):
        fill(client)
        sending = [asyncio.create_task(client.send(text)) for text in ("one", "two", "end")]
        await peer.writer.drain()
        assert not any(task.done() for task in sending)
        assert await read_rest(peer) == [b"one", b"two", b"end"]
        await asyncio.gather(*sending)
        assert not client._connection.outbox.paused


async def test_message_of_send_cancelled_under_back_pressure_arrives() -> None:
    async with pair(small_buffers=True) as (client, peer):
        fill(client)
        sending = asyncio.create_task(client.send("one"))
        await asyncio.sleep(0)
        sending.cancel()
        waiting = asyncio.create_task(client.send("end"))
        assert await read_rest(peer) == [b"one", b"end"]
        await waiting
        assert sending.cancelled()


async def test_pong_and_fragments_wait_while_peer_does_not_read() -> None:
    async def fragments(client: Client) -> None:
        async with client.writer.fragment() as stream:
            await stream.send("one")

    async with pair(small_buffers=True) as (client, peer):
        fill(client)
        waiting = [asyncio.create_task(client.writer.pong()), asyncio.create_task(fragments(client))]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        ending = asyncio.create_task(client.send("end"))
        assert await read_rest(peer) == [b"end"]
        await asyncio.gather(ending, *waiting)


async def test_send_raises_when_connection_ends_while_it_waits() -> None:
    async with pair(small_buffers=True) as (client, peer):
        fill(client)
        sending = [asyncio.create_task(client.send("one")) for _ in range(3)]
        await asyncio.sleep(0)
        peer.writer.transport.abort()
        for task in sending:
            with pytest.raises(ConnectionClosedError):
                await task
        assert client.outcome is not None
        assert client.outcome.cause is Cause.RESET


async def test_keepalive_ping_behind_one_large_message_does_not_exceed_the_backlog() -> None:
    limits = Limits(write_high=4000, write_low=1000, max_write_backlog=20_000)
    timeouts = Timeouts(close=5, ping_interval=0.02, ping_timeout=3600)
    async with pair(limits, timeouts, small_buffers=True) as (client, peer):
        # The keepalive sends no ping while another one is not answered.
        first, payload = await peer.read_frame()
        assert first == 0x89
        sending = asyncio.create_task(client.send(bytes(500_000)))
        await iterations()
        peer.send(Opcode.PONG, payload)
        await until(lambda: client.latency is not None)
        await until(lambda: client._connection.pings._waiting)
        assert client.outcome is None
        assert await peer.read_frame() == (0x82, bytes(500_000))
        assert (await peer.read_frame())[0] == 0x89
        await sending


@pytest.mark.parametrize("call", ["ping", "pong"])
async def test_pings_and_pongs_of_the_application_close_with_1008_when_peer_is_too_slow(call: str) -> None:
    async with pair(Limits(write_high=4000, write_low=1000, max_write_backlog=20_000), small_buffers=True) as (
        client,
        _,
    ):
        await full_network(client)
        while client.outcome is None:
            getattr(client.writer, call)(b"x" * 125).close()
            assert client._connection.network.backlog() < 100_000
        assert client.outcome.cause is Cause.LIMIT
        with pytest.raises(ConnectionClosedError):
            await getattr(client.writer, call)()


async def test_send_closes_with_1008_when_peer_is_too_slow() -> None:
    limits = Limits(max_write_backlog=1 << 20)
    async with pair(limits, small_buffers=True) as (client, _):
        await client.send("x")
        sending = []
        for _ in range(1000):
            if client.outcome is not None:
                break
            sending.append(asyncio.create_task(client.send(b"x" * 100_000)))
            await asyncio.sleep(0)
        assert client.outcome is not None
        assert client.outcome.cause is Cause.LIMIT
        assert client.outcome.sent is not None
        assert client.outcome.sent.code == 1008
        client._connection.abort()
        for task in sending:
            with suppress(ConnectionClosed):
                await task
        assert sending[-1].exception() is not None
