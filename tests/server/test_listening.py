"""Addresses at which a server listens: TCP, Unix sockets, given sockets, TLS."""

import asyncio
import logging
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from helpers.fixtures import Connect, Serve, address_of, addresses_of, echo
from helpers.frames import ACCEPT, CLOSE, TEXT, close, frames, request, text
from helpers.leaks import open_sockets
from helpers.peers import Address, Peer, RawClient
from helpers.tls import TlsEnd
from helpers.waiting import PATIENCE, until, within
from streamws import Client, Timeouts, UsageError, WebSocketServer
from streamws import connect as connect_to


async def echoes(address: Address) -> bool:
    """Return whether a WebSocket server listens at an address."""
    raw = await RawClient.connect(address)
    try:
        await raw.upgrade()
        await raw.send(text("works") + close())
        answer = await raw.read_frame()
        await raw.read_until_eof()
    finally:
        raw.close()
    return answer == (TEXT, b"works")


# --- TCP


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "", None, ["127.0.0.1"]])
async def test_server_listens_on_an_address(address: str | list[str] | None) -> None:
    async with WebSocketServer(address, 0, handler=echo) as server:
        (port,) = {sock.getsockname()[1] for sock in server.sockets if sock.family == socket.AF_INET}
        assert await echoes(("127.0.0.1", port))


async def test_server_listens_on_several_addresses() -> None:
    async with WebSocketServer(["127.0.0.1", "127.0.0.2"], 0, handler=echo) as server:
        addresses = sorted(sock.getsockname() for sock in server.sockets)
        assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2"]
        assert all([await echoes(address) for address in addresses])


@pytest.mark.parametrize("address", ["", None, ["127.0.0.1", "::1"], ["127.0.0.1", "127.0.0.2"]])
async def test_server_has_one_port_for_all_addresses(address: str | list[str] | None) -> None:
    server = WebSocketServer(address, 0, handler=echo)
    message = "this server has no port: it does not listen, or listens on a Unix socket"
    with pytest.raises(UsageError, match=message):
        server.port  # noqa: B018
    async with server:
        assert {sock.getsockname()[1] for sock in server.sockets} == {server.port}
        assert len(server.sockets) == 2
        for sock in server.sockets:
            assert await echoes((sock.getsockname()[0], server.port))
    with pytest.raises(UsageError, match=message):
        server.port  # noqa: B018


async def test_server_listens_on_ipv6() -> None:
    seen = asyncio.get_running_loop().create_future()

    async def handler(client: Client) -> None:
        seen.set_result((client.addr, client.port))
        await echo(client)

    async with WebSocketServer("::1", 0, handler=handler) as server:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        assert await within(seen) == raw.address
        assert addresses_of(server) == [raw.address]
        raw.close()


async def test_servers_share_a_port_with_reuse_port(serve: Serve) -> None:
    async with WebSocketServer("127.0.0.1", 0, handler=echo, reuse_port=True) as first:
        host, port = address_of(first)
        async with WebSocketServer(host, port, handler=echo, reuse_port=True) as second:
            assert address_of(second) == (host, port)
            assert await echoes((host, port))
            await first.close()
            assert await echoes((host, port))


async def test_server_listens_on_a_given_socket() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    async with WebSocketServer(sock=sock, handler=echo) as server:
        assert address_of(server) == address
        assert await echoes(address)
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(address)


# --- Unix sockets


async def test_server_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "ws"
    clients = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await echo(client)

    async with WebSocketServer(path=path, handler=handler) as server:
        raws = [await RawClient.connect(str(path)) for _ in range(2)]
        for number, raw in enumerate(raws):
            await raw.upgrade()
            await raw.send(text(f"{number}"))
            assert await raw.read_frame() == (TEXT, b"%d" % number)
        assert [(client.addr, client.port) for client in clients] == [(str(path), client.id) for client in clients]
        assert len(server.clients) == 2
        for raw in raws:
            raw.close()


async def test_server_listens_on_a_given_unix_socket(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "ws"))
    async with WebSocketServer(sock=sock, handler=echo):
        assert await echoes(str(tmp_path / "ws"))


async def test_server_on_a_unix_socket_has_no_port(tmp_path: Path) -> None:
    async with WebSocketServer(path=tmp_path / "ws", handler=echo) as server:
        with pytest.raises(UsageError, match="this server has no port"):
            server.port  # noqa: B018


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_server_gives_its_unix_socket_a_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "ws"
    async with WebSocketServer(path=path, mode=mode, handler=echo):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert await echoes(str(path))


async def test_server_replaces_the_file_of_a_server_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "ws"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert path.is_socket()
    async with WebSocketServer(path=path, handler=echo):
        assert await echoes(str(path))
    assert not path.exists()


async def test_server_listens_on_an_abstract_name(caplog: pytest.LogCaptureFixture) -> None:
    name = f"\0streamws-{os.getpid()}"
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await echo(client)

    with caplog.at_level(logging.INFO, "streamws"):
        async with WebSocketServer(path=name, handler=handler) as server:
            assert repr(server) == f"<WebSocketServer on @{name[1:]}, 0 clients>"
            assert repr(server._server) == f"<Server on @{name[1:]}>"
            assert await echoes(name)
            async with connect_to("ws://localhost", path=name) as client:
                await client.send("works")
                assert await client.read_message() == "works"
    assert [client.addr for client in clients] == [f"@{name[1:]}"] * 2
    assert f"serving on @{name[1:]}" in caplog.messages
    assert "\0" not in caplog.text
    async with WebSocketServer(path=name, handler=echo):  # the name is free again
        pass


@pytest.mark.parametrize("case", ["unix_taken", "abstract_unix"])
async def test_server_on_a_place_that_is_taken_leaves_nothing_open(case: str, tmp_path: Path) -> None:
    place = str(tmp_path / "ws") if case == "unix_taken" else f"\0streamws-{os.getpid()}"
    async with WebSocketServer(path=place, handler=echo):
        before = open_sockets()
        for _ in range(3):
            with pytest.raises(OSError, match="a server is listening there"):
                await WebSocketServer(path=place, handler=echo).start()
        assert open_sockets() == before
        assert await echoes(place)


async def test_two_clients_with_one_address_and_port_are_two_clients() -> None:
    """Addresses are not unique: a client may connect to two addresses of the server from one port."""
    async with WebSocketServer(["127.0.0.1", "127.0.0.2"], 0, handler=echo) as server:
        raws = []
        mine = 0
        for place in server.sockets:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", mine))
            mine = sock.getsockname()[1]
            sock.connect(place.getsockname())
            sock.setblocking(False)
            raws.append(RawClient(sock))
            await raws[-1].upgrade()
        assert addresses_of(server) == [("127.0.0.1", mine)] * 2
        assert server.broadcast("x") == 2
        for raw in raws:
            assert await raw.read_frame() == (TEXT, b"x")
        raws[0].close()
        await until(lambda: len(server.clients) == 1)
        assert server.broadcast("y") == 1
        assert await raws[1].read_frame() == (TEXT, b"y")
        raws[1].close()


# --- TLS


@asynccontextmanager
async def tls_peer(server: WebSocketServer, context: ssl.SSLContext) -> AsyncIterator[Peer]:
    """Connect with TLS."""
    async with asyncio.timeout(PATIENCE):
        peer = Peer(*await asyncio.open_connection(*address_of(server), ssl=context), masks=True)
        try:
            yield peer
        finally:
            peer.writer.transport.abort()
            await peer.close()


async def test_server_speaks_tls(serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server = await serve(echo, ssl=server_context)
    async with tls_peer(server, client_context) as peer:
        peer.write(request() + text("x" * 100_000))
        assert f"Sec-WebSocket-Accept: {ACCEPT}\r\n".encode() in await peer.read_head()
        assert await peer.read_frame() == (TEXT, b"x" * 100_000)
        peer.send_close(1000, "bye")
        assert await peer.reader.read() == b"\x88\x02\x03\xe8"


async def test_server_refuses_over_tls(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context)
    async with tls_peer(server, client_context) as peer:
        peer.write(request({"Upgrade": None}) + b"more")
        answer = await peer.reader.read()
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert answer.endswith(b"the request lacks Upgrade: websocket\n")


async def test_server_closes_on_bad_input_over_tls(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context)
    async with tls_peer(server, client_context) as peer:
        peer.write(request())
        await peer.read_head()
        peer.write(text("ok") + b"\x83\x80")
        answer, (first, payload) = frames(await peer.reader.read())
    assert answer == (TEXT, b"ok")
    assert (first, payload[:2]) == (CLOSE, b"\x03\xea")


@pytest.mark.usefixtures("fast_timers")
async def test_server_answers_408_over_tls(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context, timeouts=Timeouts(open=1))
    async with tls_peer(server, client_context) as peer:
        peer.write(b"GET")
        assert (await peer.reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05abcde", b""])
async def test_server_drops_a_client_that_does_not_speak_tls(
    data: bytes, serve: Serve, connect: Connect, server_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context, timeouts=Timeouts(open=0.2))
    before = open_sockets()
    raw = await connect(server, upgrade=False)
    await raw.send(data)
    await raw.read_until_eof()
    raw.close()
    await until(lambda: open_sockets() <= before)
    assert not server.clients


async def test_server_reports_nothing_when_client_leaves_in_the_tls_handshake(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext
) -> None:
    """Nothing is reported to the loop, because every port scan would be."""
    server = await serve(echo, ssl=server_context)
    before = open_sockets()
    for leave in (RawClient.close, RawClient.reset):
        raw = await connect(server, upgrade=False)
        await raw.send(b"\x16\x03\x01")
        leave(raw)
    await until(lambda: open_sockets() <= before)


async def test_server_that_stops_drops_clients_in_the_tls_handshake(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    opened = []

    async def handler(client: Client) -> None:
        opened.append(client)

    server = await serve(handler, ssl=server_context, timeouts=Timeouts(open=2))
    raw = await connect(server, upgrade=False)
    handshake = TlsEnd(client_context, False)
    await raw.send(handshake.step())
    assert await raw.receive()
    answer = handshake.give(raw.take())
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()
    try:
        await raw.send(answer)
        while not handshake.done and await raw.receive():
            await raw.send(handshake.give(raw.take()))
        if handshake.done:
            await raw.send(handshake.seal(request()))
        await raw.read_until_eof()
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert opened == []
    assert not server.clients
