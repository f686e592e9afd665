"""Counters of topics and of their broker, as immutable values."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs


@attrs.frozen
class BrokerConnection:
    """One connection of a broker to its server.

    :param connected: whether it is established.
    :param reconnects: how often it was established again.
    :param waiting: the requests that have no answer yet.
    :param backlog: the bytes that are not written to the network yet.
    :param round_trip: the seconds between a request and its answer, when they were last measured; None before that.
    :param failure: why it was last lost, or could not be established; empty if that has not happened.
    """

    connected: bool
    reconnects: int = 0
    waiting: int = 0
    backlog: int = 0
    round_trip: float | None = None
    failure: str = ""


def _unchanging(connections: Mapping[str, BrokerConnection]) -> Mapping[str, BrokerConnection]:
    return MappingProxyType({**connections})


@attrs.frozen
class BrokerStats:
    """Counters of a broker. The object does not change; read `Topics.stats` again for newer numbers.

    :param subscriptions: the topics that the broker delivers to this process.
    :param connections: its connections to its server, by their names; empty if it needs none.
    :param kept: the topics that the broker keeps in this process; None if they are not in this process.
    """

    subscriptions: int
    connections: Mapping[str, BrokerConnection] = attrs.field(default=MappingProxyType({}), converter=_unchanging)
    kept: int | None = None

    @property
    def connected(self) -> bool:
        """Whether all of its connections are established."""
        return all(connection.connected for connection in self.connections.values())


@attrs.frozen
class TopicsStats:
    """Counters of the topics in this process. The object does not change; read `Topics.stats` for newer numbers.

    Only the first four and `publish_soon_bytes` can decrease.

    :param followed: the topics that have followers.
    :param followers: the followers of all topics. A connection that follows three topics counts three times.
    :param present: the connections of this process that are present, counted once for each topic.
    :param recovering: the topics that are reading their history, because the broker may have lost publications.
    :param joined: the followers that have joined.
    :param recovered: those of them that came back with `since=`, and have got everything that they had missed.
    :param not_recovered: those of them that came back with `since=`, and were told that something is missing.
    :param published: the publications that the broker has accepted. One that was made before, with the same
        idempotency key, counts again. Publications whose call was cancelled are not counted here, nor below.
    :param failed: the publications that have failed with another error than `PublishTimeout`.
    :param timed_out: the publications that have failed with `PublishTimeout`.
    :param refused: the publications that a limit of `TopicLimits` has prevented.
    :param publish_soon_failed: the publications of `publish_soon` among those that have failed or timed out.
    :param publish_soon_bytes: the bytes of the publications of `publish_soon` that wait. Each counts 64 bytes more than
        its payload.
    :param received: the publications that the broker has delivered to this process.
    :param gaps: how often publications of a topic were missing and the history no longer had them, so that followers
        were told of a gap. If several followers were told of the same gap, it counts once.
    :param dropped: the publications and presence events that were not sent to a follower, because it was too slow.
    :param replaced: the publications that the policy `latest` replaced by a newer one of the same key.
    :param disconnected: the followers that were disconnected by the policy `disconnect`, because they were too slow.
    :param losses: how often the broker has said that publications or presence events may be lost.
    :param broker: the counters of the broker; None if it has none.
    """

    followed: int
    followers: int
    present: int
    recovering: int
    joined: int
    recovered: int
    not_recovered: int
    published: int
    failed: int
    timed_out: int
    refused: int
    publish_soon_failed: int
    publish_soon_bytes: int
    received: int
    gaps: int
    dropped: int
    replaced: int
    disconnected: int
    losses: int
    broker: BrokerStats | None
