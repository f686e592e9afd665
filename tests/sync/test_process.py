"""The blocking client in programs: Ctrl-C, fork, notebooks, the end of the program."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from helpers.elsewhere import Elsewhere
from helpers.fixtures import Serve, echo, url_of
from helpers.programs import Program, script
from streamws import Client, CloseOutcome
from streamws.sync import connect, loop_thread

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork of POSIX")


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[[str, str], Program]:
    """Return a function that makes a program, on the loop under test, from its source and the URL of a server."""

    def make(source: str, url: str) -> Program:
        lines = [
            "import os, sys, threading, time",
            "from streamws import ConnectionClosed, UsageError",
            "from streamws.sync import connect, loop_thread",
            f"url = {url!r}",
        ]
        if request.node.callspec.params["fresh_thread"] == "asyncio":
            lines.append("loop_thread.fast_loops = None")
        return script("\n".join([*lines, source]))

    return make


Make = Callable[[str, str], Program]

one_loop = pytest.mark.parametrize("fresh_thread", ["uvloop"], indirect=True)
"""Programs take long to start, so most tests run on one loop only."""


class Server:
    """A handler that sends messages back, and remembers how its connections have ended."""

    def __init__(self) -> None:
        self.outcomes: asyncio.Queue[CloseOutcome | None] = asyncio.Queue()

    async def __call__(self, client: Client) -> None:
        try:
            await echo(client)
        finally:
            self.outcomes.put_nowait(client.outcome)

    async def code(self) -> int:
        """Return the close code of the next connection that ends; 1006 if there was none."""
        async with asyncio.timeout(20):
            outcome = await self.outcomes.get()
        assert outcome is not None
        return 1006 if outcome.received is None else outcome.received.code


# Ctrl-C -----------------------------------------------------------------------------------------------------------


@one_loop
async def test_ctrl_c_interrupts_a_read_and_loses_nothing(serve: Serve, program: Make) -> None:
    source = """
with connect(url) as ws:
    for read in (ws.read_message, lambda: next(iter(ws)), lambda: ws.read_message(60)):
        try:
            print("waiting", flush=True)
            read()
        except KeyboardInterrupt:
            ws.send("after")
            print("interrupted, then read", ws.read_message(), flush=True)
    print("waiting for the end", flush=True)
    for message in ws:
        pass
"""
    handler = Server()
    async with program(source, url_of(await serve(handler))) as run:
        for _ in range(3):
            await run.says("waiting")
            await asyncio.sleep(0.05)  # until it waits
            run.process.send_signal(signal.SIGINT)
            await run.says("interrupted, then read after")
        await run.says("waiting for the end")
        await asyncio.sleep(0.05)
        assert await run.interrupt() == -signal.SIGINT
        assert run.stderr.rstrip().endswith("KeyboardInterrupt")
    assert await handler.code() == 1001


@one_loop
async def test_ctrl_c_interrupts_a_send_that_waits(serve: Serve, program: Make) -> None:
    go = asyncio.Event()

    async def handler(client: Client) -> None:
        await go.wait()
        count = 0
        async for _ in client:
            count += 1
        counts.put_nowait(count)

    counts: asyncio.Queue[int] = asyncio.Queue()
    source = """
ws = connect(url)
count = 0
def report():
    while not ws._link._senders:
        time.sleep(0.001)
    print("waiting", flush=True)
threading.Thread(target=report).start()
try:
    while True:
        ws.send(bytes(100_000))
        count += 1
except KeyboardInterrupt:
    print("interrupted", flush=True)
ws.close()
print("sent", count, flush=True)
"""
    async with program(source, url_of(await serve(handler))) as run:
        await run.says("waiting")
        await asyncio.sleep(0.05)
        run.process.send_signal(signal.SIGINT)
        await run.says("interrupted")
        go.set()
        assert int(await run.says(r"sent (\d+)")) == await counts.get()
        assert await run.end() == 0
        assert run.stderr == ""


@one_loop
async def test_ctrl_c_interrupts_connect_and_leaves_nothing_open(serve: Serve, program: Make) -> None:
    gone = asyncio.Event()

    async def answer_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await reader.read()
        gone.set()
        writer.close()

    arrived = asyncio.Event()
    source = """
try:
    connect(url)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.read()
"""
    async with await asyncio.start_server(answer_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = program(source, f"ws://127.0.0.1:{port}")
        made._stdin = asyncio.subprocess.PIPE
        async with made as run:
            await arrived.wait()
            run.process.send_signal(signal.SIGINT)
            await run.says("interrupted")
            async with asyncio.timeout(10):
                await gone.wait()
            run.end_input()
            assert await run.end() == 0
            assert run.stderr == ""


@one_loop
async def test_signal_handler_may_use_the_connection_that_it_interrupts(serve: Serve, program: Make) -> None:
    source = """
import signal
ws = connect(url)
signal.signal(signal.SIGTERM, lambda number, frame: ws.close(4000, "terminated"))
print("waiting", flush=True)
try:
    ws.read_message()
except ConnectionClosed as error:
    print(error, flush=True)
"""
    handler = Server()
    async with program(source, url_of(await serve(handler))) as run:
        await run.says("waiting")
        await asyncio.sleep(0.05)
        run.process.send_signal(signal.SIGTERM)
        await run.says("4000")
        assert await run.end() == 0
        assert run.stderr == ""
    assert await handler.code() == 4000


@one_loop
async def test_signals_at_any_moment_lose_nothing_and_wedge_nothing(serve: Serve, program: Make) -> None:
    source = """
import signal
def handle(number, frame):
    global count
    count += 1
    if count % 3 == 0:
        ws.ping(timeout=20)
    elif armed:
        raise KeyboardInterrupt
count = sent = received = 0
armed = False
ws = connect(url)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while count < 600 and sent < 20_000:
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        armed = True
        while True:
            if sent > received + 50:
                message = ws.read_message(0)
                received += 1  # no function is called between the two, so no signal is processed
            ws.send("x")
            sent += 1
    except KeyboardInterrupt:
        armed = False
    except TimeoutError:
        armed = False
        time.sleep(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
armed = False
ws.send("last")
received += 1
while ws.read_message(20) != "last":
    received += 1
assert received == ws.stats.messages_sent
ws.close()
print("done", flush=True)
"""
    handler = Server()
    async with program(source, url_of(await serve(handler))) as run:
        assert await run.end() == 0, run.stderr
        assert (run.stdout, run.stderr) == ("done\n", "")
    assert await handler.code() == 1000


# The end of the program -------------------------------------------------------------------------------------------


async def test_program_that_forgets_to_close_ends_with_1001(serve: Serve, program: Make) -> None:
    source = """
import atexit, gc, warnings
idle, unread, read, iterated, late = [connect(url) for _ in range(5)]
unread.send("never read")
threading.Thread(target=read.read_message, daemon=True).start()
threading.Thread(target=list, args=(iterated,), daemon=True).start()
atexit.register(lambda: (late.send("last"), late.read_message()))
gc.disable()
warnings.simplefilter("ignore", ResourceWarning)
connect(url)  # nothing refers to it
idle = [idle]
idle.append(idle)
print("over")
"""
    handler = Server()
    async with program(source, url_of(await serve(handler))) as run:
        assert await run.end() == 0
        assert (run.stdout, run.stderr) == ("over\n", "")
    assert [await handler.code() for _ in range(6)] == [1001] * 6


@one_loop
async def test_program_ends_although_the_peer_does_not(serve: Serve, program: Make) -> None:
    over = asyncio.Event()

    async def read_nothing(client: Client) -> None:
        await over.wait()
        client.abort()

    source = """
loop_thread._GRACE = 0.1
ws = connect(url)
def flood():
    while True:
        ws.send(bytes(1_000_000))
threading.Thread(target=flood, daemon=True).start()
sent = -1
while not ws._link._senders or sent != ws.stats.messages_sent:  # until all buffers are full
    sent = ws.stats.messages_sent
    time.sleep(0.1)
"""
    async with program(source, url_of(await serve(read_nothing))) as run:
        assert await run.end() == 0
        assert (run.stdout, run.stderr) == ("", "")
    over.set()


@one_loop
async def test_calls_after_the_end_raise(serve: Serve, program: Make) -> None:
    source = """
import atexit
def late():
    for call in (ws.send, ws.read_message, ws.ping, connect, ws.close):
        try:
            call(*([url] if call in (connect, ws.send) else []))
        except (ConnectionClosed, UsageError) as error:
            print(type(error).__name__, error, flush=True)
    print(ws, flush=True)
atexit.register(late)
from streamws.sync import loop_thread
# Called before `late`, as if the application had registered that before it imported streamws.sync.
atexit.unregister(loop_thread._stop)
atexit.register(loop_thread._stop)
ws = connect(url)
"""
    async with program(source, url_of(await serve(echo))) as run:
        assert await run.end() == 0
        assert run.stderr == ""
    kinds = [line.split()[0] for line in run.stdout.splitlines()]
    assert kinds == ["ConnectionClosed"] * 2 + ["UsageError"] * 3 + ["<streamws.sync.Client"], run.stdout
    assert "cannot call connect(): the program is ending" in run.stdout


@one_loop
async def test_observer_may_end_the_program(serve: Serve, program: Make) -> None:
    source = """
from streamws import Observer
class Ending(Observer):
    def closed(self, client, outcome, stats):
        sys.exit("enough")
ws = connect(url, observer=Ending())
ws.close()
time.sleep(60)
"""
    async with program(source, url_of(await serve(echo))) as run:
        assert await run.end() == -signal.SIGINT
        assert run.stderr.rstrip().endswith("KeyboardInterrupt")


# fork -------------------------------------------------------------------------------------------------------------


async def test_child_connects_anew_and_leaves_the_parent_alone(serve: Serve, program: Make) -> None:
    source = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
ended = connect(url)
ended.close()
ws = connect(url)
ws.send("unread")
while not ws._link._messages:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    with ended, ws:  # which does not close them
        pass
    calls = [lambda: ws.send("x"), ws.read_message, lambda: next(iter(ws)), ws.ping, ws.close, ws.abort]
    calls += [ended.read_message, ended.close]
    for call in calls:
        try:
            call()
        except UsageError as error:
            assert "belongs to the parent process" in str(error)
        else:
            print("no error", call)
    with connect(url) as own:
        own.send("child")
        print(own.read_message(), flush=True)
    del ws
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(ws.read_message())
ws.send("parent")
print(ws.read_message(), ws.ping() > 0)
ws.close()
"""
    handler = Server()
    async with program(source, url_of(await serve(handler))) as run:
        assert await run.end() == 0
        assert run.stderr == ""
        assert run.stdout.splitlines() == ["child", "unread", "parent True"]
    assert [await handler.code() for _ in range(3)] == [1000, 1000, 1000]


@one_loop
async def test_child_of_a_busy_parent_is_not_blocked(serve: Serve, program: Make) -> None:
    source = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
ws = connect(url)
def talk():
    while not over:
        ws.send("x")
        ws.read_message()
over = False
thread = threading.Thread(target=talk)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            ws.send("y")
        except UsageError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
over = True
thread.join()
ws.close()
print("done")
"""
    async with program(source, url_of(await serve(echo))) as run:
        assert await run.end() == 0
        assert (run.stdout, run.stderr) == ("done\n", "")


@one_loop
async def test_child_of_multiprocessing_sends_and_closes_at_its_end(serve: Serve, program: Make) -> None:
    source = """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
def work():
    global ws
    ws = connect(url)
    ws.send("of the child")
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
print(child.exitcode)
"""
    received: list[str | bytes] = []
    handler = Server()

    async def remember(client: Client) -> None:
        try:
            async for message in client:
                received.append(message)
        finally:
            handler.outcomes.put_nowait(client.outcome)

    async with program(source, url_of(await serve(remember))) as run:
        assert await run.end() == 0
        assert (run.stdout, run.stderr) == ("0\n", "")
    assert await handler.code() == 1001
    assert received == ["of the child"]


# Notebooks --------------------------------------------------------------------------------------------------------


def test_thread_whose_own_loop_runs_may_block(elsewhere: Elsewhere) -> None:
    url = elsewhere.url()

    async def cell() -> list[str | bytes]:
        with connect(url) as ws:
            ws.send("in the coroutine")
            here = ws.read_message()
            await asyncio.to_thread(ws.send, "in a thread")
            return [here, await asyncio.to_thread(ws.read_message)]

    assert asyncio.run(cell()) == ["in the coroutine", "in a thread"]


def test_all_connections_share_one_thread(elsewhere: Elsewhere) -> None:
    url = elsewhere.url()
    with connect(url), connect(url):
        assert [thread.name for thread in threading.enumerate()].count("streamws.sync") == 1


def test_import_starts_no_thread() -> None:
    assert loop_thread._process.thread is None
