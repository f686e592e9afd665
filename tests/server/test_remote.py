"""What is known of the peer of a connection: addresses, TLS, and addresses that trusted proxies forward."""

import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, echo, url_of
from helpers.frames import request
from helpers.peers import RawClient
from helpers.waiting import until, within
from streamws import Client, Request, Response, WebSocketServer, connection
from streamws import connect as connect_to
from streamws.net import transports

FORGED = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=6.6.6.6;proto=https"),
    ("X-Real-IP", "6.6.6.6"),
]


@pytest.fixture(params=["own transports", "the loop's transports"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "own transports":
        for module in (transports, connection):
            monkeypatch.setattr(module, "has_own_transports", lambda loop: False)


async def remote_of(server: WebSocketServer, *fields: tuple[str, str]) -> tuple[tuple[str, int], bool]:
    """Connect with header fields; return what the server knows of the client then."""
    async with connect_to(url_of(server), headers=fields) as client:
        await client.send("x")
        await within(client.read_message())
        [on_server] = server.clients.values()
        assert on_server.remote == on_server.request.remote
        assert on_server.get_extra_info("peername") == (on_server.addr, on_server.port)  # always the socket's peer
        assert on_server.addr == "127.0.0.1"
        return on_server.remote, on_server.request.secure


# Extra information ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
async def test_request_and_client_know_their_addresses(serve: Serve) -> None:
    seen: list[Any] = []

    def look(request: Request) -> None:
        names = "peername", "sockname", "peercert", "cipher", "ssl_object", "sslcontext", "compression", "nonsense"
        seen.append((request, request.remote, [request.get_extra_info(name) for name in names]))
        assert request.get_extra_info("nonsense", 1) == 1
        assert isinstance(request.get_extra_info("socket").getsockname(), tuple)  # type: ignore[union-attr]

    server = await serve(echo, request=look)
    async with connect_to(url_of(server)) as client:
        here, there = client.get_extra_info("sockname"), client.get_extra_info("peername")
        assert there == ("127.0.0.1", server.port) == client.remote
        assert client.get_extra_info("cipher") is None
        assert not client.request.secure
        [(asked, remote, infos)] = seen
        assert remote == here
        assert infos == [here, there, None, None, None, None, None, None]
        [on_server] = server.clients.values()
        assert on_server.request is asked
        assert (on_server.remote, on_server.get_extra_info("sockname")) == (here, there)
    await until(lambda: not server.clients)
    # After the end, the address is still known.
    assert on_server.remote == asked.remote == here
    assert client.remote == client.request.remote == there
    assert (on_server.get_extra_info("peername"), client.get_extra_info("socket", 1)) == (None, 1)


@pytest.mark.usefixtures("transport")
async def test_address_is_known_after_the_end_even_if_nobody_asked_before(serve: Serve, connect: Connect) -> None:
    kept: list[Request] = []

    def refuse(request: Request) -> Response:
        kept.append(request)
        return Response(403)

    raw = await connect(await serve(echo, request=refuse), upgrade=False)
    await raw.send(request())
    await raw.read_until_eof()
    raw.close()
    await until(lambda: kept[0].get_extra_info("socket") is None)
    assert kept[0].remote == raw.address


@pytest.mark.usefixtures("transport")
async def test_request_and_client_know_the_certificate_of_the_peer(
    serve: Serve, certificate: tuple[Path, Path], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(certificate[0])
    client_context.load_cert_chain(*certificate)
    seen: list[Request] = []
    server = await serve(echo, request=lambda request: seen.append(request), ssl=server_context)
    async with connect_to(url_of(server, scheme="wss"), ssl=client_context) as client:
        [on_server] = server.clients.values()
        ends: list[tuple[Client | Request, ssl.SSLContext]] = [
            (client, client_context),
            (client.request, client_context),
            (on_server, server_context),
            (seen[0], server_context),
        ]
        for end, context in ends:
            peer = end.get_extra_info("peercert")
            assert peer is not None
            assert peer["subject"] == ((("commonName", "localhost"),),)
            assert ("DNS", "localhost") in peer["subjectAltName"]
            cipher = end.get_extra_info("cipher")
            assert cipher is not None
            assert cipher[1].startswith("TLSv1")
            assert end.get_extra_info("compression") is None
            tls = end.get_extra_info("ssl_object")
            assert tls is not None
            assert tls.version() in ("TLSv1.2", "TLSv1.3")
            assert end.get_extra_info("sslcontext") is context
        assert (client.request.secure, on_server.request.secure) == (True, True)
        assert on_server.remote == (on_server.addr, on_server.port)
    await until(lambda: not server.clients)
    assert on_server.get_extra_info("peercert") is None
    assert on_server.remote == seen[0].remote == (on_server.addr, on_server.port)
    assert (client.request.secure, seen[0].secure) == (True, True)


async def test_peer_without_certificate_has_none(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context)
    async with connect_to(url_of(server, scheme="wss"), ssl=client_context):
        [on_server] = server.clients.values()
        assert on_server.get_extra_info("peercert") is None
        assert on_server.get_extra_info("peercert", "none") == "none"


@pytest.mark.usefixtures("transport")
async def test_unix_socket_has_its_path_as_address(tmp_path: Path) -> None:
    path = str(tmp_path / "ws")
    server = WebSocketServer(path=path, handler=echo)
    async with server, connect_to("ws://localhost/", path=path) as client:
        [on_server] = server.clients.values()
        assert on_server.remote == on_server.request.remote == client.remote == (path, 0)
        assert (on_server.addr, on_server.port) == (path, on_server.id)
        sock = on_server.get_extra_info("socket")
        assert sock is not None
        assert sock.family == socket.AF_UNIX


async def test_client_shows_neither_query_nor_fields(serve: Serve) -> None:
    server = await serve(echo)
    async with connect_to(url_of(server, "/?token=secret"), headers={"Cookie": "secret"}) as client:
        [on_server] = server.clients.values()
        for shown in (repr(client), repr(on_server), repr(client.request), repr(on_server.request)):
            assert "secret" not in shown


# Trusted proxies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxies", [[], ["10.0.0.0/8", "unix"], ["127.0.0.2"], ["::1"]])
async def test_forged_fields_of_untrusted_peers_have_no_effect(proxies: list[str], serve: Serve) -> None:
    server = await serve(echo, trusted_proxies=proxies)
    for field in FORGED:
        remote, secure = await remote_of(server, field)
        assert remote[0] == "127.0.0.1"
        assert remote[1] > 0
        assert secure is False


@pytest.mark.parametrize(
    ("fields", "remote", "secure"),
    [
        ([("X-Forwarded-For", "6.6.6.6, 203.0.113.7")], ("203.0.113.7", 0), False),
        ([("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")], ("203.0.113.7", 0), True),
        ([("Forwarded", 'for="[2001:db8::7]:5000";proto=https')], ("2001:db8::7", 5000), True),
        ([("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7, 127.0.0.1")], ("203.0.113.7", 0), False),
        ([("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "203.0.113.7")], ("unknown", 0), False),
    ],
)
@pytest.mark.usefixtures("transport")
async def test_trusted_proxy_forwards_the_address_of_its_client(
    fields: list[tuple[str, str]], remote: tuple[str, int], secure: bool, serve: Serve
) -> None:
    server = await serve(echo, trusted_proxies=["127.0.0.0/8"])
    assert await remote_of(server, *fields) == (remote, secure)


async def test_trusted_proxy_that_forwards_nothing_is_the_remote_itself(serve: Serve) -> None:
    server = await serve(echo, trusted_proxies=["127.0.0.1"])
    (host, port), secure = await remote_of(server)
    assert (host, secure) == ("127.0.0.1", False)
    assert port > 0


async def test_trusted_proxy_may_say_that_its_client_uses_no_tls(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, trusted_proxies=["127.0.0.1"], ssl=server_context)
    for scheme in ("http", "https"):
        headers = {"X-Forwarded-Proto": scheme}
        async with connect_to(url_of(server, scheme="wss"), ssl=client_context, headers=headers):
            [on_server] = server.clients.values()
            assert on_server.request.secure is (scheme == "https")
        await until(lambda: not server.clients)


@pytest.mark.parametrize("trusted", [False, True])
async def test_peers_of_a_unix_socket_are_proxies_if_unix_is_trusted(trusted: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "ws")
    server = WebSocketServer(path=path, handler=echo, trusted_proxies=["unix"] if trusted else [])
    async with server, connect_to("ws://localhost/", path=path, headers={"X-Forwarded-For": "203.0.113.7"}):
        [on_server] = server.clients.values()
        assert on_server.remote == (("203.0.113.7", 0) if trusted else (path, 0))


async def test_request_callback_sees_the_forwarded_address(serve: Serve) -> None:
    seen: list[tuple[str, int]] = []
    server = await serve(echo, request=lambda request: seen.append(request.remote), trusted_proxies=["127.0.0.1"])
    await remote_of(server, ("Forwarded", "for=203.0.113.7"))
    assert seen == [("203.0.113.7", 0)]


@pytest.mark.parametrize("trusted", [False, True])
async def test_log_names_the_forwarded_address_of_a_trusted_proxy(
    trusted: bool, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(client: Client) -> None:
        raise ValueError("a mistake")

    server = await serve(fail, trusted_proxies=["127.0.0.1"] if trusted else [])
    caplog.set_level(logging.INFO, "streamws")
    raws: list[RawClient] = []
    for change in ({}, {"Origin": "https://evil.example"}):
        raw = await connect(server, upgrade=False)
        await raw.send(request({"X-Forwarded-For": "203.0.113.7", **change}))
        await raw.read_until_eof() if change else await raw.read_frame()
        raws.append(raw)
        raw.close()
    await until(lambda: not server._serving.connections)
    names = ["203.0.113.7" if trusted else "{}:{}".format(*raw.address) for raw in raws]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == [f"{names[0]} opened /", f"{names[0]}: the handler raised"]
    assert [line for line in lines if line.startswith(f"{names[0]}: closed by this side with 1011")]
    assert [line for line in lines if line.startswith(f"{names[1]} refused with 403: Origin")]
    assert len(lines) == 4
