"""Mojolicious, a framework for Perl, from Debian's package."""

from collections.abc import AsyncIterator

import pytest

from interop.conversations import GivenFragments, Peer, Refusals
from interop.peers.programs import FOLDER, Program

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
