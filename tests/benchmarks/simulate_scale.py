"""Calculates what a cluster carries, and simulates what happens when a node or a broker dies.

A node is one process of streamws, on one core. Each connection follows a topic of its own and the topic of one room.
Users are spread over the nodes, and topics over the brokers, by a hash. The costs are figures, most of which were
measured by the benchmarks of this repository; replace them with --set by your own. Time is simulated: the results
depend on the figures, the options and the seed alone, not on the machine.
"""

import argparse
import gc
import re
import sys
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import plots
from benchmarks.cluster import FIGURES, Cluster, plan
from benchmarks.storms import STEP, Result, Simulation, scenarios

PAGE = Path("docs/topics/scaling.md")
PLOT = Path("docs/_static/benchmarks/storms.svg")

Row = Sequence[str]
BACK = ("half back", "99 % back", "all back")


def figures_table(values: Mapping[str, float]) -> list[Row]:
    """Return the assumptions as a table; those that were replaced have no source."""
    rows: list[Row] = [("name", "value", "what", "measured here", "source")]
    for name, figure in FIGURES.items():
        own = values[name] != figure.value
        value = f"{values[name]:g} {figure.unit}"
        rows.append(
            (f"`{name}`", value, figure.meaning, "yes" if figure.here else "no", "--set" if own else figure.source)
        )
    return rows


def plan_table(cluster: Cluster, values: Mapping[str, float]) -> list[Row]:
    return [("while nothing fails", ""), *plan(cluster, values).items()]


def storms_table(results: Sequence[Result]) -> list[Row]:
    """Return what followed when nodes ended."""
    rows: list[Row] = [("what happens", "the clients wait", "lost", "attempts a second", "failed", *BACK)]
    for result in results:
        counts = (result.lost, result.peak, result.failed)
        scenario = result.scenario
        rows.append((scenario.title, scenario.clients, *(f"{count:,}" for count in counts), *_back(result)))
    return rows


def brokers_table(results: Sequence[Result]) -> list[Row]:
    """Return what followed when a broker was away."""
    rows: list[Row] = [("what happens", "topics", "reads", "failed", "longest wait", *BACK, "gaps told")]
    for result in results:
        counts = (f"{count:,}" for count in (result.lost, result.reads, result.failed))
        rows.append((result.scenario.title, *counts, f"{result.broker_wait:.1f} s", *_back(result), f"{result.gaps:,}"))
    return rows


def _back(result: Result) -> Row:
    return [f"{seconds:.1f} s" if seconds < inf else "never" for seconds in result.back.values()]


def text(rows: Sequence[Row]) -> str:
    """Return a table for the terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """Return a table for the documentation."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "".join(line.replace("|  |", "| |") + "\n" for line in lines)


_BLOCK = re.compile(r"(<!-- simulation: (\w+) -->\n).*?(<!-- end of simulation -->)", re.DOTALL)


def fill(page: str, tables: Mapping[str, Sequence[Row]]) -> str:
    """Return the page with its tables written again, as far as they are given."""
    return _BLOCK.sub(
        lambda block: block[1] + markdown(tables[block[2]]) + block[3] if block[2] in tables else block[0], page
    )


def plot(path: Path, results: Sequence[Result]) -> None:
    """Draw the attempts to connect, and the connections that are not open, over the time."""
    plt = plots.load_pyplot()
    figure, (attempts, away) = plt.subplots(1, 2, figsize=(11, 3.6))
    window = round(1 / STEP)
    for result in results:
        points = range(0, len(result.series), window // 4)
        times = [result.series[point][0] for point in points]
        means = [sum(row[1] for row in result.series[max(0, end - window) : end]) / window for end in points]
        waits = result.scenario.clients.strip("`")
        attempts.plot(times, means, label=f"{result.scenario.title}; the clients wait: {waits}")
        away.plot(times, [result.series[point][2] / 1000 for point in points])
    attempts.set_title("attempts to connect in a second")
    attempts.set_yscale("log")
    attempts.set_ylim(bottom=1000)
    away.set_title("connections that are not open, in thousands")
    away.set_ylim(bottom=0)
    for panel in (attempts, away):
        panel.set_xlabel("seconds")
        panel.set_xlim(0, 60)
    handles, labels = attempts.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=2, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


class Options(argparse.Namespace):
    connections: int
    machines: int
    processes: int
    brokers: int
    room: int
    personal_rate: float
    room_rate: float
    payload: int
    history_size: int
    history_seconds: float
    backlog: int
    scenario: list[str] | None
    assume: list[tuple[str, float]]
    seed: int
    sample: int
    plot: Path | None
    docs: Path | None


def assumption(value: str) -> tuple[str, float]:
    name, _, number = value.partition("=")
    if name not in FIGURES:
        raise argparse.ArgumentTypeError(f"no figure {name!r}: choose from {', '.join(FIGURES)}")
    return name, float(number)


def options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind, what in (
        ("connections", int, "connections of the cluster"),
        ("machines", int, "machines for nodes"),
        ("processes", int, "nodes on each machine"),
        ("brokers", int, "brokers"),
        ("room", int, "mean number of connections in a room"),
        ("personal-rate", float, "publications a second in the topic of a connection"),
        ("room-rate", float, "publications a second in the topic of a room"),
        ("payload", int, "bytes of a publication"),
        ("history-size", int, "publications that a topic keeps"),
        ("history-seconds", float, "seconds for which it keeps them"),
        ("backlog", int, "connections that wait to be accepted by a node"),
    ):
        default = getattr(Cluster(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{what} (default: {default:,})")
    parser.add_argument(
        "--scenario", nargs="+", choices=scenarios(Cluster()), help="what to simulate (default: everything)"
    )
    parser.add_argument(
        "--set",
        dest="assume",
        metavar="NAME=VALUE",
        type=assumption,
        action="append",
        default=[],
        help="use a figure of your own; repeatable",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    parser.add_argument(
        "--sample",
        type=int,
        default=Cluster.sample,
        help=f"connections that each simulated one stands for (default: {Cluster.sample}); 1 takes minutes",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        nargs="?",
        const=PLOT,
        metavar="FILE",
        help=f"draw how the clients of all nodes come back (default: {PLOT})",
    )
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="PAGE",
        help=f"write the tables into this page (default: {PAGE})",
    )
    chosen = parser.parse_args(arguments, Options())
    counts = (chosen.machines, chosen.processes, chosen.brokers, chosen.room, chosen.sample)
    if min(counts) < 1 or chosen.connections < 100 * chosen.machines * chosen.processes * chosen.sample:
        parser.error("at least one of each is needed, and 100 simulated connections for each node")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(arguments)
    if chosen.plot is not None:
        try:
            plots.load_pyplot()  # fail before the simulation
        except plots.MissingMatplotlib as error:
            raise SystemExit(f"error: {error}") from None
    cluster = Cluster(
        connections=chosen.connections,
        machines=chosen.machines,
        processes=chosen.processes,
        brokers=chosen.brokers,
        room=chosen.room,
        personal_rate=chosen.personal_rate,
        room_rate=chosen.room_rate,
        payload=chosen.payload,
        history_size=chosen.history_size,
        history_seconds=chosen.history_seconds,
        backlog=chosen.backlog,
        sample=chosen.sample,
    )
    values = {name: figure.value for name, figure in FIGURES.items()} | dict(chosen.assume)
    tables = {"figures": figures_table(values), "plan": plan_table(cluster, values)}
    print(text(tables["figures"]), text(tables["plan"]), sep="\n\n", flush=True)
    known = scenarios(cluster)
    if missing := set(chosen.scenario or ()) - known.keys():
        raise SystemExit(f"error: this cluster is too small for {', '.join(missing)}: no node would be left")
    gc.disable()  # millions of tuples, and no cycles
    results = [
        Simulation(cluster, scenario, values, chosen.seed).run()
        for name, scenario in known.items()
        if chosen.scenario is None or name in chosen.scenario
    ]
    if storms := [result for result in results if result.scenario.lost]:
        tables["storms"] = storms_table(storms)
        print("", text(tables["storms"]), sep="\n")
    if brokers := [result for result in results if not result.scenario.lost]:
        tables["brokers"] = brokers_table(brokers)
        print("", text(tables["brokers"]), sep="\n")
    if chosen.docs is not None:
        chosen.docs.write_text(fill(chosen.docs.read_text(), tables))
    if chosen.plot is not None:
        plot(chosen.plot, [result for result in results if result.scenario.replaced])


if __name__ == "__main__":
    main()
