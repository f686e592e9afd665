"""Load of the `broadcast` cases: the server sends messages to all connections, many times, as fast as it can.

The first connection carries the commands: the number of turns, and the number of broadcasts in each turn. Between two
turns each server of a library yields to the event loop once, as if they had different causes. So no server can merge
broadcasts of different turns into one write, unless its sockets are full.

wse-server has threads of its own instead of an event loop, so nothing separates turns there: its threads may merge all
broadcasts that they have not written yet. So it takes part only in cases where each command is one turn, and the next
command follows when everything has been received. Its cost is the CPU time of all its threads, on one core as the
others have.
"""

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.contestants import GENERAL
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, receive_exactly, reset
from benchmarks.process import ServerProcess
from benchmarks.sealing import TIMEOUT
from benchmarks.servers.common import BROADCAST

FRAME = frames.unmasked(BROADCAST)
WARM_UP_BROADCASTS = 10
RECEIVE_BUFFER = 1 << 18


@dataclass(frozen=True)
class BroadcastCase(ServerCase):
    name: str
    connections: int
    turns: int
    """The number of turns for one command."""
    in_turn: int
    """The number of broadcasts in one turn."""
    contestants: Sequence[str] = GENERAL
    unit = "deliveries"
    handler = "broadcast"

    @property
    def description(self) -> str:
        turns = f"{self.turns} turns of" if self.turns > 1 else "one turn of"
        broadcasts = f"{self.in_turn} broadcast{'s' if self.in_turn > 1 else ''}"
        then = "" if self.turns > 1 else ", the next when all has arrived"
        return f"{turns} {broadcasts} of {len(BROADCAST)} bytes to {self.connections} connections{then}"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        deliveries = 0
        load = BroadcastLoad(server, self.connections)
        try:
            load.check()
            load.run(max(1, WARM_UP_BROADCASTS // self.in_turn), self.in_turn)
            watch = Stopwatch(server)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                deliveries += load.run(self.turns, self.in_turn)
            return watch.stop(deliveries)
        finally:
            load.close()


class BroadcastLoad:
    """Receives the broadcasts on all connections."""

    def __init__(self, server: ServerProcess, connections: int) -> None:
        self._connections = [connect(server.port) for _ in range(connections)]
        # A handler may start a few loop iterations after the response to the handshake.
        server.wait_until_asleep()
        self._epoll = select.epoll()
        self._receivers = {connection.fileno(): connection.recv_into for connection in self._connections}
        for connection in self._connections:
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def check(self) -> None:
        """Have the server broadcast once, and check what it sends."""
        self._connections[0].sendall(broadcast_command(1, 1))
        for connection in self._connections:
            if (received := receive_exactly(connection, len(FRAME))) != FRAME:
                raise ValueError(f"wrong broadcast: the server sent {received[:20]!r}...")

    def close(self) -> None:
        """Reset the connections."""
        self._epoll.close()
        for connection in self._connections:
            reset(connection)

    def run(self, turns: int, in_turn: int) -> int:
        """Have the server broadcast, and receive everything.

        :returns: The number of messages delivered.
        """
        deliveries = turns * in_turn * len(self._receivers)
        missing = deliveries * len(FRAME)
        buffer = bytearray(RECEIVE_BUFFER)
        until = time.monotonic() + TIMEOUT
        self._connections[0].sendall(broadcast_command(turns, in_turn))
        while missing:
            if time.monotonic() > until:
                raise TimeoutError(f"{missing} bytes of a broadcast did not arrive within {TIMEOUT:g} s")
            for descriptor, _ in self._epoll.poll(0.05):
                count = self._receivers[descriptor](buffer)
                if not count:
                    raise ConnectionError("the server closed the connection under load")
                missing -= count
        return deliveries


def broadcast_command(turns: int, in_turn: int) -> bytes:
    """Return a client's frame with a command to a server that broadcasts."""
    return frames.masked(f"{turns} {in_turn}".encode(), frames.TEXT)
