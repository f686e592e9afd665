"""The exception tree, messages, and pickling."""

import copy
import inspect
import pickle

import pytest

import streamws
from streamws import (
    Cause,
    Close,
    CloseOutcome,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeError,
    IncompleteMessage,
    InvalidHeader,
    ProtocolViolation,
    ReadError,
    Side,
    StaleReader,
    StreamwsError,
    UsageError,
    WriteError,
    errors,
)
from streamws.errors import HandshakeRefused

OUTCOME = CloseOutcome(Cause.RESET, Side.REMOTE, None, Close(1001, "bye"), "detail")
RESET = "reset, by the remote side (sent 1001 bye): detail"

TREE: dict[type[BaseException], type[BaseException]] = {
    StreamwsError: Exception,
    ConnectionClosed: StreamwsError,
    ConnectionClosedError: ConnectionClosed,
    IncompleteMessage: ConnectionClosedError,
    ReadError: StreamwsError,
    ConcurrencyError: ReadError,
    StaleReader: ReadError,
    WriteError: StreamwsError,
    ProtocolViolation: StreamwsError,
    HandshakeError: StreamwsError,
    HandshakeRefused: HandshakeError,
    InvalidHeader: StreamwsError,
    UsageError: StreamwsError,
}

EXAMPLES: list[tuple[StreamwsError, str]] = [
    (StreamwsError("said"), "said"),
    (ConnectionClosed(OUTCOME), RESET),
    (ConnectionClosedError(OUTCOME), RESET),
    (
        IncompleteMessage(OUTCOME, 3, 5),
        f"message of 3 bytes so far lacks 5 bytes of a frame: {RESET}",
    ),
    (
        IncompleteMessage(OUTCOME, 3, None),
        f"message of 3 bytes so far lacks its last frame: {RESET}",
    ),
    (ReadError("said"), "said"),
    (ConcurrencyError("said"), "said"),
    (StaleReader("said"), "said"),
    (WriteError("said"), "said"),
    (ProtocolViolation("said", 1007), "said"),
    (HandshakeError("said"), "said"),
    (HandshakeRefused(426, "said", (("Upgrade", "websocket"),)), "426: said"),
    (InvalidHeader("said"), "said"),
    (UsageError("said"), "said"),
]


def test_errors_form_the_tree() -> None:
    found = {
        value: value.__bases__[0]
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert found == TREE


def test_tree_is_drawn_in_the_docstring() -> None:
    drawing = [
        line for line in inspect.cleandoc(errors.__doc__ or "").splitlines() if "──" in line or "StreamwsError" in line
    ]
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in drawing:
        start = next(place for place, sign in enumerate(line) if sign.isalpha())
        depth = start // 4
        path[depth:] = [line[start:].split()[0]]
        drawn[path[-1]] = path[-2] if depth else "Exception"
    assert drawn == {kind.__name__: base.__name__ for kind, base in TREE.items()}


def test_errors_are_public() -> None:
    assert set(errors.__all__) == {kind.__name__ for kind in TREE}
    assert set(errors.__all__) - set(streamws.__all__) == {"HandshakeRefused"}


def test_errors_that_are_builtin_ones_too() -> None:
    assert issubclass(InvalidHeader, ValueError)
    assert issubclass(UsageError, RuntimeError)


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_error_says(error: StreamwsError, message: str) -> None:
    assert str(error) == message


def test_every_error_has_an_example() -> None:
    assert {type(error) for error, _ in EXAMPLES} == set(TREE)


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_error_can_be_pickled(error: StreamwsError, protocol: int) -> None:
    error.__notes__ = ["a note"]
    other = pickle.loads(pickle.dumps(error, protocol))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    assert other.args == error.args


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda error: type(error).__name__)
def test_error_can_be_copied(error: StreamwsError) -> None:
    other = copy.copy(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_protocol_violation_is_1002_unless_said_otherwise() -> None:
    assert ProtocolViolation("said").code == 1002


def test_incomplete_message_tells_of_what_came() -> None:
    error = IncompleteMessage(OUTCOME, 3, 5)
    assert (error.outcome, error.received, error.missing) == (OUTCOME, 3, 5)
