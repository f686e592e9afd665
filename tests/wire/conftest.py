"""The role, and how a stream is cut."""

from typing import cast

import pytest

from helpers.wires import CUTS, Cut


@pytest.fixture(params=[True, False], ids=["masked", "unmasked"])
def masked(request: pytest.FixtureRequest) -> bool:
    """Whether the parser reads masked frames, as a server does."""
    return cast(bool, request.param)


@pytest.fixture(params=[True, False], ids=["server", "client"])
def server(request: pytest.FixtureRequest) -> bool:
    """The role of the side under test."""
    return cast(bool, request.param)


@pytest.fixture(params=CUTS, ids=lambda cut: str(cut.__name__))
def cut(request: pytest.FixtureRequest) -> Cut:
    """How a stream is cut into the chunks that are fed."""
    return cast(Cut, request.param)
