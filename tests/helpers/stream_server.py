"""A program: a server that receives and sends messages of any size as streams. Prints its port.

It answers a binary message with its size, and a text message, a number, with so many bytes in one data frame.
"""

import argparse


class Arguments(argparse.Namespace):
    pure: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top, because the lines above decide which build is imported.
    import asyncio

    from streamws import Client, MessageReader, Opcode, Timeouts, WebSocketServer

    chunk = 64 * 1024
    timeouts = Timeouts(ping_interval=None, ping_timeout=None)  # the tests do not expect pings, however long they take

    async def upload(client: Client, reader: MessageReader) -> None:
        buffer = bytearray(chunk)
        size = 0
        while count := await reader.readinto(buffer):
            size += count
        await client.send(str(size))

    async def download(client: Client, size: int) -> None:
        part = bytes(range(256)) * (chunk // 256)
        async with client.writer.data_frame(size) as frame:
            while frame.remaining:
                await frame.write(part[: frame.remaining])

    async def handler(client: Client) -> None:
        async for reader in client.messages():
            if reader.type is Opcode.BINARY:
                await upload(client, reader)
            else:
                await download(client, int(await reader.get()))

    async def serve() -> None:
        async with WebSocketServer("127.0.0.1", 0, handler=handler, timeouts=timeouts) as socket:
            print(socket.sockets[0].getsockname()[1], flush=True)
            await socket.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    main(parser.parse_args(namespace=Arguments()))
