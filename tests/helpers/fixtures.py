"""Fixtures for servers and raw clients. `conftest.py` loads them once it has chosen the build."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, Protocol

import pytest

from helpers.peers import RawClient
from streamws import Cause, Client, CloseOutcome, WebSocketServer
from streamws.server import ConnectionCallback, Handler, RequestCallback
from streamws.serving import Routes


async def echo(client: Client) -> None:
    """A handler that sends each message back."""
    async for message in client:
        await client.send(message)


def address_of(server: WebSocketServer) -> tuple[str, int]:
    """Return the address at which a server listens."""
    host, port = server.sockets[0].getsockname()[:2]
    return host, port


def addresses_of(server: WebSocketServer) -> list[tuple[str, int]]:
    """Return the addresses of the server's clients, the oldest client first."""
    return [(client.addr, client.port) for client in server.clients.values()]


def client_of(server: WebSocketServer, raw: RawClient) -> Client:
    """Return the server's `Client` for a connection."""
    (client,) = [client for client in server.clients.values() if (client.addr, client.port) == raw.address]
    return client


def url_of(server: WebSocketServer, path: str = "/", *, scheme: str = "ws") -> str:
    """Return the URL at which a server listens."""
    return "{}://{}:{}{}".format(scheme, *address_of(server), path)


def outcome_of(client: Client) -> CloseOutcome:
    """Return the outcome of a connection that has ended."""
    assert client.outcome is not None
    return client.outcome


def send_until_closed(cause: "asyncio.Future[Cause]") -> Handler:
    """Make a handler that sends without end, and tells the cause for which its connection ended."""

    async def handler(client: Client) -> None:
        try:
            while True:
                await client.send(bytes(1000))
        finally:
            cause.set_result(outcome_of(client).cause)

    return handler


class Serve(Protocol):
    """Starts a server on a free port; it stops when the test ends."""

    async def __call__(
        self,
        handler: Handler | Routes | None = ...,
        *,
        connection: ConnectionCallback | None = ...,
        request: RequestCallback | None = ...,
        **options: Any,
    ) -> WebSocketServer: ...


class Connect(Protocol):
    """Connects a raw client, which is closed when the test ends, and does the opening handshake unless told not to."""

    async def __call__(
        self,
        server: WebSocketServer,
        head: bytes | None = ...,
        *,
        upgrade: bool = ...,
        receive_buffer: int | None = ...,
    ) -> RawClient: ...


_STEP = 0.01
"""Seconds of the loop's time that may pass at once, while the loop really waits for a tenth of that."""


@pytest.fixture
async def fast_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of the loop pass ten times as fast whenever the loop has nothing to do but wait.

    For tests that have both ends of a connection on this loop, so that sent data needs no time. No effect on uvloop.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        return
    select = loop._selector.select  # type: ignore[attr-defined]
    skipped = 0.0

    def select_for_less(timeout: float | None) -> Any:
        nonlocal skipped
        if timeout is None or timeout <= 0:
            return select(timeout)
        step = min(timeout, _STEP)
        ready = select(step / 10)
        if not ready:
            skipped += step * 0.9
        return ready

    monkeypatch.setattr(loop._selector, "select", select_for_less)  # type: ignore[attr-defined]
    monkeypatch.setattr(loop, "time", lambda: monotonic() + skipped)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(
            handler: Handler | Routes | None = None,
            *,
            connection: ConnectionCallback | None = None,
            request: RequestCallback | None = None,
            **options: Any,
        ) -> WebSocketServer:
            if not options.keys() & {"path", "sock"}:
                options |= {"address": "127.0.0.1", "port": 0}
            server = WebSocketServer(handler=handler, **options)
            if connection is not None:
                server.connection(connection)
            if request is not None:
                server.request(request)
            return await stack.enter_async_context(server)

        yield start


@pytest.fixture
async def connect(serve: Serve) -> AsyncIterator[Connect]:
    clients = []

    async def start(
        server: WebSocketServer,
        head: bytes | None = None,
        *,
        upgrade: bool = True,
        receive_buffer: int | None = None,
    ) -> RawClient:
        raw = await RawClient.connect(address_of(server), receive_buffer)
        clients.append(raw)
        if upgrade:
            await raw.upgrade(head)
        return raw

    yield start
    for raw in clients:
        raw.close()
