"""Presence: who is in a topic, joins and leaves, and connections that vanish."""

import asyncio

import pytest

from helpers.fixtures import Connect, Serve, client_of
from helpers.waiting import iterations, until, within
from streamws import BrokerError, BrokerUnavailable, ConnectionClosed
from streamws.topics import Connection, Member, MemoryBroker, PresenceCount, PresenceEvent, Topic, Topics
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.flaky import FlakyBroker


async def until_present(room: Topic[str | bytes], users: list[str]) -> None:
    """Wait until some users are present, and no others."""
    async with asyncio.timeout(10):
        while [*await room.presence.members()] != users:  # noqa: ASYNC110 (the broker has no event for it)
            await asyncio.sleep(0.01)


def described(event: PresenceEvent) -> str:
    return f"{event.kind} {event.user} {event.data} {event.changed}"


async def test_members_have_users_and_data(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    other = Channel()
    await room.presence.enter(channel, "ann", "busy")
    await room.presence.enter(other, "bob")
    members = await room.presence.members()
    assert [*members] == ["ann", "bob"]
    assert members["ann"] == Member("ann", "busy", members["ann"].connections)
    assert [*members["ann"].connections.values()] == ["busy"]
    assert await room.presence.count() == PresenceCount(2, 2)
    other.end()
    await until_present(room, ["ann"])


async def test_several_connections_of_one_user_are_one_member(topics: Topics) -> None:
    room = topics.topic("room")
    channels = [Channel() for _ in range(3)]
    for number, channel in enumerate(channels):
        await room.presence.enter(channel, "ann", str(number), connection=f"tab {number}")
    assert await room.presence.members() == {"ann": Member("ann", "2", {"tab 0": "0", "tab 1": "1", "tab 2": "2"})}
    assert await room.presence.count() == PresenceCount(1, 3)
    assert (await room.presence.connections())["tab 1"] == Connection("ann", "1")
    for channel in channels:
        channel.end()
    await until_present(room, [])


async def test_followers_get_joins_and_leaves_in_order(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    await room.join(channel, presence_frame=described)
    one, two = Channel(), Channel()
    await room.presence.enter(one, "ann", "1")
    await room.publish("hello")
    await room.presence.enter(two, "ann", "2")
    await room.presence.leave(one)
    two.end()
    await until(lambda: len(channel.sent) == 5)
    assert channel.sent == ["join ann 1 True", "hello", "join ann 2 False", "leave ann 1 False", "leave ann 2 True"]
    one.end()


async def test_followers_without_a_function_get_no_events(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    await room.join(channel)
    await room.presence.enter(channel, "ann")
    await room.publish("1")
    await until(lambda: channel.sent == ["1"])


async def test_function_that_raises_is_logged(
    topics: Topics, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(event: PresenceEvent) -> str:
        raise ValueError("no words for that")

    room = topics.topic("room")
    await room.join(channel, presence_frame=bad)
    await room.presence.enter(channel, "ann")
    assert "no words for that" in caplog.text


async def test_leaving_the_topic_ends_the_presence(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    await room.join(channel)
    await room.presence.enter(channel, "ann")
    await room.leave(channel)
    assert await room.presence.members() == {}
    assert topics._core.outlets == {}


async def test_data_is_replaced_without_events(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    events = Channel()
    await room.join(events, presence_frame=described)
    await room.presence.enter(channel, "ann", "busy")
    await room.presence.enter(channel, "ann", "idle")
    assert (await room.presence.members())["ann"].data == "idle"
    await room.presence.enter(channel, "bob", "new")
    await until(lambda: len(events.sent) == 3)
    assert events.sent == ["join ann busy True", "leave ann idle True", "join bob new True"]
    events.end()


async def test_vanished_connection_is_not_present(topics: Topics, serve: Serve, connect: Connect) -> None:
    room = topics.topic("room")
    server = await serve(lambda client: client.wait_closed())
    raw = await connect(server)
    await until(lambda: len(server.clients) == 1)
    client = client_of(server, raw)
    await room.presence.enter(client, "ann")
    assert [*await room.presence.members()] == ["ann"]
    raw.reset()
    await until_present(room, [])
    with pytest.raises(ConnectionClosed):
        await room.presence.enter(client, "ann")


async def test_connection_that_vanishes_while_it_enters_is_not_present(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    room = topics.topic("room")
    flaky.hang()
    task = asyncio.create_task(room.presence.enter(channel, "ann"))
    await iterations()
    channel.end()
    await iterations()
    flaky.go_on()
    await within(task)
    assert await room.presence.members() == {}


async def test_connection_that_vanishes_while_the_broker_is_down_leaves_later(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, fast_timers: None
) -> None:
    topics, watcher = await open_topics(flaky), await open_topics(memory)
    await topics.topic("room").presence.enter(channel, "ann")
    flaky.fail()
    channel.end()
    await iterations()
    room = watcher.topic("room")
    assert [*await room.presence.members()] == ["ann"]
    flaky.recover()
    await until_present(room, [])


async def test_leaving_does_not_fail_while_the_broker_is_down(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel, fast_timers: None
) -> None:
    topics = await open_topics(flaky)
    room = topics.topic("room")
    await room.presence.leave(channel)  # not present
    await room.presence.enter(channel, "ann")
    flaky.fail()
    await room.presence.leave(channel)
    flaky.recover()
    await until_present(room, [])


async def test_errors_of_the_broker_are_raised(open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel) -> None:
    topics = await open_topics(flaky)
    room = topics.topic("room")
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await room.presence.enter(channel, "ann")
    with pytest.raises(BrokerUnavailable):
        await room.presence.members()
    flaky.error = OSError("reset")
    with pytest.raises(BrokerError, match="cannot ask who is in topic 'room': OSError: reset"):
        await room.presence.count()
    flaky.error = None
    flaky.recover()
    assert await room.presence.members() == {}


async def test_closing_the_topics_ends_the_presence(memory: MemoryBroker, channel: Channel) -> None:
    async with Topics(memory) as watcher:
        async with Topics(MemoryBroker(memory)) as topics:
            await topics.topic("room").presence.enter(channel, "ann")
            assert [*await watcher.topic("room").presence.members()] == ["ann"]
        assert await watcher.topic("room").presence.members() == {}
