"""Conversations between a `Client` and another library, in either role. Each library's test module inherits them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle, islice
from typing import Any

import pytest

from helpers.inside import is_full
from helpers.waiting import until
from interop.serving import MESSAGES
from streamws import (
    Cause,
    Client,
    Close,
    Compression,
    ConnectionClosed,
    DeflateTerms,
    HandshakeRefused,
    Limits,
    Side,
    WebSocketServer,
    connect,
)

BEAT = b"beat"
REASON = "ü" * 61
TEXT = ["a", "ü", "", "🌍" * 1000]
BINARY = [b"a", b"", bytes(70_000)]
SUBPROTOCOL = "chat.v2"
UNAUTHORIZED = "token expired\n"
RETRY_AFTER = "7"

BROWSER_CODES = (1000, 3000, 4999)
"""The close codes that browsers can send, and libraries with the interface of browsers."""

SIZES = [0, 1, 125, 126, 127, 65535, 65536]
"""Sizes at which the header of a frame changes its form, and their neighbours."""
FLOOD = 512
"""The number of messages of 64 KiB in a flood: more than all the buffers between two programs hold."""

PingCallback = Callable[[bytes], None]


class Peer:
    """A library at the other end, whose behaviour depends on the path:

    - /echo: echoes every message
    - /subprotocol: sends the name of its subprotocol, "" if it has none
    - /fragments: sends TEXT in fragments, with a ping with the payload BEAT between them
    - /ping: sends a ping with the payload BEAT, and the message "pong" when it receives the pong
    - /leave/CODE: closes with the code and REASON

    `closed` waits for the next Close frame that the library receives, and returns its code and reason.
    """

    def __init__(self, closed: Callable[[], Awaitable[Close]]) -> None:
        self.closed = closed

    def connect(
        self, path: str, *, ping: PingCallback | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Client]:
        """Return a connection with the library, which acts as the path says.

        :param ping: The callback of the connection for pings.
        """
        raise NotImplementedError


class ServerPeer(Peer):
    """A running server. It selects SUBPROTOCOL if the client offers it. It has two more paths:

    - /unauthorized: refuses with 401 and the body UNAUTHORIZED
    - /busy: refuses with 503 and RETRY_AFTER
    """

    def __init__(self, url: str, closed: Callable[[], Awaitable[Close]], **options: Any) -> None:
        """Describe it.

        :param options: Arguments for `connect()`.
        """
        super().__init__(closed)
        self._url = url
        self._options = options

    @asynccontextmanager
    async def connect(self, path: str, *, ping: PingCallback | None = None, **options: Any) -> AsyncIterator[Client]:
        async with asyncio.timeout(20), connect(self._url + path, **self._options | options) as client:
            if ping is not None:
                client.ping(ping)
            yield client


class ClientPeer(Peer):
    """A client, which connects to a server of streamws."""

    def __init__(
        self,
        run: Callable[[str, Sequence[str]], AbstractAsyncContextManager[None]],
        closed: Callable[[], Awaitable[Close]],
        **options: Any,
    ) -> None:
        """Describe it.

        :param run: Runs the client while the block runs, with a URL and the subprotocols to offer.
        :param options: Arguments for the server.
        """
        super().__init__(closed)
        self._run = run
        self._options = options

    @asynccontextmanager
    async def connect(
        self, path: str, *, ping: PingCallback | None = None, subprotocols: Sequence[str] = (), **options: Any
    ) -> AsyncIterator[Client]:
        clients: asyncio.Queue[Client] = asyncio.Queue()

        async def hold(client: Client) -> None:
            if ping is not None:
                client.ping(ping)
            clients.put_nowait(client)
            await client.wait_closed()

        # Some clients send large messages in fragments, and each fragment counts as 64 bytes on top of the 1 MiB.
        limits = Limits(max_message_size=2 << 20)
        options = {"limits": limits, "subprotocols": [SUBPROTOCOL], **self._options, **options}
        async with (
            asyncio.timeout(20),
            WebSocketServer("127.0.0.1", 0, handler=hold, **options) as server,
            self._run(f"ws://127.0.0.1:{server.port}{path}", subprotocols),
        ):
            client = await clients.get()
            yield client
            await client.close()


class Conversations:
    """Base of test classes; they or their modules define a fixture `peer`."""

    codes: Sequence[int] = (1000, 1001, 1011, 4999)
    """The codes with which the peer can close."""
    beat = BEAT
    """The payload of the peer's first ping, for a library that chooses it itself."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "peers_code" in metafunc.fixturenames:
            metafunc.parametrize("peers_code", self.codes)

    @pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
    async def test_peer_echoes_message(self, peer: Peer, message: str | bytes) -> None:
        async with peer.connect("/echo") as client:
            await client.send(message)
            assert await client.read_message() == message

    async def test_peer_echoes_messages_of_boundary_sizes(self, peer: Peer) -> None:
        async with peer.connect("/echo") as client:
            for size in SIZES:
                for message in ("x" * size, b"x" * size):
                    await client.send(message)
                    assert await client.read_message() == message

    async def test_peer_echoes_burst_in_order(self, peer: Peer) -> None:
        sizes = islice(cycle([0, 1, 125, 126, 1000]), 300)
        messages = [b"%d" % number + bytes(size) for number, size in enumerate(sizes)]
        async with peer.connect("/echo") as client:
            for message in messages:
                await client.send(message)
            assert [await client.read_message() for _ in messages] == messages

    async def test_peer_echoes_flood_that_is_not_read_at_first(self, peer: Peer) -> None:
        async with peer.connect("/echo") as client:

            async def send() -> None:
                for number in range(FLOOD):
                    await client.send(number.to_bytes(2, "big") + bytes(65534))

            sending = asyncio.create_task(send())
            await until(lambda: is_full(client))  # the echoes wait in the network and at the peer
            for number in range(FLOOD):
                assert await client.read_message() == number.to_bytes(2, "big") + bytes(65534)
            await sending

    @pytest.mark.parametrize("parts", [TEXT, BINARY], ids=["text", "binary"])
    async def test_peer_joins_fragments(self, peer: Peer, parts: list[str] | list[bytes]) -> None:
        whole = parts[0][:0].join(parts)  # type: ignore[arg-type]  # all parts have one type, which mypy cannot know
        async with peer.connect("/echo") as client:
            await client.writer.feed(parts)
            assert await client.read_message() == whole

    async def test_peer_answers_ping_among_fragments(self, peer: Peer) -> None:
        async with peer.connect("/echo") as client:
            pongs: asyncio.Queue[bytes] = asyncio.Queue()
            client.pong(pongs.put_nowait)
            async with client.writer.fragment() as message:
                await message.send("a")
                assert await client.writer.ping(BEAT) > 0
                await message.send("b")
            assert await client.read_message() == "ab"
            assert await pongs.get() == BEAT

    @pytest.mark.parametrize("code", [1000, 1001, 1011, 4999])
    async def test_client_closes_connection(self, peer: Peer, code: int) -> None:
        async with peer.connect("/echo") as client:
            await client.close(code, REASON)
            assert await peer.closed() == Close(code, REASON)
            outcome = client.outcome
            assert outcome is not None
            assert (outcome.cause, outcome.initiator, outcome.code) == (
                Cause.CLEAN if code in (1000, 1001) else Cause.CLOSED_WITH_ERROR,
                Side.LOCAL,
                code,
            )
            assert outcome.received is not None

    async def test_peer_closes_connection(self, peer: Peer, peers_code: int) -> None:
        async with peer.connect(f"/leave/{peers_code}") as client:
            with pytest.raises(ConnectionClosed) as raised:
                await client.read_message()
            outcome = raised.value.outcome
            assert (outcome.cause, outcome.initiator, outcome.received) == (
                Cause.CLEAN if peers_code in (1000, 1001) else Cause.PEER_ERROR,
                Side.REMOTE,
                Close(peers_code, REASON),
            )
            assert (await peer.closed()).code == peers_code

    @pytest.mark.parametrize(("offered", "chosen"), [([], None), (["chat.v1", SUBPROTOCOL], SUBPROTOCOL)])
    async def test_both_sides_know_subprotocol(self, peer: Peer, offered: list[str], chosen: str | None) -> None:
        async with peer.connect("/subprotocol", subprotocols=offered) as client:
            assert client.subprotocol == chosen
            assert await client.read_message() == (chosen or "")


# Further tests for what a library can do, and its roles -------------------------------------------------------------


class Pings(Conversations):
    """Further tests, of a peer that can send pings."""

    async def test_client_answers_ping(self, peer: Peer) -> None:
        pings: asyncio.Queue[bytes] = asyncio.Queue()
        async with peer.connect("/ping", ping=pings.put_nowait) as client:
            assert await client.read_message() == "pong"
            assert await pings.get() == self.beat


class Fragments(Pings):
    """Further tests, of a peer that can send pings among fragments, but may choose the fragments itself."""

    async def test_client_joins_fragments(self, peer: Peer) -> None:
        pings: asyncio.Queue[bytes] = asyncio.Queue()
        async with peer.connect("/fragments", ping=pings.put_nowait) as client:
            assert await client.read_message() == "".join(TEXT)
            assert await pings.get() == self.beat


class GivenFragments(Fragments):
    """Further tests, of a peer that can send given fragments."""

    async def test_client_reads_fragments_as_frames(self, peer: Peer) -> None:
        async with peer.connect("/fragments") as client:
            frames = [await client.read_frame()]
            while not frames[-1].fin:
                frames.append(await client.read_frame())
            # Some libraries end a message with an empty frame.
            assert [frame.payload.decode() for frame in frames][: len(TEXT)] == TEXT
            assert b"".join(frame.payload for frame in frames).decode() == "".join(TEXT)


class Choice(Conversations):
    """Further tests, of a server."""

    async def test_server_chooses_no_subprotocol(self, peer: Peer) -> None:
        async with peer.connect("/subprotocol", subprotocols=["chat.v1"]) as client:
            assert client.subprotocol is None
            assert await client.read_message() == ""


class Refusals(Choice):
    """Further tests, of a server that can choose its refusals."""

    async def test_client_raises_body_of_refusal(self, peer: Peer) -> None:
        with pytest.raises(HandshakeRefused, match=r"^401 Unauthorized: token expired$") as raised:
            async with peer.connect("/unauthorized"):
                pass
        assert raised.value.body == UNAUTHORIZED.encode()

    async def test_client_raises_retry_after_of_busy_server(self, peer: Peer) -> None:
        with pytest.raises(HandshakeRefused, match=r"^503 Service Unavailable: ") as raised:
            async with peer.connect("/busy"):
                pass
        assert raised.value.headers["retry-after"] == RETRY_AFTER


# Compression ------------------------------------------------------------------------------------------------------

DEFAULT = Compression(threshold=0)
NARROW = Compression(threshold=0, window_bits=9, peer_window_bits=9, takeover=True, peer_takeover=True)
TAKEOVER = Compression(threshold=0, window_bits=15, peer_window_bits=15, takeover=True, peer_takeover=True)
TOLERANT = Compression(threshold=0, window_bits=15, peer_window_bits=15, peer_takeover=True)
"""The settings that work with every library, as docs/howto/compression.md says."""

COMPRESSED: list[str | bytes] = [
    "",
    "grüß dich, 🌍",
    b"",
    bytes(range(256)) * 4,
    "ü🌍ab" * 9000,
    bytes(100_000),
    "grüß dich, 🌍",
]
"""Messages that compress well and badly. The last one refers back to the second one if there is context takeover."""


async def exchange_compressed(peer: Peer, own: Compression, agreed: DeflateTerms) -> None:
    """Receive each message as an echo, after sending it in one frame and in fragments, and end well."""
    async with peer.connect("/echo", compression=own) as client:
        assert client.compression == agreed
        for message in COMPRESSED:
            await client.send(message)
            assert await client.read_message() == message
            middle = len(message) // 2
            await client.writer.feed([message[:middle], message[middle:]], compress=True)
            assert await client.read_message() == message
        await client.close()
        assert client.outcome is not None
        assert client.outcome.clean


async def expect_takeover_unasked(peer: Peer, own: Compression) -> None:
    """Let the peer send the same message twice, with context takeover, which the handshake has ruled out."""
    async with peer.connect("/echo", compression=own) as client:
        assert client.compression is not None
        assert not client.compression.peer_takeover
        await client.send("grüß dich, 🌍")
        assert await client.read_message() == "grüß dich, 🌍"
        await client.send("grüß dich, 🌍")
        with pytest.raises(ConnectionClosed, match="a compressed message is corrupt") as raised:
            await client.read_message()
        assert raised.value.outcome.code == 1007
