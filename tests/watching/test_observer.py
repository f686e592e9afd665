"""`observer=`: what it is told, in which order, and what happens if it raises."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, url_of
from helpers.frames import CLOSE, TEXT, request
from helpers.peers import Peer, hardy, open_peer, scripted
from helpers.programs import script
from helpers.waiting import iterations, until
from streamws import (
    Cause,
    Client,
    CloseOutcome,
    ConnectionStats,
    HandshakeRefused,
    Limits,
    Observer,
    Request,
    Response,
    Timeouts,
    WebSocketServer,
)
from streamws import connect as connect_to

SMALL = Limits(write_high=20_000, write_low=5_000, max_write_backlog=1_000_000)


class Recorder(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.ended: list[tuple[CloseOutcome, ConnectionStats]] = []

    def opened(self, client: Client) -> None:
        self.events.append(("opened", client.id))

    def refused(self, status: int, reason: str) -> None:
        self.events.append((f"refused {status}", reason))

    def closed(self, client: Client, outcome: CloseOutcome, stats: ConnectionStats) -> None:
        assert client.outcome == outcome
        assert client.stats == stats
        self.events.append(("closed", client.id))
        self.ended.append((outcome, stats))

    def slow(self, client: Client, backlog: int) -> None:
        self.events.append(("slow", backlog))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


async def hold(client: Client) -> None:
    await client.wait_closed()


# Opened and closed ------------------------------------------------------------------------------------------


async def leave(peer: Peer) -> None:
    peer.send(CLOSE, b"\x03\xe8")


async def vanish(peer: Peer) -> None:
    peer.half_close()


async def cut(peer: Peer) -> None:
    peer.reset()


async def cut_in_a_frame(peer: Peer) -> None:
    peer.write(peer.frame(TEXT, b"message")[:5])
    await peer.close()


async def violate(peer: Peer) -> None:
    peer.send(0x83)
    await peer.read_rest()
    await peer.close()


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (leave, Cause.CLEAN),
        (vanish, Cause.RESET),
        (cut, Cause.RESET),
        (cut_in_a_frame, Cause.RESET),
        (violate, Cause.PROTOCOL_ERROR),
    ],
)
async def test_observer_of_a_server_sees_each_connection_open_and_close_once(
    serve: Serve, end: Callable[[Peer], Awaitable[None]], cause: Cause
) -> None:
    observer = Recorder()
    told: list[list[str]] = []

    async def handler(client: Client) -> None:
        told.append(observer.kinds)
        await client.wait_closed()

    socket = await serve(handler, observer=observer)
    peer = await open_peer(socket.port)
    peer.send(TEXT, b"hello")
    await peer.settle()
    await end(peer)
    await until(lambda: not socket.clients)
    await peer.close()
    [(opened, first), (closed, second)] = observer.events
    assert (opened, closed) == ("opened", "closed")
    assert first == second
    assert told == [["opened"]]  # before the handler began
    [(outcome, stats)] = observer.ended
    assert outcome.cause is cause
    assert stats.messages_received == 1
    assert stats.duration > 0


async def test_observer_sees_a_connection_that_its_handler_leaves_in_the_same_chunk(serve: Serve) -> None:
    observer = Recorder()

    async def handler(client: Client) -> None:
        client._connection.abort()

    socket = await serve(handler, observer=observer)
    peer = await open_peer(socket.port)
    await peer.read_rest()
    await until(lambda: not socket.clients)
    assert observer.kinds == ["opened", "closed"]
    await peer.close()


async def test_observer_sees_the_connections_end_when_the_server_closes(connect: Connect) -> None:
    observer = Recorder()
    socket = WebSocketServer("127.0.0.1", 0, handler=hold, observer=observer, timeouts=Timeouts(close=0.05))
    async with socket:
        for _ in range(3):
            await connect(socket)  # peers that never answer
        under_way = await connect(socket, upgrade=False)
        await until(lambda: socket.stats.handshakes == 1)
    assert observer.kinds == ["opened"] * 3 + ["closed"] * 3
    assert {outcome.cause for outcome, _ in observer.ended} == {Cause.CLOSE_TIMEOUT}
    await under_way.read_until_eof()


async def test_observer_is_told_of_callback_connections_too(serve: Serve) -> None:
    observer = Recorder()
    socket = await serve(connection=lambda client: None, observer=observer)
    peer = await open_peer(socket.port)
    await peer.close()
    await until(lambda: not socket.clients)
    assert observer.kinds == ["opened", "closed"]


async def test_observer_is_not_told_of_a_handshake_that_is_cut(serve: Serve, connect: Connect) -> None:
    observer = Recorder()
    socket = await serve(hold, observer=observer)
    raw = await connect(socket, upgrade=False)
    await raw.send(request()[:-1])
    await until(lambda: socket.stats.handshakes == 1)
    raw.close()
    await until(lambda: socket.stats.failed == 1)
    assert observer.events == []


async def test_observer_is_told_of_refusals(serve: Serve) -> None:
    observer = Recorder()

    def answer(request: Request) -> Response | None:
        return {"/healthz": Response(200), "/old": Response(301), "/private": Response(401)}.get(request.path)

    socket = await serve(hold, request=answer, observer=observer, limits=Limits(max_clients=1))
    peer = await open_peer(socket.port)
    for path in ("/healthz", "/old", "/private", "/"):
        with pytest.raises(HandshakeRefused):
            await connect_to(url_of(socket, path), proxy=None, max_redirects=0)
    assert observer.events[1:] == [
        ("refused 401", "by @socket.request"),
        ("refused 503", "the server is full (Limits.max_clients is 1)"),
    ]
    assert socket.stats.refused == {401: 1, 503: 1}
    await peer.close()


async def test_observer_of_a_client_sees_each_connection() -> None:
    observer = Recorder()
    async with scripted(hardy) as server:
        async with connect_to(server.url, observer=observer, proxy=None) as client:
            assert observer.events == [("opened", client.id)]
            await client.send("hello")
            await client.read_message()
        assert observer.events == [("opened", client.id), ("closed", client.id)]
        [(outcome, stats)] = observer.ended
        assert outcome.clean
        assert (stats.messages_sent, stats.messages_received) == (1, 1)
        dropped = await connect_to(server.url, observer=observer, proxy=None)
        dropped._connection.abort()
        await dropped.wait_closed()
    assert observer.kinds == ["opened", "closed"] * 2
    assert observer.ended[1][0].cause is Cause.RESET


async def test_observer_of_a_client_gets_the_client_that_the_application_has_forgotten() -> None:
    observer = Recorder()
    async with scripted(hardy) as server:
        await connect_to(server.url, observer=observer, proxy=None)
        (await server.peer()).send_close()
        await until(lambda: observer.ended)
    assert observer.kinds == ["opened", "closed"]


async def test_observer_of_a_client_is_told_nothing_of_a_failed_attempt(serve: Serve) -> None:
    observer = Recorder()
    socket = await serve(hold, hosts=["example.org"])
    with pytest.raises(HandshakeRefused):
        await connect_to(url_of(socket), observer=observer, proxy=None)
    assert observer.events == []


# Slow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["server", "client"])
async def test_observer_is_told_once_of_a_slow_peer_and_again_after_it_was_fast(role: str, serve: Serve) -> None:
    observer = Recorder()
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    done = asyncio.Event()

    async def accept(peer: Peer) -> None:
        await peer.accept()
        peers.put_nowait(peer)
        await done.wait()

    async with asyncio.timeout(10), scripted(accept) as server:
        if role == "server":
            socket = await serve(hold, observer=observer, limits=SMALL)
            peer = await open_peer(socket.port)
            [client] = socket.clients.values()
        else:
            client = await connect_to(server.url, observer=observer, limits=SMALL, proxy=None)
            peer = await peers.get()
        reading: asyncio.Task[bytes] | None = None
        for _ in range(2):
            observer.events.clear()
            # The loop does not run meanwhile, so that the peer reads nothing.
            while client.stats.backlog <= 500_000:
                client.send(bytes(10_000)).close()
            client.send(bytes(10_000)).close()
            backlog = client.stats.backlog
            assert observer.events == []  # never from inside a send
            await asyncio.sleep(0)
            [(kind, value)] = observer.events
            assert kind == "slow"
            assert 500_000 < int(str(value)) <= backlog
            reading = reading or asyncio.create_task(peer.read_rest())
            await until(lambda: client.stats.backlog == 0)
            assert len(observer.events) == 1
        client._connection.abort()
        await client.wait_closed()
        done.set()
        await peer.close()
        assert reading is not None
        await reading


async def test_observer_is_told_that_a_peer_is_slow_before_it_is_dropped(serve: Serve, connect: Connect) -> None:
    observer = Recorder()
    socket = await serve(hold, observer=observer, limits=SMALL, timeouts=Timeouts(close=0.05))
    raw = await connect(socket, receive_buffer=4096)
    while socket.broadcast(bytes(300_000)):
        pass
    await until(lambda: not socket.clients)
    assert observer.kinds == ["opened", "slow", "closed"]
    assert observer.ended[0][0].cause is Cause.LIMIT
    raw.close()


async def test_observer_is_told_of_messages_that_wait_for_their_turn(serve: Serve, connect: Connect) -> None:
    observer = Recorder()
    socket = await serve(hold, observer=observer, limits=SMALL)
    raw = await connect(socket)
    [client] = socket.clients.values()
    reading = asyncio.create_task(raw.read_until_eof())
    for _ in range(2):
        observer.events.clear()
        async with client.writer.fragment() as stream:
            await stream.send("a message in parts, which others wait for")
            while client.backlog <= 500_000:
                assert socket.broadcast(bytes(10_000)) == 1
            await asyncio.sleep(0)
            assert observer.events == [("slow", client.backlog)]
            socket.broadcast(bytes(10_000))
            await asyncio.sleep(0)
            assert len(observer.events) == 1
        await until(lambda: client.backlog == 0)
    client.abort()
    await reading


@pytest.mark.parametrize("role", ["server", "client"])
async def test_slow_may_send_and_close_even_if_the_backlog_is_one_huge_message(serve: Serve, role: str) -> None:
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Closing(Observer):
        def slow(self, client: Client, backlog: int) -> None:
            client.send("you are slow").close()
            closing.append(asyncio.ensure_future(client.close(4000)))

    closing: list[asyncio.Future[None]] = []
    message = b"x" * 6_000_000

    async def receive(client: Client) -> None:
        assert await client.read_message() == message
        assert await client.read_message() == "you are slow"
        await client.wait_closed()
        said.set_result(b"")

    async def send(client: Client) -> None:
        client.send(message).close()
        await client.wait_closed()

    slow = Limits(max_write_backlog=1_000_000)
    fast = Limits(max_message_size=10_000_000)
    mine: dict[str, Any] = {"observer": Closing(), "limits": slow}
    socket = await serve(send if role == "server" else receive, **(mine if role == "server" else {"limits": fast}))
    options: dict[str, Any] = {"limits": fast} if role == "server" else mine
    async with asyncio.timeout(10), connect_to(url_of(socket), proxy=None, **options) as client:
        await (receive if role == "server" else send)(client)
        await said
        await asyncio.gather(*closing)


# Exceptions -------------------------------------------------------------------------------------------------


class Failing(Observer):
    def opened(self, client: Client) -> None:
        raise ValueError("opened")

    def refused(self, status: int, reason: str) -> None:
        raise ValueError("refused")

    def closed(self, client: Client, outcome: CloseOutcome, stats: ConnectionStats) -> None:
        raise asyncio.CancelledError("closed")

    def slow(self, client: Client, backlog: int) -> None:
        raise ValueError("slow")


async def test_error_of_an_observer_is_logged_and_harms_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(client: Client) -> None:
        async for message in client:
            await client.send(message)

    socket = await serve(handler, observer=Failing(), limits=Limits(max_clients=1))
    async with connect_to(url_of(socket), observer=Failing(), proxy=None) as client:
        with pytest.raises(HandshakeRefused):
            await connect_to(url_of(socket), proxy=None)
        await client.send("hello")
        assert await client.read_message() == "hello"
        other = next(iter(socket.clients.values()))
        client._connection.slow()
        await iterations()
    await until(lambda: not socket.clients)
    assert other.outcome is not None
    assert other.outcome.clean
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert sorted(record.getMessage() for record in errors) == sorted(
        [f"Failing.{name} raised an exception" for name in ["opened", "refused", "closed", "slow", "opened", "closed"]]
    )
    assert all(record.exc_info for record in errors)


METHODS = ["opened", "closed", "slow", "refused"]

PROGRAM = """
import asyncio, importlib, os
from contextlib import suppress
from streamws import *

class Ending(Observer):
    def {method}(self, *arguments):
        raise SystemExit(7)

async def echo(client):
    async for message in client:
        await client.send(message)

async def main():
    server = WebSocketServer("127.0.0.1", 0, handler=echo, **{server})
    ended = []
    try:
        async with server:
            with suppress(StreamwsError):
                async with connect(f"ws://127.0.0.1:{{server.port}}/", proxy=None, **{client}) as client:
                    client._connection.slow()
                    for each in server.clients.values():
                        each._connection.slow()
                    await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            print("still serving", flush=True)
            os._exit(3)
    finally:
        print("stopped", server.stats.connections, flush=True)

with asyncio.Runner(loop_factory=importlib.import_module({loop!r}).new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("role", "method"),
    [*(("server", method) for method in METHODS), *(("client", method) for method in METHODS if method != "refused")],
)
async def test_system_exit_of_an_observer_ends_the_program(loop: str, method: str, role: str) -> None:
    server = {"server": "dict(observer=Ending())", "client": "{}"}[role]
    if method == "refused":
        server = "dict(observer=Ending(), hosts=['example.org'])"
    client = "dict(observer=Ending())" if role == "client" else "{}"
    source = PROGRAM.format(loop=loop, method=method, server=server, client=client)
    async with script(source) as program:
        assert await program.end() == 7, program.stderr
        assert program.stdout == "stopped 0\n", program.stderr


# Arguments and context --------------------------------------------------------------------------------------


async def test_observer_runs_in_the_context_of_the_start() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    class Seeing(Observer):
        def opened(self, client: Client) -> None:
            seen.append(variable.get())
            variable.set("changed")

        def closed(self, client: Client, outcome: CloseOutcome, stats: ConnectionStats) -> None:
            seen.append(variable.get())

    variable.set("of the start")
    async with WebSocketServer("127.0.0.1", 0, handler=hold, observer=Seeing()) as socket:
        variable.set("of a client")
        async with connect_to(url_of(socket), proxy=None):
            pass
        await until(lambda: not socket.clients)
    assert seen == ["of the start"] * 2


def test_observer_must_be_one_with_plain_functions() -> None:
    class Coroutines(Observer):
        async def opened(self, client: Client) -> None:  # type: ignore[override]
            pass

    for make in (lambda observer: WebSocketServer("", 0, handler=hold, observer=observer), with_connect):
        with pytest.raises(TypeError, match=r"must be an object of a subclass of streamws\.Observer, not 'print'"):
            make("print")
        with pytest.raises(TypeError, match=r"Coroutines\.opened must be a plain function: write `def opened`"):
            make(Coroutines())
        with pytest.raises(TypeError, match="observer must be an object"):
            make(Recorder)


def with_connect(observer: Any) -> object:
    return connect_to("ws://localhost", observer=observer)


def test_observer_does_nothing_by_itself() -> None:
    observer: Any = Observer()
    assert observer.opened(None) is observer.closed(None, None, None) is observer.refused(1, "") is None
    assert observer.slow(None, 1) is None
