"""The library `faye-websocket` for Node.js, which `npm install` installs in this folder."""

from collections.abc import AsyncIterator

import pytest

from interop.conversations import BROWSER_CODES, Peer, Pings, Refusals
from interop.peers.programs import FOLDER, Program

FAYE = Program("node", FOLDER / "faye.mjs")


class TestServer(Pings, Refusals):
    """`connect()` with this server."""

    codes = BROWSER_CODES

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with FAYE.server() as peer:
            yield peer


class TestClient(Pings):
    """A server with this client."""

    codes = BROWSER_CODES

    @pytest.fixture
    def peer(self) -> Peer:
        return FAYE.client()
