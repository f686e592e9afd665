"""How a connection closes, from either end and by failures, and its outcome."""

from typing import Any

import pytest

from helpers.frames import frame, header
from helpers.wires import Wire, open_up, opened, receive, received, take_owed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL = b"\x03\xe8"

# The closing handshake --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "bye", "€" * 41])
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_protocol_begins_close_and_is_answered(wire: Wire, server: bool, code: int, reason: str) -> None:
    protocol = opened(wire, server)
    body = code.to_bytes(2, "big") + reason.encode()
    assert open_up(protocol.close(code, reason), server) == frame(CLOSE, body)
    assert protocol.state is wire.protocol.State.CLOSING
    assert not protocol.closed_both_ways
    receive(protocol, frame(CLOSE, body[:2], masked=server))
    assert protocol.closed_both_ways
    assert protocol.owed == []
    assert protocol.close_sent == wire.codes.Close(code, reason)
    assert protocol.close_received == wire.codes.Close(code)
    protocol.change(wire.protocol.Change.LOST)
    assert protocol.state is wire.protocol.State.CLOSED


@pytest.mark.parametrize(
    ("body", "answer", "code", "reason"),
    [
        (b"", b"", 1005, ""),
        (NORMAL, NORMAL, 1000, ""),
        (b"\x03\xe9going", b"\x03\xe9", 1001, "going"),
        (b"\x0f\xa0own", b"\x0f\xa0", 4000, "own"),
    ],
)
def test_protocol_answers_close_with_its_code(
    wire: Wire, server: bool, body: bytes, answer: bytes, code: int, reason: str
) -> None:
    protocol = received(wire, server, frame(CLOSE, body, masked=server))
    assert open_up(take_owed(protocol), server) == frame(CLOSE, answer)
    assert protocol.state is wire.protocol.State.CLOSING
    assert protocol.closed_both_ways
    assert protocol.close_received == wire.codes.Close(code, reason)
    assert protocol.close_sent == wire.codes.Close(code)
    assert protocol.close(1000, "") == b""


def test_protocols_close_when_their_closes_cross(wire: Wire) -> None:
    sides = {server: opened(wire, server) for server in (True, False)}
    frames = {server: side.close(1000 if server else 4000, "") for server, side in sides.items()}
    for server, side in sides.items():
        assert receive(side, frames[not server]) == []
        assert side.owed == []
        assert side.closed_both_ways
        outcome = side.outcome()
        assert (outcome.initiator, outcome.code) == ("local", 1000 if server else 4000)


def test_protocol_sends_one_close_only(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    assert protocol.close(1000, "first") != b""
    assert protocol.close(1001, "second") == b""
    assert protocol.fail(1011, "third", wire.codes.Cause.HANDLER_ERROR, wire.codes.Side.LOCAL, "") == b""
    assert protocol.close_sent == wire.codes.Close(1000, "first")


@pytest.mark.parametrize("steps", [[], ["LOST"], ["OPENED", "LOST"]])
def test_protocol_refuses_to_close_unless_open(wire: Wire, server: bool, steps: list[str]) -> None:
    protocol = wire.protocol.Protocol(server)
    for step in steps:
        protocol.change(wire.protocol.Change[step])
    assert protocol.close(1000, "") == b""
    assert protocol.fail(1011, "", wire.codes.Cause.HANDLER_ERROR, wire.codes.Side.LOCAL, "") == b""
    assert protocol.close_sent is None


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
@pytest.mark.parametrize("closed", [True, False])
def test_protocol_refuses_to_close_with_code(wire: Wire, server: bool, code: int, closed: bool) -> None:
    protocol = opened(wire, server)
    if closed:
        protocol.close(1000, "")
    with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
        protocol.close(code, "")
    assert protocol.open is not closed


@pytest.mark.parametrize("reason", ["x" * 124, "€" * 42, "é" * 61 + "xx"])
def test_protocol_refuses_to_close_with_long_reason(wire: Wire, server: bool, reason: str) -> None:
    protocol = opened(wire, server)
    with pytest.raises(ValueError, match="at most 123 bytes"):
        protocol.close(1000, reason)
    assert protocol.open
    assert open_up(protocol.close(1000, "x" * 123), server) == frame(CLOSE, NORMAL + b"x" * 123)


def test_protocol_refuses_to_close_with_lone_surrogate(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    with pytest.raises(UnicodeEncodeError):
        protocol.close(1000, "\ud800")
    assert protocol.open


def test_protocol_skips_data_after_its_close(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    receive(protocol, frame(BINARY, b"1", fin=False, masked=server))
    protocol.close(1000, "")
    stream = frame(CONTINUATION, b"2" * 70_000, masked=server) + frame(PING, b"p", masked=server)
    for piece in (stream[:30_000], stream[30_000:], frame(TEXT, b"\xc3\xa9", masked=server)):
        assert receive(protocol, piece) == []
        assert protocol.parser.buffered() == 0
    assert protocol.owed == []
    receive(protocol, frame(CLOSE, NORMAL, masked=server))
    assert protocol.closed_both_ways


# Failing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "body"),
    [
        (header(TEXT, rsv=4), 1002, b""),
        (header(CONTINUATION), 1002, b""),
        (frame(TEXT, b"\xff"), 1007, b"\xff"),
        (frame(CLOSE, b"\x03"), 1002, b"\x03"),
        (frame(CLOSE, b"\x03\xed"), 1002, b"\x03\xed"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, b"\x03\xe8\xff"),
    ],
    ids=["rsv", "continuation", "text", "close body", "close code", "close reason"],
)
def test_protocol_fails_when_peer_breaks_a_rule(wire: Wire, server: bool, data: bytes, code: int, body: bytes) -> None:
    opcode, fin, rsv = data[0] & 0x0F, data[0] >= 0x80, data[0] >> 4 & 7
    broken = frame(opcode, body, fin=fin, rsv=rsv, masked=server)
    before = frame(TEXT, b"before", masked=server)
    protocol = opened(wire, server)
    stream = before + broken + before
    assert protocol.receive(stream, len(stream)) == ["before"]
    assert (protocol.open, protocol.failed, protocol.owed) == (True, False, [])
    protocol.settle()
    assert (protocol.open, protocol.failed) == (False, True)
    sent = protocol.close_sent
    assert sent.code == code
    assert open_up(take_owed(protocol), server) == frame(CLOSE, code.to_bytes(2, "big") + sent.reason.encode())
    assert sent.reason != ""
    assert receive(protocol, before) == []
    outcome = protocol.outcome()
    assert (outcome.cause, outcome.initiator, outcome.detail) == ("protocol error", "remote", sent.reason)
    assert outcome.code == code


def test_protocol_fails_on_demand(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    codes = wire.codes
    part = header(BINARY, 500, masked=server) + b"part"
    assert receive(protocol, part) == []
    sent = protocol.fail(1009, "too big", codes.Cause.LIMIT, codes.Side.REMOTE, "500 bytes are too many")
    assert open_up(sent, server) == frame(CLOSE, b"\x03\xf1too big")
    assert (protocol.failed, protocol.open, protocol.parser.buffered()) == (True, False, 0)
    assert receive(protocol, b"x" * 1000) == []
    outcome = protocol.outcome()
    assert outcome == codes.CloseOutcome(
        codes.Cause.LIMIT, codes.Side.REMOTE, None, codes.Close(1009, "too big"), "500 bytes are too many"
    )


@pytest.mark.parametrize(
    ("reason", "cut"),
    [("x" * 123, "x" * 123), ("x" * 124, "x" * 123), ("€" * 42, "€" * 41), ("x" + "€" * 41, "x" + "€" * 40)],
)
def test_protocol_shortens_reason_of_a_failure(wire: Wire, server: bool, reason: str, cut: str) -> None:
    protocol = opened(wire, server)
    sent = protocol.fail(1008, reason, wire.codes.Cause.LIMIT, wire.codes.Side.REMOTE, reason)
    assert open_up(sent, server) == frame(CLOSE, b"\x03\xf0" + cut.encode())
    assert protocol.outcome().detail == reason


def test_protocol_sends_nothing_when_peer_breaks_a_rule_after_our_close(wire: Wire, server: bool) -> None:
    protocol = opened(wire, server)
    protocol.close(1000, "")
    receive(protocol, header(TEXT, rsv=1, masked=server))
    assert (protocol.failed, protocol.owed) == (True, [])
    outcome = protocol.outcome()
    assert (outcome.cause, outcome.initiator, outcome.code) == ("protocol error", "local", 1000)


# Outcomes ---------------------------------------------------------------------------------------------------


def close_local(protocol: Any, server: bool, code: int) -> None:
    protocol.close(code, "mine")
    receive(protocol, frame(CLOSE, code.to_bytes(2, "big"), masked=server))


def close_remote(protocol: Any, server: bool, code: int) -> None:
    receive(protocol, frame(CLOSE, code.to_bytes(2, "big") + b"theirs", masked=server))


@pytest.mark.parametrize(
    ("code", "cause"),
    [(1000, "clean"), (1001, "clean"), (1003, "error"), (1011, "error"), (3000, "error"), (4999, "error")],
)
def test_outcome_of_a_closing_handshake(wire: Wire, server: bool, code: int, cause: str) -> None:
    protocol = opened(wire, server)
    close_local(protocol, server, code)
    outcome = protocol.outcome()
    assert outcome.cause == ("clean" if cause == "clean" else "closed with error")
    assert (outcome.initiator, outcome.code, outcome.reason) == ("local", code, "mine")
    assert outcome.clean is (cause == "clean")

    protocol = opened(wire, server)
    close_remote(protocol, server, code)
    outcome = protocol.outcome()
    assert outcome.cause == ("clean" if cause == "clean" else "peer error")
    assert (outcome.initiator, outcome.code, outcome.reason) == ("remote", code, "theirs")
    assert outcome.clean is (cause == "clean")


def test_outcome_of_a_close_without_code_is_clean(wire: Wire, server: bool) -> None:
    outcome = received(wire, server, frame(CLOSE, masked=server)).outcome()
    assert (outcome.cause, outcome.initiator, outcome.code, outcome.reason) == ("clean", "remote", 1005, "")


def test_outcome_of_a_lost_connection_is_reset(wire: Wire, server: bool) -> None:
    codes = wire.codes
    protocol = opened(wire, server)
    protocol.settle_outcome(codes.Cause.RESET, codes.Side.REMOTE, "gone")
    protocol.change(wire.protocol.Change.LOST)
    assert protocol.outcome() == codes.CloseOutcome(codes.Cause.RESET, codes.Side.REMOTE, None, None, "gone")
    assert protocol.outcome().code == 1006
    assert opened(wire, server).outcome().cause == "reset"


def test_outcome_of_a_close_that_was_never_answered(wire: Wire, server: bool) -> None:
    codes = wire.codes
    protocol = opened(wire, server)
    protocol.close(1000, "")
    protocol.settle_outcome(codes.Cause.CLOSE_TIMEOUT, codes.Side.LOCAL, "10 s")
    protocol.settle_outcome(codes.Cause.RESET, codes.Side.REMOTE, "gone")
    outcome = protocol.outcome()
    assert outcome == codes.CloseOutcome(codes.Cause.CLOSE_TIMEOUT, codes.Side.LOCAL, None, codes.Close(1000), "10 s")


def test_outcome_has_the_first_cause(wire: Wire, server: bool) -> None:
    codes = wire.codes
    for cause in codes.Cause:
        for side in codes.Side:
            protocol = opened(wire, server)
            protocol.fail(1011, "", cause, side, "first")
            protocol.settle_outcome(codes.Cause.RESET, codes.Side.REMOTE, "second")
            outcome = protocol.outcome()
            assert (outcome.cause, outcome.initiator, outcome.detail) == (cause, side, "first")
            assert outcome.code == 1011


def test_outcome_stays_after_the_closing_handshake(wire: Wire, server: bool) -> None:
    codes = wire.codes
    for close in (close_local, close_remote):
        protocol = opened(wire, server)
        close(protocol, server, 1000)
        before = protocol.outcome()
        protocol.settle_outcome(codes.Cause.RESET, codes.Side.REMOTE, "gone")
        protocol.change(wire.protocol.Change.LOST)
        assert protocol.outcome() == before


def test_outcome_keeps_our_failure_when_peer_answers_it(wire: Wire, server: bool) -> None:
    codes = wire.codes
    protocol = opened(wire, server)
    close = frame(CLOSE, NORMAL, masked=server)
    protocol.receive(close, len(close))
    protocol.fail(1011, "broken", codes.Cause.HANDLER_ERROR, codes.Side.LOCAL, "ValueError")
    protocol.settle()
    assert protocol.owed == []
    outcome = protocol.outcome()
    assert (outcome.cause, outcome.initiator, outcome.code) == ("handler error", "local", 1011)
    assert outcome.received == codes.Close(1000)


def test_outcome_reads_as_a_sentence(wire: Wire) -> None:
    codes = wire.codes
    outcome = codes.CloseOutcome(
        codes.Cause.PEER_ERROR, codes.Side.REMOTE, codes.Close(4000, "why"), codes.Close(4000), "detail"
    )
    assert str(outcome) == "peer error, by the remote side (received 4000 why, sent 4000): detail"
    reset = codes.CloseOutcome(codes.Cause.RESET, codes.Side.REMOTE, None, None)
    assert str(reset) == "reset, by the remote side (no Close frame)"
    assert (reset.code, reset.reason, reset.clean) == (1006, "", False)
    cut = codes.CloseOutcome(
        codes.Cause.LOCAL_CANCEL, codes.Side.LOCAL, None, None, "detail", codes.Close(1011, "sorry")
    )
    assert str(cut) == "local cancel, by the local side (could not send 1011 sorry): detail"
    assert (cut.code, cut.reason, cut.clean) == (1011, "sorry", False)


# Inside a data frame that is sent piece by piece ----------------------------------------------------------------


def test_protocol_sends_no_close_when_it_fails_inside_a_data_frame(wire: Wire, server: bool) -> None:
    codes = wire.codes
    protocol = opened(wire, server)
    protocol.begin_frame(2, 10)
    protocol.frame_part(b"12345")
    # The peer would read the Close frame as payload, and could see a complete frame.
    assert protocol.fail(1011, "cut", codes.Cause.LOCAL_CANCEL, codes.Side.LOCAL, "cut off") == b""
    assert protocol.failed
    assert not protocol.open
    outcome = protocol.outcome()
    assert (outcome.cause, outcome.initiator, outcome.detail) == ("local cancel", "local", "cut off")
    assert (outcome.sent, outcome.withheld, outcome.code) == (None, codes.Close(1011, "cut"), 1011)


def test_protocol_counts_a_delayed_close_when_its_data_frame_is_sent(wire: Wire, server: bool) -> None:
    codes = wire.codes
    protocol = opened(wire, server)
    protocol.begin_frame(2, 10)
    assert open_up(protocol.close(1000, ""), server) == frame(CLOSE, NORMAL)
    receive(protocol, frame(CLOSE, NORMAL, masked=server))
    assert not protocol.closed_both_ways
    assert protocol.outcome().withheld == codes.Close(1000)
    protocol.frame_part(bytes(10))
    assert protocol.closed_both_ways
    outcome = protocol.outcome()
    assert (outcome.sent, outcome.withheld, outcome.cause) == (codes.Close(1000), None, "clean")
