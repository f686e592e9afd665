"""`Broker`: keeps topics and delivers publications, for one process or for several."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..errors import BrokerError
from .stats import BrokerStats
from .values import Connection, History, Position, PresenceEvent, Published, Record


class Outgoing(NamedTuple):
    """A message that a broker is to publish.

    :param topic: the name of the topic.
    :param payload: the encoded message: `str` is text, `bytes` is binary.
    :param key: what the message is about, for the policy `latest`.
    :param idempotency: of several messages of a topic with the same idempotency key, only the first is published.
    :param history: how many publications of the topic to keep; None to keep none.
    """

    topic: str
    payload: str | bytes
    key: str | None
    idempotency: str | None
    history: History | None


class Page(NamedTuple):
    """Publications that a broker has read from the history of a topic.

    :param records: oldest first, without gaps in their offsets.
    :param position: the position of the topic: that of its last publication.
    :param complete: whether the records contain all publications after `since`, or would do so without `limit`.
        That is so if `since` is of the epoch of `position`, or of one that this epoch continues, and if the first
        publication after it is still there or does not exist yet. Without `since`, it is True if the history still has
        the first publication of the epoch.
    """

    records: Sequence[Record]
    position: Position
    complete: bool


class Receiver(Protocol):
    """Receives what a broker delivers. `Topics` passes one to `open`.

    Its methods return at once and never raise. Brokers call them in the thread of the event loop.
    """

    def received(self, topic: str, record: Record) -> None:
        """Receive a publication. Publications of topics without a subscription are ignored."""
        ...

    def lost(self, topics: Sequence[str] | None = None) -> None:
        """Learn that publications or presence events of these topics may not have been delivered; None for all topics.

        A broker calls this when the subscriptions work again, so that no later loss goes unnoticed. `Topics` then reads
        the histories, asks who is present, and sends its followers what they have missed, or tells them of a gap.
        """
        ...

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        """Receive a presence event: a connection has entered a topic or left it."""
        ...


class Broker(Protocol):
    """Keeps topics and delivers publications. A broker may fail, hang and lose publications; it must not hide that.

    Its promises, which `streamws.topics.testing` tests:

    - The publications of a topic have the offsets 1, 2, 3, ... in an epoch, and are delivered in this order. A broker
      may lose some on the way, and deliver some twice. If it may have lost the last one, it calls `Receiver.lost`. The
      loss of another one shows in the offset of the next.
    - Presence events are delivered in their order, too. It calls `Receiver.lost` if it may have lost one.
    - When a broker has lost its memory of a topic (its last offset), the topic gets a new epoch. Offsets never go back
      in an epoch: a smaller one is taken for a repetition. A new epoch may continue the one before, with the next
      offset; then `Page.complete` is also true for those positions of the one before up to which both agree.
    - After `subscribe` has returned, all later publications are delivered, until `unsubscribe` is called. The broker
      renews its subscriptions by itself after a failure, and then calls `Receiver.lost`.
    - Methods raise `BrokerUnavailable` if the broker cannot be reached, and has done nothing; the broker logs when that
      begins and ends. They raise `BrokerError` for other failures. They may take long: `Topics` cancels those that
      exceed their deadline.
    - `Topics` makes at most one call of `subscribe` or `unsubscribe` for a topic at a time.
    """

    async def open(self, receiver: Receiver) -> None:
        """Begin to work for one `Topics`. Called once, before all other methods.

        It need not wait until the broker can be reached.
        """
        ...

    async def close(self) -> None:
        """End all subscriptions and release everything. Nothing is delivered afterwards."""
        ...

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        """Publish messages, in this order.

        :returns: the result or the error of each. If one has failed, later ones of the same topic may still have been
            published.
        :raises BrokerError: if all have failed.
        """
        ...

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver the publications and presence events of a topic."""
        ...

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering them. It has no effect if there is no subscription."""
        ...

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        """Read the history of a topic.

        :param history: how many publications the topic keeps; None if it keeps none.
        :param since: the position after which to begin; None for all that is kept.
        :param limit: the most records; None for no limit. With 0, only the position is read.
        :param reverse: whether the limit keeps the newest records, instead of the oldest.
        """
        ...

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        """Make a connection present in a topic; replace its data if it is present already.

        A broker for several processes must notice the end of a process, and then make its connections leave. It may
        forget connections while it fails, but it remembers those of this process itself and restores them.
        """
        ...

    async def exit(self, topic: str, connection: str) -> None:
        """Make a connection leave a topic. It has no effect if it is not present."""
        ...

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        """Return who is present in a topic, by the ids of the connections, in the order in which they entered."""
        ...


class WatchedBroker(Broker, Protocol):
    """A broker that has counters of its own. `Topics.stats` includes them, and so do the metrics for Prometheus."""

    @property
    def stats(self) -> BrokerStats:
        """The counters. They may be read in any thread, at any time, and reading them never fails."""
        ...


@runtime_checkable
class ImmediateBroker(Protocol):
    """A broker whose methods never wait, such as `MemoryBroker`.

    Calls to it have no deadline, and no task is needed to subscribe and unsubscribe.
    """

    def publish_now(self, message: Outgoing) -> Published:
        """Publish a message.

        :raises BrokerError: if it fails.
        """
        ...
