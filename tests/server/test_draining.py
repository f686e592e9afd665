"""`drain`, and the codes and reasons with which a server closes its connections."""

import asyncio
import logging
import signal
import socket
import ssl
import threading
from typing import Any

import pytest

import streamws
from helpers.fixtures import Connect, Serve, address_of, echo, url_of
from helpers.frames import CLOSE, close_payload, request, text
from helpers.frames import client_frame as frame
from helpers.peers import RawClient
from helpers.programs import Program, script
from helpers.tls import TlsClient
from helpers.waiting import cancelled, iterations, until, within
from streamws import (
    Client,
    ConnectionClosedError,
    HandshakeRefused,
    Limits,
    Request,
    Response,
    Timeouts,
    UsageError,
    WebSocketServer,
)

PATIENT = Timeouts(open=60, close=60, ping_interval=None)


async def told(raw: RawClient) -> tuple[int, str]:
    """Answer the Close frame of the server, and return its code and reason."""
    opcode, payload = await raw.read_frame()
    assert opcode == CLOSE
    await raw.send(frame(CLOSE, payload[:2]))
    assert await raw.read_until_eof() == b""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


# close ------------------------------------------------------------------------------------------------------


async def test_close_sends_its_code_and_reason(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    closing = asyncio.ensure_future(server.close(4001, "maintenance"))
    again = asyncio.ensure_future(server.close(1001, "later"))
    assert await told(raw) == (4001, "maintenance")
    await within(asyncio.gather(closing, again))


async def test_close_clients_sends_its_code_and_reason(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    listening = server._server
    assert listening is not None
    raw = await connect(server)
    with pytest.raises(ValueError, match="close code 1006 must not be sent"):
        listening.close_clients(1006)
    listening.close_clients(1012, "restart")
    assert await told(raw) == (1012, "restart")
    assert listening.is_serving()


@pytest.mark.parametrize("call", ["close", "drain"])
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [(1005, "", ValueError), (999, "", ValueError), (1000, "x" * 124, ValueError), (1000, b"", TypeError)],
)
async def test_bad_code_or_reason_is_an_error_at_once(
    call: str, code: int, reason: Any, kind: type[Exception], serve: Serve, connect: Connect
) -> None:
    server = await serve(echo)
    raw = await connect(server)
    with pytest.raises(kind):
        await (server.close(code, reason) if call == "close" else server.drain(5, code, reason))
    await raw.send(text("still here"))
    assert (await raw.read_frame())[1] == b"still here"


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True])
async def test_bad_time_of_a_drain_is_an_error_at_once(seconds: Any, serve: Serve) -> None:
    server = await serve(echo)
    with pytest.raises(TypeError if isinstance(seconds, (str, bool)) else ValueError, match="seconds must be"):
        await server.drain(seconds)
    assert server.sockets


# drain ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast_timers")
async def test_drain_spreads_the_closes_evenly(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    loop = asyncio.get_running_loop()
    raws = [await connect(server) for _ in range(5)]
    times: list[tuple[int, float]] = []

    async def wait_for_close(number: int) -> None:
        assert await told(raws[number]) == (1012, "server shutting down")
        times.append((number, loop.time() - begun))

    begun = loop.time()
    answers = [asyncio.ensure_future(wait_for_close(number)) for number in range(5)]
    await within(server.drain(1))
    await asyncio.gather(*answers)
    assert [number for number, _ in times] == [0, 1, 2, 3, 4]
    assert all(time > number / 5 - 0.02 for number, time in times)
    assert not server.clients


@pytest.mark.usefixtures("fast_timers")
async def test_drain_ends_early_if_the_clients_leave(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    raws = [await connect(server) for _ in range(3)]
    draining = asyncio.ensure_future(server.drain(6, 4000, "bye"))
    assert await told(raws[0]) == (4000, "bye")
    await raws[1].send(text("goes on") + frame(CLOSE, close_payload(1000)))
    assert (await raws[1].read_frame())[1] == b"goes on"
    assert await raws[1].read_frame() == (CLOSE, close_payload(1000))
    assert await told(raws[2]) == (4000, "bye")
    await within(draining)


async def test_drain_without_clients_ends_at_once(serve: Serve) -> None:
    server = await serve(echo)
    await within(server.drain(3600))
    assert not server.sockets
    await server.drain(3600)
    await server.close()


async def test_drain_over_no_time_closes_all_at_once(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raws = [await connect(server) for _ in range(3)]
    draining = asyncio.ensure_future(server.drain(0))
    assert [await told(raw) for raw in raws] == [(1012, "server shutting down")] * 3
    await within(draining)


async def test_drain_answers_handshakes_with_503(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    address = address_of(server)
    raws = [await connect(server), await connect(server)]
    begun = await connect(server, upgrade=False)  # its request is not complete
    await begun.send(request()[:20])
    await until(lambda: len(server._serving.connections) == 3)
    waiting = RawClient(socket.create_connection(address))  # in the queue of the system: the loop has not run since
    waiting.sock.setblocking(False)
    draining = asyncio.ensure_future(server.drain(3600))
    assert await told(raws[0]) == (1012, "server shutting down")
    await begun.send(request()[20:])
    await waiting.send(request())
    for raw in (begun, waiting):
        answer = await raw.read_answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert await raw.read_until_eof() == b""
        raw.close()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(address)
    closing = asyncio.ensure_future(server.close(4000))
    assert await told(raws[1]) == (4000, "server shutting down")
    await within(asyncio.gather(draining, closing))


@pytest.mark.parametrize("encrypted", [False, True])
async def test_drain_answers_connections_that_max_handshakes_has_kept_waiting(
    encrypted: bool,
    serve: Serve,
    connect: Connect,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    context = server_context if encrypted else None
    server = await serve(echo, timeouts=PATIENT, limits=Limits(max_handshakes=1), ssl=context)
    silent = await connect(server, upgrade=False)
    await until(lambda: server.stats.handshakes == 1)
    raws = [RawClient(socket.create_connection(address_of(server))) for _ in range(4)]
    draining = asyncio.ensure_future(server.drain(3600))
    await until(lambda: not server.sockets)
    for raw in raws:
        raw.sock.setblocking(False)
        end = TlsClient(raw, client_context) if encrypted else raw
        if isinstance(end, TlsClient):
            await end.shake_hands()
        await end.send(request())
        answer = await end.read_until_eof()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"the server is shutting down; try again later\n")
        raw.close()
    assert server.stats.refused == {503: 4}
    assert caplog.text.count("refused with 503: the server is stopping") == 4
    silent.close()
    await within(draining)


@pytest.mark.usefixtures("fast_timers")
async def test_drain_drops_a_connection_whose_request_is_not_complete_in_time(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    silent = await connect(server, upgrade=False)
    await until(lambda: server._serving.connections)
    await within(server.drain(1))
    assert await silent.read_until_eof() == b""


async def test_drain_ends_when_the_last_handshake_was_answered(serve: Serve, connect: Connect) -> None:
    async def on_request(request: Request) -> Response | None:
        await answering.wait()
        return Response(200, "ok\n") if request.path == "/health" else None

    answering = asyncio.Event()
    server = await serve(echo, request=on_request)
    raws = [await connect(server, upgrade=False) for _ in range(2)]
    await raws[0].send(request(target="/health"))
    await raws[1].send(request(target="/chat"))
    await until(lambda: len(server._serving._tasks) == 2)
    draining = asyncio.ensure_future(server.drain(3600))
    await iterations()
    answering.set()
    assert [(await raw.read_answer()).status for raw in raws] == [200, 503]
    for raw in raws:
        raw.close()
    await within(draining)


async def test_drain_refuses_a_client_in_the_tls_handshake(
    serve: Serve, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await serve(echo, ssl=server_context)
    url = url_of(server, scheme="wss")
    sock = socket.create_connection(address_of(server))
    draining = asyncio.ensure_future(server.drain(3600))
    await until(lambda: not server.sockets)
    with pytest.raises(HandshakeRefused) as error:
        await streamws.connect(url, ssl=client_context, sock=sock, proxy=None)
    sock.close()
    assert (error.value.status, error.value.headers["Retry-After"]) == (503, "5")
    await within(draining)


async def test_close_and_another_drain_join_a_drain(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    raws = [await connect(server) for _ in range(3)]
    drains = [asyncio.ensure_future(server.drain(3600, code)) for code in (4000, 4001)]
    assert await told(raws[0]) == (4000, "server shutting down")
    closing = asyncio.ensure_future(server.close())
    assert [(await told(raw))[0] for raw in raws[1:]] == [1001, 1001]
    await within(asyncio.gather(*drains, closing))


async def test_drain_after_close_only_waits(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    closing = asyncio.ensure_future(server.close())
    draining = asyncio.ensure_future(server.drain(3600))
    assert (await told(raw))[0] == 1001
    await within(asyncio.gather(closing, draining))


async def test_cancelled_drain_drops_everything_at_once(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=PATIENT)
    raws = [await connect(server) for _ in range(3)]
    draining = asyncio.ensure_future(server.drain(3600))
    assert (await raws[0].read_frame())[0] == CLOSE
    draining.cancel()
    assert await cancelled(draining)
    for raw in raws:
        assert await raw.read_until_eof() == b""
    assert not server.sockets


async def test_handler_may_drain_its_server(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        if await client.read_message() == "drain":
            await server.drain(3600)
            drained.set()

    drained = asyncio.Event()
    server = await serve(handler)
    raw = await connect(server)
    await raw.send(text("drain"))
    assert (await told(raw))[0] == 1012
    await within(drained.wait())


async def test_drain_before_the_start_closes_the_server() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)
    await server.drain(1)
    with pytest.raises(UsageError, match="this server was closed: make a new one to listen"):
        await server.start()


def test_drain_works_in_another_thread() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)

    async def serve() -> None:
        async with server:
            started.set()
            await server.serve_forever()

    async def drain() -> tuple[int, str]:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        draining = asyncio.ensure_future(server.drain(3600))
        received = await told(raw)
        raw.close()
        await within(draining)
        return received

    started = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    assert asyncio.run(drain()) == (1012, "server shutting down")
    thread.join(10)
    assert not thread.is_alive()


SIGNAL = """
import asyncio, logging, socket
from streamws import Timeouts, WebSocketServer

async def handler(client):
    async for message in client:
        task = asyncio.create_task(server.drain(3600))

logging.getLogger("streamws").addHandler(logging.NullHandler())
sock = socket.create_server(("127.0.0.1", 0))
server = WebSocketServer(sock=sock, handler=handler, timeouts=Timeouts(close=60))
print(sock.getsockname()[1], flush=True)
server.run()
"""


async def three_clients(program: Program) -> list[RawClient]:
    """Connect to a program that has printed its port."""
    port = int(await program.says(r"\d+"))
    raws = []
    for _ in range(3):
        raw = await RawClient.connect(("127.0.0.1", port))
        await raw.upgrade()
        raws.append(raw)
    return raws


async def test_signal_ends_a_drain() -> None:
    async with script(SIGNAL) as program:
        raws = await three_clients(program)
        await raws[0].send(text("drain"))
        assert (await told(raws[0]))[0] == 1012
        program.process.send_signal(signal.SIGTERM)
        assert [(await told(raw))[0] for raw in raws[1:]] == [1001, 1001]
        for raw in raws:
            raw.close()
        assert (await program.end(), program.stderr) == (0, "")


DRAINING = """
import asyncio, logging, signal, socket
from helpers.fixtures import echo
from streamws import Timeouts, WebSocketServer

async def main():
    async with server:
        await server.serve_forever(signals=[signal.SIGINT, signal.SIGTERM], drain=3600)

logging.getLogger("streamws").addHandler(logging.NullHandler())
sock = socket.create_server(("127.0.0.1", 0))
server = WebSocketServer(sock=sock, handler=echo, timeouts=Timeouts(close=60))
print(sock.getsockname()[1], flush=True)
{serve}
"""


@pytest.mark.parametrize("serve", ["server.run(drain=3600)", "asyncio.run(main())"])
async def test_first_signal_drains_second_closes_and_third_drops(serve: str) -> None:
    async with script(DRAINING.format(serve=serve)) as program:
        raws = await three_clients(program)
        program.process.send_signal(signal.SIGTERM)
        assert (await told(raws[0]))[0] == 1012
        program.process.send_signal(signal.SIGINT)
        for raw in raws[1:]:
            assert await raw.read_frame() == (CLOSE, b"\x03\xe9server shutting down")
        program.process.send_signal(signal.SIGTERM)
        for raw in raws[1:]:
            assert await raw.read_until_eof() == b""
        for raw in raws:
            raw.close()
        assert (await program.end(), program.stderr) == (0, "")


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "1", True])
async def test_time_of_a_drain_at_a_signal_is_checked(seconds: Any) -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)
    kind = TypeError if isinstance(seconds, (str, bool)) else ValueError
    async with server:
        with pytest.raises(kind, match="drain must be"):
            await server.serve_forever(drain=seconds)
    with pytest.raises(kind, match="drain must be"):
        server.run(drain=seconds)


async def test_drain_is_told_to_reconnecting_clients(serve: Serve) -> None:
    server = await serve(echo)
    async with streamws.connect(url_of(server), proxy=None) as client:
        draining = asyncio.ensure_future(server.drain(0))
        with pytest.raises(ConnectionClosedError, match='closed by the peer with 1012 "server shutting down"'):
            await client.read_message()
        await within(draining)
