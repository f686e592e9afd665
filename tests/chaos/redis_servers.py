"""The Redis of a phase: one server, a master with a replica, or a cluster."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from topics.redis_server import RedisServer

PERSISTENCE = {
    "always": ("--appendonly", "yes", "--appendfsync", "always"),
    "none": (),
    "snapshots": ("--save", "3 1"),
    "failover": (),
    "cluster": ("--appendonly", "yes", "--appendfsync", "always"),
}
"""The phases, and the options of their servers: every change is kept, none is, or those before the last snapshot."""

OPTIONS = ("--client-output-buffer-limit", "pubsub 256kb 128kb 2", "--repl-diskless-sync-delay", "0")


class Redis:
    """The servers of one phase.

    :param phase: one of `PERSISTENCE`.
    """

    def __init__(self, phase: str, servers: Sequence[RedisServer]) -> None:
        self.phase = phase
        self.servers: list[RedisServer] = [*servers]
        """The first one is the one that is harmed."""
        self.keeps_all = phase == "always"
        """Whether it never loses data."""
        self.busy = asyncio.Lock()
        """Held by whoever does harm to it."""

    @property
    def port(self) -> int:
        """The port of the first server."""
        return self.servers[0].port

    async def start(self) -> None:
        """Start all servers."""
        for server in self.servers:
            await asyncio.to_thread(server.start)

    async def choose(self) -> None:
        """Choose the server that is harmed next."""

    async def kill(self) -> None:
        await asyncio.to_thread(self.servers[0].kill)

    async def start_again(self) -> None:
        await asyncio.to_thread(self.servers[0].start)

    def signal(self, number: signal.Signals) -> None:
        self.servers[0].signal(number)

    async def ask(self, *command: str) -> bytes:
        """Send a command to the first server."""
        return await asyncio.to_thread(self.servers[0].ask, *command)

    async def ask_all(self, *command: str) -> bytes:
        """Send a command to all servers that have data of their own; return all replies."""
        return await self.ask(*command)

    async def settle(self) -> None:
        """Wait until all servers agree who is who."""

    async def end(self) -> None:
        for server in self.servers:
            await asyncio.to_thread(server.kill)


class MasterAndReplica(Redis):
    """A master, which is the first of the servers, and a replica."""

    async def start(self) -> None:
        await super().start()
        await self._follow()

    async def _follow(self) -> None:
        """Make the second server the replica of the first one."""
        await asyncio.to_thread(self.servers[1].ask, "REPLICAOF", "127.0.0.1", str(self.port))

    async def fail_over(self, alive: bool) -> None:
        """Make the replica the master.

        :param alive: whether the old master goes on, as a replica.
        """
        old, new = self.servers
        self.servers.reverse()
        if not alive:
            await asyncio.to_thread(old.kill)
        await asyncio.to_thread(new.ask, "REPLICAOF", "NO", "ONE")
        if alive:
            await self._follow()

    async def renew_replica(self) -> None:
        """Start the replica anew: another run of it."""
        await asyncio.to_thread(self.servers[1].restart)
        await self._follow()


def make_servers(folder: Path, names: Sequence[str], phase: str) -> list[RedisServer]:
    """Make servers, each with a folder of its own."""
    for name in names:
        (folder / name).mkdir()
    return [RedisServer(folder / name, *OPTIONS, *PERSISTENCE[phase]) for name in names]
