"""`Outlet`: sends publications to one connection, and decides what happens if the connection is slow."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeGuard
from weakref import ReferenceType, ref

from ..channel import Recipient
from ..codes import CloseCode
from ..errors import ConnectionClosed
from ..options import ITEM_OVERHEAD
from ..streams.shared import SharedMessage
from ..streams.writer import Writer
from .attendance import Attendance
from .counting import Counts
from .values import Gap, Position, Slow

logger: logging.Logger = logging.getLogger("streamws.topics")


class _Owner(Protocol):
    """What an outlet needs of the topics."""

    counts: Counts

    def spawn(self, coroutine: Coroutine[object, None, None]) -> object:
        """Start a task."""
        ...

    def end_outlet(self, outlet: "Outlet") -> None:
        """End everything of a connection that has ended."""
        ...

    def forget_unused(self, outlet: "Outlet") -> None:
        """Forget a connection that no longer uses the topics, now that all messages that waited were sent."""
        ...


class _Direct(Protocol):
    """A connection of streamws, such as a `Client`: shared messages are written to it without a task."""

    @property
    def writer(self) -> Writer: ...

    @property
    def _shares_frames(self) -> bool: ...

    def _call_when_closed(self, callback: Callable[[], None]) -> None: ...


def _is_direct(client: object) -> TypeGuard[_Direct]:
    # `isinstance` with a protocol looks up each name in Python. That takes longer than the rest of a join.
    return hasattr(client, "_call_when_closed")


def _end_weakly(outlet: "ReferenceType[Outlet]") -> None:
    """End an outlet, if it still exists. The connection must not keep it, and with it the topics, alive."""
    existing = outlet()
    if existing is not None:
        existing._end()


class Delivery:
    """One message for the followers of a topic that share a frame function."""

    __slots__ = ("event", "key", "message", "position", "size")

    def __init__(self, message: SharedMessage, position: Position | None, key: str | None, event: bool = False) -> None:
        self.message: SharedMessage = message
        self.position: Position | None = position
        """The position of the publication; for a presence event, that of the last one before it."""
        self.key: str | None = key
        self.event: bool = event
        """Whether it is a presence event."""
        self.size: int = len(message.data) + ITEM_OVERHEAD


class Follower:
    """One connection in one topic. It holds the messages that wait because the connection is slow."""

    __slots__ = (
        "_number",
        "_told",
        "backlog",
        "frame",
        "left",
        "lost",
        "on_epoch",
        "on_gap",
        "outlet",
        "presence_frame",
        "size",
        "skip",
        "slow",
        "slow_code",
        "waiting",
    )

    def __init__(
        self,
        outlet: "Outlet",
        slow: Slow,
        backlog: int,
        frame: Callable[[Any], str | bytes] | None,
        presence_frame: Callable[[Any], str | bytes] | None,
        on_gap: Callable[[Gap], None],
        slow_code: int = CloseCode.TRY_AGAIN_LATER,
        on_epoch: Callable[[Position], None] | None = None,
    ) -> None:
        self.outlet: Outlet = outlet
        self.slow = slow
        self.slow_code: int = slow_code
        self.backlog: int = backlog
        self.frame: Callable[[Any], str | bytes] | None = frame
        self.presence_frame: Callable[[Any], str | bytes] | None = presence_frame
        self.on_gap: Callable[[Gap], None] = on_gap
        self.on_epoch: Callable[[Position], None] | None = on_epoch
        self.left: bool = False
        """Whether it has left the topic."""
        self.skip: Position | None = None
        """The position up to which this follower has got the publications already, if it is ahead of the topic."""
        self.lost: int = 0
        """The number of messages that were dropped because the connection is slow."""
        self.waiting: OrderedDict[object, Delivery] | None = None
        """The messages that wait, by their key with the policy `latest`, and else by a number."""
        self.size: int = 0
        """The bytes of the messages that wait."""
        self._number = 0
        self._told = False  # whether `on_gap` was called for the place where messages are being dropped

    def hold(self, delivery: Delivery) -> bool:
        """Let a message wait until the connection is ready, or drop messages.

        :returns: False if the connection must be closed, because it is too slow.
        """
        waiting = self.waiting
        if waiting is None:
            waiting = self.waiting = OrderedDict()
        slow = self.slow
        if slow == "latest" and not delivery.event:
            name: object = ("key", delivery.key)
            earlier = waiting.pop(name, None)
            if earlier is not None:
                self.size -= earlier.size
                self.lost += 1
                self.outlet.counts.replaced += 1
        else:
            self._number += 1
            name = self._number
        # A message that is larger than the backlog may wait alone.
        if waiting and self.size + delivery.size > self.backlog:
            if slow == "disconnect":
                return False
            if slow == "drop-newest":
                self._drop(delivery)
                return True
            while waiting and self.size + delivery.size > self.backlog:
                _, oldest = waiting.popitem(last=False)
                self.size -= oldest.size
                self._drop(oldest)
        elif slow == "drop-newest":
            self._told = False  # what is dropped later is missing at another place
        waiting[name] = delivery
        self.size += delivery.size
        return True

    def _drop(self, delivery: Delivery) -> None:
        """Count a message that is dropped, and tell of the first one at each place."""
        self.lost += 1
        self.outlet.counts.dropped += 1
        if delivery.position is not None and not self._told:
            self._told = True
            epoch, offset = delivery.position
            self.on_gap(Gap(Position(epoch, offset if delivery.event else offset - 1)))

    def take(self) -> Delivery | None:
        """Remove the message that has waited longest, and return it; return None if none waits."""
        if not self.waiting:
            return None
        _, delivery = self.waiting.popitem(last=False)
        self.size -= delivery.size
        if not self.waiting:
            self.waiting = None
        if self.slow != "drop-newest":
            self._told = False  # what is dropped later is missing at another place
        return delivery

    def clear(self) -> None:
        """Drop all messages that wait, because the follower has left."""
        self.waiting = None
        self.size = 0
        self.outlet.forget_follower(self)


class Outlet:
    """Sends publications to one connection, for all topics that it follows.

    :param client: the connection.
    :param id: the id of the connection in all processes.
    :param owner: the topics.
    """

    __slots__ = (
        "__weakref__",
        "_owner",
        "_pumping",
        "_queue",
        "_refilled",
        "_tokens",
        "_waiter",
        "client",
        "closed",
        "counts",
        "followers",
        "id",
        "present",
        "writer",
    )

    def __init__(self, client: Recipient, id: str, owner: _Owner) -> None:
        self.client: Recipient = client
        self.id: str = id
        self._owner = owner
        self.counts: Counts = owner.counts
        """The counters of the topics."""
        self.followers: dict[str, Follower] = {}
        """The followers, by the topics."""
        self.present: dict[str, Attendance] = {}
        """The presence, by the topics."""
        self.closed: bool = False
        self._tokens = 0.0  # how many publications the connection may make now
        self._refilled = 0.0  # when that was last increased, by the clock of the loop; 0 before the first publication
        # The followers with messages that wait, in turn; None if there has been none yet.
        self._queue: OrderedDict[Follower, None] | None = None
        self._pumping = False  # whether a callback or task will send the messages that wait
        self.writer: Writer | None = None
        """Writes shared messages; None if the connection is not one of a streamws server."""
        self._waiter: Any = None
        if _is_direct(client) and client._shares_frames:
            self.writer = client.writer
            client._call_when_closed(partial(_end_weakly, ref(self)))
        else:
            self._waiter = owner.spawn(self._wait_closed())

    async def _wait_closed(self) -> None:
        try:
            await self.client.wait_closed()
        finally:
            self._waiter = None
            self._end()

    def forget(self) -> None:
        """Stop watching the connection, which follows nothing any more."""
        self._stop()
        if self._waiter is not None:
            self._waiter.cancel()

    def forget_follower(self, follower: Follower) -> None:
        """Remove a follower that has left from those with messages that wait."""
        if self._queue is not None:
            self._queue.pop(follower, None)

    def _end(self) -> None:
        """End the outlet, because the connection has ended or is about to."""
        if not self.closed:
            self._stop()
            self._owner.end_outlet(self)

    def _stop(self) -> None:
        self.closed = True
        self._queue = None
        if self.writer is not None and self._pumping:
            self.writer.held -= 1

    def admit(self, rate: float, now: float) -> bool:
        """Return whether the connection may make a publication now.

        :param rate: the most publications a second.
        """
        most = max(rate, 1.0)
        self._tokens = min(most, self._tokens + rate * (now - self._refilled)) if self._refilled else most
        self._refilled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    @property
    def limited(self) -> bool:
        """Whether the connection has made publications that count against its limit."""
        return self._refilled > 0.0

    @property
    def sending(self) -> bool:
        """Whether a message is under way, or waits."""
        return self._pumping

    # Sending ---------------------------------------------------------------------------------------------------

    def send_now(self, message: SharedMessage) -> bool:
        """Write a message if the connection is ready; return whether it was."""
        writer = self.writer
        if writer is None or self.closed or writer.held or not writer._is_ready():
            return False
        writer._send_shared(message)
        return True

    def offer(self, follower: Follower, delivery: Delivery) -> None:
        """Send a message, or let it wait."""
        if self.closed or follower.left:
            return
        writer = self.writer
        if writer is not None:
            if not writer.held and writer._is_ready():
                writer._send_shared(delivery.message)
                return
            if not writer._protocol.open:
                return  # the connection is closing
        was_empty = not follower.waiting
        if not follower.hold(delivery):
            self._disconnect(follower)
            return
        if was_empty and follower.waiting:
            if self._queue is None:
                self._queue = OrderedDict()
            self._queue[follower] = None
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        """Send the messages that wait as soon as the connection is ready."""
        self._pumping = True
        if self.writer is not None:
            self.writer.held += 1
            self.writer._call_when_ready(self._flush)
        else:
            self._owner.spawn(self._send_all())

    def _next(self) -> Delivery | None:
        """Return the next message that waits: one of each follower in turn."""
        queue = self._queue
        while queue:
            follower, _ = queue.popitem(last=False)
            delivery = follower.take()
            if delivery is not None:
                if follower.waiting:
                    queue[follower] = None
                return delivery
        return None

    def _flush(self) -> None:
        """Write messages that wait, until writing is paused again."""
        writer = self.writer
        assert writer is not None
        while not self.closed and writer._is_ready():
            delivery = self._next()
            if delivery is None:
                self._pumping = False
                writer.held -= 1
                return
            writer._send_shared(delivery.message)
        if not self.closed and writer._protocol.open:
            writer._call_when_ready(self._flush)

    async def _send_all(self) -> None:
        """Send the messages that wait, one after the other."""
        try:
            while not self.closed:
                delivery = self._next()
                if delivery is None:
                    return
                await self.client.send(delivery.message.data)
        except ConnectionClosed:
            self._end()
        except Exception:
            logger.exception("cannot send publications to %r; it no longer follows any topic", self.client)
            self._end()
        finally:
            self._pumping = False
            self._owner.forget_unused(self)

    def _disconnect(self, follower: Follower) -> None:
        """Close the connection: it reads too slowly."""
        reason = f"too slow: {follower.size} bytes of a topic wait"
        self._end()
        self.counts.disconnected += 1
        self._owner.spawn(self.client.close(follower.slow_code, reason))
