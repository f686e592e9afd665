"""The reader of requests: which requests it accepts and refuses, and its limits, however a request is split."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamws.errors import HandshakeRefused, UsageError
from streamws.handshake.head import Request
from streamws.handshake.headers import Headers
from streamws.handshake.request_reader import RequestReader
from streamws.options import Limits

LINE = b"GET / HTTP/1.1\r\n"
OLD = b"GET / HTTP/1.0\r\n"
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
    request = RequestReader(limits or Limits()).feed(data)
    assert request is not None
    return request


def refusal(pieces: Iterable[bytes], limits: Limits | None = None) -> HandshakeRefused:
    reader = RequestReader(limits or Limits())
    try:
        for piece in pieces:
            assert reader.feed(piece) is None
    except HandshakeRefused as error:
        return error
    pytest.fail("the head was not refused")


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def outcome(pieces: list[bytes], limits: Limits) -> Outcome:
    reader = RequestReader(limits)
    for number, piece in enumerate(pieces):
        try:
            request = reader.feed(piece)
        except HandshakeRefused as error:
            return error.status, error.reason
        if request is not None:
            assert type(request) is Request
            return request, request.headers.wire, reader.rest + b"".join(pieces[number + 1 :])
    return (None,)


# --- requests


def test_reader_returns_request_of_browser() -> None:
    request = read(BROWSER)
    assert request.method == "GET"
    assert request.target == "/chat?room=1&x=%20"
    assert request.path == "/chat"
    assert request.query_string == "room=1&x=%20"
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
def test_reader_accepts_each_form_of_request_line(line: bytes, path: str, query: str, host: str) -> None:
    request = read(line + b"\r\n" + HOST + b"\r\n")
    assert (request.method, request.target) == tuple(line.decode().split(" ")[:2])
    assert (request.path, request.query_string, request.host) == (path, query, host)


@pytest.mark.parametrize(
    "fields", [b"", HOST, b"Host:\r\n", b"Connection: close\r\n", BROWSER.split(b"\r\n", 1)[1][:-2]]
)
@pytest.mark.parametrize(("line", "path"), [(b"GET /a?b HTTP/1.0", "/a"), (b"OPTIONS * HTTP/1.0", "*")])
def test_reader_accepts_http_1_0_without_host(line: bytes, path: str, fields: bytes) -> None:
    data = line + b"\r\n" + fields + b"\r\n"
    request = read(data)
    assert (request.version, request.path) == ("1.0", path)
    assert request.host == request.headers.get("Host", "")
    assert outcome(one_by_one(data), Limits()) == outcome([data], Limits())


def test_reader_joins_repeated_fields() -> None:
    reader = RequestReader(Limits())
    more = b"A: 1\r\nCookie: a=1\r\na: 2\r\ncookie: b=2,c=3\r\nA:\r\nCOOKIE: d=4\r\n"
    request = reader.feed(LINE + HOST + more + b"\r\n")
    assert reader.fields == {b"host": b"a", b"a": b"1,2,", b"cookie": b"a=1; b=2,c=3; d=4"}
    assert request is not None
    assert request.headers["Cookie"] == "a=1; b=2,c=3; d=4"


# --- pieces


@pytest.mark.parametrize("rest", [b"", b"\x81\x80abcd", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_reader_returns_same_request_for_every_split(start: bytes, rest: bytes) -> None:
    data = start + BROWSER + rest
    expected = outcome([data], Limits())
    assert expected == (read(BROWSER), read(BROWSER).headers.wire, rest)
    for cut in range(len(data) + 1):
        assert outcome([data[:cut], data[cut:]], Limits()) == expected
    assert outcome(one_by_one(data), Limits()) == expected


def test_reader_returns_none_for_incomplete_head() -> None:
    reader = RequestReader(Limits())
    assert reader.feed(b"") is None
    assert [reader.feed(piece) for piece in one_by_one(BROWSER[:-1])] == [None] * (len(BROWSER) - 1)
    assert reader.rest == b""
    assert reader.feed(BROWSER[-1:]) == read(BROWSER)


@pytest.mark.parametrize("pieces", [[BROWSER], [BROWSER[:9], BROWSER[9:]]])
def test_reader_consumes_no_bytes_after_head(pieces: list[bytes]) -> None:
    reader = RequestReader(Limits())
    for piece in pieces:
        reader.feed(piece)
    with pytest.raises(UsageError, match=r"\.rest"):
        reader.feed(b"x")


# --- refusals


REFUSALS: list[tuple[bytes, int, str]] = [
    # the first byte
    (b"\x16\x03\x01\x02\x00\x01", 400, "the client started TLS, but this port does not use TLS: connect with ws://"),
    (b"\x00GET", 400, "not an HTTP request: the first byte is 0x00"),
    (b"\x81\x85", 400, "not an HTTP request: the first byte is 0x81"),
    (b" GET / HTTP/1.1\r\n", 400, "not an HTTP request: the first byte is 0x20"),
    (b"\r\n\x16", 400, "the client started TLS, but this port does not use TLS: connect with ws://"),
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
    (b"GET / HTTP/1.2\r\n", 505, "HTTP/1.2 is not supported; use HTTP/1.1"),
    (b"GET / HTTP/3.0\r\n", 505, "HTTP/3.0 is not supported; use HTTP/1.1"),
    (b"GET / HTTP/0.9\r\n", 505, "HTTP/0.9 is not supported; use HTTP/1.1"),
    (b"GET / HTTP/2.0\r\n", 505, "HTTP/2.0 is not supported; use HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2.0 is not supported; use HTTP/1.1"),
    # the target
    (b"GET * HTTP/1.1\r\n", 400, "malformed request target: '*'"),
    (b"GET chat HTTP/1.1\r\n", 400, "malformed request target: 'chat'"),
    (b"GET ?x HTTP/1.1\r\n", 400, "malformed request target: '?'..."),
    (b"GET ftp://b/ HTTP/1.1\r\n", 400, "malformed request target: 'ftp://b/'"),
    (b"GET http:///x HTTP/1.1\r\n", 400, "malformed request target: 'http:///x'"),
    (b"GET http://:80/x HTTP/1.1\r\n", 400, "malformed request target: 'http://:80/x'"),
    (b"GET http://u@b/x HTTP/1.1\r\n", 400, "malformed request target: 'http://u@b/x'"),
    (b"CONNECT / HTTP/1.1\r\n", 400, "malformed request target: '/'"),
    (b"CONNECT b HTTP/1.1\r\n", 400, "malformed request target: 'b'"),
    # line ends
    (b"\n", 400, "a line ends with LF instead of CRLF"),
    (b"GET / HTTP/1.1\n", 400, "a line ends with LF instead of CRLF"),
    (LINE + b"Host: a\n", 400, "a line ends with LF instead of CRLF"),
    (LINE + b"Host: a\r\n\n", 400, "a line ends with LF instead of CRLF"),
    # header lines; the reason after the colon comes from llhttp
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
    (LINE + b"Host: :80\r\n\r\n", 400, "malformed Host header"),
    (LINE + b"Host: :\r\n\r\n", 400, "malformed Host header"),
    (OLD + b"Host: :80\r\n\r\n", 400, "malformed Host header"),
    (OLD + HOST + HOST + b"\r\n", 400, "more than one Host header"),
    (OLD + b"Content-Length: 1\r\n\r\n", 400, "the request must not have a body"),
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
    (LINE + HOST + b"Content-Length: 1\r\n\r\nx", 400, "the request must not have a body"),
    (LINE + HOST + b"Content-Length: 10\r\n\r\n", 400, "the request must not have a body"),
    (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400, "the request must not have a body"),
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
        "the request must not have a body",
    ),
]


@pytest.mark.parametrize(("data", "status", "reason"), REFUSALS)
def test_reader_refuses_invalid_request_with_status(data: bytes, status: int, reason: str) -> None:
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
def test_reader_accepts_unusual_valid_request(method: bytes, fields: bytes) -> None:
    data = method + b" / HTTP/1.1\r\n" + fields + b"\r\n"
    assert read(data).headers.wire == b"\r\n" + fields[:-2]
    assert outcome(one_by_one(data), Limits()) == outcome([data], Limits())


# --- limits


def line_of(size: int) -> bytes:
    return b"GET /" + b"x" * (size - 14) + b" HTTP/1.1\r\n"


def field_of(size: int) -> bytes:
    return b"A: " + b"x" * (size - 3) + b"\r\n"


SMALL = Limits(max_request_line=40, max_header_line=30, max_headers=4, max_head=116)
BOUNDARIES = [
    (line_of(40) + HOST + b"\r\n", line_of(41), 414, "the request line is longer than 40 bytes"),
    (
        LINE + HOST + field_of(30) + b"\r\n",
        LINE + HOST + field_of(31),
        431,
        "a line of the head is longer than 30 bytes",
    ),
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
        "the head is longer than 116 bytes",
    ),
]


@pytest.mark.parametrize(("fine", "over", "status", "reason"), BOUNDARIES)
@pytest.mark.parametrize("rest", [b"", b"more"])
def test_reader_applies_limit_exactly_for_every_split(
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
def test_reader_refuses_endless_line_at_first_byte_over_limit(start: bytes, status: int, fed: int) -> None:
    data = start + b"x" * 1000
    reader = RequestReader(SMALL)
    for piece in one_by_one(data[: fed - 1]):
        assert reader.feed(piece) is None
    with pytest.raises(HandshakeRefused) as caught:
        reader.feed(data[fed - 1 : fed])
    assert caught.value.status == status
    assert outcome([data], SMALL) == (status, caught.value.reason)
    with pytest.raises(HandshakeRefused):  # again, because the refusal is final
        reader.feed(b"\r\n\r\n")


def test_reader_does_not_count_carriage_return_of_unfinished_line() -> None:
    reader = RequestReader(SMALL)
    assert reader.feed(line_of(40)[:-1]) is None
    with pytest.raises(HandshakeRefused, match="414"):
        reader.feed(b"\r")


def test_reader_applies_default_limits() -> None:
    limits = Limits()
    big = b"".join(field_of(8192) for _ in range(6)) + b"\r\n"
    assert len(read(line_of(8192) + HOST + big).headers.get_all("A")) == 6
    assert refusal([line_of(8193)]).status == 414
    assert refusal([LINE + field_of(8193)]).reason == "a line of the head is longer than 8192 bytes"
    assert len(read(LINE + HOST + b"A: b\r\n" * 127 + b"\r\n").headers.get_all("A")) == 127
    assert refusal([LINE + HOST + b"A: b\r\n" * 128 + b"\r\n"]).reason == "more than 128 header lines"
    start = LINE + HOST + field_of(8000) * 8
    last = limits.max_head - len(start) - 4
    assert read(start + field_of(last) + b"\r\n").path == "/"
    assert refusal([start + field_of(last + 1) + b"\r\n"]).reason == "the head is longer than 65536 bytes"


# --- random bytes

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
def test_reader_decides_the_same_for_every_split(data: bytes, cuts: list[int], limits: Limits) -> None:
    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(marks)]
    expected = outcome([data], limits)
    assert outcome(pieces, limits) == expected
    assert outcome(one_by_one(data), limits) == expected


@settings(max_examples=300)
@given(st.binary(max_size=40), st.integers(0, len(BROWSER)), st.integers(0, 20))
def test_reader_accepts_or_refuses_damaged_head(damage: bytes, place: int, length: int) -> None:
    data = BROWSER[:place] + damage + BROWSER[place + length :]
    result = outcome([data], Limits())
    if isinstance(result[0], Request):
        request = result[0]
        # An accepted request can be encoded again, so no name or value contains a line end.
        for name, value in request.headers.items_all():
            assert Headers([(name, value)]).get_all(name) == (value,)
            assert value in request.headers.get_all(name)
        assert request.target.endswith(request.path + ("?" + request.query_string if "?" in request.target else ""))
    else:
        assert result[0] in (None, 400, 414, 431, 505)
