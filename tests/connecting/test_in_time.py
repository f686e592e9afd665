"""`connect()` against peers that stall at some step: the attempt ends at its deadline, and the error names the step."""

import asyncio
import ssl as tls
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.attempts import failing, message_of
from helpers.frames import answer, frame, server_close
from helpers.peers import Peer, answering, full_listener, scripted, silent
from helpers.waiting import within
from streamws import (
    Cause,
    ConnectTimeout,
    HandshakeRefused,
    InvalidHandshake,
    Timeouts,
    connect,
)

SOON = Timeouts(open=0.15)
TEXT = "Content-Type: text/plain; charset=utf-8"


HEAD_CUT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: "


@pytest.mark.parametrize("data", [b"", HEAD_CUT, b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_client_times_out_when_server_stalls(data: bytes) -> None:
    async with scripted(answering(data)) as server:
        error = await failing(server.url, ConnectTimeout, timeouts=SOON)
    assert message_of(error) == "not connected within 0.15 s (Timeouts.open); still waiting for the response of SERVER"


async def test_client_times_out_when_response_arrives_byte_by_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        with suppress(ConnectionError):
            while not peer.writer.is_closing():
                peer.write(b"HTTP/1.1 101 Switching Protocols\r\n"[len(sent) :][:1] or b"x")
                sent.append(1)
                await peer.writer.drain()
                await asyncio.sleep(0.01)

    sent: list[int] = []
    async with scripted(script) as server:
        await failing(server.url, ConnectTimeout, timeouts=SOON)
    assert len(sent) > 2


async def test_client_refuses_endless_interim_responses() -> None:
    async with scripted(answering(b"HTTP/1.1 102 Processing\r\n\r\n" * 11)) as server:
        await failing(server.url, InvalidHandshake)


async def test_client_times_out_when_tls_handshake_stalls(client_context: tls.SSLContext) -> None:
    async with scripted(silent) as server:
        url = server.url.replace("ws:", "wss:")
        error = await failing(url, ConnectTimeout, timeouts=SOON, ssl=client_context)
    assert message_of(error) == "not connected within 0.15 s (Timeouts.open); still waiting for TLS with SERVER"


@pytest.mark.parametrize("over_unix", [True, False])
async def test_tls_handshake_has_only_deadline_of_attempt(
    over_unix: bool, client_context: tls.SSLContext, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket") if over_unix else None
    async with scripted(silent, path=path) as server:
        url = f"wss://127.0.0.1:{server.port or 443}"
        for timeouts in (SOON, Timeouts(open=None)):
            way = connect(url, path=path, ssl=client_context, timeouts=timeouts)
            with pytest.raises(
                TimeoutError
            ):  # from this test or from the attempt, not from asyncio's own deadline for TLS handshakes
                await asyncio.wait_for(way.__aenter__(), 0.2)


async def test_client_times_out_when_server_does_not_accept() -> None:
    with full_listener() as (host, port):
        error = await failing(f"ws://{host}:{port}", ConnectTimeout, timeouts=SOON)
    assert message_of(error) == "not connected within 0.15 s (Timeouts.open); still waiting for a connection to SERVER"


async def test_client_times_out_when_resolver_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*place: object, **options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    error = await failing("ws://slow.example", ConnectTimeout, timeouts=SOON)
    assert (
        str(error) == "not connected within 0.15 s (Timeouts.open); still waiting for a connection to slow.example:80"
    )


async def test_client_times_out_when_function_for_url_stalls() -> None:
    async def token() -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(ConnectTimeout, match="still waiting for the URL"):
        await within(connect(token, timeouts=SOON))


async def test_client_passes_on_timeout_of_caller() -> None:
    async with scripted(silent) as server:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await connect(server.url)
    assert type(caught.value) is TimeoutError


async def test_refusal_has_received_part_of_stalled_body() -> None:
    async with scripted(answering(answer("503 X", "Content-Length: 100", TEXT, body=b"busy", length=False))) as server:
        error = await failing(server.url, HandshakeRefused, timeouts=SOON)
    assert (str(error), error.body) == ("503 Service Unavailable: busy", b"busy")
    assert isinstance(error.__cause__, TimeoutError)


async def test_client_times_out_when_unix_socket_is_silent(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with scripted(silent, path=path):
        error = await failing("ws://localhost", ConnectTimeout, path=path, timeouts=SOON)
    assert str(error) == f"not connected within 0.15 s (Timeouts.open); still waiting for the response of {path}"


async def test_client_closes_tcp_when_server_does_not_in_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.write(server_close((await peer.read_close())[0]))
        assert await peer.read_rest() == b""

    async with scripted(script) as server:
        client = await within(connect(server.url, timeouts=Timeouts(close=0.1)))
        await within(client.close())
    assert client.outcome is not None
    assert client.outcome.clean


async def test_client_drops_connection_when_close_is_not_answered_in_time() -> None:
    async with (
        scripted(accept_only) as server,
        asyncio.timeout(10),
        connect(server.url, timeouts=Timeouts(close=0.1)) as client,
    ):
        pass
    assert client.outcome is not None
    assert client.outcome.cause is Cause.CLOSE_TIMEOUT


async def accept_only(peer: Peer) -> None:
    await peer.accept()
    await peer.read_rest()


async def test_client_sends_keepalive_pings() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        first, payload = await peer.read_frame()
        assert first == 0x89
        peer.write(frame(0x8A, payload))
        assert (await peer.read_frame())[0] == 0x89  # not answered
        code, reason = await peer.read_close()
        assert (code, reason) == (1011, "received nothing for 0.05 s after a ping")

    timeouts = Timeouts(ping_interval=0.05, ping_timeout=0.05, close=0.2)
    async with scripted(script) as server:
        client = await within(connect(server.url, timeouts=timeouts))
        await within(client.wait_closed())
    assert client.outcome is not None
    assert client.outcome.cause is Cause.KEEPALIVE
