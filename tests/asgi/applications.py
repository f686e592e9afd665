"""uvicorn with ASGI applications, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import uvicorn

from helpers.peers import Peer
from helpers.uvicorn_servers import start_server
from helpers.waiting import until
from streamws.asgi.uvicorn import Protocol as WebSocketProtocol

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[Any]]

ACCEPT: Event = {"type": "websocket.accept"}


class Served:
    """A server of uvicorn that has started."""

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def open(self) -> Peer:
        """Connect a peer that does not do the opening handshake."""
        return Peer(*await asyncio.open_connection("127.0.0.1", self.port), masks=True)

    async def stop(self) -> None:
        """Stop as uvicorn does, without its waits of 0.1 s."""
        server, state = self.server, self.server.server_state
        for listener in server.servers:
            listener.close()
        for connection in list(state.connections):
            connection.shutdown()
        await until(lambda: not state.connections and not state.tasks)


class Serve(Protocol):
    """Starts uvicorn with an application, and with options of `uvicorn.Config`."""

    async def __call__(self, application: Application, **options: Any) -> Served: ...


@asynccontextmanager
async def serving(http: str) -> AsyncIterator[Serve]:
    """Serve with one of uvicorn's parsers; all servers stop at the end of the block."""
    started: list[Served] = []

    async def start(application: Application, **options: Any) -> Served:
        usual: dict[str, Any] = {"http": http, "port": 0, "lifespan": "off", "log_config": None}
        server, _ = await start_server(uvicorn.Config(application, **{"ws": WebSocketProtocol} | usual | options))
        await server.on_tick(0)  # sets the fields of every response
        started.append(Served(server))
        return started[-1]

    try:
        yield start
    finally:
        for served in started:
            await served.stop()


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Accept, and send all messages back."""
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Recorder:
    """An application that accepts, and keeps all that it receives until the disconnect event."""

    def __init__(self) -> None:
        self.scope: Any = None
        self.events: list[Event] = []
        self.done = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            while True:
                event = await receive()
                self.events.append(event)
                if event["type"] == "websocket.connect":
                    await send(ACCEPT)
                elif event["type"] == "websocket.disconnect":
                    return
        finally:
            self.done.set()
