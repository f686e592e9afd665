"""Results of all rounds: the ratios between libraries, and files of results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.contestants import REFERENCES
from benchmarks.measure import Measure
from benchmarks.process import CpuTime


class Result(NamedTuple):
    """One run. If it failed, `measure` is None and `failure` says why."""

    case: str
    loop: str
    python: str
    """The version of the interpreter that ran the library."""
    server: str
    round: int
    unit: str
    measure: Measure | None
    failure: str = ""


class Row(NamedTuple):
    """One library in one case, on one loop and one interpreter, over all rounds."""

    server: str
    measures: list[Measure]
    ratios: list[float]
    """The cost divided by the reference's cost, for each round: below 1, this library is cheaper."""
    failure: str

    @property
    def about_memory(self) -> bool:
        return self.measures[0].memory is not None

    @property
    def costs(self) -> list[float]:
        """The costs in µs, or in KiB in a case that measures memory."""
        scale = 1 / 1024 if self.about_memory else 1e6
        return [measure.cost * scale for measure in self.measures]

    def figure(self, name: str) -> float:
        """Return the median of a figure of the case."""
        return median(measure.figures[name] for measure in self.measures)


def rows(runs: Sequence[Result]) -> list[Row]:
    """Return a row for each library in the runs of one case on one loop and one interpreter."""
    chosen = reference(runs)
    standard = {run.round: run.measure for run in runs if run.server == chosen and run.measure is not None}
    result = []
    for server in dict.fromkeys(run.server for run in runs):
        own = [run for run in runs if run.server == server]
        good = [(run.round, run.measure) for run in own if run.measure is not None]
        ratios = [
            measure.cost / standard[number].cost
            for number, measure in good
            if number in standard and standard[number].cost > 0
        ]
        failure = next((run.failure for run in own if run.failure), "")
        result.append(Row(server, [measure for _, measure in good], ratios, failure))
    return result


def reference(runs: Iterable[Result]) -> str:
    """Return the library that the others are compared with; empty if none was measured."""
    measured = {run.server for run in runs if run.measure is not None}
    return next((server for server in REFERENCES if server in measured), "")


def select(results: Iterable[Result], case: str, loop: str, python: str | None = None) -> list[Result]:
    """Return the runs of one case on one loop, on one interpreter or on all."""
    return [run for run in results if (run.case, run.loop) == (case, loop) and python in (None, run.python)]


def pythons(results: Iterable[Result]) -> list[str]:
    """Return the interpreters of the results, in the order in which they were measured."""
    return list(dict.fromkeys(run.python for run in results))


def write(path: Path, environment: Mapping[str, object], results: Iterable[Result]) -> None:
    """Write results to a file, as JSON."""
    document = {"environment": environment, "results": [as_json(result) for result in results]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(paths: Iterable[Path]) -> tuple[dict[str, Any], list[Result]]:
    """Read the results of several files, as if each had been further rounds.

    :returns: The environment of the first file, with the interpreters of all, and the results.
    """
    environment: dict[str, Any] = {}
    results: list[Result] = []
    first = 0
    for path in paths:
        document = json.loads(path.read_text())
        interpreters = environment.get("pythons", {}) | document["environment"].get("pythons", {})
        environment = document["environment"] | environment | {"pythons": interpreters}
        added = [_from_json(fields, first) for fields in document["results"]]
        first = max((result.round for result in added), default=first) + 1
        results += added
    return environment, results


def as_json(result: Result) -> dict[str, object]:
    """Return a result as an object for `json.dumps`."""
    measure = result.measure
    fields: dict[str, object] = {**result._asdict(), "measure": None}
    if measure is not None:
        fields["measure"] = {**measure._asdict(), "cpu": measure.cpu._asdict()}
    return fields


def _from_json(fields: dict[str, Any], first_round: int) -> Result:
    measure = fields["measure"]
    if measure is not None:
        measure = Measure(**{**measure, "cpu": CpuTime(**measure["cpu"])})
    return Result(**{**fields, "measure": measure, "round": fields["round"] + first_round})
