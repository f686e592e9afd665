"""The loads of the `upload` and `download` cases: a great many bytes in one direction.

A server that can gets or sends them as one message in one frame, a part at a time. The others cannot stream within a
frame: with them it is messages of 1 MiB. The generator sends and receives 1 MiB at a time either way.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from socket import socket

from benchmarks import frames
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import opened, receive_exactly
from benchmarks.process import ServerProcess
from benchmarks.servers.common import TRANSFER

MiB = 1 << 20
WARM_UP_SIZE = 8 * MiB


@dataclass(frozen=True)
class UploadCase:
    name: str
    size: int
    """Bytes of a transfer, if a second or more is measured; in proportion less if not."""
    unit = "MiB"
    handler = "upload"
    settings = None
    once = False
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        with closing(opened(server.port)) as connection:
            return _drive(server, seconds, self.size, Upload(connection, server.streams).run)


@dataclass(frozen=True)
class DownloadCase:
    name: str
    size: int
    """Bytes of a transfer, if a second or more is measured; in proportion less if not."""
    unit = "MiB"
    handler = "download"
    settings = None
    once = False
    tls = False

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        with closing(opened(server.port)) as connection:
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
    """A text message behind the bytes asks how many came."""

    def __init__(self, connection: socket, streams: bool) -> None:
        self._connection = connection
        self._streams = streams
        self._message = frames.masked(TRANSFER)
        self._part = self._message[-len(TRANSFER) :]  # the same masking key goes on in the next one, and so on
        self._key = self._message[-len(TRANSFER) - 4 : -len(TRANSFER)]

    def run(self, size: int) -> None:
        send = self._connection.sendall
        if self._streams:
            send(frames.masked_head(size, self._key))
        part = self._part if self._streams else self._message
        for _ in range(size // len(TRANSFER)):
            send(part)
        send(frames.masked(b"?", frames.TEXT))
        answer = frames.unmasked(str(size).encode(), frames.TEXT)
        received = receive_exactly(self._connection, len(answer))
        if received != answer:
            raise ValueError(f"the answer is {received!r} after {size} bytes")


class Download:
    """A text message asks for so many bytes."""

    def __init__(self, connection: socket, streams: bool) -> None:
        self._connection = connection
        self._streams = streams
        self._buffer = bytearray(MiB)

    def check(self, size: int) -> None:
        """Have the server send so much, and look at every byte of it."""
        self._ask(size)
        count = size // len(TRANSFER)
        expected = frames.unmasked(TRANSFER * count) if self._streams else frames.unmasked(TRANSFER) * count
        if receive_exactly(self._connection, len(expected)) != expected:
            raise ValueError("what came is not what was asked for")

    def run(self, size: int) -> None:
        self._ask(size)
        missing = self._size_on_the_wire(size)
        receive, buffer = self._connection.recv_into, self._buffer
        while missing > 0:
            count = receive(buffer)
            if not count:
                raise ConnectionError(f"the server closed the connection {missing} bytes before the end")
            missing -= count
        if missing:
            raise ValueError(f"{-missing} bytes came that were not asked for")

    def _ask(self, size: int) -> None:
        self._connection.sendall(frames.masked(str(size).encode(), frames.TEXT))

    def _size_on_the_wire(self, size: int) -> int:
        if self._streams:
            return len(frames.unmasked_head(size)) + size
        return len(frames.unmasked(TRANSFER)) * (size // len(TRANSFER))
