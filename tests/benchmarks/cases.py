"""All cases, by name."""

from dataclasses import replace
from typing import Protocol

from benchmarks.broadcasts import BroadcastCase
from benchmarks.compression import CompressedEchoCase
from benchmarks.deflate import Settings
from benchmarks.echoes import ClientEchoCase, EchoCase
from benchmarks.fairness import FairnessCase
from benchmarks.frames import TEXT
from benchmarks.handshakes import HandshakeCase
from benchmarks.idling import CompressedIdleCase, IdleCase
from benchmarks.measure import Measure
from benchmarks.process import ServerProcess
from benchmarks.transfers import DownloadCase, UploadCase

SETTINGS = Settings(window_bits=12, mem_level=5, level=6)
"""The defaults of websockets."""

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


class ServerCase(Protocol):
    """A case that measures servers."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str:
        """What the case counts, in the plural: `messages`, for example."""

    @property
    def description(self) -> str:
        """What the case measures, in one line."""

    @property
    def handler(self) -> str:
        """The server's task: `echo`, `broadcast`, `upload` or `download`."""

    @property
    def settings(self) -> Settings | None:
        """The settings for compression; None for no compression."""

    @property
    def tls(self) -> bool: ...
    @property
    def once(self) -> bool:
        """Whether one round is enough, because the result hardly varies."""

    def drive(self, server: ServerProcess, seconds: float) -> Measure:
        """Load the server, warm it up, and measure it for this number of seconds."""


Case = ServerCase | ClientEchoCase

_ALL: list[Case] = [
    EchoCase("small", connections=8, window=32, size=32),
    EchoCase("small-text", connections=8, window=32, size=32, opcode=TEXT),
    EchoCase("ping-pong", connections=64, window=1, size=256),
    EchoCase("large", connections=4, window=2, size=64 * KiB),
    EchoCase("huge", connections=4, window=2, size=MiB),
    EchoCase("small-tls", connections=8, window=32, size=32, tls=True),
    EchoCase("ping-pong-tls", connections=64, window=1, size=256, tls=True),
    EchoCase("large-tls", connections=4, window=2, size=64 * KiB, tls=True),
    UploadCase("upload", size=GiB),
    DownloadCase("download", size=GiB),
    FairnessCase("fairness", flooders=1, size=32),
    FairnessCase("fairness-8", flooders=8, size=32),
    HandshakeCase("handshake", concurrent=16),
    BroadcastCase("broadcast", connections=300, broadcasts=100),
    IdleCase("idle", connections=3000),
    IdleCase("idle-tls", connections=500, tls=True),
    CompressedEchoCase("json", connections=8, settings=SETTINGS),
    CompressedEchoCase("json-no-takeover", connections=8, settings=replace(SETTINGS, takeover=False)),
    CompressedEchoCase("json-fast", connections=8, settings=replace(SETTINGS, level=1)),
    CompressedEchoCase("json-default", connections=8, settings=Settings()),
    CompressedIdleCase("idle-deflate", connections=400, settings=SETTINGS),
    CompressedIdleCase("idle-deflate-no-takeover", connections=400, settings=replace(SETTINGS, takeover=False)),
    CompressedIdleCase("idle-deflate-default", connections=400, settings=Settings()),
    ClientEchoCase("client-small", connections=8, window=32, size=32),
    ClientEchoCase("client-one", connections=1, window=32, size=32),
    ClientEchoCase("client-256", connections=4, window=1, size=256),
    ClientEchoCase("client-8k", connections=4, window=1, size=8 * KiB),
    ClientEchoCase("client-100k", connections=4, window=1, size=100_000),
    ClientEchoCase("client-small-tls", connections=8, window=32, size=32, tls=True),
    ClientEchoCase("client-one-tls", connections=1, window=32, size=32, tls=True),
    ClientEchoCase("client-256-tls", connections=4, window=1, size=256, tls=True),
    ClientEchoCase("client-8k-tls", connections=4, window=1, size=8 * KiB, tls=True),
    ClientEchoCase("client-100k-tls", connections=4, window=1, size=100_000, tls=True),
]
CASES: dict[str, Case] = {case.name: case for case in _ALL}
