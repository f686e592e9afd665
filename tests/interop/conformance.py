"""The Autobahn test cases, run by kosoku against the echo programs. `autobahn.py` runs them with Autobahn itself."""

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

# All cases without compression; and with compression, one for each kind of data (12), one for each set of parameters
# (13), and one with fragmented messages. The others take minutes.
QUICK = [*(f"{category}.*" for category in (1, 2, 3, 4, 5, 6, 7, 9, 10)), "12.*.4", "12.1.11", "13.*.4"]

Role = Literal["server", "client"]


class Verdict(NamedTuple):
    """The grades of one case: for its messages, and for its closing handshake."""

    messages: str
    closing: str


def echo_command(peer: str, role: Role, build: str) -> list[str]:
    """Return the command that starts an echo program."""
    script = TESTS / "interop" / "echoes" / f"{peer}_{role}.py"
    return [sys.executable, str(script), *(["--pure"] if build == "pure" else [])]


def echo_environment() -> dict[str, str]:
    """Return the environment for an echo program.

    It raises a limit of websockets that no argument sets, for cases with messages of 65,536 fragments.
    """
    return python_environment() | {"WEBSOCKETS_MAX_FRAGMENTS": "100000"}


@asynccontextmanager
async def echo_server(peer: str, build: str, log: Path) -> AsyncIterator[int]:
    """Run an echo server in its own process. Yields its port."""
    command = echo_command(peer, "server", build)
    with log.open("wb") as errors:
        async with running(*command, environment=echo_environment(), errors=errors) as process:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                line = await process.stdout.readline()
            assert line, f"the echo server ended before it printed its port; see {log}"
            yield int(line)


async def run_against_server(
    build: str, cases: Sequence[str], folder: Path, *, seconds: float, at_once: int, peer: str = "streamws"
) -> Mapping[str, Verdict]:
    """Run cases against the echo server, which must log nothing.

    :param peer: The echo program.
    :param cases: Ids, or patterns such as `9.*`.
    :returns: The verdict on each case.
    """
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    chosen = [option for case in cases for option in ("--include", case)]
    options = ["--parallelism", str(at_once), "--outdir", str(folder), *chosen]
    log = folder / "server.log"
    async with echo_server(peer, build, log) as port:
        ended = await run(kosoku, *options, f"127.0.0.1:{port}", seconds=seconds)
    assert log.read_text() == ""
    return verdicts(folder, ended.errors)


async def run_against_client(
    build: str, cases: Sequence[str], folder: Path, *, seconds: float, at_once: int
) -> Mapping[str, Verdict]:
    """Run cases against the echo client, which must print no errors and exit with 0.

    :param cases: Ids, or patterns such as `9.*`.
    :returns: The verdict on each case.
    """
    # In 13.2, 13.5 and 13.6 kosoku expects no context takeover from the client, and demands it only of a client that
    # offers it. In 12.5 some data does not shrink without context takeover; it is sent uncompressed, and kosoku fails.
    without = [case for case in cases if case.startswith(("13.2.", "13.5.", "13.6.", "13.*."))]
    takeover = [case for case in cases if case not in without]
    found: dict[str, Verdict] = {}
    for chosen, options in ((takeover, []), (without, ["--no-takeover"])):
        if chosen:
            found |= await _run_against_client(build, chosen, folder, seconds, ["--at-once", str(at_once), *options])
    return found


async def _run_against_client(
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
                await server.wait()  # it writes the verdicts on the client's request, and ends
    return verdicts(folder, ended.errors)


def verdicts(folder: Path, errors: str) -> Mapping[str, Verdict]:
    """Read the verdicts from the report in a folder.

    :param errors: The text to show if there is no report.
    """
    index = folder / "index.json"
    assert index.exists(), errors
    (found,) = json.loads(index.read_text()).values()
    return {case: Verdict(entry["behavior"], entry["behaviorClose"]) for case, entry in found.items()}
