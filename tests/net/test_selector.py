"""The transport over a socket, on loops that tell when a socket is ready; with and without epoll."""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.frames import server_close
from helpers.peers import Peer, scripted
from helpers.waiting import iterations, until
from streamws import Client, Close, ConnectionClosed, Limits, WebSocketServer, connect
from streamws.net import poll
from streamws.net.network import Receiver
from streamws.net.selector import over_socket

PATIENCE = 10


@pytest.fixture(params=["epoll", "add_reader"], autouse=True)
def epoll(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the sockets are watched by an epoll; other systems watch them by the loop's `add_reader`."""
    found: bool = request.param == "epoll"
    monkeypatch.setattr(poll, "HAS_EPOLL", found)
    return found


class Recorder(Receiver):
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = bytearray()
        self.told: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.keeps_open = False
        self.resumes = True
        self.on_data: Callable[[], None] = lambda: None
        self.room: bytearray | None = bytearray(1000)
        self._news = asyncio.Event()

    def connection_made(self, transport: object) -> None:
        self.transport = transport
        self.told.append("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.room is None:
            raise MemoryError
        return memoryview(self.room)

    def buffer_updated(self, nbytes: int) -> None:
        assert self.room is not None
        self.received += self.room[:nbytes]
        self._news.set()
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        self._news.set()
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self._news.set()

    def writing_failed(self) -> None:
        if self.resumes:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(error)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():
                self._news.clear()
                await self._news.wait()


def references(objects: list[bytes]) -> list[int]:
    """Return the number of references to each object."""
    return [sys.getrefcount(item) for item in objects]


def record_pair() -> tuple[socket.socket, socket.socket]:
    """Connected sockets that keep the bytes of each write apart: one `recv` returns those of one system call."""
    near, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    peer.setblocking(False)
    return near, peer


class Case:
    """A transport, its protocol, and the socket at the other end."""

    def __init__(self) -> None:
        near, self.peer = socket.socketpair()
        near.setblocking(False)
        self.peer.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the system allows
        self.sock = near
        self.protocol = Recorder()
        self.transport = over_socket(asyncio.get_running_loop(), near, self.protocol)

    async def read(self, size: int) -> bytes:
        """That many bytes at the other end, or fewer if it ends."""
        data = bytearray()
        async with asyncio.timeout(PATIENCE):
            while len(data) < size:
                part = await asyncio.get_running_loop().sock_recv(self.peer, size - len(data))
                if not part:
                    break
                data += part
        return bytes(data)

    async def lost(self) -> Exception | None:
        """Why the protocol was told that the connection is gone."""
        async with asyncio.timeout(PATIENCE):
            return await self.protocol.lost


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    made = Case()
    made.transport.start()
    yield made
    made.peer.close()
    made.transport.abort()
    await made.lost()
    assert made.protocol.told.count("lost") == 1
    assert made.sock.fileno() == -1


async def test_transport_delivers_what_comes(case: Case) -> None:
    assert case.protocol.transport is case.transport
    case.peer.send(b"a" * 2500)  # more than the buffer
    await case.protocol.until(lambda: len(case.protocol.received) == 2500)
    assert case.protocol.told == ["made"]


async def test_transport_sends_at_once(case: Case) -> None:
    case.transport.write(b"now")
    assert case.peer.recv(10) == b"now"
    case.transport.writelines([b"in ", bytearray(b"several "), b"", memoryview(b"pieces")])
    assert case.peer.recv(100) == b"in several pieces"
    assert case.transport.get_write_buffer_size() == 0


async def test_transport_keeps_what_the_socket_does_not_take_in_order(case: Case) -> None:
    pieces = [bytes([number % 251]) * (1 + number * 7 % 5000) for number in range(400)]
    for start in range(0, 400, 100):
        case.transport.writelines(pieces[start : start + 100])
    case.transport.write(b"the end")
    assert case.transport.get_write_buffer_size() > 0
    expected = b"".join(pieces) + b"the end"
    assert await case.read(len(expected)) == expected
    assert case.transport.get_write_buffer_size() == 0


async def test_transport_copies_what_may_change(case: Case) -> None:
    filler = b"x" * 500_000
    data = bytearray(b"before")
    case.transport.write(filler)
    case.transport.write(data)
    data[:] = b"behind"
    assert (await case.read(len(filler) + 6))[-6:] == b"before"


async def test_transport_does_not_copy_what_cannot_change(case: Case) -> None:
    data = b"x" * 500_000
    counts = sys.getrefcount(data)
    case.transport.write(memoryview(data)[1:])
    assert sys.getrefcount(data) > counts
    assert await case.read(499_999) == data[1:]
    assert sys.getrefcount(data) == counts


async def test_transport_queues_references_and_drops_each_when_it_is_written(case: Case) -> None:
    frames = [bytes([number]) * 500 for number in range(200)]
    before = references(frames)
    case.transport.writelines(frames)
    case.transport.writelines(frames)
    case.transport.write(frames[-1])
    queued = [now - count for now, count in zip(references(frames), before, strict=True)]
    written = queued.index(2)
    assert 0 < written < 199
    assert queued == [1] * written + [2] * (199 - written) + [3]
    assert await case.read(200_500) == b"".join(frames) * 2 + frames[-1]
    assert references(frames) == before
    assert case.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("size", [1, 100, 700])
async def test_transport_writes_hundreds_of_parts_in_one_call(size: int) -> None:
    near, peer = record_pair()
    protocol = Recorder()
    transport = over_socket(asyncio.get_running_loop(), near, protocol)
    transport.start()
    with peer:
        parts = [bytes([number % 251]) * size for number in range(90)]
        transport.writelines(parts)
        assert peer.recv(1 << 20) == b"".join(parts)
    transport.abort()
    await protocol.lost


async def test_transport_writes_a_long_queue_of_tiny_parts_in_order(case: Case) -> None:
    case.transport.write(b"x" * 300_000)
    parts = [b"%06d" % number for number in range(100_000)]
    for start in range(0, len(parts), 1000):
        case.transport.writelines(parts[start : start + 1000])
    assert case.transport.get_write_buffer_size() > 600_000
    assert await case.read(900_000) == b"x" * 300_000 + b"".join(parts)


async def test_transport_tells_of_its_marks(case: Case) -> None:
    case.transport.set_write_buffer_limits(100_000, 10_000)
    case.transport.write(b"x" * 50_000)
    assert case.protocol.told == ["made"]
    case.transport.write(b"x" * 450_000)
    case.transport.write(b"x")
    assert case.protocol.told == ["made", "pause"]
    reading = asyncio.create_task(case.read(500_001))
    await case.protocol.until(lambda: "resume" in case.protocol.told)
    assert case.transport.get_write_buffer_size() <= 10_000
    assert len(await reading) == 500_001
    assert case.protocol.told == ["made", "pause", "resume"]


async def test_transport_reads_nothing_while_paused(case: Case) -> None:
    case.transport.pause_reading()
    case.transport.pause_reading()
    case.peer.send(b"held")
    for _ in range(3):
        await asyncio.sleep(0)
    assert case.protocol.received == b""
    case.transport.resume_reading()
    case.transport.resume_reading()
    await case.protocol.until(lambda: case.protocol.received == b"held")


async def test_transport_may_be_paused_while_it_delivers(case: Case) -> None:
    case.protocol.on_data = case.transport.pause_reading
    case.peer.send(b"a" * 1500)
    await case.protocol.until(lambda: len(case.protocol.received) == 1000)
    await asyncio.sleep(0)
    assert len(case.protocol.received) == 1000
    case.transport.resume_reading()
    await case.protocol.until(lambda: len(case.protocol.received) == 1500)


async def test_transport_closes_when_the_peer_ends(case: Case) -> None:
    case.transport.write(b"x" * 300_000)
    case.peer.shutdown(socket.SHUT_WR)
    await case.protocol.until(lambda: "eof" in case.protocol.told)
    assert case.transport.is_closing()
    assert len(await case.read(300_001)) == 300_000  # not before all is sent
    assert await case.lost() is None


async def test_transport_stays_open_behind_the_peers_end_if_the_protocol_wants_that(case: Case) -> None:
    case.protocol.keeps_open = True
    case.peer.shutdown(socket.SHUT_WR)
    await case.protocol.until(lambda: "eof" in case.protocol.told)
    await asyncio.sleep(0)
    assert case.protocol.told == ["made", "eof"]
    case.transport.write(b"still")
    assert await case.read(5) == b"still"


@pytest.mark.parametrize("size", [5, 300_000])
async def test_transport_ends_its_side_behind_what_waits(size: int, case: Case) -> None:
    assert case.transport.can_write_eof()
    case.transport.write(b"x" * size)
    case.transport.write_eof()
    case.transport.write_eof()
    case.transport.write(b"too late")
    assert len(await case.read(size + 1)) == size
    case.peer.send(b"but this side listens")
    await case.protocol.until(lambda: case.protocol.received == b"but this side listens")
    assert not case.transport.is_closing()


@pytest.mark.parametrize("size", [5, 300_000])
async def test_transport_closes_behind_what_waits(size: int, case: Case) -> None:
    case.transport.write(b"x" * size)
    case.transport.close()
    case.transport.close()
    case.transport.write(b"too late")
    case.peer.send(b"not read")
    assert len(await case.read(size)) == size
    assert await case.lost() is None
    assert case.protocol.received == b""


async def test_transport_tells_of_its_end_in_the_next_turn(case: Case) -> None:
    case.transport.abort()
    assert case.protocol.told == ["made"]
    assert await case.lost() is None


async def test_transport_drops_what_waits_when_aborted(case: Case) -> None:
    case.transport.write(b"x" * 500_000)
    case.transport.abort()
    case.transport.abort()
    assert case.transport.get_write_buffer_size() == 0
    assert case.transport.is_closing()
    assert await case.lost() is None
    assert len(await case.read(500_000)) < 500_000


async def test_transport_may_be_aborted_while_it_delivers(case: Case) -> None:
    case.protocol.on_data = case.transport.abort
    case.peer.send(b"a" * 1500)
    assert await case.lost() is None
    assert len(case.protocol.received) == 1000
    case.transport.resume_reading()  # too late, and no error


async def test_transport_reads_what_came_before_it_could_not_write(case: Case) -> None:
    case.peer.send(b"goodbye")
    case.peer.close()
    case.transport.write(b"to no one")
    assert isinstance(await case.lost(), BrokenPipeError)
    assert case.protocol.received == b"goodbye"
    assert case.protocol.told == ["made", "eof", "lost"]


@pytest.mark.parametrize("resumes", [True, False], ids=["resumed at once", "resumed later"])
async def test_paused_transport_reads_what_came_before_it_could_not_write(resumes: bool, case: Case) -> None:
    case.protocol.resumes = resumes
    case.protocol.room = bytearray(4)
    case.transport.pause_reading()
    case.peer.send(b"goodbye")
    case.peer.close()
    case.transport.write(b"to no one")
    for _ in range(4):
        await asyncio.sleep(0)
    if not resumes:
        assert case.protocol.told == ["made"]
        assert case.protocol.received == b""
        case.transport.resume_reading()
    assert isinstance(await case.lost(), BrokenPipeError)
    assert case.protocol.received == b"goodbye"
    assert case.protocol.told == ["made", "eof", "lost"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this would discard what has arrived")
async def test_peer_that_receives_nothing_more_cannot_send_without_end(case: Case) -> None:
    case.transport.pause_reading()
    case.peer.send(b"goodbye")
    case.peer.shutdown(socket.SHUT_RD)
    case.transport.write(b"to no one")
    with pytest.raises(BrokenPipeError):
        case.peer.send(b"more")
    assert isinstance(await case.lost(), BrokenPipeError)
    assert case.protocol.received == b"goodbye"


async def test_transport_that_closes_and_cannot_write_ends(case: Case) -> None:
    case.transport.write(b"x" * 500_000)
    case.transport.close()
    case.peer.close()
    await case.lost()


@pytest.mark.parametrize("size", [20_000, 500], ids=["several reads", "one read"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("role", ["server", "client"])
async def test_paused_connection_receives_all_messages_that_came_before_a_write_failed(
    role: str, secure: bool, size: int, server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    """More than the high-water mark for reading was sent before the peer disconnected."""
    limits = Limits(read_high=10_000, read_low=1000)
    messages = [bytes([number]) * size for number in range(10 if size > 500 else 100)]
    clients: asyncio.Queue[Client] = asyncio.Queue()

    async def hold(client: Client) -> None:
        clients.put_nowait(client)
        await client.wait_closed()

    path = str(tmp_path / "socket")
    async with (
        asyncio.timeout(PATIENCE),
        WebSocketServer(path=path, handler=hold, limits=limits, ssl=server_context if secure else None),
    ):
        url = "wss://localhost" if secure else "ws://localhost"
        client = await connect(url, path=path, limits=limits, ssl=client_context if secure else None)
        ends = [await clients.get(), client]
        ours, peer = ends if role == "server" else ends[::-1]
        for message in messages:
            await peer.send(message)
        await until(lambda: ours._connection.inbox.paused and not peer._connection.network.backlog())
        peer._connection.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        with suppress(ConnectionClosed):
            await ours.send("too late")
        await iterations()
        received = []
        with suppress(ConnectionClosed):
            async for data in ours:
                received.append(data)
        assert received == messages
        await ours.wait_closed()
        await peer.wait_closed()


async def test_transport_reads_no_further_than_the_end(case: Case) -> None:
    case.protocol.keeps_open = True
    case.peer.shutdown(socket.SHUT_WR)
    await case.protocol.until(lambda: "eof" in case.protocol.told)
    case.transport.resume_reading()
    for _ in range(3):
        await asyncio.sleep(0)
    assert case.protocol.told == ["made", "eof"]


@pytest.mark.parametrize("waiting", [False, True])
async def test_transport_tells_why_it_cannot_write(waiting: bool, case: Case) -> None:
    case.protocol.keeps_open = True
    if waiting:
        case.transport.write(b"x" * 500_000)
    case.transport.pause_reading()
    case.peer.close()
    case.transport.write(b"to no one")
    assert isinstance(await case.lost(), BrokenPipeError)
    assert case.transport.get_write_buffer_size() == 0


async def test_transport_reports_what_its_protocol_raises(case: Case) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    bug = LookupError("a bug")

    def fail() -> None:
        raise bug

    case.protocol.on_data = fail
    case.peer.send(b"data")
    assert await case.lost() is bug
    assert [report["exception"] for report in reports] == [bug]


async def test_transport_reports_that_there_is_no_buffer(case: Case) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    case.protocol.room = None
    case.peer.send(b"data")
    assert isinstance(await case.lost(), MemoryError)
    assert [type(report["exception"]) for report in reports] == [MemoryError]


async def test_close_frame_is_read_that_came_before_a_write_failed(tmp_path: Path) -> None:
    async def accept(peer: Peer) -> None:
        await peer.accept()
        await peer.read_rest()

    path = str(tmp_path / "socket")
    async with asyncio.timeout(PATIENCE), scripted(accept, path=path) as server:
        client = await connect("ws://localhost", path=path)
        descriptor = (await server.peer()).writer.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.sendall(server_close(1013, "busy"))
            sock.shutdown(socket.SHUT_RDWR)
        await client.send("too late")
        await client.wait_closed()
    assert client.outcome is not None
    assert client.outcome.received == Close(1013, "busy")


async def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.socket()
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, listener.getsockname())
        return near, listener.accept()[0]


async def test_transport_over_tcp_does_not_wait_to_fill_packets() -> None:
    near, peer = await tcp_pair()
    protocol = Recorder()
    transport = over_socket(asyncio.get_running_loop(), near, protocol)
    transport.start()
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert transport.get_extra_info("peername") == peer.getsockname()
    assert transport.get_extra_info("sockname") == peer.getpeername()
    assert transport.get_extra_info("socket") is near
    assert transport.get_extra_info("sslcontext") is None
    assert repr(transport) == f"<SelectorTransport fd={near.fileno()}>"
    peer.close()
    assert await protocol.lost is None
    assert transport.is_closing()


async def test_transport_tells_of_a_reset() -> None:
    near, peer = await tcp_pair()
    protocol = Recorder()
    transport = over_socket(asyncio.get_running_loop(), near, protocol)
    transport.start()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    async with asyncio.timeout(PATIENCE):
        assert isinstance(await protocol.lost, ConnectionResetError)
    assert protocol.told == ["made", "lost"]


async def test_transport_keeps_its_descriptor_when_someone_else_closes_the_socket(case: Case) -> None:
    case.sock.close()
    other, end = socket.socketpair()  # would get the number
    with other, end:
        end.setblocking(False)
        case.transport.write(b"to the peer")
        assert await case.read(11) == b"to the peer"
        case.peer.send(b"from the peer")
        await case.protocol.until(lambda: case.protocol.received == b"from the peer")
        with pytest.raises(BlockingIOError):
            end.recv(1)


async def test_transport_of_a_peer_that_is_gone_has_no_name() -> None:
    near, peer = await tcp_pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    transport = over_socket(asyncio.get_running_loop(), near, protocol := Recorder())
    assert transport.get_extra_info("peername") is None
    transport.start()
    async with asyncio.timeout(PATIENCE):
        await protocol.lost


async def test_transport_that_nobody_closes_warns_and_closes_its_socket() -> None:
    near, peer = socket.socketpair()
    near.setblocking(False)
    with peer:
        transport = over_socket(asyncio.get_running_loop(), near, Recorder())
        del near
        with pytest.warns(ResourceWarning, match=r"unclosed transport <SelectorTransport fd=\d+>"):
            del transport
        assert peer.recv(1) == b""


async def test_transport_that_nobody_closes_closes_its_socket_if_warnings_are_errors() -> None:
    near, peer = socket.socketpair()
    near.setblocking(False)
    raised: list[object] = []
    with pytest.MonkeyPatch.context() as patch, peer:
        patch.setattr(sys, "unraisablehook", lambda unraisable: raised.append(unraisable.exc_type))
        transport = over_socket(asyncio.get_running_loop(), near, Recorder())
        del near, transport  # the suite makes warnings errors
        assert peer.recv(1) == b""
    assert raised == [ResourceWarning]


@pytest.mark.parametrize("size", [10, 300_000])
async def test_transport_writes_in_order_whether_or_not_the_socket_accepts_it(size: int, case: Case) -> None:
    """The poll watches for writing only while the queue has data; reading goes on meanwhile."""
    expected = b""
    for number in range(5):
        part = bytes([number]) * size
        case.transport.write(part)
        case.peer.send(b"x")
        await case.protocol.until(lambda number=number: len(case.protocol.received) > number)  # type: ignore[misc]
        expected += part
    assert await case.read(len(expected)) == expected
    await case.protocol.until(lambda: case.transport.get_write_buffer_size() == 0)


async def test_transport_that_is_paused_still_writes(case: Case) -> None:
    case.transport.pause_reading()
    case.transport.write(b"x" * 300_000)
    case.peer.send(b"not read")
    assert len(await case.read(300_000)) == 300_000
    assert case.protocol.received == b""
    case.transport.resume_reading()
    await case.protocol.until(lambda: case.protocol.received == b"not read")


async def test_transport_that_is_paused_and_writes_notices_a_reset() -> None:
    near, peer = await tcp_pair()
    protocol = Recorder()
    transport = over_socket(asyncio.get_running_loop(), near, protocol)
    transport.start()
    transport.pause_reading()
    transport.write(bytes(20_000_000))
    assert transport.get_write_buffer_size() > 0
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    async with asyncio.timeout(PATIENCE):
        assert isinstance(await protocol.lost, ConnectionResetError)
    assert protocol.told == ["made", "pause", "resume", "eof", "lost"]
