"""Accepting connections: a full table of descriptors, handshakes under way, and the `Server` object."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from helpers.counting import counting_loop
from helpers.fixtures import Connect, Serve, address_of, echo, url_of
from helpers.frames import CLOSE, TEXT, close, request, text
from helpers.peers import RawClient
from helpers.programs import script
from helpers.tls import TlsClient, TlsEnd
from helpers.waiting import PATIENCE, iterations, until, within
from streamws import Client, Limits, Request, Response, Timeouts, UsageError, WebSocketServer, connection
from streamws import connect as connect_to
from streamws.net import accepting, transports
from streamws.net import poll as poll_module
from streamws.net.accepting import Connections, Listener, Openings, Server
from streamws.net.network import Receiver


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings so far."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def has_answer(raw: RawClient) -> bool:
    """Return whether bytes from the server are waiting."""
    try:
        return bool(raw.sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


# Out of descriptors -----------------------------------------------------------------------------------------

EXHAUSTED = """
import asyncio, logging, os, resource, socket
from helpers.counting import counting_loop
from helpers.frames import text
from helpers.peers import RawClient
from helpers.waiting import iterations, until
from streamws import WebSocketServer
from streamws.net import accepting

accepting._PAUSE = 0.02
lines = []

class Lines(logging.Handler):
    def emit(self, record):
        lines.append((record.levelname, record.getMessage().replace(str(port), "PORT")))

logging.getLogger("streamws").addHandler(Lines())

async def echo(client):
    async for message in client:
        await client.send(message)

async def main():
    global port
    loop = asyncio.get_running_loop()
    async with WebSocketServer("127.0.0.1", 0, handler=echo) as server:
        port = server.port
        address = "127.0.0.1", port
        old = [await RawClient.connect(address) for _ in range(3)]
        for raw in old:
            await raw.upgrade()
        new = [socket.socket() for _ in range(5)]
        for sock in new:
            sock.setblocking(False)
        spare = os.dup(0)  # the lowest free number
        os.close(spare)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        for _ in range(2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
            for sock in new:
                await loop.sock_connect(sock, address)
            await until(lambda: "cannot" in str(lines[-1:]))
            calls = loop.calls
            waits = 0
            for _ in range(5):  # several pauses
                await asyncio.sleep(accepting._PAUSE)
                waits += 1
            # Each pause ends with one attempt.
            print("attempts", 2 <= loop.calls - calls <= waits + 1, len(server._serving.connections))
            for raw in old:  # connections that are open work
                await raw.send(text("works"))
                assert await raw.read_frame() == (0x81, b"works")
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            await until(lambda: len(server._serving.connections) == 8)
            await until(lambda: "again" in str(lines[-1:]))
            for raw in map(RawClient, new):
                await raw.upgrade()
                raw.close()
            await until(lambda: len(server.clients) == 3)
            new = [socket.socket() for _ in range(5)]
            for sock in new:
                sock.setblocking(False)
        for sock in [*new, *old]:
            sock.close()
    print(*lines, sep="\\n")

loop = counting_loop(KIND)
loop.run_until_complete(main())
loop.close()
"""


async def test_server_without_descriptors_waits_and_accepts_later(request: pytest.FixtureRequest) -> None:
    async with script(EXHAUSTED.replace("KIND", repr(request.config.getoption("loop")))) as program:
        status = await program.end()
        failed = (
            "cannot accept connections on 127.0.0.1:PORT: Too many open files; trying again every 0.02 s",
            "accepting connections on 127.0.0.1:PORT again",
        )
        attempts = "attempts True 3"
        lines = [str(("WARNING", line)) for line in failed]
        assert (status, program.stderr) == (0, "")
        assert program.stdout.splitlines() == [attempts, attempts, *lines, *lines]


async def test_listening_socket_that_is_shut_down_does_not_keep_the_loop_busy(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    loop = counting_loop(request.config.getoption("loop"))

    async def main() -> int:
        async with WebSocketServer("127.0.0.1", 0, handler=echo) as server:
            server.sockets[0].shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.1)
            calls: int = loop.calls
        return calls

    assert await asyncio.to_thread(loop.run_until_complete, main()) == 1
    loop.close()
    (line,) = warned(caplog)
    assert line.startswith("cannot accept connections on ")
    assert line.endswith(": Invalid argument; trying again every 1 s")


async def test_listening_socket_that_somebody_closes_keeps_its_descriptor() -> None:
    """Otherwise the next file would get the number, and would lose its events when the server closes."""
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    async with WebSocketServer(sock=sock, handler=echo):
        sock.close()
        raw = await RawClient.connect(address)
        await raw.upgrade()
        raw.close()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(address)


class Echo(Receiver):
    """A protocol that sends back what it reads."""

    def __init__(self) -> None:
        self._buffer = bytearray(100)
        self.transport: Any = None

    def connection_made(self, transport: object) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None


async def test_error_of_one_connection_does_not_end_accepting() -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    bug = LookupError("a bug")
    made: list[Echo] = []

    def fail_first() -> Echo:
        made.append(Echo())
        if len(made) == 1:
            raise bug
        return made[-1]

    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    listener = Listener(loop, sock, fail_first, Openings(loop, 10))
    listener.resume()
    name = repr(listener)
    first, second = [await RawClient.connect(sock.getsockname()) for _ in range(2)]
    assert not await first.receive()
    await second.send(b"works")
    assert await second.read(5) == b"works"
    first.close()
    second.close()
    await until(lambda: made[1].transport is None)
    listener.close()
    listener.close()
    assert sock.fileno() == -1
    assert [(report["message"], report["exception"]) for report in reports] == [(f"{name} raised", bug)]


# Handshakes under way ---------------------------------------------------------------------------------------


async def succeed(raw: RawClient) -> None:
    await raw.upgrade()


async def be_refused(raw: RawClient) -> None:
    await raw.send(request({"Upgrade": None}))
    assert (await raw.read_answer()).status == 426


async def send_nonsense(raw: RawClient) -> None:
    await raw.send(b"\x00\x01\r\n\r\n")
    assert (await raw.read_answer()).status == 400


async def send_a_long_head(raw: RawClient) -> None:
    await raw.send(b"GET /" + b"x" * 10_000)
    assert (await raw.read_answer()).status == 414


async def leave(raw: RawClient) -> None:
    raw.close()


async def end_its_side(raw: RawClient) -> None:
    raw.end()


async def reset(raw: RawClient) -> None:
    raw.reset()


async def reset_inside_the_request(raw: RawClient) -> None:
    await raw.send(b"GET / HTTP/1.1\r\n")
    raw.reset()


async def be_late(raw: RawClient) -> None:
    assert (await raw.read_answer()).status == 408


Ending = Callable[[RawClient], Awaitable[None]]
ENDINGS: list[Ending] = [
    succeed,
    be_refused,
    send_nonsense,
    send_a_long_head,
    leave,
    end_its_side,
    reset,
    reset_inside_the_request,
]


@pytest.mark.parametrize("end", [*ENDINGS, be_late], ids=lambda end: end.__name__)
async def test_next_connection_is_accepted_when_a_handshake_ends(
    end: Ending,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "_PATIENCE", 60.0)  # none is dropped
    timeouts = Timeouts(open=0.3 if end is be_late else 10)
    server = await serve(echo, limits=Limits(max_handshakes=2), timeouts=timeouts)
    raws = [await connect(server, upgrade=False) for _ in range(4)]
    await raws[3].send(request())
    await until(lambda: len(server._serving.connections) == 2)
    await iterations(10)
    assert len(server._serving.connections) == 2
    assert not has_answer(raws[3])
    await end(raws[0])
    await until(lambda: warned(caplog))
    if end is not be_late:
        await iterations(10)
        assert not has_answer(raws[3]), "two handshakes are under way: those of the second and third client"
        await end(raws[1])
    assert (await raws[3].read_answer()).status == 101
    assert warned(caplog) == [
        "2 connections wait for the request of their client (Limits.max_handshakes): accepting no others until one of "
        "them ends, and dropping those that wait for over 60 s (logged once)"
    ]


@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__)
async def test_no_handshake_is_counted_after_its_end(end: Ending, serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=Limits(max_handshakes=1))
    for _ in range(5):
        raw = await connect(server, upgrade=False)
        await end(raw)
        raw.close()
    raw = await connect(server)
    await raw.send(text("works"))
    assert await raw.read_frame() == (TEXT, b"works")


async def test_connections_whose_request_is_complete_keep_no_others_out(serve: Serve, connect: Connect) -> None:
    """The callback of the application may take its time for each of them."""
    asked: list[str] = []
    answer = asyncio.Event()

    async def on_request(request: Request) -> Response | None:
        asked.append(request.path)
        await answer.wait()
        return Response(401, "no\n") if request.path == "/no" else None

    server = await serve(echo, request=on_request, limits=Limits(max_handshakes=1))
    raws = [await connect(server, upgrade=False) for _ in range(3)]
    for number, raw in enumerate(raws):
        await raw.send(request(target="/no" if number == 1 else f"/{number}"))
    await until(lambda: len(asked) == 3)
    answer.set()
    assert [(await raw.read_answer()).status for raw in raws] == [101, 401, 101]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    "data", [b"", b"\x16\x03", b"GET / HTTP/1.1\r\n"], ids=["silent", "TLS begun", "request begun"]
)
async def test_clients_that_are_silent_for_long_are_dropped_for_others(
    data: bytes,
    secure: bool,
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    monkeypatch.setattr(accepting, "_PATIENCE", 0.05)
    server = await serve(echo, limits=Limits(max_handshakes=4), ssl=server_context if secure else None)
    url = url_of(server, scheme="wss" if secure else "ws")
    context = client_context if secure else None
    open_client = await connect_to(url, ssl=context)
    raws = [await connect(server, upgrade=False) for _ in range(10)]
    for raw in raws:
        await raw.send(data)
    async with asyncio.timeout(PATIENCE):
        async with connect_to(url, ssl=context) as client:
            await client.send("works")
            assert await client.read_message() == "works"
    await open_client.send("still works")
    assert await open_client.read_message() == "still works"
    await open_client.close()
    assert len(warned(caplog)) == 1
    assert warned(caplog)[0].startswith("4 connections wait for the request of their client (Limits.max_handshakes)")


async def test_silent_clients_are_not_dropped_while_there_is_room(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "_PATIENCE", 0.01)
    server = await serve(echo, limits=Limits(max_handshakes=2))
    raws = [await connect(server, upgrade=False) for _ in range(2)]
    await until(lambda: len(server._serving.connections) == 2)
    await asyncio.sleep(0.1)
    for raw in raws:
        await raw.upgrade()


async def test_silent_clients_are_not_dropped_when_nobody_waits_any_more(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "_PATIENCE", 0.5)
    server = await serve(echo, limits=Limits(max_handshakes=3))
    raws = [await connect(server, upgrade=False) for _ in range(4)]
    await until(lambda: warned(caplog))
    raws[0].close()
    await until(lambda: len(server._serving.connections) == 3)
    await asyncio.sleep(0.6)
    for raw in raws[1:]:
        await raw.upgrade()


async def fail_tls(raw: RawClient, context: ssl.SSLContext) -> None:
    await raw.send(b"GET / HTTP/1.1\r\n\r\n")
    await raw.read_until_eof()


async def reset_tls(raw: RawClient, context: ssl.SSLContext) -> None:
    await raw.send(b"\x16\x03\x01")
    raw.reset()


async def leave_after_tls(raw: RawClient, context: ssl.SSLContext) -> None:
    handshake = TlsEnd(context, False)
    await raw.send(handshake.step())
    while not handshake.done:
        assert await raw.receive()
        await raw.send(handshake.give(raw.take()))
    raw.reset()


async def be_silent(raw: RawClient, context: ssl.SSLContext) -> None:
    await raw.read_until_eof()


@pytest.mark.parametrize("end", [fail_tls, reset_tls, leave_after_tls, be_silent], ids=lambda end: end.__name__)
async def test_next_connection_is_accepted_when_a_tls_handshake_ends(
    end: Callable[[RawClient, ssl.SSLContext], Awaitable[None]],
    serve: Serve,
    connect: Connect,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    timeouts = Timeouts(open=0.3 if end is be_silent else 10)
    server = await serve(echo, ssl=server_context, limits=Limits(max_handshakes=1), timeouts=timeouts)
    for _ in range(2):
        raw = await connect(server, upgrade=False)
        await end(raw, client_context)
        raw.close()
    async with connect_to(url_of(server, scheme="wss"), ssl=client_context) as client:
        await client.send("works")
        assert await client.read_message() == "works"


async def test_server_closes_while_connections_wait_for_a_handshake(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, limits=Limits(max_handshakes=1))
    raws = [await connect(server, upgrade=False) for _ in range(3)]
    await until(lambda: len(server._serving.connections) == 1)
    await iterations(10)
    await within(server.close())
    for raw in raws:
        with suppress(ConnectionResetError):  # it was never accepted
            await raw.read_until_eof()


async def test_silent_connections_on_one_address_do_not_starve_another(connect: Connect, serve: Serve) -> None:
    """All listening sockets share the bound; each continues when a handshake ends."""
    server = WebSocketServer(["127.0.0.1", "127.0.0.2"], 0, handler=echo, limits=Limits(max_handshakes=3))
    async with server:
        raws = [await RawClient.connect(sock.getsockname()) for sock in server.sockets for _ in range(6)]
        await until(lambda: len(server._serving.connections) == 3)
        done = set()

        async def finish(number: int) -> None:
            await raws[number].upgrade()
            done.add(number)

        await within(asyncio.gather(*map(finish, range(12))))
        assert len(done) == 12
        for raw in raws:
            raw.close()


async def test_many_connections_at_once_are_all_accepted(serve: Serve) -> None:
    server = await serve(echo, backlog=300)
    raws = [await RawClient.connect(address_of(server)) for _ in range(200)]
    await asyncio.gather(*(raw.upgrade() for raw in raws))
    assert len(server.clients) == 200
    for raw in raws:
        raw.close()
    await until(lambda: not server.clients)


async def test_server_accepts_without_epoll(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(poll_module, "HAS_EPOLL", False)
    server = await serve(echo, limits=Limits(max_handshakes=1), timeouts=Timeouts(close=0.1))
    first, second = [await connect(server, upgrade=False) for _ in range(2)]
    await second.send(request())
    await until(lambda: warned(caplog))
    assert not has_answer(second)
    first.reset()
    assert (await second.read_answer()).status == 101
    await server.close()


# Loops that accept connections themselves ----------------------------------------------------------------------


@pytest.fixture
def loop_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop accept connections, with its own transports, as on Windows."""
    for module in (transports, connection):
        monkeypatch.setattr(module, "has_own_transports", lambda loop: False)


@pytest.mark.usefixtures("loop_accepts")
async def test_server_on_a_loop_that_accepts_answers_503_to_connections_over_the_limit(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, limits=Limits(max_handshakes=2))
    waiting = [await connect(server, upgrade=False) for _ in range(2)]
    await until(lambda: len(server._serving.connections) == 2)
    with caplog.at_level(logging.INFO, "streamws"):
        for _ in range(3):
            refused = await connect(server, upgrade=False)
            answer = await refused.read_answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            refused.close()
            line = "{}:{} refused with 503: too many opening handshakes (Limits.max_handshakes)"
            assert caplog.messages[-1] == line.format(*refused.address)
    # Clients that sent their request in time are served, and make room for others.
    for raw in waiting:
        await raw.upgrade()
    await connect(server)


@pytest.mark.usefixtures("loop_accepts")
async def test_server_on_a_loop_that_accepts_answers_503_over_tls(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, limits=Limits(max_handshakes=2), ssl=server_context)
    waiting = [TlsClient(await connect(server, upgrade=False), client_context) for _ in range(2)]
    for tls in waiting:
        await tls.shake_hands()
    refused = TlsClient(await connect(server, upgrade=False), client_context)
    await refused.shake_hands()
    assert (await refused.read_until_eof()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    refused.raw.close()
    for tls in waiting:
        await tls.upgrade()
    await TlsClient(await connect(server, upgrade=False), client_context).shake_hands()


@pytest.mark.usefixtures("loop_accepts")
async def test_server_on_a_loop_that_accepts_bounds_tls_handshakes_that_never_end(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext
) -> None:
    server = await serve(echo, limits=Limits(max_handshakes=2), ssl=server_context)
    raws = [await connect(server, upgrade=False) for _ in range(20)]
    for raw in raws[4:]:
        with suppress(ConnectionResetError):
            assert await raw.read_until_eof() == b""
    assert not any(has_answer(raw) for raw in raws[:4])


# Handshakes that never end ------------------------------------------------------------------------------------

SOON = Timeouts(open=0.2, close=0.2)


async def drip(raw: RawClient, data: bytes) -> None:
    """Send a byte from time to time, until the connection ends."""
    with suppress(OSError):
        for number in range(1_000_000):
            await raw.send(data[number : number + 1] or b"x")
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("accepts", ["listener", "loop"])
async def test_head_that_arrives_byte_by_byte_is_refused_in_time(
    accepts: str, request: pytest.FixtureRequest, serve: Serve, connect: Connect
) -> None:
    if accepts == "loop":
        request.getfixturevalue("loop_accepts")
    server = await serve(echo, timeouts=SOON)
    raw = await connect(server, upgrade=False)
    sending = asyncio.create_task(drip(raw, b"GET / HTTP/1.1\r\nHost: x\r\nX: "))
    assert (await raw.read_answer()).status == 408
    await within(sending)  # the connection ends, even if bytes still arrive and the answer is not the end for the peer
    assert not server._serving.connections


@pytest.mark.parametrize("accepts", ["listener", "loop"])
async def test_tls_handshake_that_arrives_byte_by_byte_ends_in_time(
    accepts: str,
    request: pytest.FixtureRequest,
    serve: Serve,
    connect: Connect,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if accepts == "loop":
        request.getfixturevalue("loop_accepts")
    server = await serve(echo, timeouts=SOON, ssl=server_context)
    raw = await connect(server, upgrade=False)
    # A record that is longer than what arrives in the time.
    hello = TlsEnd(client_context, False).step()
    with caplog.at_level(logging.INFO, "streamws"):
        await within(drip(raw, hello))
    assert [line for line in caplog.messages if "refused" in line] == [
        "{}:{} refused: TLS handshake failed: not complete within 0.2 s".format(*raw.address)
    ]


async def test_tls_handshake_and_head_have_one_deadline_together(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, timeouts=SOON, ssl=server_context)
    tls = TlsClient(await connect(server, upgrade=False), client_context)
    await tls.shake_hands()
    await tls.send(b"GET / HTTP/1.1\r\n")
    assert (await within(tls.read_until_eof())).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


# The Server -------------------------------------------------------------------------------------------------


async def test_start_returns_an_asyncio_server() -> None:
    socket_server = WebSocketServer("127.0.0.1", 0, handler=echo)
    server: asyncio.AbstractServer = await socket_server.start()
    assert isinstance(server, Server)
    assert server.sockets == tuple(socket_server.sockets)
    assert server.get_loop() is asyncio.get_running_loop()
    assert server.is_serving()
    assert repr(server) == f"<Server on 127.0.0.1:{socket_server.port}>"
    await server.start_serving()  # it does already
    server.close()
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    assert repr(server) == "<Server on nothing>"
    await within(server.wait_closed())
    with pytest.raises(RuntimeError, match="<Server on nothing> is closed"):
        await server.start_serving()
    with pytest.raises(RuntimeError, match="<Server on nothing> is closed"):
        await server.serve_forever()
    await socket_server.close()


def test_with_returns_a_server(own_loop: asyncio.AbstractEventLoop) -> None:
    with WebSocketServer("127.0.0.1", 0, handler=echo, loop=own_loop) as server:
        assert isinstance(server, Server)
        assert server.is_serving()
        assert server.get_loop() is own_loop
        # As asyncio's own servers are used.
        own_loop.call_later(0.01, server.close)
        own_loop.run_until_complete(server.serve_forever())
    assert not server.is_serving()


async def test_server_that_is_closed_keeps_its_connections(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    assert server._server is not None
    inner = server._server
    inner.close()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(raw.sock.getpeername())
    with pytest.raises(UsageError, match="this server has no port: it does not listen"):
        server.port  # noqa: B018
    waiting = [asyncio.create_task(inner.wait_closed()) for _ in range(2)]
    await raw.send(text("still works"))
    assert await raw.read_frame() == (TEXT, b"still works")
    assert not any(task.done() for task in waiting)
    await raw.send(close())
    await within(asyncio.gather(*waiting))
    assert not server.clients


async def test_wait_closed_waits_for_the_server_without_connections(serve: Serve) -> None:
    inner = (await serve(echo))._server
    assert inner is not None
    waiting = asyncio.create_task(inner.wait_closed())
    await iterations()
    assert not waiting.done()
    inner.close()
    await within(waiting)


async def test_async_with_closes_the_server_and_waits() -> None:
    socket_server = WebSocketServer("127.0.0.1", 0, handler=echo)
    async with await socket_server.start() as server:
        raw = await RawClient.connect(address_of(socket_server))
        await raw.upgrade()
        await raw.send(text("works") + close())
        assert await raw.read_frame() == (TEXT, b"works")
    assert not server.is_serving()
    assert not socket_server.clients
    raw.close()
    await socket_server.close()


async def test_serve_forever_ends_with_the_server_and_closes_it_when_cancelled(serve: Serve) -> None:
    first, second = [(await serve(echo))._server for _ in range(2)]
    assert first is not None
    assert second is not None
    tasks = [asyncio.create_task(server.serve_forever()) for server in (first, second)]
    await iterations()
    assert not any(task.done() for task in tasks)
    first.close()
    await within(tasks[0])
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert not second.is_serving()


async def test_close_clients_closes_with_1001_and_accepts_new_ones(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    assert server._server is not None
    raws = [await connect(server) for _ in range(2)]
    silent = await connect(server, upgrade=False)
    await until(lambda: len(server._serving.connections) == 3)
    server._server.close_clients()
    for raw in raws:
        assert await raw.read_frame() == (CLOSE, b"\x03\xe9server shutting down")
        await raw.send(close(1001))
        assert await raw.read_until_eof() == b""
    assert await silent.read_until_eof() == b""  # there is nothing to close yet
    await until(lambda: not server.clients)
    raw = await connect(server)
    await raw.send(text("works"))
    assert await raw.read_frame() == (TEXT, b"works")


async def test_abort_clients_drops_all_and_accepts_new_ones(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    assert server._server is not None
    raws = [await connect(server), await connect(server), await connect(server, upgrade=False)]
    await until(lambda: len(server._serving.connections) == 3)
    server._server.abort_clients()
    for raw in raws:
        assert await raw.read_until_eof() == b""
    await connect(server)


class NoConnections(Connections):
    """There are none."""

    async def wait_all(self) -> None:
        pass


async def test_server_that_cannot_start_closes_all_sockets() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    loop = asyncio.get_running_loop()

    async def start(sock: socket.socket) -> Listener:
        if sock is sockets[1]:
            raise OSError("cannot listen")
        sock.setblocking(False)
        listener = Listener(loop, sock, lambda: None, Openings(loop, 1))
        listener.resume()
        return listener

    server = Server(loop, sockets, start, NoConnections())
    with pytest.raises(OSError, match="cannot listen"):
        await server.start_serving()
    server.close()
    assert [sock.fileno() for sock in sockets] == [-1] * 3
    await within(server.wait_closed())


# Addresses of peers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("epoll", [True, False], ids=["epoll", "add_reader"])
async def test_address_is_known_after_the_end(host: str, epoll: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_module, "HAS_EPOLL", epoll)
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await client.wait_closed()

    async with WebSocketServer(host, 0, handler=handler) as server:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        await until(lambda: clients)
        raw.reset()
        await until(lambda: not server.clients)
        await iterations()
        assert (clients[0].addr, clients[0].port) == raw.address  # nobody had asked before
        assert repr(clients[0]) == f"<Client {clients[0].id} of {raw.address[0]}:{raw.address[1]}, closed>"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_address_of_a_peer_that_is_gone_before_it_is_accepted_is_logged(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with WebSocketServer(host, 0, handler=echo) as server:
        with caplog.at_level(logging.INFO, "streamws"), socket.socket(server.sockets[0].family) as sock:
            sock.connect(server.sockets[0].getsockname())
            name = sock.getsockname()[:2]
            sock.send(b"nonsense\r\n\r\n")
            sock.close()
            await until(lambda: "refused with" in caplog.text)
    shown = "{}:{}" if host == "127.0.0.1" else "[{}]:{}"
    assert shown.format(*name) + " refused with 400: " in caplog.text


async def test_address_of_a_unix_peer_is_known_after_the_end(tmp_path: Any) -> None:
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await client.wait_closed()

    path = str(tmp_path / "server")
    async with WebSocketServer(path=path, handler=handler) as server:
        for name in (None, str(tmp_path / "peer"), f"\0streamws-peer-{os.getpid()}"):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            if name is not None:
                sock.bind(name)
            sock.connect(path)
            raw = RawClient(sock)
            await raw.upgrade()
            raw.close()
            await until(lambda: not server.clients)
            await iterations()
            expected = path if name is None else name.replace("\0", "@")
            assert (clients[-1].addr, clients[-1].port) == (expected, clients[-1].id)
    assert len(clients) == 3
