"""The clients and the server of `websockets`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from functools import partial

import pytest
from websockets.asyncio import client, server
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TEXT,
    UNAUTHORIZED,
    GivenFragments,
    Refusals,
    ServerPeer,
)
from interop.serving import MESSAGES, serving
from streamws import Cause, Client, Limits, Opcode, Side
from streamws import Close as Said

connect = partial(client.connect, proxy=None)  # a proxy named in the environment cannot reach this host
BOUNDARIES = [125, 126, 127, 65535, 65536]


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
async def test_server_echoes_message(message: str | bytes, compression: str | None) -> None:
    async with serving() as served, connect(served.url, compression=compression) as peer:
        await peer.send(message)
        assert await peer.recv() == message


async def test_server_echoes_messages_of_boundary_sizes() -> None:
    async with serving() as served, connect(served.url) as peer:
        for size in BOUNDARIES:
            for message in ("x" * size, b"x" * size):
                await peer.send(message)
                assert await peer.recv() == message


async def test_server_declines_compression() -> None:
    async with serving() as served, connect(served.url, compression="deflate") as peer:
        assert peer.request is not None
        assert peer.response is not None
        assert "permessage-deflate" in peer.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in peer.response.headers


async def test_server_chooses_subprotocol() -> None:
    offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
    async with (
        serving(subprotocols=["chat.v2", "chat.v1"]) as served,
        connect(served.url, subprotocols=offered) as peer,
    ):
        assert peer.subprotocol == "chat.v2"


@pytest.mark.parametrize(
    "parts",
    [["a", "ü", "", "🌍" * 1000], [b"a", b"", bytes(70_000)], ["alone"]],
    ids=["text", "binary", "one"],
)
async def test_server_joins_fragments(parts: list[str] | list[bytes]) -> None:
    async def drip() -> AsyncIterator[str | bytes]:
        for part in parts:
            yield part

    whole = parts[0][:0].join(parts)  # type: ignore[arg-type]  # all parts have one type, which mypy cannot know
    async with serving() as served, connect(served.url) as peer:
        await peer.send(parts)
        assert await peer.recv() == whole
        await peer.send(drip())
        assert await peer.recv() == whole


@pytest.mark.parametrize("parts", [["a", "ü", "", "🌍" * 1000], [b"a", b"", bytes(70_000)]], ids=["text", "binary"])
async def test_client_receives_fragments_as_sent(parts: list[str] | list[bytes]) -> None:
    async def stream(client: Client) -> None:
        await client.writer.feed(parts)

    async with serving(stream) as served, connect(served.url) as peer:
        assert [part async for part in peer.recv_streaming()] == [*parts, parts[0][:0]]


async def test_server_forwards_fragments() -> None:
    async def pass_on(client: Client) -> None:
        async for reader in client.messages():
            await client.writer.feed(reader)

    async with serving(pass_on) as served, connect(served.url, max_size=None) as peer:
        parts = [bytes([number]) * 100_000 for number in range(30)]
        await peer.send(parts)
        assert await peer.recv() == b"".join(parts)


async def test_server_answers_ping() -> None:
    async with serving() as served, connect(served.url) as peer:
        assert await (await peer.ping(b"beat")) >= 0
        await peer.send("still there")
        assert await peer.recv() == "still there"


async def test_client_answers_ping() -> None:
    async def ping(client: Client) -> None:
        await client.send(str(await client.writer.ping(b"beat")))

    async with serving(ping) as served, connect(served.url) as peer:
        assert float(await peer.recv()) > 0


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (1000, "", Cause.CLEAN),
        (1001, "off", Cause.CLEAN),
        (1011, "ü" * 61, Cause.PEER_ERROR),
        (4999, "mine", Cause.PEER_ERROR),
    ],
)
async def test_server_answers_close(code: int, reason: str, cause: Cause) -> None:
    async with serving() as served, connect(served.url) as peer:
        await peer.close(code, reason)
        outcome = await served.outcomes.get()

    assert (peer.close_code, peer.close_reason) == (code, "")  # the answer repeats the code, not the reason
    assert (outcome.cause, outcome.initiator) == (cause, Side.REMOTE)
    assert (outcome.received, outcome.sent) == (Said(code, reason), Said(code))


async def test_server_answers_close_without_code() -> None:
    async with serving() as served, connect(served.url) as peer:
        peer.protocol.send_close()
        for data in peer.protocol.data_to_send():
            peer.transport.write(data)
        outcome = await served.outcomes.get()

    assert outcome.clean
    assert (outcome.received, outcome.sent) == (Said(1005), Said(1005))


async def test_server_reports_reset_when_client_aborts() -> None:
    async with serving() as served, connect(served.url) as peer:
        peer.transport.abort()
        outcome = await served.outcomes.get()

    assert (outcome.cause, outcome.initiator, outcome.code) == (Cause.RESET, Side.REMOTE, 1006)


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (1000, "", Cause.CLEAN),
        (1001, "off", Cause.CLEAN),
        (1011, "ü" * 61, Cause.CLOSED_WITH_ERROR),
        (4999, "mine", Cause.CLOSED_WITH_ERROR),
    ],
)
async def test_server_closes_connection(code: int, reason: str, cause: Cause) -> None:
    async def leave(client: Client) -> None:
        await client.close(code, reason)

    error = ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError
    async with serving(leave) as served, connect(served.url) as peer:
        with pytest.raises(error) as raised:
            await peer.recv()
        outcome = await served.outcomes.get()

    assert raised.value.rcvd == Close(code, reason)
    assert raised.value.rcvd_then_sent
    cause = Cause.CLEAN if code in (1000, 1001) else Cause.CLOSED_WITH_ERROR
    assert (outcome.cause, outcome.initiator) == (cause, Side.LOCAL)
    assert outcome.sent == Said(code, reason)


async def test_server_closes_with_1009_after_too_big_message() -> None:
    async with serving(limits=Limits(max_message_size=1000)) as served, connect(served.url) as peer:
        await peer.send(bytes(1001))
        with pytest.raises(ConnectionClosedError) as raised:
            await peer.recv()

    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1009


async def test_server_accepts_message_of_maximum_size_in_large_fragments() -> None:
    # Like a browser: Chromium splits messages into fragments of 131,000 bytes.
    parts = [b"x" * 131_000] * 8 + [b"x" * 576]
    async with serving(limits=Limits(max_message_size=1 << 20)) as served, connect(served.url) as peer:
        await peer.send(parts)
        assert await peer.recv() == b"x" * (1 << 20)


async def test_server_closes_with_1011_when_handler_raises(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client) -> None:
        raise LookupError("no such room")

    async with serving(fail) as served, connect(served.url) as peer:
        with pytest.raises(ConnectionClosedError) as raised:
            await peer.recv()

    assert raised.value.rcvd == Close(1011, "")
    assert "no such room" in caplog.text


async def test_server_closes_with_1001_when_it_stops() -> None:
    async with serving() as served:
        peer = await connect(served.url)
    with pytest.raises(ConnectionClosedOK) as raised:
        await peer.recv()

    assert raised.value.rcvd == Close(1001, "server shutting down")


async def test_server_refuses_other_origin_with_403() -> None:
    async with serving() as served:
        with pytest.raises(InvalidStatus) as raised:
            await connect(served.url, origin=Origin("https://elsewhere.example"))

    assert raised.value.response.status_code == 403


async def test_server_reads_frames_as_sent() -> None:
    async def describe(client: Client) -> None:
        async for frame in client.frames():
            await client.send(f"{frame.opcode.name} {frame.payload.decode()} {frame.fin}")

    parts: Iterable[str] = ["a", "b"]
    async with serving(describe) as served, connect(served.url) as peer:
        await peer.send(parts)
        seen = [await peer.recv() for _ in range(3)]

    assert seen == [f"{Opcode.TEXT.name} a False", "CONTINUATION b False", "CONTINUATION  True"]


# The server of websockets ----------------------------------------------------------------------------------------


async def converse(peer: server.ServerConnection) -> None:
    assert peer.request is not None
    match peer.request.path.split("/")[1:]:
        case ["subprotocol"]:
            await peer.send(peer.subprotocol or "")
        case ["fragments"]:
            await peer.send(fragments_and_ping(peer))
        case ["ping"]:
            await (await peer.ping(BEAT))
            await peer.send("pong")
        case ["leave", code]:
            await peer.close(int(code), REASON)
    async for message in peer:
        await peer.send(message)


async def fragments_and_ping(peer: server.ServerConnection) -> AsyncIterator[str]:
    yield TEXT[0]
    await peer.ping(BEAT)
    for part in TEXT[1:]:
        yield part


def answer(peer: server.ServerConnection, request: Request) -> Response | None:
    match request.path:
        case "/unauthorized":
            return peer.respond(401, UNAUTHORIZED)
        case "/busy":
            response = peer.respond(503, "")
            response.headers["Retry-After"] = RETRY_AFTER
            return response
    return None


def choose(peer: server.ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


@pytest.fixture
async def peer() -> AsyncIterator[ServerPeer]:
    closes: asyncio.Queue[Said] = asyncio.Queue()

    async def handle(peer: server.ServerConnection) -> None:
        with suppress(ConnectionClosedError):
            await converse(peer)
        received = peer.protocol.close_rcvd
        assert received is not None
        closes.put_nowait(Said(received.code, received.reason))

    async with server.serve(handle, "127.0.0.1", 0, process_request=answer, select_subprotocol=choose) as served:
        yield ServerPeer(f"ws://127.0.0.1:{served.sockets[0].getsockname()[1]}", closes.get)


class TestConnect(GivenFragments, Refusals):
    """`connect()` with this server."""
