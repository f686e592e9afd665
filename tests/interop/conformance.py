"""The Autobahn test cases, run by kosoku against the echo server and the echo client."""

import asyncio
import json
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from helpers.processes import TESTS, python_environment, run, running

BUILDS = ("installed", "pure")


class Verdict(NamedTuple):
    """On one case: of the messages exchanged, and of how the connection was closed."""

    messages: str
    closing: str


@asynccontextmanager
async def echo_server(build: str, log: Path) -> AsyncIterator[int]:
    """The echo server as a process of its own; gives its port."""
    command = [sys.executable, TESTS / "interop" / "echo_server.py", *(["--pure"] if build == "pure" else [])]
    with log.open("wb") as errors:
        async with running(*map(str, command), environment=python_environment(), errors=errors) as process:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                line = await process.stdout.readline()
            assert line, "the echo server ended at once"
            yield int(line)


async def judge(
    build: str, cases: Sequence[str], folder: Path, *, seconds: float, at_once: int
) -> Mapping[str, Verdict]:
    """The verdict on each case (`cases`: ids, or globs such as "9.*"). The server must log nothing."""
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    chosen = [option for case in cases for option in ("--include", case)]
    options = ["--parallelism", str(at_once), "--outdir", str(folder), *chosen]
    log = folder / "server.log"
    async with echo_server(build, log) as port:
        ended = await run(kosoku, *options, f"127.0.0.1:{port}", seconds=seconds)
    assert log.read_text() == ""
    return _verdicts(folder, ended.errors)


async def judge_client(build: str, cases: Sequence[str], folder: Path, *, seconds: float) -> Mapping[str, Verdict]:
    """The same of the client. It must say nothing, and end well."""
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    chosen = [option for case in cases for option in ("--include", case)]
    options = ["--mode", "fuzzingserver", "--outdir", str(folder), *chosen]
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    script = str(TESTS / "interop" / "echo_client.py")
    client = [sys.executable, script, *(["--pure"] if build == "pure" else [])]
    with (folder / "kosoku.log").open("wb") as log:
        async with running(kosoku, *options, f"127.0.0.1:{port}", errors=log) as server:
            await _listens(port)
            url = f"ws://127.0.0.1:{port}"
            ended = await run(*client, url, seconds=seconds, environment=python_environment())
            assert (ended.status, ended.errors) == (0, "")
            async with asyncio.timeout(20):
                await server.wait()  # it writes the verdicts when the client has asked for them, and ends
    return _verdicts(folder, ended.errors)


async def _listens(port: int) -> None:
    """Wait until someone listens on the port."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()


def _verdicts(folder: Path, errors: str) -> Mapping[str, Verdict]:
    index = folder / "index.json"
    assert index.exists(), errors
    (verdicts,) = json.loads(index.read_text()).values()
    return {case: Verdict(said["behavior"], said["behaviorClose"]) for case, said in verdicts.items()}
