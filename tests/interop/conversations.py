"""Tests of `connect()` with another library's server, to be inherited for each library."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Any

import pytest

from interop.serving import MESSAGES
from streamws import Cause, Client, Close, ConnectionClosed, HandshakeRefused, Side, connect

BEAT = b"beat"
REASON = "ü" * 61
TEXT = ["a", "ü", "", "🌍" * 1000]
BINARY = [b"a", b"", bytes(70_000)]
SUBPROTOCOL = "chat.v2"
UNAUTHORIZED = "token expired\n"
RETRY_AFTER = "7"

clean = pytest.mark.parametrize("code", [1000, 1001])
failing = pytest.mark.parametrize("code", [1011, 4999])


class Peer:
    """A server of another library. Its behaviour depends on the path:

    - /echo: sends each message back
    - /fragments: sends TEXT in fragments, with a ping of BEAT among them
    - /ping: sends a ping of BEAT, and "pong" when it is answered
    - /leave/CODE: closes with the code and REASON
    - /unauthorized: answers 401 with UNAUTHORIZED as its body
    - /busy: answers 503 with RETRY_AFTER

    It accepts SUBPROTOCOL.
    """

    def __init__(self, url: str, closed: Callable[[], Awaitable[Close]], **options: Any) -> None:
        """
        :param closed: returns code and reason of the next Close frame that the server receives.
        :param options: for `connect()`.
        """
        self.closed = closed
        self._url = url
        self._options = options

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Client]:
        async with asyncio.timeout(20), connect(self._url + path, **self._options, **options) as client:
            yield client


class Conversations:
    """Base of a test class, whose module has a fixture `peer`."""

    @pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
    async def test_server_echoes_message(self, peer: Peer, message: str | bytes) -> None:
        async with peer.connect("/echo") as client:
            await client.send(message)
            assert await client.read_message() == message

    async def test_server_echoes_burst_in_order(self, peer: Peer) -> None:
        sizes = islice(cycle([0, 1, 125, 126, 1000]), 300)
        messages = [b"%d" % number + bytes(size) for number, size in enumerate(sizes)]
        async with peer.connect("/echo") as client:
            for message in messages:
                await client.send(message)
            assert [await client.read_message() for _ in messages] == messages

    @pytest.mark.parametrize("parts", [TEXT, BINARY], ids=["text", "binary"])
    async def test_server_joins_fragments(self, peer: Peer, parts: list[str] | list[bytes]) -> None:
        whole = parts[0][:0].join(parts)  # type: ignore[arg-type]  # of one kind, which the join cannot see
        async with peer.connect("/echo") as client:
            await client.writer.feed(parts)
            assert await client.read_message() == whole

    async def test_server_answers_ping_among_fragments(self, peer: Peer) -> None:
        async with peer.connect("/echo") as client:
            pongs: asyncio.Queue[bytes] = asyncio.Queue()
            client.pong(pongs.put_nowait)
            async with client.writer.fragment() as message:
                await message.send("a")
                assert await client.writer.ping(BEAT) > 0
                await message.send("b")
            assert await client.read_message() == "ab"
            assert await pongs.get() == BEAT

    async def test_client_answers_ping(self, peer: Peer) -> None:
        async with peer.connect("/ping") as client:
            pings: asyncio.Queue[bytes] = asyncio.Queue()
            client.ping(pings.put_nowait)
            assert await client.read_message() == "pong"
            assert await pings.get() == BEAT

    @clean
    async def test_client_closes(self, peer: Peer, code: int) -> None:
        await self._client_closes(peer, code, Cause.CLEAN)

    @failing
    async def test_client_closes_with_error(self, peer: Peer, code: int) -> None:
        await self._client_closes(peer, code, Cause.CLOSED_WITH_ERROR)

    async def _client_closes(self, peer: Peer, code: int, cause: Cause) -> None:
        async with peer.connect("/echo") as client:
            await client.close(code, REASON)
            assert await peer.closed() == Close(code, REASON)
            outcome = client.outcome
            assert outcome is not None
            assert (outcome.cause, outcome.initiator, outcome.code) == (cause, Side.LOCAL, code)
            assert outcome.received is not None

    @clean
    async def test_server_closes(self, peer: Peer, code: int) -> None:
        await self._server_closes(peer, code, Cause.CLEAN)

    @failing
    async def test_server_closes_with_error(self, peer: Peer, code: int) -> None:
        await self._server_closes(peer, code, Cause.PEER_ERROR)

    async def _server_closes(self, peer: Peer, code: int, cause: Cause) -> None:
        async with peer.connect(f"/leave/{code}") as client:
            with pytest.raises(ConnectionClosed) as raised:
                await client.read_message()
            outcome = raised.value.outcome
            assert (outcome.cause, outcome.initiator, outcome.received) == (cause, Side.REMOTE, Close(code, REASON))
            assert (await peer.closed()).code == code

    @pytest.mark.parametrize(
        ("offered", "chosen"), [([], None), (["chat.v1"], None), (["chat.v1", SUBPROTOCOL], SUBPROTOCOL)]
    )
    async def test_server_chooses_subprotocol(self, peer: Peer, offered: list[str], chosen: str | None) -> None:
        async with peer.connect("/echo", subprotocols=offered) as client:
            assert client.subprotocol == chosen

    async def test_server_refuses(self, peer: Peer) -> None:
        with pytest.raises(HandshakeRefused, match=r"^401 Unauthorized: token expired$") as raised:
            async with peer.connect("/unauthorized"):
                pass
        assert raised.value.body == UNAUTHORIZED.encode()

    async def test_server_is_busy(self, peer: Peer) -> None:
        with pytest.raises(HandshakeRefused, match=r"^503 Service Unavailable: ") as raised:
            async with peer.connect("/busy"):
                pass
        assert raised.value.headers["retry-after"] == RETRY_AFTER


class FragmentedConversations(Conversations):
    """Base of a test class for a server that can send fragments."""

    async def test_client_joins_fragments(self, peer: Peer) -> None:
        async with peer.connect("/fragments") as client:
            pings: asyncio.Queue[bytes] = asyncio.Queue()
            client.ping(pings.put_nowait)
            assert await client.read_message() == "".join(TEXT)
            assert await pings.get() == BEAT

    async def test_client_reads_fragments(self, peer: Peer) -> None:
        async with peer.connect("/fragments") as client:
            frames = [await client.read_frame()]
            while not frames[-1].fin:
                frames.append(await client.read_frame())
            # Some libraries end a message with an empty frame.
            assert [frame.payload.decode() for frame in frames][: len(TEXT)] == TEXT
            assert b"".join(frame.payload for frame in frames).decode() == "".join(TEXT)
