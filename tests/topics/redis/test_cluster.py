"""`RedisBroker` on a Redis Cluster: the promises of a broker, and what happens when nodes fail and slots move."""

import sys
from collections.abc import Iterator
from itertools import count

import pytest

from streamws.topics import RedisBroker
from topics.broker_contract import BrokerContract, MakeBroker
from topics.redis_cluster import RedisCluster

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
def make_broker(shared_cluster: RedisCluster) -> MakeBroker:
    """Makes brokers with a prefix of the test's own."""
    prefix = next(prefixes)
    return lambda: RedisBroker(shared_cluster.urls, cluster=True, prefix=prefix)


class TestCluster(BrokerContract):
    pass
