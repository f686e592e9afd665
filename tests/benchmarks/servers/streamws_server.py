"""streamws: the compiled build, or the pure build (`--pure`); with or without the `speed` extra (`--no-speed`)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.deflate import Settings
from benchmarks.servers.common import (
    BROADCAST,
    HOST,
    MAX_MESSAGE_SIZE,
    TRANSFER,
    Arguments,
    add_build_options,
    choose_build,
    new_loop,
    parser,
    report_ready,
)
from benchmarks.servers.iterating import echo, tight_send

PIECE_SIZE = 1024 * 1024


def main(arguments: Arguments) -> None:
    choose_build(arguments, ["isal", "zlib_ng"])
    # Not at the top, because the line above decides which build is imported.
    from streamws import Client, MessageReader, Opcode, WebSocketServer
    from streamws.options import Compression, Limits, Timeouts
    from streamws.topics import MemoryBroker, Topics

    def compression(settings: Settings | None) -> Compression | bool:
        if settings is None:
            return False
        if settings.window_bits is None or settings.mem_level is None or settings.level is None:
            return Compression()
        return Compression(
            threshold=0,
            level=settings.level,
            mem_level=settings.mem_level,
            window_bits=settings.window_bits,
            peer_window_bits=settings.window_bits,
            takeover=settings.takeover,
            peer_takeover=settings.takeover,
        )

    async def echo_streams(client: Client) -> None:
        async for reader in client.messages():
            await client.send(await reader.get())

    def echo_in_callbacks(client: Client) -> None:
        @client.message
        async def on_message(reader: MessageReader) -> None:
            await client.send(await reader.get())

    async def broadcast_on_command(client: Client) -> None:
        async for message in client:
            turns, in_turn = map(int, message.split())
            for _ in range(turns):
                for _ in range(in_turn):
                    socket.broadcast(BROADCAST)
                await asyncio.sleep(0)

    topics = Topics(MemoryBroker())
    topic = topics.topic("all")

    @asynccontextmanager
    async def lifespan(socket: WebSocketServer) -> AsyncIterator[None]:
        async with topics:
            yield

    async def publish_on_command(client: Client) -> None:
        await topic.join(client)
        async for message in client:
            turns, in_turn = map(int, message.split())
            for _ in range(turns):
                for _ in range(in_turn):
                    await topic.publish(BROADCAST)
                await asyncio.sleep(0)

    async def upload(client: Client) -> None:
        buffer = bytearray(PIECE_SIZE)
        received = 0
        async for reader in client.messages():
            if reader.type is Opcode.TEXT:
                await client.send(str(received))
                received = 0
            else:
                while count := await reader.readinto(buffer):
                    received += count

    async def download(client: Client) -> None:
        piece = TRANSFER[:PIECE_SIZE]
        async for message in client:
            size = int(message)
            async with client.writer.data_frame(size, Opcode.BINARY) as frame:
                for _ in range(size // PIECE_SIZE):
                    await frame.write(piece)

    echoes = {"iterator": echo, "callback": echo, "topics": echo, "messages": echo_streams}
    if arguments.way not in echoes:
        from benchmarks.servers.typed import HANDLERS

        echoes.update(HANDLERS)
    handlers = {
        "echo": echoes[arguments.way],
        "broadcast": publish_on_command if arguments.way == "topics" else broadcast_on_command,
        "upload": upload,
        "download": download,
        "tight-send": tight_send,
    }
    lifespans = {"broadcast": lifespan} if arguments.way == "topics" else {}
    if arguments.handler in ("topics", "history"):
        from benchmarks.servers.streamws_members import ByHand, WithTopics

        members = (WithTopics if arguments.way == "topics" else ByHand)(arguments.handler == "history", arguments.redis)
        handlers[arguments.handler] = members.handle
        lifespans[arguments.handler] = members.lifespan
    loop = new_loop(arguments)
    socket = WebSocketServer(
        HOST,
        arguments.port,
        handler=None if arguments.way == "callback" else handlers[arguments.handler],
        ssl=arguments.context,
        backlog=arguments.backlog,
        limits=Limits(max_message_size=MAX_MESSAGE_SIZE),
        timeouts=Timeouts(ping_interval=arguments.ping),
        compression=compression(arguments.deflate),
        loop=loop,
        lifespan=lifespans.get(arguments.handler),
    )
    if arguments.way == "callback":
        socket.connection(echo_in_callbacks)
    with socket as server:
        report_ready(server.sockets[0].getsockname()[1])
        loop.run_forever()


if __name__ == "__main__":
    options = parser()
    add_build_options(options)
    ways = [
        "iterator",
        "messages",
        "callback",
        "topics",
        "json",
        "msgspec-by-hand",
        "msgspec",
        "pydantic-by-hand",
        "pydantic",
    ]
    options.add_argument("--way", choices=ways, default="iterator", help="how to read messages to echo")
    main(options.parse_args(namespace=Arguments()))
