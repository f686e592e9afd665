"""All cases, by name."""

from dataclasses import replace

from benchmarks.broadcasts import BroadcastCase
from benchmarks.case import ServerCase
from benchmarks.compression import CompressedEchoCase
from benchmarks.contestants import ASGI, BLOCKING, ENGINES, GENERAL, TOPICS, TYPED, WAYS
from benchmarks.deflate import Settings
from benchmarks.echoes import AsgiEchoCase, ClientEchoCase, EchoCase, JsonEchoCase
from benchmarks.fairness import FairnessCase
from benchmarks.following import RETURNING, WITH_ENGINE, FollowersCase, JoinCase, ReturnCase
from benchmarks.frames import TEXT
from benchmarks.handshakes import HandshakeCase
from benchmarks.idling import CompressedIdleCase, IdleCase
from benchmarks.over_redis import RedisCase
from benchmarks.scale import ScaleCase
from benchmarks.sending import TightSendCase
from benchmarks.transfers import DownloadCase, UploadCase

SETTINGS = Settings(window_bits=12, mem_level=5, level=6)
"""The defaults of websockets."""

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


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
    EchoCase("callbacks", connections=8, window=32, size=32, contestants=WAYS),
    JsonEchoCase("typed", connections=8, window=32, size=85, opcode=TEXT, contestants=TYPED),
    AsgiEchoCase("asgi", connections=8, window=32, size=32, opcode=TEXT, contestants=ASGI),
    AsgiEchoCase("asgi-ping-pong", connections=64, window=1, size=256, opcode=TEXT, contestants=ASGI),
    AsgiEchoCase("asgi-fastapi", 8, window=32, size=32, opcode=TEXT, contestants=ASGI, framework="fastapi"),
    AsgiEchoCase("asgi-fastapi-ping-pong", 64, 1, size=256, opcode=TEXT, contestants=ASGI, framework="fastapi"),
    UploadCase("upload", size=GiB),
    DownloadCase("download", size=GiB),
    FairnessCase("fairness", flooders=1, size=32),
    FairnessCase("fairness-8", flooders=8, size=32),
    TightSendCase("tight-send"),
    HandshakeCase("handshake", burst=16),
    HandshakeCase("handshake-one", burst=1),
    HandshakeCase("handshake-open", burst=16, counted="opening"),
    HandshakeCase("handshake-close", burst=16, counted="closing handshake"),
    BroadcastCase("broadcast", connections=300, turns=100, in_turn=1),
    BroadcastCase("broadcast-1", 300, turns=1, in_turn=1, contestants=(*GENERAL, *ENGINES)),
    BroadcastCase("broadcast-20", 300, turns=1, in_turn=20, contestants=(*GENERAL, *ENGINES)),
    BroadcastCase("broadcast-500", 300, turns=1, in_turn=500, contestants=(*GENERAL, *ENGINES)),
    BroadcastCase("topics", 300, turns=100, in_turn=1, contestants=TOPICS),
    BroadcastCase("topics-20", 300, turns=1, in_turn=20, contestants=(*TOPICS, *ENGINES)),
    FollowersCase("topics-one-1k", topics=1, clients=1_000, contestants=WITH_ENGINE),
    FollowersCase("topics-one-10k", topics=1, clients=10_000),
    FollowersCase("topics-each-1k", topics=1_000, clients=1_000, contestants=WITH_ENGINE),
    FollowersCase("topics-each-10k", topics=10_000, clients=10_000),
    FollowersCase("topics-several-1k", topics=100, clients=200, each=5, contestants=WITH_ENGINE),
    FollowersCase("topics-several-10k", topics=1_000, clients=2_000, each=5, contestants=WITH_ENGINE),
    JoinCase("topics-join", followers=0),
    JoinCase("topics-join-1k", followers=1_000),
    ReturnCase("topics-return-1k", clients=1_000, contestants=(*RETURNING, *ENGINES[:1])),
    ReturnCase("topics-return-10k", clients=10_000),
    RedisCase("redis-each-1k", topics=1_000, followers=1),
    RedisCase("redis-one-1k", topics=1, followers=1_000),
    IdleCase("idle", connections=3000),
    IdleCase("idle-tls", connections=500, tls=True),
    IdleCase("asgi-idle", connections=1000, contestants=ASGI),
    IdleCase("asgi-fastapi-idle", connections=1000, contestants=ASGI, options=("--framework", "fastapi")),
    # Granian does not compress.
    CompressedIdleCase("asgi-idle-deflate", connections=400, settings=Settings(), contestants=ASGI[:-1]),
    CompressedEchoCase("json-as-it-comes", connections=8, settings=Settings()),
    CompressedEchoCase("json-equal", connections=8, settings=SETTINGS),
    CompressedEchoCase("json-equal-no-takeover", connections=8, settings=replace(SETTINGS, takeover=False)),
    CompressedEchoCase("json-equal-fast", connections=8, settings=replace(SETTINGS, level=1)),
    CompressedIdleCase("idle-deflate", connections=400, settings=SETTINGS),
    CompressedIdleCase("idle-deflate-no-takeover", connections=400, settings=replace(SETTINGS, takeover=False)),
    CompressedIdleCase("idle-deflate-default", connections=400, settings=Settings()),
    ScaleCase("scale-1k", connections=1_000),
    ScaleCase("scale-5k", connections=5_000),
    ScaleCase("scale-10k", connections=10_000),
    ScaleCase("scale-19k", connections=19_000),
    ScaleCase("scale-3x5k", connections=5_000, processes=3),
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
    ClientEchoCase("sync", connections=1, window=32, size=32, contestants=BLOCKING),
    ClientEchoCase("sync-one", connections=1, window=1, size=32, contestants=BLOCKING),
]
CASES: dict[str, Case] = {case.name: case for case in _ALL}
