"""`RedisBroker`: keeps topics in Redis, for several processes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import BrokerError, BrokerUnavailable
from ..broker import Outgoing, Page, Receiver
from ..stats import BrokerStats
from ..values import Connection, History, Position, Published
from .address import Address
from .commands import Commands, is_forgotten
from .link import Argument, Link, reply_error
from .presence import RedisPresence
from .scripts import PUBLISH, READ, Keys, parse_record
from .subscriber import Subscriber

_REMEMBERED = 300.0
"""The seconds for which an idempotency key is remembered."""


class RedisBroker:
    """A broker in Redis or Valkey, for all processes that use the same server and prefix.

    :param url: where Redis is, as for redis-py: `redis://user:password@host:port/database`, `rediss://...` with TLS, or
        `unix:///path`. Its query may have `db`, `client_name`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` and more.
    :param sentinels: the URLs of Redis Sentinels, such as `redis://host:26379`. Then the host of `url` is the name of
        the master, such as `redis://:password@mymaster/0`. The Sentinels know where it is, also after a failover.
    :param prefix: begins the names of all keys and channels. Applications with different prefixes share nothing.
    :param timeout: the seconds after which a server that gives no sign of life is taken for dead; also those that an
        attempt to connect may take.
    :param presence_timeout: the seconds after which a process that gives no sign of life has left: its connections are
        not present any more.
    :param remember: the seconds for which an unused topic is remembered. Later, a follower that comes back is told of a
        gap.
    :raises ValueError: if the URL is not valid.

    It has two connections: one for subscriptions, one for everything else. They are renewed by themselves, after random
    waits of up to 4 seconds. One `RedisBroker` works for one `Topics`.
    """

    def __init__(
        self,
        url: str,
        *,
        sentinels: Sequence[str] = (),
        prefix: str = "streamws",
        timeout: float = 5.0,
        presence_timeout: float = 30.0,
        remember: float = 7 * 86400.0,
    ) -> None:
        for name, value in {"timeout": timeout, "presence_timeout": presence_timeout, "remember": remember}.items():
            if not value > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
        self._address = Address(url, sentinels)
        self._keys = Keys(prefix)
        self._timeout = timeout
        self._remember = int(remember * 1000)
        self._presence_timeout = presence_timeout
        self._opened = False
        self._renew()

    def __repr__(self) -> str:
        return f"<RedisBroker at {self._address}>"

    def _renew(self) -> None:
        """Make everything that works for one `Topics`."""
        self._commands = Commands(self._address, self._timeout, self._prepare)
        self._presence = RedisPresence(self._commands, self._keys, self._presence_timeout)
        self._subscriber = Subscriber(self._address, self._timeout, self._keys)

    @property
    def stats(self) -> BrokerStats:
        """The counters of its connections, `publications` and `subscriptions`; see `WatchedBroker`.

        They begin anew when the broker is opened again. The round trip is that of the heartbeat of the process.
        """
        connections = {"publications": self._commands.stats, "subscriptions": self._subscriber.stats}
        return BrokerStats(self._subscriber.subscriptions, connections)

    # Opening and closing ---------------------------------------------------------------------------------------

    async def open(self, receiver: Receiver) -> None:
        """Begin to work for one `Topics`; see `Broker.open`.

        :raises BrokerError: if the server refuses the login, or cannot be trusted.
        """
        if self._opened:
            raise BrokerError("this RedisBroker is in use: make another one")
        self._opened = True
        try:
            await self._commands.open()
            await self._subscriber.open(receiver)
        except BaseException:
            await self._end()
            raise
        self._presence.open()

    async def _prepare(self, link: Link) -> None:
        await self._presence.beat(link)
        self._subscriber.check_run(link.run)

    async def close(self) -> None:
        """End all subscriptions, and the presence of all connections; see `Broker.close`."""
        try:
            await self._presence.close()
        finally:
            await self._end()

    async def _end(self) -> None:
        await self._subscriber.close()
        await self._commands.close()
        self._opened = False
        self._renew()

    # Publications ----------------------------------------------------------------------------------------------

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        """Publish messages; see `Broker.publish`."""
        link = self._commands.link
        commands = [self._command(link, message) for message in batch]
        replies = await self._send(link, commands, [*range(len(batch))])
        forgotten = [place for place, reply in enumerate(replies) if is_forgotten(reply)]
        if forgotten:
            # Those after which others of their topic were published must fail: the order would change.
            later = {message.topic: place for place, message in enumerate(batch) if place not in forgotten}
            again = [place for place in forgotten if place > later.get(batch[place].topic, -1)]
            loading = link.call("SCRIPT", "LOAD", PUBLISH.text)
            for place, reply in zip(again, await self._send(link, commands, again), strict=True):
                replies[place] = reply
            await loading
        results = [_published(reply) for reply in replies]
        unavailable = [result for result in results if isinstance(result, BrokerUnavailable)]
        if unavailable and len(unavailable) == len(results):
            raise unavailable[0]
        return results

    async def _send(
        self, link: Link, commands: Sequence[tuple[Argument, ...] | BrokerError], places: Sequence[int]
    ) -> list[Any]:
        """Send some of the publications, and return their replies."""
        sent: list[asyncio.Future[Any] | BrokerError] = []
        for place in places:
            command = commands[place]
            sent.append(command if isinstance(command, BrokerError) else link.call(*command))
        return [call if isinstance(call, BrokerError) else await call for call in sent]

    def _command(self, link: Link, message: Outgoing) -> "tuple[Argument, ...] | BrokerError":
        """Return the command for a publication, or why there is none."""
        topic, payload, key, idempotency, history = message
        channel = self._keys.channel(topic)
        length = -1
        try:
            kind, body = ("t", payload.encode()) if isinstance(payload, str) else ("b", payload)
            if key is not None:
                encoded = key.encode()
                length = len(encoded)
                body = encoded + body
            keys = [f"{channel}:meta", f"{channel}:stream"]
            once = 0
            if idempotency is not None:
                keys.append(self._keys.once(topic, idempotency))
                once = int(_REMEMBERED * 1000)
        except UnicodeEncodeError as error:
            return BrokerError(f"cannot publish in topic {topic!r}: {error}")
        size = milliseconds = most = 0
        if history is not None:
            size, milliseconds, most = history.size, max(int(history.seconds * 1000), 1), history.max_bytes
        return (
            "EVALSHA", PUBLISH.sha, len(keys), *keys,
            link.run, self._lifetime(history), channel, kind, length, body, size, milliseconds, most, once,
        )  # fmt: skip

    def _lifetime(self, history: History | None) -> int:
        """Return the milliseconds for which a topic is remembered: longer than its history."""
        return self._remember if history is None else max(self._remember, int(history.seconds * 2000))

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver the publications of a topic; see `Broker.subscribe`."""
        await self._subscriber.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering those of a topic; see `Broker.unsubscribe`."""
        await self._subscriber.unsubscribe(topic)

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        """Read the history of a topic; see `Broker.read_history`."""
        link = self._commands.link
        channel = self._keys.channel(topic)
        epoch, offset = ("", -1) if since is None else since
        if since is not None and offset < 0:
            epoch, offset = "", 0  # there is no such position
        most = -1 if limit is None else limit
        reply = await self._commands.run(
            READ, (f"{channel}:meta", f"{channel}:stream"),
            link.run, self._lifetime(history), epoch, offset, most, int(reverse),
        )  # fmt: skip
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


def _published(reply: Any) -> Published | BrokerError:
    if isinstance(reply, BrokerError):
        return reply
    if isinstance(reply, Exception):
        return reply_error(reply)
    epoch, offset, duplicate = reply
    return Published(Position(epoch.decode(), offset), bool(duplicate))
