"""Loads of the `handshake` cases: connections that are opened, upgraded, and ended.

A server needs less CPU time for a handshake if it finds several waiting when it wakes up, and libraries differ much in
how much less. So the number that it finds must not depend on the speed of the generator, of the server, or of the
machine. Therefore the generator freezes the server, prepares a burst of connections, and lets the server continue. The
case with a single connection needs no freezing.

What ends a connection costs CPU time, too. Each case says which end it counts. A reset is the end that costs least: the
peer is gone at once. After a closing handshake (RFC 6455 section 7) the server closes the TCP connection.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import END_OF_HEAD, HOST, SWITCHING_PROTOCOLS, connect, receive_head, reset, upgrade_request
from benchmarks.process import ServerProcess
from benchmarks.sealing import TIMEOUT

WARM_UP_BURSTS = 5
NORMAL_CLOSURE = frames.masked((1000).to_bytes(2), frames.CLOSE)

Counted = Literal["opening and reset", "opening", "closing handshake"]


@dataclass(frozen=True)
class HandshakeCase(ServerCase):
    name: str
    burst: int
    """The number of connections that the server finds at once."""
    counted: Counted = "opening and reset"
    """The part of the life of a connection in which the server's CPU time counts."""
    unit = "connections"

    @property
    def description(self) -> str:
        what = {
            "opening and reset": "TCP connection, opening handshake, end by a reset of the peer",
            "opening": "TCP connection and opening handshake, without the end",
            "closing handshake": "closing handshake begun by the peer and end of the TCP connection, without the rest",
        }[self.counted]
        return f"{what}; the server finds {self.burst} at once" if self.burst > 1 else f"{what}; one at a time"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Open and end connections.

        :returns: The measure; its figure is the number of times that the server went to sleep, for each connection. It
            shows whether the server found bursts of the wanted size.
        """
        (server,) = servers
        reset(connect(server.port))  # checks one whole response; the load checks only the start and end of each
        load = HandshakeLoad(server, self.burst)
        run: Callable[[Stopwatch], int] = {
            "opening and reset": load.open_and_reset,
            "opening": load.open,
            "closing handshake": load.close,
        }[self.counted]
        try:
            for _ in range(WARM_UP_BURSTS):
                run(Stopwatch(server))
            before = server.sleeps()
            watch = Stopwatch(server)
            if self.counted != "opening and reset":
                watch.pause()
            done = 0
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                done += run(watch)
            sleeps = server.sleeps() - before
            return watch.stop(done, figures={"sleeps": sleeps / max(done, 1)})
        finally:
            load.reset()


class HandshakeLoad:
    """Opens and ends bursts of connections. Each method measures one burst, and returns its size.

    The stopwatch of `open` and `close` is paused before and after. That of `open_and_reset` runs from burst to burst.
    """

    def __init__(self, server: ServerProcess, burst: int) -> None:
        self._server = server
        self._burst = burst
        self._request = upgrade_request(server.port)
        self._open: list[socket.socket] = []

    def open_and_reset(self, watch: Stopwatch) -> int:
        """Count the ends of the burst before and the beginnings of this one, which the server finds at once."""
        if self._burst > 1:
            with self._server.frozen():
                self.reset()
                self._send_requests()
        else:
            self.reset()
            self._send_requests()
        self._receive_responses()
        return self._burst

    def open(self, watch: Stopwatch) -> int:
        """Count the beginnings alone."""
        with self._server.frozen():
            self._send_requests()
            watch.resume()
        self._receive_responses()
        self._server.wait_until_asleep()
        watch.pause()
        self.reset()
        self._server.wait_until_asleep()
        return self._burst

    def close(self, watch: Stopwatch) -> int:
        """Count the closing handshakes alone."""
        self._send_requests()
        self._receive_responses()
        self._server.wait_until_asleep()
        with self._server.frozen():
            for connection in self._open:
                connection.sendall(NORMAL_CLOSURE)
            watch.resume()
        for connection in self._open:
            _receive_close(connection)
        self._server.wait_until_asleep()
        watch.pause()
        for connection in self._open:
            connection.close()
        self._open.clear()
        return self._burst

    def reset(self) -> None:
        """Reset the connections that are open."""
        for connection in self._open:
            reset(connection)
        self._open.clear()

    def _send_requests(self) -> None:
        for _ in range(self._burst):
            # On loopback the kernel establishes the connection, even if the server does not run.
            connection = socket.create_connection((HOST, self._server.port), timeout=TIMEOUT)
            self._open.append(connection)
            connection.sendall(self._request)

    def _receive_responses(self) -> None:
        for connection in self._open:
            head = receive_head(connection)
            if not (head.startswith(SWITCHING_PROTOCOLS) and head.endswith(END_OF_HEAD)):
                raise ConnectionError(f"the handshake must be answered with 101, not {head!r}")


def _receive_close(connection: socket.socket) -> None:
    """Receive the server's Close frame, and the end of the TCP connection."""
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
    if received[:1] != frames.unmasked(b"", frames.CLOSE)[:1]:
        raise ConnectionError(f"the Close frame must be answered with one, not {received!r}")
