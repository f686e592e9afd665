"""Pings that wait for their pong, and the round-trip time (RFC 6455 sections 5.5.2 and 5.5.3)."""

import os
from asyncio import AbstractEventLoop, Future
from time import perf_counter
from typing import Protocol

from ..awaiting.lazy import Later
from ..errors import ConnectionClosed


class Failing(Protocol):
    """Who knows how the connection ended."""

    def closed_error(self) -> ConnectionClosed: ...


def fresh_payload() -> bytes:
    """A payload that tells a ping from others."""
    return os.urandom(4)


class Ping:
    """A ping under way."""

    __slots__ = ("error", "payload", "round_trip", "sent", "waiter")

    def __init__(self, payload: bytes, sent: float) -> None:
        self.payload: bytes = payload
        self.sent: float = sent
        self.round_trip: float | None = None
        self.error: ConnectionClosed | None = None
        self.waiter: Future[None] | None = None

    def settle(self) -> None:
        """Let the one who waits see `round_trip` or `error`."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Pings:
    """The pings under way, oldest first."""

    __slots__ = ("_loop", "_under_way", "latency")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: list[Ping] | None = None
        self.latency: float | None = None
        """The last round-trip time in seconds."""

    def begin(self, payload: bytes) -> Ping:
        """A ping that is sent now; without a payload it gets one that tells it from others."""
        ping = Ping(payload or fresh_payload(), perf_counter())  # the time of uvloop counts in ms
        if self._under_way is None:
            self._under_way = []
        self._under_way.append(ping)
        return ping

    def wait(self, ping: Ping) -> Later[float]:
        """The round-trip time of a ping; no one has to want the pong."""
        return Later(lambda: self._wait(ping))

    async def _wait(self, ping: Ping) -> float:
        while ping.round_trip is None:
            if ping.error is not None:
                raise ping.error
            ping.waiter = self._loop.create_future()
            await ping.waiter
        return ping.round_trip

    def refused(self, error: ConnectionClosed) -> Later[float]:
        """The awaitable of a ping that could not be sent."""

        async def refuse() -> float:
            raise error

        return Later(refuse)

    def answer(self, payload: bytes) -> None:
        """A pong came: it answers the ping with its payload and those before it."""
        pings = self._under_way or []
        place = next((place for place, ping in enumerate(pings, 1) if ping.payload == payload), 0)
        if place == 0:
            return  # unasked for, as pongs may be
        now = perf_counter()
        self.latency = now - pings[place - 1].sent
        self._under_way = pings[place:] or None
        for ping in pings[:place]:
            ping.round_trip = now - ping.sent
            ping.settle()

    def close(self, failing: Failing) -> None:
        """No pong will come."""
        pings = self._under_way
        self._under_way = None
        for ping in pings or ():
            ping.error = failing.closed_error()
            ping.settle()
