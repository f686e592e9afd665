"""Header fields, requests, responses and the head reader."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamws.errors import HandshakeRefused, InvalidHeader, UsageError
from streamws.handshake.head import HeaderFields, Headers, HeadReader, Request, Response
from streamws.options import Limits

LINE = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
BROWSER = (
    b"GET /chat?room=1&x=%20 HTTP/1.1\r\n"
    b"Host: server.example.com:8765\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Origin: http://server.example.com\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"\r\n"
)

Outcome = tuple[object, ...]


def read(data: bytes, limits: Limits | None = None) -> Request:
    request = HeadReader(limits or Limits()).feed(data)
    assert request is not None
    return request


def refusal(pieces: Iterable[bytes], limits: Limits | None = None) -> HandshakeRefused:
    reader = HeadReader(limits or Limits())
    try:
        for piece in pieces:
            assert reader.feed(piece) is None
    except HandshakeRefused as error:
        return error
    pytest.fail("the head was not refused")


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def outcome(pieces: list[bytes], limits: Limits) -> Outcome:
    reader = HeadReader(limits)
    for number, piece in enumerate(pieces):
        try:
            request = reader.feed(piece)
        except HandshakeRefused as error:
            return error.status, error.reason
        if request is not None:
            assert type(request) is Request
            return request, request.headers.wire, reader.rest + b"".join(pieces[number + 1 :])
    return (None,)


# --- Request


def test_request_of_a_browser() -> None:
    request = read(BROWSER)
    assert request.method == "GET"
    assert request.target == "/chat?room=1&x=%20"
    assert request.path == "/chat"
    assert request.query == "room=1&x=%20"
    assert request.version == "1.1"
    assert request.host == request.headers["Host"] == "server.example.com:8765"
    assert request.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="
    assert len(request.headers) == 9
    assert not hasattr(request, "__dict__")


@pytest.mark.parametrize(
    ("line", "path", "query", "host"),
    [
        (b"GET / HTTP/1.1", "/", "", "a"),
        (b"GET /? HTTP/1.1", "/", "", "a"),
        (b"GET //b/c?d?e HTTP/1.1", "//b/c", "d?e", "a"),
        (b'GET /"<>\\^`{|}~ HTTP/1.1', '/"<>\\^`{|}~', "", "a"),
        (b"GET /x://y?z HTTP/1.1", "/x://y", "z", "a"),
        (b"GET http://b:80/c?d HTTP/1.1", "/c", "d", "b:80"),
        (b"GET WSS://[::1] HTTP/1.1", "/", "", "[::1]"),
        (b"GET https://b?d HTTP/1.1", "/", "d", "b"),
        (b"OPTIONS * HTTP/1.1", "*", "", "a"),
        (b"CONNECT b.example:443 HTTP/1.1", "", "", "a"),
        (b"CONNECT [::1]:443 HTTP/1.1", "", "", "a"),
        (b"HEAD /health HTTP/1.1", "/health", "", "a"),
        (b"POST /x HTTP/1.1", "/x", "", "a"),
        (b"get / HTTP/1.1", "/", "", "a"),
        (b"BREW /pot HTTP/1.1", "/pot", "", "a"),
        (b"PRI / HTTP/1.1", "/", "", "a"),
    ],
)
def test_request_line_forms(line: bytes, path: str, query: str, host: str) -> None:
    request = read(line + b"\r\n" + HOST + b"\r\n")
    assert (request.method, request.target) == tuple(line.decode().split(" ")[:2])
    assert (request.path, request.query, request.host) == (path, query, host)


def test_request_made_by_hand_without_host() -> None:
    assert Request("GET", "/", Headers()).host == ""


# --- Response


@pytest.mark.parametrize(
    ("response", "encoded"),
    [
        (Response(200), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        (
            Response(404, "né\n", {"X": "y"}),
            b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 4\r\nConnection: close\r\n\r\nn\xc3\xa9\n",
        ),
        (
            Response(200, b"{}", content_type="application/json"),
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        (
            Response(200, "<p>", [("content-type", "text/html"), ("connection", "x"), ("content-length", "3")]),
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: x\r\ncontent-length: 3\r\n\r\n<p>",
        ),
        (Response(200, b"a"), b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"),
        (Response(204), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        (Response(304), b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"),
        (Response(599), b"HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        (
            Response.from_wire(101, Headers({"Upgrade": "websocket"})),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        ),
    ],
)
def test_response_is_encoded(response: Response, encoded: bytes) -> None:
    assert response.encode() == encoded
    assert response.encode("HEAD") == encoded[: encoded.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, "OK"), (408, "Request Timeout"), (413, "Content Too Large"), (414, "URI Too Long"), (499, "")],
)
def test_response_reason_phrase_is_the_same_on_every_python(status: int, reason: str) -> None:
    assert Response(status).reason == reason


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600])
def test_response_refuses_status_out_of_range(status: int) -> None:
    with pytest.raises(ValueError, match=f"from 200 to 599, not {status}"):
        Response(status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_response_refuses_body_for_status_without_one(status: int) -> None:
    with pytest.raises(ValueError, match="has no body"):
        Response(status, "x")


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "b\r\nC: d"},
        {"Content-Length": "2"},
        [("Content-Length", "1"), ("Content-Length", "1")],
        {"Transfer-Encoding": "chunked"},
    ],
)
def test_response_refuses_malformed_headers(headers: HeaderFields) -> None:
    with pytest.raises(InvalidHeader):
        Response(200, "x", headers)


def test_response_has_one_content_type() -> None:
    with pytest.raises(InvalidHeader, match="given twice"):
        Response(200, "x", {"Content-Type": "a/b"}, content_type="c/d")
    with pytest.raises(InvalidHeader, match="control character"):
        Response(200, "x", content_type="a\r\nb: c")


# --- HeadReader: pieces


@pytest.mark.parametrize("rest", [b"", b"\x81\x80abcd", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_reader_reads_head_in_any_chunks(start: bytes, rest: bytes) -> None:
    data = start + BROWSER + rest
    expected = outcome([data], Limits())
    assert expected == (read(BROWSER), read(BROWSER).headers.wire, rest)
    for cut in range(len(data) + 1):
        assert outcome([data[:cut], data[cut:]], Limits()) == expected
    assert outcome(one_by_one(data), Limits()) == expected


def test_reader_returns_none_for_incomplete_head() -> None:
    reader = HeadReader(Limits())
    assert reader.feed(b"") is None
    assert [reader.feed(piece) for piece in one_by_one(BROWSER[:-1])] == [None] * (len(BROWSER) - 1)
    assert reader.rest == b""
    assert reader.feed(BROWSER[-1:]) == read(BROWSER)


@pytest.mark.parametrize("pieces", [[BROWSER], [BROWSER[:9], BROWSER[9:]]])
def test_reader_leaves_bytes_after_the_head(pieces: list[bytes]) -> None:
    reader = HeadReader(Limits())
    for piece in pieces:
        reader.feed(piece)
    with pytest.raises(UsageError, match=r"\.rest"):
        reader.feed(b"x")


# --- HeadReader: refusals


REFUSALS: list[tuple[bytes, int, str]] = [
    # the first byte
    (b"\x16\x03\x01\x02\x00\x01", 400, "this port speaks plain ws://; the client began a TLS handshake"),
    (b"\x00GET", 400, "this is not HTTP: the first byte is 0x00"),
    (b"\x81\x85", 400, "this is not HTTP: the first byte is 0x81"),
    (b" GET / HTTP/1.1\r\n", 400, "this is not HTTP: the first byte is 0x20"),
    (b"\r\n\x16", 400, "this port speaks plain ws://; the client began a TLS handshake"),
    # the request line
    (b"GET /\r\n", 400, "the request line has no HTTP version: 'GET /'"),
    (b"GET\r\n", 400, "malformed request line: 'GET'"),
    (b"\r\n\r\n", 400, "malformed request line: ''"),
    (b"GET  / HTTP/1.1\r\n", 400, "malformed request line: 'GET  / HTTP/1.1'"),
    (b"GET / HTTP/1.1 \r\n", 400, "malformed request line: 'GET / HTTP/1.1 '"),
    (b"GET /a b HTTP/1.1\r\n", 400, "malformed request line: 'GET /a b HTTP/1.1'"),
    (b"GET /\t HTTP/1.1\r\n", 400, "malformed request line: 'GET /\\t HTTP/1.1'"),
    (b"GET /\0 HTTP/1.1\r\n", 400, "malformed request line: 'GET /\\x00 HTTP/1.1'"),
    (b"GET /\rA: b HTTP/1.1\r\n", 400, "malformed request line: 'GET /\\rA: b HTTP/1.1'"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\n", 400, "malformed request line: 'GET /\\xc3\\xa9 HTTP/1.1'"),
    (b"GET /#top HTTP/1.1\r\n", 400, "malformed request line: 'GET /#top HTTP/1.1'"),
    (b"G@T / HTTP/1.1\r\n", 400, "malformed request line: 'G@T / HTTP/1.1'"),
    (b"GET HTTP/1.1\r\n", 400, "malformed request line: 'GET HTTP/1.1'"),
    (b"GET / HTTP/11\r\n", 400, "malformed request line: 'GET / HTTP/11'"),
    (b"GET / HTTP/1.10\r\n", 400, "malformed request line: 'GET / HTTP/1.10'"),
    (b"GET / http/1.1\r\n", 400, "malformed request line: 'GET / http/1.1'"),
    (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "malformed request line: 'SSH-2.0-OpenSSH_9.6'"),
    (b"x" * 90 + b"\r\n", 400, "malformed request line: '" + "x" * 80 + "'..."),
    (b"GET / HTTP/1.0\r\n", 505, "HTTP/1.0 is not supported; use HTTP/1.1"),
    (b"GET / HTTP/0.9\r\n", 505, "HTTP/0.9 is not supported; use HTTP/1.1"),
    (b"GET / HTTP/2.0\r\n", 505, "HTTP/2.0 is not supported; use HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2.0 is not supported; use HTTP/1.1"),
    # the target
    (b"GET * HTTP/1.1\r\n", 400, "malformed request target: '*'"),
    (b"GET chat HTTP/1.1\r\n", 400, "malformed request target: 'chat'"),
    (b"GET ?x HTTP/1.1\r\n", 400, "malformed request target: '?x'"),
    (b"GET ftp://b/ HTTP/1.1\r\n", 400, "malformed request target: 'ftp://b/'"),
    (b"GET http:///x HTTP/1.1\r\n", 400, "malformed request target: 'http:///x'"),
    (b"GET http://:80/x HTTP/1.1\r\n", 400, "malformed request target: 'http://:80/x'"),
    (b"GET http://u@b/x HTTP/1.1\r\n", 400, "malformed request target: 'http://u@b/x'"),
    (b"CONNECT / HTTP/1.1\r\n", 400, "malformed request target: '/'"),
    (b"CONNECT b HTTP/1.1\r\n", 400, "malformed request target: 'b'"),
    # line ends
    (b"\n", 400, "a line ends in LF without CR"),
    (b"GET / HTTP/1.1\n", 400, "a line ends in LF without CR"),
    (LINE + b"Host: a\n", 400, "a line ends in LF without CR"),
    (LINE + b"Host: a\r\n\n", 400, "a line ends in LF without CR"),
    # header lines; the text after the colon is from llhttp
    (LINE + b"Host: a\rb\r\n\r\n", 400, "malformed header: "),
    (LINE + b"Host: a\r\n\rb\r\n\r\n", 400, "malformed header: "),
    (LINE + b"Host : a\r\n\r\n", 400, "malformed header: "),
    (LINE + b"Host\r\n\r\n", 400, "malformed header: "),
    (LINE + b": a\r\n\r\n", 400, "malformed header: "),
    (LINE + b"H\xc3st: a\r\n\r\n", 400, "malformed header: "),
    (LINE + b" Host: a\r\n\r\n", 400, "malformed header: "),
    (LINE + b"Host: a\r\n b\r\n\r\n", 400, "malformed header: "),
    (LINE + HOST + b"A: b\0\r\n\r\n", 400, "malformed header: "),
    (LINE + HOST + b"A: b\x1b\r\n\r\n", 400, "malformed header: "),
    (LINE + HOST + b"A: b\x7f\r\n\r\n", 400, "malformed header: "),
    # single fields
    (LINE + b"\r\n", 400, "the Host header is missing"),
    (LINE + b"X-Host: a\r\n\r\n", 400, "the Host header is missing"),
    (LINE + HOST + b"host: a\r\n\r\n", 400, "more than one host header"),
    (LINE + b"Host: a b\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: a, b\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: u@a\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: a/b\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: a:b\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: [::1\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: \xc3\xa9\r\n\r\n", 400, "malformed Host header"),
    (
        LINE + HOST + b"Sec-WebSocket-Key: x\r\nA: b\r\nSEC-WebSocket-Key: x\r\n\r\n",
        400,
        "more than one SEC-WebSocket-Key header",
    ),
    (
        LINE + HOST + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n\r\n",
        400,
        "more than one Sec-WebSocket-Version header",
    ),
    # bodies
    (LINE + HOST + b"Content-Length: 1\r\n\r\nx", 400, "the request has a body; none is taken here"),
    (LINE + HOST + b"Content-Length: 10\r\n\r\n", 400, "the request has a body; none is taken here"),
    (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400, "the request has a body; none is taken here"),
    (
        LINE + HOST + b"Content-Length: -1\r\n\r\n",
        400,
        "malformed header: ",
    ),
    (
        LINE + HOST + b"Content-Length: 0, 0\r\n\r\n",
        400,
        "malformed header: ",
    ),
    (LINE + HOST + b"Content-Length: 0\r\n" * 2 + b"\r\n", 400, "malformed header: "),
    (
        BROWSER[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
        400,
        "the request has a body; none is taken here",
    ),
]


@pytest.mark.parametrize(("data", "status", "reason"), REFUSALS)
def test_reader_refuses(data: bytes, status: int, reason: str) -> None:
    for pieces in ([data], one_by_one(data), [data[:2], data[2:]]):
        error = refusal(pieces)
        shown = reason if reason.endswith(": ") else error.reason
        assert error.reason.startswith(reason)
        assert (error.status, shown, error.headers) == (status, reason, {})


@pytest.mark.parametrize(
    "fields",
    [
        b"Host:\r\n",
        b"hOsT:\t a \t\r\n",
        b"Host: [2001:db8::1]:80\r\n",
        b"Host: a_b.example:\r\n",
        HOST + b"Content-Length: 0\r\n",
        HOST + b"content-length: 000 \r\n",
        HOST + b"Empty:\r\n",
        HOST + b"A: \xff\xfe\r\n",
        HOST + b"Cookie: a\r\nCookie: b\r\n",
        HOST + b"Connection: close\r\n",
        HOST + b"Connection: Upgrade\r\n",
        HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n",
        HOST + b"Expect: 100-continue\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS", b"BREW"])
def test_reader_accepts(method: bytes, fields: bytes) -> None:
    data = method + b" / HTTP/1.1\r\n" + fields + b"\r\n"
    assert read(data).headers.wire == b"\r\n" + fields[:-2]
    assert outcome(one_by_one(data), Limits()) == outcome([data], Limits())


# --- HeadReader: limits


def line_of(size: int) -> bytes:
    return b"GET /" + b"x" * (size - 14) + b" HTTP/1.1\r\n"


def field_of(size: int) -> bytes:
    return b"A: " + b"x" * (size - 3) + b"\r\n"


SMALL = Limits(max_request_line=40, max_header_line=30, max_headers=4, max_head=116)
BOUNDARIES = [
    (line_of(40) + HOST + b"\r\n", line_of(41), 414, "the request line is over 40 bytes"),
    (LINE + HOST + field_of(30) + b"\r\n", LINE + HOST + field_of(31), 431, "a header line is over 30 bytes"),
    (
        LINE + HOST + b"A:\r\n" * 3 + b"\r\n",
        LINE + HOST + b"A:\r\n" * 3 + b"A",
        431,
        "more than 4 header lines",
    ),
    (
        line_of(40) + HOST + field_of(30) + field_of(29) + b"\r\n",
        line_of(40) + HOST + field_of(30) + field_of(30) + b"\r\n",
        431,
        "the request's head is over 116 bytes",
    ),
]


@pytest.mark.parametrize(("fine", "over", "status", "reason"), BOUNDARIES)
@pytest.mark.parametrize("rest", [b"", b"more"])
def test_reader_applies_limits_to_the_byte_for_any_chunks(
    fine: bytes, over: bytes, status: int, reason: str, rest: bytes
) -> None:
    expected = outcome([fine + rest], SMALL)
    assert isinstance(expected[0], Request)
    assert outcome(one_by_one(fine + rest), SMALL) == expected
    assert outcome(one_by_one(over + rest), SMALL) == (status, reason)
    for cut in range(len(over)):
        assert outcome([fine[:cut], fine[cut:] + rest], SMALL) == expected
        assert outcome([over[:cut], over[cut:] + rest], SMALL) == (status, reason)


@pytest.mark.parametrize(
    ("start", "status", "fed"),
    [
        (b"", 414, 41),
        (b"GET / HTTP/1.1\r\n", 431, 16 + 31),
        (b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 4, 431, 16 + 16 + 1),
        (line_of(40) + field_of(30) * 2, 431, 117),
    ],
)
def test_reader_refuses_an_endless_line_at_the_byte_over_the_limit(start: bytes, status: int, fed: int) -> None:
    data = start + b"x" * 1000
    reader = HeadReader(SMALL)
    for piece in one_by_one(data[: fed - 1]):
        assert reader.feed(piece) is None
    with pytest.raises(HandshakeRefused) as caught:
        reader.feed(data[fed - 1 : fed])
    assert caught.value.status == status
    assert outcome([data], SMALL) == (status, caught.value.reason)
    with pytest.raises(HandshakeRefused):  # the refusal stays
        reader.feed(b"\r\n\r\n")


def test_reader_does_not_count_carriage_return_of_an_open_line() -> None:
    reader = HeadReader(SMALL)
    assert reader.feed(line_of(40)[:-1]) is None
    with pytest.raises(HandshakeRefused, match="414"):
        reader.feed(b"\r")


def test_reader_applies_default_limits() -> None:
    limits = Limits()
    big = b"".join(field_of(8192) for _ in range(6)) + b"\r\n"
    assert len(read(line_of(8192) + HOST + big).headers.get_all("A")) == 6
    assert refusal([line_of(8193)]).status == 414
    assert refusal([LINE + field_of(8193)]).reason == "a header line is over 8192 bytes"
    assert len(read(LINE + HOST + b"A: b\r\n" * 127 + b"\r\n").headers.get_all("A")) == 127
    assert refusal([LINE + HOST + b"A: b\r\n" * 128 + b"\r\n"]).reason == "more than 128 header lines"
    start = LINE + HOST + field_of(8000) * 8
    last = limits.max_head - len(start) - 4
    assert read(start + field_of(last) + b"\r\n").path == "/"
    assert refusal([start + field_of(last + 1) + b"\r\n"]).reason == "the request's head is over 65536 bytes"


# --- HeadReader: random input

PARTS = [
    *(b"\r\n", b"\r", b"\n", b" ", b":", b"\t", b"\0", b"x", b"\xff", b"\x16"),
    *(b"GET ", b"/", b"*", b" HTTP/1.1", b" HTTP/1.0", b"http://b/", LINE, HOST, b"A: b\r\n", b"A:"),
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Sec-WebSocket-Key: x\r\n",
        b"\r\n\r\n",
        b"x" * 25,
    ),
]
streams = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(PARTS), max_size=14).map(b"".join),
    st.lists(st.sampled_from(PARTS), max_size=8).map(lambda parts: LINE + HOST + b"".join(parts) + b"\r\n\r\n"),
)


@settings(max_examples=500)
@given(streams, st.lists(st.integers(0, 300), max_size=6), st.sampled_from([Limits(), SMALL]))
@example(b"\r\n" + BROWSER, [], SMALL)
def test_reader_returns_the_same_for_any_chunks(data: bytes, cuts: list[int], limits: Limits) -> None:
    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(marks)]
    expected = outcome([data], limits)
    assert outcome(pieces, limits) == expected
    assert outcome(one_by_one(data), limits) == expected


@settings(max_examples=300)
@given(st.binary(max_size=40), st.integers(0, len(BROWSER)), st.integers(0, 20))
def test_reader_survives_a_damaged_head(damage: bytes, place: int, length: int) -> None:
    data = BROWSER[:place] + damage + BROWSER[place + length :]
    result = outcome([data], Limits())
    if isinstance(result[0], Request):
        request = result[0]
        # Accepted headers can be sent again, so that no name or value can smuggle anything.
        for name, value in request.headers.items_all():
            assert Headers([(name, value)]).get_all(name) == (value,)
            assert value in request.headers.get_all(name)
        assert request.target.endswith(request.path + ("?" + request.query if "?" in request.target else ""))
    else:
        assert result[0] in (None, 400, 414, 431, 505)
