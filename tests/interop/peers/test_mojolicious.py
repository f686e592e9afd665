"""Mojolicious, a framework for Perl, from Debian's package."""

from collections.abc import AsyncIterator

import pytest

from interop.conversations import (
    DEFAULT,
    TAKEOVER,
    TOLERANT,
    GivenFragments,
    Peer,
    Refusals,
    exchange_compressed,
    expect_takeover_unasked,
)
from interop.peers.programs import FOLDER, Program
from streamws import Compression, DeflateTerms

MOJOLICIOUS = Program("perl", FOLDER / "mojolicious.pl")


class TestServer(GivenFragments, Refusals):
    """`connect()` with this server."""

    @pytest.fixture
    async def peer(self) -> AsyncIterator[Peer]:
        async with MOJOLICIOUS.server() as peer:
            yield peer


class TestClient(GivenFragments):
    """A server with this client."""

    @pytest.fixture
    def peer(self) -> Peer:
        return MOJOLICIOUS.client()


# Compression, always with takeover and windows of 15 bits ---------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "agreed"),
    [
        (DEFAULT, DeflateTerms(12, False, 15, True)),
        (TAKEOVER, DeflateTerms(15, True, 15, True)),
        (TOLERANT, DeflateTerms(15, False, 15, True)),
    ],
)
async def test_server_compresses(own: Compression, agreed: DeflateTerms) -> None:
    async with MOJOLICIOUS.server(True) as peer:
        await exchange_compressed(peer, own, agreed)


@pytest.mark.parametrize(
    ("own", "agreed"),
    [
        (Compression(threshold=0, peer_takeover=True), DeflateTerms(12, False, 15, True)),
        (TAKEOVER, DeflateTerms(15, True, 15, True)),
        (TOLERANT, DeflateTerms(15, False, 15, True)),
    ],
)
async def test_client_compresses(own: Compression, agreed: DeflateTerms) -> None:
    await exchange_compressed(MOJOLICIOUS.client(True), own, agreed)


async def test_client_uses_takeover_unasked() -> None:
    await expect_takeover_unasked(MOJOLICIOUS.client(True), DEFAULT)
