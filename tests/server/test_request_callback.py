"""Responses of @socket.request callbacks, and connections while a callback runs."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

import pytest

from helpers.fixtures import Connect, Serve, addresses_of, echo
from helpers.frames import TEXT, Answer, request, text
from helpers.leaks import open_sockets
from helpers.peers import RawClient
from helpers.tls import TlsClient
from helpers.waiting import until, within
from streamws import Request, Response, Timeouts
from streamws.server import RequestCallback

FAILED = b"the server failed to handle the request\n"


async def read_refusal(raw: RawClient) -> Answer:
    answer = await raw.read_answer()
    assert await raw.read_until_eof() == b""
    return answer


def pass_on(request: Request) -> None:
    return None


async def pass_on_later(request: Request) -> None:
    await asyncio.sleep(0)


def refuse(request: Request) -> Response:
    return Response(401, f"who are you, {request.target}?\n", {"WWW-Authenticate": "Basic"})


async def refuse_later(request: Request) -> Response:
    await asyncio.sleep(0)
    return refuse(request)


def fail(request: Request) -> Response:
    raise ValueError("a mistake")


async def fail_later(request: Request) -> Response:
    await asyncio.sleep(0)
    raise ValueError("a mistake")


def nonsense(request: Request) -> Response:
    return 404  # type: ignore[return-value]


async def nonsense_later(request: Request) -> Response:
    return "no"  # type: ignore[return-value]


@pytest.mark.parametrize("callback", [pass_on, pass_on_later])
async def test_server_accepts_when_the_callback_returns_none(
    callback: RequestCallback, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo, request=callback))
    await raw.send(text("works"))
    assert await raw.read_frame() == (TEXT, b"works")


@pytest.mark.parametrize("callback", [pass_on, pass_on_later])
async def test_server_checks_the_request_after_the_callback(
    callback: RequestCallback, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo, request=callback), upgrade=False)
    await raw.send(request({"Sec-WebSocket-Version": "8"}))
    assert (await read_refusal(raw)).status == 426


@pytest.mark.parametrize("callback", [refuse, refuse_later])
async def test_server_sends_the_response_of_the_callback(
    callback: RequestCallback, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, request=callback)
    caplog.set_level(logging.DEBUG, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(request(target="/x") + text("never parsed"))
    assert await raw.read_until_eof() == (
        b"HTTP/1.1 401 Unauthorized\r\n"
        b"WWW-Authenticate: Basic\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 17\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"who are you, /x?\n"
    )
    address = "{}:{}".format(*raw.address)
    assert caplog.messages == [f"{address} refused with 401: who are you, /x?"]
    assert caplog.records[0].levelno == logging.INFO


@pytest.mark.parametrize(
    ("response", "level", "line"),
    [
        (Response(399, "text"), logging.DEBUG, "answered with 399 by @socket.request"),
        (Response(400), logging.INFO, "refused with 400: by @socket.request"),
        (Response(503, "line 1\r\nline\x1b[2J 2\n"), logging.INFO, "refused with 503: line 1 line [2J 2"),
        (
            Response(404, b"\xff", content_type="image/png"),
            logging.INFO,
            "refused with 404: the response body is image/png",
        ),
    ],
)
async def test_server_logs_the_reason_of_a_refusal(
    response: Response, level: int, line: str, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, request=lambda request: response)
    caplog.set_level(logging.DEBUG, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(request())
    await raw.read_until_eof()
    address = "{}:{}".format(*raw.address)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, f"{address} {line}")]


@pytest.mark.parametrize("callback", [fail, fail_later, nonsense, nonsense_later])
async def test_server_answers_500_when_the_callback_fails(
    callback: RequestCallback, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await connect(await serve(echo, request=callback), upgrade=False)
    await raw.send(request())
    answer = await read_refusal(raw)
    assert (answer.status, answer.body) == (500, FAILED)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "{}:{}: the @socket.request callback raised".format(*raw.address)
    assert record.exc_info is not None
    mistake = "a mistake" if "fail" in callback.__name__ else "a @socket.request callback must return a Response or"
    assert mistake in str(record.exc_info[1])


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        # as nginx asks
        b"GET /healthz HTTP/1.0\r\nHost: other.example\r\nConnection: close\r\nOrigin: http://a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:8765\r\n\r\n",  # as Kubernetes asks
    ],
)
async def test_server_answers_health_check_before_it_checks_version_host_and_origin(
    head: bytes, serve: Serve, connect: Connect
) -> None:
    asked = []

    def health(request: Request) -> Response | None:
        asked.append((request.version, request.headers.get("Host")))
        return Response(200, "ok\n") if request.path == "/healthz" else None

    server = await serve(echo, request=health, hosts=["example.org"])
    probe = await connect(server, upgrade=False)
    await probe.send(head)
    assert await probe.read_until_eof() == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 3\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"ok\n"
    )
    upgrading = await connect(server, upgrade=False)
    await upgrading.send(request({"Host": None}, version="1.0"))
    answer = await read_refusal(upgrading)
    assert (answer.status, answer.body) == (505, b"HTTP/1.0 is not supported; use HTTP/1.1\n")
    assert asked[1:] == [("1.0", None)]


async def test_server_answers_plain_http_on_the_same_port(serve: Serve, connect: Connect) -> None:
    def health(request: Request) -> Response | None:
        return Response(200, "ok\n") if request.path == "/healthz" else None

    server = await serve(echo, request=health)
    raw = await connect(server)
    for method, body in (("GET", b"ok\n"), ("HEAD", b"")):
        probe = await connect(server, upgrade=False)
        await probe.send(f"{method} /healthz?full HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert await probe.read_until_eof() == (
            b"HTTP/1.1 200 OK\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 3\r\n"
            b"Connection: close\r\n"
            b"\r\n" + body
        )
    await raw.send(text("undisturbed"))
    assert await raw.read_frame() == (TEXT, b"undisturbed")


class Slow:
    """A request callback that waits until the test releases it."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Request) -> None:
        self.called.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_server_serves_others_while_a_callback_is_slow(serve: Serve, connect: Connect) -> None:
    slow = Slow()

    def callback(request: Request) -> Awaitable[None] | None:
        return slow(request) if request.path == "/slow" else None

    server = await serve(echo, request=callback)
    waiting = await connect(server, upgrade=False)
    await waiting.send(request(target="/slow") + text("early"))
    await within(slow.called.wait())
    other = await connect(server)
    await other.send(text("meanwhile"))
    assert await other.read_frame() == (TEXT, b"meanwhile")
    slow.go_on.set()
    assert (await waiting.read_answer()).status == 101
    assert await waiting.read_frame() == (TEXT, b"early")


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset], ids=["close", "reset"])
async def test_server_forgets_a_client_that_left_during_the_callback(
    leave: Callable[[RawClient], None], serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow()
    server = await serve(echo, request=slow)
    raw = await connect(server, upgrade=False)
    await raw.send(request())
    await within(slow.called.wait())
    leave(raw)
    slow.go_on.set()
    other = await connect(server)
    await other.send(text("undisturbed"))
    assert await other.read_frame() == (TEXT, b"undisturbed")
    assert addresses_of(server) == [other.address]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("fast_timers")
async def test_server_answers_408_while_the_callback_runs(serve: Serve, connect: Connect) -> None:
    slow = Slow()
    server = await serve(echo, request=slow, timeouts=Timeouts(open=0.2))
    raw = await connect(server, upgrade=False)
    await raw.send(request() + text("early"))
    assert (await read_refusal(raw)).status == 408
    await within(slow.cancelled.wait())


@pytest.mark.usefixtures("fast_timers")
async def test_server_frees_a_client_that_leaves_after_408(serve: Serve, connect: Connect) -> None:
    """Reading was paused for the callback, and must resume, or the server would not see that the client left."""
    slow = Slow()
    server = await serve(echo, request=slow, timeouts=Timeouts(open=0.2))
    before = open_sockets()
    raw = await connect(server, upgrade=False)
    await raw.send(request())
    assert (await read_refusal(raw)).status == 408
    raw.close()
    await until(lambda: open_sockets() <= before, patience=5)  # Timeouts.close is 10 s


async def test_server_stops_while_a_callback_runs(serve: Serve, connect: Connect) -> None:
    slow = Slow()
    server = await serve(echo, request=slow)
    raw = await connect(server, upgrade=False)
    await raw.send(request())
    await within(slow.called.wait())
    async with asyncio.timeout(5):
        await server.close()
    assert slow.cancelled.is_set()
    assert await raw.read_until_eof() == b""


@pytest.mark.parametrize("encrypted", [False, True])
async def test_connection_that_was_dropped_does_not_open_when_its_callback_returns(
    encrypted: bool,
    serve: Serve,
    connect: Connect,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    slow = Slow()
    server = await serve(echo, request=slow, ssl=server_context if encrypted else None)
    raw = await connect(server, upgrade=False)
    if encrypted:
        tls = TlsClient(raw, client_context)
        await tls.shake_hands()
        await tls.send(request())
    else:
        await raw.send(request())
    await within(slow.called.wait())
    slow.go_on.set()
    server._serving.abort_all()  # the callback returns before the transport reports its end
    await until(lambda: not server._serving.connections)
    assert (server.stats.opened, server.stats.refused, server.stats.failed) == (0, {}, 1)
