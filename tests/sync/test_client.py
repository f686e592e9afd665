"""The blocking client: messages, ends of connections, errors, options."""

import asyncio
import gc
import logging
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
import websockets.sync.server
from websockets.sync.client import ClientConnection

from helpers.elsewhere import Elsewhere
from helpers.fixtures import url_of
from helpers.frames import PING, TEXT, answer, frame
from helpers.peers import Peer, answering, silent
from helpers.processes import free_port
from helpers.threads import Background, until
from helpers.waiting import PATIENCE
from streamws import (
    Cause,
    Client,
    CloseCode,
    ConcurrencyError,
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectTimeout,
    DecodeError,
    EncodeError,
    HandshakeRefused,
    IncompleteMessage,
    InvalidHandshake,
    InvalidHeader,
    InvalidURL,
    Limits,
    Observer,
    Request,
    Response,
    Side,
    State,
    Timeouts,
    UsageError,
)
from streamws.hints import SYNC_HINTS
from streamws.messages import Json
from streamws.sync import Client as Blocking
from streamws.sync import connect, loop_thread

# Messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "text", "received"),
    [
        ("plain", False, "plain"),
        ("grün 中 \N{GRINNING FACE}", False, "grün 中 \N{GRINNING FACE}"),
        ("", False, ""),
        (b"\x00\xff", False, b"\x00\xff"),
        (bytearray(b"mutable"), False, b"mutable"),
        (memoryview(b"abcdef")[::2], False, b"ace"),
        ("grün".encode(), True, "grün"),
        (bytearray(b"text"), True, "text"),
    ],
)
@pytest.mark.parametrize("compression", [False, True])
def test_message_is_sent_and_received(
    elsewhere: Elsewhere, sent: Any, text: bool, received: str | bytes, compression: bool
) -> None:
    with connect(elsewhere.url(compression=compression), compression=compression) as ws:
        assert (ws.compression is not None) is compression
        ws.send(sent, text=text)
        assert ws.read_message() == received
        ws.send(sent, compress=True, text=text)
        assert ws.read_message() == received


def test_buffer_may_be_changed_after_it_was_sent(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        data = bytearray(b"first")
        ws.send(data)
        data[:] = b"other"
        assert ws.read_message() == b"first"


@pytest.mark.parametrize(
    ("data", "text", "error"),
    [
        (5, False, TypeError),
        (None, True, TypeError),
        ("\ud800", False, UnicodeEncodeError),
        (b"\xff", True, ValueError),
    ],
)
def test_message_that_cannot_be_sent_raises_and_harms_nothing(
    elsewhere: Elsewhere, data: Any, text: bool, error: type[Exception]
) -> None:
    with connect(elsewhere.url()) as ws:
        with pytest.raises(error):
            ws.send(data, text=text)
        ws.send("next")
        assert ws.read_message() == "next"


def test_large_message_passes_small_buffers(elsewhere: Elsewhere) -> None:
    data = bytes(range(256)) * 8192
    limits = Limits(max_message_size=1 << 22, read_high=1000, read_low=500, write_high=1000, write_low=500)
    with connect(elsewhere.url(limits=Limits(max_message_size=1 << 22)), limits=limits) as ws:
        for _ in range(3):
            ws.send(data)
            assert ws.read_message() == data


def test_many_messages_in_flight_keep_their_order(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        for number in range(2000):
            ws.send(str(number))
        assert [ws.read_message() for _ in range(2000)] == [str(number) for number in range(2000)]


def test_messages_sent_before_the_first_read_are_received(elsewhere: Elsewhere) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=frame(TEXT, b"with the response"))
        await peer.close_after_client()

    with connect(elsewhere.script(script)) as ws:
        assert ws.read_message() == "with the response"


# Waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_timeout_loses_nothing(elsewhere: Elsewhere, timeout: float) -> None:
    with connect(elsewhere.url()) as ws:
        with pytest.raises(TimeoutError, match=f"no message within {timeout} s"):
            ws.read_message(timeout)
        ws.send("later")
        while True:
            try:
                message = ws.read_message(timeout)
            except TimeoutError:
                continue
            break
        assert message == "later"


def test_message_arrives_within_the_timeout(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        ws.send("in time")
        assert ws.read_message(PATIENCE) == "in time"
        ws.send("in time")
        assert ws.read_message(float("inf")) == "in time"


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)])
def test_bad_timeout_raises(elsewhere: Elsewhere, timeout: Any, error: type[Exception]) -> None:
    with connect(elsewhere.url()) as ws:
        for call in (ws.read_message, ws.typed(Json(int)).read_message):
            with pytest.raises(error, match="timeout must be"):
                call(timeout)
        with pytest.raises(error, match="timeout must be"):
            ws.ping(timeout=timeout)


def test_ping_returns_the_round_trip_time(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        assert ws.latency is None
        latency = ws.ping(b"payload", timeout=PATIENCE)
        assert 0 < latency == ws.latency
        assert ws.ping(timeout=float("inf")) > 0
        with pytest.raises(ValueError, match="125"):
            ws.ping(bytes(126))


def test_ping_without_pong_times_out_and_leaves_the_connection_open(elsewhere: Elsewhere) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        assert (await peer.read_frame())[0] == PING
        assert await peer.read_frame() == (TEXT, b"still open")
        await peer.close_after_client()

    with connect(elsewhere.script(script)) as ws:
        with pytest.raises(TimeoutError, match=r"no pong within 0\.01 s"):
            ws.ping(timeout=0.01)
        ws.send("still open")


def test_pings_are_answered_while_nothing_reads(elsewhere: Elsewhere) -> None:
    latencies: list[float] = []

    async def handler(client: Client) -> None:
        latencies.append(await client.writer.ping())
        await client.send("unread")
        latencies.append(await client.writer.ping())

    with connect(elsewhere.url(handler)):
        until(lambda: len(latencies) == 2)


# The end --------------------------------------------------------------------------------------------------------


def closing_with(code: int) -> Callable[[Client], Any]:
    async def handler(client: Client) -> None:
        await client.send("last")
        await client.close(code, "reason")

    return handler


@pytest.mark.parametrize("code", [1000, 1001])
def test_iteration_ends_after_a_clean_close(elsewhere: Elsewhere, code: int) -> None:
    with connect(elsewhere.url(closing_with(code))) as ws:
        assert list(ws) == ["last"]
        assert list(ws) == []
        with pytest.raises(ConnectionClosed) as closed:
            ws.read_message()
        assert not isinstance(closed.value, ConnectionClosedError)
        assert ws.outcome == closed.value.outcome
        assert ws.outcome.initiator is Side.REMOTE
        assert ws.outcome.received is not None
        assert (ws.outcome.received.code, ws.outcome.received.reason) == (code, "reason")


@pytest.mark.parametrize("code", [1002, 1011, 4000])
def test_iteration_raises_after_another_close_code(elsewhere: Elsewhere, code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(TEXT, b"last")
        peer.send_close(code)
        assert (await peer.read_close())[0] == code
        await peer.close()

    with connect(elsewhere.script(script)) as ws:
        messages = iter(ws)
        assert next(messages) == "last"
        with pytest.raises(ConnectionClosedError) as closed:
            next(messages)
        assert closed.value.outcome.received is not None
        assert closed.value.outcome.received.code == code


def test_iteration_raises_when_the_connection_is_cut(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        await client.send("last")
        await client.read_message()
        client.abort()

    with connect(elsewhere.url(handler)) as ws:
        messages = iter(ws)
        assert next(messages) == "last"
        ws.send("cut")
        for _ in range(2):  # each read raises its own
            with pytest.raises(ConnectionClosedError) as closed:
                next(messages)
            assert closed.value.__traceback__ is not None
        assert closed.value.outcome.cause is Cause.RESET
        assert ws.state is State.CLOSED


@pytest.mark.parametrize("clean", [False, True])
def test_message_cut_by_the_end_of_the_connection_raises(elsewhere: Elsewhere, clean: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(TEXT, b"first half", fin=False)
        if clean:
            peer.send_close()
            await peer.read_close()
        await peer.close()

    with connect(elsewhere.script(script)) as ws:
        with pytest.raises(IncompleteMessage) as cut:
            next(iter(ws))
        assert cut.value.received == 10


def test_message_over_the_limit_closes_the_connection(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url(), limits=Limits(max_message_size=10)) as ws:
        ws.send(bytes(11))
        with pytest.raises(ConnectionClosedError) as closed:
            ws.read_message()
        assert closed.value.outcome.cause is Cause.LIMIT
        assert closed.value.outcome.sent is not None
        assert closed.value.outcome.sent.code == CloseCode.MESSAGE_TOO_BIG


def test_close_sends_code_and_reason_after_all_messages(elsewhere: Elsewhere) -> None:
    received: list[str | bytes] = []

    async def handler(client: Client) -> None:
        async for message in client:
            received.append(message)

    ws = connect(elsewhere.url(handler))
    assert ws.state.name == "OPEN"
    assert ws.outcome is None
    for number in range(100):
        ws.send(str(number))
    ws.close(4001, "done")
    assert received == [str(number) for number in range(100)]
    assert ws.state is State.CLOSED
    assert ws.outcome is not None
    assert ws.outcome.initiator is Side.LOCAL
    assert ws.outcome.sent is not None
    assert (ws.outcome.sent.code, ws.outcome.sent.reason) == (4001, "done")
    ws.close()
    for call in (lambda: ws.send("late"), ws.ping, ws.read_message):
        with pytest.raises(ConnectionClosed):
            call()
    with pytest.raises(ConnectionClosedError):  # only 1000 and 1001 are clean
        list(ws)


@pytest.mark.parametrize(("arguments", "error"), [((1005,), ValueError), ((1000, "x" * 124), ValueError)])
def test_bad_close_code_or_reason_raises(elsewhere: Elsewhere, arguments: Any, error: type[Exception]) -> None:
    with connect(elsewhere.url()) as ws:
        with pytest.raises(error):
            ws.close(*arguments)
        ws.send("open")
        assert ws.read_message() == "open"


def test_close_ends_within_its_timeout(elsewhere: Elsewhere) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_rest()

    ws = connect(elsewhere.script(script))
    ws.close(timeout=0.01)
    assert ws.outcome is not None
    assert ws.outcome.cause is Cause.CLOSE_TIMEOUT


@pytest.mark.parametrize(
    ("raised", "code"),
    [(None, 1000), (ValueError, 1011), (KeyboardInterrupt, 1001), (SystemExit, 1001)],
)
def test_block_closes_the_connection(elsewhere: Elsewhere, raised: type[BaseException] | None, code: int) -> None:
    def block() -> None:
        with connect(elsewhere.url()) as ws:
            ws.send("unread")
            if raised is not None:
                raise raised

    if raised is None:
        block()
    else:
        with pytest.raises(raised):
            block()
    until(lambda: elsewhere.outcomes)
    assert elsewhere.outcomes[0] is not None
    assert elsewhere.outcomes[0].received is not None
    assert elsewhere.outcomes[0].received.code == code


def test_block_left_because_of_the_end_of_the_connection_raises_that(elsewhere: Elsewhere) -> None:
    def block() -> None:
        with connect(elsewhere.url(closing_with(1000))) as ws:
            assert ws.read_message() == "last"
            ws.read_message()

    with pytest.raises(ConnectionClosed):
        block()


def test_abort_ends_the_connection_at_once(elsewhere: Elsewhere) -> None:
    ws = connect(elsewhere.url())
    ws.abort()
    assert ws.state is State.CLOSED
    assert ws.outcome is not None
    assert (ws.outcome.cause, ws.outcome.initiator) == (Cause.RESET, Side.LOCAL)
    ws.abort()
    ws.close()


def test_connection_that_is_forgotten_warns_and_closes(elsewhere: Elsewhere) -> None:
    def forget() -> None:
        connect(elsewhere.url())
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"unclosed <streamws\.sync\.Client .*, open>"):
        forget()
    until(lambda: elsewhere.outcomes)
    assert elsewhere.outcomes[0] is not None
    assert elsewhere.outcomes[0].received is not None
    assert elsewhere.outcomes[0].received.code == 1001
    thread = loop_thread._process.thread
    assert thread is not None
    until(lambda: not thread.served)  # the server has seen the end first


def test_closed_connection_that_was_not_read_to_its_end_is_freed(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        for _ in range(100):
            await client.send("x" * 100)

    ws: Blocking | None = connect(elsewhere.url(handler), limits=Limits(read_high=400, read_low=100))
    assert ws is not None
    link = ws._link
    until(lambda: link._room)
    ws.close()
    ws = None
    until(lambda: not link.thread.served)


# Errors of the opening handshake ----------------------------------------------------------------------------------


def test_refused_handshake_raises(elsewhere: Elsewhere) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        connect(elsewhere.script(answering(answer("403 Forbidden", body=b"no entry\n"), close=True)))
    assert (refused.value.status, refused.value.body) == (403, b"no entry\n")


def test_response_that_is_no_handshake_raises(elsewhere: Elsewhere) -> None:
    with pytest.raises(InvalidHandshake):
        connect(elsewhere.script(answering(b"SSH-2.0-OpenSSH\r\n\r\n", close=True)))


def test_server_that_is_not_there_raises() -> None:
    with pytest.raises(ConnectError) as failed:
        connect(f"ws://127.0.0.1:{free_port()}")
    assert isinstance(failed.value, OSError)


def test_server_that_does_not_answer_times_out(elsewhere: Elsewhere) -> None:
    with pytest.raises(ConnectTimeout, match=r"within 0\.05 s"):
        connect(elsewhere.script(silent), timeouts=Timeouts(open=0.05))


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("http://localhost", {}, InvalidURL),
        ("ws://localhost", {"ssl": ssl.create_default_context()}, InvalidURL),
        ("ws://localhost", {"headers": {"A": "b\r\nc: d"}}, InvalidHeader),
        ("ws://localhost", {"max_redirects": -1}, ValueError),
        ("ws://localhost", {"compression": "yes"}, TypeError),
        ("ws://localhost", {"observer": object()}, TypeError),
    ],
)
def test_bad_argument_raises(url: str, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        connect(url, **options)


# Options ----------------------------------------------------------------------------------------------------------


def test_options_of_the_opening_handshake(elsewhere: Elsewhere) -> None:
    requests: list[Request] = []

    async def handler(client: Client) -> None:
        requests.append(client.request)
        await client.send("hello")
        await client.wait_closed()

    url = elsewhere.url(handler, subprotocols=["chat"], origins=["https://example.org"])
    with connect(
        url,
        headers={"X-Token": "secret"},
        origin="https://example.org",
        user_agent="test/1",
        subprotocols=["a", "chat"],
    ) as ws:
        assert ws.read_message() == "hello"
        assert ws.subprotocol == "chat"
        assert ws.response.status == 101
        assert isinstance(ws.response, Response)
        assert ws.request.headers["X-Token"] == "secret"
        assert ws.stats.messages_received == 1
        assert (ws.addr, ws.port) == ("127.0.0.1", int(url.rpartition(":")[2].rstrip("/")))
        assert ws.get_extra_info("peername") == (ws.addr, ws.port)
        assert ws.get_extra_info("peercert") is None
        assert repr(ws).endswith(f"of 127.0.0.1:{ws.port}, open>")
    assert requests[0].headers["User-Agent"] == "test/1"


def test_unix_socket(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.serve(path=tmp_path / "socket")
    with connect("ws://localhost/", path=tmp_path / "socket") as ws:
        ws.send("through a file")
        assert ws.read_message() == "through a file"


def test_tls(elsewhere: Elsewhere, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server = elsewhere.serve(ssl=server_context)
    with connect(url_of(server, scheme="wss"), ssl=client_context, server_hostname="localhost") as ws:
        for number in range(100):
            ws.send(str(number) * 1000)
        assert [ws.read_message() for _ in range(100)] == [str(number) * 1000 for number in range(100)]
        assert ws.get_extra_info("ssl_object") is not None
    with pytest.raises(ConnectError):
        connect(url_of(server, scheme="wss"))


def test_observer_is_told(elsewhere: Elsewhere) -> None:
    told: list[object] = []

    class Watcher(Observer):
        def opened(self, client: Client) -> None:
            told.append("opened")

        def closed(self, client: Client, outcome: Any, stats: Any) -> None:
            told.append(stats.messages_sent)

    with connect(elsewhere.url(), observer=Watcher()) as ws:
        ws.send("counted")
        ws.read_message()
    assert told == ["opened", 1]


def test_server_of_another_library() -> None:
    def send_back(peer: websockets.sync.server.ServerConnection) -> None:
        for message in peer:
            peer.send(message)

    with websockets.sync.server.serve(send_back, "127.0.0.1", 0) as server:
        serving = Background(server.serve_forever)
        with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", compression=True) as ws:
            assert ws.compression is not None
            for number in range(200):
                ws.send(f"{number} {'x' * number}")
                ws.send(bytes(number))
            for number in range(200):
                assert ws.read_message() == f"{number} {'x' * number}"
                assert ws.read_message() == bytes(number)
            assert ws.ping() > 0
        assert ws.outcome is not None
        assert ws.outcome.clean
        server.shutdown()
        serving.get()


# Typed messages ---------------------------------------------------------------------------------------------------


def test_typed_messages(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        numbers = ws.typed(Json(list[int]))
        numbers.send([1, 2])
        assert numbers.read_message() == [1, 2]
        with pytest.raises(EncodeError):
            numbers.send([object()])  # type: ignore[list-item]
        with pytest.raises(TimeoutError):
            numbers.read_message(timeout=0)


def test_typed_iteration_ends(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        for number in range(3):
            await client.send(str(number))

    with connect(elsewhere.url(handler)) as ws:
        assert list(ws.typed(Json(int))) == [0, 1, 2]
        with pytest.raises(ConnectionClosed):
            ws.typed(Json(int)).read_message()


def test_typed_iteration_raises_if_the_connection_is_cut(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        client.abort()

    with connect(elsewhere.url(handler)) as ws, pytest.raises(ConnectionClosedError):
        list(ws.typed(Json(int)))


def test_message_that_cannot_be_decoded_closes_the_connection(elsewhere: Elsewhere) -> None:
    async def handler(client: Client) -> None:
        for data in ("1", "two", "3"):
            await client.send(data)
        await client.wait_closed()

    with connect(elsewhere.url(handler)) as ws:
        numbers = ws.typed(Json(int))
        assert next(numbers.__iter__()) == 1
        until(lambda: ws.stats.messages_received == 3)
        with pytest.raises(DecodeError) as bad:
            numbers.read_message()
        assert bad.value.outcome == ws.outcome
        assert ws.outcome is not None
        assert ws.outcome.sent is not None
        assert ws.outcome.sent.code == CloseCode.INVALID_DATA
        with pytest.raises(ConnectionClosedError):  # not 3
            numbers.read_message()


def test_message_that_cannot_be_decoded_goes_to_on_error(elsewhere: Elsewhere) -> None:
    bad: list[object] = []

    def on_error(ws: Blocking, data: str | bytes, error: DecodeError) -> None:
        bad.append((ws, data, type(error)))

    with connect(elsewhere.url()) as ws:
        numbers = ws.typed(Json(int), on_error)
        for data in ("1", "two", "3"):
            ws.send(data)
        assert [numbers.read_message(), numbers.read_message()] == [1, 3]
        assert bad == [(ws, "two", DecodeError)]


# Threads ----------------------------------------------------------------------------------------------------------


def test_messages_of_each_thread_keep_their_order(elsewhere: Elsewhere) -> None:
    count = 500
    with connect(elsewhere.url(), limits=Limits(write_high=2000, write_low=500)) as ws:

        def hammer(name: int) -> None:
            for number in range(count):
                ws.send(f"{name} {number}")

        threads = [Background(hammer, name) for name in range(6)]
        received: dict[str, list[int]] = {}
        for _ in range(6 * count):
            name, number = str(ws.read_message()).split()
            received.setdefault(name, []).append(int(number))
        for thread in threads:
            thread.get()
    assert received == {str(name): list(range(count)) for name in range(6)}


def test_second_reader_raises_and_the_first_one_goes_on(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        first = Background(ws.read_message, name="first reader")
        until(lambda: ws._link._waiting)
        reads: list[Callable[[], object]] = [ws.read_message, lambda: ws.read_message(0), lambda: next(iter(ws))]
        for read in reads:
            with pytest.raises(ConcurrencyError, match="in MainThread: first reader waits"):
                read()
        ws.send("for the first")
        assert first.get() == "for the first"
        ws.send("for the second")
        assert ws.read_message() == "for the second"


def test_readers_may_take_turns(elsewhere: Elsewhere) -> None:
    with connect(elsewhere.url()) as ws:
        for number in range(5):
            ws.send(str(number))
            assert Background(ws.read_message).get() == str(number)


@pytest.mark.parametrize("abort", [False, True])
def test_close_in_another_thread_ends_a_read(elsewhere: Elsewhere, abort: bool) -> None:
    ws = connect(elsewhere.url())
    reader = Background(ws.read_message)
    until(lambda: ws._link._waiting)
    if abort:
        ws.abort()
    else:
        ws.close()
    with pytest.raises(ConnectionClosedError if abort else ConnectionClosed):
        reader.get()


def test_close_in_another_thread_ends_an_iteration(elsewhere: Elsewhere) -> None:
    ws = connect(elsewhere.url())
    reader = Background(list, ws)
    until(lambda: ws._link._waiting)
    ws.close()
    assert reader.get() == []


def test_any_number_of_threads_may_connect_ping_and_close(elsewhere: Elsewhere) -> None:
    url = elsewhere.url()

    def use() -> float:
        with connect(url) as ws:
            ws.send("mine")
            assert ws.read_message() == "mine"
            return ws.ping()

    assert all(thread.get() > 0 for thread in [Background(use) for _ in range(20)])
    assert [thread.name for thread in threading.enumerate()].count("streamws.sync") == 1
    with connect(url) as ws:
        assert all(ping.get() > 0 for ping in [Background(ws.ping) for _ in range(10)])
        for thread in [Background(ws.close) for _ in range(10)]:
            thread.get()


# Back-pressure ----------------------------------------------------------------------------------------------------


def test_unread_messages_pause_reading(elsewhere: Elsewhere) -> None:
    count = 3000

    async def handler(client: Client) -> None:
        for number in range(count):
            await client.send(f"{number:1000}")
        await client.wait_closed()

    limits = Limits(read_high=20_000, read_low=5000)
    with connect(elsewhere.url(handler), limits=limits) as ws:
        connection = ws._link.client._connection
        until(lambda: ws._link._room and connection.inbox.paused)
        # A chunk may bring more than the marks allow before reading pauses.
        assert len(ws._link._messages) <= 20
        assert ws.stats.messages_received < count
        assert [int(ws.read_message()) for _ in range(count)] == list(range(count))


def test_send_waits_while_the_peer_does_not_read(elsewhere: Elsewhere) -> None:
    count = 400
    go = elsewhere.make(asyncio.Event)
    received: list[int] = []

    async def handler(client: Client) -> None:
        await go.wait()
        async for message in client:
            received.append(int(message[:10]))

    limits = Limits(write_high=50_000, write_low=10_000)
    with connect(elsewhere.url(handler, limits=Limits(read_high=50_000, read_low=1000)), limits=limits) as ws:
        sent: list[int] = []

        def send_all() -> None:
            for number in range(count):
                ws.send(b"%010d" % number + bytes(100_000))
                sent.append(number)

        sender = Background(send_all)
        until(lambda: ws._link._senders)
        assert sender.is_alive()
        assert len(sent) < count
        assert ws.stats.backlog < 2_000_000
        elsewhere.run(_set(go))
        sender.get()
    assert received == list(range(count))


async def _set(event: Any) -> None:
    event.set()


def test_close_ends_a_send_that_waits(elsewhere: Elsewhere) -> None:
    go = elsewhere.make(asyncio.Event)

    async def script(peer: Peer) -> None:
        await peer.accept()
        await go.wait()

    ws = connect(elsewhere.script(script))

    def send_without_end() -> None:
        while True:
            ws.send(bytes(1 << 20))

    sender = Background(send_without_end)
    until(lambda: ws._link._senders)
    ws.abort()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        sender.get()
    elsewhere.run(_set(go))


# The thread of the event loop -------------------------------------------------------------------------------------


def test_blocking_calls_in_the_thread_of_the_loop_raise(elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture) -> None:
    url = elsewhere.url()
    with connect(url) as ws:
        errors: list[str] = []

        class Watcher(Observer):
            def opened(self, client: Client) -> None:
                calls: list[Callable[[], object]] = [
                    lambda: connect(url),
                    ws.read_message,
                    ws.ping,
                    ws.close,
                    ws.abort,
                ]
                ws.send("from a callback")  # does not wait
                for call in calls:
                    with pytest.raises(UsageError, match="in the thread of the event loop") as error:
                        call()
                    errors.append(str(error.value))

        with caplog.at_level(logging.ERROR):
            connect(url, observer=Watcher()).close()
        assert not caplog.records
        assert len(errors) == 5
        assert ws.read_message() == "from a callback"
        assert errors[0].startswith("cannot call connect() in the thread")
        ws.send("still usable")
        assert ws.read_message() == "still usable"


# Names of other libraries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), SYNC_HINTS.items())
def test_client_names_what_it_has_instead_of_what_others_have(name: str, text: str) -> None:
    for code in re.findall(r"`([^`]+)`", text):
        for attribute in re.findall(r"\bws\.(\w+)", code):
            assert hasattr(Blocking, attribute)
            assert attribute not in SYNC_HINTS
    assert re.search(r"\bws\b|`connect`|leave it out", text)
    with pytest.raises(AttributeError) as error:
        getattr(Blocking, name)
    assert str(error.value) == f"type object 'Client' has no attribute {name!r}: {text}"


def test_names_of_the_clients_of_other_libraries_have_hints() -> None:
    expected = {"recv", "recv_data", "send_text", "send_binary", "send_bytes", "settimeout", "getheaders"}
    expected |= {"recv_streaming", "close_code", "close_reason", "remote_address", "local_address", "pong", "shutdown"}
    assert expected <= {*dir(websocket.WebSocket), *dir(ClientConnection)}, "the library has renamed them"
    assert expected <= set(SYNC_HINTS)
