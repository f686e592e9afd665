"""Topics of other libraries, in ASGI applications under uvicorn with its default WebSocket class.

`litestar` is Litestar with its channels, in the memory of the process; `broadcaster` is that library in Starlette.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.servers.common import HOST, Arguments, new_loop, parser, report_ready
from benchmarks.servers.members import HISTORY, PUBLICATION, MemberInTasks


class ChannelsArguments(Arguments):
    library: str


def in_litestar(history: bool) -> Any:
    from litestar import Litestar, WebSocket, websocket
    from litestar.channels import ChannelsPlugin
    from litestar.channels.backends.memory import MemoryChannelsBackend

    class Member(MemberInTasks):
        def __init__(self, socket: Any) -> None:
            super().__init__()
            self._socket = socket

        async def subscribe(self, stack: AsyncExitStack, topics: Sequence[str], returning: bool) -> None:
            started = channels.start_subscription(topics, history=HISTORY if returning else None)
            subscriber = await stack.enter_async_context(started)
            await stack.enter_async_context(subscriber.run_in_background(self._socket.send_text, join=False))

        async def publish(self, topic: str) -> None:
            await channels.wait_published(PUBLICATION, topic)

        async def send(self, message: str) -> None:
            await self._socket.send_text(message)

    async def serve(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        member = Member(socket)
        try:
            await member.obey(socket.iter_data("text"))
        finally:
            await member.close()

    channels = ChannelsPlugin(
        backend=MemoryChannelsBackend(history=HISTORY if history else 0), arbitrary_channels_allowed=True
    )
    return Litestar([websocket("/")(serve)], plugins=[channels])


def in_starlette(history: bool) -> Any:
    from broadcaster import Broadcast
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    if history:
        raise SystemExit("broadcaster has no history")

    class Member(MemberInTasks):
        def __init__(self, socket: WebSocket) -> None:
            super().__init__()
            self._socket = socket

        async def subscribe(self, stack: AsyncExitStack, topics: Sequence[str], returning: bool) -> None:
            for topic in topics:
                subscriber = await stack.enter_async_context(broadcast.subscribe(topic))
                stack.push_async_callback(_cancel, asyncio.create_task(self._send_all(subscriber)))

        async def _send_all(self, subscriber: Any) -> None:
            async for event in subscriber:
                await self._socket.send_text(event.message)

        async def publish(self, topic: str) -> None:
            await broadcast.publish(topic, PUBLICATION)

        async def send(self, message: str) -> None:
            await self._socket.send_text(message)

    async def serve(socket: WebSocket) -> None:
        await socket.accept()
        member = Member(socket)
        try:
            await member.obey(socket.iter_text())
        finally:
            await member.close()

    broadcast = Broadcast("memory://")

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        async with broadcast:
            yield

    return Starlette(routes=[WebSocketRoute("/", serve)], lifespan=lifespan)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def start(arguments: ChannelsArguments) -> int:
    import uvicorn

    from helpers.uvicorn_servers import start_server

    make = {"litestar": in_litestar, "broadcaster": in_starlette}[arguments.library]
    config = uvicorn.Config(
        make(arguments.handler == "history"),
        HOST,
        arguments.port,
        ws_ping_interval=arguments.ping,
        ws_per_message_deflate=False,
        backlog=arguments.backlog,
        log_config=None,
    )
    _, port = await start_server(config)
    return port


def main(arguments: ChannelsArguments) -> None:
    loop = new_loop(arguments)
    report_ready(loop.run_until_complete(start(arguments)))
    loop.run_forever()


if __name__ == "__main__":
    options = parser()
    options.add_argument("--library", choices=["litestar", "broadcaster"], required=True)
    main(options.parse_args(namespace=ChannelsArguments()))
