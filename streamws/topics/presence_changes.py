"""`PresenceChanges`: what the followers of a topic are told of its presence."""

from collections.abc import Callable, Mapping

from ..options import ITEM_OVERHEAD
from .broker import Broker
from .retrying import ask
from .roster import Roster
from .values import Connection, PresenceEvent


class PresenceChanges:
    """The joins and leaves of one topic, for the followers that want them.

    It remembers who is present, as the followers were told. After a loss it compares that with who is present now, and
    returns the events that they were not told. A broker that never waits loses no events: then nothing is remembered.

    :param name: the name of the topic.
    :param timeout: the deadline of each call to the broker, in seconds; None if it never waits.
    :param most: the most bytes of events that are held back, with `ITEM_OVERHEAD` for each.
    """

    __slots__ = ("_asking", "_broker", "_held", "_losses", "_most", "_name", "_roster", "_timeout", "holding")

    def __init__(self, name: str, broker: Broker, timeout: float | None, most: int) -> None:
        self._name = name
        self._broker = broker
        self._timeout = timeout
        self._most = most
        self._roster: Roster | None = None  # who is present, as the followers were told
        self._asking = 0  # the number of followers that join and ask who is present
        self._held: list[PresenceEvent] = []  # what arrived meanwhile, or while `holding`
        self._losses = 0  # how often events may have been lost
        self.holding: bool = False
        """Whether events are held back until `catch_up`, because the topic recovers."""

    @property
    def known(self) -> bool:
        """Whether it remembers who is present."""
        return self._roster is not None

    @property
    def waiting(self) -> bool:
        """Whether events are held back."""
        return bool(self._held)

    async def begin(self, check: Callable[[], None]) -> list[PresenceEvent]:
        """Find out who is present, for the first follower that is told of changes.

        :param check: raises an error if the follower has left.
        :returns: the events to send now, which were held back meanwhile.
        :raises BrokerError: if that fails.
        """
        if self._roster is not None or self._timeout is None:
            return []
        self._asking += 1
        try:
            while self._roster is None:
                losses = self._losses
                connections = await self.read()
                check()
                # Another follower may have been faster.
                if losses == self._losses and self._roster is None:
                    self._roster = Roster(connections)
                    if not self.holding:
                        return self._take_held()
            return []
        finally:
            self._asking -= 1
            if not self._asking and not self.holding:
                self._held = []  # if nothing has failed, they were returned already

    async def read(self) -> Mapping[str, Connection]:
        """Ask the broker who is present.

        :raises BrokerError: if that fails.
        """
        return await ask(lambda: self._broker.connections(self._name), self._timeout, "ask who is present")

    def received(self, event: PresenceEvent) -> list[PresenceEvent]:
        """Note an event, or hold it back; return the events to send now."""
        if self._roster is None:
            if not self._asking:
                return [event]
        elif not self.holding:
            return self._roster.apply(event)
        self._held.append(event)
        if len(self._held) * ITEM_OVERHEAD > self._most:
            self._held = []
            self._losses += 1
        return []

    @property
    def losses(self) -> int:
        """How often events may have been lost. If it changes while `read` is under way, read again."""
        return self._losses

    def lost(self) -> None:
        """Note that events may be missing."""
        self._losses += 1
        self._held = []  # events after them may be missing; the broker is asked again

    def see(self, connections: Mapping[str, Connection]) -> None:
        """Note the answer that the application got when it asked who is present."""
        if self._roster is not None:
            self._roster.see(connections)

    def catch_up(self, connections: Mapping[str, Connection] | None) -> list[PresenceEvent]:
        """Return the events to send: those that are missing, and those that were held back.

        :param connections: who is present; None if nobody asked.
        """
        missing: list[PresenceEvent] = []
        if self._roster is not None and connections is not None:
            missing = self._roster.compare(connections)
        return missing + self._take_held()

    def _take_held(self) -> list[PresenceEvent]:
        held, self._held = self._held, []
        if self._roster is None:
            return []
        return [new for event in held for new in self._roster.apply(event)]

    def forget(self) -> None:
        """Forget who is present: events will be missed from now on."""
        self._roster = None
        self._held = []
