"""`Topic`: what an application does with one topic."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Generic, TypeVar

from ..channel import Recipient
from ..codes import CloseCode
from ..errors import BrokerError, ConnectionClosed, EncodeError, LimitExceeded, UsageError, describe
from ..messages.codec import Codec
from ..options import MiB
from ..wire.protocol import unchanging
from .broker import Outgoing
from .checks import check_backlog, check_function, check_limit, check_since, check_slow_code, check_text
from .core import Core
from .outlet import Follower
from .presence import Presence
from .subscription import Subscription
from .values import (
    Gap,
    History,
    HistoryPage,
    Joined,
    Position,
    PresenceEvent,
    Publication,
    Published,
    Slow,
    SlowFeed,
    new_tuple,
)

T = TypeVar("T")
V = TypeVar("V")
AnyRecipient = TypeVar("AnyRecipient", bound=Recipient)

OnGap = Callable[[AnyRecipient, Gap], Awaitable[None] | None]
OnEpoch = Callable[[AnyRecipient, Position], Awaitable[None] | None]

logger: logging.Logger = logging.getLogger("streamws.topics")

_SLOW = ("disconnect", "drop-oldest", "drop-newest", "latest")


class Topic(Generic[T]):
    """One topic: its messages are of the type `T`. `Topics.topic` makes it.

    A topic that nobody follows, and that has no history, costs nothing.
    """

    __slots__ = ("__weakref__", "_core", "codec", "history", "name", "presence")

    def __init__(self, core: Core, name: str, codec: Codec[T, T], history: History | None) -> None:
        self._core = core
        self.name: str = name
        """The name."""
        self.codec: Codec[T, T] = codec
        """Encodes and decodes the messages."""
        self.history: History | None = history
        """How many publications are kept; None if none are."""
        self.presence: Presence = Presence(core, name)
        """Who is in the topic."""

    def __repr__(self) -> str:
        return f"<Topic {self.name!r}>"

    # Publishing ------------------------------------------------------------------------------------------------

    async def publish(
        self,
        message: T,
        *,
        key: str | None = None,
        idempotency: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        client: Recipient | None = None,
    ) -> Published:
        """Publish a message to all who follow the topic, in all processes.

        :param message: the message. You may change it after the call.
        :param key: what the message is about. With the policy `latest`, slow followers get the last message of each
            key.
        :param idempotency: a key of this publication. For some minutes, a second one with the same key is not made.
        :param timeout: the seconds after which this raises `PublishTimeout`; None for `TopicLimits.publish_timeout`.
        :param client: the connection that publishes, if there is one; its publications are counted for
            `TopicLimits.max_publications_per_client`.
        :returns: the position of the publication, and whether it was made before.
        :raises PublishTimeout: if the broker does not answer in time. The publication may have been made.
        :raises BrokerUnavailable: if the broker cannot be reached.
        :raises BrokerError: if the broker fails otherwise. The publication may have been made.
        :raises EncodeError: if the message cannot be encoded; other codecs may raise other errors.
        :raises LimitExceeded: if the publication or a key is too large, or the connection publishes too often.
        :raises ConnectionClosed: if a connection whose publications are limited has ended.

        If it is cancelled, the publication may have been made: try again with the same idempotency key. Publications of
        one task are delivered in their order.
        """
        core = self._core
        core.check_open()
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
        outgoing = self._outgoing(message, key, idempotency)
        if client is not None:
            self._admit(client)
        publisher = core.publisher
        if publisher.publish_now is None:
            return await publisher.publish(outgoing, timeout)
        try:
            published = publisher.publish_now(outgoing)
        except BrokerError as error:
            core.counts.fail(error)
            raise
        core.counts.published += 1
        return published

    def publish_soon(self, message: T, *, key: str | None = None, idempotency: str | None = None) -> bool:
        """Publish a message without waiting.

        :param message: the message. You may change it after the call.
        :param key: as for `publish`.
        :param idempotency: as for `publish`.
        :returns: False if nothing was done, because `TopicLimits.max_publish_soon` bytes wait already.
        :raises EncodeError: if the message cannot be encoded.
        :raises LimitExceeded: if the publication or a key is too large.

        If it fails later, it is counted in `Topics.failed`, and `on_error` of the topics is called. While the broker is
        not available, the publication waits for up to `TopicLimits.publish_timeout`. The publications of one process
        are made in the order of the calls.
        """
        self._core.check_open()
        return self._core.publisher.publish_soon(self._outgoing(message, key, idempotency))

    def _outgoing(self, message: T, key: str | None, idempotency: str | None) -> Outgoing:
        if key is not None:
            self._check_length("key", key)
        if idempotency is not None:
            self._check_length("idempotency", idempotency)
        payload = self.codec.encode(message)
        if not isinstance(payload, str):
            payload = bytes(payload).decode() if self.codec.text else unchanging(payload)
        elif not payload.isascii():
            try:
                payload.encode()
            except UnicodeEncodeError as error:
                raise EncodeError(f"the message is not valid Unicode: {describe(error)}") from error
        most = self._core.limits.max_publication_size
        if len(payload) > most:
            self._core.counts.refused += 1
            raise LimitExceeded(
                f"a publication of {len(payload)} bytes is too large (TopicLimits.max_publication_size: {most})"
            )
        return new_tuple(Outgoing, (self.name, payload, key, idempotency, self.history))

    def _check_length(self, name: str, value: str) -> None:
        check_text(name, value)
        most = self._core.limits.max_name
        if len(value) > most:
            self._core.counts.refused += 1
            raise LimitExceeded(f"{name} has {len(value)} characters (TopicLimits.max_name: {most})")

    def _admit(self, client: Recipient) -> None:
        rate = self._core.limits.max_publications_per_client
        if rate is not None and not self._core.outlet(client, "publish").admit(rate, asyncio.get_running_loop().time()):
            self._core.counts.refused += 1
            raise LimitExceeded(
                f"too many publications of one connection (TopicLimits.max_publications_per_client: {rate:g} a second)"
            )

    # Connections that follow -----------------------------------------------------------------------------------

    async def join(
        self,
        client: AnyRecipient,
        *,
        since: Position | None = None,
        slow: Slow = "disconnect",
        slow_code: int = CloseCode.TRY_AGAIN_LATER,
        backlog: int = MiB,
        frame: Callable[[Publication[T]], str | bytes] | None = None,
        on_gap: OnGap[AnyRecipient] | None = None,
        presence_frame: Callable[[PresenceEvent], str | bytes] | None = None,
        on_joined: Callable[[Joined, Sequence[Publication[T]]], None] | None = None,
        on_epoch: OnEpoch[AnyRecipient] | None = None,
    ) -> Joined:
        """Send the publications of the topic to a connection, until it leaves or ends.

        :param client: the connection: a `Client`, or another `Recipient`.
        :param since: the position after which it continues, such as that of the last publication it has got; None to
            begin with the next publication.
        :param slow: what happens if more than `backlog` bytes wait, because the connection reads too slowly:
            `"disconnect"` closes it with `slow_code`; `"drop-oldest"` and `"drop-newest"` drop publications; `"latest"`
            keeps the last one of each key among those that wait, and drops the oldest ones if they are still too many.
        :param slow_code: the close code for `"disconnect"`.
        :param backlog: the most bytes of this topic that wait for this connection, in addition to
            `Limits.write_high` bytes of the connection and the history that it asked for with `since`. A publication
            that waits for several connections is stored once.
        :param frame: makes the message to send from a publication. It is called once for each publication, whatever the
            number of connections with the same function: pass the same function object for all of them. By default, the
            message is the payload.
        :param on_gap: called with the client and a `Gap` for each place where publications, or presence events, are
            missing. It may be a coroutine function.
        :param presence_frame: makes the message to send from a presence event. By default, none are sent.
        :param on_joined: called once with the result and the publications that the connection has missed. They are then
            not sent: the function has to send them.
        :param on_epoch: called with the client and its position when the topic has got a new epoch, but nothing is
            missing: the broker was restarted with its data. Only needed if `frame` leaves out the epochs. It may be a
            coroutine function.
        :returns: the position, and whether the connection has got everything since `since`.
        :raises ConnectionClosed: if the connection has ended or is closing.
        :raises LimitExceeded: if it uses `TopicLimits.max_topics_per_client` topics already.
        :raises BrokerError: if the broker has failed; the connection does not follow the topic then.
        :raises UsageError: if the connection follows the topic already, or leaves while it joins.

        If it is cancelled, the connection does not follow the topic.
        """
        core = self._core
        core.check_open()
        if slow not in _SLOW:
            raise ValueError(f"slow must be one of {', '.join(map(repr, _SLOW))}, not {slow!r}")
        check_slow_code(slow_code)
        check_since(since)
        check_backlog(backlog)
        check_function("frame", frame)
        check_function("presence_frame", presence_frame)
        check_function("on_joined", on_joined)
        for parameter, function in (("on_gap", on_gap), ("on_epoch", on_epoch)):
            if function is not None and not callable(function):
                raise TypeError(f"{parameter} must be a function, not {function!r}")
        outlet = core.outlet(client, "join")
        name = self.name
        if name in outlet.followers:
            raise UsageError(f"the connection follows topic {name!r} already: call leave() first")
        core.check_room(outlet, name)
        tell_gap = _ignore_gap if on_gap is None else partial(self._tell, client, on_gap)
        tell_epoch = None if on_epoch is None else partial(self._tell, client, on_epoch)
        follower = Follower(outlet, slow, backlog, frame, presence_frame, tell_gap, slow_code, tell_epoch)
        outlet.followers[name] = follower
        audience = core.audience(self)
        try:
            joined = await audience.join(follower, since, on_joined)
        except BaseException as error:
            if outlet.followers.get(name) is follower:
                del outlet.followers[name]
            core.forget_unused(outlet)
            if isinstance(error, UsageError) and client.outcome is not None:
                raise ConnectionClosed(client.outcome, "cannot join") from None
            raise
        core.counts.join(since is not None, joined.recovered)
        return joined

    def _tell(
        self, client: AnyRecipient, function: Callable[[AnyRecipient, V], Awaitable[None] | None], value: V
    ) -> None:
        """Call `on_gap` or `on_epoch`."""
        try:
            result = function(client, value)
        except Exception:
            logger.exception("topic %r: %r raised", self.name, function)
            return
        if isawaitable(result):
            self._core.spawn(_wait_for(result))

    async def leave(self, client: Recipient) -> None:
        """Stop sending the publications to a connection, and end its presence.

        It has no effect if the connection does not follow the topic. Publications that wait for the connection are
        dropped. If it is cancelled, the connection leaves all the same.
        """
        self._core.check_open()
        self._stop(client)
        await self.presence.leave(client)

    def _stop(self, client: Recipient) -> None:
        """Stop sending the publications to a connection."""
        core = self._core
        outlet = core.find_outlet(client)
        if outlet is None:
            return
        follower = outlet.followers.pop(self.name, None)
        if follower is not None:
            follower.left = True
            audience = core.audiences.get(self.name)
            if audience is not None:
                audience.remove(follower)
        core.forget_unused(outlet)

    def lost(self, client: Recipient) -> int:
        """Return how many publications and presence events were dropped since the connection joined.

        They were dropped because it reads too slowly. 0 if it does not follow the topic.
        """
        outlet = self._core.find_outlet(client)
        follower = None if outlet is None else outlet.followers.get(self.name)
        return 0 if follower is None else follower.lost

    # The program itself ----------------------------------------------------------------------------------------

    def subscribe(
        self, *, since: Position | None = None, slow: SlowFeed = "wait", backlog: int = MiB
    ) -> Subscription[T]:
        """Follow the topic in the program itself: `async with topic.subscribe() as feed: async for item in feed`.

        :param since: the position after which to continue; None to begin with the next publication.
        :param slow: what happens if more than `backlog` bytes wait, because the items are read too slowly. `"wait"`
            stops queueing publications, and reads them from the history later. Without a history, or if it is too
            short, there is a `Gap`. `"disconnect"` ends the iteration with `LimitExceeded`. The others are as for
            `join`. There is a `Gap` wherever publications were dropped, except for those that `"latest"` replaces.
        :param backlog: the most bytes that wait, in addition to the history since `since`.
        :returns: an async context manager and iterator, whose items are `Publication` or `Gap`.
        """
        if slow != "wait" and slow not in _SLOW:
            raise ValueError(f"slow must be 'wait' or one of {', '.join(map(repr, _SLOW))}, not {slow!r}")
        check_since(since)
        check_backlog(backlog)
        return Subscription(self._core, self, since, slow, backlog)

    async def read_history(
        self, *, since: Position | None = None, limit: int | None = None, newest: bool = False
    ) -> HistoryPage[T]:
        """Read publications from the history.

        :param since: the position after which to begin; None for all.
        :param limit: the most publications; None for no limit. With 0, only the position is read.
        :param newest: whether the limit keeps the newest ones instead of the oldest.
        :returns: the publications, oldest first, and the position of the topic.
        :raises BrokerError: if the broker has failed.
        """
        core = self._core
        core.check_open()
        check_since(since)
        check_limit(limit)
        audience = core.audience(self)
        try:
            page = await audience.read(since, limit, newest)
        finally:
            audience.check_idle()
        publications = tuple(Publication(self.name, record, self.codec) for record in page.records)
        return HistoryPage(publications, page.position, page.complete)


def _ignore_gap(gap: Gap) -> None:
    pass


async def _wait_for(awaitable: Awaitable[None]) -> None:
    await awaitable
