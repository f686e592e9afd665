"""Counters of a connection and of a server, as immutable values."""

from collections.abc import Mapping
from datetime import datetime

import attrs

from ..codes import Cause


@attrs.frozen
class ConnectionStats:
    """Counters of one connection. The object does not change; read `Client.stats` again for newer numbers.

    Bytes are those of all frames, including their headers and control frames. With TLS, they are counted without
    encryption. The opening handshake is not counted.
    """

    messages_received: int
    """The complete messages received. Those that arrive while this side closes the connection are not counted."""
    messages_sent: int
    """The complete messages sent, including those that were broadcast to this connection."""
    bytes_received: int
    """The bytes received."""
    bytes_sent: int
    """The bytes written to the network, including those of the `backlog` that the transport already has."""
    compressed_received: int
    """The bytes of received payloads that were inflated. A compressed message is inflated when it is read."""
    inflated_received: int
    """The bytes of these payloads after inflating."""
    compressed_sent: int
    """The bytes of sent payloads that were compressed."""
    inflated_sent: int
    """The bytes of these payloads before compression."""
    backlog: int
    """The bytes sent and not yet written to the socket. For a slow peer, this number grows."""
    round_trip: float | None
    """The last round-trip time of a ping in seconds; None before the first pong. The keepalive sends a ping every
    `Timeouts.ping_interval` seconds."""
    opened_at: datetime
    """When the connection opened, in UTC."""
    duration: float
    """The time for which the connection has been open, or was open, in seconds."""


@attrs.frozen
class ServerStats:
    """Counters of a server. The object does not change; read `WebSocketServer.stats` again for newer numbers.

    Messages and bytes are those of all its connections together, including those that have ended. They are counted as
    in `ConnectionStats`, and never decrease.
    """

    connections: int
    """The open connections."""
    opened: int
    """The connections opened so far."""
    closed: Mapping[Cause, int]
    """The connections that have ended, by the cause of their end. Every `Cause` is in it."""
    handshakes: int
    """The handshakes under way: accepted connections that have not received a response yet."""
    refused: Mapping[int, int]
    """The requests that were refused, by the status of the response, from 400 to 599. Other responses of
    `@socket.request`, such as to health checks, are not counted."""
    failed: int
    """The handshakes that ended without a response: the TLS handshake failed, the peer left, or the server dropped the
    connection."""
    messages_received: int
    """The messages received."""
    messages_sent: int
    """The messages sent."""
    bytes_received: int
    """The bytes received."""
    bytes_sent: int
    """The bytes written to the network."""
    compressed_received: int
    """The bytes of received payloads that were inflated."""
    inflated_received: int
    """The bytes of these payloads after inflating."""
    compressed_sent: int
    """The bytes of sent payloads that were compressed."""
    inflated_sent: int
    """The bytes of these payloads before compression."""
    backlog: int
    """The bytes sent and not yet written to the sockets."""
    largest_backlog: int
    """The largest backlog of a connection."""
    round_trip: float | None
    """The mean of the last round-trip times of the open connections, in seconds; None if there are none."""
    started_at: datetime | None
    """When the server began to listen, in UTC; None before."""
    duration: float
    """The time for which the server has been running, in seconds; 0 before it listens."""
