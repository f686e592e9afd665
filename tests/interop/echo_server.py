"""A server that echoes every message, as a process: prints its port, and serves until it is stopped."""

import argparse


class Arguments(argparse.Namespace):
    pure: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top: the lines above decide which build is imported.
    import asyncio

    from streamws import Client, Compression, Limits, WebSocketServer

    async def echo(client: Client) -> None:
        async for message in client:
            await client.send(message)

    async def serve() -> None:
        # 16 MiB messages, and 4 MiB ones in 64-byte fragments, are among the conformance cases.
        limits = Limits(max_message_size=32 << 20)
        # Every message compressed, with what the client lets refer to the ones before.
        compression = Compression(threshold=0, takeover=True, peer_takeover=True)
        server = WebSocketServer("127.0.0.1", 0, handler=echo, compression=compression, limits=limits)
        async with server as socket:
            print(socket.sockets[0].getsockname()[1], flush=True)
            await socket.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    main(parser.parse_args(namespace=Arguments()))
