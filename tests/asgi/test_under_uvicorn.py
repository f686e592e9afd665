"""`from_scope` under uvicorn, in the event loop of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from asgi.application import application
from asgi.conversations import Conversations, Server
from helpers.uvicorn_servers import start_server
from streamws.asgi.uvicorn import Protocol


@asynccontextmanager
async def serving(app: Any, ws: Any) -> AsyncIterator[str]:
    """Run an application under uvicorn; give its URL."""
    config = uvicorn.Config(app, port=0, ws=ws, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
    server, port = await start_server(config)
    try:
        yield f"ws://127.0.0.1:{port}"
    finally:
        await server.shutdown()


class TestSansio(Conversations):
    """uvicorn's default."""

    @pytest.fixture
    async def server(self) -> AsyncIterator[Server]:
        async with serving(application, "websockets-sansio") as url:
            yield Server(url)


class TestOurs(Conversations):
    """uvicorn with the class of streamws."""

    @pytest.fixture
    async def server(self) -> AsyncIterator[Server]:
        async with serving(application, Protocol) as url:
            yield Server(url, abrupt=1006)
