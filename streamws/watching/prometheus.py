"""Metrics for Prometheus, with the extra `prometheus`. They are made for each scrape; nothing runs in between."""

from collections.abc import Callable, Iterable, Iterator, Mapping

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

__all__ = ["Collector"]

_GAUGES: dict[str, tuple[str, Callable[[ServerStats], float | None]]] = {
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

_COUNTERS: dict[str, tuple[str, Callable[[ServerStats], int]]] = {
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


class Collector:
    """A collector of prometheus-client for one server or several.

    Register it: `prometheus_client.REGISTRY.register(Collector(socket))`. Each metric has the label `server`.
    A registry accepts only one such collector, so pass all servers of the process to the same one. The metrics may be
    scraped in any thread.
    """

    def __init__(self, servers: WebSocketServer | Mapping[str, WebSocketServer]) -> None:
        """Make a collector.

        :param servers: a server, whose label is the address on which it listens, such as "localhost:8765"; or a mapping
            of labels to servers.
        :raises TypeError: if it is neither.
        """
        _check_servers(servers)
        self._servers: dict[str, WebSocketServer] = (
            {servers._shown_place(): servers} if isinstance(servers, WebSocketServer) else dict(servers)
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. The registry calls this for each scrape."""
        stats = {label: server.stats for label, server in self._servers.items()}
        for name, (description, value_of) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"streamws_{name}", description, labels=["server"])
            for label, each in stats.items():
                value = value_of(each)
                if value is not None:
                    gauge.add_metric([label], value)
            yield gauge
        for name, (description, count_of) in _COUNTERS.items():
            counter = CounterMetricFamily(f"streamws_{name}", description, labels=["server"])
            for label, each in stats.items():
                counter.add_metric([label], count_of(each))
            yield counter
        closed = CounterMetricFamily(
            "streamws_connections_closed", "Connections that ended.", labels=["server", "cause"]
        )
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


def _check_servers(servers: object) -> None:
    """Check the argument of `Collector`.

    :raises TypeError: if it is neither a server nor a mapping of labels to servers.
    """
    if isinstance(servers, Mapping):
        values: Iterable[object] = servers.values()
        if all(isinstance(each, WebSocketServer) for each in values):
            return
    if not isinstance(servers, WebSocketServer):
        raise TypeError(f"Collector takes a WebSocketServer, or a mapping of labels to servers, not {servers!r}")
