"""nginx as a reverse proxy with TLS between `connect()` and a streamws server."""

import asyncio
import hashlib
import random
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from helpers.fixtures import echo
from helpers.processes import free_port
from interop.conversations import (
    BEAT,
    REASON,
    RETRY_AFTER,
    SUBPROTOCOL,
    TEXT,
    UNAUTHORIZED,
    GivenFragments,
    Refusals,
    ServerPeer,
)
from interop.peers.nginx import nginx
from interop.serving import serving
from streamws import Client, Close, HandshakeRefused, Opcode, Request, Response, WebSocketServer, connect
from streamws.streams.writer import Writer

SIZE = 20 << 20
SERVER = """
ssl_certificate {certificate};
ssl_certificate_key {key};
location / {{
    proxy_pass http://127.0.0.1:{behind};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
}}
"""


def in_front(behind: int, certificate: tuple[Path, Path], folder: Path) -> AbstractAsyncContextManager[int]:
    """Run nginx in front of the server on the port `behind`. Yields the port of nginx."""
    server = SERVER.format(behind=behind, certificate=certificate[0], key=certificate[1])
    return nginx(server, folder, main="master_process off;", parameters=" ssl")


async def converse(client: Client) -> None:
    match client.request.path.split("/")[1:]:
        case ["subprotocol"]:
            await client.send(client.subprotocol or "")
        case ["fragments"]:
            async with client.writer.fragment() as message:
                for part in TEXT:
                    await message.send(part)
                    if part is TEXT[0]:
                        await client.writer.ping(BEAT)
        case ["ping"]:
            await client.writer.ping(BEAT)
            await client.send("pong")
        case ["leave", code]:
            await client.close(int(code), REASON)
        case ["down"]:
            await send(client.writer)
        case ["up"]:
            await client.send(await digest(client))
    await echo(client)


def answer(request: Request) -> Response | None:
    match request.path:
        case "/unauthorized":
            return Response(401, UNAUTHORIZED)
        case "/busy":
            return Response(503, b"", {"Retry-After": RETRY_AFTER})
    return None


def data() -> Iterator[bytes]:
    source = random.Random(6455)
    for _ in range(0, SIZE, 1 << 18):
        yield source.randbytes(1 << 18)


async def send(writer: Writer) -> None:
    """Send the data in one frame."""
    async with writer.data_frame(SIZE, Opcode.BINARY) as frame:
        for part in data():
            await frame.write(part)


async def digest(client: Client) -> str:
    """Return the digest of the next message, and its size."""
    reader = await anext(aiter(client.messages()))
    buffer = bytearray(1 << 16)
    summed = hashlib.sha256()
    size = 0
    while count := await reader.readinto(buffer):
        summed.update(memoryview(buffer)[:count])
        size += count
    return f"{summed.hexdigest()} {size}"


def expected() -> str:
    return f"{hashlib.sha256(b''.join(data())).hexdigest()} {SIZE}"


@pytest.fixture
async def peer(
    certificate: tuple[Path, Path], client_context: ssl.SSLContext, tmp_path: Path
) -> AsyncIterator[ServerPeer]:
    closes: asyncio.Queue[Close] = asyncio.Queue()

    async def handle(client: Client) -> None:
        try:
            await converse(client)
        finally:
            await client.wait_closed()
            assert client.outcome is not None
            assert client.outcome.received is not None
            closes.put_nowait(client.outcome.received)

    socket = WebSocketServer("127.0.0.1", 0, handler=handle, subprotocols=[SUBPROTOCOL])
    socket.request(answer)
    async with socket, in_front(socket.sockets[0].getsockname()[1], certificate, tmp_path) as port:
        yield ServerPeer(f"wss://127.0.0.1:{port}", closes.get, ssl=client_context)


class TestConnect(GivenFragments, Refusals):
    """`connect()` through nginx."""

    async def test_client_streams_large_frame_from_server(self, peer: ServerPeer) -> None:
        async with peer.connect("/down") as client:
            assert await digest(client) == expected()

    async def test_client_streams_large_frame_to_server(self, peer: ServerPeer) -> None:
        async with peer.connect("/up") as client:
            await send(client.writer)
            assert await client.read_message() == expected()


async def test_client_raises_502_of_nginx_when_server_is_down(
    certificate: tuple[Path, Path], client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    async with asyncio.timeout(20), in_front(free_port(), certificate, tmp_path) as port:
        with pytest.raises(HandshakeRefused, match=r"^502 Bad Gateway: ") as raised:
            await connect(f"wss://127.0.0.1:{port}", ssl=client_context)

    assert raised.value.headers["server"].startswith("nginx")
    assert re.search(rb"<title>502 Bad Gateway</title>.*</html>\s*$", raised.value.body, re.DOTALL)


async def test_client_raises_refusal_of_plain_connection(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    async with serving() as served, in_front(served.port, certificate, tmp_path) as port:
        with pytest.raises(HandshakeRefused, match=r"^400 .*this port speaks TLS: use wss://"):
            await connect(f"ws://127.0.0.1:{port}")
