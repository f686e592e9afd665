"""Load of the `broadcast` case: the server sends a message to all connections, many times, as fast as it can.

The first connection carries the command, which is the number of broadcasts in decimal. Between two broadcasts each
server yields to the event loop once, as if they had different causes. So no server can merge them into one write.
"""

import select
import socket
import time
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, receive_exactly, reset
from benchmarks.process import ServerProcess
from benchmarks.sealing import TIMEOUT
from benchmarks.servers.common import BROADCAST

WARM_UP_BROADCASTS = 10
START_DELAY = 0.1


@dataclass(frozen=True)
class BroadcastCase:
    name: str
    connections: int
    broadcasts: int
    """The number of broadcasts for one command."""
    unit = "deliveries"
    handler = "broadcast"
    settings = None
    once = False
    tls = False

    @property
    def description(self) -> str:
        return f"broadcast {len(BROADCAST)}-byte messages to {self.connections} connections"

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        connections = [connect(server.port) for _ in range(self.connections)]
        frame = frames.unmasked(BROADCAST)
        try:
            time.sleep(START_DELAY)  # a handler may start a few loop iterations after the response to the handshake
            connections[0].sendall(_command(1))
            if any(receive_exactly(connection, len(frame)) != frame for connection in connections):
                raise ValueError("wrong broadcast: the server sent other bytes than expected")
            load = BroadcastLoad(connections, len(frame))
            load.run(WARM_UP_BROADCASTS)
            watch = Stopwatch(server)
            until = time.monotonic() + seconds
            deliveries = 0
            while time.monotonic() < until:
                deliveries += load.run(self.broadcasts)
            return watch.stop(deliveries)
        finally:
            for connection in connections:
                reset(connection)


class BroadcastLoad:
    """Receives the broadcasts on all connections."""

    def __init__(self, connections: list[socket.socket], frame_size: int) -> None:
        self._frame_size = frame_size
        self._control = connections[0]
        self._epoll = select.epoll()
        self._receivers = {connection.fileno(): connection.recv_into for connection in connections}
        for connection in connections:
            connection.setblocking(False)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def run(self, broadcasts: int) -> int:
        """Have the server broadcast, and receive everything.

        :returns: The number of messages delivered.
        """
        deliveries = broadcasts * len(self._receivers)
        missing = deliveries * self._frame_size
        buffer = bytearray(1 << 16)
        until = time.monotonic() + TIMEOUT
        self._control.send(_command(broadcasts))
        while missing:
            if time.monotonic() > until:
                raise TimeoutError(f"{missing} bytes of a broadcast did not arrive within {TIMEOUT:g} s")
            for descriptor, _ in self._epoll.poll(0.05):
                count = self._receivers[descriptor](buffer)
                if not count:
                    raise ConnectionError("the server closed the connection under load")
                missing -= count
        return deliveries


def _command(broadcasts: int) -> bytes:
    return frames.masked(str(broadcasts).encode(), frames.TEXT)
