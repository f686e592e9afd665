"""`RedisBroker`: keeps topics in Redis, for several processes."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from ...errors import BrokerError, BrokerUnavailable
from ..broker import Outgoing, Page, Receiver
from ..stats import BrokerStats
from ..values import Connection, History, Position, Published, new_tuple
from .address import Address
from .cluster import Cluster
from .link import reply_error
from .presence import RedisPresence
from .scripts import Keys, Scripts, parse_record
from .server import Server, Setting
from .servers import Call, OneServer, Servers

_LONGEST = 10**15
"""The most milliseconds for which anything is remembered: about the most that Redis can count."""

_REMEMBERED = 300.0
"""The seconds for which an idempotency key is remembered."""


class RedisBroker:
    """A broker in Redis or Valkey, for all processes that use the same server and prefix.

    :param url: where Redis is, as for redis-py: `redis://user:password@host:port/database`, `rediss://...` with TLS, or
        `unix:///path`. Its query may have `db`, `client_name`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` and more.
        With `cluster`, it may be a list with the URLs of several nodes.
    :param sentinels: the URLs of Redis Sentinels, such as `redis://host:26379`. Then the host of `url` is the name of
        the master, such as `redis://:password@mymaster/0`. The Sentinels know where it is, also after a failover.
    :param cluster: whether `url` is a node of a Redis Cluster. This node knows the others. With the URLs of several
        nodes, the program can start while one of them is down. All nodes have the login of the first URL.
    :param prefix: begins the names of all keys and channels. Applications with different prefixes share nothing. It has
        no braces or colons.
    :param timeout: the seconds after which a server that gives no sign of life is taken for dead, and the most that an
        attempt to connect may take.
    :param presence_timeout: the seconds after which a process without a heartbeat is dead: its connections are not
        present any more.
    :param remember: the seconds for which an unused topic is remembered. Later, a follower that comes back is told of a
        gap.
    :raises ValueError: if the URL is not valid.

    It has two connections, or two to each master of a cluster: one for subscriptions, one for everything else. They are
    renewed by themselves, after random waits of up to 4 seconds. One `RedisBroker` works for one `Topics`.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        sentinels: Sequence[str] = (),
        cluster: bool = False,
        prefix: str = "streamws",
        timeout: float = 5.0,
        presence_timeout: float = 30.0,
        remember: float = 7 * 86400.0,
    ) -> None:
        for name, value in {"timeout": timeout, "presence_timeout": presence_timeout, "remember": remember}.items():
            if not 0 < value < inf:
                raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
        urls = [url] if isinstance(url, str) else [*url]
        if len(urls) != 1 and not cluster:
            raise ValueError("url must be one URL; only a Redis Cluster (cluster=True) may have several")
        self._addresses = [Address(each, sentinels, cluster) for each in urls]
        if not urls:
            raise ValueError("a Redis Cluster needs the URL of a node")
        self._cluster = cluster
        self._keys = Keys(prefix, self._addresses[0].database)
        self._scripts = Scripts(sharded=cluster)
        self._timeout = timeout
        self._remember = _milliseconds(remember)
        self._presence_timeout = presence_timeout
        self._opened = False
        self._renew()

    def __repr__(self) -> str:
        places = ", ".join(map(str, self._addresses))
        return f"<RedisBroker at {places} (Redis Cluster)>" if self._cluster else f"<RedisBroker at {places}>"

    def _renew(self) -> None:
        """Make everything that works for one `Topics`."""
        setting = Setting(self._timeout, self._keys, self._scripts, self._cluster, self._prepare)
        self._servers: Servers = (
            Cluster(self._addresses, setting) if self._cluster else OneServer(self._addresses[0], setting)
        )
        self._presence = RedisPresence(self._servers, self._keys, self._scripts, self._presence_timeout)

    async def _prepare(self, server: Server) -> None:
        await self._presence.prepare(server)

    @property
    def stats(self) -> BrokerStats:
        """The counters of its connections; see `WatchedBroker`. They begin anew when the broker is closed.

        The connections are `publications` and `subscriptions`. With Redis Cluster, each master has two of them, such as
        `publications at 10.0.0.1:6379`. The round trip is that of the heartbeat of the process.
        """
        return self._servers.stats

    # Opening and closing ---------------------------------------------------------------------------------------

    async def open(self, receiver: Receiver) -> None:
        """Begin to work for one `Topics`; see `Broker.open`.

        :raises BrokerError: if the server refuses the login, or cannot be trusted.
        """
        if self._opened:
            raise BrokerError("this RedisBroker is in use: make another one")
        self._opened = True
        try:
            await self._servers.open(receiver)
        except BaseException:
            await self._end()
            raise
        self._presence.open()

    async def close(self) -> None:
        """End all subscriptions, and the presence of all connections; see `Broker.close`."""
        try:
            await self._presence.close()
        finally:
            await self._end()

    async def _end(self) -> None:
        await self._servers.close()
        self._opened = False
        self._renew()

    # Publications ----------------------------------------------------------------------------------------------

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        """Publish messages; see `Broker.publish`."""
        replies = await self._servers.run_all([self._call(message) for message in batch])
        results = [_published(reply) for reply in replies]
        unavailable = [result for result in results if isinstance(result, BrokerUnavailable)]
        if unavailable and len(unavailable) == len(results):
            raise unavailable[0]
        return results

    def _call(self, message: Outgoing) -> Call | BrokerError:
        """Return the call for a publication, or why there is none."""
        topic, payload, key, idempotency, history = message
        channel = self._keys.channel(topic)
        length = -1
        try:
            kind, body = ("t", payload.encode()) if isinstance(payload, str) else ("b", payload)
            if key is not None:
                encoded = key.encode()
                length = len(encoded)
                body = encoded + body
            base = self._keys.topic(topic)
            keys = [f"{base}:meta", f"{base}:stream"]
            once = 0
            if idempotency is not None:
                keys.append(self._keys.once(topic, idempotency))
                once = int(_REMEMBERED * 1000)
        except UnicodeEncodeError as error:
            return BrokerError(f"cannot publish in topic {topic!r}: {error}")
        size = milliseconds = most = 0
        if history is not None:
            size, milliseconds, most = history.size, _milliseconds(history.seconds), history.max_bytes
        arguments = self._lifetime(history), channel, kind, length, body, size, milliseconds, most, once
        return new_tuple(Call, (self._scripts.publish, keys, arguments))

    def _lifetime(self, history: History | None) -> int:
        """Return the milliseconds for which a topic is remembered: longer than its history."""
        return self._remember if history is None else max(self._remember, _milliseconds(history.seconds * 2))

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver the publications of a topic; see `Broker.subscribe`."""
        await self._servers.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering those of a topic; see `Broker.unsubscribe`."""
        await self._servers.unsubscribe(topic)

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        """Read the history of a topic; see `Broker.read_history`."""
        base = self._keys.topic(topic)
        epoch, offset = ("", -1) if since is None else since
        if since is not None and offset < 0:
            epoch, offset = "", 0  # there is no such position
        most = -1 if limit is None else limit
        keys = f"{base}:meta", f"{base}:stream"
        arguments = self._lifetime(history), epoch, offset, most, int(reverse)
        reply = await self._servers.run(self._scripts.read, keys, *arguments)
        current = reply[0].decode()
        records = [parse_record(fields[1], current) for _, fields in reply[3]]
        if reverse:
            records.reverse()
        return Page(records, Position(current, reply[1]), bool(reply[2]))

    # Presence --------------------------------------------------------------------------------------------------

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        """Make a connection present in a topic; see `Broker.enter`."""
        await self._presence.enter(topic, connection, user, data)

    async def exit(self, topic: str, connection: str) -> None:
        """Make a connection leave a topic; see `Broker.exit`."""
        await self._presence.exit(topic, connection)

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        """Return who is present in a topic; see `Broker.connections`."""
        return await self._presence.connections(topic)


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000), 1), _LONGEST)


def _published(reply: Any) -> Published | BrokerError:
    if isinstance(reply, BrokerError):
        return reply
    if isinstance(reply, Exception):
        return reply_error(reply)
    epoch, offset, duplicate = reply
    return Published(Position(epoch.decode(), offset), bool(duplicate))
