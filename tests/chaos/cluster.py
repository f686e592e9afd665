"""A Redis Cluster as the Redis of a phase."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos.redis_servers import OPTIONS, PERSISTENCE, Redis
from topics.redis_cluster import ClusterNode, RedisCluster

_PATIENCE = 120.0

_BATCH = "50"
"""The most keys that move to another master at once."""

_Pair = tuple[ClusterNode, ClusterNode]
"""Two nodes: one of them is a master, and the other one its replica."""


class Cluster(Redis):
    """Three masters, each with a replica. They fail over by themselves."""

    def __init__(self, folder: Path, random: Random) -> None:
        self._cluster = RedisCluster(folder, replicas=3, options=(*OPTIONS, *PERSISTENCE["cluster"]))
        nodes = self._cluster.nodes
        self._pairs = [*zip(nodes[:3], nodes[3:], strict=True)]
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
        return [node for node, role in roles if _is_master(role)]

    async def settle(self) -> None:
        """Wait until there are three masters with a replica each, and no node considers another one failed.

        Redis may replace a master that others consider failed, even after it has come back.
        """
        await self._wait(self._is_settled)

    def _is_settled(self) -> bool:
        roles: list[bytes] = []
        for node in self._cluster.nodes:
            if b"cluster_state:ok" not in node.ask("CLUSTER", "INFO") or b"fail" in node.ask("CLUSTER", "NODES"):
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
        async with asyncio.timeout(_PATIENCE):
            while not await self._try_to_fail_over(replica):
                pass
        await self.settle()

    async def _try_to_fail_over(self, replica: ClusterNode) -> bool:
        """Ask a replica to become the master, and return whether it does. Redis gives up after 5 seconds."""
        await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER")
        for _ in range(200):
            if _is_master(await asyncio.to_thread(replica.ask, "ROLE")):
                return True
            await asyncio.sleep(0.05)
        return False

    async def move(self, key: str, on_disturbance: Callable[[], None]) -> None:
        """Move the slot of a key to another master, while it is used.

        :param on_disturbance: called when Redis has replaced one of the two masters meanwhile, and again at the end.
            The new master does not know of the move. So Redis may have deleted some keys of the slot and kept others.
        """
        slot = (await asyncio.to_thread(self._cluster.nodes[0].ask, "CLUSTER", "KEYSLOT", key))[1:].decode().strip()
        source = await self._owner(slot)
        target = self._random.choice([pair for pair in self._pairs if pair is not source])
        pause = self._random.random() * 0.05
        if await asyncio.to_thread(self._try_to_move, slot, source, target, pause):
            return
        async with asyncio.timeout(_PATIENCE):
            moved = False
            while not moved:
                on_disturbance()
                # While a node imports a slot, it does not learn who has it.
                await self.ask_all("CLUSTER", "SETSLOT", slot, "STABLE")
                await self.settle()
                source = await self._owner(slot)
                moved = source is target or await asyncio.to_thread(self._try_to_move, slot, source, target, pause)
        on_disturbance()

    async def _owner(self, slot: str) -> _Pair:
        """Return the pair that has a slot, as soon as all nodes agree which of its nodes is the master."""
        owners: set[ClusterNode | None] = set()

        def is_known() -> bool:
            owners.clear()
            owners.update(self._cluster.owner(int(slot), node) for node in self._cluster.nodes)
            return len(owners) == 1 and all(node is not None and _is_master(node.ask("ROLE")) for node in owners)

        await self._wait(is_known)
        return next(pair for pair in self._pairs if owners & {*pair})

    def _try_to_move(self, slot: str, source: _Pair, target: _Pair, pause: float) -> bool:
        """Move a slot, and return whether the two masters were the same until the end.

        :param pause: the seconds after each batch of keys.
        :raises RuntimeError: if Redis refuses a command all the same.
        """
        masters = [node for node in self._cluster.nodes if _is_master(node.ask("ROLE"))]
        pairs = [[node for node in masters if node in pair] for pair in (source, target)]
        if [len(pair) for pair in pairs] != [1, 1]:
            return False
        ((old,), (new,)) = pairs
        ends = time.monotonic() + _PATIENCE

        def are_masters() -> bool:
            return _is_master(old.ask("ROLE")) and _is_master(new.ask("ROLE"))

        def run(node: ClusterNode, *command: str) -> bool:
            """Repeat a command until it succeeds; return False if there is another master."""
            while not (reply := node.ask(*command)).startswith((b"+OK", b"+NOKEY")):
                if not are_masters():
                    return False
                if time.monotonic() > ends:
                    raise RuntimeError(f"the slot does not move: {reply!r}")
                time.sleep(0.05)
            return True

        def assign(node: ClusterNode, *words: str) -> bool:
            return run(node, "CLUSTER", "SETSLOT", slot, *words)

        if not assign(new, "IMPORTING", old.id) or not assign(old, "MIGRATING", new.id):
            return False
        while names := old.ask("CLUSTER", "GETKEYSINSLOT", slot, _BATCH).decode().split("\r\n")[2::2]:
            if not run(old, "MIGRATE", "127.0.0.1", str(new.port), "", "0", "5000", "REPLACE", "KEYS", *names):
                return False
            time.sleep(pause)
        others = [node for node in masters if node not in (old, new)]
        return all(assign(node, "NODE", new.id) for node in (new, old, *others)) and are_masters()


def _is_master(role: bytes) -> bool:
    """Return whether a node is a master, according to its reply to `ROLE`."""
    return b"master" in role[:20]
