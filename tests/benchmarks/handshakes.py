"""Load of the `handshake` case: connections that are opened, upgraded and reset, a few at the same time."""

import errno
import select
import socket
import time
from dataclasses import dataclass

from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import END_OF_HEAD, HOST, SWITCHING_PROTOCOLS, connect, reset, upgrade_request
from benchmarks.process import ServerProcess

WARM_UP = 0.2


@dataclass(frozen=True)
class HandshakeCase:
    name: str
    concurrent: int
    unit = "handshakes"
    handler = "echo"
    settings = None
    once = False
    tls = False

    @property
    def description(self) -> str:
        return f"TCP connection and opening handshake, {self.concurrent} at the same time"

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        reset(connect(server.port))  # checks one whole response; the load checks only the start and end of each
        load = HandshakeLoad(server.port, self.concurrent)
        try:
            load.run(WARM_UP)
            watch = Stopwatch(server)
            return watch.stop(load.run(seconds))
        finally:
            load.close()


class HandshakeLoad:
    """Keeps a number of opening handshakes under way; may run several times."""

    def __init__(self, port: int, concurrent: int) -> None:
        self._address = (HOST, port)
        self._request = upgrade_request(port)
        self._epoll = select.epoll()
        self._connecting: set[int] = set()
        self._open: dict[int, socket.socket] = {}
        self._heads: dict[int, bytes] = {}
        for _ in range(concurrent):
            self._begin()

    def run(self, seconds: float) -> int:
        """Open connections for a time.

        :returns: The number of completed handshakes.
        """
        done = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for descriptor, _ in self._epoll.poll(0.05):
                connection = self._open[descriptor]
                if descriptor in self._connecting:
                    self._send_request(connection)
                    continue
                head = self._heads.pop(descriptor, b"") + connection.recv(4096)
                if head.endswith(END_OF_HEAD) and head.startswith(SWITCHING_PROTOCOLS):
                    done += 1
                    del self._open[descriptor]
                    reset(connection)
                    self._begin()
                elif not head or END_OF_HEAD in head:
                    raise ConnectionError(f"the handshake must be answered with 101, not {head!r}")
                else:
                    self._heads[descriptor] = head
        return done

    def close(self) -> None:
        for connection in self._open.values():
            reset(connection)
        self._epoll.close()

    def _begin(self) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        failure = connection.connect_ex(self._address)
        if failure not in (0, errno.EINPROGRESS):
            raise OSError(failure, "cannot connect")
        self._open[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        self._send_request(connection)

    def _send_request(self, connection: socket.socket) -> None:
        """Send the request, or wait until the connection is writable.

        On loopback a connection is established at once, unless the server's queue of connections is full.
        """
        descriptor = connection.fileno()
        try:
            connection.send(self._request)
        except BlockingIOError:
            self._connecting.add(descriptor)
            self._epoll.modify(descriptor, select.EPOLLOUT)
        else:
            if descriptor in self._connecting:
                self._connecting.discard(descriptor)
                self._epoll.modify(descriptor, select.EPOLLIN)
