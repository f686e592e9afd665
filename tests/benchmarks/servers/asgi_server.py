"""ASGI applications that echo, bare and in FastAPI: under uvicorn, with its WebSocket classes and ours, and others.

Only uvicorn is told to compress or not. The others have no option for it: Hypercorn compresses if the client offers
it, and Granian never does.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.servers.common import (
    HOST,
    MAX_MESSAGE_SIZE,
    Arguments,
    add_build_options,
    choose_build,
    new_loop,
    parser,
    report_ready,
)
from helpers.processes import free_port

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

UVICORN = {
    "uvicorn-streamws": "streamws.asgi.uvicorn:Protocol",
    "uvicorn-websockets": "websockets",
    "uvicorn-websockets-sansio": "websockets-sansio",
    "uvicorn-wsproto": "wsproto",
}


class AsgiArguments(Arguments):
    framework: str


async def bare(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
        else:
            await send({"type": "websocket.send", "text": text})


def in_fastapi() -> Application:
    from fastapi import FastAPI, WebSocket

    application = FastAPI()

    @application.websocket("/")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return application


async def serve_uvicorn(arguments: AsgiArguments, application: Application) -> int:
    import uvicorn

    from helpers.uvicorn_servers import start_server

    warnings.simplefilter("ignore")  # the class `websockets` is deprecated
    config = uvicorn.Config(
        application,
        HOST,
        arguments.port,
        ws=UVICORN[arguments.way],
        ws_max_size=MAX_MESSAGE_SIZE,
        ws_ping_interval=arguments.ping,
        ws_per_message_deflate=arguments.deflate is not None,
        backlog=arguments.backlog,
        log_config=None,
    )
    _, port = await start_server(config)
    return port


async def serve_hypercorn(arguments: AsgiArguments, application: Application) -> int:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    port = arguments.port or free_port()
    config.bind = [f"{HOST}:{port}"]
    config.backlog = arguments.backlog
    config.websocket_max_message_size = MAX_MESSAGE_SIZE
    config.websocket_ping_interval = arguments.ping
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    keep.append(asyncio.ensure_future(serve(application, config, shutdown_trigger=lambda: never)))  # type: ignore[arg-type]
    await is_listening(port)
    return port


async def serve_granian(arguments: AsgiArguments, application: Application) -> int:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    port = arguments.port or free_port()
    server = Server(
        application, HOST, port, interface=Interfaces.ASGI, backlog=max(128, arguments.backlog), log_enabled=False
    )
    keep.append(asyncio.ensure_future(server.serve()))
    await is_listening(port)
    return port


async def is_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


keep: list[asyncio.Future[Any]] = []


def main(arguments: AsgiArguments) -> None:
    choose_build(arguments, ["isal", "zlib_ng"])
    loop = new_loop(arguments)
    application = bare if arguments.framework == "none" else in_fastapi()
    start = {"hypercorn": serve_hypercorn, "granian": serve_granian}.get(arguments.way, serve_uvicorn)
    report_ready(loop.run_until_complete(start(arguments, application)))
    loop.run_forever()


if __name__ == "__main__":
    options = parser()
    add_build_options(options)
    options.add_argument("--way", choices=[*UVICORN, "hypercorn", "granian"], default="uvicorn-streamws")
    options.add_argument("--framework", choices=["none", "fastapi"], default="none")
    main(options.parse_args(namespace=AsgiArguments()))
