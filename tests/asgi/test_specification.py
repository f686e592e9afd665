"""The ASGI specification for WebSockets, sentence by sentence: version 2.4 of `specs/www.rst` in django/asgiref.

Each test cites what it checks. The servers are uvicorn's, with `streamws.asgi.uvicorn.Protocol`.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from asgi.applications import ACCEPT, Event, Receive, Recorder, Send, Serve, echo
from helpers.frames import BINARY, PING, PONG, TEXT, request
from helpers.peers import open_peer
from helpers.waiting import iterations, within
from streamws import HandshakeRefused, connect

DONE = {"type": "websocket.disconnect", "code": 1000, "reason": ""}


# "PING/PONG messages", "message fragmentation" ----------------------------------------------------------------


async def test_server_answers_pings_itself_even_if_the_application_does_not_receive(serve: Serve) -> None:
    """WebSocket protocol servers should handle PING/PONG messages themselves."""
    leave = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await leave.wait()

    peer = await open_peer((await serve(application)).port)
    peer.send(TEXT, b"unread")
    peer.send(PING, b"there?")
    assert await peer.read_frame() == (PONG, b"there?")
    leave.set()
    await peer.close()


async def test_server_sends_pings(serve: Serve) -> None:
    """... and send PING messages as necessary to ensure the connection is alive."""
    peer = await open_peer((await serve(echo, ws_ping_interval=0.01)).port)
    first, _ = await peer.read_frame()
    assert first == PING
    await peer.close()


async def test_application_receives_complete_messages(serve: Serve) -> None:
    """WebSocket protocol servers should handle message fragmentation themselves, and deliver complete messages."""
    recorder = Recorder()
    peer = await open_peer((await serve(recorder)).port)
    peer.send(0x01, "grü".encode()[:3], fin=False)
    peer.send(0x00, "grü".encode()[3:], fin=False)
    peer.send(PING, b"between")
    peer.send(0x80, b"ss")
    peer.send_close()
    await within(recorder.done.wait())
    assert recorder.events == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "grüss"},
        DONE,
    ]
    await peer.close()


# "Websocket Connection Scope" -----------------------------------------------------------------------------------


async def test_scope(serve: Serve) -> None:
    """All keys of the connection scope."""
    recorder = Recorder()
    served = await serve(recorder, root_path="/mounted")
    fields = {"Host": "example.org:80", "Sec-WebSocket-Protocol": "a, b"}
    repeated = [("X-Twice", "1"), ("X-Other", "caf\xe9"), ("x-twice", "2"), ("Sec-WebSocket-Protocol", "c")]
    peer = await open_peer(served.port, request(fields, *repeated, target="/caf%C3%A9%2Froom?token=%2F&x"))
    scope = dict(recorder.scope)
    headers = scope.pop("headers")
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/mounted/café/room",
        "raw_path": b"/mounted/caf%C3%A9%2Froom",
        "query_string": b"token=%2F&x",
        "root_path": "/mounted",
        "client": peer.writer.get_extra_info("sockname"),
        "server": ("127.0.0.1", served.port),
        "subprotocols": ["a", "b", "c"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    # "Order should be preserved"; "duplicates must be preserved"; "names should be lowercased".
    assert [(name, value) for name, value in headers if name in (b"host", b"x-twice", b"x-other")] == [
        (b"host", b"example.org:80"),
        (b"x-twice", b"1"),
        (b"x-other", b"caf\xe9"),
        (b"x-twice", b"2"),
    ]
    await peer.close()


async def test_scheme_is_wss_over_tls(
    serve: Serve, certificate: tuple[Path, Path], client_context: ssl.SSLContext
) -> None:
    """`scheme`: likely "ws" or "wss"."""
    recorder = Recorder()
    served = await serve(recorder, ssl_certfile=certificate[0], ssl_keyfile=certificate[1])
    url = f"wss://127.0.0.1:{served.port}"
    async with connect(url, ssl=client_context, proxy=None) as client:
        await client.send("over TLS")
        await client.send(bytes(100_000))
    await within(recorder.done.wait())
    assert recorder.scope["scheme"] == "wss"
    assert recorder.events[1:] == [
        {"type": "websocket.receive", "text": "over TLS"},
        {"type": "websocket.receive", "bytes": bytes(100_000)},
        DONE,
    ]


async def test_server_of_a_unix_socket_is_its_path(serve: Serve, tmp_path: Path) -> None:
    """`server`: or `[path, None]` where `path` is that of the unix socket. `client` defaults to None."""
    recorder = Recorder()
    await serve(recorder, uds=str(tmp_path / "s"))
    async with connect("ws://localhost/", path=str(tmp_path / "s")) as client:
        await client.send("x")
    await within(recorder.done.wait())
    assert (recorder.scope["server"], recorder.scope["client"]) == ((str(tmp_path / "s"), None), None)


async def test_state_is_a_copy_of_that_of_the_lifespan(serve: Serve) -> None:
    """`state`: a copy of the namespace passed into the lifespan corresponding to this request."""
    seen: list[Any] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["state"]))
        scope["state"]["own"] = True
        await echo(scope, receive, send)

    served = await serve(application)
    served.server.lifespan.state["pool"] = "shared"
    for _ in range(2):
        async with connect(served.url, proxy=None):
            pass
    assert seen == [{"pool": "shared"}] * 2


# "Connect - receive event", "Accept - send event" ---------------------------------------------------------------


async def test_connect_is_the_first_event_and_the_handshake_waits_for_its_answer(serve: Serve) -> None:
    """The protocol server must send this message during the handshake and not complete the handshake until a reply."""
    received: asyncio.Queue[Event] = asyncio.Queue()
    answer = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        received.put_nowait(await receive())
        await answer.wait()
        await send(ACCEPT)
        received.put_nowait(await receive())

    peer = await (await serve(application)).open()
    peer.write(request())
    assert await within(received.get()) == {"type": "websocket.connect"}
    # A message that the client sends too early is not passed on before the answer.
    peer.send(TEXT, b"early")
    reading = asyncio.ensure_future(peer.read_head())
    await iterations(10)
    assert not reading.done()
    assert received.empty()
    answer.set()
    assert (await within(reading)).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert await within(received.get()) == {"type": "websocket.receive", "text": "early"}
    assert await within(peer.read_close()) == (1000, "")
    await peer.close()


async def test_connect_is_the_first_event_even_after_the_accept(serve: Serve) -> None:
    """This message must be responded to with either an Accept message or a Close message."""
    events: list[Event] = []
    done = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        events.extend([await receive(), await receive()])
        done.set()

    peer = await open_peer((await serve(application)).port)
    peer.send(BINARY, b"x")
    await within(done.wait())
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": b"x"}]
    await peer.close()


async def test_accept_sets_subprotocol_and_headers_in_order(serve: Serve) -> None:
    """`subprotocol`: the subprotocol to accept. `headers`: order must be preserved in the HTTP response."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        cookies = [(b"set-cookie", b"a=1"), (b"x-room", b"\xc3\xa9"), (b"set-cookie", b"b=2")]
        await send({"type": "websocket.accept", "subprotocol": "chat.v2", "headers": cookies})
        await receive()

    served = await serve(application)
    async with connect(served.url, subprotocols=["chat.v1", "chat.v2"], proxy=None) as client:
        assert client.subprotocol == "chat.v2"
        fields = list(client.response.headers.items_all())
        assert [field for field in fields if field[0] in ("set-cookie", "x-room")] == [
            ("set-cookie", "a=1"),
            ("x-room", "é"),
            ("set-cookie", "b=2"),
        ]


@pytest.mark.parametrize(
    "field",
    [(b"x", b"1\r\nset-cookie: evil=1"), (b"x\r\ny", b"1"), (b"sec-websocket-accept", b"x"), ("x", "1")],
    ids=["value with a line end", "name with a line end", "field of the handshake", "not bytes"],
)
async def test_accept_with_a_field_that_breaks_the_response_gets_500(
    serve: Serve, field: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [field]})

    peer = await (await serve(application)).open()
    peer.write(request())
    assert (await within(peer.read_rest())).startswith(b"HTTP/1.1 500 ")
    assert "InvalidHeader" in caplog.text
    await peer.close()


# "Receive - receive event", "Send - send event" -----------------------------------------------------------------


async def test_events_of_messages_have_exactly_one_kind_of_content(serve: Serve) -> None:
    """Exactly one of `bytes` or `text` must be non-None."""
    recorder = Recorder()
    peer = await open_peer((await serve(recorder)).port)
    sent: list[tuple[int, bytes, Event]] = [
        (TEXT, b"", {"type": "websocket.receive", "text": ""}),
        (BINARY, b"", {"type": "websocket.receive", "bytes": b""}),
        (TEXT, "🌍".encode(), {"type": "websocket.receive", "text": "🌍"}),
        (BINARY, b"\xff", {"type": "websocket.receive", "bytes": b"\xff"}),
    ]
    for opcode, payload, _ in sent:
        peer.send(opcode, payload)
    peer.send_close()
    await within(recorder.done.wait())
    assert recorder.events == [{"type": "websocket.connect"}, *[event for *_, event in sent], DONE]
    await peer.close()


@pytest.mark.parametrize(
    ("content", "frame"),
    [
        ({"text": "é"}, (TEXT, "é".encode())),
        ({"bytes": b"\x00\xff"}, (BINARY, b"\x00\xff")),
        ({"text": "", "bytes": None}, (TEXT, b"")),
        ({"text": None, "bytes": b""}, (BINARY, b"")),
        ({"bytes": bytearray(b"abc")}, (BINARY, b"abc")),
    ],
)
async def test_send_sends_text_or_bytes(serve: Serve, content: Event, frame: tuple[int, bytes]) -> None:
    """One or both keys may be present."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", **content})

    peer = await open_peer((await serve(application)).port)
    assert await within(peer.read_frame()) == frame
    assert await within(peer.read_close()) == (1000, "")
    await peer.close()


@pytest.mark.parametrize("content", [{}, {"text": None, "bytes": None}, {"text": b"bytes"}, {"bytes": "text"}])
async def test_send_without_valid_content_raises_type_error(serve: Serve, content: Event) -> None:
    raised: list[BaseException] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            await send({"type": "websocket.send", **content})
        except TypeError as error:
            raised.append(error)

    peer = await open_peer((await serve(application)).port)
    assert await within(peer.read_close()) == (1000, "")
    assert "of a 'websocket.send' event" in str(raised[0])
    await peer.close()


# "Disconnect - receive event" -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "event"),
    [
        (1000, "", DONE),
        (1001, "", DONE | {"code": 1001}),
        (4000, "bye", DONE | {"code": 4000, "reason": "bye"}),
        # "If no code was received in the frame from the client, the server should set this to 1005."
        (None, "", DONE | {"code": 1005}),
    ],
)
async def test_disconnect_has_the_code_and_reason_of_the_client(
    serve: Serve, code: int | None, reason: str, event: Event
) -> None:
    """`code`: the WebSocket close code. `reason`: a reason given for the disconnect."""
    recorder = Recorder()
    peer = await open_peer((await serve(recorder)).port)
    peer.send_close(code, reason)
    await within(recorder.done.wait())
    assert recorder.events[-1] == event
    await peer.close()


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_disconnect_has_1006_if_the_socket_is_lost(serve: Serve, how: str) -> None:
    """Sent when either connection to the client is lost ... or loss of the socket (RFC 6455 section 7.1.5: 1006)."""
    recorder = Recorder()
    peer = await open_peer((await serve(recorder)).port)
    if how == "RST":
        peer.reset()
    await peer.close()
    await within(recorder.done.wait())
    assert recorder.events[-1] == {"type": "websocket.disconnect", "code": 1006}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xf1\x80\x00\x00\x00\x00", 1002),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
        (b"\x82\xfe\x04\x00\x00\x00\x00\x00", 1009),
    ],
    ids=["reserved bits", "invalid UTF-8", "over ws_max_size"],
)
async def test_disconnect_has_the_code_with_which_bad_input_was_answered(serve: Serve, data: bytes, code: int) -> None:
    recorder = Recorder()
    peer = await open_peer((await serve(recorder, ws_max_size=1000)).port)
    peer.write(data)
    await within(recorder.done.wait())
    sent, reason = await within(peer.read_close())
    assert sent == code
    assert recorder.events[-1] == {"type": "websocket.disconnect", "code": code, "reason": reason}
    await peer.close()


async def test_disconnect_has_the_code_of_the_application_itself(serve: Serve) -> None:
    """Sent when ... the server closing the connection."""
    events: list[Event] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        events.append(await receive())

    peer = await open_peer((await serve(application)).port)
    assert await within(peer.read_close()) == (4001, "enough")
    assert events == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}]
    peer.send_close(4001)
    await peer.read_end()
    await peer.close()


async def test_messages_before_the_disconnect_are_received_first(serve: Serve) -> None:
    start = asyncio.Event()
    recorder = Recorder()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send(ACCEPT)
        await start.wait()
        await recorder(scope, receive, send)

    peer = await open_peer((await serve(application)).port)
    for number in range(3):
        peer.send(TEXT, b"%d" % number)
    peer.send_close()
    assert await within(peer.read_close()) == (1000, "")
    start.set()
    await within(recorder.done.wait())
    assert recorder.events == [*[{"type": "websocket.receive", "text": str(number)} for number in range(3)], DONE]
    await peer.close()


# "Disconnected Client - send exception" -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Close frame", "lost"])
async def test_send_after_the_disconnect_raises_os_error_which_is_not_logged(
    serve: Serve, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If `send()` is called on a closed connection the server should raise a server-specific subclass of `OSError`.

    Servers must be prepared to catch this exception if they raised it and should not log it as an error.
    """
    raised: asyncio.Queue[type[BaseException]] = asyncio.Queue()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        try:
            await send({"type": "websocket.send", "text": "late"})
        except BaseException as error:
            raised.put_nowait(type(error))
            raise

    served = await serve(application)
    peer = await open_peer(served.port)
    if how == "lost":
        peer.reset()
    else:
        peer.send_close()
    error = await within(raised.get())
    assert issubclass(error, OSError)
    assert error is not OSError
    await peer.close()
    await served.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# "Close - send event" -------------------------------------------------------------------------------------------


async def test_close_before_the_accept_gets_403(serve: Serve) -> None:
    """... the server must close the connection with a HTTP 403 error code, and not complete the WebSocket handshake."""
    events: list[Event] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        events.append(await receive())
        await send({"type": "websocket.close", "code": 4000, "reason": "ignored"})
        events.append(await receive())

    peer = await (await serve(application)).open()
    peer.write(request())
    response = await within(peer.read_rest())
    assert response.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert response.endswith(b"\r\n\r\n")
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    await peer.close()


@pytest.mark.parametrize(
    ("event", "close"),
    [
        ({}, (1000, "")),
        ({"code": 1001}, (1001, "")),
        ({"code": 4999, "reason": "grüß"}, (4999, "grüß")),
        ({"reason": None}, (1000, "")),
    ],
)
async def test_close_has_the_code_and_reason_of_the_event(serve: Serve, event: Event, close: tuple[int, str]) -> None:
    """... the server must close the socket with the close code passed in the message (or 1000 if none is specified)."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **event})

    peer = await open_peer((await serve(application)).port)
    assert await within(peer.read_close()) == close
    peer.send_close(close[0])
    await peer.read_end()
    await peer.close()


# "If the application dies the socket should be closed" ----------------------------------------------------------


async def test_socket_is_closed_with_1011_if_the_application_raises(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """If the application dies the socket should be closed, and vice-versa."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        raise ValueError("on purpose")

    peer = await open_peer((await serve(application)).port)
    peer.send(TEXT, b"go")
    assert await within(peer.read_close()) == (1011, "")
    assert "Exception in ASGI application" in caplog.text
    assert "ValueError: on purpose" in caplog.text
    await peer.close()


async def test_socket_is_closed_with_1000_if_the_application_returns(serve: Serve) -> None:
    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

    peer = await open_peer((await serve(application)).port)
    assert await within(peer.read_close()) == (1000, "")
    await peer.close()


@pytest.mark.parametrize("how", ["raises", "returns", "is not async"])
async def test_request_gets_500_if_the_application_dies_before_it_answers(
    serve: Serve, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Any, receive: Receive, send: Send) -> None:
        if how == "raises":
            raise ValueError("on purpose")

    def plain(scope: Any, receive: Receive, send: Send) -> Any:
        return "not awaitable"

    served = await serve(plain if how == "is not async" else application, interface="asgi3", proxy_headers=False)
    with pytest.raises(HandshakeRefused) as caught:
        await connect(served.url, proxy=None)
    assert (caught.value.status, caught.value.body) == (500, b"Internal Server Error")
    said = {"raises": "ValueError: on purpose", "returns": "without completing handshake", "is not async": "awaited"}
    assert said[how] in caplog.text


# "Websocket Denial Response" (specs/extensions.rst) --------------------------------------------------------------


async def test_response_in_place_of_the_handshake(serve: Serve) -> None:
    """`websocket.http.response.start` and `.body`: status, headers, body."""
    events: list[Event] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        fields = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": b'{"detail": "no"}'})
        events.append(await receive())

    with pytest.raises(HandshakeRefused) as caught:
        await connect((await serve(application)).url, proxy=None)
    error = caught.value
    assert (error.status, error.body) == (401, b'{"detail": "no"}')
    assert error.headers["www-authenticate"] == "Bearer"
    assert error.headers["content-length"] == "16"
    assert error.headers["server"] == "uvicorn"
    assert events == [{"type": "websocket.disconnect", "code": 1006}]


@pytest.mark.parametrize("declared", [True, False])
async def test_response_with_a_body_in_parts_is_streamed(serve: Serve, declared: bool) -> None:
    """`more_body`: whether there is additional content to come."""
    more = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        fields = [(b"content-length", b"6")] if declared else []
        await send({"type": "websocket.http.response.start", "status": 404, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": b"abc", "more_body": True})
        await more.wait()
        await send({"type": "websocket.http.response.body", "body": b"", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"def"})

    peer = await (await serve(application)).open()
    peer.write(request())
    head = await within(peer.read_head())
    first = b"abc" if declared else b"3\r\nabc\r\n"
    assert await within(peer.reader.readexactly(len(first))) == first
    more.set()
    assert await within(peer.read_rest()) == (b"def" if declared else b"3\r\ndef\r\n0\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head) is not declared
    await peer.close()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([{"type": "websocket.send", "text": "x"}], "Expected ASGI message 'websocket.accept', 'websocket.close'"),
        ([{"type": "websocket.http.response.body", "body": b""}], "Expected ASGI message 'websocket.accept'"),
        ([{"type": "websocket.http.response.start", "status": 700}], "Invalid HTTP status code '700' in response."),
        ([ACCEPT, ACCEPT], "Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'."),
        (
            [{"type": "websocket.http.response.start", "status": 404}, ACCEPT],
            "Expected ASGI message 'websocket.http.response.body' but got 'websocket.accept'.",
        ),
        (
            [ACCEPT, {"type": "websocket.close"}, {"type": "websocket.close"}],
            "Unexpected ASGI message 'websocket.close', after sending 'websocket.close'.",
        ),
    ],
)
async def test_event_in_the_wrong_state_raises_runtime_error(serve: Serve, sent: list[Event], said: str) -> None:
    raised: list[str] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        for event in sent[:-1]:
            await send(event)
        try:
            await send(sent[-1])
        except RuntimeError as error:
            raised.append(str(error))

    peer = await (await serve(application)).open()
    peer.write(request())
    await within(peer.read_head())
    assert len(raised) == 1
    assert raised[0].startswith(said)
    await peer.close()
