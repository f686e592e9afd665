"""Presence in Redis. Each process has a heartbeat. When it stops, other processes make its connections leave."""

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
from .scripts import Keys, Member, Scripts, parse_members
from .server import Server
from .servers import Call, Servers

logger: logging.Logger = logging.getLogger("streamws.topics")

_BATCH = 200
"""The most connections that are changed with one write."""

Entry = tuple[str, str]
"""A topic and a connection."""


class RedisPresence:
    """The connections of one process that are present in topics, and the heartbeat of the process.

    :param timeout: the seconds after which a process without a heartbeat is dead.
    """

    def __init__(self, servers: Servers, keys: Keys, scripts: Scripts, timeout: float) -> None:
        self._servers = servers
        self._keys = keys
        self._interval = timeout / 3
        self._process = token_hex(8)
        self._partitions = [
            _Partition(servers, number, processes, self._process, keys, scripts, int(timeout * 1000))
            for number, processes in enumerate(servers.processes)
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
        """Send a heartbeat, and make the connections of dead processes leave.

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

    Redis has a set with the entries of each process, for the others when it has died. An entry is added before its
    connection enters, and removed after the connection has left. So the set lacks none, if one server has everything.
    In a cluster, a few topics of a partition may be at another server than this set, and each server may lose its last
    changes.

    :param processes: the key of the processes; see `Servers`.
    :param process: the id of this process.
    :param milliseconds: the time after which a process without a heartbeat is dead.
    """

    def __init__(
        self,
        servers: Servers,
        number: int,
        processes: str,
        process: str,
        keys: Keys,
        scripts: Scripts,
        milliseconds: int,
    ) -> None:
        self._servers = servers
        self.number: int = number
        self._processes = processes
        self._process = process
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
            for error in await self._exit_all(self._process, entries):
                raise error
            await self._servers.run("ZREM", [self._processes], self._process)
            await self._servers.run("DEL", [self._entries(self._process)])
        except BrokerError as error:
            return len(entries), error
        return None

    def _entries(self, process: str) -> str:
        """Return the key of the set of a process's connections."""
        return f"{self._processes}:{process}"

    # Changes of one connection ---------------------------------------------------------------------------------

    async def enter(self, entry: Entry, value: Connection) -> None:
        add = Call("SADD", [self._entries(self._process)], [json.dumps(entry)])
        enter = self._entering(entry, value)
        self._present[entry] = value
        try:
            # A single server carries out both in this order.
            together = len(self._servers.processes) == 1
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
            for error in await self._exit_all(self._process, [entry]):
                raise error
        finally:
            self._leaving -= 1

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        members, _ = self._hashes(topic)
        found = parse_members(await self._servers.run("HGETALL", [members]))
        for process, entries in (await self._ghosts(topic, found)).items():
            for error in await self._exit_all(process, entries):
                raise error
            for entry in entries:
                if entry not in self._present:  # otherwise it has entered again
                    del found[entry[1]]
        return {connection: member.connection for connection, member in found.items()}

    async def _ghosts(self, topic: str, found: Mapping[str, Member]) -> dict[str, list[Entry]]:
        """Return the members that their process does not have, by process.

        In a cluster, one server may lose that a connection has left, and another one not that the entry was removed. A
        connection may also enter late: if the server hung, and its process has ended or has given up meanwhile.
        """
        others = [*{member.process for member in found.values()} - {self._process}]
        # A process has a heartbeat before its first connection enters. So this must be asked after the members.
        beats = await self._servers.run("ZMSCORE", [self._processes], *others) if others else []
        unknown = {process for process, beat in zip(others, beats, strict=True) if beat is None}
        ghosts: dict[str, list[Entry]] = {}
        for connection, member in found.items():
            entry = topic, connection
            is_own = member.process == self._process
            if member.process in unknown or (is_own and entry not in self._present):
                ghosts.setdefault(member.process, []).append(entry)
        return ghosts

    def _hashes(self, topic: str) -> tuple[str, str]:
        base = self._keys.topic(topic)
        return f"{base}:members", f"{base}:users"

    def _entering(self, entry: Entry, value: Connection) -> Call:
        topic, connection = entry
        arguments = self._keys.channel(topic), connection, self._process, value.user, value.data
        return Call(self._scripts.enter, self._hashes(topic), arguments)

    # Changes of many -------------------------------------------------------------------------------------------

    async def _exit_all(self, process: str, entries: Sequence[Entry], early: bool = False) -> list[BrokerUnavailable]:
        """Make connections of a process leave.

        :param early: whether a connection may be used that is being prepared.
        :returns: an error for each whose server is not available.
        :raises BrokerError: if one fails otherwise.
        """
        failures: list[BrokerUnavailable] = []
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            if process == self._process:
                batch = [entry for entry in batch if entry not in self._present]  # it may have entered again
            replies = await self._servers.run_all(
                [
                    Call(self._scripts.exit, self._hashes(topic), (self._keys.channel(topic), connection, process))
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
                await self._servers.run("SREM", [self._entries(process)], *gone, early=early)
        return failures

    async def _restore(self) -> bool:
        """Make Redis know the same connections as this process; return False if servers were not available."""
        known = self._entries(self._process)
        found = await self._known(self._process)
        restored = not await self._exit_all(self._process, [*found - self._present.keys()], early=True)
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

    async def _known(self, process: str) -> set[Entry]:
        """Return the connections of a process that Redis knows."""
        members = await self._servers.run("SMEMBERS", [self._entries(process)], early=True)
        return {(topic, connection) for topic, connection in map(json.loads, members)}

    # The heartbeat ---------------------------------------------------------------------------------------------

    async def _beat(self) -> list[str]:
        """Send a heartbeat, and restore the connections if Redis has lost some.

        :returns: processes that are dead.
        """
        fewest = len(self._present)
        most = fewest + self._leaving
        keys = (self._processes, self._entries(self._process))
        server = self._servers.server(self._processes)
        began = perf_counter()  # the clock of uvloop has milliseconds only
        reply = await self._servers.run(self._scripts.beat, keys, self._process, self._milliseconds, early=True)
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
        return [process.decode() for process in dead]

    async def prepare(self, server: Server) -> None:
        """Send a heartbeat, and restore the connections if the server has lost some.

        :param server: has a new connection, and topics of this partition.
        """
        try:
            await self._beat()
        except BrokerError:
            if self._servers.server(self._processes) is server:
                raise  # otherwise this is done once more when that other server is available

    async def look_after(self) -> None:
        """Send a heartbeat, and make the connections of dead processes leave."""
        for process in await self._beat():
            await self._bury(process)

    async def _bury(self, process: str) -> None:
        """Make the connections of a dead process leave."""
        keys = (self._processes, self._entries(process))
        found = [*await self._known(process)]
        for start in range(0, len(found), _BATCH):
            if not await self._servers.run(self._scripts.bury, keys, process, 0):
                return  # it lives again
            if await self._exit_all(process, found[start : start + _BATCH]):
                return  # the rest follows when their servers are available
        await self._servers.run(self._scripts.bury, keys, process, 1)
