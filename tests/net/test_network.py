"""Bytes that go to the socket itself, and what is left to the transport: all of them, in order."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from streamws.net.network import DirectTransport, Network

PATIENCE = 10


class Transport:
    """A transport that keeps what it is given."""

    def __init__(self, **info: object) -> None:
        self.info = info
        self.kept = b""
        self.closing = False

    def write(self, data: bytes | memoryview) -> None:
        self.kept += bytes(data)

    def writelines(self, parts: list[bytes | memoryview]) -> None:
        self.kept += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> object:
        return self.info.get(name)


class Case:
    """A network over a socket that takes little, and the socket at the other end."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the system allows
        self.transport = Transport(socket=self.near)
        self.network = Network(self.transport)

    def received(self) -> bytes:
        """What has come by the socket."""
        data = b""
        try:
            while part := self.far.recv(100_000):
                data += part
        except BlockingIOError:
            pass
        return data

    def all(self) -> bytes:
        """And what is behind it in the transport."""
        return self.received() + self.transport.kept

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def case() -> Iterator[Case]:
    case = Case()
    yield case
    case.close()


def test_network_sends_to_the_socket_itself(case: Case) -> None:
    case.network.write(b"one")
    case.network.write(b"")
    case.network.write_parts([b"", b"two", b"", b"three"])
    case.network.write_parts([])
    assert case.received() == b"onetwothree"
    assert case.transport.kept == b""


def test_network_leaves_to_the_transport_what_the_socket_does_not_take(case: Case) -> None:
    """And all that follows, until the transport has sent that."""
    data = os.urandom(500_000)
    case.network.write(data)
    case.network.write(b"behind")
    case.network.write_parts([b"more", b"yet"])
    sent = case.received()
    assert 0 < len(sent) < len(data)
    assert sent + case.transport.kept == data + b"behindmoreyet"
    case.network.write(b"!")
    assert case.received() == b""
    case.transport.kept = b""
    case.network.write(b"again")
    assert (case.received(), case.transport.kept) == (b"again", b"")


def test_network_lets_go_first_what_the_transport_held_before(case: Case) -> None:
    case.transport.kept = b"first"
    case.network.write(b"second")
    assert (case.received(), case.transport.kept) == (b"", b"firstsecond")


@pytest.mark.parametrize("count", [63, 64, 65, 200])
@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_network_sends_any_number_of_parts_in_order(case: Case, count: int, size: int) -> None:
    """The system takes so many at a time, and so many bytes."""
    parts = [bytes([number % 251]) * (size + number % 3) for number in range(count)]
    case.network.write_parts(parts)
    case.network.write(b"end")
    assert case.all() == b"".join(parts) + b"end"


@pytest.mark.parametrize("filler", range(0, 6000, 997))
def test_network_cuts_parts_where_the_socket_stopped(case: Case, filler: int) -> None:
    first, *parts = [os.urandom(filler), *(os.urandom(1000) for _ in range(60))]
    case.network.write(first)
    case.network.write_parts(parts)
    assert case.transport.kept
    assert case.all() == first + b"".join(parts)


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("broken", [True, False], ids=["broken", "closing"])
def test_network_leaves_a_closing_or_broken_socket_to_its_transport(case: Case, broken: bool, several: bool) -> None:
    """Which knows what to do about it."""
    if broken:
        case.far.close()
    else:
        case.transport.closing = True
    if several:
        case.network.write_parts([b"to ", b"no one"])
    else:
        case.network.write(b"to no one")
    assert case.transport.kept == b"to no one"


@pytest.mark.parametrize("info", [{"sslcontext": object()}, {"socket": None}])
def test_network_leaves_all_to_a_transport_that_encrypts_or_has_no_socket(case: Case, info: dict[str, Any]) -> None:
    transport = Transport(**{"socket": case.near, **info})
    network = Network(transport)
    network.write(b"one")
    network.write_parts([b"two", b"", b"three"])
    assert (case.received(), transport.kept) == (b"", b"onetwothree")


class Direct(DirectTransport):
    """A transport of ours that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.kept: list[object] = []

    def get_extra_info(self, name: str) -> object:
        return None

    def write_bytes(self, data: bytes) -> None:
        self.kept.append(data)

    def write_parts(self, parts: list[Any]) -> None:
        self.kept.append(parts)

    def get_write_buffer_size(self) -> int:
        return 7


def test_network_passes_bytes_to_a_transport_of_ours_as_they_are() -> None:
    transport = Direct()
    network = Network(transport)
    data, parts = b"one", [b"two", b"three"]
    network.write(data)
    network.write_parts(parts)
    assert transport.kept[0] is data
    assert transport.kept[1] is parts
    assert network.backlog() == 7


@pytest.mark.parametrize("count", [9, 500])
def test_network_writes_many_parts_in_few_calls(count: int) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.setblocking(False)
        network = Network(Transport(socket=near))
        parts = [bytes([number % 251]) * 90 for number in range(count)]
        network.write_parts([*parts])
        assert far.recv(1 << 20) == b"".join(parts)


def test_network_leaves_many_parts_to_the_transport_in_one_write(case: Case) -> None:
    writes: list[bytes] = []
    case.transport.write = lambda data: writes.append(bytes(data))  # type: ignore[method-assign]
    parts = [os.urandom(1000) for _ in range(500)]
    case.network.write_parts([*parts])
    assert len(writes) == 1
    assert case.received() + writes[0] == b"".join(parts)


class Pressed(asyncio.Protocol):
    """Notes what a transport asks for."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.drained = asyncio.Event()
        self.lost = asyncio.Event()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.drained.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()


@pytest.mark.parametrize("several", [True, False])
async def test_rest_that_the_transport_keeps_counts_for_its_marks(case: Case, several: bool) -> None:
    """On the loop's own transports."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        transport, protocol = await loop.create_connection(Pressed, sock=case.near)
        transport.set_write_buffer_limits(1000, 100)
        network = Network(transport)
        parts = [os.urandom(10_000) for _ in range(100)]
        if several:
            network.write_parts(parts)
        else:
            network.write(b"".join(parts))
        assert protocol.told == ["pause"]
        received = b""
        while len(received) < 1_000_000:
            received += await loop.sock_recv(case.far, 100_000)
        await protocol.drained.wait()
        assert received == b"".join(parts)
        transport.close()
        await protocol.lost.wait()
