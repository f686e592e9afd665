"""The tests rely on these helpers to find every case."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, product

import pytest

from helpers.faults import Fault, Link, Pace, Plan, Way, fault_proxy
from helpers.pairwise import covering
from helpers.waiting import iterations, until


def test_covering_keeps_each_pair_of_values_in_few_cases() -> None:
    values = {"build": range(2), "cut": range(3), "size": range(5)}
    cases = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    chosen = [case for place, case in enumerate(cases) if place in covering(cases)]
    for one, other in combinations(values, 2):
        assert {(case[one], case[other]) for case in chosen} == set(product(values[one], values[other]))
    assert 15 <= len(chosen) <= 17


def test_covering_keeps_each_value_of_a_single_parameter() -> None:
    assert covering([{"size": 1}, {"size": 2}, {"size": 1}]) == {0, 1}


# The proxy that harms connections ---------------------------------------------------------------------------

DATA = bytes(range(200))


async def receive(sock: socket.socket, size: int = 1 << 16) -> bytes:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(sock, size)


async def receive_all(sock: socket.socket) -> list[bytes]:
    """Return what each read returns, up to the end."""
    chunks = []
    while data := await receive(sock):
        chunks.append(data)
    return chunks


@contextmanager
def linked(plan: Plan) -> Iterator[tuple[dict[Way, socket.socket], Link]]:
    """Connect two sockets through the proxy; return the receiver of each direction."""
    with socket.create_server(("127.0.0.1", 0)) as listener, fault_proxy(listener.getsockname()) as proxy:
        near, link = proxy.connect(plan)
        far, _ = listener.accept()
        far.setblocking(False)
        with near, far:
            yield {Way.UP: far, Way.DOWN: near}, link


def opposite(way: Way) -> Way:
    return Way.DOWN if way is Way.UP else Way.UP


ways = pytest.mark.parametrize("way", list(Way))


@ways
@pytest.mark.parametrize("at", [0, 1, 199, 200])
async def test_proxy_cuts_both_directions_after_that_many_bytes(way: Way, at: int) -> None:
    with linked(Plan(Fault.CUT, way, at)) as (receivers, link):
        receivers[opposite(way)].sendall(DATA)
        assert b"".join(await receive_all(receivers[way])) == DATA[:at]
        receivers[way].sendall(DATA)  # is discarded
        assert await receive(receivers[opposite(way)]) == b""
        assert link.harmed
        for sock in receivers.values():
            sock.close()
        await until(lambda: link.closed)


@ways
async def test_proxy_half_closes_one_direction(way: Way) -> None:
    with linked(Plan(Fault.HALF_CLOSE, way, 7)) as (receivers, link):
        receivers[opposite(way)].sendall(DATA)
        assert b"".join(await receive_all(receivers[way])) == DATA[:7]
        receivers[way].sendall(DATA)
        receivers[way].shutdown(socket.SHUT_WR)
        assert b"".join(await receive_all(receivers[opposite(way)])) == DATA
        receivers[opposite(way)].close()
        await until(lambda: link.closed)


@ways
async def test_proxy_resets_both_ends(way: Way) -> None:
    with linked(Plan(Fault.RESET, way, 7)) as (receivers, link):
        receivers[opposite(way)].sendall(DATA)
        for sock in receivers.values():
            with pytest.raises(ConnectionResetError):
                await receive_all(sock)
        assert bytes(link.flow(way).passed) == DATA[:7]
        assert link.closed


@ways
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.FREEZE])
async def test_proxy_stalls_and_goes_on_when_released(fault: Fault, way: Way) -> None:
    with linked(Plan(fault, way, 7)) as (receivers, link):
        receivers[opposite(way)].sendall(DATA)
        assert await receive(receivers[way]) == DATA[:7]
        receivers[way].sendall(DATA)
        await iterations(50)
        if fault is Fault.STALL:
            assert await receive(receivers[opposite(way)]) == DATA
        else:
            with pytest.raises(BlockingIOError):
                receivers[opposite(way)].recv(1)
        with pytest.raises(BlockingIOError):
            receivers[way].recv(1)
        link.release()
        assert await receive(receivers[way]) == DATA[7:]
        if fault is Fault.FREEZE:
            assert await receive(receivers[opposite(way)]) == DATA


@ways
async def test_proxy_delays_the_rest_and_then_passes_it_on(way: Way) -> None:
    with linked(Plan(Fault.DELAY, way, 7)) as (receivers, _):
        receivers[opposite(way)].sendall(DATA)
        assert [await receive(receivers[way]), await receive(receivers[way])] == [DATA[:7], DATA[7:]]


@ways
async def test_proxy_passes_single_bytes_in_order(way: Way) -> None:
    with linked(Plan(pace=Pace.SINGLE)) as (receivers, _):
        receivers[opposite(way)].sendall(DATA)
        receivers[opposite(way)].shutdown(socket.SHUT_WR)
        assert await receive_all(receivers[way]) == [DATA[i : i + 1] for i in range(len(DATA))]


@ways
async def test_proxy_coalesces_what_is_sent_in_several_writes(way: Way) -> None:
    with linked(Plan(pace=Pace.COALESCED)) as (receivers, _):
        for i in range(0, len(DATA), 20):
            receivers[opposite(way)].sendall(DATA[i : i + 20])
            await iterations(3)
        assert await receive(receivers[way]) == DATA


@ways
async def test_proxy_passes_back_pressure_on(way: Way) -> None:
    with linked(Plan()) as (receivers, _):
        sent = 0
        with pytest.raises(BlockingIOError):  # noqa: PT012
            while True:
                sent += receivers[opposite(way)].send(bytes(100_000))
                await iterations(2)
        receivers[opposite(way)].shutdown(socket.SHUT_WR)
        assert sum(map(len, await receive_all(receivers[way]))) == sent
