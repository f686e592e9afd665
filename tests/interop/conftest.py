"""Which peers are tested: those that are not Python packages only when asked for."""

from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"

pytest.register_assert_rewrite("interop.conversations")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path == PEERS and not config.getoption("peers") else None
