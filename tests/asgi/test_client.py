"""`AsgiClient`, with an ASGI server that the test controls."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from asgi.scripted import ACCEPTED, SCOPE, AsgiServer, Lost, binary, disconnect, ended, text
from helpers.waiting import cancelled, iterations, until, within
from messages.kinds import StructMove
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    DecodeError,
    InvalidHeader,
    Key,
    Response,
    Side,
    State,
    UsageError,
)
from streamws.asgi import AsgiClient, from_scope
from streamws.asgi.missing import MISSING
from streamws.asgi.receiving import READ_AHEAD
from streamws.hints import Hint
from streamws.messages import Json

NUMBER: Key[int] = Key("number")


def outcome_of(client: AsgiClient) -> CloseOutcome:
    assert client.outcome is not None
    return client.outcome


async def opened(*events: dict[str, Any]) -> tuple[AsgiServer, AsgiClient]:
    server = AsgiServer()
    client = server.client()
    await client.accept()
    server.give(*events)
    return server, client


# The scope --------------------------------------------------------------------------------------------------


async def test_request_is_that_of_the_scope() -> None:
    client = AsgiServer().client()
    request = client.request
    assert (request.method, request.version, request.host) == ("GET", "1.1", "example.org")
    assert (request.path, request.query_string) == ("/rooms/r%C3%A4d", "token=a%20b&tag=1&tag=2")
    assert (request.query["token"], request.query.getlist("tag")) == ("a b", ["1", "2"])
    assert dict(request.cookies) == {"a": "1", "b": "2"}
    assert request.subprotocols == ("chat.v2", "chat.v1")
    assert (client.remote, client.addr, client.port) == (("192.0.2.7", 50123), "192.0.2.7", 50123)
    assert client.get_extra_info("peername") == ("192.0.2.7", 50123)
    assert client.get_extra_info("sockname") == ("127.0.0.1", 8000)
    assert client.get_extra_info("ssl_object") is None
    assert client.get_extra_info("cipher", "none") == "none"
    assert not request.secure
    assert client.scope["path"] == "/rooms/räd"
    assert repr(client) == f"<AsgiClient {client.id} of 192.0.2.7:50123, connecting>"


async def test_scope_with_the_least_keys() -> None:
    server = AsgiServer()
    scope = {"type": "websocket", "path": "/a b/ü", "headers": [], "subprotocols": ["chat"]}
    client = from_scope(scope, server.receive, server.send)
    assert (client.request.target, client.request.subprotocols) == ("/a%20b/%C3%BC", ("chat",))
    assert (client.remote, client.port) == (("unknown", 0), client.id)
    assert client.get_extra_info("peername", "none") == "none"
    assert client.get_extra_info("sockname") is None


async def test_scope_of_a_unix_socket_and_of_tls() -> None:
    client = AsgiServer().client(client=None, server=("/run/app.sock", None), scheme="wss", http_version="2")
    assert client.remote == ("/run/app.sock", 0)
    assert client.get_extra_info("sockname") == "/run/app.sock"
    assert client.request.secure
    assert client.request.version == "2"


async def test_port_may_be_text_as_of_granian() -> None:
    assert AsgiServer().client(client=("192.0.2.7", "50123")).remote == ("192.0.2.7", 50123)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"type": "http"}, "its type is 'http', not 'websocket'"),
        ({}, "its type is None"),
        ({"type": "websocket"}, "it has no 'path'"),
        (SCOPE | {"headers": [("host", "a")]}, "not a valid scope"),
        (SCOPE | {"headers": [(b"x", b"a\r\nb: c")]}, "the header b'x' is not valid"),
        (SCOPE | {"headers": 5}, "not a valid scope"),
        (SCOPE | {"query_string": 5}, "not a valid scope"),
        (SCOPE | {"client": "a"}, "not a valid scope"),
        (None, "is a mapping, not NoneType"),
    ],
)
async def test_bad_scope_is_an_error(scope: Any, message: str) -> None:
    server = AsgiServer()
    with pytest.raises(UsageError, match=message):
        from_scope(scope, server.receive, server.send)


def test_without_a_loop_of_asyncio_it_is_an_error() -> None:
    async def application() -> None:
        AsgiServer().client()

    running = application()
    with pytest.raises(UsageError, match="not trio"):
        running.send(None)  # another library would run it in this way


async def test_ids_are_those_of_all_connections() -> None:
    first, second = AsgiServer().client(), AsgiServer().client()
    assert second.id > first.id


async def test_values_by_key_are_those_of_the_request() -> None:
    client = AsgiServer().client()
    client.request[NUMBER] = 1
    assert client[NUMBER] == 1
    client[NUMBER] = 2
    assert (client.request[NUMBER], client.get(NUMBER), NUMBER in client) == (2, 2, True)
    del client[NUMBER]
    assert (client.get(NUMBER), client.get(NUMBER, "none"), NUMBER in client) == (None, "none", False)


# Accepting --------------------------------------------------------------------------------------------------


async def test_first_read_accepts() -> None:
    server = AsgiServer(text("a"))
    client = server.client()
    states = [client.state]
    assert await client.read_message() == "a"
    assert server.sent == [ACCEPTED]
    assert [*states, client.state] == [State.CONNECTING, State.OPEN]


async def test_first_send_accepts() -> None:
    server = AsgiServer()
    await server.client().send("a")
    assert server.sent == [ACCEPTED, {"type": "websocket.send", "text": "a"}]


async def test_waiting_for_the_end_accepts() -> None:
    server = AsgiServer()
    server.on_send = lambda event: server.give(disconnect())
    await server.client().wait_closed()
    assert server.sent == [ACCEPTED]


async def test_several_tasks_accept_once() -> None:
    server = AsgiServer(text("a"))
    client = server.client()
    await asyncio.gather(client.read_message(), client.send("1"), client.send("2"))
    assert server.sent.count(ACCEPTED) == 1
    assert server.messages == ["1", "2"]


async def test_accept_chooses_subprotocol_and_headers() -> None:
    server = AsgiServer()
    client = server.client()
    await client.accept("chat.v1", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=ü")])
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", "b=ü".encode())]
    assert server.sent == [{"type": "websocket.accept", "subprotocol": "chat.v1", "headers": headers}]
    assert client.subprotocol == "chat.v1"


async def test_accept_must_be_first() -> None:
    _, client = await opened()
    with pytest.raises(UsageError, match="open already; accept before the first read or send"):
        await client.accept()
    await client.close()
    with pytest.raises(ConnectionClosed, match="cannot accept: closed by this side with 1000"):
        await client.accept()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("chat.v3",), ValueError),
        (("a b",), ValueError),
        ((None, [("Upgrade", "a")]), InvalidHeader),
        ((None, [("X", "a\r\nb")]), InvalidHeader),
    ],
)
async def test_accept_with_bad_arguments_does_nothing(arguments: Any, error: type[Exception]) -> None:
    server = AsgiServer()
    client = server.client()
    with pytest.raises(error):
        await client.accept(*arguments)
    assert server.sent == []
    await client.accept()


async def test_accept_that_the_server_refuses_can_be_repeated() -> None:
    server = AsgiServer()
    client = server.client()

    def fail(event: object) -> None:
        raise ValueError("bad header")

    server.on_send = fail
    with pytest.raises(ValueError, match="bad header"):
        await client.accept("chat.v1")
    assert (client.state, client.subprotocol) == (State.CONNECTING, None)
    server.on_send = None
    await client.accept()
    assert client.state is State.OPEN


async def test_client_that_left_before_it_was_accepted() -> None:
    server = AsgiServer(disconnect(1006), connect=False)
    client = server.client()
    with pytest.raises(ConnectionClosedError, match="cannot accept"):
        await client.accept()
    with pytest.raises(ConnectionClosedError):
        await client.read_message()
    await client.wait_closed()
    await client.close()
    assert server.sent == []


async def test_cancelled_accept_has_no_effect() -> None:
    server = AsgiServer(connect=False)
    client = server.client()
    task = asyncio.create_task(client.accept())
    await iterations()
    task.cancel()
    assert await cancelled(task)
    assert (client.state, server.sent) == (State.CONNECTING, [])
    server.give({"type": "websocket.connect"}, text("a"))
    assert await client.read_message() == "a"


@pytest.mark.parametrize("wait", range(1, 6))
async def test_cancelled_first_read_leaves_the_state_of_the_server(wait: int) -> None:
    """The read is cancelled in each loop iteration of an accept that a middleware delays."""
    server = AsgiServer()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    client = server.client()
    task = asyncio.create_task(client.read_message())
    await iterations(wait)
    task.cancel()
    assert await cancelled(task)
    assert (client.state, server.sent) == (State.CONNECTING, [])
    gate.set()
    await client.send("a")
    assert client.state is State.OPEN
    assert server.sent == [ACCEPTED, {"type": "websocket.send", "text": "a"}]


@pytest.mark.parametrize("wait", range(6))
async def test_cancelled_accept_has_no_effect_unless_the_server_was_told(wait: int) -> None:
    server = AsgiServer()
    told: list[object] = []
    gate = asyncio.Event()

    def on_send(event: object) -> Any:
        told.append(event)
        return gate.wait()

    server.on_send = on_send
    client = server.client()
    task = asyncio.create_task(client.accept("chat.v1"))
    await iterations(wait)
    before = len(told)
    task.cancel()
    assert await cancelled(task)
    gate.set()
    await iterations()
    assert len(told) == before
    assert client.state is (State.OPEN if before else State.CONNECTING)
    assert client.subprotocol == ("chat.v1" if before else None)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (AsgiClient.accept, "open already"),
        (lambda client: client.refuse(Response(401)), "the connection is open already"),
        (lambda client: client.close(4000), None),
    ],
)
async def test_call_after_a_cancelled_accept_waits_for_it(call: Callable[[AsgiClient], Any], error: str | None) -> None:
    server = AsgiServer()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    client = server.client()
    task = asyncio.create_task(client.accept())
    await iterations(10)
    task.cancel()
    assert await cancelled(task)
    task = asyncio.create_task(call(client))
    await iterations()
    assert server.sent == []
    gate.set()
    if error is None:
        await within(task)
        assert server.closes == [(4000, "")]
    else:
        with pytest.raises(UsageError, match=error):
            await within(task)
    assert server.sent[0] == ACCEPTED


async def test_block_that_raises_after_a_cancelled_accept_closes_with_1011() -> None:
    server = AsgiServer()
    gate = asyncio.Event()

    def on_send(event: object) -> Any:
        task.cancel()
        asyncio.get_running_loop().call_soon(gate.set)
        return gate.wait()

    server.on_send = on_send

    async def application() -> None:
        async with server.client() as client:
            await client.accept()

    task = asyncio.create_task(application())
    assert await cancelled(task)
    assert server.sent[0] == ACCEPTED
    assert server.closes == [(1011, "")]


async def test_connection_that_was_accepted_without_saying_so() -> None:
    server = AsgiServer(text("a"), connect=False)
    with pytest.raises(ConnectionClosedError, match="Pass accepted=True"):
        await server.client().read_message()
    assert server.sent == []


async def test_connection_that_the_application_has_accepted() -> None:
    server = AsgiServer(text("a"), connect=False)
    client = from_scope(SCOPE, server.receive, server.send, accepted=True)
    assert client.state is State.OPEN
    assert await client.read_message() == "a"
    assert server.sent == []
    await client.close()


# Refusing ---------------------------------------------------------------------------------------------------


async def test_refusing_sends_the_response() -> None:
    server = AsgiServer()
    client = server.client()
    await client.refuse(Response(401, "token expired\n", {"X-Why": "1"}))
    assert server.sent == [
        {
            "type": "websocket.http.response.start",
            "status": 401,
            "headers": [
                (b"x-why", b"1"),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"14"),
            ],
        },
        {"type": "websocket.http.response.body", "body": b"token expired\n", "more_body": False},
    ]
    assert client.state is State.CLOSED
    assert str(client.outcome).endswith("the application refused the connection with 401")


async def test_refusing_without_the_extension_is_a_403() -> None:
    server = AsgiServer()
    client = server.client(extensions={})
    await client.refuse(Response(401))
    assert server.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert "refused the connection with 403" in outcome_of(client).detail


async def test_closing_before_accepting_is_a_403() -> None:
    server = AsgiServer()
    client = server.client()
    await client.close(1008, "who are you?")
    assert server.sent == [{"type": "websocket.close", "code": 1008, "reason": "who are you?"}]
    with pytest.raises(ConnectionClosedError, match="refused the connection with 403"):
        await client.read_message()
    with pytest.raises(ConnectionClosedError, match=r"cannot send: .* refused the connection with 403"):
        await client.send("a")
    await client.close()


async def test_open_connection_cannot_be_refused() -> None:
    server, client = await opened()
    with pytest.raises(UsageError, match="the connection is open already; call close"):
        await client.refuse(Response(401))
    assert server.sent == [ACCEPTED]


async def test_refusing_takes_a_response() -> None:
    with pytest.raises(TypeError, match="refuse\\(\\) takes a Response, not int"):
        await AsgiServer().client().refuse(401)  # type: ignore[arg-type]


async def test_refusing_a_client_that_left() -> None:
    server = AsgiServer(disconnect(1006), connect=False)
    with pytest.raises(ConnectionClosedError, match="cannot refuse"):
        await server.client().refuse(Response(401))
    server = AsgiServer()
    client = server.client()

    def fail(event: object) -> None:
        raise Lost

    server.on_send = fail
    with pytest.raises(ConnectionClosedError, match=r"cannot refuse: connection lost .* Lost") as caught:
        await client.refuse(Response(401))
    assert client.outcome is caught.value.outcome


# Reading ----------------------------------------------------------------------------------------------------


async def test_messages_are_str_and_bytes() -> None:
    events = [text(""), binary(b""), text("ü"), {"type": "websocket.receive", "text": None, "bytes": b"\0"}]
    _, client = await opened(*events, {"type": "websocket.receive", "text": "x", "bytes": None}, disconnect())
    assert [message async for message in client] == ["", b"", "ü", b"\0", "x"]


async def test_message_may_be_bytearray() -> None:
    _, client = await opened({"type": "websocket.receive", "bytes": bytearray(b"a")})
    message = await client.read_message()
    assert type(message) is bytes


@pytest.mark.parametrize("code", [1000, 1001, 1005])
async def test_iteration_ends_after_a_clean_close(code: int) -> None:
    _, client = await opened(text("a"), disconnect(code, "bye"))
    assert [message async for message in client] == ["a"]
    assert [message async for message in client] == []
    outcome = outcome_of(client)
    assert outcome == CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(code, "bye"), None)
    with pytest.raises(ConnectionClosed) as caught:
        await client.read_message()
    assert type(caught.value) is ConnectionClosed
    assert caught.value.outcome is outcome


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (disconnect(4001, "why"), CloseOutcome(Cause.PEER_ERROR, Side.REMOTE, Close(4001, "why"), None)),
        (disconnect(1006), CloseOutcome(Cause.RESET, Side.REMOTE, None, None)),
        (
            disconnect(1012),
            CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, None, Close(1012), "the ASGI server stops"),
        ),
    ],
)
async def test_iteration_raises_after_any_other_end(event: dict[str, Any], outcome: CloseOutcome) -> None:
    _, client = await opened(text("a"), event)
    messages = aiter(client)
    assert await anext(messages) == "a"
    with pytest.raises(ConnectionClosedError) as caught:
        await anext(messages)
    assert caught.value.outcome == outcome
    with pytest.raises(ConnectionClosedError):
        await client.read_message()


@pytest.mark.parametrize("event", [{"type": "websocket.disconnect"}, {"type": "websocket.disconnect", "code": None}])
async def test_disconnect_without_a_code_is_1005(event: dict[str, Any]) -> None:
    _, client = await opened(event)
    await client.wait_closed()
    assert outcome_of(client).received == Close(1005)


async def test_messages_before_the_end_can_be_read_after_it() -> None:
    _, client = await opened(text("a"), text("b"), disconnect(1006))
    await client.wait_closed()
    assert client.state is State.CLOSED
    assert [await client.read_message(), await client.read_message()] == ["a", "b"]
    with pytest.raises(ConnectionClosedError):
        await client.read_message()


async def test_second_reader_is_an_error_and_does_not_disturb_the_first() -> None:
    server, client = await opened()
    first = asyncio.create_task(client.read_message())
    await iterations()
    with pytest.raises(ConcurrencyError, match=r"cannot call client.read_message\(\): another task reads"):
        await client.read_message()
    with pytest.raises(ConcurrencyError, match="cannot call async for"):
        await anext(aiter(client))
    server.give(text("a"))
    assert await first == "a"


async def test_second_reader_before_the_first_has_accepted() -> None:
    server = AsgiServer(connect=False)
    client = server.client()
    first = asyncio.create_task(client.read_message())
    await iterations()
    with pytest.raises(ConcurrencyError):
        await client.read_message()
    server.give({"type": "websocket.connect"}, text("a"))
    assert await first == "a"


@pytest.mark.parametrize("wait", range(4))
async def test_cancelled_read_loses_nothing(wait: int) -> None:
    """The read is cancelled in each loop iteration of a `receive` that loses an event if it is cancelled."""
    server, client = await opened()
    for _ in range(2):
        task = asyncio.create_task(client.read_message())
        await iterations()
        server.give(text("a"))
        await iterations(wait)
        task.cancel()
        read = [] if await cancelled(task) else [task.result()]
        server.give(text("b"))
        while len(read) < 2:
            read.append(await client.read_message())
        assert read == ["a", "b"]


async def test_reads_with_a_timeout_lose_nothing() -> None:
    server, client = await opened()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read_message(), 0.001)
    server.give(*[text(str(number)) for number in range(3)])
    assert [await client.read_message() for _ in range(3)] == ["0", "1", "2"]


async def test_leaving_the_loop_keeps_the_next_messages() -> None:
    _, client = await opened(text("a"), text("b"))
    async for _ in client:
        break
    assert await client.read_message() == "b"


async def test_events_are_received_ahead_up_to_a_limit() -> None:
    message = text("x" * (READ_AHEAD // 4))
    server, client = await opened(*[message] * 10)
    await iterations(50)
    assert server.received == 1 + 4
    assert await client.read_message() == message["text"]
    await iterations(20)
    assert server.received == 1 + 5
    for _ in range(9):
        assert await client.read_message() == message["text"]
    server.give(disconnect())
    await within(client.wait_closed())


async def test_empty_messages_count_too() -> None:
    server, _ = await opened(*[text("")] * 2000)
    await iterations(5000)
    assert server.received == 1 + READ_AHEAD // 64 + 1


async def test_end_is_seen_while_nothing_reads() -> None:
    server, client = await opened(text("a"))
    server.give(disconnect(4000, "off"))
    await ended(client)
    assert outcome_of(client).code == 4000


@pytest.mark.parametrize(
    ("iterate", "wrong", "reason"),
    [
        (AsgiClient.text, binary(b"a"), "received a binary message where only text is accepted"),
        (AsgiClient.binary, text("a"), "received a text message where only binary is accepted"),
    ],
)
async def test_message_of_the_wrong_type_closes_with_1003(
    iterate: Callable[[AsgiClient], Any], wrong: dict[str, Any], reason: str
) -> None:
    right = [text("b"), binary(b"b")][iterate is AsgiClient.binary]
    server, client = await opened(right, wrong)
    iterator = iterate(client)
    assert await anext(iterator) == right.get("text", right.get("bytes"))
    with pytest.raises(ConnectionClosedError) as caught:
        await anext(iterator)
    assert server.closes == [(1003, reason)]
    assert (caught.value.outcome.cause, caught.value.outcome.initiator) == (Cause.LIMIT, Side.REMOTE)


async def test_iterations_of_one_type_end_after_a_clean_close() -> None:
    _, client = await opened(text("a"), disconnect())
    assert [message async for message in client.text()] == ["a"]
    _, client = await opened(binary(b"a"), disconnect())
    assert [message async for message in client.binary()] == [b"a"]


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        ({"type": "http.request"}, "ValueError: this is not an event of a WebSocket: 'http.request'"),
        ({}, "KeyError"),
        ({"type": "websocket.receive"}, "KeyError"),
    ],
)
async def test_bad_event_ends_the_connection(event: dict[str, Any], detail: str) -> None:
    _, client = await opened(text("a"), event)
    assert await client.read_message() == "a"
    with pytest.raises(ConnectionClosedError, match=f"cannot receive: {detail}"):
        await client.read_message()


async def test_receive_that_raises_ends_the_connection() -> None:
    server = AsgiServer()

    async def receive() -> dict[str, Any]:
        if server.received == 1:
            raise Lost("gone")
        return await server.receive()

    client = from_scope(SCOPE, receive, server.send)
    with pytest.raises(ConnectionClosedError, match="cannot receive: Lost: gone"):
        await client.read_message()
    assert outcome_of(client).cause is Cause.RESET


# Sending ----------------------------------------------------------------------------------------------------


async def test_messages_are_sent_as_text_and_binary() -> None:
    server, client = await opened()
    data = bytearray(b"b")
    sending = client.send(data)
    data[:] = b"c"
    await sending
    await client.send("a")
    await client.send(memoryview(b"d"))
    await client.send("ü".encode(), text=True)
    assert server.messages == [b"b", "a", b"d", "ü"]
    assert all(type(message) in (str, bytes) for message in server.messages)


async def test_bad_messages_are_errors() -> None:
    server, client = await opened()
    with pytest.raises(TypeError, match="message must be str or bytes-like, not dict"):
        await client.send({})  # type: ignore[arg-type]
    with pytest.raises(UnicodeDecodeError):
        await client.send(b"\xff", text=True)
    assert server.messages == []


async def test_senders_wait_for_one_another_and_keep_their_order() -> None:
    server, client = await opened()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    tasks = [asyncio.create_task(client.send(str(number))) for number in range(4)]
    await iterations()
    assert client.backlog == 4
    tasks[1].cancel()
    assert await cancelled(tasks[1])
    assert client.backlog == 3
    gate.set()
    await asyncio.gather(*tasks[2:])
    assert server.messages == ["0", "2", "3"]
    assert client.backlog == 0


async def test_sending_after_the_peer_closed_raises() -> None:
    _, client = await opened(disconnect(4001, "why"))
    await ended(client)
    with pytest.raises(ConnectionClosedError, match='cannot send: closed by the peer with 4001 "why"') as caught:
        await client.send("a")
    assert caught.value.outcome is client.outcome
    _, client = await opened(disconnect(1000))
    await ended(client)
    with pytest.raises(ConnectionClosed) as clean:
        await client.send("a")
    assert type(clean.value) is ConnectionClosed


async def test_send_that_raises_oserror_has_the_outcome_of_the_disconnect() -> None:
    """The event comes after the error, behind more messages than are received ahead."""
    messages = [text("x" * READ_AHEAD)] * 5
    server, client = await opened(*messages)

    def fail(event: object) -> None:
        server.give(disconnect(4001, "why"))
        raise Lost

    server.on_send = fail
    with pytest.raises(ConnectionClosedError, match="cannot send: closed by the peer with 4001") as caught:
        await client.send("a")
    assert isinstance(caught.value.__cause__, Lost)
    assert [await client.read_message() for _ in messages] == ["x" * READ_AHEAD] * 5
    with pytest.raises(ConnectionClosedError, match="4001"):
        await client.read_message()


async def test_send_that_raises_oserror_without_a_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamws.asgi.client._GRACE", 0.001)
    server, client = await opened(text("a"))

    def fail(event: object) -> None:
        raise Lost("broken pipe")

    server.on_send = fail
    with pytest.raises(ConnectionClosedError) as caught:
        await client.send("b")
    assert caught.value.outcome == CloseOutcome(Cause.RESET, Side.REMOTE, None, None, "cannot send: Lost: broken pipe")
    assert client.state is State.CLOSED
    await client.wait_closed()
    assert await client.read_message() == "a"


async def test_error_of_send_keeps_the_limit_of_unread_messages() -> None:
    message = text("x" * READ_AHEAD)
    server, client = await opened(message, message)

    def fail(event: object) -> None:
        raise RuntimeError("unexpected message")

    server.on_send = fail
    await iterations(10)
    received = server.received
    with pytest.raises(RuntimeError):
        await client.send("a")
    server.give(*[message] * 10)
    await iterations(50)
    assert received == 1 + 1
    assert server.received == 1 + 3


async def test_cancelled_send_that_failed_keeps_the_limit_of_unread_messages() -> None:
    server, client = await opened()

    def fail(event: object) -> None:
        raise Lost

    server.on_send = fail
    task = asyncio.create_task(client.send("a"))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    received = server.received
    server.give(*[text("x" * READ_AHEAD)] * 10)
    await iterations(50)
    assert server.received == received + 1


async def test_other_error_of_send_is_translated_only_after_the_end() -> None:
    server, client = await opened()

    def fail(event: object) -> None:
        raise RuntimeError("unexpected message")

    server.on_send = fail
    with pytest.raises(RuntimeError, match="unexpected message"):
        await client.send("a")
    assert client.state is State.OPEN

    def fail_after_end(event: object) -> None:
        server.give(disconnect(1001))
        raise RuntimeError("unexpected message")

    server.on_send = fail_after_end
    with pytest.raises((RuntimeError, ConnectionClosed)):
        await client.send("a")
    await ended(client)
    with pytest.raises(ConnectionClosed):
        await client.send("a")


# Closing ----------------------------------------------------------------------------------------------------


async def test_close_tells_the_server() -> None:
    server, client = await opened(text("unread"))
    await client.close(4002, "enough")
    assert server.closes == [(4002, "enough")]
    assert client.state is State.CLOSED
    assert outcome_of(client) == CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, None, Close(4002, "enough"))
    with pytest.raises(ConnectionClosedError, match="closed by this side with 4002"):
        await client.read_message()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await client.send("a")
    await client.close()
    await client.wait_closed()
    assert server.closes == [(4002, "enough")]
    assert not server.receiving


async def test_iteration_ends_when_another_task_closes() -> None:
    _, client = await opened()

    async def read() -> list[str | bytes]:
        return [message async for message in client]

    task = asyncio.create_task(read())
    await iterations()
    await client.close()
    assert await task == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((1006,), ValueError), ((1000, "x" * 124), ValueError), ((1000, b""), TypeError)],
)
async def test_close_with_bad_arguments_does_nothing(arguments: Any, error: type[Exception]) -> None:
    server, client = await opened()
    with pytest.raises(error):
        await client.close(*arguments)
    with pytest.raises(ValueError, match="timeout"):
        await client.close(timeout=0)
    assert (client.state, server.closes) == (State.OPEN, [])


async def test_close_waits_for_messages_under_way() -> None:
    server, client = await opened()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    sending = asyncio.create_task(client.send("a"))
    await iterations()
    closing = asyncio.create_task(client.close())
    await iterations()
    assert client.state is State.CLOSING
    assert outcome_of(client).sent == Close(1000)
    waiting = asyncio.create_task(client.send("b"))
    await iterations()
    gate.set()
    await asyncio.gather(sending, closing)
    assert server.messages == ["a"]
    with pytest.raises(ConnectionClosed):
        await waiting


async def test_cancelled_close_still_closes() -> None:
    server, client = await opened()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    task = asyncio.create_task(client.close(4000))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    gate.set()
    await client.wait_closed()
    assert server.closes == [(4000, "")]


async def test_close_gives_up_after_its_timeout() -> None:
    server, client = await opened()
    never = asyncio.Event()
    server.on_send = lambda event: never.wait()
    sending = asyncio.create_task(client.send("a"))
    await iterations()
    await within(client.close(timeout=0.01))
    assert outcome_of(client).cause is Cause.CLOSE_TIMEOUT
    assert client.state is State.CLOSED
    waiting = asyncio.create_task(client.send("b"))
    for task in sending, waiting:
        with pytest.raises(ConnectionClosedError, match=r"cannot send: .*the server did not send the close"):
            await within(task)
    assert (client.backlog, sending.cancelling()) == (0, 0)


async def test_end_of_the_connection_ends_sends_that_the_server_makes_wait() -> None:
    server, client = await opened()
    never = asyncio.Event()
    server.on_send = lambda event: never.wait()
    tasks = [asyncio.create_task(client.send(data)) for data in ("a", "b")]
    await iterations()
    server.give(disconnect(4001))
    for task in tasks:
        with pytest.raises(ConnectionClosedError, match="cannot send: closed by the peer with 4001"):
            await within(task)
    assert server.messages == []


async def test_send_that_is_cancelled_when_the_connection_ends_is_cancelled() -> None:
    server, client = await opened()
    never = asyncio.Event()
    server.on_send = lambda event: never.wait()
    task = asyncio.create_task(client.send("a"))
    await iterations()
    client._end(CloseOutcome(Cause.CLEAN, Side.REMOTE, None, None))
    task.cancel()
    assert await cancelled(task)


async def test_server_that_ignores_the_end_of_a_send_does_not_cancel_the_sender() -> None:
    server, client = await opened()

    async def ignore() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    server.on_send = lambda event: ignore()
    task = asyncio.create_task(client.send("a"))
    await iterations()
    server.give(disconnect())
    await within(task)
    assert task.cancelling() == 0


async def test_close_before_accepting_gives_up_after_its_timeout() -> None:
    never = asyncio.Event()
    server = AsgiServer()
    server.on_send = lambda event: never.wait()
    unannounced = AsgiServer(connect=False)
    for client in (server.client(), unannounced.client()):
        await within(client.close(timeout=0.01))
        assert client.state is State.CLOSED
        assert outcome_of(client).cause is Cause.CLOSE_TIMEOUT
    assert server.sent == unannounced.sent == []


async def test_close_gives_up_an_accept_that_the_server_makes_wait() -> None:
    never = asyncio.Event()
    server = AsgiServer()
    server.on_send = lambda event: never.wait()
    client = server.client()
    tasks = [asyncio.create_task(call) for call in (client.accept(), client.read_message(), client.send("a"))]
    await iterations(10)
    await within(client.close(timeout=0.01))
    assert outcome_of(client).cause is Cause.CLOSE_TIMEOUT
    for task in tasks:
        with pytest.raises(ConnectionClosedError):
            await within(task)


async def test_cancelled_close_before_accepting_still_refuses() -> None:
    server = AsgiServer()
    gate = asyncio.Event()
    server.on_send = lambda event: gate.wait()
    client = server.client()
    task = asyncio.create_task(client.close(1008))
    await iterations()
    task.cancel()
    assert await cancelled(task)
    gate.set()
    await within(client.close())
    assert server.closes == [(1008, "")]
    assert "refused the connection with 403" in outcome_of(client).detail


async def test_client_that_leaves_while_it_is_refused() -> None:
    server = AsgiServer(connect=False)
    client = server.client()
    task = asyncio.create_task(client.close())
    await iterations()
    server.give(disconnect(1006))
    await within(task)
    assert outcome_of(client).cause is Cause.RESET
    assert server.sent == []


async def test_close_that_raises_ends_the_connection() -> None:
    server, client = await opened()

    def fail(event: object) -> None:
        raise Lost("gone")

    server.on_send = fail
    await client.close()
    assert outcome_of(client) == CloseOutcome(Cause.RESET, Side.REMOTE, None, None, "cannot send: Lost: gone")


async def test_close_with_a_code_that_the_server_refuses_sends_1000() -> None:
    """As Daphne does."""
    server, client = await opened()

    def fail(event: dict[str, Any]) -> None:
        if event["code"] == 1008:
            raise ValueError("invalid close code")

    server.on_send = fail
    await client.close(1008, "too loud")
    assert server.closes == [(1000, "")]
    detail = "the ASGI server refused the close code: ValueError: invalid close code"
    assert outcome_of(client) == CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, None, Close(1000), detail)


async def test_block_closes_with_1000() -> None:
    server = AsgiServer(text("a"))
    async with server.client() as client:
        assert await client.read_message() == "a"
    assert server.closes == [(1000, "")]
    assert outcome_of(client).clean


async def test_block_that_raises_closes_with_1011() -> None:
    server = AsgiServer()
    client = server.client()
    await client.accept()
    with pytest.raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    assert server.closes == [(1011, "")]
    assert type(server.sent[-1]["code"]) is int  # Daphne takes no enum
    assert outcome_of(client).cause is Cause.HANDLER_ERROR
    assert outcome_of(client).detail == "the application raised ZeroDivisionError()"


async def test_block_that_is_cancelled_closes_with_1011() -> None:
    server = AsgiServer()

    async def serve() -> None:
        async with server.client() as client:
            await client.read_message()

    task = asyncio.create_task(serve())
    await until(lambda: server.sent)
    task.cancel()
    assert await cancelled(task)
    assert server.closes == [(1011, "")]


@pytest.mark.parametrize("code", [1000, 1006, 4001])
async def test_block_that_ends_with_the_connection_is_no_failure(code: int) -> None:
    server = AsgiServer(disconnect(code))
    async with server.client() as client:
        await client.read_message()
    assert server.closes == []
    assert outcome_of(client).code == code


async def test_block_with_a_task_group_that_ends_with_the_connection() -> None:
    server = AsgiServer(disconnect(1006))
    async with server.client() as client, asyncio.TaskGroup() as group:
        group.create_task(client.read_message())
    assert outcome_of(client).code == 1006


async def test_message_that_cannot_be_decoded_is_no_failure_of_the_block() -> None:
    server = AsgiServer(text("{"))
    async with server.client() as client:
        await client.typed(MOVES).read_message()
    assert [code for code, _ in server.closes] == [1007]


async def test_end_of_another_connection_is_a_failure_of_the_block() -> None:
    _, other = await opened(disconnect(4001))
    server, client = await opened()
    with pytest.raises(ConnectionClosedError):
        async with client:
            await other.read_message()
    assert server.closes == [(1011, "")]


@pytest.mark.parametrize("grouped", [False, True])
async def test_end_of_another_connection_is_a_failure_after_the_end_too(grouped: bool) -> None:
    _, other = await opened(disconnect(4001))
    with pytest.raises(ConnectionClosedError) as caught:
        await other.read_message()
    error = ExceptionGroup("a test", [caught.value]) if grouped else caught.value
    _, client = await opened(disconnect())
    await client.wait_closed()
    with pytest.raises(type(error)):
        async with client:
            raise error


async def test_error_of_the_closing_connection_is_no_failure_if_the_outcome_changes() -> None:
    server, client = await opened()
    never = asyncio.Event()
    server.on_send = lambda event: never.wait()
    async with client:
        closing = asyncio.create_task(client.close(timeout=0.01))
        await iterations()
        assert client.state is State.CLOSING
        await client.send("a")
    await closing
    assert outcome_of(client).cause is Cause.CLOSE_TIMEOUT


async def test_block_that_raises_before_accepting_leaves_the_answer_to_the_server() -> None:
    server = AsgiServer()
    with pytest.raises(ZeroDivisionError):
        async with server.client():
            raise ZeroDivisionError
    assert server.sent == []


async def test_block_that_ends_before_accepting_refuses() -> None:
    server = AsgiServer()
    async with server.client():
        pass
    assert server.closes == [(1000, "")]


# The task of the application --------------------------------------------------------------------------------


@pytest.mark.parametrize("cancel", [False, True])
async def test_connection_ends_with_the_task_of_the_application(cancel: bool) -> None:
    server = AsgiServer()
    clients: list[AsgiClient] = []

    async def application() -> None:
        clients.append(server.client())
        await clients[0].accept()
        if cancel:
            await asyncio.sleep(60)

    task = asyncio.create_task(application())
    await until(lambda: server.sent)
    if cancel:
        task.cancel()
    await asyncio.wait([task])
    [client] = clients
    await client.wait_closed()
    how = "was cancelled" if cancel else "has ended"
    assert outcome_of(client).detail == f"the task of the ASGI application {how}"
    with pytest.raises(ConnectionClosedError, match=how):
        await client.send("a")
    await until(lambda: not server.receiving)


async def test_ended_connection_is_not_kept_by_the_task() -> None:
    _, client = await opened()
    await client.close()
    task = asyncio.current_task()
    assert task is not None
    assert task.remove_done_callback(client._task_ended) == 0


@pytest.mark.parametrize("by_peer", [False, True])
async def test_ended_connection_needs_no_garbage_collection(by_peer: bool) -> None:
    async def application() -> "weakref.ref[AsgiClient]":
        server = AsgiServer()
        async with server.client() as client:
            await client.accept()
            if by_peer:
                server.give(text("unread"), disconnect())
                await client.wait_closed()
        return weakref.ref(client)

    gc.disable()
    try:
        ref = await asyncio.create_task(application())
        await iterations()
        assert ref() is None
    finally:
        gc.enable()


async def test_stopped_receiving_ends_the_connection() -> None:
    _, client = await opened()
    task = client._receiving.task
    assert task is not None
    task.cancel()
    await client.wait_closed()
    assert outcome_of(client).cause is Cause.LOCAL_CANCEL


# Callbacks --------------------------------------------------------------------------------------------------


async def test_closed_callbacks_run_one_after_the_other() -> None:
    _, client = await opened(disconnect(4001))
    log: list[object] = []

    @client.closed
    async def first(outcome: CloseOutcome) -> None:
        log.append(outcome.code)
        await iterations()
        log.append("first")

    @client.closed
    def second(outcome: CloseOutcome) -> None:
        log.append("second")

    await until(lambda: len(log) == 3)
    assert log == [4001, "first", "second"]
    await client.wait_closed()
    client.closed(lambda outcome: log.append("late"))
    await until(lambda: log[-1] == "late")


async def test_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _, client = await opened()
    done = asyncio.Event()

    @client.closed
    def broken(outcome: CloseOutcome) -> None:
        raise ZeroDivisionError

    @client.closed
    async def sends(outcome: CloseOutcome) -> None:
        done.set()
        await client.send("too late")

    with caplog.at_level(logging.ERROR, "streamws"):
        await client.close()
        await done.wait()
        await iterations()
    [record] = caplog.records
    assert record.getMessage().startswith("192.0.2.7:50123: the callback test_callback_that_raises")
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_closed_takes_a_function() -> None:
    _, client = await opened()
    with pytest.raises(UsageError, match="must be a function, not NoneType: to close the connection"):
        client.closed(None)  # type: ignore[type-var]


# Typed messages ---------------------------------------------------------------------------------------------

MOVES = Json(StructMove)


async def test_typed_messages() -> None:
    server, client = await opened(text('{"type":"move","x":1}'), binary(b'{"type":"move","x":2}'), disconnect())
    moves = client.typed(MOVES)
    assert [move.x async for move in moves] == [1, 2]
    server, client = await opened()
    await client.typed(MOVES).send(StructMove(3))
    assert server.messages == ['{"type":"move","x":3,"y":0}']


async def test_typed_message_that_cannot_be_decoded_closes_with_1007() -> None:
    server, client = await opened(text("{"))
    with pytest.raises(DecodeError) as caught:
        await client.typed(MOVES).read_message()
    assert [code for code, _ in server.closes] == [1007]
    assert caught.value.outcome is client.outcome is not None


async def test_typed_message_that_cannot_be_decoded_goes_to_on_error() -> None:
    server, client = await opened(text("{"), text('{"type":"move","x":1}'))

    async def on_error(client: AsgiClient, message: str | bytes, error: DecodeError) -> None:
        await client.send(f"bad: {message!r}")

    moves = client.typed(MOVES, on_error)
    assert (await moves.read_message()).x == 1
    assert server.messages == ["bad: '{'"]


async def test_typed_callbacks_are_an_error_that_says_what_to_write() -> None:
    _, client = await opened()
    with pytest.raises(UsageError, match="AsgiClient calls no functions: use async for or read_message"):
        client.typed(MOVES).message(print)


# Not in ASGI ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISSING)
async def test_name_that_asgi_does_not_allow_says_what_to_write(name: str) -> None:
    client = AsgiServer().client()
    with pytest.raises(UsageError, match=f"'AsgiClient' object has no attribute '{name}': .*ASGI"):
        getattr(client, name)
    assert not hasattr(client, name)
    assert name not in dir(client)


def test_every_public_name_of_client_is_there_or_says_what_to_write() -> None:
    names, own = (
        {name for name, value in vars(kind).items() if not name.startswith("_") and not isinstance(value, Hint)}
        for kind in (Client, AsgiClient)
    )
    assert names - set(MISSING) <= own
    assert set(MISSING) <= names


@pytest.mark.parametrize(
    ("name", "instead"),
    [("recv", r"client.read_message\(\)"), ("send_text", r"client.send\(text\)"), ("path_params", "client.scope")],
)
async def test_name_of_another_library_says_what_to_write(name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=instead):
        getattr(AsgiServer().client(), name)


# Other loops ------------------------------------------------------------------------------------------------


async def test_calls_in_another_loop_are_errors() -> None:
    server, client = await opened()

    def elsewhere() -> None:
        with pytest.raises(UsageError, match=r"outside the event loop of the connection: write asyncio\.run"):
            asyncio.run(client.close())
        for call in (client.send("a"), client.read_message(), client.wait_closed()):
            with pytest.raises(UsageError, match="outside the event loop"):
                asyncio.run(call)
        with pytest.raises(UsageError, match="outside the event loop"):
            client.closed(print)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(elsewhere)
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(client.send("b"), loop).result(10))
    assert server.messages == ["b"]
    await client.close()
