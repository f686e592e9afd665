"""`subscribe`: a topic as an async iterator, read fast and slowly."""

import asyncio
from typing import Any

import pytest

from helpers.waiting import cancelled, iterations, until, within
from streamws import BrokerUnavailable, ConcurrencyError, LimitExceeded, UsageError
from streamws.topics import Gap, History, MemoryBroker, Position, Publication, Subscription, Topic, Topics
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker

Raw = Topic[str | bytes]


async def take(feed: Subscription[str | bytes], count: int) -> list[Any]:
    """Read some items: the data of publications, and gaps."""
    items: list[Any] = []
    async for item in feed:
        items.append(item.data if isinstance(item, Publication) else item)
        if len(items) == count:
            break
    return items


@pytest.fixture
def topic(topics: Topics) -> Raw:
    return topics.topic("news")


@pytest.fixture
def kept(topics: Topics) -> Raw:
    return topics.topic("kept", history=History(size=50))


async def test_subscription_gets_what_is_published_after_it_began(topic: Raw, topics: Topics) -> None:
    async with topic.subscribe() as feed:
        await topic.publish("1")
        await topic.publish("2")
        assert await within(take(feed, 2)) == ["1", "2"]
        reading = asyncio.create_task(take(feed, 1))
        await iterations()
        await topic.publish("3")
        assert await within(reading) == ["3"]
        assert not feed.joined.recovered
    await until(lambda: topics.followed == 0)


async def test_subscription_continues_from_a_position(kept: Raw) -> None:
    first = (await kept.publish("1")).position
    await kept.publish("2")
    async with kept.subscribe(since=first) as feed:
        assert feed.joined.recovered
        await kept.publish("3")
        assert await within(take(feed, 2)) == ["2", "3"]


async def test_subscription_that_cannot_continue_begins_with_a_gap(topics: Topics) -> None:
    topic = topics.topic("short", history=History(size=1))
    first = (await topic.publish("1")).position
    assert first is not None
    await topic.publish("2")
    await topic.publish("3")
    async with topic.subscribe(since=first) as feed:
        assert await within(take(feed, 2)) == [Gap(first), "3"]


async def test_iteration_ends_when_the_topics_are_closed(memory: MemoryBroker) -> None:
    async with Topics(memory) as topics:
        topic = topics.topic("news")
        async with topic.subscribe() as feed:
            await topic.publish("1")
            reading = asyncio.create_task(take(feed, 5))
            await iterations()
            await topics._core.close()
            assert await within(reading) == ["1"]


async def test_cancelled_read_loses_nothing(topic: Raw) -> None:
    async with topic.subscribe() as feed:
        reading = asyncio.create_task(take(feed, 1))
        await iterations()
        reading.cancel()
        assert await cancelled(reading)
        await topic.publish("1")
        assert await within(take(feed, 1)) == ["1"]
        reading = asyncio.create_task(take(feed, 1))
        await iterations()
        await topic.publish("2")
        reading.cancel()
        assert await cancelled(reading)
        assert await within(take(feed, 1)) == ["2"]


async def test_two_readers_at_once_are_an_error_for_the_second(topic: Raw) -> None:
    async with topic.subscribe() as feed:
        reading = asyncio.create_task(take(feed, 1))
        await iterations()
        with pytest.raises(ConcurrencyError, match="another task is already reading"):
            await anext(feed)
        await topic.publish("1")
        assert await within(reading) == ["1"]


async def test_subscription_that_could_not_begin_may_be_entered_again(
    open_topics: OpenTopics, flaky: FlakyBroker
) -> None:
    topic = (await open_topics(flaky)).topic("news")
    feed = topic.subscribe()
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await feed.__aenter__()
    flaky.recover()
    flaky.hang()
    entering = asyncio.create_task(feed.__aenter__())
    await iterations()
    entering.cancel()
    assert await cancelled(entering)
    flaky.go_on()
    async with feed:
        await topic.publish("1")
        assert await within(take(feed, 1)) == ["1"]


async def test_wrong_use_is_an_error(topic: Raw) -> None:
    feed = topic.subscribe()
    with pytest.raises(UsageError, match="has not begun"):
        await anext(feed)
    with pytest.raises(UsageError, match="has not begun"):
        _ = feed.joined
    async with feed:
        with pytest.raises(UsageError, match="already entered"):
            await feed.__aenter__()
    with pytest.raises(UsageError, match="already entered"):
        await feed.__aenter__()
    with pytest.raises(StopAsyncIteration):
        await anext(feed)
    with pytest.raises(ValueError, match="slow must be 'wait' or one of"):
        topic.subscribe(slow="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backlog must be at least 1"):
        topic.subscribe(backlog=0)


async def test_subscription_fails_if_the_broker_is_down(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    topics = await open_topics(flaky)
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topics.topic("news").subscribe().__aenter__()
    await until(lambda: topics.followed == 0)


# Reading too slowly --------------------------------------------------------------------------------------------

PAYLOADS = [f"{number:036}" for number in range(30)]  # each counts 100 bytes


async def test_wait_reads_the_rest_from_the_history(kept: Raw) -> None:
    async with kept.subscribe(backlog=500) as feed:
        for payload in PAYLOADS:
            await kept.publish(payload)
        assert len(feed._ready) == 5
        assert await within(take(feed, 30)) == PAYLOADS
        await kept.publish("live")
        assert await within(take(feed, 1)) == ["live"]
        assert feed.lost == 0


async def test_wait_queues_nothing_behind_what_was_not_queued(kept: Raw) -> None:
    """Although there is room again."""
    async with kept.subscribe(backlog=500) as feed:
        for payload in PAYLOADS[:10]:
            await kept.publish(payload)
        assert await within(take(feed, 3)) == PAYLOADS[:3]
        for payload in PAYLOADS[10:]:
            await kept.publish(payload)
        assert await within(take(feed, 27)) == PAYLOADS[3:]


async def test_wait_tells_of_a_gap_if_the_history_is_too_short(topics: Topics) -> None:
    topic = topics.topic("short", history=History(size=10))
    async with topic.subscribe(backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        items = await within(take(feed, 16))
        assert items[:5] == PAYLOADS[:5]
        assert isinstance(items[5], Gap)
        assert items[5].since.offset == 5
        assert items[6:] == PAYLOADS[20:]


async def test_wait_without_a_history_tells_of_a_gap(topic: Raw) -> None:
    async with topic.subscribe(backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        assert await within(take(feed, 5)) == PAYLOADS[:5]
        reading = asyncio.create_task(take(feed, 2))
        await iterations()
        await topic.publish("live")
        gap, live = await within(reading)
        assert isinstance(gap, Gap)
        assert gap.since.offset == 5
        assert live == "live"


async def test_wait_tries_again_while_the_broker_is_down(
    open_topics: OpenTopics, flaky: FlakyBroker, fast_timers: None
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("kept", history=History(size=50))
    async with topic.subscribe(backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        assert await within(take(feed, 5)) == PAYLOADS[:5]
        flaky.error = BrokerUnavailable("down")
        reading = asyncio.create_task(take(feed, 25))
        await asyncio.sleep(0.2)
        flaky.error = None
        assert await within(reading) == PAYLOADS[5:]


async def test_wait_goes_on_after_the_broker_was_down_for_everyone(
    open_topics: OpenTopics, flaky: FlakyBroker, fast_timers: None
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("kept", history=History(size=50))
    async with topic.subscribe(backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        assert await within(take(feed, 5)) == PAYLOADS[:5]
        flaky.fail()
        items: list[Any] = []

        async def read() -> None:
            async for item in feed:
                items.append(item.data if isinstance(item, Publication) else item)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        flaky.recover()
        await until(lambda: len(items) == 25)
        await topic.publish("live")
        await until(lambda: items == [*PAYLOADS[5:], "live"])
        reading.cancel()
        assert await cancelled(reading)


async def test_disconnect_ends_the_iteration_with_an_error(topic: Raw) -> None:
    async with topic.subscribe(slow="disconnect", backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        assert await within(take(feed, 5)) == PAYLOADS[:5]
        for _ in range(2):
            with pytest.raises(LimitExceeded, match="read too slowly: over 500 bytes waited"):
                await anext(feed)
            await topic.publish("too late")
        assert feed.lost == 1


async def test_drop_oldest_keeps_the_newest_behind_a_gap(topic: Raw) -> None:
    async with topic.subscribe(slow="drop-oldest", backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        gap, *rest = await within(take(feed, 6))
        assert gap == Gap(feed.joined.position)
        assert rest == PAYLOADS[25:]
        assert feed.lost == 25


async def test_drop_newest_keeps_the_oldest_in_front_of_a_gap(topic: Raw) -> None:
    async with topic.subscribe(slow="drop-newest", backlog=500) as feed:
        for payload in PAYLOADS:
            await topic.publish(payload)
        items = await within(take(feed, 6))
        assert items[:5] == PAYLOADS[:5]
        assert items[5].since.offset == 5
        assert feed.lost == 25


@pytest.mark.parametrize("slow", ["drop-oldest", "drop-newest", "latest"])
@pytest.mark.parametrize("every", [2, 3, 4])
async def test_each_place_where_publications_are_missing_is_a_gap(topic: Raw, slow: Any, every: int) -> None:
    """One item of several publications is read, and never all that wait."""
    items: list[Any] = []
    async with topic.subscribe(slow=slow, backlog=300) as feed:
        for number in range(1, 41):
            await topic.publish(f"{number:036}", key=f"{number}")
            if number % every == 0:
                items.append(await within(anext(feed)))
        while feed._ready or feed._gap or feed._next:
            items.append(await within(anext(feed)))
        lost = feed.lost
    offsets: list[int] = []
    before = 0
    told = False
    for item in items:
        if isinstance(item, Gap):
            assert item.since.offset == before
            assert not told
            told = True
        else:
            assert (item.position.offset != before + 1) == told
            told = False
            before = item.position.offset
            offsets.append(before)
    assert lost == 40 - len(offsets)
    assert (before == 40) != told
    assert len(items) > len(offsets)


async def test_gap_of_a_replaced_publication_is_told_before_the_others(topics: Topics) -> None:
    topic = topics.topic("news")
    async with topic.subscribe(slow="latest") as feed:
        audience = topics._core.audiences["news"]
        epoch = feed.joined.position.epoch

        def lose(offset: int) -> None:
            feed.put_gap(Gap(Position(epoch, offset)), Position(epoch, offset))

        assert audience.position == feed.joined.position
        await topic.publish("1", key="a")
        lose(1)
        await topic.publish("2", key="b")
        await topic.publish("3", key="b")
        lose(3)
        await topic.publish("4", key="a")
        items = await within(take(feed, 4))
        assert [item if isinstance(item, str) else item.since.offset for item in items] == [1, "3", 3, "4"]
        assert feed.lost == 2
        await topic.publish("5", key="a")
        lose(5)
        await topic.publish("6", key="b")
        await topic.publish("7", key="b")
        lose(7)
        lose(7)
        items = await within(take(feed, 4))
        assert [item if isinstance(item, str) else item.since.offset for item in items] == [5, "5", "7", 7]


async def test_iteration_that_tries_to_read_the_history_ends_with_the_topics(
    flaky: FlakyBroker, fast_timers: None
) -> None:
    async with Topics(flaky) as topics:
        topic = topics.topic("kept", history=History())
        async with topic.subscribe(backlog=500) as feed:
            for payload in PAYLOADS:
                await topic.publish(payload)
            assert await within(take(feed, 5)) == PAYLOADS[:5]
            flaky.error = BrokerUnavailable("down")
            reading = asyncio.create_task(take(feed, 25))
            await iterations()
            with pytest.raises(ConcurrencyError, match="another task is already reading"):
                await anext(feed)
            await topics._core.close()
            assert await within(reading) == []


async def test_latest_keeps_the_last_of_each_key(topic: Raw) -> None:
    async with topic.subscribe(slow="latest", backlog=500) as feed:
        for number, key in enumerate("abacb"):
            await topic.publish(f"{key}{number}", key=key)
        assert await within(take(feed, 3)) == ["a2", "c3", "b4"]
        assert feed.lost == 2
