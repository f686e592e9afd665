"""A client that stays: it prints what is said in a room of chat_server.py, and tells the time to who asks.

    python docs/examples/client.py ws://localhost:8765/garden Clock

When the server goes away, it connects again.
"""

import asyncio
import logging
import sys
from contextlib import suppress
from datetime import datetime

from streamws import Client, CloseCode, ConnectionClosed, ConnectionClosedError, ReconnectError, connect, is_transient


async def talk(client: Client, name: str) -> None:
    """One connection, until it ends."""
    await client.send(name)
    async for text in client.text():
        print(text, flush=True)
        if text.endswith(": what time is it?"):
            await client.send(f"{datetime.now():%H:%M}")


def retry(error: Exception) -> bool:
    """The server closes with 1008 if it does not take the name: it will not take it the next time either."""
    if isinstance(error, ConnectionClosedError) and error.outcome.code == CloseCode.POLICY_VIOLATION:
        return False
    return is_transient(error)


async def main(url: str, name: str) -> None:
    """Stay until Ctrl-C."""
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
