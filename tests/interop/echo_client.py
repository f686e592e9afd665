"""A client that echoes every message: goes through the cases of a fuzzing server, as a process.

The server speaks Autobahn's protocol: /getCaseCount says how many cases there are, /runCase is one of them, and
/updateReports has the server write its verdicts.
"""

import argparse
from collections.abc import Iterator

AT_ONCE = 8
"""Cases that run at the same time: many consist of waiting."""


class Arguments(argparse.Namespace):
    url: str
    pure: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top: the lines above decide which build is imported.
    import asyncio
    from contextlib import suppress

    from streamws import Client, Compression, ConnectionClosed, Limits, connect

    # 16 MiB messages, and 4 MiB ones in 64-byte fragments, are among the cases.
    limits = Limits(max_message_size=32 << 20)
    # Every message compressed, with what the server lets refer to the ones before.
    compression = Compression(threshold=0, takeover=True, peer_takeover=True)

    async def echo(client: Client) -> None:
        async for message in client:
            await client.send(message)

    async def work_off(cases: Iterator[int]) -> None:
        for number in cases:
            url = f"{arguments.url}/runCase?case={number}&agent=streamws"
            with suppress(ConnectionClosed):
                async with connect(url, proxy=None, compression=compression, limits=limits) as client:
                    await echo(client)

    async def run() -> None:
        async with connect(f"{arguments.url}/getCaseCount", proxy=None) as client:
            count = int(await client.read_message())
        cases = iter(range(1, count + 1))
        await asyncio.gather(*(work_off(cases) for _ in range(AT_ONCE)))
        with suppress(ConnectionClosed):
            async with connect(f"{arguments.url}/updateReports?agent=streamws", proxy=None) as client:
                await echo(client)

    asyncio.run(run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--pure", action="store_true", help="load the .py sources, not the extensions")
    main(parser.parse_args(namespace=Arguments()))
