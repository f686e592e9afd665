"""A server with a `CentrifugoEndpoint`, and clients that send and receive text."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from helpers.fixtures import Serve, url_of
from helpers.waiting import within
from streamws import Client, ConnectionClosed, Key, WebSocketServer, connect
from streamws.messages import Json
from streamws.topics import (
    Broker,
    CentrifugoDisconnect,
    CentrifugoEndpoint,
    Connected,
    History,
    JsonValue,
    MemoryBroker,
    Topic,
    TopicLimits,
    Topics,
    memory,
)
from streamws.topics.centrifugo import session


class Price(msgspec.Struct):
    pair: str
    value: float


PRICE = Json(Price)
USER: Key[str] = Key("user")


@pytest.fixture
def known_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the connections and the epochs, and send no early pings, so that what is sent is known."""
    clients, epochs = itertools.count(1), itertools.count(1)
    monkeypatch.setattr(session, "random", lambda: 1.0)
    monkeypatch.setattr(session, "uuid4", lambda: f"c{next(clients)}")
    monkeypatch.setattr(memory, "token_hex", lambda _: f"e{next(epochs)}")


async def allow(client: Client, action: str, topic: str) -> bool:
    return True


async def by_token(client: Client, token: str, data: JsonValue) -> Connected:
    """Let in everybody who has a name as the token."""
    if not token:
        raise CentrifugoDisconnect(3500)
    client[USER] = token
    return Connected(token, data={"hello": token}, info={"data": data})


class Peer:
    """A client that sends and receives text."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def say(self, *lines: str) -> None:
        """Send commands in one message."""
        await self.client.send("\n".join(lines))

    async def hear(self, *expected: str) -> None:
        """Receive messages, which must be these."""
        assert [await within(self.client.read_message()) for _ in expected] == list(expected)

    async def ask(self, command: str, *expected: str) -> None:
        await self.say(command)
        await self.hear(*expected)

    async def greet(self, token: str = "") -> None:
        """Connect."""
        await self.say(f'{{"id":1,"connect":{{"token":"{token}"}}}}')
        reply = json.loads(await within(self.client.read_message()))
        assert reply["connect"]["ping"] == 25

    async def end(self) -> tuple[int, str]:
        """Receive the end of the connection, and nothing else."""
        with pytest.raises(ConnectionClosed) as caught:
            await within(self.client.read_message())
        received = caught.value.outcome.received
        assert received is not None
        return received.code, received.reason


class OpenEndpoint:
    """A server with an endpoint, and its clients."""

    def __init__(self, topics: Topics, endpoint: CentrifugoEndpoint[Any], server: WebSocketServer) -> None:
        self.topics = topics
        self.endpoint = endpoint
        self.server = server
        self._peers: list[Client] = []

    async def visit(self, token: str | None = None) -> Peer:
        """Open a connection; with a token, connect too."""
        client = await connect(url_of(self.server))
        self._peers.append(client)
        peer = Peer(client)
        if token is not None:
            await peer.greet(token)
        return peer

    async def close(self) -> None:
        for client in self._peers:
            await client.close()

    def served(self) -> list[Client]:
        return list(self.server.clients.values())


Open = Callable[..., Awaitable[OpenEndpoint]]


@pytest.fixture
async def open_endpoint(serve: Serve, known_ids: None) -> AsyncIterator[Open]:
    """Start a server with an endpoint, whose arguments are given."""
    async with asyncio.timeout(20):
        opened: list[tuple[OpenEndpoint, Topics]] = []

        async def start(
            limits: TopicLimits | None = None, server: Any = None, broker: Broker | None = None, **options: Any
        ) -> OpenEndpoint:
            topics = Topics(broker or MemoryBroker(), limits=limits)
            await topics.__aenter__()
            endpoint: CentrifugoEndpoint[Any] = CentrifugoEndpoint(topics, **options)
            made = OpenEndpoint(topics, endpoint, await serve(endpoint, **(server or {})))
            opened.append((made, topics))
            return made

        yield start
        for made, topics in opened:
            await made.close()
            await made.server.close()
            await topics.__aexit__(None, None, None)


async def same(client: Client, data: JsonValue) -> object:
    """Return the data: a function for `Rpc`."""
    return data


POSITION = '"recoverable":true,"epoch":"e1"'


async def news(made: OpenEndpoint, *numbers: int, history: History | None = None) -> Topic[int]:
    """Publish numbers in a topic with a history."""
    topic = made.topics.topic("news", Json(int), history=history or History(size=3))
    for number in numbers:
        await topic.publish(number)
    return topic


def publications(*numbers: int) -> str:
    return ",".join(f'{{"data":{number * 10},"offset":{number}}}' for number in numbers)
