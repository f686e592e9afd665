"""A server with a `CentrifugoEndpoint`, for the tests of its clients."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from streamws import Client, Key, WebSocketServer
from streamws.messages import Json
from streamws.server import RequestCallback
from streamws.topics import (
    CentrifugoDisconnect,
    CentrifugoEndpoint,
    Connected,
    History,
    JsonValue,
    MemoryBroker,
    Rpc,
    Topics,
)

NUMBER: Key[int] = Key("number of the token")


class News(msgspec.Struct):
    n: int


class Service:
    """The server: `news` has a history of five publications, and `secret` is forbidden."""

    def __init__(self, topics: Topics) -> None:
        self._news = topics.topic("news", Json(News), history=History(size=5))
        self._secret = topics.topic("secret")
        self._published = 2  # by the client itself
        self._sent: list[JsonValue] = []
        self._token = asyncio.Condition()
        number = Json(float)
        endpoint = CentrifugoEndpoint(
            topics,
            connect=self.connect,
            authorize=self.authorize,
            message=self.receive,
            rpc={
                "double": Rpc(self.double, number, number),
                "cut": Rpc(self.cut, Json(int), Json(int)),
                "sent": Rpc(self.sent),
                "refreshed": Rpc(self.refreshed, Json(int), Json(bool)),
                "end": Rpc(self.end),
            },
            ping_interval=0.2,
            pong_timeout=0.15,
        )
        self.socket: WebSocketServer = WebSocketServer("127.0.0.1", 0, handler=endpoint)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.socket.port}/"

    async def connect(self, client: Client, token: str, data: JsonValue) -> Connected:
        user, _, number = token.partition(" ")
        async with self._token:
            client[NUMBER] = int(number)
            self._token.notify_all()
        return Connected(user, data={"user": user, "data": data}, info={"role": "author"}, expires_at=time.time() + 1.5)

    async def authorize(self, client: Client, action: str, topic: str) -> bool:
        return topic == "news"

    async def receive(self, client: Client, data: JsonValue) -> None:
        self._sent.append(data)

    async def sent(self, client: Client, data: JsonValue) -> object:
        return self._sent

    async def double(self, client: Client, number: float) -> float:
        return 2 * number

    async def cut(self, client: Client, count: int) -> int:
        # The function is cancelled when the connection ends.
        self._publishing = asyncio.create_task(self.publish_after(client, count))
        raise CentrifugoDisconnect(3011)

    async def publish_after(self, client: Client, count: int) -> None:
        """Publish when a connection has ended, before the client opens the next one."""
        await client.wait_closed()
        for _ in range(count):
            self._published += 1
            await self._news.publish(News(self._published))

    async def refreshed(self, client: Client, known: int) -> bool:
        async with self._token:
            await self._token.wait_for(lambda: client[NUMBER] >= known)
        return True

    async def end(self, client: Client, data: JsonValue) -> object:
        raise CentrifugoDisconnect(4500, "the end")


@asynccontextmanager
async def service(request: RequestCallback | None = None) -> AsyncIterator[Service]:
    """Run the server, for less than a minute.

    :param request: the `@socket.request` callback.
    """
    async with asyncio.timeout(50), Topics(MemoryBroker()) as topics:
        made = Service(topics)
        if request is not None:
            made.socket.request(request)
        async with made.socket:
            yield made
