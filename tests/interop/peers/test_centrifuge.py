"""The library `centrifuge` for JavaScript, unchanged, in Node.js and in Chromium, with `CentrifugoEndpoint`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from helpers.processes import run
from interop.peers.browser import chromium
from interop.peers.programs import FOLDER
from streamws import Client, Key, Request, Response, WebSocketServer
from streamws.messages import Json
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

LIBRARY = FOLDER / "node_modules/centrifuge/dist/centrifuge.js"
HTML = (
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    '<script src="/centrifuge.js"></script><script src="/scenario.js"></script>'
)
SCRIPTS = {"/centrifuge.js": LIBRARY, "/scenario.js": FOLDER / "centrifuge_scenario.js"}
NUMBER: Key[int] = Key("number of the token")


class News(msgspec.Struct):
    n: int


class Service:
    """A server with an endpoint for the scenario."""

    def __init__(self, topics: Topics) -> None:
        self._news = topics.topic("news", Json(News), history=History(size=5))
        self._secret = topics.topic("secret")
        self._published = 2  # by the scenario itself
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
        self.socket = WebSocketServer("127.0.0.1", 0, handler=endpoint)
        self.socket.request(self.answer)

    async def answer(self, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        if request.path in SCRIPTS:
            return Response(200, SCRIPTS[request.path].read_bytes(), content_type="text/javascript; charset=utf-8")
        return Response(200, HTML, content_type="text/html")

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
async def service() -> AsyncIterator[Service]:
    async with asyncio.timeout(50), Topics(MemoryBroker()) as topics:
        made = Service(topics)
        async with made.socket:
            yield made


ADA = {"user": "ada", "connInfo": {"role": "author"}}
CONNECTED = ["connected", {"user": "ada", "data": {"from": "scenario"}}]


def subscribed(offset: int, recovering: bool, recovered: bool) -> list[Any]:
    flags = {"positioned": True, "recoverable": True, "wasRecovering": recovering, "recovered": recovered}
    return ["subscribed", {**flags, "offset": offset}]


EXPECTED: list[Any] = [
    ["connecting", [0, "connect called"]],
    ["subscribing", [0, "subscribe called"]],
    CONNECTED,
    subscribed(0, False, False),
    ["join", ADA],
    ["publications", [[{"n": 1}, 1], [{"n": 2}, 2]]],
    ["wrong data", {"code": 107, "message": "bad request: Expected `int`, got `str` - at `$.n`"}],
    ["presence", [ADA]],
    ["presence stats", {"numUsers": 1, "numClients": 1}],
    ["history", [[[{"n": 1}, 1], [{"n": 2}, 2]], 2]],
    ["history since", [2]],
    ["newest", [2]],
    ["secret", [103, "permission denied"]],
    ["rpc", [{"data": 42}, {"data": 1}]],
    ["wrong call", {"code": 107, "message": "bad request: Expected `float`, got `str`"}],
    ["no such function", {"code": 104, "message": "method not found"}],
    ["sent", [{"text": "ü\n"}]],
    # The server cuts the connection, and two publications are recovered.
    ["subscribing", [1, "transport closed"]],
    ["connecting", [3011, "force reconnect"]],
    CONNECTED,
    subscribed(4, True, True),
    ["publications", [[{"n": 3}, 3], [{"n": 4}, 4]]],
    ["join", ADA],
    # The server cuts it again, and the history does not have all publications any more.
    ["subscribing", [1, "transport closed"]],
    ["connecting", [3011, "force reconnect"]],
    CONNECTED,
    subscribed(13, True, False),
    ["join", ADA],
    ["lost", []],
    ["refreshed", True],
    ["unsubscribed", [0, "unsubscribe called"]],
    ["left", {}],
    ["disconnected", [4500, "the end"]],
]


async def test_library_in_node() -> None:
    async with service() as made:
        finished = await run("node", FOLDER / "centrifuge.mjs", f"ws://127.0.0.1:{made.socket.port}/")
    assert finished.errors == ""
    assert json.loads(finished.output) == EXPECTED


async def test_library_in_chromium(tmp_path: Path) -> None:
    async with service() as made, chromium(f"http://127.0.0.1:{made.socket.port}/", tmp_path) as page:
        happened = await page.evaluate(f"scenario(Centrifuge, 'ws://127.0.0.1:{made.socket.port}/', {{}})")
        assert page.complaints == []
    assert happened == EXPECTED
