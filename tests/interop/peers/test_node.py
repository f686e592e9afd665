"""The client of Node.js' `ws`, which `npm install` puts into this folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import run
from interop.serving import Served, serving
from streamws import Client, Close, Compression

SCRIPT = Path(__file__).parent / "client.mjs"


async def connect(served: Served, path: str, compression: str) -> dict[str, Any]:
    """Return the output of the client."""
    ended = await run("node", SCRIPT, served.url + path, compression)
    assert (ended.status, ended.errors) == (0, "")
    seen: dict[str, Any] = json.loads(ended.output)
    return seen


@pytest.mark.parametrize(
    "own", [False, True, Compression(threshold=0, window_bits=9, takeover=True, peer_takeover=True)]
)
@pytest.mark.parametrize("compression", ["deflate", "none"])
async def test_client_receives_echoes_and_closes(compression: str, own: bool | Compression) -> None:
    async with serving(compression=own) as served:
        seen = await connect(served, "/echo", compression)
        outcome = await served.outcomes.get()

    assert seen == {
        "extensions": "permessage-deflate" if own and compression == "deflate" else "",
        "echoed": [True] * 7,
        "pings": [],
        "pongs": ["beat"],
        "code": 4001,
        "reason": "",
    }
    assert outcome.received == Close(4001, "done")


async def test_client_sees_ping_and_close() -> None:
    async def leave(client: Client) -> None:
        await client.writer.ping(b"there?")
        await client.close(3000, "bye")

    async with serving(leave) as served:
        seen = await connect(served, "/wait", "none")
        outcome = await served.outcomes.get()

    assert (seen["pings"], seen["code"], seen["reason"]) == (["there?"], 3000, "bye")
    assert (outcome.sent, outcome.received) == (Close(3000, "bye"), Close(3000, "bye"))
