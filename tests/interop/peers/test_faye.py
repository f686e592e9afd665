"""The library `faye-websocket` for Node.js, which `npm install` installs in this folder."""

from typing import Any

import pytest

from interop.conversations import (
    BROWSER_CODES,
    DEFAULT,
    NARROW,
    TOLERANT,
    Pings,
    Refusals,
    exchange_compressed,
)
from interop.peers.programs import FOLDER, ClientProgram, Program, ServerProgram
from streamws import Compression, DeflateTerms

FAYE = Program("node", FOLDER / "faye.mjs")


class TestServer(ServerProgram, Pings, Refusals):
    """`connect()` with this server."""

    codes = BROWSER_CODES
    program = FAYE


class TestClient(ClientProgram, Pings):
    """A server with this client."""

    codes = BROWSER_CODES
    program = FAYE


# Compression, by the package permessage-deflate -------------------------------------------------------------------

WITHOUT = {"noContextTakeover": True, "requestNoContextTakeover": True}
BITS = {"maxWindowBits": 10, "requestMaxWindowBits": 10}

BOTH: list[tuple[dict[str, Any], Compression, DeflateTerms]] = [
    ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
    ({}, NARROW, DeflateTerms(9, True, 9, True)),
    ({}, TOLERANT, DeflateTerms(15, False, 15, True)),
    (WITHOUT, NARROW, DeflateTerms(9, False, 9, False)),
]


@pytest.mark.parametrize(("settings", "own", "agreed"), [*BOTH, (BITS, DEFAULT, DeflateTerms(10, False, 10, False))])
async def test_server_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    async with FAYE.server(settings) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(("settings", "own", "agreed"), [*BOTH, (BITS, TOLERANT, DeflateTerms(10, False, 10, True))])
async def test_client_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(FAYE.client(settings), own, agreed)
