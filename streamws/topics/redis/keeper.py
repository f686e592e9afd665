"""One connection to Redis that is renewed whenever it has ended."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from ...errors import BrokerError, BrokerUnavailable
from ..retrying import Waits
from ..stats import BrokerConnection
from .address import Address, AnyLink
from .link import Link, Refused, explain

logger: logging.Logger = logging.getLogger("streamws.topics")

_STEADY = 10.0
"""The seconds after which a connection counts as a success, and the waits between attempts begin anew."""


class Keeper:
    """Keeps one connection to Redis: connects again, after random waits, whenever it has ended.

    :param make: makes the protocol of each connection.
    :param prepare: called with each new connection, before others use it.
    :param purpose: what the connection is for, for the log.
    :param on_failure: called when the connection was lost, and after each attempt that has failed.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        make: Callable[[], AnyLink],
        prepare: Callable[[AnyLink], Awaitable[None]],
        purpose: str,
        on_failure: Callable[[], None],
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._connect: Callable[[], Awaitable[Link]] = lambda: self._connect_with(make, prepare)
        self._purpose = purpose
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None
        self.current: Link | None = None
        """The connection; None if there is none."""
        self.attempted: asyncio.Future[None] | None = None
        """Done when the first attempt to connect has ended; None before it."""
        self._last: Link | None = None  # `current`, or the one before
        self._connected = 0  # how often it has connected
        self._failure = ""

    @property
    def stats(self) -> BrokerConnection:
        """The counters of the connection. They may be read in any thread."""
        link = self.current
        reconnects = max(self._connected - 1, 0)
        if link is None:
            return BrokerConnection(False, reconnects, failure=self._failure)
        return BrokerConnection(True, reconnects, link.waiting, link.backlog, failure=self._failure)

    def unavailable(self) -> BrokerUnavailable:
        """Return the error to raise while there is no connection."""
        return BrokerUnavailable(f"Redis at {self._address} is not available: {self._failure or 'not connected yet'}")

    async def open(self) -> None:
        """Connect, and keep the connection from now on. If there is no server, other attempts follow.

        :raises BrokerError: if the server refuses it.
        """
        self.start(strict=True)
        assert self.attempted is not None
        await self.attempted

    def start(self, strict: bool = False) -> None:
        """Begin to connect, and keep the connection from now on.

        :param strict: whether to give up if the first attempt shows that others would fail, too.
        """
        loop = asyncio.get_running_loop()
        self.attempted = loop.create_future()
        self._task = loop.create_task(self._keep(self.attempted, strict))

    @property
    def connecting(self) -> bool:
        """Whether the first attempt to connect is under way."""
        return self.attempted is not None and not self.attempted.done()

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.attempted is not None and not self.attempted.done():
            self.attempted.set_result(None)  # nobody must wait for it any more
        if self._last is not None:
            await asyncio.wait([self._last.ended])

    async def _connect_with(
        self, make: Callable[[], AnyLink], prepare: Callable[[AnyLink], Awaitable[None]]
    ) -> AnyLink:
        link = await self._address.connect(make, self._timeout)
        # Without a deadline: the connection ends if there is no sign of life.
        try:
            await prepare(link)
        except BaseException:
            link.abort("not prepared")
            await asyncio.wait([link.ended])
            raise
        return link

    async def _keep(self, first: "asyncio.Future[None]", strict: bool) -> None:
        waits = Waits()
        loop = asyncio.get_running_loop()
        told = False
        while True:
            try:
                link = await self._connect()
            except Exception as error:  # whatever it is, this must go on
                before = self._failure
                self._failure = explain(error)
                if strict and not first.done() and is_final(error):
                    first.set_exception(BrokerError(f"Redis at {self._address} cannot be used: {self._failure}"))
                    return
                if not told or (is_final(error) and self._failure != before):
                    logger.warning(
                        "cannot connect to Redis at %s for %s: %s; trying again",
                        self._address,
                        self._purpose,
                        self._failure,
                    )
                    told = True
            else:
                begun = loop.time()
                self.current = self._last = link
                self._connected += 1
                if told:
                    logger.info("connected to Redis at %s for %s", self._address, self._purpose)
                if not first.done():
                    first.set_result(None)
                try:
                    await asyncio.wait([link.ended])
                finally:
                    self.current = None
                    link.abort("closed")
                    self._failure = link.reason
                logger.warning(
                    "lost the connection to Redis at %s for %s: %s", self._address, self._purpose, self._failure
                )
                told = True
                if loop.time() - begun > _STEADY:
                    waits = Waits()
            if not first.done():
                first.set_result(None)
            self._on_failure()
            await waits.pause()


def is_final(error: Exception) -> bool:
    """Return whether another attempt would fail in the same way."""
    return isinstance(error, (Refused, ssl.SSLCertVerificationError))
