"""Run each test of the engines on those of both builds."""

import importlib
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from helpers.builds import is_compiled, load_pure

Make = Callable[[ssl.SSLContext, bool, str | None], Any]


def _makers() -> dict[str, Make]:
    """Return the factories of all engines: calling OpenSSL directly, and by the standard library."""
    packages = {"": "streamws"} if not is_compiled() else {"": "streamws", "pure-": load_pure().__name__}
    found: dict[str, Make] = {}
    for build, package in packages.items():
        found[f"{build}engine"] = importlib.import_module(f"{package}.net.tls.engine").Engine
    if is_compiled():
        found["direct"] = importlib.import_module("streamws.net.tls.openssl").engine
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Not a parametrized fixture, because streamws must not be imported before `--build` has been read.
    if "make_engine" in metafunc.fixturenames:
        makers = _makers()
        metafunc.parametrize("make_engine", makers.values(), ids=list(makers))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """The version of TLS."""
    return cast(ssl.TLSVersion, request.param)


@pytest.fixture
def contexts(
    version: ssl.TLSVersion, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> dict[bool, ssl.SSLContext]:
    """Contexts of that version; the keys say whether they are for a server."""
    server_context.minimum_version = server_context.maximum_version = version
    return {True: server_context, False: client_context}


@pytest.fixture(params=[True, False], ids=["server", "client"])
def server(request: pytest.FixtureRequest) -> bool:
    """The role of the side under test."""
    return cast(bool, request.param)
