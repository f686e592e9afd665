"""Results as plots, which are readable on light and on dark pages. They need matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.markdown import number, short
from benchmarks.results import Result, Row, pythons, reference, rows, select

GRAY = "#7b7b7b"
"""It has the same contrast with white and with the dark background of the site."""
COLORS = {
    "streamws": "#1f8fd6",
    "streamws-speed": "#56b4e9",
    "streamws-pure": "#8fa6b8",
    "streamws-messages": "#56b4e9",
    "streamws-callback": "#8fa6b8",
    "picows": "#d55e00",
    "picows-iter": "#e69f00",
    "aiohttp": "#2f9e6e",
    "websockets": "#b565a7",
    "wse-server": "#a0803c",
    "wse-server-cores": "#c8b07a",
}
GROWTH = {
    "memory, KiB a connection": "",
    "keepalive round, µs": "idle µs",
    "delivery of a broadcast, µs": "delivery µs",
    "opening a connection, µs": "opening µs",
    "coming back at once, µs": "storm µs",
    "all back, s": "storm s",
}
RATIOS = {
    "servers": ["small", "ping-pong", "large", "huge", "handshake", "broadcast"],
    "clients": ["client-small", "client-256", "client-8k", "client-100k"],
    "tls": ["small-tls", "ping-pong-tls", "large-tls"],
    "compression": ["json-as-it-comes", "json-equal", "json-equal-no-takeover"],
}
"""The plots of costs relative to picows, with their cases."""
COSTS = {
    "bursts": (["broadcast-1", "broadcast-20", "broadcast-500"], "µs a delivery"),
    "callbacks": (["callbacks"], "µs a message"),
}
"""The plots of costs, with their cases and units."""


class MissingMatplotlib(Exception):
    """matplotlib is not installed."""


def load_pyplot() -> Any:
    """Return matplotlib's pyplot, with the settings of these plots.

    :raises MissingMatplotlib: If it is not installed; the text says what to install.
    """
    try:
        matplotlib: Any = import_module("matplotlib")
    except ImportError:
        raise MissingMatplotlib("plots need matplotlib: run `pip install '.[bench]'`") from None
    matplotlib.use("svg")
    settings = {
        "axes.axisbelow": True,
        "axes.edgecolor": GRAY,
        "axes.grid": True,
        "axes.labelcolor": GRAY,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": GRAY,
        "axes.titlesize": "medium",
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.transparent": True,
        "grid.alpha": 0.3,
        "grid.color": GRAY,
        "legend.frameon": False,
        "legend.labelcolor": GRAY,
        "svg.fonttype": "none",  # text stays text: small files that can be searched
        "svg.hashsalt": "streamws",  # the same results give the same file
        "text.color": GRAY,
        "xtick.color": GRAY,
        "ytick.color": GRAY,
    }
    matplotlib.rcParams.update(settings)
    return import_module("matplotlib.pyplot")


def draw(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Draw all plots for which there are results, for each loop.

    :returns: The files that were written.
    """
    plt = load_pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for loop in dict.fromkeys(run.loop for run in results):
        figures = {name: ratios(plt, results, loop, cases) for name, cases in RATIOS.items()}
        figures |= {name: costs(plt, results, loop, cases, unit) for name, (cases, unit) in COSTS.items()}
        figures["growth"] = growth(plt, results, loop)
        for name, figure in figures.items():
            if figure is not None:
                path = folder / f"{name}-{loop}.svg"
                figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
                plt.close(figure)
                written.append(path)
    return written


def ratios(plt: Any, results: Sequence[Result], loop: str, cases: Sequence[str]) -> Any:
    """Draw the costs relative to the reference of each case: one panel for each interpreter."""
    standard = reference(run for run in results if run.loop == loop and run.case in cases)
    title = f"CPU time, divided by that of {standard} ({loop}); left is cheaper"
    return _bars(plt, results, loop, cases, lambda row: row.ratios, title, log=True)


def costs(plt: Any, results: Sequence[Result], loop: str, cases: Sequence[str], unit: str) -> Any:
    """Draw the costs: one panel for each interpreter."""
    return _bars(plt, results, loop, cases, lambda row: row.costs, f"CPU time, {unit} ({loop})", log=False)


def _bars(
    plt: Any,
    results: Sequence[Result],
    loop: str,
    cases: Sequence[str],
    values: Callable[[Row], Sequence[float]],
    title: str,
    *,
    log: bool,
) -> Any:
    measured = [run for run in results if run.loop == loop and run.case in cases and run.measure is not None]
    if not measured:
        return None
    found = [case for case in cases if any(run.case == case for run in measured)]
    servers = list(dict.fromkeys(run.server for run in measured))
    versions = pythons(measured)
    height = max(2.0, 0.17 * len(found) * (len(servers) + 1.5))
    figure, panels = plt.subplots(
        1, len(versions), figsize=(5 * len(versions) + 1, height), sharex=True, sharey=True, squeeze=False
    )
    for panel, version in zip(panels[0], versions, strict=True):
        for place, case in enumerate(found):
            table: Mapping[str, Row] = {row.server: row for row in rows(select(measured, case, loop, version))}
            for number_of_bar, server in enumerate(servers):
                row = table.get(server)
                if row is None or not values(row):
                    continue
                y = place + 0.85 * (number_of_bar + 0.5) / len(servers)
                cost = median(values(row))
                label = server if place == 0 or server not in panel.get_legend_handles_labels()[1] else None
                start = 1 if log else 0
                panel.barh(y, cost - start, 0.8 / len(servers), left=start, color=COLORS.get(server, GRAY), label=label)
                side = "left" if cost >= start else "right"
                panel.text(cost, y, f" {number(cost)} ", va="center", ha=side, fontsize="x-small")
        panel.set_title(f"Python {short(version)}")
        panel.set_yticks([place + 0.42 for place in range(len(found))], found)
        panel.grid(visible=False, axis="y")
        if log:
            panel.set_xscale("log")
            panel.set_xlim(left=min(0.5, 0.7 * panel.get_xlim()[0]), right=max(2, 1.2 * panel.get_xlim()[1]))
            panel.set_xticks(*_ticks(*panel.get_xlim()))
            panel.minorticks_off()
            panel.axvline(1, color=GRAY, linewidth=1)
    panels[0][0].invert_yaxis()
    handles = {name: bar for panel in panels[0] for bar, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles), bbox_to_anchor=(0.5, -0.08))
    figure.supxlabel(title)
    figure.tight_layout()
    return figure


def _ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return the places and labels of the marks of a logarithmic axis."""
    places = [factor * 10.0**power for power in range(-3, 3) for factor in (1, 2, 5)]
    shown = [place for place in places if low <= place <= high]
    return shown, [f"{place:g}" for place in shown]


def growth(plt: Any, results: Sequence[Result], loop: str) -> Any:
    """Draw the `scale` cases over the number of connections: one panel for each quantity."""
    measured = [
        run for run in results if run.loop == loop and run.case.startswith("scale-") and run.measure is not None
    ]
    measured = [run for run in measured if "x" not in run.case]
    if not measured:
        return None
    versions = pythons(measured)
    figure, panels = plt.subplots(2, 3, figsize=(11, 6), sharex=True, squeeze=False)
    for panel, (title, name) in zip(panels.flat, GROWTH.items(), strict=True):
        for server in dict.fromkeys(run.server for run in measured):
            for version, style in zip(versions, ["-", "--", ":", "-."] * len(versions), strict=False):
                points = _points([run for run in measured if (run.server, run.python) == (server, version)], name)
                if points:
                    label = f"{server}, {short(version)}" if len(versions) > 1 else server
                    panel.plot(*zip(*points, strict=True), style, marker="o", color=COLORS.get(server), label=label)
        panel.set_title(title)
        panel.set_ylim(bottom=0)
    for panel in panels[-1]:
        panel.set_xlabel("connections")
    handles, labels = panels[0][0].get_legend_handles_labels()
    columns = max(1, min(len(labels), 5))
    figure.legend(handles, labels, loc="upper center", ncols=columns, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()
    return figure


def _points(runs: Sequence[Result], name: str) -> list[tuple[float, float]]:
    """Return the number of connections and the median of a figure, or of the cost if it has no name."""
    found: dict[float, list[float]] = {}
    for run in runs:
        for row in rows([run]):
            connections = row.measures[0].operations
            found.setdefault(connections, []).append(row.figure(name) if name else row.costs[0])
    return sorted((connections, median(values)) for connections, values in found.items())
