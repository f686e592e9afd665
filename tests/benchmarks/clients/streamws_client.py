"""streamws: compiled, from its .py sources (`--pure`), or without aiofastnet's transports (`--no-speed`)."""

import sys

from benchmarks.clients.common import Arguments, parser, run
from benchmarks.servers.common import MAX_MESSAGE_SIZE


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    if arguments.no_speed:
        sys.modules["aiofastnet"] = None  # type: ignore[assignment]  # importing it now fails
    # Not at the top: the lines above decide what is imported.
    from streamws import connect
    from streamws.options import Limits, Timeouts

    async def echo(arguments: Arguments) -> None:
        limits = Limits(max_message_size=MAX_MESSAGE_SIZE)
        timeouts = Timeouts(ping_interval=None)
        connecting = connect(arguments.url, ssl=arguments.context, proxy=None, limits=limits, timeouts=timeouts)
        async with connecting as client:
            async for message in client:
                await client.send(message)

    run(echo, arguments)


if __name__ == "__main__":
    options = parser()
    options.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    options.add_argument("--no-speed", action="store_true", help="have importing aiofastnet fail")
    main(options.parse_args(namespace=Arguments()))
