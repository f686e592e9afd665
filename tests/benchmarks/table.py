"""Results as tables for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from benchmarks.results import Result, Row, pythons, reference, rows, select

HEADINGS = ("library", "per second", "cost", "user", "system", "busy", "waited", "generator")
WIDTH = 9
FIRST_WIDTH = 18


def text(results: Sequence[Result], descriptions: Mapping[str, str]) -> str:
    """Return the results as one table for each case and loop; the `scale` cases are one table for each loop.

    :param descriptions: What each case measures, by name.
    """
    lines: list[str] = []
    for case, loop in dict.fromkeys((result.case, result.loop) for result in results if not _grows(result.case)):
        runs = select(results, case, loop)
        lines += ["", _heading(runs, descriptions[case]), *_details(runs)]
    for loop in dict.fromkeys(result.loop for result in results if _grows(result.case)):
        lines += ["", *growth([run for run in results if run.loop == loop and _grows(run.case)], descriptions)]
    return "\n".join(lines[1:])


def growth(runs: Sequence[Result], descriptions: Mapping[str, str]) -> list[str]:
    """Return the lines of a table of the `scale` cases on one loop: what grows with the number of connections."""
    cases = list(dict.fromkeys(run.case for run in runs))
    lines = [f"scale, {runs[0].loop}: costs in µs of CPU time, memory in KiB per connection"]
    lines += [f"  {case}: {descriptions[case]}" for case in cases]
    figures = _figures(runs)
    lines.append(_line(["library", "python", "case", "KiB", *figures]))
    for server in dict.fromkeys(run.server for run in runs):
        for python in pythons(runs):
            for case in cases:
                for row in rows([run for run in runs if (run.server, run.python, run.case) == (server, python, case)]):
                    cells = [server, python, case]
                    if row.measures:
                        cells += [f"{median(row.costs):.2f}", *(f"{row.figure(name):,.2f}" for name in figures)]
                    lines.append(_line([*cells, row.failure]))
    return lines


def _grows(case: str) -> bool:
    return case.startswith("scale-")


def _figures(runs: Iterable[Result]) -> tuple[str, ...]:
    return next((tuple(run.measure.figures) for run in runs if run.measure is not None), ())


def _heading(runs: Sequence[Result], description: str) -> str:
    about_memory = any(run.measure is not None and run.measure.memory is not None for run in runs)
    cost = "KiB of memory" if about_memory else "µs of CPU time"
    heading = f"{runs[0].case}, {runs[0].loop}: {description}; cost: {cost} per {singular(runs[0].unit)}"
    if chosen := reference(runs):
        heading += f"; / {chosen}: cost / cost of {chosen}, below 1 is cheaper"
    return heading


def _details(runs: Sequence[Result]) -> list[str]:
    """Return the lines of a table, with the interpreters of each library beside one another."""
    chosen = reference(runs)
    versions = pythons(runs)
    table = {version: rows([run for run in runs if run.python == version]) for version in versions}
    library, *others = HEADINGS
    headings = [library, *(["python"] if len(versions) > 1 else []), *others[:2]]
    lines = [_line([*headings, *([f"/ {chosen}", "rounds"] if chosen else []), *others[2:], *_figures(runs)])]
    for server in dict.fromkeys(run.server for run in runs):
        for version in versions:
            for row in table[version]:
                if row.server == server:
                    python = [version] if len(versions) > 1 else []
                    lines.append(_line([server, *python, *_cells(row, bool(chosen))]))
    return lines


def _cells(row: Row, with_ratio: bool) -> Iterable[str]:
    if not row.measures:
        return (row.failure,)
    bound = any(measure.generator_bound for measure in row.measures)
    user = median(1e6 * measure.cpu.user / measure.operations for measure in row.measures)
    system = median(1e6 * measure.cpu.system / measure.operations for measure in row.measures)
    return (
        f"{median(measure.rate for measure in row.measures):,.0f}",
        f"{median(row.costs):.2f}",
        *([ratio(row), span(row)] if with_ratio else []),
        *(["", ""] if row.about_memory else [f"{user:.2f}", f"{system:.2f}"]),
        f"{median(measure.share for measure in row.measures):.0%}",
        f"{median(measure.waited_share for measure in row.measures):.0%}",
        f"{median(measure.generator_share for measure in row.measures):.0%}{' !' if bound else ''}",
        *(f"{row.figure(name):,.2f}" for name in row.measures[0].figures),
        row.failure,
    )


def ratio(row: Row) -> str:
    """Return the median of the ratios; empty if there are none."""
    return f"{median(row.ratios):.2f}" if row.ratios else ""


def span(row: Row) -> str:
    """Return the lowest and the highest ratio of all rounds; empty if there were not several."""
    return f"{min(row.ratios):.2f}-{max(row.ratios):.2f}" if len(row.ratios) > 1 else ""


def undecided(row: Row) -> bool:
    """Return whether the rounds disagree about which library is cheaper."""
    return bool(row.ratios) and min(row.ratios) < 1 < max(row.ratios)


def singular(unit: str) -> str:
    """Return a unit in the singular."""
    return "delivery" if unit == "deliveries" else unit.removesuffix("s")


def _line(cells: Iterable[str]) -> str:
    first, *others = cells
    return "  ".join([first.ljust(FIRST_WIDTH), *(cell.rjust(WIDTH) for cell in others)]).rstrip()
