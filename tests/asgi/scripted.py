"""The other end of an ASGI application: `receive` and `send` functions that a test controls."""

import asyncio
from collections.abc import Callable
from typing import Any

from helpers.waiting import until
from streamws.asgi import AsgiClient, from_scope

SCOPE: dict[str, Any] = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "scheme": "ws",
    "server": ("127.0.0.1", 8000),
    "client": ("192.0.2.7", 50123),
    "path": "/rooms/räd",
    "raw_path": b"/rooms/r%C3%A4d",
    "query_string": b"token=a%20b&tag=1&tag=2",
    "headers": [
        (b"host", b"example.org"),
        (b"cookie", b"a=1; b=2"),
        (b"sec-websocket-protocol", b"chat.v2, chat.v1"),
    ],
    "subprotocols": ["chat.v2", "chat.v1"],
    "extensions": {"websocket.http.response": {}},
}

CONNECT = {"type": "websocket.connect"}
ACCEPTED: dict[str, Any] = {"type": "websocket.accept", "subprotocol": None, "headers": []}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data}


def disconnect(code: int = 1000, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Lost(OSError):
    """Raised by `send` after a disconnect, as the specification says."""


class AsgiServer:
    """The server of one connection.

    Like Granian and others, it loses an event if `receive` is cancelled.
    """

    def __init__(self, *events: dict[str, Any], connect: bool = True) -> None:
        """:param connect: whether the first event is `websocket.connect`."""
        self.sent: list[dict[str, Any]] = []
        """The events that the application has sent."""
        self.received = 0
        """The number of events that the application has received."""
        self.receiving = 0
        """The number of calls of `receive` that are under way."""
        self.on_send: Callable[[dict[str, Any]], Any] | None = None
        """Called for each event before it is sent. It may raise, or return an awaitable."""
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.give(*([CONNECT] if connect else []), *events)

    def give(self, *events: dict[str, Any]) -> None:
        for event in events:
            self._events.put_nowait(event)

    async def receive(self) -> dict[str, Any]:
        assert not self.receiving, "receive() was called twice at once"
        self.receiving += 1
        try:
            event = await self._events.get()
            self.received += 1
            await asyncio.sleep(0)  # an event is lost if this is cancelled
            return event
        finally:
            self.receiving -= 1

    async def send(self, event: dict[str, Any]) -> None:
        if self.on_send is not None:
            result = self.on_send(event)
            if result is not None:
                await result
        self.sent.append(event)

    def client(self, **changes: Any) -> AsgiClient:
        """Make the connection, with a scope that has other values."""
        return from_scope(SCOPE | changes, self.receive, self.send)

    @property
    def messages(self) -> list[str | bytes]:
        """The messages that the application has sent."""
        sent = [event for event in self.sent if event["type"] == "websocket.send"]
        return [event["text"] if "text" in event else event["bytes"] for event in sent]

    @property
    def closes(self) -> list[tuple[int, str]]:
        """The codes and reasons of the closes that the application has sent."""
        return [(event["code"], event["reason"]) for event in self.sent if event["type"] == "websocket.close"]


async def ended(client: AsgiClient) -> None:
    """Wait until the end of a connection is known."""
    await until(lambda: client.outcome is not None)
