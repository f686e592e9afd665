"""The promises of the `Broker` protocol, as tests for any broker.

A test module of a broker derives a class from `BrokerContract`, and defines the fixture `make_broker`: a function that
returns a new broker each time, all with the same topics, as in several processes. None of them is open yet.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from helpers.waiting import until
from streamws import BrokerError
from streamws.topics import Broker, Connection, History, Outgoing, Page, Position, PresenceEvent, Published, Record

MakeBroker = Callable[[], Broker]

HISTORY = History(size=5, seconds=100)


class Collector:
    """A receiver that keeps what a broker delivers."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.topics: list[str] = []
        self.events: list[PresenceEvent] = []
        self.losses = 0

    def received(self, topic: str, record: Record) -> None:
        self.topics.append(topic)
        self.records.append(record)

    def lost(self, topics: Sequence[str] | None = None) -> None:
        self.losses += 1

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        self.events.append(event)

    @property
    def payloads(self) -> list[str | bytes]:
        return [record.payload for record in self.records]

    @property
    def offsets(self) -> list[int]:
        return [record.position.offset for record in self.records]


class Node:
    """One process with its broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.receiver = Collector()

    async def __aenter__(self) -> "Node":
        await self.broker.open(self.receiver)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.broker.close()

    async def receive(self, count: int) -> None:
        """Wait until so many publications were delivered."""
        await until(lambda: len(self.receiver.records) >= count)

    async def publish(
        self,
        payload: str | bytes,
        topic: str = "t",
        key: str | None = None,
        idempotency: str | None = None,
        history: History | None = HISTORY,
    ) -> Published:
        (result,) = await self.broker.publish([Outgoing(topic, payload, key, idempotency, history)])
        assert not isinstance(result, BrokerError)
        return result

    async def read(
        self,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        history: History | None = HISTORY,
    ) -> Page:
        return await self.broker.read_history("t", history, since, limit, reverse)


class BrokerContract:
    """Tests that every broker passes."""

    @pytest.fixture
    async def nodes(self, make_broker: MakeBroker) -> AsyncIterator[tuple[Node, Node]]:
        async with AsyncExitStack() as stack:
            yield (
                await stack.enter_async_context(Node(make_broker())),
                await stack.enter_async_context(Node(make_broker())),
            )

    async def test_publication_reaches_all_subscribers_unchanged(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await one.broker.subscribe("t")
        await two.broker.subscribe("t")
        text = await one.publish("t€xt\x00", key="k€y")
        await one.publish(b"\xff\x00binary")
        await one.publish("")
        for node in nodes:
            await node.receive(3)
            assert node.receiver.payloads == ["t€xt\x00", b"\xff\x00binary", ""]
            assert node.receiver.topics == ["t"] * 3
            first, second, _ = node.receiver.records
            assert first.position == text.position
            assert (first.key, second.key) == ("k€y", None)
            assert abs(first.time - second.time) < 60
            assert first.time > 1e9

    @pytest.mark.parametrize("history", [HISTORY, None], ids=["history", "no history"])
    async def test_offsets_count_from_1_in_the_order_of_delivery(
        self, nodes: tuple[Node, Node], history: History | None
    ) -> None:
        one, two = nodes
        await one.broker.subscribe("t")
        await two.broker.subscribe("t")
        for number in range(20):
            await nodes[number % 2].publish(str(number), history=history)
        for node in nodes:
            await node.receive(20)
            assert node.receiver.payloads == [str(number) for number in range(20)]
            assert node.receiver.offsets == [*range(1, 21)]
            assert len({record.position.epoch for record in node.receiver.records}) == 1

    async def test_batch_is_published_in_order_with_a_result_for_each(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("a")
        await two.broker.subscribe("b")
        batch = [Outgoing("ab"[number % 2], str(number), None, None, HISTORY) for number in range(10)]
        results = await one.broker.publish(batch)
        positions = [result.position for result in results if isinstance(result, Published)]
        assert [position.offset for position in positions if position] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        await two.receive(10)
        by_topic = list(zip(two.receiver.topics, two.receiver.payloads, strict=True))
        assert [payload for topic, payload in by_topic if topic == "a"] == ["0", "2", "4", "6", "8"]
        assert [payload for topic, payload in by_topic if topic == "b"] == ["1", "3", "5", "7", "9"]

    async def test_only_subscribed_topics_are_delivered(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("t")
        await two.broker.unsubscribe("never subscribed")
        await one.publish("1")
        await one.publish("no", topic="other")
        await one.publish("2")
        await two.receive(2)
        await two.broker.unsubscribe("t")
        await one.publish("no")
        await two.broker.subscribe("t")
        await one.publish("4")
        await two.receive(3)
        assert two.receiver.payloads == ["1", "2", "4"]
        assert two.receiver.losses == 0

    async def test_subscribing_twice_delivers_once(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("t")
        await two.broker.subscribe("t")
        await one.publish("1")
        await one.publish("2")
        await two.receive(2)
        assert two.receiver.payloads == ["1", "2"]

    async def test_history_keeps_the_newest(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        for number in range(8):
            published = await one.publish(str(number), key=f"k{number}")
        page = await two.read()
        assert [record.payload for record in page.records] == ["3", "4", "5", "6", "7"]
        assert [record.position.offset for record in page.records] == [4, 5, 6, 7, 8]
        assert page.records[0].key == "k3"
        assert page.position == published.position
        assert not page.complete

    async def test_history_since_a_position(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        positions = [(await one.publish(str(number))).position for number in range(8)]
        for place in (2, 3, 6):
            page = await two.read(since=positions[place])
            assert [record.payload for record in page.records] == [str(number) for number in range(place + 1, 8)]
            assert page.complete
        page = await two.read(since=positions[7])
        assert (list(page.records), page.complete) == ([], True)
        page = await two.read(since=positions[1])  # the next one is dropped already
        assert [record.payload for record in page.records] == ["3", "4", "5", "6", "7"]
        assert not page.complete

    async def test_positions_that_do_not_exist_are_not_complete(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        position = (await one.publish("1")).position
        assert position is not None
        page = await two.read(since=Position("foreign", 1))
        assert ([record.payload for record in page.records], page.complete) == (["1"], False)
        page = await two.read(since=Position(position.epoch, 2))
        assert (list(page.records), page.complete) == ([], False)
        page = await two.read(since=Position(position.epoch, 0))
        assert ([record.payload for record in page.records], page.complete) == (["1"], True)

    async def test_history_is_limited_from_either_end(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        positions = [(await one.publish(str(number))).position for number in range(4)]
        page = await two.read(limit=2)
        assert [record.payload for record in page.records] == ["0", "1"]
        assert page.complete
        page = await two.read(limit=2, reverse=True)
        assert [record.payload for record in page.records] == ["2", "3"]
        page = await two.read(since=positions[0], limit=1)
        assert [record.payload for record in page.records] == ["1"]
        page = await two.read(limit=0)
        assert (list(page.records), page.position) == ([], positions[-1])

    async def test_history_expires(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        short = History(seconds=0.05)
        position = (await one.publish("1", history=short)).position
        assert position is not None
        await asyncio.sleep(0.06)
        page = await two.read(history=short)
        assert list(page.records) == []
        page = await two.read(since=Position(position.epoch, 0), history=short)
        assert (list(page.records), page.complete) == ([], False)

    async def test_topic_without_history_has_a_position(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("t")
        published = await one.publish("1", history=None)
        page = await two.read(history=None, limit=0)
        assert page.position == published.position
        page = await two.read(since=published.position, history=None)
        assert (list(page.records), page.complete) == ([], True)
        assert published.position is not None
        page = await two.read(since=Position(published.position.epoch, 0), history=None)
        assert (list(page.records), page.complete) == ([], False)

    async def test_idempotency_key_publishes_once_in_a_topic(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await one.broker.subscribe("t")
        first = await one.publish("1", idempotency="a")
        assert not first.duplicate
        again = await two.publish("1", idempotency="a")
        assert again == Published(first.position, duplicate=True)
        assert not (await two.publish("2", idempotency="b")).duplicate
        assert not (await two.publish("1", topic="other", idempotency="a")).duplicate
        await one.receive(2)
        assert one.receiver.payloads == ["1", "2"]

    async def test_presence_is_seen_by_all(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("t")
        await one.broker.enter("t", "c1", "ann", "busy")
        await two.broker.enter("t", "c2", "ann", "")
        await one.broker.enter("t", "c3", "b€b", "x")
        await one.broker.enter("other", "c3", "eve", "")
        for node in nodes:
            connections = await node.broker.connections("t")
            assert [*connections.items()] == [
                ("c1", Connection("ann", "busy")),
                ("c2", Connection("ann", "")),
                ("c3", Connection("b€b", "x")),
            ]
        assert await one.broker.connections("nothing") == {}
        await one.broker.exit("t", "c1")
        await two.broker.exit("t", "c2")
        await two.broker.exit("t", "unknown")
        assert [*await two.broker.connections("t")] == ["c3"]
        await until(lambda: len(two.receiver.events) == 5)
        assert two.receiver.events == [
            PresenceEvent("join", "ann", "busy", "c1", changed=True),
            PresenceEvent("join", "ann", "", "c2", changed=False),
            PresenceEvent("join", "b€b", "x", "c3", changed=True),
            PresenceEvent("leave", "ann", "busy", "c1", changed=False),
            PresenceEvent("leave", "ann", "", "c2", changed=True),
        ]

    async def test_data_of_a_connection_is_replaced(self, nodes: tuple[Node, Node]) -> None:
        one, two = nodes
        await two.broker.subscribe("t")
        await one.broker.enter("t", "c1", "ann", "busy")
        await one.broker.enter("t", "c1", "ann", "idle")
        assert await two.broker.connections("t") == {"c1": Connection("ann", "idle")}
        await one.broker.enter("t", "c1", "bob", "new")
        assert await two.broker.connections("t") == {"c1": Connection("bob", "new")}
        await until(lambda: len(two.receiver.events) == 3)
        assert [(event.kind, event.user, event.changed) for event in two.receiver.events] == [
            ("join", "ann", True),
            ("leave", "ann", True),
            ("join", "bob", True),
        ]

    async def test_closed_broker_delivers_nothing_and_its_connections_are_gone(self, make_broker: MakeBroker) -> None:
        async with Node(make_broker()) as stays:
            leaving = Node(make_broker())
            async with leaving:
                await leaving.broker.subscribe("t")
                await leaving.broker.enter("t", "c1", "ann", "")
            await stays.publish("1")
            assert await stays.broker.connections("t") == {}
            assert leaving.receiver.records == []
