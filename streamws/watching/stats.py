"""The counters of connections and servers, as immutable values."""

from collections.abc import Mapping
from datetime import datetime

import attrs

from ..codes import Cause


@attrs.frozen
class ConnectionStats:
    """The counters of one connection: `Client.stats`. They do not change; read them again for newer numbers.

    The bytes are those of the frames, headers and control frames included. Over TLS they are counted before
    encryption. The opening handshake is not counted.
    """

    messages_received: int
    """The complete messages received. Those that arrive while this side closes the connection are not counted."""
    messages_sent: int
    """The complete messages sent, one for each message that was broadcast to this connection too."""
    bytes_received: int
    """The bytes received."""
    bytes_sent: int
    """The bytes written to the network, including those of the `backlog` that the transport already has."""
    compressed_received: int
    """The bytes of received payloads that were inflated. A compressed message is inflated when it is read."""
    inflated_received: int
    """The bytes that they were inflated to."""
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
    """For how many seconds the connection has been open, or was open."""


@attrs.frozen
class ServerStats:
    """The counters of a server: `WebSocketServer.stats`. They do not change; read them again for newer numbers.

    Messages and bytes are those of all its connections together, the ended ones included. They are counted as in
    `ConnectionStats`, and never decrease.
    """

    connections: int
    """The open connections."""
    opened: int
    """The connections opened so far."""
    closed: Mapping[Cause, int]
    """The connections that have ended, by the cause of their end. Every `Cause` is in it."""
    handshakes: int
    """The handshakes under way: accepted connections that have not opened and got no response yet."""
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
    """The bytes that they were inflated to."""
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
    """For how many seconds the server has been running; 0 before it listens."""
