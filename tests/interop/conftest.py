"""Tests that run only with an option: peers that need more than a few packages, and cases that take minutes."""

from pathlib import Path

import pytest

OPTIONS = {Path(__file__).parent / "peers": "peers", Path(__file__).parent / "test_every_case.py": "every_case"}

pytest.register_assert_rewrite("interop.conversations", "interop.peers.programs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    option = OPTIONS.get(collection_path)
    return True if option is not None and not config.getoption(option) else None
