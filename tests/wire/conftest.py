"""The role, and how a stream is cut."""

from typing import cast

import pytest

from helpers.wires import CUTS, Cut


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
