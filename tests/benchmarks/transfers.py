"""Loads of the `upload` and `download` cases: many bytes in one direction.

With servers that can stream within a frame, a transfer is one message in one frame, received or sent piece by piece.
With the others it is many messages of 1 MiB. The generator sends and receives at most 1 MiB at a time in both cases.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from socket import socket

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, receive_exactly
from benchmarks.process import ServerProcess
from benchmarks.servers.common import TRANSFER

MiB = 1 << 20
WARM_UP_SIZE = 8 * MiB


@dataclass(frozen=True)
class UploadCase(ServerCase):
    name: str
    size: int
    """Bytes of a transfer if the measurement takes a second or more; proportionally less if it is shorter."""
    unit = "MiB"
    handler = "upload"

    @property
    def description(self) -> str:
        return f"server receives {self.size // MiB:,} MiB at a time on 1 connection"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        with closing(connect(server.port)) as connection:
            return _drive(server, seconds, self.size, Upload(connection, server.streams).run)


@dataclass(frozen=True)
class DownloadCase(ServerCase):
    name: str
    size: int
    """Bytes of a transfer if the measurement takes a second or more; proportionally less if it is shorter."""
    unit = "MiB"
    handler = "download"

    @property
    def description(self) -> str:
        return f"server sends {self.size // MiB:,} MiB at a time on 1 connection"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        with closing(connect(server.port)) as connection:
            download = Download(connection, server.streams)
            download.check(WARM_UP_SIZE)
            return _drive(server, seconds, self.size, download.run)


def _drive(server: ServerProcess, seconds: float, size: int, transfer: Callable[[int], None]) -> Measure:
    size = max(1, int(min(seconds, 1.0) * size / MiB)) * MiB
    before = server.resident_memory()
    transfer(WARM_UP_SIZE)
    watch = Stopwatch(server)
    until = time.monotonic() + seconds
    transferred = 0
    while time.monotonic() < until:
        transfer(size)
        transferred += size
    return watch.stop(transferred / MiB, figures={"peak MiB": (server.peak_memory() - before) / MiB})


class Upload:
    """Sends bytes, then a text message that asks the server how many it received."""

    def __init__(self, connection: socket, streams: bool) -> None:
        self._connection = connection
        self._streams = streams
        self._message = frames.masked(TRANSFER)
        self._payload = self._message[-len(TRANSFER) :]  # a multiple of 4 bytes, so its masking is the same anywhere
        self._key = self._message[-len(TRANSFER) - 4 : -len(TRANSFER)]

    def run(self, size: int) -> None:
        send = self._connection.sendall
        if self._streams:
            send(frames.masked_header(size, self._key))
        data = self._payload if self._streams else self._message
        for _ in range(size // len(TRANSFER)):
            send(data)
        send(frames.masked(b"?", frames.TEXT))
        answer = frames.unmasked(str(size).encode(), frames.TEXT)
        received = receive_exactly(self._connection, len(answer))
        if received != answer:
            raise ValueError(f"the server must count {size} bytes, not answer {received!r}")


class Download:
    """Receives bytes, the number of which a text message asks for."""

    def __init__(self, connection: socket, streams: bool) -> None:
        self._connection = connection
        self._streams = streams
        self._buffer = bytearray(MiB)

    def check(self, size: int) -> None:
        """Download this number of bytes and check every one of them.

        :raises ValueError: If they differ from the expected bytes.
        """
        self._request(size)
        count = size // len(TRANSFER)
        expected = frames.unmasked(TRANSFER * count) if self._streams else frames.unmasked(TRANSFER) * count
        if receive_exactly(self._connection, len(expected)) != expected:
            raise ValueError("wrong bytes: the server did not send what it was asked for")

    def run(self, size: int) -> None:
        self._request(size)
        missing = self._size_on_the_wire(size)
        receive, buffer = self._connection.recv_into, self._buffer
        while missing > 0:
            count = receive(buffer)
            if not count:
                raise ConnectionError(f"the server closed the connection {missing} bytes before the end")
            missing -= count
        if missing:
            raise ValueError(f"the server sent {-missing} bytes more than it was asked for")

    def _request(self, size: int) -> None:
        self._connection.sendall(frames.masked(str(size).encode(), frames.TEXT))

    def _size_on_the_wire(self, size: int) -> int:
        if self._streams:
            return len(frames.unmasked_header(size)) + size
        return len(frames.unmasked(TRANSFER)) * (size // len(TRANSFER))
