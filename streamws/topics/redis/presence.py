"""Presence at Redis: each process is a node with a heartbeat. When it stops, others make its connections leave."""

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from itertools import islice
from secrets import token_hex
from time import perf_counter
from typing import Any

from ...errors import BrokerError, describe
from ..values import Connection
from .commands import Commands, run, run_all
from .link import Link, checked
from .scripts import BEAT, BURY, ENTER, EXIT, Keys, parse_members

logger: logging.Logger = logging.getLogger("streamws.topics")

_BATCH = 200
"""The most connections that are changed with one write."""

Entry = tuple[str, str]
"""A topic and a connection."""


class RedisPresence:
    """The connections of one process that are present in topics, and the heartbeat of the process.

    Redis has a set with the entries of each node, which others use when the node has died. It is changed before a
    connection enters and after it has left, so that it never lacks one.

    :param timeout: the seconds after which a process without a heartbeat is gone.
    """

    def __init__(self, commands: Commands, keys: Keys, timeout: float) -> None:
        self._commands = commands
        self._keys = keys
        self._milliseconds = int(timeout * 1000)
        self._interval = timeout / 3
        self._node = token_hex(8)
        self._present: dict[Entry, Connection] = {}
        self._leaving = 0  # the number of calls of `exit` under way
        self._run = ""  # of the server, when the heartbeat was last successful
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin with the heartbeat."""
        self._task = asyncio.get_running_loop().create_task(self._beat_on())

    async def close(self) -> None:
        """Make all connections leave, and end the heartbeat."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        entries = [*self._present]
        self._present.clear()
        try:
            link = self._commands.link
            await self._exit_all(link, self._node, entries)
            for call in (
                link.call("ZREM", self._keys.nodes, self._node),
                link.call("DEL", self._keys.entries(self._node)),
            ):
                checked(await call)
        except BrokerError as error:
            if entries:
                logger.warning("cannot end the presence of %d connections: %s", len(entries), describe(error))

    # Changes of one connection ---------------------------------------------------------------------------------

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        """Make a connection present in a topic; see `Broker.enter`."""
        link = self._commands.link
        entry = topic, connection
        value = Connection(user, data)
        added = link.call("SADD", self._keys.entries(self._node), json.dumps(entry))
        self._present[entry] = value
        try:
            await run(link, ENTER, self._hashes(topic), *self._entering(entry, value))
            checked(await added)
        except BaseException:
            if self._present.get(entry) is value:
                del self._present[entry]
            raise

    async def exit(self, topic: str, connection: str) -> None:
        """Make a connection leave a topic; see `Broker.exit`."""
        link = self._commands.link
        self._present.pop((topic, connection), None)
        self._leaving += 1
        try:
            await self._exit_all(link, self._node, [(topic, connection)])
        finally:
            self._leaving -= 1

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        """Return who is present in a topic; see `Broker.connections`."""
        members, _ = self._hashes(topic)
        return parse_members(checked(await self._commands.link.call("HGETALL", members)))

    def _hashes(self, topic: str) -> tuple[str, str]:
        channel = self._keys.channel(topic)
        return f"{channel}:members", f"{channel}:users"

    def _entering(self, entry: Entry, value: Connection) -> tuple[str | int, ...]:
        topic, connection = entry
        return self._keys.channel(topic), connection, self._node, value.user, value.data

    # Changes of many -------------------------------------------------------------------------------------------

    async def _exit_all(self, link: Link, node: str, entries: Sequence[Entry]) -> None:
        """Make connections of a node leave."""
        known = self._keys.entries(node)
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            calls = [
                (self._hashes(topic), (self._keys.channel(topic), connection, node)) for topic, connection in batch
            ]
            await run_all(link, EXIT, calls)
            checked(await link.call("SREM", known, *map(json.dumps, batch)))

    async def _restore(self, link: Link) -> None:
        """Make Redis know the same connections as this process."""
        known = self._keys.entries(self._node)
        found = {_entry(entry) for entry in checked(await link.call("SMEMBERS", known))}
        await self._exit_all(link, self._node, [*found - self._present.keys()])
        entries = iter([*self._present])
        while batch := [*islice(entries, _BATCH)]:
            batch = [entry for entry in batch if entry in self._present]
            if batch:
                added = link.call("SADD", known, *map(json.dumps, batch))
                calls = [(self._hashes(entry[0]), self._entering(entry, self._present[entry])) for entry in batch]
                await run_all(link, ENTER, calls)
                checked(await added)

    # The heartbeat ---------------------------------------------------------------------------------------------

    async def beat(self, link: Link) -> list[str]:
        """Give a sign of life, and restore its connections if Redis has lost some.

        :returns: nodes that have died.
        """
        fewest = len(self._present)
        most = fewest + self._leaving
        began = perf_counter()  # the clock of uvloop has milliseconds only
        reply = await run(
            link, BEAT, (self._keys.nodes, self._keys.entries(self._node)), self._node, self._milliseconds
        )
        link.round_trip = perf_counter() - began
        alive, known, dead = reply
        if not (alive and fewest <= known <= most and self._run == link.run):
            await self._restore(link)
            self._run = link.run
        return [node.decode() for node in dead]

    async def look_after(self) -> None:
        """Give a sign of life, and make the connections of processes leave that have died.

        :raises BrokerError: if that fails.
        """
        link = self._commands.link
        for node in await self.beat(link):
            await self._bury(link, node)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.8, 1))
            try:
                await self.look_after()
            except BrokerError as error:
                logger.debug("no heartbeat: %s", describe(error))
            except Exception:
                logger.exception("the heartbeat has failed")

    async def _bury(self, link: Link, node: str) -> None:
        """Make the connections of a node leave that has died."""
        keys = (self._keys.nodes, self._keys.entries(node))
        found = [_entry(entry) for entry in checked(await link.call("SMEMBERS", keys[1]))]
        for start in range(0, len(found), _BATCH):
            if not await run(link, BURY, keys, node, 0):
                return  # it lives again
            await self._exit_all(link, node, found[start : start + _BATCH])
        await run(link, BURY, keys, node, 1)


def _entry(member: Any) -> Entry:
    topic, connection = json.loads(member)
    return topic, connection
