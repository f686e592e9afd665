"""`connect()`: one attempt against scripted servers that send exact bytes; successes, and the errors of failures."""

import asyncio
import gc
import logging
import re
import socket
import ssl as tls
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.attempts import failing, message_of
from helpers.fixtures import echo as send_back
from helpers.frames import answer, frame, server_close
from helpers.peers import Peer, Script, answering, echo, full_listener, hardy, scripted, silent
from helpers.processes import free_port, output_of
from helpers.waiting import until, within
from streamws import (
    Cause,
    Client,
    CloseOutcome,
    ConnectError,
    Connecting,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeError,
    HandshakeRefused,
    InvalidHandshake,
    InvalidURL,
    Limits,
    MessageReader,
    Side,
    State,
    Target,
    Timeouts,
    UsageError,
    WebSocketServer,
    connect,
    connection,
)
from streamws.net import transports


@pytest.fixture(autouse=True, params=["own", "loop"])
def _both_transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with streamws' own transport, if the event loop allows it, and with the loop's transport."""
    if request.param == "loop":
        for module in (transports, connection):
            monkeypatch.setattr(module, "has_own_transports", lambda loop: False)


# Success --------------------------------------------------------------------------------------------------------


async def test_client_connects_sends_receives_and_closes() -> None:
    async with scripted(echo) as server:
        async with connect(f"{server.url}/path?query", headers={"X-One": "1"}) as client:
            assert client.state is State.OPEN
            assert (client.addr, client.port) == ("127.0.0.1", server.port)
            assert (client.request.method, client.request.target) == ("GET", "/path?query")
            assert client.request.headers["x-one"] == "1"
            assert client.request.headers["Host"] == f"127.0.0.1:{server.port}"
            assert client.request.headers["User-Agent"] == "streamws"
            assert (client.response.status, client.response.headers["UPGRADE"]) == (101, "websocket")
            assert client.subprotocol is None
            assert client.outcome is None
            await client.send("añadió")
            await client.send(b"\x00\xff")
            assert await within(client.read_message()) == "añadió"
            assert await within(client.read_message()) == b"\x00\xff"
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.code) == (Cause.CLEAN, 1000)
        assert client.outcome.initiator is Side.LOCAL
    assert server.heads[0].startswith(b"GET /path?query HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_awaited_client_stays_open_until_it_is_closed() -> None:
    async with scripted(echo) as server:
        client = await within(connect(server.url))
        await client.send("a")
        assert await within(client.read_message()) == "a"
        await within(client.close(3000, "bye"))
        assert client.outcome is not None
        assert client.outcome.code == 3000


async def test_each_await_opens_new_connection() -> None:
    async with scripted(echo) as server:
        way = connect(server.url)
        assert not server.peers  # no connection is made before the await
        first, second = await within(_await_each(way, way))
        assert first is not second
        assert first.id != second.id
        assert first.request.headers["Sec-WebSocket-Key"] != second.request.headers["Sec-WebSocket-Key"]
        await within(asyncio.gather(first.close(), second.close()))


async def _await_each(*ways: Connecting) -> list[Client]:
    return [await way for way in ways]


async def test_connect_refuses_second_concurrent_entry() -> None:
    async with scripted(echo) as server:
        way = connect(server.url)
        async with way as client:
            with pytest.raises(UsageError, match="already entered"):
                await way.__aenter__()
            assert client.state is State.OPEN
        async with way as other:
            assert other is not client


async def test_connect_can_be_entered_again_after_failure() -> None:
    port = free_port()
    way = connect(f"ws://127.0.0.1:{port}")
    for _ in range(2):
        with pytest.raises(ConnectError):
            await way.__aenter__()


@pytest.mark.parametrize("kind", ["str", "target", "coroutine"])
async def test_connect_accepts_function_for_url(kind: str) -> None:
    async with scripted(echo) as server:

        def plain() -> str:
            return f"{server.url}/str"

        def target() -> Target:
            return Target(f"{server.url}/target", {"Authorization": "Bearer 1", "User-Agent": "thing"})

        async def coroutine() -> Target:
            await asyncio.sleep(0)
            return Target(f"{server.url}/coroutine", [("X-Token", "2")])

        functions: dict[str, Any] = {"str": plain, "target": target, "coroutine": coroutine}
        async with connect(functions[kind], headers={"X-One": "1"}, origin="http://a", subprotocols=["b"]):
            pass
    (peer,) = server.peers
    assert peer.head.startswith(f"GET /{kind} ".encode())
    assert (peer.fields["x-one"], peer.fields["origin"], peer.fields["sec-websocket-protocol"]) == (
        "1",
        "http://a",
        "b",
    )
    assert peer.fields["user-agent"] == ("thing" if kind == "target" else "streamws")
    assert peer.fields.get("authorization") == ("Bearer 1" if kind == "target" else None)
    assert peer.fields.get("x-token") == ("2" if kind == "coroutine" else None)


async def test_connect_raises_error_of_function_for_url() -> None:
    def no_token() -> str:
        raise TimeoutError("no token in time")

    with pytest.raises(TimeoutError, match="no token in time") as caught:
        await connect(no_token)
    assert type(caught.value) is TimeoutError


async def test_client_has_subprotocol_selected_by_server() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept("Sec-WebSocket-Protocol: b")
        await peer.close_after_client()

    async with scripted(script) as server, connect(server.url, subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"


async def test_client_sends_credentials_of_url() -> None:
    async with scripted(echo) as server, connect(server.url.replace("//", "//user:p%40ss@")):
        pass
    assert server.peers[0].fields["authorization"] == "Basic dXNlcjpwQHNz"


FRAMES = frame(0x81, b"one") + frame(0x82, b"two")


@pytest.mark.parametrize("split", [False, True])
async def test_client_reads_frames_received_with_response(split: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        pieces = [peer.acceptance(), FRAMES]
        for piece in pieces if split else [b"".join(pieces)]:
            peer.write(piece)
        await peer.close_after_client()

    async with scripted(script) as server, connect(server.url) as client:
        assert await within(client.read_message()) == "one"
        assert await within(client.read_message()) == b"two"


@pytest.mark.parametrize("last", [server_close(1000), frame(0xA1)], ids=["close", "broken rule"])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_client_answers_frames_received_with_response(
    secure: bool, split: bool, last: bytes, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    frames = []

    async def script(peer: Peer) -> None:
        await peer.read_head()
        pieces = [peer.acceptance(), frame(0x81, b"one") + last]
        for piece in pieces if split else [b"".join(pieces)]:
            peer.write(piece)
        frames.append(await peer.read_frame())
        await peer.read_close()

    async with scripted(script, ssl=server_context if secure else None) as server, asyncio.timeout(10):
        client = await connect(server.url, ssl=client_context if secure else None)
        with suppress(ConnectionClosedError):
            async for message in client:
                await client.send(message)
        await server.finish()
        await client.wait_closed()
    assert frames == [(0x81, b"one")]


async def test_callback_registered_immediately_gets_every_message() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=frame(0x89, b"early") + server_close(1000))
        await peer.close()

    payloads: list[bytes] = []
    async with scripted(script) as server:
        client = await within(connect(server.url))
        client.ping(payloads.append)
        await within(client.wait_closed())
    assert payloads == [b"early"]


async def test_client_reads_response_and_frames_byte_by_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        for byte in peer.acceptance() + FRAMES:
            peer.write(bytes((byte,)))
            await asyncio.sleep(0)
        await peer.close_after_client()

    async with scripted(script) as server, connect(server.url) as client:
        assert await within(client.read_message()) == "one"


async def test_client_reads_all_messages_of_connection_that_ended_with_response() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=FRAMES + server_close(1001, "bye"))
        await peer.close()

    async with scripted(script) as server:
        client = await within(connect(server.url))
        await within(server.finish())
        assert [message async for message in client] == ["one", b"two"]
        await within(client.wait_closed())
        assert client.outcome is not None
        assert (client.outcome.clean, client.outcome.code, client.outcome.reason) == (True, 1001, "bye")


# The Close frame for the broken rule reaches a closed socket, so a reset arrives before the end of the stream.
@pytest.mark.parametrize(("behind", "cause"), [(b"", Cause.RESET), (server_close(999), Cause.PROTOCOL_ERROR)])
async def test_client_reports_connection_that_failed_with_response(behind: bytes, cause: Cause) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=FRAMES + behind)
        await peer.close()

    async with scripted(script) as server:
        client = await within(connect(server.url))
        assert await within(client.read_message()) == "one"
        assert await within(client.read_message()) == b"two"
        with pytest.raises(ConnectionClosedError):
            await within(client.read_message())
        await within(client.wait_closed())
        assert client.outcome is not None
        assert (client.outcome.cause, client.outcome.initiator) == (cause, Side.REMOTE)


@pytest.mark.parametrize("with_answer", [False, True])
async def test_client_refuses_masked_frame(with_answer: bool) -> None:
    masked = b"\x81\x81\x01\x02\x03\x04a"
    closes = []

    async def script(peer: Peer) -> None:
        await peer.accept(behind=masked if with_answer else b"")
        if not with_answer:
            peer.write(masked)
        closes.append(await peer.read_close())

    async with scripted(script) as server:
        client = await within(connect(server.url))
        with pytest.raises(ConnectionClosedError):
            await within(client.read_message())
        await within(client.wait_closed())
    assert closes == [(1002, closes[0][1])]
    assert "mask" in closes[0][1]
    assert client.outcome is not None
    assert client.outcome.cause is Cause.PROTOCOL_ERROR


# No connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "what is this",
        "",
        "example.org",
        "http://a",
        "ws://",
        "ws://:1",
        "ws://a:99999",
        "ws://a:0",
        "ws://a#b",
        "ws://a..b",
    ],
)
async def test_attempt_refuses_invalid_url(url: str) -> None:
    way = connect(url)
    with pytest.raises(InvalidURL):
        await way


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_error_of_refused_connection_names_address(scheme: str) -> None:
    error = await failing(f"{scheme}://user:secret@127.0.0.1:{free_port()}/x", ConnectError)
    assert message_of(error) == "cannot connect to SERVER: Connection refused"
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_error_of_unknown_host_names_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*place: object, **options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    error = await failing("ws://nowhere.example", ConnectError)
    assert str(error) == "cannot find the address of nowhere.example: Name or service not known"
    assert isinstance(error.__cause__, socket.gaierror)


def addresses(*places: tuple[str, int]) -> Callable[..., Any]:
    """Return a substitute for the loop's getaddrinfo, which knows one name."""
    known = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if host != "two.example":  # uvloop calls it again for each address
            return await known(host, port, **options)
        families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host, _ in places]
        return [(family, socket.SOCK_STREAM, 6, "", place) for family, place in zip(families, places, strict=True)]

    return getaddrinfo


@pytest.mark.parametrize("dead", ["refuses", "is silent"])
async def test_client_tries_next_address_if_first_one_fails(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_listener() as silent_place:
        first = ("::1", free_port()) if dead == "refuses" else silent_place
        async with scripted(echo) as server:
            found = addresses(first, ("127.0.0.1", server.port))
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
            async with asyncio.timeout(10), connect("ws://two.example") as client:
                assert client.port == server.port
    assert server.peers[0].fields["host"] == "two.example"


async def test_error_names_every_address_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = addresses(("127.0.0.1", free_port()), ("127.0.0.1", free_port()))
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    error = await failing("ws://two.example", ConnectError)
    assert str(error) == "cannot connect to two.example:80: Connection refused"


# TLS ------------------------------------------------------------------------------------------------------------


async def test_client_connects_over_tls(server_context: tls.SSLContext, client_context: tls.SSLContext) -> None:
    async with scripted(echo, ssl=server_context) as server:
        async with asyncio.timeout(10), connect(server.url, ssl=client_context) as client:
            await client.send("a" * 100)
            assert await client.read_message() == "a" * 100
        assert client.outcome is not None
        assert client.outcome.clean


async def test_client_reads_frames_received_with_response_over_tls(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=FRAMES)
        await peer.close_after_client()

    async with (
        scripted(script, ssl=server_context) as server,
        asyncio.timeout(10),
        connect(server.url, ssl=client_context) as client,
    ):
        assert await client.read_message() == "one"
        assert await client.read_message() == b"two"


async def test_certificate_must_match_server_hostname(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with (
        scripted(echo, ssl=server_context) as server,
        asyncio.timeout(10),
        connect(server.url, ssl=client_context, server_hostname="localhost"),
    ):
        pass
    assert server.peers[0].fields["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("host", ["localhost.", "[::1%25lo]"])
async def test_certificate_matches_host_without_final_dot_and_zone(
    host: str, server_context: tls.SSLContext, client_context: tls.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    known = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        return await known("127.0.0.1", port, **options)

    async with scripted(echo, ssl=server_context) as server:
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with asyncio.timeout(10), connect(f"wss://{host}:{server.port}", ssl=client_context):
            pass


async def test_client_refuses_certificate_of_other_host(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with scripted(silent, ssl=server_context) as server:
        error = await failing(server.url, ConnectError, ssl=client_context, server_hostname="other.example")
    assert message_of(error) == "TLS with SERVER failed: its certificate is not valid for 'other.example'"
    assert isinstance(error.__cause__, tls.SSLCertVerificationError)


async def test_client_refuses_untrusted_certificate(server_context: tls.SSLContext) -> None:
    async with scripted(silent, ssl=server_context) as server:
        error = await failing(server.url, ConnectError)
    assert message_of(error) == (
        "TLS with SERVER failed: self-signed certificate; to trust it, "
        "give its certificate authority in ssl= or SSL_CERT_FILE"
    )
    assert isinstance(error.__cause__, tls.SSLCertVerificationError)


async def test_client_accepts_any_certificate_with_permissive_context(server_context: tls.SSLContext) -> None:
    context = tls.create_default_context()
    context.check_hostname = False
    context.verify_mode = tls.CERT_NONE
    async with (
        scripted(echo, ssl=server_context) as server,
        asyncio.timeout(10),
        connect(server.url, ssl=context) as client,
    ):
        assert client.state is State.OPEN


async def test_error_of_wss_to_plain_port_says_so(client_context: tls.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.write(answer("400 Bad Request", body=b"what?"))
        await peer.close()

    async with scripted(script) as server:
        error = await failing(server.url.replace("ws:", "wss:"), ConnectError, ssl=client_context)
    assert message_of(error) == (
        "TLS with SERVER failed: the server does not speak TLS on this port; try ws:// (WRONG_VERSION_NUMBER)"
    )


async def test_error_names_tls_alert_of_server(client_context: tls.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.write(b"\x15\x03\x03\x00\x02\x02\x46")  # fatal: protocol version
        await peer.read_rest()

    async with scripted(script) as server:
        error = await failing(server.url.replace("ws:", "wss:"), ConnectError, ssl=client_context)
    assert message_of(error) == "TLS with SERVER failed: TLSV1_ALERT_PROTOCOL_VERSION"


async def test_error_of_end_inside_tls_handshake_says_so(client_context: tls.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.reader.read(65536)
        await peer.close()

    async with scripted(script) as server:
        error = await failing(server.url.replace("ws:", "wss:"), ConnectError, ssl=client_context)
    assert message_of(error).startswith("TLS with SERVER failed: ")


async def test_error_of_ws_to_tls_port_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.write(b"\x15\x03\x01\x00\x02\x02\x46")  # a TLS alert
        await peer.close()

    async with scripted(script) as server:
        error = await failing(server.url, InvalidHandshake)
    assert str(error) == "the response is TLS, not HTTP: use wss:// on this port"


# An answer other than 101 ---------------------------------------------------------------------------------------

TEXT = "Content-Type: text/plain; charset=utf-8"
HTML = "Content-Type: text/html"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (answer("401 Unauthorized", TEXT, body=b"token expired\n"), "401 Unauthorized: token expired"),
        (
            answer("401 No", "content-type: application/json", body=b'{"error": "token expired"}'),
            '401 Unauthorized: {"error": "token expired"}',
        ),
        (answer("200 OK", HTML, body=b"<title>Welcome</title>"), "200 OK: Welcome"),
        (answer("404 Not Found", body=b""), "404 Not Found: the response has no body"),
        (answer("503 Busy", HTML, body=b"<p>"), "503 Service Unavailable: the response body is text/html"),
        (answer("301 Moved"), "301 Moved Permanently: the response has no body"),  # a redirect without a Location
        (answer("304 Not Modified", length=False), "304 Not Modified: the response has no body"),
        (
            answer("403 X", "Transfer-Encoding: chunked", body=b"2\r\nno\r\n0\r\n\r\n", length=False),
            "403 Forbidden: no",
        ),
        (b"HTTP/1.0 502 X\r\n\r\nold", "502 Bad Gateway: old"),
    ],
)
@pytest.mark.parametrize("close", [True, False])
async def test_client_raises_other_status_with_reason_of_server(data: bytes, message: str, close: bool) -> None:
    close = close or data.startswith(b"HTTP/1.0")  # its body ends with the connection
    async with scripted(answering(data, close=close)) as server:
        error = await failing(server.url, HandshakeRefused)
    assert str(error) == message
    assert error.body in data
    assert error.headers.keys() <= {"content-type", "Content-Type", "Content-Length", "Transfer-Encoding"}


async def test_refusal_has_body_and_case_insensitive_headers() -> None:
    data = answer("503 Busy", "retry-after: 7", "Set-Cookie: a=b", "Set-Cookie: c=d", body=b"\xff\x00")
    async with scripted(answering(data)) as server:
        error = await failing(server.url, HandshakeRefused)
    assert (error.status, error.headers["Retry-After"], error.body) == (503, "7", b"\xff\x00")
    assert error.headers["set-cookie"] == "a=b, c=d"


async def test_client_reads_endless_body_up_to_64_kib() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.write(answer("500 X", length=False))
        try:
            while True:
                peer.write(b"more of it " * 1000)
                await peer.writer.drain()
        except ConnectionError:
            pass  # the client closed the connection at its limit

    async with scripted(script) as server:
        error = await failing(server.url, HandshakeRefused, timeouts=Timeouts(open=None))
    assert len(error.body) == 64 * 1024
    assert str(error).startswith("500 Internal Server Error: more of it more of it")


USE_WSS = "; if this port speaks TLS, use wss://"


async def test_refusal_has_received_part_of_truncated_body() -> None:
    data = answer("503 X", "Content-Length: 100", body=b"busy", length=False)
    async with scripted(answering(data, close=True)) as server:
        error = await failing(server.url, HandshakeRefused)
    assert error.body == b"busy"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", f"SERVER closed the connection before it responded{USE_WSS}"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web",
            "SERVER closed the connection in the middle of its response",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "SERVER closed the connection in the middle of its response"),
    ],
)
async def test_error_of_closed_connection_names_step(data: bytes, message: str) -> None:
    async with scripted(answering(data, close=True)) as server:
        error = await failing(server.url, ConnectError)
    assert message_of(error) == message


async def test_error_of_reset_connection_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.reset()

    async with scripted(script) as server:
        error = await failing(server.url, ConnectError)
    assert message_of(error) == f"SERVER closed the connection before it responded: Connection reset by peer{USE_WSS}"
    assert isinstance(error.__cause__, ConnectionResetError)


async def test_error_of_plain_connection_to_tls_port_says_to_use_wss(server_context: tls.SSLContext) -> None:
    async def never(client: Client) -> None:
        raise AssertionError

    async with WebSocketServer("127.0.0.1", 0, handler=never, ssl=server_context) as server:
        error = await failing(f"ws://127.0.0.1:{server.port}", ConnectError)
    assert message_of(error).startswith("SERVER closed the connection before it responded")
    assert message_of(error).endswith(USE_WSS)


async def test_error_of_tls_connection_does_not_say_to_use_wss(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with scripted(answering(close=True), ssl=server_context) as server:
        error = await failing(server.url, ConnectError, ssl=client_context)
    assert message_of(error) == "SERVER closed the connection before it responded"


ACCEPT = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the response is not HTTP/1.1: it starts with b'SSH-2.0-OpenSSH_9.2'"),
        (b"HTTP/1.1 101 X\n\n", "malformed response head: a line ends with LF instead of CRLF"),
        (b"HTTP/1.1 101 X\r\nA : b\r\n\r\n", "malformed response head: Invalid header token"),
        (
            answer("101 X", "Upgrade: websocket", "Connection: Upgrade", ACCEPT, length=False),
            "invalid handshake response: its Sec-WebSocket-Accept does not match the key that was ",
        ),
        (
            answer("101 X", length=False),
            "invalid handshake response: its Upgrade field is not websocket",
        ),
        (
            answer("200 X", "A: " + "b" * 8190, length=False),
            "response head too large: a line of the head is longer than 8192 bytes (Limits.max_header_line)",
        ),
    ],
)
async def test_error_of_invalid_response_names_broken_rule(data: bytes, message: str) -> None:
    async with scripted(answering(data)) as server:  # its end of the connection is checked, too
        error = await failing(server.url, InvalidHandshake)
    assert str(error).rstrip("'").startswith(message.rstrip("'"))
    assert isinstance(error, HandshakeError)


async def test_client_applies_limits_to_response() -> None:
    async with scripted(answering(answer("200 X", "A: 1", "B: 2"))) as server:
        error = await failing(server.url, InvalidHandshake, limits=Limits(max_headers=2))
    assert str(error) == "response head too large: more than 2 header lines (Limits.max_headers)"


# Cancelling -----------------------------------------------------------------------------------------------------

HEAD_CUT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: "


@pytest.mark.parametrize("step", ["accept", "tls", "answer", "head", "body"])
async def test_cancelled_attempt_leaves_nothing_open(step: str, client_context: tls.SSLContext) -> None:
    scripts: dict[str, Script] = {
        "head": answering(HEAD_CUT),
        "body": answering(answer("500 X", "Content-Length: 9", length=False)),
    }
    with full_listener() as (host, port):
        async with scripted(scripts.get(step, silent)) as server:
            url = {"accept": f"ws://{host}:{port}", "tls": server.url.replace("ws:", "wss:")}.get(step, server.url)
            task = asyncio.create_task(_await(url, client_context if step == "tls" else None))
            if step != "accept":
                await within(server.peer())
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(task)


async def _await(url: str, ssl: tls.SSLContext | None = None) -> Client:
    return await connect(url, ssl=ssl)


async def test_attempt_cancelled_in_any_loop_iteration_leaves_nothing_open() -> None:
    async with scripted(hardy) as server:
        for turns in range(30):
            task = asyncio.create_task(_await(server.url))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                await within(task.result().close())
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await within(task)


# Sockets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
async def test_client_connects_over_unix_socket(
    secure: bool, tmp_path: Path, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    path = tmp_path / "socket"
    async with scripted(echo, path=str(path), ssl=server_context if secure else None) as server:
        url = "wss://localhost/a" if secure else "ws://localhost/a"
        async with asyncio.timeout(10), connect(url, path=path, ssl=client_context if secure else None) as client:
            assert (client.addr, client.port) == (str(path), client.id)
            await client.send("a")
            assert await client.read_message() == "a"
    assert server.peers[0].fields["host"] == "localhost"


@pytest.mark.parametrize("name", ["none", ""])
async def test_error_of_missing_unix_socket_names_path(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    error = await failing("ws://localhost", ConnectError, path=path)
    assert str(error).startswith(f"cannot connect to {path}: ")


async def test_error_of_full_unix_socket_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        error = await failing("ws://localhost", ConnectError, path=path)
    assert str(error).startswith(f"cannot connect to {path}: ")


@pytest.mark.parametrize("secure", [False, True])
async def test_ended_connection_is_freed_without_garbage_collector(
    secure: bool, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with scripted(echo, ssl=server_context if secure else None) as server:
        url = f"wss://localhost:{server.port}" if secure else server.url

        async def open_and_close() -> Callable[[], object]:
            async with connect(url, ssl=client_context if secure else None) as client:
                return weakref.ref(client._connection)

        gc.disable()
        try:
            connection = await within(open_and_close())
            await until(lambda: connection() is None)
        finally:
            gc.enable()


async def connected_socket(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


@pytest.mark.parametrize("blocking", [False, True])
async def test_client_connects_over_given_socket(blocking: bool) -> None:
    async with scripted(echo) as server:
        sock = await connected_socket(server.port)
        sock.setblocking(blocking)
        local = sock.getsockname()
        async with asyncio.timeout(10), connect("ws://example.org", sock=sock) as client:
            assert client.port == server.port
            assert server.peers[0].address == local
        await until(lambda: sock.fileno() == -1)
    assert server.peers[0].fields["host"] == "example.org"


async def test_client_connects_with_tls_over_given_socket(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with scripted(echo, ssl=server_context) as server:
        sock = await connected_socket(server.port)
        async with asyncio.timeout(10), connect("wss://localhost", sock=sock, ssl=client_context) as client:
            assert client.state is State.OPEN


async def test_client_closes_given_socket_after_failure() -> None:
    async with scripted(answering(answer("404 X"))) as server:
        sock = await connected_socket(server.port)
        await failing("ws://example.org", HandshakeRefused, sock=sock)
        await until(lambda: sock.fileno() == -1)


async def test_client_closes_given_socket_once_after_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connected_socket(listener.getsockname()[1])
        peer = listener.accept()[0]
        connecting = connect("ws://example.org", sock=sock)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    with pytest.raises(ConnectError):
        await within(connecting)
    # The socket object knows that it is closed. Otherwise it would close its descriptor again when it is freed, and by
    # then that descriptor may belong to another socket.
    await until(lambda: sock.fileno() == -1)


async def test_client_closes_given_socket_that_was_reset_before() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connected_socket(listener.getsockname()[1])
        peer = listener.accept()[0]
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    with pytest.raises(ConnectError):
        await within(connect("ws://example.org", sock=sock))
    await until(lambda: sock.fileno() == -1)


def test_client_refuses_a_given_socket_that_is_not_connected() -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match="sock must be a connected socket"):
        connect("ws://example.org", sock=sock)


def test_given_socket_must_not_be_tls_socket(client_context: tls.SSLContext) -> None:
    with (
        client_context.wrap_socket(socket.socket(), server_hostname="localhost") as sock,
        pytest.raises(TypeError, match="sock must be a plain socket"),
    ):
        connect("ws://localhost", sock=sock)


async def test_client_connects_from_a_local_address() -> None:
    async with scripted(echo) as server, connect(server.url, local_address=("127.0.0.2", 0)):
        assert server.peers[0].address[0] == "127.0.0.2"


async def test_error_of_unavailable_local_address_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await failing(f"ws://127.0.0.1:{free_port()}", ConnectError, local_address=("127.0.0.1", port))
    assert message_of(error) == "cannot connect to SERVER from SERVER: Address already in use"


async def test_error_of_local_address_of_other_family_says_so() -> None:
    error = await failing(f"ws://127.0.0.1:{free_port()}", ConnectError, local_address=("::1", 0))
    assert message_of(error).startswith("cannot connect to SERVER from [::1]:0: no matching local address")


# Arguments ------------------------------------------------------------------------------------------------------

SOCK = socket.socket.__new__(socket.socket)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"sock": SOCK, "path": "a"}, ValueError, "sock and path cannot be used together"),
        ({"path": "a", "local_address": ("", 0)}, ValueError, "path and local_address cannot be used together"),
        ({"sock": SOCK, "local_address": ("", 0)}, ValueError, "sock and local_address cannot be used together"),
        ({"sock": SOCK, "proxy": "http://p"}, ValueError, "proxy and sock cannot be used together"),
        ({"path": "", "proxy": "http://p"}, ValueError, "proxy and path cannot be used together"),
        ({"ssl": True}, TypeError, "ssl must be an ssl.SSLContext, not True"),
        ({"ssl": "wss"}, TypeError, "ssl must be an ssl.SSLContext"),
        ({"max_redirects": -1}, ValueError, "max_redirects must be 0 or more, not -1"),
        ({"subprotocols": "chat"}, ValueError, "subprotocols must be a list of names, not 'chat'"),
        ({"headers": {"a b": "c"}}, ValueError, "header name 'a b' is not a token"),
        ({"headers": {"a": "b\r\nc"}}, ValueError, "the value of header a contains a control character"),
        ({"headers": {"Upgrade": "h2c"}}, ValueError, "Upgrade must not be in headers=, streamws sets it"),
        ({"origin": "a\n"}, ValueError, "the value of header Origin contains a control character"),
        ({"proxy": "ftp://p"}, ValueError, "'ftp://p' is not a valid proxy URL"),
    ],
)
def test_connect_refuses_invalid_arguments_immediately(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        connect("ws://a", **options)


@pytest.mark.parametrize("name", ["ssl", "server_hostname"])
async def test_connect_refuses_tls_arguments_for_ws_url(client_context: tls.SSLContext, name: str) -> None:
    options: dict[str, Any] = {name: client_context if name == "ssl" else "a"}
    error = await failing("ws://user:secret@a/b", InvalidURL, **options)
    assert str(error) == f"{name}= is only for wss://, not for ws://a/b: use wss://, or leave {name}= out"


# Closing --------------------------------------------------------------------------------------------------------


class Boom(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 1000),
        (Boom(), 1011),
        (UsageError("a mistake"), 1011),
        (asyncio.CancelledError(), 1001),
    ],
    ids=repr,
)
async def test_end_of_block_closes_with_code_for_its_error(error: BaseException | None, code: int) -> None:
    closes = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        closes.append(await peer.close_after_client())

    async def block(url: str) -> None:
        async with connect(url):
            if error is not None:
                raise error

    async with scripted(script) as server:
        if error is None:
            await within(block(server.url))
        else:
            with pytest.raises(type(error)):
                await within(block(server.url))
    assert closes == [(code, "")]


async def test_cancelled_block_closes_with_1001_and_stays_cancelled() -> None:
    closes = []
    entered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        closes.append(await peer.close_after_client())

    async def block(url: str) -> None:
        async with connect(url) as client:
            entered.set()
            await client.read_message()

    async with scripted(script) as server:
        task = asyncio.create_task(block(server.url))
        await within(entered.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
    assert closes == [(1001, "")]


async def read_in_block(url: str) -> str | bytes:
    async with connect(url) as client:
        return await client.read_message()


async def test_block_raises_connection_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=server_close(1012))
        assert await peer.read_close() == (1012, "")

    async with scripted(script) as server:
        with pytest.raises(ConnectionClosed) as caught:
            await within(read_in_block(server.url))
    assert caught.value.outcome.code == 1012


async def test_client_lets_server_close_tcp_first() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.write(server_close((await peer.read_close())[0]))
        await closed.wait()
        assert not peer.reader.at_eof()
        await peer.close()

    async with scripted(script) as server:
        client = await within(connect(server.url))
        task = asyncio.create_task(client.close())
        await until(lambda: client.outcome is not None and client.outcome.received is not None)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        assert client.state is State.CLOSING
        closed.set()
        await within(task)
    assert client.outcome is not None
    assert client.outcome.clean


async def test_client_answers_close_of_server() -> None:
    closes = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.write(server_close(1001, "bye"))
        closes.append(await peer.read_close())

    async with scripted(script) as server:
        client = await within(connect(server.url))
        await within(client.wait_closed())
    assert closes == [(1001, "")]
    assert client.outcome is not None
    assert client.outcome.initiator is Side.REMOTE


# An open connection ---------------------------------------------------------------------------------------------


async def test_client_calls_callbacks() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=FRAMES + frame(0x89, b"here?"))
        assert await peer.read_frame() == (0x8A, b"here?")
        assert await peer.read_frame() == (0x81, b"seen")
        peer.write(server_close(1000))
        await peer.read_close()

    calls: list[object] = []
    ended = asyncio.Event()
    async with scripted(script) as server:
        client = await within(connect(server.url))

        @client.message
        async def on_message(reader: MessageReader) -> None:
            calls.append(await reader.get())
            if len(calls) == 2:
                await client.send("seen")

        @client.closed
        def on_closed(outcome: CloseOutcome) -> None:
            calls.append(outcome.code)
            ended.set()

        await within(ended.wait())
    assert calls == ["one", b"two", 1000]


async def test_client_closes_with_1011_when_callback_raises(caplog: pytest.LogCaptureFixture) -> None:
    closes = []

    async def script(peer: Peer) -> None:
        await peer.accept(behind=FRAMES)
        closes.append(await peer.close_after_client())

    async with scripted(script) as server:
        client = await within(connect(server.url))

        @client.message
        async def on_message(reader: MessageReader) -> None:
            raise Boom

        await within(client.wait_closed())
    assert closes == [(1011, "")]
    assert "on_message raised" in caplog.text


async def test_client_answers_messages_received_with_response_before_broken_rule() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=frame(0x81, b"first") + b"\x83\x00")
        assert await peer.read_frame() == (0x81, b"first")
        first, payload = await peer.read_frame()
        assert (first, payload[:2]) == (0x88, (1002).to_bytes(2, "big"))

    async with scripted(script) as server, connect(server.url) as client:
        with pytest.raises(ConnectionClosedError):
            await send_back(client)


async def test_client_and_server_answer_pings() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=frame(0x89, b"server"))
        # Frames received with the response are processed after the first step of the task that connects.
        frames = {await peer.read_frame(), await peer.read_frame()}
        assert frames == {(0x8A, b"server"), (0x89, b"client")}
        peer.write(frame(0x8A, b"client"))
        await peer.close_after_client()

    async with scripted(script) as server, connect(server.url) as client:
        assert await within(client.writer.ping(b"client")) >= 0
        assert client.latency is not None


async def test_log_has_one_line_for_open_and_one_for_end_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "streamws")
    async with scripted(echo) as server:
        url = f"ws://user:secret@127.0.0.1:{server.port}/chat?token=secret"
        async with connect(url, headers={"Cookie": "a=secret", "Authorization": "Bearer secret"}):
            pass
    place = f"127.0.0.1:{server.port}"
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("streamws", "INFO", f"connected to {place}/chat"),
        ("streamws", "INFO", f"connection to {place}: closed by this side with 1000"),
    ]


async def test_client_raises_and_does_not_log_failed_attempt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamws")
    async with scripted(answering(answer("404 X"))) as server:
        await failing(server.url, HandshakeRefused)
    assert not caplog.records


def test_target_is_immutable() -> None:
    assert Target("ws://a") == Target("ws://a", ())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Target("ws://a").url = "ws://b"  # type: ignore[misc]


def test_target_shows_no_secrets() -> None:
    target = Target("ws://Ann:secret@a.example/b?token=secret", {"Authorization": "secret"})
    assert repr(target) == "Target(url='ws://***@a.example/b?...')"


async def test_server_does_not_load_the_modules_of_the_client() -> None:
    program = """
import sys
from streamws import WebSocketServer
print("streamws.connecting" in sys.modules, "email" in sys.modules)
from streamws import connect
print("streamws.connecting" in sys.modules, "email" in sys.modules)
"""
    assert (await output_of(program)).split() == ["False", "False", "True", "True"]
