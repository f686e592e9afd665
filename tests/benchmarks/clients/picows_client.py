"""picows' core, which calls back for each frame, with its default settings. It uses aiofastnet if installed."""

from picows import ws_connect

from benchmarks.clients.common import Arguments, run
from benchmarks.servers.picows_server import Echo


async def echo(arguments: Arguments) -> None:
    transport, _ = await ws_connect(Echo, arguments.url, ssl_context=arguments.context)
    await transport.wait_disconnected()


if __name__ == "__main__":
    run(echo)
