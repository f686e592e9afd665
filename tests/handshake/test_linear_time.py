"""Everything that a peer can send in an opening handshake is processed in linear time.

The inputs are so long that an algorithm of quadratic time would need minutes for each.
"""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
from httptools import HttpRequestParser

from streamws.connecting.reconnecting import retry_after
from streamws.errors import HandshakeRefused, InvalidHandshake, InvalidURL
from streamws.handshake import client, request_reader
from streamws.handshake.client import check_response, refused_error
from streamws.handshake.extensions import check_answer
from streamws.handshake.head import Request, Response
from streamws.handshake.headers import Headers
from streamws.handshake.request_reader import RequestReader
from streamws.handshake.response_reader import ResponseReader
from streamws.handshake.server import Policy, accept_request
from streamws.handshake.url import join_url, parse_url, without_password
from streamws.options import Compression, Limits

N = 100_000
WIDE = Limits(max_request_line=4 * N, max_header_line=4 * N, max_headers=N, max_head=8 * N)
LINE = b"GET / HTTP/1.1\r\n"


def shown(text: object) -> str:
    """Return a short name for a long input."""
    return repr(text)[:24]


def complaint(function: Callable[[], object]) -> str:
    """Return the message of the error that a function raises; "" for none."""
    try:
        function()
    except (HandshakeRefused, InvalidHandshake, InvalidURL) as error:
        return str(error)
    return ""


def distinct(count: int) -> list[str]:
    """Return different tokens."""
    return [f"n{number}" for number in range(count)]


# --- requests

HEADS = {
    "tabs before host": LINE + b"Host:" + b"\t" * N + b"@\r\n",
    "tabs in host": LINE + b"Host: a" + b"\t" * N + b"@\r\n",
    "long host": LINE + b"Host: " + b"a" * N + b"@\r\n",
    "long port": LINE + b"Host: a:" + b"1" * N + b"@\r\n",
    "long address": LINE + b"Host: [" + b":" * N + b"@\r\n",
    "long method": b"A" * N + b"@ / HTTP/1.1\r\n",
    "spaces after method": b"GET" + b" " * N + b"@\r\n",
    "long target": b"GET /" + b"a" * N + b"\x00 HTTP/1.1\r\n",
    "versions in target": b"GET /" + b" HTTP/1.1" * (N // 9) + b" \r\n",
    "long absolute host": b"GET http://" + b"a" * N + b"@ HTTP/1.1\r\n",
    "long absolute port": b"GET http://a:" + b"1" * N + b"@ HTTP/1.1\r\n",
    "colons in authority": b"CONNECT " + b"a:" * N + b" HTTP/1.1\r\n",
    "colons in address": b"CONNECT [" + b":" * N + b"]: HTTP/1.1\r\n",
    "same field": LINE + b"Host: a\r\n" + b"A: b\r\n" * (N - 2),
    "same cookie": LINE + b"Host: a\r\n" + b"Cookie: b\r\n" * (N - 2),
    "distinct fields": LINE + b"Host: a\r\n" + b"".join(b"%b: b\r\n" % name.encode() for name in distinct(N - 2)),
    "spaces around value": LINE + b"Host: a\r\nA:" + b" \t" * N + b"b" + b"\t " * (N // 2) + b"\r\n",
    "long name": LINE + b"Host: a\r\n" + b"A" * N + b"@: b\r\n",
    "digits of length": LINE + b"Host: a\r\nContent-Length: " + b"0" * N + b"\r\n",
    "line feeds": LINE + b"\n" * N,
    "carriage returns": LINE + b"\r" * N + b"\n",
}


def read(pieces: list[bytes]) -> None:
    """Read a head, and look up all its fields."""
    reader = RequestReader(WIDE)
    request = [reader.feed(piece) for piece in pieces][-1]
    assert request is not None
    assert len(dict(request.headers)) == len({name for name, _ in request.headers.items_all()})


@pytest.mark.parametrize("name", HEADS)
def test_reader_judges_head_in_linear_time(name: str) -> None:
    data = HEADS[name] + b"\r\n"
    for cut in (len(data), 1, len(data) // 2):
        pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
        assert len(complaint(partial(read, pieces))) < 200


def test_reader_collects_head_of_single_bytes_in_linear_time() -> None:
    data = LINE + b"Host: a\r\n" + b"A: b\r\n" * 1000 + b"A: " + b"b" * N + b"\r\n\r\n"
    reader = RequestReader(WIDE)
    results = [reader.feed(data[place : place + 1]) for place in range(len(data))]
    assert isinstance(results[-1], Request)


class Counted:
    """Counts the calls of a callable, and of the methods of an object."""

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped
        self.count = 0

    def __call__(self, *args: object) -> object:
        self.count += 1
        assert callable(self._wrapped)
        return self._wrapped(*args)

    def fullmatch(self, text: bytes) -> object:
        self.count += 1
        return getattr(self._wrapped, "fullmatch")(text)  # noqa: B009


@pytest.mark.parametrize(
    ("data", "lines", "heads"),
    [
        (b"GET  / HTTP/1.1\r\n", 1, 0),
        (b"GET / HTTP/2.0\r\nHost: a\r\n", 1, 0),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nA: \x00\r\n", 1, 1),
        (b"OPTIONS * HTTP/1.1\r\nA: b\r\n", 1, 1),
        (b"OPTIONS * HTTP/1.1\r\nHost: a b\r\n", 1, 1),
    ],
)
def test_reader_judges_refused_head_once(data: bytes, lines: int, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data += b"\r\n"
    for cut in (0, 5, len(data) - 1):
        line, head = Counted(request_reader._REQUEST_LINE), Counted(HttpRequestParser)
        with monkeypatch.context() as patches:
            patches.setattr(request_reader, "_REQUEST_LINE", line)
            patches.setattr(request_reader, "HttpRequestParser", head)
            assert complaint(partial(read, [piece for piece in (data[:cut], data[cut:]) if piece]))
        assert (line.count, head.count) == (lines, heads)


# --- the opening handshake of a server

VALUES = [
    ("Origin", "a" * N + "@"),
    ("Origin", "a+" * N + "://"),
    ("Origin", "http://" + "a" * N + "@"),
    ("Origin", "http://a:" + "1" * N),
    ("Origin", "http://[" + ":" * N + "]"),
    ("Origin", "http://[" + "1." * N + "]"),
    ("Origin", "http://[::" + "0" * N + "]"),
    ("Connection", "a," * N),
    ("Connection", "\t," * N),
    ("Connection", "upgrade" + "\t" * N + "@"),
    ("Upgrade", "a, " * N),
    ("Sec-WebSocket-Version", "1" * N),
    ("Sec-WebSocket-Key", "A" * N),
    ("Sec-WebSocket-Protocol", "," * N),
    ("Sec-WebSocket-Protocol", "a\t," + "\t" * N + "@"),
    ("Sec-WebSocket-Protocol", ", ".join(distinct(N))),
    *[
        ("Sec-WebSocket-Extensions", value)
        for value in (
            "\t" * N + "@",
            "," * N + "@",
            "a" + "\t" * N + "@",
            "a" * N + "@",
            "a;" * N,
            "a; b=" + "\t" * N + "@",
            'a; b="' + "b" * N,
            'a; b="' + "\\b" * N,
            'a; b="' + "\\b" * N + '"' + "\t" * N + "@",
            'a; b="' + "\\" * N + '"',
            'a; b="' + "@" * N + '"',
            '"' * N,
            "permessage-deflate; a, " * (N // 20),
            "permessage-deflate; " + "; ".join(distinct(N)),
            "permessage-deflate; client_max_window_bits=" + "1" * N,
            "permessage-deflate; client_no_context_takeover=" + "1" * N,
        )
    ],
]


@pytest.mark.parametrize(("name", "value"), VALUES, ids=shown)
def test_server_checks_field_in_linear_time(name: str, value: str) -> None:
    fields = {
        b"host": b"example.org",
        b"upgrade": b"websocket",
        b"connection": b"upgrade",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
    }
    fields[name.lower().encode()] = value.encode()
    headers = Headers([(key.decode(), text.decode()) for key, text in fields.items()])
    policy = Policy(["https://example.org"], ["a", "b"], compression=Compression())
    assert len(complaint(lambda: accept_request(Request("GET", "/", headers), fields, policy))) < 300


# --- the opening handshake of a client

ACCEPTED = {"Upgrade": "websocket", "Connection": "upgrade"}


@pytest.mark.parametrize("value", [value for name, value in VALUES if name == "Sec-WebSocket-Extensions"], ids=shown)
def test_client_judges_extensions_in_linear_time(value: str) -> None:
    with pytest.raises(ValueError, match=r"extension|malformed|parameter|client_"):
        check_answer(value, Compression())


@pytest.mark.parametrize(
    "head",
    [
        b"A: b\r\n" * (N - 2),
        b"Connection: a\r\n" * (N - 2),
        b"Upgrade:" + b"\t" * N + b"a\r\n",
        b"".join(b"%b: b\r\n" % name.encode() for name in distinct(N - 2)),
        b"Content-Length: " + b"0" * N + b"\r\n",
    ],
    ids=shown,
)
@pytest.mark.parametrize("status", [b"101", b"103", b"401"])
def test_client_reads_response_in_linear_time(status: bytes, head: bytes) -> None:
    reader = ResponseReader(WIDE)

    def read() -> None:
        response = reader.feed(b"HTTP/1.1 " + status + b" X\r\nUpgrade: a\r\n" + head + b"\r\n") or reader.finish()
        if response is not None:
            check_response(_handshake(), response)

    assert len(complaint(read)) < 400


def _handshake() -> "client.Handshake":
    return client.begin_handshake(parse_url("ws://a"), client.request_options((), None, None, ()))


@pytest.mark.parametrize(
    "body",
    [
        "<title" * N,
        "<title " * N + ">",
        "<title>" * N,
        "<title>" + " " * N,
        "<title>" + "&" * N,
        "<title>" + "&#" + "9" * N,
        "<title>" + "&#x" + "9" * N,
        "<title>" + "&amp" * N,
        "<TITLE" + ">" * N,
        "<" * N,
        "plain HTTP request was " * N,
        " " * N,
        "\u0301\u0327" * N,
    ],
    ids=shown,
)
@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/json", "a/b" + "\t" * 1000 + ";", "+json" * N], ids=shown
)
@pytest.mark.parametrize("status", [0, 400, 503])
def test_client_describes_body_in_linear_time(status: int, kind: str, body: str) -> None:
    error = refused_error(Response.from_wire(status, Headers({"Content-Type": kind}), body.encode()))
    assert len(str(error)) < 400
    assert error.body == body.encode()


def test_client_reads_body_of_tiny_chunks_in_linear_time() -> None:
    reader = ResponseReader(WIDE)
    head = b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = reader.feed(head + b"1;" + b"a" * N + b"\r\na\r\n" + b"1\r\na\r\n" * N)
    assert response is not None
    assert response.body == b"a" * 65536


URLS = [
    "//" + "a" * N,
    "//" * N,
    "//:a" * N,
    "//a:1" * N,
    "//" + ":a" * N,
    "//" + ":1" * N + "/",
    "//" + "a@" * N,
    "//" + "a:b/@" * N,
    "ws://a:" + "#" * N + "@",
    "//\u0301\u0327" * N,
    "//" + "\u0301\u0327" * N,
    "//" + "\u0301\u0327" * N + "@a/",
    "//a/" + "\u0301\u0327" * N,
    "//" + "\u00e9." * N,
    "//" + "\u00e9" * N,
    "//[" + ":" * N + "]",
    "//[::1%25" + "a" * N + "]",
    "//a:" + "1" * N + "/",
    "/" + "../" * N,
    "/" + "a/../" * N,
    "/" + "./" * N,
    "?" * N,
    "#" * N,
    "%" * N,
    ":" * N,
    "a" * N + "://",
    "a+" * N + ":",
]


@pytest.mark.parametrize("text", URLS, ids=shown)
@pytest.mark.parametrize(
    "function",
    [
        without_password,
        parse_url,
        lambda text: parse_url(f"ws:{text}"),
        lambda text: join_url(parse_url("ws://a/"), text),
    ],
    ids=["without password", "parse", "parse as ws", "join"],
)
def test_url_is_processed_in_linear_time(function: Callable[[str], object], text: str) -> None:
    assert len(complaint(lambda: function(text))) < 400


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    list(
        itertools.product(
            ("", "Mon, ", "Mon, 1 Jan ", "Mon, 1 Jan 2000 1:1:1 ", "Mon, 1 Jan 2000 1:1:1 +"),
            (" ", ",", ":", "1", "-", "a", "(", "()", '"', "\\", "+1 ", "1:", "1 Jan ", ". ", "\u0301"),
            ("", "@"),
        )
    ),
)
def test_date_is_parsed_in_linear_time(start: str, repeated: str, end: str) -> None:
    assert retry_after(start + repeated * N + end) >= 0


# --- header fields


def test_headers_are_looked_up_in_linear_time() -> None:
    pairs = [(name, "b") for name in distinct(N // 2)]
    headers = Headers(pairs)
    assert dict(headers) == dict(pairs)
    assert list(headers.values()) == ["b"] * (N // 2)
    assert headers == Headers(reversed(pairs))
    assert hash(headers) == hash(Headers(reversed(pairs)))
    assert len(headers) == N // 2
    repeated = Headers([("A", "b")] * N)
    assert repeated["a"] == ", ".join(["b"] * N)
    assert Headers([("A", "\t" * N + "b" + "\t" * N)])["A"] == "b"
