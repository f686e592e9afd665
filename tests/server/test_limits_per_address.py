"""`Limits.max_clients_per_address` and `max_handshakes_per_address`."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.fixtures import Connect, Serve, echo, url_of
from helpers.frames import close, request
from helpers.peers import RawClient
from helpers.tls import TlsClient
from helpers.waiting import until, within
from streamws import Client, HandshakeRefused, Limits, Request, Response, Timeouts, WebSocketServer, connection
from streamws import connect as connect_to
from streamws.net import transports

CLIENTS = Limits(max_clients_per_address=2)
HANDSHAKES = Limits(max_handshakes_per_address=2)
BODY = b"too many connections from your address; try again later\n"


@pytest.fixture(params=["own transports", "the loop's transports"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "own transports":
        for module in (transports, connection):
            monkeypatch.setattr(module, "has_own_transports", lambda loop: False)


def counted(server: WebSocketServer) -> tuple[int, int]:
    """Return the number of addresses that have clients, and of those that have handshakes."""
    serving = server._serving
    return len(serving.client_quota or ()), len(serving.handshake_quota or ())


async def read_refusal(raw: RawClient) -> None:
    answer = await raw.read_answer()
    assert (answer.status, answer.reason, answer.body) == (429, "Too Many Requests", BODY)
    assert answer.headers["retry-after"] == "5"
    assert await raw.read_until_eof() == b""


def forwarded(address: str) -> bytes:
    return request({"X-Forwarded-For": address})


# Clients -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
async def test_server_refuses_more_clients_of_one_address(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, limits=CLIENTS)
    raws = [await connect(server) for _ in range(2)]
    caplog.set_level(logging.INFO, "streamws")
    refused = await connect(server, upgrade=False)
    await refused.send(request())
    await read_refusal(refused)
    assert caplog.messages == [
        "{}:{} refused with 429: too many clients of this address (Limits.max_clients_per_address is 2)".format(
            *refused.address
        )
    ]
    # Another address is served.
    async with connect_to(url_of(server), local_address=("127.0.0.2", 0)):
        assert counted(server) == (2, 0)
    # The place of a client that has gone is free again.
    raws[0].close()
    await until(lambda: len(server.clients) == 1)
    await connect(server)


async def leave(raw: RawClient) -> None:
    await raw.send(close())
    await raw.read_frame()


async def vanish(raw: RawClient) -> None:
    raw.close()


async def reset(raw: RawClient) -> None:
    raw.reset()


async def break_a_rule(raw: RawClient) -> None:
    await raw.send(b"\xff\xff\xff\xff")
    await raw.read_frame()


@pytest.mark.parametrize("end", [leave, vanish, reset, break_a_rule])
async def test_clients_that_end_do_not_count(
    end: Callable[[RawClient], Awaitable[None]], serve: Serve, connect: Connect
) -> None:
    server = await serve(echo, limits=CLIENTS)
    for _ in range(4):
        raw = await connect(server)
        assert counted(server) == (1, 0)
        await end(raw)
        raw.close()
        await until(lambda: not server.clients)
    assert counted(server) == (0, 0)


async def test_clients_of_a_handler_that_returns_or_raises_do_not_count(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        if client.request.path == "/raise":
            raise ValueError("a mistake")

    server = await serve(handler, limits=CLIENTS)
    for path in ("/", "/raise", "/", "/raise"):
        raw = await connect(server, request(target=path))
        await raw.read_frame()
        raw.close()
        await until(lambda: not server.clients)
    assert counted(server) == (0, 0)


async def test_clients_of_a_server_that_stops_do_not_count(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=CLIENTS, timeouts=Timeouts(close=0.05))
    await connect(server)
    await connect(server)
    await within(server.close())
    assert counted(server) == (0, 0)


async def test_refused_requests_do_not_count(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=CLIENTS)
    for _ in range(4):
        raw = await connect(server, upgrade=False)
        await raw.send(request({"Origin": "https://evil.example"}))
        assert (await raw.read_answer()).status == 403
    assert counted(server) == (0, 0)


async def test_clients_count_by_the_forwarded_address(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=CLIENTS, trusted_proxies=["127.0.0.1"], timeouts=Timeouts(close=0.05))
    for address in ("203.0.113.7", "203.0.113.8", "2001:db8::1", "2001:db8:0:1::"):
        await connect(server, forwarded(address))
    await connect(server, forwarded("203.0.113.7, 127.0.0.1"))
    await connect(server, forwarded("2001:db8:0:0:ffff::"))
    assert counted(server) == (4, 0)
    for address in ("203.0.113.7", "6.6.6.6, 203.0.113.7", "2001:db8::2"):
        raw = await connect(server, upgrade=False)
        await raw.send(forwarded(address))
        await read_refusal(raw)
    assert len(server.clients) == 6
    await within(server.close())
    assert counted(server) == (0, 0)


async def test_forged_address_does_not_evade_the_limit(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=CLIENTS)
    for number in range(2):
        await connect(server, forwarded(f"203.0.113.{number}"))
    raw = await connect(server, upgrade=False)
    await raw.send(forwarded("203.0.113.9"))
    await read_refusal(raw)


@pytest.mark.parametrize("trusted", [False, True])
async def test_clients_of_a_unix_socket_count_only_by_a_forwarded_address(trusted: bool, tmp_path: Path) -> None:
    limits = Limits(max_clients_per_address=1, max_handshakes_per_address=1)
    path = str(tmp_path / "ws")
    server = WebSocketServer(path=path, handler=echo, limits=limits, trusted_proxies=["unix"])
    fields = {"X-Forwarded-For": "203.0.113.7"} if trusted else {}
    async with server, connect_to("ws://localhost/", path=path, headers=fields):
        if trusted:
            with pytest.raises(HandshakeRefused, match="429"):
                await connect_to("ws://localhost/", path=path, headers=fields)
        async with connect_to("ws://localhost/", path=path):
            assert len(server.clients) == 2
    assert counted(server) == (0, 0)


# Handshakes ----------------------------------------------------------------------------------------------------


class Gate:
    """A @socket.request callback that waits until it is opened."""

    def __init__(self, response: Response | None = None) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        self._response = response

    async def __call__(self, request: Request) -> Response | None:
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1
        return self._response


@pytest.mark.usefixtures("transport")
async def test_server_refuses_more_handshakes_of_one_address(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, limits=HANDSHAKES)
    silent = [await connect(server, upgrade=False) for _ in range(2)]
    await until(lambda: len(server._serving.connections) == 2)
    caplog.set_level(logging.INFO, "streamws")
    refused = await connect(server, upgrade=False)
    await read_refusal(refused)
    line = "{}:{} refused with 429: too many opening handshakes of this address (Limits.max_handshakes_per_address)"
    assert caplog.messages == [line.format(*refused.address)]
    # Another address is served.
    async with connect_to(url_of(server), local_address=("127.0.0.2", 0)):
        pass
    # Handshakes that are complete do not count any more.
    for raw in silent:
        await raw.upgrade()
    assert counted(server) == (0, 0)
    await connect(server)


async def test_handshake_counts_while_its_request_callback_runs(serve: Serve, connect: Connect) -> None:
    gate = Gate()
    server = await serve(echo, request=gate, limits=HANDSHAKES)
    raws = [await connect(server, upgrade=False) for _ in range(2)]
    for raw in raws:
        await raw.send(request())
    await until(lambda: gate.waiting == 2)
    await read_refusal(await connect(server, upgrade=False))
    gate.opened.set()
    for raw in raws:
        assert (await raw.read_answer()).status == 101
    assert counted(server) == (0, 0)


async def vanish_before_the_request(raw: RawClient) -> None:
    await raw.send(b"GET ")
    raw.close()


async def vanish_in_the_callback(raw: RawClient) -> None:
    await raw.send(request())
    raw.reset()


async def send_nonsense(raw: RawClient) -> None:
    await raw.send(b"\x00")
    assert (await raw.read_answer()).status == 400


async def be_slow(raw: RawClient) -> None:
    assert (await raw.read_answer()).status == 408


async def be_answered(raw: RawClient) -> None:
    await raw.send(request(target="/healthz"))
    assert (await raw.read_answer()).status == 200


async def be_failed(raw: RawClient) -> None:
    await raw.send(request(target="/raise"))
    assert (await raw.read_answer()).status == 500


async def be_forbidden(raw: RawClient) -> None:
    await raw.send(request({"Origin": "https://evil.example"}, target="/free"))
    assert (await raw.read_answer()).status == 403


@pytest.mark.parametrize(
    "end",
    [
        vanish_before_the_request,
        vanish_in_the_callback,
        send_nonsense,
        be_slow,
        be_answered,
        be_failed,
        be_forbidden,
    ],
)
@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
async def test_handshakes_that_end_do_not_count(
    end: Callable[[RawClient], Awaitable[None]], proxies: list[str], serve: Serve, connect: Connect
) -> None:
    async def callback(request: Request) -> Response | None:
        if request.path == "/raise":
            raise ValueError("a mistake")
        if request.path == "/":
            await asyncio.sleep(60)
        return Response(200) if request.path == "/healthz" else None

    # While the callback runs, nothing is read, so the deadline ends what has vanished.
    timeouts = Timeouts(open=0.05 if end in (be_slow, vanish_in_the_callback) else 5)
    server = await serve(echo, request=callback, limits=HANDSHAKES, timeouts=timeouts, trusted_proxies=proxies)
    for _ in range(3):
        raw = await connect(server, upgrade=False)
        await end(raw)
        raw.close()
        await until(lambda: not server._serving.connections)
        assert counted(server) == (0, 0)


async def test_handshakes_of_a_proxy_count_by_the_forwarded_address(serve: Serve, connect: Connect) -> None:
    gate = Gate()
    server = await serve(echo, request=gate, limits=HANDSHAKES, trusted_proxies=["127.0.0.1"])
    silent = [await connect(server, upgrade=False) for _ in range(3)]  # of unknown clients: they do not count
    for address in ("203.0.113.7", "203.0.113.7", "203.0.113.8"):
        raw = await connect(server, upgrade=False)
        await raw.send(forwarded(address))
    await until(lambda: gate.waiting == 3)
    assert counted(server) == (0, 2)
    await silent[0].send(forwarded("203.0.113.7"))
    await read_refusal(silent[0])
    await silent[1].send(forwarded("203.0.113.8"))
    await until(lambda: gate.waiting == 4)
    await within(server.close())
    assert counted(server) == (0, 0)


async def test_tls_handshakes_count(
    serve: Serve,
    connect: Connect,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await serve(echo, ssl=server_context, limits=HANDSHAKES)
    silent = [await connect(server, upgrade=False) for _ in range(2)]
    await until(lambda: counted(server) == (0, 1))
    caplog.set_level(logging.INFO, "streamws")
    dropped = await connect(server, upgrade=False)
    with suppress(ConnectionResetError):
        assert await dropped.read_until_eof() == b""
    line = "{}:{} refused: too many opening handshakes of this address (Limits.max_handshakes_per_address)"
    assert caplog.messages == [line.format(*dropped.address)]
    for raw in silent:
        await TlsClient(raw, client_context).shake_hands()
        raw.close()
    await until(lambda: counted(server) == (0, 0))
    async with connect_to(url_of(server, scheme="wss"), ssl=client_context) as client:
        await client.send("works")
        assert await within(client.read_message()) == "works"


async def test_failed_tls_handshakes_do_not_count(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context, limits=HANDSHAKES)
    for _ in range(4):
        raw = await connect(server, upgrade=False)
        await raw.send(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            await raw.read_until_eof()
        raw.close()
        await until(lambda: counted(server) == (0, 0))


async def test_server_without_these_limits_counts_nothing(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    for _ in range(20):
        await connect(server)
    assert (server._serving.client_quota, server._serving.handshake_quota) == (None, None)
    assert len(server.clients) == 20
