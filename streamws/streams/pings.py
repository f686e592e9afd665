"""Pings that wait for their pong, and round-trip times (RFC 6455 sections 5.5.2 and 5.5.3)."""

import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any
from weakref import ReferenceType, ref

from ..awaiting.lazy import LazyCoroutine
from ..errors import ConnectionClosed

MAX_FORGOTTEN = 64
"""The number of pings from which those are removed whose pongs no task awaits or can await."""


def fresh_payload() -> bytes:
    """Return a random payload, which identifies a ping and its pong."""
    return os.urandom(4)


class Ping:
    """A ping that was sent."""

    __slots__ = ("error", "make", "payload", "round_trip", "sent", "waiter")

    def __init__(self, payload: bytes, sent: float) -> None:
        self.payload: bytes = payload
        self.sent: float = sent  # when, by `perf_counter`
        self.round_trip: float | None = None
        self.error: ConnectionClosed | None = None
        self.make: ReferenceType[object] | None = None  # a function of the awaitable: dead once that was dropped
        self.waiter: Future[None] | None = None  # set once a task waits

    def is_awaited(self) -> bool:
        """Return whether a task waits for the pong, or may do so later."""
        if self.waiter is not None:
            return not self.waiter.cancelled()
        return self.make is not None and self.make() is not None

    def wake(self) -> None:
        """Wake the task that waits: `round_trip` or `error` is set."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Pings:
    """The pings of one connection that wait for their pong, oldest first."""

    __slots__ = ("_full", "_loop", "_waiting", "latency")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Ping] | None = None
        self._full = MAX_FORGOTTEN  # at this number of pings, those that no task awaits are removed
        self.latency: float | None = None
        """The last round-trip time in seconds."""

    def begin(self, payload: bytes) -> Ping:
        """Register a ping that is sent now.

        :param payload: its payload; a random one if this is empty.
        """
        # Not `loop.time()`: the clock of uvloop's loop has a resolution of one millisecond.
        ping = Ping(payload or fresh_payload(), perf_counter())
        if self._waiting is None:
            self._waiting = []
        elif len(self._waiting) >= self._full:
            # A peer may never answer pings, but send data. The keepalive does not close such a connection.
            self._waiting = [waiting for waiting in self._waiting if waiting.is_awaited()]
            self._full = max(MAX_FORGOTTEN, 2 * len(self._waiting))
        self._waiting.append(ping)
        return ping

    def forget(self, ping: Ping) -> None:
        """Remove a ping for whose pong no task waits."""
        if self._waiting is not None and ping in self._waiting:
            self._waiting.remove(ping)

    def wait(self, ping: Ping) -> LazyCoroutine[float]:
        """Return an awaitable that waits for the pong of a ping, and returns the round-trip time in seconds."""

        def make() -> Coroutine[Any, None, float]:
            return self._wait(ping)

        ping.make = ref(make)
        return LazyCoroutine(make)

    async def _wait(self, ping: Ping) -> float:
        while ping.round_trip is None:
            if ping.error is not None:
                raise ping.error
            ping.waiter = self._loop.create_future()
            await ping.waiter
        return ping.round_trip

    def refused(self, error: ConnectionClosed) -> LazyCoroutine[float]:
        """Return an awaitable that raises the error, for a ping that could not be sent."""

        async def refuse() -> float:
            raise error

        return LazyCoroutine(refuse)

    def answer(self, payload: bytes) -> None:
        """Process a pong. It answers the ping with the same payload, and all pings before it (section 5.5.3)."""
        pings = self._waiting or []
        place = 0
        for ping in pings:
            place += 1
            if ping.payload == payload:
                break
        else:
            return  # an unsolicited pong, which is allowed (section 5.5.3)
        now = perf_counter()
        self.latency = now - pings[place - 1].sent
        self._waiting = pings[place:] or None
        for ping in pings[:place]:
            ping.round_trip = now - ping.sent
            ping.wake()

    def close(self, error: Callable[[], ConnectionClosed]) -> None:
        """Raise the end of the connection in all tasks that wait: no pong will arrive.

        :param error: returns the exception for one task.
        """
        pings = self._waiting
        self._waiting = None
        for ping in pings or ():
            ping.error = error()
            ping.wake()
