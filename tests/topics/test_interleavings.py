"""Joins, leaves, publications and losses that meet, also inside of functions of the application."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from helpers.waiting import cancelled, iterations, until, within
from streamws import UsageError
from streamws.topics import (
    Gap,
    History,
    Joined,
    MemoryBroker,
    Page,
    Position,
    PresenceEvent,
    Publication,
    TopicLimits,
    Topics,
)
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker

Raw = Publication[str | bytes]
HISTORY = History()
ELSEWHERE = Position("of another broker", 1)


def numbered(publication: Raw) -> str:
    return f"{publication.position.offset}:{publication.payload!s}"


def run_now(coroutine: Any) -> None:
    """Run a coroutine at once, as an eager task does."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def test_publication_between_the_last_leave_and_the_next_join_is_not_missed(
    topics: Topics, channel: Channel
) -> None:
    topic = topics.topic("news", history=HISTORY)
    await topic.join(channel)
    first = (await topic.publish("1")).position
    await until(lambda: channel.sent == ["1"])
    await topic.leave(channel)
    await topic.publish("2")  # the subscription has not ended yet
    joined = await topic.join(channel, since=first)
    assert joined.recovered
    await until(lambda: channel.sent == ["1", "2"])


async def test_loss_between_the_last_leave_and_the_next_join_is_not_missed(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic = topics.topic("news", history=HISTORY)
    source = publisher.topic("news", history=HISTORY)
    await topic.join(channel)
    first = (await source.publish("1")).position
    await topic.leave(channel)
    flaky.fail()
    await source.publish("2")
    flaky.recover()
    await topic.join(channel, since=first)
    await until(lambda: channel.sent[-1:] == ["2"])


class Late(FlakyBroker):
    """What is read from the history arrives later."""

    answering: asyncio.Event

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        page = await super().read_history(topic, history, since, limit, reverse)
        await self.answering.wait()
        return page


async def test_first_follower_that_fails_to_join_does_not_keep_publications_from_the_others(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    flaky = Late(memory)
    flaky.answering = asyncio.Event()
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)

    def on_joined(joined: Joined, missed: Sequence[Raw]) -> None:
        raise ZeroDivisionError

    first = (await source.publish("1")).position
    failing = asyncio.create_task(topic.join(Channel(), on_joined=on_joined))
    joining = asyncio.create_task(topic.join(channel, since=first))
    await iterations()
    await source.publish("2")
    flaky.answering.set()
    with pytest.raises(ZeroDivisionError):
        await within(failing)
    assert (await within(joining)).recovered
    await until(lambda: channel.sent == ["2"])


async def test_follower_that_leaves_while_the_subscription_ends_is_told_that_it_left(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.hang()
    await topic.leave(channel)
    await iterations()
    joining = asyncio.create_task(topic.join(channel))
    await iterations()
    await topic.leave(channel)
    flaky.go_on()
    with pytest.raises(UsageError, match="left topic 'news' while joining"):
        await within(joining)
    await until(lambda: topics.followed == 0)


class Forgetful(FlakyBroker):
    """While a follower joins, the broker always loses its memory, and publishes something."""

    tries = 0

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        page = await super().read_history(topic, history, since, limit, reverse)
        if since == ELSEWHERE and self.tries:
            self.tries -= 1
            self.forget()
            self.publish_another()
            await iterations()
        return page

    def publish_another(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("tries", [1, 4, 5])
async def test_follower_joins_although_the_history_is_lost_again_and_again(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel, tries: int
) -> None:
    flaky = Forgetful(memory)
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)
    flaky.publish_another = lambda: run_now(source.publish("another"))  # type: ignore[method-assign]
    other = Channel()
    await topic.join(other)
    await source.publish("1")
    flaky.tries = tries
    joined = await within(topic.join(channel, since=ELSEWHERE))
    assert not joined.recovered
    assert flaky.tries == 0
    last = (await source.publish("last")).position
    assert last is not None
    await until(lambda: channel.sent[-1:] == ["last"] and other.sent[-1:] == ["last"])
    assert joined.position.offset <= last.offset
    other.end()


class Restless(FlakyBroker):
    """While a follower comes back with its position, the broker says again and again that something may be lost."""

    newest: Position | None = None
    """The position of the follower. Reads since other ones wait until it has been tried often enough."""
    tries = 5

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        if self.newest is not None and since != self.newest:
            await until(lambda: not self.tries)
            await iterations()
        page = await super().read_history(topic, history, since, limit, reverse)
        if self.newest is not None and since == self.newest and self.tries:
            self.tries -= 1
            self.receiver.lost()
        return page


async def test_follower_that_knows_a_newer_epoch_gets_nothing_twice_although_its_page_is_always_stale(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    flaky = Restless(memory)
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)
    other = Channel()
    await topic.join(other)
    await source.publish("0")
    flaky.forget()
    flaky.lose = 2  # this process has not noticed the new epoch
    await source.publish("1")
    flaky.newest = (await source.publish("2")).position
    joined = await within(topic.join(channel, since=flaky.newest))
    assert flaky.tries == 0
    assert not joined.recovered
    await source.publish("last")
    await until(lambda: other.sent == ["0", "1", "2", "last"])
    await until(lambda: channel.sent == ["last"])


class Losing(FlakyBroker):
    """While a follower joins, the broker always loses something, and says so."""

    tries = 0

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        page = await super().read_history(topic, history, since, limit, reverse)
        if self.tries:
            self.tries -= 1
            self.publish_another()
            self.receiver.lost()
        return page

    def publish_another(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("tries", [1, 4, 5])
async def test_follower_gets_what_is_lost_again_and_again_while_it_joins(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel, tries: int
) -> None:
    flaky = Losing(memory)
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)
    flaky.publish_another = lambda: run_now(source.publish("lost"))  # type: ignore[method-assign]
    first = (await source.publish("1")).position
    flaky.lose = flaky.tries = tries
    joined = await within(topic.join(channel, since=first, frame=numbered))
    assert joined.recovered == (tries < 5)
    await until(lambda: channel.sent == [f"{number}:lost" for number in range(2, tries + 2)])


async def test_publications_of_two_epochs_that_arrive_during_a_recovery(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)
    gaps: list[Gap] = []
    await topic.join(channel, frame=numbered, on_gap=lambda _, gap: gaps.append(gap))
    first = (await source.publish("one")).position
    assert first is not None
    flaky.hang()
    flaky.lose = 1
    for payload in ("two", "three", "four"):
        await source.publish(payload)
    flaky.forget()
    await source.publish("another one")
    flaky.go_on()
    await until(lambda: len(channel.sent) == 2)
    await source.publish("another two")
    await until(lambda: channel.sent == ["1:one", "1:another one", "2:another two"])
    assert gaps == [Gap(first)]


# Cancelling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "not alone"])
async def test_join_can_be_cancelled_at_each_step(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, steps: int, alone: bool
) -> None:
    """The broker answers after some iterations, and there is something to replay."""
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news", history=HISTORY), publisher.topic("news", history=HISTORY)
    other = Channel()
    if not alone:
        await topic.join(other)
    first = (await source.publish("1")).position
    await source.publish("2")
    flaky.slow = 3
    task = asyncio.create_task(topic.join(channel, since=first))
    await iterations(steps)
    task.cancel()
    if await cancelled(task):
        assert channel not in topics._core.outlets
        await source.publish("3")
        await iterations()
        assert channel.sent == []
        await topic.join(channel, since=first)
    else:
        await source.publish("3")
    await until(lambda: channel.sent == ["2", "3"])
    await topic.leave(channel)
    await topic.leave(other)
    await until(lambda: topics.followed == 0)
    assert topics._core.outlets == {}
    other.end()


async def test_joins_under_way_end_with_the_topics(flaky: FlakyBroker, caplog: pytest.LogCaptureFixture) -> None:
    channels = [Channel() for _ in range(3)]
    async with Topics(flaky, limits=TopicLimits(close_timeout=0.01)) as topics:
        topic = topics.topic("news", history=HISTORY)
        await topic.join(channels[0])
        await topic.presence.enter(channels[0], "ann")
        flaky.hang()
        joins = [
            asyncio.create_task(topic.join(channels[1], since=Position("other", 1))),
            asyncio.create_task(topics.topic("other").join(channels[2])),
        ]
        leaving = asyncio.create_task(topic.presence.leave(channels[0]))
        await iterations()
    flaky.go_on()
    await within(leaving)
    assert caplog.text == ""
    for task in joins:
        with pytest.raises(UsageError, match="the topics were closed while joining topic"):
            await within(task)
    assert topics._core.outlets == {}
    assert topics.followed == 0
    assert topics._core._tasks == set()
    for channel in channels:
        channel.end()


# Functions of the application ----------------------------------------------------------------------------------


async def test_publications_of_a_frame_function_are_delivered_in_order(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    other = Channel()

    def answering(publication: Raw) -> str:
        if publication.payload == "1":
            run_now(topic.publish("2"))
            run_now(topic.publish("3"))
        return numbered(publication)

    await topic.join(channel, frame=answering)
    await topic.join(other, frame=numbered)
    async with topic.subscribe() as feed:
        await topic.publish("1")
        await until(lambda: channel.sent == other.sent == ["1:1", "2:2", "3:3"])
        assert [(await within(anext(feed))).position.offset for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
    other.end()


async def test_presence_that_a_function_changes_is_told_in_order(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    other = Channel()

    def leaving(event: PresenceEvent) -> str:
        if event.kind == "join":
            run_now(topics._core.broker.exit("room", event.connection))
        return event.kind

    await room.join(channel, presence_frame=leaving)
    await room.join(other, presence_frame=lambda event: event.kind)
    await room.presence.enter(Channel(), "ann")
    await until(lambda: channel.sent == other.sent == ["join", "leave"])
    other.end()


async def test_publication_of_on_joined_reaches_the_follower_too(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=HISTORY)
    other = Channel()

    def greet(joined: Joined, missed: Sequence[Raw]) -> None:
        run_now(topic.publish(f"welcome after {len(missed)}"))

    for number, follower in enumerate((channel, other)):
        joined = await topic.join(follower, on_joined=greet)
        assert joined.position.offset == number
    await until(lambda: channel.sent == ["welcome after 0"] * 2)
    await until(lambda: other.sent == ["welcome after 0"])
    other.end()


@pytest.mark.parametrize("told", [True, False], ids=["recovery", "slow"])
async def test_on_gap_may_leave_join_and_publish(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, told: bool
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news"), publisher.topic("news")
    others = [Channel(), Channel()]
    gaps: list[int] = []

    def on_gap(client: Channel, gap: Gap) -> None:
        gaps.append(gap.since.offset)
        run_now(source.publish("from on_gap"))
        run_now(topic.leave(client))
        run_now(topic.join(client, frame=numbered, on_gap=on_gap))

    if not told:
        channel.stick()
    await topic.join(others[0], frame=numbered)
    await topic.join(channel, frame=numbered, on_gap=on_gap, slow="drop-oldest", backlog=200)
    await topic.join(others[1], frame=str)
    await source.publish("1")
    await iterations()
    if told:
        flaky.lose = 1
        await source.publish("2")
        await source.publish("3")
        await until(lambda: gaps == [1])
    else:
        while not gaps:
            await source.publish("x" * 40)
        channel.move()
    await iterations()
    await source.publish("last")
    await until(lambda: others[0].sent[-1:] == [channel.sent[-1]] and str(channel.sent[-1]).endswith("last"))
    offsets = [int(str(message).split(":")[0]) for message in channel.sent]
    assert offsets == sorted(set(offsets))
    offsets = [int(str(message).split(":")[0]) for message in others[0].sent]
    assert offsets == ([1, *range(3, offsets[-1] + 1)] if told else [*range(1, offsets[-1] + 1)])
    for other in others:
        other.end()


async def test_on_gap_may_make_another_follower_leave(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    other = Channel()

    def on_gap(client: Channel, gap: Gap) -> None:
        run_now(topic.leave(other))

    channel.stick()
    await topic.join(channel, slow="drop-newest", backlog=100, on_gap=on_gap)
    await topic.join(other)
    await topic.publish("1")
    await iterations()
    await topic.publish("2")
    await topic.publish("3")  # there is no room for it
    await iterations()
    assert other.sent == ["1"]  # what waits for a connection that leaves is dropped
    channel.move()
    await until(lambda: channel.sent == ["1", "2"])


async def test_follower_that_leaves_when_another_one_is_told_of_a_gap_is_not_told(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news"), publisher.topic("news")
    other = Channel()
    told: list[Channel] = []

    def on_gap(client: Channel, gap: Gap) -> None:
        told.append(client)
        run_now(topic.leave(other if client is channel else channel))

    await topic.join(channel, on_gap=on_gap)
    await topic.join(other, on_gap=on_gap)
    flaky.lose = 1
    await source.publish("1")
    await source.publish("2")
    await iterations()
    assert len(told) == 1
    assert told[0].sent == ["2"]
    other.end()


async def test_last_follower_leaves_in_on_gap(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news"), publisher.topic("news")

    def on_gap(client: Channel, gap: Gap) -> None:
        run_now(topic.leave(client))

    await topic.join(channel, frame=numbered, on_gap=on_gap)
    flaky.lose = 1
    for number in "123":
        await source.publish(number)
    await until(lambda: topics.followed == 0)
    assert channel.sent == []
    await topic.join(channel, frame=numbered)
    await source.publish("4")
    await until(lambda: len(channel.sent) == 1)
    assert str(channel.sent[0]).endswith(":4")


async def test_publishing_inside_of_send(topics: Topics) -> None:
    """A connection that publishes when a message is sent to it gets its own publications too."""
    topic = topics.topic("news")

    class Echo(Channel):
        async def send(self, data: Any) -> None:
            await super().send(data)
            if len(self.sent) < 5:
                await topic.publish(f"{data}+")

    echo, other = Echo(), Channel()
    await topic.join(echo)
    await topic.join(other)
    await topic.publish("1")
    await until(lambda: len(other.sent) == 5)
    assert other.sent == ["1", "1+", "1++", "1+++", "1++++"]
    await until(lambda: echo.sent == other.sent)
    echo.end()
    other.end()


if sys.version_info >= (3, 12):

    async def test_eager_tasks(channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            async with Topics(MemoryBroker()) as topics:
                topic = topics.topic("news")
                for number in range(3):
                    await topic.join(channel)
                    await topic.presence.enter(channel, "ann")
                    topic.publish_soon(str(number))
                    await until(lambda number=number: channel.sent[-1:] == [str(number)])  # type: ignore[misc]
                    await topic.leave(channel)
                    assert await topic.presence.members() == {}
                assert channel.sent == ["0", "1", "2"]
                await until(lambda: topics.followed == 0)
        finally:
            loop.set_task_factory(None)
