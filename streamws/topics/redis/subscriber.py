"""The subscriptions of one process at one Redis server: one connection, which is renewed."""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

from ...errors import BrokerError, describe
from ..broker import Receiver
from ..values import PresenceEvent, Record
from .address import Address
from .keeper import Keeper
from .link import Argument, Elsewhere, Link, is_error, reply_error
from .scripts import Keys, parse_event, parse_record, slot_of

logger: logging.Logger = logging.getLogger("streamws.topics")

_BATCH = 500
"""The most channels in one request."""

_RENEWED = 100
"""The number of subscriptions that are renewed at a time."""

_EVENT = b"jl"
"""The first bytes of presence events."""

Deliver = Callable[[bytes, bytes], None]


class _Change:
    """A subscription to one channel that is to begin or to end."""

    __slots__ = ("channel", "ends", "future")

    def __init__(self, channel: bytes, ends: bool, future: "asyncio.Future[None]") -> None:
        self.channel = channel
        self.ends = ends
        self.future = future

    def finish(self, error: BrokerError | None = None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)
            self.future.exception()  # nobody may wait for it any more


class _Request:
    """Changes without an answer yet."""

    __slots__ = ("changes", "ends")

    def __init__(self, changes: Iterable[_Change], ends: bool) -> None:
        self.changes = deque(changes)
        self.ends = ends

    def finish(self, error: BrokerError | None = None) -> None:
        while self.changes:
            self.changes.popleft().finish(error)


class SubscriberLink(Link):
    """A connection for subscriptions. Requests of one loop iteration are one request for many channels.

    :param deliver: called with the channel and the message of each publication.
    :param drop: called with each channel to which the server has ended the subscription.
    :param sharded: whether the server is a node of a cluster. Then each slot needs a request of its own.
    """

    def __init__(self, timeout: float, deliver: Deliver, drop: Callable[[bytes], None], sharded: bool) -> None:
        super().__init__(timeout)
        self._deliver = deliver
        self._drop = drop
        self._sharded = sharded
        self._commands = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._wanted: list[_Change] = []  # for the next requests
        self._requests: deque[_Request | None] = deque()  # without an answer, in order; None is one of `_calls`

    @property
    def waiting(self) -> int:
        """The requests that have no answer yet."""
        return len(self._wanted) + len(self._requests)

    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        """Send a request; see `Link.call`."""
        future = super().call(*command)
        self._requests.append(None)
        return future

    def change(self, channels: Iterable[bytes], ends: bool = False) -> "list[asyncio.Future[None]]":
        """Subscribe to channels at the end of this loop iteration, or unsubscribe from them.

        :returns: done when Redis has confirmed each.
        """
        if not self._wanted:
            self._loop.call_soon(self._request)
        changes = [_Change(channel, ends, self._loop.create_future()) for channel in channels]
        self._wanted += changes
        return [change.future for change in changes]

    def _request(self) -> None:
        wanted, self._wanted = self._wanted, []
        for ends, group in groupby(wanted, attrgetter("ends")):
            batches = [*self._batches([*group])]
            request = _Request((), ends)
            for batch in batches:
                try:
                    self.send((self._commands[ends], *[change.channel for change in batch]))
                except BrokerError as error:
                    _Request(batch, ends).finish(error)
                    continue
                if ends:
                    request.changes += batch
                else:
                    self._requests.append(_Request(batch, ends))
            if request.changes:
                # The answers cannot be told from the messages by which a server of a cluster ends subscriptions. So
                # the answer to another request shows that all of them have arrived.
                self._requests.append(request)
                self.call("PING")

    def _batches(self, changes: list[_Change]) -> Iterator[list[_Change]]:
        """Divide changes into requests."""
        groups: dict[int, list[_Change]] = {}
        if self._sharded:
            for change in changes:
                groups.setdefault(slot_of(change.channel), []).append(change)
        else:
            groups[0] = changes
        for group in groups.values():
            for start in range(0, len(group), _BATCH):
                yield group[start : start + _BATCH]

    def answer(self, reply: Any) -> None:
        """Process a publication, a confirmation or another reply."""
        if type(reply) is list:
            kind, channel, message = reply if len(reply) == 3 else (b"", b"", b"")
            if kind == b"message" or kind == b"smessage":
                self._deliver(channel, message)
                return
            if kind in (b"subscribe", b"ssubscribe"):
                self._confirm()
                return
            if kind in (b"unsubscribe", b"sunsubscribe"):
                self._end(channel)
                return
        self._answer_request(reply)

    def _confirm(self) -> None:
        request = self._requests[0]
        assert request is not None
        request.changes.popleft().finish()
        if not request.changes:
            self._requests.popleft()

    def _end(self, channel: bytes) -> None:
        request = self._requests[0] if self._requests else None
        if request is not None and request.ends and request.changes and request.changes[0].channel == channel:
            request.changes.popleft().finish()
        else:
            self._drop(channel)

    def _answer_request(self, reply: Any) -> None:
        request = self._requests[0] if self._requests else None
        if request is not None:
            if is_error(reply):
                error = reply_error(reply)
                if not request.ends:
                    request.finish(error)
                    self._requests.popleft()
                elif not isinstance(error, Elsewhere):  # otherwise there is no such subscription any more
                    # The server may have refused the request itself or, while it loads its data, the one after it.
                    self.abort(f"cannot end subscriptions: {error}")
                return
            if request.ends:
                request.finish()
                self._requests.popleft()
        if self._requests:
            self._requests.popleft()
        super().answer(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all requests that have no answer."""
        super().connection_lost(error)
        failure = BrokerError(f"no answer from Redis: {self.reason}")
        while self._requests:
            request = self._requests.popleft()
            if request is not None:
                request.finish(failure)


class Subscriber:
    """The subscriptions of one process at one server. When they are renewed, the receiver is told of a loss.

    :param sharded: whether the server is a node of a cluster.
    :param on_doubt: called if topics may be at another server, or if this one is not available.
    :param on_connected: called with each new connection.
    :param until_answered: waits until histories can be read, and those that are being read have arrived.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        keys: Keys,
        sharded: bool,
        on_doubt: Callable[[], None],
        on_connected: Callable[[SubscriberLink], None],
        until_answered: Callable[[], Awaitable[None]],
    ) -> None:
        self._keys = keys
        self._on_doubt = on_doubt
        self._on_connected = on_connected
        self._until_answered = until_answered
        self._receiver: Receiver
        self._topics: dict[bytes, str] = {}  # the topics of all subscriptions, by their channels
        self._beginning: set[bytes] = set()  # those with a call of `subscribe` under way
        self._missing: set[bytes] = set()  # those to which the server has no subscription
        self._mending: asyncio.Task[None] | None = None
        self.keeper: Keeper = Keeper(
            address,
            timeout,
            lambda: SubscriberLink(timeout, self._deliver, self._drop, sharded),
            self._renew,
            "subscriptions",
            on_doubt,
        )
        """Keeps the connection."""
        self._link: SubscriberLink | None = None

    @property
    def subscriptions(self) -> int:
        """The number of topics that are delivered."""
        return len(self._topics)

    async def open(self, receiver: Receiver) -> None:
        """Begin to connect; see `Keeper.open`."""
        self._receiver = receiver
        await self.keeper.open()

    def start(self, receiver: Receiver) -> None:
        """Begin to connect; see `Keeper.start`."""
        self._receiver = receiver
        self.keeper.start()

    async def close(self) -> None:
        """End all subscriptions."""
        self._topics.clear()
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await self.keeper.close()

    async def _renew(self, link: SubscriberLink) -> None:
        """Renew all subscriptions."""
        self._link = link
        self._on_connected(link)
        self._missing = {*self._topics}
        await self._mend(link)

    async def _mend(self, link: SubscriberLink) -> None:
        """Subscribe to the topics without a subscription, and then tell of the loss.

        That is done for some topics at a time, because each of them then reads its history.
        """
        channels, self._missing = [*self._missing], set()
        for start in range(0, len(channels), _RENEWED):
            batch = [channel for channel in channels[start : start + _RENEWED] if channel in self._topics]
            renewed: list[bytes] = []
            for channel, future in zip(batch, link.change(batch), strict=True):
                try:
                    await future
                except Elsewhere:
                    self._missing.add(channel)
                else:
                    renewed.append(channel)
            if renewed:
                await self._until_answered()
                self._receiver.lost([self._topics[channel] for channel in renewed if channel in self._topics])
                await asyncio.sleep(0)  # they begin to read
        self._missing &= self._topics.keys()
        if self._missing:
            self._on_doubt()

    def _current(self) -> SubscriberLink | None:
        link = self._link
        return None if link is None or link.ended.done() else link

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver what is published in a topic; see `Broker.subscribe`.

        :raises Elsewhere: if another server has it.
        """
        channel = self._keys.channel(topic).encode()
        if channel in self._topics:
            return
        link = self._current()
        if link is None:
            self._on_doubt()
            raise self.keeper.unavailable()
        (future,) = link.change([channel])
        self._topics[channel] = topic
        self._beginning.add(channel)
        try:
            await future
        except BaseException:
            self._topics.pop(channel, None)
            raise
        finally:
            self._beginning.discard(channel)

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering what is published in a topic; see `Broker.unsubscribe`."""
        link = self._current()
        for future in self.release([self._keys.channel(topic).encode()]):
            try:
                await future
            except BrokerError:
                if link is None or not link.ended.done():
                    raise  # otherwise the subscription has ended with its connection

    # Topics that move from one server to another ---------------------------------------------------------------

    def subscribed(self) -> Iterator[tuple[bytes, str]]:
        """Yield the channels and topics of the subscriptions, except those that are just beginning."""
        return ((channel, topic) for channel, topic in self._topics.items() if channel not in self._beginning)

    def adopt(self, topics: Mapping[bytes, str]) -> None:
        """Take over topics from other servers. They are subscribed by `mend`, or with the next connection."""
        self._topics.update(topics)
        self._missing.update(topics)

    def release(self, channels: Iterable[bytes]) -> "list[asyncio.Future[None]]":
        """End subscriptions.

        :returns: done when the server has confirmed each.
        """
        channels = [*channels]
        for channel in channels:
            self._topics.pop(channel, None)
            self._missing.discard(channel)
        link = self._current()
        return [] if link is None else link.change(channels, ends=True)

    def mend(self) -> None:
        """Subscribe soon to the topics without a subscription."""
        link = self._current()
        if self._missing and link is not None and self._mending is None:
            self._mending = asyncio.get_running_loop().create_task(self._mend_soon(link))

    async def _mend_soon(self, link: SubscriberLink) -> None:
        try:
            await self._mend(link)
        except BrokerError as error:
            link.abort(f"cannot subscribe: {describe(error)}")  # all subscriptions are renewed
        finally:
            self._mending = None
            if self._missing:
                self._on_doubt()  # they were adopted meanwhile

    def _drop(self, channel: bytes) -> None:
        """Note that the server has ended a subscription."""
        if channel in self._topics:
            self._missing.add(channel)
            self._on_doubt()

    # From the connection ---------------------------------------------------------------------------------------

    def check_run(self, run: str) -> None:
        """Connect again if the publications go to another server, or to another run of it."""
        link = self._current()
        if link is not None and link.run and link.run != run:
            link.abort("the server was replaced by another one")

    def renew(self, reason: str) -> None:
        """Connect again, so that all topics find out what is lost."""
        link = self._current()
        if link is not None:
            link.abort(reason)

    def _deliver(self, channel: bytes, message: bytes) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            return
        item: PresenceEvent | Record
        try:
            item = parse_event(message) if message[0] in _EVENT else parse_record(message)
        except (IndexError, TypeError, ValueError, struct.error) as error:
            logger.error("topic %r: received what is not a publication of streamws: %s", topic, error)
            return
        if isinstance(item, Record):
            self._receiver.received(topic, item)
        else:
            self._receiver.presence_changed(topic, item)
