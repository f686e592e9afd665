"""The followers of one topic in this process, and the state of its subscription."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from ..errors import BrokerError, BrokerUnavailable, UsageError, describe
from ..messages.codec import Codec
from ..options import ITEM_OVERHEAD, TopicLimits
from ..streams.shared import SharedMessage
from .broker import Broker, Page
from .group import Frame, Group
from .outlet import Delivery, Follower
from .retrying import Waits, broker_error
from .roster import Roster
from .values import Connection, Gap, History, Joined, Position, PresenceEvent, Publication, Record

logger: logging.Logger = logging.getLogger("streamws.topics")

_MOST_READS = 5
"""How often a joining follower reads the history, if more is published meanwhile than `TopicLimits.max_held`."""


class Feed(Protocol):
    """A follower inside the program."""

    skip: Position | None
    """The position up to which it has got the publications already, if it is ahead of the topic."""

    left: bool
    """Whether it follows the topic no longer."""

    def put(self, publication: Publication[Any]) -> None:
        """Take the next publication."""
        ...

    def put_gap(self, gap: Gap, position: Position) -> None:
        """Take note of a gap.

        :param position: the position after it.
        """
        ...

    def end(self) -> None:
        """End: the topics are closed."""
        ...


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

    At most one transition is under way at a time: it subscribes at the broker or unsubscribes, as was last wished.
    All live followers have got all publications up to `position`. A follower that joins reads the history after the
    subscription has begun, and becomes live in one step with what it read. If its history was newer than what the
    broker has delivered, it is ahead for a while, and skips what it knows.

    If the broker has lost publications, the audience holds back what arrives, reads the history, and delivers both. It
    tells of a gap where publications are missing then. It also compares who is present with what its followers know.
    """

    __slots__ = (
        "_again",
        "_ahead",
        "_asking",
        "_broker",
        "_closed",
        "_codec",
        "_ending",
        "_events",
        "_feeds",
        "_forgetting",
        "_generation",
        "_groups",
        "_held",
        "_held_size",
        "_history",
        "_joining",
        "_limits",
        "_live",
        "_losses",
        "_members",
        "_messages",
        "_messages_size",
        "_most_shared",
        "_on_idle",
        "_pause",
        "_recent",
        "_recent_size",
        "_recovery",
        "_roster",
        "_spawn",
        "_starting",
        "_subscribed",
        "_timeout",
        "_topic",
        "_transition",
        "_waiters",
        "_wanted",
        "name",
        "position",
    )

    def __init__(
        self,
        topic: "AnyTopic",
        broker: Broker,
        timeout: float | None,
        limits: TopicLimits,
        spawn: "Callable[[Coroutine[object, None, None]], asyncio.Task[None]]",
        on_idle: "Callable[[Audience], None]",
    ) -> None:
        self._topic = topic  # kept, so that `Topics.find` finds it
        self.name: str = topic.name
        self._codec = topic.codec
        self._history = topic.history
        self._broker = broker
        self._timeout = timeout  # of the calls of the broker, in seconds; None if it never waits
        self._limits = limits
        self._spawn = spawn
        self._on_idle = on_idle
        self.position: Position | None = None
        """The position of the last publication that was delivered; None before the first follower is live."""
        self._members: dict[Follower | Feed, None] = {}  # those that are joining too
        self._groups: dict[tuple[Frame | None, Frame | None], Group] = {}  # the live connections
        self._live: tuple[Group, ...] | None = ()  # the same groups; None if it has to be made anew
        self._feeds: dict[Feed, None] = {}  # the live feeds
        self._ahead: dict[Follower | Feed, None] = {}  # those that have got later publications than `position`
        self._closed = False  # whether the topics are closed
        # The subscription.
        self._wanted = False
        self._subscribed = False
        self._ending = False  # whether it will end in the next iteration of the loop, if nobody joins
        self._transition: asyncio.Task[None] | None = None
        self._pause: asyncio.Future[None] | None = None  # of the transition, after a failure
        self._waiters: dict[asyncio.Future[None], None] = {}  # of followers that wait for the subscription
        # Joining.
        self._joining = 0  # the number of followers that join
        self._starting = 0  # the number of followers that get what they have missed, just now
        self._recent: list[Record] = []  # what was delivered since the first of them began
        self._recent_size = 0
        self._generation = 0  # changes when a history that was read before may lack something
        self._messages: dict[tuple[Frame | None, Position], SharedMessage] = {}  # of the history, for those that join
        self._messages_size = 0
        self._forgetting = False  # whether these messages will be forgotten in the next iteration of the loop
        self._most_shared = limits.max_held + (0 if topic.history is None else 2 * topic.history.max_bytes)
        # Recovery.
        self._recovery: asyncio.Task[None] | None = None
        self._again = False  # whether the history has to be read once more
        self._held: list[Record] = []  # what arrived during the recovery, or before the first follower is live
        self._held_size = 0
        # Presence.
        self._roster: Roster | None = None  # what is told; None without followers that want it, or if nothing gets lost
        self._asking = 0  # the number of followers that join and ask who is present
        self._events: list[PresenceEvent] = []  # what arrived meanwhile, or during the recovery
        self._losses = 0  # how often events may have been lost

    # The subscription ------------------------------------------------------------------------------------------

    async def _subscribe(self, member: "Follower | Feed") -> None:
        """Wait until the subscription has begun.

        :raises BrokerError: if it cannot begin.
        :raises UsageError: if the member has left meanwhile.
        """
        while True:
            self._check_left(member)
            self._wanted = True
            if self._subscribed:
                break
            if self._timeout is None and self._transition is None:
                try:
                    await self._broker.subscribe(self.name)  # it never waits
                except Exception:
                    logger.debug("topic %r: cannot subscribe at once", self.name, exc_info=True)
                else:
                    self._subscribed = True
                    break
            self._begin_transition()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[future] = None
            try:
                await future
            finally:
                self._waiters.pop(future, None)

    def _check_left(self, member: "Follower | Feed") -> None:
        if self._closed:
            raise UsageError(f"the topics were closed while joining topic {self.name!r}")
        if member.left:
            raise UsageError(f"left topic {self.name!r} while joining it")

    def _begin_transition(self) -> None:
        if self._transition is None:
            self._transition = self._spawn(self._transit())
        elif self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

    async def _transit(self) -> None:
        """Subscribe or unsubscribe, until that is what was last wished."""
        waits = Waits()
        logged = False
        uncertain = False  # whether there may be a subscription that is not wanted
        try:
            while self._wanted != self._subscribed or (uncertain and not self._wanted):
                if self._wanted:
                    try:
                        await self._call(self._broker.subscribe(self.name))
                    except Exception as error:
                        uncertain = uncertain or not isinstance(error, BrokerUnavailable)
                        self._wanted = False
                        self._wake_waiters(broker_error(error, f"subscribe to topic {self.name!r}"))
                    else:
                        self._subscribed = True
                        self._wake_waiters(None)
                else:
                    self._subscribed = False
                    uncertain = True
                    try:
                        await self._call(self._broker.unsubscribe(self.name))
                        uncertain = False
                    except Exception as error:
                        if not logged:
                            logger.warning("topic %r: cannot unsubscribe: %s; trying again", self.name, describe(error))
                            logged = True
                        self._pause = asyncio.get_running_loop().create_future()
                        await asyncio.wait([self._pause], timeout=waits.next())
                        self._pause = None
            self._wake_waiters(None)  # they have left meanwhile, or subscribe again
        finally:
            self._transition = None
            self._wake_waiters(BrokerUnavailable("the topics are closed"))
            self.check_idle()

    def _unsubscribe_now(self) -> None:
        """Unsubscribe at a broker that never waits, unless there are followers again."""
        self._ending = False
        if self._wanted or not self._subscribed or self._transition is not None:
            return
        call = self._broker.unsubscribe(self.name)
        try:
            call.send(None)
        except StopIteration:
            self._subscribed = False
            self.check_idle()
        except Exception:
            self._begin_transition()  # it tries again
        else:
            call.close()
            self._begin_transition()

    async def _call(self, call: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(self._timeout):
            await call

    def _wake_waiters(self, error: BrokerError | None) -> None:
        waiters, self._waiters = self._waiters, {}
        for future in waiters:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def close(self) -> None:
        """End everything: the topics are closed."""
        self._closed = True
        self._wanted = self._subscribed = False
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
        self._roster = None
        self._events = []
        self._drop_held()
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None

    def check_idle(self) -> None:
        if not (self._members or self._subscribed or self._transition):
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
        try:
            for attempt in range(_MOST_READS):
                await self._subscribe(member)
                if isinstance(member, Follower) and member.presence_frame is not None:
                    await self._begin_roster(member)
                generation = self._generation
                page: Page | None = None
                position = None if self._recovery else self.position
                if position is None or not (since is None or since == position):
                    page = await self.read(since, 0 if since is None else None)
                self._check_left(member)
                stale = generation != self._generation
                if stale and attempt < _MOST_READS - 1:
                    continue
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
                if self._recent:
                    self._forget_recent()
                if self._messages and not self._forgetting:
                    # Not yet: when many come back at once, several join in one iteration of the loop.
                    self._forgetting = True
                    asyncio.get_running_loop().call_soon(self._forget_messages)

    async def read(self, since: Position | None, limit: int | None = None, reverse: bool = False) -> Page:
        """Read the history.

        :raises BrokerError: if that fails.
        """
        try:
            call = self._broker.read_history(self.name, self._history, since, limit, reverse)
            if self._timeout is None:
                return await call
            async with asyncio.timeout(self._timeout):
                return await call
        except Exception as error:
            raise broker_error(error, "read the history") from error

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
                    if count > len(self._recent):
                        if not stale:
                            return None
                        records = []  # one gap, at the beginning
                    records += self._recent[-count:]
                position = current
        joined = Joined(position, recovered)
        self._starting += 1
        try:
            self._replay(member, joined, records, replay)
            self._check_left(member)  # the application may have made it leave
            if member.skip is None:
                self._add_live(member)
            else:
                self._ahead[member] = None
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
        held = self._held
        self._drop_held()
        for record in held:
            self.received(record)
        if self._again:
            self.recover()

    def _replay(self, member: Follower | Feed, joined: Joined, records: list[Record], replay: Replay | None) -> None:
        if replay is not None:
            replay(joined, [Publication(self.name, record, self._codec) for record in records])
        elif isinstance(member, Follower):
            self._send_history(member, records)
        else:
            for record in records:
                member.put(Publication(self.name, record, self._codec))

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

    def remove(self, member: Follower | Feed) -> None:
        """Remove a follower."""
        member.left = True
        if member not in self._members:
            return
        del self._members[member]
        self._ahead.pop(member, None)
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
            # What is published from now on may be missed.
            self._wanted = False
            self._reset()
            if self._subscribed:
                if self._timeout is None and self._transition is None:
                    if not self._ending:
                        self._ending = True
                        asyncio.get_running_loop().call_soon(self._unsubscribe_now)
                else:
                    self._begin_transition()
            self.check_idle()

    def _live_groups(self) -> tuple[Group, ...]:
        if self._live is None:
            self._live = tuple(self._groups.values())
        return self._live

    # Delivery --------------------------------------------------------------------------------------------------

    def received(self, record: Record) -> None:
        """Deliver a publication, unless it was delivered before or others are missing."""
        if not self._wanted:
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
                publication = publication or Publication(self.name, record, self._codec)
                message = messages[frame] = self._frame(frame, publication)
            if message is not None:
                group.send(message, record.position, record.key)
            else:
                group.tell(Gap(Position(record.position.epoch, record.position.offset - 1)))
        if self._feeds:
            publication = publication or Publication(self.name, record, self._codec)
            for feed in tuple(self._feeds):
                feed.put(publication)
        if self._ahead:
            self._deliver_ahead(record)

    def _frame(self, frame: Frame, item: Publication[Any] | PresenceEvent) -> SharedMessage | None:
        """Make a message; None if the function of the application raises."""
        try:
            message = SharedMessage(frame(item), None)
            if isinstance(message.data, str) and not message.data.isascii():
                message.data.encode()  # now, not for one connection after another
            return message
        except Exception:
            logger.exception("topic %r: %r raised; nothing is sent", self.name, frame)
            return None

    def _deliver_ahead(self, record: Record) -> None:
        """Deliver to the followers that are ahead; those that are not ahead any more become live."""
        position = record.position
        for member in tuple(self._ahead):
            skip = member.skip
            if skip is None or skip.epoch != position.epoch or member.left:
                continue
            if position.offset > skip.offset:
                self._send_one(member, record)
            if position.offset >= skip.offset and not member.left:
                del self._ahead[member]
                self._add_live(member)

    def _send_one(self, member: Follower | Feed, record: Record) -> None:
        if isinstance(member, Follower):
            self._send_to_one(member, record)
        else:
            member.put(Publication(self.name, record, self._codec))

    def _send_history(self, follower: Follower, records: list[Record]) -> None:
        """Send what a follower has missed. It does not count against the backlog."""
        outlet = follower.outlet
        for record in records:
            message = self._message_for(follower, record)
            if message is None or follower.left or outlet.send_now(message):
                continue
            delivery = Delivery(message, record.position, record.key)
            delivery.size = 0
            outlet.offer(follower, delivery)

    def _send_to_one(self, follower: Follower, record: Record) -> None:
        """Send a publication to one follower."""
        message = self._message_for(follower, record)
        if message is not None:
            follower.outlet.offer(follower, Delivery(message, record.position, record.key))

    def _message_for(self, follower: Follower, record: Record) -> SharedMessage | None:
        """Return a publication as a message for one follower; if there is none, the follower is told of a gap."""
        frame = follower.frame
        message = self._messages.get((frame, record.position))
        if message is None:
            if frame is None:
                message = SharedMessage(record.payload, None)
            else:
                message = self._frame(frame, Publication(self.name, record, self._codec))
            if message is None:
                follower.on_gap(Gap(Position(record.position.epoch, record.position.offset - 1)))
                return None
            if self._joining:
                self._share(message, frame, record.position)
        return message

    def _share(self, message: SharedMessage, frame: Frame | None, position: Position) -> None:
        """Keep a message of the history for other followers that join now."""
        self._messages_size += len(message.data) + ITEM_OVERHEAD
        if self._messages_size > self._most_shared:
            self._forget_messages()
        else:
            self._messages[frame, position] = message

    def _forget_messages(self) -> None:
        self._messages.clear()
        self._messages_size = 0
        self._forgetting = False

    # Presence --------------------------------------------------------------------------------------------------

    async def _begin_roster(self, member: Follower) -> None:
        """Find out who is present, for the first follower that is told of changes.

        :raises BrokerError: if that fails.
        """
        if self._roster is not None or self._timeout is None:  # a broker that never waits loses nothing
            return
        self._asking += 1
        try:
            while self._roster is None:
                losses = self._losses
                connections = await self._connections()
                self._check_left(member)
                if losses == self._losses:
                    self._set_roster(connections)
        finally:
            self._asking -= 1
            if not self._asking and self._recovery is None:
                self._events = []  # told already, if it did not fail

    def _set_roster(self, connections: Mapping[str, Connection]) -> None:
        if self._roster is None:  # another follower may have been faster
            self._roster = Roster(connections)
            if self._recovery is None:
                self._tell_events()

    def see_connections(self, connections: Mapping[str, Connection]) -> None:
        """Note who is present, as the application was answered."""
        if self._roster is not None:
            self._roster.see(connections)

    async def _connections(self) -> Mapping[str, Connection]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._broker.connections(self.name)
        except Exception as error:
            raise broker_error(error, "ask who is present") from error

    def presence_changed(self, event: PresenceEvent) -> None:
        """Take a presence event."""
        if self._roster is None:
            if not self._asking:
                self._send_event(event)
                return
        elif self._recovery is None:
            for news in self._roster.apply(event):
                self._send_event(news)
            return
        self._events.append(event)
        if len(self._events) * ITEM_OVERHEAD > self._limits.max_held:
            self._events = []
            self._losses += 1
            self._again = self._recovery is not None

    def _tell_events(self) -> None:
        """Send the presence events that were held back, unless they are known."""
        events, self._events = self._events, []
        for event in events:
            for news in () if self._roster is None else self._roster.apply(event):
                self._send_event(news)

    def _send_event(self, event: PresenceEvent) -> None:
        """Send a presence event to the followers that want it."""
        messages: dict[Frame, SharedMessage | None] = {}

        def message_of(frame: Frame | None) -> SharedMessage | None:
            if frame is not None and frame not in messages:
                messages[frame] = self._frame(frame, event)
            return None if frame is None else messages[frame]

        for group in self._live_groups():
            message = message_of(group.presence_frame)
            if message is not None:
                group.send(message, self.position, None, event=True)
        for member in tuple(self._ahead):
            message = message_of(member.presence_frame) if isinstance(member, Follower) else None
            if isinstance(member, Follower) and message is not None:
                member.outlet.offer(member, Delivery(message, self.position, None, event=True))

    # Holding back ----------------------------------------------------------------------------------------------

    def _hold(self, record: Record) -> None:
        """Hold a publication back."""
        self._held.append(record)
        self._held_size += _size(record)
        if self._held_size > self._limits.max_held:
            self._drop_held()
            self._again = True  # the history has them, or else there is a gap

    def _drop_held(self) -> None:
        self._held = []
        self._held_size = 0

    def _remember(self, record: Record) -> None:
        """Keep a publication that was delivered, for the followers that are reading the history."""
        self._recent.append(record)
        self._recent_size += _size(record)
        if self._recent_size > self._limits.max_held:
            self._forget_recent()
            self._generation += 1

    def _forget_recent(self) -> None:
        self._recent = []
        self._recent_size = 0

    # Recovery --------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """Publications may be missing: read the history, and deliver them or tell of a gap."""
        self._generation += 1
        self._losses += 1
        self._events = []  # others may be missing behind them; the broker is asked again
        if self.position is not None and self._wanted:
            self.recover()
        else:
            self._roster = None

    def recover(self) -> None:
        """Read the history, and deliver what is missing."""
        self._again = True
        if self._recovery is None:
            self._recovery = self._spawn(self._recover())

    async def _recover(self) -> None:
        waits = Waits()
        logged = False
        task = asyncio.current_task()
        try:
            while self._again and self._members and self.position is not None:
                self._again = False
                connections: Mapping[str, Connection] | None = None
                try:
                    page = await self.read(self.position)
                    if self._roster is not None:
                        connections = await self._connections()
                except BrokerError as error:
                    if not logged:
                        logger.warning("topic %r: %s; trying again", self.name, describe(error))
                        logged = True
                    self._again = True
                    await waits.pause()
                else:
                    self._catch_up(page)
                    if self._roster is not None and connections is not None:
                        for event in self._roster.compare(connections):
                            self._send_event(event)
                    self._tell_events()
                    self._again = self._again or bool(self._held)  # published by a callback of the application
        finally:
            if self._recovery is task:
                self._recovery = None

    def _catch_up(self, page: Page) -> None:
        """Deliver the publications that were missing, and those that were held back."""
        before = self.position
        recovery = self._recovery
        assert before is not None
        held = self._held
        self._drop_held()
        position = page.position
        epoch = position.epoch
        for record in held:
            if record.position.epoch not in (epoch, before.epoch):
                # There is a still newer epoch.
                self._again = True
        missing = {
            record.position.offset: record
            for record in (*held, *page.records)
            if record.position.epoch == epoch and (epoch != before.epoch or record.position.offset > before.offset)
        }
        current = before
        told = False  # whether the last thing that was told is a gap
        if epoch != before.epoch:
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

    def _tell_gap(self, gap: Gap, position: Position) -> None:
        """Tell all followers of a gap.

        :param position: the position after the gap.
        """
        self.position = position
        self._forget_recent()
        self._generation += 1
        for group in self._live_groups():
            group.tell(gap)
        for feed in tuple(self._feeds):
            feed.put_gap(gap, position)
        for member in tuple(self._ahead):
            skip = member.skip
            if skip is None:
                continue
            if skip.epoch != position.epoch or skip.offset < position.offset:
                # Of an older epoch, or inside the gap.
                if isinstance(member, Follower):
                    member.on_gap(Gap(skip))
                else:
                    member.put_gap(Gap(skip), position)
            elif skip.offset > position.offset:
                continue
            if member in self._ahead:
                del self._ahead[member]
                self._add_live(member)


def _size(record: Record) -> int:
    return len(record.payload) + ITEM_OVERHEAD
