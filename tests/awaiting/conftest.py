"""Fixtures for tests of awaitables."""

from typing import cast

import pytest

from helpers.sources import Call, inside_a_task, outside_of_tasks


@pytest.fixture(params=[outside_of_tasks, inside_a_task], ids=["from the loop", "from a task"])
def call(request: pytest.FixtureRequest) -> Call:
    """Where the waiting task is woken from: from the loop it goes on at once."""
    return cast(Call, request.param)
