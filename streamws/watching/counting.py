"""Sums the counters of connections. The connections themselves count, in C; nothing here runs for each message."""

from datetime import UTC, datetime
from time import monotonic

from ..connection import Connection
from .stats import ConnectionStats


class Counts:
    """Sums of the counters of several connections."""

    __slots__ = (
        "backlog",
        "bytes_received",
        "bytes_sent",
        "compressed_received",
        "compressed_sent",
        "inflated_received",
        "inflated_sent",
        "largest_backlog",
        "messages_received",
        "messages_sent",
    )

    def __init__(self) -> None:
        self.messages_received: int = 0
        self.messages_sent: int = 0
        self.bytes_received: int = 0
        self.bytes_sent: int = 0
        self.compressed_received: int = 0
        self.inflated_received: int = 0
        self.compressed_sent: int = 0
        self.inflated_sent: int = 0
        self.backlog: int = 0
        self.largest_backlog: int = 0

    def add(self, connection: Connection) -> None:
        """Add a connection. This may be called in any thread, and after its end."""
        protocol = connection.protocol
        inbox = connection.inbox
        outbox = connection.outbox
        self.messages_received += inbox.queue.messages
        self.messages_sent += outbox.messages
        self.bytes_received += protocol.received
        self.bytes_sent += outbox.written
        deflater = protocol.deflater
        if deflater is not None:
            self.compressed_sent += deflater.compressed
            self.inflated_sent += deflater.inflated
        inflation = inbox.inflation
        if inflation is not None:
            self.compressed_received += inflation.inflater.compressed
            self.inflated_received += inflation.inflater.inflated
        backlog = connection.backlog()
        self.backlog += backlog
        if backlog > self.largest_backlog:
            self.largest_backlog = backlog

    def copy(self) -> "Counts":
        """Return a copy."""
        copy = Counts()
        copy.messages_received = self.messages_received
        copy.messages_sent = self.messages_sent
        copy.bytes_received = self.bytes_received
        copy.bytes_sent = self.bytes_sent
        copy.compressed_received = self.compressed_received
        copy.inflated_received = self.inflated_received
        copy.compressed_sent = self.compressed_sent
        copy.inflated_sent = self.inflated_sent
        copy.backlog = self.backlog
        copy.largest_backlog = self.largest_backlog
        return copy


def stats_of(connection: Connection) -> ConnectionStats:
    """Return the counters of a connection."""
    counts = Counts()
    counts.add(connection)
    return ConnectionStats(
        counts.messages_received,
        counts.messages_sent,
        counts.bytes_received,
        counts.bytes_sent,
        counts.compressed_received,
        counts.inflated_received,
        counts.compressed_sent,
        counts.inflated_sent,
        counts.backlog,
        connection.pings.latency,
        datetime.fromtimestamp(connection.opened_at, UTC),
        (connection.ended or monotonic()) - connection.opened,
    )
