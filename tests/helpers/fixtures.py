"""Servers and raw clients for the tests; loaded by conftest once it is known which build is tested."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from helpers.peers import RawClient
from streamws import Client, WebSocketServer
from streamws.server import ConnectionCallback, Handler, RequestCallback


async def echo(client: Client) -> None:
    """A handler that sends back what comes."""
    async for message in client:
        await client.send(message)


def address_of(server: WebSocketServer) -> tuple[str, int]:
    """Where a server listens."""
    host, port = server.sockets[0].getsockname()[:2]
    return host, port


def client_of(server: WebSocketServer, raw: RawClient) -> Client:
    """The server's end of a connection."""
    return server.clients[raw.address]


class Serve(Protocol):
    """Starts a server on a port that is free; it stops when the test ends."""

    async def __call__(
        self,
        handler: Handler | None = ...,
        *,
        connection: ConnectionCallback | None = ...,
        request: RequestCallback | None = ...,
        **options: Any,
    ) -> WebSocketServer: ...


class Connect(Protocol):
    """Connects a raw client; it is closed when the test ends. It is not upgraded for `upgrade=False`."""

    async def __call__(
        self,
        server: WebSocketServer,
        head: bytes | None = ...,
        *,
        upgrade: bool = ...,
        receive_buffer: int | None = ...,
    ) -> RawClient: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(
            handler: Handler | None = None,
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
