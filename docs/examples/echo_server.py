"""An echo server: it sends every message back to its sender.

    python docs/examples/echo_server.py localhost 8765

To try it, run `streamws connect ws://localhost:8765/`.
"""

import logging
import sys

from streamws import Client, WebSocketServer


async def echo(client: Client) -> None:
    """Answer until the client leaves. When the handler returns, the connection is closed."""
    async for message in client:
        await client.send(message)


def main(host: str, port: int) -> None:
    """Serve until Ctrl-C."""
    logging.basicConfig(level=logging.INFO)
    WebSocketServer(host, port, handler=echo).run()


if __name__ == "__main__":
    host, port = sys.argv[1:] or ("localhost", "8765")
    main(host, int(port))
