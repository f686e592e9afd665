"""`streamws.asgi.uvicorn.Protocol` beyond the specification: uvicorn's options, settings of a subclass, stopping."""

import asyncio
import logging
import pickle
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from uvicorn.protocols.utils import ClientDisconnected

from asgi.applications import ACCEPT, Event, Receive, Recorder, Send, Serve, echo
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, request
from helpers.peers import Peer, open_peer
from helpers.processes import python_environment
from helpers.waiting import cancelled, iterations, until, within
from streamws import Compression, Limits, Timeouts, connect
from streamws.asgi.uvicorn import Protocol

QUIET: Any = {"ws_ping_interval": None}


class Holding:
    """An application that accepts, and then does what a test says."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.leave = asyncio.Event()
        self.receive: Any = None
        self.send: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        self.receive, self.send = receive, send
        self.opened.set()
        await self.leave.wait()


async def cancelled_by_test(task: "asyncio.Task[Any]") -> bool:
    task.cancel()
    return await cancelled(task)


async def refusal(peer: Peer, *changes: Any, **more: Any) -> bytes:
    """Send a request and return the response, after which the connection ends."""
    peer.write(request(*changes, **more))
    response = await within(peer.read_rest())
    await peer.close()
    return response


# Options of uvicorn ---------------------------------------------------------------------------------------------


async def test_reading_pauses_at_ws_max_queue_messages(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, ws_max_queue=3)).port)
    await within(application.opened.wait())
    for number in range(3):
        peer.send(TEXT, b"%d" % number)
        await peer.settle()
    peer.send(TEXT, b"one too many")
    await iterations(10)
    peer.send(PING, b"unseen")
    answer = asyncio.ensure_future(peer.read_frame())
    await iterations(20)
    assert not answer.done()
    assert [(await application.receive())["text"] for _ in range(2)] == ["0", "1"]
    assert await within(answer) == (PONG, b"unseen")
    application.leave.set()
    await peer.close()


@pytest.mark.parametrize("on", [True, False])
async def test_messages_are_compressed_unless_the_option_is_off(serve: Serve, on: bool) -> None:
    served = await serve(echo, ws_per_message_deflate=on)
    async with connect(served.url, compression=True, proxy=None) as client:
        assert (client.compression is not None) is on
        await client.send("compressible " * 1000)
        assert await client.read_message() == "compressible " * 1000


async def test_silent_peer_is_closed_after_ws_ping_timeout(serve: Serve) -> None:
    recorder = Recorder()
    peer = await open_peer((await serve(recorder, ws_ping_interval=0.01, ws_ping_timeout=0.02)).port)
    frames = [await within(peer.read_frame()) for _ in range(2)]
    while frames[-1][0] == PING:
        frames.append(await within(peer.read_frame()))
    assert frames[-1] == (CLOSE, b"\x03\xf3keepalive ping timeout")
    await peer.close()
    await within(recorder.done.wait())
    assert recorder.events[-1] == {
        "type": "websocket.disconnect",
        "code": 1011,
        "reason": "keepalive ping timeout",
    }


async def test_zero_switches_pings_and_their_deadline_off(serve: Serve) -> None:
    served = await serve(echo, ws_ping_interval=0, ws_ping_timeout=0)
    peer = await open_peer(served.port)
    peer.send(TEXT, b"x")
    assert await within(peer.read_frame()) == (TEXT, b"x")
    await peer.close()


async def test_bad_option_is_logged_once_and_requests_get_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    served = await serve(never, ws_max_size=0)
    for _ in range(2):
        assert (await refusal(await served.open())).startswith(b"HTTP/1.1 500 ")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("cannot serve WebSockets with ws_max_size=0, ")
    assert "must be" in errors[0]


async def test_forwarded_address_is_in_scope_and_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    recorder = Recorder()
    served = await serve(recorder, proxy_headers=True, forwarded_allow_ips="127.0.0.1")
    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    peer = await open_peer(served.port, request(forwarded, target="/room?token=x"))
    peer.send_close()
    await within(recorder.done.wait())
    assert (recorder.scope["client"], recorder.scope["scheme"]) == (("203.0.113.7", 0), "wss")
    await peer.close()
    await served.stop()
    lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"]
    assert lines[-3:] == [
        '203.0.113.7:0 - "WebSocket /room?token=x" [accepted]',
        "connection open",
        "connection closed",
    ]


async def test_answers_other_than_101_are_logged_as_uvicorn_logs_them(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/closed":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "websocket.http.response.start", "status": 401})
            await send({"type": "websocket.http.response.body"})

    served = await serve(application)
    peers = [await served.open() for _ in range(2)]
    for peer, path in zip(peers, ("/closed", "/answered"), strict=True):
        peer.write(request(target=path))
        await within(peer.read_rest())
    addresses = ["{}:{}".format(*peer.writer.get_extra_info("sockname")) for peer in peers]
    lines = [record.getMessage() for record in caplog.records]
    assert f'{addresses[0]} - "WebSocket /closed" 403' in lines
    assert f'{addresses[1]} - "WebSocket /answered" 401' in lines
    for peer in peers:
        await peer.close()


# Requests that are refused without the application --------------------------------------------------------------


async def never(scope: Any, receive: Receive, send: Send) -> None:
    raise AssertionError("the application must not be called")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, b"426 Upgrade Required"),
        ({"Sec-WebSocket-Key": "short"}, b"400 Bad Request"),
        ({"Sec-WebSocket-Extensions": "permessage-deflate; ="}, b"400 Bad Request"),
    ],
)
async def test_bad_handshake_is_refused_with_a_reason(serve: Serve, change: dict[str, str], status: bytes) -> None:
    response = await refusal(await (await serve(never)).open(), change)
    assert response.startswith(b"HTTP/1.1 " + status)
    head, _, body = response.partition(b"\r\n\r\n")
    assert body
    assert b"\r\nConnection: " in head


async def test_pages_of_all_origins_may_connect_by_default(serve: Serve) -> None:
    peer = await open_peer((await serve(echo)).port, request({"Origin": "https://elsewhere.example"}))
    peer.send(TEXT, b"x")
    assert await within(peer.read_frame()) == (TEXT, b"x")
    await peer.close()


async def test_long_token_in_the_query_is_accepted(serve: Serve) -> None:
    """Uvicorn has read the head: `Limits.max_request_line` has no effect."""
    peer = await open_peer((await serve(echo)).port, request(target="/?" + "t" * 20_000))
    await peer.close()


# Settings of a subclass -----------------------------------------------------------------------------------------


class Strict(Protocol):
    limits = Limits(max_message_size=100, max_clients=1)
    timeouts = Timeouts(ping_interval=None)
    compression = None
    origins = ("https://example.org",)
    hosts = ("127.0.0.1",)


class Small(Protocol):
    limits = Limits(write_high=1000, write_low=100, read_high=1000, read_low=100)
    timeouts = Timeouts(ping_interval=None)


async def test_settings_of_a_subclass_replace_those_of_uvicorn(serve: Serve) -> None:
    served = await serve(echo, ws=Strict, ws_max_size=10_000, ws_ping_interval=0.001)
    wrong = [({"Origin": "https://evil.example"}, b"403"), ({"Host": "evil.example"}, b"400")]
    for change, status in wrong:
        assert (await refusal(await served.open(), change)).startswith(b"HTTP/1.1 " + status)
    offer = {"Origin": "https://example.org", "Sec-WebSocket-Extensions": "permessage-deflate"}
    peer = await open_peer(served.port, request(offer))
    assert b"extensions" not in peer.head.lower()
    assert (await refusal(await served.open(), {})).startswith(b"HTTP/1.1 503 ")  # max_clients
    peer.send(BINARY, bytes(101))
    code, _ = await within(peer.read_close())
    assert code == 1009
    await peer.close()
    await until(lambda: not served.server.server_state.connections)
    await (await open_peer(served.port)).close()


async def test_compression_of_a_subclass(serve: Serve) -> None:
    class Narrow(Protocol):
        compression = Compression(window_bits=9)

    async with connect((await serve(echo, ws=Narrow)).url, compression=True, proxy=None) as client:
        assert client.compression is not None
        assert client.compression.peer_window_bits == 9


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limits": 1000}, r"Bad\.limits must be a streamws\.Limits or None, not 1000"),
        ({"timeouts": {"close": 5}}, r"Bad\.timeouts must be a streamws\.Timeouts or None"),
        ({"compression": "yes"}, r"Bad: compression must be True, False or a Compression, not 'yes'"),
        ({"origins": "https://example.org"}, r"Bad: origins must be \"\*\" or a list"),
        ({"origins": ["example.org"]}, r"Bad: 'example\.org' in origins must be like"),
        ({"hosts": []}, r"Bad: hosts must be a list"),
    ],
)
def test_bad_setting_is_refused_when_the_class_is_created(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        type("Bad", (Protocol,), settings)


def test_classes_can_be_pickled_for_the_workers_of_uvicorn() -> None:
    assert pickle.loads(pickle.dumps([Protocol, Strict])) == [Protocol, Strict]


# Receiving ------------------------------------------------------------------------------------------------------


async def test_cancelled_receive_loses_no_message(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, **QUIET)).port)
    await within(application.opened.wait())
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(application.receive(), 0.001)
    waiting = asyncio.create_task(application.receive())
    await iterations(1)
    waiting.cancel()
    peer.send(TEXT, b"kept")
    assert (await within(application.receive()))["text"] == "kept"
    application.leave.set()
    await peer.close()


async def test_tasks_that_receive_at_the_same_time_get_messages_in_turn(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, **QUIET)).port)
    await within(application.opened.wait())
    tasks = [asyncio.create_task(application.receive()) for _ in range(4)]
    await iterations(1)
    tasks[1].cancel()
    for number in range(3):
        peer.send(TEXT, b"%d" % number)
    events = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert [event["text"] if isinstance(event, dict) else type(event) for event in events] == [
        "0",
        asyncio.CancelledError,
        "1",
        "2",
    ]
    # A task that receives again and again waits behind the other one.
    heard: list[tuple[str, str]] = []

    async def listen(name: str) -> None:
        while (event := await application.receive())["text"] != "end":
            heard.append((name, event["text"]))

    listeners = [asyncio.create_task(listen(name)) for name in ("a", "b")]
    await iterations(1)
    for number in range(4):
        peer.send(TEXT, b"%d" % number)
        await until(lambda: len(heard) > number)  # noqa: B023
    assert heard == [("a", "0"), ("b", "1"), ("a", "2"), ("b", "3")]
    for _ in listeners:
        peer.send(TEXT, b"end")
    await within(asyncio.gather(*listeners))
    # A task that waits in line goes on when the one before it is cancelled.
    first, second = (asyncio.create_task(application.receive()) for _ in range(2))
    await iterations(1)
    first.cancel()
    peer.send(TEXT, b"3")
    assert (await within(second))["text"] == "3"
    application.leave.set()
    await peer.close()


async def test_receive_after_the_disconnect_waits(serve: Serve) -> None:
    """As with uvicorn's own classes: a second listener must not end the application."""
    application = Holding()
    peer = await open_peer((await serve(application, **QUIET)).port)
    await within(application.opened.wait())
    peer.send_close()
    assert (await within(application.receive()))["type"] == "websocket.disconnect"
    again = asyncio.ensure_future(application.receive())
    await iterations(5)
    assert not again.done()
    again.cancel()
    application.leave.set()
    await peer.close()


async def test_client_that_leaves_before_the_accept_is_told_to_the_application(serve: Serve) -> None:
    events: list[Event] = []
    raised: list[type[BaseException]] = []
    connected = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        events.append(await receive())
        connected.set()
        events.append(await receive())
        try:
            await send(ACCEPT)
        except OSError as error:
            raised.append(type(error))

    served = await serve(application)
    peer = await served.open()
    peer.write(request())
    await within(connected.wait())
    await peer.close()
    await until(lambda: raised)
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    assert raised == [ClientDisconnected]


async def test_receive_that_is_cancelled_before_the_accept_leaves_nothing_behind(serve: Serve) -> None:
    connected = asyncio.Event()
    application = Holding()

    async def unanswered(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        application.receive = receive
        connected.set()
        await application.leave.wait()

    served = await serve(unanswered)
    peer = await served.open()
    peer.write(request())
    await within(connected.wait())
    for _ in range(3):
        waiting = asyncio.create_task(application.receive())
        await iterations(1)
        assert await cancelled_by_test(waiting)
    (protocol,) = served.server.server_state.connections
    assert isinstance(protocol, Protocol)
    assert protocol._waiting == []
    application.leave.set()
    await peer.close()


async def test_application_in_anyio_task_groups_and_cancel_scopes(serve: Serve) -> None:
    async def application(scope: Any, receive: Receive, send: Send) -> None:
        with anyio.fail_after(5):
            await receive()
            await send(ACCEPT)
        async with anyio.create_task_group() as group:

            async def answer(event: Event) -> None:
                await send({**event, "type": "websocket.send"})

            async def listen() -> None:
                while True:
                    with anyio.move_on_after(0.005) as scope:
                        event = await receive()
                    if scope.cancelled_caught:
                        continue
                    if event["type"] == "websocket.disconnect":
                        group.cancel_scope.cancel()
                        return
                    group.start_soon(answer, event)

            group.start_soon(listen)

    async with connect((await serve(application, **QUIET)).url, proxy=None) as client:
        for number in range(20):
            await client.send(f"{number}")
            assert await within(client.read_message()) == f"{number}"
            if number % 5 == 0:
                await asyncio.sleep(0.01)  # longer than the application waits at a time


class Unanswered:
    """An application that receives, and answers when a test says so."""

    def __init__(self, answer: Event) -> None:
        self.answer = answer
        self.connected = asyncio.Event()
        self.go_on = asyncio.Event()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.raised: list[type[BaseException]] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        self.connected.set()
        receiving = asyncio.ensure_future(receive())
        receiving.add_done_callback(lambda task: self.events.put_nowait(task.result()))
        await self.go_on.wait()
        try:
            await send(self.answer)
        except OSError as error:
            self.raised.append(type(error))
            raise
        finally:
            await asyncio.wait([receiving])


DISCONNECT: Event = {"type": "websocket.disconnect", "code": 1006}


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_end_of_a_client_that_sent_too_early_is_told_to_the_application(serve: Serve, how: str) -> None:
    application = Unanswered(ACCEPT)
    peer = await (await serve(application)).open()
    peer.write(request())
    await within(application.connected.wait())
    for _ in range(2):
        peer.send(PING, b"early")
        await iterations()
    if how == "RST":
        peer.reset()
    await peer.close()
    assert await within(application.events.get()) == DISCONNECT
    application.go_on.set()
    await until(lambda: application.raised == [ClientDisconnected])


@pytest.mark.parametrize("size", [65536, 65537])
async def test_client_may_send_64_kib_before_the_accept(serve: Serve, size: int) -> None:
    application = Unanswered(ACCEPT)
    served = await serve(application)
    peer = await served.open()
    peer.write(request())
    await within(application.connected.wait())
    early = peer.frame(BINARY, bytes(size - 8))
    assert len(early) == size
    peer.write(early)
    if size > 65536:
        assert await within(application.events.get()) == DISCONNECT
        response = await within(peer.read_rest())
        assert response.startswith(b"HTTP/1.1 400 ")
        assert response.endswith(b"the client sent more than 65536 bytes before it was accepted\n")
        application.go_on.set()
        await until(lambda: application.raised == [ClientDisconnected])
    else:
        (protocol,) = served.server.server_state.connections
        assert isinstance(protocol, Protocol)
        await until(lambda: len(protocol._early) == size)
        application.go_on.set()
        assert (await within(peer.read_head())).startswith(b"HTTP/1.1 101 ")
        assert len((await within(application.events.get()))["bytes"]) == size - 8
    await peer.close()


async def test_refusal_reaches_a_client_that_goes_on_sending(serve: Serve) -> None:
    application = Unanswered({"type": "websocket.close"})
    peer = await (await serve(application)).open()
    peer.write(request())
    await within(application.connected.wait())
    for _ in range(2):
        peer.send(BINARY, b"early")
        await iterations()
    application.go_on.set()
    assert await within(application.events.get()) == DISCONNECT
    for _ in range(20):  # without a reset
        peer.send(BINARY, bytes(100_000))
        await within(peer.writer.drain())
    response = await within(peer.reader.read())
    assert response.startswith(b"HTTP/1.1 403 ")
    await peer.close()


class Impatient(Protocol):
    timeouts = Timeouts(close=0.01, ping_interval=None)


async def test_refused_client_that_does_not_close_is_dropped_after_the_deadline(serve: Serve) -> None:
    application = Unanswered({"type": "websocket.close"})
    served = await serve(application, ws=Impatient)
    peer = await served.open()
    peer.write(request())
    application.go_on.set()
    assert (await within(peer.read_rest())).startswith(b"HTTP/1.1 403 ")
    await until(lambda: not served.server.server_state.connections)
    await peer.close()


# Back-pressure --------------------------------------------------------------------------------------------------


async def test_send_waits_while_the_client_reads_nothing(serve: Serve) -> None:
    application = Holding()
    served = await serve(application, ws=Small)
    peer = await open_peer(served.port, small_buffers=True)
    await within(application.opened.wait())
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(200):
            await application.send({"type": "websocket.send", "bytes": number.to_bytes(4, "big") * 10_000})
            sent += 1

    sending = asyncio.create_task(send_all())
    await until(lambda: sent)
    before = -1
    while before != sent:
        before = sent
        await iterations(50)
    assert 0 < sent < 200
    for number in range(200):
        assert await within(peer.read_frame()) == (BINARY, number.to_bytes(4, "big") * 10_000)
    await within(sending)
    application.leave.set()
    await peer.close()


async def test_send_that_waits_raises_os_error_when_the_client_is_lost(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, ws=Small)).port, small_buffers=True)
    await within(application.opened.wait())

    async def send_all() -> None:
        while True:
            await application.send({"type": "websocket.send", "bytes": bytes(100_000)})

    sending = asyncio.create_task(send_all())
    await iterations(20)
    assert not sending.done()
    peer.reset()
    with pytest.raises(ClientDisconnected):
        await within(sending)
    application.leave.set()
    await peer.close()


@pytest.mark.parametrize("answer", ["accept", "response"])
async def test_answer_waits_until_the_response_to_an_earlier_request_is_read(serve: Serve, answer: str) -> None:
    """The transport has told uvicorn's protocol, not ours, that writing is paused."""
    size = 8_000_000
    connected = asyncio.Event()
    answered = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            fields = [(b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": bytes(size)})
            return
        await receive()
        connected.set()
        if answer == "accept":
            await send(ACCEPT)
        else:
            await send({"type": "websocket.http.response.start", "status": 401})
            await send({"type": "websocket.http.response.body"})
        answered.set()

    served = await serve(application)
    peer = await served.open()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: served.server.server_state.total_requests == 1 and not served.server.server_state.tasks)
    peer.write(request())
    await within(connected.wait())
    await iterations(10)
    assert not answered.is_set()
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await within(peer.read_head())
    await within(peer.reader.readexactly(size))
    status = b"101" if answer == "accept" else b"401"
    assert (await within(peer.read_head())).startswith(b"HTTP/1.1 " + status)
    await within(answered.wait())
    await peer.close()


async def test_cancelled_send_of_a_response_breaks_neither_the_next_one_nor_the_disconnect(serve: Serve) -> None:
    started = asyncio.Event()
    application = Holding()
    part: Event = {"type": "websocket.http.response.body", "body": bytes(20_000_000), "more_body": True}

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send(part)
        application.receive, application.send = receive, send
        started.set()
        await application.leave.wait()

    peer = await (await serve(refusing)).open()
    peer.write(request())
    await within(started.wait())
    first, second = (asyncio.create_task(application.send(part)) for _ in range(2))
    receiving = asyncio.create_task(application.receive())
    await iterations()
    assert await cancelled_by_test(first)
    await iterations()
    assert not second.done()
    peer.reset()
    with pytest.raises(ClientDisconnected):
        await within(second)
    assert await within(receiving) == {"type": "websocket.disconnect", "code": 1006}
    application.leave.set()
    await peer.close()


async def test_close_does_not_wait_for_a_client_that_reads_nothing(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, ws=Small)).port, small_buffers=True)
    await within(application.opened.wait())
    sending = asyncio.create_task(application.send({"type": "websocket.send", "bytes": bytes(20_000_000)}))
    await iterations(10)
    assert not sending.done()
    await within(application.send({"type": "websocket.close", "code": 1013}))
    assert (await within(peer.read_frame()))[0] == BINARY
    assert await within(peer.read_close()) == (1013, "")
    await within(asyncio.wait([sending]))
    application.leave.set()
    await peer.close()
    assert sending.exception() is None or isinstance(sending.exception(), ClientDisconnected)


async def test_reading_pauses_while_the_application_does_not_receive(serve: Serve) -> None:
    application = Holding()
    peer = await open_peer((await serve(application, ws=Small, ws_max_queue=None)).port, small_buffers=True)
    await within(application.opened.wait())
    for _ in range(400):
        peer.send(BINARY, bytes(10_000))
    draining = asyncio.ensure_future(peer.writer.drain())
    await iterations(50)
    assert not draining.done()
    for _ in range(400):
        assert len((await within(application.receive()))["bytes"]) == 10_000
    await within(draining)
    application.leave.set()
    await peer.close()


# Stopping -------------------------------------------------------------------------------------------------------


async def test_open_connections_are_closed_with_1012_at_the_stop(serve: Serve) -> None:
    recorder = Recorder()
    served = await serve(recorder)
    peer = await open_peer(served.port)
    stopping = asyncio.ensure_future(served.stop())
    assert await within(peer.read_close()) == (1012, "")
    await within(recorder.done.wait())
    assert recorder.events[-1] == {"type": "websocket.disconnect", "code": 1012}
    peer.send_close(1012)
    await peer.read_end()
    await within(stopping)
    await peer.close()


async def test_opening_handshake_gets_503_at_the_stop(serve: Serve) -> None:
    connected = asyncio.Event()
    events: list[Event] = []

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        connected.set()
        events.append(await receive())

    served = await serve(application)
    peer = await served.open()
    peer.write(request())
    await within(connected.wait())
    await served.stop()
    assert (await within(peer.read_rest())).startswith(b"HTTP/1.1 503 ")
    assert events == [{"type": "websocket.disconnect", "code": 1006}]
    await peer.close()


@pytest.mark.parametrize("answer", [ACCEPT, {"type": "websocket.close"}])
async def test_answer_after_the_stop_raises_client_disconnected_which_is_not_logged(
    serve: Serve, answer: Event, caplog: pytest.LogCaptureFixture
) -> None:
    application = Unanswered(answer)
    served = await serve(application)
    peer = await served.open()
    peer.write(request())
    await within(application.connected.wait())
    stopping = asyncio.ensure_future(served.stop())
    assert await within(application.events.get()) == DISCONNECT
    application.go_on.set()
    assert (await within(peer.read_rest())).startswith(b"HTTP/1.1 503 ")
    await peer.close()
    await within(stopping)
    assert application.raised == [ClientDisconnected]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_response_is_cut_off_at_the_stop(serve: Serve) -> None:
    part: Event = {"type": "websocket.http.response.body", "body": b"part", "more_body": True}
    started = asyncio.Event()
    raised: list[type[BaseException]] = []
    application = Holding()

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send(part)
        started.set()
        await application.leave.wait()
        try:
            await send(part)
        except OSError as error:
            raised.append(type(error))

    served = await serve(refusing)
    peer = await served.open()
    peer.write(request())
    await within(started.wait())
    stopping = asyncio.ensure_future(served.stop())
    assert (await within(peer.read_rest())).endswith(b"part\r\n")
    application.leave.set()
    await within(stopping)
    assert raised == [ClientDisconnected]
    await peer.close()


async def test_application_that_ignores_the_stop_is_cancelled_after_timeout_graceful_shutdown(serve: Serve) -> None:
    cancelled = asyncio.Event()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    served = await serve(application, timeout_graceful_shutdown=0.01)
    peer = await open_peer(served.port)
    await within(served.server.shutdown())
    await within(cancelled.wait())
    assert await within(peer.read_rest()) == b"\x88\x02\x03\xf4"  # 1012, although the client did not answer
    await peer.close()


# Loops, Python --------------------------------------------------------------------------------------------------


if sys.version_info >= (3, 12):

    def start_eagerly(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(coroutine, loop=loop, **options | {"eager_start": True})

    async def test_application_in_an_eager_task(serve: Serve) -> None:
        """The application accepts while uvicorn still calls `data_received`, before it calls `set_protocol`."""
        loop = asyncio.get_running_loop()
        served = await serve(echo)
        loop.set_task_factory(start_eagerly)
        try:
            peer = await open_peer(served.port)
            for number in range(3):
                peer.send(TEXT, b"%d" % number)
                assert await within(peer.read_frame()) == (TEXT, b"%d" % number)
            peer.send_close()
            assert await within(peer.read_close()) == (1000, "")
            await peer.close()
        finally:
            loop.set_task_factory(None)

    async def test_send_of_an_eager_task_waits_while_the_client_reads_nothing(serve: Serve) -> None:
        sent = 0

        async def application(scope: Any, receive: Receive, send: Send) -> None:
            nonlocal sent
            await receive()
            await send(ACCEPT)
            for _ in range(20):
                await send({"type": "websocket.send", "bytes": bytes(4_000_000)})
                sent += 1

        loop = asyncio.get_running_loop()
        served = await serve(application)
        loop.set_task_factory(start_eagerly)
        try:
            peer = await open_peer(served.port, small_buffers=True)
            await iterations(20)
            assert sent < 20
            peer.reset()
            await peer.close()
        finally:
            loop.set_task_factory(None)


async def test_large_messages_over_tls(
    serve: Serve, certificate: tuple[Path, Path], client_context: ssl.SSLContext
) -> None:
    served = await serve(echo, ssl_certfile=certificate[0], ssl_keyfile=certificate[1], ws_ping_interval=0.01)
    url = f"wss://127.0.0.1:{served.port}"
    message = bytes(range(256)) * 4096
    async with connect(url, ssl=client_context, limits=Limits(max_message_size=1 << 22), proxy=None) as client:
        for _ in range(3):
            await client.send(message)
            assert await within(client.read_message()) == message
        await asyncio.sleep(0.03)  # some pings
        await client.send("still open")
        assert await within(client.read_message()) == "still open"


@pytest.mark.parametrize(
    ("missing", "said"),
    [(["uvicorn"], "streamws.asgi.uvicorn needs uvicorn: pip install 'streamws[uvicorn]'"), ([], "")],
)
def test_module_without_its_extra_says_what_to_install(missing: Sequence[str], said: str) -> None:
    program = f"""
import sys
for name in {list(missing)!r}:
    sys.modules[name] = None
import streamws.asgi
from streamws import MissingExtra
try:
    import streamws.asgi.uvicorn
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=python_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said
