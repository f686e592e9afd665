"""Each promise of ARCHITECTURE.md behind a proxy that harms the connection, in both roles.

`test_faults.py` harms the connection at every byte. Here each promise has a fault of its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import attrs
import pytest

from helpers.faults import Fault, FaultProxy, Link, Pace, Plan, Way, fault_proxy
from helpers.fixtures import Connect, Serve, address_of, echo, outcome_of
from helpers.frames import frame, header, text
from helpers.leaks import open_sockets
from helpers.peers import QUIET, Peer, open_peer, scripted
from helpers.waiting import iterations, until, within
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConcurrencyError,
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectTimeout,
    DataFrame,
    HandshakeError,
    HandshakeRefused,
    IncompleteMessage,
    MessageReader,
    Opcode,
    Side,
    StaleReader,
    Timeouts,
    WebSocketServer,
)
from streamws import connect as connect_to

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION
SHORT = Timeouts(open=5, close=0.1, ping_interval=None)
ENDINGS = [Fault.CUT, Fault.HALF_CLOSE, Fault.RESET]
endings = pytest.mark.parametrize("fault", ENDINGS)


@attrs.frozen
class Linked:
    """Both ends of a connection through the proxy."""

    subject: Client
    """The end under test."""
    other: Client
    link: Link
    way: Way
    """The direction towards the end under test."""

    def inflict(self, fault: Fault, after: int = 0) -> None:
        """Harm the direction towards the end under test, after this number of further bytes."""
        self.link.inflict(fault, self.way, after)


class Connected(Protocol):
    """Connects both ends through the proxy."""

    def __call__(
        self, pace: Pace = ..., timeouts: Timeouts = ..., **options: Any
    ) -> AbstractAsyncContextManager[Linked]: ...


@pytest.fixture(params=["server", "client"])
def linked(request: pytest.FixtureRequest) -> Connected:
    """Both ends of a connection; the parameter is the role of the end under test."""
    serves = request.param == "server"

    @asynccontextmanager
    async def start(pace: Pace = Pace.AS_READ, timeouts: Timeouts = QUIET, **options: Any) -> AsyncIterator[Linked]:
        clients: asyncio.Queue[Client] = asyncio.Queue()

        async def hold(client: Client) -> None:
            clients.put_nowait(client)
            await client.wait_closed()

        options["timeouts"] = timeouts
        async with WebSocketServer("127.0.0.1", 0, handler=hold, **options) as server:
            with fault_proxy(address_of(server)) as proxy:
                sock, link = proxy.connect(Plan(pace=pace))
                near = await within(connect_to("ws://localhost/", sock=sock, **options))
                far = await within(clients.get())
                subject, other = (far, near) if serves else (near, far)
                try:
                    yield Linked(subject, other, link, Way.UP if serves else Way.DOWN)
                finally:
                    link.close()
                    await within(asyncio.gather(near.close(), far.close()))

    return start


async def waiting(read: Awaitable[Any]) -> "asyncio.Future[Any]":
    """Start a task, which has to wait for the network."""
    task = asyncio.ensure_future(read)
    await iterations(12)
    assert not task.done()
    return task


async def cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# Promise 1: Lifetime ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("fails", [False, True])
async def test_promise_1_handler_ends_its_connection_on_a_dead_network(fails: bool, serve: Serve) -> None:
    clients: list[Client] = []
    go_on = asyncio.Event()

    async def handler(client: Client) -> None:
        clients.append(client)
        await go_on.wait()
        if fails:
            raise LookupError

    server = await serve(handler, timeouts=SHORT)
    with fault_proxy(address_of(server)) as proxy:
        sock, link = proxy.connect(Plan())
        near = await within(connect_to("ws://localhost/", sock=sock, timeouts=SHORT))
        link.inflict(Fault.FREEZE, Way.UP)
        go_on.set()
        await within(clients[0].wait_closed())
        outcome = outcome_of(clients[0])
        assert outcome.sent == Close(1011 if fails else 1000)
        assert outcome.received is None
        assert outcome.cause is (Cause.HANDLER_ERROR if fails else Cause.CLOSE_TIMEOUT)
        assert outcome.initiator is Side.LOCAL
        assert not server.clients
        link.reset()
        await within(near.wait_closed())


@pytest.mark.parametrize("fault", [Fault.NONE, *ENDINGS])
@pytest.mark.parametrize("pace", list(Pace))
async def test_promise_1_callbacks_run_in_order_and_the_last_one_tells_the_end(
    fault: Fault, pace: Pace, linked: Connected
) -> None:
    said: list[str] = []
    async with linked(pace) as end:

        async def on_message(reader: MessageReader) -> None:
            said.append(str(await reader.get()))
            await asyncio.sleep(0)
            said.append("read")

        def on_closed(outcome: CloseOutcome) -> None:
            said.append(outcome.cause)

        end.subject.message(on_message)
        end.subject.closed(on_closed)
        for number in range(5):
            await end.other.send(str(number))
        await until(lambda: len(said) == 10)
        if fault is Fault.NONE:
            await end.other.close()
        else:
            end.inflict(fault)
        await within(end.subject.wait_closed())
        await until(lambda: len(said) == 11)
        assert said[:10:2] == [*"01234"]
        assert said[1:10:2] == ["read"] * 5
        assert said[10] == (Cause.CLEAN if fault is Fault.NONE else Cause.RESET)


# Promise 2: Cancelling a read loses nothing -----------------------------------------------------------------


async def test_promise_2_read_cancelled_while_any_byte_is_late_loses_nothing(linked: Connected) -> None:
    async with linked() as end:

        async def say() -> None:
            async with end.other.writer.fragment() as stream:
                await stream.send("two fr")
                await stream.send("agments")

        before = len(end.link.flow(end.way).passed)
        await say()
        assert await end.subject.read_message() == "two fragments"
        for late in range(len(end.link.flow(end.way).passed) - before):
            end.inflict(Fault.STALL, late)
            await say()
            await cancel(await waiting(end.subject.read_message()))
            end.link.release()
            assert await within(end.subject.read_message()) == "two fragments"


async def test_promise_2_reader_cancelled_while_any_byte_is_late_keeps_its_position(linked: Connected) -> None:
    message = b"a message"
    async with linked() as end:
        for late in range(1, len(message)):
            end.inflict(Fault.STALL, (2 if end.way is Way.DOWN else 6) + late)
            await end.other.send(message)
            reader = await within(anext(end.subject.messages()))
            assert await within(reader.readexactly(late)) == message[:late]
            await cancel(await waiting(reader.readexactly(1)))
            end.link.release()
            assert await within(reader.readexactly(len(message) - late)) == message[late:]


# Promise 3: Leaving a reader early is safe ------------------------------------------------------------------


@endings
async def test_promise_3_connection_that_ends_in_a_message_that_was_left(fault: Fault, linked: Connected) -> None:
    async with linked() as end:
        end.inflict(Fault.STALL, 50)
        await end.other.send(bytes(100))
        async for reader in end.subject.messages():
            assert len(await within(reader.read(10))) == 10
            break
        next_one = await waiting(end.subject.read_message())
        end.inflict(fault)
        with pytest.raises(ConnectionClosedError):
            await within(next_one)
        with pytest.raises(StaleReader):
            await reader.read()
        assert not reader.at_eof()


# Promise 4: A truncated message never looks complete --------------------------------------------------------


async def fragments(client: Client) -> None:
    async with client.writer.fragment() as stream:
        while True:
            await stream.send(bytes(100_000))


async def one_frame(client: Client) -> None:
    async with client.writer.data_frame(1 << 40) as stream:
        while True:
            await stream.write(bytes(100_000))


async def fed(client: Client) -> None:
    async def source() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    await client.writer.feed(source())


async def frames(client: Client) -> None:
    await client.writer.write_frame(DataFrame(BINARY, b"", fin=False))
    while True:
        await client.writer.write_frame(DataFrame(CONTINUATION, bytes(100_000), fin=False))


@endings
@pytest.mark.parametrize("write", [fragments, one_frame, fed, frames])
async def test_promise_4_writer_raises_when_the_connection_ends_inside_its_message(
    write: Callable[[Client], Coroutine[Any, Any, None]], fault: Fault, linked: Connected
) -> None:
    """The peer sees an incomplete message, and the next sender does not hang."""
    async with linked() as end:
        reading = asyncio.create_task(read_whole(end.other))
        writing = await waiting(write(end.subject))
        behind = await waiting(end.subject.send("behind"))
        end.inflict(fault)
        for task in (writing, behind):
            with pytest.raises(ConnectionClosedError):
                await within(task)
        with pytest.raises(ConnectionClosedError):
            await within(end.subject.send("later"))
        with pytest.raises(IncompleteMessage):
            await within(reading)


async def read_whole(client: Client) -> bytes:
    """Read a message in pieces to its end."""
    async for reader in client.messages():
        while not reader.at_eof():
            await reader.read(1 << 20)
        return b"complete"
    return b""


# Promise 5: Two readers at once is an error that says so ----------------------------------------------------


@endings
async def test_promise_5_second_reader_does_not_disturb_the_first_one(fault: Fault, linked: Connected) -> None:
    async with linked() as end:
        end.inflict(Fault.STALL, 5)
        await end.other.send("for the first one")
        first = await waiting(end.subject.read_message())
        with pytest.raises(ConcurrencyError):
            await end.subject.read_message()
        end.link.release()
        assert await within(first) == "for the first one"
        first = await waiting(end.subject.read_message())
        end.inflict(fault)
        with pytest.raises(ConcurrencyError):
            await end.subject.read_message()
        with pytest.raises(ConnectionClosedError):
            await within(first)


# Promise 6: Control frames do not depend on the application -------------------------------------------------


@pytest.mark.parametrize("pace", list(Pace))
async def test_promise_6_pings_and_close_are_answered_while_no_one_reads(pace: Pace, linked: Connected) -> None:
    async with linked(pace) as end:
        await end.other.send("unread")
        for _ in range(5):
            await within(end.other.writer.ping())
        await within(end.other.close(1001, "bye"))
        await within(end.subject.wait_closed())
        assert outcome_of(end.subject) == CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1001, "bye"), Close(1001))
        assert outcome_of(end.other) == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1001), Close(1001, "bye"))


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.FREEZE])
@pytest.mark.parametrize("late", [0, 1, 10])
async def test_promise_6_silence_is_noticed_while_no_one_reads(fault: Fault, late: int, linked: Connected) -> None:
    timeouts = Timeouts(open=5, close=0.1, ping_interval=0.1, ping_timeout=0.1)
    async with linked(timeouts=timeouts) as end:
        end.inflict(fault, late)
        await within(end.other.send(bytes(1000)))
        await within(end.subject.wait_closed())
        outcome = outcome_of(end.subject)
        assert (outcome.cause, outcome.initiator) == (Cause.KEEPALIVE, Side.REMOTE)
        assert outcome.sent is not None
        assert outcome.sent.code == 1011
        await within(end.other.wait_closed())
        assert outcome_of(end.other).cause in (Cause.KEEPALIVE, Cause.PEER_ERROR)


# Promise 7: Back-pressure in both directions ----------------------------------------------------------------


async def send_until_paused(client: Client) -> int:
    """Send messages until `send` waits, and return their number. The last one is under way."""
    for number in range(1000):
        sending = asyncio.ensure_future(client.send(number.to_bytes(4, "big") * 16_384))
        await iterations(3)
        if not sending.done():
            sending.cancel()  # it has been sent all the same
            return number + 1
    raise AssertionError("nothing makes the sender wait")


async def test_promise_7_sender_waits_while_the_network_stands_still_and_nothing_is_lost(linked: Connected) -> None:
    async with linked() as end:
        end.inflict(Fault.STALL, 1000)
        count = await send_until_paused(end.other)
        end.link.release()
        for number in range(count):
            assert await within(end.subject.read_message()) == number.to_bytes(4, "big") * 16_384
        await within(end.other.send("goes on"))
        assert await within(end.subject.read_message()) == "goes on"


@pytest.mark.usefixtures("fast_timers")
@endings
async def test_promise_7_waiting_sender_raises_when_the_connection_ends(fault: Fault, linked: Connected) -> None:
    async with linked(timeouts=SHORT) as end:
        end.link.inflict(Fault.FREEZE, Way.UP)
        await send_until_paused(end.subject)
        sending = await waiting(end.subject.send("too late"))
        end.inflict(fault)
        with pytest.raises(ConnectionClosedError):
            await within(sending)
        assert outcome_of(end.subject).cause is Cause.RESET


# Promise 8: close() always ends within Timeouts.close -------------------------------------------------------


async def send_without_end(client: Client) -> None:
    while True:
        await client.send(bytes(100_000))


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize("fault", [*ENDINGS, Fault.STALL, Fault.FREEZE, Fault.DELAY])
@pytest.mark.parametrize("busy", ["idle", "unread", "fragments", "data frame"])
async def test_promise_8_close_ends_for_any_fault(fault: Fault, busy: str, linked: Connected) -> None:
    sends = {"unread": send_without_end, "fragments": fragments, "data frame": one_frame}
    async with linked(timeouts=SHORT) as end:
        if busy != "idle":
            sending = await waiting(sends[busy](end.other if busy == "unread" else end.subject))
        end.inflict(fault)
        await within(end.subject.close())
        outcome = outcome_of(end.subject)
        if fault is not Fault.DELAY:
            assert outcome.cause in (Cause.RESET, Cause.CLOSE_TIMEOUT, Cause.LOCAL_CANCEL)
            assert outcome.received is None
        assert not outcome.clean or outcome.received == Close(1000)
        if busy != "idle":
            await within(end.other.close())
            with pytest.raises(ConnectionClosed):
                await within(sending)


# Promise 9: The outcome says who and why --------------------------------------------------------------------


@endings
async def test_promise_9_outcome_names_the_peer_when_the_network_ends_the_connection(
    fault: Fault, linked: Connected
) -> None:
    async with linked() as end:
        end.inflict(fault)
        await within(end.subject.wait_closed())
        outcome = outcome_of(end.subject)
        assert (outcome.cause, outcome.initiator, outcome.code) == (Cause.RESET, Side.REMOTE, 1006)
        assert (outcome.received, outcome.sent) == (None, None)
        assert str(outcome).startswith("connection lost without a closing handshake")


@pytest.mark.parametrize("fault", ENDINGS)
async def test_promise_9_clean_close_stays_clean_when_only_the_answer_is_lost(fault: Fault, linked: Connected) -> None:
    """The end that received Close knows that the closing handshake is complete; the other end does not."""
    async with linked() as end:
        back = Way.DOWN if end.way is Way.UP else Way.UP
        end.link.inflict(Fault.STALL, back)
        closing = await waiting(end.other.close())
        end.link.inflict(fault, back)
        await within(closing)
        await within(end.subject.wait_closed())
        assert outcome_of(end.subject) == CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1000), Close(1000))
        outcome = outcome_of(end.other)
        assert (outcome.cause, outcome.received, outcome.sent) == (Cause.RESET, None, Close(1000))


# Promise 10: Every wait has a deadline ----------------------------------------------------------------------


@pytest.mark.usefixtures("fast_timers")
async def test_promise_10_handshake_on_a_dead_network_ends_at_both_ends(serve: Serve) -> None:
    server = await serve(echo, timeouts=Timeouts(open=0.2, close=0.2))
    with fault_proxy(address_of(server)) as proxy:
        before = open_sockets()
        sock, _ = proxy.connect(Plan(Fault.FREEZE, Way.UP, 20))
        with pytest.raises(ConnectTimeout):
            await within(connect_to("ws://localhost/", sock=sock, timeouts=Timeouts(open=0.2)))
        await until(lambda: open_sockets() == before + 2)  # those of the proxy


# Promise 11: Origin -----------------------------------------------------------------------------------------


async def foreign(proxy: FaultProxy, plan: Plan) -> Exception:
    """Connect as a page of another origin, and return the error."""
    sock, _ = proxy.connect(plan)
    with pytest.raises((HandshakeError, ConnectError)) as caught:
        await within(connect_to("ws://localhost/", sock=sock, origin="https://evil.example"))
    return caught.value


async def test_promise_11_foreign_page_gets_no_connection_whatever_the_network_does(serve: Serve) -> None:
    opened: list[Client] = []
    server = await serve(connection=opened.append)
    with fault_proxy(address_of(server)) as proxy:
        for pace in Pace:
            error = await foreign(proxy, Plan(pace=pace))
            assert isinstance(error, HandshakeRefused)
            assert error.status == 403
        size = len(proxy.links[0].up.passed)
        for fault in (Fault.CUT, Fault.HALF_CLOSE):
            for at in range(size + 1):
                await foreign(proxy, Plan(fault, Way.UP, at))
    assert not opened


# Promise 12: Bad input --------------------------------------------------------------------------------------

BAD_FRAMES = [
    ("a reserved bit", lambda masked: b"\xa1" + header(TEXT, masked=masked)[1:], 1002),
    ("an unknown opcode", lambda masked: frame(0x83, b"a", masked=masked), 1002),
    ("the wrong mask", lambda masked: frame(TEXT, b"a", masked=not masked), 1002),
    ("a long ping", lambda masked: frame(Opcode.PING, bytes(126), masked=masked), 1002),
    ("a stray continuation", lambda masked: frame(CONTINUATION, b"a", masked=masked), 1002),
    ("not UTF-8", lambda masked: frame(TEXT, b"ok \xff", masked=masked), 1007),
    ("far too long", lambda masked: header(BINARY, 1 << 62, masked=masked), 1009),
]
bad_frames = pytest.mark.parametrize(
    ("bad", "code"), [row[1:] for row in BAD_FRAMES], ids=[row[0] for row in BAD_FRAMES]
)
paces = pytest.mark.parametrize("pace", list(Pace))


@bad_frames
@paces
async def test_promise_12_server_answers_a_bad_frame_however_it_arrives(
    bad: Callable[[bool], bytes],
    code: int,
    pace: Pace,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await serve(echo)
    bystander = await connect(server)
    with fault_proxy(address_of(server)) as proxy:
        proxy.serve(lambda: Plan(pace=pace))
        peer = await within(open_peer(proxy.address[1]))
        caplog.set_level(logging.INFO, "streamws")
        peer.write(bad(True))
        assert (await within(peer.read_close()))[0] == code
        await peer.close()
        await until(lambda: len(server.clients) == 1)
    assert len(caplog.messages) == 1
    await bystander.send(text("undisturbed"))
    assert await bystander.read_frame() == (0x81, b"undisturbed")


@bad_frames
@paces
async def test_promise_12_client_answers_a_bad_frame_however_it_arrives(
    bad: Callable[[bool], bytes], code: int, pace: Pace
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(behind=bad(False))
        assert (await peer.read_close())[0] == code

    async with scripted(script) as server:
        with fault_proxy(("127.0.0.1", server.port)) as proxy:
            sock, _ = proxy.connect(Plan(pace=pace))
            client = await within(connect_to("ws://localhost/", sock=sock, timeouts=QUIET))
            with pytest.raises(ConnectionClosedError) as caught:
                await within(client.read_message())
            await within(client.wait_closed())
            assert caught.value.outcome.sent is not None
            assert (caught.value.outcome.sent.code, caught.value.outcome.initiator) == (code, Side.REMOTE)
            await server.finish()


# Promise 13: Fairness ---------------------------------------------------------------------------------------


async def test_promise_13_flood_that_arrives_at_once_does_not_keep_others_waiting(linked: Connected) -> None:
    """The network holds back many messages, and then delivers all of them at once."""
    flood, count = 50_000, 0
    async with linked() as end, linked() as bystander:

        async def read() -> None:
            nonlocal count
            async for _ in end.subject:
                count += 1

        reading = asyncio.create_task(read())
        end.inflict(Fault.STALL)
        held = asyncio.create_task(send_all(end.other, flood))
        await iterations(100)
        end.link.release()
        await until(lambda: count)
        await within(bystander.other.send("between"))
        assert await within(bystander.subject.read_message()) == "between"
        assert count < flood
        await within(held)
        await until(lambda: count == flood)
        await within(end.other.close())
        await within(reading)


async def send_all(client: Client, count: int) -> None:
    for _ in range(count):
        await client.send(b"flood")


# Promise 14: Threads ----------------------------------------------------------------------------------------


@paces
async def test_promise_14_thread_sends_through_the_loop_and_hears_of_the_end(pace: Pace, linked: Connected) -> None:
    loop = asyncio.get_running_loop()
    async with linked(pace) as end:

        async def send(message: str) -> None:
            await end.subject.send(message)

        def from_a_thread(message: str) -> None:
            asyncio.run_coroutine_threadsafe(send(message), loop).result(10)

        await within(asyncio.to_thread(from_a_thread, "one"))
        assert await within(end.other.read_message()) == "one"
        end.inflict(Fault.RESET)
        await within(end.subject.wait_closed())
        with pytest.raises(ConnectionClosedError):
            await within(asyncio.to_thread(from_a_thread, "two"))
