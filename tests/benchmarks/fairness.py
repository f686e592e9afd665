"""Load of the `fairness` cases: the round trips of one client while others flood the server.

A flooder sends small messages as fast as its socket accepts them, and reads the echoes. All flooders share a process
of low priority: it uses the generator's core while the measuring client waits, and loses it as soon as an answer
arrives. It sends little in one system call, because a system call cannot be preempted.

Against a bare C server that reads 16 KiB at a time, the flood was 17 million messages a second; a round trip took
0.05 ms (median) or 0.2 ms (99th percentile). Anything above is the server's doing. A maximum of about 10 ms may be due
to the machine, because it also occurs without a flood.
"""

import math
import multiprocessing
import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from statistics import median
from types import TracebackType
from typing import Self

import psutil

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, receive_exactly
from benchmarks.process import ServerProcess

WARM_UP = 0.3
SEND_SIZE = 32 * 1024
MESSAGES = 4096
"""The number of different messages that the flooders send."""


@dataclass(frozen=True)
class FairnessCase(ServerCase):
    name: str
    flooders: int
    size: int
    unit = "messages"

    @property
    def description(self) -> str:
        flooders = f"{self.flooders} flooder{'s' if self.flooders > 1 else ''}"
        return f"round trips of {self.size}-byte messages while {flooders} send{'' if self.flooders > 1 else 's'} more"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure round trips under a flood.

        :returns: The measure; its figures are the round-trip times in milliseconds. Its rate and cost count all
            messages, nearly all of which belong to the flood.
        """
        (server,) = servers
        payload = os.urandom(self.size)
        sent, echo = frames.masked(payload), frames.unmasked(payload)
        with Flood(server.port, self.flooders, self.size) as flood, closing(connect(server.port)) as connection:
            _round_trips(connection, sent, echo, WARM_UP)
            watch = Stopwatch(server, flood.cpu_time)
            before = flood.received
            times = _round_trips(connection, sent, echo, seconds)
            operations = (flood.received - before) / len(echo) + len(times)
            figures = {"median ms": median(times), "99 % ms": _percentile(times, 0.99), "max ms": max(times)}
            return watch.stop(operations, figures={name: 1000 * figure for name, figure in figures.items()})


def _round_trips(connection: socket.socket, sent: bytes, echo: bytes, seconds: float) -> list[float]:
    """Send one message at a time.

    :returns: The round-trip time of each, in seconds.
    """
    times: list[float] = []
    now = time.perf_counter()
    until = now + seconds
    while now < until:
        begin = time.perf_counter()
        connection.sendall(sent)
        received = receive_exactly(connection, len(echo))
        now = time.perf_counter()
        if received != echo:
            raise ValueError("wrong echo: it differs from the message sent")
        times.append(now - begin)
    return times


def _percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


class Flood:
    """Floods the server within its `with` block."""

    def __init__(self, port: int, flooders: int, size: int) -> None:
        self._received = RawValue(c_longlong, 0)
        self._process = multiprocessing.get_context("fork").Process(
            target=_flood, args=(port, flooders, size, self._received), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._seen = psutil.Process(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    @property
    def received(self) -> int:
        """The bytes of echoes received by the flooders so far."""
        if self._process.exitcode is not None:
            raise ConnectionError("the flood has ended")
        return self._received.value

    def cpu_time(self) -> float:
        """Return the CPU time of the flooders so far, in seconds."""
        times = self._seen.cpu_times()
        return times.user + times.system


def _flood(port: int, flooders: int, size: int, received: c_longlong) -> None:
    os.nice(5)
    messages = b"".join(frames.masked(os.urandom(size)) for _ in range(MESSAGES))
    # The ring ends with a copy of its beginning, so that each send is one slice, wherever it begins.
    ring = memoryview(messages + messages[:SEND_SIZE])
    buffer = bytearray(SEND_SIZE)
    epoll = select.epoll()
    connections: dict[int, socket.socket] = {}
    places: dict[int, int] = {}
    for _ in range(flooders):
        connection = connect(port)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        places[connection.fileno()] = 0
        epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)
    while True:
        for descriptor, events in epoll.poll():
            connection = connections[descriptor]
            if events & select.EPOLLIN:
                count = connection.recv_into(buffer)
                if not count:
                    raise ConnectionError("the server closed the connection under load")
                received.value += count
            if events & select.EPOLLOUT:
                place = places[descriptor]
                places[descriptor] = (place + connection.send(ring[place : place + SEND_SIZE])) % len(messages)
