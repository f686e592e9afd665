"""The responses of a server to opening handshakes (ARCHITECTURE.md, Wire rules), and the end of refused connections."""

import asyncio
import logging
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, address_of, addresses_of, client_of, echo
from helpers.frames import ACCEPT, TEXT, Answer, close, request, text
from helpers.frames import client_frame as frame
from helpers.peers import RawClient
from helpers.waiting import within
from streamws import Limits, Request, Timeouts

split = pytest.mark.parametrize("split", [0, 1], ids=["whole", "split"])

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n"
)
PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    414: "URI Too Long",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade, close", "Sec-WebSocket-Version": "13"}


def refusal(status: int, reason: str, fields: dict[str, str] | None = None) -> Answer:
    """Return the whole response to a refused request."""
    body = f"{reason}\n".encode()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
    } | (fields or {})
    return Answer(status, PHRASES[status], {name.lower(): value for name, value in headers.items()}, body)


async def read_refusal(raw: RawClient) -> Answer:
    """Read a response that must be followed by the end of the connection."""
    answer = await raw.read_answer()
    assert await raw.read_until_eof() == b""
    return answer


# --- accepted


@split
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, b"Server: streamws\r\n"),
        ({"server_header": "mine/1.0"}, b"Server: mine/1.0\r\n"),
        ({"server_header": None}, b""),
    ],
)
async def test_server_accepts_a_good_request(
    options: dict[str, Any], field: bytes, split: int, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo, **options), upgrade=False)
    answer = ACCEPTED + field + b"\r\n"
    await raw.send(request(), split)
    assert await raw.read(len(answer)) == answer
    await raw.send(text("works"), split)
    assert await raw.read_frame() == (TEXT, b"works")


@split
async def test_server_accepts_a_browser(split: int, serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server, upgrade=False)
    name = "{}:{}".format(*address_of(server))
    head = request(
        {"Host": name, "Connection": "keep-alive, Upgrade", "Origin": f"http://{name}"},
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Cookie", "a=b; c=d"),
        ("Pragma", "no-cache"),
    )
    await raw.send(head, split)
    answer = await raw.read_answer()
    assert (answer.status, answer.headers["sec-websocket-accept"]) == (101, ACCEPT)
    assert "sec-websocket-extensions" not in answer.headers


async def test_client_shows_its_request_and_response(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server, request(None, ("X-Token", "t"), target="/chat/r%20m?a=1&b"))
    client = client_of(server, raw)
    assert (client.request.path, client.request.query_string) == ("/chat/r%20m", "a=1&b")
    assert client.request.headers["x-token"] == "t"
    assert client.response.status == 101
    assert client.response.headers["Sec-WebSocket-Accept"] == ACCEPT


@pytest.mark.parametrize("asked", [False, True], ids=["at once", "after a callback"])
async def test_server_delivers_frames_received_with_the_head(asked: bool, serve: Serve, connect: Connect) -> None:
    async def pass_on(request: Request) -> None:
        await asyncio.sleep(0)

    raw = await connect(await serve(echo, request=pass_on if asked else None), upgrade=False)
    await raw.send(request() + text("one") + frame(0x01, b"tw", fin=False))
    assert (await raw.read_answer()).status == 101
    assert await raw.read_frame() == (TEXT, b"one")
    await raw.send(frame(0x80, b"o"))
    assert await raw.read_frame() == (TEXT, b"two")


async def test_server_accepts_head_frames_and_close_in_one_packet(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo), upgrade=False)
    await raw.send(request() + text("all at once") + close())
    assert (await raw.read_answer()).status == 101
    # The Close frame was received before the handler started, so the message was not answered.
    assert (await raw.read_until_eof()).endswith(b"\x88\x02\x03\xe8")


# --- refused

REFUSED = [
    pytest.param(
        b"\x16\x03\x01\x02\x00\x01", 400, "the client started TLS, but this port does not use TLS: connect with ws://"
    ),
    pytest.param(b"\x00\x01", 400, "not an HTTP request: the first byte is 0x00"),
    pytest.param(b"GET /\r\n", 400, "the request line has no HTTP version: 'GET /'"),
    pytest.param(b"GET  / HTTP/1.1\r\n", 400, "malformed request line: 'GET  / HTTP/1.1'"),
    pytest.param(b"GET x HTTP/1.1\r\n", 400, "malformed request target: 'x'"),
    pytest.param(b"GET / HTTP/1.1\n", 400, "a line ends with LF instead of CRLF"),
    pytest.param(request({"Host": None}), 400, "the Host header is missing"),
    pytest.param(request({"Host": "a b"}), 400, "malformed Host header"),
    pytest.param(request(None, ("host", "127.0.0.1")), 400, "more than one host header"),
    pytest.param(request(None, ("Sec-WebSocket-Key", "x")), 400, "more than one Sec-WebSocket-Key header"),
    pytest.param(request(None, ("Sec-WebSocket-Version", "13")), 400, "more than one Sec-WebSocket-Version header"),
    pytest.param(request({"Content-Length": "1"}), 400, "the request must not have a body"),
    pytest.param(request({"Transfer-Encoding": "x"}), 400, "the request must not have a body"),
    pytest.param(request({"Sec-WebSocket-Key": None}), 400, "Sec-WebSocket-Key must be 16 bytes in base64"),
    pytest.param(request({"Sec-WebSocket-Key": "eA=="}), 400, "Sec-WebSocket-Key must be 16 bytes in base64"),
    pytest.param(request(version="1.0"), 505, "HTTP/1.0 is not supported; use HTTP/1.1"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\n", 505, "HTTP/2.0 is not supported; use HTTP/1.1"),
    pytest.param(b"GET /" + b"x" * 100 + b" HTTP/1.1\r\n", 414, "the request line is longer than 100 bytes"),
    pytest.param(request({"X": "x" * 100}), 431, "a line of the head is longer than 100 bytes"),
    pytest.param(request({"X": "x", "Y": "y"}, ("Z", "z")), 431, "more than 7 header lines"),
    pytest.param(request({"X": "x" * 90, "Y": "y" * 90}), 431, "the head is longer than 300 bytes"),
]
LIMITS = Limits(max_request_line=100, max_header_line=100, max_headers=7, max_head=300)

_CHANGES: list[tuple[dict[str, str | None], str]] = [
    ({"Upgrade": None}, "Upgrade: websocket"),
    ({"Upgrade": "h2c"}, "Upgrade: websocket"),
    ({"Connection": None}, "Connection: Upgrade"),
    ({"Connection": "keep-alive"}, "Connection: Upgrade"),
]
JUDGED = [
    *(
        pytest.param(
            request(method=method),
            405,
            f"method {method} is not allowed; a WebSocket handshake is a GET",
            {"Allow": "GET"},
        )
        for method in ("POST", "PUT", "OPTIONS")
    ),
    *(
        pytest.param(request(change), 426, f"this is a WebSocket endpoint: the request lacks {lacks}", UPGRADE)
        for change, lacks in _CHANGES
    ),
    *(
        pytest.param(
            request({"Sec-WebSocket-Version": version}),
            426,
            "Sec-WebSocket-Version must be 13",
            UPGRADE,
        )
        for version in (None, "8", "14")
    ),
]


@split
@pytest.mark.parametrize(("head", "status", "reason", "fields"), [*([*row.values, None] for row in REFUSED), *JUDGED])
async def test_server_refuses_a_request(
    head: bytes,
    status: int,
    reason: str,
    fields: dict[str, str] | None,
    split: int,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    server = await serve(echo, limits=LIMITS)
    bystander = await connect(server)
    caplog.clear()
    raw = await connect(server, upgrade=False)
    # The rest is a valid request, which would be accepted if it was parsed.
    await raw.send(head + request() + text("x"), split)
    assert await read_refusal(raw) == refusal(status, reason, fields)
    await raw.send(request())
    raw.close()
    assert caplog.messages == ["{}:{} refused with {}: {}".format(*raw.address, status, reason)]
    await bystander.send(text("undisturbed"))
    assert await bystander.read_frame() == (TEXT, b"undisturbed")


async def test_server_refuses_head_without_a_body(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo), upgrade=False)
    await raw.send(request(method="HEAD"))
    answer = await raw.read_until_eof()
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("begun", [b"", b"GET", request()[:-2], request()[:-1]])
async def test_server_refuses_a_client_that_never_completes_its_head(
    begun: bytes, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, timeouts=Timeouts(open=0.2))
    caplog.set_level(logging.INFO, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(begun)
    assert await read_refusal(raw) == refusal(408, "the request took too long")
    address = "{}:{}".format(*raw.address)
    assert caplog.messages == [
        f"{address} refused with 408: the opening handshake took longer than 0.2 s (Timeouts.open)"
    ]


@pytest.mark.usefixtures("fast_timers")
async def test_server_does_not_restart_the_clock_for_each_byte(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo, timeouts=Timeouts(open=0.2)), upgrade=False)
    answer = asyncio.ensure_future(read_refusal(raw))
    async with asyncio.timeout(10):
        while not answer.done():
            await raw.send(b"G")
            await asyncio.wait([answer], timeout=0.02)
    assert (await answer).status == 408


@pytest.mark.usefixtures("fast_timers")
async def test_server_drops_a_refused_client_that_does_not_leave(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=Timeouts(close=0.2))
    raw = await connect(server, upgrade=False)
    await raw.send(request(version="1.0"))
    assert (await read_refusal(raw)).status == 505
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await within(send_for_ever(raw))


async def send_for_ever(raw: RawClient) -> None:
    while True:
        await raw.send(b"still here")
        await asyncio.sleep(0.01)


# --- full


def only(limit: int) -> Limits:
    return Limits(max_clients=limit)


FULL = refusal(503, "the server is full; try again later", {"Retry-After": "5"})


async def test_server_refuses_one_client_too_many(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, limits=only(1))
    first = await connect(server)
    caplog.set_level(logging.INFO, "streamws")
    second = await connect(server, upgrade=False)
    await second.send(request())
    assert await read_refusal(second) == FULL
    address = "{}:{}".format(*second.address)
    assert caplog.messages == [f"{address} refused with 503: the server is full (Limits.max_clients is 1)"]
    await first.send(text("undisturbed"))
    assert await first.read_frame() == (TEXT, b"undisturbed")


async def test_full_server_waits_for_the_request(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    # A client may fail, as websockets does, if the response arrives before it has sent its request.
    server = await serve(echo, limits=only(1))
    first = await connect(server)
    caplog.set_level(logging.INFO, "streamws")
    second = await connect(server, upgrade=False)
    head = request()
    await second.send(head[:20])
    await first.send(text("the server has read those bytes"))
    assert await first.read_frame() == (TEXT, b"the server has read those bytes")
    assert caplog.messages == []
    await second.send(head[20:])
    assert await read_refusal(second) == FULL


async def test_server_counts_clients_that_connected_at_once(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=only(1))
    first, second = [await connect(server, upgrade=False) for _ in range(2)]
    await first.upgrade()
    await second.send(request())
    assert await read_refusal(second) == FULL
    assert addresses_of(server) == [first.address]


async def test_server_accepts_again_when_a_client_left(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=only(1))
    first = await connect(server)
    await first.send(close())
    assert await first.read_until_eof() == b"\x88\x02\x03\xe8"
    await connect(server)


# --- origins


@pytest.mark.parametrize(
    ("origins", "origin", "accepted"),
    [
        (None, None, True),
        (None, "http://example.com", True),
        (None, "https://EXAMPLE.com:3000", True),
        (None, "https://other.example", False),
        (None, "null", False),
        ([], "http://example.com", True),
        (["https://other.example"], "https://other.example", True),
        (["https://other.example"], "https://other.example:444", False),
        (["https://other.example"], "http://example.com", True),
        (["null"], "null", True),
        ("*", "https://other.example", True),
        ("*", "null", True),
    ],
)
async def test_server_checks_the_origin(
    origins: list[str] | None,
    origin: str | None,
    accepted: bool,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await serve(echo, origins=origins)
    caplog.set_level(logging.INFO, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(request({"Host": "example.com:80", "Origin": origin}))
    if accepted:
        assert (await raw.read_answer()).status == 101
        return
    reason = f"Origin '{origin}' is not allowed: it is neither this host nor in the origins= of the server"
    assert await read_refusal(raw) == refusal(403, reason)
    assert caplog.messages == ["{}:{} refused with 403: {}".format(*raw.address, reason)]


# --- hosts


@split
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("example.com", None, 101),
        ("example.com:8765", "http://example.com:8765", 101),
        ("127.0.0.1", None, 101),
        ("evil.example:8765", None, 400),
        ("evil.example:8765", "http://evil.example:8765", 400),  # DNS rebinding: the origin is that of the host
        ("", None, 400),
    ],
)
async def test_server_checks_the_host(
    host: str,
    origin: str | None,
    status: int,
    split: int,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await serve(echo, hosts=["example.com", "127.0.0.1"])
    caplog.set_level(logging.INFO, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(request({"Host": host, "Origin": origin}), split)
    if status == 101:
        assert (await raw.read_answer()).status == 101
        return
    reason = f"Host '{host}' is not allowed: it is not in the hosts= of the server"
    assert await read_refusal(raw) == refusal(400, reason)
    assert caplog.messages == ["{}:{} refused with 400: {}".format(*raw.address, reason)]


# --- subprotocols


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        ([], "a", None),
        (["a"], None, None),
        (["a"], "b", None),
        (["b", "a"], "a, b", "b"),
        (["c", "a"], "a,b", "a"),
    ],
)
async def test_server_chooses_the_subprotocol(
    spoken: list[str], offered: str | None, chosen: str | None, serve: Serve, connect: Connect
) -> None:
    server = await serve(echo, subprotocols=spoken)
    raw = await connect(server, upgrade=False)
    answer = await raw.upgrade(request({"Sec-WebSocket-Protocol": offered}))
    assert answer.headers.get("sec-websocket-protocol") == chosen
    assert client_of(server, raw).subprotocol == chosen
