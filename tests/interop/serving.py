"""A streamws server on the loop of the test, for clients of other libraries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from helpers.fixtures import echo
from streamws import Client, CloseOutcome, WebSocketServer
from streamws.server import Handler

MESSAGES: dict[str, str | bytes] = {
    "empty text": "",
    "text": "grüß dich, 🌍",
    "empty binary": b"",
    "binary": bytes(range(256)),
    "1 MiB of text": "ü🌍ab" * (1 << 17),
    "1 MiB of binary": bytes(range(256)) * (1 << 12),
}
"""Messages that every client sends and gets back."""


class Served:
    """A server: its port and URL, and the outcomes of its connections in the order of their ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"ws://127.0.0.1:{port}"
        self.outcomes: asyncio.Queue[CloseOutcome] = asyncio.Queue()


@asynccontextmanager
async def serving(handler: Handler = echo, **options: Any) -> AsyncIterator[Served]:
    """Serve while the block runs, which must end within 60 seconds."""

    async def observed(client: Client) -> None:
        @client.closed
        def closed(outcome: CloseOutcome) -> None:
            served.outcomes.put_nowait(outcome)

        await handler(client)

    async with (
        asyncio.timeout(60),
        WebSocketServer("127.0.0.1", 0, handler=observed, **options) as socket,
    ):
        served = Served(socket.sockets[0].getsockname()[1])
        yield served
