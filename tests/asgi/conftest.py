"""The tests of ASGI run on both event loops, and with both HTTP parsers of uvicorn."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
import uvloop

if TYPE_CHECKING:
    from asgi.applications import Serve

pytest.register_assert_rewrite("asgi.applications")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["h11", "httptools"])
async def serve(request: pytest.FixtureRequest) -> "AsyncIterator[Serve]":
    """Starts uvicorn with an application; it stops when the test ends."""
    # Not at the top: it imports streamws, and `pytest_configure` must choose the build before.
    async with importlib.import_module("asgi.applications").serving(request.param) as start:
        yield start
