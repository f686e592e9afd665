"""The load of the `fairness` cases: one client's round trips while others flood the server.

A flooder sends small messages as fast as its socket takes them and reads the echoes. The flooders live in a process of
their own, which is niced: it has the generator's core while the one that measures is waiting, and loses it the moment
an answer is there. It moves little in one system call, since within one it cannot be interrupted.

Beside a bare C server that reads 16 KiB at a time, the flood was 17 million messages a second and a round trip took
0.05 ms, and 0.2 ms in the 99th percentile: what is measured above that is the server's. A maximum of some 10 ms may be
the machine's, it comes without a flood too.
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
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened, receive_exactly
from benchmarks.process import ServerProcess

WARM_UP = 0.3
PIECE = 32 * 1024
MESSAGES = 4096
"""How many different messages the flooders send."""


@dataclass(frozen=True)
class FairnessCase:
    name: str
    flooders: int
    size: int
    unit = "messages"
    handler = "echo"
    settings = None
    once = False
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """The figures are the round-trip times; rate and cost are of all messages, nearly all of which are floods."""
        payload = os.urandom(self.size)
        sent, echo = frames.masked(payload), frames.unmasked(payload)
        with Flood(server.port, self.flooders, self.size) as flood, closing(opened(server.port)) as connection:
            _round_trips(connection, sent, echo, WARM_UP)
            watch = Stopwatch(server, flood.cpu_time)
            before = flood.received
            times = _round_trips(connection, sent, echo, seconds)
            operations = (flood.received - before) / len(echo) + len(times)
            figures = {"median ms": median(times), "99 % ms": _percentile(times, 0.99), "max ms": max(times)}
            return watch.stop(operations, figures={name: 1000 * figure for name, figure in figures.items()})


def _round_trips(connection: socket.socket, sent: bytes, echo: bytes, seconds: float) -> list[float]:
    """One message at a time: the seconds that each took."""
    times: list[float] = []
    now = time.perf_counter()
    until = now + seconds
    while now < until:
        begin = time.perf_counter()
        connection.sendall(sent)
        received = receive_exactly(connection, len(echo))
        now = time.perf_counter()
        if received != echo:
            raise ValueError("the echo is not what was sent")
        times.append(now - begin)
    return times


def _percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that this part of them does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


class Flood:
    """`with Flood(...) as flood`: the server is flooded from here on."""

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
        """Bytes of echoes so far."""
        if self._process.exitcode is not None:
            raise ConnectionError("the flood has ended")
        return self._received.value

    def cpu_time(self) -> float:
        times = self._seen.cpu_times()
        return times.user + times.system


def _flood(port: int, flooders: int, size: int, received: c_longlong) -> None:
    os.nice(5)
    messages = b"".join(frames.masked(os.urandom(size)) for _ in range(MESSAGES))
    # Its beginning once more behind it, so that a piece is one slice, wherever it begins.
    ring = memoryview(messages + messages[:PIECE])
    buffer = bytearray(PIECE)
    epoll = select.epoll()
    connections: dict[int, socket.socket] = {}
    places: dict[int, int] = {}
    for _ in range(flooders):
        connection = opened(port)
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
                places[descriptor] = (place + connection.send(ring[place : place + PIECE])) % len(messages)
