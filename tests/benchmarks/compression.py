"""Load of the `json` cases: JSON records, echoed one at a time on each connection, compressed in both directions.

The answers are stored as received and checked after the measurement: each must be compressed, and must inflate to the
message that was sent.

The generator never sleeps. Waking it would cost the server CPU time, and a faster server would wake it more often.
"""

import select
import struct
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.deflate import TAIL, Agreement, Settings, compressed, records
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect_offering, receive_exactly
from benchmarks.process import ServerProcess

WARM_UP = 0.2
ANSWER = 0xC1
"""The first byte of each answer: FIN, RSV1 and the opcode for text."""


@dataclass(frozen=True)
class CompressedEchoCase(ServerCase):
    name: str
    connections: int
    settings: Settings
    unit = "messages"

    @property
    def description(self) -> str:
        connections = f"{self.connections} connections"
        return f"echo 1 KiB of JSON, 1 message in flight on each of {connections} ({self.settings.description})"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure echoes.

        :returns: The measure; its figures are the mean payload of an answer in bytes, and the ratio of compressed to
            inflated bytes.
        """
        (server,) = servers
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
    """One connection, with the frames to send in rotation and the answers received."""

    def __init__(self, port: int, settings: Settings, messages: list[bytes]) -> None:
        self.connection, head = connect_offering(port, settings.parameters.encode())
        agreement = Agreement.from_response(head, settings)
        self._messages = messages
        payloads = compressed(messages, agreement)
        self.sent = [frames.masked(payload, frames.TEXT, compressed=True) for payload in payloads]
        self.next = 0
        """The index of the next frame to send."""
        self.answers: list[bytes] = []
        """Frames received and not yet checked."""
        self._inflater = zlib.decompressobj(-agreement.server_bits)
        self._checked = 0

    def exchange(self) -> None:
        """Send one message and receive its answer."""
        self.connection.sendall(self.sent[self.next])
        self.next = (self.next + 1) % len(self.sent)
        header = receive_exactly(self.connection, 2)
        size = header[1]
        if size == 126:
            header += receive_exactly(self.connection, 2)
            size = struct.unpack_from("!H", header, 2)[0]
        self.answers.append(header + receive_exactly(self.connection, size))

    def check(self) -> tuple[int, int]:
        """Check the answers received since the last call, and drop them.

        :returns: The total size of their payloads in bytes, compressed and inflated.
        :raises ValueError: If an answer is not a compressed echo of its message.
        """
        payloads = inflated = 0
        for answer in self.answers:
            payload = memoryview(answer)[4 if answer[1] == 126 else 2 :]
            message = self._messages[self._checked % len(self._messages)]
            if answer[0] != ANSWER or self._inflater.decompress(bytes(payload) + TAIL) != message:
                raise ValueError(f"wrong answer, not a compressed echo of its message: {answer[:100]!r}")
            self._checked += 1
            payloads += len(payload)
            inflated += len(message)
        self.answers.clear()
        return payloads, inflated


class CompressedEchoLoad:
    """Keeps one message in flight on every connection; may run several times."""

    def __init__(self, peers: list[CompressingPeer]) -> None:
        self._epoll = select.epoll()
        self._peers: dict[int, CompressingPeer] = {}
        for peer in peers:
            peer.connection.setblocking(False)
            self._peers[peer.connection.fileno()] = peer
            self._epoll.register(peer.connection.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """Send messages for a time.

        :returns: The number of messages answered.
        """
        partial: dict[int, bytes] = {}
        for descriptor, peer in self._peers.items():
            self._send(peer)
            partial[descriptor] = b""
        answered = 0
        until = time.monotonic() + seconds
        stopping = False
        while partial:
            ready = self._epoll.poll(0)
            now = time.monotonic()
            if now >= until:
                if now > until + 5:
                    raise TimeoutError("a message was not answered within 5 s")
                stopping = True
            for descriptor, _ in ready:
                peer = self._peers[descriptor]
                received = peer.connection.recv(1 << 16)
                if not received:
                    raise ConnectionError("the connection was closed under load")
                answer = partial[descriptor] + received
                if len(answer) < _frame_size(answer):
                    partial[descriptor] = answer
                    continue
                peer.answers.append(answer)
                answered += 1
                if stopping:
                    del partial[descriptor]
                else:
                    partial[descriptor] = b""
                    self._send(peer)
        return answered

    def _send(self, peer: CompressingPeer) -> None:
        """Send a whole frame: with one message in flight the socket always has room."""
        frame = peer.sent[peer.next]
        if peer.connection.send(frame) != len(frame):
            raise BlockingIOError("a message did not fit into the socket's buffer")
        peer.next = (peer.next + 1) % len(peer.sent)


def _frame_size(start: bytes) -> int:
    """Return the size of the frame that starts with these bytes; a larger size than theirs if the header is partial."""
    if len(start) < 2:
        return 2
    if start[1] < 126:
        return 2 + start[1]
    return 4 + int.from_bytes(start[2:4]) if len(start) >= 4 else 4
