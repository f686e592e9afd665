"""streamws: the compiled build, or the pure build (`--pure`)."""

from benchmarks.clients.common import Arguments, parser, run
from benchmarks.servers.common import MAX_MESSAGE_SIZE, add_build_options, choose_build


def main(arguments: Arguments) -> None:
    choose_build(arguments, [])
    # Not at the top, because the line above decides which build is imported.
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
    add_build_options(options)
    main(options.parse_args(namespace=Arguments()))
