"""The library `ws` for Node.js, which `npm install` installs in this folder."""

from typing import Any

import pytest

from interop.conversations import (
    DEFAULT,
    NARROW,
    TOLERANT,
    GivenFragments,
    Refusals,
    exchange_compressed,
)
from interop.peers.programs import FOLDER, ClientProgram, Program, ServerProgram
from streamws import Compression, DeflateTerms, HandshakeRefused

WS = Program("node", FOLDER / "ws.mjs")


class TestServer(ServerProgram, GivenFragments, Refusals):
    """`connect()` with this server."""

    program = WS


class TestClient(ClientProgram, GivenFragments):
    """A server with this client."""

    program = WS


# Compression ------------------------------------------------------------------------------------------------------

WITHOUT = {"serverNoContextTakeover": True, "clientNoContextTakeover": True}
BITS = {"serverMaxWindowBits": 10, "clientMaxWindowBits": 10}

compressions = pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [
        ({}, DEFAULT, DeflateTerms(12, False, 12, False)),
        ({}, NARROW, DeflateTerms(9, True, 9, True)),
        ({}, TOLERANT, DeflateTerms(15, False, 15, True)),
        (WITHOUT, NARROW, DeflateTerms(9, False, 9, False)),
        (BITS, DEFAULT, DeflateTerms(10, False, 10, False)),
        (BITS, TOLERANT, DeflateTerms(10, False, 10, True)),
    ],
)


@compressions
async def test_server_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    async with WS.server({"threshold": 0} | settings) as peer:
        await exchange_compressed(peer, own, agreed)


@compressions
async def test_client_compresses(settings: dict[str, Any], own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(WS.client({"threshold": 0} | settings), own, agreed)


async def test_server_with_larger_windows_refuses_connection() -> None:
    async with WS.server(BITS) as peer:
        with pytest.raises(HandshakeRefused, match=r"^400 Bad Request: "):
            async with peer.connect("/echo", compression=NARROW):
                pass
