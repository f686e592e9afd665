"""`RedisBroker.stats`: its connections, while Redis works, is gone, hangs, and is back."""

import asyncio
import signal
import sys
from pathlib import Path

import attrs
import pytest

from helpers.waiting import until
from streamws import BrokerError
from streamws.topics import BrokerConnection, BrokerStats, History, RedisBroker, TopicLimits
from topics.broker_contract import Node
from topics.fixtures import OpenTopics
from topics.redis_server import RedisServer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no Redis for Windows")

QUIET = BrokerConnection(connected=True)


def timeless(stats: BrokerStats) -> BrokerStats:
    """Return stats without round trips."""
    connections = {name: attrs.evolve(one, round_trip=None) for name, one in stats.connections.items()}
    return attrs.evolve(stats, connections=connections)


async def test_connections_of_a_broker_that_works(redis_server: RedisServer) -> None:
    broker = RedisBroker(redis_server.url)
    closed = BrokerStats(0, {"publications": BrokerConnection(False), "subscriptions": BrokerConnection(False)})
    assert broker.stats == closed
    async with Node(broker) as node:
        assert timeless(broker.stats) == BrokerStats(0, {"publications": QUIET, "subscriptions": QUIET})
        assert broker.stats.connected
        # The heartbeat is the first thing on a new connection.
        trip = broker.stats.connections["publications"].round_trip
        assert trip is not None
        assert 0 < trip < 10
        assert broker.stats.connections["subscriptions"].round_trip is None
        await broker.subscribe("a")
        await broker.subscribe("b")
        await broker.unsubscribe("a")
        await node.publish("1")
        assert timeless(broker.stats) == BrokerStats(1, {"publications": QUIET, "subscriptions": QUIET})
    assert broker.stats == closed


async def test_requests_and_bytes_that_wait(redis_server: RedisServer) -> None:
    broker = RedisBroker(redis_server.url)
    async with Node(broker) as node:
        tasks = [
            asyncio.create_task(node.publish("x" * 1000)),
            asyncio.create_task(node.publish("x" * 1000)),
            asyncio.create_task(broker.subscribe("a")),
        ]
        await asyncio.sleep(0)
        publications, subscriptions = broker.stats.connections.values()
        assert (publications.waiting, subscriptions.waiting) == (2, 1)
        assert 2000 < publications.backlog < 3000
        assert subscriptions.backlog == 0  # it is packed at the end of the iteration
        await asyncio.sleep(0)
        publications, subscriptions = broker.stats.connections.values()
        assert (publications.waiting, subscriptions.waiting) == (2, 1)
        assert publications.backlog == 0  # the socket has taken everything
        await asyncio.gather(*tasks)
        assert timeless(broker.stats) == BrokerStats(1, {"publications": QUIET, "subscriptions": QUIET})


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_bytes_that_redis_does_not_take(
    tmp_path: Path, certificate: tuple[Path, Path], open_topics: OpenTopics, encrypted: bool
) -> None:
    file, key = certificate
    port = RedisServer(tmp_path).port
    options = ["--tls-port", str(port), "--tls-cert-file", str(file), "--tls-key-file", str(key)]
    server = RedisServer(tmp_path, *options, "--tls-auth-clients", "no") if encrypted else RedisServer(tmp_path)
    server.start()
    try:
        url = f"rediss://localhost:{port}?ssl_ca_certs={file}" if encrypted else server.url
        limits = TopicLimits(max_publication_size=20_000_000, max_publish_soon=30_000_000)
        topics = await open_topics(RedisBroker(url), limits=limits)
        topic = topics.topic("t")
        server.signal(signal.SIGSTOP)
        assert topic.publish_soon("x" * 16_000_000)

        def backlog() -> int:
            broker = topics.stats.broker
            assert broker is not None
            return broker.connections["publications"].backlog

        await until(lambda: backlog() > 8_000_000)
        assert await asyncio.to_thread(backlog) > 8_000_000
        assert topics.stats.publish_soon_bytes == 16_000_064
        server.signal(signal.SIGCONT)
        await until(lambda: not backlog())
        await until(lambda: topics.stats.published == 1)
    finally:
        server.kill()


async def test_server_that_is_killed_and_comes_back(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with topic.subscribe() as feed:
        redis_server.kill()

        def broker() -> BrokerStats:
            found = topics.stats.broker
            assert found is not None
            return found

        await until(lambda: not any(each.connected for each in broker().connections.values()))
        with pytest.raises(BrokerError):
            await topic.publish("1")
        refused = "ConnectionRefused"
        await until(lambda: all(refused in each.failure for each in broker().connections.values()))
        assert (broker().connected, topics.stats.losses, topics.stats.failed) == (False, 0, 1)
        assert broker().subscriptions == 1  # it will be renewed
        redis_server.start()
        # The topic reads its history at once.
        await until(lambda: broker().connected and not any(each.waiting for each in broker().connections.values()))
        for each in broker().connections.values():
            assert (each.reconnects, each.waiting, refused in each.failure) == (1, 0, True)
        await until(lambda: topics.stats.losses == 1)
        await topic.publish("2")
        await anext(feed)  # the gap: the epoch of the topic is new
        await until(lambda: not topics.stats.recovering)
        stats = topics.stats
        assert (stats.gaps, stats.published, stats.failed) == (1, 1, 1)
