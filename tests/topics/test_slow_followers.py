"""Followers that read too slowly, on real sockets: what waits, what is dropped, and that the others do not notice."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from helpers.fixtures import Connect, Serve, client_of
from helpers.waiting import iterations, until, within
from streamws import Client, Compression, Limits, Opcode, Timeouts, WebSocketServer
from streamws import connect as connect_client
from streamws.topics import Gap, History, MemoryBroker, PresenceEvent, Publication, Topic, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics

Raw = Publication[str | bytes]
QUIET = Timeouts(ping_interval=None)
LIMITS = Limits(write_high=4096, write_low=1024)
FINAL = 0x80
SIZE = 32 * 1024
"""The size of large publications: a few of them fill the buffers of a socket that nobody reads."""


async def hold(client: Client) -> None:
    await client.wait_closed()


def offset_of(payload: bytes) -> int:
    return int(payload[:8])


def large(number: int) -> str:
    return f"{number:08}" + "x" * SIZE


def str_of(publication: Raw) -> str:
    return str(publication.payload)


def str_of_other(publication: Raw) -> str:
    return f"{publication.payload!s}o"


class Slow:
    """A server with one client that does not read, and one that does."""

    def __init__(self, topics: Topics, serve: Serve, connect: Connect) -> None:
        self.topics = topics
        self.topic = topics.topic("news")
        self.serve = serve
        self.connect = connect
        self.gaps: list[Gap] = []

    async def start(self, slow: Any, backlog: int = 4 * SIZE) -> None:
        server = await self.serve(hold, limits=LIMITS, timeouts=QUIET, compression=None)
        self.slow = await self.connect(server, receive_buffer=4096)
        self.fast = await self.connect(server)
        await until(lambda: len(server.clients) == 2)
        self.slow_client, self.fast_client = client_of(server, self.slow), client_of(server, self.fast)
        await self.topic.join(
            self.slow_client, slow=slow, backlog=backlog, on_gap=lambda client, gap: self.gaps.append(gap)
        )
        await self.topic.join(self.fast_client)
        # Fill the buffers of the slow client's socket.
        self.count = 0
        while not self.follower.waiting:
            await self.publish()

    @property
    def follower(self) -> Any:
        return self.topics._core.outlets[self.slow_client].followers["news"]

    async def publish(self, key: str | None = None) -> None:
        await self.topic.publish(large(self.count), key=key)
        assert offset_of((await self.fast.read_frame())[1]) == self.count
        self.count += 1

    async def numbers(self, last: int) -> list[int]:
        """Read what the slow client gets, up to a publication."""
        numbers: list[int] = []
        while not numbers or numbers[-1] < last:
            numbers.append(offset_of((await self.slow.read_frame())[1]))
        return numbers


@pytest.fixture
async def slow(topics: Topics, serve: Serve, connect: Connect) -> Slow:
    return Slow(topics, serve, connect)


async def test_slow_follower_gets_everything_if_it_reads_in_time(slow: Slow) -> None:
    await slow.start("disconnect")
    await slow.publish()
    await slow.publish()
    assert slow.follower.size == sum(delivery.size for delivery in slow.follower.waiting.values())
    assert await slow.numbers(slow.count - 1) == [*range(slow.count)]
    await until(lambda: slow.follower.waiting is None)
    assert slow.topic.lost(slow.slow_client) == 0
    # And it is fast again.
    await slow.publish()
    assert await slow.numbers(slow.count - 1) == [slow.count - 1]
    assert slow.gaps == []


async def test_follower_over_its_backlog_is_disconnected_with_1013(slow: Slow) -> None:
    await slow.start("disconnect")
    while slow.slow_client in slow.topics._core.outlets:
        await slow.publish()
    await until(lambda: slow.slow_client.outcome is not None)
    assert slow.slow_client.outcome is not None
    assert slow.slow_client.outcome.code == 1013
    await slow.publish()
    code, payload = 0, b""
    while code != FINAL | Opcode.CLOSE:
        code, payload = await slow.slow.read_frame()
    assert payload[:2] == (1013).to_bytes(2, "big")
    assert payload[2:].startswith(b"too slow: ")


async def test_drop_oldest_keeps_the_newest_and_tells_of_a_gap(slow: Slow) -> None:
    await slow.start("drop-oldest")
    for _ in range(6):
        await slow.publish()
    lost = slow.topic.lost(slow.slow_client)
    assert lost > 0
    numbers = await slow.numbers(slow.count - 1)
    assert len(numbers) == slow.count - lost
    missing = [number for number in range(slow.count) if number not in numbers]
    assert missing == [*range(missing[0], missing[0] + lost)]
    assert numbers[-3:] == [slow.count - 3, slow.count - 2, slow.count - 1]
    assert [gap.since.offset for gap in slow.gaps] == [missing[0]]  # offsets begin with 1


async def test_drop_newest_keeps_the_oldest_and_tells_of_a_gap(slow: Slow) -> None:
    await slow.start("drop-newest")
    while not slow.topic.lost(slow.slow_client):
        await slow.publish()
    await slow.publish()
    assert slow.topic.lost(slow.slow_client) == 2
    last = slow.count - 3
    assert await slow.numbers(last) == [*range(last + 1)]
    assert [gap.since.offset for gap in slow.gaps] == [last + 1]
    await until(lambda: slow.follower.waiting is None)
    await slow.publish()
    assert await slow.numbers(slow.count - 1) == [slow.count - 1]


async def test_latest_keeps_the_last_of_each_key(slow: Slow) -> None:
    await slow.start("latest", backlog=8 * SIZE)
    first = slow.count
    for key in ["a", "b", "a", "b", "b", "c"]:
        await slow.publish(key)
    assert slow.topic.lost(slow.slow_client) == 3
    numbers = await slow.numbers(slow.count - 1)
    assert numbers == [*range(first), first + 2, first + 4, first + 5]
    assert slow.gaps == []


async def test_publication_that_is_larger_than_the_backlog_waits_alone(slow: Slow) -> None:
    await slow.start("drop-oldest", backlog=100)
    assert len(slow.follower.waiting) == 1
    await slow.publish()
    assert len(slow.follower.waiting) == 1
    assert (await slow.numbers(slow.count - 1))[-1] == slow.count - 1


async def test_what_waits_for_several_followers_exists_once(slow: Slow) -> None:
    await slow.start("disconnect", backlog=100 * SIZE)
    other = Channel()
    other.stick()
    await slow.topic.join(other)
    await iterations()
    await slow.publish()
    await slow.publish()
    held = slow.topics._core.outlets[other].followers["news"].waiting
    assert held is not None
    mine = [delivery.message for delivery in slow.follower.waiting.values()]
    for delivery in held.values():
        assert any(delivery.message is message for message in mine)
    other.end()


async def test_follower_that_leaves_gets_nothing_that_waited(slow: Slow) -> None:
    await slow.start("disconnect")
    waiting = next(iter(slow.follower.waiting.values())).position.offset
    await slow.topic.leave(slow.slow_client)
    await slow.topic.join(slow.slow_client)
    await slow.publish()
    numbers = await slow.numbers(slow.count - 1)
    assert numbers == [*range(waiting - 1), slow.count - 1]


async def test_slow_follower_in_one_topic_keeps_the_order_in_all(slow: Slow) -> None:
    other = slow.topics.topic("other")
    await slow.start("disconnect", backlog=100 * SIZE)
    await other.join(slow.slow_client)
    await other.publish("00000000 other")
    await slow.publish()
    await other.publish("00000001 other")
    others: list[int] = []
    numbers: list[int] = []
    while len(others) < 2 or len(numbers) < slow.count:
        _, payload = await slow.slow.read_frame()
        (others if payload.endswith(b"other") else numbers).append(offset_of(payload))
    assert others == [0, 1]
    assert numbers == [*range(slow.count)]


async def test_publication_waits_for_a_message_in_parts(topics: Topics, serve: Serve, connect: Connect) -> None:
    server = await serve(hold, timeouts=QUIET, compression=None)
    raw = await connect(server)
    await until(lambda: len(server.clients) == 1)
    client = client_of(server, raw)
    topic = topics.topic("news")
    await topic.join(client)
    async with client.writer.fragment(Opcode.TEXT) as stream:
        await stream.send("one ")
        await topic.publish("inside")
        await topic.publish("again")
        await stream.send("message")
    frames = [await raw.read_frame() for _ in range(5)]
    assert [payload for _, payload in frames if payload] == [b"one ", b"message", b"inside", b"again"]
    await topic.publish("behind")
    assert await raw.read_frame() == (FINAL | Opcode.TEXT, b"behind")


async def test_connection_of_two_topics_objects_keeps_the_order_in_both(
    topics: Topics, open_topics: OpenTopics, serve: Serve, connect: Connect
) -> None:
    server = await serve(hold, limits=LIMITS, timeouts=QUIET, compression=None)
    raw = await connect(server, receive_buffer=4096)
    await until(lambda: len(server.clients) == 1)
    client = client_of(server, raw)
    both = [topics.topic("news"), (await open_topics()).topic("news")]
    for topic, frame in zip(both, (str_of, str_of_other), strict=True):
        await topic.join(client, backlog=100 * SIZE, frame=frame)
    async with client.writer.fragment(Opcode.TEXT) as stream:
        await stream.send("part")
        for topic in both:
            await topic.publish(large(0))
    for number in range(1, 20):
        for topic, times in zip(both, (1, 2), strict=True):
            for _ in range(times):
                await topic.publish(large(number))
        await iterations(1)
    sizes: dict[int, list[int]] = {SIZE + 8: [], SIZE + 9: []}
    while sum(map(len, sizes.values())) < 2 + 19 * 3:
        _, payload = await raw.read_frame()
        if len(payload) in sizes:
            sizes[len(payload)].append(offset_of(payload))
    assert sizes[SIZE + 8] == [*range(20)]
    assert sizes[SIZE + 9] == sorted([0, *range(1, 20), *range(1, 20)])
    assert client.writer.held == 0


async def test_connection_that_is_not_of_streamws_is_slow_too(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    channel.stick()
    await topic.join(channel, slow="drop-oldest", backlog=200)
    for number in range(10):
        await topic.publish(f"{number:050}")
        await iterations()
    assert topic.lost(channel) == 8  # one is under way, one waits
    channel.move()
    await until(lambda: len(channel.sent) == 2)
    assert [int(str(payload)) for payload in channel.sent] == [0, 9]


@pytest.mark.parametrize("slow", ["drop-oldest", "drop-newest", "latest"])
async def test_each_place_where_publications_are_missing_is_told_once(
    topics: Topics, channel: Channel, slow: Any
) -> None:
    """The connection reads one of four publications, and never all that wait."""
    topic = topics.topic("news")
    gaps: list[int] = []
    channel.stick()
    await topic.join(channel, slow=slow, backlog=300, on_gap=lambda _, gap: gaps.append(gap.since.offset))
    for number in range(1, 41):
        await topic.publish(f"{number}", key=f"{number}")
        await iterations()
        if number % 4 == 0:
            channel.move_one()
            await iterations()
    channel.move()
    await iterations()
    sent = [int(str(payload)) for payload in channel.sent]
    assert sent == sorted(sent)
    missing = [before for before, after in pairwise([*sent, 41]) if after != before + 1]
    assert len(missing) > 5
    assert gaps == missing
    assert topic.lost(channel) == 40 - len(sent)


async def test_connection_that_is_not_of_streamws_is_closed_with_1013(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    channel.stick()
    await topic.join(channel, backlog=200)
    for number in range(4):
        await topic.publish(f"{number:050}")
        await iterations()
    await until(lambda: channel.closed_with is not None)
    assert channel.closed_with is not None
    assert channel.closed_with[0] == 1013
    await until(lambda: topics.followed == 0)


async def test_connection_that_joins_again_and_again_collects_nothing(
    topics: Topics, serve: Serve, connect: Connect
) -> None:
    server = await serve(hold, timeouts=QUIET)
    raw = await connect(server)
    await until(lambda: len(server.clients) == 1)
    client = client_of(server, raw)
    outlets = set()
    for number in range(50):
        topic = topics.topic(f"news {number}")
        await topic.join(client, frame=lambda publication: b"new")
        outlets.add(topics._core.outlets[client])
        await topic.leave(client)
    assert len(outlets) == 1  # the connection knows it until its end
    await until(lambda: topics.followed == 0)
    raw.close()
    await until(lambda: topics._core.outlets == {})


async def test_slow_connection_that_joins_again_and_again_collects_nothing(topics: Topics, channel: Channel) -> None:
    topic, other = topics.topic("news"), topics.topic("other")
    channel.stick()
    await other.join(channel)
    await other.publish("1")
    await iterations()
    for number in range(50):
        await topic.join(channel)
        await topic.publish(f"{number}")
        await topic.leave(channel)
    assert not topics._core.outlets[channel]._queue
    await topic.join(channel)
    await topic.publish("2")
    channel.move()
    await until(lambda: channel.sent == ["1", "2"])


@pytest.mark.parametrize("slow", ["disconnect", "drop-oldest", "drop-newest", "latest"])
async def test_backlog_is_exact(topics: Topics, channel: Channel, slow: Any) -> None:
    topic = topics.topic("news")
    channel.stick()
    await topic.join(channel, slow=slow, backlog=300)
    async with topic.subscribe(slow=slow, backlog=400) as feed:
        await topic.publish("x")
        await iterations()  # it is under way
        assert await within(anext(feed))
        for number in range(3):
            await topic.publish(f"{number:036}", key=f"{number}")
        assert topic.lost(channel) == 0
        await topic.publish(f"{3:036}", key="3")
        assert topic.lost(channel) == (0 if slow == "disconnect" else 1)
        assert (channel in topics._core.outlets) == (slow != "disconnect")
        assert feed.lost == 0
        await topic.publish(f"{4:036}", key="4")
        assert feed.lost == 1


async def test_connection_gets_one_message_of_each_topic_in_turn(topics: Topics, channel: Channel) -> None:
    channel.stick()
    news = [topics.topic(name) for name in "abc"]
    for topic in news:
        await topic.join(channel)
    for topic, count in zip(news, (5, 2, 3), strict=True):
        for number in range(count):
            await topic.publish(f"{topic.name}{number}")
    await iterations()
    channel.move()
    await until(lambda: len(channel.sent) == 10)
    assert channel.sent == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "c2", "a3", "a4"]


async def test_groups_without_followers_are_dropped(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    other = Channel()
    await topic.join(other)
    await topic.publish("1")
    for _ in range(10):
        await topic.join(channel, frame=lambda publication: b"new", since=(await topic.read_history()).position)
        await topic.leave(channel)
    assert len(topics._core.audiences["news"]._groups) == 1
    other.end()


async def test_functions_are_called_once_for_all_their_combinations(topics: Topics) -> None:
    topic = topics.topic("news")
    calls: list[str] = []

    def frame(publication: Raw) -> str:
        calls.append("publication")
        return "publication"

    def presence_frame(event: PresenceEvent) -> str:
        calls.append("event")
        return "event"

    channels = [Channel() for _ in range(4)]
    for channel in channels[:2]:
        await topic.join(channel, frame=frame)
    await topic.join(channels[2], presence_frame=presence_frame)
    await topic.join(channels[3], frame=frame, presence_frame=presence_frame)
    await topic.publish("1")
    await topic.presence.enter(channels[0], "ann")
    await until(lambda: channels[3].sent == ["publication", "event"])
    assert [channel.sent for channel in channels[:3]] == [["publication"], ["publication"], ["1", "event"]]
    assert calls == ["publication", "event"]
    for channel in channels:
        channel.end()


async def test_connection_that_fails_to_send_follows_no_more(
    topics: Topics, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Channel):
        async def send(self, data: object) -> None:
            raise RuntimeError("the application has ended")

    broken = Broken()
    await topics.topic("news").join(broken)
    await topics.topic("news").publish("1")
    await until(lambda: topics.followed == 0)
    assert "the application has ended" in caplog.text
    broken.end()


# Encoding once -------------------------------------------------------------------------------------------------


async def test_frame_function_is_called_once_a_publication(topics: Topics, serve: Serve, connect: Connect) -> None:
    server = await serve(hold, timeouts=QUIET)
    raws = [await connect(server) for _ in range(5)]
    await until(lambda: len(server.clients) == 5)
    topic = topics.topic("news")
    framed = []

    def frame(publication: Raw) -> str:
        framed.append(publication.payload)
        return f"{publication.topic}:{publication.payload!s}"

    for client in server.clients.values():
        await topic.join(client, frame=frame)
    await topic.publish("1")
    for raw in raws:
        assert await raw.read_frame() == (FINAL | Opcode.TEXT, b"news:1")
    assert framed == ["1"]


async def test_publication_is_compressed_once_for_each_window(topics: Topics, serve: Serve) -> None:
    server = await serve(hold, timeouts=QUIET, compression=Compression(threshold=0))
    topic = topics.topic("news")
    url = f"ws://127.0.0.1:{server.port}/"
    async with (
        connect_client(url, compression=True) as one,
        connect_client(url, compression=Compression(peer_window_bits=9)) as two,
        connect_client(url, compression=None) as three,
    ):
        await until(lambda: len(server.clients) == 3)
        for client in server.clients.values():
            await topic.join(client)
        await topic.publish("text " * 1000)
        for peer in (one, two, three):
            assert await within(peer.read_message()) == "text " * 1000
        ratios = sorted(client.stats.bytes_sent for client in server.clients.values())
        assert ratios[1] < 1000 < ratios[2]


async def test_client_of_another_server_follows_too(topics: Topics, serve: Serve) -> None:
    """Its frames are masked, so that they cannot be shared."""
    received: list[str] = []

    async def note(client: Client) -> None:
        async for message in client.text():
            received.append(message)

    server, other = await serve(hold, compression=Compression(threshold=0)), await serve(note)
    topic = topics.topic("news")
    async with (
        connect_client(f"ws://127.0.0.1:{server.port}/") as peer,
        connect_client(f"ws://127.0.0.1:{other.port}/") as one,
        connect_client(f"ws://127.0.0.1:{other.port}/") as two,
    ):
        await until(lambda: len(server.clients) == 1)
        for client in (*server.clients.values(), one, two):
            await topic.join(client)
        for number in range(3):
            await topic.publish(f"{number} " * 100)
            assert await within(peer.read_message()) == f"{number} " * 100
        await until(lambda: len(received) == 6)
        assert sorted(received) == sorted(f"{number} " * 100 for number in [0, 1, 2] * 2)
    await until(lambda: topics.followed == 0)
    assert topics._core.outlets == {}


async def story() -> None:
    """A server with followers that come, fall behind, recover and go."""
    async with Topics(MemoryBroker()) as topics:
        topic = topics.topic("news", history=History())
        taken: list[Topic[str | bytes]] = [topic]

        async def handler(client: Client) -> None:
            await taken[0].join(client)
            async for message in client:
                await topic.publish(message)

        server = WebSocketServer("127.0.0.1", 0, handler=handler)
        async with server, connect_client(f"ws://127.0.0.1:{server.port}/") as one:
            await one.send("first")
            assert await within(one.read_message()) == "first"
            async with connect_client(f"ws://127.0.0.1:{server.port}/") as two:
                await two.send("second")
                assert await within(two.read_message()) == "second"
            assert await within(one.read_message()) == "second"
        await until(lambda: topics.followed == 0)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_clients_follow_a_topic_on_both_loops(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    run(story())
