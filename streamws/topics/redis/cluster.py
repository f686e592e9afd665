"""Redis Cluster: which of its masters has which topics, and what to do when that changes."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

from ...errors import BrokerError, BrokerUnavailable
from ..broker import Receiver
from ..retrying import Waits
from ..stats import BrokerConnection, BrokerStats
from .address import Address, parse_info
from .keeper import is_final
from .link import Elsewhere, Link, checked, explain
from .scripts import SLOTS, slot_of
from .server import Server, Setting
from .servers import Servers

logger: logging.Logger = logging.getLogger("streamws.topics")

_PARTITIONS = 64
"""The number of partitions of the topics. Each has the same number of slots, one after the other."""

_SLOTS_OF_PARTITION = SLOTS // _PARTITIONS

_LATE = 0.1
"""The seconds for which the other answers are awaited after the first one. Nodes may disagree for a while."""

_LONGEST_WAIT = 0.5
"""The seconds up to which the waits grow before the nodes are asked again."""

_QUIET = 5.0
"""The seconds without a doubt after which the waits begin anew."""


class _Answer(NamedTuple):
    """What a node knows.

    :param epoch: grows when a slot gets another master.
    :param slots: the addresses of the masters, and the first and last slots that they have.
    :param nodes: the addresses of all nodes.
    """

    epoch: int
    slots: list[tuple[str, int, int, int]]
    nodes: set[tuple[str, int]]


class Cluster(Servers):
    """The masters of a Redis Cluster. Whenever there is a doubt where the topics are, they are asked again.

    :param seeds: nodes that are asked first.
    """

    def __init__(self, seeds: Sequence[Address], setting: Setting) -> None:
        super().__init__(setting.timeout, setting.keys.processes_of_partitions(_PARTITIONS))
        self._seeds = seeds
        self._setting = setting
        self._receiver: Receiver
        self._servers: dict[str, Server] = {}  # by their addresses
        self._slots: list[Server | None] = [None] * SLOTS
        self._places: set[tuple[str, int]] = set()  # the hosts and ports of all nodes, also of replicas
        self._failure = "not connected yet"
        self._told = False  # whether the failure was logged
        self._doubtful = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []  # done when the nodes have been asked again
        self._task: asyncio.Task[None] | None = None
        self._leaving: dict[Server, asyncio.Task[None]] = {}  # those without topics

    def __str__(self) -> str:
        """Return the addresses of the nodes that are asked first."""
        return ", ".join(map(str, self._seeds))

    # Opening and closing ---------------------------------------------------------------------------------------

    async def open(self, receiver: Receiver) -> None:
        """Begin to connect; see `Servers.open`."""
        self._receiver = receiver
        servers: list[Server] = []
        try:
            servers = await self._ask()
        except BrokerUnavailable as error:
            self._tell(error)
            self._doubtful.set()
        self._task = asyncio.get_running_loop().create_task(self._keep_asking())
        for failure in await asyncio.gather(*(server.open(receiver) for server in servers), return_exceptions=True):
            if failure is not None:
                raise failure

    async def close(self) -> None:
        """End all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        leaving = [*self._leaving.values()]
        await asyncio.gather(*(server.close() for server in (*self._servers.values(), *self._leaving)))
        await asyncio.gather(*leaving)

    @property
    def stats(self) -> BrokerStats:
        """The counters of the connections; see `Servers.stats`."""
        connections: dict[str, BrokerConnection] = {}
        subscriptions = 0
        for address, server in [*self._servers.items()]:
            publishing, subscribing = server.stats
            connections[f"publications at {address}"] = publishing
            connections[f"subscriptions at {address}"] = subscribing
            subscriptions += server.subscriber.subscriptions
        if not connections:  # no node has answered yet
            connections["cluster"] = BrokerConnection(connected=False, failure=self._failure)
        return BrokerStats(subscriptions, connections)

    # The servers of topics -------------------------------------------------------------------------------------

    def server(self, key: str) -> Server:
        """Return the server that has a key; see `Servers.server`."""
        server = self._slots[slot_of(key.encode())]
        if server is None:
            self.doubt()
            raise BrokerUnavailable(f"Redis Cluster at {self} is not available: {self._failure}")
        return server

    def partition(self, key: str) -> int:
        """Return the number of the partition of the topics to which a key belongs."""
        return slot_of(key.encode()) // _SLOTS_OF_PARTITION

    def servers(self, partition: int) -> set[Server]:
        """Return the servers that have topics of a partition, as far as they are known."""
        first = partition * _SLOTS_OF_PARTITION
        return {server for server in self._slots[first : first + _SLOTS_OF_PARTITION] if server is not None}

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver what is published in a topic; see `Broker.subscribe`."""
        channel = self._setting.keys.channel(topic)
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._timeout
        while True:
            server = self.server(channel)
            try:
                await server.subscriber.subscribe(topic)
            except BrokerError as error:
                if loop.time() > ends:
                    raise
                if isinstance(error, Elsewhere):
                    await self.look_again()
                elif server.connecting:
                    await server.connected()
                elif self.server(channel) is server:
                    raise
            else:
                if self.server(channel) is server:
                    return
                server.subscriber.release([channel.encode()])  # it has just moved to another server

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering what is published in a topic; see `Broker.unsubscribe`."""
        await self.server(self._setting.keys.channel(topic)).subscriber.unsubscribe(topic)

    # Where the topics are --------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """Let the nodes be asked soon where the topics are."""
        self._doubtful.set()

    async def look_again(self) -> None:
        """Ask the nodes where the topics are now."""
        if self._task is None or self._task.done():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._doubtful.set()
        await future

    async def _keep_asking(self) -> None:
        loop = asyncio.get_running_loop()
        waits = Waits(_LONGEST_WAIT)
        last = loop.time()
        while True:
            await self._doubtful.wait()
            self._doubtful.clear()
            if loop.time() - last > _QUIET:
                waits = Waits(_LONGEST_WAIT)
            waiting, self._waiting = self._waiting, []
            try:
                for server in await self._ask():
                    server.start(self._receiver)
                self._told = False
            except BrokerError as error:
                self._tell(error)
                self._doubtful.set()
            except Exception:  # this must go on
                logger.exception("cannot process what the nodes of the Redis Cluster say")
            finally:
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
            for server in self._servers.values():
                server.subscriber.mend()
            last = loop.time()
            await waits.pause()

    def _tell(self, error: BrokerError) -> None:
        if not self._told:
            logger.warning("%s; trying again", error)
            self._told = True

    async def _ask(self) -> list[Server]:
        """Ask the nodes where the topics are, and let each server have its topics.

        :returns: the new servers, which have not begun to connect.
        :raises BrokerUnavailable: if there is no answer.
        :raises BrokerError: if the nodes cannot be used.
        """
        links = [(server.available, server.address.host) for server in self._servers.values()]
        answers, failures = await self._gather(self._ask_link(link, host) for link, host in links if link is not None)
        if not answers:
            first = self._seeds[0]
            addresses = [*self._seeds, *(first.node(host, port, master=False) for host, port in self._places)]
            answers, failures = await self._gather(map(self._ask_address, addresses))
        if not answers:
            self._failure = "; ".join(map(explain, failures))
            if any(map(is_final, failures)):
                raise BrokerError(f"Redis Cluster at {self} cannot be used: {self._failure}")
            raise BrokerUnavailable(f"Redis Cluster at {self} is not available: {self._failure}")
        return self._learn(max(answers, key=lambda answer: answer.epoch))

    async def _gather(self, calls: Iterable[Coroutine[Any, Any, _Answer]]) -> tuple[list[_Answer], list[Exception]]:
        """Return the answers that arrive soon after the first one, and the failures."""
        answers: list[_Answer] = []
        failures: list[Exception] = []
        waiting = {*map(asyncio.ensure_future, calls)}
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_LATE if answers else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for task in done:
                    try:
                        answers.append(task.result())
                    except Exception as error:  # it does not matter why a node cannot answer
                        failures.append(error)
        finally:
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.wait(waiting)
        return answers, failures

    async def _ask_address(self, address: Address) -> _Answer:
        """Ask a node on a connection of its own."""
        link = await address.connect(lambda: Link(self._timeout), self._timeout)
        try:
            return await self._ask_link(link, address.host)
        finally:
            link.abort("not needed any more")
            await asyncio.wait([link.ended])

    async def _ask_link(self, link: Link, host: str) -> _Answer:
        """Ask a node.

        :param host: its address, for nodes that do not know their own one.
        """
        info, ranges = link.call("CLUSTER", "INFO"), link.call("CLUSTER", "SLOTS")
        epoch = int(parse_info(checked(await info))[b"cluster_current_epoch"])
        slots: list[tuple[str, int, int, int]] = []
        nodes: set[tuple[str, int]] = set()
        for first, last, master, *replicas in checked(await ranges):
            for node in (master, *replicas):
                if node[0] == b"?":
                    continue  # its name is not known yet
                address = node[0].decode() if node[0] else host, node[1]
                nodes.add(address)
                if node is master:
                    slots.append((*address, first, last))
        if not slots:
            raise BrokerUnavailable("the node knows no others yet")
        return _Answer(epoch, slots, nodes)

    def _learn(self, answer: _Answer) -> list[Server]:
        """Let each server have its topics.

        :returns: the new servers.
        """
        self._places = answer.nodes
        slots = [*self._slots]
        added: list[Server] = []
        for host, port, first, last in answer.slots:
            address = self._seeds[0].node(host, port, master=True)
            server = self._servers.get(str(address))
            if server is None:
                server = self._servers[str(address)] = Server(address, self._setting, self.doubt)
                added.append(server)
            slots[first : last + 1] = [server] * (last - first + 1)
        if slots == self._slots:
            return []
        self._slots = slots
        self._move()
        used = {*slots}
        for name, server in [*self._servers.items()]:
            if server not in used:
                del self._servers[name]
                if server in added:
                    added.remove(server)
                else:
                    self._close_soon(server)
        return added

    def _move(self) -> None:
        """Move all topics to the servers that have them now."""
        moved: dict[Server, dict[bytes, str]] = {}
        for server in self._servers.values():
            away: list[bytes] = []
            for channel, topic in server.subscriber.subscribed():
                owner = self._slots[slot_of(channel)]
                if owner is not None and owner is not server:
                    away.append(channel)
                    moved.setdefault(owner, {})[channel] = topic
            server.subscriber.release(away)
        for server, topics in moved.items():
            server.subscriber.adopt(topics)

    def _close_soon(self, server: Server) -> None:
        """Close a server that has no topics any more."""
        task = asyncio.get_running_loop().create_task(server.leave())
        self._leaving[server] = task
        task.add_done_callback(lambda _: self._leaving.pop(server))
