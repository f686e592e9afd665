"""curl: plain HTTP requests to a WebSocket server."""

import re

import pytest

from helpers.processes import run
from interop.serving import Served, serving
from streamws import Client, Request, Response, Timeouts, WebSocketServer

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def fields(headers: dict[str, str]) -> list[str]:
    return [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]


async def curl(served: Served, path: str, *options: str) -> tuple[str, bytes]:
    """Return the head of the response and the bytes after it."""
    url = f"http://127.0.0.1:{served.port}{path}"
    ended = await run("curl", "--silent", "--show-error", "--include", "--no-buffer", "--noproxy", "*", *options, url)
    assert (ended.status, ended.errors) == (0, "")
    head, _, body = ended.output.partition(b"\r\n\r\n")
    return head.decode(), body


async def test_request_is_upgraded() -> None:
    async def greet(client: Client) -> None:
        await client.send("hello")

    # curl does not answer the Close frame, so the server drops the connection.
    async with serving(greet, timeouts=Timeouts(close=0.2)) as served:
        head, frames = await curl(served, "/", *fields(UPGRADE))

    assert head.split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Server: streamws",
    ]
    assert frames == b"\x81\x05hello\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("status", "options", "field"),
    [
        (426, [], "Sec-WebSocket-Version: 13"),
        (426, fields(UPGRADE | {"Sec-WebSocket-Version": "8"}), "Sec-WebSocket-Version: 13"),
        (426, fields(UPGRADE | {"Connection": "close"}), "Upgrade: websocket"),
        (400, fields(UPGRADE | {"Sec-WebSocket-Key": "short"}), ""),
        (400, [*fields(UPGRADE), "--request", "GET", "--data", "body"], ""),
        (403, fields(UPGRADE | {"Origin": "https://elsewhere.example"}), ""),
        (405, ["--request", "DELETE"], "Allow: GET"),
        (405, ["--head"], "Allow: GET"),
        (431, fields(UPGRADE | {"Cookie": "x" * 9000}), ""),
        (505, ["--http1.0", *fields(UPGRADE)], ""),
    ],
    ids=[
        "plain GET",
        "old version",
        "no Connection: Upgrade",
        "bad key",
        "body",
        "foreign origin",
        "DELETE",
        "HEAD",
        "long header",
        "HTTP/1.0",
    ],
)
async def test_request_is_refused(status: int, options: list[str], field: str) -> None:
    async with serving() as served:
        head, body = await curl(served, "/", *options)

    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "\r\nConnection: " in head
    assert field in head
    length = re.search(r"\r\nContent-Length: (\d+)", head)
    assert length is not None
    assert len(body) == (0 if "--head" in options else int(length[1]))
    assert int(length[1]) > 0


async def test_long_target_is_refused() -> None:
    async with serving() as served:
        head, _ = await curl(served, "/" + "x" * 9000, *fields(UPGRADE))

    assert head.startswith("HTTP/1.1 414 ")


async def test_health_check_is_answered() -> None:
    async def never(client: Client) -> None:
        raise AssertionError

    socket = WebSocketServer("127.0.0.1", 0, handler=never)

    @socket.request
    def health(request: Request) -> Response | None:
        return Response(200, "fine\n") if request.path == "/health" else None

    async with socket:
        served = Served(socket.sockets[0].getsockname()[1])
        head, body = await curl(served, "/health?verbose")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert body == b"fine\n"
        head, _ = await curl(served, "/elsewhere")
        assert head.startswith("HTTP/1.1 426 ")
