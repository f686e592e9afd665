"""The two clients of `undici` for Node.js, which `npm install` installs in this folder."""

import pytest

from interop.conversations import (
    BROWSER_CODES,
    DEFAULT,
    NARROW,
    TOLERANT,
    Conversations,
    exchange_compressed,
)
from interop.peers.programs import FOLDER, ClientProgram, Program
from streamws import Compression, DeflateTerms

WEB_SOCKET = Program("node", FOLDER / "undici.mjs", library="WebSocket")
STREAM = Program("node", FOLDER / "undici.mjs", library="WebSocketStream")


class TestWebSocket(ClientProgram, Conversations):
    """A server with the client that is the WebSocket of browsers, and of Node.js."""

    codes = BROWSER_CODES
    program = WEB_SOCKET


class TestWebSocketStream(ClientProgram, Conversations):
    """A server with WebSocketStream."""

    codes = BROWSER_CODES
    program = STREAM


@pytest.mark.parametrize("client", [WEB_SOCKET, STREAM], ids=["WebSocket", "WebSocketStream"])
@pytest.mark.parametrize(
    ("own", "agreed"),
    [
        (DEFAULT, DeflateTerms(12, False, 12, False)),
        (NARROW, DeflateTerms(9, True, 9, True)),
        (TOLERANT, DeflateTerms(15, False, 15, True)),
    ],
)
async def test_client_inflates(client: Program, own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(client.client(), own, agreed)
