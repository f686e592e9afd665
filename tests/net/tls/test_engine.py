"""Engines of TLS in memory, against an end of the standard library, with bytes cut in any way."""

import gc
import random
import ssl
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from helpers.builds import is_compiled
from helpers.tls import ALLOW_CLIENT_RENEGOTIATION, TlsEnd, renegotiate, send_ticket, update_key
from streamws.about import PLAIN
from streamws.net.tls.openssl import engine as shortest

Make = Callable[[ssl.SSLContext, bool, str | None], Any]
Contexts = dict[bool, ssl.SSLContext]

SIZES = [0, 1, 16383, 16384, 16385, 100_000]
RECORD = 1 << 14


class Ends:
    """An engine, and the other end of its connection."""

    def __init__(self, make_engine: Make, contexts: Contexts, server: bool) -> None:
        self.engine = make_engine(contexts[server], server, None if server else "localhost")
        self.other = TlsEnd(contexts[not server], not server)
        self.buffer = memoryview(bytearray(1 << 17))

    def feed(self, data: bytes) -> bytes:
        """Feed bytes to the engine as the TLS layer does, and return all decrypted data."""
        network = bytearray(data)
        self.engine.feed(network, len(data))
        unsealed = self.decrypt()
        self.engine.keep()
        network[:] = bytes(len(network))  # the next connection overwrites the buffer
        return unsealed

    def decrypt(self) -> bytes:
        """All that there is, a buffer at a time."""
        unsealed = b""
        while size := self.engine.decrypt(self.buffer):
            unsealed += self.buffer[:size]
            if size < len(self.buffer):
                break
        return unsealed

    def encrypt(self, data: bytes) -> bytes:
        """The records of data."""
        self.engine.encrypt(data)
        return self.take()

    def take(self) -> bytes:
        """What the engine has to send."""
        taken = self.engine.output()
        assert type(taken) is bytes
        assert not self.engine.has_output()
        return taken

    def shake_hands(self, cut: Callable[[bytes], Iterator[bytes]] = lambda data: iter([data])) -> None:
        """Do the handshake; the engine receives its bytes in the chunks that `cut` makes."""
        engine, other = self.engine, self.other
        complete = engine.continue_handshake()
        while not (complete and other.done):
            for piece in cut(other.give(self.take())):
                network = bytearray(piece)
                engine.feed(network, len(piece))
                complete = complete or engine.continue_handshake()
                engine.keep()
                network[:] = bytes(len(network))
        other.give(self.take())
        self.decrypt()


@pytest.fixture
def ends(make_engine: Make, contexts: Contexts, server: bool) -> Ends:
    """Both ends, after the handshake."""
    ends = Ends(make_engine, contexts, server)
    ends.shake_hands()
    return ends


def by_bytes(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 1] for place in range(len(data)))


def by_chance(data: bytes) -> Iterator[bytes]:
    chance = random.Random(len(data))
    while data:
        size = chance.choice([1, 5, 6, 100, 5000, 20_000])
        yield data[:size]
        data = data[size:]


def test_engine_is_as_direct_as_its_build(server_context: ssl.SSLContext) -> None:
    expected = "DirectEngine" if is_compiled() and not PLAIN else "Engine"
    assert type(shortest(server_context, True, None)).__name__ == expected


# Handshakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [by_bytes, by_chance])
def test_engine_shakes_hands_whatever_the_cut(
    make_engine: Make,
    contexts: Contexts,
    server: bool,
    cut: Callable[[bytes], Iterator[bytes]],
    version: ssl.TLSVersion,
) -> None:
    ends = Ends(make_engine, contexts, server)
    ends.shake_hands(cut)
    assert ends.engine.ssl_object.version() == version.name.replace("_", ".")
    assert ends.feed(ends.other.seal(b"to")) == b"to"
    ends.other.give(ends.encrypt(b"fro"))
    assert ends.other.received == b"fro"


def test_engine_decrypts_data_received_with_the_handshake(make_engine: Make, contexts: Contexts, server: bool) -> None:
    ends = Ends(make_engine, contexts, server)
    complete = ends.engine.continue_handshake()
    while not ends.other.done:
        came = ends.other.give(ends.take())
        with suppress(ssl.SSLError):  # the other end cannot encrypt before its handshake is complete
            came += ends.other.seal(b"early" * 9000)
        ends.engine.feed(bytearray(came), len(came))
        complete = complete or ends.engine.continue_handshake()
    assert complete
    assert ends.decrypt() == b"early" * 9000


def test_engine_refuses_certificate_of_another_name(make_engine: Make, contexts: Contexts) -> None:
    ends = Ends(make_engine, contexts, False)
    ends.engine = make_engine(contexts[False], False, "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
        ends.shake_hands()
    with pytest.raises(ssl.SSLError, match="ALERT"):
        ends.other.give(ends.take())


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05abcde", bytes(100)])
def test_engine_refuses_malformed_handshake(make_engine: Make, contexts: Contexts, junk: bytes) -> None:
    ends = Ends(make_engine, contexts, True)
    ends.engine.feed(bytearray(junk), len(junk))
    with pytest.raises(ssl.SSLError):
        ends.engine.continue_handshake()
    ends.engine.keep()
    with pytest.raises(ssl.SSLError):
        ends.engine.continue_handshake()


# Data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_engine_seals_and_unseals_data_of_any_size(ends: Ends, size: int) -> None:
    data = random.Random(size).randbytes(size)
    ends.other.give(ends.encrypt(data))
    assert ends.other.received == data
    assert ends.feed(ends.other.seal(data)) == data
    assert not ends.engine.ended
    assert ends.engine.error is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_engine_seals_every_kind_of_buffer_and_leaves_it_free(ends: Ends, kind: Callable[[bytes], Any]) -> None:
    data = kind(b"x" * 20_000)
    counts = sys.getrefcount(data)
    ends.other.give(ends.encrypt(data))
    assert ends.other.received == b"x" * 20_000
    assert sys.getrefcount(data) == counts
    if isinstance(data, bytearray):
        data.append(0)  # fails while a view of it exists


def test_engine_sends_records_in_order(ends: Ends) -> None:
    """Even if it needs several reads."""
    parts = [bytes([number]) * size for number, size in enumerate([3, 40_000, 0, 1, 16_384, 100])]
    for part in parts:
        ends.engine.encrypt(part)
        assert ends.engine.has_output()
    ends.other.give(ends.take())
    assert ends.other.received == b"".join(parts)
    assert ends.engine.output() == b""


def test_engine_sends_the_end_of_the_handshake_before_data(make_engine: Make, contexts: Contexts) -> None:
    ends = Ends(make_engine, contexts, True)
    ends.engine.feed(bytearray(hello := ends.other.step()), len(hello))
    ends.engine.continue_handshake()
    ends.engine.keep()
    answer = ends.other.give(ends.take())
    ends.engine.feed(bytearray(answer), len(answer))
    assert ends.engine.continue_handshake()
    ends.engine.encrypt(b"first")
    ends.engine.encrypt(b"second" * 10_000)
    ends.other.give(ends.take())
    assert ends.other.done
    assert ends.other.received == b"first" + b"second" * 10_000


def test_engine_unseals_many_records_received_at_once(ends: Ends) -> None:
    parts = [bytes([number % 256]) * (number % 700) for number in range(600)]
    assert ends.feed(b"".join(ends.other.seal(part) for part in parts)) == b"".join(parts)


@pytest.mark.parametrize("cut", [by_bytes, by_chance])
def test_engine_unseals_records_whatever_the_cut(ends: Ends, cut: Callable[[bytes], Iterator[bytes]]) -> None:
    data = random.Random(1).randbytes(40_000)
    sealed = ends.other.seal(data) + ends.other.seal(b"end")
    assert b"".join(ends.feed(piece) for piece in cut(sealed)) == data + b"end"


@pytest.mark.parametrize("room", [1, 100, 16384])
def test_engine_fills_buffers_smaller_than_a_record(ends: Ends, room: int) -> None:
    data = random.Random(2).randbytes(20 * room if room < 1000 else 3 * room + 1)
    ends.buffer = memoryview(bytearray(room))
    assert ends.feed(ends.other.seal(data)) == data
    assert ends.engine.decrypt(ends.buffer) == 0


@pytest.mark.parametrize("chance", range(5))
def test_engine_keeps_what_it_was_fed_at_any_point(ends: Ends, chance: int) -> None:
    """Like a connection that pauses reading, and receives more before it resumes."""
    dice = random.Random(chance)
    data = dice.randbytes(200_000)
    sealed, unsealed = ends.other.seal(data), b""
    while sealed:
        size = dice.choice([1, 7, 1000, 30_000])
        network = bytearray(sealed[:size])
        sealed = sealed[size:]
        ends.engine.feed(network, len(network))
        for _ in range(dice.randrange(3)):
            buffer = memoryview(bytearray(dice.choice([1, 300, 50_000])))
            unsealed += buffer[: ends.engine.decrypt(buffer)]
        ends.engine.keep()
        network[:] = bytes(len(network))
        if dice.random() < 0.2:
            unsealed += ends.decrypt()
            ends.engine.keep()
    assert unsealed + ends.decrypt() == data


def test_engine_is_fed_only_the_given_size(ends: Ends) -> None:
    sealed = ends.other.seal(b"data")
    ends.engine.feed(bytearray(sealed) + b"of another connection", len(sealed))
    assert ends.decrypt() == b"data"
    assert ends.engine.error is None


# The end, and errors ---------------------------------------------------------------------------------------------


def test_engine_notices_the_end(ends: Ends) -> None:
    """It ignores all data after the end."""
    assert ends.feed(ends.other.seal(b"last") + ends.other.end() + b"junk") == b"last"
    assert ends.engine.ended
    assert ends.engine.error is None
    assert ends.feed(b"more") == b""
    assert ends.engine.error is None


def test_engine_ends(ends: Ends) -> None:
    ends.engine.end()
    ends.other.give(ends.take())
    assert ends.other.ended
    ends.engine.end()
    assert ends.engine.output() == b""


def test_engine_that_ended_still_receives(ends: Ends) -> None:
    """Data received before and after its own end, up to the end of the peer."""
    before, partly = ends.other.seal(b"1" * 100), ends.other.seal(b"2" * 100)
    sealed = before + partly[:50]
    ends.engine.feed(bytearray(sealed), len(sealed))
    one = memoryview(bytearray(1))
    assert ends.engine.decrypt(one) == 1
    ends.engine.end()
    ends.engine.keep()
    assert b"1" + ends.decrypt() + ends.feed(partly[50:]) == b"1" * 100 + b"2" * 100
    assert ends.feed(ends.other.seal(b"3") + ends.other.end()) == b"3"
    assert ends.engine.ended
    assert ends.engine.error is None


def corruption(ends: Ends) -> str:
    """Return the reason that the standard library gives for a corrupt record. It depends on the version of OpenSSL."""
    corrupt = bytearray(ends.encrypt(b"bad" * 10))
    corrupt[-1] ^= 1
    with pytest.raises(ssl.SSLError) as raised:
        ends.other.give(bytes(corrupt))
    return raised.value.reason


def test_engine_fails_on_corrupt_record_after_good_ones(make_engine: Make, contexts: Contexts, server: bool) -> None:
    ends, others = Ends(make_engine, contexts, server), Ends(make_engine, contexts, server)
    ends.shake_hands()
    others.shake_hands()
    reason = corruption(others)
    corrupt = bytearray(ends.other.seal(b"good") + ends.other.seal(b"bad" * 10))
    corrupt[-1] ^= 1
    assert ends.feed(bytes(corrupt) + ends.other.seal(b"behind it")) == b"good"
    error = ends.engine.error
    assert isinstance(error, ssl.SSLError)
    assert error.reason == reason
    assert reason in str(error)
    with pytest.raises(ssl.SSLError, match=r"ALERT_BAD_RECORD_MAC"):
        ends.other.give(ends.take())


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n", b"\x17\x03\x03\xff\xff" + bytes(100), bytes(10)])
def test_engine_fails_on_malformed_record(ends: Ends, junk: bytes) -> None:
    assert ends.feed(junk) == b""
    assert isinstance(ends.engine.error, ssl.SSLError)


def test_engine_tells_of_the_alert_that_came(ends: Ends) -> None:
    corrupt = bytearray(ends.encrypt(b"data"))
    corrupt[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        ends.other.give(bytes(corrupt))
    assert ends.feed(ends.other.take()) == b""
    assert "ALERT_BAD_RECORD_MAC" in ends.engine.error.reason


def test_engine_ignores_errors_of_other_connections(make_engine: Make, contexts: Contexts, server: bool) -> None:
    """OpenSSL has one queue of errors for all connections of a thread."""
    broken, ends = Ends(make_engine, contexts, server), Ends(make_engine, contexts, server)
    broken.shake_hands()
    ends.shake_hands()
    with suppress(ssl.SSLError):
        broken.other.give(b"no record")
    broken.feed(b"nor is this")
    assert broken.engine.error is not None
    assert ends.feed(b"") == b""
    assert ends.feed(ends.other.seal(b"data")) == b"data"
    ends.other.give(ends.encrypt(b"data"))
    assert ends.engine.error is None


def test_engine_seals_nothing_after_a_failure(ends: Ends) -> None:
    ends.feed(b"this is no record")
    with pytest.raises(ssl.SSLError):
        ends.engine.encrypt(b"data")


# Messages of TLS other than data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3], ids=["1.3"])
@pytest.mark.parametrize("asked", [True, False])
def test_engine_goes_on_with_another_key(ends: Ends, asked: bool) -> None:
    for _ in range(3):
        update_key(ends.other.tls, asked)
        assert ends.feed(ends.other.take() + ends.other.seal(b"to" * 9000)) == b"to" * 9000
        ends.other.received.clear()
        ends.other.give(ends.encrypt(b"fro" * 9000))
        assert ends.other.received == b"fro" * 9000
    assert ends.feed(ends.other.take()) == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3], ids=["1.3"])
@pytest.mark.parametrize("server", [False], ids=["client"])
def test_client_accepts_tickets_between_data(ends: Ends) -> None:
    data = b""
    for number in range(5):
        send_ticket(ends.other.tls)
        data += ends.other.take() + ends.other.seal(b"%d" % number)
    assert ends.feed(data) == b"01234"
    assert not ends.engine.has_output()
    assert ends.engine.ssl_object.session.has_ticket


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2], ids=["1.2"])
def test_engine_declines_another_handshake(make_engine: Make, contexts: Contexts, server: bool) -> None:
    """It declines and goes on. With the standard library it cannot, and fails when it should send."""
    contexts[True].options |= ALLOW_CLIENT_RENEGOTIATION
    ends = Ends(make_engine, contexts, server)
    ends.shake_hands()
    renegotiate(ends.other.tls)
    assert ends.feed(ends.other.take()) == b""
    assert ends.engine.error is None
    assert ends.engine.has_output()
    ends.take()
    if type(ends.engine).__name__ == "DirectEngine":
        assert ends.encrypt(b"data")
    else:
        with pytest.raises(ssl.SSLError, match="the peer started a renegotiation, which is not supported"):
            ends.engine.encrypt(b"data")


# The application's own classes, and lifetimes --------------------------------------------------------------------


class OwnObject(ssl.SSLObject):
    """A socket of the application, which records the data and may accept less."""

    written = b""
    made = 0
    room = 1 << 30
    """The number of bytes that it still accepts."""

    @classmethod
    def _create(cls, *arguments: Any, **options: Any) -> Any:
        OwnObject.made += 1
        return super()._create(*arguments, **options)  # type: ignore[misc]

    def write(self, data: Any) -> int:
        if not self.room:
            raise ssl.SSLWantReadError
        taken = memoryview(data)[: self.room]
        self.room -= len(taken)
        self.written += taken
        return super().write(taken)


def test_engine_uses_the_contexts_own_class(make_engine: Make, contexts: Contexts, server: bool) -> None:
    contexts[server].sslobject_class = OwnObject
    OwnObject.made = 0
    ends = Ends(make_engine, contexts, server)
    assert OwnObject.made == 1
    ends.shake_hands()
    assert ends.feed(ends.other.seal(b"to")) == b"to"
    ends.other.give(ends.encrypt(b"fro"))
    assert ends.other.received == b"fro"
    assert ends.engine.ssl_object.written == b"fro"
    ends.engine.ssl_object.room = 4
    with pytest.raises(ssl.SSLError):
        ends.engine.encrypt(b"no more")
    ends.other.give(ends.take())
    assert ends.other.received == b"frono m"
    assert ends.feed(ends.other.end()) == b""
    assert ends.engine.ended


class Disguised(ssl.SSLContext):
    """A context whose connections refer to another one, as contexts do that use the certificates of the system."""

    inner: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.inner.wrap_bio(*arguments, **options)


def test_engine_takes_the_plain_way_for_an_unexpected_object(contexts: Contexts, server: bool) -> None:
    context = Disguised(ssl.PROTOCOL_TLS_CLIENT)
    context.inner = contexts[server]
    ends = Ends(shortest, {server: context, not server: contexts[not server]}, server)
    assert type(ends.engine).__name__ == "Engine"
    ends.shake_hands()
    assert ends.feed(ends.other.seal(b"to")) == b"to"
    ends.other.give(ends.encrypt(b"fro"))
    assert ends.other.received == b"fro"


@pytest.mark.parametrize("options", [(False, ""), (False, ".x"), (True, None)])
def test_engine_raises_errors_of_the_context(
    make_engine: Make, client_context: ssl.SSLContext, options: tuple[bool, str | None]
) -> None:
    with pytest.raises((ssl.SSLError, ValueError)):
        make_engine(client_context, *options)


def test_engine_is_freed_without_the_garbage_collector(make_engine: Make, contexts: Contexts, server: bool) -> None:
    gc.disable()
    try:
        ends = Ends(make_engine, contexts, server)
        ends.shake_hands()
        network = bytearray(ends.other.seal(b"unread" * 5000))
        counts = sys.getrefcount(network)
        ends.engine.feed(network, len(network))
        ends.engine.decrypt(memoryview(bytearray(1)))
        ends.engine.encrypt(b"unsent" * 5000)
        ends.engine.keep()
        assert sys.getrefcount(network) == counts
        ends.engine.feed(network, 10)
        gone = weakref.ref(ends.engine.ssl_object)
        del ends
        assert gone() is None
        assert sys.getrefcount(network) == counts
    finally:
        gc.enable()


def test_engine_is_freed_without_the_garbage_collector_after_a_failure(
    make_engine: Make, contexts: Contexts, server: bool
) -> None:
    gc.disable()
    try:
        ends = Ends(make_engine, contexts, server)
        ends.shake_hands()
        ends.feed(b"this is no record")
        gone = weakref.ref(ends.engine.ssl_object)
        del ends
        assert gone() is None
    finally:
        gc.enable()


def test_ssl_object_can_outlive_the_engine(ends: Ends) -> None:
    """The object describes the connection, and cannot change it."""
    sealed = ends.other.seal(b"unread")
    network = bytearray(sealed)
    ends.engine.feed(network, len(network))
    ends.engine.encrypt(b"unsent")
    kept = ends.engine.ssl_object
    ends.engine = None
    network[:] = bytes(len(network))
    assert kept.cipher() is not None
    assert kept.version() is not None
    for use in (lambda: kept.read(10), lambda: kept.write(b"data" * 10_000), kept.unwrap, kept.do_handshake):
        with suppress(ssl.SSLError):
            use()


def test_ssl_object_can_outlive_an_engine_that_never_finished(
    make_engine: Make, contexts: Contexts, server: bool
) -> None:
    ends = Ends(make_engine, contexts, server)
    ends.engine.continue_handshake()
    kept = ends.engine.ssl_object
    ends.engine = None
    with pytest.raises(ssl.SSLError):
        kept.do_handshake()
    assert kept.version() is None or not server
