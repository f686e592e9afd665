"""Faults that other libraries have, or had, in what they call channels, groups or rooms.

The docstring of each test describes the fault of the other library. The test checks that topics do not have it.
"""

import asyncio

import pytest

from helpers.waiting import iterations, until, within
from streamws import LimitExceeded
from streamws.topics import Gap, History, MemoryBroker, Position, Publication, TopicLimits, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker


async def test_litestar_channels_full_queue_loses_events_without_a_word(topics: Topics, channel: Channel) -> None:
    """Its backlog drops events, and nobody can see that."""
    topic = topics.topic("news")
    gaps: list[Gap] = []
    channel.stick()
    await topic.join(channel, slow="drop-oldest", backlog=1000, on_gap=lambda _, gap: gaps.append(gap))
    async with topic.subscribe(slow="drop-newest", backlog=1000) as feed:
        for number in range(100):
            await topic.publish(f"{number:036}")
            await iterations(1)
        channel.move()
        await until(lambda: len(channel.sent) == 11)
        assert topic.lost(channel) == 89
        assert len(gaps) == 1
        items = [await within(anext(feed)) for _ in range(11)]
        assert sum(isinstance(item, Gap) for item in items) == 1
        assert feed.lost == 90


async def test_litestar_channels_leak_subscribers_when_join_and_leave_meet(
    open_topics: OpenTopics, flaky: FlakyBroker
) -> None:
    """A subscriber that leaves while its subscription begins stays there for ever."""
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    channels = [Channel() for _ in range(50)]
    flaky.hang()
    joins = [asyncio.create_task(topic.join(channel)) for channel in channels]
    await iterations()
    leaves = [asyncio.create_task(topic.leave(channel)) for channel in channels]
    await iterations()
    again = [asyncio.create_task(topic.join(channel)) for channel in channels[:10]]
    flaky.go_on()
    await asyncio.wait([*joins, *leaves, *again])
    assert [task.exception() for task in again] == [None] * 10
    await topic.publish("1")
    await until(lambda: all(channel.sent == ["1"] for channel in channels[:10]))
    assert all(channel.sent == [] for channel in channels[10:])
    assert len(topics._core.outlets) == 10
    for channel in channels:
        channel.end()
    await until(lambda: topics.followed == 0)
    assert flaky.memory.kept == 0
    for task in joins:
        assert task.exception() is not None


async def test_broadcaster_loses_the_second_of_two_first_subscribers(
    open_topics: OpenTopics, flaky: FlakyBroker
) -> None:
    """While the first one subscribes, the second one is taken for subscribed already."""
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    one, two = Channel(), Channel()
    flaky.subscribing.clear()
    joins = [asyncio.create_task(topic.join(one)), asyncio.create_task(topic.join(two))]
    await iterations()
    assert not any(task.done() for task in joins)
    flaky.subscribing.set()
    await within(asyncio.gather(*joins))
    await topic.publish("1")
    await until(lambda: one.sent == two.sent == ["1"])
    # The same for subscriptions, and if the first one leaves.
    await topic.leave(one)
    await topic.publish("2")
    await until(lambda: two.sent == ["1", "2"])
    assert flaky.calls == ["subscribe news"]
    one.end()
    two.end()


async def test_broadcaster_queues_without_a_bound(topics: Topics) -> None:
    """A subscriber that does not read holds everything that is ever published."""
    topic = topics.topic("news", history=History(size=10))
    async with topic.subscribe(backlog=1000) as feed:
        for number in range(10_000):
            await topic.publish(f"{number:036}")
        assert feed._size <= 1000
        assert len(feed._ready) == 10
        items = [await within(anext(feed)) for _ in range(21)]
        assert [type(item) for item in items].count(Gap) == 1
        last = items[-1]
        assert isinstance(last, Publication)
        assert last.position.offset == 10_000


async def test_django_channels_drop_messages_over_capacity_in_silence(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker
) -> None:
    """A group message to a channel over its capacity is dropped, and neither side learns of it."""
    topics = await open_topics(flaky, limits=TopicLimits(max_publish_soon=1000))
    topic = topics.topic("news")
    flaky.hang()
    accepted = [topic.publish_soon("x" * 36) for _ in range(20)]
    assert accepted.count(False) == 10  # the sender learns of it
    flaky.go_on()
    async with topic.subscribe(slow="disconnect", backlog=1000) as feed:
        await until(lambda: not topics._core.publisher.waiting)
        for _ in range(20):
            await topic.publish("x" * 36)
        for _ in range(10):
            await within(anext(feed))
        with pytest.raises(LimitExceeded):  # and so does the receiver
            await within(anext(feed))


async def test_socket_io_recovery_forgets_everything_with_its_node(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    """What a client has missed is known only to the process that it was connected to."""
    history = History()
    other = await open_topics(MemoryBroker(memory))
    async with Topics(MemoryBroker(memory)) as node:
        topic = node.topic("news", history=history)
        await topic.join(channel)
        await topic.publish("1")
        await until(lambda: channel.sent == ["1"])
        position = (await topic.read_history()).position
    await other.topic("news", history=history).publish("2")
    back = Channel()
    joined = await other.topic("news", history=history).join(back, since=position)
    assert joined.recovered
    await until(lambda: back.sent == ["2"])
    back.end()


async def test_socket_io_says_that_it_has_recovered_although_it_has_not(topics: Topics, channel: Channel) -> None:
    """Here the client is told if its node has lost its memory."""
    joined = await topics.topic("news", history=History()).join(channel, since=Position("of a node that died", 5))
    assert not joined.recovered


async def test_redis_pub_sub_resubscribes_in_silence(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    """After it has reconnected, what was published meanwhile is missing, and nothing tells that."""
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    gaps: list[Gap] = []
    joined = await topics.topic("news").join(channel, on_gap=lambda _, gap: gaps.append(gap))
    flaky.fail()
    await publisher.topic("news").publish("1")
    flaky.recover()
    await until(lambda: gaps == [Gap(joined.position)])
    await publisher.topic("news").publish("2")
    await until(lambda: channel.sent == ["2"])
