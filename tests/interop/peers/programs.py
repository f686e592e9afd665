"""Peers that are programs in other languages, one for each library. They act as the classes of peers describe.

A program gets one argument, JSON with these keys:

- `beat`, `reason`, `text`, `subprotocol`, `unauthorized`, `retryAfter`: what to send
- `library`, if it knows several
- `compression`: settings for its library, which has names of its own for them; null for no compression
- `url` and `subprotocols`, if it is a client: where to connect, and what to offer. A client ends with its connection.

It prints lines of JSON. A server first prints the port on which it listens, a client prints null before it connects.
After that, each prints an object with the `code` and the `reason` of each Close frame that it receives.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import running
from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TEXT,
    UNAUTHORIZED,
    ClientPeer,
    Peer,
    ServerPeer,
)
from streamws import Close

FOLDER = Path(__file__).parent
SAYINGS = {
    "beat": BEAT.decode(),
    "reason": REASON,
    "text": TEXT,
    "subprotocol": SUBPROTOCOL,
    "unauthorized": UNAUTHORIZED,
    "retryAfter": RETRY_AFTER,
}


class ProgramError(Exception):
    """What a program wrote to standard error."""


class Program:
    """A program."""

    def __init__(self, *command: str | Path, library: str | None = None) -> None:
        self._command = command
        self._library = library

    @asynccontextmanager
    async def _running(self, **settings: Any) -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
        """Run the program while the block runs, and give its output and its first line. A client must end by itself.

        :raises ProgramError: if it writes to standard error.
        """
        argument = json.dumps(SAYINGS | {"library": self._library} | settings)
        async with running(*self._command, argument) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            errors = asyncio.create_task(process.stderr.read())
            try:
                yield process.stdout, json.loads(await process.stdout.readline())  # not if it ends at once
                if "url" in settings:
                    await process.wait()
            finally:
                with suppress(ProcessLookupError):  # it may have ended
                    process.terminate()
                said = (await errors).decode()
                if said:
                    raise ProgramError(said)

    @asynccontextmanager
    async def server(self, compression: Any = None, **options: Any) -> AsyncIterator[ServerPeer]:
        """Run it as a server.

        :param options: Arguments for `connect()`.
        """
        async with self._running(compression=compression) as (lines, port):

            async def closed() -> Close:
                return Close(**json.loads(await lines.readline()))

            yield ServerPeer(f"ws://127.0.0.1:{port}", closed, **options)

    def client(self, compression: Any = None, **options: Any) -> ClientPeer:
        """Make a peer that runs it as a client.

        :param options: Arguments for the server.
        """
        reports: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

        @asynccontextmanager
        async def run(url: str, subprotocols: Sequence[str]) -> AsyncIterator[None]:
            settings = {"url": url, "subprotocols": list(subprotocols), "compression": compression}
            async with self._running(**settings) as (lines, _):
                reports.put_nowait(lines)
                yield

        async def closed() -> Close:
            return Close(**json.loads(await (await reports.get()).readline()))

        return ClientPeer(run, closed, **options)


class ServerProgram:
    """Gives the conversations of a test class a program as their server."""

    program: Program

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with self.program.server() as peer:
            yield peer


class ClientProgram:
    """Gives the conversations of a test class a program as their client."""

    program: Program

    @pytest.fixture
    def peer(self) -> Peer:
        return self.program.client()
