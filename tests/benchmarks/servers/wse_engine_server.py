"""wse-server, a server in Rust with threads of its own, controlled from Python.

It sends binary messages to all its clients as it gets them, without a header of its own, and needs no login. The option
`--loop` changes nothing: it has no event loop of Python. Its runtime starts one thread for each core that the process
may use, and a Python thread receives the commands, as in its examples.
"""

import os
import socket
import time

from wse_server import RustWSEServer

from benchmarks.servers.common import BROADCAST, HOST, Arguments, parser, prepare_process, report_ready
from benchmarks.servers.members import HISTORY, OK, PUBLICATION

MAX_CONNECTIONS = 20_000
EVENTS = 256
WAIT_MS = 50
START_TIME = 0.5
"""Its first keepalive pings go out while it starts, whatever the interval. Later clients get none."""


def free_port() -> int:
    """Return a free port: the engine cannot say which port it chose."""
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class EngineArguments(Arguments):
    all_cores: bool


def main(arguments: EngineArguments) -> None:
    if arguments.handler not in ("broadcast", "topics", "history"):
        raise SystemExit("wse-server takes part only in the cases broadcast-* and topics-*")
    prepare_process(arguments)
    if arguments.all_cores:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    port = arguments.port or free_port()
    # The default limits drop a client that sends nothing for a minute, and refuse more than 1,000 clients.
    server = RustWSEServer(
        HOST,
        port,
        max_connections=MAX_CONNECTIONS,
        ping_interval=3600,
        idle_timeout=7200,
        recovery_enabled=arguments.handler == "history",
        recovery_buffer_size=HISTORY,
    )
    server.enable_drain_mode()
    server.start()
    time.sleep(START_TIME)
    report_ready(port)
    obey = (
        broadcast_on_command
        if arguments.handler == "broadcast"
        else Members(server, arguments.handler == "history").obey
    )
    parent = os.getppid()
    while os.getppid() == parent:
        for kind, connection, data in server.drain_inbound(EVENTS, WAIT_MS):
            if kind == "raw" and connection is not None:
                obey(server, connection, data)


def broadcast_on_command(server: RustWSEServer, connection: str, command: str) -> None:
    turns, in_turn = map(int, command.split())
    for _ in range(turns):
        for _ in range(in_turn):
            server.broadcast_all_bytes(BROADCAST)
        time.sleep(0)


class Members:
    """The task of `members`."""

    def __init__(self, server: RustWSEServer, history: bool) -> None:
        self._history = history
        self._epochs: dict[str, str] = {}
        if history:
            # The first publication of a topic makes its epoch; it has the offset 0, and is not replayed.
            server.broadcast_local("0", PUBLICATION)

    def obey(self, server: RustWSEServer, connection: str, command: str) -> None:
        verb, *topics = command.split()
        if verb == "publish":
            for number in range(int(topics[0])):
                server.broadcast_local(str(number), PUBLICATION)
        elif verb == "return":
            (topic,) = topics
            server.subscribe_with_recovery(connection, topics, True, self._epochs[topic], 0)
        else:
            if verb == "leave":
                server.unsubscribe_connection(connection, topics)
            elif not self._history:
                server.subscribe_connection(connection, topics)
            else:
                found = server.subscribe_with_recovery(connection, topics)["topics"]
                self._epochs.update((topic, found[topic]["epoch"]) for topic in topics)
            server.send(connection, OK)


if __name__ == "__main__":
    options = parser()
    options.add_argument("--all-cores", action="store_true", help="run on all cores, one thread each")
    main(options.parse_args(namespace=EngineArguments()))
