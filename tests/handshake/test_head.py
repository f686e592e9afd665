"""`Request` and `Response` objects."""

import pytest

from streamws.errors import InvalidHeader
from streamws.handshake.head import Request, Response
from streamws.handshake.headers import HeaderFields, Headers

# --- Request


def test_request_without_host_has_empty_host() -> None:
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
