"""The servers that keep the topics, and the calls to them: one server, or the masters of a cluster."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ...errors import BrokerError, BrokerUnavailable
from ..broker import Receiver
from ..retrying import Waits
from ..stats import BrokerStats
from .address import Address
from .link import ELSEWHERE, Argument, Link, ReplyError, checked, is_error
from .scripts import Script
from .server import Server, Setting

_REPEATED = ("NOSCRIPT", *ELSEWHERE)
"""Errors of a server that has done nothing, after which a call is repeated."""


class Call(NamedTuple):
    """A call of a script, or a command. Its first key decides which server gets it."""

    script: Script | str
    keys: Sequence[str]
    arguments: Sequence[Argument] = ()


class Servers(ABC):
    """The servers that keep the topics.

    :param processes: the keys of the processes that have a heartbeat. The first one is for the first partition of the
        topics, and so on. The presence in each partition has a heartbeat of its own.
    """

    def __init__(self, timeout: float, processes: Sequence[str]) -> None:
        self._timeout = timeout
        self.processes: Sequence[str] = processes

    @abstractmethod
    async def open(self, receiver: Receiver) -> None:
        """Begin to connect. If a server cannot be reached, other attempts follow.

        :raises BrokerError: if a server refuses it.
        """

    @abstractmethod
    async def close(self) -> None:
        """End all connections."""

    @property
    @abstractmethod
    def stats(self) -> BrokerStats:
        """The counters of the connections. They may be read in any thread."""

    @abstractmethod
    def server(self, key: str) -> Server:
        """Return the server that has a key.

        :raises BrokerUnavailable: if it is not known.
        """

    @abstractmethod
    def partition(self, key: str) -> int:
        """Return the number of the partition of the topics to which a key belongs."""

    @abstractmethod
    def servers(self, partition: int) -> set[Server]:
        """Return the servers that have topics of a partition, as far as they are known."""

    @abstractmethod
    async def subscribe(self, topic: str) -> None:
        """Begin to deliver what is published in a topic; see `Broker.subscribe`."""

    @abstractmethod
    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering what is published in a topic; see `Broker.unsubscribe`."""

    @abstractmethod
    def doubt(self) -> None:
        """Note that a server may not have its topics any more, or is not available."""

    @abstractmethod
    async def look_again(self) -> None:
        """Ask where the topics are now."""

    async def run(self, script: Script | str, keys: Sequence[str], *arguments: Argument, early: bool = False) -> Any:
        """Run a script, or a command.

        :param early: whether a connection may be used that is being prepared.
        :raises BrokerUnavailable: if the server is not available, and has done nothing.
        :raises BrokerError: if it fails otherwise.
        """
        (reply,) = await self.run_all([Call(script, keys, arguments)], early)
        return checked(reply)

    async def run_all(self, calls: Sequence[Call | BrokerError], early: bool = False) -> list[Any]:
        """Make several calls. Those to one server leave in one write, and are carried out in their order.

        :param calls: an error instead of a call is returned.
        :returns: the replies. Errors are among them.
        """
        replies: list[Any] = [*calls]
        places: Sequence[int] = range(len(calls))
        loop = asyncio.get_running_loop()
        waits: Waits | None = None
        ends = loop.time() + self._timeout
        while True:
            sent: list[tuple[int, Link, asyncio.Future[Any]]] = []
            connecting: dict[int, Server] = {}
            for place in places:
                call = calls[place]
                if isinstance(call, BrokerError):
                    continue
                script, keys, arguments = call
                server = None
                try:
                    server = self.server(keys[0])
                    link = server.link(early)
                    if isinstance(script, str):
                        future = link.call(script, *keys, *arguments)
                    elif script.takes_run:
                        future = link.call("EVALSHA", script.sha, len(keys), *keys, link.run, *arguments)
                    else:
                        future = link.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
                    sent.append((place, link, future))
                except BrokerError as error:
                    replies[place] = error
                    if server is not None and server.connecting and not early:
                        connecting[place] = server
            for place, _, future in sent:
                replies[place] = await future
            if not connecting and ReplyError not in map(type, replies):
                return replies
            places = self._repeated(calls, replies, connecting)
            if any(is_error(reply, "CLUSTERDOWN") for reply in replies):
                self.doubt()
            if not places or loop.time() > ends:
                return replies
            for server in {*connecting.values()}:
                await server.connected()
            self._load(calls, replies, sent)
            if waits is not None:
                await waits.pause()
            waits = waits or Waits()
            if any(is_error(replies[place], "MOVED") for place in places):
                await self.look_again()

    def _repeated(
        self, calls: Sequence[Call | BrokerError], replies: Sequence[Any], connecting: Container[int]
    ) -> list[int]:
        """Return the places of the calls to repeat.

        :param connecting: the places of those whose server is new.

        If another one with the same key was carried out after a call, that one fails: the order would change.
        """
        places: list[int] = []
        later: set[str] = set()
        for place in range(len(calls) - 1, -1, -1):
            call = calls[place]
            if isinstance(call, BrokerError):
                continue
            if not (is_error(replies[place], _REPEATED) or place in connecting):
                later.add(call.keys[0])
            elif call.keys[0] not in later:
                places.append(place)
        return places[::-1]

    def _load(
        self,
        calls: Sequence[Call | BrokerError],
        replies: Sequence[Any],
        sent: "list[tuple[int, Link, asyncio.Future[Any]]]",
    ) -> None:
        """Load the scripts that servers have forgotten. What is sent later finds them."""
        loading: set[tuple[Link, Script | str]] = set()
        for place, link, _ in sent:
            call = calls[place]
            if not isinstance(call, BrokerError) and is_error(replies[place], "NOSCRIPT"):
                loading.add((link, call.script))
        for link, script in loading:
            if isinstance(script, Script):
                with suppress(BrokerUnavailable):  # the next connection will load it
                    link.call("SCRIPT", "LOAD", script.text)


class OneServer(Servers):
    """The server that keeps all topics."""

    def __init__(self, address: Address, setting: Setting) -> None:
        super().__init__(setting.timeout, [setting.keys.processes])
        self._server = Server(address, setting, self.doubt)

    async def open(self, receiver: Receiver) -> None:
        """Begin to connect; see `Servers.open`."""
        await self._server.open(receiver)

    async def close(self) -> None:
        """End both connections."""
        await self._server.close()

    @property
    def stats(self) -> BrokerStats:
        """The counters of the connections; see `Servers.stats`."""
        publications, subscriptions = self._server.stats
        connections = {"publications": publications, "subscriptions": subscriptions}
        return BrokerStats(self._server.subscriber.subscriptions, connections)

    def server(self, key: str) -> Server:
        """Return the server."""
        return self._server

    def partition(self, key: str) -> int:
        """Return the number of the only partition."""
        return 0

    def servers(self, partition: int) -> set[Server]:
        """Return the server."""
        return {self._server}

    async def subscribe(self, topic: str) -> None:
        """Begin to deliver what is published in a topic; see `Broker.subscribe`."""
        await self._server.subscriber.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Stop delivering what is published in a topic; see `Broker.unsubscribe`."""
        await self._server.subscriber.unsubscribe(topic)

    def doubt(self) -> None:
        """Do nothing: all topics are there."""

    async def look_again(self) -> None:
        """Do nothing: all topics are there."""
