"""Load of the echo cases, for servers and clients: a window of messages in flight on each of a few connections.

All frames are built before the measurement. The generator counts bytes instead of parsing echoes, because each echo has
a known size. Any number of messages costs it two system calls, so a generator in Python is fast enough: against a bare
C server it reached 4.7 million messages a second in `small`. In `ping-pong`, where it sends one message at a time, the
maximum was 166 000.

To measure a client, the generator acts as the server: it sends the messages, and the client's echoes are masked. It
never sleeps then. On one machine the client's `send` would wake it, which costs the client up to 1 µs, and a faster
client would do that more often.
"""

import json
import os
import random
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.contestants import GENERAL
from benchmarks.measure import Measure, Stopwatch
from benchmarks.neutral import Listener
from benchmarks.opening import Connection, connect, connect_with_tls, receive_exactly, send_all
from benchmarks.process import ClientProcess, ServerProcess

WARM_UP = 0.2
RECEIVE_BUFFER = 1 << 18
POLL_TIMEOUT = 0.05


@dataclass(frozen=True)
class EchoCase(ServerCase):
    name: str
    connections: int
    window: int
    """Messages in flight on each connection."""
    size: int
    opcode: int = frames.BINARY
    tls: bool = False
    contestants: Sequence[str] = GENERAL
    unit = "messages"

    @property
    def description(self) -> str:
        kind = "text" if self.opcode == frames.TEXT else "binary"
        return _describe(f"echo {kind}", self.size, self.window, self.connections, self.tls)

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        payloads = [self._payload() for _ in range(self.window)]
        sent = [frames.masked(payload, self.opcode) for payload in payloads]
        echoes = [frames.unmasked(payload, self.opcode) for payload in payloads]
        connecting: Callable[[int], Connection] = connect_with_tls if self.tls else connect
        connections = [connecting(server.port) for _ in range(self.connections)]
        try:
            for connection in connections:
                _check_echo(connection, sent, echoes)
            load = EchoLoad(connections, sent, len(echoes[0]), POLL_TIMEOUT)
            load.run(WARM_UP)
            watch = Stopwatch(server)
            received = load.run(seconds)
            return watch.stop(received / len(echoes[0]))
        finally:
            for connection in connections:
                connection.close()

    def _payload(self) -> bytes:
        if self.opcode == frames.TEXT:
            return os.urandom(self.size // 2).hex().encode()
        return os.urandom(self.size)


@dataclass(frozen=True)
class JsonEchoCase(EchoCase):
    """Echoes of JSON, which `servers.typed` decodes and encodes. It must give back the same bytes."""

    @property
    def description(self) -> str:
        return f"{super().description}, which all but streamws decode from JSON and encode again"

    def _payload(self) -> bytes:
        prices = [random.randrange(100_001, 999_999, 2) / 1000 for _ in range(3)]
        order = {"type": "order", "id": random.randrange(10**8, 10**9), "symbol": "EUR-USD", "prices": prices}
        payload = json.dumps(order, separators=(",", ":")).encode()
        # Numbers with fewer digits would change the size.
        return payload if len(payload) == self.size else self._payload()


@dataclass(frozen=True)
class AsgiEchoCase(EchoCase):
    """Echoes of an ASGI application, bare or in a framework."""

    framework: str = "none"

    @property
    def description(self) -> str:
        where = "bare ASGI" if self.framework == "none" else "FastAPI"
        return f"{where}: {super().description}"

    @property
    def options(self) -> Sequence[str]:  # type: ignore[override]
        return ["--framework", self.framework]


@dataclass(frozen=True)
class ClientEchoCase:
    name: str
    connections: int
    window: int
    """Messages in flight on each connection."""
    size: int
    tls: bool = False
    contestants: Sequence[str] = GENERAL
    unit = "messages"
    once = False

    @property
    def description(self) -> str:
        return _describe("client echoes binary", self.size, self.window, self.connections, self.tls)

    def drive(self, client: ClientProcess, listener: Listener, seconds: float) -> Measure:
        payloads = [os.urandom(self.size) for _ in range(self.window)]
        sent = [frames.unmasked(payload) for payload in payloads]
        peers = [listener.accept() for _ in range(self.connections)]
        for peer in peers:
            _check_masked_echo(peer, sent, payloads)
        echo_size = len(frames.masked(payloads[0]))
        load = EchoLoad(peers, sent, echo_size, 0)
        load.run(WARM_UP)
        watch = Stopwatch(client)
        received = load.run(seconds)
        return watch.stop(received / echo_size, load.busy)


class EchoLoad:
    """Keeps the window of every connection full; may run several times."""

    def __init__(
        self, connections: Sequence[Connection], sent: list[bytes], echo_size: int, poll_timeout: float
    ) -> None:
        """Register the connections.

        :param poll_timeout: The longest sleep while there is nothing to do, in seconds.
        """
        self._poll_timeout = poll_timeout
        self.busy = 0.0
        """The seconds of the last run in which there was something to do."""
        self._frame_size = len(sent[0])
        self._echo_size = echo_size
        self._ring_size = self._frame_size * len(sent)
        # The ring holds all frames twice, so that any run of frames to send is one slice, wherever it begins.
        self._ring = memoryview(b"".join(sent) * 2)
        self._buffer = bytearray(RECEIVE_BUFFER)
        self._epoll = select.epoll()
        self._streams: dict[int, _Stream] = {}
        for connection in connections:
            connection.setblocking(False)
            self._streams[connection.fileno()] = _Stream(connection, due=self._ring_size)
            self._epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def run(self, seconds: float) -> int:
        """Send messages for a time.

        :returns: The number of bytes of echoes received.
        """
        total = 0
        frame_size, echo_size, ring_size = self._frame_size, self._echo_size, self._ring_size
        ring, buffer, epoll, streams = self._ring, self._buffer, self._epoll, self._streams
        readable, writable = select.EPOLLIN, select.EPOLLOUT
        idle = 0.0
        now = time.monotonic()
        until = now + seconds
        while now < until:
            ready = epoll.poll(self._poll_timeout)
            before, now = now, time.monotonic()
            if not ready:
                idle += now - before
            for descriptor, events in ready:
                stream = streams[descriptor]
                if events & readable:
                    try:
                        count = stream.recv_into(buffer)
                    except BlockingIOError:
                        continue  # only part of a TLS record has arrived
                    if not count:
                        raise ConnectionError("the connection was closed under load")
                    total += count
                    whole, stream.partial = divmod(stream.partial + count, echo_size)
                    stream.due += whole * frame_size
                if stream.due:
                    try:
                        count = stream.send(ring[stream.at : stream.at + stream.due])
                    except BlockingIOError:
                        count = 0
                    stream.at = (stream.at + count) % ring_size
                    stream.due -= count
                if stream.watches_writable != (stream.due > 0):
                    stream.watches_writable = stream.due > 0
                    epoll.modify(descriptor, readable | writable if stream.watches_writable else readable)
        self.busy = seconds - idle
        return total


class _Stream:
    """One connection: its place in the ring, the bytes due to be sent, and the bytes received of a partial echo."""

    __slots__ = ("at", "due", "partial", "recv_into", "send", "watches_writable")

    def __init__(self, connection: Connection, due: int) -> None:
        self.recv_into = connection.recv_into
        self.send = connection.send
        self.at = 0
        self.due = due
        self.partial = 0
        self.watches_writable = True


def _describe(action: str, size: int, window: int, connections: int, tls: bool) -> str:
    where = f"on each of {connections} connections" if connections > 1 else "on 1 connection"
    return f"{action} messages of {size:,} bytes, {window} in flight {where}{' over TLS' if tls else ''}"


def _check_echo(connection: Connection, sent: list[bytes], echoes: list[bytes]) -> None:
    for frame, echo in zip(sent, echoes, strict=True):
        send_all(connection, frame)
        if receive_exactly(connection, len(echo)) != echo:
            raise ValueError("wrong echo: it differs from the message sent")


def _check_masked_echo(peer: Connection, sent: list[bytes], payloads: list[bytes]) -> None:
    for frame, payload in zip(sent, payloads, strict=True):
        send_all(peer, frame)
        header = frames.masked_header(len(payload), b"")
        echo = receive_exactly(peer, len(header) + 4 + len(payload))
        key = echo[len(header) : len(header) + 4]
        if echo != header + key + frames.xor(payload, key):
            raise ValueError("wrong echo: it differs from the message sent")
