"""`RedisBroker` on a Redis Cluster whose nodes fail, move, come and go. Each test starts a cluster of its own."""

import asyncio
import re
import signal
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from helpers.blocks import ROOT
from helpers.waiting import until
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import History, RedisBroker, TopicLimits, Topics
from topics.broker_contract import Collector, Node
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.redis_cluster import ClusterNode, RedisCluster, wait_for_reply
from topics.redis_following import available, following, published
from topics.redis_server import free_port

DATA = ("--appendonly", "yes", "--appendfsync", "always")
PATIENT = TopicLimits(publish_timeout=30)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """A cluster of the test's own. The parameter is its arguments."""
    cluster = RedisCluster(tmp_path, **getattr(request, "param", {}))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def channel(topic: str) -> str:
    return f"{{streamws:{topic}}}"


def topic_at(cluster: RedisCluster, node: ClusterNode) -> str:
    """Return a topic of a node."""
    names = (f"t{number}" for number in count())
    return next(name for name in names if cluster.owner_of(channel(name)) is node)


async def test_cluster_that_is_down_at_the_start_is_used_when_it_is_there(
    tmp_path: Path, open_topics: OpenTopics
) -> None:
    cluster = RedisCluster(tmp_path)
    topics = await open_topics(RedisBroker(cluster.urls, cluster=True))
    topic = topics.topic("t")
    place = f"127.0.0.1:{cluster.nodes[0].port}"
    with pytest.raises(BrokerUnavailable, match=rf"Redis Cluster at {place}, .* is not available: ConnectionRefused"):
        await topic.publish("1")
    try:
        cluster.start()
        await published(topic, "1")
        async with following(topic) as follower:
            await published(topic, "2")
            await follower.has("2")
    finally:
        cluster.kill()


@pytest.mark.parametrize("cluster", [{"options": DATA}], indirect=True)
async def test_node_that_comes_back_at_another_address_loses_nothing(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    name = topic_at(cluster, cluster.masters[0])
    topics = await open_topics(RedisBroker(cluster.urls[1], cluster=True))
    topic = topics.topic(name, history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        await follower.has("1")
        await topic.presence.enter(Channel(), "ann")
        await asyncio.to_thread(cluster.masters[0].move)
        await available(partial(topic.publish, "2", idempotency="2"), patience=40)
        await follower.has("1", "2")
        assert [*await available(topic.presence.members)] == ["ann"]


async def test_node_without_replica_that_dies_is_a_gap_for_its_topics_alone(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    dying = cluster.masters[2]
    names = [topic_at(cluster, node) for node in cluster.masters]
    topics = await open_topics(RedisBroker(cluster.urls, cluster=True))
    some = [topics.topic(name, history=History()) for name in names]
    async with following(some[0]) as first, following(some[1]) as second, following(some[2]) as third:
        for topic in some:
            await published(topic, "1", "2")
        await third.has("1", "2")
        before = third.last
        dying.kill()
        for _ in range(20):
            with pytest.raises(BrokerError):
                await some[2].publish("x")
        assert some[2].publish_soon("3")
        for topic in some[:2]:
            await topic.publish("3")
        await first.has("1", "2", "3")
        await second.has("1", "2", "3")
        dying.start()
        await until(lambda: third.items[-1] == "3", patience=40)
        assert third.items == ["1", "2", "gap", "3"]
        assert before is not None
        assert [gap.since for gap in third.gaps] == [before]
    assert (first.items, second.items) == (["1", "2", "3"], ["1", "2", "3"])


@pytest.mark.parametrize("cluster", [{"replicas": 3, "options": DATA}], indirect=True)
async def test_master_that_hangs_is_replaced_and_comes_back_as_a_replica(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    hanging = cluster.masters[1]
    name = topic_at(cluster, hanging)
    topics, other = [await open_topics(RedisBroker(cluster.urls, cluster=True, timeout=0.5)) for _ in range(2)]
    topic, elsewhere = (opened.topic(name, history=History()) for opened in (topics, other))
    async with following(topic) as follower, following(elsewhere) as another:
        await published(topic, "1")
        await follower.has("1")
        await until(lambda: cluster.replicas[1].has_all_of(hanging))
        hanging.signal(signal.SIGSTOP)
        await available(partial(topic.publish, "2", idempotency="2"), patience=40)
        await another.has("1", "2")
        hanging.signal(signal.SIGCONT)
        await asyncio.to_thread(wait_for_reply, hanging, b"role:slave", "INFO", "replication")
        await published(elsewhere, "3")
        await follower.has("1", "2", "3")
        # And back again, as an operator would do it.
        await asyncio.to_thread(wait_for_reply, hanging, b"master_link_status:up", "INFO", "replication")
        assert b"OK" in hanging.ask("CLUSTER", "FAILOVER")
        await available(partial(elsewhere.publish, "4", idempotency="4"), patience=40)
        await follower.has("1", "2", "3", "4")
        await another.has("1", "2", "3", "4")


@pytest.mark.parametrize("cluster", [{"spare": 1}], indirect=True)
async def test_node_that_is_added_gets_connections_until_it_is_removed(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    spare = cluster.nodes[-1]
    await asyncio.to_thread(wait_for_reply, spare, b"cluster_state:ok", "CLUSTER", "INFO")
    name = topic_at(cluster, cluster.masters[0])
    topics = await open_topics(RedisBroker(f"{cluster.urls[1]}?client_name=chat", cluster=True))
    topic = topics.topic(name, history=History())

    def connections() -> int:
        return spare.ask("CLIENT", "LIST").count(b"name=chat ")

    async with following(topic) as follower:
        await published(topic, "1")
        await asyncio.to_thread(cluster.move, channel(name), spare)
        await topic.publish("2")
        await until(lambda: connections() == 2)
        await asyncio.to_thread(cluster.move, channel(name), cluster.masters[0])
        await topic.publish("3")
        await follower.has("1", "2", "3")
        await until(lambda: connections() == 0)


async def test_connections_of_a_process_that_dies_leave_topics_of_all_nodes(cluster: RedisCluster) -> None:
    broker = RedisBroker(cluster.urls, cluster=True, presence_timeout=0.5)
    names = [f"t{number}" for number in range(50)]
    async with Node(broker) as node:
        dying = RedisBroker(cluster.urls, cluster=True, presence_timeout=0.5)
        await dying.open(Collector())
        for name in names:
            await node.broker.subscribe(name)
            await dying.enter(name, "c1", "ann", "")
            await node.broker.enter(name, "c2", "bob", "")
        assert dying._presence._task is not None
        dying._presence._task.cancel()
        await dying._end()
        for name in names:
            assert {*await node.broker.connections(name)} >= {"c2"}
        await until(lambda: len(node.receiver.events) == 150)
        for name in names:
            assert [*await node.broker.connections(name)] == ["c2"]
        assert [event.kind for event in node.receiver.events].count("leave") == 50


@pytest.mark.parametrize("cluster", [{"replicas": 1}], indirect=True)
async def test_presence_is_restored_after_nodes_have_lost_it(cluster: RedisCluster, open_topics: OpenTopics) -> None:
    names = [f"t{number}" for number in range(50)]
    topics = await open_topics(RedisBroker(cluster.urls, cluster=True))
    members = [Channel() for _ in names]
    for name, member in zip(names, members, strict=True):
        await topics.topic(name).presence.enter(member, "ann")
    for node in cluster.masters[1:]:
        await asyncio.to_thread(node.restart)  # without the data
    cluster.masters[0].kill()  # and its replica takes over

    async def is_restored() -> None:
        for name in names:
            if not await topics.topic(name).presence.members():
                raise BrokerError("not yet")

    await available(is_restored, patience=40)


async def test_user_of_the_guide_may_do_everything_in_a_cluster(cluster: RedisCluster) -> None:
    (line,) = re.findall("`user (chat [^`]*)`", (ROOT / "docs/howto/several-processes.md").read_text("utf-8"))
    for node in cluster.nodes:
        assert b"OK" in node.ask("ACL", "SETUSER", *line.split())
    urls = [url.replace("//", "//chat:password@") for url in cluster.urls]
    async with Node(RedisBroker(urls, cluster=True, prefix="chat")) as one:
        for number in range(10):
            await one.broker.subscribe(f"t{number}")
            await one.publish("1", f"t{number}", idempotency="1")
            await one.broker.enter(f"t{number}", "c1", "ann", "")
            await one.broker.exit(f"t{number}", "c1")
        await one.receive(10)
        await one.broker._presence.look_after()  # type: ignore[attr-defined]
    with pytest.raises(BrokerError, match=r"cannot be used: .*NOPERM"):
        await RedisBroker(urls, cluster=True, prefix="other").open(Collector())
    with pytest.raises(BrokerError, match=r"Redis Cluster at .* cannot be used: .*WRONGPASS"):
        await RedisBroker(cluster.urls[0].replace("//", "//chat:wrong@"), cluster=True).open(Collector())


async def test_nodes_of_a_cluster_are_reached_with_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    file, key = certificate
    port = free_port()
    options = ["--tls-cert-file", str(file), "--tls-key-file", str(key), "--tls-ca-cert-file", str(file)]
    options += ["--tls-port", str(port), "--tls-cluster", "yes", "--tls-auth-clients", "no"]
    options += ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]
    cluster = RedisCluster(tmp_path, masters=1, options=options)
    try:
        cluster.start()
        url = f"rediss://localhost:{port}"
        with pytest.raises(BrokerError, match=r"cannot be used: .*certificate verify failed"):
            await RedisBroker(url, cluster=True).open(Collector())
        async with Node(RedisBroker(f"{url}?ssl_ca_certs={file}", cluster=True)) as node:
            await node.broker.subscribe("t")
            await node.publish("1")
            await node.receive(1)
    finally:
        cluster.kill()


@pytest.mark.parametrize("cluster", [{"replicas": 3}], indirect=True)
async def test_whole_cluster_that_restarts_without_its_data_is_a_gap(
    cluster: RedisCluster, open_topics: OpenTopics
) -> None:
    topics: Topics = await open_topics(RedisBroker(cluster.urls, cluster=True), limits=PATIENT)
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        await follower.has("1")
        cluster.kill()
        for node in cluster.nodes:
            await asyncio.to_thread(node.start)
        await until(lambda: follower.gaps, patience=40)
        await published(topic, "2")
        await follower.has("1", "gap", "2")
