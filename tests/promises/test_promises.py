"""The promises of ARCHITECTURE.md, one after the other: a test for every clause, to be read beside them."""

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

import attrs
import pytest

from helpers.fixtures import Connect, Serve, client_of, echo, outcome_of
from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import request, xor
from helpers.frames import text as text_frame
from helpers.inside import is_reading, unread
from helpers.peers import Peer, RawClient, pair
from helpers.waiting import until, within
from streamws import (
    Cause,
    Client,
    Close,
    CloseOutcome,
    ConcurrencyError,
    ConnectionClosedError,
    DataFrame,
    IncompleteMessage,
    Limits,
    MessageReader,
    Opcode,
    Request,
    Response,
    Side,
    StaleReader,
    State,
    Timeouts,
)

TEXT, BINARY, CONTINUATION, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION, Opcode.PING
NO_PINGS = Timeouts(close=5, ping_interval=None)
BRISK = Timeouts(close=5, ping_interval=0.05, ping_timeout=0.15)
MARKS = Limits(read_high=10_000, read_low=2_000)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def started(read: Awaitable[object]) -> "asyncio.Future[object]":
    """Start a task that waits."""
    task = asyncio.ensure_future(read)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def ended(task: "asyncio.Future[object]") -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def begin_message(client: Client, peer: Peer, *, opcode: Opcode = BINARY) -> MessageReader:
    """Return the reader of a message of 30 bytes, of which 10 were received."""
    peer.write(header(opcode, 30) + xor(b"a" * 12)[:12])
    return await anext(client.messages())


async def fill(client: Client) -> None:
    """Send until back-pressure of the peer, which does not read, stops the sender."""
    while not client._connection.outbox.paused:
        client.send(bytes(100_000)).close()
        await asyncio.sleep(0)


# Promise 1: Lifetime ----------------------------------------------------------------------------------------


async def test_promise_1_handler_that_returns_closes_with_1000(serve: Serve, connect: Connect) -> None:
    async def handler(client: Client) -> None:
        await client.send("done")

    raw = await connect(await serve(handler))
    assert await raw.read_frame() == (0x81, b"done")
    assert await raw.read_frame() == (0x88, b"\x03\xe8")


async def test_promise_1_handler_that_raises_is_logged_with_traceback_and_closes_with_1011(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(client: Client) -> None:
        raise LookupError("a mistake")

    raw = await connect(await serve(handler))
    assert await raw.read_frame() == (0x88, b"\x03\xf3")
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert "LookupError: a mistake" in str(logging.Formatter().format(record))
    assert "in handler" in logging.Formatter().format(record)


async def test_promise_1_connection_lives_on_after_its_callback(serve: Serve, connect: Connect) -> None:
    def on_connection(client: Client) -> None:
        pass

    server = await serve(connection=on_connection)
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(frame(PING, b"alive"))
    assert await raw.read_frame() == (0x8A, b"alive")
    await client.send("still here")
    assert await raw.read_frame() == (0x81, b"still here")
    closing = asyncio.create_task(client.close())
    assert await raw.read_frame() == (0x88, b"\x03\xe8")
    await raw.send(frame(Opcode.CLOSE, b"\x03\xe8"))
    await within(closing)
    assert outcome_of(client).clean


async def test_promise_1_unread_data_is_discarded_with_one_warning_per_connection(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def on_connection(client: Client) -> None:
        pass

    server = await serve(connection=on_connection, limits=MARKS)
    for number in (1, 2):
        raw = await connect(server)
        for _ in range(3):
            await raw.send(frame(BINARY, bytes(20_000)) + frame(PING))
            assert await raw.read_frame() == (0x8A, b"")
        assert unread(client_of(server, raw)) == 0
        assert len(warnings(caplog)) == number
    assert "discarded" in caplog.text


async def test_promise_1_callbacks_of_one_connection_run_one_after_the_other_in_order(
    serve: Serve, connect: Connect
) -> None:
    said: list[str] = []
    over = asyncio.Event()

    async def tell(word: str) -> None:
        said.append(word)
        for _ in range(5):
            await asyncio.sleep(0)
        said.append(word)

    def on_connection(client: Client) -> None:
        @client.message
        async def on_message(reader: MessageReader) -> None:
            await tell(str(await reader.get()))

        @client.ping
        async def on_ping(payload: bytes) -> None:
            await tell(payload.decode())

        @client.closed
        async def on_closed(outcome: CloseOutcome) -> None:
            await tell(str(outcome.code))
            over.set()

    raw = await connect(await serve(connection=on_connection))
    await raw.send(text_frame("one") + text_frame("two") + frame(PING, b"ping"))
    await raw.send(frame(Opcode.CLOSE, b"\x03\xe8"))
    await within(over.wait())
    assert said[::2] == said[1::2], "none began while another one ran"
    assert set(said) == {"one", "two", "ping", "1000"}
    assert said.index("one") < said.index("two")
    assert said[-1] == "1000"


# Promise 2: Cancelling a read loses nothing -----------------------------------------------------------------


async def test_promise_2_cancelling_read_message_consumes_nothing() -> None:
    wire = frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b" whole message")
    async with pair() as (client, peer):
        for end in (3, 10, 15):
            reading = await started(client.read_message())
            peer.write(wire[:end])
            await ended(reading)
            peer.write(wire[end:])
            assert await client.read_message() == "one whole message"


async def test_promise_2_cancelling_a_read_of_a_message_reader_keeps_its_position() -> None:
    async with pair() as (client, peer):
        reader = await begin_message(client, peer)
        assert await reader.read(2) == b"aa"
        await ended(await started(reader.readexactly(28)))
        peer.write(xor(b"bb" + b"b" * 18)[:18])
        assert await reader.readexactly(28) == b"a" * 10 + b"b" * 18


async def test_promise_2_cancelling_an_iteration_does_not_end_it() -> None:
    async with pair() as (client, peer):
        iterations: list[Callable[[], AsyncIterator[object]]] = [
            lambda: aiter(client),
            client.messages,
            client.frames,
            client.text,
            client.binary,
        ]
        for iterate in iterations:
            messages = iterate()

            async def read(messages: AsyncIterator[object] = messages) -> object:
                return await anext(messages)

            await ended(await started(read()))
            peer.send(BINARY if iterate == client.binary else TEXT, b"next")
            assert await anext(messages)


async def test_promise_2_cancelling_a_readers_text_splits_no_character() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"\xe2\x82", fin=False)
        reader = await anext(client.messages())
        pieces = reader.text()

        async def read() -> str:
            return await anext(pieces)

        await ended(await started(read()))
        peer.send(CONTINUATION, b"\xac5")
        assert await anext(pieces) == "€5"


async def test_promise_2_any_task_may_read_next() -> None:
    async with pair() as (client, peer):
        reader = await begin_message(client, peer)
        await ended(await started(reader.readexactly(30)))
        reading = asyncio.create_task(reader.readexactly(30))
        peer.write(xor(b"b" * 18))
        assert await reading == b"a" * 12 + b"b" * 18
        await ended(await started(client.read_message()))
        peer.send(TEXT, b"next")
        assert await asyncio.create_task(client.read_message()) == "next"


# Promise 3: Leaving a reader early is safe ------------------------------------------------------------------


@pytest.mark.parametrize("way", ["async with", "break", "exception"])
async def test_promise_3_leaving_a_reader_drops_the_rest_of_its_message(way: str) -> None:
    async with pair() as (client, peer):
        if way == "break":
            peer.write(header(BINARY, 30) + xor(b"a" * 12))
            async for reader in client.messages():
                async for _ in reader:
                    break
                break
        else:
            reader = await begin_message(client, peer)
            try:
                async with reader:
                    await reader.read(1)
                    if way == "exception":
                        raise LookupError
            except LookupError:
                pass
        peer.write(xor(b"b" * 18))
        peer.send(TEXT, b"next")
        assert await client.read_message() == "next"


@pytest.mark.parametrize(("size", "code"), [(1000, None), (1001, 1008)])
async def test_promise_3_leaving_a_reader_skips_up_to_max_skip_and_then_closes_with_1008(
    size: int, code: int | None
) -> None:
    async with pair(Limits(max_skip=1000)) as (client, peer):
        peer.write(header(BINARY, 2 + size) + xor(b"ab"))
        async with await anext(client.messages()) as reader:
            assert await reader.read(2) == b"ab"
        peer.write(xor(b"cd" + bytes(size))[2 : 2 + size])
        if code is None:
            await peer.settle()
            assert client.outcome is None
        else:
            assert (await peer.read_close())[0] == code
            assert outcome_of(client).cause is Cause.LIMIT


async def test_promise_3_next_reader_starts_at_the_next_message() -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"left", fin=False) + frame(CONTINUATION, b"left") + frame(TEXT, b"next"))
        messages = client.messages()
        assert (await (await anext(messages)).read(1)) == b"l"
        assert await (await anext(messages)).get() == "next"


STALE_READS: list[Callable[[MessageReader], Awaitable[object]]] = [
    lambda reader: reader.get(),
    lambda reader: reader.read(),
    lambda reader: reader.read(1),
    lambda reader: reader.readexactly(1),
    lambda reader: reader.readinto(bytearray(1)),
    lambda reader: reader.readline(),
    lambda reader: reader.readuntil(b"x"),
    lambda reader: anext(aiter(reader)),
    lambda reader: anext(reader.text()),
]


@pytest.mark.parametrize("left", [True, False], ids=["left", "overtaken"])
async def test_promise_3_stale_reader_raises_and_never_looks_like_the_end(left: bool) -> None:
    async with pair() as (client, peer):
        reader = await begin_message(client, peer, opcode=TEXT)
        if left:
            reader.leave()
        else:
            await ended(await started(client.read_message()))
        for read in STALE_READS:
            with pytest.raises(StaleReader):
                await read(reader)
        assert not reader.at_eof()
        peer.write(xor(b"b" * 18))
        peer.send(TEXT, b"next")
        assert await client.read_message() == "next"


# Promise 4: A truncated message never looks complete --------------------------------------------------------


@pytest.mark.parametrize("end", ["FIN", "RST", "Close"])
@pytest.mark.parametrize("read", ["read_message", "async for", "read", "chunks", "get"])
async def test_promise_4_end_of_connection_inside_a_message_raises_incomplete_message(read: str, end: str) -> None:
    async def read_on(client: Client, reader: MessageReader | None) -> None:
        if reader is None:
            if read == "read_message":
                await client.read_message()
            else:
                async for _ in client:
                    pass
        elif read == "chunks":
            async for _ in reader:
                pass
        else:
            await (reader.read() if read == "read" else reader.get())

    async with pair() as (client, peer):
        peer.send(TEXT, b"part", fin=False)
        reader = None if read in ("read_message", "async for") else await anext(client.messages())
        reading = await started(read_on(client, reader))
        if end == "Close":
            peer.send_close()
        elif end == "FIN":
            peer.half_close()
        else:
            peer.writer.transport.abort()
        with pytest.raises(IncompleteMessage) as caught:
            await reading
        assert (caught.value.received, caught.value.missing) == (4, None)


async def leave_by_exception(client: Client, stream: object) -> None:
    raise LookupError("mine")


async def leave_by_cancellation(client: Client, stream: object) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


leaving = pytest.mark.parametrize("leave", [leave_by_exception, leave_by_cancellation])
Leave = Callable[[Client, object], Awaitable[None]]


@leaving
async def test_promise_4_fragments_left_early_close_with_1011_and_without_fin(leave: Leave) -> None:
    async with pair() as (client, peer):

        async def write() -> None:
            async with client.writer.fragment() as stream:
                await stream.send("part")
                await leave(client, stream)

        writing = asyncio.create_task(write())
        await asyncio.wait([writing])
        assert await peer.read_frame() == (0x01, b"part")
        assert await peer.read_close() == (1011, "")
        await peer.read_end()
        assert (outcome_of(client).code, outcome_of(client).cause) == (1011, Cause.LOCAL_CANCEL)
        assert writing.cancelled() or isinstance(writing.exception(), LookupError)


@leaving
async def test_promise_4_data_frame_left_early_ends_the_connection_with_1011(leave: Leave) -> None:
    async with pair() as (client, peer):

        async def write() -> None:
            async with client.writer.data_frame(8) as stream:
                await stream.write(b"part")
                await leave(client, stream)

        writing = asyncio.create_task(write())
        await asyncio.wait([writing])
        assert await peer.reader.read() == b"\x82\x08part", "a Close frame would be taken for the rest"
        assert (outcome_of(client).code, outcome_of(client).cause) == (1011, Cause.LOCAL_CANCEL)
        assert writing.cancelled() or isinstance(writing.exception(), LookupError)


@leaving
async def test_promise_4_source_that_fails_closes_with_1011(leave: Leave) -> None:
    async with pair() as (client, peer):

        async def source() -> AsyncIterator[str]:
            yield "part"
            await leave(client, None)

        writing = asyncio.create_task(client.writer.feed(source()))
        await asyncio.wait([writing])
        assert await peer.read_frame() == (0x01, b"part")
        assert await peer.read_close() == (1011, "")
        assert writing.cancelled() or isinstance(writing.exception(), LookupError)


async def test_promise_4_writer_left_does_not_wedge_the_next_sender() -> None:
    async with pair() as (client, peer):
        with pytest.raises(LookupError):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                waiting = await started(client.send("next"))
                raise LookupError
        with pytest.raises(ConnectionClosedError):
            await waiting
        with pytest.raises(ConnectionClosedError):
            await client.send("another")
        assert await peer.read_frame() == (0x01, b"part")


async def test_promise_4_control_frames_go_between_fragments_and_other_senders_wait() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("one")
            waiting = await started(client.send("other"))
            pinging = await started(client.writer.ping(b"ping"))
            await client.writer.pong(b"pong")
            assert await peer.read_frames(3) == [(0x01, b"one"), (0x89, b"ping"), (0x8A, b"pong")]
            peer.send(Opcode.PONG, b"ping")
            await pinging
            await peer.settle()
            await stream.send("two")
        assert await peer.read_frames(3) == [(0x00, b"two"), (0x80, b""), (0x81, b"other")]
        await waiting


# Promise 5: Two readers at once -----------------------------------------------------------------------------


async def test_promise_5_second_reader_gets_concurrency_error() -> None:
    async with pair() as (client, peer):
        first = asyncio.create_task(client.read_message(), name="the first")
        await asyncio.sleep(0)
        with pytest.raises(
            ConcurrencyError, match=r"cannot call read_frame\(\) in the second: the first waits in read_mess"
        ):
            await asyncio.create_task(client.read_frame(), name="the second")
        assert not first.done()
        peer.send(TEXT, b"for the first")
        assert await first == "for the first"
        peer.send(TEXT, b"next")
        assert await client.read_message() == "next"


async def test_promise_5_second_reader_of_one_iterator_gets_concurrency_error() -> None:
    async with pair() as (client, peer):
        messages = client.messages()

        async def read() -> MessageReader:
            return await anext(messages)

        first = await started(read())
        with pytest.raises(ConcurrencyError):
            await read()
        peer.send(TEXT, b"for the first")
        reader = await first
        assert isinstance(reader, MessageReader)
        assert await reader.get() == "for the first"


# Promise 6: Control frames do not depend on the application -------------------------------------------------


async def test_promise_6_pings_are_answered_while_no_one_reads() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"unread")
        peer.send(PING, b"ping")
        assert await peer.read_frame() == (0x8A, b"ping")
        assert client.outcome is None


async def test_promise_6_close_is_seen_while_no_one_reads() -> None:
    async with pair() as (client, peer):
        peer.send(TEXT, b"unread")
        peer.send_close(1001, "bye")
        assert await peer.read_close() == (1001, "")
        await client.wait_closed()
        assert outcome_of(client).received == Close(1001, "bye")


async def test_promise_6_of_pings_in_one_burst_the_last_16_are_answered() -> None:
    async with pair() as (client, peer):
        data = b"".join(frame(PING, b"%d" % number) for number in range(100))
        client._connection.receive(data, len(data))
        assert await peer.read_frames(16) == [(0x8A, b"%d" % number) for number in range(84, 100)]
        await peer.settle()


@pytest.mark.usefixtures("fast_timers")
async def test_promise_6_any_received_byte_counts_as_life() -> None:
    async with pair(timeouts=BRISK) as (client, peer):
        for byte in frame(TEXT, b"slow"):
            assert (await peer.read_frame())[0] == 0x89  # it is never answered
            peer.write(bytes([byte]))
        assert await client.read_message() == "slow"
        assert client.outcome is None


@pytest.mark.usefixtures("fast_timers")
async def test_promise_6_pong_timer_stands_still_while_reading_is_paused() -> None:
    async with pair(MARKS, BRISK) as (client, peer), pair(timeouts=BRISK) as (silent, _):
        peer.write(frame(BINARY, bytes(1000)) * 100)
        await until(lambda: not is_reading(client))
        await until(lambda: silent.outcome)  # long enough for a keepalive
        assert outcome_of(silent).cause is Cause.KEEPALIVE
        assert client.outcome is None
        for _ in range(100):
            assert await client.read_message() == bytes(1000)


async def test_promise_6_peer_that_receives_nothing_while_both_directions_are_paused_is_gone() -> None:
    timeouts = Timeouts(close=5, ping_interval=0.1, ping_timeout=0.1)
    async with pair(MARKS, timeouts, small_buffers=True) as (client, peer):
        peer.write(frame(BINARY, bytes(1000)) * 100)
        client.send(bytes(100_000)).close()
        assert client._connection.outbox.paused
        await until(lambda: client.outcome)
        assert outcome_of(client).cause is Cause.KEEPALIVE
        assert outcome_of(client).sent == Close(1011, outcome_of(client).detail)
        client._connection.abort()


# Promise 7: Back-pressure both ways, in bytes ---------------------------------------------------------------


async def test_promise_7_unread_bytes_pause_the_transport_between_high_and_low_water_mark() -> None:
    async with pair(MARKS) as (client, peer):
        peer.write(frame(BINARY, bytes(1000)) * 30)
        await until(lambda: not is_reading(client))
        assert unread(client) > 10_000
        while not is_reading(client):
            assert unread(client) > 2_000
            await client.read_message()
        assert unread(client) <= 2_000


async def test_promise_7_read_message_raises_the_mark_up_to_max_message_size() -> None:
    limits = attrs.evolve(MARKS, max_message_size=200_000)
    async with pair(limits) as (client, peer):
        peer.send(BINARY, bytes(200_000))
        await until(lambda: not is_reading(client))
        assert await client.read_message() == bytes(200_000)
        peer.send(BINARY, bytes(200_001))
        with pytest.raises(ConnectionClosedError):
            await client.read_message()
        assert outcome_of(client).code == 1009


async def test_promise_7_send_waits_while_the_transport_is_over_its_high_water_mark() -> None:
    async with pair(Limits(write_high=20_000, write_low=5_000), small_buffers=True) as (client, peer):
        await fill(client)
        sending = await started(client.send("waits"))
        await peer.writer.drain()
        assert not sending.done()
        while (await peer.read_frame())[0] != 0x81:
            pass
        await sending


# Promise 8: close() always ends within close_timeout --------------------------------------------------------

Hostile = Callable[[Client, Peer], Coroutine[object, None, None]]


async def silent(client: Client, peer: Peer) -> None:
    pass


async def sends_for_ever(client: Client, peer: Peer) -> None:
    while True:
        peer.write(frame(BINARY, bytes(1000)) + frame(PING, b"ping"))
        await asyncio.sleep(0)


async def sends_half_a_frame(client: Client, peer: Peer) -> None:
    peer.write(header(BINARY, 1000) + bytes(10))


async def never_reads(client: Client, peer: Peer) -> None:
    await fill(client)


async def never_reads_and_answers(client: Client, peer: Peer) -> None:
    await fill(client)
    await until(lambda: client.state is State.CLOSING)
    peer.send_close()


async def breaks_a_rule_and_stays(client: Client, peer: Peer) -> None:
    await until(lambda: client.state is State.CLOSING)
    peer.write(b"\xff\xff")


async def has_sent_much(client: Client, peer: Peer) -> None:
    peer.write(frame(BINARY, bytes(1000)) * 1000)
    await until(lambda: not is_reading(client))


async def gets_fragments(client: Client, peer: Peer) -> None:
    await client.writer.write_frame(DataFrame(BINARY, b"part", fin=False))


async def gets_a_data_frame(client: Client, peer: Peer) -> None:
    async def write() -> None:
        async with client.writer.data_frame(1000) as stream:
            await stream.write(b"part")
            await client.wait_closed()

    writing = asyncio.create_task(write())
    with pytest.raises(ConnectionClosedError):
        await writing


@pytest.mark.usefixtures("fast_timers")
@pytest.mark.parametrize(
    "hostile",
    [
        silent,
        sends_for_ever,
        sends_half_a_frame,
        never_reads,
        never_reads_and_answers,
        breaks_a_rule_and_stays,
        has_sent_much,
        gets_fragments,
        gets_a_data_frame,
    ],
)
async def test_promise_8_close_ends_for_any_peer(hostile: Hostile) -> None:
    timeouts = Timeouts(close=0.1, ping_interval=None)
    async with pair(MARKS, timeouts, small_buffers=True) as (client, peer):
        being_hostile = asyncio.create_task(hostile(client, peer))
        for _ in range(5):
            await asyncio.sleep(0)
        if hostile is never_reads or hostile is has_sent_much:
            await being_hostile
        async with asyncio.timeout(5):
            await client.close()
        assert client.state is State.CLOSED
        being_hostile.cancel()
        await asyncio.wait([being_hostile])
        if hostile not in (breaks_a_rule_and_stays, never_reads_and_answers):
            assert outcome_of(client).cause is Cause.CLOSE_TIMEOUT


async def test_promise_8_received_data_does_not_restart_the_timeout() -> None:
    async with pair() as (client, peer):
        closing = await started(client.close())
        due = dict(client._connection.environment.close_deadlines._due)
        peer.write(b"\xff\xff")
        await until(lambda: client._connection.protocol.failed)
        assert client._connection.environment.close_deadlines._due == due
        await peer.close()
        await closing


async def test_promise_8_unread_data_is_skipped_to_find_the_close_of_the_peer() -> None:
    async with pair(MARKS) as (client, peer):
        peer.write(frame(BINARY, bytes(1000)) * 1000)
        await until(lambda: not is_reading(client))
        closing = await started(client.close())
        assert await peer.read_close() == (1000, "")
        peer.send_close()
        await closing
        assert outcome_of(client) == CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000), Close(1000))


# Promise 9: The outcome says who and why --------------------------------------------------------------------


async def peer_closes(client: Client, peer: Peer) -> None:
    peer.send_close(1001, "bye")


async def peer_names_an_error(client: Client, peer: Peer) -> None:
    peer.send_close(1011, "broken")


async def we_close(client: Client, peer: Peer) -> None:
    closing = await started(client.close(1000, "enough"))
    assert await peer.read_close() == (1000, "enough")
    peer.send_close(1000)
    await closing


async def we_name_an_error(client: Client, peer: Peer) -> None:
    closing = await started(client.close(4000, "wrong"))
    await peer.read_close()
    peer.send_close(4000)
    await closing


async def peer_breaks_a_rule(client: Client, peer: Peer) -> None:
    peer.write(b"\x82\x00")
    await peer.read_close()
    await peer.close()


async def peer_sends_too_much(client: Client, peer: Peer) -> None:
    peer.write(header(BINARY, 1 << 40))
    with pytest.raises(ConnectionClosedError):
        await client.read_message()
    await peer.close()


async def peer_vanishes(client: Client, peer: Peer) -> None:
    await peer.close()


async def writer_is_left(client: Client, peer: Peer) -> None:
    with pytest.raises(LookupError):  # noqa: PT012
        async with client.writer.fragment() as stream:
            await stream.send("part")
            raise LookupError
    await peer.close()


async def peer_does_not_answer(client: Client, peer: Peer) -> None:
    await client.close()


async def peer_gives_no_sign_of_life(client: Client, peer: Peer) -> None:
    await until(lambda: client.outcome)
    await peer.close()


LOCAL, REMOTE = Side.LOCAL, Side.REMOTE
ENDS: dict[Cause, list[tuple[Hostile, Side, Close | None, Close | None, int]]] = {
    Cause.CLEAN: [
        (peer_closes, REMOTE, Close(1001, "bye"), Close(1001), 1001),
        (we_close, LOCAL, Close(1000), Close(1000, "enough"), 1000),
    ],
    Cause.PEER_ERROR: [(peer_names_an_error, REMOTE, Close(1011, "broken"), Close(1011), 1011)],
    Cause.CLOSED_WITH_ERROR: [(we_name_an_error, LOCAL, Close(4000), Close(4000, "wrong"), 4000)],
    Cause.PROTOCOL_ERROR: [(peer_breaks_a_rule, REMOTE, None, Close(1002, "a frame is not masked"), 1002)],
    Cause.LIMIT: [
        (
            peer_sends_too_much,
            REMOTE,
            None,
            Close(1009, f"a message of at least {1 << 40} bytes is over max_message_size (1048576)"),
            1009,
        )
    ],
    Cause.RESET: [(peer_vanishes, REMOTE, None, None, 1006)],
    Cause.LOCAL_CANCEL: [(writer_is_left, LOCAL, None, Close(1011), 1011)],
    Cause.CLOSE_TIMEOUT: [(peer_does_not_answer, LOCAL, None, Close(1000), 1000)],
    Cause.KEEPALIVE: [
        (peer_gives_no_sign_of_life, REMOTE, None, Close(1011, "received nothing for 0.1 s after a ping"), 1011)
    ],
}


@pytest.mark.parametrize(
    ("cause", "end", "initiator", "received", "sent", "code"),
    [(cause, *row) for cause, rows in ENDS.items() for row in rows],
)
async def test_promise_9_outcome_says_who_and_why(
    cause: Cause, end: Hostile, initiator: Side, received: Close | None, sent: Close | None, code: int
) -> None:
    pings = cause is Cause.KEEPALIVE
    timeouts = Timeouts(close=0.1, ping_interval=0.05 if pings else None, ping_timeout=0.1)
    async with pair(timeouts=timeouts) as (client, peer):
        assert client.outcome is None
        await end(client, peer)
        await client.wait_closed()
        outcome = outcome_of(client)
        assert (outcome.cause, outcome.initiator) == (cause, initiator)
        assert (outcome.received, outcome.sent, outcome.code) == (received, sent, code)
        assert outcome.clean is (cause is Cause.CLEAN)


async def test_promise_9_outcome_says_that_the_handler_raised(serve: Serve, connect: Connect) -> None:
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        raise LookupError("a mistake")

    raw = await connect(await serve(handler))
    assert await raw.read_frame() == (0x88, b"\x03\xf3")
    raw.close()
    await within(clients[0].wait_closed())
    outcome = outcome_of(clients[0])
    assert (outcome.cause, outcome.initiator, outcome.sent) == (Cause.HANDLER_ERROR, LOCAL, Close(1011))
    assert "LookupError" in outcome.detail


def test_promise_9_every_cause_is_tested() -> None:
    assert {*ENDS, Cause.HANDLER_ERROR} == set(Cause)


async def test_promise_9_outcome_is_there_after_a_loop_that_ended_normally() -> None:
    async with pair() as (client, peer):
        peer.send_close(1001, "bye")
        async for _ in client:
            raise AssertionError("there is no message")
        assert outcome_of(client) == CloseOutcome(Cause.CLEAN, REMOTE, Close(1001, "bye"), Close(1001))


# Promise 10: Every wait has a deadline and every buffer has a bound -----------------------------------------


def test_promise_10_defaults_are_as_documented() -> None:
    timeouts, limits = Timeouts(), Limits()
    assert (timeouts.open, timeouts.close, timeouts.ping_interval, timeouts.ping_timeout) == (10, 10, 20, 20)
    assert (limits.max_request_line, limits.max_header_line, limits.max_headers, limits.max_head) == (
        8192,
        8192,
        128,
        65536,
    )
    assert (limits.max_message_size, limits.max_stream_size) == (1 << 20, None)
    for subject in (timeouts, limits):
        assert attrs.has(type(subject))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(subject, attrs.fields(type(subject))[0].name, 1)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n", 414),
        (request({"X": "x" * 8192}), 431),
        (request(None, *((f"X{number}", "") for number in range(128))), 431),
        (request(None, *((f"X{number}", "x" * 8000) for number in range(9))), 431),
    ],
    ids=["request line", "header line", "header lines", "head"],
)
async def test_promise_10_head_over_a_limit_is_refused(
    head: bytes, status: int, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo), upgrade=False)
    await raw.send(head)
    assert (await raw.read_answer()).status == status


@pytest.mark.usefixtures("fast_timers")
async def test_promise_10_handshake_has_a_deadline_that_no_byte_restarts(serve: Serve, connect: Connect) -> None:
    server = await serve(echo, timeouts=Timeouts(open=0.2))
    raw = await connect(server, upgrade=False)
    answering = asyncio.create_task(raw.read_answer())
    for byte in request() * 1000:
        await raw.send(bytes([byte]))
        await asyncio.sleep(0.02)
        if answering.done():
            break
    assert (await answering).status == 408


@pytest.mark.usefixtures("fast_timers")
async def test_promise_10_ping_is_sent_every_interval_and_has_a_deadline() -> None:
    async with pair(timeouts=BRISK) as (client, peer):
        for _ in range(2):
            first, payload = await peer.read_frame()
            assert first == 0x89
            peer.send(Opcode.PONG, payload)
        await until(lambda: client.outcome)
        assert outcome_of(client).cause is Cause.KEEPALIVE


Reads = dict[str, Callable[[Client], Awaitable[object]]]


async def get(client: Client) -> object:
    return await (await anext(client.messages())).get()


WHOLE_READS: Reads = {"async for": lambda c: anext(aiter(c)), "read_message": lambda c: c.read_message(), "get": get}


@pytest.mark.parametrize("name", WHOLE_READS)
@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        ([1000], True),
        ([1001], False),
        ([500, 500], True),
        ([500, 501], False),
        ([0] * 15, True),
        ([0] * 16, False),
        # Bytes and 64 per fragment are summed separately, and the greater sum counts.
        ([66] * 15, True),
        ([67] * 15, False),
    ],
)
async def test_promise_10_max_message_size_bounds_whole_reads_and_counts_64_bytes_a_fragment(
    name: str, parts: list[int], taken: bool
) -> None:
    async with pair(Limits(max_message_size=1000)) as (client, peer):
        for place, size in enumerate(parts):
            peer.send(CONTINUATION if place else BINARY, bytes(size), fin=place == len(parts) - 1)
        if taken:
            assert await WHOLE_READS[name](client) == bytes(sum(parts))
        else:
            with pytest.raises(ConnectionClosedError):
                await WHOLE_READS[name](client)
            assert outcome_of(client).code == 1009


async def test_promise_10_message_read_as_a_stream_may_be_larger_up_to_max_stream_size() -> None:
    async with pair(Limits(max_message_size=1000, max_stream_size=50_000)) as (client, peer):
        peer.send(BINARY, bytes(50_000))
        reader = await anext(client.messages())
        assert await reader.readexactly(50_000) == bytes(50_000)
        peer.send(BINARY, bytes(50_001))
        reader = await anext(client.messages())
        with pytest.raises(ConnectionClosedError):
            await reader.readexactly(50_001)
        assert outcome_of(client).code == 1009


async def test_promise_10_declared_length_is_refused_before_anything_is_buffered() -> None:
    async with pair(Limits(max_message_size=1000)) as (client, peer):
        reading = await started(client.read_message())
        peer.write(header(BINARY, 1001))
        assert (await peer.read_close())[0] == 1009
        with pytest.raises(ConnectionClosedError):
            await reading


@pytest.mark.parametrize("length", [1 << 30, (1 << 63) - 1])
async def test_promise_10_nothing_is_allocated_from_a_declared_length(length: int) -> None:
    async with pair(Limits(max_message_size=(1 << 63) - 1)) as (client, peer):
        reading = await started(client.read_message())
        tracemalloc.start()
        try:
            peer.write(header(BINARY, length) + bytes(1000))
            await until(lambda: unread(client) == 1000)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        await ended(reading)


async def test_promise_10_backlog_is_bounded() -> None:
    limits = Limits(write_high=20_000, write_low=5_000, max_write_backlog=100_000)
    async with pair(limits, small_buffers=True) as (client, _):
        sent = 0
        while client.outcome is None:
            client.send(bytes(10_000)).close()
            sent += 1
            assert sent < 1000
            await asyncio.sleep(0)
        assert (outcome_of(client).cause, outcome_of(client).code) == (Cause.LIMIT, 1008)
        client._connection.abort()


async def test_promise_10_fragments_are_joined_in_linear_time() -> None:
    """Measured by the memory that many small fragments use, not in seconds."""
    count = 10_000
    async with pair(Limits(read_high=1 << 30, max_message_size=1 << 30)) as (client, peer):
        peer.send(BINARY, b"", fin=False)
        peer.write(frame(CONTINUATION, b"x", fin=False) * count)
        await peer.settle()
        tracemalloc.start()
        try:
            reading = await started(client.read_message())
            peer.send(CONTINUATION, b"end")
            assert await reading == b"x" * count + b"end"
            assert tracemalloc.get_traced_memory()[1] < 100 * count
        finally:
            tracemalloc.stop()


# Promise 11: Origin -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (None, "https://example.org", 101),
        (None, "http://example.org:3000", 101),
        (None, "https://other.org", 403),
        (["https://other.org"], "https://other.org", 101),
        ("*", "https://other.org", 101),
        (None, "chrome-extension://example.org", 403),
        (["file://"], "file://", 101),
        (None, None, 101),
    ],
    ids=["same host", "other port", "other host", "listed", "star", "other scheme", "no host", "no browser"],
)
async def test_promise_11_origin_must_be_of_the_host_or_listed(
    origins: Iterable[str] | None, origin: str | None, status: int, serve: Serve, connect: Connect
) -> None:
    server = await serve(echo, origins=origins)
    raw = await connect(server, upgrade=False)
    await raw.send(request({"Host": "example.org:8765", "Origin": origin}))
    assert (await raw.read_answer()).status == status


@pytest.mark.parametrize("host", ["example.org:8765", "evil.example:8765"])
async def test_promise_11_server_answers_only_to_its_names(host: str, serve: Serve, connect: Connect) -> None:
    server = await serve(echo, hosts=["example.org"])
    raw = await connect(server, upgrade=False)
    await raw.send(request({"Host": host, "Origin": f"http://{host}"}))
    assert (await raw.read_answer()).status == (101 if host.startswith("example.org") else 400)


async def test_promise_11_checks_are_made_in_order(serve: Serve, connect: Connect) -> None:
    def answer(request: Request) -> Response | None:
        return Response(204) if request.path == "/health" else None

    server = await serve(echo, request=answer, hosts=["example.org"])
    wrong = {"Host": "evil.example", "Origin": "http://other.org", "Upgrade": None}
    asked = [
        request({**wrong, "Host": "a b"}, target="/health"),
        request(wrong, target="/health"),
        request(wrong),
        request({**wrong, "Host": "example.org"}),
        request({**wrong, "Host": "example.org", "Origin": None}),
    ]
    statuses = []
    for head in asked:
        raw = await connect(server, upgrade=False)
        await raw.send(head)
        statuses.append((await raw.read_answer()).status)
    assert statuses == [400, 204, 400, 403, 426]


async def test_promise_11_refusal_is_logged_with_the_argument_to_set(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    raw = await connect(await serve(echo), upgrade=False)
    await raw.send(request({"Origin": "https://other.org"}))
    assert (await raw.read_answer()).status == 403
    (line,) = [message for message in caplog.messages if "refused" in message]
    assert "403" in line
    assert "https://other.org" in line
    assert "origins=" in line


# Promise 12: Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x83\x80", 1002),
        (b"\x82\x00", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (header(BINARY, 1 << 62), 1009),
    ],
    ids=["opcode", "no mask", "no text", "too big"],
)
async def test_promise_12_bad_frame_gets_its_code_and_one_log_line_and_costs_others_nothing(
    sent: bytes, code: int, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo)
    raw, bystander = await connect(server), await connect(server)
    client = client_of(server, raw)
    caplog.set_level(logging.INFO, "streamws")
    await raw.send(sent)
    first, payload = await raw.read_frame()
    assert (first, int.from_bytes(payload[:2], "big")) == (0x88, code)
    raw.close()
    await within(client.wait_closed())
    assert len(caplog.messages) == 1
    await undisturbed(bystander)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01", 400),
        (request(method="POST"), 405),
        (request(version="1.0"), 505),
        (request({"Upgrade": None}), 426),
    ],
    ids=["no HTTP", "method", "version", "no upgrade"],
)
async def test_promise_12_bad_head_gets_its_status_and_one_log_line_and_costs_others_nothing(
    sent: bytes, status: int, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo)
    bystander = await connect(server)
    caplog.set_level(logging.INFO, "streamws")
    raw = await connect(server, upgrade=False)
    await raw.send(sent)
    assert (await raw.read_answer()).status == status
    assert len(caplog.messages) == 1
    await undisturbed(bystander)


async def undisturbed(raw: RawClient) -> None:
    await raw.send(text_frame("still there?"))
    assert await raw.read_frame() == (0x81, b"still there?")
