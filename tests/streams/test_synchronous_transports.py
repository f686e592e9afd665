"""Transports that deliver from inside a write, and readers that end when they are woken: nothing hangs or is lost."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from helpers.taps import BINARY
from helpers.virtual import (
    ALL,
    Endpoint,
    NoSocket,
    SynchronousTransport,
    VirtualLoop,
    build_of,
    connected,
    packages,
)

ROUNDS = 300
"""Enough to detect unbounded recursion."""

Pair = tuple[Endpoint, Endpoint]


def lazy(loop: VirtualLoop) -> None:
    """Tasks start in the next loop iteration."""


def eager(loop: VirtualLoop) -> None:
    """Tasks start in the call that creates them."""
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]


def debugging(loop: VirtualLoop) -> None:
    """The loop runs in debug mode."""
    loop.set_debug(True)
    loop.slow_callback_duration = 60


MODES = [lazy, debugging] if sys.version_info < (3, 12) else [lazy, debugging, eager]


@pytest.fixture(params=MODES, ids=lambda mode: mode.__name__)
def loop(request: pytest.FixtureRequest) -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    request.param(loop)
    yield loop
    try:
        assert not asyncio.all_tasks(loop), "tasks hang"
        assert not loop.errors
    finally:
        loop.end()


@pytest.fixture(params=packages(), ids=build_of)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def running(loop: VirtualLoop) -> Iterator[None]:
    """Create tasks inside the running loop."""
    # An eager task needs a running loop.
    asyncio.events._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio.events._set_running_loop(None)


def start(loop: VirtualLoop, *coroutines: Coroutine[Any, Any, Any]) -> list["asyncio.Task[Any]"]:
    """Start tasks and run them until they wait."""
    with running(loop):
        tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    loop.settle()
    return tasks


def call(loop: VirtualLoop, function: Callable[[], object]) -> None:
    """Call a function from the loop, and run all callbacks that follow."""
    loop.call_soon(function)
    loop.settle()


async def pass_back(end: Endpoint, log: list[str]) -> None:
    """Answer each number with the next one, and close after the last one."""
    async for message in end.client:
        log.append(message)
        if int(message) == ROUNDS:
            await end.client.close()
        else:
            await end.client.send(str(int(message) + 1))


async def begin(end: Endpoint) -> None:
    """Send the first number in a task."""
    await end.client.send(NUMBERS[0])


NUMBERS = [str(number) for number in range(1, ROUNDS + 1)]


@pytest.mark.parametrize("capacity", [0, ALL])
def test_ping_pong_over_transport_that_delivers_inside_write(loop: VirtualLoop, package: str, capacity: int) -> None:
    ends = connected(loop, (package, package), kind=SynchronousTransport, capacity=capacity)
    log: list[str] = []
    tasks = start(loop, *(pass_back(end, log) for end in ends), begin(ends[0]))
    assert log == NUMBERS
    assert all(task.done() for task in tasks)
    assert [end.client.outcome.cause for end in ends] == ["clean", "clean"]


def test_ping_pong_begins_outside_of_tasks(loop: VirtualLoop, package: str) -> None:
    """If no task runs, the reader is resumed from inside the delivery, and its answer is delivered from there."""
    ends = connected(loop, (package, package), kind=SynchronousTransport)
    log: list[str] = []
    start(loop, *(pass_back(end, log) for end in ends))
    call(loop, lambda: ends[0].client.send("1"))
    assert log == NUMBERS


def test_ping_pong_of_many_balls_keeps_their_order(loop: VirtualLoop, package: str) -> None:
    ends = connected(loop, (package, package), kind=SynchronousTransport)
    sent: dict[Endpoint, list[str]] = {end: [] for end in ends}
    received: dict[Endpoint, list[str]] = {end: [] for end in ends}

    def send(end: Endpoint, ball: str) -> Any:
        sent[end].append(ball)
        return end.client.send(ball)

    async def pass_on(end: Endpoint) -> None:
        async for message in end.client:
            received[end].append(message)
            if len(received[end]) < ROUNDS:
                await send(end, message)

    tasks = start(loop, *(pass_on(end) for end in ends))
    call(loop, lambda: [send(ends[0], ball) for ball in "abc"])
    assert sent == {ends[0]: received[ends[1]], ends[1]: received[ends[0]]}
    assert len(received[ends[1]]) >= ROUNDS
    start(loop, ends[0].client.close())
    assert all(task.done() for task in tasks)


@pytest.mark.parametrize("socket", [None, NoSocket()], ids=["kept", "lent"])
def test_streams_over_transport_that_delivers_inside_write(
    loop: VirtualLoop, package: str, socket: NoSocket | None
) -> None:
    """Each part is answered with a part from inside its delivery, even if the reader reads from the receive buffer."""
    limits = {"read_high": 100, "read_low": 50}
    ends = connected(loop, (package, package), kind=SynchronousTransport, socket=socket, limits=limits)
    echoed = bytearray()

    async def echo() -> None:
        async for reader in ends[0].client.messages():
            await ends[0].client.writer.feed(reader)

    async def collect() -> None:
        async for reader in ends[1].client.messages():
            async for part in reader:
                echoed.extend(part)
            await ends[1].client.close()

    async def send() -> None:
        async with ends[1].client.writer.fragment() as stream:
            for number in range(ROUNDS):
                await stream.send(b"%05d" % number)

    tasks = start(loop, echo(), collect(), send())
    assert all(task.done() for task in tasks)
    assert echoed == b"".join(b"%05d" % number for number in range(ROUNDS))


def test_pings_are_answered_inside_write(loop: VirtualLoop, package: str) -> None:
    ends = connected(loop, (package, package), kind=SynchronousTransport)
    (task,) = start(loop, asyncio_gather(*(end.client.writer.ping() for end in ends for _ in range(50))))
    assert len(task.result()) == 100
    start(loop, ends[1].client.close())


async def asyncio_gather(*awaitables: Any) -> list[Any]:
    return list(await asyncio.gather(*awaitables))


# A task that ends while it is woken -------------------------------------------------------------------------


async def read_message(end: Endpoint) -> object:
    return await end.client.read_message()


async def read_frame(end: Endpoint) -> object:
    return (await end.client.read_frame()).payload.decode()


async def read_stream(end: Endpoint) -> object:
    reader = await anext(end.client.messages())
    return (await reader.readexactly(2)).decode() + (await reader.read()).decode()


READS = [read_message, read_frame, read_stream]


@pytest.mark.parametrize("next_read", READS)
@pytest.mark.parametrize("first_read", READS)
@pytest.mark.parametrize("together", [True, False])
def test_task_that_ends_when_woken_leaves_messages_to_the_next_reader(
    loop: VirtualLoop, package: str, first_read: Any, next_read: Any, together: bool
) -> None:
    """Even if both messages were received in one chunk."""
    sender, receiver = ends = connected(loop, (package, package), capacity=ALL)
    (first,) = start(loop, first_read(receiver))
    (sent,) = start(loop, sender.client.send("first"))
    if not together:
        call(loop, lambda: sender.transport.move(ALL))
        assert first.result() == "first"
    start(loop, sender.client.send("second"))
    if not together:
        (second,) = start(loop, next_read(receiver))
    call(loop, lambda: sender.transport.move(ALL))
    if together:
        (second,) = start(loop, next_read(receiver))
    assert (first.result(), second.result(), sent.result()) == ("first", "second", None)
    close(loop, ends)


@pytest.mark.parametrize("size", [1, 3, ALL])
def test_one_task_after_the_other_reads_a_message_each(loop: VirtualLoop, package: str, size: int) -> None:
    """Each reader creates the next one, and returns as soon as it is woken."""
    sender, receiver = ends = connected(loop, (package, package), capacity=ALL)
    numbers = NUMBERS[:50]  # eager tasks start inside one another
    got: list[object] = []
    tasks: list[asyncio.Task[None]] = []
    numbers = NUMBERS[:100]  # each eager task runs inside the one that creates it, and more would be too deep a stack

    async def read() -> None:
        got.append(await receiver.client.read_message())
        if len(got) < len(numbers):
            tasks.append(asyncio.create_task(read()))

    tasks.extend(start(loop, read()))
    for number in numbers:
        start(loop, sender.client.send(number))
    while sender.transport.can_move:
        call(loop, lambda: sender.transport.move(size))
    assert got == numbers
    assert all(task.done() for task in tasks)
    close(loop, ends)


@pytest.mark.parametrize("read", READS)
def test_read_cancelled_in_the_iteration_that_receives_its_message_loses_nothing(
    loop: VirtualLoop, package: str, read: Any
) -> None:
    sender, receiver = ends = connected(loop, (package, package), capacity=ALL)
    (cancelled,) = start(loop, read(receiver))
    start(loop, sender.client.send("first"))
    loop.call_soon(cancelled.cancel)
    loop.call_soon(sender.transport.move, ALL)
    loop.settle()
    assert cancelled.cancelled()
    (task,) = start(loop, read(receiver))
    assert task.result() == "first"
    close(loop, ends)


def test_second_reader_in_a_task_is_refused_and_disturbs_nothing(loop: VirtualLoop, package: str) -> None:
    sender, receiver = ends = connected(loop, (package, package), capacity=ALL)
    first, second = start(loop, read_message(receiver), read_frame(receiver))
    assert isinstance(second.exception(), receiver.streamws.ConcurrencyError)
    start(loop, sender.client.send("first"))
    call(loop, lambda: sender.transport.move(ALL))
    assert first.result() == "first"
    close(loop, ends)


def test_reader_woken_in_a_task_runs_before_others(loop: VirtualLoop, package: str) -> None:
    """Bytes delivered inside a task wake the reader in the next iteration; until then a second one is refused."""
    sender, receiver = ends = connected(loop, (package, package), capacity=ALL)
    (beginning,) = start(loop, begun(receiver))
    start(loop, split(sender))
    call(loop, lambda: sender.transport.move(2 + 1))  # header and one byte
    reader = beginning.result() if beginning.done() else None
    assert reader is not None
    (first,) = start(loop, reader.readexactly(4))

    async def deliver() -> None:
        sender.transport.move(1)

    async def second() -> bytes:
        return bytes(await reader.read(1))

    with running(loop):
        tasks = [loop.create_task(deliver()), loop.create_task(second())]
    loop.settle()
    assert isinstance(tasks[1].exception(), receiver.streamws.ConcurrencyError)
    call(loop, lambda: sender.transport.move(ALL))
    assert first.result() == b"abcd"
    close(loop, ends)


async def begun(end: Endpoint) -> Any:
    return await anext(end.client.messages())


async def split(end: Endpoint) -> None:
    await end.client.writer.write_frame(end.streamws.DataFrame(BINARY, b"abcd"))


def close(loop: VirtualLoop, ends: Pair) -> None:
    """Do the closing handshake."""
    (task,) = start(loop, ends[1].client.close())
    while any(end.transport.can_move for end in ends):
        for end in ends:
            call(loop, lambda end=end: end.transport.move(ALL))  # type: ignore[misc]
    assert task.done()
