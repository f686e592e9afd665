"""The `idle` cases: the memory of an open connection, after a few messages where those make a difference."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.compression import CompressingPeer
from benchmarks.contestants import GENERAL
from benchmarks.deflate import Settings, records
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, connect_with_tls, receive_exactly, reset, send_all
from benchmarks.process import ServerProcess

QUIET_TIME = 1.0
WARM_UP_CONNECTIONS = 32
PAYLOAD = bytes(4096)
MESSAGES = 48
"""Messages on each compressed connection: together they are larger than the largest window."""


@dataclass(frozen=True)
class IdleCase(ServerCase):
    name: str
    connections: int
    tls: bool = False
    contestants: Sequence[str] = GENERAL
    options: Sequence[str] = ()
    unit = "connections"
    once = True

    @property
    def description(self) -> str:
        tls = f" over TLS after an echo of {len(PAYLOAD):,} bytes" if self.tls else ""
        return f"memory of {self.connections:,} idle connections{tls}"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure the memory. `seconds` is not used: the case takes as long as it takes to open the connections."""
        (server,) = servers
        return _measure(server, self.connections, lambda: self._connect(server.port))

    def _connect(self, port: int) -> socket.socket:
        if not self.tls:
            return connect(port)
        peer = connect_with_tls(port)
        # One message, so that buffers that a library allocates and keeps are counted.
        send_all(peer, frames.masked(PAYLOAD))
        receive_exactly(peer, len(frames.unmasked(PAYLOAD)))
        return peer.socket


@dataclass(frozen=True)
class CompressedIdleCase(ServerCase):
    """Each connection has compressed messages in both directions, so that both of its contexts were used."""

    name: str
    connections: int
    settings: Settings
    contestants: Sequence[str] = GENERAL
    options: Sequence[str] = ()
    unit = "connections"
    once = True

    @property
    def description(self) -> str:
        after = f"after {MESSAGES} compressed echoes on each"
        return f"memory of {self.connections} idle connections {after} ({self.settings.description})"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure the memory. `seconds` is not used."""
        (server,) = servers
        messages = records()[:MESSAGES]

        def connect_and_exchange() -> socket.socket:
            peer = CompressingPeer(server.port, self.settings, messages)
            for _ in messages:
                peer.exchange()
            peer.check()
            return peer.connection

        return _measure(server, self.connections, connect_and_exchange)


def _measure(server: ServerProcess, connections: int, open_one: Callable[[], socket.socket]) -> Measure:
    for _ in range(WARM_UP_CONNECTIONS):  # do not count memory that a server allocates once, for its first connections
        reset(open_one())
    time.sleep(QUIET_TIME)
    before = server.resident_memory()
    held: list[socket.socket] = []
    watch = Stopwatch(server)
    try:
        held.extend(open_one() for _ in range(connections))
        time.sleep(QUIET_TIME)
        return watch.stop(connections, memory=server.resident_memory() - before)
    finally:
        for connection in held:
            reset(connection)
