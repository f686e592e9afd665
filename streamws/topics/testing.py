"""Tests of the promises of `Broker`, for brokers of your own. `BrokerContract` says how to use them.

They are methods that pytest runs, and need nothing but the standard library. To see the values in a failed comparison,
write `pytest.register_assert_rewrite("streamws.topics.testing")` in your `conftest.py`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from itertools import pairwise
from secrets import token_hex
from typing import TypeVar

from ..errors import BrokerError, BrokerUnavailable
from .broker import Broker, Outgoing, Page
from .stats import BrokerStats
from .values import Connection, History, Position, PresenceEvent, Published, Record

__all__ = ["BrokerContract", "RemoteBrokerContract", "WatchedBrokerContract"]

HISTORY = History(size=5, seconds=100)

ODD_NAMES = ["t", "T", "t ", "t.t", "t:t", "t/t", "t*", "t>", "[t]", "{t}", "t\n", "t\x00", "€", "%s", "x" * 200]
"""Names of topics in which a character may mean something to a server."""


class Collector:
    """A receiver that keeps what a broker delivers.

    :param prefix: begins the names of all topics.
    :param repetitions: whether publications may be delivered again. Then that is ignored, as `Topics` does.
    """

    def __init__(self, prefix: str = "", repetitions: bool = False) -> None:
        self.records: list[Record] = []
        self.topics: list[str] = []
        """The topic of each record."""
        self.events: list[PresenceEvent] = []
        self.losses: int = 0
        self.foreign: bool = False
        """Whether the broker has called it in another thread than that of the loop."""
        self._prefix = prefix
        self._repetitions = repetitions
        self._last: dict[tuple[str, str], int] = {}  # the last offset in each topic and epoch
        self._thread = threading.get_ident()

    def received(self, topic: str, record: Record) -> None:
        """Keep a publication."""
        self._check_thread()
        epoch, offset = record.position
        if self._repetitions and offset <= self._last.get((topic, epoch), 0):
            return
        self._last[topic, epoch] = offset
        self.topics.append(topic.removeprefix(self._prefix))
        self.records.append(record)

    def lost(self, topics: Sequence[str] | None = None) -> None:
        """Count a loss."""
        self._check_thread()
        self.losses += 1

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        """Keep a presence event."""
        self._check_thread()
        self.events.append(event)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            self.foreign = True

    @property
    def payloads(self) -> list[str | bytes]:
        """The payloads of the records."""
        return [record.payload for record in self.records]

    @property
    def offsets(self) -> list[int]:
        """The offsets of the records."""
        return [record.position.offset for record in self.records]


class Node:
    """One process with its broker.

    :param prefix: begins the names of all topics.
    :param patience: the seconds after which something that must happen has failed.
    :param repetitions: whether publications may be delivered again.
    """

    def __init__(self, broker: Broker, prefix: str = "", patience: float = 10.0, repetitions: bool = False) -> None:
        self.broker = broker
        self.prefix = prefix
        self.patience = patience
        self.receiver: Collector = Collector(prefix, repetitions)

    async def __aenter__(self) -> "Node":
        await self.broker.open(self.receiver)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.broker.close()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something has happened.

        :param what: what it is, for the error.
        :raises AssertionError: if it has not happened in time.
        """
        ends = time.monotonic() + self.patience
        iterations = 0
        while not condition():
            if time.monotonic() > ends:
                raise AssertionError(f"{what}: that has not happened within {self.patience:g} s")
            await asyncio.sleep(0 if iterations < 100 else 0.002)
            iterations += 1

    async def receive(self, count: int) -> None:
        """Wait until so many publications were delivered."""
        await self.until(lambda: len(self.receiver.records) >= count, f"{count} publications are delivered")

    async def subscribe(self, topic: str = "t") -> None:
        """Subscribe to a topic."""
        await self.broker.subscribe(self.prefix + topic)

    async def unsubscribe(self, topic: str = "t") -> None:
        """Unsubscribe from a topic."""
        await self.broker.unsubscribe(self.prefix + topic)

    async def publish(
        self,
        payload: str | bytes,
        topic: str = "t",
        key: str | None = None,
        idempotency: str | None = None,
        history: History | None = HISTORY,
    ) -> Published:
        """Publish one message."""
        (result,) = await self.broker.publish([Outgoing(self.prefix + topic, payload, key, idempotency, history)])
        if isinstance(result, BrokerError):
            raise result
        return result

    async def read(
        self,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        history: History | None = HISTORY,
        topic: str = "t",
    ) -> Page:
        """Read a history."""
        return await self.broker.read_history(self.prefix + topic, history, since, limit, reverse)

    async def enter(self, connection: str, user: str, data: str = "", topic: str = "t") -> None:
        """Make a connection present."""
        await self.broker.enter(self.prefix + topic, connection, user, data)

    async def exit(self, connection: str, topic: str = "t") -> None:
        """Make a connection leave."""
        await self.broker.exit(self.prefix + topic, connection)

    async def connections(self, topic: str = "t") -> Mapping[str, Connection]:
        """Return who is present."""
        return await self.broker.connections(self.prefix + topic)


Contract = TypeVar("Contract", bound="BrokerContract")
Test = Callable[[Contract, Node, Node], Coroutine[object, None, None]]


def _promise(test: "Test[Contract]") -> Callable[[Contract], None]:
    """Make a test of a coroutine function with two open brokers."""

    def run(self: Contract) -> None:
        self.execute(self._with_two_nodes(lambda one, two: test(self, one, two)))

    # Not `functools.wraps`: pytest would take the parameters for fixtures.
    run.__name__ = run.__qualname__ = test.__name__
    run.__doc__ = test.__doc__
    return run


def _payloads(page: Page) -> list[str | bytes]:
    return [record.payload for record in page.records]


def _position(published: Published) -> Position:
    """Return the position of a publication that was kept."""
    assert published.position is not None, "a publication in a topic with a history or a subscription has a position"
    return published.position


class BrokerContract:
    """Tests of the promises that every `Broker` makes.

    Derive a class whose name begins with `Test`, define `make_broker`, and run pytest. No plugin is needed.
    """

    patience: float = 10.0
    """The seconds after which something that must happen has failed."""

    deadline: float = 60.0
    """The seconds after which a test has failed, because a call to the broker hangs."""

    repetitions: bool = True
    """Whether the broker may deliver a publication again: that is ignored, as `Topics` does."""

    def make_broker(self) -> Broker:
        """Return a new broker that is not open. All that one test makes have the same topics, as in several processes.

        What other tests have left behind does no harm: each test has topics of its own.
        """
        raise NotImplementedError("define make_broker: it returns a broker")

    def execute(self, test: Coroutine[object, None, None]) -> None:
        """Run a test in a new event loop. Override it to use another loop than that of asyncio."""
        asyncio.run(test)

    async def _with_two_nodes(self, test: Callable[[Node, Node], Coroutine[object, None, None]]) -> None:
        prefix = f"test-{token_hex(8)}-"
        async with asyncio.timeout(self.deadline), AsyncExitStack() as stack:
            one, two = [await stack.enter_async_context(self._node(prefix)) for _ in range(2)]
            await test(one, two)
        for node in (one, two):
            assert not node.receiver.foreign, "the broker has called its receiver in another thread"

    def _node(self, prefix: str) -> Node:
        return Node(self.make_broker(), prefix, self.patience, self.repetitions)

    # Publications ----------------------------------------------------------------------------------------------

    @_promise
    async def test_publication_reaches_all_subscribers_unchanged(self, one: Node, two: Node) -> None:
        """Text stays text, bytes stay bytes, and a key stays with its publication."""
        await one.subscribe()
        await two.subscribe()
        text = await one.publish("t€xt\x00", key="k€y")
        await one.publish(b"\xff\x00binary")
        await one.publish("")
        large = "x" * 300_000
        await one.publish(large, key="")
        for node in (one, two):
            await node.receive(4)
            assert node.receiver.payloads == ["t€xt\x00", b"\xff\x00binary", "", large]
            assert node.receiver.topics == ["t"] * 4
            first, second, _, last = node.receiver.records
            assert first.position == text.position
            assert (first.key, second.key, last.key) == ("k€y", None, "")
            assert abs(first.time - time.time()) < 3600, "the time is in seconds since 1970"

    @_promise
    async def test_offsets_count_from_1_in_the_order_of_delivery(self, one: Node, two: Node) -> None:
        """The publications of a topic have the offsets 1, 2, 3, ... in one epoch, whoever makes them."""
        for topic, history in (("with", HISTORY), ("without", None)):
            await one.subscribe(topic)
            await two.subscribe(topic)
            for number in range(20):
                published = await (one, two)[number % 2].publish(str(number), topic, history=history)
                assert _position(published).offset == number + 1
        for node in (one, two):
            await node.receive(40)
            for topic in ("with", "without"):
                records = [
                    record
                    for name, record in zip(node.receiver.topics, node.receiver.records, strict=True)
                    if name == topic
                ]
                assert [record.payload for record in records] == [str(number) for number in range(20)]
                assert [record.position.offset for record in records] == [*range(1, 21)]
                assert len({record.position.epoch for record in records}) == 1
            assert node.receiver.losses == 0

    @_promise
    async def test_publications_made_at_once_have_one_order(self, one: Node, two: Node) -> None:
        """Calls may overlap, in one process and in several. All subscribers get the same order."""
        await one.subscribe()
        await two.subscribe()
        results = await asyncio.gather(*((one, two)[number % 2].publish(str(number)) for number in range(40)))
        positions = {str(number): result.position for number, result in enumerate(results)}
        for node in (one, two):
            await node.receive(40)
            assert node.receiver.offsets == [*range(1, 41)]
            assert {record.payload: record.position for record in node.receiver.records} == positions

    @_promise
    async def test_batch_is_published_in_order_with_a_result_for_each(self, one: Node, two: Node) -> None:
        """A batch may have several topics. Its publications are made in its order."""
        await two.subscribe("a")
        await two.subscribe("b")
        batch = [Outgoing(one.prefix + "ab"[number % 2], str(number), None, None, HISTORY) for number in range(10)]
        results = await one.broker.publish(batch)
        offsets = [_position(result).offset for result in results if isinstance(result, Published)]
        assert offsets == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        await two.receive(10)
        by_topic = list(zip(two.receiver.topics, two.receiver.payloads, strict=True))
        assert [payload for topic, payload in by_topic if topic == "a"] == ["0", "2", "4", "6", "8"]
        assert [payload for topic, payload in by_topic if topic == "b"] == ["1", "3", "5", "7", "9"]

    @_promise
    async def test_idempotency_key_publishes_once_in_a_topic(self, one: Node, two: Node) -> None:
        """A second publication with the same key is not made, and its result has the position of the first."""
        await one.subscribe()
        first = await one.publish("1", idempotency="a")
        assert not first.duplicate
        again = await two.publish("1", idempotency="a")
        assert again == Published(first.position, duplicate=True)
        assert not (await two.publish("2", idempotency="b")).duplicate
        assert not (await two.publish("1", topic="other", idempotency="a")).duplicate
        batch = [Outgoing(one.prefix + "t", "3", None, "c", HISTORY)] * 2
        results = await one.broker.publish(batch)
        assert [result.duplicate for result in results if isinstance(result, Published)] == [False, True]
        await one.publish("end")
        await one.receive(4)
        assert one.receiver.payloads == ["1", "2", "3", "end"]

    @_promise
    async def test_calls_that_are_cancelled_disturb_no_others(self, one: Node, two: Node) -> None:
        """`Topics` cancels calls that take too long. Later calls get their own results."""
        await one.subscribe()
        await two.subscribe()
        await two.enter("c", "ann", "data")
        calls: list[Callable[[int], Coroutine[object, object, object]]] = [
            lambda number: one.publish(f"cancelled {number}"),
            lambda number: one.read(),
            lambda number: one.connections(),
            lambda number: one.subscribe(f"cancelled {number}"),
            lambda number: one.unsubscribe(f"cancelled {number}"),
            lambda number: one.enter("cancelled", "bob", str(number)),
            lambda number: one.exit("cancelled"),
        ]
        for iterations in range(4):
            tasks = [asyncio.create_task(call(iterations)) for call in calls]
            for _ in range(iterations):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            published = await one.publish(f"made {iterations}")
            page = await one.read(limit=1, reverse=True)
            assert (_payloads(page), page.position) == ([f"made {iterations}"], published.position)
            assert (await one.connections())["c"] == Connection("ann", "data")
        await one.exit("cancelled")
        assert [*await one.connections()] == ["c"]
        last = _position(await two.publish("end"))
        await one.until(lambda: "end" in one.receiver.payloads, "the last publication is delivered")
        assert one.receiver.offsets == [*range(1, last.offset + 1)]
        made = [payload for payload in one.receiver.payloads if str(payload).startswith("made")]
        assert made == [f"made {iterations}" for iterations in range(4)]

    # Subscriptions ---------------------------------------------------------------------------------------------

    @_promise
    async def test_everything_after_subscribe_is_delivered(self, one: Node, two: Node) -> None:
        """After `subscribe` has returned, all later publications are delivered; those before are not."""
        for number in range(10):
            topic = str(number)
            await one.publish("before", topic)
            await two.subscribe(topic)
            await one.publish("after", topic)
        await two.receive(10)
        assert two.receiver.payloads == ["after"] * 10
        assert sorted(two.receiver.topics) == [str(number) for number in range(10)]  # topics have no common order

    @_promise
    async def test_only_subscribed_topics_are_delivered(self, one: Node, two: Node) -> None:
        """Publications and presence events are delivered until `unsubscribe` is called."""
        await two.subscribe()
        await two.unsubscribe("never subscribed")
        await one.publish("1")
        await one.publish("no", topic="other")
        await one.enter("no", "eve", topic="other")
        await one.publish("2")
        await two.receive(2)
        await two.unsubscribe()
        await one.publish("no")
        await one.enter("no", "eve")
        await two.subscribe()
        await one.publish("4")
        await two.receive(3)
        assert two.receiver.payloads == ["1", "2", "4"]
        assert two.receiver.events == []
        assert one.receiver.records == []
        assert two.receiver.losses == 0

    @_promise
    async def test_subscribing_twice_delivers_once(self, one: Node, two: Node) -> None:
        """A second `subscribe` has no effect, and one `unsubscribe` ends both."""
        await two.subscribe()
        await two.subscribe()
        await one.publish("1")
        await one.publish("2")
        await two.receive(2)
        assert two.receiver.payloads == ["1", "2"]
        await two.unsubscribe()
        await two.subscribe("other")
        await one.publish("no")
        await one.publish("3", topic="other")
        await two.receive(3)
        assert two.receiver.payloads == ["1", "2", "3"]

    @_promise
    async def test_names_of_topics_are_any_text(self, one: Node, two: Node) -> None:
        """No character of a name has a meaning, and names that differ are different topics."""
        for name in ODD_NAMES:
            await two.subscribe(name)
        for name in reversed(ODD_NAMES):
            position = _position(await one.publish(name, name))
            assert position.offset == 1
            assert _payloads(await two.read(topic=name)) == [name]
            await one.enter("c", name, topic=name)
            assert await two.connections(name) == {"c": Connection(name, "")}
        await two.receive(len(ODD_NAMES))
        assert sorted(zip(two.receiver.topics, two.receiver.payloads, strict=True)) == sorted(
            zip(ODD_NAMES, ODD_NAMES, strict=True)
        )

    # Histories -------------------------------------------------------------------------------------------------

    @_promise
    async def test_position_of_a_subscribed_topic_is_continued(self, one: Node, two: Node) -> None:
        """The position that is read after `subscribe` is the one before the next publication."""
        for topic, history in (("with", HISTORY), ("without", None)):
            await two.subscribe(topic)
            page = await two.read(limit=0, history=history, topic=topic)
            assert (list(page.records), page.position.offset, page.complete) == ([], 0, True)
            published = await one.publish("1", topic, history=history)
            assert published.position == Position(page.position.epoch, 1)

    @_promise
    async def test_history_keeps_the_newest(self, one: Node, two: Node) -> None:
        """The oldest publications are dropped when there are more than `History.size`."""
        published = Published(None)
        for number in range(8):
            published = await one.publish(str(number), key=f"k{number}")
        page = await two.read()
        assert _payloads(page) == ["3", "4", "5", "6", "7"]
        assert [record.position.offset for record in page.records] == [4, 5, 6, 7, 8]
        assert (page.records[0].key, page.records[-1].position) == ("k3", published.position)
        assert page.position == published.position
        assert not page.complete

    @_promise
    async def test_history_is_bounded_in_bytes(self, one: Node, two: Node) -> None:
        """The oldest publications are dropped when all have more than `History.max_bytes`; each counts 64 more."""
        small = History(size=100, max_bytes=3 * (1000 + 64))
        for number in range(5):
            await one.publish(f"{number:01000}", history=small)
        page = await two.read(history=small)
        assert [int(payload) for payload in _payloads(page)] == [2, 3, 4]

    @_promise
    async def test_history_expires(self, one: Node, two: Node) -> None:
        """Publications are dropped after `History.seconds`."""
        short = History(seconds=0.05)
        position = _position(await one.publish("1", history=short))
        await asyncio.sleep(0.06)
        page = await two.read(history=short)
        assert list(page.records) == []
        page = await two.read(since=Position(position.epoch, 0), history=short)
        assert (list(page.records), page.complete) == ([], False)

    @_promise
    async def test_history_since_a_position(self, one: Node, two: Node) -> None:
        """A page has what is after the position; it is complete if nothing is missing there."""
        positions = [_position(await one.publish(str(number))) for number in range(8)]
        for place in (2, 3, 6):
            page = await two.read(since=positions[place])
            assert _payloads(page) == [str(number) for number in range(place + 1, 8)]
            assert page.complete
            assert page.position == positions[-1]
        page = await two.read(since=positions[7])
        assert (list(page.records), page.complete) == ([], True)
        page = await two.read(since=positions[1])  # the next one is dropped already
        assert _payloads(page) == ["3", "4", "5", "6", "7"]
        assert not page.complete

    @_promise
    async def test_positions_that_do_not_exist_are_not_complete(self, one: Node, two: Node) -> None:
        """A follower that comes with such a position is told that something is missing."""
        position = _position(await one.publish("1"))
        page = await two.read(since=Position("foreign", 1))
        assert (_payloads(page), page.complete) == (["1"], False)
        page = await two.read(since=Position(position.epoch, 2))
        assert (list(page.records), page.complete) == ([], False)
        page = await two.read(since=Position(position.epoch, 0))
        assert (_payloads(page), page.complete) == (["1"], True)

    @_promise
    async def test_history_is_limited_from_either_end(self, one: Node, two: Node) -> None:
        """`limit` keeps the oldest records, or the newest ones with `reverse`. They are oldest first."""
        positions = [_position(await one.publish(str(number))) for number in range(4)]
        page = await two.read(limit=2)
        assert (_payloads(page), page.complete, page.position) == (["0", "1"], True, positions[-1])
        page = await two.read(limit=2, reverse=True)
        assert (_payloads(page), page.complete) == (["2", "3"], True)
        page = await two.read(since=positions[0], limit=1)
        assert (_payloads(page), page.complete) == (["1"], True)
        page = await two.read(since=positions[2], limit=3, reverse=True)
        assert (_payloads(page), page.complete) == (["3"], True)
        page = await two.read(limit=0)
        assert (list(page.records), page.position) == ([], positions[-1])
        page = await two.read(since=positions[0], limit=0)
        assert (list(page.records), page.complete) == ([], True)

    @_promise
    async def test_topic_without_history_has_a_position(self, one: Node, two: Node) -> None:
        """Its page has no records, and is complete if nothing was published since the position."""
        await two.subscribe()
        published = await one.publish("1", history=None)
        page = await two.read(history=None, limit=0)
        assert page.position == published.position
        page = await two.read(since=published.position, history=None)
        assert (list(page.records), page.complete) == ([], True)
        page = await two.read(since=Position(_position(published).epoch, 0), history=None)
        assert (list(page.records), page.complete) == ([], False)

    # Presence --------------------------------------------------------------------------------------------------

    @_promise
    async def test_presence_is_seen_by_all(self, one: Node, two: Node) -> None:
        """All processes see the same connections, in the order in which they entered, and the events in their order."""
        await two.subscribe()
        await one.enter("c1", "ann", "busy")
        await two.enter("c2", "ann")
        await one.enter("c3", "b€b", '{"x": "\\u0000"}')
        await one.enter("c3", "eve", topic="other")
        for node in (one, two):
            assert [*(await node.connections()).items()] == [
                ("c1", Connection("ann", "busy")),
                ("c2", Connection("ann", "")),
                ("c3", Connection("b€b", '{"x": "\\u0000"}')),
            ]
        assert await one.connections("nothing") == {}
        await one.exit("c1")
        await two.exit("c2")
        await two.exit("unknown")
        assert [*await two.connections()] == ["c3"]
        await two.until(lambda: len(two.receiver.events) >= 5, "5 presence events are delivered")
        assert two.receiver.events == [
            PresenceEvent("join", "ann", "busy", "c1", changed=True),
            PresenceEvent("join", "ann", "", "c2", changed=False),
            PresenceEvent("join", "b€b", '{"x": "\\u0000"}', "c3", changed=True),
            PresenceEvent("leave", "ann", "busy", "c1", changed=False),
            PresenceEvent("leave", "ann", "", "c2", changed=True),
        ]
        assert one.receiver.events == []

    @_promise
    async def test_data_of_a_connection_is_replaced(self, one: Node, two: Node) -> None:
        """That is no event, unless the user changes."""
        await two.subscribe()
        await one.enter("c1", "ann", "busy")
        await one.enter("c1", "ann", "idle")
        assert await two.connections() == {"c1": Connection("ann", "idle")}
        await one.enter("c1", "bob", "new")
        assert await two.connections() == {"c1": Connection("bob", "new")}
        await two.until(lambda: len(two.receiver.events) >= 3, "3 presence events are delivered")
        assert [(event.kind, event.user, event.changed) for event in two.receiver.events] == [
            ("join", "ann", True),
            ("leave", "ann", True),
            ("join", "bob", True),
        ]

    # The end ---------------------------------------------------------------------------------------------------

    @_promise
    async def test_closed_broker_delivers_nothing_and_its_connections_are_gone(self, one: Node, two: Node) -> None:
        """`close` ends all subscriptions and the presence of all connections of this process."""
        await one.subscribe()
        leaving = self._node(one.prefix)
        async with leaving:
            await leaving.subscribe()
            await leaving.enter("c1", "ann")
            await leaving.until(lambda: leaving.receiver.events, "the presence event is delivered")
        await one.until(lambda: len(one.receiver.events) >= 2, "the other processes are told that it has left")
        assert [event.kind for event in one.receiver.events] == ["join", "leave"]
        await one.enter("c2", "bob")
        await two.publish("1")
        await one.receive(1)
        assert [*await two.connections()] == ["c2"]
        assert leaving.receiver.records == []
        assert [event.connection for event in leaving.receiver.events if event.connection != "c1"] == []

    @_promise
    async def test_closed_broker_leaves_no_task_behind(self, one: Node, two: Node) -> None:
        """`close` releases everything."""
        before = asyncio.all_tasks()
        async with self._node(one.prefix) as node:
            await node.subscribe()
            await node.publish("1")
            await node.enter("c1", "ann")
        await one.until(lambda: asyncio.all_tasks() <= before, "all tasks of a closed broker end")


class WatchedBrokerContract(BrokerContract):
    """Tests of the promises that every `WatchedBroker` makes, in addition to those of `BrokerContract`."""

    @_promise
    async def test_stats_may_be_read_at_any_time_in_any_thread(self, one: Node, two: Node) -> None:
        """Also before the broker is open, and after it was closed."""
        broker = self.make_broker()
        found: list[object] = []

        def read() -> None:
            found.append(getattr(broker, "stats", None))

        read()
        async with Node(broker, one.prefix, self.patience) as node:
            await node.subscribe()
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        read()
        stats = [each for each in found if isinstance(each, BrokerStats)]
        assert len(stats) == 3
        assert [each.subscriptions for each in stats] == [0, 1, 0]
        assert stats[1].connected


class RemoteBrokerContract(BrokerContract):
    """Tests of the promises of a `Broker` that has a server, in addition to those of `BrokerContract`.

    Define `outage` and `kill`, too.
    """

    def outage(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager: while its block runs, no broker can reach the server.

        The server may have lost its data when the block ends, or have kept them.
        """
        raise NotImplementedError("define outage: it returns an async context manager")

    async def kill(self, broker: Broker) -> None:
        """End a broker as the death of its process would: the connections break, and nothing is said before."""
        raise NotImplementedError("define kill")

    async def _available(self, call: Callable[[], Awaitable[object]]) -> None:
        """Call a method of a broker again and again until it succeeds."""
        ends = time.monotonic() + self.patience
        while True:
            try:
                await call()
                return
            except BrokerError as error:
                if time.monotonic() > ends:
                    raise AssertionError(f"the broker is not available again: {error}") from error
                await asyncio.sleep(0.005)

    async def _recovered(self, *nodes: Node) -> None:
        """Wait until the brokers work again after an outage."""
        for node in nodes:
            await self._available(node.connections)
            await self._available(partial(node.subscribe, "recovered"))

    async def _unavailable(self, call: Callable[[], Awaitable[object]]) -> None:
        """Call a method of a broker again and again until it raises `BrokerUnavailable`."""
        ends = time.monotonic() + self.patience
        while True:
            try:
                async with asyncio.timeout(self.patience):
                    await call()
            except BrokerUnavailable:
                return
            except BrokerError:
                pass
            assert time.monotonic() < ends, "the broker does not raise BrokerUnavailable although it has no server"
            await asyncio.sleep(0.001)

    @_promise
    async def test_subscriptions_are_renewed_and_the_loss_is_told(self, one: Node, two: Node) -> None:
        """`Receiver.lost` is called when the subscriptions work again, even if nothing was published meanwhile."""
        await two.subscribe()
        await two.subscribe("other")
        await one.publish("1")
        await two.receive(1)
        assert two.receiver.losses == 0
        async with self.outage():
            await self._unavailable(lambda: one.publish("no"))
            two.receiver.losses = 0
        await two.until(lambda: two.receiver.losses, "Receiver.lost is called")
        await self._recovered(one)
        before = len(two.receiver.records)
        await one.publish("2")
        await one.publish("3", topic="other")
        await two.receive(before + 2)
        assert {*two.receiver.payloads[before:]} == {"2", "3"}
        await one.enter("c1", "ann")
        await two.until(lambda: two.receiver.events, "presence events are delivered again")

    @_promise
    async def test_calls_are_refused_while_there_is_no_server(self, one: Node, two: Node) -> None:
        """All methods raise `BrokerUnavailable`, and what was not published then is not published later."""
        await one.subscribe()
        async with self.outage():
            await self._unavailable(lambda: one.publish("no"))
            await self._unavailable(lambda: one.subscribe("other"))
            await self._unavailable(one.read)
            await self._unavailable(lambda: one.enter("c1", "ann"))
            await self._unavailable(one.connections)
            refused = 0
            for number in range(5):
                try:
                    await one.publish(f"never {number}")
                except BrokerUnavailable:
                    refused += 1
            assert refused == 5
            one.receiver.losses = 0
        await one.until(lambda: one.receiver.losses, "Receiver.lost is called")
        await self._recovered(one)
        await one.publish("end")
        await one.until(lambda: "end" in one.receiver.payloads, "publications are delivered again")
        found = one.receiver.payloads + _payloads(await one.read())
        assert [payload for payload in found if str(payload).startswith("never")] == []

    @_promise
    async def test_offsets_never_go_back_in_an_epoch(self, one: Node, two: Node) -> None:
        """A server that has lost its memory begins a new epoch. A page that lacks something is not complete."""
        await two.subscribe()
        published: dict[str, Position] = {}

        async def publish(payload: str) -> None:
            published[payload] = _position(await one.publish(payload))

        for number in range(2):
            await publish(f"before {number}")
        await two.receive(2)
        async with self.outage():
            await self._unavailable(lambda: one.publish("no"))
        await self._recovered(one, two)
        for number in range(3):
            await publish(f"after {number}")
        positions = [*published.values()]
        assert len({*positions}) == len(positions), "a position stands for one publication"
        for earlier, later in pairwise(positions):
            assert earlier.epoch != later.epoch or earlier.offset < later.offset
        page = await two.read(since=published["before 1"])
        after = [payload for payload in _payloads(page) if str(payload).startswith("after")]
        assert after == [f"after {number}" for number in range(3)]
        assert page.position == published["after 2"]
        if page.complete:
            assert page.position.offset - published["before 1"].offset == len(page.records)
        for record in two.receiver.records:
            assert record.position == published.get(str(record.payload), record.position)

    @_promise
    async def test_presence_of_this_process_is_restored(self, one: Node, two: Node) -> None:
        """The connections of processes that live are present again after an outage."""
        await one.enter("c1", "ann", "busy")
        await two.enter("c2", "bob")
        async with self.outage():
            await self._unavailable(one.connections)
            await self._unavailable(two.connections)
        await self._recovered(one, two)
        found: Mapping[str, Connection] = {}

        async def present() -> None:
            nonlocal found
            found = await two.connections()
            if len(found) != 2:
                raise BrokerError(f"present are {[*found]}")

        await self._available(present)
        assert found == {"c1": Connection("ann", "busy"), "c2": Connection("bob", "")}
        await one.exit("c1")
        assert [*await two.connections()] == ["c2"]

    @_promise
    async def test_connections_of_a_process_that_dies_leave(self, one: Node, two: Node) -> None:
        """A broker for several processes notices the end of one, and then makes its connections leave."""
        dying = self._node(one.prefix)
        await dying.broker.open(dying.receiver)
        await one.subscribe()
        await dying.enter("c1", "ann")
        await two.enter("c2", "bob")
        await self.kill(dying.broker)
        await one.until(
            lambda: [event.connection for event in one.receiver.events if event.kind == "leave"] == ["c1"],
            "the connection of a process that has died leaves",
        )
        assert [*await one.connections()] == ["c2"]

    @_promise
    async def test_broker_can_be_closed_while_there_is_no_server(self, one: Node, two: Node) -> None:
        """`close` ends, though it may raise `BrokerError`, and nothing is left behind."""
        before = asyncio.all_tasks()
        node = self._node(one.prefix)
        await node.broker.open(node.receiver)
        await node.subscribe()
        await node.enter("c1", "ann")
        async with self.outage():
            await self._unavailable(node.connections)
            closing = asyncio.create_task(node.broker.close())
            await asyncio.wait([closing], timeout=self.patience)
            assert closing.done(), f"close has not ended within {self.patience:g} s"
            assert isinstance(closing.exception(), BrokerError | None)
        await one.until(lambda: asyncio.all_tasks() <= before, "all tasks of a closed broker end")
