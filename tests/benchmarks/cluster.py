"""A cluster of nodes and brokers: its costs, what each node and broker carries, and who serves which user and topic.

A node is one process of streamws, on one core. Each connection follows a topic of its own and the topic of one room.
Users are spread over the nodes, and topics over the brokers, by a hash.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple
from zlib import crc32

KiB = 1024
PACKET = 66
"""The bytes of the headers of Ethernet, IP and TCP."""


class Figure(NamedTuple):
    """An assumption.

    :param here: whether it was measured with this repository.
    :param source: where it comes from, in Markdown.
    """

    value: float
    unit: str
    meaning: str
    here: bool
    source: str


_SCALE = "case `scale-5k`"
_REDIS = "`redis_costs.py`, Redis 7.0, 256 bytes"
FIGURES: Mapping[str, Figure] = {
    "memory": Figure(5.68, "KiB", "memory of the process for an idle connection", True, _SCALE),
    "kernel": Figure(4.0, "KiB", "memory of the kernel for it", True, "`/proc/slabinfo`, Linux 6.18"),
    "followed": Figure(4.9, "KiB", "memory of the process for its two topics", True, "20,000 joins without sockets"),
    "keepalive": Figure(28.7, "µs", "node: a ping and its pong", True, _SCALE),
    "delivery": Figure(5.24, "µs", "node: a message to one client", True, _SCALE),
    "publication": Figure(7.6, "µs", "node: a publication to its topic", True, "`followers.py`, 2,000 topics"),
    "opening": Figure(71.2, "µs", "node: a connection and its handshake", True, _SCALE),
    "ending": Figure(47.4, "µs", "node: the end of a connection", True, "case `handshake-close`"),
    "join": Figure(50.0, "µs", "node: a join of a topic", True, "20,000 joins without sockets"),
    "fan-out": Figure(0.46, "µs", "broker: a publication to one node", True, _REDIS),
    "publish": Figure(25.5, "µs", "broker: a publication with history", True, _REDIS),
    "subscribe": Figure(0.6, "µs", "broker: a subscription", True, _REDIS),
    "history": Figure(19.4, "µs", "broker: a read of a history", True, _REDIS),
}
"""The assumptions, by name. Times are those of one core."""


@dataclass(frozen=True)
class Cluster:
    """The size and the load of a cluster."""

    connections: int = 1_000_000
    machines: int = 5
    processes: int = 4
    """Nodes on each machine."""
    brokers: int = 4
    room: int = 50
    """The mean number of connections in a room."""
    personal_rate: float = 0.05
    """Publications a second in the topic of each connection."""
    room_rate: float = 0.2
    """Publications a second in the topic of each room."""
    payload: int = 256
    """The bytes of a publication."""
    ping_interval: float = 20.0
    history_size: int = 100
    history_seconds: float = 300.0
    backlog: int = 4096
    """Connections that wait to be accepted by a node; more are ignored, and try again."""
    open_timeout: float = 10.0
    """Seconds after which a client gives up an attempt to connect."""
    broker_timeout: float = 10.0
    """Seconds after which a node gives up a request to a broker."""
    sample: int = 10
    """The number of connections that each simulated one stands for."""

    @property
    def nodes(self) -> int:
        return self.machines * self.processes

    @property
    def simulated(self) -> int:
        return self.connections // self.sample

    @property
    def rooms(self) -> int:
        """The number of simulated rooms."""
        return max(1, self.simulated // self.room)


class Costs:
    """Seconds of CPU time for what a simulated connection stands for."""

    def __init__(self, cluster: Cluster, values: Mapping[str, float]) -> None:
        seconds = {name: value * cluster.sample / 1e6 for name, value in values.items()}
        self.opening = seconds["opening"]
        self.ending = seconds["ending"]
        self.join = seconds["join"]
        self.subscribe = seconds["subscribe"]
        self.history = seconds["history"]
        received = cluster.personal_rate + cluster.room_rate
        # The publications to a room reach almost all nodes, each of which serves some of its connections.
        arriving = cluster.personal_rate + cluster.room_rate * nodes_of_room(cluster) / cluster.room
        self.connection = (
            seconds["keepalive"] / cluster.ping_interval
            + seconds["delivery"] * received
            + seconds["publication"] * arriving
        )
        """What a connection costs its node in a second."""
        published = cluster.personal_rate + cluster.room_rate / cluster.room
        total = cluster.simulated * (seconds["publish"] * published + seconds["fan-out"] * arriving)
        self.broker = total / cluster.brokers
        """What each broker spends on publications in a second."""


def nodes_of_room(cluster: Cluster) -> float:
    """Return the mean number of nodes on which a room has connections."""
    nodes = cluster.nodes
    return float(nodes * (1 - (1 - 1 / nodes) ** cluster.room))


def plan(cluster: Cluster, values: Mapping[str, float]) -> dict[str, str]:
    """Return what each node and each broker carries while nothing fails."""
    nodes, brokers = cluster.nodes, cluster.brokers
    costs = Costs(replace(cluster, sample=1), values)
    each = cluster.connections / nodes
    left = nodes - cluster.processes
    received = cluster.personal_rate + cluster.room_rate
    published = cluster.connections * (cluster.personal_rate + cluster.room_rate / cluster.room)
    arriving = cluster.connections * (cluster.personal_rate + cluster.room_rate * nodes_of_room(cluster) / cluster.room)
    frame = cluster.payload + 4 + PACKET
    memory = values["memory"] + values["kernel"] + values["followed"]
    sent = each * (received * frame + (2 + PACKET) / cluster.ping_interval)
    kept = min(cluster.history_size, cluster.personal_rate * cluster.history_seconds)
    kept += min(cluster.history_size, cluster.room_rate * cluster.history_seconds) / cluster.room
    return {
        "nodes": f"{nodes} on {cluster.machines} machines",
        "connections of a node": f"{each:,.0f}",
        "memory of a node for them": f"{each * memory / KiB:,.0f} MiB",
        "pings a second of a node": f"{each / cluster.ping_interval:,.0f}",
        "messages a second of a node": f"{each * received:,.0f}",
        "core of a node in use": f"{each * costs.connection:.0%}",
        "the same, one machine down": f"{cluster.connections / left * costs.connection:.0%}" if left else "-",
        "network of a node": f"{8 * sent / 1e6:,.0f} Mbit/s",
        "handshakes a second of a node": f"{1e6 / (values['opening'] + 2 * values['join']):,.0f}, with 2 joins each",
        "publications a second": f"{published:,.0f}",
        "publications a second to nodes": f"{arriving:,.0f}",
        "core of a broker in use": f"{costs.broker:.0%}",
        "network of a broker": f"{8 * arriving * (cluster.payload + PACKET) / brokers / 1e6:,.0f} Mbit/s",
        "payloads in the histories of a broker": (
            f"{cluster.connections * kept * cluster.payload / brokers / KiB**3:,.1f} GiB"
        ),
    }


SLOTS = 16384
"""Keys are hashed to slots, and slots belong to nodes or brokers, as in Redis Cluster."""


def slot_of(key: str) -> int:
    return crc32(key.encode()) % SLOTS


def owners(count: int, lost: Sequence[int] = ()) -> list[int]:
    """Return the owner of each slot. The slots of the lost ones are shared by the others; no other slot moves."""
    table = [slot % count for slot in range(SLOTS)]
    left = [number for number in range(count) if number not in lost]
    for turn, slot in enumerate(slot for slot, owner in enumerate(table) if owner in lost):
        table[slot] = left[turn % len(left)]
    return table


class Population:
    """Where users and topics are: the same for all simulations of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        rooms, brokers, random = cluster.rooms, owners(cluster.brokers), Random(0).random
        self.slot = array("H", (slot_of(f"user:{user}") for user in range(cluster.simulated)))
        self.room = array("L", (int(rooms * random()) for _ in self.slot))
        self.broker = array("H", (brokers[slot] for slot in self.slot))
        """The broker of the topic of each connection."""
        self.room_broker = array("H", (brokers[slot_of(f"room:{room}")] for room in range(rooms)))
