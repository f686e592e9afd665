"""Wrong types and values: errors that say what to write. What objects look like."""

import gc
from typing import Any
from weakref import ref

import pytest

from helpers.fixtures import Connect, Serve, client_of
from helpers.waiting import iterations, until, within
from streamws import ConnectionClosed
from streamws.messages import Json
from streamws.topics import History, MemoryBroker, Position, TopicLimits, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics


async def coroutine_function(*args: Any) -> str:
    return ""


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("redis://host",), {}, r"broker must be a Broker, not 'redis://host': write Topics\(MemoryBroker\(\)\)"),
        ((MemoryBroker,), {}, "broker must be a Broker, not <class"),
        ((MemoryBroker(),), {"limits": 5}, r"limits must be a TopicLimits, not 5: write limits=TopicLimits\("),
        ((MemoryBroker(),), {"on_error": 5}, "on_error must be a function, not 5"),
        ((MemoryBroker(),), {"on_error": coroutine_function}, "on_error must be a function that returns at once"),
    ],
)
def test_arguments_of_topics_are_checked(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Topics(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("news", int), {}, TypeError, r"codec must be a Codec, not <class 'int'>: write Json\(Move\)"),
        (("news", "json"), {}, TypeError, "codec must be a Codec, not 'json'"),
        (("news",), {"history": 100}, TypeError, r"history must be a History, not 100: write history=History\(size="),
        (("lone \ud800",), {}, ValueError, "the name of a topic must be valid Unicode: .*surrogates"),
        ((5,), {}, TypeError, "the name of a topic must be str, not int"),
    ],
)
async def test_arguments_of_topic_are_checked(
    topics: Topics, arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        topics.topic(*arguments, **options)
    assert topics.find("news") is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"since": ["epoch", 5]}, TypeError, r"since must be a Position, not \['epoch', 5\]: write Position\("),
        ({"since": Position("epoch", "5")}, TypeError, "since must be a Position, .* of str and int"),  # type: ignore[arg-type]
        ({"backlog": "1"}, TypeError, "backlog must be int, a number of bytes, not '1'"),
        ({"backlog": 1.5}, TypeError, "backlog must be int, a number of bytes, not 1.5"),
        ({"backlog": 0}, ValueError, "backlog must be at least 1 byte, not 0"),
        ({"slow": "wait"}, ValueError, "slow must be one of 'disconnect'"),
        (
            {"slow_code": 99},
            ValueError,
            "slow_code must be a close code that may be sent, such as 1013 or 4000, not 99",
        ),
        ({"slow_code": 1006}, ValueError, "slow_code must be a close code that may be sent"),
        ({"frame": "text"}, TypeError, "frame must be a function, not 'text'"),
        ({"frame": coroutine_function}, TypeError, "frame must be a function that returns at once: write `def`"),
        ({"presence_frame": coroutine_function}, TypeError, "presence_frame must be a function that returns at once"),
        ({"on_joined": coroutine_function}, TypeError, "on_joined must be a function that returns at once"),
        ({"on_gap": 5}, TypeError, "on_gap must be a function, not 5"),
        ({"on_epoch": 5}, TypeError, "on_epoch must be a function, not 5"),
    ],
)
async def test_arguments_of_join_are_checked(
    topics: Topics, channel: Channel, options: Any, error: type[Exception], message: str
) -> None:
    topic = topics.topic("news")
    with pytest.raises(error, match=message):
        await topic.join(channel, **options)
    if "since" in options or "backlog" in options:
        with pytest.raises(error, match=message):
            topic.subscribe(**options)
    if "since" in options:
        with pytest.raises(error, match=message):
            await topic.read_history(**options)
    assert topics.followed == 0
    assert topics._core.outlets == {}


async def test_arguments_of_publish_and_read_history_are_checked(topics: Topics) -> None:
    topic: Any = topics.topic("news", history=History())
    with pytest.raises(TypeError, match="key must be str, not int"):
        await topic.publish("1", key=5)
    with pytest.raises(TypeError, match="idempotency must be str, not bytes"):
        topic.publish_soon("1", idempotency=b"5")
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not '5'"):
        await topic.publish("1", timeout="5")
    for limit in (-1, "5"):
        with pytest.raises(ValueError, match="limit must be a number of publications, or None for all, not "):
            await topic.read_history(limit=limit)
    assert (await topic.read_history()).position.offset == 0


async def test_clients_are_checked(open_topics: OpenTopics) -> None:
    topics = await open_topics(limits=TopicLimits(max_publications_per_client=1))
    topic: Any = topics.topic("news")
    message = "client must be a connection of streamws, such as a Client, not 'me'; .* streamws.asgi.from_scope"
    for call in (topic.join, topic.leave, topic.presence.leave):
        with pytest.raises(TypeError, match=message):
            await call("me")
    with pytest.raises(TypeError, match=message):
        await topic.publish("1", client="me")
    with pytest.raises(TypeError, match=message):
        await topic.presence.enter("me", "ann")
    with pytest.raises(TypeError, match=message):
        topic.lost("me")


async def test_ended_clients_are_refused_with_what_they_wanted(open_topics: OpenTopics, channel: Channel) -> None:
    topics = await open_topics(limits=TopicLimits(max_publications_per_client=1))
    topic = topics.topic("news")
    channel.end()
    with pytest.raises(ConnectionClosed, match="cannot join"):
        await topic.join(channel)
    with pytest.raises(ConnectionClosed, match="cannot publish"):
        await topic.publish("1", client=channel)
    with pytest.raises(ConnectionClosed, match="cannot enter"):
        await topic.presence.enter(channel, "ann")
    await topic.leave(channel)
    await topic.presence.leave(channel)


async def test_arguments_of_presence_are_checked(topics: Topics, channel: Channel) -> None:
    presence: Any = topics.topic("news").presence
    with pytest.raises(TypeError, match="user must be str, not int"):
        await presence.enter(channel, 5)
    with pytest.raises(TypeError, match="data must be str, not dict"):
        await presence.enter(channel, "ann", {})
    with pytest.raises(TypeError, match="connection must be str, not int"):
        await presence.enter(channel, "ann", connection=5)
    assert await presence.members() == {}


def test_shared_broker_is_checked() -> None:
    with pytest.raises(TypeError, match="shared must be another MemoryBroker, not 'redis'"):
        MemoryBroker("redis")  # type: ignore[arg-type]


async def test_objects_are_described(topics: Topics, channel: Channel) -> None:
    topic = topics.topic("news", Json(int), history=History())
    await topic.join(channel)
    assert repr(topics) == "<Topics on <MemoryBroker, 1 topics>, 1 followed, open>"
    assert repr(Topics(MemoryBroker())) == "<Topics on <MemoryBroker, 0 topics>, 0 followed, not open>"
    assert repr(topic.presence) == "<Presence in 'news'>"
    async with topic.subscribe() as feed:
        await topic.publish(5)
        assert repr(feed) == "<Subscription of 'news', 1 publications wait>"
        assert isinstance(await within(anext(feed)), object)


async def test_open_connections_do_not_keep_topics_that_were_closed(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda client: client.wait_closed())
    raw = await connect(server)
    await until(lambda: len(server.clients) == 1)
    client = client_of(server, raw)
    other = Channel()
    async with Topics(MemoryBroker()) as topics:
        topic = topics.topic("news", history=History())
        await topic.join(client, since=Position("other", 1))
        await topic.join(other)
        await topic.presence.enter(client, "ann")
        await topic.publish("1")
        weak = ref(topic), ref(topics._core.broker)
        del topic
    del topics
    await iterations()
    gc.collect()
    assert [reference() for reference in weak] == [None, None]
    assert client.outcome is None
    other.end()
