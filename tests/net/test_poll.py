"""One epoll for all sockets of a loop."""

import asyncio
import gc
import importlib
import logging
import os
import select
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest

from helpers.counting import counting_loop, descriptors
from helpers.fixtures import Connect, Serve, address_of, echo, url_of
from helpers.frames import TEXT, text
from helpers.leaks import open_sockets
from helpers.peers import RawClient
from helpers.programs import script
from helpers.virtual import build_of, packages
from helpers.waiting import iterations, until, within
from streamws import Client, WebSocketServer
from streamws import connect as connect_to
from streamws.awaiting.internals import WAKES_DIRECTLY
from streamws.net import poll as poll_module
from streamws.net.poll import LoopPoll, Poll, poll_of
from streamws.net.sockets import READ, WRITE

MOST = 64
"""The most events of one callback."""


def nothing() -> None:
    """Do nothing for an event."""


@pytest.fixture(params=packages(), ids=build_of)
def poll_build(request: pytest.FixtureRequest) -> ModuleType:
    """The module `net.poll` of each build."""
    return importlib.import_module(f"{request.param}.net.poll")


class Sockets:
    """Sockets that a poll watches, each with the socket at its other end."""

    def __init__(self, module: ModuleType, loop: asyncio.AbstractEventLoop) -> None:
        self._module = module
        self.poll = module.poll_of(loop)
        self.poll.attach()
        self._open: list[socket.socket] = []

        class Watched(module.Watched):  # type: ignore[misc, name-defined]
            def __init__(self, sock: socket.socket, on_read: Callable[[], object], on_write: Callable[[], object]):
                super().__init__(sock.fileno())
                self.sock = sock
                self._on_read = on_read
                self._on_write = on_write

            def read_ready(self) -> object:
                return self._on_read()

            def write_ready(self) -> None:
                self._on_write()

        self._kind = Watched

    def watched(
        self, sock: socket.socket, on_read: Callable[[], object] = nothing, on_write: Callable[[], object] = nothing
    ) -> Any:
        """Make what the poll watches; it is not watched yet."""
        return self._kind(sock, on_read, on_write)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair()
        near.setblocking(False)
        self._open += [near, far]
        return near, far

    def ready(self, on_read: Callable[[], object]) -> Any:
        """Watch a socket that can be read from, and stays so."""
        near, far = self.pair()
        far.send(b"x")
        watched = self.watched(near, on_read)
        self.poll.watch(watched, READ)
        return watched

    def close(self) -> None:
        self.poll.detach()
        for sock in self._open:
            sock.close()


@pytest.fixture
def sockets(poll_build: ModuleType, own_loop: asyncio.AbstractEventLoop) -> Iterator[Sockets]:
    sockets = Sockets(poll_build, own_loop)
    yield sockets
    sockets.close()


def run(loop: asyncio.AbstractEventLoop, count: int = 3) -> None:
    """Run some iterations of a loop."""
    loop.run_until_complete(iterations(count))


# Events -----------------------------------------------------------------------------------------------------


def test_poll_calls_a_socket_that_is_ready(sockets: Sockets, own_loop: asyncio.AbstractEventLoop) -> None:
    calls: list[str] = []
    near, far = sockets.pair()
    watched = sockets.watched(near, lambda: calls.append(near.recv(10).decode()), lambda: calls.append("write"))
    sockets.poll.watch(watched, READ)
    run(own_loop)
    assert calls == []
    far.send(b"data")
    run(own_loop)
    assert calls == ["data"]
    sockets.poll.watch(watched, WRITE)
    far.send(b"more")
    run(own_loop)
    assert set(calls[1:]) == {"write"}
    sockets.poll.watch(watched, 0)
    del calls[:]
    run(own_loop)
    assert calls == []


def test_poll_tells_reader_and_writer_of_a_broken_socket(sockets: Sockets, own_loop: asyncio.AbstractEventLoop) -> None:
    calls: list[str] = []
    near, far = sockets.pair()
    watched = sockets.watched(near, lambda: calls.append("read"), lambda: calls.append("write"))
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with suppress(BlockingIOError):
        while True:
            near.send(bytes(10_000))
    sockets.poll.watch(watched, READ | WRITE)
    run(own_loop)
    assert calls == []
    far.close()
    run(own_loop)
    assert calls[:2] == ["read", "write"]


def test_socket_that_gets_the_number_of_another_one_does_not_get_its_event(
    sockets: Sockets, own_loop: asyncio.AbstractEventLoop
) -> None:
    """Both events are in one batch; the callback for the first one replaces the second socket."""
    calls: list[str] = []
    watched: list[Any] = []
    fresh: list[Any] = []

    def replace_other(mine: int) -> None:
        calls.append("first")
        for each in watched:
            sockets.poll.watch(each, 0)
        other = watched[1 - mine].sock
        near, _ = sockets.pair()
        os.dup2(near.fileno(), other.fileno())  # closes the old socket, and takes its number
        fresh.append(sockets.watched(other, lambda: calls.append("stale"), lambda: calls.append("stale")))
        sockets.poll.watch(fresh[0], READ)
        assert fresh[0].descriptor == watched[1 - mine].descriptor

    watched += [sockets.ready(lambda: replace_other(0)), sockets.ready(lambda: replace_other(1))]
    run(own_loop)
    assert calls == ["first"]
    assert fresh[0].generation not in [each.generation for each in watched]
    sockets.poll.watch(fresh[0], 0)


def test_socket_that_is_watched_again_gets_later_events(sockets: Sockets, own_loop: asyncio.AbstractEventLoop) -> None:
    calls: list[str] = []
    near, far = sockets.pair()
    watched = sockets.watched(near, lambda: calls.append("read"))
    for _ in range(3):
        sockets.poll.watch(watched, READ)
        sockets.poll.watch(watched, 0)
    sockets.poll.watch(watched, READ)
    far.send(b"x")
    run(own_loop)
    assert "read" in calls


@pytest.mark.parametrize("package", packages(), ids=build_of)
def test_epoll_tells_the_generation_of_an_event(package: str) -> None:
    module = importlib.import_module(f"{package}.net.sockets")
    epoll = module.Epoll()
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        epoll.add(near.fileno(), 0xFFFF_FFFE, module.READ)
        assert epoll.wait() == 1
        event = (epoll.descriptor(0), epoll.generation(0), epoll.events(0))
        assert event == (near.fileno(), 0xFFFF_FFFE, module.READ)
        epoll.modify(near.fileno(), 0xFFFF_FFFE, module.WRITE)
        assert epoll.wait() == 1
        assert epoll.events(0) == module.WRITE
        epoll.remove(near.fileno())
        assert epoll.wait() == 0
        epoll.add(near.fileno(), 7, module.READ)
        far.close()
        assert epoll.wait() == 1
        assert epoll.generation(0) == 7
        assert epoll.events(0) & module.BROKEN == select.EPOLLHUP
        with pytest.raises(FileExistsError):
            epoll.add(near.fileno(), 8, module.READ)
    assert epoll.fileno() >= 0
    epoll.close()
    epoll.close()
    assert epoll.fileno() == -1


def test_poll_raises_if_a_file_cannot_be_watched(sockets: Sockets) -> None:
    with open(__file__) as file, pytest.raises(PermissionError):
        sockets.poll.watch(sockets.watched(file), READ)  # type: ignore[arg-type]


# Fairness ---------------------------------------------------------------------------------------------------


def longest_run(calls: list[str]) -> int:
    """Return the most calls between two turns of the loop."""
    return max(len(part.split()) for part in " ".join(calls).split("turn"))


def note_turns(loop: asyncio.AbstractEventLoop, calls: list[str]) -> None:
    """Note each iteration of the loop among the calls."""

    def turn() -> None:
        calls.append("turn")
        loop.call_soon(turn)

    loop.call_soon(turn)


def test_poll_lets_the_loop_run_after_64_events(sockets: Sockets, own_loop: asyncio.AbstractEventLoop) -> None:
    calls: list[str] = []
    for _ in range(200):
        sockets.ready(lambda: calls.append("event"))
    note_turns(own_loop, calls)
    while calls.count("event") <= 200:
        run(own_loop, 10)
    assert longest_run(calls) <= MOST


def test_poll_lets_the_loop_run_after_2_ms(sockets: Sockets, own_loop: asyncio.AbstractEventLoop) -> None:
    calls: list[str] = []

    def work() -> None:
        calls.append("event")
        begin = time.monotonic()
        while time.monotonic() - begin < 0.003:
            pass

    for _ in range(10):
        sockets.ready(work)
    note_turns(own_loop, calls)
    run(own_loop, 10)
    assert calls.count("event") >= 5
    assert longest_run(calls) == 1


@pytest.mark.parametrize("seconds", [0, 0.0005], ids=["quick", "slow"])
def test_poll_serves_busy_sockets_in_turn(
    seconds: float, sockets: Sockets, own_loop: asyncio.AbstractEventLoop
) -> None:
    """None of 200 sockets starves, whether the number of events or the time ends a callback."""
    counts = [0] * 200

    def work(number: int) -> None:
        counts[number] += 1
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            pass

    for number in range(200):
        sockets.ready(lambda number=number: work(number))  # type: ignore[misc]
    while sum(counts) < 700:
        run(own_loop, 1)
        assert max(counts) - min(counts) <= 1


# Exceptions -------------------------------------------------------------------------------------------------


def test_exception_of_one_socket_is_reported_and_does_not_harm_the_others(
    sockets: Sockets, own_loop: asyncio.AbstractEventLoop
) -> None:
    reports: list[dict[str, Any]] = []
    own_loop.set_exception_handler(lambda loop, context: reports.append(context))
    bug = LookupError("a bug")
    served: list[Any] = []
    watched: list[Any] = []

    def serve(number: int) -> None:
        served.append(number)
        sockets.poll.watch(watched[number], 0)
        if number == 1:
            raise bug

    watched += [sockets.ready(lambda number=number: serve(number)) for number in range(5)]  # type: ignore[misc]
    run(own_loop)
    assert sorted(served) == [0, 1, 2, 3, 4]
    assert [(report["message"], report["exception"]) for report in reports] == [(f"{watched[1]!r} raised", bug)]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_batch_ends_the_loop_and_the_rest_is_served_when_it_runs_again(
    kind: type[BaseException], sockets: Sockets, own_loop: asyncio.AbstractEventLoop
) -> None:
    served: list[int] = []
    watched: list[Any] = []

    def serve(number: int) -> None:
        served.append(number)
        sockets.poll.watch(watched[number], 0)
        if len(served) == 3:
            raise kind

    watched += [sockets.ready(lambda number=number: serve(number)) for number in range(8)]  # type: ignore[misc]
    with pytest.raises(kind):
        own_loop.run_forever()
    assert len(served) >= 3  # uvloop runs once more before it ends
    run(own_loop)
    assert sorted(served) == [*range(8)]


def test_interrupt_in_a_handler_ends_the_loop_and_others_are_served_when_it_runs_again(
    own_loop: asyncio.AbstractEventLoop,
) -> None:
    async def handler(client: Client) -> None:
        async for message in client:
            if message == "stop":
                raise KeyboardInterrupt
            await client.send(message)

    async def start() -> tuple[WebSocketServer, list[RawClient]]:
        server = WebSocketServer("127.0.0.1", 0, handler=handler)
        await server.start()
        raws = [await RawClient.connect(address_of(server)) for _ in range(9)]
        for raw in raws:
            await raw.upgrade()
        return server, raws

    async def finish(server: WebSocketServer, raws: list[RawClient]) -> list[tuple[int, bytes]]:
        answers = [await raw.read_frame() for number, raw in enumerate(raws) if number != 4]
        for raw in raws:
            raw.close()
        await server.close()
        return answers

    server, raws = own_loop.run_until_complete(start())
    for number, raw in enumerate(raws):
        raw.sock.send(text("stop" if number == 4 else "go on"))
    with pytest.raises(KeyboardInterrupt):
        own_loop.run_until_complete(asyncio.sleep(10))
    assert own_loop.run_until_complete(finish(server, raws)) == [(TEXT, b"go on")] * 8


def test_debug_mode_names_the_socket_that_took_long(
    sockets: Sockets, own_loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    own_loop.set_debug(True)
    own_loop.slow_callback_duration = 0.02
    sockets.ready(nothing)
    slow = sockets.ready(lambda: time.sleep(0.03))
    with caplog.at_level(logging.WARNING, "streamws"):
        run(own_loop)
    lines = [record.getMessage() for record in caplog.records if record.name == "streamws"]
    assert any(line.startswith(f"processing the events of {slow!r} took 0.0") for line in lines)


async def test_debug_mode_names_the_connection_that_took_long(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(client: Client) -> None:
        async for message in client:
            if message == "slow":
                time.sleep(0.03)  # noqa: ASYNC251  # what debug mode is for
            await client.send(message)

    loop = asyncio.get_running_loop()
    server = await serve(handler)
    raws = [await connect(server) for _ in range(3)]
    await raws[0].send(text("quick"))
    await raws[0].read_frame()
    (client,) = [client for client in server.clients.values() if client.port == raws[1].address[1]]
    number = client._connection.transport.get_extra_info("socket").fileno()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.02
    with caplog.at_level(logging.WARNING, "streamws"):
        await raws[1].send(text("slow"))
        await raws[1].read_frame()
    loop.set_debug(False)
    if WAKES_DIRECTLY:
        assert f"processing the events of <SelectorTransport fd={number}> took 0.0" in caplog.text
    else:  # the loop itself runs the handler's task and reports it
        assert "processing the events of" not in caplog.text


# Paused and closed sockets ----------------------------------------------------------------------------------


@pytest.fixture
def counting(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loop that counts the calls of its poll."""
    loop = counting_loop(request.config.getoption("loop"))
    yield loop
    loop.close()


def test_paused_connection_whose_peer_resets_keeps_the_loop_idle(counting: Any) -> None:
    async def never_reads(client: Client) -> None:
        client._connection.transport.pause_reading()
        await client.wait_closed()

    async def main() -> int:
        async with WebSocketServer("127.0.0.1", 0, handler=never_reads) as server:
            raw = await RawClient.connect(address_of(server))
            await raw.upgrade()
            await iterations(10)
            raw.reset()
            await iterations(10)
            before: int = counting.calls
            await asyncio.sleep(0.1)
            calls: int = counting.calls - before
            assert len(server.clients) == 1, "nobody reads, so nobody has seen the reset"
            for client in server.clients.values():
                client._connection.abort()
        return calls

    assert counting.run_until_complete(main()) == 0


def test_peer_that_has_ended_its_side_keeps_the_loop_idle(counting: Any) -> None:
    """The server closes its side too, but the peer does not read that."""

    async def handler(client: Client) -> None:
        client.send(bytes(4_000_000)).close()
        await client.wait_closed()

    async def main() -> int:
        async with WebSocketServer("127.0.0.1", 0, handler=handler) as server:
            raw = await RawClient.connect(address_of(server), 4096)
            await raw.upgrade()
            raw.end()
            await until(lambda: [*server.clients.values()])
            (client,) = server.clients.values()
            await until(client._connection.transport.is_closing)
            await iterations(10)
            before: int = counting.calls
            await asyncio.sleep(0.1)
            calls: int = counting.calls - before
            assert len(server.clients) == 1
            raw.reset()
            await until(lambda: not server.clients)
        return calls

    assert counting.run_until_complete(main()) == 0


CHILD_HOLDS = """
import asyncio, os, signal, socket
from helpers.counting import counting_loop
from helpers.peers import RawClient
from helpers.waiting import iterations, until
from streamws import WebSocketServer, connect

async def handler(client):
    await client.wait_closed()

async def dial(address):
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock

async def main():
    loop = asyncio.get_running_loop()
    # Given sockets: a name lookup would start a thread, and a program with threads should not fork.
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [sock.getsockname() for sock in listening]
    servers = [WebSocketServer(sock=sock, handler=handler) for sock in listening]
    for server in servers:
        await server.start()
    raws = [await RawClient.connect(addresses[0]) for _ in range(6)]
    for raw in raws:
        await raw.upgrade()
    client = await connect("ws://localhost", sock=await dial(addresses[1]))
    child = os.fork()
    if not child:  # it holds copies of all descriptors
        signal.pause()
    try:
        for each in servers[0].clients.values():
            each._connection.abort()
        await until(lambda: not servers[0].clients)
        client._connection.abort()
        servers[0]._server.close()
        await iterations(10)
        # All of these sockets are still open in the child, and can be read from.
        for raw in raws:
            raw.sock.send(bytes(100))
        socket.create_connection(addresses[0]).close()
        await iterations(10)
        before = loop.calls
        await asyncio.sleep(0.2)
        print("calls", loop.calls - before, len(servers[1].clients))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for raw in raws:
        raw.close()
    for server in servers:
        await server.close()

loop = counting_loop({kind!r})
loop.run_until_complete(main())
loop.close()
"""


WITHOUT_EPOLL = """
from streamws.net import poll
poll.HAS_EPOLL = False
"""


@pytest.fixture(params=["epoll", "poll"])
def forking(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Prepare a program for this loop, or for a loop on a system without epoll.

    There, a child has copies of all descriptors, but not of what watches them: it is not a file, or not inherited.
    """
    if request.param == "poll":
        return lambda program: WITHOUT_EPOLL + program.replace("{kind!r}", repr("poll"))
    return lambda program: program.replace("{kind!r}", repr(request.config.getoption("loop")))


async def test_child_that_holds_the_descriptors_does_not_keep_the_loop_busy(forking: Callable[[str], str]) -> None:
    async with script(forking(CHILD_HOLDS)) as program:
        status = await program.end()
        assert (status, program.stdout, program.stderr) == (0, "calls 0 1\n", "")


CHILD_DROPS = """
import asyncio, gc, os, socket, traceback, warnings
from helpers.counting import counting_loop
from helpers.waiting import until
from streamws.net.network import Receiver
from streamws.net.selector import over_socket

class Reader(Receiver):
    def __init__(self):
        self.buffer = bytearray(100)
        self.received = []

    def connection_made(self, transport): pass
    def pause_writing(self): pass
    def get_buffer(self, sizehint): return memoryview(self.buffer)
    def buffer_updated(self, nbytes): self.received.append(bytes(self.buffer[:nbytes]))
    def connection_lost(self, error): pass

async def main():
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(5)]
    for near, far in pairs:
        near.setblocking(False)
    readers = [Reader() for _ in pairs]
    transports = [over_socket(loop, near, reader) for (near, _), reader in zip(pairs, readers)]
    for transport in transports:
        transport.start()
    child = os.fork()
    if not child:
        status = 1
        try:
            warnings.simplefilter("ignore")  # of the transports that nobody closes
            transports[0].abort()
            transports[1].close()
            transports[2].write(bytes(10_000_000))
            for transport in transports[3:]:
                transport.pause_reading()
            del transport
            # The last two are freed at once; the others only if the poll is.
            for place in (3, 4):
                transports[place] = None
            for place in range(3):
                transports[place].pause_reading()
                transports[place]._call_connection_lost(readers[place], None)  # what the loop would do next
            transports.clear()
            gc.collect()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for _, far in pairs:
        far.send(b"to the parent")
    await until(lambda: all(reader.received for reader in readers))
    transports[0].pause_reading()
    transports[0].resume_reading()
    pairs[0][1].send(b"again")
    await until(lambda: len(readers[0].received) == 2)
    print("received", {reader.received[0] for reader in readers})
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _, far in pairs:
        far.close()

loop = counting_loop({kind!r})
loop.run_until_complete(main())
loop.close()
"""


async def test_child_that_drops_its_copies_does_not_harm_the_parent(forking: Callable[[str], str]) -> None:
    async with script(forking(CHILD_DROPS)) as program:
        status = await program.end()
        assert (status, program.stdout, program.stderr) == (0, "child 0\nreceived {b'to the parent'}\n", "")


# The poll and its loop --------------------------------------------------------------------------------------


async def test_all_sockets_of_a_loop_share_one_epoll(serve: Serve, connect: Connect) -> None:
    before = descriptors("eventpoll")
    for number in range(3):
        server = await serve(echo)
        await connect(server)
        async with connect_to(url_of(server)) as client:
            await client.send("works")
            assert await client.read_message() == "works"
        assert descriptors("eventpoll") == before + 1, number


async def test_poll_is_closed_with_its_last_socket() -> None:
    before = descriptors("eventpoll")
    for _ in range(3):
        async with WebSocketServer("127.0.0.1", 0, handler=echo) as server, connect_to(url_of(server)):
            assert descriptors("eventpoll") == before + 1
        await iterations()
        assert descriptors("eventpoll") == before


async def test_poll_of_a_loop_is_one_until_it_is_closed() -> None:
    loop = asyncio.get_running_loop()
    first = poll_of(loop)
    assert isinstance(first, Poll)
    first.attach()
    first.attach()
    assert poll_of(loop) is first
    first.detach()
    assert poll_of(loop) is first
    assert not first.is_closed()
    first.detach()
    assert first.is_closed()
    second = poll_of(loop)
    assert second is not first
    second.attach()
    second.detach()


async def test_system_without_epoll_watches_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_module, "HAS_EPOLL", False)
    before = descriptors("eventpoll")
    assert isinstance(poll_of(asyncio.get_running_loop()), LoopPoll)
    async with WebSocketServer("127.0.0.1", 0, handler=echo) as server:
        raw = await RawClient.connect(address_of(server))
        await raw.upgrade()
        await raw.send(text("works"))
        assert await raw.read_frame() == (TEXT, b"works")
        assert descriptors("eventpoll") == before
        raw.close()


async def talk() -> None:
    """Exchange a message between a server and a client."""
    async with WebSocketServer("127.0.0.1", 0, handler=echo) as server, connect_to(url_of(server)) as client:
        await client.send("works")
        assert await client.read_message() == "works"


def own_loops(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loops of a test."""
    kind = request.config.getoption("loop")
    return lambda: counting_loop(kind)


def test_loops_that_end_leave_no_descriptor_and_are_freed(request: pytest.FixtureRequest) -> None:
    make = own_loops(request)
    loops: list[weakref.ref[Any]] = []
    counts: list[tuple[int, int]] = []
    for _ in range(200):
        with asyncio.Runner(loop_factory=make) as runner:
            loops.append(weakref.ref(runner.get_loop()))
            runner.run(talk())
        del runner
        if len(loops) in (20, 200):
            gc.collect()
            counts.append((descriptors("socket"), descriptors("eventpoll")))
    assert counts[0] == counts[1]
    assert [loop() for loop in loops] == [None] * 200


def test_loops_that_end_with_open_connections_leave_no_descriptor_and_are_freed(
    request: pytest.FixtureRequest,
) -> None:
    async def leave_open() -> None:
        server = WebSocketServer("127.0.0.1", 0, handler=echo)
        await server.start()
        client = await connect_to(url_of(server))
        await client.send("works")
        assert await client.read_message() == "works"
        raws.append(await RawClient.connect(address_of(server)))
        await until(lambda: len(server._serving.connections) == 2)

    raws: list[RawClient] = []
    make = own_loops(request)
    gc.collect()
    before = (open_sockets(), descriptors("eventpoll"))
    loops: list[weakref.ref[Any]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(20):
            with asyncio.Runner(loop_factory=make) as runner:
                loops.append(weakref.ref(runner.get_loop()))
                runner.run(leave_open())
            del runner
            raws.pop().close()
        gc.collect()
    lines = [str(warning.message) for warning in caught]
    assert {warning.category for warning in caught} == {ResourceWarning}
    assert sum(line.startswith("unclosed transport <SelectorTransport fd=") for line in lines) >= 20
    del caught  # each warning refers to its transport
    gc.collect()
    assert (open_sockets(), descriptors("eventpoll")) == before
    assert [loop() for loop in loops] == [None] * 20


def test_loops_in_several_threads_have_polls_of_their_own(request: pytest.FixtureRequest) -> None:
    make = own_loops(request)
    answers: list[int] = []
    together = threading.Barrier(4, timeout=20)

    async def exchange() -> None:
        async with WebSocketServer("127.0.0.1", 0, handler=echo) as server, connect_to(url_of(server)) as client:
            together.wait()  # all are open at the same time
            for number in range(300):
                await client.send(f"{number}")
                assert await client.read_message() == f"{number}"
            answers.append(number)

    def work() -> None:
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(exchange())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [299] * 4


async def test_many_busy_connections_leave_the_loop_its_turns(serve: Serve, connect: Connect) -> None:
    """Callbacks and timers of the application run while 200 connections are busy."""
    server = await serve(echo)
    raws = [await connect(server) for _ in range(200)]
    turns: list[int] = []
    received = [0] * 200
    loop = asyncio.get_running_loop()
    timer = asyncio.Event()
    loop.call_later(0.005, timer.set)

    def turn() -> None:
        turns.append(sum(received))
        loop.call_soon(turn)

    async def exchange(number: int, raw: RawClient) -> None:
        while not timer.is_set() or received[number] < 3:
            await raw.send(text("x" * 100))
            assert await raw.read_frame() == (TEXT, b"x" * 100)
            received[number] += 1

    loop.call_soon(turn)
    await within(asyncio.gather(*(exchange(number, raw) for number, raw in enumerate(raws))))
    assert min(received) >= 3
    assert len(turns) > sum(received) / MOST
