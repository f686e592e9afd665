"""`BrokerSubscription`: subscribes to a topic at the broker, and unsubscribes."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import BrokerError, BrokerUnavailable, describe
from .broker import Broker
from .retrying import Waits, broker_error, wake

logger: logging.Logger = logging.getLogger("streamws.topics")


class BrokerSubscription:
    """The subscription to one topic at the broker. It makes one call at a time, until it is as it was last wanted.

    :param name: the name of the topic.
    :param timeout: the deadline of each call to the broker, in seconds; None if the broker never waits.
    :param spawn: starts a task.
    """

    __slots__ = (
        "_broker",
        "_ending",
        "_name",
        "_on_end",
        "_pause",
        "_spawn",
        "_timeout",
        "_transition",
        "_waiters",
        "_wanted",
        "active",
    )

    def __init__(
        self,
        name: str,
        broker: Broker,
        timeout: float | None,
        spawn: "Callable[[Coroutine[object, None, None]], asyncio.Task[None]]",
    ) -> None:
        self._name = name
        self._broker = broker
        self._timeout = timeout
        self._spawn = spawn
        self._on_end: Callable[[], None] | None = None  # not kept longer than needed: it refers to the topic
        self.active: bool = False
        """Whether the broker delivers."""
        self._wanted = False
        self._ending = False  # whether it will end in the next loop iteration, unless it is wanted again
        self._transition: asyncio.Task[None] | None = None
        self._pause: asyncio.Future[None] | None = None  # of the transition, after a failure
        self._waiters: dict[asyncio.Future[None], None] = {}  # of tasks in `begin`

    @property
    def busy(self) -> bool:
        """Whether it is active, or a call to the broker is under way."""
        return self.active or self._transition is not None

    async def begin(self, check: Callable[[], None], on_end: Callable[[], None]) -> None:
        """Wait until the broker delivers.

        :param check: raises an error if the caller no longer wants the subscription.
        :param on_end: called when the subscription has ended, or if it cannot begin.
        :raises BrokerError: if it cannot begin.
        """
        while True:
            check()
            self._wanted = True
            self._on_end = on_end
            if self.active:
                return
            if self._timeout is None and self._transition is None:
                try:
                    await self._broker.subscribe(self._name)  # it never waits
                except Exception:
                    logger.debug("topic %r: cannot subscribe at once", self._name, exc_info=True)
                else:
                    self.active = True
                    return
            self._begin_transition()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[future] = None
            try:
                await future
            finally:
                self._waiters.pop(future, None)

    def end(self) -> None:
        """Unsubscribe soon, unless the subscription is wanted again before that."""
        self._wanted = False
        if not self.active:
            return
        if self._timeout is not None or self._transition is not None:
            self._begin_transition()
        elif not self._ending:
            self._ending = True
            asyncio.get_running_loop().call_soon(self._unsubscribe_now)

    def forget(self) -> None:
        """Note that the broker is about to be closed, and that it delivers nothing more."""
        self._wanted = self.active = False
        self._on_end = None

    def _ended(self) -> None:
        if not self.busy and self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()

    def _begin_transition(self) -> None:
        if self._transition is None:
            self._transition = self._spawn(self._transit())
        elif self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

    async def _transit(self) -> None:
        """Subscribe or unsubscribe, until the subscription is as it was last wanted."""
        waits = Waits()
        logged = False
        uncertain = False  # whether there may be a subscription that is not wanted
        try:
            while self._wanted != self.active or (uncertain and not self._wanted):
                if self._wanted:
                    try:
                        await self._call(self._broker.subscribe(self._name))
                    except Exception as error:
                        uncertain = uncertain or not isinstance(error, BrokerUnavailable)
                        self._wanted = False
                        self._wake_waiters(broker_error(error, f"subscribe to topic {self._name!r}"))
                    else:
                        self.active = True
                        self._wake_waiters(None)
                else:
                    self.active = False
                    uncertain = True
                    try:
                        await self._call(self._broker.unsubscribe(self._name))
                        uncertain = False
                    except Exception as error:
                        if not logged and not isinstance(error, BrokerUnavailable):  # the broker logs that, once
                            logger.warning(
                                "topic %r: cannot unsubscribe: %s; trying again", self._name, describe(error)
                            )
                            logged = True
                        self._pause = asyncio.get_running_loop().create_future()
                        await asyncio.wait([self._pause], timeout=waits.next())
                        self._pause = None
            self._wake_waiters(None)  # they raise because they have left, or they subscribe again
        finally:
            self._transition = None
            self._wake_waiters(BrokerUnavailable("the topics are closed"))
            self._ended()

    async def _call(self, call: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(self._timeout):
            await call

    def _unsubscribe_now(self) -> None:
        """Unsubscribe at a broker that never waits."""
        self._ending = False
        if self._wanted or not self.active or self._transition is not None:
            return
        call = self._broker.unsubscribe(self._name)
        try:
            call.send(None)
        except StopIteration:
            self.active = False
            self._ended()
        except Exception:
            self._begin_transition()  # it tries again
        else:
            call.close()
            self._begin_transition()

    def _wake_waiters(self, error: BrokerError | None) -> None:
        waiters, self._waiters = self._waiters, {}
        wake(waiters, error)
