"""The blocking client of streamws: the compiled build, or the pure build (`--pure`)."""

from benchmarks.clients.common import Arguments, parser
from benchmarks.servers.common import MAX_MESSAGE_SIZE, add_build_options, choose_build, prepare_process


def main(arguments: Arguments) -> None:
    choose_build(arguments, [])
    prepare_process(arguments)
    # Not at the top, because `choose_build` decides which build is imported.
    from streamws import Limits, Timeouts
    from streamws.sync import connect, loop_thread

    if arguments.loop == "asyncio":
        loop_thread.fast_loops = None  # type: ignore[attr-defined]
    limits = Limits(max_message_size=MAX_MESSAGE_SIZE)
    timeouts = Timeouts(ping_interval=None)
    with connect(arguments.url, ssl=arguments.context, proxy=None, limits=limits, timeouts=timeouts) as ws:
        for message in ws:
            ws.send(message)


if __name__ == "__main__":
    options = parser()
    add_build_options(options)
    main(options.parse_args(namespace=Arguments()))
