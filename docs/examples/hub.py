"""A broker of your own: processes share their topics through a hub, without Redis.

Start the hub with `python hub.py localhost 9000`. Then use `Topics(HubBroker("ws://localhost:9000"))` in each process.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from streamws import Backoff, BrokerError, BrokerUnavailable, Client, ConnectionClosed, WebSocketServer, connect
from streamws.topics import (
    BrokerConnection,
    BrokerStats,
    Connection,
    History,
    MemoryBroker,
    Outgoing,
    Page,
    Position,
    PresenceEvent,
    Published,
    Receiver,
    Record,
)

# Requests are `[id, method, arguments]`, replies `[id, error, result]`, and deliveries `[0, method, arguments]`, in
# MessagePack: text stays text, and bytes stay bytes. Tuples become lists; these functions undo that.
encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


def to_position(value: Any) -> Position | None:
    return None if value is None else Position(*value)


def to_history(value: Any) -> History | None:
    return None if value is None else History(**value)


def to_outgoing(value: Any) -> Outgoing:
    topic, payload, key, idempotency, history = value
    return Outgoing(topic, payload, key, idempotency, to_history(history))


def to_record(value: Any) -> Record:
    payload, position, key, time = value
    return Record(payload, Position(*position), key, time)


def to_result(value: Any) -> Published | BrokerError:
    if isinstance(value, str):
        return BrokerError(value)
    position, duplicate = value
    return Published(to_position(position), duplicate)


# The hub --------------------------------------------------------------------------------------------------------


class Hub:
    """Keeps the topics of all processes in memory."""

    def __init__(self) -> None:
        self._shared = MemoryBroker()

    async def serve(self, client: Client) -> None:
        """Serve one process, until its connection ends. Then its members leave."""
        broker = MemoryBroker(self._shared)
        await broker.open(Process(client))
        try:
            async for message in client.binary():
                number, method, arguments = decode(message)
                error, result = None, None
                try:
                    result = await call(broker, method, arguments)
                except BrokerError as failure:
                    error = str(failure)
                await client.send(encode((number, error, result)))
        finally:
            await broker.close()


class Process:
    """A process that is connected to the hub. To its `MemoryBroker`, it is the receiver."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def received(self, topic: str, record: Record) -> None:
        self._deliver("received", (topic, record))

    def lost(self, topics: Sequence[str] | None = None) -> None:
        pass  # a `MemoryBroker` loses nothing; if the connection is lost, the process notices

    def presence_changed(self, topic: str, event: PresenceEvent) -> None:
        self._deliver("presence_changed", (topic, event))

    def _deliver(self, method: str, arguments: tuple[str, Record | PresenceEvent]) -> None:
        _ = self._client.send(encode((0, method, arguments)))  # it is sent at the call; nobody need wait for it


async def call(broker: MemoryBroker, method: str, arguments: Any) -> object:
    """Carry out a request of a process."""
    if method == "publish":
        results = await broker.publish([to_outgoing(value) for value in arguments])
        return [str(result) if isinstance(result, BrokerError) else result for result in results]
    if method == "read_history":
        topic, history, since, limit, reverse = arguments
        return await broker.read_history(topic, to_history(history), to_position(since), limit, reverse)
    if method in ("subscribe", "unsubscribe", "enter", "exit", "connections"):
        return await getattr(broker, method)(*arguments)
    raise BrokerError(f"unknown method {method!r}")


# The broker -----------------------------------------------------------------------------------------------------


class HubBroker:
    """The broker of one process. It has one connection to the hub, and makes a new one when that is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._receiver: Receiver
        self._task: asyncio.Task[None] | None = None  # keeps the connection
        self._client: Client | None = None  # the connection, once everything is restored
        self._calls: dict[int, asyncio.Future[tuple[str | None, Any]]] = {}  # they wait for an error or a result
        self._number = 0  # of the last call
        self._connected = 0  # how often there was a connection
        self._failure = ""  # why there is none
        # What has to be restored on a new connection.
        self._topics: set[str] = set()
        self._present: dict[tuple[str, str], tuple[str, str]] = {}

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver
        first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_connected(first))
        # If the hub is not there, it may come later.
        await asyncio.wait([first, self._task], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()  # raises why it can never connect: the URL is not valid, for example

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._topics.clear()
        self._present.clear()

    def abort(self) -> None:
        """Cut the connection, as the death of this process would; for tests."""
        if self._client is not None:
            self._client.abort()

    @property
    def stats(self) -> BrokerStats:
        connected = self._client is not None
        reconnects = max(self._connected - 1, 0)
        hub = BrokerConnection(connected, reconnects, waiting=len(self._calls), failure=self._failure)
        return BrokerStats(len(self._topics), {"hub": hub})

    # The connection ---------------------------------------------------------------------------------------------

    async def _keep_connected(self, first: "asyncio.Future[None]") -> None:
        async for client in connect(self._url, compression=None, backoff=Backoff(first=0.05, most=2)):
            restoring = asyncio.create_task(self._restore(client, first))
            try:
                with suppress(ConnectionClosed):
                    async for message in client.binary():
                        self._process(message)
            finally:
                self._client = None
                self._failure = str(client.outcome or "closed")
                restoring.cancel()
                for future in self._calls.values():
                    if not future.done():
                        future.set_result((f"the hub may have done it: {self._failure}", None))
                await asyncio.wait([restoring])

    async def _restore(self, client: Client, first: "asyncio.Future[None]") -> None:
        """Make the hub know what it knew before, and tell of the loss."""
        with suppress(BrokerError):  # then this connection has ended, too
            for topic in [*self._topics]:
                await self._ask(client, "subscribe", topic)
            for (topic, connection), (user, data) in [*self._present.items()]:
                await self._ask(client, "enter", topic, connection, user, data)
            self._client = client
            self._connected += 1
            if self._connected > 1:
                self._receiver.lost()
            if not first.done():
                first.set_result(None)

    def _process(self, message: bytes) -> None:
        number, what, value = decode(message)
        if number:
            future = self._calls.get(number)
            if future is not None and not future.done():  # it may have been cancelled
                future.set_result((what, value))
        elif what == "received":
            topic, record = value
            self._receiver.received(topic, to_record(record))
        else:
            topic, event = value
            self._receiver.presence_changed(topic, PresenceEvent(*event))

    async def _call(self, method: str, *arguments: object) -> Any:
        if self._client is None:
            raise BrokerUnavailable(f"there is no connection to the hub: {self._failure}")
        return await self._ask(self._client, method, *arguments)

    async def _ask(self, client: Client, method: str, *arguments: object) -> Any:
        """Send a request and wait for its reply. If that is cancelled, the reply is ignored."""
        self._number += 1
        number = self._number
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            await client.send(encode((number, method, arguments)))
            error, result = await future
        except ConnectionClosed as closed:
            raise BrokerError(f"the hub may have done it: {closed}") from closed
        finally:
            del self._calls[number]
        if error is not None:
            raise BrokerError(error)
        return result

    # The methods of a broker ------------------------------------------------------------------------------------

    async def publish(self, batch: Sequence[Outgoing]) -> Sequence[Published | BrokerError]:
        return [to_result(result) for result in await self._call("publish", *batch)]

    async def subscribe(self, topic: str) -> None:
        await self._call("subscribe", topic)
        self._topics.add(topic)

    async def unsubscribe(self, topic: str) -> None:
        self._topics.discard(topic)
        await self._call("unsubscribe", topic)

    async def read_history(
        self, topic: str, history: History | None, since: Position | None, limit: int | None, reverse: bool
    ) -> Page:
        records, position, complete = await self._call("read_history", topic, history, since, limit, reverse)
        return Page([to_record(record) for record in records], Position(*position), complete)

    async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
        await self._call("enter", topic, connection, user, data)
        self._present[topic, connection] = user, data

    async def exit(self, topic: str, connection: str) -> None:
        self._present.pop((topic, connection), None)
        await self._call("exit", topic, connection)

    async def connections(self, topic: str) -> Mapping[str, Connection]:
        found = await self._call("connections", topic)
        return {connection: Connection(*value) for connection, value in found.items()}


if __name__ == "__main__":
    WebSocketServer(sys.argv[1], int(sys.argv[2]), handler=Hub().serve).run()
