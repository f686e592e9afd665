"""The Redis of a phase: one server, or a master with a replica."""

import asyncio
import signal
from pathlib import Path

from topics.redis_server import RedisServer

PERSISTENCE = {
    "always": ("--appendonly", "yes", "--appendfsync", "always"),
    "none": (),
    "snapshots": ("--save", "3 1"),
    "failover": (),
}
"""The phases, and the options of their servers: every change is kept, none is, or those before the last snapshot."""

_OPTIONS = ("--client-output-buffer-limit", "pubsub 256kb 128kb 2", "--repl-diskless-sync-delay", "0")


class Redis:
    """The servers of one phase.

    :param phase: one of `PERSISTENCE`.
    """

    def __init__(self, folder: Path, phase: str) -> None:
        self.phase = phase
        self.busy = asyncio.Lock()
        """Held by whoever does harm to it."""
        self._servers: list[RedisServer] = []
        for name in ("one", "two") if phase == "failover" else ("one",):
            place = folder / name
            place.mkdir()
            self._servers.append(RedisServer(place, *_OPTIONS, *PERSISTENCE[phase]))

    @property
    def keeps_all(self) -> bool:
        """Whether it never loses data."""
        return self.phase == "always"

    @property
    def port(self) -> int:
        """The port of the server that is the master."""
        return self._servers[0].port

    async def start(self) -> None:
        for server in self._servers:
            await asyncio.to_thread(server.start)
        for replica in self._servers[1:]:
            await self._follow(replica)

    async def _follow(self, replica: RedisServer) -> None:
        await asyncio.to_thread(replica.ask, "REPLICAOF", "127.0.0.1", str(self.port))

    async def kill(self) -> None:
        await asyncio.to_thread(self._servers[0].kill)

    async def start_again(self) -> None:
        await asyncio.to_thread(self._servers[0].start)

    def signal(self, number: signal.Signals) -> None:
        self._servers[0].signal(number)

    async def ask(self, *command: str) -> bytes:
        """Send a command to the master."""
        return await asyncio.to_thread(self._servers[0].ask, *command)

    async def fail_over(self, alive: bool) -> None:
        """Make the replica the master.

        :param alive: whether the old master goes on, as a replica.
        """
        old, new = self._servers
        self._servers.reverse()
        if not alive:
            await asyncio.to_thread(old.kill)
        await asyncio.to_thread(new.ask, "REPLICAOF", "NO", "ONE")
        if alive:
            await self._follow(old)

    async def renew_replica(self) -> None:
        """Start the replica anew: another run of it."""
        replica = self._servers[1]
        await asyncio.to_thread(replica.restart)
        await self._follow(replica)

    async def end(self) -> None:
        for server in self._servers:
            await asyncio.to_thread(server.kill)
