"""One Redis server: a connection on which scripts run, and one for subscriptions."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import attrs

from ...errors import BrokerUnavailable
from ..broker import Receiver
from ..stats import BrokerConnection
from .address import Address
from .keeper import Keeper
from .link import Link, checked
from .scripts import Keys, Scripts
from .subscriber import Subscriber

_PAUSE = 0.02
"""The seconds between two checks whether there is a connection."""


class Setting(NamedTuple):
    """What all servers of a broker share.

    :param sharded: whether they are the nodes of a cluster.
    :param prepare: called with a server when it has a new connection for scripts, before others use that one.
    """

    timeout: float
    keys: Keys
    scripts: Scripts
    sharded: bool
    prepare: "Callable[[Server], Awaitable[None]]"


class Server:
    """One Redis server: a connection on which scripts run, and one for subscriptions. Both are renewed.

    :param on_doubt: called if topics may be at another server, or if this one is not available.
    """

    def __init__(self, address: Address, setting: Setting, on_doubt: Callable[[], None]) -> None:
        self.address: Address = address
        self._setting = setting
        self._on_doubt = on_doubt
        self._new: Link | None = None  # a connection that is being prepared
        timeout = setting.timeout
        self._keeper = Keeper(address, timeout, lambda: Link(timeout), self._prepare, "publications", on_doubt)
        self.subscriber: Subscriber = Subscriber(
            address,
            timeout,
            setting.keys,
            setting.sharded,
            on_doubt,
            lambda link: self._check_run(link.run),
            self._until_answered,
        )
        """The subscriptions to topics of this server."""
        self.round_trip: float | None = None
        """The seconds that the last heartbeat took; None before it."""

    @property
    def stats(self) -> tuple[BrokerConnection, BrokerConnection]:
        """The counters of both connections. They may be read in any thread."""
        return attrs.evolve(self._keeper.stats, round_trip=self.round_trip), self.subscriber.keeper.stats

    async def open(self, receiver: Receiver) -> None:
        """Begin to connect; see `Keeper.open`."""
        await self._keeper.open()
        await self.subscriber.open(receiver)

    def start(self, receiver: Receiver) -> None:
        """Begin to connect; see `Keeper.start`."""
        self._keeper.start()
        self.subscriber.start(receiver)

    async def close(self) -> None:
        """End both connections."""
        await self.subscriber.close()
        await self._keeper.close()

    async def leave(self) -> None:
        """End both connections when all calls under way have an answer."""
        link = self._keeper.current
        if link is not None:
            with suppress(BrokerUnavailable):  # it is ending
                await link.call("PING")
        await self.close()

    async def _prepare(self, link: Link) -> None:
        for reply in [link.call("SCRIPT", "LOAD", script.text) for script in self._setting.scripts.all]:
            checked(await reply)
        self._new = link
        try:
            await self._setting.prepare(self)
        finally:
            self._new = None
        self.subscriber.check_run(link.run)

    def _check_run(self, run: str) -> None:
        """Connect again if the subscriptions are at another server, or at another run of it."""
        link = self._keeper.current
        if link is not None and link.run != run:
            link.abort("the subscriptions are at another server")

    async def _until_answered(self) -> None:
        """Wait until there is a connection for scripts, and all that was sent on it has been answered."""
        while True:
            with suppress(BrokerUnavailable):  # it is ending
                if self._keeper.current is not None:
                    await self._keeper.current.call("PING")
                    return
            await asyncio.sleep(_PAUSE)

    @property
    def available(self) -> Link | None:
        """The connection on which scripts run; None if there is none."""
        return self._keeper.current

    def link(self, early: bool = False) -> Link:
        """Return the connection on which scripts run.

        :param early: whether it may be one that is being prepared.
        :raises BrokerUnavailable: if there is none.
        """
        link = self._new if early and self._new is not None else self._keeper.current
        if link is None:
            self._on_doubt()
            raise self._keeper.unavailable()
        return link

    @property
    def connecting(self) -> bool:
        """Whether the first attempts to connect are under way."""
        return self._keeper.connecting or self.subscriber.keeper.connecting

    async def connected(self) -> None:
        """Wait until the first attempts to connect have ended."""
        attempts = [keeper.attempted for keeper in (self._keeper, self.subscriber.keeper) if keeper.attempted]
        await asyncio.wait(attempts)
