"""`WebSocketServer`: as it is installed, or from its .py sources (`--pure`)."""

import argparse

from interop.echoes.common import HOST, MAX_MESSAGE_SIZE, serve


class Arguments(argparse.Namespace):
    pure: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top, because the lines above decide which build is imported.
    from streamws import Client, Compression, Limits, Timeouts, WebSocketServer

    async def echo(client: Client) -> None:
        async for message in client:
            await client.send(message)

    async def start() -> int:
        limits, timeouts = Limits(max_message_size=MAX_MESSAGE_SIZE), Timeouts(ping_interval=None)
        # Compress every message, with context takeover if the client allows it.
        compression = Compression(threshold=0, takeover=True, peer_takeover=True)
        socket = WebSocketServer(HOST, 0, handler=echo, compression=compression, limits=limits, timeouts=timeouts)
        server = await socket.start()
        port: int = server.sockets[0].getsockname()[1]
        return port

    serve(start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    main(parser.parse_args(namespace=Arguments()))
