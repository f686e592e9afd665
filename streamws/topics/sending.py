"""`Sender`: sends the history, a publication or a gap to a single follower."""

from typing import Any, Protocol

from ..streams.shared import SharedMessage
from .framing import Framing
from .outlet import Delivery, Follower
from .values import Gap, Position, Publication, Record


class Feed(Protocol):
    """A follower inside the program."""

    skip: Position | None
    """The position up to which it has got the publications already, if it is ahead of the topic."""

    left: bool
    """Whether it has left the topic."""

    def put(self, publication: Publication[Any]) -> None:
        """Take the next publication."""
        ...

    def put_gap(self, gap: Gap, position: Position) -> None:
        """Learn of a gap.

        :param position: the position after it.
        """
        ...

    def end(self) -> None:
        """End: the topics are closed."""
        ...


class Sender:
    """Sends to one follower of a topic. What all live followers get is sent to their groups."""

    __slots__ = ("_framing", "sharing")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.sharing: bool = False
        """Whether messages are kept for other followers that join now."""

    def history(self, member: Follower | Feed, records: list[Record]) -> None:
        """Send what a follower has missed. It does not count against the backlog."""
        if not isinstance(member, Follower):
            for record in records:
                member.put(self._framing.publication(record))
            return
        outlet = member.outlet
        for record in records:
            message = self._message(member, record)
            if message is None or member.left or outlet.send_now(message):
                continue
            delivery = Delivery(message, record.position, record.key)
            delivery.size = 0
            outlet.offer(member, delivery)

    def publication(self, member: Follower | Feed, record: Record) -> None:
        """Send a publication."""
        if not isinstance(member, Follower):
            member.put(self._framing.publication(record))
            return
        message = self._message(member, record)
        if message is not None:
            member.outlet.offer(member, Delivery(message, record.position, record.key))

    def gap(self, member: Follower | Feed, gap: Gap, position: Position) -> None:
        """Tell of a gap.

        :param position: the position after the gap.
        """
        if isinstance(member, Follower):
            member.on_gap(gap)
        else:
            member.put_gap(gap, position)

    def _message(self, follower: Follower, record: Record) -> SharedMessage | None:
        """Return the message of a publication. If the frame function raises, tell of a gap, and return None."""
        message = self._framing.message(follower.frame, record, share=self.sharing)
        if message is None:
            follower.on_gap(Gap(Position(record.position.epoch, record.position.offset - 1)))
        return message
