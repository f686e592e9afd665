"""Types of topics. mypy and pyright check the assertions; pytest checks that the protocols are satisfied."""

from collections.abc import Mapping, Sequence
from typing import assert_type

import msgspec

from streamws import Client
from streamws.messages import Json
from streamws.topics import (
    Broker,
    BrokerConnection,
    BrokerStats,
    Connection,
    Gap,
    History,
    HistoryPage,
    Joined,
    Member,
    MemoryBroker,
    Position,
    Presence,
    PresenceCount,
    PresenceEvent,
    Publication,
    Published,
    Recipient,
    RedisBroker,
    Subscription,
    Topic,
    TopicLimits,
    Topics,
    TopicsStats,
    WatchedBroker,
)
from topics.channels import Channel
from topics.flaky import FlakyBroker


class Price(msgspec.Struct):
    value: float


def frame(publication: Publication[Price]) -> str:
    assert_type(publication.data, Price)
    assert_type(publication.payload, str | bytes)
    assert_type(publication.position, Position)
    assert_type(publication.key, str | None)
    assert_type(publication.time, float)
    return publication.topic


def member_frame(event: PresenceEvent) -> bytes:
    assert_type(event.user, str)
    return event.data.encode()


def any_frame(publication: Publication[object]) -> bytes:
    return bytes(publication.position.offset)


def on_gap(client: Client, gap: Gap) -> None:
    assert_type(gap.since, Position)


def on_epoch(client: Client, position: Position) -> None:
    assert_type(position.epoch, str)


async def on_gap_later(client: Channel, gap: Gap) -> None:
    await client.close()


def on_joined(joined: Joined, missed: Sequence[Publication[Price]]) -> None:
    assert_type(joined.recovered, bool)


async def use(client: Client, channel: Channel) -> None:
    async with Topics(MemoryBroker(), limits=TopicLimits(max_name=10), on_error=lambda name, error: None) as topics:
        assert_type(topics, Topics)
        prices = topics.topic("prices", Json(Price), history=History(size=1))
        assert_type(prices, Topic[Price])
        assert_type(topics.topic("raw"), Topic[str | bytes])
        assert_type(topics.topic("list", Json(list[int])), Topic[list[int]])
        assert_type(topics.find("prices"), Topic[object] | None)
        assert_type(await prices.publish(Price(1.0), key="EUR", idempotency="a", timeout=1), Published)
        assert_type(prices.publish_soon(Price(1.0)), bool)
        assert_type(await prices.join(client), Joined)
        assert_type(
            await prices.join(client, since=Position("", 0), slow="latest", backlog=1, frame=frame, on_gap=on_gap),
            Joined,
        )
        await prices.join(client, on_epoch=on_epoch)
        await prices.join(channel, on_gap=on_gap_later, presence_frame=member_frame, on_joined=on_joined)
        await prices.leave(client)
        assert_type(prices.lost(client), int)
        async with prices.subscribe(since=None, slow="wait") as feed:
            assert_type(feed, Subscription[Price])
            assert_type(feed.joined, Joined)
            async for item in feed:
                assert_type(item, Publication[Price] | Gap)
        assert_type(await prices.read_history(limit=1), HistoryPage[Price])
        assert_type((await prices.read_history()).publications, tuple[Publication[Price], ...])
        assert_type(prices.presence, Presence)
        await prices.presence.enter(client, "ann", "data")
        assert_type(await prices.presence.members(), dict[str, Member])
        assert_type(await prices.presence.connections(), Mapping[str, Connection])
        assert_type(await prices.presence.count(), PresenceCount)


def stats(topics: Topics) -> None:
    assert_type(topics.stats, TopicsStats)
    assert_type(topics.stats.followers, int)
    broker = topics.stats.broker
    assert_type(broker, BrokerStats | None)
    if broker is not None:
        assert_type(broker.connected, bool)
        assert_type(broker.kept, int | None)
        assert_type(broker.connections, Mapping[str, BrokerConnection])
        for connection in broker.connections.values():
            assert_type(connection.connected, bool)
            assert_type(connection.round_trip, float | None)
            assert_type(connection.failure, str)


def recipient(client: Client, channel: Channel) -> list[Recipient]:
    return [client, channel]


def test_brokers_satisfy_the_protocol() -> None:
    brokers: list[Broker] = [MemoryBroker(), FlakyBroker(), RedisBroker("redis://localhost", sentinels=())]
    brokers.append(RedisBroker(["redis://one", "redis://two"], cluster=True))
    methods = [name for name in vars(Broker) if not name.startswith("_")]
    assert all(callable(getattr(broker, name)) for broker in brokers for name in methods)


def test_brokers_with_stats_satisfy_the_protocol() -> None:
    watched: list[WatchedBroker] = [MemoryBroker(), RedisBroker("redis://localhost")]
    assert [isinstance(broker.stats, BrokerStats) for broker in watched] == [True, True]
