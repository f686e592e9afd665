"""Run the Autobahn test suite, by its own runner, against an echo server or an echo client, and print the verdicts.

The runner, autobahntestsuite, needs Python 2.7, and is installed for it into a cache folder when it is not there yet.
The whole suite takes ten minutes or more for each role, most of them for the cases of compression (12 and 13).
The status is 0 if every case is OK or INFORMATIONAL, for its messages and for how the connection was closed.
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
"""The grade of a requested case without a result."""

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
    parser.add_argument("--peer", choices=PEERS, default="streamws", help="whose server or client")
    parser.add_argument("--role", choices=get_args(Role), default="server")
    parser.add_argument("--build", choices=BUILDS, default="installed", help="of streamws")
    cases = parser.add_mutually_exclusive_group()
    cases.add_argument(
        "--cases", nargs="+", default=["*"], metavar="CASE", help='1.1.1, or all that begin as "9.*" (all)'
    )
    cases.add_argument("--quick", dest="cases", action="store_const", const=QUICK, help="all but most of 12 and 13")
    parser.add_argument("--at-once", type=int, default=4, help="how many cases a client runs at the same time (4)")
    parser.add_argument("--minutes", type=float, default=90, help="when to give up (90)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for the reports (in the cache folder)")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=caches / "streamws-autobahn", metavar="FOLDER")
    parser.add_argument("--python2", metavar="COMMAND", help="the Python 2.7 to use (one of the PATH or of pyenv)")
    return parser.parse_args(namespace=Options())


# The runner -----------------------------------------------------------------------------------------------------


def find_python2() -> str:
    """Return a working Python 2.7. Commands of pyenv may exist and not work."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for candidate in (*pyenv.glob("versions/2.7.*/bin/python"), shutil.which("python2.7"), shutil.which("python2")):
        if candidate is not None and _is_python2(candidate):
            return str(candidate)
    raise SystemExit("there is no Python 2.7; name one by --python2")


def _is_python2(command: str | Path) -> bool:
    question = "import sys; print(sys.version_info[:2] == (2, 7))"
    asked = subprocess.run([command, "-c", question], capture_output=True, timeout=20, check=False)
    return asked.stdout.strip() == b"True"


def install(python2: str, cache: Path) -> Path:
    """Install autobahntestsuite and its dependencies, and return their folder."""
    packages = cache / "packages"
    if not packages.exists():
        print(f"installing autobahntestsuite into {packages}", flush=True)
        fresh = cache / "packages.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        command = [python2, "-m", "pip", "install", "-qq", "--target", str(fresh), "autobahntestsuite"]
        # The old pip does not accept a number for PIP_QUIET.
        environment = {name: value for name, value in os.environ.items() if name != "PIP_QUIET"}
        subprocess.run(command, env=environment, timeout=600, check=True)
        # zope.interface relies on a .pth file, which Python reads in site-packages only.
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
        # Without a port for its web pages, on which several runs would collide.
        command = [self._python2, "-c", START, "-m", mode, "-s", str(file), "-u", "0"]
        environment = os.environ | {"PYTHONPATH": str(self._packages), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            async with running(*command, environment=environment, output=log, errors=log) as process:
                yield process


# Runs -----------------------------------------------------------------------------------------------------------


async def judge(chosen: Options, folder: Path) -> Verdicts:
    """Run the cases and return the verdict on each."""
    runner = Runner(chosen, folder)
    print(f"autobahntestsuite {runner.version}, CPython {platform.python_version()}: {described(chosen)}", flush=True)
    attempt = judge_server if chosen.role == "server" else judge_client
    try:
        async with asyncio.timeout(chosen.minutes * 60):
            await attempt(runner, chosen, folder)
    except TimeoutError:
        raise SystemExit(f"the cases were not through in {chosen.minutes:g} minutes; see {folder}") from None
    output = runner.log.read_text()
    asked = re.search(r"^Cases = \[(.*)\]$", output, re.MULTILINE)
    assert asked is not None, f"no cases were run; see {runner.log}"
    # Overlapping lists name some cases twice.
    wanted = dict.fromkeys(re.findall(r"[\d.]+", asked[1]), MISSING)
    return wanted | dict(verdicts(folder, f"there is no report; see {runner.log}"))


def described(chosen: Options) -> str:
    try:
        number = version(chosen.peer)
    except PackageNotFoundError:
        number = "imported from where it lies"
    sources = ", its .py sources" if chosen.build == "pure" else ""
    return f"the {chosen.role} of {chosen.peer} ({number}{sources})"


async def judge_server(runner: Runner, chosen: Options, folder: Path) -> None:
    async with echo_server(chosen.peer, chosen.build, folder / "echo.log") as port:
        servers = [{"agent": chosen.peer, "url": f"ws://127.0.0.1:{port}"}]
        async with runner.running("fuzzingclient", servers=servers) as process:
            await process.wait()


async def judge_client(runner: Runner, chosen: Options, folder: Path) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    client = [*echo_command(chosen.peer, "client", chosen.build), "--agent", chosen.peer]
    with (folder / "echo.log").open("wb") as log:
        async with runner.running("fuzzingserver", url=url):
            await listens(port)
            command = [*client, "--at-once", str(chosen.at_once), url]
            async with running(*command, environment=echo_environment(), output=log, errors=log) as process:
                if await process.wait():
                    raise SystemExit(f"the client did not end well; see {log.name}")


# What is printed ------------------------------------------------------------------------------------------------


def case_key(case: str) -> tuple[int, ...]:
    return tuple(map(int, case.split(".")))


def table(judged: Verdicts) -> str:
    """Return a table: the number of cases by category and grade, and of connections not closed properly."""
    rows: list[tuple[str, ...]] = [("category", *GRADES, "closed badly", "all")]
    categories = sorted({case.partition(".")[0] for case in judged}, key=int)
    for name, members in [(name, [name]) for name in categories] + [("all", categories)]:
        found = [verdict for case, verdict in judged.items() if case.partition(".")[0] in members]
        grades = Counter(verdict.messages for verdict in found)
        unclean = sum(verdict.closing not in PASSED for verdict in found)
        rows.append((name, *(str(grades[grade] or "") for grade in GRADES), str(unclean or ""), str(len(found))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def not_ok(judged: Verdicts) -> list[str]:
    lines = (f"{case}: {messages}, closed: {closing}" for case, (messages, closing) in judged.items())
    fine = [verdict == ("OK", "OK") for verdict in judged.values()]
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
    judged = asyncio.run(judge(chosen, folder))
    print(f"{len(judged)} cases in {(time.monotonic() - started) / 60:.1f} minutes; reports: {folder}/index.html\n")
    print(table(judged))
    print("\nNot OK:", *(not_ok(judged) or ["none"]), sep="\n")
    return int(any(not {messages, closing} <= set(PASSED) for messages, closing in judged.values()))


if __name__ == "__main__":
    sys.exit(main())
