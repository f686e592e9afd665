"""Server and client before all Autobahn test cases of compression: 1000 messages each."""

from pathlib import Path

import pytest

from interop.conformance import BUILDS, Verdict, judge, judge_client

# Five kinds of data (12), and seven sets of parameters (13), in 18 sizes each.
CATEGORIES = [*(f"12.{kind}" for kind in range(1, 6)), *(f"13.{parameters}" for parameters in range(1, 8))]
EVERY_CASE = [Verdict("OK", "OK")] * 18

each_build = pytest.mark.parametrize("build", BUILDS)
each_category = pytest.mark.parametrize("category", CATEGORIES)


@each_build
@each_category
async def test_server_passes_compression(build: str, category: str, tmp_path: Path) -> None:
    verdicts = await judge(build, [f"{category}.*"], tmp_path, seconds=55, at_once=2)
    assert list(verdicts.values()) == EVERY_CASE, verdicts


@each_build
@each_category
async def test_client_passes_compression(build: str, category: str, tmp_path: Path) -> None:
    verdicts = await judge_client(build, [f"{category}.*"], tmp_path, seconds=55, at_once=2)
    assert list(verdicts.values()) == EVERY_CASE, verdicts
