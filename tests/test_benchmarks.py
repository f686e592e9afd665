"""The parts of the benchmarks that compute: ratios, tables, files of results, the order of runs, interpreters."""

import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks import frames, interpreters, markdown, plots, results, run
from benchmarks.cases import CASES
from benchmarks.contestants import GENERAL, SERVERS
from benchmarks.following import FollowersCase
from benchmarks.interpreters import Interpreter, UnusableInterpreter
from benchmarks.measure import Measure
from benchmarks.process import CpuTime
from benchmarks.results import Result, rows
from benchmarks.table import text, undecided

DESCRIPTIONS = {"small": "echoes", "idle": "memory", "scale-1k": "1,000 connections", "scale-5k": "5,000 connections"}
ENVIRONMENT: dict[str, object] = {
    "time": "2026-11-30T12:00:00+0000",
    "processor": "a processor",
    "cores": 2,
    "system": "Linux 6.18",
    "seconds": 0.8,
    "pythons": {"3.13.0": {"uvloop": "0.23.0", "picows": "2.3.1", "isal": None}, "3.14.2": {"uvloop": "0.23.0"}},
}


def result(
    server: str,
    microseconds: float,
    number: int = 0,
    *,
    case: str = "small",
    loop: str = "uvloop",
    python: str = "3.13.0",
    memory: int | None = None,
    figures: dict[str, float] | None = None,
) -> Result:
    """Return a run of 1,000 operations in 0.5 s, each of which cost this time."""
    total = microseconds / 1000
    measure = Measure(1000, 0.5, CpuTime(total, total / 4, 3 * total / 4, 0.1), 0.25, memory, figures or {})
    return Result(case, loop, python, server, number, "messages", measure)


def failed(server: str) -> Result:
    return result(server, 1.0)._replace(measure=None, failure="OSError: no")


def interpreter(path: str, version: str) -> Interpreter:
    """Return an interpreter with all packages."""
    return Interpreter(path, version, version, True, dict.fromkeys(interpreters.PACKAGES, "1.0"))


def options(*arguments: str) -> run.Options:
    return run.options(arguments)


def test_ratio_is_own_cost_divided_by_reference_cost_in_same_round() -> None:
    runs = [result("streamws", 2, 0), result("picows", 4, 0), result("streamws", 9, 1), result("picows", 6, 1)]
    streamws, picows = rows(runs)
    assert streamws.server == "streamws"
    assert streamws.ratios == pytest.approx([0.5, 1.5])
    assert picows.ratios == pytest.approx([1, 1])
    assert undecided(streamws)
    assert not undecided(picows)


def test_ratio_leaves_out_rounds_in_which_reference_failed() -> None:
    (streamws, _) = rows([result("streamws", 2, 0), failed("picows"), result("streamws", 3, 1), result("picows", 6, 1)])
    assert streamws.ratios == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("servers", "chosen"),
    [
        (["websockets", "picows-iter", "picows", "streamws"], "picows"),
        (["websockets", "picows-iter", "streamws"], "picows-iter"),
        (["streamws-callback", "streamws"], "streamws"),
        (["hypercorn", "uvicorn-websockets-sansio", "uvicorn-streamws"], "uvicorn-websockets-sansio"),
        (["websockets"], ""),
    ],
)
def test_reference_is_first_known_library_that_was_measured(servers: list[str], chosen: str) -> None:
    assert results.reference([result(server, 1) for server in servers]) == chosen


def test_table_of_one_interpreter() -> None:
    runs = [result("streamws", 2, 0), result("picows", 4, 0), result("streamws", 9, 1), result("picows", 6, 1)]
    assert text([*runs, failed("aiohttp")], DESCRIPTIONS).splitlines() == [
        "small, uvloop: echoes; cost: µs of CPU time per message; / picows: cost / cost of picows, below 1 is cheaper",
        "library             per second       cost   / picows     rounds       user     system       busy     waited"
        "  generator",
        "streamws                2,000       5.50       1.00  0.50-1.50       1.38       4.12         1%        20%"
        "        50%",
        "picows                  2,000       5.00       1.00  1.00-1.00       1.25       3.75         1%        20%"
        "        50%",
        "aiohttp             OSError: no",
    ]


def test_table_shows_interpreters_of_a_library_beside_one_another() -> None:
    runs = [
        result(server, cost, python=python)
        for python, costs in {"3.13.0": (2, 4), "3.14.2": (3, 4)}.items()
        for server, cost in zip(("streamws", "picows"), costs, strict=True)
    ]
    lines = [line.split()[:5] for line in text(runs, DESCRIPTIONS).splitlines()[2:]]
    assert lines == [
        ["streamws", "3.13.0", "2,000", "2.00", "0.50"],
        ["streamws", "3.14.2", "2,000", "3.00", "0.75"],
        ["picows", "3.13.0", "2,000", "4.00", "1.00"],
        ["picows", "3.14.2", "2,000", "4.00", "1.00"],
    ]


def test_table_of_memory_has_no_user_and_system_time() -> None:
    lines = text([result("streamws", 1, case="idle", memory=6_144_000)], DESCRIPTIONS).splitlines()
    assert lines[0].startswith("idle, uvloop: memory; cost: KiB of memory per message")
    assert lines[2].split() == ["streamws", "2,000", "6.00", "1.00", "0%", "20%", "50%"]


def test_scale_cases_are_one_table_over_the_number_of_connections() -> None:
    runs = [
        result(server, 1, case=case, memory=size, figures={"idle µs": 25})
        for case, size in {"scale-1k": 6_144_000, "scale-5k": 7_168_000}.items()
        for server in ("streamws", "picows")
    ]
    assert text(runs, DESCRIPTIONS).splitlines() == [
        "scale, uvloop: costs in µs of CPU time, memory in KiB per connection",
        "  scale-1k: 1,000 connections",
        "  scale-5k: 5,000 connections",
        "library                python       case        KiB    idle µs",
        "streamws               3.13.0   scale-1k       6.00      25.00",
        "streamws               3.13.0   scale-5k       7.00      25.00",
        "picows                 3.13.0   scale-1k       6.00      25.00",
        "picows                 3.13.0   scale-5k       7.00      25.00",
    ]


def test_files_of_results_are_further_rounds(tmp_path: Path) -> None:
    runs = [result("streamws", 2, 0), result("streamws", 3, 1), failed("picows")]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    results.write(first, ENVIRONMENT, runs)
    results.write(second, {**ENVIRONMENT, "time": "later", "pythons": {"3.15.0": {}}}, runs)
    environment, found = results.read([first, second])
    assert found == [*runs, *(each._replace(round=each.round + 2) for each in runs)]
    assert environment["time"] == "2026-11-30T12:00:00+0000"
    assert list(environment["pythons"]) == ["3.13.0", "3.14.2", "3.15.0"]


PAGE = """Before.

<!-- figures: {} -->
old
<!-- end of figures -->

After.
"""


def filled(order: str, runs: list[Result]) -> str:
    """Return the content of a block of a page."""
    before, after = PAGE.format(order).split("old\n")
    page = markdown.fill(PAGE.format(order), ENVIRONMENT, runs, DESCRIPTIONS)
    assert page.startswith(before)
    assert page.endswith(after)
    return page.removeprefix(before).removesuffix(after)


def test_page_gets_a_table_with_a_row_for_each_case_and_interpreter() -> None:
    runs = [
        result("streamws", 2, 0),
        result("picows", 4, 0),
        result("streamws", 200, python="3.14.2"),
        result("picows", 160, python="3.14.2"),
        result("streamws", 1, loop="asyncio"),
    ]
    assert filled("uvloop small idle", runs) == (
        "| | streamws | picows |\n|---|---|---|\n| `small`, 3.13 | 2.00 (0.50) | 4.00 |\n"
        "| `small`, 3.14 | 200 (1.25) | 160 |\n"
    )


def test_page_marks_ratios_about_which_the_rounds_disagree() -> None:
    runs = [result("streamws", 2, 0), result("picows", 4, 0), result("streamws", 9, 1), result("picows", 6, 1)]
    assert filled("uvloop small", runs).splitlines()[2] == "| `small` | 5.50 (1.00*) | 5.00 |"


def test_page_shows_chosen_figures() -> None:
    runs = [result("streamws", 2, figures={"median ms": 0.5, "99 % ms": 12.34}), result("picows", 4)]
    assert filled("uvloop small | median ms, 99 % ms", runs).splitlines()[2] == "| `small` | 0.50, 12.3 | ,  |"
    assert filled("uvloop small | rate", runs).splitlines()[2] == "| `small` | 2,000 | 2,000 |"
    assert filled("uvloop small | cost, ratio", runs).splitlines()[2] == "| `small` | 2.00, 0.50 | 4.00, 1.00 |"


def test_page_keeps_blocks_without_results() -> None:
    assert filled("asyncio small", [result("streamws", 2)]) == "old\n"


def test_page_with_unknown_case_is_an_error() -> None:
    with pytest.raises(ValueError, match="block `uvloop tiny` with unknown cases: tiny"):
        filled("uvloop tiny", [result("streamws", 2)])


def test_page_says_where_and_with_what_was_measured() -> None:
    runs = [result("streamws", 2, 0), result("streamws", 2, 1, python="3.14.2")]
    assert filled("machine", runs) == (
        "Measured on 2026-11-30 with CPython 3.13.0 and 3.14.2, uvloop 0.23.0 and picows 2.3.1, on a processor with 2 "
        "cores,\nLinux 6.18. The figures are medians of 2 rounds of 0.8 s; memory and the `scale` cases were measured "
        "once.\n"
    )
    assert filled("cases small idle", []) == "- `small`: echoes\n- `idle`: memory\n"


def test_every_block_of_the_documentation_is_valid() -> None:
    page = (Path(__file__).parents[1] / run.PAGE).read_text()
    descriptions = {name: case.description for name, case in CASES.items()}
    assert page.count("<!-- figures: ") == page.count("<!-- end of figures -->") > 5
    assert markdown.fill(page, ENVIRONMENT, [], descriptions).count("<!-- figures: ") == page.count("<!-- figures: ")


def test_rounds_alternate_between_interpreters_and_reverse_the_order() -> None:
    chosen = options("--cases", "small", "--loops", "uvloop", "--servers", "streamws", "picows", "--rounds", "2")
    pythons = [interpreter("a", "3.13.0"), interpreter("b", "3.14.2")]
    order = [(number, python.path, server) for _, _, number, python, server in run.schedule(chosen, pythons)]
    first = [(0, "a", "streamws"), (0, "a", "picows"), (0, "b", "streamws"), (0, "b", "picows")]
    assert order == [*first, *((1, path, server) for _, path, server in reversed(first))]


def test_cases_that_hardly_vary_are_measured_once() -> None:
    chosen = options("--cases", "idle", "--loops", "uvloop", "--servers", "streamws", "--rounds", "3")
    assert len(list(run.schedule(chosen, [interpreter("a", "3.13.0")]))) == 1


def test_cases_can_be_left_out() -> None:
    servers = ["streamws", "streamws-sync"]
    chosen = options("--without", "small", "--loops", "uvloop", "--servers", *servers, "--rounds", "1")
    cases = {case for case, *_ in run.schedule(chosen, [interpreter("a", "3.13.0")])}
    assert cases == {name for name, case in CASES.items() if {*servers} & {*case.contestants}} - {"small"}


@pytest.mark.parametrize(
    ("case", "servers"),
    [
        ("small", [name for name in GENERAL if name != "streamws-speed"]),
        ("callbacks", ["streamws", "streamws-messages", "streamws-callback"]),
        ("broadcast-20", [*(name for name in GENERAL if name != "streamws-speed"), "wse-server", "wse-server-cores"]),
        ("topics-20", ["streamws", "streamws-topics", "wse-server", "wse-server-cores"]),
        ("topics-one-1k", ["streamws", "streamws-topics", "litestar-channels", "broadcaster", "wse-server"]),
        ("topics-one-10k", ["streamws", "streamws-topics", "litestar-channels", "broadcaster"]),
        ("topics-return-10k", ["streamws", "streamws-topics", "litestar-channels"]),
        ("json-equal", [name for name in GENERAL if name != "picows"]),
        ("client-small", [name for name in GENERAL if name != "streamws-speed"]),
        ("sync", ["streamws-sync", "websockets-sync", "websocket-client"]),
    ],
)
def test_each_case_has_its_libraries(case: str, servers: list[str]) -> None:
    assert [server for server in SERVERS if run.takes_part(server, case)] == servers


@pytest.mark.parametrize("case", [case for case in CASES.values() if isinstance(case, FollowersCase)])
def test_topics_have_equal_numbers_of_followers(case: FollowersCase) -> None:
    payloads = (frames.xor(frame[6:], frame[2:6]) for frame in map(case.follow, range(case.clients)))
    names = [payload.decode().removeprefix("join ").split() for payload in payloads]
    assert {len(set(each)) for each in names} == {case.each}
    followers = Counter(name for each in names for name in each)
    assert set(followers) == {str(number) for number in range(case.topics)}
    assert set(followers.values()) == {case.clients * case.each // case.topics}
    pairs = Counter(pair for each in names for pair in combinations(sorted(each), 2))
    assert all(count <= 2 for count in pairs.values())


def test_brief_run_measures_topics_with_sockets(tmp_path: Path) -> None:
    cases = ("topics-several-1k", "topics-join")
    command = [sys.executable, str(Path(run.__file__)), "--cases", *cases, "--servers", "streamws-topics"]
    file = tmp_path / "results.json"
    subprocess.run(
        [*command, "--loops", "asyncio", "--rounds", "1", "--seconds", "0.01", "--json", str(file)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    several, join = results.read([file])[1]
    assert (several.failure, join.failure) == ("", "")
    assert several.measure is not None
    assert several.measure.operations % 1000 == 0
    assert join.measure is not None
    assert join.measure.operations >= 32 * 8


def test_libraries_that_take_part_in_no_chosen_case_are_not_needed() -> None:
    chosen = options("--cases", "small", "broadcast-20", "--without", "broadcast-20", "--loops", "uvloop")
    assert run.needed(chosen) == [name for name in GENERAL if name != "streamws-speed"]


def test_wse_server_is_not_measured_on_pythons_without_packages() -> None:
    chosen = options("--cases", "broadcast-20", "--servers", "wse-server", "--loops", "uvloop", "--rounds", "1")
    pythons = [interpreter("a", "3.11.7"), interpreter("b", "3.12.1")]
    assert [python.path for *_, python, _ in run.schedule(chosen, pythons)] == ["b"]


def test_interpreters_of_the_same_version_are_numbered() -> None:
    found = interpreters.label(
        [interpreter("a", "3.13.0"), interpreter("b", "3.14.2"), interpreter("c", "3.13.0"), interpreter("d", "3.13.0")]
    )
    assert [each.label for each in found] == ["3.13.0 #1", "3.14.2", "3.13.0 #2", "3.13.0 #3"]
    assert [each.version for each in found] == [(3, 13, 0), (3, 14, 2), (3, 13, 0), (3, 13, 0)]
    assert [markdown.short(each.label) for each in found] == ["3.13 #1", "3.14", "3.13 #2", "3.13 #3"]


def test_interpreter_without_a_package_is_an_error_that_says_what_to_install() -> None:
    lacking = interpreter("/usr/bin/python3", "3.14.2")
    packages = lacking.packages | {"picows": None, "uvloop": None, "aiohttp": None}
    with pytest.raises(UnusableInterpreter) as caught:
        interpreters.check(lacking._replace(packages=packages), ["streamws", "picows"])
    assert str(caught.value) == (
        "/usr/bin/python3 (Python 3.14.2) lacks uvloop, picows: run `/usr/bin/python3 -m pip install '.[bench]'` in "
        "this repository, or choose libraries with --servers"
    )


def test_interpreter_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UnusableInterpreter, match=r"^cannot run .*/none: .*; --python needs the path of an interpreter"
    ):
        interpreters.find([str(tmp_path / "none")], [])


def test_this_interpreter_is_the_default() -> None:
    (found,) = interpreters.find([], [])
    assert found.path == sys.executable
    assert found.version == sys.version_info[:3]
    assert found.packages["streamws"] is not None


def test_plots_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plots.MissingMatplotlib, match=r"^plots need matplotlib: run `pip install '\.\[bench\]'`$"):
        plots.load_pyplot()


def test_earlier_results_are_written_into_a_page_without_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier, merged = tmp_path / "earlier.json", tmp_path / "merged.json"
    results.write(earlier, ENVIRONMENT, [result("streamws", 2), result("picows", 4)])
    monkeypatch.setattr(sys, "argv", ["run.py", "--from", str(earlier), str(earlier), "--json", str(merged)])
    run.main()
    assert [each.round for each in results.read([merged])[1]] == [0, 0, 1, 1]
    assert "streamws                2,000       2.00       0.50  0.50-0.50" in capsys.readouterr().out
