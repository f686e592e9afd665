"""Opcodes, close codes and outcomes."""

import pickle

import pytest

from streamws import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from streamws.codes import is_sendable


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
    [(Close(1000), "1000"), (Close(1001, "bye"), "1001 bye"), (Close(CloseCode.NO_STATUS), "1005")],
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


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (
            CloseOutcome(Cause.CLEAN, Side.REMOTE, ENDED, Close(1000)),
            "clean, by the remote side (received 1000 done, sent 1000)",
        ),
        (CloseOutcome(Cause.RESET, Side.REMOTE, None, None), "reset, by the remote side (no Close frame)"),
        (
            CloseOutcome(Cause.PROTOCOL_ERROR, Side.REMOTE, None, Close(1002), "a rule"),
            "protocol error, by the remote side (sent 1002): a rule",
        ),
        (
            CloseOutcome(Cause.CLOSE_TIMEOUT, Side.LOCAL, None, Close(1000), "no end within 10 s"),
            "close timeout, by the local side (sent 1000): no end within 10 s",
        ),
    ],
)
def test_outcome_says_initiator_and_cause(outcome: CloseOutcome, text: str) -> None:
    assert str(outcome) == text


def test_outcome_is_a_value() -> None:
    outcome = CloseOutcome(Cause.CLEAN, Side.LOCAL, ENDED, OTHER, "detail")
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert hash(outcome) == hash(CloseOutcome(Cause.CLEAN, Side.LOCAL, ENDED, OTHER, "detail"))
    assert outcome != CloseOutcome(Cause.CLEAN, Side.REMOTE, ENDED, OTHER, "detail")
