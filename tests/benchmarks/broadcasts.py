"""The load of the `broadcast` case: the server sends a message to all, many times over, as fast as it can.

One of the connections carries the command, the number of broadcasts in decimal. Between two broadcasts each
server lets its loop turn once, as it would if they came from different events: none can join all of them.
"""

import select
import socket
import time
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened, receive_exactly, reset
from benchmarks.process import ServerProcess
from benchmarks.sealing import TIMEOUT
from benchmarks.servers.common import BROADCAST

WARM_UP_BROADCASTS = 10
SETTLE = 0.1


@dataclass(frozen=True)
class BroadcastCase:
    name: str
    connections: int
    broadcasts: int
    """How many broadcasts one command asks for."""
    unit = "deliveries"
    handler = "broadcast"
    settings = None
    once = False
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        connections = [opened(server.port) for _ in range(self.connections)]
        frame = frames.unmasked(BROADCAST)
        try:
            time.sleep(SETTLE)  # a handler may begin some turns of the loop after the answer to the handshake
            connections[0].sendall(_command(1))
            if any(receive_exactly(connection, len(frame)) != frame for connection in connections):
                raise ValueError("the broadcast is not what was to be sent")
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
    def __init__(self, connections: list[socket.socket], frame_size: int) -> None:
        self._frame_size = frame_size
        self._control = connections[0]
        self._epoll = select.epoll()
        self._receivers = {connection.fileno(): connection.recv_into for connection in connections}
        for connection in connections:
            connection.setblocking(False)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def run(self, broadcasts: int) -> int:
        """Have the server broadcast, receive everything; the number of messages that were delivered."""
        deliveries = broadcasts * len(self._receivers)
        missing = deliveries * self._frame_size
        buffer = bytearray(1 << 16)
        until = time.monotonic() + TIMEOUT
        self._control.send(_command(broadcasts))
        while missing:
            if time.monotonic() > until:
                raise TimeoutError(f"{missing} bytes of a broadcast did not come within {TIMEOUT:g} s")
            for descriptor, _ in self._epoll.poll(0.05):
                count = self._receivers[descriptor](buffer)
                if not count:
                    raise ConnectionError("the server closed the connection under load")
                missing -= count
        return deliveries


def _command(broadcasts: int) -> bytes:
    return frames.masked(str(broadcasts).encode(), frames.TEXT)
