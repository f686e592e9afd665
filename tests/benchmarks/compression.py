"""The load of the `json` cases: records of JSON, echoed one at a time on each connection, compressed both ways.

What comes back is kept as it is, and looked at when the measurement is over: all of it has to be compressed, and to be
what was sent.

The generator never sleeps, as with clients under measurement: to wake it would cost the server, and the more often the
faster that is.
"""

import select
import struct
import time
import zlib
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.deflate import TAIL, Agreement, Settings, compressed, records
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened_with, receive_exactly
from benchmarks.process import ServerProcess

WARM_UP = 0.2
ANSWER = 0xC1
"""FIN, RSV1 and text: how the answers begin."""


@dataclass(frozen=True)
class CompressedEchoCase:
    name: str
    connections: int
    settings: Settings
    unit = "messages"
    handler = "echo"
    once = False
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """The figures are of the answers: their payloads in bytes, and those over what they inflate to."""
        messages = records()
        with ExitStack() as stack:
            peers = [CompressingPeer(server.port, self.settings, messages) for _ in range(self.connections)]
            for peer in peers:
                stack.callback(peer.connection.close)
                peer.exchange()
                peer.check()
            load = CompressedEchoLoad(peers)
            load.run(WARM_UP)
            for peer in peers:
                peer.check()
            watch = Stopwatch(server)
            received = load.run(seconds)
            measure = watch.stop(received)
            sizes = [peer.check() for peer in peers]
        payloads, inflated = (sum(column) for column in zip(*sizes, strict=True))
        return measure._replace(figures={"payload B": payloads / received, "ratio": payloads / inflated})


class CompressingPeer:
    """One connection: the frames that go out on it, in turn, and the answers that have come."""

    def __init__(self, port: int, settings: Settings, messages: list[bytes]) -> None:
        self.connection, head = opened_with(port, settings.parameters.encode())
        agreement = Agreement.of(head, settings)
        self._messages = messages
        payloads = compressed(messages, agreement)
        self.sent = [frames.masked(payload, frames.TEXT, compressed=True) for payload in payloads]
        self.next = 0
        """Which of them goes out next."""
        self.answers: list[bytes] = []
        """What has come and was not checked, as it came."""
        self._inflater = zlib.decompressobj(-agreement.server_bits)
        self._checked = 0

    def exchange(self) -> None:
        """One message and its answer."""
        self.connection.sendall(self.sent[self.next])
        self.next = (self.next + 1) % len(self.sent)
        head = receive_exactly(self.connection, 2)
        size = head[1]
        if size == 126:
            head += receive_exactly(self.connection, 2)
            size = struct.unpack_from("!H", head, 2)[0]
        self.answers.append(head + receive_exactly(self.connection, size))

    def check(self) -> tuple[int, int]:
        """Raises `ValueError` unless the answers are right; gives the bytes of their payloads, and inflated."""
        payloads = inflated = 0
        for answer in self.answers:
            payload = memoryview(answer)[4 if answer[1] == 126 else 2 :]
            message = self._messages[self._checked % len(self._messages)]
            if answer[0] != ANSWER or self._inflater.decompress(bytes(payload) + TAIL) != message:
                raise ValueError(f"not a compressed echo of what was sent: {answer[:100]!r}")
            self._checked += 1
            payloads += len(payload)
            inflated += len(message)
        self.answers.clear()
        return payloads, inflated


class CompressedEchoLoad:
    """Keeps one message in flight on every connection while it runs; it may run several times."""

    def __init__(self, peers: list[CompressingPeer]) -> None:
        self._epoll = select.epoll()
        self._peers: dict[int, CompressingPeer] = {}
        for peer in peers:
            peer.connection.setblocking(False)
            self._peers[peer.connection.fileno()] = peer
            self._epoll.register(peer.connection.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """The number of messages that were answered."""
        parts: dict[int, bytes] = {}
        for descriptor, peer in self._peers.items():
            self._send(peer)
            parts[descriptor] = b""
        answered = 0
        until = time.monotonic() + seconds
        stopping = False
        while parts:
            ready = self._epoll.poll(0)
            now = time.monotonic()
            if now >= until:
                if now > until + 5:
                    raise TimeoutError("a message was not answered")
                stopping = True
            for descriptor, _ in ready:
                peer = self._peers[descriptor]
                received = peer.connection.recv(1 << 16)
                if not received:
                    raise ConnectionError("the connection was closed under load")
                answer = parts[descriptor] + received
                if len(answer) < _frame_size(answer):
                    parts[descriptor] = answer
                    continue
                peer.answers.append(answer)
                answered += 1
                if stopping:
                    del parts[descriptor]
                else:
                    parts[descriptor] = b""
                    self._send(peer)
        return answered

    def _send(self, peer: CompressingPeer) -> None:
        """All of it: with one message in flight there is always room."""
        frame = peer.sent[peer.next]
        if peer.connection.send(frame) != len(frame):
            raise BlockingIOError("a message did not fit into the socket's buffer")
        peer.next = (peer.next + 1) % len(peer.sent)


def _frame_size(begin: bytes) -> int:
    """How long the frame is that begins so; more than there is while that cannot be told."""
    if len(begin) < 2:
        return 2
    if begin[1] < 126:
        return 2 + begin[1]
    return 4 + int.from_bytes(begin[2:4]) if len(begin) >= 4 else 4
