"""Every rule about frames that a peer may break, in one chunk and byte by byte."""

from typing import Any

import pytest

from helpers.frames import frame, header, xor
from helpers.wires import Cut, Wire, feed, feed_all

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
CONTROLS = [CLOSE, PING, PONG]
EURO = "€".encode()


HEADERS: list[tuple[str, bytes, dict[str, Any]]] = [
    *(
        (f"rsv {rsv:03b} on {opcode:#x}", b"", {"opcode": opcode, "rsv": rsv})
        for rsv in range(1, 8)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    ),
    *(
        (f"rsv {rsv:03b} on a continuation", frame(TEXT, fin=False), {"opcode": CONTINUATION, "rsv": rsv})
        for rsv in (1, 2, 4)
    ),
    *(
        (f"reserved opcode {opcode:#x}, fin {fin}", b"", {"opcode": opcode, "fin": fin})
        for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)
        for fin in (True, False)
    ),
    *((f"fragmented control {opcode:#x}", b"", {"opcode": opcode, "fin": False}) for opcode in CONTROLS),
    *(
        (f"control {opcode:#x} of {length}", b"", {"opcode": opcode, "length": length})
        for opcode in CONTROLS
        for length in (126, 65535, 65536)
    ),
    ("stray continuation", b"", {"opcode": CONTINUATION}),
    ("stray continuation, not final", b"", {"opcode": CONTINUATION, "fin": False}),
    (
        "stray continuation behind a message",
        frame(TEXT, fin=False) + frame(CONTINUATION),
        {"opcode": CONTINUATION},
    ),
    *(
        (
            f"data frame {opcode:#x} inside a message, fin {fin}",
            frame(TEXT, fin=False),
            {"opcode": opcode, "fin": fin},
        )
        for opcode in (TEXT, BINARY)
        for fin in (True, False)
    ),
]


def remask(stream: bytes) -> bytes:
    """Mask the empty frames of a stream."""
    return b"".join(header(stream[i] & 0x0F, fin=stream[i] >= 0x80, masked=True) for i in range(0, len(stream), 2))


@pytest.mark.parametrize(("before", "fields"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_parser_refuses_header_by_its_first_two_bytes(
    wire: Wire, masked: bool, cut: Cut, before: bytes, fields: dict[str, Any]
) -> None:
    parser = wire.parser.Parser(masked)
    valid = feed_all(parser, remask(before) if masked else before)
    assert "Violation" not in [event[0] for event in valid]
    assert feed(parser, cut(header(masked=masked, **fields)[:2])) == [("Violation", 1002)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, *CONTROLS])
@pytest.mark.parametrize("length", [0, 5, 126, 65536])
def test_parser_refuses_mask_of_the_wrong_role(wire: Wire, masked: bool, cut: Cut, opcode: int, length: int) -> None:
    wrong = header(opcode, length, masked=not masked)[:2]
    assert feed(wire.parser.Parser(masked), cut(wrong)) == [("Violation", 1002)]


@pytest.mark.parametrize(
    ("length", "form"),
    [(0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_parser_refuses_length_that_is_not_minimal(
    wire: Wire, masked: bool, cut: Cut, opcode: int, length: int, form: int
) -> None:
    head = header(opcode, length, form=form, masked=masked)
    assert feed(wire.parser.Parser(masked), cut(head)) == [("Violation", 1002)]


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 1, (1 << 64) - 1])
def test_parser_refuses_length_with_top_bit(wire: Wire, masked: bool, cut: Cut, length: int) -> None:
    head = header(BINARY, length, masked=masked)
    assert feed(wire.parser.Parser(masked), cut(head)) == [("Violation", 1002)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_parser_accepts_close_code(wire: Wire, masked: bool, cut: Cut, code: int) -> None:
    stream = frame(CLOSE, code.to_bytes(2, "big"), masked=masked)
    assert feed(wire.parser.Parser(masked), cut(stream)) == [("CloseFrame", code, "")]


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_parser_refuses_close_code(wire: Wire, masked: bool, cut: Cut, code: int) -> None:
    stream = frame(CLOSE, code.to_bytes(2, "big"), masked=masked)
    assert feed(wire.parser.Parser(masked), cut(stream)) == [("Violation", 1002)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x03", 1002),
        (b"\x03\xe8\xff", 1007),
        (b"\x03\xe8ok\xe2\x82", 1007),
        (b"\x03\xe8\xed\xa0\x80", 1007),
    ],
)
def test_parser_refuses_close_body(wire: Wire, masked: bool, cut: Cut, body: bytes, code: int) -> None:
    stream = frame(CLOSE, body, masked=masked)
    assert feed(wire.parser.Parser(masked), cut(stream)) == [("Violation", code)]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"", b"\x80"),
        (b"a" * 200, b"\xff"),
        (b"\xc3", b"("),
        (b"", b"\xc0"),
        (b"\xe0", b"\x9f"),
        (b"\xed", b"\xa0"),
        (b"\xf0", b"\x8f"),
        (b"\xf4", b"\x90"),
        (EURO + b"\xe2\x82", b"\xe2"),
        (b"", b"\xf5"),
    ],
)
def test_parser_refuses_text_at_its_first_bad_byte(wire: Wire, masked: bool, cut: Cut, good: bytes, bad: bytes) -> None:
    head = header(TEXT, 1_000_000, masked=masked)
    payload = xor(good + bad) if masked else good + bad
    parser = wire.parser.Parser(masked)
    assert feed(parser, cut(head + payload[:-1])) == []
    assert feed_all(parser, payload[-1:]) == [("Violation", 1007)]


@pytest.mark.parametrize(
    ("fragments", "complete"),
    [
        ([b"\xe2\x82", b"("], 1),
        ([b"a", b"", b"\xff"], 2),
        ([b"\xe2", b"\x82"], 1),
        ([EURO[:1], EURO[1:2], b""], 2),
        ([b"\xf0\x9d"], 0),
        ([b"\xff"], 0),
        ([b"ok", EURO + b"\xc3"], 1),
    ],
)
def test_parser_refuses_text_across_fragments(
    wire: Wire, masked: bool, cut: Cut, fragments: list[bytes], complete: int
) -> None:
    last = len(fragments) - 1
    stream = b"".join(
        frame(CONTINUATION if i else TEXT, fragment, fin=i == last, masked=masked)
        for i, fragment in enumerate(fragments)
    )
    events = feed(wire.parser.Parser(masked), cut(stream))
    assert [event[0] for event in events] == ["DataFrame"] * complete + ["Violation"]
    assert events[-1] == ("Violation", 1007)


def test_parser_checks_each_text_from_its_beginning(wire: Wire, masked: bool, cut: Cut) -> None:
    euro = [frame(TEXT, EURO[:1], fin=False, masked=masked), frame(CONTINUATION, EURO[1:], masked=masked)]
    stream = b"".join([*euro, frame(TEXT, b"a", masked=masked), frame(TEXT, EURO, masked=masked), *euro])
    assert feed(wire.parser.Parser(masked), cut(stream)) == [
        ("DataFrame", TEXT, EURO[:1], False),
        ("DataFrame", CONTINUATION, EURO[1:], True),
        ("str", "a"),
        ("WideText", "€", 3),
        ("DataFrame", TEXT, EURO[:1], False),
        ("DataFrame", CONTINUATION, EURO[1:], True),
    ]


def test_parser_does_not_check_binary_as_text(wire: Wire, masked: bool, cut: Cut) -> None:
    stream = frame(BINARY, b"\xff", fin=False, masked=masked) + frame(CONTINUATION, b"\xc0", masked=masked)
    assert [event[2] for event in feed(wire.parser.Parser(masked), cut(stream))] == [b"\xff", b"\xc0"]


@pytest.mark.parametrize(
    "last",
    [
        frame(CLOSE, b"\x03\xe8"),
        frame(CLOSE, b"\x03"),
        frame(TEXT, b"\xff"),
        header(TEXT, 5, rsv=1),
        header(BINARY, 5, form=2),
        header(BINARY, 5, masked=True),
    ],
    ids=["close", "bad close", "bad text", "rsv", "length", "mask"],
)
def test_parser_reads_nothing_after_close_or_violation(wire: Wire, cut: Cut, last: bytes) -> None:
    parser = wire.parser.Parser(False)
    events = feed(parser, cut(frame(TEXT, b"before") + last + frame(TEXT, b"behind") + b"\xff" * 20))
    assert events[0] == ("str", "before")
    assert len(events) == 2
    assert events[1][0] in ("CloseFrame", "Violation")
    assert feed_all(parser, frame(TEXT, b"later")) == []


def test_parser_names_the_broken_rule(wire: Wire) -> None:
    for stream, words in [
        (header(TEXT, rsv=4), "reserved bit"),
        (header(11), "opcode 0xb is reserved"),
        (header(TEXT, masked=True), "masked"),
        (header(PING, fin=False), "ping frame is fragmented"),
        (header(PONG, 126), "pong frame is longer than 125 bytes"),
        (header(CONTINUATION), "no message to continue"),
        (frame(TEXT, fin=False) + frame(BINARY), "binary frame came inside a fragmented message"),
        (header(TEXT, 5, form=2), "fewest bytes"),
        (header(TEXT, 1 << 63), "highest bit"),
        (frame(CLOSE, b"1"), "body of one byte"),
        (frame(CLOSE, b"\x03\xed"), "close code 1005 must not be sent"),
        (frame(CLOSE, b"\x03\xe8\xff"), "close reason is not UTF-8"),
        (frame(TEXT, b"\xff"), "text message is not UTF-8"),
    ]:
        violation = wire.parser.Parser(False).feed(stream, len(stream))[-1]
        assert words in violation.reason
