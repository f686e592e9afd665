"""`from_scope` under uvicorn, in the event loop of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from asgi.application import application
from asgi.conversations import Conversations, Server
from streamws.asgi.uvicorn import Protocol


@asynccontextmanager
async def serving(app: Any, ws: Any) -> AsyncIterator[str]:
    """Run an application under uvicorn; give its URL."""
    config = uvicorn.Config(app, port=0, ws=ws, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    # The steps of `serve()`, without its signal handlers, and without the clock of its main loop, which takes 0.1 s.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
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
