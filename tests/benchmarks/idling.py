"""The `idle` cases: what an open connection costs in memory; after some messages where that makes a difference."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.compression import CompressingPeer
from benchmarks.deflate import Settings, records
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened, opened_with_tls, receive_exactly, reset, send_all
from benchmarks.process import ServerProcess

SETTLE = 1.0
FIRST_FEW = 32
PAYLOAD = bytes(4096)
MESSAGES = 48
"""On each compressed connection: more than the largest window holds."""


@dataclass(frozen=True)
class IdleCase:
    name: str
    connections: int
    tls: bool = False
    unit = "connections"
    handler = "echo"
    settings = None
    once = True

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """`seconds` is not used: the case takes as long as opening the connections takes."""
        return _measure(server, self.connections, lambda: self._opened(server.port))

    def _opened(self, port: int) -> socket.socket:
        if not self.tls:
            return opened(port)
        peer = opened_with_tls(port)
        # So that buffers are there, if they stay.
        send_all(peer, frames.masked(PAYLOAD))
        receive_exactly(peer, len(frames.unmasked(PAYLOAD)))
        return peer.socket


@dataclass(frozen=True)
class CompressedIdleCase:
    """Each connection has had some messages compressed both ways: both of its contexts have been in use."""

    name: str
    connections: int
    settings: Settings
    unit = "connections"
    handler = "echo"
    once = True
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """`seconds` is not used."""
        messages = records()[:MESSAGES]

        def used() -> socket.socket:
            peer = CompressingPeer(server.port, self.settings, messages)
            for _ in messages:
                peer.exchange()
            peer.check()
            return peer.connection

        return _measure(server, self.connections, used)


def _measure(server: ServerProcess, connections: int, opening: Callable[[], socket.socket]) -> Measure:
    for _ in range(FIRST_FEW):  # what a server allocates once, at its first connections, is not counted
        reset(opening())
    time.sleep(SETTLE)
    before = server.resident_memory()
    held: list[socket.socket] = []
    watch = Stopwatch(server)
    try:
        held.extend(opening() for _ in range(connections))
        time.sleep(SETTLE)
        return watch.stop(connections, memory=server.resident_memory() - before)
    finally:
        for connection in held:
            reset(connection)
