"""Presence: who is in a topic, joins and leaves, and connections that vanish."""

import asyncio
from collections.abc import Mapping
from random import Random

import pytest

from helpers.fixtures import Connect, Serve, client_of
from helpers.waiting import cancelled, iterations, until, within
from streamws import BrokerError, BrokerUnavailable, ConnectionClosed, UsageError
from streamws.topics import (
    Connection,
    History,
    Member,
    MemoryBroker,
    Page,
    Position,
    PresenceCount,
    PresenceEvent,
    Topic,
    TopicLimits,
    Topics,
)
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
    for _ in range(2):
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


async def test_connection_that_could_not_enter_leaves_no_task_behind(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    room = (await open_topics(flaky)).topic("room")
    tasks = asyncio.all_tasks()
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await room.presence.enter(channel, "ann")
    await iterations()
    assert asyncio.all_tasks() == tasks


async def test_connection_whose_change_was_not_possible_leaves_when_the_broker_is_available(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, fast_timers: None
) -> None:
    topics, watcher = await open_topics(flaky), await open_topics(memory)
    await topics.topic("room").presence.enter(channel, "ann")
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topics.topic("room").presence.enter(channel, "bob")
    flaky.recover()
    await until_present(watcher.topic("room"), [])


async def test_closing_the_topics_ends_the_presence(memory: MemoryBroker, channel: Channel) -> None:
    async with Topics(memory) as watcher:
        async with Topics(MemoryBroker(memory)) as topics:
            await topics.topic("room").presence.enter(channel, "ann")
            assert [*await watcher.topic("room").presence.members()] == ["ann"]
        assert await watcher.topic("room").presence.members() == {}


# What followers were not told -----------------------------------------------------------------------------------


async def test_followers_are_told_of_changes_while_the_broker_was_gone(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    connections = [Channel() for _ in range(6)]
    await others.presence.enter(connections[0], "ann", "1", connection="a1")
    await room.join(channel, presence_frame=described)
    await others.presence.enter(connections[1], "ann", "2", connection="a2")
    await others.presence.enter(connections[2], "bob", "3", connection="b")
    await others.presence.enter(connections[3], "eve", "4", connection="e")
    await until(lambda: len(channel.sent) == 3)
    channel.sent.clear()
    flaky.fail()
    await others.presence.leave(connections[0])
    await others.presence.leave(connections[1])
    await others.presence.enter(connections[2], "bea", "3", connection="b")
    await others.presence.enter(connections[4], "eve", "5", connection="e2")
    await others.presence.enter(connections[5], "joe", "6", connection="j")
    flaky.recover()
    await until(lambda: len(channel.sent) == 6)
    assert channel.sent == [
        "leave ann 1 False",
        "leave ann 2 True",
        "leave bob 3 True",
        "join bea 3 True",
        "join eve 5 False",
        "join joe 6 True",
    ]
    await others.presence.leave(connections[3])
    await until(lambda: channel.sent[6:] == ["leave eve 4 False"])
    flaky.receiver.lost()
    await iterations()
    assert len(channel.sent) == 7
    for connection in connections:
        connection.end()


async def test_followers_that_come_back_are_told_of_those_who_came_meanwhile(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one = Channel()
    await room.join(channel, presence_frame=described)
    flaky.hang()
    await room.leave(channel)
    await iterations()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    flaky.subscribing.clear()
    flaky.go_on()
    await until(lambda: flaky.calls[-2:] == ["unsubscribe room", "subscribe room"])
    await others.presence.enter(one, "ann")
    flaky.subscribing.set()
    await within(joining)
    await others.presence.leave(one)
    await until(lambda: channel.sent == ["leave ann  True"])


class Answering(FlakyBroker):
    """A broker that answers later who is present."""

    def __init__(self, memory: MemoryBroker) -> None:
        super().__init__(memory)
        self.answer = asyncio.Event()
        self.answer.set()
        self.asked = 0

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        self.asked += 1
        connections = await super().connections(topic)
        await self.answer.wait()
        return connections


async def test_events_that_arrive_while_the_topic_asks_who_is_present_are_told_once(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    broker = Answering(memory)
    topics, other_process = await open_topics(broker), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, two, three = (Channel() for _ in range(3))
    # While a follower joins.
    broker.answer.clear()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    await others.presence.enter(one, "ann")
    broker.answer.set()
    await within(joining)
    broker.receiver.lost()
    await iterations()
    assert channel.sent == []  # it has joined afterwards
    # While it recovers.
    broker.answer.clear()
    broker.receiver.lost()
    await iterations()
    await others.presence.enter(two, "bob")
    await others.presence.leave(one)
    await others.presence.enter(three, "joe")
    await others.presence.leave(three)
    assert channel.sent == []
    broker.answer.set()
    expected = ["join bob  True", "leave ann  True", "join joe  True", "leave joe  True"]
    await until(lambda: len(channel.sent) == 4)
    assert channel.sent == expected
    await iterations()
    assert broker.asked == 3
    two.end()


async def test_whether_a_member_has_come_or_gone_is_right_after_a_recovery(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    """The answer of the broker is newer than the events that arrive during the recovery: their `changed` is wrong."""
    broker = Answering(memory)
    topics, other_process = await open_topics(broker), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, two = Channel(), Channel()
    await room.join(channel, presence_frame=described)
    await others.presence.enter(one, "ann", "1")
    await until(lambda: channel.sent == ["join ann 1 True"])
    broker.hang()
    broker.receiver.lost()
    await iterations()
    await others.presence.enter(two, "ann", "2")
    await others.presence.leave(one)
    await others.presence.leave(two)
    broker.go_on()
    await until(lambda: len(channel.sent) == 4)
    assert channel.sent[1:] == ["leave ann 1 True", "join ann 2 True", "leave ann 2 True"]


async def test_event_that_is_held_back_before_a_loss_is_not_told(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, two = Channel(), Channel()
    await room.join(channel, presence_frame=described)
    flaky.hang()
    flaky.receiver.lost()
    await iterations()
    await others.presence.enter(one, "ann")
    flaky.down = True
    await others.presence.leave(one)
    flaky.recover()
    flaky.go_on()
    await others.presence.enter(two, "bob")
    await until(lambda: channel.sent == ["join bob  True"])
    two.end()


async def test_event_that_a_frame_function_causes_during_a_recovery_is_told(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")

    def welcome(event: PresenceEvent) -> str:
        if event.user == "ann":
            topics._core.presence_changed("room", PresenceEvent("join", "bob", "", "id", True))
        return described(event)

    await room.join(channel, presence_frame=welcome)
    flaky.fail()
    one = Channel()
    await others.presence.enter(one, "ann")
    flaky.recover()
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == ["join ann  True", "join bob  True"]


async def test_leave_of_a_connection_that_was_only_seen_is_told(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    """The application has asked who is present, and both events are lost."""
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, two = Channel(), Channel()
    await room.join(channel, presence_frame=described)
    flaky.late = True
    await others.presence.enter(one, "ann")
    await others.presence.enter(two, "bob")
    assert [*await room.presence.members()] == ["ann", "bob"]
    flaky.deliver(1)
    flaky.fail()
    await others.presence.leave(one)
    await others.presence.leave(two)
    flaky.recover()
    await until(lambda: len(channel.sent) == 3)
    assert sorted(map(str, channel.sent)) == ["join ann  True", "leave ann  True", "leave bob  True"]
    flaky.receiver.lost()
    await iterations()
    assert len(channel.sent) == 3


async def test_answer_lacks_connections_whose_leave_was_told_meanwhile(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    class LateBroker(FlakyBroker):
        answering = asyncio.Event()

        async def connections(self, topic: str) -> Mapping[str, Connection]:
            answer = dict(await super().connections(topic))
            await self.answering.wait()
            return answer

    flaky = LateBroker(memory)
    flaky.answering.set()
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, two = Channel(), Channel()
    await room.join(channel, presence_frame=described)
    await others.presence.enter(one, "ann", connection="1")
    await others.presence.enter(two, "bob", connection="2")
    flaky.answering.clear()
    asking = asyncio.create_task(room.presence.members())
    await iterations()
    await others.presence.leave(one)
    await others.presence.leave(two)
    await others.presence.enter(two, "bob", connection="2")
    flaky.answering.set()
    assert [*await within(asking)] == ["bob"]
    flaky.receiver.lost()
    await iterations()
    assert [str(text).split()[:2] for text in channel.sent] == [
        ["join", "ann"], ["join", "bob"], ["leave", "ann"], ["leave", "bob"], ["join", "bob"]
    ]  # fmt: skip


async def test_user_of_a_connection_whose_end_was_lost_is_replaced(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel
) -> None:
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one = Channel()
    await room.join(channel, presence_frame=described)
    await others.presence.enter(one, "ann", connection="c")
    flaky.down = True
    await others.presence.leave(one)
    flaky.down = False
    await others.presence.enter(one, "bob", connection="c")
    await until(lambda: channel.sent == ["join ann  True", "leave ann  True", "join bob  True"])


class View:
    """Who is present, as a follower is told."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.wrong: list[PresenceEvent] = []

    def frame(self, event: PresenceEvent) -> str:
        known = self.users.pop(event.connection, None)
        others = event.user in self.users.values()
        if known != (None if event.kind == "join" else event.user) or event.changed == others:
            self.wrong.append(event)
        if event.kind == "join":
            self.users[event.connection] = event.user
        return ""


@pytest.mark.parametrize("seed", range(10))
async def test_followers_know_who_is_present_whatever_the_broker_does(
    open_topics: OpenTopics, memory: MemoryBroker, flaky: FlakyBroker, channel: Channel, fast_timers: None, seed: int
) -> None:
    random = Random(seed)
    topics, other_process = await open_topics(flaky), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    view = View()
    await room.join(channel, presence_frame=view.frame)
    connections = {str(number): Channel() for number in range(6)}
    for _ in range(100):
        id = random.choice([*connections])
        action = random.choice(
            ["enter", "enter", "enter", "leave", "leave", "fail", "recover", "recover", "hang", "go_on"]
        )
        if action == "enter":
            await others.presence.enter(connections[id], random.choice("ab"), connection=id)
        elif action == "leave":
            await others.presence.leave(connections[id])
        else:
            getattr(flaky, action)()
        await iterations(random.choice([0, 1, 3]))
    flaky.go_on()
    flaky.recover()
    present = {id: connection.user for id, connection in (await memory.connections("room")).items()}
    await until(lambda: view.users == present)
    await until(lambda: not topics._core.audiences["room"]._recovery)
    assert view.users == present
    assert view.wrong == []


async def test_loss_while_a_follower_joins_makes_it_ask_again(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    broker = Answering(memory)
    topics, other_process = await open_topics(broker), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    broker.answer.clear()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    broker.down = True
    one = Channel()
    await others.presence.enter(one, "ann")
    broker.recover()
    broker.answer.set()
    await within(joining)
    assert broker.asked == 2
    await others.presence.leave(one)
    await until(lambda: channel.sent == ["leave ann  True"])


async def test_events_that_are_held_back_are_bounded(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    broker = Answering(memory)
    topics = await open_topics(broker, limits=TopicLimits(max_held=640))
    other_process = await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    broker.answer.clear()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    connections = [Channel() for _ in range(30)]
    audience = topics._core.audiences["room"]
    for number, connection in enumerate(connections):
        await others.presence.enter(connection, f"{number:02}")
        assert len(audience._presence._held) <= 10
    broker.answer.set()
    await within(joining)
    assert broker.asked == 2
    broker.answer.clear()
    broker.receiver.lost()
    await iterations()
    for connection in connections:
        await others.presence.leave(connection)
        assert len(audience._presence._held) <= 10
    broker.answer.set()
    await until(lambda: len(channel.sent) == 30)
    assert sorted(map(str, channel.sent)) == [f"leave {number:02}  True" for number in range(30)]


async def test_failure_to_ask_who_is_present_is_raised(
    open_topics: OpenTopics, flaky: FlakyBroker, channel: Channel
) -> None:
    topics = await open_topics(flaky)
    other = Channel()
    await topics.topic("room").join(other)
    flaky.fail()
    with pytest.raises(BrokerUnavailable):
        await topics.topic("room").join(channel, presence_frame=described)
    flaky.recover()
    await topics.topic("room").join(channel, presence_frame=described)
    await topics.topic("room").presence.enter(channel, "ann")
    await until(lambda: channel.sent == ["join ann  True"])
    other.end()


async def test_events_that_arrive_before_a_failure_to_ask_are_forgotten(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    broker = Answering(memory)
    topics, other_process = await open_topics(broker), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one, other = Channel(), Channel()
    await room.join(other)
    broker.answer.clear()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    await others.presence.enter(one, "ann")
    joining.cancel()
    assert await cancelled(joining)
    await others.presence.leave(one)
    broker.answer.set()
    await room.join(channel, presence_frame=described)
    broker.receiver.lost()
    await iterations()
    assert channel.sent == []
    other.end()


async def test_follower_that_leaves_while_the_topic_asks_who_is_present(
    open_topics: OpenTopics, memory: MemoryBroker, channel: Channel
) -> None:
    broker = Answering(memory)
    topics, other_process = await open_topics(broker), await open_topics(memory)
    room, others = topics.topic("room"), other_process.topic("room")
    one = Channel()
    broker.answer.clear()
    leaving = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    broker.subscribing.clear()
    broker.hang()
    await room.leave(channel)
    await iterations()
    joining = asyncio.create_task(room.join(channel, presence_frame=described))
    await iterations()
    broker.go_on()
    await until(lambda: broker.calls[-2:] == ["unsubscribe room", "subscribe room"])
    await others.presence.enter(one, "ann")
    broker.answer.set()
    with pytest.raises(UsageError, match="left topic 'room' while joining"):
        await within(leaving)
    broker.subscribing.set()
    await within(joining)
    await others.presence.leave(one)
    await until(lambda: channel.sent == ["leave ann  True"])


async def test_presence_events_that_are_dropped_are_a_gap(topics: Topics, channel: Channel) -> None:
    room = topics.topic("room")
    gaps: list[int] = []
    channel.stick()
    await room.join(
        channel,
        presence_frame=described,
        slow="drop-oldest",
        backlog=200,
        on_gap=lambda _, gap: gaps.append(gap.since.offset),
    )
    await room.publish("1")
    await iterations()
    others = [Channel() for _ in range(4)]
    for other in others:
        await room.presence.enter(other, "ann")
    assert room.lost(channel) == 2
    assert gaps == [1]
    channel.move()
    await until(lambda: channel.sent == ["1", "join ann  False", "join ann  False"])
    for other in others:
        other.end()


class Refusing(FlakyBroker):
    """A broker that tells why it has failed."""

    reason = OSError("the network is down")

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        raise BrokerUnavailable("no connection") from self.reason

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        raise BrokerUnavailable("no connection") from self.reason


async def test_error_of_a_broker_keeps_its_cause(open_topics: OpenTopics, memory: MemoryBroker) -> None:
    broker = Refusing(memory)
    room = (await open_topics(broker)).topic("room")
    for asking in (room.presence.connections(), room.read_history(), room.join(Channel(), presence_frame=described)):
        with pytest.raises(BrokerUnavailable, match=r"^no connection$") as caught:
            await asking
        assert caught.value.__cause__ is broker.reason
