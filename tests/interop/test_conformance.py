"""The Autobahn test cases against server and client."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from interop.conformance import QUICK, Verdict, run_against_client, run_against_server

RunCases = Callable[..., Awaitable[Mapping[str, Verdict]]]

# The number of quick cases in each category. There are no categories 8 and 11.
CATEGORIES = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 6, "13": 7}
UNSPECIFIED = {
    "7.1.6": "whether a message is echoed if a Close frame follows it in one chunk",
    "7.13.1": "how a Close frame with code 5000 is answered",
    "7.13.2": "how a Close frame with code 65535 is answered",
}


@pytest.mark.parametrize("run_cases", [run_against_server, run_against_client], ids=["server", "client"])
async def test_build_passes_quick_cases(run_cases: RunCases, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    # Eight at once, because each case mostly waits: in 9.7 and 9.8 for 1000 consecutive round trips.
    check_quick_cases(await run_cases(pytestconfig.getoption("build"), QUICK, tmp_path, seconds=120, at_once=8))


def check_quick_cases(verdicts: Mapping[str, Verdict]) -> None:
    assert Counter(case.partition(".")[0] for case in verdicts) == CATEGORIES
    # No case is "NON-STRICT", the grade in 6.4 for detecting invalid UTF-8 only at the end of its frame.
    assert {case: verdict for case, verdict in verdicts.items() if verdict != Verdict("OK", "OK")} == {
        case: Verdict("INFORMATIONAL", "INFORMATIONAL") for case in UNSPECIFIED
    }
