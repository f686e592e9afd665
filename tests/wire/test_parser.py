"""The frames that the parser returns for valid streams, and its view of the current frame."""

import tracemalloc
from typing import Any

import pytest

from helpers.frames import KEY, frame, header, xor
from helpers.wires import Cut, Plain, Wire, bytewise, feed, feed_all, plain, whole

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
SIZES = [0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 65537]
EURO = "€".encode()

# Whole messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_parser_returns_binary_message(wire: Wire, masked: bool, cut: Cut, size: int) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    parser = wire.parser.Parser(masked)
    assert feed(parser, cut(frame(BINARY, payload, masked=masked))) == [("bytes", payload)]
    assert not parser.frame.active
    assert not parser.frame.in_message()


@pytest.mark.parametrize("size", SIZES)
def test_parser_returns_ascii_message_as_str(wire: Wire, masked: bool, cut: Cut, size: int) -> None:
    text = ("0123456789~\0\x7f" * (size // 13 + 1))[:size]
    parser = wire.parser.Parser(masked)
    assert feed(parser, cut(frame(TEXT, text.encode(), masked=masked))) == [("str", text)]
    assert not parser.frame.active
    assert not parser.frame.in_message()


@pytest.mark.parametrize("text", ["é", "€" * 42, "x" * 125 + "é", "𝄞" * 20_000, "\u0080\u07ff\u0800\uffff\U0010ffff"])
def test_parser_returns_other_text_with_size_in_bytes(wire: Wire, masked: bool, cut: Cut, text: str) -> None:
    payload = text.encode()
    events = feed(wire.parser.Parser(masked), cut(frame(TEXT, payload, masked=masked)))
    assert events == [("WideText", text, len(payload))]


def test_parser_returns_all_messages_of_a_chunk(wire: Wire, masked: bool, cut: Cut) -> None:
    stream = b"".join(
        frame(opcode, payload, masked=masked)
        for opcode, payload in [(TEXT, b"a"), (BINARY, b""), (TEXT, b""), (PING, b"p"), (BINARY, b"b" * 200)]
    )
    assert feed(wire.parser.Parser(masked), cut(stream)) == [
        ("str", "a"),
        ("bytes", b""),
        ("str", ""),
        ("Ping", b"p"),
        ("bytes", b"b" * 200),
    ]


def test_parser_reads_no_bytes_after_end(wire: Wire, masked: bool) -> None:
    parser = wire.parser.Parser(masked)
    stream = frame(BINARY, b"12345", masked=masked) + frame(BINARY, b"67", masked=masked)
    first = len(stream) // 2
    events = parser.feed(stream[:first] + b"\xff" * 50, first)
    events += parser.feed(bytearray(stream[first:] + b"\xff" * 50), len(stream) - first)
    assert events == [b"12345", b"67"]
    assert parser.feed(b"\xff" * 50, 0) == []


def test_parser_keeps_no_reference_to_callers_buffer(wire: Wire, masked: bool) -> None:
    parser = wire.parser.Parser(masked)
    buffer = bytearray(64)
    events: list[Any] = []
    for piece in bytewise(frame(BINARY, b"one", masked=masked) + frame(TEXT, b"two", masked=masked)):
        buffer[: len(piece)] = piece
        events += parser.feed(buffer, len(piece))
        buffer[:] = b"\xff" * 64
    assert events == [b"one", "two"]


# Fragments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_parser_returns_fragments_as_frames(wire: Wire, masked: bool, cut: Cut, opcode: int) -> None:
    stream = (
        frame(opcode, b"one", fin=False, masked=masked)
        + frame(CONTINUATION, b"", fin=False, masked=masked)
        + frame(PING, b"between", masked=masked)
        + frame(CONTINUATION, b"2" * 70_000, fin=False, masked=masked)
        + frame(CONTINUATION, b"", masked=masked)
        + frame(TEXT, b"next", masked=masked)
    )
    parser = wire.parser.Parser(masked)
    assert feed(parser, cut(stream)) == [
        ("DataFrame", opcode, b"one", False),
        ("DataFrame", CONTINUATION, b"", False),
        ("Ping", b"between"),
        ("DataFrame", CONTINUATION, b"2" * 70_000, False),
        ("DataFrame", CONTINUATION, b"", True),
        ("str", "next"),
    ]
    assert not parser.frame.in_message()


def test_parser_accepts_text_fragments_that_end_inside_characters(wire: Wire, masked: bool, cut: Cut) -> None:
    payload = "aé€𝄞".encode()
    stream = b"".join(
        frame(CONTINUATION if i else TEXT, payload[i : i + 1], fin=i == len(payload) - 1, masked=masked)
        for i in range(len(payload))
    )
    events = feed(wire.parser.Parser(masked), cut(stream))
    assert b"".join(event[2] for event in events if isinstance(event[2], bytes)) == payload
    assert len(events) == len(payload)


# Control frames ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_parser_returns_pings_and_pongs(wire: Wire, masked: bool, cut: Cut, size: int) -> None:
    payload = bytes(range(100, 100 + size))
    stream = frame(PING, payload, masked=masked) + frame(PONG, payload, masked=masked)
    assert feed(wire.parser.Parser(masked), cut(stream)) == [("Ping", payload), ("Pong", payload)]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe8bye", 1000, "bye"),
        (b"\x0f\xa0" + EURO * 41, 4000, "€" * 41),
    ],
)
def test_parser_returns_close(wire: Wire, masked: bool, cut: Cut, body: bytes, code: int, reason: str) -> None:
    events = feed(wire.parser.Parser(masked), cut(frame(CLOSE, body, masked=masked)))
    assert events == [("CloseFrame", code, reason)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION])
def test_parser_reports_whether_events_include_control_frames(wire: Wire, masked: bool, opcode: int) -> None:
    parser = wire.parser.Parser(masked)
    begin = frame(BINARY, fin=False, masked=masked) if opcode == CONTINUATION else b""
    feed_all(parser, begin + frame(opcode, b"1", masked=masked))
    assert parser.has_control is False
    for control in (PING, PONG):
        feed_all(parser, frame(TEXT, masked=masked) + frame(control, masked=masked) + frame(TEXT, masked=masked))
        assert parser.has_control is True
        feed_all(parser, frame(TEXT, masked=masked))
        assert parser.has_control is False
    feed_all(parser, frame(CLOSE, masked=masked))
    assert parser.has_control is True
    feed_all(parser, b"more")
    assert parser.has_control is False


# The current frame ------------------------------------------------------------------------------------------


def test_parser_shows_current_frame(wire: Wire, masked: bool) -> None:
    parser = wire.parser.Parser(masked)
    head = header(BINARY, 300, masked=masked)
    assert feed_all(parser, head[:-1]) == []
    assert not parser.frame.active
    assert not parser.frame.in_message()
    feed_all(parser, head[-1:])
    assert (parser.frame.active, parser.frame.opcode, parser.frame.fin) == (True, BINARY, True)
    assert (parser.frame.length, parser.frame.missing, parser.frame.received, parser.frame.buffered()) == (
        300,
        300,
        0,
        0,
    )
    assert (parser.frame.in_data_frame(), parser.frame.in_message(), parser.frame.in_fragmented()) == (
        True,
        True,
        False,
    )
    feed_all(parser, b"x" * 100)
    assert (parser.frame.length, parser.frame.missing, parser.frame.received, parser.frame.buffered()) == (
        300,
        200,
        100,
        100,
    )
    assert len(feed_all(parser, b"x" * 200)) == 1
    assert (parser.frame.active, parser.frame.missing, parser.frame.buffered()) == (False, 0, 0)
    assert (parser.frame.in_data_frame(), parser.frame.in_message(), parser.frame.in_fragmented()) == (
        False,
        False,
        False,
    )


def test_parser_counts_received_bytes_of_fragmented_message(wire: Wire, masked: bool) -> None:
    parser = wire.parser.Parser(masked)
    feed_all(parser, header(TEXT, 10, fin=False, masked=masked))
    assert (parser.frame.in_message(), parser.frame.in_fragmented(), parser.frame.received) == (True, True, 0)
    feed_all(parser, xor(b"a" * 10) if masked else b"a" * 10)
    assert (parser.frame.active, parser.frame.in_message(), parser.frame.in_fragmented(), parser.frame.received) == (
        False,
        True,
        True,
        10,
    )
    feed_all(parser, frame(CONTINUATION, b"b" * 5, fin=False, masked=masked))
    assert parser.frame.received == 15
    ping = frame(PING, b"p" * 9, masked=masked)
    feed_all(parser, ping[:-1])
    assert (parser.frame.active, parser.frame.in_data_frame(), parser.frame.buffered()) == (True, False, 0)
    assert (parser.frame.in_message(), parser.frame.in_fragmented(), parser.frame.received) == (True, True, 15)
    feed_all(parser, ping[-1:] + header(CONTINUATION, 4, masked=masked) + (xor(b"c") if masked else b"c"))
    assert (parser.frame.active, parser.frame.fin, parser.frame.length, parser.frame.missing) == (True, True, 4, 3)
    assert (parser.frame.in_fragmented(), parser.frame.received, parser.frame.buffered()) == (True, 16, 1)
    feed_all(parser, xor(b"\0ccc")[1:] if masked else b"ccc")
    assert (parser.frame.in_message(), parser.frame.in_fragmented()) == (False, False)
    feed_all(parser, header(BINARY, 2, masked=masked))
    assert parser.frame.received == 0


def test_parser_recognizes_first_fragment_before_its_payload(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, header(BINARY, 2))
    assert not parser.frame.in_fragmented()
    feed_all(parser, b"ab" + header(BINARY, 2, fin=False))
    assert parser.frame.in_fragmented()


# Release ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 99])
def test_parser_releases_part_of_a_frame(wire: Wire, masked: bool, opcode: int, at: int) -> None:
    payload = bytes(i % 120 for i in range(100))
    sent = xor(payload) if masked else payload
    parser = wire.parser.Parser(masked)
    assert feed_all(parser, header(opcode, 100, masked=masked) + sent[:at]) == []
    assert parser.frame.release() == payload[:at]
    assert (parser.frame.buffered(), parser.frame.missing, parser.frame.received, parser.frame.length) == (
        0,
        100 - at,
        at,
        100,
    )
    assert parser.frame.release() == b""
    assert feed_all(parser, sent[at:]) == [("DataFrame", CONTINUATION, payload[at:], True)]
    assert feed_all(parser, frame(opcode, b"next", masked=masked)) == [
        ("str", "next") if opcode == TEXT else ("bytes", b"next")
    ]


@pytest.mark.parametrize("cut_at", [1, 4, 7])
def test_parser_releases_every_piece(wire: Wire, masked: bool, cut_at: int) -> None:
    payload = "€uro 𝄞".encode() * 3
    sent = xor(payload) if masked else payload
    parser = wire.parser.Parser(masked)
    feed_all(parser, header(TEXT, len(payload), fin=False, masked=masked))
    got = b""
    events: list[Plain] = []
    for i in range(0, len(sent), cut_at):
        events += feed_all(parser, sent[i : i + cut_at])
        got += parser.frame.release()
    rest = events[0][2]
    assert isinstance(rest, bytes)
    assert events == [("DataFrame", CONTINUATION, rest, False)]
    assert got + rest == payload
    assert feed_all(parser, frame(CONTINUATION, b"", masked=masked)) == [("DataFrame", CONTINUATION, b"", True)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_parser_resets_release_after_frame(wire: Wire, opcode: int) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, header(opcode, 2) + b"a")
    assert parser.frame.release() == b"a"
    assert feed_all(parser, b"b" + frame(opcode, b"c", fin=False) + frame(CONTINUATION)) == [
        ("DataFrame", CONTINUATION, b"b", True),
        ("DataFrame", opcode, b"c", False),
        ("DataFrame", CONTINUATION, b"", True),
    ]


def test_parser_keeps_opcode_of_frame_released_while_empty(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, header(BINARY, 3))
    assert parser.frame.release() == b""
    assert feed_all(parser, b"abc") == [("bytes", b"abc")]
    feed_all(parser, header(TEXT, 3, fin=False))
    assert parser.frame.release() == b""
    assert feed_all(parser, b"abc") == [("DataFrame", TEXT, b"abc", False)]


@pytest.mark.parametrize("before", [b"", frame(BINARY, b"1", fin=False)])
def test_parser_releases_nothing_of_control_frames(wire: Wire, before: bytes) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, before + frame(PING, b"ping")[:-1])
    assert parser.frame.release() == b""
    assert feed_all(parser, b"g") == [("Ping", b"ping")]


def test_parser_releases_nothing_between_frames(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    assert parser.frame.release() == b""
    feed_all(parser, frame(BINARY, b"1", fin=False) + b"\x80")
    assert parser.frame.release() == b""
    assert feed_all(parser, b"\x00") == [("DataFrame", CONTINUATION, b"", True)]


@pytest.mark.parametrize("released", [True, False])
def test_parser_checks_text_across_a_release(wire: Wire, masked: bool, released: bool) -> None:
    parser = wire.parser.Parser(masked)
    sent = b"\xe2\x82("
    feed_all(parser, header(TEXT, 9, masked=masked) + (xor(sent) if masked else sent)[:2])
    assert parser.frame.release() == (sent[:2])
    assert feed_all(parser, (xor(sent) if masked else sent)[2:]) == [("Violation", 1007)]


def test_parser_checks_end_of_released_text(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, header(TEXT, 2) + b"a")
    assert parser.frame.release() == b"a"
    assert feed_all(parser, b"\xc3") == [("Violation", 1007)]


# Lending ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[100], [1, 2, 3, 4, 90], [99], [7] * 20])
@pytest.mark.parametrize("fragment", [False, True])
def test_parser_lends_payload_from_the_callers_buffer(
    wire: Wire, masked: bool, fragment: bool, sizes: list[int]
) -> None:
    payload = bytes(i * 3 for i in range(80))
    sent = header(BINARY, 82, fin=not fragment, masked=masked) + (xor(payload + b"!?") if masked else payload + b"!?")
    parser = wire.parser.Parser(masked)
    parser.frame.lending = True
    got, left = b"", 2
    for data in (sent[:-42], sent[-42:-2]):
        buffer = bytearray(data)
        assert feed_all(parser, buffer) == []
        left += 40
        for size in sizes:
            held = parser.frame.buffered()
            assert held == left - 2 - len(got)
            target = bytearray(size)
            count = parser.frame.release_into(memoryview(target))
            assert count == min(size, held)
            got += target[:count]
            assert target[count:] == bytes(size - count)
        parser.frame.keep()
        buffer[:] = bytes(len(buffer))
        if parser.frame.buffered():
            # Bytes that were not released in time were copied; they are no longer released into a buffer.
            assert parser.frame.release_into(memoryview(bytearray(9))) == 0
            got += parser.frame.release()
    assert got == payload
    assert feed_all(parser, sent[-2:]) == [("DataFrame", CONTINUATION, b"!?", not fragment)]


@pytest.mark.parametrize("taken", [0, 1, 3, 6])
@pytest.mark.parametrize("kept", [False, True])
def test_parser_releases_lent_bytes(wire: Wire, masked: bool, taken: int, kept: bool) -> None:
    payload = b"0123456789"
    sent = header(BINARY, 10, masked=masked) + (xor(payload) if masked else payload)
    parser = wire.parser.Parser(masked)
    parser.frame.lending = True
    data = sent[:-4]  # must stay alive while the parser lends it
    assert feed_all(parser, data) == []
    target = bytearray(taken)
    assert parser.frame.release_into(memoryview(target)) == taken
    if kept:
        parser.frame.keep()
    assert target + parser.frame.release() == payload[:6]
    assert (parser.frame.buffered(), parser.frame.missing, parser.frame.received) == (0, 4, 6)
    assert feed_all(parser, sent[-4:]) == [("DataFrame", CONTINUATION, payload[6:], True)]


@pytest.mark.parametrize("kept", [False, True])
def test_parser_copies_lent_bytes_that_were_not_released(wire: Wire, masked: bool, kept: bool) -> None:
    payload = b"0123456789"
    sent = header(BINARY, 10, masked=masked) + (xor(payload) if masked else payload)
    parser = wire.parser.Parser(masked)
    parser.frame.lending = True
    buffer = bytearray(sent[:-4])
    assert feed_all(parser, buffer) == []
    parser.frame.keep()
    buffer[:] = bytes(len(buffer))
    parser.frame.lending = kept
    assert feed_all(parser, sent[-4:-2]) == []
    parser.frame.keep()
    assert feed_all(parser, sent[-2:]) == [("bytes", payload)]


@pytest.mark.parametrize("rest", [0, 1])
def test_parser_lends_no_text_control_frame_or_end_of_frame(wire: Wire, masked: bool, rest: int) -> None:
    nothing = memoryview(bytearray(9))
    for opcode, content in ((TEXT, ("str", "abcd")), (PING, ("Ping", b"abcd")), (BINARY, ("bytes", b"abcd"))):
        sent = frame(opcode, b"abcd", masked=masked)
        parser = wire.parser.Parser(masked)
        parser.frame.lending = True
        if opcode == BINARY and rest:
            continue
        cut = len(sent) - rest
        events = feed_all(parser, sent[:cut])
        assert parser.frame.release_into(nothing) == 0
        assert events + feed_all(parser, sent[cut:]) == [content]


def test_parser_lends_no_control_frame_inside_a_binary_message(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    parser.frame.lending = True
    data = frame(BINARY, b"1", fin=False) + frame(PING, b"ping")[:-2]
    assert feed_all(parser, data) == [("DataFrame", BINARY, b"1", False)]
    assert parser.frame.release_into(memoryview(bytearray(9))) == 0
    assert feed_all(parser, b"ng") == [("Ping", b"ping")]


def test_stopped_parser_lends_nothing(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    parser.frame.lending = True
    data = header(BINARY, 10) + b"abc"
    feed_all(parser, data)
    parser.stop()
    parser.frame.keep()
    assert parser.frame.buffered() == 0
    assert parser.frame.release_into(memoryview(bytearray(9))) == 0


# Bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", [1 << 20, 1 << 31, (1 << 32) + 5, 1 << 62, (1 << 63) - 1])
def test_parser_allocates_nothing_from_declared_length(wire: Wire, masked: bool, opcode: int, length: int) -> None:
    parser = wire.parser.Parser(masked)
    head = header(opcode, length, masked=masked)
    body = xor(b"x" * 1000) if masked else b"x" * 1000
    tracemalloc.start()
    try:
        assert parser.feed(head, len(head)) == []
        assert parser.feed(body, len(body)) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024
    assert (parser.frame.length, parser.frame.missing, parser.frame.received) == (length, length - 1000, 1000)
    assert parser.frame.release() == b"x" * 1000
    assert parser.frame.length == length


def test_parser_holds_a_large_frame_in_bounded_memory(wire: Wire) -> None:
    size = 1 << 20
    parser = wire.parser.Parser(False)
    piece = b"x" * 65536
    feed_all(parser, header(BINARY, 1 << 40))
    tracemalloc.start()
    try:
        for _ in range(size // len(piece)):
            assert parser.feed(piece, len(piece)) == []
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert parser.frame.buffered() == size
    assert held <= 2 * size + 65536


# Stop -------------------------------------------------------------------------------------------------------


def test_parser_stops_at_any_place(wire: Wire, masked: bool) -> None:
    stream = frame(TEXT, b"abc", fin=False, masked=masked) + frame(CONTINUATION, b"d" * 130, masked=masked)
    for place in range(len(stream) + 1):
        parser = wire.parser.Parser(masked)
        feed_all(parser, stream[:place])
        parser.stop()
        assert feed_all(parser, stream[place:]) == []
        assert feed_all(parser, b"") == []
        assert parser.frame.release() == b""
        assert parser.frame.buffered() == 0


def test_parser_keeps_current_message_when_stopped(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, frame(BINARY, b"abc", fin=False) + header(CONTINUATION, 10) + b"d")
    parser.stop()
    assert (parser.frame.active, parser.frame.in_message(), parser.frame.received, parser.frame.missing) == (
        True,
        True,
        4,
        9,
    )


def test_parser_keeps_current_message_after_violation(wire: Wire) -> None:
    parser = wire.parser.Parser(False)
    feed_all(parser, frame(TEXT, b"abc", fin=False) + header(CONTINUATION, 10) + b"d")
    assert feed_all(parser, b"\xff") == [("Violation", 1007)]
    assert (parser.frame.in_message(), parser.frame.in_fragmented(), parser.frame.buffered()) == (True, True, 0)


# Close bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "body"),
    [(1005, "", b""), (1000, "", b"\x03\xe8"), (4999, "€", b"\x13\x87\xe2\x82\xac")],
)
def test_close_body_round_trip(wire: Wire, code: int, reason: str, body: bytes) -> None:
    close = wire.codes.Close(code, reason)
    assert wire.parser.encode_close(close) == body
    assert wire.parser.parse_close(body) == close


def test_parser_returns_frame_types_of_its_own_build(wire: Wire) -> None:
    stream = frame(TEXT, b"a", fin=False)
    (event,) = wire.parser.Parser(False).feed(stream, len(stream))
    assert event == wire.frames.DataFrame(1, b"a", False)
    assert event.opcode is wire.codes.Opcode.TEXT
    assert plain(event) == ("DataFrame", 1, b"a", False)


def test_helpers_write_the_frames_of_the_rfc() -> None:
    # RFC 6455 section 5.7
    assert frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert xor(b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")
    assert header(BINARY, 256) == bytes.fromhex("827e0100")
    assert header(BINARY, 65536, masked=True) == bytes.fromhex("82ff0000000000010000") + KEY
    assert list(whole(b"ab")) == [b"ab"]
    assert b"".join(bytewise(bytes(1100))) == bytes(1100)
