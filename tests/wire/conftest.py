"""Fixtures for the role and the cut of a stream; tests run with pairs of parameter values, not all combinations."""

from collections import defaultdict
from pathlib import Path
from typing import cast

import pytest

from helpers.pairwise import covering
from helpers.wires import CUTS, Cut

FOLDER = Path(__file__).parent


@pytest.fixture(params=[True, False], ids=["masked", "unmasked"])
def masked(request: pytest.FixtureRequest) -> bool:
    """Whether the parser reads masked frames, like a server."""
    return cast(bool, request.param)


@pytest.fixture(params=[True, False], ids=["server", "client"])
def server(request: pytest.FixtureRequest) -> bool:
    """Whether the side under test is the server."""
    return cast(bool, request.param)


@pytest.fixture(params=CUTS, ids=lambda cut: str(cut.__name__))
def cut(request: pytest.FixtureRequest) -> Cut:
    """Cuts a stream into the chunks that are fed."""
    return cast(Cut, request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests of this folder, on each build, with all pairs of parameter values instead of all combinations."""
    if config.getoption("every_case"):
        return
    tests: defaultdict[object, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and FOLDER in item.path.parents:
            tests[item.path, item.originalname, item.callspec.params.get("wire")].append(item)
    left_out: list[pytest.Item] = []
    for cases in tests.values():
        # Compare by identity: some values are not hashable, and pytest passes on the same objects of `parametrize`.
        chosen = covering([{name: id(value) for name, value in case.callspec.params.items()} for case in cases])
        left_out += [case for place, case in enumerate(cases) if place not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]
