"""The promises of ARCHITECTURE.md on a bad network: the connection is harmed at any byte of either direction.

Both ends are ours, so each case tests a server and a client. What must have arrived is read off the bytes that the
proxy passed on, by a second parser. No test asserts a time: a case that hangs fails by its deadline.
"""

import asyncio
import gc
import ssl as tls
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest

from helpers.faults import Fault, FaultProxy, Link, Pace, Plan, Way, fault_proxy
from helpers.fixtures import address_of, outcome_of
from helpers.leaks import open_sockets
from helpers.taps import Tap
from helpers.waiting import until
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    Compression,
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeError,
    HandshakeRefused,
    IncompleteMessage,
    Opcode,
    Side,
    Timeouts,
    WebSocketServer,
    connect,
)

Message = str | bytes
Contexts = tuple[tls.SSLContext, tls.SSLContext]
"""The limits of the server and of the client."""

LAZY = Timeouts(open=30, close=30, ping_interval=None)
"""Long deadlines. A case that reaches one of them fails."""
BRISK = Timeouts(open=1.5, close=0.4, ping_interval=0.4, ping_timeout=0.4)
"""Short deadlines, for cases in which the network stalls."""
COMPRESSION = Compression(threshold=30, takeover=True, peer_takeover=True)
SAID: list[Message] = ["hello, 世界", "in two fragments", b"compress me " * 8, "again compressed, in fragments " * 2]
"""What each end sends to the other one."""
AT_ONCE = 100
"""Cases that run at the same time."""
ENDINGS = (Fault.HALF_CLOSE, Fault.RESET)
STANDSTILL = (Fault.STALL, Fault.FREEZE)


@attrs.frozen
class Manner:
    """How a conversation goes."""

    closer: Side = Side.LOCAL
    """The end that begins the closing handshake: LOCAL is the client."""
    streamed: bool = False
    """Whether messages are read in pieces."""


MANNERS = [Manner(closer, streamed) for closer in Side for streamed in (False, True)]
ways = pytest.mark.parametrize("way", list(Way))


def mixed(plans: Iterable[Plan]) -> list[tuple[Plan, Manner]]:
    """Give each plan a manner that differs from those of its neighbours."""
    return [(plan, MANNERS[number % len(MANNERS)]) for number, plan in enumerate(plans)]


@attrs.define
class End:
    """What one end of a conversation saw."""

    closes: bool
    """Whether it begins the closing handshake, when it has received everything."""
    client: Client | None = None
    received: list[Message] = attrs.Factory(list)
    error: Exception | None = None
    """The exception with which reading ended."""
    told: list[CloseOutcome] = attrs.Factory(list)
    """What `@client.closed` was called with."""
    began: bool = False
    """Whether this end began the closing handshake before the network was harmed."""
    over: bool = False


async def speak(client: Client) -> None:
    """Send a ping and all messages, as far as the connection lets it."""
    with suppress(ConnectionClosed):
        hello, two, packed, packed_two = SAID
        # Sent before the last message. Otherwise the peer, which then has everything, might close before it arrives.
        pong = client.writer.ping()
        await client.send(hello)
        for message in (two, packed, packed_two):
            if message is packed:
                await client.send(message)
                continue
            async with client.writer.fragment() as stream:
                half = len(message) // 2
                await stream.send(message[:half])
                await stream.send(message[half:])
        await pong


async def listen(client: Client, end: End, streamed: bool) -> None:
    """Read until everything was received if this end closes; otherwise, read to the end of the connection."""
    try:
        if not streamed:
            async for message in client:
                end.received.append(message)
                if end.closes and len(end.received) == len(SAID):
                    return
            return
        async for reader in client.messages():
            data = b""
            async for piece in reader:
                data += piece
            end.received.append(data.decode() if reader.type is Opcode.TEXT else data)
            if end.closes and len(end.received) == len(SAID):
                return
    except ConnectionClosed as error:
        end.error = error


async def converse(client: Client, end: End, link: Link, streamed: bool) -> None:
    """Send and receive at the same time, as one end of a conversation."""
    end.client = client
    client.closed(end.told.append)
    speaking = asyncio.create_task(speak(client))
    await listen(client, end, streamed)
    await speaking
    if end.closes:
        end.began = client.outcome is None and not link.harmed
        await client.close()
    await client.wait_closed()
    end.over = True


@attrs.define
class Case:
    """One conversation through the proxy."""

    link: Link
    manner: Manner
    near: End
    """The client."""
    far: End
    """The server."""
    failure: ConnectError | ConnectTimeout | HandshakeError | None = None
    """What `connect` raised."""


@attrs.define
class Conversations:
    """Runs conversations between our client and our server."""

    proxy: FaultProxy
    options: dict[str, Any]
    cases: dict[str, Case] = attrs.Factory(dict)
    """The conversations by the path of their request."""

    async def serve(self, client: Client) -> None:
        case = self.cases[client.request.path]
        await converse(client, case.far, case.link, case.manner.streamed)

    async def run(self, plan: Plan, manner: Manner = MANNERS[0]) -> Case:
        sock, link = self.proxy.connect(plan)
        case = Case(link, manner, End(manner.closer is Side.LOCAL), End(manner.closer is Side.REMOTE))
        path = f"/{len(self.cases):05}"
        self.cases[path] = case
        scheme = "wss" if "ssl" in self.options else "ws"
        try:
            client = await connect(f"{scheme}://localhost{path}", sock=sock, user_agent=None, **self.options)
        except (ConnectError, ConnectTimeout, HandshakeError) as error:
            case.failure = error
        else:
            await converse(client, case.near, link, manner.streamed)
        return case

    async def run_all(self, plans: Iterable[tuple[Plan, Manner]]) -> list[Case]:
        """Run one conversation for each plan, some at the same time; all of them end, and leave nothing open."""
        before = open_sockets()
        free = asyncio.Semaphore(AT_ONCE)

        async def run(plan: Plan, manner: Manner) -> Case:
            async with free:
                return await self.run(plan, manner)

        cases = list(await asyncio.gather(*[run(*plan) for plan in plans]))
        await until(lambda: all(case.far.client is None or case.far.over for case in cases))
        await until(lambda: open_sockets() == before + 2 * sum(not case.link.closed for case in cases))
        return cases

    async def lengths(self) -> dict[Way, int]:
        """Return the bytes in each direction of an unharmed conversation. Their number is the same for all manners."""
        cases = await self.run_all(mixed([Plan()] * len(MANNERS)))
        for case in cases:
            judge_unharmed(case)
        [lengths] = {tuple(len(case.link.flow(way).passed) for way in Way) for case in cases}
        return dict(zip(Way, lengths, strict=True))


@asynccontextmanager
async def conversations(timeouts: Timeouts = LAZY, contexts: Contexts | None = None) -> AsyncIterator[Conversations]:
    """Run a server, and a proxy in front of it."""
    options: dict[str, Any] = {"compression": COMPRESSION, "timeouts": timeouts}
    theirs, ours = contexts or (None, None)

    async def handler(client: Client) -> None:
        await running.serve(client)

    # The proxy connects inside the loop, which then accepts nothing. A conversation that is cut may end, and make place
    # for the next one, before the server has accepted it: so its queue must hold more connections than run at once.
    backlog = 10 * AT_ONCE
    async with WebSocketServer("127.0.0.1", 0, handler=handler, ssl=theirs, backlog=backlog, **options) as server:
        with fault_proxy(address_of(server)) as proxy:
            running = Conversations(proxy, options | ({"ssl": ours} if ours else {}))
            yield running
            assert not server.clients


# Judging ----------------------------------------------------------------------------------------------------


def tapped(link: Link, way: Way) -> tuple[bool, Tap]:
    """Return whether the head of an opening handshake passed in this direction, and the bytes after it."""
    head, end, rest = bytes(link.flow(way).passed).partition(b"\r\n\r\n")
    opened = bool(end) and head.startswith((b"GET ", b"HTTP/1.1 101 "))
    tap = Tap(way is Way.UP, window_bits=15, takeover=True)
    if opened:
        tap.feed(rest)
    return opened, tap


def judge(case: Case) -> None:
    """Check what both ends saw against the bytes that passed."""
    plan = case.link.plan
    try:
        asked, up = tapped(case.link, Way.UP)
        answered, down = tapped(case.link, Way.DOWN)
        judge_opening(case, asked, answered)
        if case.far.client is not None:
            judge_end(case.far, up, plan, Way.UP)
        if case.near.client is not None:
            judge_end(case.near, down, plan, Way.DOWN)
    except AssertionError as error:
        error.add_note(f"with {plan}: {case}, {bytes(case.link.up.passed)!r}, {bytes(case.link.down.passed)!r}")
        raise


async def judge_ended(cases: list[Case]) -> None:
    """Judge conversations whose fault has ended the connection."""
    # The proxy may see the end of its last socket a little later than both ends see theirs.
    await until(lambda: all(case.link.closed for case in cases))
    for case in cases:
        assert case.link.harmed
        assert case.link.closed
        judge(case)


def is_too_slow(failure: Exception) -> bool:
    """Return whether a deadline has ended the handshake: the client's, or the server's."""
    return isinstance(failure, ConnectTimeout) or (isinstance(failure, HandshakeRefused) and failure.status == 408)


def judge_opening(case: Case, asked: bool, answered: bool) -> None:
    loses = case.link.plan.fault is Fault.RESET
    assert case.near.client is None or answered
    assert case.far.client is None or asked
    assert loses or (case.near.client is not None) is answered
    assert (case.failure is None) is (case.near.client is not None)
    if case.failure is not None and case.link.plan.fault in STANDSTILL:
        assert is_too_slow(case.failure)


def judge_end(end: End, tap: Tap, plan: Plan, way: Way) -> None:
    """Check what one end saw.

    :param tap: what passed towards it.
    :param way: the direction towards it.
    """
    assert end.client is not None
    outcome = outcome_of(end.client)
    arrived = [message.value for message in tap.done()]
    loses = plan.fault is Fault.RESET  # bytes that have passed may be lost inside the kernel
    assert end.over
    assert end.told == [outcome]
    if (
        outcome.received is not None
    ):  # the other end closed normally, or has noticed first that the network stands still
        assert outcome.received.code in ((1000, 1011) if plan.fault in STANDSTILL else (1000,))

    # No message is lost without an error, and none is seen in part.
    assert end.received == (arrived[: len(end.received)] if loses else arrived)
    everything = end.closes and len(end.received) == len(SAID)
    if outcome.clean or everything:
        assert end.error is None
        assert end.received == arrived
    elif outcome.received is None:
        kind = type(end.error)
        assert kind in (IncompleteMessage, ConnectionClosedError)
        assert loses or (kind is IncompleteMessage) is tap.cut

    # Who and why.
    if outcome.cause not in (Cause.KEEPALIVE, Cause.CLOSE_TIMEOUT):  # after its deadline an end reads nothing
        assert loses or (outcome.received is not None) is bool(tap.closes)
    if outcome.received is not None:
        if plan.fault not in STANDSTILL:
            assert outcome.cause is Cause.CLEAN
    elif plan.fault in STANDSTILL:
        judge_stalled(end, outcome, plan, way)
    else:
        assert outcome.cause is Cause.RESET
    if outcome.cause in (Cause.CLEAN, Cause.RESET):
        if end.began or not everything:
            assert outcome.initiator is (Side.LOCAL if end.began else Side.REMOTE)
        if end.began or outcome.received is not None:
            assert outcome.sent == Close(1000)


def judge_stalled(end: End, outcome: CloseOutcome, plan: Plan, way: Way) -> None:
    """The network stalled, and no Close frame arrived."""
    if plan.fault is Fault.FREEZE or plan.way is way:
        assert outcome.cause in (Cause.KEEPALIVE, Cause.CLOSE_TIMEOUT)
    else:
        # The other end has noticed first, and has dropped the connection.
        assert outcome.cause in (Cause.KEEPALIVE, Cause.CLOSE_TIMEOUT, Cause.RESET)


def judge_unharmed(case: Case) -> None:
    """Both ends have received everything, and have closed cleanly."""
    judge(case)
    assert case.near.client is not None
    assert case.far.client is not None
    for client in (case.near.client, case.far.client):
        assert outcome_of(client).cause is Cause.CLEAN
    assert case.near.received == case.far.received == SAID


# Every byte of the opening handshake, the conversation and the closing handshake -------------------------------


@ways
@pytest.mark.parametrize("closer", list(Side))
async def test_connection_cut_at_any_byte(way: Way, closer: Side) -> None:
    async with conversations() as conversing:
        size = (await conversing.lengths())[way]
        plans = [(Plan(Fault.CUT, way, at), Manner(closer, at % 2 == 1)) for at in range(size + 1)]
        await judge_ended(await conversing.run_all(plans))


@ways
@pytest.mark.parametrize("fault", ENDINGS)
async def test_connection_ended_at_every_other_byte(fault: Fault, way: Way) -> None:
    async with conversations() as conversing:
        size = (await conversing.lengths())[way]
        plans = [Plan(fault, way, at) for at in range(ENDINGS.index(fault), size + 1, len(ENDINGS))]
        await judge_ended(await conversing.run_all(mixed(plans)))


@pytest.mark.usefixtures("fast_timers")
@ways
@pytest.mark.parametrize("fault", STANDSTILL)
async def test_connection_that_stands_still_at_many_bytes(fault: Fault, way: Way) -> None:
    step = 2 if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop) else 6  # where time is real
    first = STANDSTILL.index(fault)
    async with conversations() as conversing:
        size = (await conversing.lengths())[way]
    async with conversations(BRISK) as conversing:
        for case in await conversing.run_all(mixed(Plan(fault, way, at) for at in range(first, size + 1, step))):
            assert case.link.harmed
            judge(case)


@ways
async def test_connection_delayed_at_many_bytes(way: Way) -> None:
    async with conversations() as conversing:
        size = (await conversing.lengths())[way]
        for case in await conversing.run_all(mixed(Plan(Fault.DELAY, way, at) for at in range(0, size + 1, 3))):
            judge_unharmed(case)


@pytest.mark.parametrize("pace", [Pace.SINGLE, Pace.COALESCED])
async def test_connection_whose_bytes_are_split_or_coalesced(pace: Pace) -> None:
    async with conversations() as conversing:
        for case in await conversing.run_all(mixed([Plan(pace=pace)] * len(MANNERS))):
            judge_unharmed(case)


async def test_connection_that_ended_is_freed() -> None:
    """The server, the loop and the timers do not refer to it."""
    async with conversations() as conversing:
        size = (await conversing.lengths())[Way.UP]
        places = (size, size - 50, size - 100)
        plans = [Plan(fault, Way.UP, at) for fault in Fault if fault not in STANDSTILL for at in places]
        cases = await conversing.run_all(mixed(plans))
        clients = [end.client for case in cases for end in (case.near, case.far) if end.client is not None]
        assert len(clients) == 2 * len(plans)
        held = [weakref.ref(thing) for client in clients for thing in (client, client._connection)]
        del clients
        cases.clear()
        conversing.cases.clear()
        await asyncio.sleep(0)  # the wake-up of this task refers to the results
        gc.collect()
        assert not [thing() for thing in held if thing() is not None]


# The same through TLS ---------------------------------------------------------------------------------------------


def judge_encrypted(case: Case) -> None:
    """As `judge`, with the checks that are possible for encrypted bytes."""
    assert (case.failure is None) is (case.near.client is not None)
    for end in (case.near, case.far):
        if end.client is None:
            continue
        outcome = outcome_of(end.client)
        assert end.over
        assert end.told == [outcome]
        assert end.received == SAID[: len(end.received)]
        everything = end.closes and end.received == SAID
        if everything or outcome.clean:
            assert end.error is None
            assert end.received == SAID
        else:
            assert isinstance(end.error, ConnectionClosedError)
        assert outcome.clean is (outcome.received == outcome.sent == Close(1000))


async def encrypted_plans(way: Way, faults: Sequence[Fault], step: int, contexts: Contexts) -> list[Plan]:
    """Return plans for places throughout a conversation, each with another fault."""
    async with conversations(LAZY, contexts) as conversing:
        [case] = await conversing.run_all(mixed([Plan()]))
    judge_encrypted(case)
    # The length of signatures differs, and so does the number of frames in one record.
    places = range(0, len(case.link.flow(way).passed), step)
    return [Plan(faults[number % len(faults)], way, at) for number, at in enumerate(places)]


@ways
async def test_connection_with_tls_harmed_at_many_bytes(
    way: Way, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    """Without a close_notify the end of a TLS connection may be the work of an attacker (RFC 8446 section 6.1)."""
    contexts = server_context, client_context
    plans = await encrypted_plans(way, (Fault.CUT, Fault.HALF_CLOSE, Fault.RESET, Fault.DELAY), 11, contexts)
    async with conversations(LAZY, contexts) as conversing:
        cases = await conversing.run_all(mixed(plans))
    assert sum(case.link.harmed for case in cases) > len(cases) // 2
    for case in cases:
        judge_encrypted(case)
        if case.link.plan.fault is Fault.DELAY:
            assert case.near.received == case.far.received == SAID
            assert [outcome_of(end.client).clean for end in (case.near, case.far) if end.client] == [True, True]


@pytest.mark.usefixtures("fast_timers")
@ways
async def test_connection_with_tls_that_stands_still_at_many_bytes(
    way: Way, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    contexts = server_context, client_context
    plans = await encrypted_plans(way, STANDSTILL, 37, contexts)
    async with conversations(BRISK, contexts) as conversing:
        for case in await conversing.run_all(mixed(plans)):
            judge_encrypted(case)
            assert not case.link.harmed or case.failure is None or is_too_slow(case.failure)


@pytest.mark.parametrize("pace", [Pace.SINGLE, Pace.COALESCED])
async def test_connection_with_tls_whose_bytes_are_split_or_coalesced(
    pace: Pace, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with conversations(LAZY, (server_context, client_context)) as conversing:
        for case in await conversing.run_all(mixed([Plan(pace=pace)] * len(MANNERS))):
            judge_encrypted(case)
            assert case.near.received == case.far.received == SAID
