"""The libraries gorilla/websocket and nhooyr.io/websocket for Go, from Debian's packages."""

import os
from collections.abc import AsyncIterator, Callable
from subprocess import run

import pytest

from interop.conversations import (
    DEFAULT,
    TAKEOVER,
    TOLERANT,
    Fragments,
    GivenFragments,
    Peer,
    Refusals,
    exchange_compressed,
)
from interop.peers.programs import FOLDER, Program, ProgramError
from streamws import Compression, DeflateTerms, HandshakeRefused

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


# Compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "agreed"),
    [(DEFAULT, DeflateTerms(12, False, 15, False)), (TAKEOVER, DeflateTerms(15, False, 15, False))],
)
@pytest.mark.parametrize("role", ["server", "client"])
async def test_gorilla_compresses_without_takeover(
    gorilla: Program, role: str, own: Compression, agreed: DeflateTerms
) -> None:
    if role == "client":
        await exchange_compressed(gorilla.client("on"), own, agreed)
    else:
        async with gorilla.server("on") as peer:
            await exchange_compressed(peer, own, agreed)


NHOOYR = [
    ("no takeover", TAKEOVER, DeflateTerms(15, False, 15, False)),
    ("takeover", TAKEOVER, DeflateTerms(15, True, 15, True)),
    ("takeover", TOLERANT, DeflateTerms(15, False, 15, True)),
]


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [*NHOOYR, ("takeover", Compression(threshold=0, peer_window_bits=15), DeflateTerms(12, False, 15, False))],
)
async def test_nhooyr_server_compresses(nhooyr: Program, settings: str, own: Compression, agreed: DeflateTerms) -> None:
    async with nhooyr.server(settings) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(
    ("settings", "own", "agreed"),
    [*NHOOYR, ("takeover", Compression(threshold=0, window_bits=15), DeflateTerms(15, False, 15, False))],
)
async def test_nhooyr_client_compresses(nhooyr: Program, settings: str, own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(nhooyr.client(settings), own, agreed)


async def test_nhooyr_server_refuses_small_windows(nhooyr: Program) -> None:
    async with nhooyr.server("takeover") as peer:
        with pytest.raises(HandshakeRefused, match=r'^400 Bad Request: .*"server_max_window_bits=12"$'):
            async with peer.connect("/echo", compression=DEFAULT):
                pass


async def test_nhooyr_client_refuses_small_windows(nhooyr: Program) -> None:
    with pytest.raises(ProgramError, match='unsupported permessage-deflate parameter: "server_max_window_bits=12"'):
        async with nhooyr.client("takeover").connect("/echo", compression=DEFAULT) as client:
            await client.wait_closed()
