"""The cases `redis-*`: what is published at Redis reaches followers, all of them clients with sockets of their own.

The load generator publishes by itself, with plain `PUBLISH`, so that only deliveries are measured. For `RedisBroker`
each message begins with the header that its script writes.
"""

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis

from benchmarks.case import ServerCase
from benchmarks.contestants import REDIS
from benchmarks.following import command, count, measure_rounds, open_crowd
from benchmarks.measure import Measure
from benchmarks.process import ServerProcess
from benchmarks.scale import BACKLOG, TIMEOUT
from benchmarks.servers.common import HOST
from benchmarks.servers.members import PUBLICATION
from streamws.topics.redis.scripts import HEAD, Keys
from topics.redis_server import RedisServer

RECEIVE_BUFFER = 1 << 16
KEYS = Keys("streamws")


@dataclass
class RedisCase(ServerCase):
    """Publications at Redis in topics with followers."""

    name: str
    topics: int
    followers: int
    """The number of followers of each topic."""
    contestants: Sequence[str] = REDIS
    unit = "deliveries"
    handler = "topics"
    _port: int = field(default=0, init=False)

    @property
    def description(self) -> str:
        each = " each" if self.topics > 1 else ""
        return f"publications at Redis in {count(self.topics, 'topic')} with {count(self.followers, 'follower')}{each}"

    @contextmanager
    def surroundings(self) -> Iterator[Sequence[str]]:
        """Start a Redis."""
        with tempfile.TemporaryDirectory() as folder:
            redis = RedisServer(Path(folder))
            redis.start()
            self._port = redis.port
            try:
                yield "--redis", str(self._port), "--backlog", str(BACKLOG)
            finally:
                redis.kill()

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        deliveries = self.topics * self.followers
        with (
            open_crowd(server, deliveries, lambda client: command("join", str(client % self.topics))) as crowd,
            closing(Publisher(self._port, self.topics)) as publisher,
        ):
            return measure_rounds(server, crowd, publisher.publish, deliveries, seconds)


class Publisher:
    """Publishes in all topics that have followers.

    :param port: the port of Redis.
    :param topics: the number of topics, whose names are numbers.
    """

    def __init__(self, port: int, topics: int) -> None:
        self._connection = socket.create_connection((HOST, port), TIMEOUT)
        self._reader = hiredis.Reader()
        self._offset = 0
        names = [str(number) for number in range(topics)]
        self._channels = [name.encode() for name in names]
        self._epochs: list[bytes] = []
        if not self._ask([("PUBSUB", "NUMSUB", names[0])])[0][1]:
            self._channels = [KEYS.channel(name).encode() for name in names]
            self._epochs = self._ask([("HGET", f"{KEYS.channel(name)}:meta", "epoch") for name in names])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def publish(self) -> None:
        """Publish one message in each topic."""
        self._offset += 1
        body = PUBLICATION.encode()
        if self._epochs:
            now = int(time.time() * 1000)
            messages = [HEAD.pack(b"t", self._offset, now, -1, epoch) + body for epoch in self._epochs]
        else:
            messages = [body] * len(self._channels)
        self._ask([("PUBLISH", channel, message) for channel, message in zip(self._channels, messages, strict=True)])

    def _ask(self, commands: Sequence[tuple[str | bytes, ...]]) -> list[Any]:
        """Send commands, and return their replies."""
        pack: Any = hiredis.pack_command  # its stub knows only tuples of one
        self._connection.sendall(b"".join(map(pack, commands)))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._connection.recv(RECEIVE_BUFFER))
            else:
                replies.append(reply)
        return replies
