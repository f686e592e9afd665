"""The cases `topics-*`: topics with followers, all of them clients with sockets of their own.

The server's task is in `servers.members`. Between two publications, the libraries yield to the event loop once. The
next round of publications begins when everybody has received the last one. So wse-server, which has no event loop and
does not yield, can merge no more than the publications of one round that go to the same client.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.contestants import CHANNELS, ENGINES, TOPICS
from benchmarks.crowd import Crowd, Greeting
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect, receive_exactly, reset
from benchmarks.process import ServerProcess
from benchmarks.scale import AT_A_TIME, BACKLOG, CLIENTS_PER_PROCESS, TIMEOUT
from benchmarks.servers.members import HISTORY, OK

LIBRARIES = (*TOPICS, *CHANNELS)
WITH_ENGINE = (*LIBRARIES, *ENGINES[:1])
"""wse-server has two descriptors for each connection, more than many systems allow for 10,000 connections."""
RETURNING = tuple(server for server in LIBRARIES if server != "broadcaster")
"""The libraries that have a history."""
REPLY = frames.unmasked(OK.encode(), frames.TEXT)
COMMANDS = 16
"""The commands that a client of the cases `topics-join*` sends at once, half of them joins."""
RECEIVE_BUFFER = 1 << 16


def command(verb: str, *words: str) -> bytes:
    """Return a client's frame with a command."""
    return frames.masked(" ".join((verb, *words)).encode(), frames.TEXT)


@dataclass(frozen=True)
class FollowersCase(ServerCase):
    """Publications in topics with followers."""

    name: str
    topics: int
    clients: int
    each: int = 1
    """The number of topics that each client follows."""
    contestants: Sequence[str] = LIBRARIES
    unit = "deliveries"
    handler = "topics"
    options = ("--backlog", str(BACKLOG))

    @property
    def description(self) -> str:
        followers = self.clients * self.each // self.topics
        overlap = f"; each of {self.clients:,} clients follows {self.each}" if self.each > 1 else ""
        return (
            f"publications in {count(self.topics, 'topic')} with {count(followers, 'follower')}"
            f"{' each' if self.topics > 1 else ''}{overlap}"
        )

    def follow(self, client: int) -> bytes:
        """Return the command of a client to join its topics.

        The topics are in as many blocks as each client follows, and it follows one in each block. Most clients that
        share a topic share no other one.
        """
        size = self.topics // self.each
        turn, place = divmod(client, size)
        return command("join", *(str(block * size + (place + turn * block) % size) for block in range(self.each)))

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        with open_crowd(server, self.clients, self.follow) as crowd, _control(server) as control:
            publish = command("publish", str(self.topics))
            return measure_rounds(server, crowd, lambda: control.sendall(publish), self.clients * self.each, seconds)


@dataclass(frozen=True)
class JoinCase(ServerCase):
    """Joins, each followed by a leave."""

    name: str
    followers: int
    """The number of clients that follow the topic all the time; 0 if each client joins a topic of its own."""
    connections: int = 32
    """The number of clients that join and leave."""
    contestants: Sequence[str] = WITH_ENGINE
    unit = "joins"
    handler = "topics"
    options = ("--backlog", str(BACKLOG))

    @property
    def description(self) -> str:
        where = f"one topic, with {self.followers:,} other followers" if self.followers else "topics without followers"
        return f"{self.connections} clients join and leave {where}"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        (server,) = servers
        with open_crowd(server, self.followers, lambda _: command("join", "0")) as crowd, ExitStack() as stack:
            connections = []
            for _ in range(self.connections):
                connections.append(connect(server.port))
                stack.callback(reset, connections[-1])
            commands = [
                b"".join(islice(cycle(command(verb, topic) for verb in ("join", "leave")), COMMANDS))
                for topic in ("0" if self.followers else str(number + 1) for number in range(self.connections))
            ]
            for connection, data in zip(connections, commands, strict=True):
                connection.sendall(data)
            for connection in connections:
                if (received := receive_exactly(connection, COMMANDS * len(REPLY))) != COMMANDS * REPLY:
                    raise ValueError(f"wrong replies: the server sent {received[:20]!r}...")
            load = _JoinLoad(dict(zip(connections, commands, strict=True)))
            watch = Stopwatch(server, crowd.cpu_time)
            replies = load.run(seconds)
            return watch.stop(replies / 2)


class _JoinLoad:
    """Sends each client's commands again as soon as all of them are answered."""

    def __init__(self, commands: Mapping[socket.socket, bytes]) -> None:
        self._commands = {connection.fileno(): (connection, data) for connection, data in commands.items()}
        self._missing = dict.fromkeys(self._commands, 0)

    def run(self, seconds: float) -> int:
        """Send commands for a time.

        :returns: The number of replies, after all of them have arrived.
        """
        size = COMMANDS * len(REPLY)
        replies = 0
        until = time.monotonic() + seconds
        with select.epoll() as epoll:
            for descriptor, (connection, data) in self._commands.items():
                epoll.register(descriptor, select.EPOLLIN)
                connection.sendall(data)
                self._missing[descriptor] = size
            open_ones = len(self._commands)
            while open_ones:
                if time.monotonic() > until + TIMEOUT:
                    raise TimeoutError(f"{open_ones} clients got no replies within {TIMEOUT:g} s")
                for descriptor, _ in epoll.poll(0.05):
                    connection, data = self._commands[descriptor]
                    count = len(connection.recv(RECEIVE_BUFFER))
                    if not count:
                        raise ConnectionError("the server closed the connection under load")
                    self._missing[descriptor] -= count
                    if not self._missing[descriptor]:
                        replies += COMMANDS
                        if time.monotonic() < until:
                            connection.sendall(data)
                            self._missing[descriptor] = size
                        else:
                            open_ones -= 1
        return replies


@dataclass(frozen=True)
class ReturnCase(ServerCase):
    """All followers of a topic are cut off, come back at once, and get what they have missed from its history."""

    name: str
    clients: int
    contestants: Sequence[str] = RETURNING
    unit = "returns"
    handler = "history"
    options = ("--backlog", str(BACKLOG))

    @property
    def description(self) -> str:
        return (
            f"{self.clients:,} followers of a topic are reset, come back at once, and get {HISTORY} publications from "
            "its history; with the ends of the connections and the handshakes"
        )

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Measure the returns. `seconds` is not used, because all followers return once."""
        (server,) = servers
        join, back = command("join", "0"), command("return", "0")
        # The client that publishes joins the topic first, and so keeps it while all others are away.
        with _control(server) as control, open_crowd(server, self.clients, lambda _: join, lambda _: back) as crowd:
            control.sendall(join)
            receive_exactly(control, len(REPLY))
            for number in range(HISTORY):
                control.sendall(command("publish", "1"))
                crowd.wait_for_messages(self.clients * (number + 2), TIMEOUT)
            server.wait_until_asleep()
            received = crowd.counts.messages
            watch = Stopwatch(server, crowd.cpu_time)
            begin = time.monotonic()
            crowd.come_back(self.clients, TIMEOUT)
            crowd.wait_for_messages(received + HISTORY * self.clients, TIMEOUT)
            figures = {"storm s": time.monotonic() - begin, "retries": crowd.counts.retries}
            server.wait_until_asleep()
            result = watch.stop(self.clients, figures=figures)
            _check(crowd, received + HISTORY * self.clients)
            return result


def measure_rounds(
    server: ServerProcess, crowd: Crowd, publish: Callable[[], object], deliveries: int, seconds: float
) -> Measure:
    """Measure rounds of publications. Each begins when everybody has received those of the one before.

    :param publish: publishes once in each topic.
    :param deliveries: the messages that all clients receive in a round.
    """

    def run_round() -> None:
        expected = crowd.counts.messages + deliveries
        publish()
        crowd.wait_for_messages(expected, TIMEOUT)

    replies = crowd.counts.messages  # those to the greetings
    run_round()
    watch = Stopwatch(server, crowd.cpu_time)
    until = time.monotonic() + seconds
    rounds = 0
    while not rounds or time.monotonic() < until:
        run_round()
        rounds += 1
    result = watch.stop(rounds * deliveries)
    server.wait_until_asleep()
    _check(crowd, replies + (rounds + 1) * deliveries)
    return result


@contextmanager
def open_crowd(
    server: ServerProcess, clients: int, greeting: Greeting, returning: Greeting | None = None
) -> Iterator[Crowd]:
    """Let clients connect, and wait until the server has answered the greeting of each."""
    processes = -(-clients // CLIENTS_PER_PROCESS)
    with Crowd([server.port] * processes, greeting, returning) as crowd:
        if clients:
            crowd.open(clients, AT_A_TIME, TIMEOUT)
            crowd.wait_for_messages(clients, TIMEOUT)
        server.wait_until_asleep()
        yield crowd


@contextmanager
def _control(server: ServerProcess) -> Iterator[socket.socket]:
    """Open the connection on which the server is told to publish."""
    connection = connect(server.port)
    try:
        yield connection
    finally:
        reset(connection)


def _check(crowd: Crowd, messages: int) -> None:
    """Check that the clients have received a number of messages, and that the server has closed no connection."""
    counts = crowd.counts
    if counts.lost:
        raise ConnectionError(f"the server closed {counts.lost:,} connections")
    if counts.messages != messages:
        raise ValueError(f"the clients received {counts.messages:,} messages instead of {messages:,}")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
