"""A Redis Cluster of the tests."""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from topics.redis_server import PATIENCE, RedisServer, free_port

SLOTS = 16384


class ClusterNode(RedisServer):
    """A node of a Redis Cluster."""

    def __init__(self, folder: Path, number: int, timeout: int, *options: str) -> None:
        self.bus = free_port()
        self.id = f"{number:040x}"
        self.file = folder / "nodes.conf"
        super().__init__(
            folder,
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", str(timeout)),
            *("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
            *options,
        )

    def move(self) -> None:
        """Kill it, and start it at another address."""
        self.kill()
        old, self.port, self.bus = f":{self.port}@{self.bus}", free_port(), free_port()
        self.file.write_text(self.file.read_text().replace(old, f":{self.port}@{self.bus}"))
        self._command[self._command.index("--port") + 1] = str(self.port)
        self._command[self._command.index("--cluster-port") + 1] = str(self.bus)
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def has_all_of(self, master: "ClusterNode") -> bool:
        """Return whether it has got all changes of its master."""
        own, other = (
            re.search(rb"(?:slave|master)_repl_offset:(\d+)", node.ask("INFO", "replication"))
            for node in (self, master)
        )
        return own is not None and other is not None and int(own[1]) >= int(other[1])


class RedisCluster:
    """Masters, which share the slots equally, and replicas.

    :param masters: the number of masters.
    :param replicas: the number of replicas: one of the first master, and so on.
    :param spare: the number of masters without slots.
    :param options: further options of each node.
    """

    def __init__(
        self, folder: Path, masters: int = 3, replicas: int = 0, spare: int = 0, options: Sequence[str] = ()
    ) -> None:
        self.nodes: list[ClusterNode] = []
        for number in range(masters + replicas + spare):
            home = folder / f"node{number}"
            home.mkdir()
            self.nodes.append(ClusterNode(home, number + 1, 1000 if replicas else 20_000, *options))
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters : masters + replicas]
        # A master serves two seconds after its start, and a replica at once. So all begin as replicas of masters that
        # do not exist, and the masters to be replace these.
        nobody = free_port()
        self._nobody = [f"{'f' * 39}{number}" for number in range(masters)]
        for node in self.nodes:
            lines = []
            for number, id in enumerate(self._nobody):
                slots = f"{SLOTS * number // masters}-{SLOTS * (number + 1) // masters - 1}"
                lines.append(f"{id} 127.0.0.1:{nobody}@{nobody},,shard-id={id} master - 0 0 {number} connected {slots}")
            for number, other in enumerate(self.nodes):
                role = "myself," * (other is node) + "master -"
                shard = other.id
                if number < masters + replicas:
                    role = "myself," * (other is node) + f"slave {self._nobody[number % masters]}"
                    shard = self._nobody[number % masters]
                lines.append(f"{other.id} 127.0.0.1:{other.port}@{other.bus},,shard-id={shard} {role} 0 0 0 connected")
            lines.append(f"vars currentEpoch {masters} lastVoteEpoch 0\n")
            node.file.write_text("\n".join(lines))

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start all nodes, and wait until they serve."""
        for node in self.nodes:
            node.start()
        for number, master in enumerate(self.masters):
            wait_for_reply(master, b"cluster_state:ok", "CLUSTER", "INFO")
            assert b"OK" in master.ask("CLUSTER", "FAILOVER", "TAKEOVER")
            for node in self.nodes:  # one after the other, so that no two have the same epoch
                wait(partial(self.has, master, SLOTS * number // len(self.masters), node))
        for node in self.nodes:
            for id in self._nobody:
                assert b"OK" in node.ask("CLUSTER", "FORGET", id)
        for node in self.masters:
            wait_for_reply(node, b"cluster_state:ok", "CLUSTER", "INFO")
        for node in self.replicas:
            wait_for_reply(node, b"master_link_status:up", "INFO", "replication")

    def has(self, master: ClusterNode, slot: int, witness: ClusterNode) -> bool:
        """Return whether a master has a slot, according to a node."""
        return self.owner(slot, witness) is master

    def owner(self, slot: int, witness: ClusterNode) -> "ClusterNode | None":
        """Return the master that has a slot, according to a node; None if it is none of these nodes."""
        for line in witness.ask("CLUSTER", "NODES").decode().splitlines():
            fields = line.split()
            for first, last in re.findall(r" (\d+)-?(\d*)(?= |$)", " ".join(["", *fields[8:]])):
                if int(first) <= slot <= int(last or first):
                    return next((node for node in self.nodes if node.id == fields[0]), None)
        return None

    def owner_of(self, key: str) -> ClusterNode:
        """Return the master that has a key, according to the first node that runs."""
        for witness in self.nodes:
            try:
                slot = int(witness.ask("CLUSTER", "KEYSLOT", key)[1:])
            except OSError:
                continue
            owner = self.owner(slot, witness)
            assert owner is not None
            return owner
        raise AssertionError("all nodes are dead")

    def begin_to_move(self, key: str, target: ClusterNode) -> None:
        """Begin to move the slot of a key to another master. Its keys stay where they are."""
        source = self.owner_of(key)
        slot = source.ask("CLUSTER", "KEYSLOT", key)[1:].decode().strip()
        assert b"OK" in target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        assert b"OK" in source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, key: str, target: ClusterNode, *keys: str) -> None:
        """Move some keys of the slot of a key that moves, or all of them."""
        source = self.owner_of(key)
        if not keys:
            slot = source.ask("CLUSTER", "KEYSLOT", key)[1:].decode().strip()
            keys = tuple(source.ask("CLUSTER", "GETKEYSINSLOT", slot, "1000").decode().split("\r\n")[2::2])
        if keys:
            port = str(target.port)
            assert b"OK" in source.ask("MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS", *keys)

    def end_move(self, key: str, target: ClusterNode) -> None:
        """Let another master have the slot of a key that has no keys any more."""
        source = self.owner_of(key)
        slot = source.ask("CLUSTER", "KEYSLOT", key)[1:].decode().strip()
        others = [node for node in self.masters if node not in (source, target)]
        for node in (target, source, *others):
            reply = node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            assert b"OK" in reply, reply

    def move(self, key: str, target: ClusterNode) -> None:
        """Move the slot of a key to another master."""
        self.begin_to_move(key, target)
        self.move_keys(key, target)
        self.end_move(key, target)

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()


def wait_for_reply(node: RedisServer, part: bytes, *command: str) -> None:
    """Repeat a command until its reply has a certain part."""
    wait(lambda: part in node.ask(*command))


def wait(condition: Callable[[], bool]) -> None:
    """Wait until a condition is met."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
