"""A Redis Cluster as the Redis of a phase."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos.redis_servers import OPTIONS, PERSISTENCE, Redis
from topics.redis_cluster import ClusterNode, RedisCluster

_PATIENCE = 120.0

_BATCH = "50"
"""The most keys that move to another master at once."""


class Cluster(Redis):
    """Three masters, each with a replica. They fail over by themselves."""

    def __init__(self, folder: Path, random: Random) -> None:
        self._cluster = RedisCluster(folder, replicas=3, options=(*OPTIONS, *PERSISTENCE["cluster"]))
        self._random = random
        super().__init__("cluster", self._cluster.nodes)

    @property
    def urls(self) -> list[str]:
        """The URLs of all nodes."""
        return self._cluster.urls

    async def start(self) -> None:
        await asyncio.to_thread(self._cluster.start)

    async def choose(self) -> None:
        self._random.shuffle(self.servers)

    async def ask_all(self, *command: str) -> bytes:
        return b"".join([await asyncio.to_thread(master.ask, *command) for master in await self._masters()])

    async def _masters(self) -> list[ClusterNode]:
        roles = [(node, await asyncio.to_thread(node.ask, "ROLE")) for node in self._cluster.nodes]
        return [node for node, role in roles if b"master" in role[:20]]

    async def settle(self) -> None:
        """Wait until there are three masters with a replica each, and all nodes agree."""
        await self._wait(self._is_settled)

    def _is_settled(self) -> bool:
        roles: list[bytes] = []
        for node in self._cluster.nodes:
            if b"cluster_state:ok" not in node.ask("CLUSTER", "INFO"):
                return False
            information = node.ask("INFO", "replication")
            roles += [
                part
                for part in (b"role:master", b"master_link_status:up", b"connected_slaves:1")
                if part in information
            ]
        return all(roles.count(part) == 3 for part in (b"role:master", b"master_link_status:up", b"connected_slaves:1"))

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (Redis has no event for it)
                await asyncio.sleep(0.05)

    async def fail_over(self) -> None:
        """Make a replica the master. Nothing is lost."""
        replica = self._random.choice([*{*self._cluster.nodes} - {*await self._masters()}])
        await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER")
        await self.settle()

    async def move(self, key: str) -> None:
        """Move the slot of a key to another master, while it is used."""
        masters = self._cluster.masters = await self._masters()
        source = await asyncio.to_thread(self._cluster.owner_of, key)
        target = self._random.choice([master for master in masters if master is not source])
        await asyncio.to_thread(self._cluster.begin_to_move, key, target)
        slot = (await asyncio.to_thread(source.ask, "CLUSTER", "KEYSLOT", key))[1:].decode().strip()
        while keys := await asyncio.to_thread(source.ask, "CLUSTER", "GETKEYSINSLOT", slot, _BATCH):
            names = keys.decode().split("\r\n")[2::2]
            if not names:
                break
            await asyncio.to_thread(
                source.ask, "MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *names
            )
            await asyncio.sleep(self._random.random() * 0.05)
        await asyncio.to_thread(self._cluster.end_move, key, target)
