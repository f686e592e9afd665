"""`Request` and `Response` objects."""

import pytest

from streamws.errors import InvalidHeader
from streamws.handshake.head import Accept, Request, Response
from streamws.handshake.headers import HeaderFields, Headers

# --- Request


def test_request_without_host_has_empty_host() -> None:
    assert Request("GET", "/", Headers()).host == ""


def ask(target: str, *fields: tuple[str, str], method: str = "GET") -> Request:
    return Request(method, target, Headers(fields))


@pytest.mark.parametrize(
    ("target", "pairs"),
    [
        ("/", []),
        ("/?", []),
        ("/?a", [("a", "")]),
        ("/?a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("/?a=&&=b", [("a", ""), ("", "b")]),
        ("/?a+b=%20%2B+c", [("a b", " + c")]),
        ("/?%C3%A9=%E2%82%AC", [("é", "€")]),
        ("/?a=%ff%zz", [("a", "\ufffd%zz")]),
        ("/?a=b=c?d", [("a", "b=c?d")]),
        ("/?a=1;b=2", [("a", "1;b=2")]),
        ("http://example.org?a=1", [("a", "1")]),
    ],
)
def test_request_has_query_as_mapping(target: str, pairs: list[tuple[str, str]]) -> None:
    query = ask(target).query
    first = dict(reversed(pairs))
    assert query == first
    assert list(query) == list(dict(pairs))
    assert len(query) == len(first)
    assert repr(query) == f"Query({pairs!r})"
    for name in first:
        assert name in query
        assert query[name] == query.get(name) == first[name]
        assert query.getlist(name) == [value for other, value in pairs if other == name]
    assert "missing" not in query
    assert (query.get("missing"), query.getlist("missing")) == (None, [])
    with pytest.raises(KeyError, match="missing"):
        query["missing"]


def test_request_parses_query_once_and_not_before_it_is_asked() -> None:
    request = ask("/?a=1")
    assert (request.path, request.query_string) == ("/", "a=1")
    assert request._derived is None
    assert request.query is request.query
    request.query.getlist("a").append("2")
    assert request.query.getlist("a") == ["1"]


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        ([""], {}),
        (["a=1"], {"a": "1"}),
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=1;b=2;;  c = 3 "], {"a": "1", "b": "2", "c": "3"}),
        (["a=1; a=2", "a=3"], {"a": "1"}),
        (["a=b=c=="], {"a": "b=c=="}),
        (['a="1, 2"; b="; c=""'], {"a": "1, 2", "b": '"', "c": ""}),
        (["alone; =nameless; a=1"], {"a": "1"}),
        (["{broken}=[1]; session=x"], {"{broken}": "[1]", "session": "x"}),
        (["a=é"], {"a": "é"}),
        (["a="], {"a": ""}),
    ],
)
def test_request_has_cookies(fields: list[str], cookies: dict[str, str]) -> None:
    request = ask("/", *[("Cookie", field) for field in fields])
    assert request.cookies == cookies
    assert request.cookies is request.cookies


def test_request_has_offered_subprotocols() -> None:
    assert ask("/").subprotocols == ()
    fields = ("Sec-WebSocket-Protocol", "b, a"), ("sec-websocket-protocol", " c ,,")
    assert ask("/", *fields).subprotocols == ("b", "a", "c")


def test_request_without_connection_has_no_address() -> None:
    request = ask("/")
    assert (request.remote, request.secure) == (("", 0), False)
    assert request.get_extra_info("peername") is None
    assert request.get_extra_info("peername", "nobody") == "nobody"


@pytest.mark.parametrize(
    ("request_", "shown"),
    [
        (ask("/chat?token=secret", ("Authorization", "secret"), ("Cookie", "a=secret")), "<Request GET /chat>"),
        (ask("http://example.org?secret"), "<Request GET />"),
        (ask("*", method="OPTIONS"), "<Request OPTIONS *>"),
        (ask("/" + 1000 * "x", method=100 * "M"), f"<Request {20 * 'M'} /{199 * 'x'}>"),
    ],
)
def test_request_shows_neither_query_nor_fields(request_: Request, shown: str) -> None:
    assert repr(request_) == shown


# --- Accept


def test_accept_keeps_fields_of_one_name() -> None:
    accept = Accept([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], "chat")
    assert accept.headers.get_all("Set-Cookie") == ("a=1", "b=2")
    assert accept.subprotocol == "chat"
    assert Accept() == Accept(headers={}, subprotocol=None)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"A": "1\r\nB: 2"}, "the value of header A contains a control character"),
        ({"A\n": "1"}, "is not a token"),
        ({"": "1"}, "is not a token"),
        ({"upgrade": "h2c"}, "^upgrade must not be in headers=, streamws sets it$"),
        ({"A": "1", "Connection": "close"}, "^Connection must not be in headers="),
        ({"Sec-WebSocket-Accept": "x"}, "^Sec-WebSocket-Accept must not be in headers="),
        ({"Sec-WebSocket-Extensions": "x"}, "^Sec-WebSocket-Extensions must not be in headers="),
        ({"Sec-WebSocket-Protocol": "x"}, "^Sec-WebSocket-Protocol must not be .* sets it; use subprotocol=$"),
        ({"Content-Length": "0"}, "^Content-Length must not be in headers="),
        ({"Transfer-Encoding": "chunked"}, "^Transfer-Encoding must not be in headers="),
    ],
)
def test_accept_refuses_fields_that_would_break_the_response(fields: HeaderFields, says: str) -> None:
    with pytest.raises(InvalidHeader, match=says):
        Accept(fields)


@pytest.mark.parametrize("name", ["", "a b", "a\r\nb", "é"])
def test_accept_refuses_subprotocol_that_is_not_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        Accept(subprotocol=name)


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
def test_response_encodes_to_exact_bytes(response: Response, encoded: bytes) -> None:
    assert response.encode() == encoded
    assert response.encode("HEAD") == encoded[: encoded.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, "OK"), (408, "Request Timeout"), (413, "Content Too Large"), (414, "URI Too Long"), (499, "")],
)
def test_response_has_same_reason_phrase_on_every_python(status: int, reason: str) -> None:
    assert Response(status).reason == reason


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600])
def test_response_refuses_status_out_of_range(status: int) -> None:
    with pytest.raises(ValueError, match=f"from 200 to 599, not {status}"):
        Response(status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_response_refuses_body_for_status_without_body(status: int) -> None:
    with pytest.raises(ValueError, match="must not have a body"):
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
def test_response_refuses_fields_that_would_break_it(headers: HeaderFields) -> None:
    with pytest.raises(InvalidHeader):
        Response(200, "x", headers)


def test_response_has_one_content_type() -> None:
    with pytest.raises(InvalidHeader, match="given twice"):
        Response(200, "x", {"Content-Type": "a/b"}, content_type="c/d")
    with pytest.raises(InvalidHeader, match="control character"):
        Response(200, "x", content_type="a\r\nb: c")
