"""`connect()`: as it is installed, or from its .py sources (`--pure`)."""

from interop.echoes import common
from interop.echoes.common import MAX_MESSAGE_SIZE, client_parser, go_through_cases


class Arguments(common.Arguments):
    pure: bool
    no_takeover: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top, because the lines above decide which build is imported.
    from contextlib import suppress

    from streamws import Compression, ConnectionClosed, Limits, Timeouts, connect

    # Compress every message, with context takeover if the server allows it.
    compression = Compression(threshold=0, takeover=not arguments.no_takeover, peer_takeover=True)

    async def echo(url: str) -> None:
        limits, timeouts = Limits(max_message_size=MAX_MESSAGE_SIZE), Timeouts(ping_interval=None)
        with suppress(ConnectionClosed):
            async with connect(url, proxy=None, compression=compression, limits=limits, timeouts=timeouts) as client:
                async for message in client:
                    await client.send(message)

    go_through_cases(echo, arguments)


if __name__ == "__main__":
    parser = client_parser()
    parser.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    parser.add_argument(
        "--no-takeover", action="store_true", help="offer to send nothing that refers to other messages"
    )
    main(parser.parse_args(namespace=Arguments()))
