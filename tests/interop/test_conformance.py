"""Server and client before the Autobahn test cases."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from interop.conformance import BUILDS, QUICK, Verdict, judge, judge_client

# How many of its cases each category has among the quick ones. There is no 8 and 11.
CATEGORIES = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 6, "13": 7}
UNSPECIFIED = {
    "7.1.6": "whether a message is echoed that stands before a Close in one chunk",
    "7.13.1": "how close code 5000 is answered",
    "7.13.2": "how close code 65535 is answered",
}


@pytest.mark.parametrize("build", BUILDS)
async def test_server_passes_quick_cases(build: str, tmp_path: Path) -> None:
    passes_quick_cases(await judge(build, QUICK, tmp_path, seconds=120, at_once=8))


@pytest.mark.parametrize("build", BUILDS)
async def test_client_passes_quick_cases(build: str, tmp_path: Path) -> None:
    # In 9.7 and 9.8 there are 1000 round trips a case, one after the other, of which the pace is kosoku's.
    passes_quick_cases(await judge_client(build, QUICK, tmp_path, seconds=120, at_once=8))


def passes_quick_cases(verdicts: Mapping[str, Verdict]) -> None:
    assert Counter(case.partition(".")[0] for case in verdicts) == CATEGORIES
    # Not even "NON-STRICT", which invalid UTF-8 gets that is not noticed before the end of its frame (6.4).
    assert {case: verdict for case, verdict in verdicts.items() if verdict != Verdict("OK", "OK")} == {
        case: Verdict("INFORMATIONAL", "INFORMATIONAL") for case in UNSPECIFIED
    }
