"""Thousands of clients in a few processes, for the cases `scale-*` and `topics-*`.

They count messages and answer pings. Each may send one message as soon as it is open.

Each process has its own source address, because an address has about 28,000 ports, and the kernel searches longer for a
free one if most of them are taken. All addresses are loopback addresses.
"""

import errno
import multiprocessing
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import c_longlong
from multiprocessing.connection import Connection as Pipe
from multiprocessing.sharedctypes import RawArray
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from benchmarks import frames
from benchmarks.opening import END_OF_HEAD, HOST, SWITCHING_PROTOCOLS, reset, upgrade_request

POLL_TIME = 0.002
RETRY_DELAY = 0.1
"""A client whose attempt failed tries again after this number of seconds."""
RECEIVE_BUFFER = 1 << 16
STOP_TIMEOUT = 5.0
IP_BIND_ADDRESS_NO_PORT = 24
"""Lets the kernel choose the port when the socket connects, so that each server may have all of them (`ip(7)`)."""

_OPEN, _MESSAGES, _PINGS, _RETRIES, _LOST = range(5)

Greeting = Callable[[int], bytes]
"""Returns the frame that a client sends as soon as it is open. The clients of all processes are numbered from 0."""


class Counts(NamedTuple):
    """What the clients of all processes have counted so far."""

    open: int
    """The connections that are open now."""
    messages: int
    pings: int
    retries: int
    """Attempts that failed and were repeated: refused, reset, or answered with something else than 101."""
    lost: int
    """Open connections that the server closed."""


class Crowd:
    """Clients of one or several servers, within its `with` block."""

    def __init__(
        self, ports: Sequence[int], greeting: Greeting | None = None, returning: Greeting | None = None
    ) -> None:
        """Start one process for each port in the list, which may contain a port several times.

        :param greeting: What the clients of `open` send first; None for nothing.
        :param returning: The same for those of `come_back`.
        """
        context = multiprocessing.get_context("fork")
        self._pipes: list[Pipe] = []
        self._counters: list[Any] = []
        self._processes = []
        for number, port in enumerate(ports):
            near, far = context.Pipe()
            counters = RawArray(c_longlong, 5)
            clients = (far, counters, port, f"127.0.0.{number + 2}", greeting, returning)
            process = context.Process(target=_run, args=clients, daemon=True)
            self._pipes.append(near)
            self._counters.append(counters)
            self._processes.append(process)

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        self._seen = [psutil.Process(process.pid) for process in self._processes]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join(STOP_TIMEOUT)

    def cpu_time(self) -> float:
        """Return the CPU time of the processes so far, in seconds."""
        times = [seen.cpu_times() for seen in self._seen]
        return sum(each.user + each.system for each in times)

    @property
    def counts(self) -> Counts:
        """What the clients have counted so far."""
        return Counts(*(sum(column) for column in zip(*self._counters, strict=True)))

    def open(self, connections: int, at_a_time: int, timeout: float) -> None:
        """Open this number of connections.

        :param at_a_time: The number of attempts under way in each process.
        """
        self._command(connections, at_a_time, timeout)

    def come_back(self, connections: int, timeout: float) -> None:
        """Reset all connections, and open as many at once."""
        self._command(connections, None, timeout)

    def wait_for_messages(self, number: int, timeout: float) -> None:
        """Wait until this number of messages has been received since the start."""
        until = time.monotonic() + timeout
        while (received := self.counts.messages) < number:
            if time.monotonic() > until:
                raise TimeoutError(f"{received:,} of {number:,} messages arrived within {timeout:g} s")
            time.sleep(POLL_TIME)

    def _command(self, connections: int, at_a_time: int | None, timeout: float) -> None:
        for number, pipe in enumerate(self._pipes):
            first, end = (connections * each // len(self._pipes) for each in (number, number + 1))
            pipe.send((range(first, end), at_a_time))
        until = time.monotonic() + timeout
        for pipe in self._pipes:
            if not pipe.poll(max(0.0, until - time.monotonic())):
                counts = self.counts
                raise TimeoutError(
                    f"{counts.open:,} of {connections:,} connections were open after {timeout:g} s; "
                    f"{counts.retries:,} attempts had failed"
                )
            try:
                failure = pipe.recv()
            except EOFError:
                failure = "it was killed"
            if failure:
                raise ConnectionError(f"a process of clients has ended: {failure}")


def _run(
    pipe: Pipe, counters: Any, port: int, source: str, greeting: Greeting | None, returning: Greeting | None
) -> None:
    try:
        _Clients(pipe, counters, port, source, greeting, returning).run()
    except (KeyboardInterrupt, EOFError):
        pass
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


class _Clients:
    """The clients of one process."""

    def __init__(
        self,
        pipe: Pipe,
        counters: Any,
        port: int,
        source: str,
        greeting: Greeting | None,
        returning: Greeting | None,
    ) -> None:
        self._pipe = pipe
        self._greeting = greeting
        self._returning = returning
        self._counters = counters
        self._address = (HOST, port)
        self._source = (source, 0)
        self._request = upgrade_request(port)
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._connecting: set[int] = set()
        self._partial: dict[int, bytes] = {}
        """For each connection, the bytes received of a head or frame that is not complete."""
        self._opening: dict[int, int] = {}
        """The connections that wait for the response to their handshake, with the numbers of their clients; those in
        `_connecting` are among them."""
        self._wanted: deque[int] = deque()
        """The clients that have not begun to open their connections, by their numbers."""
        self._at_a_time = 1
        self._retries: deque[tuple[float, int]] = deque()
        """The times at which clients try again, with their numbers."""
        self._unanswered = False
        """Whether the last command has not been answered."""

    def run(self) -> None:
        buffer = bytearray(RECEIVE_BUFFER)
        while True:
            for descriptor, _ in self._epoll.poll(RETRY_DELAY / 4 if self._retries else -1):
                if descriptor == self._pipe.fileno():
                    self._obey(*self._pipe.recv())
                elif descriptor in self._connecting:
                    self._finish_connecting(descriptor)
                elif descriptor in self._sockets:
                    self._receive(descriptor, buffer)
            now = time.monotonic()
            while self._retries and self._retries[0][0] <= now:
                self._wanted.append(self._retries.popleft()[1])
            while self._wanted and len(self._opening) < self._at_a_time:
                self._begin(self._wanted.popleft())
            if self._unanswered and not (self._wanted or self._opening or self._retries):
                self._unanswered = False
                self._pipe.send("")

    def _obey(self, clients: range, at_a_time: int | None) -> None:
        """Open connections; if `at_a_time` is None, drop all others first and open these at once.

        :param clients: The numbers of their clients.
        """
        if at_a_time is None:
            self._greeting = self._returning
            for connection in self._sockets.values():
                reset(connection)
            self._sockets.clear()
            self._partial.clear()
            self._counters[_OPEN] = 0
        self._wanted.extend(clients)
        self._at_a_time = len(clients) if at_a_time is None else at_a_time
        self._unanswered = True

    def _begin(self, client: int) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind(self._source)
        failure = connection.connect_ex(self._address)
        descriptor = connection.fileno()
        self._sockets[descriptor] = connection
        self._partial[descriptor] = b""
        self._opening[descriptor] = client
        self._connecting.add(descriptor)
        self._epoll.register(descriptor, select.EPOLLOUT)
        if failure not in (0, errno.EINPROGRESS):
            if failure in (errno.EADDRNOTAVAIL, errno.EMFILE):
                raise OSError(failure, os.strerror(failure))
            self._fail(descriptor)

    def _finish_connecting(self, descriptor: int) -> None:
        try:
            self._sockets[descriptor].send(self._request)
        except OSError:
            self._fail(descriptor)
            return
        self._connecting.discard(descriptor)
        self._epoll.modify(descriptor, select.EPOLLIN)

    def _receive(self, descriptor: int, buffer: bytearray) -> None:
        try:
            count = self._sockets[descriptor].recv_into(buffer)
        except OSError:
            count = 0
        if not count:
            self._fail(descriptor)
            return
        data = self._partial[descriptor] + bytes(memoryview(buffer)[:count])
        if descriptor in self._opening:
            head, end, rest = data.partition(END_OF_HEAD)
            if not end:
                self._partial[descriptor] = data
                return
            if not head.startswith(SWITCHING_PROTOCOLS):
                self._fail(descriptor)
                return
            client = self._opening.pop(descriptor)
            self._counters[_OPEN] += 1
            if self._greeting is not None:
                self._sockets[descriptor].send(self._greeting(client))
            data = rest
        self._partial[descriptor] = self._read_frames(descriptor, data)

    def _read_frames(self, descriptor: int, data: bytes) -> bytes:
        """Count the messages, and answer the pings.

        :returns: The bytes of a frame that is not complete.
        """
        place = 0
        while len(data) - place >= 2:
            opcode, length, begin = data[place] & 0x0F, data[place + 1], place + 2
            if length >= 126:
                begin += 2 if length == 126 else 8
                length = int.from_bytes(data[place + 2 : begin])
            if len(data) < begin + length:
                break
            place = begin + length
            if opcode == frames.PING:
                self._counters[_PINGS] += 1
                with suppress(OSError):  # the next receive finds the end of the connection
                    self._sockets[descriptor].send(frames.masked(data[begin:place], frames.PONG))
            elif opcode in (frames.TEXT, frames.BINARY):
                self._counters[_MESSAGES] += 1
        return data[place:]

    def _fail(self, descriptor: int) -> None:
        """Drop a connection. If it was not open yet, try again later."""
        reset(self._sockets.pop(descriptor))
        del self._partial[descriptor]
        self._connecting.discard(descriptor)
        client = self._opening.pop(descriptor, None)
        if client is not None:
            self._counters[_RETRIES] += 1
            self._retries.append((time.monotonic() + RETRY_DELAY, client))
        else:
            self._counters[_OPEN] -= 1
            self._counters[_LOST] += 1
