"""The layer between a transport and a connection, with a transport that the test plays."""

import asyncio
import gc
import logging
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from helpers.tls import TlsEnd as Other
from helpers.waiting import until
from streamws import Limits, Timeouts
from streamws.connection import AsyncioConnection, Connection, Environment
from streamws.net.loops import RECEIVE_BUFFER_SIZE, LoopShare
from streamws.net.tls.layer import AsyncioTls

Contexts = dict[bool, ssl.SSLContext]
RECORD = 1 << 14


class Wire:
    """A transport: what was written, and what else was asked of it."""

    def __init__(self) -> None:
        self.written = b""
        self.writes = 0
        self.asked: list[str] = []
        self.closing = False
        self.waiting = 0
        """Bytes that it says wait to be sent."""
        self.limits: tuple[object, object] = (None, None)

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += bool(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def take(self) -> bytes:
        """What was written since the last time."""
        written, self.written = self.written, b""
        return written

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.asked.append("eof")

    def close(self) -> None:
        self.closing = True
        self.asked.append("close")

    def abort(self) -> None:
        self.closing = True
        self.asked.append("abort")

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: object, low: object) -> None:
        self.limits = high, low

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.1", 1234)}.get(name, default)


class Upper(AsyncioConnection):
    """A connection that never gets beyond its opening handshake, for which this object stands too."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, True, self)
        self.got = b""
        self.told: list[object] = []
        self.room = RECEIVE_BUFFER_SIZE
        self.on_connected: Callable[[], object] = lambda: None
        self.on_received: Callable[[bytes], object] = lambda data: None

    def get_buffer(self, sizehint: int) -> memoryview:
        return super().get_buffer(sizehint)[: self.room]

    def connected(self, connection: Connection) -> None:
        self.told.append("connected")
        self.on_connected()

    def received(self, connection: Connection, data: bytes) -> None:
        self.got += data
        self.on_received(data)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        self.told.append(error)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Stack:
    """A connection over TLS over a transport, and the other end."""

    def __init__(
        self,
        contexts: Contexts,
        server: bool,
        *,
        timeout: float | None = None,
        greedy: bool = False,
        hostname: str = "localhost",
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.environment = Environment(self.loop, Limits(), Timeouts())
        self.upper = Upper(self.environment)
        self.wire = Wire()
        self.done: asyncio.Future[None] | None = None if server else self.loop.create_future()
        self.context = contexts[server]
        self.tls = AsyncioTls(
            self.upper,
            self.loop,
            LoopShare(greedy),
            self.context,
            server_hostname=None if server else hostname,
            done=self.done,
            timeout=timeout,
        )
        self.other = Other(contexts[not server], not server)

    def feed(self, data: bytes) -> None:
        """Bytes come off the network."""
        while data:
            buffer = self.tls.get_buffer(-1)
            size = min(len(data), len(buffer))
            buffer[:size] = data[:size]
            data = data[size:]
            self.tls.buffer_updated(size)

    def connect(self) -> None:
        self.tls.connection_made(self.wire)

    def exchange(self) -> None:
        """Carry bytes to and fro, as long as there are any."""
        while data := self.other.give(self.wire.take()):
            self.feed(data)

    def open(self) -> None:
        """The whole handshake."""
        self.connect()
        self.feed(self.other.step())
        self.exchange()
        assert self.other.done
        assert self.upper.told == ["connected"]
        self.upper.told.clear()
        self.wire.asked.clear()

    def lose(self, error: Exception | None = None) -> None:
        """The transport is gone."""
        self.tls.connection_lost(error)


Make = Callable[..., Stack]


@pytest.fixture
def make(contexts: Contexts, server: bool) -> Make:
    return lambda **options: Stack(contexts, server, **options)


@pytest.fixture
async def stack(make: Make) -> Stack:
    """With the handshake done."""
    stack = make()
    stack.open()
    return stack


def records(data: bytes) -> list[int]:
    """The sizes of the records with data."""
    sizes = []
    while data:
        size = int.from_bytes(data[3:5], "big")
        if data[0] == 0x17:
            sizes.append(size)
        data = data[5 + size :]
    return sizes


# The handshake ---------------------------------------------------------------------------------------------------


async def test_connection_is_made_when_the_handshake_is_complete(make: Make) -> None:
    """What it sends at once leaves with the end of the handshake."""
    stack = make()
    stack.upper.on_connected = lambda: stack.tls.write(b"at once")
    stack.connect()
    assert stack.upper.told == []
    writes = stack.wire.writes
    stack.feed(stack.other.step())
    while not stack.upper.told:
        writes = stack.wire.writes
        stack.feed(stack.other.give(stack.wire.take()))
    assert stack.wire.writes == writes + 1
    stack.exchange()
    assert stack.other.received == b"at once"
    assert stack.upper.transport is stack.tls
    assert stack.done is None or (stack.done.done() and not stack.done.exception())


async def test_data_behind_the_handshake_is_delivered(make: Make) -> None:
    stack = make()
    stack.connect()
    stack.feed(stack.other.step())
    while not stack.other.done:
        data = stack.other.give(stack.wire.take())
        with suppress(ssl.SSLError):  # it is too early till the other end is done
            data += stack.other.seal(b"early")
        stack.feed(data)
    assert stack.upper.got == b"early"


@pytest.mark.parametrize("server", [True], ids=["server"])
@pytest.mark.parametrize(
    ("junk", "why"), [(b"GET / HTTP/1.1\r\n\r\n", "HTTP_REQUEST"), (b"\x16\x03\x01\x00\x05abcde", "")]
)
async def test_server_refuses_what_is_no_handshake(
    make: Make, junk: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    stack = make(timeout=10)
    stack.connect()
    with caplog.at_level(logging.INFO, "streamws"):
        stack.feed(junk)
    (line,) = caplog.messages
    assert line.startswith("192.0.2.1:1234 refused: TLS handshake failed: ")
    assert why in line
    assert stack.wire.take()[:1] in (b"\x15", b"")  # an alert, if OpenSSL has one
    assert stack.wire.asked == ["close"]
    stack.feed(junk)
    stack.lose()
    assert [type(error) for error in stack.upper.told] == [ssl.SSLError]
    assert caplog.messages == [line]


@pytest.mark.parametrize("server", [False], ids=["client"])
@pytest.mark.parametrize(("waiting", "way"), [(0, "close"), (1, "abort")])
async def test_client_refuses_a_certificate_with_an_alert(make: Make, waiting: int, way: str) -> None:
    """It is not waited for who does not read."""
    stack = make(hostname="elsewhere.example")
    stack.connect()
    stack.wire.waiting = waiting
    stack.feed(stack.other.give(stack.wire.take()))
    assert stack.wire.asked == [way]
    with pytest.raises(ssl.SSLError, match="ALERT"):
        stack.other.give(stack.wire.take())
    stack.lose()
    assert stack.done is not None
    assert isinstance(stack.done.exception(), ssl.SSLCertVerificationError)
    assert stack.upper.told == []


@pytest.mark.parametrize("server", [True], ids=["server"])
async def test_server_drops_who_takes_too_long(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    stack = make(timeout=0.01)
    stack.connect()
    stack.feed(stack.other.step()[:20])
    with caplog.at_level(logging.INFO, "streamws"):
        await until(lambda: stack.wire.closing)
    assert caplog.messages == ["192.0.2.1:1234 refused: TLS handshake failed: not complete within 0.01 s"]
    assert stack.wire.asked == ["close"]
    stack.lose()
    assert [type(error) for error in stack.upper.told] == [TimeoutError]


async def test_time_for_the_handshake_ends_with_it(make: Make) -> None:
    stack = make(timeout=0.01)
    stack.open()
    later = asyncio.Event()
    stack.loop.call_later(0.02, later.set)  # timers expire in order
    await later.wait()
    assert not stack.wire.closing


@pytest.mark.parametrize("reset", [False, True])
async def test_peer_that_leaves_in_the_handshake_is_no_news(
    make: Make, server: bool, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """But to a client that waits for it."""
    stack = make(timeout=10)
    stack.connect()
    stack.feed(stack.other.step()[:20])
    if not reset:
        assert not stack.tls.eof_received()
        assert stack.wire.asked == ["close"]
    stack.lose(BrokenPipeError() if reset else None)
    assert caplog.messages == []
    told = [BrokenPipeError if reset else ConnectionResetError] if server else []
    assert [type(error) for error in stack.upper.told] == told
    if stack.done is not None:
        assert isinstance(stack.done.exception(), BrokenPipeError if reset else ConnectionResetError)


@pytest.mark.parametrize("server", [False], ids=["client"])
async def test_client_that_gave_up_is_told_nothing(make: Make) -> None:
    stack = make()
    stack.connect()
    assert stack.done is not None
    stack.done.cancel()
    stack.tls.abort()
    assert stack.wire.asked == ["abort"]
    stack.lose()
    assert stack.upper.told == []


@pytest.mark.parametrize("server", [False], ids=["client"])
async def test_client_that_gave_up_before_it_was_connected_begins_nothing(make: Make) -> None:
    stack = make()
    stack.tls.abort()
    stack.connect()
    assert stack.wire.take() == b""
    assert stack.wire.closing


# Pausing ---------------------------------------------------------------------------------------------------------


async def test_connection_that_pauses_gets_nothing_until_it_resumes(stack: Stack) -> None:
    """Not what has come, nor what comes all the same; then all of it, in order, and not inside its call."""
    stack.upper.room = 100
    stack.upper.on_received = lambda data: stack.tls.pause_reading()
    data = b"".join(b"%05d" % number for number in range(500))
    stack.feed(stack.other.seal(data[:2000]))
    stack.feed(stack.other.seal(data[2000:]))
    assert stack.upper.got == data[:100]
    assert stack.wire.asked == ["pause"]
    stack.tls.resume_reading()
    assert stack.wire.asked == ["pause", "resume"]
    assert stack.upper.got == data[:100]
    await until(lambda: len(stack.upper.got) > 100)
    assert stack.upper.got == data[:200]
    stack.upper.on_received = lambda data: None
    stack.tls.resume_reading()
    await until(lambda: len(stack.upper.got) == len(data))
    assert stack.upper.got == data


async def test_data_that_comes_before_the_turn_after_resuming_is_in_order(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"1"))
    stack.tls.resume_reading()
    stack.feed(stack.other.seal(b"2"))
    assert stack.upper.got == b"12"
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"3"))
    await asyncio.sleep(0)
    assert stack.upper.got == b"12"


async def test_end_that_comes_before_the_turn_after_resuming_is_told_behind_the_data(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"data"))
    stack.tls.resume_reading()
    assert not stack.tls.eof_received()
    assert (stack.upper.got, stack.upper.told) == (b"data", ["eof"])


async def test_connection_that_resumes_when_all_is_over_gets_nothing(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"data"))
    stack.tls.resume_reading()
    stack.tls.abort()
    stack.lose()
    await asyncio.sleep(0)
    stack.tls.resume_reading()
    assert stack.upper.got == b""
    assert stack.wire.asked == ["pause", "resume", "abort"]


async def test_full_read_on_a_greedy_loop_gives_others_their_turn(make: Make) -> None:
    stack = make(greedy=True)
    stack.open()
    sealed = b"".join(stack.other.seal(b"x" * RECORD) for _ in range(10))
    stack.feed(sealed[:RECEIVE_BUFFER_SIZE])
    assert stack.wire.asked == ["pause"]
    await asyncio.sleep(0)
    assert stack.wire.asked == ["pause", "resume"]
    stack.feed(sealed[RECEIVE_BUFFER_SIZE:])
    assert stack.wire.asked == ["pause", "resume"]
    assert len(stack.upper.got) == 10 * RECORD


@pytest.mark.parametrize("way", ["pause_reading", "close"])
async def test_greedy_loop_does_not_read_on_for_who_paused_or_closed(make: Make, way: str) -> None:
    stack = make(greedy=True)
    stack.open()
    stack.feed(b"".join(stack.other.seal(b"x" * RECORD) for _ in range(10))[:RECEIVE_BUFFER_SIZE])
    getattr(stack.tls, way)()
    await asyncio.sleep(0)
    assert "resume" not in stack.wire.asked


async def test_transports_pressure_is_passed_on(stack: Stack) -> None:
    stack.tls.set_write_buffer_limits(2000, 1000)
    assert stack.wire.limits == (2000, 1000)
    stack.tls.pause_writing()
    stack.tls.resume_writing()
    assert stack.upper.told == ["pause", "resume"]
    stack.wire.waiting = 77
    assert stack.tls.get_write_buffer_size() == 77


# Writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "in_records"),
    [
        ([], []),
        ([0], []),
        ([1] * 100, [100]),
        ([RECORD - 1, 1], [RECORD]),
        ([RECORD - 1, 2, 3], [RECORD - 1, 5]),
        ([10, RECORD, 10, 20], [10, RECORD, 30]),
        ([10, RECORD + 1, 10], [10, RECORD, 1, 10]),
        ([RECORD, RECORD, 100, RECORD - 50], [RECORD, RECORD, 100, RECORD - 50]),
    ],
)
async def test_small_parts_share_records(stack: Stack, sizes: list[int], in_records: list[int]) -> None:
    parts = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    writes = stack.wire.writes
    stack.tls.writelines(iter(parts))
    sealed = stack.wire.take()
    assert stack.wire.writes == writes + bool(in_records)
    around = records(sealed)[0] - in_records[0] if in_records else 0
    assert [size - around for size in records(sealed)] == in_records
    stack.other.give(sealed)
    assert stack.other.received == b"".join(parts)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("several", [True, False])
async def test_every_kind_of_buffer_is_written(stack: Stack, kind: Callable[[bytes], Any], several: bool) -> None:
    if several:
        stack.tls.writelines([kind(b"a"), kind(b"b" * RECORD)])
    else:
        stack.tls.write(kind(b"a" + b"b" * RECORD))
    stack.exchange()
    assert stack.other.received == b"a" + b"b" * RECORD


async def test_layer_counts_the_bytes_that_encryption_adds(stack: Stack) -> None:
    """The keepalive compares what was sent with what the transport below still holds."""
    stack.tls.write(b"a" * 100)
    stack.tls.writelines([b"b", b"c" * RECORD, b"d" * RECORD * 3])
    assert len(stack.wire.take()) == 101 + 4 * RECORD + stack.tls.overhead
    assert stack.tls.overhead > 0


class Failing(ssl.SSLObject):
    """An application's own, that cannot encrypt."""

    def write(self, data: Any) -> int:
        raise ssl.SSLError("it cannot")


@pytest.mark.parametrize("parts", [1, 3])
async def test_connection_ends_when_nothing_can_be_encrypted(parts: int, make: Make, contexts: Contexts) -> None:
    for context in contexts.values():
        context.sslobject_class = Failing
    stack = make()
    stack.open()
    if parts == 1:
        stack.tls.write(b"data")
    else:
        stack.tls.writelines([b"x" * RECORD] * parts)
    assert stack.wire.written == b""
    assert stack.wire.asked == ["close"]
    assert stack.tls.is_closing()
    stack.tls.write(b"more")
    stack.lose()
    (error,) = stack.upper.told
    assert isinstance(error, ssl.SSLError)


# The end ---------------------------------------------------------------------------------------------------------


async def test_peers_end_is_told_and_answered(stack: Stack) -> None:
    stack.feed(stack.other.seal(b"last") + stack.other.end())
    assert stack.upper.got == b"last"
    assert stack.upper.told == ["eof"]
    assert stack.wire.asked == ["close"]
    stack.other.give(stack.wire.take())
    assert stack.other.ended
    stack.lose()
    assert stack.upper.told == ["eof", None]


async def test_end_of_the_network_without_the_peers_is_told_alike(stack: Stack) -> None:
    """WebSockets have an end of their own, which neither makes up for."""
    assert not stack.tls.eof_received()
    assert stack.upper.told == ["eof"]
    assert stack.wire.asked == ["close"]


@pytest.mark.parametrize("notified", [True, False])
async def test_end_is_told_behind_the_data_that_is_held(stack: Stack, notified: bool) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"data") + (stack.other.end() if notified else b""))
    assert stack.tls.eof_received()  # the transport stays
    assert stack.upper.told == []
    stack.tls.resume_reading()
    await until(lambda: stack.upper.told)
    assert (stack.upper.got, stack.upper.told) == (b"data", ["eof"])
    assert stack.wire.asked == ["pause", "resume", "close"]


@pytest.mark.parametrize("notified", [True, False])
async def test_connection_that_ended_its_side_receives_up_to_the_peers_end(stack: Stack, notified: bool) -> None:
    stack.feed(stack.other.seal(b"1"))
    stack.tls.write(b"last")
    stack.tls.write_eof()
    stack.tls.write(b"never")
    stack.tls.writelines([b"never"])
    stack.tls.write_eof()
    assert stack.wire.asked == ["eof"]
    stack.other.give(stack.wire.take())
    assert stack.other.received == b"last"
    assert stack.other.ended
    stack.feed(stack.other.seal(b"2" * 40_000))
    assert not stack.tls.is_closing()
    if notified:
        stack.feed(stack.other.end())
    else:
        assert not stack.tls.eof_received()
    assert stack.upper.got == b"1" + b"2" * 40_000
    assert stack.upper.told == ["eof"]
    assert stack.wire.asked == ["eof", "close"]
    assert stack.wire.take() == b""
    stack.lose()
    assert stack.upper.told == ["eof", None]


async def test_connection_that_ends_its_side_inside_of_what_came_gets_the_rest(stack: Stack) -> None:
    stack.upper.room = 10
    stack.upper.on_received = lambda data: stack.tls.write_eof()
    stack.feed(stack.other.seal(b"1" * 5000) + stack.other.seal(b"2" * 5000))
    assert stack.upper.got == b"1" * 5000 + b"2" * 5000
    assert not stack.wire.closing


async def test_connection_that_ends_its_side_while_it_pauses_gets_the_rest(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"data" * 10_000))
    stack.tls.write_eof()
    stack.tls.resume_reading()
    await until(lambda: stack.upper.got)
    assert stack.upper.got == b"data" * 10_000
    assert not stack.wire.closing


@pytest.mark.parametrize("before", [[], ["write_eof"], ["close"], ["abort"]], ids=str)
@pytest.mark.parametrize("way", ["close", "abort"])
async def test_connection_closes_in_any_state(stack: Stack, before: list[str], way: str) -> None:
    for name in before:
        getattr(stack.tls, name)()
    getattr(stack.tls, way)()
    assert stack.tls.is_closing()
    assert stack.wire.asked[-1] == way
    if before or way == "close":
        stack.other.give(stack.wire.take())
        assert stack.other.ended == (before != ["abort"])
    else:
        assert stack.wire.take() == b""
    stack.tls.write(b"never")
    stack.tls.write_eof()
    stack.feed(stack.other.seal(b"too late"))
    assert not stack.tls.eof_received()
    assert stack.wire.take() == b""
    assert (stack.upper.got, stack.upper.told) == (b"", [])
    stack.lose()
    assert stack.upper.told == [None]
    assert stack.upper.transport is None


@pytest.mark.parametrize("way", ["close", "abort"])
async def test_connection_that_closes_inside_of_what_came_gets_no_more(stack: Stack, way: str) -> None:
    stack.upper.room = 10
    stack.upper.on_received = lambda data: getattr(stack.tls, way)()
    stack.feed(stack.other.seal(b"1" * 5000) + stack.other.end())
    assert stack.upper.got == b"1" * 10
    assert stack.wire.asked == [way]
    assert stack.upper.told == []


async def test_layer_closes_before_the_handshake_is_complete(make: Make) -> None:
    stack = make(timeout=10)
    stack.connect()
    stack.wire.take()
    stack.tls.close()
    assert stack.wire.asked == ["abort"]
    assert stack.wire.take() == b""
    stack.lose()
    assert stack.upper.told == ([None] if stack.done is None else [])
    if stack.done is not None:
        assert isinstance(stack.done.exception(), ConnectionResetError)


async def test_corrupt_record_ends_the_connection_with_an_alert(stack: Stack) -> None:
    corrupt = bytearray(stack.other.seal(b"good") + stack.other.seal(b"bad"))
    corrupt[-1] ^= 1
    stack.feed(bytes(corrupt))
    assert (stack.upper.got, stack.wire.asked) == (b"good", ["close"])
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        stack.other.give(stack.wire.take())
    stack.feed(b"more")
    assert not stack.tls.eof_received()
    stack.lose()
    (error,) = stack.upper.told
    assert isinstance(error, ssl.SSLError)
    assert stack.wire.asked == ["close"]


async def test_corrupt_record_behind_data_that_is_held_waits_for_its_turn(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"good") + b"this is no record")
    assert not stack.wire.closing
    stack.tls.resume_reading()
    await until(lambda: stack.wire.closing)
    assert stack.upper.got == b"good"


async def test_error_of_the_network_is_passed_on(stack: Stack) -> None:
    error = ConnectionResetError()
    stack.lose(error)
    assert stack.upper.told == [error]
    assert stack.tls.is_closing()


async def test_error_of_the_connection_comes_out_and_nothing_gets_mixed_up(stack: Stack) -> None:
    stack.upper.room = 4
    stack.upper.on_received = lambda data: 1 / 0
    sealed = stack.other.seal(b"12345678")
    with pytest.raises(ZeroDivisionError):
        stack.feed(sealed)
    stack.tls.get_buffer(-1)[:100] = bytes(100)  # the next connection's turn
    stack.upper.on_received = lambda data: None
    stack.feed(stack.other.seal(b"9"))
    assert stack.upper.got == b"123456789"


# What else it knows, and lifetimes -------------------------------------------------------------------------------


async def test_layer_tells_of_tls_and_of_the_transport(stack: Stack, version: ssl.TLSVersion) -> None:
    tls = stack.tls.get_extra_info("ssl_object")
    assert isinstance(tls, ssl.SSLObject)
    assert tls.version() == version.name.replace("_", ".")
    assert stack.tls.get_extra_info("sslcontext") is stack.context
    assert stack.tls.get_extra_info("peername") == ("192.0.2.1", 1234)
    assert stack.tls.get_extra_info("nothing", "default") == "default"
    assert stack.tls.can_write_eof()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def closed(stack: Stack) -> None:
    stack.tls.close()


def ended_by_peer(stack: Stack) -> None:
    stack.feed(stack.other.end())


def broken(stack: Stack) -> None:
    stack.feed(b"this is no record")


def paused(stack: Stack) -> None:
    stack.tls.pause_reading()
    stack.feed(stack.other.seal(b"data"))
    stack.tls.abort()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("end", [closed, ended_by_peer, broken, paused])
async def test_layer_that_ended_is_freed_without_the_collector(make: Make, end: Callable[[Stack], None]) -> None:
    stack = make(timeout=10)
    stack.open()
    end(stack)
    stack.lose()
    stack.environment.close()
    engine, layer = weakref.ref(stack.tls.get_extra_info("ssl_object")), weakref.ref(stack.tls)
    del stack
    assert (layer(), engine()) == (None, None)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("server", [True], ids=["server"])
@pytest.mark.parametrize("junk", [b"", b"this is no handshake"])
async def test_server_frees_who_never_shook_hands_without_the_collector(make: Make, junk: bytes) -> None:
    """Whoever scans the port."""
    stack = make(timeout=10)
    stack.connect()
    stack.feed(junk)
    stack.tls.eof_received()
    stack.lose()
    layer = weakref.ref(stack.tls)
    del stack
    assert layer() is None
