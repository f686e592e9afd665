"""The contract of brokers can be trusted: brokers that keep all promises pass, and each broken promise is found."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamws import BrokerError, BrokerUnavailable
from streamws.topics import (
    Broker,
    BrokerStats,
    Connection,
    History,
    MemoryBroker,
    Outgoing,
    Page,
    Position,
    PresenceEvent,
    Published,
    Receiver,
    Record,
)
from streamws.topics.testing import BrokerContract, RemoteBrokerContract, WatchedBrokerContract
from topics.broker_contract import Strict
from topics.flaky import FlakyBroker


class Flaky(RemoteBrokerContract):
    """The contract for a kind of `FlakyBroker`, whose server is the memory that its objects share."""

    kind: type[FlakyBroker] = FlakyBroker
    repeats = False

    def setup_method(self) -> None:
        self.made: list[FlakyBroker] = []
        self.server = MemoryBroker()

    def make_broker(self) -> FlakyBroker:
        broker = self.kind(self.server)
        broker.repeat = self.repeats
        self.made.append(broker)
        return broker

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        opened = [broker for broker in self.made if not broker.closed]
        for broker in opened:
            broker.fail()
        try:
            yield
        finally:
            self.restart_server()
            for broker in opened:
                broker.recover()

    def restart_server(self) -> None:
        """The server keeps its data."""

    async def kill(self, broker: Broker) -> None:
        assert isinstance(broker, FlakyBroker)
        broker.closed = True
        await broker.memory.close()


class TestFlakyBroker(Strict, Flaky):
    pass


class TestFlakyBrokerThatRepeats(Flaky):
    repeats = True


class TestFlakyBrokerThatForgets(Flaky):
    def restart_server(self) -> None:
        self.made[0].forget()


class TestFlakyBrokerThatContinuesItsEpochs(Flaky):
    def restart_server(self) -> None:
        for broker in self.made[1:]:
            broker._continued = self.made[0]._continued
        self.made[0].restart()


# Broken brokers --------------------------------------------------------------------------------------------------


class Between(FlakyBroker):
    """A broker that may change what is published, and what is delivered."""

    def change(self, message: Outgoing) -> Outgoing:
        return message

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return await super().publish([self.change(message) for message in batch])


class LosesKeys(Between):
    def change(self, message: Outgoing) -> Outgoing:
        return message._replace(key=None)


class MakesText(Between):
    def change(self, message: Outgoing) -> Outgoing:
        payload = message.payload
        return message._replace(payload=payload if isinstance(payload, str) else payload.decode("latin-1"))


class ForgetsIdempotency(Between):
    def change(self, message: Outgoing) -> Outgoing:
        return message._replace(idempotency=None)


class KeepsAll(Between):
    def change(self, message: Outgoing) -> Outgoing:
        history = message.history
        return message._replace(history=history and History(size=1000, seconds=history.seconds))


class NeverExpires(Between):
    def change(self, message: Outgoing) -> Outgoing:
        history = message.history
        return message._replace(history=history and History(history.size, 1000, history.max_bytes))


class KeepsWithoutHistory(Between):
    def change(self, message: Outgoing) -> Outgoing:
        return message._replace(history=message.history or History())


class SharesIdempotency(FlakyBroker):
    """Idempotency keys are those of all topics."""

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        for message in batch:
            if message.idempotency == "a" and message.topic.endswith("other"):
                return [Published(None, duplicate=True)]
        return await super().publish(batch)


class ReversesBatches(FlakyBroker):
    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return [*reversed(await super().publish([*reversed(batch)]))]


class StopsAtFirst(FlakyBroker):
    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return await super().publish(batch[:1])


class CountsFromZero(FlakyBroker):
    def received(self, topic: str, record: Record) -> None:
        epoch, offset = record.position
        super().received(topic, record._replace(position=Position(epoch, offset - 1)))


class LosesSome(FlakyBroker):
    def received(self, topic: str, record: Record) -> None:
        if record.position.offset % 10 != 7:
            super().received(topic, record)


class Reorders(FlakyBroker):
    """Publications that are made at once may overtake others on their way."""

    def received(self, topic: str, record: Record) -> None:
        overtaken = record.position.offset % 10 == 7
        loop = asyncio.get_running_loop()
        loop.call_later(0.001 if overtaken else 0, super().received, topic, record)


class CallsInThread(FlakyBroker):
    def received(self, topic: str, record: Record) -> None:
        thread = threading.Thread(target=super().received, args=(topic, record))
        thread.start()
        thread.join()


class MixesUpReplies(FlakyBroker):
    """The reply to a call that was cancelled goes to the next one."""

    def __init__(self, shared: MemoryBroker | None = None) -> None:
        super().__init__(shared)
        self.waiting: list[asyncio.Future[Any]] = []

    async def read_history(self, *arguments: Any) -> Page:
        page = await super().read_history(*arguments)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.waiting.append(future)
        loop.call_later(0.001, self.answer, page)
        result: Page = await future
        return result

    def answer(self, page: Page) -> None:
        while self.waiting:
            future = self.waiting.pop(0)
            if not future.done():
                future.set_result(page)
                return


class SubscribesLate(FlakyBroker):
    async def subscribe(self, topic: str) -> None:
        self.task = asyncio.create_task(super().subscribe(topic))


class DeliversOldOnes(FlakyBroker):
    async def subscribe(self, topic: str) -> None:
        await super().subscribe(topic)
        for record in (await self.memory.read_history(topic, None, None, None, False)).records:
            self.receiver.received(topic, record)


class DeliversEverything(FlakyBroker):
    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        for message in batch:
            await self.memory.subscribe(message.topic)
        return await super().publish(batch)


class NeverUnsubscribes(FlakyBroker):
    async def unsubscribe(self, topic: str) -> None:
        pass


class NeedsASubscription(FlakyBroker):
    async def unsubscribe(self, topic: str) -> None:
        if topic not in self.memory._subscribed:
            raise BrokerError("there is no subscription")
        await super().unsubscribe(topic)


class CountsSubscriptions(FlakyBroker):
    def __init__(self, shared: MemoryBroker | None = None) -> None:
        super().__init__(shared)
        self.counter: Counter[str] = Counter()

    async def subscribe(self, topic: str) -> None:
        self.counter[topic] += 1
        await super().subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        self.counter[topic] -= 1
        if self.counter[topic] < 1:
            await super().unsubscribe(topic)


class IgnoresCase(Between):
    def change(self, message: Outgoing) -> Outgoing:
        return message._replace(topic=message.topic.lower())

    async def subscribe(self, topic: str) -> None:
        await super().subscribe(topic.lower())


class Reading(FlakyBroker):
    """A broker that changes what it reads from a history."""

    def page(self, page: Page) -> Page:
        return page

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        return self.page(await super().read_history(topic, history, since, limit, reverse))


class NewEpochs(Reading):
    def page(self, page: Page) -> Page:
        return page._replace(position=Position("new", page.position.offset)) if not page.position.offset else page


class AlwaysComplete(Reading):
    def page(self, page: Page) -> Page:
        return page._replace(complete=True)


class NeverComplete(Reading):
    def page(self, page: Page) -> Page:
        return page._replace(complete=False)


class NewestFirst(Reading):
    def page(self, page: Page) -> Page:
        return page._replace(records=[*reversed(page.records)])


class PositionOfLastRecord(Reading):
    def page(self, page: Page) -> Page:
        return page._replace(position=page.records[-1].position if page.records else page.position)


class IgnoresSince(FlakyBroker):
    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        return await super().read_history(topic, history, None, limit, reverse)


class IgnoresReverse(FlakyBroker):
    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        return await super().read_history(topic, history, since, limit, False)


class SeesItsOwn(FlakyBroker):
    """Each process sees its own connections only."""

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        found = await super().connections(topic)
        return {id: value for id, value in found.items() if (topic, id) in self.memory._present}


class SortsConnections(FlakyBroker):
    async def connections(self, topic: str) -> Mapping[str, Connection]:
        return dict(sorted((await super().connections(topic)).items(), reverse=True))


class Telling(FlakyBroker):
    """A broker that changes presence events."""

    def event(self, event: PresenceEvent) -> PresenceEvent | None:
        return event

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        changed = self.event(event)
        if changed is not None:
            super().presence_changed(topic, changed)


class AlwaysChanged(Telling):
    def event(self, event: PresenceEvent) -> PresenceEvent | None:
        return event._replace(changed=True)


class TellsNoLeaves(Telling):
    def event(self, event: PresenceEvent) -> PresenceEvent | None:
        return None if event.kind == "leave" else event


class EntersAgain(FlakyBroker):
    """New data are another join."""

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        await super().exit(topic, connection)
        await super().enter(topic, connection, user, data)


class KeepsOldData(FlakyBroker):
    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        if connection not in await super().connections(topic):
            await super().enter(topic, connection, user, data)


class MustBePresent(FlakyBroker):
    async def exit(self, topic: str, connection: str) -> None:
        if connection not in await super().connections(topic):
            raise BrokerError("not present")
        await super().exit(topic, connection)


class StaysPresent(FlakyBroker):
    async def close(self) -> None:
        self.memory._present.clear()
        await super().close()


class StaysSubscribed(FlakyBroker):
    async def close(self) -> None:
        self.memory._subscribed.clear()
        await super().close()


class LeavesTasks(FlakyBroker):
    async def open(self, receiver: Receiver) -> None:
        await super().open(receiver)
        self.task = asyncio.create_task(asyncio.sleep(60))


class HasNoStats(FlakyBroker):
    pass


class HasStatsWhileOpen(FlakyBroker):
    @property
    def stats(self) -> BrokerStats:
        if not hasattr(self, "receiver"):
            raise RuntimeError("not open")
        return BrokerStats(len(self.memory._subscribed))


class HasWrongStats(FlakyBroker):
    @property
    def stats(self) -> BrokerStats:
        return BrokerStats(0)


# Those of a server.


class HidesLosses(FlakyBroker):
    def recover(self) -> None:
        self.down = False


class LosesSubscriptions(FlakyBroker):
    def fail(self) -> None:
        super().fail()
        store = self.memory._store
        for name in self.memory._subscribed:
            store.topics[name].subscribers = ()
        self.memory._subscribed.clear()


class RaisesAnything(FlakyBroker):
    def fail(self) -> None:
        super().fail()
        self.error = BrokerError("no connection")

    def recover(self) -> None:
        self.error = None
        super().recover()


class PublishesLater(FlakyBroker):
    """What has failed is published later."""

    def __init__(self, shared: MemoryBroker | None = None) -> None:
        super().__init__(shared)
        self.later: list[Outgoing] = []

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        try:
            await self._pass()
        except BrokerUnavailable:
            self.later += batch
            raise
        later, self.later = self.later, []
        await self.memory.publish(later)
        return await self.memory.publish(batch)


class PublishesAnyway(FlakyBroker):
    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return await self.memory.publish(batch)


class ReusesEpochs(FlakyBroker):
    def recover(self) -> None:
        for kept in self.memory._store.topics.values():
            kept.offset = kept.size = 0
            kept.records.clear()
            kept.times.clear()
        super().recover()


class HidesRollbacks(FlakyBroker):
    """After a loss of its memory, the positions of before seem to be complete."""

    def recover(self) -> None:
        if self.down:
            self.forget()
        super().recover()

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        page = await super().read_history(topic, history, since, limit, reverse)
        return page if since is None else page._replace(complete=True)


class ForgetsPresence(FlakyBroker):
    def fail(self) -> None:
        super().fail()
        for kept in self.memory._store.topics.values():
            kept.connections.clear()


class HangsAtTheEnd(FlakyBroker):
    async def close(self) -> None:
        if self.down:
            await asyncio.sleep(60)
        await super().close()


BROKEN: list[tuple[type[FlakyBroker], str]] = [
    (LosesKeys, "test_publication_reaches_all_subscribers_unchanged"),
    (MakesText, "test_publication_reaches_all_subscribers_unchanged"),
    (CallsInThread, "test_publication_reaches_all_subscribers_unchanged"),
    (CountsFromZero, "test_offsets_count_from_1_in_the_order_of_delivery"),
    (LosesSome, "test_offsets_count_from_1_in_the_order_of_delivery"),
    (Reorders, "test_publications_made_at_once_have_one_order"),
    (ReversesBatches, "test_batch_is_published_in_order_with_a_result_for_each"),
    (StopsAtFirst, "test_batch_is_published_in_order_with_a_result_for_each"),
    (ForgetsIdempotency, "test_idempotency_key_publishes_once_in_a_topic"),
    (SharesIdempotency, "test_idempotency_key_publishes_once_in_a_topic"),
    (MixesUpReplies, "test_calls_that_are_cancelled_disturb_no_others"),
    (SubscribesLate, "test_everything_after_subscribe_is_delivered"),
    (DeliversOldOnes, "test_everything_after_subscribe_is_delivered"),
    (DeliversEverything, "test_only_subscribed_topics_are_delivered"),
    (NeverUnsubscribes, "test_only_subscribed_topics_are_delivered"),
    (NeedsASubscription, "test_only_subscribed_topics_are_delivered"),
    (CountsSubscriptions, "test_subscribing_twice_delivers_once"),
    (IgnoresCase, "test_names_of_topics_are_any_text"),
    (NewEpochs, "test_position_of_a_subscribed_topic_is_continued"),
    (KeepsAll, "test_history_keeps_the_newest"),
    (AlwaysComplete, "test_history_keeps_the_newest"),
    (NewestFirst, "test_history_keeps_the_newest"),
    (KeepsAll, "test_history_is_bounded_in_bytes"),
    (NeverExpires, "test_history_expires"),
    (IgnoresSince, "test_history_since_a_position"),
    (AlwaysComplete, "test_history_since_a_position"),
    (NeverComplete, "test_history_since_a_position"),
    (AlwaysComplete, "test_positions_that_do_not_exist_are_not_complete"),
    (IgnoresReverse, "test_history_is_limited_from_either_end"),
    (PositionOfLastRecord, "test_history_is_limited_from_either_end"),
    (KeepsWithoutHistory, "test_topic_without_history_has_a_position"),
    (AlwaysComplete, "test_topic_without_history_has_a_position"),
    (SeesItsOwn, "test_presence_is_seen_by_all"),
    (SortsConnections, "test_presence_is_seen_by_all"),
    (AlwaysChanged, "test_presence_is_seen_by_all"),
    (TellsNoLeaves, "test_presence_is_seen_by_all"),
    (MustBePresent, "test_presence_is_seen_by_all"),
    (EntersAgain, "test_data_of_a_connection_is_replaced"),
    (KeepsOldData, "test_data_of_a_connection_is_replaced"),
    (StaysPresent, "test_closed_broker_delivers_nothing_and_its_connections_are_gone"),
    (StaysSubscribed, "test_closed_broker_delivers_nothing_and_its_connections_are_gone"),
    (LeavesTasks, "test_closed_broker_leaves_no_task_behind"),
    (HasNoStats, "test_stats_may_be_read_at_any_time_in_any_thread"),
    (HasStatsWhileOpen, "test_stats_may_be_read_at_any_time_in_any_thread"),
    (HasWrongStats, "test_stats_may_be_read_at_any_time_in_any_thread"),
    (HidesLosses, "test_subscriptions_are_renewed_and_the_loss_is_told"),
    (LosesSubscriptions, "test_subscriptions_are_renewed_and_the_loss_is_told"),
    (RaisesAnything, "test_calls_are_refused_while_there_is_no_server"),
    (PublishesLater, "test_calls_are_refused_while_there_is_no_server"),
    (PublishesAnyway, "test_calls_are_refused_while_there_is_no_server"),
    (ReusesEpochs, "test_offsets_never_go_back_in_an_epoch"),
    (HidesRollbacks, "test_offsets_never_go_back_in_an_epoch"),
    (ForgetsPresence, "test_presence_of_this_process_is_restored"),
    (StaysPresent, "test_connections_of_a_process_that_dies_leave"),
    (HangsAtTheEnd, "test_broker_can_be_closed_while_there_is_no_server"),
    (LeavesTasks, "test_broker_can_be_closed_while_there_is_no_server"),
]


class Impatient(Flaky, WatchedBrokerContract):
    patience = 0.02

    def __init__(self, kind: type[FlakyBroker]) -> None:
        self.kind = kind
        self.setup_method()

    async def kill(self, broker: Broker) -> None:
        await broker.close()


@pytest.mark.parametrize(("kind", "test"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test in BROKEN])
def test_broken_promise_is_found(kind: type[FlakyBroker], test: str) -> None:
    with pytest.raises((AssertionError, BrokerError, RuntimeError)):
        getattr(Impatient(kind), test)()


def test_every_test_of_the_contract_finds_something() -> None:
    tests = {name for name in dir(Impatient) if name.startswith("test_")}
    assert {test for _, test in BROKEN} == tests


def test_broker_that_hangs_fails_in_time() -> None:
    class Hangs(FlakyBroker):
        async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
            await asyncio.sleep(60)
            return []

    contract = Impatient(Hangs)
    contract.deadline = 0.02
    with pytest.raises(TimeoutError):
        contract.test_history_keeps_the_newest()


def test_functions_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match="define make_broker"):
        BrokerContract().test_history_expires()
    contract = RemoteBrokerContract()
    with pytest.raises(NotImplementedError, match="define outage"):
        contract.outage()
    with pytest.raises(NotImplementedError, match="define kill"):
        contract.execute(contract.kill(MemoryBroker()))
