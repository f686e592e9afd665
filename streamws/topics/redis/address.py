"""Where Redis is, and how to log in."""

import asyncio
import copy
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ...errors import BrokerError, BrokerUnavailable, MissingExtra, describe
from .link import MISSING, Link, Refused, checked

try:
    from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
    from redis.exceptions import RedisError
except ImportError as _error:
    raise MissingExtra(MISSING) from _error

AnyLink = TypeVar("AnyLink", bound=Link)


class Address:
    """Where Redis is, and how to log in.

    :param url: as for redis-py: `redis://user:password@host:port/database`, `rediss://` for TLS, or `unix://path`.
    :param sentinels: the URLs of Sentinels, which know the address of the master; the host of the URL is its name.
    :param cluster: whether it is a node of a Redis Cluster.
    :raises ValueError: if a URL is not valid.
    """

    def __init__(self, url: str, sentinels: Sequence[str] = (), cluster: bool = False) -> None:
        try:
            options: dict[str, Any] = {**parse_url(url)}
        except ValueError as error:
            reason = str(error)
            if reason.startswith("Port"):  # it may quote a password in which a special character is not escaped
                reason = "the port is not valid; special characters of a password must be percent-encoded"
            raise ValueError(f"not a valid Redis URL: {reason}") from None
        if urlsplit(url).path.strip("/") and not options.keys() & {"db", "path"}:  # it may be a part of a password, too
            reason = "the database must be a number; special characters of a password must be percent-encoded"
            raise ValueError(f"not a valid Redis URL: {reason}")
        kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        try:
            connection: Any = kind(**options)
        except (TypeError, RedisError) as error:
            text, unknown, option = str(error).partition("unexpected keyword argument ")
            raise ValueError(f"not a valid Redis URL: {f'unknown option {option}' if unknown else text}") from error
        self._path: str | None = getattr(connection, "path", None)
        self._host: str = getattr(connection, "host", "")
        self._port: int = getattr(connection, "port", 0)
        self._ssl: ssl.SSLContext | None = None
        if isinstance(connection, SSLConnection):
            self._ssl = connection.ssl_context.get()
        self._database = int(connection.db)
        user, password = connection.username, connection.password or ""
        self._login: tuple[str, ...] = (user, password) if user else (password,) if password else ()
        self._name: str | None = connection.client_name
        self._sentinels = [Address(sentinel) for sentinel in sentinels]
        if self._sentinels and self._path is not None:
            raise ValueError("with sentinels, the host of the URL must be the name of the master")
        self._cluster = cluster
        if cluster and (self._path is not None or self._sentinels):
            raise ValueError("the nodes of a Redis Cluster have URLs with a host, and no Sentinels")
        if cluster and self._database:
            raise ValueError(f"a Redis Cluster has only database 0, not {self._database}")
        self._master = bool(self._sentinels)  # whether it must be a master

    def __str__(self) -> str:
        """Return the address without user and password."""
        if self._sentinels:
            return f"{self._host} (by Sentinel)"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return self._path or f"{host}:{self._port}"

    @property
    def database(self) -> int:
        """The number of the database."""
        return self._database

    @property
    def host(self) -> str:
        """The name or the IP address of the machine."""
        return self._host

    def node(self, host: str, port: int, master: bool) -> "Address":
        """Return the address of another node of the same cluster. The login is the same.

        :param master: whether the node must be a master.
        """
        other = copy.copy(self)
        other._host, other._port, other._master = host, port, master
        return other

    async def connect(self, make: Callable[[], AnyLink], timeout: float) -> AnyLink:  # noqa: ASYNC109
        """Connect and log in.

        :param timeout: the seconds for each connection.
        :raises OSError: if that fails.
        :raises BrokerError: if the server refuses it.
        """
        host, port = await self._find_master(timeout) if self._sentinels else (self._host, self._port)
        made: list[AnyLink] = []

        def make_noted() -> AnyLink:
            made.append(make())
            return made[-1]

        try:
            async with asyncio.timeout(timeout):
                link = await self._open(make_noted, host, port)
                try:
                    await self._log_in(link)
                except BaseException:
                    link.abort("not logged in")
                    await asyncio.wait([link.ended])
                    raise
        except BaseException as error:
            no_tls = self._ssl is not None and bool(made) and not made[0].made
            for link in made:  # if this was cancelled, uvloop has closed the transport, and has not told the link
                link.abort("not connected")
            if isinstance(error, TimeoutError) and not str(error):
                hint = "; a server without TLS does not answer rediss://" if no_tls else ""
                raise TimeoutError(f"no answer within {timeout:g} s{hint}") from error
            raise
        return link

    async def _open(self, make: Callable[[], AnyLink], host: str, port: int) -> AnyLink:
        """Connect, including TLS."""
        loop = asyncio.get_running_loop()
        if self._path is not None:
            _, link = await loop.create_unix_connection(make, self._path)
        else:
            name = None if self._ssl is None else host
            _, link = await loop.create_connection(make, host, port, ssl=self._ssl, server_hostname=name)
        return link

    async def _log_in(self, link: Link) -> None:
        calls = [link.call("AUTH", *self._login)] if self._login else []
        if self._database:
            calls.append(link.call("SELECT", self._database))
        if self._name:
            calls.append(link.call("CLIENT", "SETNAME", self._name))
        if self._master:
            calls.append(link.call("INFO", "replication"))
        calls.append(link.call("INFO", "server"))
        replies = [checked(await call) for call in calls]
        if self._master and parse_info(replies[-2]).get(b"role") != b"master":
            raise BrokerUnavailable(f"{self} is not a master any more")
        server = parse_info(replies[-1])
        mode = server.get(b"redis_mode") or server.get(b"server_mode")
        if self._cluster and mode != b"cluster":
            raise Refused("it is not a node of a Redis Cluster: cluster=True must be omitted")
        if mode == b"cluster" and not self._cluster:
            raise Refused("it is a node of a Redis Cluster: RedisBroker needs cluster=True")
        link.run = server.get(b"run_id", b"").decode()
        if not link.run:
            raise BrokerError("INFO has no run_id: it is neither Redis 7 nor Valkey, or a proxy is in between")

    async def _find_master(self, timeout: float) -> tuple[str, int]:  # noqa: ASYNC109
        """Ask the Sentinels for the address of the master.

        :raises OSError: if none of them knows it.
        """
        failures: list[str] = []
        for sentinel in self._sentinels:
            try:
                link = await sentinel.connect(lambda: Link(timeout), timeout)
                try:
                    reply = checked(await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._host))
                finally:
                    link.abort("not needed any more")
                    await asyncio.wait([link.ended])
            except (OSError, BrokerError) as error:
                failures.append(f"{sentinel}: {describe(error)}")
                continue
            if reply is not None:
                return reply[0].decode(), int(reply[1])
            failures.append(f"{sentinel} knows no master {self._host!r}")
        raise OSError(f"no Sentinel has the address of the master: {'; '.join(failures)}")


def parse_info(reply: bytes) -> dict[bytes, bytes]:
    """Parse the reply to `INFO`."""
    fields = (line.partition(b":") for line in reply.splitlines())
    return {name: value for name, _, value in fields}
