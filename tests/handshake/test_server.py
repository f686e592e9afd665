"""The server's side of the opening handshake: which requests it accepts and refuses, and its responses."""

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.requests import fields_of
from streamws.errors import HandshakeRefused
from streamws.handshake.agreement import Agreement
from streamws.handshake.head import Request
from streamws.handshake.headers import Headers
from streamws.handshake.request_reader import RequestReader
from streamws.handshake.server import (
    Policy,
    accept_key,
    accept_request,
    error_response,
    failure_response,
    full_response,
    timeout_response,
)
from streamws.options import Compression, Limits

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
GOOD = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"


def request(change: dict[str, str | None] | None = None, *more: tuple[str, str], method: str = "GET") -> Request:
    fields = {name: value for name, value in (GOOD | (change or {})).items() if value is not None}
    return Request(method, "/chat", Headers([*fields.items(), *more]))


def accepted(asked: Request, policy: Policy | None = None) -> Agreement:
    return accept_request(asked, fields_of(asked), policy or Policy())


def refusal(asked: Request, policy: Policy) -> HandshakeRefused | None:
    try:
        accept_request(asked, fields_of(asked), policy)
    except HandshakeRefused as error:
        return error
    return None


def refused(asked: Request, policy: Policy | None = None) -> HandshakeRefused:
    error = refusal(asked, policy or Policy())
    assert error is not None
    return error


def encoded_response(error: HandshakeRefused) -> bytes:
    return error_response(error).encode()


def encoded(status_line: str, fields: bytes, reason: str) -> bytes:
    close = b"" if b"Connection:" in fields else b"Connection: close\r\n"
    return (
        b"HTTP/1.1 " + status_line.encode() + b"\r\n" + fields + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\n" % (len(reason) + 1) + close + b"\r\n" + reason.encode() + b"\n"
    )


# --- accepted


def test_accept_value_matches_example_of_rfc() -> None:
    assert accept_key(KEY.encode()) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_server_accepts_minimal_request() -> None:
    verdict = accepted(request())
    assert verdict.encoded == ANSWER + b"\r\n"
    assert verdict.subprotocol is None
    assert verdict.response.status == 101
    assert verdict.response.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert verdict.response.encode() == verdict.encoded


def test_server_accepts_request_of_rfc() -> None:
    head = (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: server.example.com\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Origin: http://example.com\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"\r\n"
    )
    asked = RequestReader(Limits()).feed(head)
    assert asked is not None
    verdict = accepted(asked, Policy(origins=["http://example.com"], subprotocols=["chat"]))
    assert verdict.encoded == ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n"


def test_server_sends_fields_of_response_in_order() -> None:
    verdict = accepted(
        request({"Sec-WebSocket-Protocol": "a, b", "Sec-WebSocket-Extensions": "permessage-deflate"}),
        Policy(
            subprotocols=["b", "a"], server_header="streamws", compression=Compression(takeover=True, window_bits=15)
        ),
    )
    assert verdict.encoded == ANSWER + (
        b"Sec-WebSocket-Protocol: b\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
        b"Server: streamws\r\n"
        b"\r\n"
    )
    assert verdict.subprotocol == "b"
    assert verdict.response.headers["Server"] == "streamws"


def test_server_names_itself_in_response() -> None:
    policy = Policy(server_header="streamws")
    assert accepted(request(), policy).encoded == ANSWER + b"Server: streamws\r\n\r\n"


@pytest.mark.parametrize(
    "change",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade"},
        {"Connection": "a,\tUPGRADE\t,b"},
        {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"Sec-WebSocket-Key": "+/+/+/+/+/+/+/+/+/+/+w=="},
        {"Host": ""},
    ],
)
def test_server_accepts_every_spelling_of_fields(change: dict[str, str | None]) -> None:
    accepted(request(change))


def test_server_accepts_lists_in_several_fields() -> None:
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    assert accepted(request({"Upgrade": "h2c", "Connection": "keep-alive"}, *fields)).encoded == ANSWER + b"\r\n"


# --- refused, in the order of the checks


def test_server_checks_version_host_and_origin_before_handshake() -> None:
    policy = Policy(hosts=["example.com"])
    fields = {"Host": "a", "Origin": "http://b", "Upgrade": None}
    statuses = []
    for version, change in [
        ("1.0", fields),
        ("1.1", fields),
        ("1.1", fields | {"Host": "example.com"}),
        ("1.1", fields | {"Host": "example.com", "Origin": None}),
    ]:
        asked = request(change, method="POST")
        statuses.append(refused(Request("POST", "/", asked.headers, version), policy).status)
    assert statuses == [505, 400, 403, 405]


@pytest.mark.parametrize("change", [{}, {"Host": None}, {"Upgrade": None}])
def test_server_refuses_handshake_in_http_1_0(change: dict[str, str | None]) -> None:
    asked = request(change)
    reason = "HTTP/1.0 is not supported; use HTTP/1.1"
    verdict = refused(Request("GET", "/", asked.headers, "1.0"))
    assert encoded_response(verdict) == encoded("505 HTTP Version Not Supported", b"", reason)


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "CONNECT", "get", "BREW"])
def test_server_refuses_other_method_with_405(method: str) -> None:
    reason = f"method {method} is not allowed; a WebSocket handshake is a GET"
    verdict = refused(request({"Upgrade": None}, method=method))
    assert verdict.reason == reason
    assert encoded_response(verdict) == encoded("405 Method Not Allowed", b"Allow: GET\r\n", reason)


def test_refusal_shortens_long_method() -> None:
    assert refused(request(method="X" * 5000)).reason.startswith("method " + "X" * 20 + " is not")


NO_UPGRADE = "this is a WebSocket endpoint: the request lacks Upgrade: websocket"
NO_CONNECTION = "this is a WebSocket endpoint: the request lacks Connection: Upgrade"
BAD_VERSION = "Sec-WebSocket-Version must be 13"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Upgrade": None}, NO_UPGRADE),
        ({"Upgrade": ""}, NO_UPGRADE),
        ({"Upgrade": "h2c"}, NO_UPGRADE),
        ({"Upgrade": "websocket2"}, NO_UPGRADE),
        ({"Upgrade": "websocket/13"}, NO_UPGRADE),
        ({"Upgrade": None, "Connection": None, "Sec-WebSocket-Version": None}, NO_UPGRADE),
        ({"Connection": None}, NO_CONNECTION),
        ({"Connection": "keep-alive"}, NO_CONNECTION),
        ({"Connection": "not-Upgrade"}, NO_CONNECTION),
        ({"Sec-WebSocket-Version": None}, BAD_VERSION),
        ({"Sec-WebSocket-Version": ""}, BAD_VERSION),
        ({"Sec-WebSocket-Version": "8"}, BAD_VERSION),
        ({"Sec-WebSocket-Version": "013"}, BAD_VERSION),
        ({"Sec-WebSocket-Version": "13, 8"}, BAD_VERSION),
        ({"Sec-WebSocket-Version": "7", "Sec-WebSocket-Key": None}, BAD_VERSION),
    ],
)
def test_server_refuses_request_without_upgrade(change: dict[str, str | None], reason: str) -> None:
    verdict = refused(request(change))
    assert verdict.reason == reason
    assert encoded_response(verdict) == encoded("426 Upgrade Required", UPGRADE, reason)


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        base64.b64encode(bytes(15)).decode(),
        base64.b64encode(bytes(17)).decode(),
        base64.b64encode(bytes(18)).decode(),
        KEY[:-1],
        KEY[:-2],
        KEY + "=",
        "x" + KEY,
        KEY.replace("d", "-"),
        KEY.replace("d", " "),
        f"{KEY}, {KEY}",
    ],
)
def test_server_refuses_invalid_key(key: str | None) -> None:
    reason = "Sec-WebSocket-Key must be 16 bytes in base64"
    verdict = refused(request({"Sec-WebSocket-Key": key}))
    assert encoded_response(verdict) == encoded("400 Bad Request", b"", reason)


# --- origins


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.com", "http://example.com"),
        ("example.com", "https://example.com"),
        ("example.com:8765", "http://example.com:3000"),
        ("example.com:", "http://example.com"),
        ("EXAMPLE.com", "http://example.COM"),
        ("[::1]", "http://[::1]"),
        ("[::1]:80", "http://[0:0::1]:8080"),
        ("[2001:DB8::a]:80", "HTTP://[2001:db8::A]"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("a_b.example", "http://a_b.example"),
    ],
)
def test_server_accepts_origin_of_same_host(host: str, origin: str) -> None:
    asked = request({"Host": host, "Origin": origin})
    accepted(asked)
    accepted(asked, Policy(origins=["https://other.example"]))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.com", "http://evil.example"),
        ("example.com", "http://example.com.evil.example"),
        ("example.com", "http://sub.example.com"),
        ("example.com", "http://xample.com"),
        ("example.com", "null"),
        ("null", "null"),
        ("", "http://example.com"),
        (":80", "http://example.com"),
        ("[::1]", "http://[::2]"),
        ("[::1]", "http://localhost"),
        ("[:::]", "http://example.com"),
        # only http and https are the schemes of pages that a server has sent
        ("localhost", "chrome-extension://localhost"),
        ("localhost", "moz-extension://localhost"),
        ("localhost", "tauri://localhost"),
        ("localhost", "capacitor://localhost"),
        ("localhost", "file://localhost"),
        ("localhost", "ws://localhost"),
        ("", "file://"),
        ("file", "file://"),
    ],
)
@pytest.mark.parametrize("policy", [Policy(), Policy(origins=[]), Policy(origins=["https://other.example"])])
def test_server_refuses_origin_of_other_host(host: str, origin: str, policy: Policy) -> None:
    verdict = refused(request({"Host": host, "Origin": origin}), policy)
    reason = f"Origin '{origin}' is not allowed: it is neither this host nor in the origins= of the server"
    assert verdict.reason == reason
    assert encoded_response(verdict) == encoded("403 Forbidden", b"", reason)


def test_server_compares_origin_with_host_of_absolute_target() -> None:
    headers = Headers(GOOD | {"Host": "evil.example", "Origin": "http://evil.example"})
    assert refused(Request("GET", "http://example.com/chat", headers)).status == 403
    headers = Headers(GOOD | {"Host": "evil.example", "Origin": "http://example.com"})
    accepted(Request("GET", "http://example.com:80/chat", headers))


MALFORMED = [
    *(
        "",
        "example.com",
        "//example.com",
        "http://",
        "http:///",
        "http://example.com/",
        "http://example.com:x",
    ),
    *(
        "http://example.com:65536",
        "http://example.com:123456",
        "http://u@example.com",
        "http://[::1",
        "http://::1",
    ),
    *(
        "http://[:::]",
        "http://[1.2.3.4]",
        "http://example.com http://example.com",
        "http://example.com, null",
    ),
    *("NULL", "nul", "1http://example.com", "http://exämple.com", "http://exa mple.com", "*"),
    *("http://:80", "https://:443", "file://:80", "file:///", "file:", "://", "ws://"),
]


@pytest.mark.parametrize("origin", MALFORMED)
@pytest.mark.parametrize("policy", [Policy(), Policy(origins=["null", "http://example.com", "file://"])])
@pytest.mark.parametrize("host", ["example.com", ":80", ""])
def test_server_refuses_malformed_origin(origin: str, policy: Policy, host: str) -> None:
    verdict = refused(request({"Host": host, "Origin": origin}), policy)
    assert verdict.status == 403
    assert verdict.reason.startswith("malformed Origin '")


def test_server_refuses_two_origins() -> None:
    asked = request({"Origin": "http://example.com"}, ("Origin", "http://example.com"))
    assert refused(asked).reason == "malformed Origin 'http://example.com,http://example.com'"


def test_refusal_shortens_long_origin() -> None:
    reason = refused(request({"Origin": "http://" + "x" * 5000})).reason
    assert reason.startswith("Origin 'http://" + "x" * 73 + "'... is not allowed")


@pytest.mark.parametrize(
    ("listed", "origin", "allowed"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://A.example:443", True),
        ("https://a.example:443", "https://a.example", True),
        ("HTTPS://A.EXAMPLE", "https://a.example", True),
        ("http://a.example:80", "http://a.example", True),
        ("http://a.example:8080", "http://a.example:8080", True),
        ("http://[0::1]:3000", "http://[::1]:3000", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("null", "null", True),
        ("file://", "file://", True),  # a WebView on Android
        ("content://", "content://", True),
        ("app://-", "app://-", True),
        ("tauri://localhost", "tauri://localhost", True),
        ("file://", "null", False),
        ("null", "file://", False),
        ("file://", "http://file", False),
        ("file://", "content://", False),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("http://a.example:443", "http://a.example", False),
        ("http://a.example:8080", "http://a.example", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "null", False),
        ("null", "https://a.example", False),
    ],
)
def test_server_accepts_only_listed_origins(listed: str, origin: str, allowed: bool) -> None:
    (accepted if allowed else refused)(request({"Origin": origin}), Policy(origins=["https://other.example", listed]))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", *MALFORMED])
def test_server_accepts_any_origin_for_star(origin: str) -> None:
    accepted(request({"Origin": origin}), Policy(origins="*"))


def test_server_accepts_request_without_origin() -> None:
    accepted(request(), Policy(origins=["https://a.example"]))


# --- hosts


@pytest.mark.parametrize(
    ("listed", "host", "allowed"),
    [
        ("example.com", "example.com", True),
        ("example.com", "example.com:8765", True),
        ("example.com", "Example.COM:", True),
        ("example.com", "example.com.:80", True),  # the same name in its absolute form
        ("Example.com.", "example.com", True),
        ("exämple.com", "xn--exmple-cua.com", True),
        ("127.0.0.1", "127.0.0.1:80", True),
        ("::1", "[0:0::1]:80", True),
        ("[::1]", "[::1]", True),
        ("2001:DB8::A", "[2001:db8::a]", True),
        ("example.com", "evil.example", False),
        ("example.com", "sub.example.com", False),
        ("example.com", "example.com.evil.example", False),
        ("example.com", "xample.com", False),
        ("example.com", "example.com..", False),
        ("example.com", "", False),
        ("example.com", ":80", False),
        ("localhost", "127.0.0.1", False),
        ("::1", "[::2]", False),
        ("::1", "[:::]", False),
    ],
)
@pytest.mark.parametrize("origin", [None, "same"])
def test_server_accepts_only_listed_hosts(listed: str, host: str, allowed: bool, origin: str | None) -> None:
    asked = request({"Host": host, "Origin": None if origin is None else f"http://{host}"})
    policy = Policy(hosts=["other.example", listed])
    if allowed:
        accepted(asked, policy)
        return
    verdict = refused(asked, policy)
    reason = f"Host '{host}' is not allowed: it is not in the hosts= of the server"
    assert encoded_response(verdict) == encoded("400 Bad Request", b"", reason)


def test_server_checks_host_of_absolute_target() -> None:
    headers = Headers(GOOD)
    policy = Policy(hosts=["example.com"])
    accepted(Request("GET", "http://example.com:80/chat", headers), policy)
    assert refused(Request("GET", "http://evil.example/chat", headers), policy).status == 400


def test_refusal_shortens_long_host() -> None:
    reason = refused(request({"Host": "x" * 5000}), Policy(hosts=["a"])).reason
    assert reason.startswith("Host '" + "x" * 80 + "'... is not allowed")


# --- subprotocols


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        ([], ["a"], None),
        (["a"], [], None),
        (["a"], ["b, c"], None),
        (["a"], ["A"], None),
        (["a", "b"], ["b, a"], "a"),
        (["a", "b"], ["c, b"], "b"),
        (["c"], ["a,b", "c"], "c"),
        (["b"], ["a", "b"], "b"),
        (["b"], [" ,a,, \tb ,"], "b"),
        (["v1.chat+json"], ["v1.chat+json"], "v1.chat+json"),
    ],
)
def test_server_selects_subprotocol(spoken: list[str], offered: list[str], chosen: str | None) -> None:
    more = [("Sec-WebSocket-Protocol", value) for value in offered]
    verdict = accepted(request(None, *more), Policy(subprotocols=spoken))
    assert verdict.subprotocol == chosen
    line = b"" if chosen is None else b"Sec-WebSocket-Protocol: " + chosen.encode() + b"\r\n"
    assert verdict.encoded == ANSWER + line + b"\r\n"


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ([""], "Sec-WebSocket-Protocol must be a list of tokens"),
        ([",, ,"], "Sec-WebSocket-Protocol must be a list of tokens"),
        (["a b"], "Sec-WebSocket-Protocol must be a list of tokens"),
        (["a, b;c"], "Sec-WebSocket-Protocol must be a list of tokens"),
        (["é"], "Sec-WebSocket-Protocol must be a list of tokens"),
        (["a, a"], "Sec-WebSocket-Protocol has a name twice"),
        (["a", "b,a"], "Sec-WebSocket-Protocol has a name twice"),
    ],
)
def test_server_refuses_malformed_list_of_subprotocols(offered: list[str], reason: str) -> None:
    asked = request(None, *[("Sec-WebSocket-Protocol", value) for value in offered])
    for policy in (Policy(), Policy(subprotocols=["a"])):
        assert encoded_response(refused(asked, policy)) == encoded("400 Bad Request", b"", reason)


# --- the policy's arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"origins": "https://a.example"}, 'origins must be "*" or a list such as ["https://example.org"]'),
        ({"origins": ["*"]}, 'write origins="*"'),
        ({"origins": [None, "https://a.example"]}, "leave None out of origins: a request without Origin is always"),
        ({"origins": ["a.example"]}, "'a.example' in origins must be like"),
        ({"origins": ["https://a.example/"]}, "'https://a.example/' in origins must be like"),
        ({"origins": ["https://a.example:65536"]}, "in origins must be like"),
        ({"origins": ["https://[1]"]}, "in origins must be like"),
        ({"origins": ["https://"]}, "'https://' in origins must be like"),
        ({"origins": ["file:///"]}, "'file:///' in origins must be like"),
        ({"hosts": "a.example"}, "hosts must be a list such as [\"example.org\"], not 'a.example'"),
        ({"hosts": []}, 'hosts must be a list such as ["example.org"], not []'),
        ({"hosts": ["a.example:80"]}, "'a.example:80' in hosts must be a host name or an IP address without a port"),
        ({"hosts": ["[::1]:80"]}, "'[::1]:80' in hosts must be"),
        ({"hosts": ["http://a.example"]}, "'http://a.example' in hosts must be"),
        ({"hosts": ["*.example"]}, "'*.example' in hosts must be"),
        ({"hosts": ["*"]}, "'*' in hosts must be"),
        ({"hosts": [""]}, "'' in hosts must be"),
        ({"subprotocols": "chat"}, "subprotocols must be a list of names, not 'chat'"),
        ({"subprotocols": ["a b"]}, "'a b' in subprotocols is not a token"),
        ({"subprotocols": [""]}, "'' in subprotocols is not a token"),
        ({"subprotocols": ["a", "b", "a"]}, "subprotocols has a name twice: ['a', 'b', 'a']"),
        ({"server_header": "a\r\nb: c"}, "header Server contains a control character"),
    ],
)
def test_policy_refuses_invalid_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Policy(**arguments)


def test_policy_compares_hashes_and_shows_its_values() -> None:
    policy = Policy(origins=["https://a.example"], subprotocols=["a"])
    assert policy == Policy(origins=("https://a.example",), subprotocols=("a",))
    assert hash(policy) == hash(Policy(origins=("https://a.example",), subprotocols=("a",)))
    assert (
        repr(policy) == "Policy(origins=('https://a.example',), subprotocols=('a',), server_header=None, "
        "compression=None, hosts=None)"
    )


# --- the other refusals


def test_full_server_refuses_with_503() -> None:
    assert full_response(7).encode() == encoded(
        "503 Service Unavailable", b"Retry-After: 7\r\n", "the server is full; try again later"
    )
    assert full_response().headers["Retry-After"] == "5"


def test_server_refuses_slow_request_with_408() -> None:
    assert timeout_response().encode() == encoded("408 Request Timeout", b"", "the request took too long")


def test_server_refuses_with_500_after_failure() -> None:
    assert failure_response().encode() == encoded(
        "500 Internal Server Error", b"", "the server failed to handle the request"
    )


def test_server_encodes_refusal_of_reader() -> None:
    with pytest.raises(HandshakeRefused) as caught:
        RequestReader(Limits()).feed(b"GET / HTTP/2.0\r\n\r\n")
    assert error_response(caught.value).encode() == encoded(
        "505 HTTP Version Not Supported", b"", "HTTP/2.0 is not supported; use HTTP/1.1"
    )


@pytest.mark.parametrize("status", [400, 414, 431, 505])
def test_refusal_includes_fields_of_error(status: int) -> None:
    response = error_response(HandshakeRefused(status, "why", (("X", "y"),)))
    assert (response.status, response.body, response.headers["X"]) == (status, b"why\n", "y")


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "Origin", "Sec-WebSocket-Protocol"]),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30),
    )
)
def test_server_accepts_or_refuses_any_request(change: dict[str, str]) -> None:
    error = refusal(request({**change}), Policy(origins=["null"], subprotocols=["a"]))
    if error is not None:
        assert error.status in (400, 403, 426)
        assert error_response(error).body == error.reason.encode() + b"\n"
