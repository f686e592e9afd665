"""Opcodes, close codes and outcomes."""

import pickle

import pytest

from streamws import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from streamws.codes import escape, is_sendable


def test_opcodes_are_those_of_the_rfc() -> None:
    assert {opcode.name: int(opcode) for opcode in Opcode} == {
        "CONTINUATION": 0,
        "TEXT": 1,
        "BINARY": 2,
        "CLOSE": 8,
        "PING": 9,
        "PONG": 10,
    }


def test_close_codes_are_those_of_the_registry() -> None:
    assert [int(code) for code in CloseCode] == [*range(1000, 1004), *range(1005, 1016)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_code_may_be_sent(code: int) -> None:
    assert is_sendable(code)


@pytest.mark.parametrize("code", [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_code_must_not_be_sent(code: int) -> None:
    assert not is_sendable(code)


@pytest.mark.parametrize(
    ("close", "text"),
    [(Close(1000), "1000"), (Close(1001, "bye"), '1001 "bye"'), (Close(CloseCode.NO_STATUS), "1005")],
)
def test_close_says_code_and_reason(close: Close, text: str) -> None:
    assert str(close) == text


ENDED = Close(1000, "done")
OTHER = Close(3000, "other")


@pytest.mark.parametrize(
    ("initiator", "received", "sent", "code", "reason"),
    [
        (Side.REMOTE, ENDED, OTHER, 1000, "done"),
        (Side.LOCAL, ENDED, OTHER, 3000, "other"),
        (Side.REMOTE, ENDED, None, 1000, "done"),
        (Side.REMOTE, None, OTHER, 3000, "other"),
        (Side.LOCAL, ENDED, None, 1000, "done"),
        (Side.LOCAL, None, OTHER, 3000, "other"),
        (Side.REMOTE, None, None, 1006, ""),
        (Side.LOCAL, None, None, 1006, ""),
        (Side.REMOTE, Close(1005), Close(1005), 1005, ""),
    ],
)
def test_outcome_has_code_and_reason_of_initiator(
    initiator: Side, received: Close | None, sent: Close | None, code: int, reason: str
) -> None:
    outcome = CloseOutcome(Cause.CLEAN, initiator, received, sent)
    assert (outcome.code, outcome.reason) == (code, reason)


@pytest.mark.parametrize("cause", Cause)
def test_outcome_is_clean_for_one_cause_only(cause: Cause) -> None:
    assert CloseOutcome(cause, Side.LOCAL, None, None).clean == (cause is Cause.CLEAN)


CUT = Close(1011)
LIMIT = Close(1008, "ping flood")


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        # A closing handshake.
        (CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1000), Close(1000)), "closed by the peer with 1000"),
        (CloseOutcome(Cause.CLEAN, Side.REMOTE, ENDED, Close(1000)), 'closed by the peer with 1000 "done"'),
        (CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000), ENDED), 'closed by this side with 1000 "done"'),
        (CloseOutcome(Cause.CLEAN, Side.LOCAL, ENDED, ENDED), 'closed by this side with 1000 "done"'),
        (CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1005), Close(1005)), "closed by the peer without a code"),
        (
            CloseOutcome(Cause.PEER_ERROR, Side.REMOTE, Close(4000, "bad token"), Close(4000)),
            'closed by the peer with 4000 "bad token"',
        ),
        (CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, OTHER, OTHER), 'closed by this side with 3000 "other"'),
        # The two sides said different things.
        (
            CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1005), ENDED),
            'closed by this side with 1000 "done", by the peer without a code',
        ),
        (
            CloseOutcome(Cause.CLEAN, Side.LOCAL, OTHER, ENDED),
            'closed by this side with 1000 "done", by the peer with 3000 "other"',
        ),
        (
            CloseOutcome(Cause.CLEAN, Side.LOCAL, Close(1000, "bye"), ENDED),
            'closed by this side with 1000 "done", by the peer with 1000 "bye"',
        ),
        # A fault of the peer, after which this side closed.
        (
            CloseOutcome(Cause.PROTOCOL_ERROR, Side.REMOTE, None, Close(1002, "RSV2 is set"), "RSV2 is set"),
            "closed by this side with 1002: the peer broke the protocol (RSV2 is set)",
        ),
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, LIMIT, LIMIT, "ping flood"),
            "closed by this side with 1008: the peer exceeded a limit (ping flood)",
        ),
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, Close(1000), LIMIT, "ping flood"),
            "closed by this side with 1008, by the peer with 1000: the peer exceeded a limit (ping flood)",
        ),
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, None, Close(1008, "x" * 123), "x" * 200),
            f"closed by this side with 1008: the peer exceeded a limit ({'x' * 200})",
        ),
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, None, None, "ping flood", LIMIT),
            "closed by this side with 1008 (could not be sent): the peer exceeded a limit (ping flood)",
        ),
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, None, Close(1003, "text expected"), "text expected"),
            "closed by this side with 1003: the peer sent the wrong type of message (text expected)",
        ),
        (
            CloseOutcome(Cause.KEEPALIVE, Side.REMOTE, None, Close(1011, "20 s"), "20 s"),
            "closed by this side with 1011: the peer did not respond (20 s)",
        ),
        # A fault of the peer, found after the connection had been closed.
        (
            CloseOutcome(Cause.LIMIT, Side.REMOTE, ENDED, Close(1000), "too large"),
            'closed by the peer with 1000 "done"; the peer exceeded a limit (too large)',
        ),
        (
            CloseOutcome(Cause.PROTOCOL_ERROR, Side.LOCAL, None, ENDED, "RSV2 is set"),
            'closed by this side with 1000 "done"; the peer broke the protocol (RSV2 is set)',
        ),
        # A fault of this side.
        (
            CloseOutcome(Cause.HANDLER_ERROR, Side.LOCAL, CUT, CUT, "the handler raised ValueError('x')"),
            "closed by this side with 1011: the handler raised ValueError('x')",
        ),
        (
            CloseOutcome(Cause.HANDLER_ERROR, Side.REMOTE, Close(1000), None, "the handler raised", Close(1000)),
            "closed by the peer with 1000; the handler raised",
        ),
        (
            CloseOutcome(Cause.LOCAL_CANCEL, Side.LOCAL, None, Close(1001), "the handler was cancelled"),
            "closed by this side with 1001; the handler was cancelled",
        ),
        (
            CloseOutcome(Cause.LOCAL_CANCEL, Side.LOCAL, None, None, "a frame was left 3 bytes short", CUT),
            "closed by this side with 1011 (could not be sent): a frame was left 3 bytes short",
        ),
        # A closing handshake that was not completed.
        (
            CloseOutcome(Cause.CLOSE_TIMEOUT, Side.LOCAL, None, Close(1001, "stopping"), "no end within 10 s"),
            'closed by this side with 1001 "stopping"; the peer did not answer (no end within 10 s)',
        ),
        (
            CloseOutcome(Cause.CLOSE_TIMEOUT, Side.REMOTE, Close(1000), None, "", Close(1000)),
            "closed by the peer with 1000; this side did not answer",
        ),
        (
            CloseOutcome(Cause.RESET, Side.LOCAL, None, Close(1000)),
            "closed by this side with 1000; connection lost before the peer answered",
        ),
        (
            CloseOutcome(Cause.RESET, Side.LOCAL, None, Close(1000), "BrokenPipeError: [Errno 32] Broken pipe"),
            "closed by this side with 1000; connection lost before the peer answered: "
            "BrokenPipeError: [Errno 32] Broken pipe",
        ),
        (
            CloseOutcome(Cause.RESET, Side.REMOTE, Close(1000), None, "", Close(1000)),
            "closed by the peer with 1000; connection lost before this side answered",
        ),
        # None at all.
        (CloseOutcome(Cause.RESET, Side.REMOTE, None, None), "connection lost without a closing handshake"),
        (
            CloseOutcome(Cause.RESET, Side.REMOTE, None, None, "ConnectionResetError: [Errno 104]"),
            "connection lost without a closing handshake: ConnectionResetError: [Errno 104]",
        ),
        (
            CloseOutcome(Cause.RESET, Side.REMOTE, None, Close(1001)),
            "connection lost without a closing handshake (this side closed with 1001)",
        ),
    ],
)
def test_outcome_says_who_closed_and_why(outcome: CloseOutcome, text: str) -> None:
    assert str(outcome) == text


@pytest.mark.parametrize("initiator", Side)
@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("sent", [None, Close(1000, "a"), Close(1011, "b\nc")])
@pytest.mark.parametrize("received", [None, Close(1000, "d"), Close(4000, "e\x1bf")])
@pytest.mark.parametrize("detail", ["", "g\nh", "b\nc"])
def test_outcome_is_one_line_and_says_nothing_twice(
    cause: Cause, initiator: Side, received: Close | None, sent: Close | None, detail: str
) -> None:
    text = str(CloseOutcome(cause, initiator, received, sent, detail))
    assert text.isprintable()
    for said in ("a", "b\nc", "d", "e\x1bf"):
        assert text.count(f'"{escape(said)}"') <= 1
    if detail:
        assert text.count(escape(detail)) == 1


def test_reason_cannot_be_taken_for_the_rest_of_the_line() -> None:
    reason = 'bye", by the peer with 1011\nINFO "'
    assert str(CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1000, reason), Close(1000))) == (
        r'closed by the peer with 1000 "bye\", by the peer with 1011\nINFO \""'
    )


def test_escape_leaves_what_is_printable() -> None:
    assert escape('{"a": "\\n é 日 👍"}') == '{"a": "\\n é 日 👍"}'
    assert escape("\ud800\ue000\U0001f468\u200d\U0001f467") == "\\ud800\\ue000\U0001f468\\u200d\U0001f467"


def test_outcome_is_a_value() -> None:
    outcome = CloseOutcome(Cause.CLEAN, Side.LOCAL, ENDED, OTHER, "detail")
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert hash(outcome) == hash(CloseOutcome(Cause.CLEAN, Side.LOCAL, ENDED, OTHER, "detail"))
    assert outcome != CloseOutcome(Cause.CLEAN, Side.REMOTE, ENDED, OTHER, "detail")
