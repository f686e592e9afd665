"""Measure streamws beside its peers: `python tests/benchmarks/run.py --help`.

Servers are measured, and in the cases named client-* clients. Every run has a process of its own for the server or
client, and the rounds interleave the libraries, so that a noisy machine is noisy for all of them. Look at the CPU time
for one message rather than at messages a second, and at ratios rather than at times. All of them: loopback, no TLS but
in the cases named *-tls, no compression but in those named json* and idle-deflate*, no logging, no keepalive pings,
messages up to 4 MiB at least.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cases import CASES
from benchmarks.contestants import LOOPS, OTHERS, SERVERS, Role, command, streams
from benchmarks.deflate import Settings
from benchmarks.echoes import ClientEchoCase
from benchmarks.neutral import Listener
from benchmarks.process import ClientProcess, ServerProcess
from benchmarks.table import Result, as_json, text

LEGEND = """
All figures are medians over the rounds.
cost                of the server, or of the client where that is measured; user and system are its parts
x picows            how many times cheaper than picows' core in the same round; than picows-iter where that has none
spread              (dearest - cheapest round) / median cost
waited              share of the time that it was ready to run but other processes had its core
busy, generator     share of a core that it and the generator used; ! where the generator was what
                    limited the rate in some round: there the cost means something, the rate does not
payload B, ratio    of the compressed answers: bytes on the wire, and those over what they inflate to
peak MiB            by how much its resident memory grew at most
median, 99 %, max   round-trip times beside the flood; in fewer than 100 round trips, 99 % is the slowest one.
                    To have more of them, measure for longer: --seconds 5"""


class Options(argparse.Namespace):
    cases: list[str]
    servers: list[str]
    loops: list[str]
    rounds: int
    seconds: float
    json: Path | None


def options() -> Options:
    parser = argparse.ArgumentParser(description="Measure streamws beside its peers.")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--servers", nargs="+", choices=[*SERVERS, *OTHERS], default=list(SERVERS), help="whose servers and clients"
    )
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=list(LOOPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each run is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to this file")
    return parser.parse_args(namespace=Options())


def role(case: str) -> Role:
    return "client" if isinstance(CASES[case], ClientEchoCase) else "server"


def settings(case: str) -> Settings | None:
    chosen = CASES[case]
    return None if isinstance(chosen, ClientEchoCase) else chosen.settings


def schedule(chosen: Options) -> Iterator[tuple[str, str, int, str]]:
    """Case, loop, round and library of each run, in order."""
    for case in chosen.cases:
        for loop in chosen.loops:
            for number in range(1 if CASES[case].once else chosen.rounds):
                for server in chosen.servers:
                    if command(server, loop, role(case), settings(case)) is not None:
                        yield case, loop, number, server


def run(case: str, loop: str, number: int, server: str, seconds: float, core: int | None) -> Result:
    chosen = CASES[case]
    arguments = command(server, loop, role(case), settings(case))
    assert arguments is not None
    try:
        if isinstance(chosen, ClientEchoCase):
            with (
                Listener(chosen.tls) as listener,
                ClientProcess(arguments, loop, core, listener.url, chosen.connections) as client,
            ):
                measure = chosen.drive(client, listener, seconds)
        else:
            with ServerProcess(
                arguments, loop, chosen.handler, core, tls=chosen.tls, streams=streams(server)
            ) as process:
                measure = chosen.drive(process, seconds)
    except (OSError, ValueError) as error:
        return Result(case, loop, server, number, chosen.unit, None, f"{type(error).__name__}: {error}"[:200])
    return Result(case, loop, server, number, chosen.unit, measure)


def split_cores() -> int | None:
    """Keep this process on one core; the core left to the servers, or None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, {cores[0]})
    return cores[-1]


def environment() -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": sys.version,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }
    for package in ("streamws", "picows", "aiohttp", "websockets", "uvloop", "aiofastnet", "zlib-ng", "isal"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main() -> None:
    chosen = options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    core = split_cores()
    planned = list(schedule(chosen))
    results: list[Result] = []
    for count, (case, loop, number, server) in enumerate(planned, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{count}/{len(planned)} {case} {loop} {server}", end="", file=sys.stderr, flush=True)
        results.append(run(case, loop, number, server, chosen.seconds, core))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(text(results))
    print(LEGEND)
    if chosen.json is not None:
        document = {"environment": environment(), "results": [as_json(result) for result in results]}
        chosen.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
