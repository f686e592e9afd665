"""The presence of one connection in one topic."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from ..errors import BrokerError, BrokerUnavailable
from .broker import Broker
from .retrying import Waits, broker_error, log_retry, wake


class Entry(NamedTuple):
    """What a broker keeps of a connection that is present in a topic.

    :param connection: the id of the connection.
    :param user: the user whose connection it is.
    :param data: what others may see of the connection.
    """

    connection: str
    user: str
    data: str


class Attendance:
    """The presence of one connection in one topic: the entry that is wanted, and the entry that the broker has.

    A task calls the broker, one call at a time, until both are equal. If the broker fails while a connection leaves,
    the connection is removed as soon as the broker is available.
    """

    __slots__ = ("_broker", "_known", "_on_absent", "_spawn", "_task", "_timeout", "_topic", "_waiters", "_wanted")

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
        self._wanted: Entry | None = None
        self._known: Entry | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def enter(self, entry: Entry) -> None:
        """Make the connection present, or change its data.

        :raises BrokerError: if the broker has failed. Then the connection is not present.
        """
        self._wanted = entry
        await self._wait()

    async def leave(self) -> None:
        """End the presence. Returns after the first attempt, even if the broker has failed."""
        self.leave_soon()
        try:
            await self._wait()
        except BrokerError as error:
            if self._task is not None:
                log_retry(self._topic, error)

    def leave_soon(self) -> None:
        """End the presence as soon as the broker is available."""
        self._wanted = None
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
        uncertain = False  # whether the broker may have another entry than `_known`
        try:
            while self._wanted != self._known or uncertain:
                wanted = self._wanted
                before = self._known, uncertain
                try:
                    async with asyncio.timeout(self._timeout):
                        if self._known is not None and (wanted is None or wanted.connection != self._known.connection):
                            await self._broker.exit(self._topic, self._known.connection)
                            self._known = None
                        elif wanted is not None:
                            uncertain = True
                            self._known = wanted
                            await self._broker.enter(self._topic, *wanted)
                    uncertain = False
                except Exception as failure:
                    self._wake(broker_error(failure, "change the presence"))
                    self._wanted = None  # whoever waits for it gets the error
                    if isinstance(failure, BrokerUnavailable):
                        self._known, uncertain = before  # nothing was done
                    else:
                        uncertain = self._known is not None
                    if self._known is not None:
                        await waits.pause()
            self._wake(None)
        finally:
            self._task = None
            self._wake(BrokerError("the topics are closed"))
        if self._known is None:
            self._on_absent()

    def _wake(self, error: BrokerError | None) -> None:
        waiters, self._waiters = self._waiters, []
        wake(waiters, error)
