"""Fixtures for tests of awaitables."""

from typing import cast

import pytest

from helpers.sources import Call, inside_a_task, outside_of_tasks


@pytest.fixture(params=[outside_of_tasks, inside_a_task], ids=["from the loop", "from a task"])
def call(request: pytest.FixtureRequest) -> Call:
    """The way to wake a waiting task. If the loop itself makes the call, the task resumes at once."""
    return cast(Call, request.param)
