"""States of the protocol, and the frames that it sends and accepts in each."""

from collections.abc import Callable
from typing import Any

import pytest

from helpers.frames import frame, header, xor
from helpers.wires import Wire, feed, open_up, opened, receive, received, take_owed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL = b"\x03\xe8"


# States -----------------------------------------------------------------------------------------------------

STATES = ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]
CHANGES = {
    ("CONNECTING", "OPENED"): "OPEN",
    ("CONNECTING", "LOST"): "CLOSED",
    ("OPEN", "CLOSE_SENT"): "CLOSING",
    ("OPEN", "CLOSE_RECEIVED"): "CLOSING",
    ("OPEN", "DROPPED"): "CLOSING",
    ("OPEN", "LOST"): "CLOSED",
    ("CLOSING", "CLOSE_SENT"): "CLOSING",
    ("CLOSING", "CLOSE_RECEIVED"): "CLOSING",
    ("CLOSING", "DROPPED"): "CLOSING",
    ("CLOSING", "LOST"): "CLOSED",
    ("CLOSED", "LOST"): "CLOSED",
}
WAYS: dict[str, list[str]] = {
    "CONNECTING": [],
    "OPEN": ["OPENED"],
    "CLOSING": ["OPENED", "CLOSE_SENT"],
    "CLOSED": ["LOST"],
}


@pytest.mark.parametrize("change", ["OPENED", "CLOSE_SENT", "CLOSE_RECEIVED", "DROPPED", "LOST"])
@pytest.mark.parametrize("state", STATES)
def test_protocol_changes_state_by_the_table(wire: Wire, state: str, change: str) -> None:
    changes = wire.protocol.Change
    protocol = wire.protocol.Protocol(True)
    for step in WAYS[state]:
        protocol.change(changes[step])
    assert protocol.state.name == state
    target = CHANGES.get((state, change))
    if target is None:
        with pytest.raises(KeyError):
            protocol.change(changes[change])
        target = state
    else:
        protocol.change(changes[change])
    assert protocol.state is wire.protocol.State[target]
    assert protocol.open is (target == "OPEN")


def test_protocol_table_names_every_state(wire: Wire) -> None:
    assert [state.name for state in wire.protocol.State] == STATES == list(WAYS)
    assert [state.name for state in wire.protocol.TRANSITIONS] == STATES
    assert len(CHANGES) == sum(map(len, wire.protocol.TRANSITIONS.values()))


# Sending data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_protocol_sends_message_in_one_frame(wire: Wire, server: bool, size: int) -> None:
    protocol = opened(wire, server)
    data = bytes(i & 0x7F for i in range(size))
    for message in (data, bytearray(data), memoryview(data)):
        assert open_up(protocol.message(message), server) == frame(BINARY, data)
    assert open_up(protocol.message(data.decode()), server) == frame(TEXT, data)
    assert protocol.sending == 0


def test_client_masks_every_frame_with_new_key(wire: Wire) -> None:
    protocol = opened(wire, False)
    sends: list[Callable[[], bytes]] = [
        lambda: protocol.message("abcd"),
        lambda: protocol.fragment(TEXT, "abcd", True),
        lambda: protocol.ping(b"abcd"),
        lambda: protocol.pong(b"abcd"),
    ]
    frames = [send() for send in sends * 5]
    assert len({frame[2:6] for frame in frames}) == 20
    assert all(xor(frame[6:], frame[2:6]) == b"abcd" for frame in frames)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_server_encodes_header_for_separate_payload(wire: Wire, size: int) -> None:
    for text, opcode in ((False, BINARY), (True, TEXT)):
        assert opened(wire, True).unmasked_header(bytes(size), text) == header(opcode, size)


def test_protocol_sends_large_unmasked_bytes_separately_from_header(wire: Wire) -> None:
    server, client = opened(wire, True), opened(wire, False)
    large = 16 * 1024
    assert server.is_large(bytes(large))
    assert not server.is_large(bytes(large - 1))
    for data in (bytearray(large), memoryview(bytes(large)), "x" * large):
        assert not server.is_large(data)
    assert not client.is_large(bytes(large))


@pytest.mark.parametrize("data", [None, 1, ["a"], object()])
def test_protocol_refuses_message_of_another_type(wire: Wire, server: bool, data: object) -> None:
    with pytest.raises(TypeError, match="str or bytes-like, not"):
        opened(wire, server).message(data)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("parts", [[b"one"], [b"one", b"two"], [b"", b"2", b"", b"4"], [b"", b""]])
def test_protocol_sends_fragments(wire: Wire, server: bool, opcode: int, parts: list[bytes]) -> None:
    protocol = opened(wire, server)
    last = len(parts) - 1
    for _ in range(2):
        for i, part in enumerate(parts):
            sent = protocol.fragment(opcode, part, i == last)
            assert open_up(sent, server) == frame(CONTINUATION if i else opcode, part, fin=i == last)
            assert protocol.sending == (0 if i == last else opcode)
            # Control frames may stand between fragments (RFC 6455 section 5.4).
            assert open_up(protocol.ping(b"p"), server) == frame(PING, b"p")
            assert protocol.sending == (0 if i == last else opcode)


def test_protocol_sends_fragments_with_parts_of_any_type(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    sent = [protocol.fragment(TEXT, "é", False), protocol.fragment(TEXT, b"\xc3", False)]
    sent += [protocol.fragment(BINARY, memoryview(b"\xa9"), False), protocol.fragment(CONTINUATION, "", True)]
    assert [open_up(data, server) for data in sent] == [
        frame(TEXT, b"\xc3\xa9", fin=False),
        frame(CONTINUATION, b"\xc3", fin=False),
        frame(CONTINUATION, b"\xa9", fin=False),
        frame(CONTINUATION),
    ]


@pytest.mark.parametrize("bad", ["\ud800", None])
@pytest.mark.parametrize("fin", [True, False])
def test_protocol_ignores_fragment_that_cannot_be_encoded(wire: Wire, server: bool, bad: Any, fin: bool) -> None:
    protocol = opened(wire, server)
    with pytest.raises((UnicodeEncodeError, TypeError)):
        protocol.fragment(TEXT, bad, fin)
    assert protocol.sending == 0
    assert open_up(protocol.fragment(TEXT, "a", False), server) == frame(TEXT, b"a", fin=False)
    with pytest.raises((UnicodeEncodeError, TypeError)):
        protocol.fragment(TEXT, bad, fin)
    assert protocol.sending == TEXT
    assert open_up(protocol.fragment(TEXT, "b", True), server) == frame(CONTINUATION, b"b")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, 1 << 40, (1 << 63) - 1])
def test_protocol_encodes_header_of_data_frame(wire: Wire, server: bool, opcode: int, length: int) -> None:
    protocol = opened(wire, server)
    sent = protocol.begin_frame(opcode, length)
    bare = header(opcode, length)
    assert sent[: len(bare)] == (bare if server else bytes([bare[0], bare[1] | 0x80]) + bare[2:])
    assert len(sent) == len(bare) + (0 if server else 4)
    assert protocol.unsent == length
    assert protocol.sending == 0


@pytest.mark.parametrize("sizes", [[10], [1, 2, 3, 4], [3, 0, 7], [65536, 65535, 1]])
def test_protocol_encodes_payload_of_data_frame_in_parts(wire: Wire, server: bool, sizes: list[int]) -> None:
    protocol = opened(wire, server)
    data = bytes(i * 7 & 0xFF for i in range(sum(sizes)))
    sent = protocol.begin_frame(BINARY, len(data))
    done = 0
    for size, kind in zip(sizes, [bytes, bytearray, memoryview, bytes], strict=False):
        sent += protocol.frame_part(kind(data[done : done + size]))
        done += size
        assert protocol.unsent == len(data) - done
    assert open_up(sent, server) == frame(BINARY, data)


@pytest.mark.parametrize(
    ("parts", "bad"),
    [
        ([], b"\xff"),
        ([b"\xc3"], b"a"),
        ([b"\xc3"], b"\xc3"),
        (["a", b"\xe2", b"\x82"], "b"),
        ([b"\xed"], b"\xa0"),
        (["a"], b"\xac"),
        (["\N{EURO SIGN}"], memoryview(b"\x80")),
    ],
)
@pytest.mark.parametrize("fin", [False, True])
def test_protocol_refuses_part_that_is_not_text_and_continues(
    wire: Wire, server: bool, parts: list[str | bytes], bad: Any, fin: bool
) -> None:
    protocol = opened(wire, server)
    for part in parts:
        protocol.fragment(TEXT, part, False)
    before = protocol.sending
    with pytest.raises(wire.errors.WriteError, match="UTF-8"):
        protocol.fragment(TEXT, bad, fin)
    assert protocol.sending == before
    unfinished = b"".join(part for part in parts if isinstance(part, bytes))
    rest = {b"\xc3": b"\xa9", b"\xe2\x82": b"\xac", b"\xed": b"\x9f\xbf", b"": b""}[unfinished]
    assert open_up(protocol.fragment(TEXT, rest, True), server) == frame(CONTINUATION if parts else TEXT, rest)
    assert open_up(protocol.fragment(TEXT, b"next", True), server) == frame(TEXT, b"next")


@pytest.mark.parametrize("last", [b"\xc3", b"a\xe2\x82", "", b""])
def test_protocol_refuses_end_of_text_inside_character(wire: Wire, server: bool, last: str | bytes) -> None:
    protocol = opened(wire, server)
    protocol.fragment(TEXT, "a" if last else b"\xc3", False)
    with pytest.raises(wire.errors.WriteError, match="inside a character"):
        protocol.fragment(TEXT, last, True)
    assert protocol.sending == TEXT
    protocol.fragment(TEXT, "b" if last else b"\xa9", True)
    assert protocol.sending == 0


def test_protocol_sends_any_bytes_as_binary(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    protocol.fragment(BINARY, b"\xff", False)
    assert open_up(protocol.fragment(TEXT, b"\xc3", True), server) == frame(CONTINUATION, b"\xc3")


# Control frames ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_protocol_sends_pings_and_pongs(wire: Wire, server: bool, size: int) -> None:
    protocol = opened(wire, server)
    payload = bytes(range(size))
    assert open_up(protocol.ping(payload), server) == frame(PING, payload)
    assert open_up(protocol.pong(payload), server) == frame(PONG, payload)


@pytest.mark.parametrize("size", [126, 65536])
def test_protocol_refuses_long_pings_and_pongs(wire: Wire, server: bool, size: int) -> None:
    protocol = opened(wire, server)
    for send in (protocol.ping, protocol.pong):
        with pytest.raises(ValueError, match=f"at most 125 bytes, not {size}"):
            send(bytes(size))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 500])
def test_protocol_answers_only_last_pings_of_a_burst(wire: Wire, server: bool, count: int) -> None:
    protocol = opened(wire, server)
    payloads = [b"%d" % number for number in range(count)]
    data = frame(TEXT, b"a", masked=server).join(frame(PING, payload, masked=server) for payload in payloads)
    assert protocol.receive(data, len(data)) == ["a"] * (count - 1)
    assert protocol.pings == payloads
    assert wire.protocol.MAX_PONGS == 16
    answers = [open_up(pong, server) for pong in protocol.due]
    assert answers == [frame(PONG, payload) for payload in payloads[-16:]]
    assert protocol.control == []


def test_protocol_keeps_last_pings_of_several_bursts_until_it_can_answer(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    protocol.begin_frame(BINARY, 1)
    receive(protocol, b"".join(frame(PING, b"%d" % i, masked=server) for i in range(10)))
    protocol.queue(b"\x89\0")  # our own ping, still queued
    receive(protocol, b"".join(frame(PING, b"%d" % i, masked=server) for i in range(10, 20)))
    pongs = [open_up(owed, server) for owed in protocol.due if owed != b"\x89\0"]
    assert pongs == [frame(PONG, b"%d" % i) for i in range(4, 20)]
    assert protocol.due[6] == b"\x89\0"
    assert protocol.pings == [b"%d" % i for i in range(20)]


def test_protocol_returns_pongs_after_processing_control_frames(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    data = frame(PONG, b"1", masked=server) + frame(PONG, b"2", masked=server)
    assert protocol.receive(data, len(data)) == []
    assert protocol.pongs == []
    assert len(protocol.control) == 2
    protocol.process_control()
    assert protocol.pongs == [b"1", b"2"]
    assert (protocol.control, protocol.due, protocol.open) == ([], [], True)


def test_protocol_returns_only_data_frames(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    stream = [
        frame(TEXT, b"1", masked=server),
        frame(PING, b"", masked=server),
        frame(BINARY, b"2", fin=False, masked=server),
        frame(PONG, b"", masked=server),
        frame(CONTINUATION, b"3", masked=server),
        frame(CLOSE, NORMAL, masked=server),
    ]
    data = b"".join(stream)
    items = protocol.receive(data, len(data))
    frames = wire.frames
    assert items == ["1", frames.DataFrame(BINARY, b"2", False), frames.DataFrame(CONTINUATION, b"3", True)]
    assert protocol.open
    assert protocol.close_received is None
    protocol.process_control()
    assert not protocol.open
    assert protocol.close_received == wire.codes.Close(1000)


def test_protocol_sends_between_receiving_and_processing_close(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    data = frame(PING, b"p", masked=server) + frame(CLOSE, NORMAL, masked=server)
    protocol.receive(data, len(data))
    assert protocol.open
    assert open_up(protocol.message("still"), server) == frame(TEXT, b"still")
    protocol.process_control()
    assert open_up(take_owed(protocol), server) == frame(PONG, b"p") + frame(CLOSE, NORMAL)


@pytest.mark.parametrize("server_role", [True, False])
def test_protocol_fails_on_frames_of_its_own_role(wire: Wire, server_role: bool) -> None:
    protocol = received(wire, server_role, frame(TEXT, b"a", masked=not server_role))
    assert protocol.failed
    assert protocol.close_sent.code == 1002


def test_protocol_reads_frames_cut_anywhere(wire: Wire, server: bool) -> None:
    stream = frame(TEXT, b"a", masked=server) + frame(CLOSE, NORMAL, masked=server)
    for cut in range(len(stream) + 1):
        protocol = opened(wire, server)
        assert receive(protocol, stream[:cut]) + receive(protocol, stream[cut:]) == ["a"]
        assert protocol.closed_both_ways
    assert feed(wire.parser.Parser(server), [stream])[1] == ("CloseFrame", 1000, "")
