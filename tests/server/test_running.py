"""Starting and stopping: `with`, `async with`, `serve_forever`, `run`, `close`."""

import asyncio
import contextlib
import logging
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, address_of, client_of, echo
from helpers.frames import CLOSE, TEXT, close, text
from helpers.frames import client_frame as frame
from helpers.peers import Address, RawClient
from helpers.programs import script
from helpers.waiting import PATIENCE, cancelled, within
from streamws import Cause, Client, Close, CloseOutcome, Side, Timeouts, UsageError, WebSocketServer

PEM = Path(__file__).parents[1] / "helpers" / "localhost.pem"
STOPS = b"\x03\xe9server shutting down"
BRIEF = Timeouts(close=0.2)


async def exchange(address: Address) -> tuple[int, bytes]:
    """Connect, send a message, close, and return the echo."""
    raw = await RawClient.connect(address)
    await raw.upgrade()
    await raw.send(text("works") + close())
    answer = await raw.read_frame()
    assert await raw.read_frame() == (CLOSE, b"\x03\xe8")
    assert await raw.read_until_eof() == b""
    raw.close()
    return answer


# --- with, on a loop of one's own


def test_with_serves_on_the_loop_of_the_application(own_loop: asyncio.AbstractEventLoop) -> None:
    server = WebSocketServer("127.0.0.1", 0, loop=own_loop, handler=echo)
    with server as listening:
        assert listening.is_serving()
        address = listening.sockets[0].getsockname()
        assert own_loop.run_until_complete(exchange(address)) == (TEXT, b"works")
        own_loop.call_soon(own_loop.stop)
        own_loop.run_forever()
    assert not listening.is_serving()
    with pytest.raises(ConnectionRefusedError):
        own_loop.run_until_complete(RawClient.connect(address))


def test_with_accepts_callbacks(own_loop: asyncio.AbstractEventLoop) -> None:
    server = WebSocketServer("127.0.0.1", 0, loop=own_loop)

    @server.connection
    async def on_connection(client: Client) -> None:
        await client.send("hello")
        await client.close()

    async def listen_to(address: Address) -> tuple[int, bytes]:
        raw = await RawClient.connect(address)
        await raw.upgrade()
        greeting = await raw.read_frame()
        raw.close()
        return greeting

    with server as listening:
        address = listening.sockets[0].getsockname()
        assert own_loop.run_until_complete(listen_to(address)) == (TEXT, b"hello")


def test_with_stops_when_its_block_raises(own_loop: asyncio.AbstractEventLoop) -> None:
    server = WebSocketServer("127.0.0.1", 0, loop=own_loop, handler=echo)
    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt
    assert not server.sockets


def test_with_needs_a_loop() -> None:
    with pytest.raises(UsageError, match="`with` needs a loop"), WebSocketServer(port=0, handler=echo):
        pass


async def test_with_inside_a_running_loop_names_async_with() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo, loop=asyncio.get_running_loop())
    with pytest.raises(UsageError, match="one is already running: use `async with`"), server:
        pass


def test_with_raises_the_error_of_listening(own_loop: asyncio.AbstractEventLoop) -> None:
    server = WebSocketServer("192.0.2.1", 0, handler=echo, loop=own_loop)
    with pytest.raises(OSError, match=r"cannot listen on '192\.0\.2\.1', port 0"), server:
        pass


# --- async with


async def test_async_with_serves_until_its_end() -> None:
    async with WebSocketServer("127.0.0.1", 0, handler=echo) as server:
        address = address_of(server)
        assert await exchange(address) == (TEXT, b"works")
        raw = await RawClient.connect(address)
        await raw.upgrade()
        client = client_of(server, raw)
        answer = asyncio.ensure_future(answer_close(raw))
    assert await answer == (CLOSE, STOPS)
    assert client.outcome == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1001), Close(1001, "server shutting down"))
    assert not server.clients
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(address)


async def answer_close(raw: RawClient) -> tuple[int, bytes]:
    """Answer the Close frame of the server, and return it."""
    received = await raw.read_frame()
    await raw.send(frame(CLOSE, received[1][:2]))
    assert await raw.read_until_eof() == b""
    raw.close()
    return received


async def test_serve_forever_ends_when_the_server_is_closed(serve: Serve) -> None:
    server = await serve(echo)
    serving = [asyncio.ensure_future(server.serve_forever()) for _ in range(2)]
    await exchange(address_of(server))
    assert not any(task.done() for task in serving)
    await server.close()
    await within(asyncio.gather(*serving))


async def test_serve_forever_cancelled_does_not_stop_the_server(serve: Serve) -> None:
    server = await serve(echo)
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])
    assert await exchange(address_of(server)) == (TEXT, b"works")


async def test_serve_forever_needs_a_started_server() -> None:
    with pytest.raises(UsageError, match="this server is not started"):
        await WebSocketServer(port=0, handler=echo).serve_forever()


SERVE_FOREVER = """
import asyncio, importlib, signal, socket
from helpers.fixtures import echo
from streamws import Timeouts, WebSocketServer

async def main():
    before = signal.getsignal(signal.SIGINT)
    sock = socket.create_server(("127.0.0.1", 0))
    async with WebSocketServer(sock=sock, handler=echo, timeouts=Timeouts(close=60)) as server:
        print(sock.getsockname()[1], flush=True)
        await server.serve_forever(signals={signals})
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    print("stopped", flush=True)

with asyncio.Runner(loop_factory=importlib.import_module({loop!r}).new_event_loop) as runner:
    runner.run(main())
"""
LOOPS = ["asyncio", "uvloop"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_forever_stops_gracefully_at_its_signals(number: signal.Signals, loop: str) -> None:
    async with script(SERVE_FOREVER.format(signals="(signal.SIGTERM, signal.SIGINT)", loop=loop)) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(number)
        assert await answer_close(raw) == (CLOSE, STOPS)
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


async def test_serve_forever_drops_everything_at_a_second_signal() -> None:
    async with script(SERVE_FOREVER.format(signals="[signal.SIGTERM]", loop="asyncio")) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(signal.SIGTERM)
        assert await raw.read_frame() == (CLOSE, STOPS)
        running.process.send_signal(signal.SIGTERM)
        assert await raw.read_until_eof() == b""
        raw.close()
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


TWO_SERVERS = """
import asyncio, os, signal

from streamws import WebSocketServer

async def handler(client):
    await client.wait_closed()

async def main():
    before = signal.getsignal(signal.SIGTERM)
    servers = [WebSocketServer("127.0.0.1", 0, handler=handler) for _ in range(2)]
    async with servers[0] as a, servers[1] as b:
        serving = asyncio.gather(*(server.serve_forever(signals=[signal.SIGTERM]) for server in (a, a, b)))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        assert not a.sockets and not b.sockets
    assert signal.getsignal(signal.SIGTERM) is before
    print("stopped", flush=True)

asyncio.run(main())
"""


async def test_serve_forever_stops_every_server_of_a_program_at_a_signal() -> None:
    async with script(TWO_SERVERS) as running:
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


async def test_serve_forever_leaves_signals_alone_unless_asked() -> None:
    async with script(SERVE_FOREVER.format(signals="()", loop="asyncio")) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(signal.SIGTERM)
        assert await raw.read_until_eof() == b""
        raw.close()
        assert (await running.end(), running.stdout.count("stopped")) == (-signal.SIGTERM, 0)


async def test_serve_forever_handles_signals_in_the_main_thread_only() -> None:
    async def serve_one() -> None:
        async with WebSocketServer("127.0.0.1", 0, handler=echo) as server:
            await server.serve_forever(signals=[signal.SIGTERM])

    with pytest.raises(UsageError, match="can handle signals: leave signals= out in other threads"):
        await asyncio.to_thread(asyncio.run, serve_one())


async def test_serve_forever_on_another_loop_is_an_error(serve: Serve) -> None:
    server = await serve(echo)
    with pytest.raises(UsageError, match="this server runs on another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(server.serve_forever()))


# --- close


async def test_close_may_be_called_by_several_tasks(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    answer = asyncio.ensure_future(answer_close(await connect(server)))
    await within(asyncio.gather(*(server.close() for _ in range(3))))
    assert await answer == (CLOSE, STOPS)
    await within(server.close())


async def test_close_lets_a_handler_finish(serve: Serve, connect: Connect) -> None:
    finished = asyncio.Event()

    async def handler(client: Client) -> None:
        await client.wait_closed()
        await asyncio.sleep(0.05)
        finished.set()

    server = await serve(handler)
    answer = asyncio.ensure_future(answer_close(await connect(server)))
    await within(server.close())
    assert finished.is_set()
    assert await answer == (CLOSE, STOPS)


async def test_close_by_a_handler_does_not_wait_for_itself(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        if await client.read_message() == "stop":
            await server.close()

    server = await serve(handler)
    raw = await connect(server)
    await raw.send(text("stop"))
    assert await answer_close(raw) == (CLOSE, STOPS)
    await within(server.serve_forever())


@pytest.mark.usefixtures("fast_timers")
async def test_close_is_bounded_when_a_client_does_not_answer(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=BRIEF)
    raw = await connect(server)
    client = client_of(server, raw)
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()
    assert await raw.read_until_eof() == b"\x88\x16" + STOPS
    assert client.outcome == CloseOutcome(
        Cause.CLOSE_TIMEOUT, Side.LOCAL, None, Close(1001, "server shutting down"), "waited 0.2 s"
    )


@pytest.mark.usefixtures("fast_timers")
async def test_close_is_bounded_when_a_handler_ignores_its_cancellation(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = asyncio.Event()

    async def stubborn(client: Client) -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    server = await serve(stubborn, timeouts=BRIEF)
    await connect(server)
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "did not end when it was cancelled" in record.getMessage()
    let_go.set()


@pytest.mark.usefixtures("fast_timers")
async def test_close_by_a_task_of_a_handler_is_bounded(serve: Serve, connect: Connect) -> None:
    """`close` and the handler wait for each other, until the handler is cancelled."""

    async def handler(client: Client) -> None:
        await asyncio.gather(server.close())

    server = await serve(handler, timeouts=BRIEF)
    raw = await connect(server)
    assert await raw.read_frame() == (CLOSE, STOPS)
    assert await raw.read_until_eof() == b""
    async with asyncio.timeout(PATIENCE / 2):
        await server.serve_forever()


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("answers", [True, False], ids=["client answers", "client does not"])
async def test_close_is_bounded_when_a_handler_hangs(answers: bool, serve: Serve, connect: Connect) -> None:
    cancelled = asyncio.Event()

    async def handler(client: Client) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server = await serve(handler, timeouts=BRIEF)
    raw = await connect(server)
    answer = asyncio.ensure_future(answer_close(raw)) if answers else None
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()
    assert cancelled.is_set()
    if answer is not None:
        assert await answer == (CLOSE, STOPS)


@pytest.mark.usefixtures("fast_timers")
async def test_close_is_bounded_when_a_client_never_reads(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        while True:
            await client.send(bytes(100_000))

    server = await serve(handler, timeouts=BRIEF)
    await connect(server)
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()


async def test_close_drops_clients_in_the_opening_handshake(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server, upgrade=False)
    await raw.send(b"GET / HTTP/1.1\r\n")
    async with asyncio.timeout(PATIENCE / 2):
        await server.close()
    assert await raw.read_until_eof() == b""


async def test_close_drops_clients_that_are_being_accepted(serve: Serve) -> None:
    """In any loop iteration between the connection of a client and its request."""
    for turns in range(6):
        server = await serve(echo)
        raw = await RawClient.connect(address_of(server))
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE / 2):
                await server.close()
            assert await ends(raw)
            assert not server.clients
        finally:
            raw.close()


async def ends(raw: RawClient) -> bool:
    """Return whether a connection ends, by FIN or RST, whatever is sent."""
    try:
        await raw.send(b"GET / HTTP/1.1\r\n")
        return await raw.read_until_eof() == b""
    except (BrokenPipeError, ConnectionResetError):
        return True


async def test_close_cancelled_drops_everything_at_once(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raw = await connect(server)
    closing = asyncio.ensure_future(server.close())
    assert await raw.read_frame() == (CLOSE, STOPS)
    closing.cancel()
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.wait([closing])
    assert closing.cancelled()
    assert await raw.read_until_eof() == b""


# --- run

RUN = """
import asyncio, logging, socket
from helpers.fixtures import echo
from streamws import Timeouts, WebSocketServer

async def hang(client):
    await asyncio.Event().wait()

async def flood(client):
    while True:
        await client.send("x" * 1000)

logging.getLogger("streamws").addHandler(logging.NullHandler())
sock = socket.create_server(("127.0.0.1", 0))
loop = {loop}
server = WebSocketServer(sock=sock, handler={handler}, timeouts=Timeouts(close={close}), loop=loop)
print(sock.getsockname()[1], flush=True)
server.run()
print("stopped", flush=True)
if loop is not None:
    loop.close()
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("loop", ["None", "asyncio.new_event_loop()"], ids=["new loop", "own loop"])
@pytest.mark.parametrize("number", SIGNALS)
async def test_run_stops_gracefully_at_a_signal(number: signal.Signals, loop: str) -> None:
    async with script(RUN.format(handler="echo", close=60, loop=loop)) as running:
        address = ("127.0.0.1", int(await running.says(r"\d+")))
        assert await exchange(address) == (TEXT, b"works")
        raw = await RawClient.connect(address)
        await raw.upgrade()
        running.process.send_signal(number)
        assert await answer_close(raw) == (CLOSE, STOPS)
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


@pytest.mark.parametrize("number", SIGNALS)
async def test_run_stops_at_a_signal_while_a_handler_sends_without_end(number: signal.Signals) -> None:
    async with script(RUN.format(handler="flood", close=60, loop="None")) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(number)
        while (received := await raw.read_frame()) == (TEXT, b"x" * 1000):
            pass
        assert received == (CLOSE, STOPS)
        await raw.send(frame(CLOSE, STOPS))
        raw.close()
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


@pytest.mark.parametrize("handler", ["echo", "hang"])
@pytest.mark.parametrize("number", SIGNALS)
async def test_run_drops_everything_at_a_second_signal(number: signal.Signals, handler: str) -> None:
    async with script(RUN.format(handler=handler, close=60, loop="None")) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(number)
        assert await raw.read_frame() == (CLOSE, STOPS)
        running.process.send_signal(number)
        assert await raw.read_until_eof() == b""
        raw.close()
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


async def test_run_stops_within_the_close_timeout(serve: Serve) -> None:
    async with script(RUN.format(handler="hang", close=0.2, loop="None")) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        running.process.send_signal(signal.SIGTERM)
        assert await raw.read_until_eof() == b"\x88\x16" + STOPS
        raw.close()
        assert (await running.end(), running.stderr) == (0, "")


@pytest.mark.parametrize("loop", ["None", "asyncio.new_event_loop()"], ids=["new loop", "own loop"])
async def test_run_ends_when_a_handler_closes_the_server(loop: str) -> None:
    async with script(RUN.format(handler="lambda client: server.close()", close=60, loop=loop)) as running:
        raw = await RawClient.connect(("127.0.0.1", int(await running.says(r"\d+"))))
        await raw.upgrade()
        assert await answer_close(raw) == (CLOSE, STOPS)
        await running.says("^stopped$")
        assert (await running.end(), running.stderr) == (0, "")


@contextlib.contextmanager
def running_in_a_thread(loop: asyncio.AbstractEventLoop | None, **options: Any) -> Iterator[WebSocketServer]:
    """Run a server in another thread; check that it was stopped."""
    server = WebSocketServer("127.0.0.1", 0, handler=echo, loop=loop, **options)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while thread.is_alive() and not server.sockets:
            time.sleep(0.001)
        assert errors == []
        yield server
    finally:
        asyncio.run(server.close())
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert errors == []


@pytest.mark.parametrize("kind", ["new loop", "own loop"])
def test_run_serves_in_a_thread_until_it_is_closed(kind: str, own_loop: asyncio.AbstractEventLoop) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with running_in_a_thread(None if kind == "new loop" else own_loop) as server:
        assert asyncio.run(exchange(address_of(server))) == (TEXT, b"works")
        assert [signal.getsignal(number) for number in SIGNALS] == before
        asyncio.run(server.close())
        assert not server.sockets
    asyncio.run(server.close())  # it has stopped already


def test_close_in_another_thread_lets_clients_answer() -> None:
    async def close_and_answer(server: WebSocketServer) -> tuple[int, bytes]:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        closing = [asyncio.ensure_future(server.close()) for _ in range(2)]
        received = await answer_close(raw)
        await within(asyncio.gather(*closing))
        return received

    with running_in_a_thread(None) as server:
        assert asyncio.run(close_and_answer(server)) == (CLOSE, STOPS)


def test_close_cancelled_in_another_thread_drops_everything_at_once() -> None:
    async def cancel(server: WebSocketServer) -> None:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        closing = asyncio.ensure_future(server.close())
        assert await raw.read_frame() == (CLOSE, STOPS)
        closing.cancel()
        assert await cancelled(closing)
        assert await raw.read_until_eof() == b""
        raw.close()

    with running_in_a_thread(None, timeouts=Timeouts(close=60)) as server:
        asyncio.run(cancel(server))


def test_close_in_another_thread_ends_if_the_program_of_the_loop_ends_first() -> None:
    begun = threading.Event()

    async def handler(client: Client) -> None:
        await asyncio.get_running_loop().create_future()

    server = WebSocketServer("127.0.0.1", 0, handler=handler, timeouts=Timeouts(close=60))

    async def end_while_the_server_stops() -> None:
        await server.start()
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        begun.set()
        assert await raw.read_frame() == (CLOSE, STOPS)
        raw.close()

    thread = threading.Thread(target=asyncio.run, args=(end_while_the_server_stops(),))
    thread.start()
    assert begun.wait(PATIENCE)
    asyncio.run(within(server.close()))
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_close_before_the_start_ends_run_in_a_thread() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)
    asyncio.run(server.close())
    server.run()
    assert not server.sockets


async def test_close_while_the_server_starts_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def resolve_slowly(*arguments: Any, **options: Any) -> object:
        await closed.wait()
        return await resolve(*arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", resolve_slowly)
    server = WebSocketServer("localhost", 0, handler=echo)
    starting = asyncio.ensure_future(server.start())
    await asyncio.sleep(0)
    await server.close()
    closed.set()
    with pytest.raises(UsageError, match="this server was closed while it was starting: make a new one to listen"):
        await starting
    assert not server.sockets
    with pytest.raises(UsageError, match="this server was already started: make a new one to listen again"):
        await server.start()


async def test_closed_server_does_not_start() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)
    await server.close()
    with pytest.raises(UsageError, match="this server was closed: make a new one to listen"):
        await server.start()


async def test_close_needs_the_loop_of_the_server_to_run() -> None:
    loop = asyncio.SelectorEventLoop()
    server = WebSocketServer("127.0.0.1", 0, handler=echo, loop=loop)

    def serve_for_a_while() -> None:
        with server, pytest.raises(UsageError, match="cannot close this server: its event loop is not running"):
            asyncio.run(server.close())
        loop.close()

    await asyncio.to_thread(serve_for_a_while)


async def test_run_inside_a_running_loop_names_serve_forever() -> None:
    with pytest.raises(UsageError, match=r"one is already running: use `async with` and `serve_forever\(\)`"):
        WebSocketServer("127.0.0.1", 0, handler=echo).run()


SAYS_WHERE = """
import asyncio, logging, os, signal, ssl, sys
from helpers.fixtures import echo
from streamws import WebSocketServer

os.chdir({folder!r})
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain({certificate!r})
server = WebSocketServer({arguments}, handler=echo)
{prepare}

async def stop():
    while not server.sockets:
        await asyncio.sleep(0)
    print(server.sockets[0].getsockname(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

loop = asyncio.new_event_loop()
server._loop = loop
task = loop.create_task(stop())
server.run()
loop.close()
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('"127.0.0.1", 0', r"serving ws://127\.0\.0\.1:\d+\n"),
        ('"localhost", 0, ssl=context', r"serving wss://localhost:\d+\n"),
        ('["127.0.0.1", "localhost"], 0', r"serving ws://127\.0\.0\.1:\d+, ws://localhost:\d+\n"),
        ('"", 0', r"serving ws://0\.0\.0\.0:\d+(, ws://\[::\]:\d+)?\n"),
        ('path="chat.sock"', r"serving ws on the Unix socket chat\.sock\n"),
        ('path="chat.sock", ssl=context', r"serving wss on the Unix socket chat\.sock\n"),
    ],
)
async def test_run_says_where_it_serves(arguments: str, says: str, tmp_path: Path) -> None:
    values = {"folder": str(tmp_path), "certificate": str(PEM), "prepare": ""}
    async with script(SAYS_WHERE.format(arguments=arguments, **values)) as running:
        assert await running.end() == 0
        assert re.fullmatch(says, running.stderr)


@pytest.mark.parametrize(
    "prepare",
    [
        "logging.basicConfig()",
        'logging.getLogger("streamws").addHandler(logging.NullHandler())',
        "logging.basicConfig(handlers=[logging.NullHandler()])",
    ],
)
async def test_run_says_nothing_if_logging_is_configured(prepare: str, tmp_path: Path) -> None:
    values = {"folder": str(tmp_path), "certificate": str(PEM), "prepare": prepare}
    async with script(SAYS_WHERE.format(arguments='"127.0.0.1", 0', **values)) as running:
        assert (await running.end(), running.stderr) == (0, "")


def test_run_raises_the_error_of_listening() -> None:
    with pytest.raises(OSError, match=r"cannot listen on '192\.0\.2\.1', port 0"):
        WebSocketServer("192.0.2.1", 0, handler=echo).run()
