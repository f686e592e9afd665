"""The opening handshake of a client: its request, and the responses that it accepts."""

import re
from base64 import b64decode
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws.errors import HandshakeRefused, InvalidHandshake, InvalidHeader, ProxyError
from streamws.handshake.client import (
    BODY_SIZE,
    Handshake,
    ResponseReader,
    begin,
    check,
    check_tunnel,
    connect_request,
    make_offer,
    refused,
)
from streamws.handshake.head import Request, Response
from streamws.handshake.headers import HeaderFields, Headers
from streamws.handshake.url import parse_url
from streamws.options import Compression, Limits

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# The request ----------------------------------------------------------------------------------------------------


def encode(url: str, headers: HeaderFields = (), **options: Any) -> bytes:
    """Return the request for a URL, with KEY in place of the key."""
    options = {"origin": None, "user_agent": None, "subprotocols": ()} | options
    encoded = begin(parse_url(url), make_offer(headers, **options)).encoded
    found = re.search(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)\r\n", encoded)
    assert found is not None
    assert len(b64decode(found[1])) == 16
    return encoded.replace(found[1], b"KEY")


START = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13"


def test_client_sends_a_minimal_request() -> None:
    assert encode("ws://example.org") == b"GET / HTTP/1.1\r\nHost: example.org" + START + b"\r\n\r\n"


def test_client_sends_subprotocols_origin_user_agent_authorization_and_headers() -> None:
    encoded = encode(
        "wss://Aladdin:open%20sesame@example.org:8443/a/b?c=d",
        [("X-One", "1"), ("X-Two", "ü"), ("X-One", "3")],
        origin="https://example.org",
        user_agent="thing/1.0",
        subprotocols=["chat.v2", "chat.v1"],
    )
    assert encoded == (
        b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8443" + START + b"\r\nSec-WebSocket-Protocol: chat.v2, chat.v1"
        b"\r\nOrigin: https://example.org\r\nUser-Agent: thing/1.0"
        b"\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        b"\r\nX-One: 1\r\nX-Two: \xc3\xbc\r\nX-One: 3\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://example.org:80", b"example.org"),
        ("wss://example.org:443", b"example.org"),
        ("ws://example.org:443", b"example.org:443"),
        ("wss://[::1]", b"[::1]"),
        ("ws://[::1]:8080", b"[::1]:8080"),
        ("ws://bücher.example", b"xn--bcher-kva.example"),
    ],
)
def test_client_sends_host_without_default_port(url: str, host: bytes) -> None:
    assert encode(url).split(b"\r\n")[1] == b"Host: " + host


@pytest.mark.parametrize("name", ["Host", "User-Agent", "Authorization", "host", "AUTHORIZATION"])
def test_client_sends_field_of_the_application_instead_of_its_own(name: str) -> None:
    encoded = encode("ws://user:secret@example.org", {name: "mine"}, user_agent="streamws")
    lines = [line for line in encoded.split(b"\r\n") if line.lower().startswith(name.lower().encode() + b":")]
    assert lines == [f"{name}: mine".encode()]


def test_client_sends_a_fresh_key_each_time() -> None:
    offer = make_offer((), None, None, ())
    assert len({begin(parse_url("ws://a"), offer).key for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "connection",
        "SEC-WEBSOCKET-KEY",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_client_refuses_field_of_the_handshake_itself(name: str) -> None:
    with pytest.raises(InvalidHeader, match=f"{name} in the request is set by streamws alone"):
        encode("ws://a", {"X": "y", name: "1"})


def test_client_names_the_argument_for_subprotocols() -> None:
    with pytest.raises(InvalidHeader, match="by streamws alone, from the subprotocols that it is given"):
        encode("ws://a", {"sec-websocket-protocol": "chat"})


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\rb", "a\nb", "a\x00", "\x7f", "\ud800"])
@pytest.mark.parametrize("place", ["headers", "origin", "user_agent"])
def test_client_refuses_value_with_line_end_or_control_character(place: str, value: str) -> None:
    fields = {"X": value} if place == "headers" else {}
    options = {} if place == "headers" else {place: value}
    with pytest.raises(InvalidHeader, match="the value of header"):
        encode("ws://a", fields, **options)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ü"])
def test_client_refuses_name_that_is_no_token(name: str) -> None:
    with pytest.raises(InvalidHeader, match="is not a header name"):
        encode("ws://a", {name: "1"})


def test_client_refuses_origin_given_twice() -> None:
    with pytest.raises(InvalidHeader, match="Origin is given twice"):
        encode("ws://a", {"origin": "http://a"}, origin="http://b")


def test_client_sends_origin_of_headers() -> None:
    assert b"\r\nOrigin: http://a\r\n" in encode("ws://a", {"Origin": "http://a"})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("chat", "is a list of names, not 'chat'"),
        (["a b"], "'a b' in subprotocols is not a token"),
        (["a,b"], "'a,b' in subprotocols is not a token"),
        ([""], "'' in subprotocols is not a token"),
        (["a\r\nX: y"], "is not a token"),
        (["a", "b", "a"], r"names one twice: \['a', 'b', 'a'\]"),
    ],
)
def test_client_refuses_duplicate_or_malformed_subprotocols(names: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode("ws://a", subprotocols=names)


# The answer, judged ---------------------------------------------------------------------------------------------

FIELDS = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def handshake(*subprotocols: str, compression: Compression | None = None) -> Handshake:
    return Handshake(Request("GET", "/", Headers({"Host": "a"})), KEY, subprotocols, compression)


def answer(*more: tuple[str, str], **change: str | None) -> Response:
    """Return a valid response with other fields."""
    fields: dict[str, str | None] = {**FIELDS, **{name.replace("_", "-"): value for name, value in change.items()}}
    kept = [(name, value) for name, value in fields.items() if value is not None]
    return Response.from_wire(101, Headers([*kept, *more]))


@pytest.mark.parametrize(
    "response",
    [
        answer(),
        answer(Upgrade="WebSocket", Connection="upgrade"),
        answer(Upgrade="WEBSOCKET", Connection="UPGRADE"),
        answer(Connection="keep-alive, Upgrade"),
        answer(Connection="Upgrade ,\tkeep-alive"),
        answer(("connection", "upgrade"), Connection="keep-alive"),
        answer(Sec_WebSocket_Accept=f" {ACCEPT}\t "),
        answer(("Server", "x"), ("Date", "y"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")),
        answer(("Sec-WebSocket-Extensions", "")),
    ],
)
def test_client_accepts_response(response: Response) -> None:
    agreement = check(handshake(), response)
    assert agreement.response is response
    assert agreement.subprotocol is None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(Upgrade=None), "its Upgrade field is not websocket"),
        (answer(Upgrade="h2c"), "its Upgrade field is not websocket"),
        (answer(Upgrade="websocket/13"), "its Upgrade field is not websocket"),
        (answer(Upgrade="websoc\u212aet"), "its Upgrade field is not websocket"),  # KELVIN SIGN, whose lower() is k
        (answer(("Upgrade", "h2c")), "its Upgrade field is not websocket"),
        (answer(Connection=None), "its Connection field lacks Upgrade"),
        (answer(Connection="keep-alive"), "its Connection field lacks Upgrade"),
        (answer(Connection="Upgraded"), "its Connection field lacks Upgrade"),
        (answer(Sec_WebSocket_Accept=None), "Sec-WebSocket-Accept does not fit the key that was sent"),
        (answer(Sec_WebSocket_Accept=""), "Sec-WebSocket-Accept does not fit"),
        (answer(Sec_WebSocket_Accept=ACCEPT.lower()), "Sec-WebSocket-Accept does not fit"),
        (answer(Sec_WebSocket_Accept=ACCEPT[:-1]), "Sec-WebSocket-Accept does not fit"),
        (answer(Sec_WebSocket_Accept=KEY.decode()), "Sec-WebSocket-Accept does not fit"),
        (answer(("sec-websocket-accept", ACCEPT)), "Sec-WebSocket-Accept does not fit"),
        (
            answer(("Sec-WebSocket-Extensions", "permessage-deflate")),
            "it uses an extension that was not offered: 'permessage-deflate'",
        ),
        (answer(("Sec-WebSocket-Protocol", "chat")), "it speaks a subprotocol that was not offered: 'chat'"),
        (answer(("Sec-WebSocket-Protocol", "")), "it speaks a subprotocol that was not offered: ''"),
    ],
)
def test_client_refuses_response_without_a_valid_handshake(response: Response, reason: str) -> None:
    with pytest.raises(InvalidHandshake) as caught:
        check(handshake(), response)
    assert str(caught.value).startswith(f"the server's answer is none of a WebSocket server: {reason}")
    assert caught.value.status == 101
    assert caught.value.headers == response.headers


def test_client_accepts_offered_subprotocol_or_none() -> None:
    assert check(handshake("a", "b"), answer(("Sec-WebSocket-Protocol", "b"))).subprotocol == "b"
    assert check(handshake("a", "b"), answer()).subprotocol is None


@pytest.mark.parametrize("chosen", [["c"], ["A"], ["a, b"], ["a", "b"], ["a", "a"]])
def test_client_refuses_another_subprotocol_or_several(chosen: list[str]) -> None:
    with pytest.raises(InvalidHandshake, match="a subprotocol that was not offered"):
        check(handshake("a", "b"), answer(*[("Sec-WebSocket-Protocol", name) for name in chosen]))


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 426, 500, 503, 599])
def test_client_raises_refusal_for_another_status(status: int) -> None:
    response = Response.from_wire(status, Headers({"retry-after": "5", **FIELDS}), b"said")
    with pytest.raises(HandshakeRefused) as caught:
        check(handshake(), response)
    assert (caught.value.status, caught.value.body) == (status, b"said")
    assert caught.value.headers["Retry-After"] == "5"


PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
JSON = {"content-type": "application/json"}
HTML = {"Content-Type": "text/html"}
NGINX = b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>"
GZIP = b"\x1f\x8b\x08\x00<title>"
USE_WSS = " (this port speaks TLS: use wss://)"


@pytest.mark.parametrize(
    ("status", "fields", "body", "message"),
    [
        (401, PLAIN, b"token expired\n", "401 Unauthorized: token expired"),
        (401, JSON, b'{"error":\n  "token expired"}', '401 Unauthorized: {"error": "token expired"}'),
        (403, {"Content-Type": "application/problem+json"}, b"{}", "403 Forbidden: {}"),
        (404, {}, b"", "404 Not Found: the answer has no body"),
        (404, {}, b" \n", "404 Not Found: the answer has no body"),
        (404, HTML, b"", "404 Not Found: the answer has no body"),
        (200, HTML, b"<!doctype html><title>\n Sign in &amp; up </title>", "200 OK: Sign in & up"),
        (502, HTML, b"<p>none", "502 Bad Gateway: the answer's body is text/html"),
        (503, {"Content-Type": "image/png"}, b"\x89PNG", "503 Service Unavailable: the answer's body is image/png"),
        (404, {"Content-Encoding": "identity"}, b"no", "404 Not Found: no"),
        (404, PLAIN | {"Content-Encoding": "GZip"}, GZIP, "404 Not Found: the answer's body is text/plain in gzip"),
        (404, HTML | {"Content-Encoding": "br"}, GZIP, "404 Not Found: the answer's body is text/html in br"),
        (500, {"Content-Type": "a\u2028\u202eb"}, b"x", "500 Internal Server Error: the answer's body is a b"),
        (599, PLAIN, "añadió\x1b[2J\r\nINFO\u2028x".encode(), "599: añadió [2J INFO x"),
        (403, PLAIN, b"\xff", "403 Forbidden: \ufffd"),
        (403, PLAIN, b"a" * 300, f"403 Forbidden: {'a' * 200}..."),
        (400, HTML, NGINX, f"400 Bad Request: {NGINX[21:70].decode()}{USE_WSS}"),
        (
            400,
            PLAIN,
            b"Client sent an HTTP request to an HTTPS server.",
            f"400 Bad Request: Client sent an HTTP request to an HTTPS server.{USE_WSS}",
        ),
        (
            400,
            HTML,
            b"<title>400 Bad Request</title>\nReason: You're speaking plain HTTP to an SSL-enabled server port.",
            f"400 Bad Request: 400 Bad Request{USE_WSS}",
        ),
    ],
)
def test_refusal_shows_the_body_of_the_server(status: int, fields: dict[str, str], body: bytes, message: str) -> None:
    assert str(refused(Response.from_wire(status, Headers(fields), body))) == message


# The answer, read -----------------------------------------------------------------------------------------------

HEAD_101 = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
BIG = bytes(range(256)) * 300

Result = tuple[int, Headers, bytes, bytes] | str | None


def read(pieces: Iterable[bytes], limits: Limits | None = None, *, end: bool = True, connect: bool = False) -> Result:
    """Feed chunks and the end of the connection to the reader, and return the result."""
    reader = ResponseReader(limits or Limits(), connect=connect)
    behind = b""
    response = None
    try:
        for piece in pieces:
            if response is None:
                response = reader.feed(piece)
            else:
                behind += piece
    except InvalidHandshake as error:
        return str(error)
    if response is None and end:
        response = reader.finish()
    if response is None:
        return None
    ends_http = response.status == 101 or (connect and 200 <= response.status < 300)
    return response.status, response.headers, response.body, reader.rest + (behind if ends_http else b"")


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


GOOD: dict[str, tuple[bytes, int, bytes]] = {
    "length": (head("404 Not Found", "Content-Length: 5") + b"no\r\n!", 404, b"no\r\n!"),
    "length and more": (head("404 Not Found", "Content-Length: 2") + b"noHTTP/1.1", 404, b"no"),
    "length zero": (head("404 Not Found", "Content-Length: 0"), 404, b""),
    "length cut": (head("404 Not Found", "Content-Length: 9") + b"no", 404, b"no"),
    "chunked": (
        head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
        401,
        b"abcde",
    ),
    "chunked cut": (head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n5\r\nde", 401, b"abcde"),
    "chunked broken": (head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n", 401, b"abc"),
    "to the end": (head("500 X", "Connection: close") + b"all\r\n\r\nof it", 500, b"all\r\n\r\nof it"),
    "old": (b"HTTP/1.0 503 X\r\nA: b\r\n\r\nsorry", 503, b"sorry"),
    "no body": (head("204 X") + b"none", 204, b""),
    "no phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    "announced upgrade": (
        head("426 X", "Upgrade: websocket", "Connection: Upgrade, close", "Content-Length: 3") + b"use",
        426,
        b"use",
    ),
    "interim": (head("103 X", "Link: a") + head("100 X") + head("403 X", "Content-Length: 2") + b"no", 403, b"no"),
    "latin-1": (head("403 \xff", "A: \xff", "Content-Length: 2") + b"no", 403, b"no"),
}


@pytest.mark.parametrize("name", GOOD)
def test_reader_reads_response_in_any_chunks(name: str) -> None:
    data, status, body = GOOD[name]
    found = read([data])
    assert isinstance(found, tuple)
    assert (found[0], found[2]) == (status, body)
    assert "Link" not in found[1]
    assert read(bytewise(data)) == found


@pytest.mark.parametrize(
    "pieces", [[HEAD_101 + b"\x81\x01a"], [HEAD_101, b"\x81\x01a"], bytewise(HEAD_101 + b"\x81\x01a")]
)
def test_reader_leaves_bytes_after_a_101(pieces: list[bytes]) -> None:
    assert read(pieces) == (101, Headers({"Upgrade": "websocket", "Connection": "Upgrade"}), b"", b"\x81\x01a")


@pytest.mark.parametrize("fields", ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
def test_reader_accepts_101_with_any_fields(fields: str) -> None:
    found = read([f"HTTP/1.1 101 X\r\n{fields}\r\n".encode() + b"\x81\x00"])
    assert isinstance(found, tuple)
    assert (found[0], found[2:]) == (101, (b"", b"\x81\x00"))


@pytest.mark.parametrize("piece", [1000, 65536, 10**9])
@pytest.mark.parametrize("framing", ["Connection: close", "Content-Length: 76800"])
def test_reader_reads_64_kib_of_a_body(framing: str, piece: int) -> None:
    data = head("500 X", framing) + BIG
    reader = ResponseReader(Limits())
    response = None
    for place in range(0, len(data), piece):
        assert response is None
        response = reader.feed(data[place : place + piece])
        if response is not None:
            break
    assert response is not None
    assert response.body == BIG[:BODY_SIZE]


def test_reader_returns_none_before_the_head_is_complete() -> None:
    reader = ResponseReader(Limits())
    assert not reader.begun
    for byte in bytewise(HEAD_101[:-1]):
        assert reader.feed(byte) is None
        assert reader.begun
    assert reader.finish() is None


def test_reader_returns_the_received_part_of_a_body() -> None:
    reader = ResponseReader(Limits())
    assert reader.feed(head("503 X", "Content-Length: 100") + b"bu") is None
    assert reader.feed(b"sy") is None
    response = reader.finish()
    assert response is not None
    assert (response.status, response.body) == (503, b"busy")


MALFORMED = "the head of the answer is malformed: "
BARE_LF = MALFORMED + "a line ends in LF without CR"
TLS = "the server speaks TLS on this port: use wss://"

BAD: dict[bytes, str] = {
    b"\x15\x03\x01\x00\x02\x02\x46": TLS,
    b"\x16\x03\x03\x00\x7a\x02": TLS,
    b"SSH-2.0-OpenSSH_9.2\r\n": "the server does not speak HTTP/1.1: it begins with b'S",
    b"\x00\x00\x06\x04\x00": r"the server does not speak HTTP/1.1: it begins with b'\x00",
    b"HTTP/2 101 X\r\n\r\n": "the server does not speak HTTP/1.1: it begins with b'HTTP/2",
    b"http/1.1 101 X\r\n\r\n": "the server does not speak HTTP/1.1",
    b"\r\nHTTP/1.1 101 X\r\n\r\n": "the server does not speak HTTP/1.1",
    b"HTTP/1.2 101 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 99 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 1000 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 abc X\r\n\r\n": MALFORMED,
    b"HTTP/1.1  101 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA: b\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA: b\r\n\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA : b\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\r\n c\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\x00\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\rc\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nno colon\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": MALFORMED,
    b"HTTP/1.0 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n": "the server's answer is none of a "
    "WebSocket server: a 101 in HTTP/1.0",
    b"HTTP/1.1 100 X\r\n\r\n" * 11: "more than 10 interim answers (100) and no other",
}


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data)[:60])
def test_reader_refuses_malformed_response(data: bytes) -> None:
    whole, by_bytes = read([data]), read(bytewise(data))
    for found in (whole, by_bytes):
        assert isinstance(found, str)
        assert found.startswith(BAD[data][:50])
    if "does not speak" not in BAD[data]:  # that one shows the received bytes
        assert whole == by_bytes


def test_reader_skips_up_to_ten_interim_responses() -> None:
    found = read([head("102 X") * 10 + HEAD_101])
    assert isinstance(found, tuple)
    assert found[0] == 101


LIMITS = Limits(max_header_line=40, max_headers=3, max_head=120)
LINE = "X: " + "a" * 37
LIMIT_LINE = "a line in the head of the answer is over 40 bytes (Limits.max_header_line)"
LIMIT_COUNT = "the head of the answer has more than 3 header lines (Limits.max_headers)"
LIMIT_HEAD = "the head of the answer is over 120 bytes (Limits.max_head)"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (head("200 X", LINE), 200),
        (head("200 X", LINE + "a"), LIMIT_LINE),
        (head("200 " + "a" * 27), 200),
        (head("200 " + "a" * 28), LIMIT_LINE),
        (head("200 X", "A: 1", "B: 2", "C: 3"), 200),
        (head("200 X", "A: 1", "B: 2", "C: 3", "D: 4"), LIMIT_COUNT),
        (head("200 " + "a" * 12, LINE, LINE, "A: 12"), 200),
        (head("200 " + "a" * 12, LINE, LINE, "A: 123"), LIMIT_HEAD),
        (head("200 X", LINE + "a")[:-4], LIMIT_LINE),  # before the line ends
        (b"HTTP/1.1 200 X\r\nA: 1\r\nB: 2\r\nC: 3\r\nD", LIMIT_COUNT),
        (head("100 X", "A: 1", "B: 2", "C: 3") + head("200 X", "A: 1", "B: 2", "C: 3"), 200),  # each has its own limit
    ],
    ids=ascii,
)
def test_reader_applies_limits_to_the_byte_for_any_chunks(data: bytes, expected: int | str) -> None:
    found = read([data], LIMITS)
    assert (found[0] if isinstance(found, tuple) else found) == expected
    assert read(bytewise(data), LIMITS) == found


def test_reader_does_not_count_the_body_as_head() -> None:
    found = read([head("200 X", "Content-Length: 1000") + b"a" * 1000], LIMITS)
    assert isinstance(found, tuple)
    assert len(found[2]) == 1000


PARTS = [b"HTTP/1.1 ", b"HTTP/1.0 ", b"200 X", b"101 X", b"100 X", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"A: b"]
PARTS += [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"abc", b":", b"\x00"]
SOUP = st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join)
ANSWERS = st.one_of(SOUP, SOUP.map(lambda soup: b"HTTP/1.1 200 X\r\n" + soup), st.sampled_from([*BAD]))
ANSWERS = st.one_of(ANSWERS, st.sampled_from([data for data, _, _ in GOOD.values()]), st.binary(max_size=50))


@given(data=ANSWERS, cuts=st.lists(st.integers(0, 200), max_size=8), connect=st.booleans(), end=st.booleans())
def test_reader_returns_the_same_for_any_chunks(data: bytes, cuts: list[int], connect: bool, end: bool) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:stop] for start, stop in pairwise(places)]
    whole = read([data], LIMITS, end=end, connect=connect)
    cut = read(pieces, LIMITS, end=end, connect=connect)
    if isinstance(whole, str) and "does not speak HTTP" in whole:
        assert isinstance(cut, str)
    else:
        assert cut == whole


# Through a proxy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "authority"),
    [("ws://a", b"a:80"), ("wss://user:secret@a/b?c", b"a:443"), ("ws://[::1]:81", b"[::1]:81")],
)
def test_connect_request_always_names_the_port(url: str, authority: bytes) -> None:
    encoded = connect_request(parse_url(url), None, None)
    assert encoded == b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n"


def test_connect_request_has_the_credentials_of_the_proxy() -> None:
    encoded = connect_request(parse_url("ws://a"), ("Aladdin", "open sesame"), "thing/1.0")
    assert encoded == (
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        b"\r\nUser-Agent: thing/1.0\r\n\r\n"
    )


@pytest.mark.parametrize("fields", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]])
def test_reader_reads_no_body_after_the_response_to_connect(fields: list[str]) -> None:
    found = read([head("200 X", *fields) + b"hello"], connect=True)
    assert isinstance(found, tuple)
    assert (found[0], found[2:]) == (200, (b"", b"hello"))


def test_tunnel_opens_after_2xx_only() -> None:
    check_tunnel(Response.from_wire(200, Headers()), "http://p:1")
    check_tunnel(Response.from_wire(204, Headers()), "http://p:1")
    with pytest.raises(
        ProxyError, match=r"the proxy http://p:1 answered 407 Proxy Authentication Required: who\?"
    ) as e:
        check_tunnel(Response.from_wire(407, Headers(), b"who?"), "http://p:1")
    assert (e.value.status, e.value.body) == (407, b"who?")


def test_title_of_a_page_is_shown_as_text() -> None:
    body = b"<TITLE lang=en>&lt;b&gt; &amp; &#27;[2J&#x2028;x</TITLE>"
    assert str(refused(Response.from_wire(403, Headers(HTML), body))) == "403 Forbidden: <b> & [2J x"
