"""Where Redis is, and how to log in."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import BrokerError, BrokerUnavailable, MissingExtra, describe
from .link import Link, checked

try:
    from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
    from redis.exceptions import RedisError
except ImportError as _error:
    raise MissingExtra("RedisBroker needs redis-py and hiredis: pip install 'streamws[redis]'") from _error

AnyLink = TypeVar("AnyLink", bound=Link)


class Address:
    """Where Redis is, and how to log in.

    :param url: as for redis-py: `redis://user:password@host:port/database`, `rediss://` for TLS, or `unix://path`.
    :param sentinels: the URLs of Sentinels, which know the address of the master; the host of the URL is its name.
    :raises ValueError: if a URL is not valid.
    """

    def __init__(self, url: str, sentinels: Sequence[str] = ()) -> None:
        options: dict[str, Any] = {**parse_url(url)}
        kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        try:
            connection: Any = kind(**options)
        except (TypeError, RedisError) as error:
            raise ValueError(f"not a valid Redis URL: {error}") from error
        self._path: str | None = getattr(connection, "path", None)
        self._host: str = getattr(connection, "host", "")
        self._port: int = getattr(connection, "port", 0)
        self._ssl: ssl.SSLContext | None = None
        if isinstance(connection, SSLConnection):
            self._ssl = connection.ssl_context.get()
        self._database = int(connection.db)
        self._login: tuple[str, ...] = tuple(part for part in (connection.username, connection.password) if part)
        self._name: str | None = connection.client_name
        self._sentinels = [Address(sentinel) for sentinel in sentinels]
        if self._sentinels and self._path is not None:
            raise ValueError("with sentinels, the host of the URL must be the name of the master")

    def __str__(self) -> str:
        """Return the address without user and password."""
        if self._sentinels:
            return f"{self._host} (by Sentinel)"
        return self._path or f"{self._host}:{self._port}"

    async def connect(self, make: Callable[[], AnyLink], timeout: float) -> AnyLink:  # noqa: ASYNC109
        """Connect and log in.

        :param timeout: the seconds for each connection.
        :raises OSError: if that fails.
        :raises BrokerError: if the server refuses it.
        """
        host, port = await self._find_master(timeout) if self._sentinels else (self._host, self._port)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            if self._path is not None:
                _, link = await loop.create_unix_connection(make, self._path)
            else:
                name = None if self._ssl is None else host
                _, link = await loop.create_connection(make, host, port, ssl=self._ssl, server_hostname=name)
            try:
                await self._log_in(link)
            except BaseException:
                link.abort("not logged in")
                await asyncio.wait([link.ended])
                raise
        return link

    async def _log_in(self, link: Link) -> None:
        calls = [link.call("AUTH", *self._login)] if self._login else []
        if self._database:
            calls.append(link.call("SELECT", self._database))
        if self._name:
            calls.append(link.call("CLIENT", "SETNAME", self._name))
        if self._sentinels:
            calls.append(link.call("ROLE"))
        calls.append(link.call("INFO", "server"))
        replies = [checked(await call) for call in calls]
        if self._sentinels and replies[-2][0] != b"master":
            raise BrokerUnavailable(f"{self} is not a master any more")
        for line in replies[-1].splitlines():
            if line.startswith(b"run_id:"):
                link.run = line[7:].decode()

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
