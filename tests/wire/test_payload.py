"""The two implementations of payload bytes, masking keys and encoding."""

import array
import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.frames import KEY, header, xor
from helpers.wires import Wire

KEYS = [0, 1, 0x80, 0x12345678, 0x80000000, 0x80FF7F01, 0xFFFFFFFF]
EDGES = [*range(42), 63, 64, 65, 126, 127, 128, 129, 135, 136, 2047, 2048, 2049, 65536]


def order(key: int) -> bytes:
    return key.to_bytes(4, "little")


# Masking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_unmask_equals_xor_byte_for_byte(wire: Wire, key: int, kind: type[bytes] | type[bytearray]) -> None:
    source = bytes(i * 7 & 0xFF for i in range(65536 + 8))
    for size in EDGES:
        for start in (0, 1, 2, 3, 5, 8):
            part = source[start : start + size]
            result = wire.payload.unmask(kind(source), start, start + size, key)
            assert type(result) is bytes
            assert result == xor(part, order(key))


@pytest.mark.parametrize("key", KEYS)
def test_unmask_into_fills_start_of_buffer(wire: Wire, key: int) -> None:
    data = bytes(range(200))
    for start, end in ((0, 200), (3, 150), (7, 7)):
        for kind in (bytes, bytearray):
            target = bytearray(b"-" * 210)
            wire.payload.unmask_into(memoryview(target)[5:], kind(data), start, end, key)
            expected = wire.payload.unmask(data, start, end, key)
            assert target == b"-----" + expected + b"-" * (205 - len(expected))


def test_unmask_into_refuses_a_buffer_that_is_too_small(wire: Wire) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each build words it differently
        wire.payload.unmask_into(memoryview(bytearray(3)), b"abcd", 0, 4, 0)


@pytest.mark.parametrize("key", KEYS)
def test_rotate_key_follows_the_payload(wire: Wire, key: int) -> None:
    for offset in [*range(9), 65535, 65536, (1 << 32) + 3, (1 << 62) + 1, (1 << 63) - 1]:
        turn = offset % 4
        rotated = wire.payload.rotate_key(key, offset)
        assert order(rotated) == order(key)[turn:] + order(key)[:turn]


# Text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_unmask_text_returns_ascii_as_str(wire: Wire, key: int) -> None:
    for size in EDGES:
        text = ("\0 ~\x7f" * (size // 4 + 1))[:size]
        data = b"??" + xor(text.encode(), order(key)) + b"\xff"
        result = wire.payload.unmask_text(data, 2, 2 + size, key)
        assert type(result) is str
        assert result == text


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 16, 40, 127, 128, 129, 136, 140])
def test_unmask_text_detects_other_text_at_every_offset(wire: Wire, key: int, size: int) -> None:
    for place in range(size - 1):
        payload = b"a" * place + "é".encode() + b"b" * (size - place - 2)
        result = wire.payload.unmask_text(xor(payload, order(key)), 0, size, key)
        assert type(result) is wire.payload.WideText
        assert (result.text, result.size) == (payload.decode(), size)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("bad", [b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_unmask_text_raises_same_error_as_decoder(wire: Wire, key: int, bad: bytes) -> None:
    for payload in (bad, b"a" * 20 + bad, bad + b"z", b"b" * 200 + bad + b"c" * 200):
        with pytest.raises(UnicodeDecodeError) as expected:
            payload.decode()
        with pytest.raises(UnicodeDecodeError) as raised:
            wire.payload.unmask_text(xor(payload, order(key)), 0, len(payload), key)
        assert raised.value.args == expected.value.args


def characters() -> Iterator[bytes]:
    """Yield the bytes of every character; outside the BMP one in 64, because there the last byte does not matter."""
    for code in [*range(0x80, 0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 64)]:
        yield chr(code).encode()


BEGINNINGS = frozenset(character[:size] for character in characters() for size in range(1, len(character)))
"""All byte sequences that start a character and do not complete it."""


def feed_check(check: Any, data: bytes) -> bool:
    return bool(check.feed(data, 0, len(data)))


def test_utf8_check_judges_every_pair_of_bytes_like_decoder(wire: Wire) -> None:
    check = wire.payload.Utf8Check()
    for first in range(0x80, 0x100):
        begins = bytes([first]) in BEGINNINGS
        assert feed_check(check, bytes([first])) is begins
        assert check.complete() is False
        for second in range(0x100) if begins else ():
            pair = bytes([first, second])
            good = pair in BEGINNINGS or (first < 0xE0 and 0x80 <= second <= 0xBF)
            for pieces in ([pair], [pair[:1], pair[1:]]):
                answers = [feed_check(check, piece) for piece in pieces]
                assert answers == [True] * (len(pieces) - 1) + [good], pair
                assert check.complete() is (good and first < 0xE0)


@pytest.mark.parametrize("third", [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF])
def test_utf8_check_judges_third_byte_like_decoder(wire: Wire, third: int) -> None:
    check = wire.payload.Utf8Check()
    good = 0x80 <= third <= 0xBF
    for pair in [beginning for beginning in BEGINNINGS if len(beginning) == 2]:
        assert feed_check(check, pair)
        assert feed_check(check, bytes([third])) is good
        assert check.complete() is (good and pair[0] < 0xF0)


SEQUENCES = [
    b"a",
    *(chr(code).encode() for code in (0x80, 0x7FF, 0x800, 0xFFF, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF)),
    "mixed é€𝄞 text".encode(),
    b"\xc0\x80",  # overlong
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",  # surrogates
    b"\xed\xbf\xbf",
    b"\xed\xa0\xb4\xed\xb4\x9e",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\x80",
    b"\xbf",
    b"\xc3(",
    b"\xe2\x82(",
    b"\xe2(\xa1",
    b"\xf0\x9d\x84(",
    b"\xf0\x9d\xc2\x80",
]


@pytest.mark.parametrize("before", [b"", b"plain", "€".encode(), b"x" * 63])
@pytest.mark.parametrize("sequence", SEQUENCES, ids=bytes.hex)
def test_utf8_check_fails_at_the_first_bad_byte(wire: Wire, before: bytes, sequence: bytes) -> None:
    for cut in range(len(sequence) + 1):
        check = wire.payload.Utf8Check()
        text = before + sequence[:cut]
        answer = feed_check(check, text)
        bytewise = wire.payload.Utf8Check()
        assert all(feed_check(bytewise, bytes([byte])) for byte in text) is answer
        whole = text.decode(errors="ignore").encode()  # the valid UTF-8, unless bytes in the middle are invalid
        rest = text[len(whole) :]
        assert answer is (text.startswith(whole) and (rest == b"" or rest in BEGINNINGS))
        assert check.complete() is (rest == b"")


@pytest.mark.parametrize("bad", [b"\xff", b"a\xc3(", b"\xed\xa0", b"\x80"])
def test_utf8_check_stays_failed_until_next_text(wire: Wire, bad: bytes) -> None:
    check = wire.payload.Utf8Check()
    assert not feed_check(check, bad)
    assert not feed_check(check, b"good")
    assert not feed_check(check, b"")
    assert check.complete() is False
    assert feed_check(check, b"good")
    assert check.complete() is True


@pytest.mark.parametrize("before", [b"", b"a", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xff"])
def test_copied_utf8_check_is_independent(wire: Wire, before: bytes) -> None:
    check = wire.payload.Utf8Check()
    good = check.feed(before, 0, len(before))
    copy = check.copy()
    assert copy.feed(b"\xff", 0, 1) is False
    rest = {b"\xc3": b"\xa9", b"\xe2\x82": b"\xac", b"\xf0\x9f": b"\x98\x80"}.get(before, b"")
    other = check.copy()
    for one in (check, other):
        assert one.feed(rest, 0, len(rest)) is good
        assert one.complete() is good


def test_utf8_check_reads_only_given_range_of_data(wire: Wire) -> None:
    for kind in (bytes, bytearray):
        check = wire.payload.Utf8Check()
        assert check.feed(kind(b"\xff\xe2\x82\xff"), 1, 3)
        assert check.feed(kind(b"\xff\xac\xff"), 1, 2)
        assert check.complete() is True


# Payloads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[0], [1], [5, 0, 1], [1] * 300, [100, 1000, 10_000], [4096] * 20])
def test_payload_joins_chunks(wire: Wire, sizes: list[int]) -> None:
    payload = wire.payload.Payload()
    data = bytes(i * 3 & 0xFF for i in range(sum(sizes)))
    masked = b"!" + xor(data) + b"!"
    key = int.from_bytes(KEY, "little")
    place = 0
    for size in sizes:
        payload.append(masked, place + 1, place + 1 + size, wire.payload.rotate_key(key, place), sum(sizes) + 9)
        place += size
        assert payload.size == place
    taken = payload.take()
    assert type(taken) is bytes
    assert taken == data
    assert payload.size == 0


def test_payload_is_empty_after_take(wire: Wire) -> None:
    payload = wire.payload.Payload()
    assert payload.take() == b""
    payload.append(b"first", 0, 5, 0, 5)
    first = payload.take()
    assert payload.take() == b""
    payload.append(b"second", 0, 6, 0, 100)
    assert payload.take() == b"second"
    assert first == b"first"


@pytest.mark.parametrize("expected", [1000, 1 << 40, 1 << 62, (1 << 63) - 1])
def test_payload_allocates_at_most_twice_received_bytes(wire: Wire, expected: int) -> None:
    payload = wire.payload.Payload()
    piece = b"x" * 1000
    tracemalloc.start()
    try:
        for count in range(1, 65):
            payload.append(piece, 0, 1000, 0, max(expected, 1000 * count))
            assert tracemalloc.get_traced_memory()[0] <= 2000 * count + 4096
    finally:
        tracemalloc.stop()
    assert payload.take() == piece * 64


def test_payload_checks_text_as_it_arrives(wire: Wire) -> None:
    payload = wire.payload.Payload()
    check = wire.payload.Utf8Check()
    assert payload.check_text(check, 0)
    payload.append(b"a\xe2\x82", 0, 3, 0, 9)
    assert payload.check_text(check, 0)
    payload.append(b"\xac\xc3", 0, 2, 0, 9)
    assert payload.check_text(check, 3)
    payload.append(b"(", 0, 1, 0, 9)
    assert not payload.check_text(check, 5)


# Masking keys -----------------------------------------------------------------------------------------------


def test_mask_keys_use_all_bytes_of_source_except_zero(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        assert size % 4 == 0
        words = [0, 0x01020304, 0, 0xFFFFFFFF, len(drawn)]
        drawn.append(b"".join(order(words[i % 5]) for i in range(size // 4)))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", draw)
    keys = wire.payload.MaskKeys()
    assert not drawn
    given = [keys.next() for _ in range(2000)]
    source = b"".join(drawn)
    words = [int.from_bytes(source[i : i + 4], "little") for i in range(0, len(source), 4)]
    assert given == [word for word in words if word][:2000]
    assert len(drawn) > 1


def test_mask_keys_are_evenly_distributed(wire: Wire) -> None:
    mask_keys = wire.payload.MaskKeys()
    keys = [mask_keys.next() for _ in range(4000)]
    assert all(0 < key < 1 << 32 for key in keys)
    assert len(set(keys)) > 3995  # by chance, one run in five hundred has a repeated key
    for bit in range(32):
        assert 1600 < sum(key >> bit & 1 for key in keys) < 2400


def test_mask_keys_of_two_connections_differ(wire: Wire) -> None:
    one, other = wire.payload.MaskKeys(), wire.payload.MaskKeys()
    assert [one.next() for _ in range(8)] != [other.next() for _ in range(8)]


# Encoding ---------------------------------------------------------------------------------------------------

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 63) - 1]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("opcode", "fin"), [(0, False), (0, True), (1, False), (2, True), (10, True)])
@pytest.mark.parametrize("masked", [True, False])
def test_encode_header(wire: Wire, length: int, opcode: int, fin: bool, masked: bool) -> None:
    first = opcode | (0x80 if fin else 0)
    key = int.from_bytes(KEY, "little") if masked else 0
    encoded = wire.payload.encode_header(first, length, key)
    assert encoded == header(opcode, length, fin=fin, masked=masked)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 125, 126, 127, 128, 65535, 65536])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_encode_frame_of_bytes(
    wire: Wire, size: int, masked: bool, kind: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    data = bytes(i * 5 & 0xFF for i in range(size))
    key = int.from_bytes(KEY, "little") if masked else 0
    encoded = wire.payload.encode_frame(0x82, kind(data), key)
    assert type(encoded) is bytes
    assert encoded == header(2, size, masked=masked) + (xor(data) if masked else data)


@pytest.mark.parametrize("text", ["", "a", "x" * 125, "x" * 126, "é" * 63, "€" * 30_000, "𝄞", "\0\x7f\x80"])
@pytest.mark.parametrize("masked", [True, False])
def test_encode_frame_of_text(wire: Wire, text: str, masked: bool) -> None:
    data = text.encode()
    key = int.from_bytes(KEY, "little") if masked else 0
    encoded = wire.payload.encode_frame(0x81, text, key)
    assert encoded == header(1, len(data), masked=masked) + (xor(data) if masked else data)


class Text(str):
    """A subclass of `str`."""

    __slots__ = ()


class Data(bytes):
    """A subclass of `bytes`."""

    __slots__ = ()


NUMBERS = array.array("I", range(60))
SQUARE = memoryview(bytes(range(36))).cast("B", (6, 6))
VIEWS: dict[str, Any] = {
    "reversed": memoryview(bytes(range(100)))[::-1],
    "every third": memoryview(bytes(range(100)))[::3],
    "middle": memoryview(bytearray(range(100)))[10:90],
    "of numbers": memoryview(NUMBERS),
    "of numbers, every other": memoryview(NUMBERS)[::2],
    "of doubles": memoryview(array.array("d", [1.5, -2.25])),
    "of signed chars": memoryview(array.array("b", [-1, 0, 1])),
    "of characters": memoryview(b"abc").cast("c"),
    "of two dimensions": SQUARE,
    "of no dimension": memoryview(b"1234").cast("I", ()),
    "empty": memoryview(b""),
    "empty slice": memoryview(bytes(9))[5:5],
    "cast": memoryview(NUMBERS).cast("B"),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("masked", [True, False])
def test_encode_frame_of_any_memoryview(wire: Wire, name: str, masked: bool) -> None:
    view = VIEWS[name]
    data = view.tobytes()
    key = int.from_bytes(KEY, "little") if masked else 0
    encoded = wire.payload.encode_frame(0x82, view, key)
    assert encoded == header(2, len(data), masked=masked) + (xor(data) if masked else data)


@pytest.mark.parametrize("key", [0, 0x01020304])
def test_encode_frame_accepts_subclasses(wire: Wire, key: int) -> None:
    encode = wire.payload.encode_frame
    assert encode(0x81, Text("aé"), key) == encode(0x81, "aé", key)
    assert encode(0x82, Data(b"abc"), key) == encode(0x82, b"abc", key)


@pytest.mark.parametrize("key", [0, 0x01020304])
@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud834\udd1e"])
def test_encode_frame_refuses_lone_surrogates(wire: Wire, key: int, text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        wire.payload.encode_frame(0x81, text, key)


@pytest.mark.parametrize("key", [0, 0x01020304])
@pytest.mark.parametrize("data", [None, 5, 1.5, object()])
def test_encode_frame_refuses_other_types(wire: Wire, key: int, data: object) -> None:
    with pytest.raises(TypeError):
        wire.payload.encode_frame(0x82, data, key)


def test_encode_frame_releases_buffer_of_data(wire: Wire) -> None:
    data = bytearray(b"abc")
    frame = wire.payload.encode_frame(0x82, data, 0)
    data += b"d"  # a bytearray cannot grow while a view of it exists
    data[0] = 0
    assert frame == b"\x82\x03abc"


def test_encode_frame_refuses_released_view(wire: Wire) -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        wire.payload.encode_frame(0x82, view, 0)
