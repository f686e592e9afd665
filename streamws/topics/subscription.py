"""`Subscription`: a topic as an async iterator, for the program itself."""

import asyncio
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from ..errors import BrokerError, ConcurrencyError, LimitExceeded, UsageError
from ..options import ITEM_OVERHEAD
from .audience import AnyTopic, Audience
from .core import Core
from .retrying import Waits
from .values import Gap, Joined, Position, Publication, SlowFeed

T = TypeVar("T")


class _Item:
    """A publication that waits to be read."""

    __slots__ = ("gap", "publication", "size")

    def __init__(self, publication: Publication[Any], size: int, gap: Gap | None) -> None:
        self.publication = publication
        self.size = size
        """The bytes that it counts in the backlog."""
        self.gap = gap
        """The gap before it; None if nothing is missing there."""


class Subscription(Generic[T]):
    """The publications of a topic, as an async iterator. `Topic.subscribe` makes one.

    `async with topic.subscribe() as feed: async for item in feed: ...`. Each item is a `Publication` or a `Gap`. The
    iteration ends when the topics are closed. Only one task at a time may read. Cancelling a read loses nothing.
    """

    __slots__ = (
        "_audience",
        "_backlog",
        "_behind",
        "_core",
        "_ended",
        "_future",
        "_gap",
        "_joined",
        "_next",
        "_number",
        "_position",
        "_reading",
        "_ready",
        "_since",
        "_size",
        "_slow",
        "_too_slow",
        "_topic",
        "left",
        "lost",
        "skip",
    )

    def __init__(
        self,
        core: Core,
        topic: AnyTopic,
        since: Position | None,
        slow: SlowFeed,
        backlog: int,
    ) -> None:
        self._core = core
        self._topic = topic
        self._since = since
        self._slow = slow
        self._backlog = backlog
        self._joined: Joined | None = None
        self._audience: Audience | None = None  # the followers of the topic, while this is one of them
        self._ready: OrderedDict[object, _Item] = OrderedDict()  # what waits, by key with `latest`, else by a number
        self._gap: Gap | None = None  # the gap after all publications that wait
        self._next: Publication[Any] | None = None  # the one after the gap that was read; it can no longer be dropped
        self._reading = False  # whether a task waits for an item
        self._future: asyncio.Future[None] | None = None  # of the task that waits for an item
        self._ended = False  # whether no more items will arrive
        self._size = 0  # the bytes of the publications that wait
        self._number = 0
        self._behind = False  # with `wait`: whether later publications have to be read from the history
        self._position: Position | None = None  # with `wait`: up to which everything is queued, or was read
        self._too_slow = False  # whether it has ended, because it was read too slowly
        self.lost: int = 0
        """The number of publications that were dropped, because they were read too slowly."""
        self.skip: Position | None = None
        self.left: bool = False

    def __repr__(self) -> str:
        return f"<Subscription of {self._topic.name!r}, {len(self._ready)} publications wait>"

    @property
    def joined(self) -> Joined:
        """Where the subscription began, and whether it has everything since the given position.

        :raises UsageError: before `async with`.
        """
        if self._joined is None:
            raise UsageError("this subscription has not begun: write `async with topic.subscribe() as feed:`")
        return self._joined

    async def __aenter__(self) -> "Subscription[T]":
        """Begin to follow the topic. Everything that is published after this has returned is received.

        :raises BrokerError: if the broker has failed.
        :raises UsageError: if it was already entered, or the topics are not open.

        If the broker fails, or if this is cancelled, the subscription has not begun and may be entered again.
        """
        self._core.check_open()
        if self._audience is not None or self._joined is not None:
            raise UsageError("this subscription was already entered: make another one with topic.subscribe()")
        self._audience = self._core.audience(self._topic)
        self.left = False  # it has left if it could not begin before
        try:
            self._joined = joined = await self._audience.join(self, self._since, self._begin)
        except BaseException:
            self._audience = None
            raise
        self._core.counts.join(self._since is not None, joined.recovered)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop following the topic."""
        if self._audience is not None:
            self._audience.remove(self)
            self._audience = None
        self._ready.clear()
        self._gap = self._next = None
        self.end()

    def _begin(self, joined: Joined, publications: "list[Publication[Any]]") -> None:
        """Queue all that was missed. The history bounds its size."""
        if self._since is not None and not joined.recovered:
            self._add_gap(Gap(self._since))
        for publication in publications:
            self._append(publication, 0)
        self._position = joined.position

    # From the topic --------------------------------------------------------------------------------------------

    def put(self, publication: Publication[Any]) -> None:
        """Queue a publication, or drop one if there is no room."""
        if self._behind or self._ended:
            return
        size = len(publication.payload) + ITEM_OVERHEAD
        slow = self._slow
        name: object = None
        if slow == "latest":
            name = "key", publication.key
            self._replace(name)
        if self._size and self._size + size > self._backlog:
            if slow == "wait":
                self._behind = True
                return
            if slow == "disconnect":
                self._too_slow = True
                self._core.counts.disconnected += 1
                self._count_dropped()
                self.end()
                return
            if slow == "drop-newest":
                self._count_dropped()
                self._add_gap(_gap_before(publication))
                return
            self._make_room(size)
        self._append(publication, size, name)

    def _count_dropped(self) -> None:
        self.lost += 1
        self._core.counts.dropped += 1

    def _append(self, publication: Publication[Any], size: int, name: object = None) -> None:
        if name is None:
            self._number += 1
            name = self._number
        self._ready[name] = _Item(publication, size, self._gap)
        self._gap = None
        self._size += size
        self._position = publication.position
        self._wake()

    def _replace(self, name: object) -> None:
        """Drop the publication with the same key. A gap before it moves to the front."""
        item = self._ready.pop(name, None)
        if item is None:
            return
        self._size -= item.size
        self.lost += 1
        self._core.counts.replaced += 1
        if item.gap is not None:
            first = next(iter(self._ready.values()), None)
            if first is None:
                self._gap = item.gap
            elif first.gap is None:
                first.gap = item.gap

    def _make_room(self, size: int) -> None:
        """Drop the oldest publications. One gap stands for all of them."""
        gap: Gap | None = None
        while self._ready and self._size + size > self._backlog:
            _, item = self._ready.popitem(last=False)
            self._size -= item.size
            self._count_dropped()
            gap = gap or item.gap or _gap_before(item.publication)
        first = next(iter(self._ready.values()), None)
        if first is None:
            self._gap = gap or self._gap
        else:
            first.gap = gap or first.gap

    def _add_gap(self, gap: Gap) -> None:
        """Queue a gap after all that waits. If there is one already, it stands for both."""
        if self._gap is None:
            self._gap = gap
            self._wake()

    def put_gap(self, gap: Gap, position: Position) -> None:
        """Queue a gap."""
        if not (self._behind or self._ended):
            self._add_gap(gap)
            self._position = position

    def end(self) -> None:
        """End the iteration: the topics are closed."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> "Subscription[T]":
        """Iterate over the publications, with a `Gap` where some are missing.

        The iteration ends when the topics are closed. Cancelling it loses nothing, and it can be continued.

        :raises LimitExceeded: with `slow="disconnect"`, if more than `backlog` bytes waited.
        :raises ConcurrencyError: if another task is reading the subscription.
        """
        return self

    async def __anext__(self) -> Publication[T] | Gap:
        """Return the next publication, or a gap.

        :raises LimitExceeded: with `slow="disconnect"`, if more waited than the backlog.
        :raises ConcurrencyError: if another task is reading the subscription.
        """
        if self._next is not None:
            publication, self._next = self._next, None
            return publication
        while not self._ready:
            gap = self._gap
            if gap is not None:
                self._gap = None
                return gap
            await self._refill()
        _, item = self._ready.popitem(last=False)
        self._size -= item.size
        if item.gap is None:
            return item.publication
        self._next = item.publication
        return item.gap

    async def _refill(self) -> None:
        """Wait until there may be an item.

        :raises StopAsyncIteration: if there will be none.
        """
        if self._too_slow:
            raise LimitExceeded(f"topic {self._topic.name!r} was read too slowly: over {self._backlog} bytes waited")
        if self._ended:
            raise StopAsyncIteration
        if self._audience is None:
            raise UsageError("this subscription has not begun: write `async with topic.subscribe() as feed:`")
        if self._reading:
            raise ConcurrencyError(f"another task is already reading this subscription of topic {self._topic.name!r}")
        self._reading = True
        try:
            if self._behind:
                await self._catch_up(self._audience)
            else:
                await self._wait()
        finally:
            self._reading = False

    async def _wait(self) -> None:
        """Wait until there is an item, or the end."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    async def _catch_up(self, audience: Audience) -> None:
        """Join again after the last publication that was queued, because later ones were not."""
        waits = Waits()
        audience.remove(self)
        self._behind = True
        while not self._ended:
            if not self._core.is_open:
                self.end()
                return
            self.left = self._behind = False
            self.skip = None
            self._since = self._position
            # Not the one from before: after a failure, the core may have forgotten it.
            self._audience = self._core.audience(self._topic)
            try:
                joined = await self._audience.join(self, self._since, self._begin)
                if not joined.recovered:
                    self._core.counts.gaps += 1
                return
            except BrokerError:
                self._behind = True
                await asyncio.wait([self._core.spawn(waits.pause())])  # ends if the topics are closed
            except UsageError:
                # It has left meanwhile, because it or the topics were closed.
                if not self._ended:
                    raise
            except BaseException:
                self._behind = True
                raise


def _gap_before(publication: Publication[Any]) -> Gap:
    epoch, offset = publication.position
    return Gap(Position(epoch, offset - 1))
