"""`connect()` with the server of `ws` for Node.js, which `npm install` installs in this folder."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helpers.processes import running
from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TEXT,
    UNAUTHORIZED,
    FragmentedConversations,
    Peer,
)
from streamws import Close, Compression

SCRIPT = Path(__file__).parent / "server.mjs"
SAYINGS = {
    "beat": BEAT.decode(),
    "reason": REASON,
    "text": TEXT,
    "subprotocol": SUBPROTOCOL,
    "unauthorized": UNAUTHORIZED,
    "retryAfter": RETRY_AFTER,
}


OWN = Compression(threshold=0, window_bits=9, takeover=True, peer_takeover=True)


@pytest.fixture(params=[False, True, OWN], ids=["plain", "compressed", "takeover"])
async def peer(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    log = tmp_path / "errors"
    with log.open("wb") as errors:
        async with running(
            "node", SCRIPT, json.dumps(SAYINGS | {"compression": bool(request.param)}), errors=errors
        ) as process:
            assert process.stdout is not None
            lines = process.stdout

            async def closed() -> Close:
                return Close(**json.loads(await lines.readline()))

            port = await lines.readline()
            assert port, log.read_text()
            yield Peer(f"ws://127.0.0.1:{int(port)}", closed, compression=request.param)
    assert log.read_text() == ""


class TestConnect(FragmentedConversations):
    """`connect()` with this server."""
