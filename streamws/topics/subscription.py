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


class Subscription(Generic[T]):
    """The publications of a topic, as an async iterator. `Topic.subscribe` makes one.

    `async with topic.subscribe() as feed: async for item in feed: ...`. Each item is a `Publication` or a `Gap`. The
    iteration ends when the topics are closed. One task at a time reads; cancelling it loses nothing.
    """

    __slots__ = (
        "_audience",
        "_backlog",
        "_behind",
        "_core",
        "_ended",
        "_future",
        "_joined",
        "_number",
        "_position",
        "_ready",
        "_since",
        "_size",
        "_slow",
        "_told",
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
        self._ready: OrderedDict[object, tuple[Publication[Any] | Gap, int]] = OrderedDict()  # items and their sizes
        self._future: asyncio.Future[None] | None = None  # of the task that waits for an item
        self._ended = False  # whether no more items will arrive
        self._size = 0  # the bytes of the publications that wait
        self._number = 0
        self._behind = False  # with `wait`: whether later publications have to be read from the history
        self._position: Position | None = None  # with `wait`: of the last publication that waits, or was read
        self._told = False  # whether a gap was told since publications wait
        self._too_slow = False  # whether it has ended, because it was read too slowly
        self.lost: int = 0
        """The number of publications that were dropped, because they were read too slowly."""
        self.skip: Position | None = None
        self.left: bool = False

    @property
    def joined(self) -> Joined:
        """Where the subscription began, and whether it has everything since the given position.

        :raises UsageError: before `async with`.
        """
        if self._joined is None:
            raise UsageError("this subscription has not begun: write `async with topic.subscribe() as feed:`")
        return self._joined

    async def __aenter__(self) -> "Subscription[T]":
        """Begin to follow the topic. What is published after this has returned is received.

        :raises BrokerError: if the broker has failed.
        """
        self._core.check_open()
        if self._audience is not None or self._joined is not None:
            raise UsageError("this subscription was already entered: make another one with topic.subscribe()")
        self._audience = self._core.audience(self._topic)
        try:
            self._joined = await self._audience.join(self, self._since, self._begin)
        except BaseException:
            self._audience = None
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop to follow the topic."""
        if self._audience is not None:
            self._audience.remove(self)
            self._audience = None
        self._ready.clear()
        self.end()

    def _begin(self, joined: Joined, publications: "list[Publication[Any]]") -> None:
        """Take what was missed, all of it: it is in the history, so its size is limited."""
        if self._since is not None and not joined.recovered:
            self._append_gap(Gap(self._since))
        for publication in publications:
            self._append(publication, 0)
        if not publications:
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
            earlier = self._ready.pop(name, None)
            if earlier is not None:
                self._size -= earlier[1]
                self.lost += 1
        if self._size and self._size + size > self._backlog:
            if slow == "wait":
                self._behind = True
                return
            if slow == "disconnect":
                self._too_slow = True
                self.lost += 1
                self.end()
                return
            if slow == "drop-newest":
                self._drop(publication)
                return
            self._make_room(size)
        self._append(publication, size, name)

    def _append(self, publication: Publication[Any], size: int, name: object = None) -> None:
        if name is None:
            self._number += 1
            name = self._number
        self._ready[name] = publication, size
        self._size += size
        self._position = publication.position
        self._wake()

    def _make_room(self, size: int) -> None:
        for name in [*self._ready]:
            if self._size + size <= self._backlog:
                break
            item, count = self._ready[name]
            if isinstance(item, Publication):
                del self._ready[name]
                self._size -= count
                self._drop(item)

    def _drop(self, publication: Publication[Any]) -> None:
        """Drop a publication, and tell of the first one since some wait, before those that wait."""
        self.lost += 1
        if not self._told:
            self._told = True
            epoch, offset = publication.position
            self._append_gap(Gap(Position(epoch, offset - 1)))
            self._ready.move_to_end(self._number, last=False)

    def _append_gap(self, gap: Gap) -> None:
        self._number += 1
        self._ready[self._number] = gap, 0
        self._wake()

    def put_gap(self, gap: Gap) -> None:
        """Queue a gap."""
        if not (self._behind or self._ended):
            self._append_gap(gap)

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
        while not self._ready:
            self._told = False
            if self._too_slow:
                raise LimitExceeded(
                    f"topic {self._topic.name!r} was read too slowly: over {self._backlog} bytes waited"
                )
            if self._ended:
                raise StopAsyncIteration
            if self._audience is None:
                raise UsageError("this subscription has not begun: write `async with topic.subscribe() as feed:`")
            if self._behind:
                await self._catch_up(self._audience)
            else:
                await self._wait()
        _, (item, size) = self._ready.popitem(last=False)
        self._size -= size
        return item

    async def _wait(self) -> None:
        """Wait until there is an item, or the end.

        :raises ConcurrencyError: if another task waits already.
        """
        if self._future is not None:
            raise ConcurrencyError(f"another task is already reading this subscription of topic {self._topic.name!r}")
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    async def _catch_up(self, audience: Audience) -> None:
        """Join again behind the last publication that was read, because others were not queued."""
        waits = Waits()
        audience.remove(self)
        while True:
            self.left = self._behind = False
            self.skip = None
            self._since = self._position
            # Not the same one: after a failure, the core may have forgotten it.
            self._audience = self._core.audience(self._topic)
            try:
                await self._audience.join(self, self._since, self._begin)
                return
            except BrokerError:
                self._behind = True
                await waits.pause()
            except BaseException:
                self._behind = True
                raise
