"""A Redis Cluster of the tests: all of its nodes know one another from the start."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from topics.redis_server import PATIENCE, RedisServer, free_port

SLOTS = 16384


class ClusterNode(RedisServer):
    """A node of a Redis Cluster."""

    def __init__(self, folder: Path, id: str, *options: str) -> None:
        self.bus = free_port()
        self.id = id
        self.file = folder / "nodes.conf"
        super().__init__(
            folder,
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "500"),
            *("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0"),
            *options,
        )

    def move(self) -> None:
        """Restart at another address. It tells the others."""
        self.kill()
        lines = self.file.read_text()
        new, bus = free_port(), free_port()
        self.file.write_text(lines.replace(f":{self.port}@{self.bus}", f":{new}@{bus}"))
        place = self._command.index(str(self.port))
        self._command[place] = str(new)
        self._command[self._command.index(str(self.bus))] = str(bus)
        self.port, self.bus = new, bus
        self.url = f"redis://127.0.0.1:{new}"
        self.start()


class RedisCluster:
    """Some masters, each with as many replicas as the tests want.

    :param masters: the number of masters. They share the slots equally.
    :param replicas: the number of replicas of each.
    :param options: further options of each node.
    """

    def __init__(self, folder: Path, masters: int = 3, replicas: int = 0, options: Sequence[str] = ()) -> None:
        self.nodes: list[ClusterNode] = []
        for number in range(masters * (1 + replicas)):
            home = folder / f"node{number}"
            home.mkdir()
            self.nodes.append(ClusterNode(home, f"{number + 1:040x}", *options))
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters:]
        for node in self.nodes:
            lines = []
            for number, other in enumerate(self.nodes):
                first, last = (SLOTS * (number + more) // masters - more for more in (0, 1))
                role, master, slots = "master", "-", f" {first}-{last}"
                if number >= masters:
                    role, master, slots = "slave", self.nodes[number % masters].id, ""
                me = "myself," if other is node else ""
                lines.append(
                    f"{other.id} 127.0.0.1:{other.port}@{other.bus} {me}{role} {master} 0 0 "
                    f"{number % masters + 1} connected{slots}\n"
                )
            node.file.write_text(f"{''.join(lines)}vars currentEpoch {masters} lastVoteEpoch 0\n")

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start all nodes, and wait until they serve."""
        for node in self.nodes:
            node.start()
        wait(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes))
        wait(lambda: all(b"master_link_status:up" in node.ask("INFO", "replication") for node in self.replicas))

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()


def wait(condition: Callable[[], bool]) -> None:
    """Wait until a condition is met."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
