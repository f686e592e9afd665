"""The subscriptions of one process at Redis: one connection, which is renewed."""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import BrokerError
from ..broker import Receiver
from ..stats import BrokerConnection
from .address import Address
from .keeper import Keeper
from .link import Link, is_error, reply_error
from .scripts import Keys, parse_event, parse_record

logger: logging.Logger = logging.getLogger("streamws.topics")

_BATCH = 500
"""The most channels in one request."""

_EVENT = b"jl"
"""The first bytes of presence events."""

Deliver = Callable[[bytes, bytes], None]


class SubscriberLink(Link):
    """A connection for subscriptions. Requests of one loop iteration are one request for many channels.

    :param deliver: called with the channel and the message of each publication.
    """

    def __init__(self, timeout: float, deliver: Deliver) -> None:
        super().__init__(timeout)
        self._deliver = deliver
        self._wanted: list[tuple[str, str, asyncio.Future[None]]] = []  # command, channel; for the next requests
        self._unconfirmed: deque[asyncio.Future[None]] = deque()  # one for each channel that was sent, in order
        self._sizes: deque[int] = deque()  # the number of channels of each request without a complete answer

    @property
    def waiting(self) -> int:
        """The requests that have no answer yet; each channel counts as one."""
        return len(self._wanted) + len(self._unconfirmed) + len(self._calls)

    def change(self, command: str, channels: Sequence[str]) -> "list[asyncio.Future[None]]":
        """Subscribe to channels or unsubscribe from them, at the end of this loop iteration.

        :param command: `SUBSCRIBE` or `UNSUBSCRIBE`.
        :returns: done when Redis has confirmed each.
        """
        if not self._wanted:
            self._loop.call_soon(self._request)
        futures = [self._loop.create_future() for _ in channels]
        self._wanted += zip([command] * len(channels), channels, futures, strict=True)
        return futures

    def _request(self) -> None:
        wanted, self._wanted = self._wanted, []
        place = 0
        while place < len(wanted):
            command = wanted[place][0]
            end = place + 1
            while end < len(wanted) and end - place < _BATCH and wanted[end][0] == command:
                end += 1
            batch = wanted[place:end]
            try:
                self.send((command, *[channel for _, channel, _ in batch]))
            except BrokerError as error:
                for _, _, future in batch:
                    _fail(future, error)
            else:
                self._unconfirmed += [future for _, _, future in batch]
                self._sizes.append(len(batch))
            place = end

    def answer(self, reply: Any) -> None:
        """Process a publication, a confirmation or another reply."""
        if type(reply) is list:
            kind, channel, message = reply if len(reply) == 3 else (b"", b"", b"")
            if kind == b"message":
                self._deliver(channel, message)
                return
            if kind in (b"subscribe", b"unsubscribe"):
                self._confirm()
                return
        elif is_error(reply) and self._sizes and not self._calls:
            error = reply_error(reply)
            for _ in range(self._sizes.popleft()):
                _fail(self._unconfirmed.popleft(), error)
            return
        super().answer(reply)

    def _confirm(self) -> None:
        future = self._unconfirmed.popleft()
        if not future.done():
            future.set_result(None)
        self._sizes[0] -= 1
        if not self._sizes[0]:
            self._sizes.popleft()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all requests that have no answer."""
        super().connection_lost(error)
        failure = BrokerError(f"no answer from Redis: {self.reason}")
        while self._unconfirmed:
            _fail(self._unconfirmed.popleft(), failure)
        self._sizes.clear()


def _fail(future: "asyncio.Future[None]", error: BrokerError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may wait for it any more


class Subscriber:
    """The subscriptions of one process. After each failure they are renewed, and the receiver is told of a loss."""

    def __init__(self, address: Address, timeout: float, keys: Keys) -> None:
        self._keys = keys
        self._receiver: Receiver
        self._topics: dict[bytes, str] = {}  # the topics of all subscriptions, by their channels
        self._keeper = Keeper(
            address, timeout, lambda: SubscriberLink(timeout, self._deliver), self._renew, "subscriptions"
        )
        self._link: SubscriberLink | None = None
        self._new = True  # whether there was no connection yet

    @property
    def stats(self) -> BrokerConnection:
        """The counters of the connection. They may be read in any thread."""
        return self._keeper.stats

    @property
    def subscriptions(self) -> int:
        """The number of topics that are delivered."""
        return len(self._topics)

    async def open(self, receiver: Receiver) -> None:
        """Begin to connect; see `Keeper.open`."""
        self._receiver = receiver
        await self._keeper.open()

    async def close(self) -> None:
        """End all subscriptions."""
        self._topics.clear()
        await self._keeper.close()

    async def _renew(self, link: SubscriberLink) -> None:
        """Renew all subscriptions, and then tell of the loss."""
        self._link = link
        futures = link.change("SUBSCRIBE", [self._keys.channel(topic) for topic in self._topics.values()])
        for future in futures:
            await future
        if not self._new:
            self._receiver.lost()
        self._new = False

    def _current(self) -> SubscriberLink | None:
        link = self._link
        return None if link is None or link.ended.done() else link

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver what is published in a topic; see `Broker.subscribe`."""
        name = self._keys.channel(topic)
        channel = name.encode()
        if channel in self._topics:
            return
        link = self._current()
        if link is None:
            raise self._keeper.unavailable()
        (future,) = link.change("SUBSCRIBE", [name])
        self._topics[channel] = topic
        try:
            await future
        except BaseException:
            self._topics.pop(channel, None)
            raise

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering what is published in a topic; see `Broker.unsubscribe`."""
        name = self._keys.channel(topic)
        self._topics.pop(name.encode(), None)
        link = self._current()
        if link is not None:
            (future,) = link.change("UNSUBSCRIBE", [name])
            await future

    def check_run(self, run: str) -> None:
        """Connect again if the publications go to another server, or to another run of it."""
        link = self._current()
        if link is not None and link.run and link.run != run:
            link.abort("the server was replaced by another one")

    def _deliver(self, channel: bytes, message: bytes) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            return
        try:
            if message[0] in _EVENT:
                self._receiver.presence_changed(topic, parse_event(message))
            else:
                self._receiver.received(topic, parse_record(message))
        except (IndexError, TypeError, ValueError, struct.error) as error:
            logger.error("topic %r: received what is not a publication of streamws: %s", topic, error)
