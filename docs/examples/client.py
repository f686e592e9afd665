"""A chat client: it prints the messages in a room of chat_server.py, and answers the question "what time is it?".

    python docs/examples/client.py ws://localhost:8765/garden Clock

It reconnects when the connection is lost.
"""

import asyncio
import logging
import sys
from contextlib import suppress
from datetime import datetime

from streamws import Client, CloseCode, ConnectionClosed, ConnectionClosedError, ReconnectError, connect, is_transient


async def talk(client: Client, name: str) -> None:
    """Use one connection until it ends."""
    await client.send(name)
    async for text in client.text():
        print(text, flush=True)
        if text.endswith(": what time is it?"):
            await client.send(f"{datetime.now():%H:%M}")


def retry(error: Exception) -> bool:
    """Do not retry after 1008: the server does not accept this name, and will not accept it the next time either."""
    if isinstance(error, ConnectionClosedError) and error.outcome.code == CloseCode.POLICY_VIOLATION:
        return False
    return is_transient(error)


async def main(url: str, name: str) -> None:
    """Run until Ctrl-C."""
    try:
        async for client in connect(url, retry=retry):
            with suppress(ConnectionClosed):
                await talk(client, name)
    except ReconnectError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
