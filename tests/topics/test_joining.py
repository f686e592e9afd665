"""Joining and leaving: where a follower begins, what it has missed, and in which order it gets the publications."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from helpers.waiting import cancelled, iterations, until, within
from streamws import BrokerError, BrokerUnavailable, ConnectionClosed, LimitExceeded, UsageError
from streamws.topics import Gap, History, Joined, MemoryBroker, Page, Position, Publication, TopicLimits, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker

Raw = Publication[str | bytes]


def numbered(publication: Raw) -> str:
    return f"{publication.position.offset}:{publication.payload!s}"


async def test_follower_gets_what_is_published_after_it_has_joined(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    await topic.publish("before")
    joined = await topic.join(channel)
    await topic.publish("text")
    await topic.publish(b"binary")
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["text", b"binary"]
    assert joined.position.offset == 0
    assert not joined.recovered


async def test_follower_gets_nothing_after_it_has_left(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    await topic.leave(channel)
    await topic.publish("late")
    await iterations()
    assert channel.sent == []
    await until(lambda: topics.followed == 0)


async def test_follower_leaves_when_its_connection_ends(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    channel.end()
    await until(lambda: topics.followed == 0)


async def test_topics_without_followers_and_history_cost_nothing(open_topics: OpenTopics, channel: Channel) -> None:
    broker = MemoryBroker()
    topics = await open_topics(broker)
    for number in range(100):
        topic = topics.topic(f"room {number}")
        published = await topic.publish("to nobody")
        assert published.position is None
        await topic.join(channel)
        await topic.publish("to one")
        await topic.leave(channel)
    await until(lambda: topics.followed == 0)
    assert broker.kept == 0
    assert topics._core.outlets == {}
    assert len(topics._topics) <= 1


async def test_topics_of_one_connection_are_independent(topics: Topics, channel: Channel) -> None:
    for name in "abc":
        await topics.topic(name).join(channel, frame=lambda publication: f"{publication.topic}{publication.payload!s}")
    await topics.topic("b").leave(channel)
    for name in "abc":
        await topics.topic(name).publish("1")
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["a1", "c1"]


async def test_follower_gets_what_it_has_missed(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History(size=10))
    first = (await topic.publish("1")).position
    await topic.publish("2")
    await topic.publish("3")
    joined = await topic.join(channel, since=first, frame=numbered)
    await topic.publish("4")
    await until(lambda: len(channel.sent) == 3)
    assert channel.sent == ["2:2", "3:3", "4:4"]
    assert first is not None
    assert joined == Joined(Position(first.epoch, 3), recovered=True)


async def test_follower_is_told_that_its_position_is_not_in_the_history(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History(size=2))
    first = (await topic.publish("1")).position
    for number in "234":
        await topic.publish(number)
    joined = await topic.join(channel, since=first)
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["3", "4"]
    assert not joined.recovered


@pytest.mark.parametrize("since", [Position("of another broker", 1), Position("", 0)], ids=["foreign", "empty"])
async def test_follower_with_an_unknown_epoch_has_not_recovered(
    topics: Topics, channel: Channel, since: Position
) -> None:
    topic = topics.topic("news", history=History())
    await topic.publish("1")
    joined = await topic.join(channel, since=since)
    assert not joined.recovered
    await until(lambda: channel.sent == ["1"])


async def test_offset_of_the_future_has_not_recovered(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    position = (await topic.publish("1")).position
    assert position is not None
    joined = await topic.join(channel, since=Position(position.epoch, 7))
    assert not joined.recovered


async def test_history_expires(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History(seconds=0.001))
    position = (await topic.publish("1")).position
    assert position is not None
    await asyncio.sleep(0.005)
    page = await topic.read_history()
    assert page.publications == ()
    joined = await topic.join(channel, since=Position(position.epoch, 0))
    assert not joined.recovered


async def test_history_is_bounded_in_bytes(topics: Topics) -> None:
    topic = topics.topic("news", history=History(size=1000, max_bytes=1000))
    for _ in range(10):
        await topic.publish("x" * 100)
    page = await topic.read_history()
    assert len(page.publications) == 1000 // 164
    assert page.position.offset == 10
    assert not page.complete


async def test_history_is_read_in_pages(topics: Topics) -> None:
    topic = topics.topic("news", history=History())
    for number in range(5):
        await topic.publish(str(number))
    page = await topic.read_history(limit=2)
    assert [publication.data for publication in page.publications] == ["0", "1"]
    assert page.complete
    page = await topic.read_history(since=page.publications[-1].position, limit=2)
    assert [publication.data for publication in page.publications] == ["2", "3"]
    page = await topic.read_history(limit=2, newest=True)
    assert [publication.data for publication in page.publications] == ["3", "4"]
    assert (await topic.read_history(limit=0)).publications == ()
    await until(lambda: topics.followed == 0)


async def test_missed_publications_can_be_taken_before_the_live_ones(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    first = (await topic.publish("1")).position
    await topic.publish("2")
    taken = []

    def reply(joined: Joined, missed: Sequence[Raw]) -> None:
        taken.append((joined.recovered, [publication.data for publication in missed]))

    await topic.join(channel, since=first, on_joined=reply)
    await topic.publish("3")
    await until(lambda: channel.sent == ["3"])
    assert taken == [(True, ["2"])]


async def test_joining_twice_is_an_error(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    with pytest.raises(UsageError, match="follows topic 'news' already"):
        await topic.join(channel)


async def test_connection_that_has_ended_cannot_join(topics: Topics, channel: Channel) -> None:
    channel.end()
    with pytest.raises(ConnectionClosed, match="cannot join"):
        await topics.topic("news").join(channel)
    assert topics.followed == 0


async def test_number_of_topics_of_a_connection_is_limited(open_topics: OpenTopics, channel: Channel) -> None:
    topics = await open_topics(limits=TopicLimits(max_topics_per_client=2))
    await topics.topic("a").join(channel)
    await topics.topic("b").presence.enter(channel, "ann")
    await topics.topic("b").join(channel)
    with pytest.raises(LimitExceeded, match="max_topics_per_client: 2"):
        await topics.topic("c").join(channel)
    with pytest.raises(LimitExceeded, match="max_topics_per_client: 2"):
        await topics.topic("c").presence.enter(channel, "ann")
    await topics.topic("a").leave(channel)
    await topics.topic("c").join(channel)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"slow": "wait"}, "slow must be one of 'disconnect'"), ({"backlog": 0}, "backlog must be at least 1 byte")],
    ids=["slow", "backlog"],
)
async def test_bad_options_are_refused(
    topics: Topics, channel: Channel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await topics.topic("news").join(channel, **options)  # type: ignore[arg-type]
    assert topics.followed == 0


# While it joins ------------------------------------------------------------------------------------------------


async def test_publications_during_the_join_arrive_once_and_in_order(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    first = (await source.publish("1")).position
    await source.publish("2")
    flaky.hang()
    task = asyncio.create_task(topic.join(channel, since=first, frame=numbered))
    await iterations()
    flaky.go_on()
    await iterations(1)  # the subscription has begun
    flaky.hang()
    await source.publish("3")
    flaky.go_on()
    await within(task)
    await source.publish("4")
    await until(lambda: len(channel.sent) == 3)
    assert channel.sent == ["2:2", "3:3", "4:4"]


async def test_history_that_is_newer_than_the_delivery_is_not_repeated(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    other = Channel()
    await topic.join(other, frame=numbered)
    first = (await source.publish("1")).position
    assert first is not None
    flaky.late = True
    await source.publish("2")
    await source.publish("3")
    await topic.join(channel, since=Position(first.epoch, 0), frame=numbered)
    await until(lambda: len(channel.sent) == 3)
    flaky.deliver(1)
    await source.publish("4")
    flaky.deliver()
    await until(lambda: len(channel.sent) == 4)
    assert channel.sent == ["1:1", "2:2", "3:3", "4:4"]
    await until(lambda: len(other.sent) == 4)
    other.end()


async def test_one_transition_at_a_time_carries_out_the_latest_wish(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    flaky.hang()
    first = asyncio.create_task(topic.join(channel))
    await iterations()
    await topic.leave(channel)
    second = asyncio.create_task(topic.join(channel))
    await iterations()
    assert flaky.calls == ["subscribe news"]
    flaky.go_on()
    with pytest.raises(UsageError, match="left topic 'news' while joining"):
        await within(first)
    await within(second)
    await topic.publish("1")
    await until(lambda: channel.sent == ["1"])
    assert flaky.calls == ["subscribe news"]


async def test_leaving_before_the_broker_is_asked_ends_joining(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    joining = asyncio.create_task(topic.join(channel))
    await asyncio.sleep(0)  # it has begun; the task that asks the broker has not
    await topic.leave(channel)
    with pytest.raises(UsageError, match="left topic 'news' while joining"):
        await within(joining)
    assert flaky.calls == []


async def test_leaving_and_joining_during_the_end_of_a_subscription_begins_another(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.hang()
    await topic.leave(channel)
    await iterations()
    task = asyncio.create_task(topic.join(channel))
    await iterations()
    flaky.go_on()
    await within(task)
    assert flaky.calls == ["subscribe news", "unsubscribe news", "subscribe news"]
    await topic.publish("1")
    await until(lambda: channel.sent == ["1"])


async def test_connection_that_ends_while_it_joins_leaves_nothing_behind(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    flaky.hang()
    task = asyncio.create_task(topics.topic("news").join(channel))
    await iterations()
    channel.end()
    await iterations()
    flaky.go_on()
    with pytest.raises(ConnectionClosed, match="cannot join"):
        await within(task)
    await until(lambda: topics.followed == 0)
    assert topics._core.outlets == {}


async def test_join_that_is_cancelled_leaves_nothing_behind(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    flaky.hang()
    task = asyncio.create_task(topics.topic("news").join(channel))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    flaky.go_on()
    await until(lambda: topics.followed == 0)
    assert topics._core.outlets == {}


async def test_join_fails_if_the_broker_is_down_and_works_later(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topic.join(channel)
    await until(lambda: topics.followed == 0)
    flaky.recover()
    await topic.join(channel)
    await topic.publish("1")
    await until(lambda: channel.sent == ["1"])


async def test_join_has_a_deadline(open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel) -> None:
    topics = await open_topics(flaky, limits=TopicLimits(broker_timeout=0.01))
    flaky.hang()
    with pytest.raises(BrokerError, match="did not answer in time"):
        await topics.topic("news").join(channel)
    flaky.go_on()
    await until(lambda: topics.followed == 0)


async def test_followers_that_join_at_once_share_the_messages_of_the_history(
    open_topics: OpenTopics, flaky: FlakyBroker
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news", history=History())
    first = (await topic.publish("1")).position
    await topic.publish("2")
    framed = []

    def frame(publication: Raw) -> str:
        framed.append(publication.payload)
        return str(publication.payload)

    channels = [Channel() for _ in range(20)]
    flaky.hang()
    tasks = [asyncio.create_task(topic.join(channel, since=first, frame=frame)) for channel in channels]
    await iterations()
    flaky.go_on()
    await within(asyncio.gather(*tasks))
    await until(lambda: all(channel.sent == ["2"] for channel in channels))
    assert framed == ["2"]
    assert topics._core.audiences["news"]._framing._shared == {}
    for channel in channels:
        channel.end()


# Losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told", "seen"])
async def test_lost_publications_are_replayed_from_the_history(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, told: bool
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[Gap] = []
    await topic.join(channel, frame=numbered, on_gap=lambda _, gap: gaps.append(gap))
    await source.publish("1")
    flaky.fail()
    await source.publish("2")
    await source.publish("3")
    if told:
        flaky.recover()
    else:
        flaky.down = False
        await source.publish("4")
    expected = ["1:1", "2:2", "3:3", "4:4"][: 3 if told else 4]
    await until(lambda: len(channel.sent) == len(expected))
    assert channel.sent == expected
    assert gaps == []


async def test_lost_publications_without_a_history_are_a_gap(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    topic, source = topics.topic("news"), publisher.topic("news")
    gaps: list[tuple[Channel, Gap]] = []

    async def on_gap(client: Channel, gap: Gap) -> None:
        gaps.append((client, gap))

    await topic.join(channel, frame=numbered, on_gap=on_gap)
    first = (await source.publish("1")).position
    assert first is not None
    flaky.lose = 1
    await source.publish("2")
    await source.publish("3")
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["1:1", "3:3"]
    await until(lambda: gaps == [(channel, Gap(first))])


async def test_history_that_is_lost_is_a_gap_and_a_new_epoch(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[Gap] = []
    await topic.join(channel, frame=numbered, on_gap=lambda _, gap: gaps.append(gap))
    first = (await source.publish("1")).position
    assert first is not None
    flaky.fail()
    await source.publish("2")
    flaky.forget()
    second = (await source.publish("3")).position
    assert second is not None
    assert second.epoch != first.epoch
    flaky.recover()
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["1:1", "1:3"]
    assert gaps == [Gap(first)]


async def test_epoch_that_continues_the_one_before_is_no_gap(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[Gap] = []
    epochs: list[Position] = []
    await topic.join(
        channel,
        frame=numbered,
        on_gap=lambda _, gap: gaps.append(gap),
        on_epoch=lambda _, position: epochs.append(position),
    )
    first = (await source.publish("1")).position
    flaky.fail()
    await source.publish("2")
    flaky.restart()
    third = (await source.publish("3")).position
    flaky.recover()
    await until(lambda: len(channel.sent) == 3)
    flaky.restart()
    await source.publish("4")  # the first that the topic learns of the restart
    await until(lambda: len(channel.sent) == 4)
    assert channel.sent == ["1:1", "2:2", "3:3", "4:4"]
    assert gaps == []
    assert first is not None
    assert third is not None
    assert first.epoch != third.epoch
    assert [position.offset for position in epochs] == [1, 3]
    assert epochs[0].epoch == third.epoch
    late = Channel()
    joined = await topic.join(late, frame=numbered, since=first)
    await until(lambda: len(late.sent) == 3)
    assert late.sent == ["2:2", "3:3", "4:4"]
    assert joined.recovered


@pytest.mark.parametrize(("forgotten", "sent"), [(0, ["2:2", "3:3", "4:4", "5:5"]), (1, ["2:2", "3:3", "3:4", "4:5"])])
async def test_follower_that_is_ahead_is_told_of_a_gap_only_if_the_new_epoch_lacks_its_position(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, forgotten: int, sent: list[str]
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[Gap] = []
    epochs: list[Position] = []
    first = (await source.publish("1")).position
    await topic.join(Channel())
    flaky.late = True
    await source.publish("2")
    await source.publish("3")
    flaky.deliver(1)
    joined = await topic.join(
        channel,
        since=first,
        frame=numbered,
        on_gap=lambda _, gap: gaps.append(gap),
        on_epoch=lambda _, position: epochs.append(position),
    )
    assert joined.position.offset == 3  # but its delivery has not arrived
    flaky.fail()
    flaky.restart(forgotten)
    await source.publish("4")
    last = (await source.publish("5")).position
    assert last is not None
    flaky.late = False
    flaky.recover()
    await until(lambda: len(channel.sent) == len(sent))
    assert channel.sent == sent
    assert gaps == ([Gap(joined.position)] if forgotten else [])
    assert epochs == ([] if forgotten else [Position(last.epoch, 3)])


@pytest.mark.parametrize("restarted", [True, False])
async def test_follower_that_is_ahead_is_not_told_of_a_gap_after_it_has_left(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, restarted: bool
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=2)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    first = (await source.publish("1")).position
    live, *ahead = Channel(), Channel(), Channel()
    await topic.join(live)
    flaky.late = True
    await source.publish("2")
    await source.publish("3")
    flaky.deliver(1)
    told: list[Channel] = []

    def on_gap(channel: Channel, gap: Gap) -> None:
        told.append(channel)
        for other in ahead:
            if other is not channel:
                with pytest.raises(StopIteration):
                    topic.leave(other).send(None)  # now

    for channel in ahead:
        await topic.join(channel, since=first, on_gap=on_gap)
    flaky.fail()
    if restarted:
        flaky.restart(forgotten=1)
    flaky.late = False
    for text in ("4", "5", "6"):
        await source.publish(text)
    flaky.recover()
    await until(lambda: live.sent[-1:] == ["6"])
    assert len(told) == 1


async def test_follower_that_is_not_ahead_any_more_may_leave_while_another_one_is_told_of_the_gap(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=2)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    first = (await source.publish("1")).position
    live, one, two = Channel(), Channel(), Channel()
    await topic.join(live)
    flaky.late = True
    await source.publish("2")
    await source.publish("3")
    flaky.deliver(1)

    def on_gap(channel: Channel, gap: Gap) -> None:
        if channel is two:
            with pytest.raises(StopIteration):
                topic.leave(one).send(None)  # now

    for channel in (one, two):
        await topic.join(channel, since=first, on_gap=on_gap)
    flaky.fail()
    flaky.late = False
    for text in ("4", "5", "6", "7"):
        await source.publish(text)
    flaky.recover()
    await until(lambda: live.sent[-1:] == ["7"])
    assert one.sent == ["2", "3"]
    assert two.sent == ["2", "3", "6", "7"]


async def test_follower_that_is_ahead_gets_nothing_twice_if_the_history_is_too_short_for_the_others(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=2)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[str] = []
    first = (await source.publish("1")).position
    other = Channel()
    await topic.join(other, frame=numbered, on_gap=lambda *_: gaps.append("other"))
    flaky.late = True
    for text in ("2", "3", "4"):
        await source.publish(text)
    flaky.deliver(1)
    await topic.join(channel, since=first, frame=numbered, on_gap=lambda *_: gaps.append("ahead"))
    await source.publish("5")
    flaky.fail()
    flaky.restart()
    flaky.late = False
    flaky.recover()
    await until(lambda: other.sent == ["2:2", "4:4", "5:5"])
    assert channel.sent == ["3:3", "4:4", "5:5"]
    assert gaps == ["other"]


@pytest.mark.parametrize("forgotten", [0, 1])
async def test_follower_that_is_ahead_in_an_epoch_that_the_topic_never_had_is_not_forgotten(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, forgotten: int
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=10)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    gaps: list[str] = []
    first = (await source.publish("1")).position
    assert first is not None
    begin = Position(first.epoch, 0)
    other = Channel()
    await topic.join(other, frame=numbered, on_gap=lambda *_: gaps.append("other"))
    flaky.late = True
    flaky.restart()
    await source.publish("2")
    await source.publish("3")
    await topic.join(channel, since=begin, frame=numbered, on_gap=lambda *_: gaps.append("ahead"))
    flaky.restart(forgotten)  # before the topic reads what it has missed
    await iterations()
    flaky.deliver()
    flaky.late = False
    await source.publish("4")
    number = 4 - forgotten
    await until(lambda: other.sent[-1:] == channel.sent[-1:] == [f"{number}:4"])
    assert channel.sent == ["1:1", "2:2", "3:3", f"{number}:4"]
    assert gaps == ["ahead"] * forgotten


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (BrokerUnavailable("away"), []),
        (BrokerError("no"), ["topic 'news': cannot unsubscribe: BrokerError: no; trying again"]),
    ],
    ids=["unavailable", "failed"],
)
async def test_topic_logs_once_that_it_cannot_unsubscribe_unless_the_broker_is_not_available(
    open_topics: OpenTopics,
    flaky: FlakyBroker,
    channel: Channel,
    fast_timers: None,
    caplog: pytest.LogCaptureFixture,
    error: BrokerError,
    lines: list[str],
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.error = error
    await topic.leave(channel)
    await until(lambda: flaky.calls.count("unsubscribe news") == 3)
    flaky.error = None
    await until(lambda: topics.followed == 0)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == lines


async def test_follower_whose_history_was_older_than_the_topic_is_told_of_what_it_has_missed(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=10)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    other = Channel()
    await topic.join(other, frame=numbered)
    for text in ("1", "2"):
        await source.publish(text)
    position = (await topic.read_history(limit=0)).position
    old = await flaky.read_history("news", history, Position(position.epoch, 0), None, False)
    flaky.fail()
    flaky.restart()
    for text in ("3", "4"):
        await source.publish(text)
    flaky.recover()
    await until(lambda: other.sent[-1:] == ["4:4"])

    async def read_old(*arguments: object) -> Page:
        monkeypatch.undo()
        return old

    monkeypatch.setattr(flaky, "read_history", read_old)
    gaps: list[Gap] = []
    await topic.join(channel, since=Position(position.epoch, 0), frame=numbered, on_gap=lambda _, gap: gaps.append(gap))
    await iterations(20)
    await source.publish("5")
    await until(lambda: channel.sent[-1:] == ["5:5"])
    assert channel.sent == ["1:1", "2:2", "5:5"]
    assert [gap.since.offset for gap in gaps] == [2]


async def test_slow_follower_that_is_ahead_is_told_what_it_misses_from_its_own_position(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History(size=10)
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    first = (await source.publish("1")).position
    assert first is not None
    other = Channel()
    await topic.join(other, frame=numbered)
    flaky.lose = 2
    for text in ("2", "3"):
        await source.publish(text)
    gaps: list[Gap] = []
    await topic.join(
        channel,
        since=Position(first.epoch, 0),
        slow="drop-oldest",
        backlog=200,
        frame=numbered,
        on_gap=lambda _, gap: gaps.append(gap),
        presence_frame=lambda event: event.user,
    )
    await until(lambda: channel.sent == ["1:1", "2:2", "3:3"])
    channel.stick()
    for user in ("ann", "bob", "cid", "dan", "eve"):
        await source.presence.enter(Channel(), user)
    assert [gap.since.offset for gap in gaps] == [3]


async def test_recovery_is_tried_again_until_the_broker_answers(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, fast_timers: None
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)
    history = History()
    topic, source = topics.topic("news", history=history), publisher.topic("news", history=history)
    await topic.join(channel, frame=numbered)
    await source.publish("1")
    flaky.lose = 1
    flaky.error = RuntimeError("not ready")
    await source.publish("2")
    await source.publish("3")
    await iterations()
    assert channel.sent == ["1:1"]
    flaky.error = None
    await until(lambda: len(channel.sent) == 3)
    assert channel.sent == ["1:1", "2:2", "3:3"]


async def test_on_gap_that_raises_is_logged(
    open_topics: OpenTopics,
    memory: MemoryBroker,
    flaky: FlakyBroker,
    channel: Channel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topics, publisher = await open_topics(flaky), await open_topics(memory)

    def on_gap(client: Channel, gap: Gap) -> None:
        raise ValueError("cannot tell")

    await topics.topic("news").join(channel, on_gap=on_gap)
    flaky.lose = 1
    for number in "12":
        await publisher.topic("news").publish(number)
    await until(lambda: channel.sent == ["2"])
    assert "cannot tell" in caplog.text
    caplog.clear()


async def test_frame_function_that_raises_is_logged_and_told(
    topics: Topics, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    topic = topics.topic("news")
    gaps: list[Gap] = []

    def frame(publication: Raw) -> str:
        if publication.payload == "bad":
            raise ValueError("no frame for that")
        if publication.payload == "worse":
            return "lone \ud800"
        return str(publication.payload)

    joined = await topic.join(channel, frame=frame, on_gap=lambda _, gap: gaps.append(gap))
    other = Channel()
    await topic.join(other)
    await topic.publish("bad")
    await topic.publish("good")
    second = (await topic.publish("g€€d")).position
    await topic.publish("worse")
    await until(lambda: channel.sent == ["good", "g€€d"])
    await until(lambda: other.sent == ["bad", "good", "g€€d", "worse"])
    assert second is not None
    assert gaps == [Gap(joined.position), Gap(second)]
    assert "no frame for that" in caplog.text
    assert "surrogates not allowed" in caplog.text
    other.end()


# The topics ----------------------------------------------------------------------------------------------------


async def test_topics_must_be_open(channel: Channel) -> None:
    topics = Topics(MemoryBroker())
    topic = topics.topic("news")
    for call in (topic.join(channel), topic.publish("1"), topic.leave(channel), topic.read_history()):
        with pytest.raises(UsageError, match="not open"):
            await call
    async with topics:
        await topic.join(channel)
    with pytest.raises(UsageError, match="not open"):
        await topic.publish("1")
    with pytest.raises(UsageError, match="already entered"):
        await topics.__aenter__()
    assert channel.outcome is None


def test_topics_belong_to_their_event_loop() -> None:
    topics = Topics(MemoryBroker())

    async def enter() -> None:
        await topics.__aenter__()

    async def publish() -> None:
        with pytest.raises(UsageError, match="belong to another event loop"):
            topics.topic("news").publish_soon("1")

    asyncio.run(enter())
    asyncio.run(publish())


async def test_closing_gives_up_a_broker_that_hangs(channel: Channel, caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(FlakyBroker):
        async def close(self) -> None:
            await asyncio.get_running_loop().create_future()

    broker = Hanging()
    async with Topics(broker, limits=TopicLimits(close_timeout=0.01)) as topics:
        await topics.topic("news").join(channel)
        broker.hang()
    assert "did not close within 0.01 s" in caplog.text
    await broker.memory.close()
