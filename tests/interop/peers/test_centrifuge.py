"""The library `centrifuge` for JavaScript, unchanged, in Node.js and in Chromium, with `CentrifugoEndpoint`."""

import json
from pathlib import Path
from typing import Any

from helpers.processes import run
from interop.centrifugo import service
from interop.peers.browser import chromium
from interop.peers.programs import FOLDER
from streamws import Request, Response

LIBRARY = FOLDER / "node_modules/centrifuge/dist/centrifuge.js"
HTML = (
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    '<script src="/centrifuge.js"></script><script src="/scenario.js"></script>'
)
SCRIPTS = {"/centrifuge.js": LIBRARY, "/scenario.js": FOLDER / "centrifuge_scenario.js"}


def answer(request: Request) -> Response | None:
    if "Upgrade" in request.headers:
        return None
    if request.path in SCRIPTS:
        return Response(200, SCRIPTS[request.path].read_bytes(), content_type="text/javascript; charset=utf-8")
    return Response(200, HTML, content_type="text/html")


ADA = {"user": "ada", "connInfo": {"role": "author"}}
CONNECTED = ["connected", {"user": "ada", "data": {"from": "scenario"}}]


def subscribed(offset: int, recovering: bool, recovered: bool) -> list[Any]:
    flags = {"positioned": True, "recoverable": True, "wasRecovering": recovering, "recovered": recovered}
    return ["subscribed", {**flags, "offset": offset}]


EXPECTED: list[Any] = [
    ["connecting", [0, "connect called"]],
    ["subscribing", [0, "subscribe called"]],
    CONNECTED,
    subscribed(0, False, False),
    ["join", ADA],
    ["publications", [[{"n": 1}, 1], [{"n": 2}, 2]]],
    ["wrong data", {"code": 107, "message": "bad request: Expected `int`, got `str` - at `$.n`"}],
    ["presence", [ADA]],
    ["presence stats", {"numUsers": 1, "numClients": 1}],
    ["history", [[[{"n": 1}, 1], [{"n": 2}, 2]], 2]],
    ["history since", [2]],
    ["newest", [2]],
    ["secret", [103, "permission denied"]],
    ["rpc", [{"data": 42}, {"data": 1}]],
    ["wrong call", {"code": 107, "message": "bad request: Expected `float`, got `str`"}],
    ["no such function", {"code": 104, "message": "method not found"}],
    ["sent", [{"text": "ü\n"}]],
    # The server cuts the connection, and two publications are recovered.
    ["subscribing", [1, "transport closed"]],
    ["connecting", [3011, "force reconnect"]],
    CONNECTED,
    subscribed(2, True, True),  # the position from which it continues
    ["publications", [[{"n": 3}, 3], [{"n": 4}, 4]]],
    ["join", ADA],
    # The server cuts it again, and the history does not have all publications any more.
    ["subscribing", [1, "transport closed"]],
    ["connecting", [3011, "force reconnect"]],
    CONNECTED,
    subscribed(13, True, False),
    ["join", ADA],
    ["lost", []],
    ["refreshed", True],
    ["unsubscribed", [0, "unsubscribe called"]],
    ["left", {}],
    ["disconnected", [4500, "the end"]],
]


async def test_library_in_node() -> None:
    async with service() as made:
        finished = await run("node", FOLDER / "centrifuge.mjs", made.url)
    assert finished.errors == ""
    assert json.loads(finished.output) == EXPECTED


async def test_library_in_chromium(tmp_path: Path) -> None:
    async with service(answer) as made, chromium(f"http://127.0.0.1:{made.socket.port}/", tmp_path) as page:
        happened = await page.evaluate(f"scenario(Centrifuge, {made.url!r}, {{}})")
        assert page.complaints == []
    assert happened == EXPECTED
