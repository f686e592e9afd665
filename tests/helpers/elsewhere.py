"""Servers in another thread, for tests of blocking clients."""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from helpers.fixtures import echo, url_of
from helpers.peers import Script, scripted
from helpers.waiting import PATIENCE
from streamws import CloseOutcome, WebSocketServer
from streamws.server import Handler

_T = TypeVar("_T")


class Elsewhere:
    """A thread with an event loop, which runs servers while the block runs."""

    def __init__(self) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._thread = Thread(target=self._loop.run_forever, name="servers")
        self._stack = AsyncExitStack()
        self.outcomes: list[CloseOutcome | None] = []
        """How the connections of the servers have ended."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, awaitable: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the thread, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(PATIENCE)

    def make(self, function: type[_T]) -> _T:
        """Call a class in the thread, for example `asyncio.Event`."""

        async def call() -> _T:
            return function()

        return self.run(call())

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """Enter a context manager in the thread until the end of the block."""
        return self.run(self._stack.enter_async_context(manager))

    def serve(self, handler: Handler = echo, **options: Any) -> WebSocketServer:
        """Start a server on a free port."""

        async def handle(client: Any) -> None:
            try:
                result = handler(client)
                if isinstance(result, Awaitable):
                    await result
            finally:
                await client.close()
                self.outcomes.append(client.outcome)

        if not options.keys() & {"path", "sock"}:
            options |= {"address": "127.0.0.1", "port": 0}

        async def make() -> WebSocketServer:
            return WebSocketServer(handler=handle, **options)

        return self.enter(self.run(make()))

    def url(self, handler: Handler = echo, **options: Any) -> str:
        """Start a server, and return its URL."""
        return url_of(self.serve(handler, **options))

    def script(self, script: Script) -> str:
        """Start a server that sends exact bytes, and return its URL."""
        return self.enter(scripted(script)).url
