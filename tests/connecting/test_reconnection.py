"""`async for client in connect(...)`: consecutive connections over real sockets."""

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import streamws
import streamws.connecting.connect as connecting
from helpers.fixtures import Serve, echo, url_of
from helpers.waiting import until, within
from streamws import (
    Backoff,
    Client,
    ConnectError,
    Connecting,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeRefused,
    InvalidURL,
    ReconnectError,
    Request,
    Response,
    State,
    Target,
    Timeouts,
    UsageError,
)
from streamws.codes import CloseOutcome
from streamws.connecting.attempt import ClientOpening
from streamws.server import Handler

QUICK = Backoff(first=0.001, most=0.01)
FIXED = Backoff(first=1, factor=2, most=100, jitter=0)
"""For tests with the fixture `waits`, which records the delays instead of waiting."""


def unused_url(unused: socket.socket) -> str:
    return "ws://{}:{}/".format(*unused.getsockname())


def connect(target: Any, **options: Any) -> Connecting:
    options = {"proxy": None, "backoff": QUICK} | options
    return streamws.connect(target, **options)


Body = Callable[[Client], Awaitable[object]]


async def read_all(client: Client) -> None:
    """Read as in the guide: the loop body ends with the connection."""
    with suppress(ConnectionClosed):
        async for _ in client:
            pass


async def stop(client: Client) -> bool:
    return True


async def run_loop(connecting: Connecting, body: Body = read_all) -> None:
    """Run the loop body for each connection, until it returns True."""
    async with asyncio.timeout(10), aclosing(aiter(connecting)) as clients:
        async for client in clients:
            if await body(client):
                break


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the delays between attempts, and end each of them immediately."""
    recorded: list[float] = []

    async def wait(seconds: float) -> None:
        recorded.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(connecting, "sleep", wait)
    return recorded


@pytest.fixture
async def unused() -> AsyncIterator[socket.socket]:
    """A bound socket that does not listen yet."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


class Visits:
    """A handler that waits until the connection is closed, and records the outcome of each connection."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.outcomes: list[CloseOutcome] = []

    async def __call__(self, client: Client) -> None:
        self.clients.append(client)
        await client.wait_closed()
        assert client.outcome is not None
        self.outcomes.append(client.outcome)

    @property
    def codes(self) -> list[int | None]:
        """The close codes received from the clients."""
        return [None if outcome.received is None else outcome.received.code for outcome in self.outcomes]


@pytest.fixture
def visits() -> Visits:
    return Visits()


class Refusals:
    """A request callback that returns each of the responses once, and then accepts."""

    def __init__(self, *responses: Response) -> None:
        self.responses = list(responses)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response | None:
        self.requests.append(request)
        return self.responses.pop(0) if self.responses else None


# Reconnecting ----------------------------------------------------------------------------------------------


async def close_cleanly(client: Client) -> None:
    await client.close()


async def close_with_error(client: Client) -> None:
    await client.close(4000, "enough")


async def drop(client: Client) -> None:
    client._connection.abort()


async def drop_inside_message(client: Client) -> None:
    with suppress(ConnectionClosed):
        async with client.writer.data_frame(10) as frame:
            await frame.write(b"five.")
            client._connection.transport.close()
            await client.wait_closed()


@pytest.mark.parametrize("end", [close_cleanly, close_with_error, drop, drop_inside_message])
async def test_client_reconnects_after(serve: Serve, end: Handler) -> None:
    server = await serve(end)
    clients = []

    async def body(client: Client) -> bool:
        clients.append(client)
        await read_all(client)
        assert client.state is not State.OPEN
        return len(clients) == 3

    await run_loop(connect(url_of(server)), body)
    assert len({client.id for client in clients}) == 3


async def test_client_reconnects_after_loop_body_that_catches_end_itself(serve: Serve) -> None:
    server = await serve(close_with_error)
    ends = []
    async with asyncio.timeout(10), aclosing(aiter(connect(url_of(server)))) as clients:
        async for client in clients:
            try:
                await client.read_message()
            except ConnectionClosed as error:
                ends.append(error.outcome.code)
                if len(ends) < 3:
                    continue
            break
    assert ends == [4000] * 3


async def test_client_retries_until_server_starts(
    serve: Serve, unused: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            await serve(echo, sock=unused.dup())

    async def body(client: Client) -> bool:
        await client.send("here")
        assert await client.read_message() == "here"
        return True

    monkeypatch.setattr(connecting, "sleep", wait)
    await run_loop(connect(unused_url(unused), backoff=FIXED), body)
    assert waits == [1, 2, 4]


async def test_loop_body_that_ends_early_closes_connection(serve: Serve, visits: Visits) -> None:
    server = await serve(visits)
    clients: list[Client] = []

    async def body(client: Client) -> bool:
        assert [earlier.state for earlier in clients] == [State.CLOSED] * len(clients)
        clients.append(client)
        return len(clients) == 3

    await run_loop(connect(url_of(server)), body)
    await until(lambda: len(visits.outcomes) == 3)
    assert visits.codes == [1000] * 3


async def test_loops_over_one_connect_are_independent(serve: Serve, visits: Visits) -> None:
    server = await serve(visits)
    both = connect(url_of(server))
    async with asyncio.timeout(10), aclosing(aiter(both)) as some, aclosing(aiter(both)) as others:
        clients = [await anext(some), await anext(others)]
        assert [client.state for client in clients] == [State.OPEN] * 2


async def test_loop_with_given_socket_is_refused() -> None:
    own, other = socket.socketpair()
    with own, other, pytest.raises(UsageError, match="one connection"):
        await run_loop(connect("ws://localhost/", sock=own))


# Waiting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [close_cleanly, close_with_error])
@pytest.mark.parametrize(("stable", "expected"), [(1000, [1, 2, 4]), (0, [1, 1, 1])])
async def test_delays_grow_until_connection_is_stable(
    serve: Serve, waits: list[float], end: Handler, stable: float, expected: list[float]
) -> None:
    server = await serve(end)

    async def body(client: Client) -> bool:
        await read_all(client)
        return len(waits) == 3

    await run_loop(connect(url_of(server), backoff=Backoff(first=1, jitter=0, stable=stable)), body)
    assert waits == expected


@pytest.mark.usefixtures("fast_timers")
async def test_loop_body_that_continues_after_end_does_not_make_connection_stable(
    serve: Serve, waits: list[float]
) -> None:
    server = await serve(close_cleanly)

    async def body(client: Client) -> bool:
        await client.wait_closed()
        if len(waits) == 1:
            await asyncio.sleep(0.6)
        return len(waits) == 2

    await run_loop(connect(url_of(server), backoff=Backoff(first=1, jitter=0, stable=0.5)), body)
    assert waits == [1, 2]


@pytest.mark.usefixtures("fast_timers")
async def test_peer_that_does_not_close_does_not_make_connection_stable(
    serve: Serve, visits: Visits, waits: list[float]
) -> None:
    server = await serve(visits, timeouts=Timeouts(close=0.1))

    async def body(client: Client) -> bool:
        if len(waits) == 1:
            await until(lambda: len(visits.clients) == 2)
            visits.clients[1]._connection.transport.pause_reading()  # so that it never answers
        return len(waits) == 2

    backoff = Backoff(first=1, jitter=0, stable=0.5)
    await run_loop(connect(url_of(server), backoff=backoff, timeouts=Timeouts(close=0.6)), body)
    assert waits == [1, 2]


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (lambda: "7", 7, 7.5),
        (lambda: in_seconds(100), 80, 100.5),
        (lambda: "9999", 600, 600.5),
        (lambda: in_seconds(9999), 600, 600.5),
        (lambda: "later", 0.25, 0.5),
    ],
    ids=["seconds", "date", "seconds-capped", "date-capped", "neither"],
)
async def test_client_waits_for_time_of_retry_after(
    serve: Serve, waits: list[float], status: int, make: Callable[[], str], least: float, most: float
) -> None:
    server = await serve(echo, request=Refusals(Response(status, "busy", {"retry-after": make()})))
    await run_loop(connect(url_of(server), backoff=Backoff()), stop)
    [wait] = waits
    assert least <= wait <= most


@pytest.mark.parametrize("code", [1012, 1013])
async def test_client_waits_longer_for_restarting_server(serve: Serve, waits: list[float], code: int) -> None:
    async def handler(client: Client) -> None:
        await client.close(code)

    async def body(client: Client) -> bool:
        await read_all(client)
        return bool(waits)

    server = await serve(handler)
    await run_loop(connect(url_of(server), backoff=Backoff()), body)
    [wait] = waits
    assert 5 <= wait <= 30.5


# The URL of each attempt -----------------------------------------------------------------------------------


Given = list[str | Target | Exception]


def factory_of(targets: Given, is_async: bool = False) -> Callable[[], Any]:
    """Return a function that returns or raises the next target at each call."""

    def give() -> str | Target:
        target = targets.pop(0)
        if isinstance(target, Exception):
            raise target
        return target

    async def give_later() -> str | Target:
        await asyncio.sleep(0)
        return give()

    return give_later if is_async else give


kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@kinds
async def test_factory_returns_url_and_headers_of_each_attempt(serve: Serve, is_async: bool) -> None:
    refusals = Refusals(Response(503), Response(503))
    server = await serve(close_cleanly, request=refusals)
    targets: Given = [
        url_of(server, "/1"),
        Target(url_of(server, "/2"), {"authorization": "Bearer 2", "X-Other": "own"}),
        Target(url_of(server, "/3"), [("Authorization", "Bearer 3")]),
        url_of(server, "/4"),
    ]

    async def body(client: Client) -> bool:
        await read_all(client)
        return not targets

    usual = {"Authorization": "Bearer 0", "X-Usual": "yes"}
    await run_loop(connect(factory_of(targets, is_async), headers=usual), body)
    assert [(request.path, request.headers["Authorization"]) for request in refusals.requests] == [
        ("/1", "Bearer 0"),
        ("/2", "Bearer 2"),
        ("/3", "Bearer 3"),
        ("/4", "Bearer 0"),
    ]
    assert [request.headers.get_all("X-Usual") for request in refusals.requests] == [("yes",)] * 4


@kinds
async def test_url_function_that_raises_fails_its_attempt(serve: Serve, waits: list[float], is_async: bool) -> None:
    server = await serve(close_cleanly)
    failures = [OSError("the token server is down"), TimeoutError(), KeyError("token")]
    targets: Given = [*failures[:2], url_of(server), failures[2]]
    with pytest.raises(ReconnectError) as error:
        await run_loop(connect(factory_of(targets, is_async)))
    assert error.value.attempts == tuple(failures)
    assert error.value.__cause__ is failures[2]
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("given", "kind"), [(None, TypeError), (b"ws://localhost/", TypeError), ("http://localhost/", InvalidURL)]
)
async def test_factory_that_returns_no_valid_url_ends_loop(given: Any, kind: type[Exception]) -> None:
    with pytest.raises(ReconnectError) as error:
        await run_loop(connect(lambda: given))
    assert isinstance(error.value.__cause__, kind)


# Giving up -------------------------------------------------------------------------------------------------


async def test_retry_is_called_with_each_error_and_ends_loop(serve: Serve, waits: list[float]) -> None:
    asked: list[Exception] = []

    def retry(error: Exception) -> bool:
        asked.append(error)
        return len(asked) < 3

    server = await serve(close_with_error, request=Refusals(Response(401, "token expired")))
    with pytest.raises(ReconnectError) as error:
        await run_loop(connect(url_of(server), retry=retry))
    assert [type(each) for each in asked] == [HandshakeRefused, ConnectionClosedError, ConnectionClosedError]
    assert error.value.attempts == tuple(asked)
    assert len(waits) == 2


async def test_loop_ends_with_reasons_of_all_attempts(serve: Serve, unused: socket.socket, waits: list[float]) -> None:
    server = await serve(echo, request=Refusals(Response(503), Response(401, "token expired")))
    targets: Given = [unused_url(unused), unused_url(unused), url_of(server), url_of(server)]
    with pytest.raises(ReconnectError) as raised:
        await run_loop(connect(factory_of(targets)))
    error = raised.value
    assert [type(each) for each in error.attempts] == [ConnectError, ConnectError, HandshakeRefused, HandshakeRefused]
    assert error.__cause__ is error.attempts[-1]
    assert [bool(each.__traceback__) for each in error.attempts] == [False, False, False, True]
    assert str(error).startswith("gave up after 4 failed attempts: ConnectError: ")
    assert str(error).endswith("HandshakeRefused: 401 Unauthorized: token expired")
    assert len(waits) == 3


@pytest.mark.parametrize("most", [1, 3])
async def test_loop_ends_after_maximum_number_of_attempts(unused: socket.socket, waits: list[float], most: int) -> None:
    with pytest.raises(ReconnectError) as error:
        await run_loop(connect(unused_url(unused), backoff=Backoff(max_attempts=most)))
    assert error.value.count == most
    assert len(waits) == most - 1


async def test_untrusted_certificate_ends_loop(serve: Serve, server_context: ssl.SSLContext) -> None:
    server = await serve(echo, ssl=server_context)
    with pytest.raises(ReconnectError, match="self-signed certificate") as error:
        await run_loop(connect(url_of(server).replace("ws:", "wss:")))
    assert error.value.count == 1


async def test_endless_attempts_use_bounded_memory(serve: Serve, waits: list[float]) -> None:
    server = await serve(echo, request=lambda request: Response(503, b"x" * 1000))
    counted = []

    def retry(error: Exception) -> bool:
        if len(waits) % 50 == 49:
            gc.collect()
            counted.append(sum(isinstance(thing, ClientOpening) for thing in gc.get_objects()))
        return len(waits) < 149

    with pytest.raises(ReconnectError) as error:
        await run_loop(connect(url_of(server), retry=retry))
    assert error.value.count == 150
    assert len(error.value.attempts) == 100
    assert counted == [1] * 3  # only the error being handled


# Leaving ---------------------------------------------------------------------------------------------------


class Boom(Exception):
    """Raised by a loop body."""


async def leave_by_break(url: str) -> None:
    async for client in connect(url):
        assert client.state is State.OPEN
        break


async def leave_by_return(url: str) -> None:
    async for _ in connect(url):
        return


async def leave_by_error(url: str) -> None:
    async for _ in connect(url):
        raise Boom


async def leave_after_failures(url: str) -> None:
    async for _ in connect(factory_of([OSError(), OSError(), url])):
        break


async def leave_by_deadline(url: str) -> None:
    async with asyncio.timeout(None) as deadline:
        async for client in connect(url):
            deadline.reschedule(asyncio.get_running_loop().time())
            await client.wait_closed()


kept: list[AsyncIterator[Client]] = []


async def keep_iterator(url: str) -> None:
    kept.append(aiter(connect(url)))
    await anext(kept[0])


Leave = Callable[[str], Coroutine[object, None, None]]
LEAVING = [leave_by_break, leave_by_return, leave_by_error, leave_after_failures, leave_by_deadline]


@pytest.mark.parametrize("leave", LEAVING)
async def test_loop_closes_its_connection_when_left(serve: Serve, visits: Visits, leave: Leave) -> None:
    server = await serve(visits)
    tasks = asyncio.all_tasks()
    with suppress(Boom, TimeoutError):
        await within(leave(url_of(server)))
    # The async generator's finalizer has started a task that closes the connection.
    await until(lambda: visits.outcomes and len(asyncio.all_tasks()) <= len(tasks))
    assert visits.codes == [1000]
    assert visits.outcomes[0].clean


async def test_loop_closes_its_connection_when_cancelled(serve: Serve, visits: Visits) -> None:
    server = await serve(visits)
    tasks = asyncio.all_tasks()
    connected = asyncio.Event()

    async def read(client: Client) -> None:
        connected.set()
        await read_all(client)

    task = asyncio.create_task(run_loop(connect(url_of(server)), read))
    await within(connected.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    await until(lambda: visits.outcomes and len(asyncio.all_tasks()) <= len(tasks))
    assert visits.codes == [1000]


@pytest.mark.parametrize("error", [None, Boom()])
async def test_aclosing_waits_until_connection_is_closed(serve: Serve, visits: Visits, error: Exception | None) -> None:
    clients = []

    async def body(client: Client) -> bool:
        clients.append(client)
        if error is not None:
            raise error
        return True

    server = await serve(visits)
    with suppress(Boom):
        await run_loop(connect(url_of(server)), body)
    assert clients[0].state is State.CLOSED
    assert clients[0].outcome is not None
    assert clients[0].outcome.clean


async def test_loop_body_raises_connection_closed_out_of_loop(serve: Serve, waits: list[float]) -> None:
    async def body(client: Client) -> None:
        async for _ in client:
            pass

    server = await serve(close_with_error)
    with pytest.raises(ConnectionClosedError) as error:
        await run_loop(connect(url_of(server)), body)
    assert error.value.outcome.code == 4000
    assert waits == []


@pytest.mark.parametrize("leave", [*LEAVING, keep_iterator])
async def test_end_of_program_closes_connection(
    serve: Serve, visits: Visits, own_loop: asyncio.AbstractEventLoop, leave: Leave
) -> None:
    server = await serve(visits)

    def program() -> None:
        with asyncio.Runner(loop_factory=lambda: own_loop) as runner, suppress(Boom, TimeoutError):
            runner.run(leave(url_of(server)))
        kept.clear()

    await within(asyncio.to_thread(program))
    await until(lambda: visits.outcomes)
    assert visits.codes == [1000]


async def test_client_cancelled_between_attempts_leaves_nothing_open(unused: socket.socket) -> None:
    waiting = asyncio.Event()

    def retry(error: Exception) -> bool:
        waiting.set()
        return True

    task = asyncio.create_task(run_loop(connect(unused_url(unused), retry=retry, backoff=Backoff(first=60))))
    await within(waiting.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)


async def test_client_cancelled_during_attempt_leaves_nothing_open(unused: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    unused.listen()
    unused.setblocking(False)
    task = asyncio.create_task(run_loop(connect(unused_url(unused))))
    accepted, _ = await within(loop.sock_accept(unused))
    with accepted:
        accepted.setblocking(False)
        assert await within(loop.sock_recv(accepted, 10)) == b"GET / HTTP"  # the server never responds
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)


async def test_client_cancelled_while_closing_drops_connection(serve: Serve, visits: Visits) -> None:
    clients = []

    async def body(client: Client) -> None:
        clients.append(client)
        await until(lambda: visits.clients)
        visits.clients[0]._connection.transport.pause_reading()  # so that it never answers

    server = await serve(visits, timeouts=Timeouts(close=0.1))
    task = asyncio.create_task(run_loop(connect(url_of(server), timeouts=Timeouts(close=None)), body))
    await until(lambda: clients and clients[0].state is State.CLOSING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    await within(clients[0].wait_closed())


# Logging ---------------------------------------------------------------------------------------------------


async def test_reconnection_is_logged_as_one_line(
    serve: Serve, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    async def body(client: Client) -> bool:
        await read_all(client)
        return len(waits) == 2

    server = await serve(close_with_error, request=Refusals(Response(503, "busy\n")))
    caplog.set_level(logging.INFO, "streamws")
    await run_loop(connect(url_of(server), backoff=FIXED), body)
    lines = [record.getMessage() for record in caplog.records if "reconnecting" in record.msg]
    assert lines == [
        "reconnecting in 1.0 s: HandshakeRefused: 503 Service Unavailable: busy",
        'reconnecting in 2.0 s: closed by the peer with 4000 "enough"',
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


@pytest.mark.parametrize("end", [close_cleanly, drop])
async def test_log_reports_end_before_next_attempt(
    serve: Serve, waits: list[float], caplog: pytest.LogCaptureFixture, end: Handler
) -> None:
    async def body(client: Client) -> bool:
        await read_all(client)
        return len(waits) == 1

    server = await serve(end)
    caplog.set_level(logging.INFO, "streamws")
    await run_loop(connect(url_of(server)), body)
    own = [
        record.msg for record in caplog.records if not record.msg.startswith("%s")
    ]  # the others come from the server
    assert [message.split(" %")[0] for message in own] == [
        "connected to",
        "connection to",
        "reconnecting in",
        "connected to",
        "connection to",
    ]


async def test_log_contains_no_secrets(
    serve: Serve, waits: list[float], unused: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(close_with_error, request=Refusals(Response(503)))
    places = [unused_url(unused), url_of(server), url_of(server)]
    urls = [f"{place.replace('//', '//Ann:secret1@')}feed?token=secret2" for place in places]
    targets: Given = [Target(url, {"X-Token": "secret3"}) for url in urls]
    caplog.set_level(logging.INFO, "streamws")
    await run_loop(connect(factory_of(targets)), stop)
    lines = [record.getMessage() for record in caplog.records]
    own = [line for line in lines if " opened " not in line]  # that line comes from the server
    assert len(own) >= 4
    assert "secret" not in "".join(own)
