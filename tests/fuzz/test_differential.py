"""Random streams in random chunks: both builds return the same events, however the stream is cut."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.compressing import Packer
from helpers.frames import KEY, header, xor
from helpers.wires import Plain, Wire, plain, wires

WIRES = wires()
"""Both builds; or the only one, in which case cut streams are still compared with uncut ones."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

fuzz = settings(
    max_examples=60,
    deadline=None,
    derandomize="CI" in os.environ,
)

# Streams ----------------------------------------------------------------------------------------------------

texts = st.text(max_size=12).map(str.encode) | st.sampled_from(["€𝄞é".encode() * 30, b"a" * 126])
sizes = st.integers(0, 12) | st.sampled_from([124, 125, 126, 127, 130, 65535, 65536])
binaries = st.binary(max_size=12) | sizes.map(bytes)
almost_texts = st.sampled_from(
    [
        b"\xff",
        b"\xc3",
        b"ok\xe2\x82",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xf0\x9d\x84(",
    ]
)
close_bodies = st.sampled_from(
    [
        b"",
        b"\x03\xe8",
        b"\x03\xe8bye",
        b"\x13\x87\xe2\x82\xac",
        b"\x03",
        b"\x03\xed",
        b"\x03\xe7",
        b"\x03\xe8\xff",
    ]
)


@st.composite
def controls(draw: st.DrawFn, masked: bool) -> bytes:
    """Draw a ping or a pong."""
    payload = draw(st.binary(max_size=6) | st.just(b"c" * 125))
    return encode(draw(st.sampled_from([PING, PONG])), payload, True, masked)


def encode(opcode: int, payload: bytes, fin: bool, masked: bool, rsv: int = 0) -> bytes:
    head = header(opcode, len(payload), fin=fin, masked=masked, rsv=rsv)
    return head + (mask(payload) if masked else payload)


def mask(payload: bytes) -> bytes:
    """Mask like `xor`, but fast for a payload of zeros."""
    return (KEY * (len(payload) // 4 + 1))[: len(payload)] if not any(payload) else xor(payload)


@st.composite
def messages(draw: st.DrawFn, masked: bool) -> bytes:
    """Draw a message, whole or in fragments that end anywhere, with control frames between; sometimes compressed."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    rsv = draw(st.sampled_from([0, 0, 0, 4]))
    payload = draw(texts if opcode == TEXT else binaries)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    ends = [*cuts, len(payload)]
    stream = b""
    for i, (start, end) in enumerate(zip([0, *cuts], ends, strict=True)):
        first = CONTINUATION if i else opcode
        stream += encode(first, payload[start:end], i == len(cuts), masked, 0 if i else rsv)
        if i < len(cuts) and draw(st.booleans()):
            stream += draw(controls(masked))
    return stream


@st.composite
def oddities(draw: st.DrawFn, masked: bool) -> bytes:
    """Draw a frame that breaks a rule in most cases."""
    kind = draw(st.sampled_from(["any header", "text", "close", "length", "mask", "long"]))
    if kind == "text":
        before = draw(texts)
        return encode(TEXT, before + draw(almost_texts) + draw(texts), draw(st.booleans()), masked)
    if kind == "close":
        return encode(CLOSE, draw(close_bodies), True, masked)
    if kind == "length":
        length, form = draw(st.sampled_from([(5, 2), (125, 2), (5, 8), (126, 8), (65535, 8), (1 << 63, 8)]))
        return header(draw(st.sampled_from([TEXT, BINARY])), length, form=form, masked=masked)
    if kind == "mask":
        return encode(draw(st.sampled_from([TEXT, BINARY, PING])), b"abc", True, not masked)
    if kind == "long":
        length = draw(st.sampled_from([1 << 20, 1 << 32, 1 << 62, (1 << 63) - 1]))
        return header(draw(st.sampled_from([CONTINUATION, TEXT, BINARY])), length, masked=masked)
    rsv = draw(st.sampled_from([0, 0, 0, 1, 2, 4, 7]))
    return encode(draw(st.integers(0, 15)), draw(st.binary(max_size=3)), draw(st.booleans()), masked, rsv)


@st.composite
def streams(draw: st.DrawFn, masked: bool) -> bytes:
    """Draw mostly valid frames; sometimes an invalid one, a changed byte, or an end inside a frame."""
    parts = draw(st.lists(messages(masked) | messages(masked) | controls(masked), max_size=6))
    parts += draw(st.lists(oddities(masked), max_size=1))
    parts += draw(st.lists(messages(masked) | controls(masked), max_size=2))
    stream = b"".join(parts)
    if stream and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, min(len(stream), 400) - 1))
        stream = stream[:place] + draw(st.binary(max_size=2)) + stream[place + 1 :]
    if draw(st.integers(0, 3)) == 0:
        stream = stream[: draw(st.integers(0, len(stream)))]
    return stream


@st.composite
def near_texts(draw: st.DrawFn, masked: bool) -> bytes:
    """Draw a text message in two fragments, with bytes at the boundaries of the rules of UTF-8."""
    edges = st.sampled_from([0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0])
    pair = bytes([draw(st.sampled_from(b"\xc1\xc2\xe0\xed\xf0\xf4\xf5")), draw(edges)])
    payload = draw(texts) + pair + bytes(draw(st.lists(edges, max_size=2))) + draw(texts)
    place = draw(st.integers(0, len(payload)))
    stream = encode(TEXT, payload[:place], False, masked)
    return stream + encode(CONTINUATION, payload[place:], True, masked)


def cut(stream: bytes, lengths: Sequence[int]) -> list[bytes]:
    """Cut the stream into chunks of these lengths, in rotation."""
    pieces: list[bytes] = []
    place = 0
    while place < len(stream):
        length = lengths[len(pieces) % len(lengths)]
        # After the frames' headers, long payloads continue in long chunks.
        length = length if len(pieces) < 400 else 30_000 + length
        pieces.append(stream[place : place + length])
        place += length
    return pieces


cuts = st.lists(st.integers(1, 9) | st.integers(1, 300), min_size=1, max_size=8) | st.just([1])
releases = st.lists(st.booleans(), min_size=1, max_size=8)

# What is compared -------------------------------------------------------------------------------------------


def fields(parser: Any) -> Plain:
    """Return all public attributes of a parser."""
    return (
        parser.has_control,
        parser.frame.in_message() and parser.frame.compressed,
        parser.frame.active,
        parser.frame.opcode,
        parser.frame.fin,
        parser.frame.length,
        parser.frame.missing,
        parser.frame.received,
        parser.frame.buffered(),
        parser.frame.in_data_frame(),
        parser.frame.in_message(),
        parser.frame.in_fragmented(),
    )


def under_way(parser: Any) -> Plain:
    """Return what a parser shows of the current message and frame."""
    frame = (parser.frame.opcode, parser.frame.fin, parser.frame.length, parser.frame.missing, parser.frame.buffered())
    return (
        parser.frame.active and frame,
        parser.frame.in_message() and (parser.frame.received, parser.frame.in_fragmented(), parser.frame.compressed),
    )


def with_reason(event: Any) -> Plain:
    return (*plain(event), getattr(event, "reason", None))


def payloads(events: Sequence[Plain]) -> list[Plain]:
    """Return the events, with consecutive pieces of a message joined."""
    result: list[Plain] = []
    begun: list[Any] = []  # the kind and the bytes of the current message
    for event in events:
        match event:
            case ("bytes", data):
                result.append((BINARY, data))
            case ("str", str(text)) | ("WideText", str(text), _):
                result.append((TEXT, text.encode()))
            case ("DataFrame" | "DeflatedFrame", opcode, bytes(data), fin):
                begun = begun or [opcode, b""]
                begun[1] += data
                if fin:
                    result.append(tuple(begun))
                    begun = []
            case _:
                result.append(event)
    return [*result, ("begun", *begun)] if begun and begun[1] else result


def new_parser(wire: Wire, masked: bool, deflate: bool = True) -> Any:
    """Return a parser that accepts compressed messages."""
    parser = wire.parser.Parser(masked)
    parser.deflate = deflate
    return parser


# Properties -------------------------------------------------------------------------------------------------

roles = pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])


@roles
@fuzz
@given(
    data=st.data(),
    lengths=cuts,
    release=releases,
    lend=releases,
    into=st.integers(0, 20),
    deflate=st.sampled_from([True, True, False]),
)
def test_both_builds_return_same_events_for_every_chunk(
    masked: bool,
    data: st.DataObject,
    lengths: list[int],
    release: list[bool],
    lend: list[bool],
    into: int,
    deflate: bool,
) -> None:
    pieces = cut(data.draw(streams(masked) | near_texts(masked)), lengths)
    parsers = [new_parser(wire, masked, deflate) for wire in WIRES]
    for number, piece in enumerate(pieces):
        for parser in parsers:
            parser.frame.lending = lend[number % len(lend)]
        first, *others = ([with_reason(event) for event in parser.feed(piece, len(piece))] for parser in parsers)
        assert all(other == first for other in others)
        assert len({fields(parser) for parser in parsers}) == 1
        if release[number % len(release)]:
            assert len({released_into(parser, into) for parser in parsers}) == 1
            assert len({fields(parser) for parser in parsers}) == 1
            if number % 2 and parsers[0].frame.in_message() and parsers[0].frame.compressed:
                assert len({plain(parser.frame.release_compressed()) for parser in parsers}) == 1
            assert len({parser.frame.release() for parser in parsers}) == 1
            assert len({fields(parser) for parser in parsers}) == 1
        for parser in parsers:
            parser.frame.keep()
        assert len({fields(parser) for parser in parsers}) == 1


def released_into(parser: Any, size: int) -> bytes:
    """Return what a parser puts into a buffer of this size."""
    buffer = bytearray(size)
    return bytes(buffer[: parser.frame.release_into(memoryview(buffer))])


@roles
@fuzz
@given(data=st.data(), lengths=cuts)
def test_parser_returns_same_events_however_stream_is_cut(
    wire: Wire, masked: bool, data: st.DataObject, lengths: list[int]
) -> None:
    stream = data.draw(streams(masked) | near_texts(masked))
    one, many = new_parser(wire, masked), new_parser(wire, masked)
    expected = [plain(event) for event in one.feed(stream, len(stream))]
    events = [plain(event) for piece in cut(stream, lengths) for event in many.feed(piece, len(piece))]
    assert events == expected
    if not expected or expected[-1][0] != "Violation":
        assert under_way(many) == under_way(one)


@roles
@fuzz
@given(data=st.data(), lengths=cuts, release=releases, lend=releases, into=st.integers(0, 20))
def test_parser_loses_nothing_when_payload_is_released(
    wire: Wire, masked: bool, data: st.DataObject, lengths: list[int], release: list[bool], lend: list[bool], into: int
) -> None:
    stream = b"".join(data.draw(st.lists(messages(masked) | controls(masked), min_size=1, max_size=4)))
    parser = new_parser(wire, masked)
    expected = payloads([plain(event) for event in new_parser(wire, masked).feed(stream, len(stream))])
    events: list[Plain] = []
    begun = False
    for number, piece in enumerate(cut(stream, lengths)):
        parser.frame.lending = lend[number % len(lend)]
        for event in parser.feed(piece, len(piece)):
            events.append(plain(event))
            begun = begun and not getattr(event, "fin", False)
        if release[number % len(release)]:
            opcode = CONTINUATION if begun else parser.frame.opcode
            part = released_into(parser, into) + parser.frame.release()
            if part:
                events.append(("DataFrame", opcode, part, False))
                begun = True
        parser.frame.keep()
    assert payloads(events) == expected


@st.composite
def packed_frames(draw: st.DrawFn, packer: Packer) -> list[tuple[int, bytes, bool]]:
    """Draw the frames of a compressed message, sometimes damaged: opcode, payload, and whether it is the last one."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = packer.message(draw(texts if opcode == TEXT else binaries))
    if draw(st.integers(0, 5)) == 0:
        place = draw(st.integers(0, min(len(payload), 40) - 1))
        payload = payload[:place] + draw(st.binary(max_size=2)) + payload[place + 1 :]
    places = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3))), len(payload)]
    ends = list(itertools.pairwise(places))
    return [
        (CONTINUATION if number else opcode, payload[start:end], number == len(ends) - 1)
        for number, (start, end) in enumerate(ends)
    ]


@fuzz
@given(data=st.data(), takeover=st.booleans(), bits=st.integers(9, 15))
def test_both_builds_inflate_to_same_data(data: st.DataObject, takeover: bool, bits: int) -> None:
    packer = Packer(bits, takeover)
    inflaters = [wire.deflate.Inflater(bits, takeover) for wire in WIRES]
    for _ in range(data.draw(st.integers(1, 4))):
        for frame in data.draw(packed_frames(packer)):
            drop = data.draw(st.sampled_from([None, None, None, 0, 5, 1 << 40]))
            most = data.draw(st.sampled_from([1, 2, 5, 100, 1 << 40]))
            seen = {
                inflated(wire, inflater, frame, most, drop) for wire, inflater in zip(WIRES, inflaters, strict=True)
            }
            assert len(seen) == 1
            if seen.pop()[-1] != "goes on":
                return


def inflated(wire: Wire, inflater: Any, frame: tuple[int, bytes, bool], most: int, drop: int | None) -> Plain:
    """Inflate a frame.

    :param drop: The budget for skipping the rest of the frame after its first piece; None to take the whole frame.
    :returns: The pieces, and the error if there was one.
    """
    seen: list[object] = []
    try:
        inflater.feed(wire.deflate.DeflatedFrame(*frame))
        while inflater.pending:
            if drop is not None and seen:
                seen.append(inflater.skip(None, drop))
                if inflater.pending:
                    return (*seen, "left in the middle")
                break
            seen.append(inflater.take(most))
    except wire.errors.ProtocolViolation as violation:
        return (*seen, violation.code, violation.reason)
    return (*seen, inflater.ended, "goes on")


@st.composite
def sends(draw: st.DrawFn) -> tuple[str, Any]:
    """Draw something to send: the method of a protocol, and its argument."""
    data: st.SearchStrategy[str | bytes] = st.text(max_size=20) | st.binary(max_size=20) | sizes.map(bytes)
    kind = draw(st.sampled_from(["message", "message", "fragments", "ping", "pong"]))
    if kind == "message":
        return kind, draw(data)
    if kind == "fragments":
        return kind, (
            draw(st.sampled_from([TEXT, BINARY])),
            draw(st.lists(st.text(max_size=9), min_size=1, max_size=4)),
        )
    return kind, draw(st.binary(max_size=125))


@pytest.mark.parametrize("receiving", WIRES, ids=lambda wire: f"to {wire.build}")
@pytest.mark.parametrize("sending", WIRES, ids=lambda wire: f"from {wire.build}")
@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
@settings(fuzz, max_examples=30)
@given(
    contents=st.lists(sends(), max_size=6),
    lengths=cuts,
    code=st.sampled_from([1000, 1011, 4999]),
    why=st.text(max_size=30),
)
def test_peer_receives_what_protocol_sends(
    sending: Wire,
    receiving: Wire,
    server: bool,
    contents: list[tuple[str, Any]],
    lengths: list[int],
    code: int,
    why: str,
) -> None:
    sender, receiver = sending.protocol.Protocol(server), receiving.protocol.Protocol(not server)
    sender.change(sending.protocol.Change.OPENED)
    receiver.change(receiving.protocol.Change.OPENED)
    stream = b""
    items: list[Plain] = []
    control: dict[str, list[bytes]] = {"ping": [], "pong": []}
    for kind, content in contents:
        if kind == "message":
            stream += sender.message(content)
            wide = isinstance(content, str) and not content.isascii()
            items.append(("WideText", content, len(content.encode())) if wide else (type(content).__name__, content))
        elif kind == "fragments":
            opcode, parts = content
            for i, part in enumerate(parts):
                fin = i == len(parts) - 1
                stream += sender.fragment(opcode, part, fin)
                items.append(("DataFrame", CONTINUATION if i else opcode, part.encode(), fin))
            if len(parts) == 1:  # one fragment is a whole message
                items[-1] = plain_message(opcode, parts[0])
        else:
            stream += getattr(sender, kind)(content)
            control[kind].append(content)
    stream += sender.close(code, why)
    got: list[Plain] = []
    pings: list[bytes] = []
    for piece in cut(stream, lengths):
        got += [plain(item) for item in receiver.receive(piece, len(piece))]
        pings += receiver.pings
        receiver.pings = []
        receiver.process_control()
    assert got == items
    assert {"ping": pings, "pong": receiver.pongs} == control
    assert (receiver.close_received.code, receiver.close_received.reason) == (code, why)
    sender.receive(receiver.due[-1], len(receiver.due[-1]))
    sender.process_control()
    assert sender.closed_both_ways
    assert receiver.closed_both_ways


def plain_message(opcode: int, text: str) -> Plain:
    data = text.encode()
    if opcode == BINARY:
        return ("bytes", data)
    return ("str", text) if text.isascii() else ("WideText", text, len(data))
