"""The library `ws` for Node.js, which `npm install` installs in this folder."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from interop.conversations import TAKEOVER, GivenFragments, Peer, Refusals, exchange_compressed
from interop.peers.programs import FOLDER, Program
from streamws import Compression, DeflateTerms

WS = Program("node", FOLDER / "ws.mjs")


class TestServer(GivenFragments, Refusals):
    """`connect()` with this server."""

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with WS.server() as peer:
            yield peer


class TestClient(GivenFragments):
    """A server with this client."""

    @pytest.fixture
    def peer(self) -> Peer:
        return WS.client()
