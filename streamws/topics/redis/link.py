"""One connection to Redis, and the errors of its replies."""

import asyncio
from collections import deque
from typing import Any, cast

from ...errors import BrokerError, BrokerUnavailable, MissingExtra, describe, shortened
from ...options import MiB

MISSING = "RedisBroker needs redis-py and hiredis: pip install 'streamws[redis]'"
"""The error if one of these packages is not installed."""

try:
    import hiredis
    from hiredis import ReplyError as ReplyError
except ImportError as _error:
    raise MissingExtra(MISSING) from _error

Argument = str | bytes | int

_MOST_WAITING = 32 * MiB
"""The bytes that wait to be written to one connection, above which requests are refused."""

_NOTHING_DONE = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY")
"""Errors of a server that has done nothing, and may do so later."""

_WRONG_SERVER = {"READONLY": "the server is a replica now", "NOREPLICAS": "the server has lost its replicas"}
"""Errors of a server that may have been replaced by another one, and why the connection is ended."""

ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN")
"""Errors of a node of a cluster for a topic that another node has, or that is moving to another node."""

_REFUSED = ("WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "ERR invalid password", "ERR AUTH", "ERR DB", "ERR invalid DB")
"""Errors of a login that will fail in the same way again."""


class Refused(BrokerError):
    """The server does not allow this to this user."""


def explain(error: BaseException) -> str:
    """Return the type and message of an error; only the message for that of the server, and for a timeout."""
    return shortened(str(error)) if isinstance(error, (Refused, TimeoutError)) else describe(error)


class Elsewhere(BrokerUnavailable):
    """Another node of the cluster has the topic, or the topic is moving to another node."""


def reply_error(error: object) -> BrokerError:
    """Return the error to raise for an error reply."""
    text = str(error).partition(", with args beginning with")[0]  # the arguments may be a password
    if text.startswith(ELSEWHERE):
        return Elsewhere(f"Redis is not available: {text}")
    if text.startswith(_NOTHING_DONE):
        return BrokerUnavailable(f"Redis is not available: {text}")
    if text.startswith(_REFUSED):
        return Refused(text)
    return BrokerError(f"Redis has failed: {text}")


def is_error(reply: Any, beginning: str | tuple[str, ...] = "") -> bool:
    """Return whether a reply is an error of the server, whose text has a certain beginning, or one of several."""
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
        self._due = 0.0  # when the next check is due
        self._written = 0  # the bytes given to the transport
        self._taken = 0  # and those that it had written to the socket at the last check
        self._blocked = False  # whether others waited for the socket then
        self._full = False
        self._ending = False  # whether nothing is sent any more
        self._reason = "the connection was lost"
        self.run: str = ""
        """Identifies the run of the server: it changes with each restart and failover."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection has ended."""

    @property
    def made(self) -> bool:
        """Whether the connection was made, including TLS."""
        return self._transport is not None

    @property
    def waiting(self) -> int:
        """The requests that have no answer yet."""
        return len(self._calls)

    @property
    def backlog(self) -> int:
        """The bytes that are not written to the network yet."""
        transport = self._transport
        written = 0 if transport is None or self._ending else transport.get_write_buffer_size()
        return written + sum(map(len, self._packed))

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
        if self._transport is None or self._ending:
            raise BrokerUnavailable(f"Redis is not available: {self._reason}")
        if self._full:
            raise BrokerUnavailable(f"Redis is too slow: {_MOST_WAITING} bytes wait to be sent")
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub has no variadic tuple
        if not self._packed:
            self._loop.call_soon(self._flush)
        self._packed.append(packed)

    def _flush(self) -> None:
        packed, self._packed = self._packed, []
        transport = self._transport
        if transport is not None and not self._ending and not transport.is_closing():
            data = b"".join(packed) if len(packed) > 1 else packed[0]
            self._written += len(data)
            transport.write(data)

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if self._transport is not None and not self._ending:
            self._ending = True
            self._reason = reason
            self._transport.abort()

    # From the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the connection."""
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is no subclass
        self._transport.set_write_buffer_limits(_MOST_WAITING)
        self._watch()

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
            if is_error(reply):
                for error, reason in _WRONG_SERVER.items():
                    if is_error(reply, error):
                        self.abort(reason)
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
        self._ending = True
        if error is not None:
            self._reason = describe(error)
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set_result(None)
        text = f"no answer from Redis, the request may have been carried out: {self._reason}"
        while self._calls:
            future = self._calls.popleft()
            if not future.done():
                future.set_result(BrokerError(text))  # each one is raised, and gets a traceback

    @property
    def reason(self) -> str:
        """Why the connection has ended."""
        return self._reason

    def _watch(self) -> None:
        self._due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        """Ping a server that is silent; end the connection if it stays silent."""
        if self._ending:
            return
        late = self._loop.time() - self._due  # while the loop was blocked, nothing could be heard
        self._watch()
        if self._is_taking() or self._heard or late > self._interval / 2:
            self._heard = False
            self._ping = None
        elif self._ping is not None:
            self.abort(f"no sign of life for {2 * self._interval:g} s")
        elif self._full:
            self._ping = self._loop.create_future()  # what waits is enough to be answered
        else:
            self._ping = self.call("PING")

    def _is_taking(self) -> bool:
        """Return whether the server has taken some of the data that waited for it at the last check."""
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting
        progress = self._blocked and taken > self._taken
        self._blocked, self._taken = waiting > 0, taken
        return progress
