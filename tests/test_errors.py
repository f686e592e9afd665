"""The exception tree, messages, and pickling."""

import copy
import inspect
import pickle

import pytest

import streamws
from streamws import (
    BrokerError,
    BrokerUnavailable,
    Cause,
    Close,
    CloseOutcome,
    ConcurrencyError,
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectTimeout,
    DecodeError,
    EncodeError,
    HandshakeError,
    HandshakeRefused,
    Headers,
    IncompleteMessage,
    InvalidHandshake,
    InvalidHeader,
    InvalidURL,
    LimitExceeded,
    MissingExtra,
    ProtocolViolation,
    ProxyError,
    PublishTimeout,
    ReadError,
    ReconnectError,
    RedirectError,
    Side,
    StaleReader,
    StreamwsError,
    UsageError,
    WriteError,
    errors,
)

OUTCOME = CloseOutcome(Cause.RESET, Side.REMOTE, None, Close(1001, "bye"), "detail")
RESET = 'connection lost without a closing handshake (this side closed with 1001 "bye"): detail'

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
    InvalidHandshake: HandshakeError,
    RedirectError: HandshakeError,
    ConnectError: StreamwsError,
    ProxyError: ConnectError,
    ConnectTimeout: StreamwsError,
    ReconnectError: StreamwsError,
    InvalidURL: StreamwsError,
    InvalidHeader: StreamwsError,
    DecodeError: StreamwsError,
    EncodeError: StreamwsError,
    BrokerError: StreamwsError,
    BrokerUnavailable: BrokerError,
    PublishTimeout: BrokerError,
    LimitExceeded: StreamwsError,
    MissingExtra: StreamwsError,
    UsageError: StreamwsError,
}

EXAMPLES: list[tuple[StreamwsError, str]] = [
    (StreamwsError("said"), "said"),
    (ConnectionClosed(OUTCOME), RESET),
    (ConnectionClosedError(OUTCOME), RESET),
    (
        IncompleteMessage(OUTCOME, 3, 5),
        f"connection ended 3 bytes into a message; at least 5 more bytes were expected: {RESET}",
    ),
    (
        IncompleteMessage(OUTCOME, 3, None),
        f"connection ended 3 bytes into a message; another fragment was expected: {RESET}",
    ),
    (
        IncompleteMessage(OUTCOME, 1, 1),
        f"connection ended 1 byte into a message; at least 1 more byte was expected: {RESET}",
    ),
    (ReadError("said"), "said"),
    (ConcurrencyError("said"), "said"),
    (StaleReader("said"), "said"),
    (WriteError("said"), "said"),
    (ProtocolViolation("said", 1007), "said"),
    (HandshakeError("said"), "said"),
    (HandshakeRefused(426, "said", (("Upgrade", "websocket"),)), "426: said"),
    (HandshakeRefused(401, "said", Headers({"Retry-After": "1"}), b"body", "Unauthorized"), "401 Unauthorized: said"),
    (InvalidHandshake("said", 101, Headers({"Upgrade": "h2c"}), b"body"), "said"),
    (RedirectError("said", 302, Headers({"Location": "/"}), b"body"), "said"),
    (ConnectError("said"), "said"),
    (ProxyError("said", 407, b"body"), "said"),
    (ConnectTimeout("said"), "said"),
    (ReconnectError([]), "gave up after 0 failed attempts: "),
    (InvalidURL("said"), "said"),
    (InvalidHeader("said"), "said"),
    (DecodeError("said", OUTCOME), "cannot decode the message: said"),
    (EncodeError("said"), "said"),
    (BrokerError("said"), "said"),
    (BrokerUnavailable("said"), "said"),
    (PublishTimeout("said"), "said"),
    (LimitExceeded("said"), "said"),
    (MissingExtra("said"), "said"),
    (UsageError("said"), "said"),
]


def test_errors_form_the_tree() -> None:
    found = {
        value: value.__bases__[0]
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert found == TREE


def test_docstring_shows_the_tree() -> None:
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
    assert set(errors.__all__) <= set(streamws.__all__)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (DecodeError, ValueError),
        (EncodeError, ValueError),
        (InvalidHeader, ValueError),
        (InvalidURL, ValueError),
        (MissingExtra, ImportError),
        (PublishTimeout, TimeoutError),
        (UsageError, RuntimeError),
        (ConnectError, OSError),
        (ProxyError, OSError),
        (ConnectTimeout, TimeoutError),
    ],
)
def test_errors_inherit_from_builtin_errors(kind: type[StreamwsError], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


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


def test_protocol_violation_has_1002_by_default() -> None:
    assert ProtocolViolation("said").code == 1002


def test_incomplete_message_says_how_much_was_received() -> None:
    error = IncompleteMessage(OUTCOME, 3, 5)
    assert (error.outcome, error.received, error.missing) == (OUTCOME, 3, 5)


def test_handshake_error_has_the_response() -> None:
    headers = Headers({"Retry-After": "1"})
    refusal = HandshakeRefused(401, "said", headers, b"body", "Unauthorized")
    assert (refusal.status, refusal.reason, refusal.body, refusal.phrase) == (401, "said", b"body", "Unauthorized")
    for error in (refusal, InvalidHandshake("said", 101, headers), pickle.loads(pickle.dumps(refusal))):
        assert error.headers["retry-after"] == error.headers["Retry-After"] == "1"


def test_handshake_error_without_a_response_has_no_fields() -> None:
    error = InvalidHandshake("said")
    assert (error.status, dict(error.headers), error.body) == (None, {}, b"")


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "gave up after 1 failed attempt: ConnectError: 0"),
        (3, "gave up after 3 failed attempts: ConnectError: 0; ConnectError: 1; ConnectError: 2"),
        (5, "gave up after 5 failed attempts: ..., ConnectError: 2; ConnectError: 3; ConnectError: 4"),
    ],
)
def test_reconnect_error_has_all_attempts_and_shows_the_last(count: int, message: str) -> None:
    error = ReconnectError([ConnectError(str(number)) for number in range(count)])
    assert str(error) == message
    assert [str(attempt) for attempt in error.attempts] == [str(number) for number in range(count)]
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), len(other.attempts)) == (message, count)
