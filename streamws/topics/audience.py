"""`Audience`: the followers of one topic in this process."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from ..errors import BrokerError, BrokerUnavailable, UsageError
from ..messages.codec import Codec
from ..options import TopicLimits
from ..streams.shared import SharedMessage
from .ahead import Ahead, Pages
from .broker import Broker, Page
from .broker_subscription import BrokerSubscription
from .counting import Counts
from .framing import Framing
from .group import Frame, Group
from .held import Held
from .outlet import Follower
from .presence_changes import PresenceChanges
from .retrying import Waits, ask, log_retry
from .sending import Feed, Sender
from .values import Connection, Gap, History, Joined, Position, PresenceEvent, Publication, Record

_MOST_ATTEMPTS = 5
"""The most attempts of a follower to join. The next one is made if the history that it read may lack something."""


class AnyTopic(Protocol):
    """A `Topic` with messages of any type."""

    @property
    def name(self) -> str: ...

    @property
    def codec(self) -> Codec[Any, Any]: ...

    @property
    def history(self) -> History | None: ...


Replay = Callable[[Joined, list[Publication[Any]]], None]
"""Takes the publications that a new follower has missed, instead of the follower itself."""


class Audience:
    """The followers of one topic in this process.

    All live followers have got all publications up to `position`. A follower that joins reads the history after the
    subscription has begun. It gets what it has missed and becomes live in one step, so that no publication comes in
    between. If the history was newer than the last delivery of the broker, the follower is ahead for a while.

    If the broker has lost publications, the audience holds back what arrives, reads the history, and delivers both. It
    tells of a gap where publications are still missing. It also compares who is present with what its followers were
    told.
    """

    __slots__ = (
        "_again",
        "_ahead",
        "_broker",
        "_closed",
        "_counts",
        "_feeds",
        "_framing",
        "_generation",
        "_groups",
        "_held",
        "_history",
        "_joining",
        "_live",
        "_members",
        "_on_idle",
        "_presence",
        "_questions",
        "_recent",
        "_recovery",
        "_sender",
        "_spawn",
        "_starting",
        "_subscription",
        "_timeout",
        "_topic",
        "name",
        "position",
    )

    def __init__(
        self,
        topic: "AnyTopic",
        broker: Broker,
        timeout: float | None,
        limits: TopicLimits,
        counts: Counts,
        spawn: "Callable[[Coroutine[object, None, None]], asyncio.Task[None]]",
        on_idle: "Callable[[Audience], None]",
    ) -> None:
        self._topic = topic  # kept, so that `Topics.find` finds it
        name = topic.name
        history = topic.history
        most = limits.max_held
        self.name: str = name
        self._history = history
        self._broker = broker
        self._timeout = timeout  # of each call to the broker, in seconds; None if it never waits
        self._counts = counts
        self._spawn = spawn
        self._on_idle = on_idle
        self.position: Position | None = None
        """The position of the last publication that was delivered; None before the first follower is live."""
        self._members: dict[Follower | Feed, None] = {}  # those that are joining too
        self._groups: dict[tuple[Frame | None, Frame | None], Group] = {}  # the live connections
        self._live: tuple[Group, ...] | None = ()  # the same groups as a tuple; None after a change
        self._feeds: dict[Feed, None] = {}  # the live feeds
        self._closed = False  # whether the topics are closed
        self._subscription = BrokerSubscription(name, broker, timeout, spawn)
        self._framing = Framing(name, topic.codec, most + (0 if history is None else 2 * history.max_bytes))
        self._sender = Sender(self._framing)
        self._ahead = Ahead(self._sender, counts)
        self._presence = PresenceChanges(name, broker, timeout, most)
        self._questions: list[set[str]] = []  # the connections that have left since the application asks who is present
        # Joining.
        self._joining = 0  # the number of followers that join
        self._starting = 0  # the number of followers that are being sent what they have missed
        self._recent = Held(most)  # what was delivered since the first of those that join began
        self._generation = 0  # changes when a history that was read before may lack something
        # Recovery.
        self._recovery: asyncio.Task[None] | None = None
        self._again = False  # whether the history has to be read once more
        self._held = Held(most)  # what arrived during the recovery, or before the first follower is live

    @property
    def followers(self) -> int:
        """The number of followers, including those that are joining."""
        return len(self._members)

    @property
    def recovering(self) -> bool:
        """Whether it reads the history because publications may be missing."""
        return self._recovery is not None

    # The end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End everything: the topics are closed."""
        self._closed = True
        self._subscription.forget()
        self._reset()
        for member in [*self._members]:
            member.left = True
            if not isinstance(member, Follower):
                member.end()
        self._members.clear()

    def _reset(self) -> None:
        """Forget the position: publications will be missed from now on."""
        self.position = None
        self._generation += 1
        self._again = False
        self._presence.forget()
        self._presence.holding = False
        self._held.clear()
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None

    def check_idle(self) -> None:
        """Tell the owner if nobody needs this object any more."""
        if not (self._members or self._subscription.busy):
            self._on_idle(self)

    # Joining and leaving ---------------------------------------------------------------------------------------

    async def join(self, member: Follower | Feed, since: Position | None, replay: Replay | None = None) -> Joined:
        """Add a follower.

        :param since: the position up to which it has got the publications; None to begin with the next one.
        :param replay: takes the publications that it has missed; None to send them.
        :raises BrokerError: if the broker has failed.
        :raises UsageError: if it has left meanwhile.
        """
        self._members[member] = None
        self._joining += 1
        self._sender.sharing = True
        check_left = partial(self._check_left, member)
        try:
            for attempt in range(_MOST_ATTEMPTS):
                await self._subscription.begin(check_left, self.check_idle)
                if isinstance(member, Follower) and member.presence_frame is not None:
                    self._send_events(await self._presence.begin(check_left))
                generation = self._generation
                page: Page | None = None
                position = None if self._recovery else self.position
                if position is None or not (since is None or since == position):
                    page = await self.read(since, 0 if since is None else None)
                self._check_left(member)
                stale = generation != self._generation
                if stale and attempt < _MOST_ATTEMPTS - 1:
                    continue
                current = self.position
                if stale and page is not None and current is not None and page.position.epoch != current.epoch:
                    # It begins at the position of the topic, which must not be an older one than its own.
                    self.recover()
                    assert self._recovery is not None
                    await asyncio.wait([self._recovery], timeout=self._timeout)
                    self._check_left(member)
                joined = self._go_live(member, since, page, replay, stale)
                if joined is not None:
                    return joined
            raise BrokerError(f"cannot join topic {self.name!r}: its history does not agree with its publications")
        except BaseException as error:
            try:
                if isinstance(error, BrokerError):
                    self._check_left(member)
            finally:
                self.remove(member)
            raise
        finally:
            self._joining -= 1
            if not self._joining:
                self._sender.sharing = False
                self._recent.clear()
                self._framing.forget_soon()

    def _check_left(self, member: Follower | Feed) -> None:
        if self._closed:
            raise UsageError(f"the topics were closed while joining topic {self.name!r}")
        if member.left:
            raise UsageError(f"left topic {self.name!r} while joining it")

    async def read(self, since: Position | None, limit: int | None = None, reverse: bool = False) -> Page:
        """Read the history.

        :raises BrokerError: if that fails.
        """
        return await ask(
            lambda: self._broker.read_history(self.name, self._history, since, limit, reverse),
            self._timeout,
            "read the history",
        )

    def _go_live(
        self, member: Follower | Feed, since: Position | None, page: Page | None, replay: Replay | None, stale: bool
    ) -> Joined | None:
        """Make a follower live; return None if the history does not reach up to what was delivered meanwhile.

        :param page: the history since the position; None if nothing was missed.
        :param stale: whether the history may lack something.
        """
        records: list[Record] = []
        recovered = since is not None
        current = self.position
        if page is None:
            assert current is not None
            position = current
        else:
            position = page.position
            recovered = recovered and page.complete and not stale
            if since is not None:
                records += page.records
            if current is None:
                self.position = position
            elif position.epoch != current.epoch:
                # The broker has lost its memory. If the page is not stale, the topic has not noticed that yet.
                if stale:
                    position = current
                    records = []
                else:
                    member.skip = position
                self.recover()
            elif position.offset > current.offset:
                member.skip = position
            elif position.offset < current.offset:
                if since is not None:
                    count = current.offset - position.offset
                    if count > len(self._recent.records):
                        if not stale:
                            return None
                        records = []  # one gap, at the beginning
                    records += self._recent.records[-count:]
                position = current
        joined = Joined(position, recovered)
        self._starting += 1
        try:
            self._replay(member, joined, records, replay)
            self._check_left(member)  # the application may have made it leave
            if member.skip is None:
                self._add_live(member)
            else:
                self._ahead.add(member)
        finally:
            self._starting -= 1
            self._deliver_held()
        if stale:
            self.recover()
        return joined

    def _deliver_held(self) -> None:
        """Deliver the publications that arrived while followers were starting."""
        if self._starting or self._recovery is not None or self.position is None:
            return
        for record in self._held.take():
            self.received(record)
        if self._again:
            self.recover()

    def _replay(self, member: Follower | Feed, joined: Joined, records: list[Record], replay: Replay | None) -> None:
        if replay is not None:
            replay(joined, [self._framing.publication(record) for record in records])
        else:
            self._sender.history(member, records)

    def _add_live(self, member: Follower | Feed) -> None:
        member.skip = None
        if not isinstance(member, Follower):
            self._feeds[member] = None
            return
        frames = member.frame, member.presence_frame
        group = self._groups.get(frames)
        if group is None:
            group = self._groups[frames] = Group(*frames)
            self._live = None
        group.add(member)

    def _make_live(self, members: Iterable[Follower | Feed]) -> None:
        """Make followers live that were ahead, unless they have left."""
        for member in members:
            if not member.left:
                self._add_live(member)

    def remove(self, member: Follower | Feed) -> None:
        """Remove a follower."""
        member.left = True
        if member not in self._members:
            return
        del self._members[member]
        self._ahead.discard(member)
        if isinstance(member, Follower):
            member.clear()
            frames = member.frame, member.presence_frame
            group = self._groups.get(frames)
            if group is not None:
                group.remove(member)
                if not group:
                    del self._groups[frames]
                    self._live = None
        else:
            self._feeds.pop(member, None)
        if not self._members:
            self._reset()  # what is published from now on may be missed
            self._subscription.end()
            self.check_idle()

    def _live_groups(self) -> tuple[Group, ...]:
        if self._live is None:
            self._live = tuple(self._groups.values())
        return self._live

    # Delivery --------------------------------------------------------------------------------------------------

    def received(self, record: Record) -> None:
        """Deliver a publication, unless it was delivered before or others are missing."""
        if not self._members:
            return
        position = self.position
        if position is None or self._recovery is not None or self._starting:
            self._hold(record)
            return
        epoch, offset = record.position
        if epoch == position.epoch:
            if offset == position.offset + 1:
                self._deliver(record)
                return
            if offset <= position.offset:
                return
        self._hold(record)
        self.recover()

    def _deliver(self, record: Record) -> None:
        """Send a publication to all live followers."""
        self.position = record.position
        if self._joining:
            self._remember(record)
        publication: Publication[Any] | None = None
        messages: dict[Frame | None, SharedMessage | None] = {}
        for group in self._live_groups():
            frame = group.frame
            if frame in messages:
                message = messages[frame]
            elif frame is None:
                message = messages[None] = SharedMessage(record.payload, None)
            else:
                publication = publication or self._framing.publication(record)
                message = messages[frame] = self._framing.make(frame, publication)
            if message is not None:
                group.send(message, record.position, record.key)
            else:
                group.tell(Gap(Position(record.position.epoch, record.position.offset - 1)))
        if self._feeds:
            publication = publication or self._framing.publication(record)
            for feed in tuple(self._feeds):
                feed.put(publication)
        if self._ahead:
            self._make_live(self._ahead.deliver(record))

    # Presence --------------------------------------------------------------------------------------------------

    def presence_changed(self, event: PresenceEvent) -> None:
        """Deliver a presence event, or hold it back."""
        self._send_events(self._presence.received(event))

    def begin_question(self) -> set[str]:
        """Note that the application asks who is present.

        :returns: the connections whose leave is told until `end_question`: the answer may be older, and have them.
        """
        left: set[str] = set()
        self._questions.append(left)
        return left

    def end_question(self, left: set[str]) -> None:
        """Note that there is an answer, or none.

        :param left: what `begin_question` has returned.
        """
        self._questions = [question for question in self._questions if question is not left]

    def see_connections(self, connections: Mapping[str, Connection]) -> None:
        """Note the answer that the application got when it asked who is present."""
        self._presence.see(connections)

    def _send_events(self, events: list[PresenceEvent]) -> None:
        for event in events:
            self._send_event(event)

    def _send_event(self, event: PresenceEvent) -> None:
        """Send a presence event to the followers that want it."""
        for left in self._questions:
            if event.kind == "leave":
                left.add(event.connection)
            else:
                left.discard(event.connection)
        messages: dict[Frame, SharedMessage | None] = {}

        def message_of(frame: Frame | None) -> SharedMessage | None:
            if frame is not None and frame not in messages:
                messages[frame] = self._framing.make(frame, event)
            return None if frame is None else messages[frame]

        for group in self._live_groups():
            message = message_of(group.presence_frame)
            if message is not None:
                group.send(message, self.position, None, event=True)
        self._ahead.deliver_event(message_of)

    # Holding back ----------------------------------------------------------------------------------------------

    def _hold(self, record: Record) -> None:
        """Hold a publication back."""
        if not self._held.add(record):
            self._again = True  # all are dropped; if the history lacks them, there is a gap

    def _remember(self, record: Record) -> None:
        """Keep a publication that was delivered, for the followers that are reading the history."""
        if not self._recent.add(record):
            self._generation += 1

    # Recovery --------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """Publications may be missing: read the history, and deliver them or tell of a gap."""
        self._generation += 1
        self._presence.lost()
        if self.position is not None:
            self.recover()
        else:
            self._presence.forget()

    def recover(self) -> None:
        """Read the history, and deliver what is missing."""
        self._again = True
        if self._recovery is None:
            self._presence.holding = True
            self._recovery = self._spawn(self._recover())

    async def _recover(self) -> None:
        waits = Waits()
        logged = False
        task = asyncio.current_task()
        try:
            while self._again and self._members and self.position is not None:
                self._again = False
                connections: Mapping[str, Connection] | None = None
                losses = self._presence.losses
                try:
                    page = await self.read(self.position)
                    ahead = await self._ahead.read(page.position.epoch, self.read)
                    if self._presence.known:
                        connections = await self._presence.read()
                except BrokerError as error:
                    if not logged:
                        log_retry(self.name, error)
                        logged = not isinstance(error, BrokerUnavailable)
                    self._again = True
                    await waits.pause()
                else:
                    self._catch_up(page, ahead)
                    self._send_events(self._presence.catch_up(connections))
                    # Once more, if a callback of the application has caused something, or presence events were lost.
                    waiting = bool(self._held.records) or self._presence.waiting
                    self._again = self._again or waiting or losses != self._presence.losses
        finally:
            if self._recovery is task:
                self._recovery = None
                self._presence.holding = False

    def _catch_up(self, page: Page, ahead: Pages) -> None:
        """Deliver the publications that were missing, and those that were held back.

        :param ahead: what follows the positions of the followers that are ahead in other epochs.
        """
        before = self.position
        recovery = self._recovery
        assert before is not None
        held = self._held.take()
        position = page.position
        epoch = position.epoch
        for record in held:
            if record.position.epoch not in (epoch, before.epoch):
                # There is a still newer epoch.
                self._again = True
        continued = epoch == before.epoch or page.complete  # whether nothing of the position's epoch is missing
        missing = {
            record.position.offset: record
            for record in (*held, *page.records)
            if record.position.epoch == epoch and not (continued and record.position.offset <= before.offset)
        }
        moved = self._ahead.move(position, ahead)
        if self._recovery is not recovery:
            return  # a function of the application has made the last follower leave
        if not moved:
            self._again = True
        current = before
        told = False  # whether the last thing that was told is a gap
        if epoch != before.epoch and continued:
            current = Position(epoch, before.offset)
            self._continue(current)
        elif epoch != before.epoch:
            current = Position(epoch, min(missing, default=position.offset + 1) - 1)
            self._tell_gap(Gap(before), current)
            told = True
        for offset in sorted(missing):
            if self._recovery is not recovery:
                return  # a function of the application has made the last follower leave
            if offset != current.offset + 1 and not told:
                self._tell_gap(Gap(current), Position(epoch, offset - 1))
            told = False
            record = missing[offset]
            self._deliver(record)
            current = record.position
        if position.offset > current.offset and not told and self._recovery is recovery:
            self._tell_gap(Gap(current), position)

    def _continue(self, position: Position) -> None:
        """Continue in a new epoch, because nothing is missing.

        :param position: the position of the topic, in the new epoch.
        """
        self.position = position
        self._recent.clear()
        self._generation += 1
        for group in self._live_groups():
            group.tell_epoch(position)

    def _tell_gap(self, gap: Gap, position: Position) -> None:
        """Tell all followers of a gap.

        :param position: the position after the gap.
        """
        self._counts.gaps += 1
        self.position = position
        self._recent.clear()
        self._generation += 1
        for group in self._live_groups():
            group.tell(gap)
        for feed in tuple(self._feeds):
            feed.put_gap(gap, position)
        self._make_live(self._ahead.pass_gap(position))
