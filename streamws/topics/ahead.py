"""`Ahead`: the followers of a topic that have got later publications than the topic has delivered."""

from collections.abc import Awaitable, Callable, Iterator, Mapping

from ..streams.shared import SharedMessage
from .broker import Page
from .counting import Counts
from .group import Frame
from .outlet import Delivery, Follower
from .sending import Feed, Sender
from .values import Gap, Position, Record

Pages = Mapping[str, tuple[int, Page]]
"""Maps an epoch to an offset in it and the page after that offset."""


class Ahead:
    """The followers that are ahead of their topic in this process.

    A follower that joins may read a history that is newer than the last delivery of the broker. It skips what it has
    got already (`skip` is its position), and becomes live when the topic reaches its position.
    """

    __slots__ = ("_counts", "_members", "_sender")

    def __init__(self, sender: Sender, counts: Counts) -> None:
        self._sender = sender
        self._counts = counts
        self._members: dict[Follower | Feed, None] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._members)

    def add(self, member: Follower | Feed) -> None:
        """Add a follower."""
        self._members[member] = None

    def discard(self, member: Follower | Feed) -> None:
        """Remove a follower, if it is ahead."""
        self._members.pop(member, None)

    # What the topic delivers -----------------------------------------------------------------------------------

    def deliver(self, record: Record) -> Iterator[Follower | Feed]:
        """Deliver a publication to those that have not got it.

        :returns: those that are not ahead any more. The caller makes each live at once, unless it has left.
        """
        position = record.position
        for member in tuple(self._members):
            skip = member.skip
            if skip is None or skip.epoch != position.epoch or member.left:
                continue
            if position.offset > skip.offset + 1:
                self._sender.gap(member, Gap(skip), Position(position.epoch, position.offset - 1))
            if position.offset > skip.offset and not member.left:
                self._sender.publication(member, record)
            if position.offset >= skip.offset:
                self.discard(member)
                yield member

    def deliver_event(self, message_of: Callable[[Frame | None], SharedMessage | None]) -> None:
        """Deliver a presence event.

        :param message_of: returns the message of a frame function.
        """
        for member in tuple(self._members):
            message = message_of(member.presence_frame) if isinstance(member, Follower) else None
            if isinstance(member, Follower) and message is not None:
                member.outlet.offer(member, Delivery(message, member.skip, None, event=True))

    def pass_gap(self, position: Position) -> Iterator[Follower | Feed]:
        """Note that the topic told its live followers of a gap.

        :param position: the position after the gap.
        :returns: those that are not ahead any more. The caller makes each live at once, unless it has left.
        """
        for member in tuple(self._members):
            skip = member.skip
            if skip is None or skip.epoch != position.epoch or skip.offset > position.offset or member.left:
                continue  # it is still ahead, or has left when another one was told
            if skip.offset < position.offset:
                self._sender.gap(member, Gap(skip), position)
            self.discard(member)
            yield member

    # Epochs ----------------------------------------------------------------------------------------------------

    async def read(self, epoch: str, read: Callable[[Position, int], Awaitable[Page]]) -> Pages:
        """Read what follows the last positions of those that are ahead in other epochs.

        :param epoch: that of the topic.
        :param read: reads the history after a position, at most a number of publications.
        :raises BrokerError: if that fails.
        """
        offsets: dict[str, int] = {}
        for member in self._members:
            skip = member.skip
            if skip is not None and skip.epoch != epoch:
                offsets[skip.epoch] = max(skip.offset, offsets.get(skip.epoch, 0))
        return {other: (offset, await read(Position(other, offset), 1)) for other, offset in offsets.items()}

    def move(self, position: Position, pages: Pages) -> bool:
        """Give those that are ahead in an epoch that has ended a position in that of the topic.

        :param position: the position of the topic.
        :param pages: the result of `read`.
        :returns: False if some could not be moved, because they, or a newer epoch, came after `read`. Read again then.
        """
        all_moved = True
        for member in tuple(self._members):
            skip = member.skip
            if skip is None or skip.epoch == position.epoch or member.left:
                continue  # it may have left when another one was told
            offset, page = pages.get(skip.epoch, (-1, None))
            if page is None or skip.offset > offset or page.position.epoch != position.epoch:
                all_moved = False
                continue
            if page.complete:
                member.skip = Position(position.epoch, skip.offset)
                if isinstance(member, Follower) and member.on_epoch is not None:
                    member.on_epoch(member.skip)
                continue
            first = page.records[0].position.offset if page.records else position.offset + 1
            member.skip = Position(position.epoch, first - 1)
            self._counts.gaps += 1
            self._sender.gap(member, Gap(skip), member.skip)
        return all_moved
