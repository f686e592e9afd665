"""Simulates the failure of nodes or a broker of a cluster, in steps of a fraction of a second."""

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import NamedTuple

from benchmarks.cluster import SLOTS, Cluster, Costs, Population, owners
from streamws import Backoff

DEFAULT = Backoff()
AT_ONCE = Backoff(first=0.0, most=0.0)
NO_JITTER = Backoff(jitter=0.0)
WIDE = Backoff(first=20.0, jitter=1.0)


@dataclass(frozen=True)
class Scenario:
    """What happens, and how the clients come back."""

    title: str
    clients: str
    backoff: Backoff = DEFAULT
    lost: int = 0
    """The number of nodes that end."""
    replaced: bool = False
    """Whether as many new nodes take over at once; otherwise, the other nodes do."""
    notice: tuple[float, float] = (0.0, 0.0)
    """The shortest and the longest time until a client notices, in seconds."""
    drain: float | None = None
    """The seconds over which the connections are closed with 1012; None if the nodes die."""
    broker_outage: float | None = None
    """The seconds for which broker 0 is away; None if it stays."""
    keeps_data: bool = True
    """Whether the broker comes back with its histories."""
    brokers: int | None = None
    """The number of brokers; None for that of the cluster."""

    def __post_init__(self) -> None:
        if self.lost and self.broker_outage is not None:
            raise ValueError("a scenario loses nodes or a broker, not both")


BEGIN = 1.0
"""The second in which something happens."""
HORIZON = 900.0
SHARES = (0.5, 0.99, 1.0)


def scenarios(cluster: Cluster) -> dict[str, Scenario]:
    """Return the scenarios that a cluster can have, by name."""
    nodes, machine = cluster.nodes, cluster.processes
    found = {
        "process": Scenario("a process dies", "`Backoff()`", lost=1),
        "process-no-jitter": Scenario("a process dies", "`jitter=0`", NO_JITTER, lost=1),
        "machine": Scenario("a machine loses power", "`Backoff()`", lost=machine, notice=(20.0, 40.0)),
        "all-at-once": Scenario("all nodes restart", "not at all", AT_ONCE, lost=nodes, replaced=True),
        "all": Scenario("all nodes restart", "`Backoff()`", lost=nodes, replaced=True),
        "all-wide": Scenario("all nodes restart", "`first=20, jitter=1`", WIDE, lost=nodes, replaced=True),
        "drain": Scenario("all nodes drain for 120 s", "`Backoff()`", lost=nodes, replaced=True, drain=120.0),
        "broker": Scenario("a broker is away for 5 s", "-", broker_outage=5.0),
        "broker-empty": Scenario("it comes back empty", "-", broker_outage=5.0, keeps_data=False),
        "broker-of-two": Scenario("there are only two", "-", broker_outage=5.0, brokers=2),
    }
    return {name: scenario for name, scenario in found.items() if scenario.replaced or scenario.lost < nodes}


def delay(backoff: Backoff, failures: int, random: Callable[[], float], least: float = 0.0) -> float:
    """Return how long a client waits before it tries again, as `async for client in connect(url)` does.

    :param failures: the number of waits since the last stable connection.
    :param least: the shortest wait: it was told to wait by a close with 1012.
    """
    wait = backoff.first
    for _ in range(failures):
        wait = min((wait or 0.25) * backoff.factor, backoff.most)
        if wait == backoff.most:
            break
    wait *= 1 - backoff.jitter * random()
    return wait if wait > least else least + random() * backoff.first


OPEN, WAITING, CONNECTING, JOINING = range(4)
"""The states of a connection: what its client does, or what its node does for it."""
STEP = 0.05
AT_A_TIME = 1000
"""The topics that a node recovers in a step if the broker answers at once: 100 of them at a time, each in 5 ms."""
TOPIC_WAITS = (0.05, 2.0)
"""The first and the longest wait before a topic reads its history again; each is up to twice as long by chance."""
RECONNECT = 4.0
"""The seconds within which all nodes have found a broker that is back."""

Event = tuple[Callable[[int, int], None], int, int]
"""A function to call, with a number (of a connection or topic) and an attempt."""
Job = tuple[Callable[[int, int], float], int, int, float, float]
"""A function to call when the job is done, which returns further costs; its arguments; the cost; when it was queued."""


class Core:
    """A node or a broker: a queue of jobs, and one core."""

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.spent = 0.0
        """Seconds of CPU time for jobs."""
        self.longest_wait = 0.0
        self._credit = 0.0  # seconds of CPU time; below 0 if the last job took longer than there was time

    def work(self, now: float, idle: float) -> None:
        """Do jobs for one step.

        :param idle: the share of the core that is left for jobs.
        """
        jobs = self.jobs
        available = credit = min(self._credit, 0.0) + STEP * idle
        while jobs and credit > 0:
            call, number, attempt, cost, queued = jobs.popleft()
            credit -= cost + call(number, attempt)
            self.longest_wait = max(self.longest_wait, now - queued)
        self._credit = credit
        self.spent += available - credit


class Result(NamedTuple):
    """What a simulation has shown. Counts are those of the cluster, whatever the sample."""

    scenario: Scenario
    lost: int
    """Connections that were lost, or topics of nodes whose broker went away."""
    peak: int
    """The most attempts to connect in a second."""
    failed: int
    """Attempts to connect, to join or to read a history that failed."""
    node_wait: float
    """The longest time for which an attempt waited for its node, in seconds."""
    broker_wait: float
    """The longest time for which a request waited for its broker."""
    reads: int
    """Requests for histories."""
    recovered: int
    """Publications delivered from a history."""
    gaps: int
    """Gaps that clients were told of."""
    back: Mapping[float, float]
    """Seconds until these shares of the lost were back."""
    series: Sequence[tuple[float, float, int]]
    """For each step: the time, the attempts to connect in a second, and what was not back."""


class Simulation:
    """One scenario, in steps of `STEP` seconds.

    :param values: the figures, by name.
    """

    def __init__(
        self,
        cluster: Cluster,
        scenario: Scenario,
        values: Mapping[str, float],
        seed: int = 1,
    ) -> None:
        self.cluster = cluster = replace(cluster, brokers=scenario.brokers or cluster.brokers)
        self.scenario = scenario
        self.costs = Costs(cluster, values)
        self.random = Random(seed).random
        self.people = people = Population(cluster)
        count, nodes = cluster.simulated, cluster.nodes
        self.nodes = [Core() for _ in range(2 * nodes if scenario.replaced else nodes)]
        self.brokers = [Core() for _ in range(cluster.brokers)]
        before = owners(nodes)
        self.owner = [nodes + owner for owner in before] if scenario.replaced else owners(nodes, range(scenario.lost))
        """The node of each slot, for those who connect."""
        # The connections.
        self.state = bytearray(count)
        self.counts = [count, 0, 0, 0]
        """The number of connections in each state."""
        self.home = array("H", (before[slot] for slot in people.slot))
        """The node of each connection."""
        self.since = array("d", bytes(8 * count))
        """When each connection became live, or was lost."""
        self._attempt = array("L", [0]) * count  # changes with each step on the way back: what is late has no effect
        self._failures = bytearray(count)
        self._started = array("d", bytes(8 * count))  # when the last attempt to connect began
        self._waiting: list[deque[int]] = [deque() for _ in self.nodes]  # topics that will recover
        self._under_way = [0] * len(self.nodes)  # topics that recover
        self._joins = bytearray(count)  # requests to brokers that are under way
        self.live = [0] * len(self.nodes)
        """The number of open connections of each node."""
        self._members = [array("H", bytes(2 * cluster.rooms)) for _ in self.nodes]  # those of each room
        for node, room in zip(self.home, people.room, strict=True):
            self.live[node] += 1
            self._members[node][room] += 1
        # The topics that recover after their broker was away: first those of connections, then the rooms of each node.
        self._recovering: dict[int, int] = {}  # the attempt of each
        self._renewed_at: dict[int, float] = {}
        # Time.
        self.now = 0.0
        self._step = 0
        self._due: defaultdict[int, list[Event]] = defaultdict(list)
        self._down = False  # whether broker 0 is away
        # What is counted.
        self.attempts = self.handshakes = self.abandoned = self.failed = 0
        self.asked = self.reads = self.subscriptions = 0
        self.lost = self.returned = 0
        self.live_deliveries = self.recovered = self.missed = self.gaps = 0

    # Time ------------------------------------------------------------------------------------------------------------

    def _later(self, seconds: float, call: Callable[[int, int], None], number: int, attempt: int) -> None:
        self._due[self._step + 1 + int(seconds / STEP)].append((call, number, attempt))

    def run(self, on_step: Callable[[], None] = lambda: None, horizon: float = HORIZON) -> Result:
        """Simulate until all are back.

        :param on_step: called after each step.
        :param horizon: the second in which the simulation ends, even if not all are back.
        """
        scenario, costs, sample = self.scenario, self.costs, self.cluster.sample
        connecting: deque[int] = deque(maxlen=round(1 / STEP))  # attempts in the steps of the last second
        peak = 0
        series: list[tuple[float, float, int]] = []
        returned: list[int] = []
        while True:
            self.now = self._step * STEP
            before = self.attempts
            if self._step == round(BEGIN / STEP):
                self._begin()
            for call, number, attempt in self._due.pop(self._step, ()):
                call(number, attempt)
            for core, live in zip(self.nodes, self.live, strict=True):
                core.work(self.now, max(0.0, 1 - live * costs.connection))
            for core in self.brokers[self._down :]:
                core.work(self.now, max(0.0, 1 - costs.broker))
            connecting.append(self.attempts - before)
            peak = max(peak, sum(connecting))
            series.append((self.now - BEGIN, connecting[-1] * sample / STEP, self.away * sample))
            returned.append(self.returned)
            on_step()
            if self.now > horizon:
                break
            busy = self.away or any(core.jobs for core in (*self.nodes, *self.brokers))
            if not busy and self.now > BEGIN + (scenario.drain or 0.0):
                break
            self._step += 1
        return Result(
            scenario,
            self.lost * sample,
            peak * sample,
            self.failed * sample,
            max(core.longest_wait for core in self.nodes),
            max(core.longest_wait for core in self.brokers),
            self.reads * sample,
            self.recovered * sample,
            self.gaps * sample,
            {
                share: next(
                    (row[0] for row, done in zip(series, returned, strict=True) if done >= share * self.lost), inf
                )
                for share in SHARES
            },
            series,
        )

    @property
    def away(self) -> int:
        """The number of connections, or of topics of nodes, that are not back."""
        return self.cluster.simulated - self.counts[OPEN] + len(self._recovering)

    def _begin(self) -> None:
        scenario = self.scenario
        if scenario.broker_outage is not None:
            self._down = True
            self._recovering = dict.fromkeys(self._topics_of_broker(), 0)
            self.lost = len(self._recovering)
            self._later(scenario.broker_outage, self._broker_back, 0, 0)
        shortest, longest = scenario.notice
        closed = [0] * len(self.nodes)
        total = self.live[:]
        for client, home in enumerate(self.home):
            if home >= scenario.lost:
                continue
            if scenario.drain is None:
                notice = shortest + (longest - shortest) * self.random()
                self._lose(client, notice + delay(scenario.backoff, 0, self.random))
            else:
                self._later(scenario.drain * closed[home] / total[home], self._drained, client, 0)
                closed[home] += 1

    # Connections -----------------------------------------------------------------------------------------------------

    def _move(self, client: int, state: int) -> None:
        self.counts[self.state[client]] -= 1
        self.counts[state] += 1
        self.state[client] = state

    def _lose(self, client: int, wait: float) -> None:
        """A connection has ended; its client comes back later."""
        home = self.home[client]
        self.live[home] -= 1
        self._members[home][self.people.room[client]] -= 1
        self.lost += 1
        self.live_deliveries += self._published(client, self.since[client])
        self.since[client] = self.now
        self._wait(client, wait)

    def _drained(self, client: int, _: int) -> None:
        """The node of a connection has closed it with 1012."""
        backoff = self.scenario.backoff
        shortest, longest = backoff.restart
        least = shortest + (longest - shortest) * self.random()
        self._lose(client, delay(backoff, 0, self.random, least))

    def _wait(self, client: int, seconds: float) -> None:
        self._move(client, WAITING)
        self._attempt[client] += 1
        self._later(seconds, self._connect, client, self._attempt[client])

    def _connect(self, client: int, attempt: int) -> None:
        """A client connects to the node of its slot, as behind a load balancer that hashes the user."""
        self.attempts += 1
        self._move(client, CONNECTING)
        self.home[client] = self.owner[self.people.slot[client]]
        self._started[client] = self.now
        self._later(self.cluster.open_timeout, self._give_up, client, attempt)
        self._send_syn(client, attempt)

    def _send_syn(self, client: int, attempt: int) -> None:
        """Send a SYN. The node ignores it if too many wait. Then TCP sends it again after 1, 3 and 7 seconds."""
        if self._attempt[client] != attempt:
            return
        jobs = self.nodes[self.home[client]].jobs
        if len(jobs) * self.cluster.sample < self.cluster.backlog:
            jobs.append((self._accept, client, attempt, self.costs.opening, self.now))
        else:
            self._later(1.0 + self.now - self._started[client], self._send_syn, client, attempt)

    def _give_up(self, client: int, attempt: int) -> None:
        """A client has waited too long for its handshake, or a node for a broker. Then the connection ends."""
        if self._attempt[client] == attempt:
            self.failed += 1
            self._failures[client] = min(255, self._failures[client] + 1)
            self._wait(client, delay(self.scenario.backoff, self._failures[client], self.random))

    def _accept(self, client: int, attempt: int) -> float:
        """A node has answered a handshake, and its handler joins two topics."""
        self.handshakes += 1
        if self._attempt[client] != attempt:
            self.abandoned += 1
            return self.costs.ending
        people, costs = self.people, self.costs
        self._move(client, JOINING)
        self._attempt[client] = attempt = attempt + 1
        # Nobody else follows the topic of the connection. In the room, a node reads the history only if it must.
        requests = [(people.broker[client], True)]
        room = people.room[client]
        first = not self._members[self.home[client]][room]
        if first or self._published_in_room(room, self.since[client]):
            requests.append((people.room_broker[room], first))
        self._joins[client] = len(requests)
        for broker, subscribes in requests:
            self.subscriptions += subscribes
            cost = costs.history + subscribes * costs.subscribe
            self.brokers[broker].jobs.append((self._joined, client, attempt, cost, self.now))
        self._later(self.cluster.broker_timeout, self._give_up, client, attempt)
        return 2 * costs.join

    def _joined(self, client: int, attempt: int) -> float:
        """A broker has answered a request of a join."""
        self.reads += 1
        if self._attempt[client] == attempt:
            self._joins[client] -= 1
            if not self._joins[client]:
                self._return(client)
        return 0.0

    def _return(self, client: int) -> None:
        """A connection is live again."""
        self._attempt[client] += 1
        self._failures[client] = 0
        home, room, since = self.home[client], self.people.room[client], self.since[client]
        self.live[home] += 1
        self._members[home][room] += 1
        kept = max(since, self.now - self.cluster.history_seconds)
        self._catch_up(1, self._published_to(client, since), self._published_to(client, kept))
        self._catch_up(1, self._published_in_room(room, since), self._published_in_room(room, kept))
        self.since[client] = self.now
        self.returned += 1
        self._move(client, OPEN)

    def _catch_up(self, followers: int, missed: int, young: int) -> None:
        """Deliver what followers have missed, and tell of a gap if not all of that is in the history.

        :param young: the number of missed publications that are not too old for the history.
        """
        found = min(young, self.cluster.history_size)
        self.recovered += followers * found
        self.missed += followers * (missed - found)
        self.gaps += followers * (missed > found)

    # Publications ----------------------------------------------------------------------------------------------------

    def _published_to(self, client: int, begin: float, end: float | None = None) -> int:
        """Return the number of publications in the topic of a connection, by default until now."""
        people = self.people
        return self._count(people.broker[client], self.cluster.personal_rate, people.slot[client], begin, end)

    def _published_in_room(self, room: int, begin: float, end: float | None = None) -> int:
        return self._count(self.people.room_broker[room], self.cluster.room_rate, room * 7919 % SLOTS, begin, end)

    def _published(self, client: int, begin: float) -> int:
        return self._published_to(client, begin) + self._published_in_room(self.people.room[client], begin)

    def _count(self, broker: int, rate: float, phase: int, begin: float, end: float | None) -> int:
        if end is None:
            end = self.now
        outage = self.scenario.broker_outage
        if outage is not None and not broker:  # nothing is published while the broker is away
            begin -= min(outage, max(0.0, begin - BEGIN))
            end -= min(outage, max(0.0, end - BEGIN))
        return int(rate * end + phase / SLOTS) - int(rate * begin + phase / SLOTS)

    # Topics whose broker was away ------------------------------------------------------------------------------------

    def _topics_of_broker(self) -> Iterator[int]:
        """Number the topics of broker 0 in all nodes."""
        people, count, rooms = self.people, self.cluster.simulated, self.cluster.rooms
        yield from (client for client, broker in enumerate(people.broker) if not broker)
        for node, members in enumerate(self._members):
            base = count + node * rooms
            yield from (base + room for room in range(rooms) if members[room] and not people.room_broker[room])

    def _node_and_room(self, topic: int) -> tuple[int, int | None]:
        if topic < self.cluster.simulated:
            return self.home[topic], None
        return divmod(topic - self.cluster.simulated, self.cluster.rooms)

    def _broker_back(self, _: int, __: int) -> None:
        self._down = False
        found = [RECONNECT * self.random() for _ in self.nodes]
        for topic in self._recovering:
            self._waiting[self._node_and_room(topic)[0]].append(topic)
        for node, seconds in enumerate(found):
            self._later(seconds, self._renew_some, node, 0)

    def _renew_some(self, node: int, _: int) -> None:
        """A node begins to recover its next topics, when it has the histories of those before."""
        waiting = self._waiting[node]
        some = [waiting.popleft() for _ in range(min(max(AT_A_TIME // self.cluster.sample, 1), len(waiting)))]
        self._under_way[node] = len(some)
        for topic in some:
            self._renew(topic, 0)

    def _renew(self, topic: int, attempt: int) -> None:
        """A node begins to recover a topic."""
        node, _ = self._node_and_room(topic)
        self.nodes[node].jobs.append((self._ask, topic, attempt, self.costs.join, self.now))

    def _ask(self, topic: int, attempt: int) -> float:
        """A node subscribes to a topic again, and reads its history."""
        self.asked += 1
        self.subscriptions += not attempt
        cost = self.costs.history + (0.0 if attempt else self.costs.subscribe)
        self._recovering[topic] = attempt = attempt + 1
        self.brokers[0].jobs.append((self._renewed, topic, attempt, cost, self.now))
        self._later(self.cluster.broker_timeout, self._renew_later, topic, attempt)
        return 0.0

    def _renew_later(self, topic: int, attempt: int) -> None:
        if self._recovering.get(topic) == attempt:
            self.failed += 1
            first, longest = TOPIC_WAITS
            wait = min(first * 2.0 ** (attempt - 1), longest) * (1 + self.random())
            self._later(wait, self._renew, topic, attempt)

    def _renewed(self, topic: int, attempt: int) -> float:
        """A broker has answered with the history."""
        self.reads += 1
        if self._recovering.get(topic) != attempt:
            return 0.0
        del self._recovering[topic]
        self._renewed_at[topic] = self.now
        place, _ = self._node_and_room(topic)
        self._under_way[place] -= 1
        if not self._under_way[place]:
            self._renew_some(place, 0)
        self.returned += 1
        gaps = self.gaps
        node, room = self._node_and_room(topic)
        if room is None:
            followers, missed = 1, self._published_to(topic, BEGIN)
        else:
            followers, missed = self._members[node][room], self._published_in_room(room, BEGIN)
        self._catch_up(followers, missed, missed)
        if not self.scenario.keeps_data:
            self.gaps = gaps + followers  # a new epoch: the broker cannot tell what was published before
        return 0.0

    # Checks ----------------------------------------------------------------------------------------------------------

    def owed(self) -> int:
        """Return the number of deliveries that all followers should have got until now, counted by topic."""
        followers = Counter(self.people.room)
        in_rooms = sum(number * self._published_in_room(room, 0.0) for room, number in followers.items())
        return in_rooms + sum(self._published_to(client, 0.0) for client in range(self.cluster.simulated))

    def accounted(self) -> int:
        """Return the number of publications that followers were sent, or told to have missed, counted by connection."""
        total = self.live_deliveries + self.recovered + self.missed
        rooms = self.cluster.rooms
        for client, since in enumerate(self.since):
            if self.state[client] != OPEN:
                continue
            total += self._published(client, since)
            room = self.people.room[client]
            topic = self.cluster.simulated + self.home[client] * rooms + room
            if client in self._renewed_at:
                total -= self._published_to(client, BEGIN, self._renewed_at[client])
            if topic in self._renewed_at:
                total -= self._published_in_room(room, BEGIN, self._renewed_at[topic])
        return total

    def work(self) -> tuple[float, float]:
        """Return the CPU time of nodes and brokers: the sum of what each spent, and what all that was done costs."""
        costs = self.costs
        spent = sum(core.spent for core in (*self.nodes, *self.brokers))
        joins = 2 * (self.handshakes - self.abandoned) + self.asked
        nodes = self.handshakes * costs.opening + self.abandoned * costs.ending + joins * costs.join
        return spent, nodes + self.reads * costs.history + self.subscriptions * costs.subscribe
