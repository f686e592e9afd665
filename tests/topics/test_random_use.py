"""Random use of one topic: whatever connections and the broker do, nothing is missing in silence.

Connections join, leave, read slowly, recover and vanish, and the broker fails, hangs, loses, delivers late and twice,
and forgets, as hypothesis decides, on a loop whose time it scripts. All messages of a connection are checked.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from helpers.virtual import ALL, VirtualLoop, connected
from streamws import BrokerError, Client, ConnectionClosed, LimitExceeded, UsageError
from streamws.topics import (
    Gap,
    History,
    Joined,
    MemoryBroker,
    Position,
    PresenceEvent,
    Publication,
    Topic,
    TopicLimits,
    Topics,
)
from topics.flaky import FlakyBroker

EXAMPLES = int(os.environ.get("STREAMWS_TOPICS") or 0)
"""The number of random runs; 0 for the few of a usual run, which are always the same."""

LIMITS = TopicLimits(max_held=1500, broker_timeout=10.0)
BACKLOG = 1000
HISTORY = History(size=8, seconds=100)

fuzz = settings(
    max_examples=EXAMPLES or 40,
    stateful_step_count=60,
    deadline=None,
    report_multiple_bugs=False,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)

choices = st.integers(0, 7)
feed_policies: st.SearchStrategy[Any] = st.sampled_from(["wait", "disconnect", "drop-oldest", "drop-newest", "latest"])
policies: st.SearchStrategy[Any] = st.sampled_from(["disconnect", "drop-oldest", "drop-newest", "latest"])


def frame(publication: Publication[str | bytes]) -> str:
    epoch, offset = publication.position
    return f"{epoch}/{offset}/{publication.payload!s}"


def presence_frame(event: PresenceEvent) -> str:
    return f"{event.kind}/{event.connection}/{event.user}"


class Person:
    """One connection: its two ends, and what it has received and was told."""

    def __init__(self, loop: VirtualLoop, slow: Any, since: Position | None) -> None:
        ends = connected(loop, ("streamws", "streamws"), limits={"write_high": 200, "write_low": 50})
        self.client: Client = ends[0].client
        self.transport = ends[0].transport
        self.peer: Client = ends[1].client
        self.peer_transport = ends[1].transport
        self.slow = slow
        self.since = since
        self.joined: Joined | None = None
        self.received: list[Position] = []
        self.payloads: list[str] = []
        self.gaps: list[Gap] = []
        self.present: dict[str, str] | None = None
        """Who is present, as far as the connection was told: the users, by their connections."""
        self.events = 0
        self.follows = False
        """Whether it has joined, and was not told to leave."""
        self.gone = False
        loop.create_task(self.read())

    async def read(self) -> None:
        try:
            while True:
                epoch, offset, payload = str(await self.peer.read_message()).split("/")
                if epoch in ("join", "leave"):
                    self.note_presence(epoch, offset, payload)
                    continue
                self.received.append(Position(epoch, int(offset)))
                self.payloads.append(payload)
        except ConnectionClosed:
            pass

    def note_presence(self, kind: str, connection: str, user: str) -> None:
        self.events += 1
        if self.present is None:
            return
        if kind == "join":
            self.present[connection] = user
        else:
            self.present.pop(connection, None)

    @property
    def position(self) -> Position | None:
        """The position from which a new connection of the same person continues."""
        if self.received:
            return self.received[-1]
        return self.joined.position if self.joined else None


class Listener:
    """A subscription of the program, which reads items when it is allowed to."""

    def __init__(self, topic: Topic[str | bytes], slow: Any, since: Position | None) -> None:
        self.feed = topic.subscribe(since=since, slow=slow, backlog=BACKLOG)
        self.slow = slow
        self.since = since
        self.joined: Joined | None = None
        self.items: list[Publication[str | bytes] | Gap] = []
        self.allowed = asyncio.Semaphore(0)
        self.stopping = False
        self.ended = False
        """Whether it reads no more."""

    async def read(self) -> None:
        try:
            async with self.feed:
                self.joined = self.feed.joined
                while True:
                    await self.allowed.acquire()
                    if self.stopping:
                        break
                    self.items.append(await anext(self.feed))
        except (BrokerError, UsageError, LimitExceeded, StopAsyncIteration):
            pass
        finally:
            self.ended = True

    def allow(self, count: int) -> None:
        """Let some more items be read."""
        for _ in range(count):
            self.allowed.release()


class TopicUse(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.memory = MemoryBroker()
        self.flaky = FlakyBroker(self.memory)
        self.topics = Topics(self.flaky, limits=LIMITS)
        self.publisher = Topics(self.memory)
        self.run(self.topics.__aenter__())
        self.run(self.publisher.__aenter__())
        history = HISTORY
        self.topic = self.topics.topic("t", history=history)
        self.source = self.publisher.topic("t", history=history)
        self.epochs: list[str] = []
        self.log: dict[Position, str] = {}
        self.people: list[Person] = []
        self.listeners: list[Listener] = []
        self.presence: dict[Client, str] = {}
        self.count = 0
        self.works = True
        """Whether the broker neither hangs nor is down."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = self.loop.create_task(coroutine)
        self.loop.settle()
        assert task.done()
        return task.result()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, as the network does."""
        self.loop.call_soon(function)
        self.loop.settle()

    def someone(self, choice: int) -> Person | None:
        people = [person for person in self.people if not person.gone]
        return people[choice % len(people)] if people else None

    # Connections -----------------------------------------------------------------------------------------------

    @rule(slow=policies)
    def join(self, slow: Any) -> None:
        self.start(Person(self.loop, slow, None))

    @rule(choice=choices, slow=policies)
    @precondition(lambda self: self.people)
    def come_back(self, choice: int, slow: Any) -> None:
        earlier = self.people[choice % len(self.people)]
        self.start(Person(self.loop, slow, earlier.position))

    @rule(back=st.integers(0, 12), slow=policies)
    @precondition(lambda self: self.log)
    def come_back_from_anywhere(self, back: int, slow: Any) -> None:
        positions = [*self.log]
        self.start(Person(self.loop, slow, positions[max(0, len(positions) - 1 - back)]))

    def start(self, person: Person) -> None:
        if len([person for person in self.people if not person.gone]) >= 6:
            self.vanish(0)
        self.people.append(person)
        self.loop.create_task(self.join_topic(person))
        self.loop.settle()

    async def join_topic(self, person: Person) -> None:
        def on_gap(client: Client, gap: Gap) -> None:
            person.gaps.append(gap)

        try:
            person.joined = await self.topic.join(
                person.client,
                since=person.since,
                slow=person.slow,
                backlog=BACKLOG,
                frame=frame,
                on_gap=on_gap,
                presence_frame=presence_frame,
            )
            person.follows = True
            connections = await self.topic.presence.connections()
            person.present = {id: connection.user for id, connection in connections.items()}
        except (BrokerError, UsageError, ConnectionClosed):
            pass

    @rule(choice=choices)
    def leave(self, choice: int) -> None:
        person = self.someone(choice)
        if person is not None:
            self.loop.create_task(self.leave_topic(person))
            self.loop.settle()

    @rule(slow=policies, steps=st.integers(1, 5))
    def join_and_leave_at_once(self, slow: Any, steps: int) -> None:
        person = Person(self.loop, slow, None)
        self.people.append(person)
        self.loop.create_task(self.join_topic(person))
        for _ in range(steps):
            self.loop.iterate()
        self.loop.create_task(self.leave_topic(person))
        self.loop.settle()

    async def leave_topic(self, person: Person) -> None:
        person.follows = False
        self.presence.pop(person.client, None)
        await self.topic.leave(person.client)

    @rule(choice=choices)
    def vanish(self, choice: int) -> None:
        person = self.someone(choice)
        if person is not None:
            person.gone = True
            person.follows = False
            self.presence.pop(person.client, None)
            self.call(lambda: person.transport.drop(None, keep=0))
            self.call(lambda: person.peer_transport.drop(None, keep=0))

    @rule(choice=choices, size=st.sampled_from([50, 300, ALL, ALL]))
    def read(self, choice: int, size: int) -> None:
        person = self.someone(choice)
        if person is not None:
            self.call(lambda: person.transport.move(size))
            self.call(lambda: person.peer_transport.move(ALL))

    @rule()
    def read_all(self) -> None:
        for _ in range(50):
            self.call(self.move_all)

    def move_all(self) -> None:
        for person in self.people:
            for end in person.transport, person.peer_transport:
                if end.can_move and not (end.lost or end.other.lost):
                    end.move(ALL)

    # The program itself ----------------------------------------------------------------------------------------

    @rule(slow=feed_policies, back=st.none() | st.integers(0, 12))
    def subscribe(self, slow: Any, back: int | None) -> None:
        if len([listener for listener in self.listeners if not listener.ended]) >= 4:
            self.unsubscribe(0)
        since = None
        if back is not None and self.log:
            positions = [*self.log]
            since = positions[max(0, len(positions) - 1 - back)]
        listener = Listener(self.topic, slow, since)
        self.listeners.append(listener)
        self.loop.create_task(listener.read())
        self.loop.settle()

    @rule(choice=choices, count=st.integers(1, 6))
    @precondition(lambda self: self.listeners)
    def read_items(self, choice: int, count: int) -> None:
        self.listeners[choice % len(self.listeners)].allow(count)
        self.loop.settle()

    @rule(choice=choices)
    @precondition(lambda self: self.listeners)
    def unsubscribe(self, choice: int) -> None:
        listeners = [listener for listener in self.listeners if not listener.ended]
        if listeners:
            listener = listeners[choice % len(listeners)]
            listener.stopping = True
            listener.allow(1)
            self.loop.settle()

    # Presence --------------------------------------------------------------------------------------------------

    @rule(choice=choices, user=st.sampled_from(["ann", "bob"]))
    def enter(self, choice: int, user: str) -> None:
        person = self.someone(choice)
        if person is not None:
            self.loop.create_task(self.enter_topic(person, user))
            self.loop.settle()

    async def enter_topic(self, person: Person, user: str) -> None:
        self.presence[person.client] = user
        try:
            await self.topic.presence.enter(person.client, user)
        except (BrokerError, ConnectionClosed):
            if self.presence.get(person.client) == user:
                self.presence.pop(person.client)

    @rule(choice=choices)
    def exit(self, choice: int) -> None:
        person = self.someone(choice)
        if person is not None:
            self.presence.pop(person.client, None)
            self.loop.create_task(self.topic.presence.leave(person.client))
            self.loop.settle()

    # Publications ----------------------------------------------------------------------------------------------

    @rule(count=st.sampled_from([1, 1, 1, 2, 5, 20]), key=st.sampled_from([None, "a", "b"]))
    def publish(self, count: int, key: str | None) -> None:
        for _ in range(count):
            self.count += 1
            payload = f"{self.count}:" + "x" * 80
            position = self.run(self.source.publish(payload, key=key)).position
            assert position is not None
            if position.epoch not in self.epochs:
                self.epochs.append(position.epoch)
            self.log[position] = payload

    @rule(count=st.integers(1, 3))
    def publish_some(self, count: int) -> None:
        self.publish(count, None)

    # The broker ------------------------------------------------------------------------------------------------

    @rule(count=st.sampled_from([1, 2, 10]))
    def lose(self, count: int) -> None:
        self.flaky.lose = count

    @rule(repeat=st.booleans(), late=st.booleans())
    def deliver_otherwise(self, repeat: bool, late: bool) -> None:
        self.flaky.repeat = repeat
        self.flaky.late = late
        if not late:
            self.deliver(None)

    @rule(count=st.integers(1, 5))
    @precondition(lambda self: self.flaky.late)
    def deliver(self, count: int | None) -> None:
        self.flaky.deliver(count)
        self.loop.settle()

    @rule(fault=st.sampled_from(["hang", "fail", "forget"]))
    @precondition(lambda self: self.works)
    def break_down(self, fault: str) -> None:
        self.works = fault == "forget"
        getattr(self.flaky, fault)()

    @rule()
    @precondition(lambda self: not self.works)
    def work_again(self) -> None:
        self.works = True
        self.flaky.go_on()
        self.flaky.recover()
        self.loop.settle()

    @rule()
    @precondition(lambda self: not self.works)
    def go_on_for_a_moment(self) -> None:
        """Let the calls that wait go on, and hang again: only some of their steps are made."""
        self.flaky.go_on()
        for _ in range(2):
            self.loop.iterate()
        self.flaky.hang()

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 150.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    # What must be so -------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_bounded(self) -> None:
        for audience in self.topics._core.audiences.values():
            assert audience._held.size <= LIMITS.max_held
            assert audience._recent.size <= LIMITS.max_held
        for outlet in self.topics._core.outlets.values():
            for follower in outlet.followers.values():
                assert follower.size <= BACKLOG
                assert len(follower.waiting or ()) <= BACKLOG // 64 + HISTORY.size + 1
        for listener in self.listeners:
            assert listener.feed._size <= BACKLOG
            assert len(listener.feed._ready) <= BACKLOG // 64 + HISTORY.size + 1

    @invariant()
    def nothing_was_logged(self) -> None:
        assert self.loop.errors == []

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.loop.end()
        assert self.loop.errors == []

    def finish(self) -> None:
        for listener in self.listeners:
            listener.allow(10_000)
        self.heal()
        self.count += 1
        self.publish(1, None)
        last = next(reversed(self.log))
        self.read_all()
        connections = self.run(self.memory.connections("t"))
        present = {id: connection.user for id, connection in connections.items()}
        for person in self.people:
            self.check(person, last)
            if person.present is not None and person.follows and person.slow == "disconnect":
                assert person.client.outcome or person.present == present
        for listener in self.listeners:
            self.check_items(listener, last)
            listener.stopping = True
            listener.feed.end()
        self.loop.settle()
        assert all(listener.ended for listener in self.listeners)
        # Presence.
        users = [user for client, user in self.presence.items() if client.outcome is None]
        assert sorted(present.values()) == sorted(users)
        # Nothing is left when all have gone.
        while self.someone(0) is not None:
            self.vanish(0)
        assert self.run(self.memory.connections("t")) == {}
        assert self.topics._core.outlets == {}
        for _ in range(4):
            self.pass_time(200)
        assert self.memory.kept == 0
        assert self.topics.followed == 0
        self.run(self.topics.__aexit__(None, None, None))
        self.run(self.publisher.__aexit__(None, None, None))

    def heal(self) -> None:
        """Let the broker work and everyone read."""
        self.flaky.lose = 0
        self.deliver_otherwise(False, False)
        self.work_again()
        for _ in range(4):
            self.pass_time(5.0)
            self.read_all()

    def place(self, position: Position) -> tuple[int, int]:
        """Return something that grows from one publication to the next one."""
        return self.epochs.index(position.epoch) if position.epoch in self.epochs else -1, position.offset

    def check(self, person: Person, last: Position) -> None:
        received = person.received
        places = [self.place(position) for position in received]
        assert places == sorted(set(places)), "order is kept, and nothing arrives twice"
        assert person.payloads == [self.log[position] for position in received]
        joined = person.joined
        if joined is None:
            assert not received
            return
        start = joined.position
        if person.since is not None:
            if not joined.recovered:
                person.gaps.append(Gap(person.since))
            start = person.since
        told = {gap.since for gap in person.gaps}
        before = start
        for position in received:
            adjoining = position == Position(before.epoch, before.offset + 1)
            if not adjoining and person.slow != "latest":
                assert before in told, f"nothing tells that something is missing between {before} and {position}"
            before = position
        if person.follows and person.client.outcome is None:
            if person.slow == "drop-newest" and before in told:
                return  # it was dropped, because a recovery has delivered many at once
            assert received, "the last publication was received"
            assert received[-1] == last

    def check_items(self, listener: Listener, last: Position) -> None:
        joined = listener.joined
        if joined is None:
            assert not listener.items
            return
        before = joined.position if listener.since is None else listener.since
        gap: Gap | None = None
        received: list[Position] = []
        for item in listener.items:
            if isinstance(item, Gap):
                if gap is None and listener.slow != "latest":
                    assert item.since == before, "a gap begins behind the last publication"
                gap = item
                continue
            position = item.position
            if position != Position(before.epoch, before.offset + 1) and listener.slow != "latest":
                assert gap, f"nothing tells that something is missing between {before} and {position}"
            gap = None
            before = position
            received.append(position)
            assert item.payload == self.log[position]
        places = [self.place(position) for position in received]
        assert places == sorted(set(places)), "order is kept, and nothing arrives twice"
        assert listener.feed.lost == 0 or listener.slow != "wait"
        assert listener.feed.lost <= self.count - len(received)
        if not listener.ended:
            if listener.slow == "drop-newest" and gap is not None:
                return  # it was dropped, because a recovery has delivered many at once
            assert received, "the last publication was received"
            assert received[-1] == last


def test_nothing_is_missing_in_silence_whatever_happens() -> None:
    run_state_machine_as_test(TopicUse, settings=fuzz)
