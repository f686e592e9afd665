"""Metrics for Prometheus, with the extra `prometheus`. They are made for each scrape; nothing runs in between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar, cast

from ..errors import MissingExtra
from ..server import WebSocketServer
from .stats import ServerStats

try:
    from prometheus_client import Metric
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ImportError as _error:
    raise MissingExtra(
        "streamws.watching.prometheus needs prometheus-client: pip install 'streamws[prometheus]'"
    ) from _error

if TYPE_CHECKING:  # a server without topics does not load them
    from ..topics.stats import BrokerConnection, BrokerStats, TopicsStats
    from ..topics.topics import Topics

__all__ = ["Collector"]

Stats = TypeVar("Stats")
Watched = TypeVar("Watched")

# The metrics by their names: the description, and the number that the stats have for it, if they have one.
Metrics = dict[str, tuple[str, Callable[[Stats], float | None]]]

_GAUGES: Metrics[ServerStats] = {
    "connections": ("Open WebSocket connections.", lambda stats: stats.connections),
    "handshakes": ("Opening handshakes under way.", lambda stats: stats.handshakes),
    "backlog_bytes": ("Bytes sent and not yet written to the sockets.", lambda stats: stats.backlog),
    "backlog_max_bytes": ("The largest backlog of a connection.", lambda stats: stats.largest_backlog),
    "round_trip_seconds": (
        "Mean of the last ping round-trip times of the open connections.",
        lambda stats: stats.round_trip,
    ),
    "start_time_seconds": (
        "When the server began to listen, in seconds since 1970.",
        lambda stats: None if stats.started_at is None else stats.started_at.timestamp(),
    ),
}

_COUNTERS: Metrics[ServerStats] = {
    "connections_opened": ("Connections opened.", lambda stats: stats.opened),
    "handshakes_failed": ("Opening handshakes that ended without a response.", lambda stats: stats.failed),
    "messages_received": ("Messages received.", lambda stats: stats.messages_received),
    "messages_sent": ("Messages sent.", lambda stats: stats.messages_sent),
    "received_bytes": ("Bytes received, before TLS.", lambda stats: stats.bytes_received),
    "sent_bytes": ("Bytes sent, before TLS.", lambda stats: stats.bytes_sent),
    "received_compressed_bytes": ("Payload bytes received and inflated.", lambda stats: stats.compressed_received),
    "received_inflated_bytes": ("The same bytes, inflated.", lambda stats: stats.inflated_received),
    "sent_compressed_bytes": ("Payload bytes sent compressed.", lambda stats: stats.compressed_sent),
    "sent_inflated_bytes": ("The same bytes, before compression.", lambda stats: stats.inflated_sent),
}


_TOPICS_GAUGES: "Metrics[TopicsStats]" = {
    "topics_followed": ("Topics with followers.", lambda stats: stats.followed),
    "topics_followers": ("Followers of all topics.", lambda stats: stats.followers),
    "topics_present": ("Connections that are present, counted once for each topic.", lambda stats: stats.present),
    "topics_recovering": ("Topics that read what they may have lost.", lambda stats: stats.recovering),
    "topics_publish_soon_bytes": (
        "Bytes of publications of publish_soon that wait.",
        lambda stats: stats.publish_soon_bytes,
    ),
}

_TOPICS_COUNTERS: "Metrics[TopicsStats]" = {
    "topics_joined": ("Followers that joined.", lambda stats: stats.joined),
    "topics_recovered": ("Followers that came back and missed nothing.", lambda stats: stats.recovered),
    "topics_not_recovered": ("Followers that came back and missed something.", lambda stats: stats.not_recovered),
    "topics_published": ("Publications that the broker accepted.", lambda stats: stats.published),
    "topics_publish_failed": ("Publications that failed, other than by a timeout.", lambda stats: stats.failed),
    "topics_publish_timed_out": ("Publications that timed out.", lambda stats: stats.timed_out),
    "topics_publish_refused": ("Publications that a limit prevented.", lambda stats: stats.refused),
    "topics_publish_soon_failed": (
        "Publications of publish_soon that failed or timed out.",
        lambda stats: stats.publish_soon_failed,
    ),
    "topics_received": ("Publications that the broker delivered.", lambda stats: stats.received),
    "topics_gaps": ("Gaps that the history could not fill.", lambda stats: stats.gaps),
    "topics_dropped": (
        "Publications and presence events that slow followers did not get.",
        lambda stats: stats.dropped,
    ),
    "topics_replaced": (
        "Publications that the policy latest replaced by newer ones.",
        lambda stats: stats.replaced,
    ),
    "topics_disconnected": (
        "Followers that were disconnected because they were slow.",
        lambda stats: stats.disconnected,
    ),
    "broker_losses": ("How often the broker said that publications may be lost.", lambda stats: stats.losses),
}

_BROKER_GAUGES: "Metrics[BrokerStats]" = {
    "broker_subscriptions": ("Topics that the broker delivers.", lambda stats: stats.subscriptions),
    "broker_kept_topics": ("Topics that the broker keeps in this process.", lambda stats: stats.kept),
}

_CONNECTION_GAUGES: "Metrics[BrokerConnection]" = {
    "broker_connected": ("Whether a connection of the broker is established.", lambda stats: stats.connected),
    "broker_requests_waiting": ("Requests to the broker that have no answer yet.", lambda stats: stats.waiting),
    "broker_backlog_bytes": ("Bytes to the broker that are not written yet.", lambda stats: stats.backlog),
    "broker_round_trip_seconds": (
        "Round trip to the broker, when it was last measured.",
        lambda stats: stats.round_trip,
    ),
}

_CONNECTION_COUNTERS: "Metrics[BrokerConnection]" = {
    "broker_reconnects": (
        "How often a connection of the broker was established again.",
        lambda stats: stats.reconnects,
    ),
}


class Collector:
    """A collector of prometheus-client for servers and topics.

    Register it: `prometheus_client.REGISTRY.register(Collector(socket, topics=topics))`. The metrics of servers have
    the label `server`, and those of topics the label `topics`. A registry accepts only one collector of servers and one
    of topics, so pass all of them to the same one. The metrics may be scraped in any thread.
    """

    def __init__(
        self,
        servers: WebSocketServer | Mapping[str, WebSocketServer] | None = None,
        *,
        topics: "Topics | Mapping[str, Topics] | None" = None,
    ) -> None:
        """Make a collector.

        :param servers: a server, whose label is the address on which it listens, such as "localhost:8765"; or a mapping
            of labels to servers.
        :param topics: a `Topics`, whose label is "default"; or a mapping of labels to several.
        :raises TypeError: if they are something else, or if there are neither servers nor topics.
        """
        if servers is None and topics is None:
            raise TypeError("Collector needs servers or topics: write Collector(socket), or Collector(topics=topics)")
        self._servers: dict[str, WebSocketServer] = _labelled(
            servers,
            _is_server,
            lambda server: server._shown_place(),
            "Collector takes a WebSocketServer, or a mapping of labels to servers",
        )
        self._topics: dict[str, Topics] = _labelled(
            topics, _is_topics, lambda _: "default", "topics must be a Topics, or a mapping of labels to several"
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. The registry calls this for each scrape."""
        if self._servers:
            yield from _server_metrics({label: server.stats for label, server in self._servers.items()})
        if self._topics:
            yield from _topics_metrics({label: topics.stats for label, topics in self._topics.items()})


def _server_metrics(stats: Mapping[str, ServerStats]) -> Iterator[Metric]:
    rows = [([label], each) for label, each in stats.items()]
    yield from _gauges(_GAUGES, ["server"], rows)
    yield from _counters(_COUNTERS, ["server"], rows)
    closed = CounterMetricFamily("streamws_connections_closed", "Connections that ended.", labels=["server", "cause"])
    refused = CounterMetricFamily(
        "streamws_handshakes_refused",
        "Requests refused with a status from 400 to 599.",
        labels=["server", "status"],
    )
    for label, each in stats.items():
        for cause, count in each.closed.items():
            closed.add_metric([label, cause.name.lower()], count)
        for status, count in each.refused.items():
            refused.add_metric([label, str(status)], count)
    yield closed
    yield refused


def _topics_metrics(stats: "Mapping[str, TopicsStats]") -> Iterator[Metric]:
    rows = [([label], each) for label, each in stats.items()]
    brokers = [([label], each.broker) for label, each in stats.items() if each.broker is not None]
    connections = [
        ([label, name], connection) for [label], broker in brokers for name, connection in broker.connections.items()
    ]
    yield from _gauges(_TOPICS_GAUGES, ["topics"], rows)
    yield from _counters(_TOPICS_COUNTERS, ["topics"], rows)
    yield from _gauges(_BROKER_GAUGES, ["topics"], brokers)
    yield from _gauges(_CONNECTION_GAUGES, ["topics", "connection"], connections)
    yield from _counters(_CONNECTION_COUNTERS, ["topics", "connection"], connections)


def _gauges(
    metrics: Metrics[Stats], labels: Sequence[str], rows: Sequence[tuple[list[str], Stats]]
) -> Iterator[Metric]:
    """Yield gauges.

    :param labels: the names of the labels.
    :param rows: the values of the labels, and the stats that have them.
    """
    for name, (description, value_of) in metrics.items():
        gauge = GaugeMetricFamily(f"streamws_{name}", description, labels=labels)
        for values, stats in rows:
            value = value_of(stats)
            if value is not None:
                gauge.add_metric(values, value)
        yield gauge


def _counters(
    metrics: Metrics[Stats], labels: Sequence[str], rows: Sequence[tuple[list[str], Stats]]
) -> Iterator[Metric]:
    """Yield counters; see `_gauges`."""
    for name, (description, value_of) in metrics.items():
        counter = CounterMetricFamily(f"streamws_{name}", description, labels=labels)
        for values, stats in rows:
            value = value_of(stats)
            if value is not None:
                counter.add_metric(values, value)
        yield counter


def _is_server(value: object) -> TypeGuard[WebSocketServer]:
    return isinstance(value, WebSocketServer)


def _is_topics(value: object) -> "TypeGuard[Topics]":
    """Return whether a value looks like a `Topics`."""
    return not isinstance(value, type) and callable(getattr(value, "topic", None))


def _labelled(
    given: object, is_one: Callable[[object], TypeGuard[Watched]], label_of: Callable[[Watched], str], expected: str
) -> dict[str, Watched]:
    """Return an argument of `Collector` as a dictionary, by labels.

    :param is_one: whether a value is one of the objects to watch.
    :param label_of: returns the label of an object that is given alone.
    :param expected: what is expected, for the error.
    :raises TypeError: if it is neither None, nor such an object, nor a mapping of labels to them.
    """
    if given is None:
        return {}
    if is_one(given):
        return {label_of(given): given}
    if isinstance(given, Mapping):
        values = cast("Mapping[str, object]", given)
        found = {label: value for label, value in values.items() if is_one(value)}
        if len(found) == len(values):
            return found
    raise TypeError(f"{expected}, not {given!r}")
