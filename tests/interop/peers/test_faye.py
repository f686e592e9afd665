"""The library `faye-websocket` for Node.js, which `npm install` installs in this folder."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from interop.conversations import (
    BROWSER_CODES,
    DEFAULT,
    NARROW,
    TOLERANT,
    Peer,
    Pings,
    Refusals,
    exchange_compressed,
)
from interop.peers.programs import FOLDER, Program
from streamws import Compression, DeflateTerms

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


# Compression, by the package permessage-deflate -------------------------------------------------------------------

WITHOUT = {"noContextTakeover": True, "requestNoContextTakeover": True}
BITS = {"maxWindowBits": 10, "requestMaxWindowBits": 10}


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [
        ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
        ({}, NARROW, DeflateTerms(9, True, 9, True)),
        ({}, TOLERANT, DeflateTerms(15, False, 15, True)),
        (WITHOUT, NARROW, DeflateTerms(9, False, 9, False)),
        (BITS, DEFAULT, DeflateTerms(10, False, 10, False)),
    ],
)
async def test_server_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    async with FAYE.server(settings) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [
        ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
        ({}, NARROW, DeflateTerms(9, True, 9, True)),
        ({}, TOLERANT, DeflateTerms(15, False, 15, True)),
        (WITHOUT, NARROW, DeflateTerms(9, False, 9, False)),
        (BITS, TOLERANT, DeflateTerms(10, False, 10, True)),
    ],
)
async def test_client_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(FAYE.client(settings), own, agreed)
