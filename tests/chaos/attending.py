"""Checks what a follower is told of the presence in a topic."""

from typing import Any

from chaos.record import Record


class Attending:
    """Who is present, as one follower was told over one connection.

    :param keeps_all: whether Redis never loses data. Otherwise somebody may be told of a member that has left already,
        and then all are told once more that it has left.
    :param drops: whether events are dropped if the follower is too slow. Then it is told of a gap.
    """

    def __init__(self, name: str, record: Record, keeps_all: bool = True, drops: bool = False) -> None:
        self._name = name
        self._record = record
        self._keeps_all = keeps_all
        self._drops = drops
        self.knows: bool = True
        """Whether it has been told of everything."""
        self._listed: set[str] = set()  # in the answer to the application
        self._told: dict[str, str] = {}  # the last event of each connection

    def begin(self) -> None:
        """A new connection: nothing is known."""
        self._listed.clear()
        self._told.clear()
        self.knows = True

    def note_gap(self) -> None:
        """The follower was told of a gap: events may have been dropped."""
        self.knows = not self._drops

    def receive(self, message: dict[str, Any]) -> None:
        """Check a message about presence: an event, or the list of all who are present."""
        if "present" in message:
            self._listed = set(message["present"])
            return
        kind, connection = message["event"], message["connection"]
        self._record.figures["presence events"] += 1
        if self.knows and self._told.get(connection) == kind and (kind == "join" or self._keeps_all):
            self._record.fault("presence differences", f"{self._name} was told of the {kind} of {connection} twice")
        self._told[connection] = kind

    @property
    def present(self) -> set[str]:
        """Who is present. An event is newer than the list, or another event will follow."""
        told = {connection for connection, kind in self._told.items() if kind == "join"}
        return told | (self._listed - self._told.keys())
