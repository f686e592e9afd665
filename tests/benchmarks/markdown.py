"""Results as tables in a page of the documentation.

The page has blocks, each between two comments, which `fill` replaces:

    <!-- figures: uvloop small ping-pong large -->
    <!-- end of figures -->

The first word is the loop, then come the cases. After a bar, `| median ms, 99 % ms`, come the names of figures to show
instead of cost and ratio; `cost`, `ratio` and `rate` are names, too. There are two more blocks: `figures: machine` says
where and with what the results were measured, and `figures: cases small ping-pong` describes cases.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.results import Result, Row, pythons, reference, rows, select
from benchmarks.table import ratio, undecided

_BLOCK = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_LIBRARIES = ("picows", "websockets", "aiohttp", "wse-server", "litestar", "broadcaster", "hiredis")
PACKAGES = ("uvloop", "aiofastnet", *_LIBRARIES, "zlib-ng", "isal")


def fill(page: str, environment: Mapping[str, Any], results: Sequence[Result], descriptions: Mapping[str, str]) -> str:
    """Return the page with the blocks filled. A block stays as it is if its cases were not measured.

    :raises ValueError: If a block names a case that does not exist.
    """

    def replacement(match: re.Match[str]) -> str:
        content = block(match[2], environment, results, descriptions)
        return match[1] + content + match[3] if content else match[0]

    return _BLOCK.sub(replacement, page)


def block(
    order: str, environment: Mapping[str, Any], results: Sequence[Result], descriptions: Mapping[str, str]
) -> str:
    """Return the content of one block; empty if there are no results for it."""
    words, _, names = order.partition("|")
    kind, *cases = words.split()
    if unknown := [case for case in cases if case not in descriptions]:
        raise ValueError(f"the page has a block `{order}` with unknown cases: {', '.join(unknown)}")
    if kind == "machine":
        return machine(environment, results) if results else ""
    if kind == "cases":
        return "".join(_wrap(f"- `{case}`: {descriptions[case]}", "  ") for case in cases)
    return table(results, kind, cases, [name.strip() for name in names.split(",")] if names else [])


def table(results: Sequence[Result], loop: str, cases: Sequence[str], figures: Sequence[str]) -> str:
    """Return a table with a row for each case and interpreter, and a column for each library."""
    chosen = [run for run in results if run.loop == loop and run.case in cases]
    servers = list(dict.fromkeys(run.server for run in chosen if run.measure is not None))
    if not servers:
        return ""
    versions = pythons(chosen)
    lines = [f"| | {' | '.join(servers)} |", "|---" * (len(servers) + 1) + "|"]
    for case in cases:
        for version in versions:
            runs = select(chosen, case, loop, version)
            found = {row.server: row for row in rows(runs)}
            if any(row.measures for row in found.values()):
                name = f"`{case}`" + (f", {short(version)}" if len(versions) > 1 else "")
                cells = [_cell(found.get(server), figures, reference(runs)) for server in servers]
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None, figures: Sequence[str], standard: str) -> str:
    if row is None or not row.measures:
        return ""
    if figures:
        return ", ".join(_figure(row, name) for name in figures)
    cost = number(median(row.costs))
    if row.server == standard or not row.ratios:
        return cost
    return f"{cost} ({ratio(row)}{'*' if undecided(row) else ''})"


def _figure(row: Row, name: str) -> str:
    if name == "cost":
        return number(median(row.costs))
    if name == "ratio":
        return ratio(row)
    if name == "rate":
        return number(median(measure.rate for measure in row.measures))
    return number(row.figure(name)) if name in row.measures[0].figures else ""


def number(value: float) -> str:
    """Return a number with three significant digits, but no more than two after the point."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def short(version: str) -> str:
    """Return a version without its last number: 3.13 for 3.13.0."""
    numbers, *rest = version.split(" ")
    return " ".join([".".join(numbers.split(".")[:2]), *rest])


def machine(environment: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Return a sentence about the machine, the versions and the rounds."""
    measured = environment.get("pythons", {})
    libraries = {name: found for each in measured.values() for name, found in each.items() if found}
    named = _list(f"{name} {libraries[name]}" for name in PACKAGES if name in libraries)
    rounds = sorted({len({run.round for run in results if run.case == case}) for case in {run.case for run in results}})
    count = f"{rounds[-1]} rounds" if rounds[-1] > 1 else "1 round"
    return _wrap(
        f"Measured on {environment['time'][:10]} with CPython {_list(pythons(results))}, {named}, "
        f"on {environment['processor']} with {environment['cores']} cores, {environment['system']}. "
        f"The figures are medians of {count} of {environment['seconds']:g} s; "
        "memory and the `scale` cases were measured once."
    )


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + "\n"


def _list(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
