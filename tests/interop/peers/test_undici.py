"""The two clients of `undici` for Node.js, which `npm install` installs in this folder."""

import pytest

from interop.conversations import BROWSER_CODES, Conversations, Peer
from interop.peers.programs import FOLDER, Program


class TestWebSocket(Conversations):
    """A server with the client that is the WebSocket of browsers, and of Node.js."""

    codes = BROWSER_CODES

    @pytest.fixture
    def peer(self) -> Peer:
        return Program("node", FOLDER / "undici.mjs", library="WebSocket").client()


class TestWebSocketStream(Conversations):
    """A server with WebSocketStream."""

    codes = BROWSER_CODES

    @pytest.fixture
    def peer(self) -> Peer:
        return Program("node", FOLDER / "undici.mjs", library="WebSocketStream").client()
