"""The JavaScript of the guide on topics in the browser, with its servers, in Node.js."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from helpers.blocks import ROOT, examples
from helpers.processes import python_environment, running
from helpers.programs import Program
from interop.peers.programs import FOLDER

PAGE = (ROOT / "docs/howto/browser-clients.md").read_text("utf-8")
FIVE_LINES, MISSED, WRONG, CALLS = re.findall(r"^```javascript\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
IMPORTS = """
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";
globalThis.WebSocket = WebSocket;
"""
SHOWN = """
prices.on("subscribed", async () => {
  await prices.history({ limit: 0 }); // when this has a reply, the history above has one too
  console.log("the first is shown:", shown.has(1));
});
"""


@asynccontextmanager
async def served(name: str) -> AsyncIterator[str]:
    """Run a server of the page, and give its URL."""
    (example,) = [example for example in examples() if example.name == name]
    source = example.source.replace('"localhost", 8765', '"127.0.0.1", 0')
    async with Program("-c", source, environment=python_environment()) as program:
        yield await program.logs(r"serving (ws://\S+)") + "/"


@pytest.mark.parametrize(
    ("server", "script", "line"),
    [
        ("browser-clients", FIVE_LINES, r"1\.\d+"),
        ("browser-clients", FIVE_LINES + MISSED + SHOWN, "the first is shown: true"),
        (
            "browser-clients",
            FIVE_LINES.replace('"prices"', '"secret"') + WRONG,
            "no prices: 102 unknown channel",
        ),
        ("browser-calls", CALLS + "console.log(data, Object.keys(clients).length);", r"Ada is here|\{ number: 7 \} 1"),
    ],
    ids=["five lines", "history", "what went wrong", "calls"],
)
async def test_script_of_the_guide_prints_what_the_server_sends(server: str, script: str, line: str) -> None:
    async with served(server) as url:
        source = IMPORTS + script.replace("ws://localhost:8765/", url)
        command = ["node", "--input-type=module", "--eval", source]
        async with running(*command, folder=FOLDER) as process:
            assert process.stdout is not None
            wanted = re.compile(line)
            printed: set[str] = set()
            while len(printed) < line.count("|") + 1:
                said = (await process.stdout.readline()).decode().strip()
                assert said, await process.stderr.read() if process.stderr else ""
                if wanted.fullmatch(said):
                    printed.add(said)
