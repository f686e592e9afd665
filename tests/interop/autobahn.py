"""Run the Autobahn test suite with its own runner against an echo server or echo client, and print the verdicts.

The runner, autobahntestsuite, needs Python 2.7. It is installed into a cache folder if it is not there yet.
The whole suite takes ten minutes or more for each role, mostly for the compression cases (12 and 13).
The exit code is 0 if every case is OK or INFORMATIONAL, both for its messages and for its closing handshake.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.processes import free_port, listens, running
from interop.conformance import BUILDS, QUICK, Role, Verdict, echo_command, echo_environment, echo_server, verdicts

PEERS = ("streamws", "websockets", "picows", "aiohttp")
START = "from autobahntestsuite.wstest import run; run()"
GRADES = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")
PASSED = ("OK", "INFORMATIONAL")
MISSING = Verdict("FAILED", "MISSING")
"""The verdict on a requested case that the report does not contain."""

Verdicts = Mapping[str, Verdict]


class Options(argparse.Namespace):
    peer: str
    role: Role
    build: str
    cases: list[str]
    at_once: int
    minutes: float
    out: Path | None
    cache: Path
    python2: str | None


def options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, default="streamws", help="the library to test (default: streamws)")
    parser.add_argument("--role", choices=get_args(Role), default="server", help="its role (default: server)")
    parser.add_argument(
        "--build", choices=BUILDS, default="installed", help="the build of streamws (default: installed)"
    )
    cases = parser.add_mutually_exclusive_group()
    cases.add_argument(
        "--cases",
        nargs="+",
        default=["*"],
        metavar="CASE",
        help='cases to run: 1.1.1, or "9.*" for a group (default: all)',
    )
    cases.add_argument("--quick", dest="cases", action="store_const", const=QUICK, help="skip most compression cases")
    parser.add_argument(
        "--at-once", type=int, default=4, help="the number of cases that a client runs concurrently (default: 4)"
    )
    parser.add_argument("--minutes", type=float, default=90, help="the longest run in minutes (default: 90)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the folder for the reports (default: in the cache folder)"
    )
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--cache", type=Path, default=caches / "streamws-autobahn", metavar="FOLDER", help="the cache folder"
    )
    parser.add_argument("--python2", metavar="COMMAND", help="the Python 2.7 to use (default: one from pyenv or PATH)")
    return parser.parse_args(namespace=Options())


# The runner -----------------------------------------------------------------------------------------------------


def find_python2() -> str:
    """Return a Python 2.7 that runs. pyenv's commands may exist and not run.

    :raises SystemExit: If there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for candidate in (*pyenv.glob("versions/2.7.*/bin/python"), shutil.which("python2.7"), shutil.which("python2")):
        if candidate is not None and _is_python2(candidate):
            return str(candidate)
    raise SystemExit("no Python 2.7 found; name one with --python2")


def _is_python2(command: str | Path) -> bool:
    program = "import sys; print(sys.version_info[:2] == (2, 7))"
    result = subprocess.run([command, "-c", program], capture_output=True, timeout=20, check=False)
    return result.stdout.strip() == b"True"


def install(python2: str, cache: Path) -> Path:
    """Install autobahntestsuite if the cache does not have it.

    :returns: The folder with the package and its dependencies.
    """
    packages = cache / "packages"
    if not packages.exists():
        print(f"installing autobahntestsuite into {packages}", flush=True)
        fresh = cache / "packages.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        command = [python2, "-m", "pip", "install", "-qq", "--target", str(fresh), "autobahntestsuite"]
        # The old pip of Python 2.7 does not accept a number in PIP_QUIET.
        environment = {name: value for name, value in os.environ.items() if name != "PIP_QUIET"}
        subprocess.run(command, env=environment, timeout=600, check=True)
        # zope.interface relies on a .pth file to make `zope` a package, and Python reads those in site-packages only.
        (fresh / "zope" / "__init__.py").touch()
        fresh.rename(packages)
    return packages


class Runner:
    """Starts autobahntestsuite for one run."""

    def __init__(self, chosen: Options, folder: Path) -> None:
        self._python2 = chosen.python2 or find_python2()
        self._packages = install(self._python2, chosen.cache)
        self._folder = folder
        self.log = folder / "runner.log"
        self._cases = chosen.cases

    @property
    def version(self) -> str:
        (info,) = self._packages.glob("autobahntestsuite-*.dist-info")
        return info.name.removeprefix("autobahntestsuite-").removesuffix(".dist-info")

    @asynccontextmanager
    async def running(self, mode: str, **specification: object) -> AsyncIterator[Process]:
        spec = {"outdir": str(self._folder), "cases": self._cases, "exclude-cases": [], "exclude-agent-cases": {}}
        file = self._folder / "spec.json"
        file.write_text(json.dumps(spec | specification))
        # `-u 0`: no web server, because its fixed port would clash between concurrent runs.
        command = [self._python2, "-c", START, "-m", mode, "-s", str(file), "-u", "0"]
        environment = os.environ | {"PYTHONPATH": str(self._packages), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            async with running(*command, environment=environment, output=log, errors=log) as process:
                yield process


# Runs -----------------------------------------------------------------------------------------------------------


async def run_cases(chosen: Options, folder: Path) -> Verdicts:
    """Run the cases.

    :returns: The verdict on each case.
    """
    runner = Runner(chosen, folder)
    print(f"autobahntestsuite {runner.version}, CPython {platform.python_version()}: {describe(chosen)}", flush=True)
    run_against = run_against_server if chosen.role == "server" else run_against_client
    try:
        async with asyncio.timeout(chosen.minutes * 60):
            await run_against(runner, chosen, folder)
    except TimeoutError:
        raise SystemExit(f"the cases did not end within {chosen.minutes:g} minutes; see {folder}") from None
    output = runner.log.read_text()
    listed = re.search(r"^Cases = \[(.*)\]$", output, re.MULTILINE)
    assert listed is not None, f"the runner ran no cases; see {runner.log}"
    # A case is listed twice if two patterns match it.
    wanted = dict.fromkeys(re.findall(r"[\d.]+", listed[1]), MISSING)
    return wanted | dict(verdicts(folder, f"there is no report; see {runner.log}"))


def describe(chosen: Options) -> str:
    try:
        number = version(chosen.peer)
    except PackageNotFoundError:
        number = "not installed"
    sources = ", pure build" if chosen.build == "pure" else ""
    return f"the {chosen.role} of {chosen.peer} ({number}{sources})"


async def run_against_server(runner: Runner, chosen: Options, folder: Path) -> None:
    async with echo_server(chosen.peer, chosen.build, folder / "echo.log") as port:
        servers = [{"agent": chosen.peer, "url": f"ws://127.0.0.1:{port}"}]
        async with runner.running("fuzzingclient", servers=servers) as process:
            await process.wait()


async def run_against_client(runner: Runner, chosen: Options, folder: Path) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    client = [*echo_command(chosen.peer, "client", chosen.build), "--agent", chosen.peer]
    with (folder / "echo.log").open("wb") as log:
        async with runner.running("fuzzingserver", url=url):
            await listens(port)
            command = [*client, "--at-once", str(chosen.at_once), url]
            async with running(*command, environment=echo_environment(), output=log, errors=log) as process:
                if await process.wait():
                    raise SystemExit(f"the client failed; see {log.name}")


# Output ------------------------------------------------------------------------------------------------


def case_key(case: str) -> tuple[int, ...]:
    return tuple(map(int, case.split(".")))


def table(results: Verdicts) -> str:
    """Return a table with the number of cases for each category and grade, and of those that closed badly."""
    rows: list[tuple[str, ...]] = [("category", *GRADES, "closed badly", "all")]
    categories = sorted({case.partition(".")[0] for case in results}, key=int)
    for name, members in [(name, [name]) for name in categories] + [("all", categories)]:
        found = [verdict for case, verdict in results.items() if case.partition(".")[0] in members]
        grades = Counter(verdict.messages for verdict in found)
        unclean = sum(verdict.closing not in PASSED for verdict in found)
        rows.append((name, *(str(grades[grade] or "") for grade in GRADES), str(unclean or ""), str(len(found))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def not_ok(results: Verdicts) -> list[str]:
    lines = (f"{case}: {messages}, closed: {closing}" for case, (messages, closing) in results.items())
    fine = [verdict == ("OK", "OK") for verdict in results.values()]
    return sorted((line for line, good in zip(lines, fine, strict=True) if not good), key=_line_key)


def _line_key(line: str) -> tuple[int, ...]:
    return case_key(line.partition(":")[0])


def main() -> int:
    chosen = options()
    name = f"{chosen.peer}-{chosen.role}-{chosen.build}"
    folder = (chosen.out or chosen.cache / "reports" / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    started = time.monotonic()
    results = asyncio.run(run_cases(chosen, folder))
    print(f"{len(results)} cases in {(time.monotonic() - started) / 60:.1f} minutes; reports: {folder}/index.html\n")
    print(table(results))
    print("\nNot OK:", *(not_ok(results) or ["none"]), sep="\n")
    return int(any(not {messages, closing} <= set(PASSED) for messages, closing in results.values()))


if __name__ == "__main__":
    sys.exit(main())
