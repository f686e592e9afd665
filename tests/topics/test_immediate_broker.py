"""Topics on a broker that never waits: subscriptions begin and end without a task."""

import asyncio
from collections.abc import Coroutine

import pytest

from helpers.waiting import iterations
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import History, MemoryBroker, Position, Publication, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics


class UnreliableBroker(MemoryBroker):
    """A broker in memory whose calls fail or wait as often as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.failures: list[Exception] = []
        self.waits = 0

    async def subscribe(self, topic: str) -> None:
        await self._call("subscribe")
        await super().subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        await self._call("unsubscribe")
        await super().unsubscribe(topic)

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.failures:
            raise self.failures.pop()
        if self.waits:
            self.waits -= 1
            await asyncio.sleep(0)


@pytest.fixture
async def broker() -> UnreliableBroker:
    return UnreliableBroker()


@pytest.fixture
async def topics(open_topics: OpenTopics, broker: UnreliableBroker) -> Topics:
    return await open_topics(broker)


def finish(call: Coroutine[object, None, object]) -> None:
    """Run a coroutine that must not wait."""
    with pytest.raises(StopIteration):
        call.send(None)


async def test_joining_does_not_wait(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    await topic.publish("1")
    finish(topic.join(channel, since=Position("", 0)))
    assert topics.followed == 1
    await topic.publish("2")
    await iterations()
    assert channel.sent == ["1", "2"]


async def test_last_follower_ends_the_subscription_in_the_next_iteration(
    topics: Topics, broker: UnreliableBroker, channel: Channel
) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    await topic.leave(channel)
    assert broker.calls == ["subscribe"]
    await iterations()
    assert broker.calls == ["subscribe", "unsubscribe"]
    assert broker.kept == topics.followed == 0


async def test_joining_again_at_once_keeps_the_subscription(
    topics: Topics, broker: UnreliableBroker, channel: Channel
) -> None:
    topic = topics.topic("news")
    for _ in range(3):
        await topic.join(channel)
        await topic.leave(channel)
    await topic.join(channel)
    await iterations()
    assert broker.calls == ["subscribe"]
    await topic.publish("1")
    await iterations()
    assert channel.sent == ["1"]


async def test_join_succeeds_if_only_the_first_attempt_fails(
    topics: Topics, broker: UnreliableBroker, channel: Channel
) -> None:
    broker.failures = [OSError("no")]
    topic = topics.topic("news")
    await topic.join(channel)
    await topic.publish("1")
    await iterations()
    assert channel.sent == ["1"]
    assert broker.calls == ["subscribe", "subscribe"]


async def test_join_fails_if_the_broker_does(topics: Topics, broker: UnreliableBroker, channel: Channel) -> None:
    broker.failures = [BrokerUnavailable("gone"), BrokerUnavailable("gone")]
    topic = topics.topic("news")
    with pytest.raises(BrokerError, match="gone"):
        await topic.join(channel)
    await iterations()
    assert broker.kept == topics.followed == 0
    await topic.join(channel)
    await topic.publish("1")
    await iterations()
    assert channel.sent == ["1"]


@pytest.mark.parametrize(("failures", "waits"), [([OSError("no")], 0), ([], 1), ([], 3)])
async def test_subscription_ends_though_unsubscribing_fails_or_waits(
    topics: Topics, broker: UnreliableBroker, channel: Channel, failures: list[Exception], waits: int
) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    broker.failures, broker.waits = [*failures], waits
    await topic.leave(channel)
    await iterations(10)
    assert broker.kept == topics.followed == 0
    await topic.join(channel)
    await topic.publish("1")
    await iterations()
    assert channel.sent == ["1"]


async def test_join_succeeds_though_subscribing_waits(
    topics: Topics, broker: UnreliableBroker, channel: Channel
) -> None:
    broker.waits = 2
    other = Channel()
    topic = topics.topic("news")
    await asyncio.gather(topic.join(channel), topic.join(other))
    await topic.publish("1")
    await iterations()
    assert channel.sent == other.sent == ["1"]
    other.end()


async def test_those_that_return_at_once_share_their_messages(topics: Topics) -> None:
    made = []

    def frame(publication: Publication[str | bytes]) -> str:
        made.append(publication.position.offset)
        return str(publication.data)

    topic = topics.topic("news", history=History())
    for number in range(3):
        await topic.publish(str(number))
    channels = [Channel() for _ in range(5)]
    for channel in channels:
        finish(topic.join(channel, since=Position("", 0), frame=frame))
    assert made == [1, 2, 3]
    await iterations()
    assert [channel.sent for channel in channels] == [["0", "1", "2"]] * 5
    later = Channel()
    await topic.join(later, since=Position("", 0), frame=frame)
    assert made == [1, 2, 3] * 2
    for channel in (*channels, later):
        channel.end()
