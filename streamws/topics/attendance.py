"""The presence of one connection in one topic."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from ..errors import BrokerError, describe
from .broker import Broker
from .retrying import Waits, broker_error

logger: logging.Logger = logging.getLogger("streamws.topics")


class Entry(NamedTuple):
    """How a connection is to be present in a topic.

    :param connection: the id of the connection.
    :param user: the user whose connection it is.
    :param data: what others may see of the connection.
    """

    connection: str
    user: str
    data: str


class Attendance:
    """The presence of one connection in one topic: what is wished, and what the broker knows.

    One call of the broker at a time carries out the latest wish. A connection that must not be present any more is
    removed as soon as the broker is available.
    """

    __slots__ = ("_broker", "_known", "_on_absent", "_spawn", "_task", "_timeout", "_topic", "_waiters", "_wish")

    def __init__(
        self,
        topic: str,
        broker: Broker,
        timeout: float | None,
        spawn: "Callable[[Coroutine[object, None, None]], asyncio.Task[None]]",
        on_absent: Callable[[], None],
    ) -> None:
        self._topic = topic
        self._broker = broker
        self._timeout = timeout
        self._spawn = spawn
        self._on_absent = on_absent
        self._wish: Entry | None = None
        self._known: Entry | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def enter(self, entry: Entry) -> None:
        """Become present, or change the data.

        :raises BrokerError: if the broker has failed; the connection is not present then.
        """
        self._wish = entry
        await self._wait()

    async def leave(self) -> None:
        """End the presence. Returns after the first attempt, even if the broker has failed."""
        self.leave_soon()
        try:
            await self._wait()
        except BrokerError as error:
            if self._task is not None:
                logger.warning("presence in topic %r: %s; trying again", self._topic, describe(error))

    def leave_soon(self) -> None:
        """End the presence as soon as the broker is available."""
        self._wish = None
        self._begin()

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._spawn(self._carry_out())

    async def _wait(self) -> None:
        self._begin()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    async def _carry_out(self) -> None:
        waits = Waits()
        uncertain = False  # whether the broker may know something else than `_known`
        try:
            while self._wish != self._known or uncertain:
                wish = self._wish
                try:
                    async with asyncio.timeout(self._timeout):
                        if self._known is not None and (wish is None or wish.connection != self._known.connection):
                            await self._broker.exit(self._topic, self._known.connection)
                            self._known = None
                        elif wish is not None:
                            uncertain = True
                            self._known = wish
                            await self._broker.enter(self._topic, *wish)
                    uncertain = False
                except Exception as failure:
                    self._wake(broker_error(failure, "change the presence"))
                    self._wish = None  # all who wait are told that it failed
                    uncertain = self._known is not None
                    await waits.pause()
            self._wake(None)
        finally:
            self._task = None
            self._wake(BrokerError("the topics are closed"))
        if self._known is None:
            self._on_absent()

    def _wake(self, error: BrokerError | None) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
