"""A streamws server in the event loop of the test, for the clients of other libraries."""

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
"""Messages that every peer sends, and receives as echoes."""


class Served:
    """The address of the server, and the outcomes of its connections in the order in which they ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"ws://127.0.0.1:{port}"
        self.outcomes: asyncio.Queue[CloseOutcome] = asyncio.Queue()


@asynccontextmanager
async def serving(handler: Handler = echo, **options: Any) -> AsyncIterator[Served]:
    """Serve until the end of the block, which must end within 60 seconds."""

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
