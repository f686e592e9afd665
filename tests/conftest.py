"""What all tests have in common."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peers",
        action="store_true",
        help="also run tests/interop/peers, which need Node.js with ws, Chromium, curl and a JDK",
    )
