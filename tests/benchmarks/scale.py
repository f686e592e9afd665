"""The `scale` cases: whether each connection costs the same if there are few of them or many.

One run measures the phases in the life of a server: connections are opened, are idle, receive broadcasts, are idle with
keepalive pings, and at last all of them are reset and come back at once.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf

from benchmarks.broadcasts import broadcast_command
from benchmarks.case import ServerCase
from benchmarks.crowd import Crowd
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, reset
from benchmarks.process import ServerProcess

PING_INTERVAL = 5.0
"""Seconds between keepalive pings: shorter than the 20 s that are usual, so that a run does not take minutes."""
PING_ROUNDS = 2
AT_A_TIME = 16
"""Attempts under way in each process of clients, while the connections are opened for the first time."""
BACKLOG = 4096
"""Connections that may wait to be accepted: as many as Linux allows. With 100, the default of most libraries, Linux
ignores most of the clients that come back at once, and they repeat their attempts after 1, 3, 7, 15 and 31 seconds."""
CLIENTS_PER_PROCESS = 5000
DELIVERIES = 100_000
FEWEST_BROADCASTS = 5
WARM_UP_CONNECTIONS = 32
QUIET_TIME = 1.0
TIMEOUT = 60.0


@dataclass(frozen=True)
class ScaleCase(ServerCase):
    name: str
    connections: int
    """The number of connections to each server process."""
    processes: int = 1
    contestants: Sequence[str] = ("streamws", "picows", "picows-iter", "aiohttp", "websockets")
    unit = "connections"
    handler = "broadcast"
    once = True
    options = ("--ping", str(PING_INTERVAL), "--backlog", str(BACKLOG))

    @property
    def description(self) -> str:
        each = f" to each of {self.processes} processes" if self.processes > 1 else " to one process"
        return f"{self.connections:,} connections{each}, a ping every {PING_INTERVAL:g} s; then all come back at once"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure the phases. `seconds` is not used: they take as long as the connections and pings take.

        :returns: The measure; its cost is memory, and its figures are those of the other phases.
        """
        total = self.connections * len(servers)
        crowds = -(-self.connections // CLIENTS_PER_PROCESS)
        for server in servers:
            for connection in [connect(server.port) for _ in range(WARM_UP_CONNECTIONS)]:
                reset(connection)
            server.wait_until_asleep()
        memory = sum(server.resident_memory() for server in servers)
        with Crowd([server.port for server in servers for _ in range(crowds)]) as crowd:
            watch = Stopwatch(servers, crowd.cpu_time)
            opening = Stopwatch(servers)
            crowd.open(total, AT_A_TIME, TIMEOUT)
            opened = opening.stop(total)
            time.sleep(QUIET_TIME)
            memory = sum(server.resident_memory() for server in servers) - memory
            delivering = _broadcast(crowd, servers, max(FEWEST_BROADCASTS, DELIVERIES // total), total)
            resting = _rest(crowd, servers)
            storm = Stopwatch(servers)
            begin = time.monotonic()
            try:
                crowd.come_back(total, TIMEOUT)
                until_back = time.monotonic() - begin
            except TimeoutError:
                until_back = inf
            for server in servers:
                server.wait_until_asleep()
            counts = crowd.counts
            back = storm.stop(counts.open)
            if counts.lost:
                raise ConnectionError(f"the servers closed {counts.lost:,} connections")
            figures = {
                "idle µs": 1e6 * resting.cost,
                "pings": resting.operations / (total * PING_ROUNDS),
                "delivery µs": 1e6 * delivering.cost,
                "opening µs": 1e6 * opened.cost,
                "opened/s": opened.rate,
                "storm µs": 1e6 * back.cost,
                "storm s": until_back,
                "retries": counts.retries,
            }
            return watch.stop(total, memory=memory, figures=figures)


def _broadcast(crowd: Crowd, servers: Sequence[ServerProcess], broadcasts: int, connections: int) -> Measure:
    """Let each server broadcast, one broadcast a turn of its event loop."""
    with ExitStack() as stack:
        controls = []
        for server in servers:
            controls.append(connect(server.port))
            stack.callback(reset, controls[-1])
        time.sleep(QUIET_TIME / 10)  # a handler may start a few loop iterations after the response to the handshake
        expected = crowd.counts.messages + broadcasts * connections
        watch = Stopwatch(servers)
        for control in controls:
            control.sendall(broadcast_command(broadcasts, 1))
        crowd.wait_for_messages(expected, TIMEOUT)
        return watch.stop(broadcasts * (connections + len(controls)))


def _rest(crowd: Crowd, servers: Sequence[ServerProcess]) -> Measure:
    """Measure the keepalive pings and pongs of idle connections."""
    before = crowd.counts.pings
    watch = Stopwatch(servers)
    time.sleep(PING_ROUNDS * PING_INTERVAL)
    return watch.stop(crowd.counts.pings - before)
