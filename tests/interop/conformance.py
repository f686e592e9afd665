"""The Autobahn test cases, run by kosoku against the echo programs; `autobahn.py` has Autobahn itself run them."""

import asyncio
import json
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from helpers.processes import TESTS, free_port, listens, python_environment, run, running

BUILDS = ("installed", "pure")

# All but those of compression; of those one for each kind of data (12), one for each set of parameters (13), and one
# with messages in fragments. The others take minutes.
QUICK = [*(f"{category}.*" for category in (1, 2, 3, 4, 5, 6, 7, 9, 10)), "12.*.4", "12.1.11", "13.*.4"]

Role = Literal["server", "client"]


class Verdict(NamedTuple):
    """On one case: of the messages exchanged, and of how the connection was closed."""

    messages: str
    closing: str


def echo_command(peer: str, role: Role, build: str) -> list[str]:
    """How to start an echo program."""
    script = TESTS / "interop" / "echoes" / f"{peer}_{role}.py"
    return [sys.executable, str(script), *(["--pure"] if build == "pure" else [])]


def echo_environment() -> dict[str, str]:
    """What it runs in: limits that have no argument are lifted here, for the messages of 65536 fragments."""
    return python_environment() | {"WEBSOCKETS_MAX_FRAGMENTS": "100000"}


@asynccontextmanager
async def echo_server(peer: str, build: str, log: Path) -> AsyncIterator[int]:
    """An echo server as a process of its own; gives its port."""
    command = echo_command(peer, "server", build)
    with log.open("wb") as errors:
        async with running(*command, environment=echo_environment(), errors=errors) as process:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                line = await process.stdout.readline()
            assert line, f"the echo server ended at once; see {log}"
            yield int(line)


async def judge(
    build: str, cases: Sequence[str], folder: Path, *, seconds: float, at_once: int
) -> Mapping[str, Verdict]:
    """The verdict on each case (`cases`: ids, or globs such as "9.*"). The server must log nothing."""
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    chosen = [option for case in cases for option in ("--include", case)]
    options = ["--parallelism", str(at_once), "--outdir", str(folder), *chosen]
    log = folder / "server.log"
    async with echo_server("streamws", build, log) as port:
        ended = await run(kosoku, *options, f"127.0.0.1:{port}", seconds=seconds)
    assert log.read_text() == ""
    return verdicts(folder, ended.errors)


async def judge_client(
    build: str, cases: Sequence[str], folder: Path, *, seconds: float, at_once: int
) -> Mapping[str, Verdict]:
    """The same of the client. It must say nothing, and end well."""
    # In 13.2, 13.5 and 13.6 kosoku wants the client not to refer to the messages before, and asks only one that offers
    # it. In 12.5 is what does not get smaller without them; that comes as it is, and kosoku fails over it.
    without = [case for case in cases if case.startswith(("13.2.", "13.5.", "13.6.", "13.*."))]
    takeover = [case for case in cases if case not in without]
    found: dict[str, Verdict] = {}
    for chosen, options in ((takeover, []), (without, ["--no-takeover"])):
        if chosen:
            found |= await _judge_client(build, chosen, folder, seconds, ["--at-once", str(at_once), *options])
    return found


async def _judge_client(
    build: str, cases: Sequence[str], folder: Path, seconds: float, options: Sequence[str]
) -> Mapping[str, Verdict]:
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    chosen = [option for case in cases for option in ("--include", case)]
    port = free_port()
    address = f"127.0.0.1:{port}"
    client = [*echo_command("streamws", "client", build), *options, f"ws://{address}"]
    with (folder / "kosoku.log").open("wb") as log:
        command = [str(kosoku), "--mode", "fuzzingserver", "--outdir", str(folder), *chosen, address]
        async with running(*command, errors=log) as server:
            await listens(port)
            ended = await run(*client, seconds=seconds, environment=echo_environment())
            assert (ended.status, ended.errors) == (0, "")
            async with asyncio.timeout(20):
                await server.wait()  # it writes the verdicts when the client has asked for them, and ends
    return verdicts(folder, ended.errors)


def verdicts(folder: Path, errors: str) -> Mapping[str, Verdict]:
    """What is in the report of a folder; `errors` explains that there is none."""
    index = folder / "index.json"
    assert index.exists(), errors
    (found,) = json.loads(index.read_text()).values()
    return {case: Verdict(said["behavior"], said["behaviorClose"]) for case, said in found.items()}
