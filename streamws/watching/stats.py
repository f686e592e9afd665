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

    :param messages_received: the complete messages received. Those that arrive while this side closes the
        connection are not counted.
    :param messages_sent: the complete messages sent, including those that were broadcast to this connection.
    :param bytes_received: the bytes received.
    :param bytes_sent: the bytes written to the network, including those of the `backlog` that the transport already
        has.
    :param compressed_received: the bytes of received payloads that were inflated. A compressed message is inflated
        when it is read.
    :param inflated_received: the bytes of these payloads after inflating.
    :param compressed_sent: the bytes of sent payloads that were compressed.
    :param inflated_sent: the bytes of these payloads before compression.
    :param backlog: the bytes sent and not yet written to the socket. For a slow peer, this number grows.
    :param round_trip: the last round-trip time of a ping in seconds; None before the first pong. The keepalive
        sends a ping every `Timeouts.ping_interval` seconds.
    :param opened_at: when the connection opened, in UTC.
    :param duration: the time for which the connection has been open, or was open, in seconds.
    """

    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    compressed_received: int
    inflated_received: int
    compressed_sent: int
    inflated_sent: int
    backlog: int
    round_trip: float | None
    opened_at: datetime
    duration: float


@attrs.frozen
class ServerStats:
    """Counters of a server. The object does not change; read `WebSocketServer.stats` again for newer numbers.

    The counters from `messages_received` to `inflated_sent` are those of `ConnectionStats`, added up for all
    connections, including those that have ended. They never decrease.

    :param connections: the open connections.
    :param opened: the connections opened so far.
    :param closed: the connections that have ended, by the cause of their end. Every `Cause` is in it.
    :param handshakes: the handshakes under way: accepted connections that have not received a response yet.
    :param refused: the requests that were refused, by the status of the response, from 400 to 599. Other responses
        of `@socket.request`, such as to health checks, are not counted.
    :param failed: the handshakes that ended without a response: the TLS handshake failed, the peer left, or the
        server dropped the connection.
    :param backlog: the bytes sent and not yet written to the sockets.
    :param largest_backlog: the largest backlog of a connection.
    :param round_trip: the mean of the last round-trip times of the open connections, in seconds; None if there are
        none.
    :param started_at: when the server began to listen, in UTC; None before.
    :param duration: the time for which the server has been running, in seconds; 0 before it listens.
    """

    connections: int
    opened: int
    closed: Mapping[Cause, int]
    handshakes: int
    refused: Mapping[int, int]
    failed: int
    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    compressed_received: int
    inflated_received: int
    compressed_sent: int
    inflated_sent: int
    backlog: int
    largest_backlog: int
    round_trip: float | None
    started_at: datetime | None
    duration: float
