"""`RedisBroker`: the promises of a broker, and what happens when Redis fails."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from streamws.topics import RedisBroker
from topics.broker_contract import BrokerContract, MakeBroker
from topics.redis_server import RedisServer

prefixes = (f"test-{number}" for number in count())


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests that do not disturb it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, shared_server: RedisServer) -> MakeBroker:
        prefix = next(prefixes)
        return lambda: RedisBroker(shared_server.url, prefix=prefix)
