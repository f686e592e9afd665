"""`MemoryBroker`: the promises of a broker, and its memory."""

import asyncio

import pytest

from helpers.virtual import VirtualLoop
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import History, MemoryBroker, Outgoing, Position, Published, memory
from streamws.topics.testing import WatchedBrokerContract
from topics.broker_contract import Collector, Node, Strict


class TestMemoryBroker(Strict, WatchedBrokerContract):
    def setup_method(self) -> None:
        self.first = MemoryBroker()

    def make_broker(self) -> MemoryBroker:
        return MemoryBroker(self.first)


async def test_broker_works_for_one_receiver_while_it_is_open() -> None:
    broker = MemoryBroker()
    with pytest.raises(BrokerUnavailable, match="not open"):
        await broker.subscribe("t")
    with pytest.raises(BrokerUnavailable, match="not open"):
        await broker.publish([Outgoing("t", "1", None, None, None)])
    async with Node(broker) as node:
        with pytest.raises(BrokerError, match="is in use: make another one, with shared="):
            await broker.open(Collector())
        await node.publish("1")
    async with Node(broker) as node:  # again
        assert len((await node.read()).records) == 1


async def test_quiet_topic_keeps_its_epoch_until_something_is_lost() -> None:
    async with Node(MemoryBroker()) as node:
        assert (await node.read()).complete
        await node.broker.subscribe("t")
        first = (await node.publish("1", history=None)).position
        await node.broker.unsubscribe("t")
        assert (await node.read(since=first)).complete
        assert not (await node.read()).complete
        await node.broker.subscribe("t")
        second = (await node.publish("2", history=None)).position
        await node.broker.unsubscribe("t")
        assert await node.publish("to nobody", history=None) == Published(None)
        assert not (await node.read(since=second)).complete
        await node.broker.subscribe("t")
        third = (await node.publish("3", history=None)).position
    assert first is not None
    assert second == Position(first.epoch, 2)
    assert third is not None
    assert third.epoch != first.epoch
    assert third.offset == 1


async def test_positions_of_quiet_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_FORGOTTEN", 10)
    async with Node(MemoryBroker()) as node:
        for number in range(100):
            await node.broker.subscribe(str(number))
            await node.broker.unsubscribe(str(number))
        assert isinstance(node.broker, MemoryBroker)
        assert [*node.broker._store.forgotten] == [str(number) for number in range(90, 100)]


async def test_publication_without_history_ends_the_history() -> None:
    async with Node(MemoryBroker()) as node:
        await node.broker.subscribe("t")
        first = (await node.publish("1")).position
        await node.publish("2", history=None)
        page = await node.read(since=first)
        assert (list(page.records), page.complete) == ([], False)


def test_everything_is_forgotten_in_time() -> None:
    loop = VirtualLoop()
    broker = MemoryBroker()

    async def fill() -> None:
        node = Node(broker)
        await node.__aenter__()
        for number in range(50):
            await node.publish("x", topic=f"t{number}", idempotency="a", history=History(seconds=number + 1))
        await node.publish("x", topic="nobody", idempotency="a", history=None)

    async def close() -> None:
        await broker.close()

    try:
        loop.create_task(fill())
        loop.settle()
        assert broker.kept == 50
        loop.pass_time(10)
        assert broker.kept == 40
        for _ in range(50):
            loop.pass_time(1)
        assert broker.kept == 0
        assert len(broker._store.published) == 51
        for _ in range(3):
            loop.pass_time(300)
        assert len(broker._store.published) == 0
        assert broker._store.timer is None
        loop.create_task(close())
        loop.settle()
    finally:
        loop.end()
    assert loop.errors == []


def test_history_survives_the_loop_that_made_it() -> None:
    broker = MemoryBroker()

    async def publish() -> int:
        async with Node(broker) as node:
            await node.publish("1")
            return len((await node.read()).records)

    assert [asyncio.run(publish()), asyncio.run(publish())] == [1, 2]
