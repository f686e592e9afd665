"""The promises of a broker, for the one in hub.py: `pytest docs/examples/test_hub.py`."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from hub import Hub, HubBroker

from streamws import WebSocketServer
from streamws.topics import Broker
from streamws.topics.testing import RemoteBrokerContract, WatchedBrokerContract


class TestHubBroker(RemoteBrokerContract, WatchedBrokerContract):
    hub: WebSocketServer

    def make_broker(self) -> HubBroker:
        return HubBroker(f"ws://localhost:{self.hub.port}")

    def execute(self, test: Coroutine[Any, Any, None]) -> None:
        """Run a test, with a hub in the same event loop."""

        async def run() -> None:
            await self.start(0)
            try:
                await test
            finally:
                await self.hub.close()

        asyncio.run(run())

    async def start(self, port: int) -> None:
        self.hub = WebSocketServer("localhost", port, handler=Hub().serve)
        await self.hub.start()

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None, None]:
        """The hub ends, and another one starts later, which knows nothing."""
        port = self.hub.port
        await self.hub.close()
        try:
            yield
        finally:
            await self.start(port)

    async def kill(self, broker: Broker) -> None:
        assert isinstance(broker, HubBroker)
        broker.abort()
        await broker.close()
