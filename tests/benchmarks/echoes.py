"""The load of the echo cases, of a server and of a client: a window of messages in flight on each of a few connections.

All frames are built beforehand. What has come back is told by counting bytes, since the size of each echo is
known. A batch of messages costs two system calls however long it is, so that a generator in Python is fast
enough: beside a bare C server it reached 4.7 million messages a second with `small`. With `ping-pong`, where
a batch is one message, 166 000 was the most.

A client connects to the generator, which is a neutral server then: it sends the messages, and the client's echoes come
back masked. It never sleeps: to wake it would cost the client, whose `send` does that where both are on one machine, up
to 1 µs, and the more often the faster the client is.
"""

import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.measure import Measure, Stopwatch
from benchmarks.neutral import Listener
from benchmarks.opening import Connection, opened, opened_with_tls, receive_exactly, send_all
from benchmarks.process import ClientProcess, ServerProcess

WARM_UP = 0.2
RECEIVE_BUFFER = 1 << 18
PATIENCE = 0.05


@dataclass(frozen=True)
class EchoCase:
    name: str
    connections: int
    window: int
    """Messages in flight on each connection."""
    size: int
    opcode: int = frames.BINARY
    tls: bool = False
    unit = "messages"
    handler = "echo"
    settings = None
    once = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        payloads = [self._payload() for _ in range(self.window)]
        sent = [frames.masked(payload, self.opcode) for payload in payloads]
        echoes = [frames.unmasked(payload, self.opcode) for payload in payloads]
        connect: Callable[[int], Connection] = opened_with_tls if self.tls else opened
        connections = [connect(server.port) for _ in range(self.connections)]
        try:
            for connection in connections:
                _check_echo(connection, sent, echoes)
            load = EchoLoad(connections, sent, len(echoes[0]), PATIENCE)
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
class ClientEchoCase:
    name: str
    connections: int
    window: int
    """Messages in flight on each connection."""
    size: int
    tls: bool = False
    unit = "messages"
    once = False

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
    """Keeps the window of every connection filled while it runs; it may run several times."""

    def __init__(self, connections: Sequence[Connection], sent: list[bytes], echo_size: int, patience: float) -> None:
        """`patience`: for how long it sleeps at most while there is nothing to do, in seconds."""
        self._patience = patience
        self.busy = 0.0
        """For how many seconds of the last run it had something to do."""
        self._frame_size = len(sent[0])
        self._echo_size = echo_size
        self._ring_size = self._frame_size * len(sent)
        # Twice over, so that whatever is due to be sent is one slice, wherever in the ring it begins.
        self._ring = memoryview(b"".join(sent) * 2)
        self._buffer = bytearray(RECEIVE_BUFFER)
        self._epoll = select.epoll()
        self._streams: dict[int, _Stream] = {}
        for connection in connections:
            connection.setblocking(False)
            self._streams[connection.fileno()] = _Stream(connection, due=self._ring_size)
            self._epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def run(self, seconds: float) -> int:
        """The number of bytes that came back."""
        total = 0
        frame_size, echo_size, ring_size = self._frame_size, self._echo_size, self._ring_size
        ring, buffer, epoll, streams = self._ring, self._buffer, self._epoll, self._streams
        readable, writable = select.EPOLLIN, select.EPOLLOUT
        idle = 0.0
        now = time.monotonic()
        until = now + seconds
        while now < until:
            ready = epoll.poll(self._patience)
            before, now = now, time.monotonic()
            if not ready:
                idle += now - before
            for descriptor, events in ready:
                stream = streams[descriptor]
                if events & readable:
                    try:
                        count = stream.recv_into(buffer)
                    except BlockingIOError:
                        continue  # a part of a TLS record
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
                if stream.watches_out != (stream.due > 0):
                    stream.watches_out = stream.due > 0
                    epoll.modify(descriptor, readable | writable if stream.watches_out else readable)
        self.busy = seconds - idle
        return total


class _Stream:
    """One connection: its place in the ring of frames, what is due to go out, what of an echo has come."""

    __slots__ = ("at", "due", "partial", "recv_into", "send", "watches_out")

    def __init__(self, connection: Connection, due: int) -> None:
        self.recv_into = connection.recv_into
        self.send = connection.send
        self.at = 0
        self.due = due
        self.partial = 0
        self.watches_out = True


def _check_echo(connection: Connection, sent: list[bytes], echoes: list[bytes]) -> None:
    for frame, echo in zip(sent, echoes, strict=True):
        send_all(connection, frame)
        if receive_exactly(connection, len(echo)) != echo:
            raise ValueError("the echo is not what was sent")


def _check_masked_echo(peer: Connection, sent: list[bytes], payloads: list[bytes]) -> None:
    for frame, payload in zip(sent, payloads, strict=True):
        send_all(peer, frame)
        head = frames.masked_head(len(payload), b"")
        echo = receive_exactly(peer, len(head) + 4 + len(payload))
        key = echo[len(head) : len(head) + 4]
        if echo != head + key + frames.xor(payload, key):
            raise ValueError("the echo is not what was sent")
