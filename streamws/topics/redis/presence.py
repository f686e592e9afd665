"""Presence at Redis: each process is a node with a heartbeat. When it stops, others make its connections leave."""

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from itertools import islice
from secrets import token_hex
from time import perf_counter

from ...errors import BrokerError, BrokerUnavailable, describe
from ..values import Connection
from .link import checked
from .scripts import Keys, Scripts, parse_members
from .server import Server
from .servers import Call, Servers

logger: logging.Logger = logging.getLogger("streamws.topics")

_BATCH = 200
"""The most connections that are changed with one write."""

Entry = tuple[str, str]
"""A topic and a connection."""


class RedisPresence:
    """The connections of one process that are present in topics, and the heartbeat of the process.

    :param timeout: the seconds after which a process without a heartbeat is gone.
    """

    def __init__(self, servers: Servers, keys: Keys, scripts: Scripts, timeout: float) -> None:
        self._servers = servers
        self._keys = keys
        self._interval = timeout / 3
        self._node = token_hex(8)
        self._partitions = [
            _Partition(servers, number, nodes, self._node, keys, scripts, int(timeout * 1000))
            for number, nodes in enumerate(servers.nodes)
        ]
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin with the heartbeat."""
        self._task = asyncio.get_running_loop().create_task(self._beat_on())

    async def close(self) -> None:
        """Make all connections leave, and end the heartbeat."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        left: list[tuple[int, BrokerError]] = []
        for result in await asyncio.gather(*(partition.close() for partition in self._partitions)):
            if result is not None:
                left.append(result)
        number = sum(count for count, _ in left)
        if number:
            logger.warning("cannot end the presence of %d connections: %s", number, describe(left[0][1]))

    def _partition(self, topic: str) -> "_Partition":
        return self._partitions[self._servers.partition(self._keys.channel(topic))]

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        """Make a connection present in a topic; see `Broker.enter`."""
        await self._partition(topic).enter((topic, connection), Connection(user, data))

    async def exit(self, topic: str, connection: str) -> None:
        """Make a connection leave a topic; see `Broker.exit`."""
        await self._partition(topic).exit((topic, connection))

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        """Return who is present in a topic; see `Broker.connections`."""
        return await self._partition(topic).connections(topic)

    async def prepare(self, server: Server) -> None:
        """Let a server know the connections of this process, before others use a new connection to it.

        :raises BrokerError: if that fails.
        """
        partitions = [partition for partition in self._partitions if server in self._servers.servers(partition.number)]
        for result in await asyncio.gather(
            *(partition.prepare(server) for partition in partitions), return_exceptions=True
        ):
            if result is not None:
                raise result

    async def look_after(self) -> None:
        """Give a sign of life, and make the connections of processes leave that have died.

        :raises BrokerError: if that fails.
        """
        for result in await asyncio.gather(
            *(partition.look_after() for partition in self._partitions), return_exceptions=True
        ):
            if result is not None:
                raise result

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.8, 1))
            try:
                await self.look_after()
            except BrokerError as error:
                logger.debug("no heartbeat: %s", describe(error))
            except Exception:
                logger.exception("the heartbeat has failed")


class _Partition:
    """The presence of this process in a partition of the topics.

    Redis has a set with the entries of each node, which others use when the node has died. It is changed before a
    connection enters and after it has left, so that it never lacks one. In a cluster, a few topics of a partition may
    be at another server than this set.

    :param nodes: the key of the nodes.
    :param node: the id of this process.
    """

    def __init__(
        self, servers: Servers, number: int, nodes: str, node: str, keys: Keys, scripts: Scripts, milliseconds: int
    ) -> None:
        self._servers = servers
        self.number: int = number
        self._nodes = nodes
        self._node = node
        self._keys = keys
        self._scripts = scripts
        self._milliseconds = milliseconds
        self._present: dict[Entry, Connection] = {}
        self._leaving = 0  # the number of calls of `exit` under way
        self._expires = 0.0  # when others may take this process for dead
        self._runs: set[str] = set()  # of the servers, when they were last told of all connections

    async def close(self) -> tuple[int, BrokerError] | None:
        """Make all connections leave; return their number and the error if that fails."""
        entries = [*self._present]
        self._present.clear()
        try:
            for error in await self._exit_all(self._node, entries):
                raise error
            await self._servers.run("ZREM", [self._nodes], self._node)
            await self._servers.run("DEL", [self._entries(self._node)])
        except BrokerError as error:
            return len(entries), error
        return None

    def _entries(self, node: str) -> str:
        """Return the key of the set of a node's connections."""
        return f"{self._nodes}:{node}"

    # Changes of one connection ---------------------------------------------------------------------------------

    async def enter(self, entry: Entry, value: Connection) -> None:
        add = Call("SADD", [self._entries(self._node)], [json.dumps(entry)])
        enter = self._entering(entry, value)
        self._present[entry] = value
        try:
            # A single server carries out both in this order.
            together = len(self._servers.nodes) == 1
            for calls in [[add, enter]] if together else [[add], [enter]]:
                replies = await self._servers.run_all(calls)
                try:
                    for reply in replies:
                        checked(reply)
                except BrokerUnavailable as error:
                    if isinstance(replies[-1], int):
                        raise BrokerError(str(error)) from error  # it has entered
                    raise
        except BaseException:
            if self._present.get(entry) is value:
                del self._present[entry]
            raise

    async def exit(self, entry: Entry) -> None:
        self._present.pop(entry, None)
        self._leaving += 1
        try:
            for error in await self._exit_all(self._node, [entry]):
                raise error
        finally:
            self._leaving -= 1

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        members, _ = self._hashes(topic)
        return parse_members(await self._servers.run("HGETALL", [members]))

    def _hashes(self, topic: str) -> tuple[str, str]:
        base = self._keys.topic(topic)
        return f"{base}:members", f"{base}:users"

    def _entering(self, entry: Entry, value: Connection) -> Call:
        topic, connection = entry
        arguments = self._keys.channel(topic), connection, self._node, value.user, value.data
        return Call(self._scripts.enter, self._hashes(topic), arguments)

    # Changes of many -------------------------------------------------------------------------------------------

    async def _exit_all(self, node: str, entries: Sequence[Entry], early: bool = False) -> list[BrokerUnavailable]:
        """Make connections of a node leave.

        :param early: whether a connection may be used that is being prepared.
        :returns: an error for each whose server is not available.
        :raises BrokerError: if one fails otherwise.
        """
        failures: list[BrokerUnavailable] = []
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            if node == self._node:
                batch = [entry for entry in batch if entry not in self._present]  # it may have entered again
            replies = await self._servers.run_all(
                [
                    Call(self._scripts.exit, self._hashes(topic), (self._keys.channel(topic), connection, node))
                    for topic, connection in batch
                ],
                early,
            )
            gone: list[str] = []
            for entry, reply in zip(batch, replies, strict=True):
                try:
                    checked(reply)
                    gone.append(json.dumps(entry))
                except BrokerUnavailable as error:
                    failures.append(error)
            if gone:
                await self._servers.run("SREM", [self._entries(node)], *gone, early=early)
        return failures

    async def _restore(self) -> bool:
        """Make Redis know the same connections as this process; return False if servers were not available."""
        known = self._entries(self._node)
        found = await self._known(self._node)
        restored = not await self._exit_all(self._node, [*found - self._present.keys()], early=True)
        entries = iter([*self._present])
        while batch := [*islice(entries, _BATCH)]:
            batch = [entry for entry in batch if entry in self._present]
            if batch:
                try:
                    await self._servers.run("SADD", [known], *map(json.dumps, batch), early=True)
                except BrokerUnavailable:
                    restored = False
                    continue
                calls = [self._entering(entry, self._present[entry]) for entry in batch if entry in self._present]
                for reply in await self._servers.run_all(calls, early=True):
                    try:
                        checked(reply)
                    except BrokerUnavailable:
                        restored = False
        return restored

    async def _known(self, node: str) -> set[Entry]:
        """Return the connections of a node that Redis knows."""
        members = await self._servers.run("SMEMBERS", [self._entries(node)], early=True)
        return {(topic, connection) for topic, connection in map(json.loads, members)}

    # The heartbeat ---------------------------------------------------------------------------------------------

    async def _beat(self) -> list[str]:
        """Give a sign of life, and restore the connections if Redis has lost some.

        :returns: nodes that have died.
        """
        fewest = len(self._present)
        most = fewest + self._leaving
        keys = (self._nodes, self._entries(self._node))
        server = self._servers.server(self._nodes)
        began = perf_counter()  # the clock of uvloop has milliseconds only
        reply = await self._servers.run(self._scripts.beat, keys, self._node, self._milliseconds, early=True)
        server.round_trip = perf_counter() - began
        state, known, dead = reply
        try:
            runs = {server.link(early=True).run for server in self._servers.servers(self.number)}
        except BrokerUnavailable:
            runs = set()  # another server of the partition is not available. When it is, this is done once more
        if state == 0 and self._runs == runs and began < self._expires:
            # Others have not made it leave. So the histories, and the connections of others, are lost too.
            for server in self._servers.servers(self.number):
                server.subscriber.renew("Redis has lost its data")
        self._expires = began + self._milliseconds / 1000
        if (state != 2 or not fewest <= known <= most or self._runs != runs) and await self._restore():
            self._runs = runs
        return [node.decode() for node in dead]

    async def prepare(self, server: Server) -> None:
        """Give a sign of life, and restore the connections if the server has lost some.

        :param server: has a new connection, and topics of this partition.
        """
        try:
            await self._beat()
        except BrokerError:
            if self._servers.server(self._nodes) is server:
                raise  # otherwise this is done once more when that other server is available

    async def look_after(self) -> None:
        """Give a sign of life, and make the connections of processes leave that have died."""
        for node in await self._beat():
            await self._bury(node)

    async def _bury(self, node: str) -> None:
        """Make the connections of a node leave that has died."""
        keys = (self._nodes, self._entries(node))
        found = [*await self._known(node)]
        for start in range(0, len(found), _BATCH):
            if not await self._servers.run(self._scripts.bury, keys, node, 0):
                return  # it lives again
            if await self._exit_all(node, found[start : start + _BATCH]):
                return  # the rest follows when their servers are available
        await self._servers.run(self._scripts.bury, keys, node, 1)
