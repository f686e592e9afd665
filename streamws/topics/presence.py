"""`Presence`: who is in a topic."""

from collections.abc import Mapping

from ..channel import Recipient
from .attendance import Entry
from .checks import check_text
from .core import Core
from .retrying import ask
from .values import Connection, Member, PresenceCount


class Presence:
    """Who is present in a topic, in all processes. A topic has it as its `presence`."""

    __slots__ = ("_core", "_name")

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self._name = name

    def __repr__(self) -> str:
        return f"<Presence in {self._name!r}>"

    async def enter(self, client: Recipient, user: str, data: str = "", *, connection: str | None = None) -> None:
        """Make a connection present, until it leaves or ends. It need not follow the topic.

        :param client: the connection. If it is present already, its user and data are replaced.
        :param user: the user whose connection it is. Several connections of a user are one member.
        :param data: anything that others may see of the connection, for example JSON.
        :param connection: an id for the connection that no other connection of any process has; by default a new one.
        :raises ConnectionClosed: if the connection has ended or is closing.
        :raises LimitExceeded: if it uses `TopicLimits.max_topics_per_client` topics already.
        :raises BrokerError: if the broker has failed; the connection is not present then.

        If it is cancelled, the connection may be present all the same: call `leave`.
        """
        core = self._core
        core.check_open()
        check_text("user", user)
        check_text("data", data)
        if connection is not None:
            check_text("connection", connection)
        outlet = core.outlet(client, "enter")
        core.check_room(outlet, self._name)
        await core.attendance(outlet, self._name).enter(Entry(connection or outlet.id, user, data))

    async def leave(self, client: Recipient) -> None:
        """Make a connection leave. It has no effect if it is not present.

        If the broker is not available, this returns after the first attempt, and continues in the background. It also
        continues there if it is cancelled.
        """
        self._core.check_open()
        outlet = self._core.find_outlet(client)
        attendance = None if outlet is None else outlet.present.get(self._name)
        if attendance is not None:
            await attendance.leave()

    async def connections(self) -> Mapping[str, Connection]:
        """Return the connections that are present, by their ids, in the order in which they entered.

        :raises BrokerError: if the broker has failed.
        """
        self._core.check_open()
        core = self._core
        name = self._name
        audience = core.audiences.get(name)
        left = set[str]() if audience is None else audience.begin_question()
        try:
            connections = await ask(
                lambda: core.broker.connections(name), core.limits.broker_timeout, f"ask who is in topic {name!r}"
            )
        finally:
            if audience is not None:
                audience.end_question(left)
        if left:
            connections = {id: connection for id, connection in connections.items() if id not in left}
        audience = core.audiences.get(name)
        if audience is not None:
            audience.see_connections(connections)
        return connections

    async def members(self) -> dict[str, Member]:
        """Return the members, by their users, in the order in which they entered.

        :raises BrokerError: if the broker has failed.
        """
        users: dict[str, dict[str, str]] = {}
        for connection, (user, data) in (await self.connections()).items():
            users.setdefault(user, {})[connection] = data
        return {user: Member(user, [*data.values()][-1], data) for user, data in users.items()}

    async def count(self) -> PresenceCount:
        """Return the numbers of members and connections.

        :raises BrokerError: if the broker has failed.
        """
        connections = await self.connections()
        return PresenceCount(len({connection.user for connection in connections.values()}), len(connections))
