"""Mojolicious, a framework for Perl, from Debian's package."""

import pytest

from interop.conversations import (
    DEFAULT,
    TAKEOVER,
    TOLERANT,
    GivenFragments,
    Refusals,
    exchange_compressed,
    expect_takeover_unasked,
)
from interop.peers.programs import FOLDER, ClientProgram, Program, ServerProgram
from streamws import Compression, DeflateTerms

MOJOLICIOUS = Program("perl", FOLDER / "mojolicious.pl")


class TestServer(ServerProgram, GivenFragments, Refusals):
    """`connect()` with this server."""

    program = MOJOLICIOUS


class TestClient(ClientProgram, GivenFragments):
    """A server with this client."""

    program = MOJOLICIOUS


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
