"""The client's side of the opening handshake: the bytes of the request, and the checks of the response."""

import re
from base64 import b64decode
from typing import Any

import pytest

from streamws.errors import HandshakeRefused, InvalidHandshake, InvalidHeader
from streamws.handshake.client import (
    Handshake,
    begin_handshake,
    check_response,
    refused_error,
    request_options,
)
from streamws.handshake.head import Request, Response
from streamws.handshake.headers import HeaderFields, Headers
from streamws.handshake.url import parse_url
from streamws.options import Compression

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, with the accept value for it
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# The request ----------------------------------------------------------------------------------------------------


def encode(url: str, headers: HeaderFields = (), **options: Any) -> bytes:
    """Return the request for a URL, with the key blanked out."""
    options = {"origin": None, "user_agent": None, "subprotocols": ()} | options
    encoded = begin_handshake(parse_url(url), request_options(headers, **options)).encoded
    found = re.search(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)\r\n", encoded)
    assert found is not None
    assert len(b64decode(found[1])) == 16
    return encoded.replace(found[1], b"KEY")


START = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13"


def test_client_sends_minimal_request() -> None:
    assert encode("ws://example.org") == b"GET / HTTP/1.1\r\nHost: example.org" + START + b"\r\n\r\n"


def test_client_sends_all_options() -> None:
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
def test_client_sends_field_of_application_instead_of_its_own(name: str) -> None:
    encoded = encode("ws://user:secret@example.org", {name: "mine"}, user_agent="streamws")
    lines = [line for line in encoded.split(b"\r\n") if line.lower().startswith(name.lower().encode() + b":")]
    assert lines == [f"{name}: mine".encode()]


def test_client_sends_new_key_each_time() -> None:
    offer = request_options((), None, None, ())
    assert len({begin_handshake(parse_url("ws://a"), offer).key for _ in range(100)}) == 100


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
def test_client_refuses_field_reserved_for_handshake(name: str) -> None:
    with pytest.raises(InvalidHeader, match=f"{name} must not be in headers=, streamws sets it"):
        encode("ws://a", {"X": "y", name: "1"})


def test_client_names_argument_when_it_refuses_field_for_subprotocols() -> None:
    with pytest.raises(InvalidHeader, match="streamws sets it; use subprotocols="):
        encode("ws://a", {"sec-websocket-protocol": "chat"})


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\rb", "a\nb", "a\x00", "\x7f", "\ud800"])
@pytest.mark.parametrize("place", ["headers", "origin", "user_agent"])
def test_client_refuses_value_that_would_break_request(place: str, value: str) -> None:
    fields = {"X": value} if place == "headers" else {}
    options = {} if place == "headers" else {place: value}
    with pytest.raises(InvalidHeader, match="the value of header"):
        encode("ws://a", fields, **options)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ü"])
def test_client_refuses_name_that_would_break_request(name: str) -> None:
    with pytest.raises(InvalidHeader, match="is not a token"):
        encode("ws://a", {name: "1"})


def test_client_refuses_origin_given_twice() -> None:
    with pytest.raises(InvalidHeader, match="Origin is given twice"):
        encode("ws://a", {"origin": "http://a"}, origin="http://b")


def test_client_sends_origin_given_in_headers() -> None:
    assert b"\r\nOrigin: http://a\r\n" in encode("ws://a", {"Origin": "http://a"})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("chat", "must be a list of names, not 'chat'"),
        (["a b"], "'a b' in subprotocols is not a token"),
        (["a,b"], "'a,b' in subprotocols is not a token"),
        ([""], "'' in subprotocols is not a token"),
        (["a\r\nX: y"], "is not a token"),
        (["a", "b", "a"], r"has a name twice: \['a', 'b', 'a'\]"),
    ],
)
def test_client_refuses_subprotocols_that_are_not_distinct_tokens(names: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode("ws://a", subprotocols=names)


# The response --------------------------------------------------------------------------------------------------

FIELDS = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def handshake(*subprotocols: str, compression: Compression | None = None) -> Handshake:
    return Handshake(Request("GET", "/", Headers({"Host": "a"})), KEY, subprotocols, compression)


def answer(*more: tuple[str, str], **change: str | None) -> Response:
    """Return a valid response, except for the given fields."""
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
def test_client_accepts_valid_response(response: Response) -> None:
    agreement = check_response(handshake(), response)
    assert agreement.response == response
    assert agreement.subprotocol is None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(Upgrade=None), "its Upgrade field is not websocket"),
        (answer(Upgrade="h2c"), "its Upgrade field is not websocket"),
        (answer(Upgrade="websocket/13"), "its Upgrade field is not websocket"),
        (
            answer(Upgrade="websoc\u212aet"),
            "its Upgrade field is not websocket",
        ),  # U+212A, the kelvin sign, is not the letter k
        (answer(("Upgrade", "h2c")), "its Upgrade field is not websocket"),
        (answer(Connection=None), "its Connection field lacks Upgrade"),
        (answer(Connection="keep-alive"), "its Connection field lacks Upgrade"),
        (answer(Connection="Upgraded"), "its Connection field lacks Upgrade"),
        (answer(Sec_WebSocket_Accept=None), "its Sec-WebSocket-Accept does not match the key that was sent"),
        (answer(Sec_WebSocket_Accept=""), "its Sec-WebSocket-Accept does not match"),
        (answer(Sec_WebSocket_Accept=ACCEPT.lower()), "its Sec-WebSocket-Accept does not match"),
        (answer(Sec_WebSocket_Accept=ACCEPT[:-1]), "its Sec-WebSocket-Accept does not match"),
        (answer(Sec_WebSocket_Accept=KEY.decode()), "its Sec-WebSocket-Accept does not match"),
        (answer(("sec-websocket-accept", ACCEPT)), "its Sec-WebSocket-Accept does not match"),
        (
            answer(("Sec-WebSocket-Extensions", "permessage-deflate")),
            "the server chose an extension that was not offered: 'permessage-deflate'",
        ),
        (answer(("Sec-WebSocket-Protocol", "chat")), "the server chose a subprotocol that was not offered: 'chat'"),
        (answer(("Sec-WebSocket-Protocol", "")), "the server chose a subprotocol that was not offered: ''"),
    ],
)
def test_client_refuses_response_that_is_not_from_websocket_server(response: Response, reason: str) -> None:
    with pytest.raises(InvalidHandshake) as caught:
        check_response(handshake(), response)
    assert str(caught.value).startswith(f"invalid handshake response: {reason}")
    assert caught.value.status == 101
    assert caught.value.headers == response.headers


def test_client_accepts_offered_subprotocol_or_no_subprotocol() -> None:
    assert check_response(handshake("a", "b"), answer(("Sec-WebSocket-Protocol", "b"))).subprotocol == "b"
    assert check_response(handshake("a", "b"), answer()).subprotocol is None


@pytest.mark.parametrize("chosen", [["c"], ["A"], ["a, b"], ["a", "b"], ["a", "a"]])
def test_client_refuses_other_subprotocol_or_several(chosen: list[str]) -> None:
    with pytest.raises(InvalidHandshake, match="a subprotocol that was not offered"):
        check_response(handshake("a", "b"), answer(*[("Sec-WebSocket-Protocol", name) for name in chosen]))


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 426, 500, 503, 599])
def test_client_treats_other_status_as_refusal(status: int) -> None:
    response = Response.from_wire(status, Headers({"retry-after": "5", **FIELDS}), b"said")
    with pytest.raises(HandshakeRefused) as caught:
        check_response(handshake(), response)
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
        (404, {}, b"", "404 Not Found: the response has no body"),
        (404, {}, b" \n", "404 Not Found: the response has no body"),
        (404, HTML, b"", "404 Not Found: the response has no body"),
        (200, HTML, b"<!doctype html><title>\n Sign in &amp; up </title>", "200 OK: Sign in & up"),
        (502, HTML, b"<p>none", "502 Bad Gateway: the response body is text/html"),
        (503, {"Content-Type": "image/png"}, b"\x89PNG", "503 Service Unavailable: the response body is image/png"),
        (404, {"Content-Encoding": "identity"}, b"no", "404 Not Found: no"),
        (
            404,
            PLAIN | {"Content-Encoding": "GZip"},
            GZIP,
            "404 Not Found: the response body is text/plain, encoded as gzip",
        ),
        (404, HTML | {"Content-Encoding": "br"}, GZIP, "404 Not Found: the response body is text/html, encoded as br"),
        (500, {"Content-Type": "a\u2028\u202eb"}, b"x", "500 Internal Server Error: the response body is a b"),
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
            PLAIN,
            b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
            f"400 Bad Request: Bad Request This combination of host and port requires TLS.{USE_WSS}",
        ),
        (
            400,
            HTML,
            b"<title>400 Bad Request</title>\nReason: You're speaking plain HTTP to an SSL-enabled server port.",
            f"400 Bad Request: 400 Bad Request{USE_WSS}",
        ),
    ],
)
def test_refusal_includes_reason_of_server(status: int, fields: dict[str, str], body: bytes, message: str) -> None:
    assert str(refused_error(Response.from_wire(status, Headers(fields), body))) == message


def test_refusal_shows_title_of_html_page_as_text() -> None:
    body = b"<TITLE lang=en>&lt;b&gt; &amp; &#27;[2J&#x2028;x</TITLE>"
    assert str(refused_error(Response.from_wire(403, Headers(HTML), body))) == "403 Forbidden: <b> & [2J x"
