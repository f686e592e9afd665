"""Publishing: results, idempotency, deadlines, limits, and `publish_soon`."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from helpers.waiting import cancelled, iterations, until
from streamws import (
    BrokerError,
    BrokerUnavailable,
    DecodeError,
    EncodeError,
    LimitExceeded,
    PublishTimeout,
    UsageError,
)
from streamws.messages import Json
from streamws.options import ITEM_OVERHEAD
from streamws.topics import History, MemoryBroker, Outgoing, Position, Published, Topic, TopicLimits, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker


class Price(msgspec.Struct):
    name: str
    value: float


async def test_publish_returns_the_position(topics: Topics) -> None:
    topic = topics.topic("prices", Json(Price), history=History())
    first = await topic.publish(Price("EUR", 1.0))
    second = await topic.publish(Price("USD", 2.0), key="USD")
    assert first.position is not None
    assert second == Published(Position(first.position.epoch, 2))
    publication = (await topic.read_history()).publications[-1]
    assert publication.data == Price("USD", 2.0)
    assert publication.payload == '{"name":"USD","value":2.0}'
    assert (publication.topic, publication.key, publication.position) == ("prices", "USD", second.position)
    assert publication.time > 1e9
    assert repr(publication) == f"<Publication 2 in 'prices', epoch {first.position.epoch}, key 'USD'>"


async def test_message_is_decoded_once_and_only_if_it_is_used(topics: Topics, memory: MemoryBroker) -> None:
    topic = topics.topic("prices", Json(Price), history=History())
    await topic.publish(Price("EUR", 1.0))
    (publication,) = (await topic.read_history()).publications
    assert publication.data is publication.data


async def test_message_of_another_program_that_cannot_be_decoded_raises(open_topics: OpenTopics) -> None:
    memory = MemoryBroker()
    mine, other = await open_topics(memory), await open_topics(MemoryBroker(memory))
    await other.topic("prices", history=History()).publish('{"name":1}')
    (publication,) = (await mine.topic("prices", Json(Price), history=History()).read_history()).publications
    for _ in range(2):
        with pytest.raises(DecodeError, match="Expected `str`, got `int`"):
            _ = publication.data
    assert publication.payload == '{"name":1}'


async def test_same_idempotency_key_publishes_once(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    await topic.join(channel)
    first = await topic.publish("1", idempotency="a")
    again = await topic.publish("1", idempotency="a")
    assert again == Published(first.position, duplicate=True)
    await topic.publish("2", idempotency="b")
    other = topics.topic("other", history=History())
    assert not (await other.publish("1", idempotency="a")).duplicate
    await until(lambda: channel.sent == ["1", "2"])


async def test_idempotency_keys_without_followers_are_remembered(topics: Topics) -> None:
    topic = topics.topic("news")
    assert await topic.publish("1", idempotency="a") == Published(None)
    assert await topic.publish("1", idempotency="a") == Published(None, duplicate=True)


async def test_publish_times_out_and_may_be_tried_again(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news", history=History())
    flaky.hang()
    with pytest.raises(PublishTimeout, match=r"within 0\.01 s: topic 'news' may have got the publication"):
        await topic.publish("1", idempotency="a", timeout=0.01)
    flaky.go_on()
    await topic.publish("1", idempotency="a")
    await topic.publish("1", idempotency="a")
    assert len((await topic.read_history()).publications) == 1


async def test_publish_can_be_cancelled(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    topics = await open_topics(flaky)
    flaky.hang()
    task = asyncio.create_task(topics.topic("news").publish("1"))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    flaky.go_on()


async def test_errors_of_the_broker_are_raised(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topic.publish("1")
    flaky.error = OSError("broken pipe")
    with pytest.raises(BrokerError, match="cannot publish in topic 'news': OSError: broken pipe"):
        await topic.publish("1")
    flaky.error = None
    flaky.recover()
    await topic.publish("1")


async def test_error_of_one_publication_is_raised(open_topics: OpenTopics) -> None:
    class Refusing(FlakyBroker):
        async def publish(self, batch: "tuple[Outgoing, ...] | list[Outgoing]") -> list[Published | BrokerError]:  # type: ignore[override]
            return [BrokerError("refused") for _ in batch]

    topics = await open_topics(Refusing())
    with pytest.raises(BrokerError, match="refused"):
        await topics.topic("news").publish("1")


async def test_message_that_cannot_be_encoded_is_not_published(topics: Topics) -> None:
    topic = topics.topic("prices", Json(Price), history=History())
    with pytest.raises(EncodeError):
        await topic.publish(Price("EUR", {1j}))  # type: ignore[arg-type]
    assert (await topic.read_history()).publications == ()


@pytest.mark.parametrize("message", [5, {"a": 1}, [1, 2], None], ids=repr)
async def test_messages_without_a_codec_are_str_or_bytes(topics: Topics, channel: Channel, message: Any) -> None:
    topic = topics.topic("news", history=History())
    await topic.join(channel)
    with pytest.raises(TypeError, match="message must be str or bytes-like, not "):
        await topic.publish(message)
    with pytest.raises(TypeError, match="message must be str or bytes-like, not "):
        topic.publish_soon(message)
    await topic.publish(bytearray(b"1"))  # type: ignore[arg-type]
    await topic.publish(memoryview(b"2"))  # type: ignore[arg-type]
    await until(lambda: channel.sent == [b"1", b"2"])


async def test_text_that_is_not_valid_unicode_is_not_published(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", history=History())
    await topic.join(channel)
    with pytest.raises(EncodeError, match=r"the message is not valid Unicode: UnicodeEncodeError: .*surrogates"):
        await topic.publish("lone \ud800")
    await topic.publish("€")
    await until(lambda: channel.sent == ["€"])
    assert (await topic.read_history()).position.offset == 1


async def test_size_of_a_publication_is_limited(open_topics: OpenTopics) -> None:
    topics = await open_topics(limits=TopicLimits(max_publication_size=10))
    topic = topics.topic("news")
    await topic.publish("x" * 10)
    with pytest.raises(LimitExceeded, match="max_publication_size: 10"):
        await topic.publish("x" * 11)
    with pytest.raises(LimitExceeded, match="max_publication_size: 10"):
        topic.publish_soon("x" * 11)


async def test_length_of_keys_is_limited(open_topics: OpenTopics) -> None:
    topics = await open_topics(limits=TopicLimits(max_name=4))
    topic = topics.topic("news")
    await topic.publish("1", key="four", idempotency="four")
    with pytest.raises(LimitExceeded, match=r"key has 5 characters \(TopicLimits.max_name: 4\)"):
        await topic.publish("2", key="fiive")
    with pytest.raises(LimitExceeded, match="idempotency has 5 characters"):
        topic.publish_soon("2", idempotency="fiive")


async def test_publications_of_a_connection_are_limited(
    open_topics: OpenTopics, channel: Channel, fast_timers: None
) -> None:
    topics = await open_topics(limits=TopicLimits(max_publications_per_client=2.0))
    topic = topics.topic("news")
    await topic.publish("1", client=channel)
    await topic.publish("2", client=channel)
    with pytest.raises(LimitExceeded, match="max_publications_per_client: 2 a second"):
        await topic.publish("3", client=channel)
    await topic.publish("of the program")
    other = Channel()
    await topic.publish("of another one", client=other)
    await asyncio.sleep(0.6)
    await topic.publish("3", client=channel)
    with pytest.raises(LimitExceeded):
        await topic.publish("4", client=channel)
    other.end()
    channel.end()
    await until(lambda: topics._core.outlets == {})


# Topics and names ----------------------------------------------------------------------------------------------


async def test_same_name_gives_the_same_topic(topics: Topics) -> None:
    topic = topics.topic("prices", Json(Price), history=History(size=3))
    assert topics.topic("prices", Json(Price), history=History(size=3)) is topic
    assert topics.find("prices") is topic
    assert topics.find("other") is None
    assert repr(topic) == "<Topic 'prices'>"


async def test_same_name_with_another_codec_or_history_is_an_error(topics: Topics) -> None:
    topic = topics.topic("prices", Json(Price))
    with pytest.raises(UsageError, match="topic 'prices' is used with another codec"):
        topics.topic("prices", Json(int))
    with pytest.raises(UsageError, match="topic 'prices' is used with another codec"):
        topics.topic("prices")
    with pytest.raises(UsageError, match="topic 'prices' is used with another history: None"):
        topics.topic("prices", Json(Price), history=History())
    assert topic.history is None


async def test_followed_topic_is_found_although_the_program_forgot_it(topics: Topics, channel: Channel) -> None:
    await topics.topic("news").join(channel)
    topic = topics.find("news")
    assert topic is not None
    await topic.publish("1")
    await until(lambda: channel.sent == ["1"])


async def test_names_are_checked(open_topics: OpenTopics) -> None:
    topics = await open_topics(limits=TopicLimits(max_name=4))
    topics.topic("ab€"[:2])
    with pytest.raises(LimitExceeded, match=r"has 5 bytes \(TopicLimits.max_name: 4\)"):
        topics.topic("ab€")
    with pytest.raises(ValueError, match="must not be empty"):
        topics.topic("")
    with pytest.raises(TypeError, match="must be str, not bytes"):
        topics.topic(b"news")  # type: ignore[call-overload]


# publish_soon --------------------------------------------------------------------------------------------------


async def test_publish_soon_keeps_the_order(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news")
    await topic.join(channel)
    for number in range(1000):
        assert topic.publish_soon(str(number))
    await until(lambda: len(channel.sent) == 1000)
    assert channel.sent == [str(number) for number in range(1000)]
    assert topics.failed == 0


async def test_publish_soon_is_bounded_in_bytes(open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel) -> None:
    topics = await open_topics(flaky, limits=TopicLimits(max_publish_soon=1000))
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.hang()
    accepted = [topic.publish_soon("x" * 36) for _ in range(20)]
    assert accepted == [True] * 10 + [False] * 10
    await iterations()
    assert not topic.publish_soon("x" * 36)
    flaky.go_on()
    await until(lambda: len(channel.sent) == 10)
    assert topic.publish_soon("x" * 36)
    await until(lambda: len(channel.sent) == 11)


async def test_publish_soon_waits_for_a_broker_that_comes_back(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel, fast_timers: None
) -> None:
    topics = await open_topics(flaky)
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.fail()
    for number in range(5):
        assert topic.publish_soon(str(number))
    await asyncio.sleep(0.2)
    assert topic.publish_soon("5")
    flaky.recover()
    await until(lambda: len(channel.sent) == 6)
    assert channel.sent == [str(number) for number in range(6)]
    assert topics.failed == 0


async def test_publish_soon_of_other_topics_does_not_wait_for_one_that_is_not_available(
    open_topics: OpenTopics, fast_timers: None
) -> None:
    class PartlyDown(FlakyBroker):
        away = True
        asked = 0

        async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
            away = [message.topic == "away" and self.away for message in batch]
            self.asked += any(away)
            if all(away):
                raise BrokerUnavailable("down")
            results = iter(await super().publish([m for m, gone in zip(batch, away, strict=True) if not gone]))
            return [BrokerUnavailable("down") if gone else next(results) for gone in away]

    broker = PartlyDown()
    topics = await open_topics(broker)
    away, other = (topics.topic(name, history=History()) for name in ("away", "other"))

    async def payloads(topic: Topic[str | bytes]) -> list[str | bytes]:
        return [publication.data for publication in (await topic.read_history()).publications]

    for number in range(4):
        for topic in (away, other):
            assert topic.publish_soon(str(number))
    await until(lambda: broker.asked >= 2)
    assert topics._core.publisher.waiting == 4 * (1 + ITEM_OVERHEAD)
    assert await payloads(other) == ["0", "1", "2", "3"]
    assert other.publish_soon("4")
    assert away.publish_soon("4")
    await until(lambda: topics._core.publisher.waiting == 5 * (1 + ITEM_OVERHEAD))
    assert await payloads(other) == ["0", "1", "2", "3", "4"]
    broker.away = False
    await until(lambda: not topics._core.publisher.waiting)
    assert await payloads(away) == ["0", "1", "2", "3", "4"]
    assert topics.failed == 0


async def test_publish_soon_that_has_waited_for_others_is_not_cut_off(open_topics: OpenTopics) -> None:
    class Slow(FlakyBroker):
        async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
            if len(batch) == 512:
                time.sleep(0.35)  # noqa: ASYNC251  # then the others are late
            else:
                await iterations()
            return await super().publish(batch)

    topics = await open_topics(Slow(), limits=TopicLimits(publish_timeout=0.3))
    topic = topics.topic("news", history=History(size=1000))
    for number in range(600):
        assert topic.publish_soon(str(number))
    await until(lambda: not topics._core.publisher.waiting)
    assert len((await topic.read_history()).publications) == 600
    assert topics.failed == 0


async def test_publication_fails_if_a_later_one_of_its_topic_was_made(
    open_topics: OpenTopics, channel: Channel
) -> None:
    class Moving(FlakyBroker):
        async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
            return [BrokerUnavailable("moves"), *await super().publish(batch[1:])]

    told: list[str] = []
    topics = await open_topics(Moving(), on_error=lambda topic, error: told.append(str(error)))
    topic = topics.topic("news")
    await topic.join(channel)
    for number in range(3):
        assert topic.publish_soon(str(number))
    await until(lambda: len(channel.sent) == 2)
    assert (channel.sent, told) == (["1", "2"], ["moves"])


async def test_failures_of_publish_soon_are_counted_and_told(open_topics: OpenTopics, flaky: FlakyBroker) -> None:
    told: list[tuple[str, BrokerError]] = []
    topics = await open_topics(
        flaky,
        limits=TopicLimits(publish_timeout=0.01),
        on_error=lambda topic, error: told.append((topic, error)),
    )
    topic = topics.topic("news")
    flaky.fail()
    topic.publish_soon("1")
    await until(lambda: topics.failed == 1)
    flaky.recover()
    flaky.hang()
    topic.publish_soon("2")
    await until(lambda: topics.failed == 2)
    flaky.go_on()
    flaky.error = ValueError("wrong")
    topic.publish_soon("3")
    await until(lambda: topics.failed == 3)
    assert [(name, type(error)) for name, error in told] == [
        ("news", BrokerUnavailable),
        ("news", PublishTimeout),
        ("news", BrokerError),
    ]


async def test_failures_without_on_error_are_logged(
    open_topics: OpenTopics, flaky: FlakyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    topics = await open_topics(flaky)
    flaky.error = BrokerError("no memory")
    for _ in range(100):
        topics.topic("news").publish_soon("1")
    await until(lambda: topics.failed == 100)
    (record,) = caplog.records  # and not one for each
    assert record.message == "publish_soon in topic 'news' has failed: BrokerError: no memory; failures so far: 1"


async def test_on_error_that_raises_is_logged(
    open_topics: OpenTopics, flaky: FlakyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(topic: str, error: BrokerError) -> None:
        raise ZeroDivisionError

    topics = await open_topics(flaky, on_error=on_error)
    flaky.error = BrokerError("no memory")
    topics.topic("news").publish_soon("1")
    topics.topic("news").publish_soon("2")
    await until(lambda: topics.failed == 2)
    assert caplog.text.count("on_error of the topics raised") == 2


async def test_leaving_topics_waits_for_publish_soon(memory: MemoryBroker) -> None:
    async with Topics(MemoryBroker(memory)) as topics:
        topic = topics.topic("news", history=History())
        for number in range(3000):
            topic.publish_soon(str(number))
    async with Topics(memory) as other:
        page = await other.topic("news", history=History()).read_history()
        assert page.position.offset == 3000


async def test_leaving_topics_can_be_cancelled(flaky: FlakyBroker, channel: Channel) -> None:
    topics = Topics(flaky)
    await topics.__aenter__()
    topic = topics.topic("news")
    await topic.join(channel)
    flaky.hang()
    topic.publish_soon("1")
    leaving = asyncio.create_task(topics.__aexit__(None, None, None))
    await iterations()
    leaving.cancel()
    assert await cancelled(leaving)
    assert topics.failed == 1
    assert flaky.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_broker_with_a_wrong_number_of_results_has_failed(open_topics: OpenTopics) -> None:
    class Silent(FlakyBroker):
        async def publish(self, batch: Any) -> list[Published | BrokerError]:
            return []

    told: list[str] = []
    topics = await open_topics(Silent(), on_error=lambda topic, error: told.append(str(error)))
    topic = topics.topic("news")
    for number in "12":
        topic.publish_soon(number)
    await until(lambda: topics.failed == 2)
    assert told == ["the broker returned 0 results for 2 publications"] * 2
    with pytest.raises(BrokerError, match="cannot publish in topic 'news'"):
        await topic.publish("3")


async def test_publish_soon_lets_other_tasks_run(topics: Topics) -> None:
    topic = topics.topic("news")
    for number in range(2000):
        topic.publish_soon(str(number))
    await iterations(2)
    assert 0 < topics._core.publisher.waiting < 2000 * 68


async def test_leaving_topics_has_a_deadline(flaky: FlakyBroker) -> None:
    told: list[str] = []
    limits = TopicLimits(close_timeout=0.01)
    async with Topics(flaky, limits=limits, on_error=lambda topic, error: told.append(str(error))) as topics:
        flaky.hang()
        topics.topic("news").publish_soon("1")
    assert topics.failed == 1
    assert told == ["not published within 0.01 s after the end of the topics"]
