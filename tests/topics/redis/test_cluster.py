"""`RedisBroker` on a Redis Cluster: the promises of a broker, and what happens when nodes fail and slots move."""

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from helpers.waiting import until
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import History, RedisBroker
from streamws.topics.redis.link import Link
from topics.broker_contract import HISTORY, BrokerContract, Collector, MakeBroker, Node
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.redis_cluster import ClusterNode, RedisCluster
from topics.redis_following import available, following, published, unavailable
from topics.redis_server import RedisServer, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no Redis for Windows")

prefixes = (f"test-{number}" for number in count())


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster for the tests that do not disturb others."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def prefix() -> str:
    """The prefix of the test's own."""
    return next(prefixes)


@pytest.fixture
def make_broker(shared_cluster: RedisCluster, prefix: str) -> MakeBroker:
    """Makes brokers with the prefix of the test."""
    return lambda: RedisBroker(shared_cluster.urls, cluster=True, prefix=prefix)


class TestCluster(BrokerContract):
    pass


def channel(prefix: str, topic: str) -> str:
    return f"{{{prefix}:{topic}}}"


def topic_at(cluster: RedisCluster, node: ClusterNode, prefix: str) -> str:
    """Return a topic of a node."""
    names = (f"t{number}" for number in count())
    return next(name for name in names if cluster.owner_of(channel(prefix, name)) is node)


def topics_beside(cluster: RedisCluster, node: ClusterNode, prefix: str, topic: str) -> tuple[int, int]:
    """Return numbers that make other topics of a node from the name of a topic."""
    numbers = (number for number in count() if cluster.owner_of(channel(prefix, f"{topic}-{number}")) is node)
    return next(numbers), next(numbers)


# Opening ---------------------------------------------------------------------------------------------------------


async def test_node_that_is_down_at_the_start_is_not_needed(shared_cluster: RedisCluster, prefix: str) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}"
    broker = RedisBroker([nobody, shared_cluster.urls[1]], cluster=True, prefix=prefix)
    places = f"{nobody[8:]}, {shared_cluster.urls[1][8:]}"
    assert repr(broker) == f"<RedisBroker at {places} (Redis Cluster)>"
    async with Node(broker) as node:
        await node.publish("1")


async def test_server_without_a_cluster_is_an_error(redis_server: RedisServer, shared_cluster: RedisCluster) -> None:
    place = redis_server.url[8:]
    with pytest.raises(BrokerError, match=rf"Redis Cluster at {place} cannot be used: .*not a node of a Redis Cluster"):
        await RedisBroker(redis_server.url, cluster=True).open(Collector())
    place = shared_cluster.urls[0][8:]
    with pytest.raises(BrokerError, match=rf"Redis at {place} cannot be used: .*RedisBroker needs cluster=True"):
        await RedisBroker(shared_cluster.urls[0]).open(Collector())


def test_addresses_of_a_cluster_are_checked() -> None:
    for url, error in (
        ("redis://localhost/1", "a Redis Cluster has only database 0, not 1"),
        ("unix:///run/redis.sock", "the nodes of a Redis Cluster have URLs with a host"),
        ([], "needs the URL of a node"),
    ):
        with pytest.raises(ValueError, match=error):
            RedisBroker(url, cluster=True)
    with pytest.raises(ValueError, match="and no Sentinels"):
        RedisBroker("redis://mymaster", cluster=True, sentinels=["redis://localhost"])
    with pytest.raises(ValueError, match="needs the URL of a node"):
        RedisBroker([], cluster=True)
    with pytest.raises(ValueError, match="url must be one URL; only a Redis Cluster"):
        RedisBroker(["redis://one", "redis://two"])


async def test_stats_have_two_connections_for_each_master(shared_cluster: RedisCluster, prefix: str) -> None:
    broker = RedisBroker(shared_cluster.urls, cluster=True, prefix=prefix)
    [(name, unknown)] = broker.stats.connections.items()
    assert (name, unknown.connected, broker.stats.connected) == ("cluster", False, False)
    async with Node(broker) as node:
        for master in shared_cluster.masters:
            await node.broker.subscribe(topic_at(shared_cluster, master, prefix))
        places = [master.url[8:] for master in shared_cluster.masters]
        names = {f"{purpose} at {place}" for place in places for purpose in ("publications", "subscriptions")}
        assert {*broker.stats.connections} == names
        assert broker.stats.connected
        assert broker.stats.subscriptions == 3
        trips = [each.round_trip for name, each in broker.stats.connections.items() if name.startswith("publications")]
        assert all(trip is not None and 0 < trip < 10 for trip in trips)


# Several nodes ---------------------------------------------------------------------------------------------------


async def test_publications_of_one_loop_iteration_leave_in_one_write_for_each_node(
    make_broker: MakeBroker, shared_cluster: RedisCluster, prefix: str
) -> None:
    topics = [topic_at(shared_cluster, node, prefix) for node in shared_cluster.masters]
    async with Node(make_broker()) as one, Node(make_broker()) as two:
        for topic in topics:
            await two.broker.subscribe(topic)
        writes: list[tuple[Link, bytes]] = []

        class Transport:
            def __init__(self, link: Link) -> None:
                self.link, self.transport = link, link._transport
                link._transport = self  # type: ignore[assignment]

            def is_closing(self) -> bool:
                return False

            def write(self, data: bytes) -> None:
                writes.append((self.link, data))

        servers = one.broker._servers  # type: ignore[attr-defined]
        transports = [Transport(servers.server(channel(prefix, topic)).link()) for topic in topics]
        tasks = [asyncio.create_task(one.publish(str(number), topics[number % 3])) for number in range(30)]
        await until(lambda: len(writes) == 3)
        for transport in transports:
            assert transport.transport is not None
            transport.link._transport = transport.transport
        for link, data in writes:
            assert link._transport is not None
            link._transport.write(data)
        await asyncio.gather(*tasks)
        await two.receive(30)
        assert sorted(two.receiver.topics) == sorted(topics * 10)


# Slots that move -------------------------------------------------------------------------------------------------


async def test_slot_that_moves_while_messages_are_published_loses_nothing(
    make_broker: MakeBroker, shared_cluster: RedisCluster, prefix: str, open_topics: OpenTopics
) -> None:
    first, second, _ = shared_cluster.masters
    name = topic_at(shared_cluster, first, prefix)
    topics, other = [await open_topics(make_broker()) for _ in range(2)]
    topic, elsewhere = (opened.topic(name, history=History(size=1000)) for opened in (topics, other))
    sent: list[str] = []
    stop = False

    async def publish() -> None:
        while not stop:
            sent.append(str(len(sent)))
            await elsewhere.publish(sent[-1])

    async with following(topic) as follower:
        publishing = asyncio.create_task(publish())
        for target in (second, first):
            before = len(sent)
            await asyncio.to_thread(shared_cluster.move, channel(prefix, name), target)
            await until(lambda: len(sent) > before + 10)  # noqa: B023
        stop = True
        await publishing
        await until(lambda: len(follower.items) >= len(sent))
        assert follower.items == sent


async def test_publication_waits_until_its_slot_has_moved(
    make_broker: MakeBroker, shared_cluster: RedisCluster, prefix: str, open_topics: OpenTopics
) -> None:
    first, second, _ = shared_cluster.masters
    name = topic_at(shared_cluster, second, prefix)
    key = channel(prefix, name)
    topics = await open_topics(make_broker())
    topic = topics.topic(name, history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        await topic.presence.enter(member := Channel(), "ann")
        await asyncio.to_thread(shared_cluster.begin_to_move, key, first)
        await topic.publish("2")  # its keys are still there
        await asyncio.to_thread(shared_cluster.move_keys, key, first, f"{key}:meta", f"{key}:members")
        before = second.ask("INFO", "errorstats")
        tasks = [asyncio.create_task(call) for call in (topic.publish("3"), topic.presence.members())]
        await until(lambda: second.ask("INFO", "errorstats") != before)
        await asyncio.to_thread(shared_cluster.move_keys, key, first)
        assert not any(task.done() for task in tasks)
        await asyncio.to_thread(shared_cluster.end_move, key, first)
        await asyncio.gather(*tasks)
        await follower.has("1", "2", "3")
        assert follower.last is not None
        assert follower.last.offset == 3
        assert [*await topic.presence.members()] == ["ann"]
        await topic.presence.leave(member)
        await asyncio.to_thread(shared_cluster.move, key, second)


async def test_publication_fails_if_its_slot_moves_for_too_long(shared_cluster: RedisCluster, prefix: str) -> None:
    first, _, third = shared_cluster.masters
    name = topic_at(shared_cluster, third, prefix)
    key = channel(prefix, name)
    async with Node(RedisBroker(shared_cluster.urls, cluster=True, prefix=prefix, timeout=0.2)) as node:
        shared_cluster.begin_to_move(key, first)
        with pytest.raises(BrokerUnavailable, match="Redis is not available: ASK"):
            await node.publish("1", name)
        shared_cluster.end_move(key, first)
        await node.publish("1", name)
        shared_cluster.move(key, third)


async def test_topic_without_followers_here_moves_too(
    make_broker: MakeBroker, shared_cluster: RedisCluster, prefix: str
) -> None:
    first, _, third = shared_cluster.masters
    name = topic_at(shared_cluster, first, prefix)
    async with Node(make_broker()) as one, Node(make_broker()) as two:
        await two.broker.subscribe(name)
        position = (await one.publish("1", name)).position
        shared_cluster.move(channel(prefix, name), third)
        await until(lambda: two.receiver.losses == 1)  # only the node tells the subscriber, which does nothing itself
        published = await one.publish("2", name)
        await two.receive(2)
        assert position is not None
        assert published.position is not None
        assert (published.position.epoch != position.epoch, published.position.offset) == (True, 2)
        page = await two.broker.read_history(name, HISTORY, position, None, False)
        assert ([record.payload for record in page.records], page.complete) == (["2"], True)
        await two.broker.unsubscribe(name)
        await one.publish("3", name)
        shared_cluster.move(channel(prefix, name), first)
        await one.publish("4", name)
        await two.broker.subscribe(name)
        await one.publish("5", name)
        await two.receive(3)
        assert (two.receiver.payloads, two.receiver.losses) == (["1", "2", "5"], 1)


async def test_topic_is_unsubscribed_just_when_its_slot_moves(
    make_broker: MakeBroker, shared_cluster: RedisCluster, prefix: str
) -> None:
    first, second, _ = shared_cluster.masters
    name = topic_at(shared_cluster, first, prefix)
    other, later = (f"{name}-{number}" for number in topics_beside(shared_cluster, first, prefix, name))
    async with Node(make_broker()) as one, Node(make_broker()) as two:
        await two.broker.subscribe(name)
        await two.broker.subscribe(other)
        shared_cluster.move(channel(prefix, name), second)  # its message is not read yet
        await asyncio.gather(two.broker.unsubscribe(name), two.broker.subscribe(later))
        await one.publish("no", name)
        await one.publish("1", other)
        await one.publish("2", later)
        await two.receive(2)
        assert two.receiver.payloads == ["1", "2"]
        await two.broker.subscribe(name)
        await one.publish("3", name)
        await two.receive(3)
        assert (two.receiver.payloads, two.receiver.losses) == (["1", "2", "3"], 0)
        shared_cluster.move(channel(prefix, name), first)


# Nodes that fail -------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """A cluster of the test's own, not started. The parameter is the arguments."""
    cluster = RedisCluster(tmp_path, **getattr(request, "param", {}))
    try:
        yield cluster
    finally:
        cluster.kill()


@pytest.mark.parametrize("cluster", [{"replicas": 1}], indirect=True)
async def test_master_that_dies_is_replaced_and_other_topics_go_on(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    cluster.start()
    master, other, _ = cluster.masters
    (replica,) = cluster.replicas
    names = [topic_at(cluster, node, "streamws") for node in (master, other)]
    topics = await open_topics(RedisBroker(cluster.urls[0], cluster=True))
    topic, elsewhere = (topics.topic(name, history=History()) for name in names)
    async with following(topic) as follower, following(elsewhere) as unaffected:
        await published(topic, "1", "2")
        await topic.presence.enter(Channel(), "ann")
        await follower.has("1", "2")
        await until(lambda: replica.has_all_of(master))
        master.kill()
        await unavailable(partial(topic.publish, "3", idempotency="3"))
        await elsewhere.publish("1")
        await unaffected.has("1")
        await available(partial(topic.publish, "3", idempotency="3"), patience=40)
        await follower.has("1", "2", "3")
        assert [*await topic.presence.members()] == ["ann"]
        await elsewhere.publish("2")
        await unaffected.has("1", "2")
