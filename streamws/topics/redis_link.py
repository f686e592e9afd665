"""Connections to Redis: where it is, one connection, and one that is renewed."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from ..errors import BrokerError, BrokerUnavailable, MissingExtra, describe
from ..options import MiB
from .retrying import Waits

try:
    import hiredis
    from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
    from redis.exceptions import RedisError
except ImportError as _error:
    raise MissingExtra("RedisBroker needs redis-py and hiredis: pip install 'streamws[redis]'") from _error

logger = logging.getLogger("streamws.topics")

Argument = str | bytes | int

_MOST_WAITING = 32 * MiB
"""The bytes that wait to be written to one connection, above which requests are refused."""

_NOTHING_DONE = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
"""Errors of a server that has done nothing, and may do so later."""

_REFUSED = ("WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "ERR invalid password", "ERR AUTH", "ERR DB", "ERR invalid DB")
"""Errors of a login that will fail in the same way again."""

_STEADY = 10.0
"""The seconds after which a connection counts as a success, and the waits between attempts begin anew."""


class Refused(BrokerError):
    """The server does not allow this to this user."""


def reply_error(error: object) -> BrokerError:
    """Return the error to raise for an error reply."""
    text = str(error)
    if text.startswith(_NOTHING_DONE):
        return BrokerUnavailable(f"Redis is not available: {text}")
    if text.startswith(_REFUSED):
        return Refused(text)
    return BrokerError(f"Redis has failed: {text}")


def is_error(reply: Any, beginning: str = "") -> bool:
    """Return whether a reply is an error of the server, whose text has a certain beginning."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(beginning)


def checked(reply: Any) -> Any:
    """Return a reply; raise it if it is an error."""
    if isinstance(reply, BrokerError):
        raise reply
    if is_error(reply):
        raise reply_error(reply)
    return reply


class Link(asyncio.Protocol):
    """One connection to Redis. Requests of one loop iteration leave in one write, and are answered in their order.

    :param timeout: the seconds after which a connection without a sign of life has ended.
    """

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval = timeout / 2
        self._reader = hiredis.Reader()
        self._calls: deque[asyncio.Future[Any]] = deque()  # without an answer yet
        self._packed: list[bytes] = []  # to be written at the end of this loop iteration
        self._transport: asyncio.Transport | None = None
        self._heard = True  # whether anything has been received since the last check
        self._ping: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._reason = "the connection was lost"
        self.run = ""
        """Identifies the run of the server: it changes with each restart and failover."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection has ended."""

    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        """Send a request. The result of the future is the reply, or an error that is not raised.

        :raises BrokerUnavailable: if nothing can be sent.
        """
        future = self._loop.create_future()
        self.send(command)
        self._calls.append(future)
        return future

    def send(self, command: tuple[Argument, ...]) -> None:
        """Send a request, whose reply is processed elsewhere.

        :raises BrokerUnavailable: if nothing can be sent.
        """
        if self._transport is None or self.ended.done():
            raise BrokerUnavailable(f"Redis is not available: {self._reason}")
        if self._full:
            raise BrokerUnavailable(f"Redis is too slow: {_MOST_WAITING} bytes wait to be sent")
        if not self._packed:
            self._loop.call_soon(self._flush)
        self._packed.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub has no variadic tuple

    def _flush(self) -> None:
        packed, self._packed = self._packed, []
        if self._transport is not None and not self.ended.done():
            self._transport.write(b"".join(packed) if len(packed) > 1 else packed[0])

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if self._transport is not None and not self.ended.done():
            self._reason = reason
            self._transport.abort()

    # From the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the connection."""
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is no subclass
        self._transport.set_write_buffer_limits(_MOST_WAITING)
        self._timer = self._loop.call_later(self._interval, self._check)

    def data_received(self, data: bytes) -> None:
        """Process replies."""
        self._heard = True
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                self.answer(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"received invalid data: {error}")

    def answer(self, reply: Any) -> None:
        """Give a reply to the oldest request."""
        if self._calls:
            future = self._calls.popleft()
            if not future.done():
                future.set_result(reply)
            if is_error(reply, "READONLY"):
                self._loop.call_soon(self.abort, "the server is a replica now")
        else:
            self.abort(f"received a reply without a request: {reply!r}")

    def pause_writing(self) -> None:
        """Refuse further requests."""
        self._full = True

    def resume_writing(self) -> None:
        """Accept requests again."""
        self._full = False

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all requests that have no answer."""
        if error is not None:
            self._reason = describe(error)
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set_result(None)
        failure = BrokerError(f"no answer from Redis, the request may have been carried out: {self._reason}")
        while self._calls:
            future = self._calls.popleft()
            if not future.done():
                future.set_result(failure)

    @property
    def reason(self) -> str:
        """Why the connection has ended."""
        return self._reason

    def _check(self) -> None:
        """Ping a server that is silent; end the connection if it stays silent."""
        self._timer = self._loop.call_later(self._interval, self._check)
        if self._heard:
            self._heard = False
            self._ping = None
        elif self._ping is not None:
            self.abort(f"no sign of life for {2 * self._interval:g} s")
        elif self._full:
            self._ping = self._loop.create_future()  # what waits is enough to be answered
        else:
            self._ping = self.call("PING")


AnyLink = TypeVar("AnyLink", bound=Link)


class Address:
    """Where Redis is, and how to log in.

    :param url: as for redis-py: `redis://user:password@host:port/database`, `rediss://` for TLS, or `unix://path`.
    :raises ValueError: if the URL is not valid.
    """

    def __init__(self, url: str) -> None:
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

    def __str__(self) -> str:
        """Return the address without user and password."""
        return self._path or f"{self._host}:{self._port}"

    async def connect(self, make: Callable[[], AnyLink]) -> AnyLink:
        """Connect and log in.

        :raises OSError: if that fails.
        :raises BrokerError: if the server refuses it.
        """
        loop = asyncio.get_running_loop()
        if self._path is not None:
            _, link = await loop.create_unix_connection(make, self._path)
        else:
            name = None if self._ssl is None else self._host
            _, link = await loop.create_connection(make, self._host, self._port, ssl=self._ssl, server_hostname=name)
        try:
            calls = [link.call("AUTH", *self._login)] if self._login else []
            if self._database:
                calls.append(link.call("SELECT", self._database))
            if self._name:
                calls.append(link.call("CLIENT", "SETNAME", self._name))
            calls.append(link.call("INFO", "server"))
            for call in calls:
                reply = checked(await call)
            for line in reply.splitlines():
                if line.startswith(b"run_id:"):
                    link.run = line[7:].decode()
        except BaseException:
            link.abort("not logged in")
            await asyncio.wait([link.ended])
            raise
        return link


class Keeper:
    """Keeps one connection to Redis: connects again, after random waits, whenever it has ended.

    :param make: makes the protocol of each connection.
    :param prepare: called with each new connection, before others use it.
    :param purpose: what the connection is for, for the log.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        make: Callable[[], AnyLink],
        prepare: Callable[[AnyLink], Awaitable[None]],
        purpose: str,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._connect: Callable[[], Awaitable[Link]] = lambda: self._connect_with(make, prepare)
        self._purpose = purpose
        self._task: asyncio.Task[None] | None = None
        self._current: Link | None = None
        self._last: Link | None = None  # `_current`, or the one before
        self._failure = "not connected yet"

    @property
    def link(self) -> Link:
        """The connection.

        :raises BrokerUnavailable: if there is none.
        """
        if self._current is None:
            raise self.unavailable()
        return self._current

    def unavailable(self) -> BrokerUnavailable:
        """Return the error to raise while there is no connection."""
        return BrokerUnavailable(f"Redis at {self._address} is not available: {self._failure}")

    async def open(self) -> None:
        """Connect, and keep the connection from now on. If there is no server, other attempts follow.

        :raises BrokerError: if the server refuses it.
        """
        loop = asyncio.get_running_loop()
        first = loop.create_future()
        self._task = loop.create_task(self._keep(first))
        await first

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._last is not None:
            await asyncio.wait([self._last.ended])

    async def _connect_with(
        self, make: Callable[[], AnyLink], prepare: Callable[[AnyLink], Awaitable[None]]
    ) -> AnyLink:
        async with asyncio.timeout(self._timeout):
            link = await self._address.connect(make)
        # Without a deadline: the connection ends if there is no sign of life.
        try:
            await prepare(link)
        except BaseException:
            link.abort("not prepared")
            await asyncio.wait([link.ended])
            raise
        return link

    async def _keep(self, first: "asyncio.Future[None]") -> None:
        waits = Waits()
        loop = asyncio.get_running_loop()
        told = False
        while True:
            try:
                link = await self._connect()
            except (OSError, BrokerError) as error:
                self._failure = describe(error) if str(error) else f"no answer within {self._timeout:g} s"
                if not first.done() and _is_final(error):
                    first.set_exception(BrokerError(f"Redis at {self._address} cannot be used: {self._failure}"))
                    return
                if not told:
                    logger.warning(
                        "cannot connect to Redis at %s for %s: %s; trying again",
                        self._address,
                        self._purpose,
                        self._failure,
                    )
                    told = True
                if not first.done():
                    first.set_result(None)
            else:
                begun = loop.time()
                self._current = self._last = link
                if told:
                    logger.info("connected to Redis at %s for %s again", self._address, self._purpose)
                if not first.done():
                    first.set_result(None)
                try:
                    await asyncio.wait([link.ended])
                finally:
                    self._current = None
                    link.abort("closed")
                    self._failure = link.reason
                logger.warning(
                    "lost the connection to Redis at %s for %s: %s", self._address, self._purpose, self._failure
                )
                told = True
                if loop.time() - begun > _STEADY:
                    waits = Waits()
            await waits.pause()


def _is_final(error: Exception) -> bool:
    """Return whether another attempt would fail in the same way."""
    return isinstance(error, (Refused, ssl.SSLCertVerificationError))
