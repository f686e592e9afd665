"""Compare the speed of streamws with that of other libraries.

The cases named client-* and sync* measure clients; all others measure servers. Each run starts a new process for the
server or client. Each round measures every library once, so that noise of the machine affects all of them. Compare the
CPU time per message, not messages per second, and compare ratios, not times.

All runs use loopback, without logging and, except for scale-*, without keepalive pings. Messages of up to 4 MiB are
accepted. Only the cases named *-tls use TLS; only those named json* and *idle-deflate* compress.

With --from, nothing is measured: the results of earlier runs are shown, drawn, or written into a page. Several files
count as further rounds.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import interpreters, markdown, plots, results
from benchmarks.cases import CASES
from benchmarks.contestants import LOOPS, SERVERS, SERVERS_WITH_ZLIB_NG, Role, command, streams
from benchmarks.deflate import Settings
from benchmarks.echoes import ClientEchoCase
from benchmarks.interpreters import Interpreter, UnusableInterpreter
from benchmarks.neutral import Listener
from benchmarks.process import ClientProcess, ServerProcess
from benchmarks.results import Result
from benchmarks.servers.common import raise_limit_of_open_files
from benchmarks.table import text

PAGE = Path("docs/topics/performance.md")
PLOTS = Path("docs/_static/benchmarks")

LEGEND = """
All figures are medians over the rounds. Cost and ratio below 1 are better than those of the other library.
cost                CPU time or memory of the server (of the client in client-*, sync*); user and system are parts
/ picows            cost of this library divided by the cost of picows' core, with the same interpreter and in the same
                    round: 0.8 means 20 % cheaper, 1.25 means 25 % dearer. Where picows' core was not measured,
                    picows-iter takes its place, in callbacks streamws with `async for`, in topics* streamws without
                    topics, and in asgi* uvicorn's default class
rounds              lowest and highest of these ratios over the rounds; if 1 is between them, the rounds disagree about
                    which library is cheaper. The median of the ratios need not be the ratio of the median costs
waited              share of the time in which it was ready to run but other processes used its core
busy, generator     share of one core that it and the load generator used; ! means that the generator limited the
                    rate in a round: then the cost is valid and the rate is not
sleeps              how often the server went to sleep, for each connection; see tests/benchmarks/handshakes.py
payload B, ratio    mean payload of a compressed answer in bytes; compressed bytes / inflated bytes
peak MiB            growth of its resident memory, at its highest
median, 99 %, max   round-trip times during the flood; with fewer than 100 round trips, 99 % is the slowest one.
                    For more round trips, measure for longer: --seconds 5
longest ms          the longest time that another task of the event loop waited during a tight loop of sends
wse-server          an engine in Rust, with the CPU time of all its threads on the one core that every server has. It
                    has no event loop: its threads may merge broadcasts that a library would send one by one
topics-*            one delivery to one client, one join with the leave after it, or one return: a reset connection that
                    comes back, with its handshake and what it gets from the history
redis-*             one delivery to one client; hiredis is its Reader in a protocol of asyncio, and bare transports
scale-*             idle: a connection and keepalive round; pings: received by each client in an interval; delivery: one
                    message to one client; opening: a connection and its handshake; storm: the same for connections
                    that were all reset and come back at once, the resets included; storm s: until all are open again;
                    retries: attempts that failed before"""


class Options(argparse.Namespace):
    cases: list[str]
    without: list[str]
    servers: list[str]
    loops: list[str]
    rounds: int
    seconds: float
    python: list[str]
    json: Path | None
    earlier: list[Path]
    plot: Path | None
    docs: Path | None


def options(arguments: Sequence[str] | None = None) -> Options:
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
        "--without", nargs="+", choices=list(CASES), default=[], metavar="CASE", help="the cases to leave out"
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
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="an interpreter to run the libraries with, which has them installed; may be given several times "
        "(default: the one that runs this program)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results of all runs to this file")
    parser.add_argument(
        "--from",
        dest="earlier",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="do not measure, but read the results of earlier runs",
    )
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the results as SVG files in this folder")
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="PAGE",
        help=f"write the tables into this page (default: {PAGE}), and draw the plots in {PLOTS}",
    )
    return parser.parse_args(arguments, namespace=Options())


def role(case: str) -> Role:
    return "client" if isinstance(CASES[case], ClientEchoCase) else "server"


def settings(case: str) -> Settings | None:
    chosen = CASES[case]
    return None if isinstance(chosen, ClientEchoCase) else chosen.settings


def takes_part(server: str, case: str) -> bool:
    """Return whether a case measures a library."""
    if server not in CASES[case].contestants and server not in SERVERS_WITH_ZLIB_NG:
        return False
    return command(server, role(case), settings(case)) is not None


def needed(chosen: Options) -> list[str]:
    """Return the libraries that take part in any of the chosen cases."""
    cases = [case for case in chosen.cases if case not in chosen.without]
    return [server for server in chosen.servers if any(takes_part(server, case) for case in cases)]


def schedule(chosen: Options, pythons: Sequence[Interpreter]) -> Iterator[tuple[str, str, int, Interpreter, str]]:
    """Yield the case, loop, round, interpreter and library of each run, in order.

    Every other round has the opposite order, so that a machine that becomes slower or faster favours no library.
    """
    for case in chosen.cases:
        if case in chosen.without:
            continue
        for loop in chosen.loops:
            runs = [
                (python, server)
                for python in pythons
                for server in chosen.servers
                if takes_part(server, case) and python.runs(server)
            ]
            for number in range(1 if CASES[case].once else chosen.rounds):
                for python, server in runs if number % 2 == 0 else reversed(runs):
                    yield case, loop, number, python, server


def run(
    case: str, loop: str, number: int, python: Interpreter, server: str, seconds: float, core: int | None
) -> Result:
    chosen = CASES[case]
    arguments = command(server, role(case), settings(case))
    assert arguments is not None
    result = Result(case, loop, python.label, server, number, chosen.unit, None)
    try:
        if isinstance(chosen, ClientEchoCase):
            with (
                Listener(chosen.tls) as listener,
                ClientProcess(arguments, loop, core, listener.url, chosen.connections, python.path) as client,
            ):
                return result._replace(measure=chosen.drive(client, listener, seconds))
        with ExitStack() as stack:
            surroundings = stack.enter_context(chosen.surroundings())
            servers = [
                stack.enter_context(
                    ServerProcess(
                        arguments,
                        loop,
                        chosen.handler,
                        core,
                        tls=chosen.tls,
                        streams=streams(server),
                        options=(*chosen.options, *surroundings),
                        interpreter=python.path,
                    )
                )
                for _ in range(chosen.processes)
            ]
            return result._replace(measure=chosen.drive(servers, seconds))
    except (OSError, ValueError) as error:
        return result._replace(failure=f"{type(error).__name__}: {error}"[:200])


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


def environment(chosen: Options, pythons: Sequence[Interpreter]) -> dict[str, object]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "driver": sys.version,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "pythons": {python.label: python.packages | {"python": python.full_version} for python in pythons},
    }


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def measure(chosen: Options, pythons: Sequence[Interpreter]) -> list[Result]:
    raise_limit_of_open_files()
    core = split_cores()
    planned = list(schedule(chosen, pythons))
    measured: list[Result] = []
    for count, (case, loop, number, python, server) in enumerate(planned, 1):
        if sys.stderr.isatty():
            position = f"{count}/{len(planned)} {case} {loop} {python.label} {server}"
            print(f"\r\x1b[K{position}", end="", file=sys.stderr, flush=True)
        measured.append(run(case, loop, number, python, server, chosen.seconds, core))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return measured


def publish(chosen: Options, surroundings: Mapping[str, object], measured: Sequence[Result]) -> None:
    """Write the files that the options name."""
    descriptions = {name: case.description for name, case in CASES.items()}
    if chosen.json is not None:
        results.write(chosen.json, surroundings, measured)
    if chosen.docs is not None:
        page = chosen.docs.read_text()
        chosen.docs.write_text(markdown.fill(page, surroundings, measured, descriptions))
    folder = chosen.plot or (PLOTS if chosen.docs is not None else None)
    if folder is not None:
        plots.draw(folder, measured)
    print(text(measured, descriptions))
    print(LEGEND)


def main() -> None:
    chosen = options()
    try:
        if chosen.plot is not None or chosen.docs is not None:
            plots.load_pyplot()  # fail before the measurement, which takes long
        if chosen.earlier:
            surroundings, measured = results.read(chosen.earlier)
        else:
            pythons = interpreters.find(chosen.python, needed(chosen))
            for python in pythons:
                if python.compiled is False:
                    print(f"{python.path} has the pure build of streamws, not the compiled one", file=sys.stderr)
            surroundings = environment(chosen, pythons)
            measured = measure(chosen, pythons)
    except (UnusableInterpreter, plots.MissingMatplotlib) as error:
        raise SystemExit(f"error: {error}") from None
    publish(chosen, surroundings, measured)


if __name__ == "__main__":
    main()
