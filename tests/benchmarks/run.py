"""Compare the speed of streamws with that of other libraries.

The cases named client-* measure clients; all others measure servers. Each run starts a new process for the server or
client. Each round measures every library once, so that noise of the machine affects all of them. Compare the CPU time
per message, not messages per second, and compare ratios, not times.

All runs use loopback, without logging and without keepalive pings. Messages of up to 4 MiB are accepted. Only the cases
named *-tls use TLS; only those named json* and idle-deflate* compress.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cases import CASES
from benchmarks.contestants import LOOPS, SERVERS, SERVERS_WITH_ZLIB_NG, Role, command, streams
from benchmarks.deflate import Settings
from benchmarks.echoes import ClientEchoCase
from benchmarks.neutral import Listener
from benchmarks.process import ClientProcess, ServerProcess
from benchmarks.servers.common import raise_limit_of_open_files
from benchmarks.table import Result, as_json, text

LEGEND = """
All figures are medians over the rounds.
cost                CPU time or memory of the server (of the client in client-*); user and system are its parts
x picows            cost of picows' core divided by cost of this library, in the same round: above 1, this library is
                    cheaper; where picows' core was not measured, picows-iter takes its place
spread              (highest cost - lowest cost) / median cost, over the rounds
waited              share of the time in which it was ready to run but other processes used its core
busy, generator     share of one core that it and the load generator used; ! means that the generator limited the
                    rate in a round: then the cost is valid and the rate is not
payload B, ratio    mean payload of a compressed answer in bytes; compressed bytes / inflated bytes
peak MiB            growth of its resident memory, at its highest
median, 99 %, max   round-trip times during the flood; with fewer than 100 round trips, 99 % is the slowest one.
                    For more round trips, measure for longer: --seconds 5"""


class Options(argparse.Namespace):
    cases: list[str]
    servers: list[str]
    loops: list[str]
    rounds: int
    seconds: float
    json: Path | None


def options() -> Options:
    cases = "\n".join(f"  {name:<25} {case.description}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"cases:\n{cases}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=list(CASES),
        default=list(CASES),
        metavar="CASE",
        help="the cases to measure (default: all)",
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=[*SERVERS, *SERVERS_WITH_ZLIB_NG],
        default=list(SERVERS),
        help="the libraries to measure; those named *-ng compress with zlib-ng (default: all others)",
    )
    parser.add_argument(
        "--loops", nargs="+", choices=LOOPS, default=list(LOOPS), help="the event loops to measure on (default: both)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each library (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.8, help="the duration of each measurement (default: 0.8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results of all runs to this file")
    return parser.parse_args(namespace=Options())


def role(case: str) -> Role:
    return "client" if isinstance(CASES[case], ClientEchoCase) else "server"


def settings(case: str) -> Settings | None:
    chosen = CASES[case]
    return None if isinstance(chosen, ClientEchoCase) else chosen.settings


def schedule(chosen: Options) -> Iterator[tuple[str, str, int, str]]:
    """Yield the case, loop, round and library of each run, in order."""
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
    """Bind this process to one core.

    :returns: The core for the servers and clients, or None if this system cannot bind processes or has one core.
    """
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
    raise_limit_of_open_files()
    core = split_cores()
    planned = list(schedule(chosen))
    results: list[Result] = []
    for count, (case, loop, number, server) in enumerate(planned, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{count}/{len(planned)} {case} {loop} {server}", end="", file=sys.stderr, flush=True)
        results.append(run(case, loop, number, server, chosen.seconds, core))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(text(results, {name: case.description for name, case in CASES.items()}))
    print(LEGEND)
    if chosen.json is not None:
        document = {"environment": environment(), "results": [as_json(result) for result in results]}
        chosen.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
