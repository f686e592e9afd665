"""Peers that send and never read, in front of a handler that waits in `send` (ARCHITECTURE.md, Promises, 6)."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import address_of, echo
from helpers.frames import BINARY, answer, fields_of, frame, request
from helpers.peers import NARROW_BUFFER, narrow_socket, outlast_keepalive
from helpers.tls import TlsEnd
from helpers.waiting import cancelled, until, within
from streamws import Cause, Client, CloseCode, ConnectionClosed, Limits, Timeouts, WebSocketServer, connect, connection
from streamws.handshake.server import accept_key
from streamws.net import poll, transports

TIMES = Timeouts(ping_interval=0.05, ping_timeout=0.6, close=0.1)
SMALL = Limits(read_high=4000, read_low=1000, write_high=4000, write_low=1000)


@pytest.fixture(params=["own", "add_reader", "loop"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with our own transports, with and without epoll, and with those of the loop."""
    if request.param == "add_reader":
        monkeypatch.setattr(poll, "HAS_EPOLL", False)
    elif request.param == "loop":
        for module in (transports, connection):
            monkeypatch.setattr(module, "has_own_transports", lambda loop: False)


@pytest.fixture(params=["tcp", "tls", "unix"])
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["server", "client"])
def role(request: pytest.FixtureRequest) -> str:
    """The role of the side under test."""
    return str(request.param)


class StallingPeer:
    """The other end. It reads only if a test tells it to."""

    def __init__(self, sock: socket.socket, tls: TlsEnd | None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._tls = tls

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def shake_hands(self) -> None:
        """Do the TLS handshake."""
        if self._tls is None:
            return
        await self._send(self._tls.step())
        while not self._tls.done:
            await self._send(self._tls.give(await self.receive()))

    async def receive(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        assert data
        return data

    async def send(self, data: bytes) -> None:
        await self._send(data if self._tls is None else self._tls.seal(data))

    async def read_head(self) -> bytes:
        head = b"" if self._tls is None else bytes(self._tls.received)
        while b"\r\n\r\n" not in head:
            data = await self.receive()
            if self._tls is None:
                head += data
            else:
                await self._send(self._tls.give(data))
                head = bytes(self._tls.received)
        return head

    async def send_without_end(self, masked: bool) -> None:
        """Send messages as fast as the other end reads them, until the connection ends."""
        message = frame(BINARY, bytes(1000), masked=masked)
        with suppress(OSError):
            while True:
                await self.send(message)


Ends = AbstractAsyncContextManager[tuple[Client, StallingPeer]]


@pytest.fixture
def ends(
    role: str, network: str, tmp_path: Path, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> Ends:
    """An echoing `Client` and its peer."""
    path = str(tmp_path / "socket") if network == "unix" else None
    secure = network == "tls"
    if role == "server":
        return server_and_peer(path, server_context if secure else None, client_context if secure else None)
    return client_and_peer(path, server_context if secure else None, client_context if secure else None)


@asynccontextmanager
async def server_and_peer(
    path: str | None, server_context: ssl.SSLContext | None, client_context: ssl.SSLContext | None
) -> AsyncIterator[tuple[Client, StallingPeer]]:
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await echo(client)

    place: dict[str, Any] = {"sock": narrow_socket()} if path is None else {"path": path}
    options: dict[str, Any] = {"ssl": server_context, "limits": SMALL, "timeouts": TIMES, **place}
    async with WebSocketServer(handler=handler, **options) as server:
        with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BUFFER)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, path or address_of(server))
            peer = StallingPeer(sock, None if client_context is None else TlsEnd(client_context, False))
            await peer.shake_hands()
            await peer.send(request())
            assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
            await until(lambda: clients)
            yield clients[0], peer


@asynccontextmanager
async def client_and_peer(
    path: str | None, server_context: ssl.SSLContext | None, client_context: ssl.SSLContext | None
) -> AsyncIterator[tuple[Client, StallingPeer]]:
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BUFFER)
        listening.bind(path or ("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)

        async def accept() -> StallingPeer:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            peer = StallingPeer(sock, None if server_context is None else TlsEnd(server_context, True))
            await peer.shake_hands()
            key = fields_of(await peer.read_head())["sec-websocket-key"].encode()
            lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(key).decode()}"]
            await peer.send(answer("101 Switching Protocols", *lines, length=False))
            return peer

        scheme = "ws" if client_context is None else "wss"
        port = listening.getsockname()[1] if path is None else 80
        way = connect(f"{scheme}://127.0.0.1:{port}/", path=path, ssl=client_context, limits=SMALL, timeouts=TIMES)
        peer, client = await asyncio.gather(accept(), way.__aenter__())
        echoing = asyncio.ensure_future(echo(client))
        with peer.sock:
            yield client, peer
        await within(asyncio.wait([echoing]))
        assert isinstance(echoing.exception(), ConnectionClosed)


async def test_peer_that_never_reads_is_closed(role: str, ends: Ends) -> None:
    async with asyncio.timeout(20), ends as (client, peer):
        sending = asyncio.ensure_future(peer.send_without_end(masked=role == "server"))
        await client.wait_closed()
        assert client.outcome is not None
        assert client.outcome.cause is Cause.KEEPALIVE
        assert client.outcome.sent is not None
        assert client.outcome.sent.code == CloseCode.INTERNAL_ERROR
        assert client.outcome.detail == "the peer read nothing for 0.6 s, and this side waits to send"
        await sending


async def test_peer_that_reads_slowly_is_kept(role: str, ends: Ends) -> None:
    """A peer that reads slowly stays connected; silent peers do not."""
    async with asyncio.timeout(20), ends as (client, peer):

        async def read() -> None:
            while True:
                await peer.receive()
                await asyncio.sleep(0.02)

        sending = asyncio.ensure_future(peer.send_without_end(masked=role == "server"))
        await until(lambda: client._connection.outbox.paused and client._connection.inbox.paused)
        reading = asyncio.ensure_future(read())
        for _ in range(2):
            await outlast_keepalive(TIMES)
        assert client.outcome is None
        for task in (reading, sending):
            task.cancel()
            assert await cancelled(task)
