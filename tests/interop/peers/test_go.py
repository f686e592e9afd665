"""The libraries gorilla/websocket and nhooyr.io/websocket for Go, from Debian's packages."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from subprocess import run

import pytest

from interop.conversations import Fragments, GivenFragments, Peer, Refusals
from interop.peers.programs import FOLDER, Program

# Where Debian puts the sources of libraries, for programs without modules.
ENVIRONMENT = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Program]:
    path = tmp_path_factory.mktemp("go") / "peers"
    run(["go", "build", "-o", path, "peers.go"], cwd=FOLDER, env=os.environ | ENVIRONMENT, check=True)
    return lambda library: Program(path, library=library)


@pytest.fixture
def gorilla(built: Callable[[str], Program]) -> Program:
    return built("gorilla")


@pytest.fixture
def nhooyr(built: Callable[[str], Program]) -> Program:
    return built("nhooyr")


class TestGorillaServer(Fragments, Refusals):
    """`connect()` with the server of gorilla."""

    @pytest.fixture
    async def peer(self, gorilla: Program) -> AsyncIterator[Peer]:
        async with gorilla.server() as peer:
            yield peer


class TestGorillaClient(Fragments):
    """A server with the client of gorilla."""

    @pytest.fixture
    def peer(self, gorilla: Program) -> Peer:
        return gorilla.client()


class TestNhooyrServer(GivenFragments, Refusals):
    """`connect()` with the server of nhooyr."""

    beat = b"1"

    @pytest.fixture
    async def peer(self, nhooyr: Program) -> AsyncIterator[Peer]:
        async with nhooyr.server() as peer:
            yield peer


class TestNhooyrClient(GivenFragments):
    """A server with the client of nhooyr."""

    beat = b"1"

    @pytest.fixture
    def peer(self, nhooyr: Program) -> Peer:
        return nhooyr.client()
