"""What was published in the topics, as far as acknowledgements and deliveries show it."""

import time
from collections.abc import Callable
from typing import NamedTuple

from chaos.record import Record
from streamws.topics import Position

_COMPARED = 50
"""The most offsets that are compared to find out whether an epoch continues another one."""


class Change(NamedTuple):
    """A follower went from one epoch to another, without a gap."""

    topic: str
    before: Position
    after: Position
    follower: str


class Truth:
    """The publications, by their positions.

    :param clock: returns the time.
    """

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._names: dict[tuple[str, Position], str] = {}
        self._keys: dict[tuple[str, Position], str | None] = {}
        self._places: dict[tuple[str, str], Position] = {}
        self._attempted: dict[tuple[str, str], float] = {}
        self._lost = float("-inf")
        self._lost_in_parts: dict[str, float] = {}  # the same times, by the topics that have lost only some keys
        self._changes: dict[Change, None] = {}

    def attempt(self, topic: str, name: str) -> None:
        """Note that a publication is about to be made."""
        self._attempted.setdefault((topic, name), self._clock())

    def data_lost(self, in_parts: str | None = None) -> None:
        """Note that Redis may have lost data just now.

        :param in_parts: the topic of which it may have lost some keys and kept others; None if there is none.
        """
        self._lost = self._clock()
        if in_parts is not None:
            self._lost_in_parts[in_parts] = self._lost

    def may_repeat(self, topic: str, name: str, same_epoch: bool = False) -> bool:
        """Return whether a publication may be made twice: Redis may have forgotten its idempotency key.

        :param same_epoch: whether both are in one epoch. Then Redis has lost only the idempotency key.
        """
        lost = self._lost_in_parts.get(topic, float("-inf")) if same_epoch else self._lost
        return self._attempted.get((topic, name), float("inf")) <= lost

    def see(self, topic: str, position: Position, name: str, key: str | None) -> None:
        """Note the position of a publication: it was acknowledged, or somebody has received it."""
        known = self._names.setdefault((topic, position), name)
        self._keys[topic, position] = key
        if known != name:
            self._record.fault("contradictions", f"{topic}: both {known} and {name} are at {position}")
        earlier = self._places.setdefault((topic, name), position)
        if earlier.offset != position.offset:
            if not self.may_repeat(topic, name, same_epoch=earlier.epoch == position.epoch):
                self._record.fault("made twice", f"{topic}: {name} is at {earlier} and at {position}")
            self._places[topic, name] = position

    def key(self, topic: str, position: Position) -> str | None:
        """Return the key of a publication; None if it is not known."""
        return self._keys.get((topic, position))

    def continued(self, change: Change) -> None:
        """Note that a follower went from one epoch to another without a gap. `finish` checks it."""
        self._changes[change] = None

    def finish(self) -> None:
        """Check that the epochs to which followers went without a gap continue those before."""
        for topic, before, after, follower in self._changes:
            for offset in range(before.offset, max(before.offset - _COMPARED, 0), -1):
                old = self._names.get((topic, Position(before.epoch, offset)))
                new = self._names.get((topic, Position(after.epoch, offset)))
                if old is not None and new is not None and old != new:
                    text = f"{topic}: {follower} went from {before} to {after}, but {old} and {new} are at {offset}"
                    self._record.fault("gaps in silence", text)
                    break
        self._changes.clear()
