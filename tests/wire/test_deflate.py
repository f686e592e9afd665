"""Payloads of compressed messages (RFC 7692 section 7.2), compressed and inflated by both builds with each codec."""

import itertools
import random
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from zlib_ng import zlib_ng

from helpers.compressing import CountingCodec
from helpers.wires import Wire, wires
from streamws import Compression
from streamws.wire.deflate import PIECE

CONTINUATION, TEXT, BINARY = 0, 1, 2
TAIL = b"\x00\x00\xff\xff"
MOST = 1 << 40
HELLO = b"\xf2\x48\xcd\xc9\xc9\x07\x00"
MiB = 1 << 20

Codec = tuple[Any, Any]  # the values of `codec` and `igzip` in the module
CODECS: dict[str, Codec] = {"zlib": (zlib, None), "zlib-ng": (zlib_ng, None), "ISA-L": (zlib_ng, isal_zlib)}
COMBINATIONS = [f"{one} to {other}" for one, other in itertools.product(CODECS, ["zlib", "zlib-ng"])]
WIRES = wires()

fuzz = settings(max_examples=40, deadline=None)
takeovers = pytest.mark.parametrize("takeover", [False, True], ids=["alone", "takeover"])


class Pair:
    """A sender and a receiver with the same parameters, each with its own codec."""

    def __init__(
        self,
        wire: Wire,
        codecs: str = "zlib to zlib",
        *,
        bits: int = 15,
        takeover: bool = False,
        **options: Any,
    ) -> None:
        sending, _, receiving = codecs.partition(" to ")
        self._module: Any = wire.deflate
        self._sending, self._receiving = CODECS[sending], CODECS[receiving]
        self._frame = wire.deflate.DeflatedFrame
        self.deflater: Any = self._module.Deflater(Compression(**options), bits, takeover)
        self.inflater: Any = self._module.Inflater(bits, takeover)

    def _use(self, codec: Codec) -> None:
        self._module.codec, self._module.igzip = codec

    def compress(self, data: Any, fin: bool = True) -> bytes:
        self._use(self._sending)
        payload: bytes = self.deflater.compress(data, fin)
        return payload

    def feed(self, payload: bytes, opcode: int = BINARY, fin: bool = True) -> None:
        self.inflater.feed(self._frame(opcode, payload, fin))

    def take(self, most: int = MOST) -> bytes:
        self._use(self._receiving)
        data: bytes = self.inflater.take(most)
        return data

    def drop(self, payload: bytes | None, opcode: int = BINARY, fin: bool = True, most: int = MOST) -> int:
        self._use(self._receiving)
        frame = None if payload is None else self._frame(opcode, payload, fin)
        size: int = self.inflater.skip(frame, most)
        return size

    def take_all(self, most: int = MOST) -> bytes:
        """Inflate everything fed, in pieces."""
        data = b""
        while self.inflater.pending:
            piece = self.take(most)
            assert len(piece) <= most
            assert len(piece) == most or not self.inflater.pending
            data += piece
        return data

    def inflate(self, payload: bytes, opcode: int = BINARY, most: int = MOST) -> bytes:
        """Inflate a message in one frame."""
        self.feed(payload, opcode)
        data = self.take_all(most)
        assert self.inflater.ended
        return data

    def inflate_parts(self, payloads: Sequence[bytes], opcode: int = BINARY, most: int = MOST) -> list[bytes]:
        """Inflate a fragmented message.

        :returns: The data of each fragment.
        """
        parts = []
        for number, payload in enumerate(payloads):
            fin = number == len(payloads) - 1
            self.feed(payload, CONTINUATION if number else opcode, fin)
            parts.append(self.take_all(most))
            assert self.inflater.ended is fin
        return parts


@pytest.fixture(autouse=True)
def drop_idle_compressors() -> Iterator[None]:
    """Drop idle compressors after each test, because they belong to its codec."""
    modules: list[Any] = [wire.deflate for wire in WIRES]
    before = [(module.codec, module.igzip) for module in modules]
    yield
    for module, codec in zip(modules, before, strict=True):
        module.codec, module.igzip = codec
        module._idle.clear()


def contents() -> list[bytes]:
    some = random.Random(7)
    noise = some.randbytes(5000)
    return [
        b"",
        b"a",
        b"Hello" * 50,
        bytes(70_000),
        noise,
        noise * 5 + b"end",
        b"".join(noise[place : place + 40] for place in some.choices(range(4900), k=400)),
    ]


# Round trips -----------------------------------------------------------------------------------------------------


@takeovers
@pytest.mark.parametrize("codecs", COMBINATIONS)
def test_receiver_inflates_compressed_messages(wire: Wire, codecs: str, takeover: bool) -> None:
    pair = Pair(wire, codecs, takeover=takeover)
    for data in contents() * 2:
        assert pair.inflate(pair.compress(data)) == data


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bits", range(9, 16))
def test_receiver_inflates_messages_of_every_window_size(wire: Wire, codec: str, bits: int, takeover: bool) -> None:
    data = b"".join(contents())
    for level in (1, 6, 9):
        pair = Pair(wire, f"{codec} to zlib", bits=bits, takeover=takeover, level=level, mem_level=level)
        for _ in range(1 + takeover):
            assert pair.inflate(pair.compress(data)) == data


def repetitions(seed: int) -> bytes:
    """Return data that repeats itself at all distances up to 600 bytes, most often at about 256."""
    some = random.Random(seed)
    data = bytearray(some.randbytes(600))
    while len(data) < 8000:
        distance = some.choice([some.randint(1, 600), some.randint(245, 265)])
        for _ in range(some.randint(3, 300)):
            data.append(data[-distance])
        data += some.randbytes(some.randint(0, 20))
    return bytes(data)


def inflate_in_window(payload: bytes, bits: int) -> bytes:
    """Inflate byte by byte, so that nothing but a window of this size can be referred to."""
    stream = zlib.decompressobj(-bits)
    data = bytearray()
    while piece := stream.decompress(payload, 1):
        data += piece
        payload = stream.unconsumed_tail
    return bytes(data)


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("level", range(10))
def test_sender_keeps_to_window_of_8_bits(wire: Wire, codec: str, level: int, takeover: bool) -> None:
    for seed in range(3):
        pair = Pair(wire, f"{codec} to zlib", bits=8, takeover=takeover, level=level)
        assert pair.deflater.window_bits == 8
        data = repetitions(seed)
        parts = [data[:10], data[10:3000], data[3000:]]
        payload = b"".join(pair.compress(part, number == 2) for number, part in enumerate(parts))
        assert inflate_in_window(payload + TAIL, 8) == data
        assert pair.inflate(payload) == data
        assert pair.inflate(pair.compress(data)) == data


def test_larger_window_is_noticed() -> None:
    stream = zlib.compressobj(6, zlib.DEFLATED, -10)
    payload = stream.compress(repetitions(0)) + stream.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(zlib.error, match="invalid distance"):
        inflate_in_window(payload, 8)


@takeovers
def test_compressors_of_8_and_9_bits_are_not_shared(wire: Wire, takeover: bool) -> None:
    for bits in (9, 8, 9, 8):
        pair = Pair(wire, "ISA-L to zlib", bits=bits, takeover=takeover)
        assert inflate_in_window(pair.compress(repetitions(bits)) + TAIL, bits) == repetitions(bits)


@takeovers
@pytest.mark.parametrize("codec", CODECS)
def test_receiver_inflates_messages_compressed_with_level_0(wire: Wire, codec: str, takeover: bool) -> None:
    pair = Pair(wire, f"{codec} to {codec}", takeover=takeover, level=0, mem_level=1)
    for data in contents() * 2:
        assert pair.inflate(pair.compress(data)) == data


@takeovers
@pytest.mark.parametrize("codecs", COMBINATIONS)
def test_receiver_inflates_each_fragment_on_arrival(wire: Wire, codecs: str, takeover: bool) -> None:
    pair = Pair(wire, codecs, takeover=takeover)
    parts = [b"one", b"", b"two" * 1000, bytes(PIECE), b"", b"three", b""]
    for _ in range(2):
        payloads = [pair.compress(part, number == len(parts) - 1) for number, part in enumerate(parts)]
        assert pair.inflate_parts(payloads) == parts


@takeovers
@pytest.mark.parametrize("parts", [[b""], [b"", b""], [b"", b"a"], [b"a", b""]])
def test_receiver_inflates_empty_fragments(wire: Wire, takeover: bool, parts: list[bytes]) -> None:
    pair = Pair(wire, takeover=takeover)
    for _ in range(3):
        payloads = [pair.compress(part, number == len(parts) - 1) for number, part in enumerate(parts)]
        assert payloads[-1], "the four bytes that are left out must have been there"
        assert pair.inflate_parts(payloads) == parts


@takeovers
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sender_compresses_any_buffer(wire: Wire, takeover: bool, kind: type[Any]) -> None:
    pair = Pair(wire, takeover=takeover)
    assert pair.inflate(pair.compress(kind(b"abc" * 100))) == b"abc" * 100


def test_sender_refers_to_earlier_messages_with_context_takeover(wire: Wire) -> None:
    noise = random.Random(1).randbytes(400)
    sizes = {}
    for takeover in (False, True):
        pair = Pair(wire, takeover=takeover)
        sizes[takeover] = [len(pair.compress(noise)) for _ in range(2)]
    assert sizes[False][0] == sizes[False][1] == sizes[True][0] > 400
    assert sizes[True][1] < 20


@given(
    data=st.lists(st.binary(max_size=20) | st.integers(0, 3000).map(bytes), min_size=1, max_size=4).map(b"".join),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    again=st.lists(st.floats(0, 1), max_size=4),
    most=st.sampled_from([1, 2, 3, 100, MOST]),
    takeover=st.booleans(),
    bits=st.integers(9, 15),
)
@fuzz
def test_receiver_inflates_fragments_cut_anywhere(
    wire: Wire, data: bytes, cuts: list[float], again: list[float], most: int, takeover: bool, bits: int
) -> None:
    """An intermediary that does not know the extension may split frames as well (RFC 6455 section 5.4)."""
    pair = Pair(wire, takeover=takeover, bits=bits)
    for _ in range(2):
        parts = cut(data, cuts)
        payload = b"".join(pair.compress(part, number == len(parts) - 1) for number, part in enumerate(parts))
        assert b"".join(pair.inflate_parts(cut(payload, again), most=most)) == data


def cut(data: bytes, shares: Sequence[float]) -> list[bytes]:
    places = [0, *sorted(int(share * len(data)) for share in shares), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


# In pieces -------------------------------------------------------------------------------------------------------


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 2, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
@pytest.mark.parametrize("most", [1000, PIECE - 1, PIECE, PIECE + 1])
def test_receiver_inflates_message_in_pieces(wire: Wire, codec: str, takeover: bool, size: int, most: int) -> None:
    for data in (bytes(size), random.Random(size).randbytes(size)):
        pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
        for _ in range(2):
            assert pair.inflate(pair.compress(data), most=most) == data


@takeovers
@pytest.mark.parametrize("most", [1, 2])
def test_receiver_inflates_message_byte_by_byte(wire: Wire, takeover: bool, most: int) -> None:
    data = b"some words, some words" * 20
    pair = Pair(wire, takeover=takeover)
    assert pair.inflate(pair.compress(data), most=most) == data


@takeovers
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 1000, PIECE, 3 * PIECE])
def test_receiver_ends_message_of_exactly_the_limit(wire: Wire, takeover: bool, noise: bool, limit: int) -> None:
    """One byte more is requested than the limit allows: a message of the limit ends, and a longer one is noticed."""
    for more in (0, 1):
        pair = Pair(wire, takeover=takeover)
        size = limit + more
        pair.feed(pair.compress(random.Random(3).randbytes(size) if noise else bytes(size)))
        assert len(pair.take(limit + 1)) == size
        assert pair.inflater.ended or more


def test_receiver_does_not_change_when_no_bytes_are_taken(wire: Wire) -> None:
    pair = Pair(wire)
    pair.feed(pair.compress(b"abc"))
    assert pair.take(0) == b""
    assert pair.take() == b"abc"
    assert pair.take() == b""


# The examples of RFC 7692 section 7.2.3 ----------------------------------------------------------------------------


@takeovers
@pytest.mark.parametrize(
    "payloads",
    [
        [HELLO],  # 7.2.3.1
        [b"\xf2\x48\xcd", b"\xc9\xc9\x07\x00"],  # 7.2.3.1, in fragments
        [b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"],  # 7.2.3.3: without compression
        [b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"],  # 7.2.3.4: a final block
        [b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"],  # 7.2.3.5: two blocks
    ],
)
def test_receiver_inflates_example_of_rfc(wire: Wire, takeover: bool, payloads: list[bytes]) -> None:
    for most in (1, 2, MOST):
        pair = Pair(wire, takeover=takeover)
        for _ in range(2):
            assert b"".join(pair.inflate_parts(payloads, TEXT, most)) == b"Hello"


def test_sender_compresses_example_of_rfc(wire: Wire) -> None:
    assert [Pair(wire).compress(b"Hello") for _ in range(2)] == [HELLO, HELLO]


def test_receiver_inflates_example_of_context_takeover(wire: Wire) -> None:
    """7.2.3.2: the second message refers to the first one."""
    pair = Pair(wire, takeover=True)
    assert [pair.compress(b"Hello") for _ in range(2)] == [HELLO, b"\xf2\x00\x11\x00\x00"]
    assert [pair.inflate(payload) for payload in (HELLO, b"\xf2\x00\x11\x00\x00")] == [b"Hello", b"Hello"]


@takeovers
def test_receiver_inflates_example_of_empty_message(wire: Wire, takeover: bool) -> None:
    """7.2.3.6."""
    pair = Pair(wire, takeover=takeover)
    for _ in range(3):
        assert pair.compress(b"") == b"\x00"
        assert pair.inflate(b"\x00", TEXT) == b""


@takeovers
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("payloads", [[b""], [b"", b""], [b"", b"", b""], [b"", b"\x00"], [b"\x00", b""]])
def test_receiver_inflates_message_without_bytes_as_empty(
    wire: Wire, payloads: list[bytes], opcode: int, takeover: bool
) -> None:
    pair = Pair(wire, takeover=takeover)
    for text in (b"Hello", b"Hello", b"Hello again"):
        assert pair.inflate_parts(payloads, opcode) == [b""] * len(payloads)
        assert pair.take() == b""
        assert pair.drop(b"", opcode) == 0
        assert pair.inflater.ended
        assert not pair.inflater.pending
        assert pair.inflate(pair.compress(text), opcode) == text


@takeovers
def test_receiver_refuses_text_cut_inside_character_before_frame_without_bytes(wire: Wire, takeover: bool) -> None:
    pair = Pair(wire, takeover=takeover)
    pair.feed(pair.compress(b"\xc3"), TEXT, False)
    pair.take_all()
    pair.feed(b"", CONTINUATION)
    with pytest.raises(wire.errors.ProtocolViolation, match="UTF-8"):
        pair.take()


# Final blocks ------------------------------------------------------------------------------------------------------


def final(data: bytes) -> bytes:
    """Compress into a stream with a final block."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH)


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("most", [1, MOST])
@pytest.mark.parametrize(
    "payload",
    [
        final(b"abc") + b"\x00",
        final(b"a") + final(b"bc") + b"\x00",
        final(b"") * 3 + final(b"abc") + b"\x00",
        final(b"ab") + b"\x4a\x06\x00",
        b"\x4a\x04\x00\x00\x00\xff\xff" + final(b"bc") + b"\x00",
        final(b"abc") + final(b"") * 997 + b"\x00",
    ],
)
def test_receiver_inflates_final_block_anywhere(
    wire: Wire, codec: str, takeover: bool, most: int, payload: bytes
) -> None:
    pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
    for _ in range(2):
        assert pair.inflate(payload, most=most) == b"abc"
        assert pair.inflate(HELLO) == b"Hello"
    for place in range(1, min(len(payload), 12)):
        assert b"".join(pair.inflate_parts([payload[:place], payload[place:]], most=most)) == b"abc"


@takeovers
@pytest.mark.parametrize("codec", CODECS)
def test_receiver_refuses_many_final_blocks(wire: Wire, codec: str, takeover: bool) -> None:
    for fragments in (1, 3):
        pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
        blocks = final(b"") * (3000 // fragments)
        with pytest.raises(wire.errors.ProtocolViolation) as caught:
            pair.inflate_parts([blocks] * (fragments - 1) + [blocks + b"\x00"])
        assert caught.value.code == 1007


# Invalid compressed data -------------------------------------------------------------------------------------------


def elsewhere(data: bytes) -> bytes:
    """Return a message that refers to another one, which is never sent."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=data)
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


CORRUPT = {
    "a block of reserved type": b"\x06\x00",
    "a stored block of wrong length": b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
    "a distance too far back": elsewhere(b"abcdefgh" * 10),
    "ones": b"\xff" * 20,
    "a stream of zlib's": zlib.compress(b"Hello"),
    "a stream of gzip's": zlib.compress(b"Hello", wbits=31),
}


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("payload", CORRUPT.values(), ids=CORRUPT.keys())
@pytest.mark.parametrize("before", [b"", b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"])
def test_receiver_refuses_corrupt_data_with_1007(
    wire: Wire, codec: str, takeover: bool, payload: bytes, before: bytes
) -> None:
    for most in (1, MOST):
        pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
        with pytest.raises(wire.errors.ProtocolViolation, match="corrupt") as caught:
            pair.inflate(before + payload, most=most)
        assert caught.value.code == 1007


STORED = b"\x00\x14\x00\xeb\xff" + bytes(15)  # a stored block of 20 bytes, cut short


@takeovers
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "payload",
    [HELLO[:size] for size in range(1, len(HELLO) - 1)] + [STORED[:size] for size in range(2, len(STORED) + 1)],
)
def test_receiver_refuses_message_that_ends_inside_block(
    wire: Wire, codec: str, takeover: bool, payload: bytes
) -> None:
    for before in ([], [HELLO]):
        pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
        for message in before:
            assert pair.inflate(message) == b"Hello"
        with pytest.raises(wire.errors.ProtocolViolation) as caught:
            pair.inflate(payload)
        assert caught.value.code == 1007


@given(
    data=st.binary(max_size=60) | st.text(max_size=20).map(str.encode) | st.integers(0, 2000).map(bytes),
    place=st.floats(0, 0.999),
    flips=st.binary(min_size=1, max_size=3),
    end=st.floats(0, 1),
    most=st.sampled_from([1, 7, 1000]),
    takeover=st.booleans(),
    codec=st.sampled_from(list(CODECS)),
    opcode=st.sampled_from([TEXT, BINARY]),
    cuts=st.lists(st.floats(0, 1), max_size=2),
)
@settings(fuzz, max_examples=60)
def test_receiver_refuses_or_inflates_damaged_data(
    wire: Wire,
    data: bytes,
    place: float,
    flips: bytes,
    end: float,
    most: int,
    takeover: bool,
    codec: str,
    opcode: int,
    cuts: list[float],
) -> None:
    pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
    payload = bytearray(pair.compress(data))
    for number, flip in enumerate(flips, int(place * len(payload))):
        if number < len(payload):
            payload[number] ^= flip
    try:
        parts = cut(bytes(payload[: int(end * len(payload)) + 1]), cuts)
        assert len(b"".join(pair.inflate_parts(parts, opcode, most))) <= 1100 * len(payload)
    except wire.errors.ProtocolViolation as violation:
        assert violation.code == 1007  # noqa: PT017


# Text --------------------------------------------------------------------------------------------------------------


@takeovers
@pytest.mark.parametrize("most", [1, 2, 3, 5, MOST])
def test_receiver_accepts_text_cut_inside_character(wire: Wire, takeover: bool, most: int) -> None:
    text = "aé€𝄞" * 10
    data = text.encode()
    pair = Pair(wire, takeover=takeover)
    for _ in range(2):
        assert pair.inflate(pair.compress(data), TEXT, most).decode() == text
        for place in range(12):
            payloads = [pair.compress(data[:place], False), pair.compress(data[place:], True)]
            assert b"".join(pair.inflate_parts(payloads, TEXT, most)).decode() == text


@takeovers
@pytest.mark.parametrize("most", [1, 2, MOST])
@pytest.mark.parametrize("data", [b"\xff", b"ok\xc3", b"ok\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9d\x84("])
def test_receiver_refuses_text_that_is_not_utf8(wire: Wire, takeover: bool, data: bytes, most: int) -> None:
    for place in range(len(data) + 1):
        pair = Pair(wire, takeover=takeover)
        payloads = [pair.compress(data[:place], False), pair.compress(data[place:], True)]
        with pytest.raises(wire.errors.ProtocolViolation, match="not UTF-8") as caught:
            pair.inflate_parts(payloads, TEXT, most)
        assert caught.value.code == 1007


def test_receiver_accepts_binary_that_is_not_utf8(wire: Wire) -> None:
    pair = Pair(wire)
    assert pair.inflate(pair.compress(b"\xff")) == b"\xff"


def test_receiver_checks_text_of_each_message_anew(wire: Wire) -> None:
    pair = Pair(wire)
    pair.feed(pair.compress("é".encode()[:1], False), TEXT, False)
    pair.take_all()
    pair.drop(pair.compress("é".encode()[1:] + b"\xff"), CONTINUATION)
    assert pair.inflate(pair.compress(b"fine"), TEXT) == b"fine"


# Dropping ----------------------------------------------------------------------------------------------------------


@takeovers
@pytest.mark.parametrize("taken", [0, 1, 500, 1000])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_receiver_inflates_message_after_dropped_one(wire: Wire, takeover: bool, taken: int, parts: int) -> None:
    some = random.Random(5)
    pair = Pair(wire, takeover=takeover)
    for _ in range(3):
        data = some.randbytes(900) + bytes(200)
        payloads = [pair.compress(data[:10] * 60 + data, number == parts - 1) for number in range(parts)]
        pair.feed(payloads[0], BINARY, parts == 1)
        if taken:
            assert len(pair.take(taken)) == taken
        pair.drop(None)
        for number in range(1, parts):
            assert not pair.inflater.ended
            pair.drop(payloads[number], CONTINUATION, number == parts - 1)
        assert pair.inflater.ended
        assert not pair.inflater.pending
        assert pair.inflate(pair.compress(data)) == data


@takeovers
def test_receiver_counts_dropped_bytes(wire: Wire, takeover: bool) -> None:
    """Bytes count at their inflated size if they must be inflated, else at their compressed size."""
    pair = Pair(wire, takeover=takeover)
    for data in (bytes(100_000), b"x", random.Random(2).randbytes(3000)):
        payloads = [pair.compress(data, False), pair.compress(data, True)]
        dropped = [pair.drop(payloads[0], BINARY, False), pair.drop(payloads[1], CONTINUATION, True)]
        assert dropped == ([len(data)] * 2 if takeover else list(map(len, payloads)))
    payload = pair.compress(bytes(1000))
    pair.feed(payload)
    pair.take(100)
    assert pair.drop(None) <= (900 if takeover else len(payload))


def test_receiver_stops_dropping_at_budget(wire: Wire) -> None:
    pair = Pair(wire, takeover=True)
    dropped = pair.drop(pair.compress(bytes(100 * PIECE)), most=2 * PIECE)
    assert 2 * PIECE < dropped <= 3 * PIECE
    assert not pair.inflater.ended


def test_receiver_refuses_dropped_corrupt_data_only_if_it_is_inflated(wire: Wire) -> None:
    alone, taking_over = Pair(wire), Pair(wire, takeover=True)
    alone.drop(b"\xff" * 20)
    assert alone.inflate(HELLO) == b"Hello"
    with pytest.raises(wire.errors.ProtocolViolation):
        taking_over.drop(b"\xff" * 20)


# Bombs -------------------------------------------------------------------------------------------------------------


@cache
def bomb(size: int) -> bytes:
    """Compress `size` MiB of zeros."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(MiB)
    return b"".join(stream.compress(zeros) for _ in range(size)) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


@takeovers
@pytest.mark.parametrize("codec", CODECS)
def test_receiver_allocates_only_for_taken_bytes_of_bomb(wire: Wire, codec: str, takeover: bool) -> None:
    pair = Pair(wire, f"{codec} to {codec}", takeover=takeover)
    payload = bomb(16)
    pair.feed(payload)
    pair.take(10)
    tracemalloc.start()
    try:
        assert len(pair.take(MiB)) == MiB
        for _ in range(20):
            assert len(pair.take(PIECE)) == PIECE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MiB
    assert pair.inflater.pending


@takeovers
def test_receiver_drops_bomb_in_little_memory(wire: Wire, takeover: bool) -> None:
    pair = Pair(wire, takeover=takeover)
    payload = bomb(16)
    tracemalloc.start()
    try:
        pair.drop(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MiB
    assert pair.inflater.ended


# Memory between messages ------------------------------------------------------------------------------------------


@pytest.fixture
def counting(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> CountingCodec:
    codec = CountingCodec()
    monkeypatch.setitem(CODECS, "zlib", (codec, None))
    wire.deflate._idle.clear()
    return codec


def test_connections_share_one_idle_compressor(wire: Wire, counting: CountingCodec) -> None:
    pairs = [Pair(wire, threshold=number) for number in range(20)]
    for number in range(3):
        for pair in pairs:
            assert pair.inflate(pair.compress(b"%d of many" % number * 30)) == b"%d of many" % number * 30
    assert counting.compressors == 1
    assert counting.alive == 1


def test_connections_with_other_settings_use_other_compressors(wire: Wire, counting: CountingCodec) -> None:
    settings: list[dict[str, Any]] = [{}, {"bits": 9}, {"level": 1}, {"mem_level": 9}]
    for _ in range(2):
        for options in settings:
            pair = Pair(wire, **options)
            assert pair.inflate(pair.compress(b"abc")) == b"abc"
    assert counting.compressors == len(settings)


def test_sender_keeps_few_idle_compressors(wire: Wire, counting: CountingCodec) -> None:
    pairs = [Pair(wire) for _ in range(30)]
    for pair in pairs:
        pair.compress(b"a part", False)
    assert counting.alive == 30
    for pair in pairs:
        pair.compress(b"the rest")
    assert 1 <= counting.alive <= 8


def test_senders_do_not_mix_interleaved_messages(wire: Wire) -> None:
    one, other = Pair(wire), Pair(wire)
    parts: dict[Pair, list[bytes]] = {one: [], other: []}
    for number in range(3):
        for pair, word in ((one, b"one"), (other, b"other")):
            parts[pair].append(pair.compress(word * 40, number == 2))
    for pair, word in ((one, b"one"), (other, b"other")):
        assert pair.inflate_parts(parts[pair]) == [word * 40] * 3


def test_pair_creates_no_codec_objects_before_first_use(wire: Wire, counting: CountingCodec) -> None:
    for takeover in (False, True):
        Pair(wire, takeover=takeover)
    assert not counting.compressors
    assert not counting.alive


def test_receiver_frees_decompressor_after_each_message(wire: Wire, counting: CountingCodec) -> None:
    pair = Pair(wire)
    payload = pair.compress(b"abc")
    alive = counting.alive
    for most in (1, MOST):
        pair.inflate(payload, most=most)
        assert counting.alive == alive
    pair.drop(payload)
    assert counting.alive == alive


def test_sender_frees_compressor_after_idle_time(wire: Wire, counting: CountingCodec) -> None:
    pair = Pair(wire, takeover=True)
    noise = random.Random(1).randbytes(300)
    first = pair.compress(noise)
    pair.deflater.release_idle_memory()
    assert counting.alive == 1, "the compressor was used since the last call"
    pair.deflater.release_idle_memory()
    assert counting.alive == 0
    again = pair.compress(noise)
    assert again == first
    assert len(pair.compress(noise)) < 20
    for payload in (first, again):
        assert pair.inflate(payload) == noise


@takeovers
def test_sender_continues_message_after_freeing_compressor(wire: Wire, takeover: bool) -> None:
    pair = Pair(wire, takeover=takeover)
    noise = random.Random(1).randbytes(300)
    payloads = []
    for number in range(3):
        payloads.append(pair.compress(noise, number == 2))
        pair.deflater.release_idle_memory()
        pair.deflater.release_idle_memory()
    assert pair.inflate_parts(payloads) == [noise] * 3


@takeovers
@pytest.mark.parametrize("where", ["before", "inside"])
def test_sender_does_not_reuse_failed_compressor(
    wire: Wire, counting: CountingCodec, takeover: bool, where: str
) -> None:
    pair = Pair(wire, takeover=takeover)
    noise = random.Random(1).randbytes(300)
    payloads = [pair.compress(noise)]
    opened = [pair.compress(noise, False)] if where == "inside" else []
    counting.fail = True
    with pytest.raises(MemoryError):
        pair.compress(noise * 2, where == "before")
    counting.fail = False
    assert pair.inflate(payloads[0]) == noise
    following = [pair.compress(noise)]
    assert b"".join(pair.inflate_parts(opened + following)) == noise * len(opened + following)


# Messages to compress ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size", "text", "wish", "expected"),
    [
        ({}, 255, True, None, False),
        ({}, 256, True, None, True),
        ({}, 256, False, None, True),
        ({"threshold": 0}, 0, True, None, True),
        ({"text": False}, 9999, True, None, False),
        ({"text": False}, 9999, False, None, True),
        ({"binary": False}, 9999, False, None, False),
        ({"binary": False}, 9999, True, None, True),
        ({"binary": False, "text": False}, 0, True, True, True),
        ({}, 0, False, True, True),
        ({}, 9999, True, False, False),
        ({}, 9999, False, False, False),
    ],
)
def test_sender_compresses_message_according_to_options(
    wire: Wire, options: dict[str, Any], size: int, text: bool, wish: bool | None, expected: bool
) -> None:
    assert Pair(wire, **options).deflater.should_compress(size, text, wish) is expected


# References to earlier messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_messages_refer_to_earlier_ones_within_window(wire: Wire, codec: str, bits: int) -> None:
    some = random.Random(bits)
    pair = Pair(wire, f"{codec} to {codec}", bits=bits, takeover=True)
    base = some.randbytes(1 << bits)
    for _ in range(60):
        start = some.randrange(len(base))
        data = b"".join([base[start:], base[:start], b"x" * some.randrange(3)])[: some.choice([1, 40, 700, 70_000])]
        assert pair.inflate(pair.compress(data), most=some.choice([1 << 12, MOST])) == data
        if some.random() < 0.2:
            pair.drop(pair.compress(base[:500]))


def test_message_refers_to_earlier_one_with_final_block(wire: Wire) -> None:
    pair = Pair(wire, takeover=True)
    text = random.Random(2).randbytes(300)
    ended = zlib.compressobj(wbits=-15)
    assert pair.inflate(ended.compress(text) + ended.flush() + b"\x00") == text
    referring = zlib.compressobj(wbits=-15, zdict=text)
    payload = (referring.compress(text) + referring.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    assert len(payload) < 20
    assert pair.inflate(payload) == text


@pytest.mark.parametrize("size", [1, 100, 4000, 4096, 5000, 100_000])
def test_receiver_holds_only_its_window(wire: Wire, counting: CountingCodec, size: int) -> None:
    pair = Pair(wire, bits=12, takeover=True)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            pair.inflate(pair.compress(bytes(size)))
        pair.deflater.release_idle_memory()
        pair.deflater.release_idle_memory()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counting.alive == 0
    assert after - before < 4096 + 1024
