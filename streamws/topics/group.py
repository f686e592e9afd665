"""The followers of a topic that get the same messages."""

from collections.abc import Callable
from typing import Any

from ..streams.shared import SharedMessage
from ..streams.writer import Writer, send_to_ready
from .outlet import Delivery, Follower
from .values import Position

Frame = Callable[[Any], str | bytes]


class Group:
    """The followers of one topic that share a frame function. Each message is encoded once for all of them."""

    __slots__ = ("_direct", "_followers", "_others", "_writers", "frame", "presence_frame")

    def __init__(self, frame: Frame | None, presence_frame: Frame | None) -> None:
        self.frame = frame
        """Makes the message for a publication; None to send the payload alone."""
        self.presence_frame = presence_frame
        """Makes the message for a presence event; None to send none."""
        self._followers: dict[Follower, None] = {}
        self._direct: tuple[Follower, ...] | None = None  # those with a writer; None if it has to be made anew
        self._writers: tuple[Writer, ...] = ()  # their writers
        self._others: tuple[Follower, ...] = ()  # those without one

    def __len__(self) -> int:
        return len(self._followers)

    def add(self, follower: Follower) -> None:
        """Add a follower, which gets all messages from now on."""
        self._followers[follower] = None
        self._direct = None

    def remove(self, follower: Follower) -> None:
        """Remove a follower, if it is one of the group."""
        if follower in self._followers:
            del self._followers[follower]
            self._direct = None

    def followers(self) -> tuple[Follower, ...]:
        """Return the followers."""
        return tuple(self._followers)

    def send(self, message: SharedMessage, position: Position | None, key: str | None, event: bool = False) -> None:
        """Send a message to all followers. The caller has to catch the errors of the frame function."""
        direct = self._direct
        if direct is None:
            direct = self._sort()
        others = send_to_ready(message, self._writers)
        if others or self._others:
            delivery = Delivery(message, position, key, event)
            for place in others:
                follower = direct[place]
                follower.outlet.offer(follower, delivery)
            for follower in self._others:
                follower.outlet.offer(follower, delivery)

    def _sort(self) -> tuple[Follower, ...]:
        direct: list[Follower] = []
        writers: list[Writer] = []
        others: list[Follower] = []
        for follower in self._followers:
            writer = follower.outlet.writer
            if writer is None:
                others.append(follower)
            else:
                direct.append(follower)
                writers.append(writer)
        self._direct = tuple(direct)
        self._writers = tuple(writers)
        self._others = tuple(others)
        return self._direct
