"""`Group`: the followers of a topic that get the same messages."""

from collections.abc import Callable
from typing import Any

from ..streams.shared import SharedMessage
from ..streams.writer import Writer, send_to_ready
from .outlet import Delivery, Follower
from .values import Gap, Position

Frame = Callable[[Any], str | bytes]


class Group:
    """The followers of one topic that share a frame function. Each message is encoded once for all of them."""

    __slots__ = ("_others", "_places", "_with_writers", "_without_writers", "_writers", "frame", "presence_frame")

    def __init__(self, frame: Frame | None, presence_frame: Frame | None) -> None:
        self.frame: Frame | None = frame
        """Makes the message for a publication; None to send the payload alone."""
        self.presence_frame: Frame | None = presence_frame
        """Makes the message for a presence event; None to send none."""
        self._with_writers: dict[Follower, Writer] = {}
        self._without_writers: dict[Follower, None] = {}
        # Made for the next message, because followers may leave while one is sent.
        self._places: tuple[Follower, ...] | None = None  # those with writers; None after a change
        self._writers: tuple[Writer, ...] = ()
        self._others: tuple[Follower, ...] = ()

    def __len__(self) -> int:
        return len(self._with_writers) + len(self._without_writers)

    def add(self, follower: Follower) -> None:
        """Add a follower, which gets all messages from now on."""
        writer = follower.outlet.writer
        if writer is None:
            self._without_writers[follower] = None
        else:
            self._with_writers[follower] = writer
        self._places = None

    def remove(self, follower: Follower) -> None:
        """Remove a follower, if it is one of the group."""
        self._with_writers.pop(follower, None)
        self._without_writers.pop(follower, None)
        self._places = None
        self._writers = ()  # it would keep the connection alive
        self._others = ()

    def tell(self, gap: Gap) -> None:
        """Tell all followers of a gap."""
        for follower in (*self._with_writers, *self._without_writers):
            if not follower.left:  # it may have left when another one was told
                follower.on_gap(gap)

    def tell_epoch(self, position: Position) -> None:
        """Tell the followers that want to know of a new epoch, in which nothing is missing."""
        for follower in (*self._with_writers, *self._without_writers):
            if follower.on_epoch is not None and not follower.left:
                follower.on_epoch(position)

    def send(self, message: SharedMessage, position: Position | None, key: str | None, event: bool = False) -> None:
        """Send a message to all followers, or let it wait for those that are not ready."""
        places = self._places
        if places is None:
            places = self._places = tuple(self._with_writers)
            self._writers = tuple(self._with_writers.values())
            self._others = tuple(self._without_writers)
        others = self._others
        late = send_to_ready(message, self._writers)
        if late or others:
            delivery = Delivery(message, position, key, event)
            for place in late:
                follower = places[place]
                follower.outlet.offer(follower, delivery)
            for follower in others:
                follower.outlet.offer(follower, delivery)
