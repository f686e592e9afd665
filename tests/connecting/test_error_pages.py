"""If a response refuses the handshake, `connect()` raises the refusal at once, whatever the response contains."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.attempts import failing
from helpers.frames import answer
from helpers.peers import answering, scripted
from helpers.waiting import within
from streamws import HandshakeRefused, InvalidHandshake, ProxyError, Timeouts, connect, is_transient
from streamws.handshake.client import refused_error
from streamws.handshake.head import Response
from streamws.handshake.headers import Headers

NEVER = Timeouts(open=None)

HTML = "Content-Type: text/html"
DIGITS = b"9" * 5000
BIG = bytes(range(256)) * 1024

REFUSALS = {
    "digits": (answer("503 X", HTML, body=b"<title>&#" + DIGITS), 503, "503 Service Unavailable: \ufffd"),
    "hexadecimal digits": (
        answer("503 X", HTML, body=b"<title>&#x" + DIGITS + b";</title>"),
        503,
        "503 Service Unavailable: \ufffd",
    ),
    "invalid characters": (
        answer("503 X", HTML, body=b"<title>&#xd800;&#1114112;&#0;&nosuch;\xff</title>"),
        503,
        "503 Service Unavailable: \ufffd\ufffd\ufffd&nosuch;\ufffd",
    ),
    "open titles": (
        answer("502 X", HTML, body=b"<title" * 12_000),
        502,
        "502 Bad Gateway: the response body is text/html",
    ),
    "titles": (answer("502 X", HTML, body=b"<title>" * 10_000), 502, "502 Bad Gateway: the response has no body"),
    "unknown charset": (
        answer("500 X", "Content-Type: text/plain; charset=no-such-charset", body=b"\xe4 down"),
        500,
        "500 Internal Server Error: \ufffd down",
    ),
    "utf-16": (
        answer("500 X", "Content-Type: text/html; charset=utf-16", body="<title>a".encode("utf-16")),
        500,
        "500 Internal Server Error: the response body is text/html",
    ),
    "false encoding": (
        answer("500 X", "Content-Encoding: gzip", body=b"\x1f\x8bno"),
        500,
        "500 Internal Server Error: the response body is text/plain, encoded as gzip",
    ),
    "strange type": (answer("500 X", "Content-Type: ;;\xff=", body=b"x"), 500, "500 Internal Server Error: "),
    "no HTTP status": (answer("000 X", body=b"x"), 0, "000: x"),
    "small status": (answer("099 X", body=b"x"), 99, "099: x"),
    "large status": (answer("999 X", body=b"x"), 999, "999: x"),
    "huge length": (answer("503 X", "Content-Length: 1" + "0" * 17, body=BIG, length=False), 503, "503 Service Unava"),
    "endless": (answer("503 X", body=BIG, length=False), 503, "503 Service Unavailable: "),
    "endless chunk": (
        answer("503 X", "Transfer-Encoding: chunked", body=b"ffffffffffff\r\n" + BIG, length=False),
        503,
        "503 Service Unavailable: ",
    ),
    "tiny chunks": (
        answer("503 X", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n", length=False),
        503,
        "503 Service Unavailable: xxx",
    ),
    "false chunk": (
        answer("503 X", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n-1\r\n", length=False),
        503,
        "503 Service Unavailable: x",
    ),
    "chunk of too many digits": (
        answer("503 X", "Transfer-Encoding: chunked", body=b"f" * 5000, length=False),
        503,
        "503 Service Unavailable: the response has no body",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_connect_raises_refusal_at_once(name: str) -> None:
    data, status, message = REFUSALS[name]
    async with scripted(answering(data)) as server:  # the server leaves the connection open
        error = await failing(server.url, HandshakeRefused, timeouts=NEVER)
    assert error.status == status
    assert str(error).startswith(message)
    assert len(str(error)) < 300
    assert len(error.body) <= 65536


@pytest.mark.parametrize("name", REFUSALS)
async def test_connect_raises_refusal_of_proxy_at_once(name: str) -> None:
    data, status, message = REFUSALS[name]
    async with scripted(answering(data)) as proxy:
        proxy_url = f"http://127.0.0.1:{proxy.port}"
        error = await failing("ws://a.example", ProxyError, proxy=proxy_url, timeouts=NEVER)
    assert error.status == status
    assert str(error).startswith(f"the proxy {proxy_url} refused to connect: {message}")
    assert is_transient(error) is (status in (500, 502, 503))


@given(
    st.integers(0, 999),
    st.sampled_from(["text/html", "text/plain", "application/json", "a/b"]),
    st.lists(
        st.one_of(
            st.binary(max_size=9),
            st.sampled_from(
                [b"<title", b">", b"<", b"&", b"&#", b"&#x", b"&am", DIGITS, b";", b" ", b"\0", b"</title>"]
            ),
        )
    ).map(b"".join),
)
@example(503, "text/html", b"<title>&#" + DIGITS)
def test_every_body_becomes_one_line(status: int, kind: str, body: bytes) -> None:
    error = refused_error(Response.from_wire(status, Headers({"Content-Type": kind}), body))
    assert (error.status, error.body) == (status, body)
    assert error.reason.isprintable()


async def test_connect_raises_unexpected_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handshake: object, response: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("streamws.connecting.attempt.check_response", fail)
    async with scripted(answering(answer("503 X"))) as server:
        with pytest.raises(LookupError, match="a bug"):
            await within(connect(server.url, timeouts=NEVER))


async def test_connect_refuses_length_that_is_no_number_of_bytes_at_once() -> None:
    data = answer("503 X", "Content-Length: 1" + "0" * 5000, length=False)
    async with scripted(answering(data)) as server:
        error = await failing(server.url, InvalidHandshake, timeouts=NEVER)
        proxied = await failing("ws://a.example", ProxyError, proxy=f"127.0.0.1:{server.port}", timeouts=NEVER)
    assert str(error).startswith("malformed response head: ")
    assert "malformed response head: " in str(proxied)
