"""Server and client pass all Autobahn test cases of compression, with 1000 messages each."""

from pathlib import Path

import pytest

from interop.conformance import BUILDS, Verdict, judge, judge_client

# Five kinds of data (12) and seven sets of parameters (13), each with whole and fragmented messages, the longest ones
# in many and in large fragments. Split into tests that each take a few minutes.
CATEGORIES = [*(f"12.{kind}" for kind in range(1, 6)), *(f"13.{parameters}" for parameters in range(1, 8))]
SIZES = {"whole": range(1, 11), "fragments": range(11, 15), "many": range(15, 17), "large": range(17, 19)}
# Messages of 16 and 64 bytes do not get smaller and are sent uncompressed here, which kosoku counts as a failure.
NO_TAKEOVER = ["13.2", "13.5", "13.6", "13.7"]
CASES = {
    f"{category} {kind}": [f"{category}.{size}" for size in sizes if size > 2 or category not in NO_TAKEOVER]
    for category in CATEGORIES
    for kind, sizes in SIZES.items()
}

each_build = pytest.mark.parametrize("build", BUILDS)
all_cases = pytest.mark.parametrize("cases", CASES.values(), ids=CASES.keys())


@each_build
@all_cases
async def test_server_passes_compression(build: str, cases: list[str], tmp_path: Path) -> None:
    assert await judge(build, cases, tmp_path, seconds=55, at_once=2) == dict.fromkeys(cases, Verdict("OK", "OK"))


@each_build
@all_cases
async def test_client_passes_compression(build: str, cases: list[str], tmp_path: Path) -> None:
    judged = await judge_client(build, cases, tmp_path, seconds=55, at_once=2)
    assert judged == dict.fromkeys(cases, Verdict("OK", "OK"))
