"""Results of all rounds, as a table and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.contestants import REFERENCES
from benchmarks.measure import Measure

HEADINGS = (
    "library",
    "per second",
    "cost",
    "user",
    "system",
    "x picows",
    "spread",
    "busy",
    "waited",
    "generator",
)


class Result(NamedTuple):
    """One run. If it failed, `measure` is None and `failure` says why."""

    case: str
    loop: str
    server: str
    round: int
    unit: str
    measure: Measure | None
    failure: str = ""


class Row(NamedTuple):
    """One library in one case, over all rounds."""

    server: str
    measures: list[Measure]
    ratios: list[float]
    """The reference's cost divided by this library's cost, for each round: above 1, this library is cheaper."""
    failure: str


def text(results: Sequence[Result], descriptions: Mapping[str, str]) -> str:
    """Return the results as one table for each case and loop.

    :param descriptions: What each case measures, by name.
    """
    lines: list[str] = []
    for case, loop in dict.fromkeys((result.case, result.loop) for result in results):
        runs = [result for result in results if (result.case, result.loop) == (case, loop)]
        about_memory = any(run.measure is not None and run.measure.memory is not None for run in runs)
        cost = "KiB of memory" if about_memory else "µs of CPU time"
        heading = f"{case}, {loop}: {descriptions[case]}; cost: {cost} per {_singular(runs[0].unit)}"
        if reference := _reference(runs):
            heading += f"; x picows: cost of {reference} / cost, above 1 is cheaper"
        lines += ["", heading]
        extra = next((tuple(run.measure.figures) for run in runs if run.measure is not None), ())
        lines.append(_line([*HEADINGS, *extra]))
        lines += [_line(_cells(row)) for row in rows(runs)]
    return "\n".join(lines[1:])


def rows(runs: Sequence[Result]) -> list[Row]:
    """Return a row for each library in the runs of one case on one loop."""
    chosen = _reference(runs)
    reference = {run.round: run.measure for run in runs if run.server == chosen and run.measure is not None}
    result = []
    for server in dict.fromkeys(run.server for run in runs):
        own = [run for run in runs if run.server == server]
        good = [(run.round, run.measure) for run in own if run.measure is not None]
        ratios = [
            reference[number].cost / measure.cost
            for number, measure in good
            if number in reference and measure.cost > 0
        ]
        failure = next((run.failure for run in own if run.failure), "")
        result.append(Row(server, [measure for _, measure in good], ratios, failure))
    return result


def _reference(runs: Sequence[Result]) -> str:
    """Return the library that the others are compared with; empty if none was measured."""
    measured = {run.server for run in runs if run.measure is not None}
    return next((server for server in REFERENCES if server in measured), "")


def _singular(unit: str) -> str:
    return "delivery" if unit == "deliveries" else unit.removesuffix("s")


def as_json(result: Result) -> dict[str, object]:
    """Return a result as an object for `json.dumps`."""
    measure = result.measure
    fields: dict[str, object] = {**result._asdict(), "measure": None}
    if measure is not None:
        fields["measure"] = {**measure._asdict(), "cpu": measure.cpu._asdict()}
    return fields


def _cells(row: Row) -> Iterable[str]:
    if not row.measures:
        return (row.server, row.failure)
    about_memory = row.measures[0].memory is not None
    scale = 1 / 1024 if about_memory else 1e6
    costs = [measure.cost * scale for measure in row.measures]
    middle = median(costs)
    bound = any(measure.generator_bound for measure in row.measures)
    return (
        row.server,
        f"{median(measure.rate for measure in row.measures):,.0f}",
        f"{middle:.2f}",
        "" if about_memory else f"{median(m.cpu.user / m.operations for m in row.measures) * scale:.2f}",
        "" if about_memory else f"{median(m.cpu.system / m.operations for m in row.measures) * scale:.2f}",
        f"{median(row.ratios):.2f}" if row.ratios else "",
        f"{(max(costs) - min(costs)) / middle:.0%}" if len(costs) > 1 and middle else "",
        f"{median(measure.share for measure in row.measures):.0%}",
        f"{median(measure.waited_share for measure in row.measures):.0%}",
        f"{median(measure.generator_share for measure in row.measures):.0%}{' !' if bound else ''}",
        *(f"{median(measure.figures[name] for measure in row.measures):.2f}" for name in row.measures[0].figures),
        row.failure,
    )


def _line(cells: Iterable[str]) -> str:
    first, *others = cells
    widths = [12, 10, 9, 9, 9, 8, 7, 7, 11, 9, 9, 9]
    padded = [cell.rjust(width) for cell, width in zip(others, widths, strict=False)]
    return "  ".join([first.ljust(15), *padded, *others[len(widths) :]]).rstrip()
