"""Log records about connections have additional attributes, and show no secrets."""

import asyncio
import logging
import ssl
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, address_of, url_of
from helpers.frames import request as request_head
from helpers.peers import hardy, open_peer, scripted
from helpers.waiting import until
from streamws import Backoff, Client, Limits, ReconnectError, Request, Response, Timeouts, connect

STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamws")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def logged(caplog: pytest.LogCaptureFixture, text: str) -> dict[str, Any]:
    """Return the fields of the one record whose message contains the text."""
    [record] = [record for record in caplog.records if record.name == "streamws" and text in record.getMessage()]
    return fields(record)


async def hold(client: Client) -> None:
    await client.wait_closed()


async def test_server_logs_each_connection_with_fields(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(client: Client) -> None:
        await client.send(await client.read_message())
        raise ValueError("an error of the handler")

    socket = await serve(handler)
    peer = await open_peer(socket.port, request_head(target="/chat?token=secret"))
    remote = "{}:{}".format(*peer.writer.get_extra_info("sockname"))
    [client] = socket.clients.values()
    peer.send(0x81, b"hello")
    await peer.read_rest()
    await peer.close()
    await until(lambda: not socket.clients)
    known = {"role": "server", "remote": remote, "client_id": client.id, "path": "/chat"}
    assert logged(caplog, "opened /chat") == known
    [raised] = [record for record in caplog.records if record.getMessage() == f"{remote}: the handler raised"]
    assert fields(raised) == known
    ended = logged(caplog, f"{remote}: closed by")
    stats = client.stats
    assert ended == known | {
        "outcome": str(client.outcome),
        "cause": "handler error",
        "code": 1011,
        "initiator": "local",
        "duration": stats.duration,
        "messages_received": 1,
        "messages_sent": 1,
        "bytes_received": stats.bytes_received,
        "bytes_sent": stats.bytes_sent,
    }


async def test_log_shows_ipv6_addresses_in_brackets(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    socket = await serve(hold, trusted_proxies=["127.0.0.1"])
    headers = {"Forwarded": 'for="[2001:db8::7]:4711"'}
    async with connect(url_of(socket), headers=headers, proxy=None):
        assert logged(caplog, "[2001:db8::7]:4711 opened /")["remote"] == "[2001:db8::7]:4711"


async def test_client_logs_each_connection_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(hardy) as server, connect(server.url + "/chat?token=secret", proxy=None) as client:
        pass
    known = {"role": "client", "remote": f"127.0.0.1:{server.port}", "client_id": client.id, "path": "/chat"}
    assert logged(caplog, "connected to") == known
    ended = logged(caplog, "connection to")
    assert ended.items() >= (known | {"cause": "clean", "code": 1000, "initiator": "local"}).items()


async def test_client_logs_why_it_reconnects_with_fields(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    socket = await serve(hold, hosts=["example.org"])
    backoff = Backoff(first=0.001, max_attempts=2)
    with pytest.raises(ReconnectError):
        async for _ in connect(url_of(socket, "/?token=secret"), proxy=None, backoff=backoff, retry=lambda _: True):
            pass
    found = logged(caplog, "reconnecting in")
    assert found["role"] == "client"
    assert found["delay"] > 0
    assert "400" in found["reason"]


async def test_server_logs_refusals_with_fields(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: Request) -> Response | None:
        if request.path == "/error":
            raise ValueError("an error of the callback")
        return Response(200) if request.path == "/healthz" else None

    socket = await serve(hold, request=answer, hosts=["example.org"])
    remotes = []
    for head in (
        request_head(target="/chat?token=secret"),
        request_head(target="/healthz?token=secret"),
        request_head(target="/error?token=secret"),
        b"GET /chat?token=secret\r\n\r\n",
        b"GET /ch\xc3\xa4t?token=secret HTTP/1.1 \r\n\r\n",
    ):
        raw = await connect(socket, upgrade=False)
        remotes.append("{}:{}".format(*raw.address))
        await raw.send(head)
        await raw.read_until_eof()
        raw.close()
    unknown, health, error, short, malformed = ({"role": "server", "remote": remote} for remote in remotes)
    refused = logged(caplog, f"{remotes[0]} refused")
    assert refused.items() >= (unknown | {"path": "/chat", "status": 400}).items()
    assert refused["reason"].startswith("Host ")
    assert logged(caplog, "answered with") == health | {
        "path": "/healthz",
        "status": 200,
        "reason": "answered by @socket.request",
    }
    assert logged(caplog, f"{remotes[2]}: the @socket.request callback raised") == error | {"path": "/error"}
    assert logged(caplog, f"{remotes[3]} refused").items() >= (short | {"status": 400}).items()
    assert logged(caplog, f"{remotes[4]} refused").items() >= (malformed | {"status": 400}).items()


async def test_server_logs_a_failed_tls_handshake_with_fields(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, server_context: ssl.SSLContext
) -> None:
    socket = await serve(hold, ssl=server_context)
    raw = await connect(socket, upgrade=False)
    await raw.send(b"GET / HTTP/1.1\r\n\r\n")
    await raw.read_until_eof()
    found = logged(caplog, "TLS handshake failed")
    assert found == {"role": "server", "remote": "{}:{}".format(*raw.address), "reason": found["reason"]}
    assert found["reason"]


async def test_server_logs_handshakes_over_the_limit_of_an_address_with_fields(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, server_context: ssl.SSLContext
) -> None:
    socket = await serve(hold, ssl=server_context, limits=Limits(max_handshakes_per_address=1))
    silent = await connect(socket, upgrade=False)
    await until(lambda: socket.stats.handshakes == 1)
    raw = await connect(socket, upgrade=False)
    await until(lambda: socket.stats.failed == 1)
    assert logged(caplog, "refused") == {
        "role": "server",
        "remote": "{}:{}".format(*raw.address),
        "reason": "too many opening handshakes of this address (Limits.max_handshakes_per_address)",
    }
    silent.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_request_whose_callback_is_too_slow_is_known_to_the_refusal(
    method: str, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def authenticate(request: Request) -> None:
        await asyncio.sleep(60)

    socket = await serve(hold, request=authenticate, timeouts=Timeouts(open=0.05))
    raw = await connect(socket, upgrade=False)
    await raw.send(request_head(target="/chat?token=secret").replace(b"GET", method.encode(), 1))
    answer = await raw.read_until_eof()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"\r\n\r\n") == (method == "HEAD")
    assert logged(caplog, "refused with 408")["path"] == "/chat"


async def test_server_logs_errors_and_discarded_data_with_fields(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def register(client: Client) -> None:
        if client.request.path == "/callback":

            @client.ping
            def on_ping(payload: bytes) -> None:
                raise ValueError("an error of the callback")

    socket = await serve(connection=register)
    unread = await open_peer(socket.port, request_head(target="/unread?token=secret"))
    unread.send(0x81, b"nobody reads this")
    await unread.settle()
    failing = await open_peer(socket.port, request_head(target="/callback?token=secret"))
    failing.send(0x89, b"ping")
    await failing.read_rest()
    first, second = socket.clients.values()
    for peer in (unread, failing):
        await peer.close()
    await until(lambda: not socket.clients)
    base = {"role": "server"}
    assert logged(caplog, "on_ping raised an exception") == base | {
        "remote": f"{second.addr}:{second.port}",
        "client_id": second.id,
        "path": "/callback",
    }
    gone = base | {"remote": f"{first.addr}:{first.port}", "client_id": first.id, "path": "/unread"}
    assert logged(caplog, "unread bytes: nothing reads this connection") == gone


@pytest.fixture(autouse=True)
def no_secrets(caplog: pytest.LogCaptureFixture) -> Any:
    """Whatever is logged, it shows no query."""
    yield
    shown = [record for record in caplog.records if "secret" in record.getMessage() + repr(fields(record))]
    assert shown == []


async def test_url_with_a_password_and_a_token_is_not_logged(serve: Serve) -> None:
    socket = await serve(hold, hosts=["127.0.0.1"])
    host, port = address_of(socket)
    async with connect(f"ws://ann:secret@{host}:{port}/chat?token=secret", proxy=None):
        pass
    retrying = connect(
        f"ws://ann:secret@localhost:{port}/chat?token=secret",
        proxy=None,
        backoff=Backoff(first=0.001, max_attempts=2),
        retry=lambda _: True,
    )
    with pytest.raises(ReconnectError):
        async for _ in retrying:
            pass
