"""`Roster`: who is present in a topic, as its followers were told."""

from collections import Counter
from collections.abc import Mapping

from .values import Connection, PresenceEvent


class Roster:
    """The connections of which the followers of a topic were told. It finds the events that a broker has lost.

    It counts the connections of each user and sets `changed` itself: after a loss, events may be sent in another order
    than that of the broker.
    """

    __slots__ = ("_known", "_seen", "_users")

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._known = dict(connections)
        self._users = Counter(connection.user for connection in connections.values())
        # Connections that only the answers to the application had. Their leave is sent even if the join was lost.
        self._seen: dict[str, Connection] = {}

    def see(self, connections: Mapping[str, Connection]) -> None:
        """Note the answer that the application got when it asked who is present."""
        for id, connection in connections.items():
            if id not in self._known:
                self._seen[id] = connection

    def apply(self, event: PresenceEvent) -> list[PresenceEvent]:
        """Note an event; return the events to send: none if it is known already."""
        known = self._known.get(event.connection)
        if event.kind == "join":
            return self._update(event.connection, Connection(event.user, event.data))
        if known is None or known.user != event.user:
            return []
        return self._update(event.connection, None)

    def compare(self, connections: Mapping[str, Connection]) -> list[PresenceEvent]:
        """Note who is present now; return the events that the followers were not told."""
        events: list[PresenceEvent] = []
        seen, self._seen = self._seen, {}
        for id, (user, data) in seen.items():
            if id not in connections and id not in self._known:
                events.append(PresenceEvent("leave", user, data, id, changed=not self._users[user]))
        for id in [id for id in self._known if id not in connections]:
            events += self._update(id, None)
        for id, connection in connections.items():
            events += self._update(id, connection)
        return events

    def _update(self, id: str, connection: Connection | None) -> list[PresenceEvent]:
        """Note that a connection is present, or gone if it is None; return the events to send."""
        known = self._known.get(id)
        self._seen.pop(id, None)
        events: list[PresenceEvent] = []
        if known is not None and (connection is None or known.user != connection.user):
            del self._known[id]
            self._users[known.user] -= 1
            last = not self._users[known.user]
            if last:
                del self._users[known.user]
            events.append(PresenceEvent("leave", known.user, known.data, id, changed=last))
        if connection is not None:
            if id not in self._known:
                self._users[connection.user] += 1
                first = self._users[connection.user] == 1
                events.append(PresenceEvent("join", connection.user, connection.data, id, changed=first))
            self._known[id] = connection
        return events
