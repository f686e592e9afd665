"""Server and client before the Autobahn test cases."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from interop.conformance import BUILDS, QUICK, Verdict, judge, judge_client

Judging = Callable[..., Awaitable[Mapping[str, Verdict]]]

# How many of its cases each category has among the quick ones. There is no 8 and 11.
CATEGORIES = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 6, "13": 7}
UNSPECIFIED = {
    "7.1.6": "whether a message is echoed that stands before a Close in one chunk",
    "7.13.1": "how close code 5000 is answered",
    "7.13.2": "how close code 65535 is answered",
}


@pytest.mark.parametrize("judging", [judge, judge_client], ids=["server", "client"])
async def test_both_builds_pass_quick_cases(judging: Judging, tmp_path: Path) -> None:
    # At the same time, since there is much waiting: in 9.7 and 9.8 for 1000 round trips a case, one after the other.
    async with asyncio.TaskGroup() as group:
        for build in BUILDS:
            folder = tmp_path / build
            folder.mkdir()
            group.create_task(passes_quick_cases(judging(build, QUICK, folder, seconds=120, at_once=8)), name=build)


async def passes_quick_cases(judged: Awaitable[Mapping[str, Verdict]]) -> None:
    verdicts = await judged
    assert Counter(case.partition(".")[0] for case in verdicts) == CATEGORIES
    # Not even "NON-STRICT", which invalid UTF-8 gets that is not noticed before the end of its frame (6.4).
    assert {case: verdict for case, verdict in verdicts.items() if verdict != Verdict("OK", "OK")} == {
        case: Verdict("INFORMATIONAL", "INFORMATIONAL") for case in UNSPECIFIED
    }
