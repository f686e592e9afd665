"""`Topics.stats`: what it counts, in which thread it may be read, and the counters of brokers."""

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
import pytest

from helpers.waiting import cancelled, iterations, until
from streamws import BrokerError, BrokerUnavailable, LimitExceeded, PublishTimeout
from streamws.topics import (
    BrokerConnection,
    BrokerStats,
    Gap,
    History,
    MemoryBroker,
    Outgoing,
    Position,
    Publication,
    Published,
    TopicLimits,
    Topics,
    TopicsStats,
)
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker

NUMBERS: list[str] = [field.name for field in attrs.fields(TopicsStats) if field.name != "broker"]
GAUGES = {"followed", "followers", "present", "recovering", "publish_soon_bytes"}
"""The numbers that may decrease."""


def changes(topics: Topics) -> dict[str, Any]:
    """Return what has been counted, apart from the counters of the broker."""
    stats = topics.stats
    return {name: value for name in NUMBERS if (value := getattr(stats, name))}


async def test_topics_have_stats_before_and_after_they_are_open(channel: Channel) -> None:
    topics = Topics(MemoryBroker())
    assert changes(topics) == {}
    async with topics:
        await topics.topic("news").join(channel)
        await topics.topic("news").presence.enter(channel, "ann")
        assert changes(topics) == {"followed": 1, "followers": 1, "present": 1, "joined": 1}
    assert changes(topics) == {"joined": 1}
    assert topics.stats.broker == BrokerStats(0, kept=0)


async def test_stats_do_not_change(topics: Topics) -> None:
    stats = topics.stats
    await topics.topic("news").publish("1")
    assert stats.published == 0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        stats.published = 1  # type: ignore[misc]
    connections = {"a": BrokerConnection(True)}
    broker = BrokerStats(1, connections)
    connections["b"] = BrokerConnection(False)
    assert [*broker.connections] == ["a"]
    with pytest.raises(TypeError):
        broker.connections["b"] = connections["b"]  # type: ignore[index]


async def test_followers_and_members_are_counted_while_they_are_there(topics: Topics, channel: Channel) -> None:
    other = Channel()
    news, sports = topics.topic("news"), topics.topic("sports")
    await news.join(channel)
    await news.join(other)
    await sports.join(other)
    await news.presence.enter(channel, "ann")
    await sports.presence.enter(channel, "ann")
    async with news.subscribe():
        stats = topics.stats
        assert (stats.followed, stats.followers, stats.present, stats.joined) == (2, 4, 2, 4)
        assert stats.broker == BrokerStats(2, kept=2)
    await sports.leave(channel)
    await news.leave(other)
    stats = topics.stats
    assert (stats.followed, stats.followers, stats.present, stats.joined) == (2, 2, 1, 4)
    channel.end()
    other.end()
    await until(lambda: topics.stats.followed == topics.stats.present == 0)
    stats = topics.stats
    assert (stats.followers, stats.joined, stats.broker) == (0, 4, BrokerStats(0, kept=0))


async def test_followers_that_come_back_are_counted_by_what_they_got(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History(size=2))
    positions = [(await topic.publish(str(number))).position for number in range(4)]
    for since in (None, positions[1], positions[3], positions[0], Position("unknown", 1)):
        await topic.join(channel, since=since)
        await topic.leave(channel)
    async with topic.subscribe(since=positions[2]), topic.subscribe(since=positions[0]):
        pass
    stats = topics.stats
    assert (stats.joined, stats.recovered, stats.not_recovered, stats.gaps) == (7, 3, 3, 0)


async def test_follower_that_cannot_join_is_not_counted(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topics.topic("news").join(channel)
    with pytest.raises(BrokerUnavailable):
        await topics.topic("news").subscribe().__aenter__()
    assert changes(topics) == {}


@pytest.mark.parametrize("kind", [MemoryBroker, FlakyBroker])
async def test_publications_are_counted_when_they_are_made_and_when_they_arrive(
    open_topics: OpenTopics, channel: Channel, kind: type[MemoryBroker | FlakyBroker]
) -> None:
    topics = await open_topics(kind())
    topic = topics.topic("news")
    await topic.publish("nobody gets it")
    await topic.join(channel)
    await topic.publish("1", idempotency="a")
    await topic.publish("1", idempotency="a")
    assert topic.publish_soon("2")
    assert topics.stats.publish_soon_bytes == 65
    await until(lambda: channel.sent == ["1", "2"])
    await until(lambda: not topics.stats.publish_soon_bytes)
    assert changes(topics) == {"followed": 1, "followers": 1, "joined": 1, "published": 4, "received": 2}


async def test_publications_that_fail_are_counted_by_their_error(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    topics = await open_topics(flaky, limits=TopicLimits(publish_timeout=0.01), on_error=lambda topic, error: None)
    topic = topics.topic("news")
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topic.publish("1")
    flaky.recover()
    flaky.error = OSError("broken pipe")
    with pytest.raises(BrokerError, match="broken pipe"):
        await topic.publish("2")
    assert topic.publish_soon("3")
    await until(lambda: topics.failed == 1)
    flaky.error = PublishTimeout("the broker says so")
    with pytest.raises(PublishTimeout, match="the broker says so"):
        await topic.publish("4")
    flaky.error = None
    assert changes(topics) == {"failed": 3, "timed_out": 1, "publish_soon_failed": 1, "losses": 1}
    flaky.hang()
    with pytest.raises(PublishTimeout):
        await topic.publish("5")
    assert topic.publish_soon("6")
    await until(lambda: topics.failed == 2)
    task = asyncio.create_task(topic.publish("7"))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    flaky.go_on()
    assert changes(topics) == {"failed": 3, "timed_out": 3, "publish_soon_failed": 2, "losses": 1}


class Refusing(MemoryBroker):
    """A broker that refuses publications, one by one."""

    error: BrokerError = BrokerError("refused")

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return [self.error for _ in batch]

    def publish_now(self, message: Outgoing) -> Published:
        raise self.error


class Hidden:
    """A broker that looks as if it had no `publish_now`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        if name == "publish_now":
            raise AttributeError(name)
        return getattr(self._broker, name)


@pytest.mark.parametrize("waits", [False, True], ids=["never waits", "waits"])
async def test_publications_that_the_broker_refuses_are_counted(open_topics: OpenTopics, waits: bool) -> None:
    refusing: Any = Refusing()
    topics = await open_topics(Hidden(refusing) if waits else refusing, on_error=lambda topic, error: None)
    topic = topics.topic("news")
    with pytest.raises(BrokerError, match="refused"):
        await topic.publish("1")
    refusing.error = PublishTimeout("too late")
    with pytest.raises(PublishTimeout):
        await topic.publish("2")
    assert topic.publish_soon("3")
    await until(lambda: topics.failed)
    assert changes(topics) == {"failed": 1, "timed_out": 2, "publish_soon_failed": 1}


async def test_publications_that_the_end_prevents_are_counted(flaky: FlakyBroker) -> None:
    topics = Topics(flaky, limits=TopicLimits(close_timeout=0.01), on_error=lambda topic, error: None)
    async with topics:
        flaky.hang()
        assert topics.topic("news").publish_soon("1")
    assert changes(topics) == {"failed": 1, "publish_soon_failed": 1}


async def test_publications_over_a_limit_are_counted(open_topics: OpenTopics, channel: Channel) -> None:
    limits = TopicLimits(max_publication_size=100, max_name=5, max_publish_soon=164, max_publications_per_client=1)
    topics = await open_topics(limits=limits)
    topic = topics.topic("news")
    with pytest.raises(LimitExceeded, match="too large"):
        await topic.publish("x" * 101)
    with pytest.raises(LimitExceeded, match="key has 6 characters"):
        await topic.publish("1", key="123456")
    with pytest.raises(LimitExceeded, match="idempotency has 6 characters"):
        await topic.publish("1", idempotency="123456")
    await topic.publish("1", client=channel)
    with pytest.raises(LimitExceeded, match="too many publications"):
        await topic.publish("2", client=channel)
    assert topic.publish_soon("x" * 100)
    assert not topic.publish_soon("")
    assert changes(topics) == {"published": 1, "refused": 5, "publish_soon_bytes": 164}


@pytest.mark.parametrize(
    ("slow", "counted"),
    [
        ("drop-oldest", {"dropped": 3}),
        ("drop-newest", {"dropped": 3}),
        ("latest", {"replaced": 4}),
        ("disconnect", {"disconnected": 1}),
    ],
)
async def test_what_slow_connections_do_not_get_is_counted(
    topics: Topics, channel: Channel, slow: Any, counted: dict[str, int]
) -> None:
    topic = topics.topic("news")
    channel.stick()
    await topic.join(channel, slow=slow, backlog=2 * 65)
    for number in range(6):
        await topic.publish(str(number), key="k")
        await iterations()
    # One is being sent, and two may wait.
    followers = {"followed": 1, "followers": 1} if slow != "disconnect" else {}
    received = 6 if slow != "disconnect" else 4
    assert changes(topics) == {**followers, **counted, "joined": 1, "published": 6, "received": received}
    if "dropped" in counted or "replaced" in counted:
        assert topic.lost(channel) == sum(counted.values())


@pytest.mark.parametrize(
    ("slow", "counted"),
    [
        ("drop-oldest", {"dropped": 4}),
        ("drop-newest", {"dropped": 4}),
        ("latest", {"replaced": 5}),
        ("disconnect", {"dropped": 1, "disconnected": 1}),
    ],
)
async def test_what_slow_subscriptions_do_not_get_is_counted(
    topics: Topics, slow: Any, counted: dict[str, int]
) -> None:
    topic = topics.topic("news")
    async with topic.subscribe(slow=slow, backlog=2 * 65) as feed:
        for number in range(6):
            await topic.publish(str(number), key="k")
        stats = changes(topics)
        assert {name: stats.get(name, 0) for name in counted} == counted
        assert feed.lost == stats.get("dropped", 0) + stats.get("replaced", 0)
        assert "gaps" not in stats


async def test_subscription_that_waits_too_long_for_the_history_counts_a_gap(topics: Topics) -> None:
    topic = topics.topic("news", history=History(size=2))
    async with topic.subscribe(slow="wait", backlog=1) as feed:
        for number in range(3):
            await topic.publish(str(number))
        for _ in range(3):
            assert isinstance(await anext(feed), Publication)
        assert topics.stats.gaps == 0
        for number in range(3, 7):
            await topic.publish(str(number))
        # The first of them was queued. When it is read, the history has only the last two.
        items = [await anext(feed) for _ in range(4)]
        assert [item.data if isinstance(item, Publication) else "gap" for item in items] == ["3", "gap", "5", "6"]
        stats = topics.stats
        assert (stats.gaps, stats.dropped, stats.joined) == (1, 0, 1)


async def test_loss_that_the_history_repairs_is_no_gap(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    news, other = topics.topic("news", history=History()), topics.topic("other")
    gaps: list[Gap] = []
    for number in range(3):
        follower = channel if not number else Channel()
        await news.join(follower)
        await other.join(follower, on_gap=lambda client, gap: gaps.append(gap))
    await news.publish("1")
    flaky.lose = 2
    await news.publish("2")
    await other.publish("lost")
    flaky.hang()
    flaky.receiver.lost()
    await iterations()
    assert (topics.stats.losses, topics.stats.recovering, topics.stats.gaps) == (1, 2, 0)
    flaky.go_on()
    await until(lambda: not topics.stats.recovering)
    await until(lambda: channel.sent == ["1", "2"])
    assert len(gaps) == 3
    stats = topics.stats
    assert (stats.losses, stats.gaps, stats.received, stats.published) == (1, 1, 1, 3)


# Brokers ---------------------------------------------------------------------------------------------------------


async def test_broker_of_your_own_may_have_stats(open_topics: OpenTopics) -> None:
    stats = BrokerStats(3, {"hub": BrokerConnection(connected=False, failure="refused")})

    class Watched(FlakyBroker):
        @property
        def stats(self) -> BrokerStats:
            return stats

    topics = await open_topics(Watched())
    assert topics.stats.broker is stats
    assert not stats.connected


async def test_broker_without_stats_or_with_other_ones_has_none(open_topics: OpenTopics) -> None:
    class Other(FlakyBroker):
        def stats(self) -> dict[str, int]:
            return {"hits": 1}

    assert (await open_topics(FlakyBroker())).stats.broker is None
    assert (await open_topics(Other())).stats.broker is None


def test_broker_is_connected_if_all_of_its_connections_are() -> None:
    up, down = BrokerConnection(True), BrokerConnection(False)
    assert BrokerStats(0).connected
    assert BrokerStats(0, {"a": up, "b": up}).connected
    assert not BrokerStats(0, {"a": up, "b": down}).connected


# Threads ---------------------------------------------------------------------------------------------------------


async def test_stats_are_read_in_another_thread_while_everything_changes() -> None:
    topics = Topics(MemoryBroker())
    seen: list[TopicsStats] = []
    failures: list[BaseException] = []
    end = threading.Event()

    def read() -> None:
        try:
            while not end.is_set():
                seen.append(topics.stats)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        async with topics:
            for number in range(100):
                channel = Channel()
                for name in range(5):
                    topic = topics.topic(f"{number} {name}")
                    await topic.join(channel)
                    await topic.presence.enter(channel, "ann")
                    await topic.publish("1")
                if number % 2:
                    channel.end()
                    await asyncio.sleep(0)
        assert topics.stats.published == topics.stats.joined == topics.stats.received == 500
        await until(lambda: seen[-1:] == [topics.stats])
    finally:
        end.set()
        thread.join()
    assert failures == []
    for counter in {*NUMBERS} - GAUGES:
        assert all(getattr(before, counter) <= getattr(after, counter) for before, after in pairwise(seen))
