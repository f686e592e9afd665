"""The `idle` case: what an open connection costs in memory before it has carried any message."""

import socket
import time
from dataclasses import dataclass

from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened, reset
from benchmarks.process import ServerProcess

SETTLE = 1.0
FIRST_FEW = 32


@dataclass(frozen=True)
class IdleCase:
    name: str
    connections: int
    unit = "connections"
    handler = "echo"
    once = True

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """`seconds` is not used: the case takes as long as opening the connections takes."""
        for _ in range(FIRST_FEW):  # what a server allocates once, at its first connections, is not counted
            reset(opened(server.port))
        time.sleep(SETTLE)
        before = server.resident_memory()
        held: list[socket.socket] = []
        watch = Stopwatch(server)
        try:
            held.extend(opened(server.port) for _ in range(self.connections))
            time.sleep(SETTLE)
            return watch.stop(self.connections, memory=server.resident_memory() - before)
        finally:
            for connection in held:
                reset(connection)
