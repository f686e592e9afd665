"""The contract of brokers, as the tests of this repository use it.

Its tests are in `streamws.topics.testing`, so that the authors of other brokers have them, too.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streamws.topics import Broker
from streamws.topics import testing as contract
from streamws.topics.testing import HISTORY, Collector, Node

__all__ = ["HISTORY", "BrokerContract", "Collector", "MakeBroker", "Node", "Strict"]

MakeBroker = Callable[[], Broker]


class Strict(contract.BrokerContract):
    """Runs the tests on the loop that was chosen for this run. No publication may be delivered twice."""

    repetitions = False

    @pytest.fixture(autouse=True)
    def _choose_loop(self, own_loop: asyncio.AbstractEventLoop) -> None:
        self._loop = own_loop

    def execute(self, test: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(test)


class BrokerContract(Strict, contract.WatchedBrokerContract):
    """The tests for brokers that are made by the fixture `make_broker`."""

    @pytest.fixture(autouse=True)
    def _remember(self, make_broker: MakeBroker) -> None:
        self._make_broker = make_broker

    def make_broker(self) -> Broker:
        return self._make_broker()
