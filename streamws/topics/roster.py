"""`Roster`: who is present in a topic, as its followers were told."""

from collections import Counter
from collections.abc import Mapping

from .values import Connection, PresenceEvent


class Roster:
    """The connections of which the followers of a topic know. It finds what a broker that was gone did not tell."""

    __slots__ = ("_known",)

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._known = dict(connections)

    def apply(self, event: PresenceEvent) -> bool:
        """Note an event; return whether it tells something new."""
        known = self._known.get(event.connection)
        is_known = known is not None and known.user == event.user
        if event.kind == "join":
            self._known[event.connection] = Connection(event.user, event.data)
            return not is_known
        if is_known:
            del self._known[event.connection]
        return is_known

    def compare(self, connections: Mapping[str, Connection]) -> list[PresenceEvent]:
        """Note who is present now; return the events that were not told."""
        events: list[PresenceEvent] = []
        users = Counter(connection.user for connection in self._known.values())
        for id, (user, data) in self._known.items():
            if id not in connections or connections[id].user != user:
                users[user] -= 1
                events.append(PresenceEvent("leave", user, data, id, changed=not users[user]))
        for id, (user, data) in connections.items():
            if id not in self._known or self._known[id].user != user:
                users[user] += 1
                events.append(PresenceEvent("join", user, data, id, changed=users[user] == 1))
        self._known = dict(connections)
        return events
