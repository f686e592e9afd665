"""The cases, by name."""

from typing import Protocol

from benchmarks.broadcasts import BroadcastCase
from benchmarks.echoes import EchoCase
from benchmarks.fairness import FairnessCase
from benchmarks.frames import TEXT
from benchmarks.handshakes import HandshakeCase
from benchmarks.idling import IdleCase
from benchmarks.measure import Measure
from benchmarks.process import ServerProcess
from benchmarks.transfers import DownloadCase, UploadCase

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


class Case(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str:
        """What is counted."""

    @property
    def handler(self) -> str:
        """What the server is to do: `echo`, `broadcast`, `upload` or `download`."""

    @property
    def once(self) -> bool:
        """Whether one round is enough."""

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """Load the server, warm it up, and measure it for so many seconds."""


_ALL: list[Case] = [
    EchoCase("small", connections=8, window=32, size=32),
    EchoCase("small-text", connections=8, window=32, size=32, opcode=TEXT),
    EchoCase("ping-pong", connections=64, window=1, size=256),
    EchoCase("large", connections=4, window=2, size=64 * KiB),
    EchoCase("huge", connections=4, window=2, size=MiB),
    UploadCase("upload", size=GiB),
    DownloadCase("download", size=GiB),
    FairnessCase("fairness", flooders=1, size=32),
    FairnessCase("fairness-8", flooders=8, size=32),
    HandshakeCase("handshake", at_a_time=16),
    BroadcastCase("broadcast", connections=300, broadcasts=100),
    IdleCase("idle", connections=3000),
]
CASES: dict[str, Case] = {case.name: case for case in _ALL}
