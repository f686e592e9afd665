"""When `async for` over `connect()` reconnects, and how long it waits: `Attempts`, `is_transient`, `retry_after`."""

import gc
import random
import ssl
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws import (
    Backoff,
    Cause,
    Close,
    CloseCode,
    CloseOutcome,
    ConnectError,
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeRefused,
    Headers,
    InvalidHandshake,
    InvalidHeader,
    InvalidURL,
    ProxyError,
    ReconnectError,
    RedirectError,
    Side,
    UsageError,
    is_transient,
)
from streamws.connecting.reconnecting import Attempts, retry_after

FIXED = Backoff(first=1, factor=2, most=10, jitter=0, stable=10)
FAILURE = ConnectError("no one listens")
CLEAN = CloseOutcome(Cause.CLEAN, Side.REMOTE, Close(1000), Close(1000))
RESET = CloseOutcome(Cause.RESET, Side.REMOTE, None, None)


def closed_with(code: int) -> CloseOutcome:
    """Make the outcome of a connection that the peer closed with an error."""
    return CloseOutcome(Cause.PEER_ERROR, Side.REMOTE, Close(code), Close(code))


def refused(status: int, **headers: str) -> HandshakeRefused:
    return HandshakeRefused(status, "said", Headers([(name.replace("_", "-"), text) for name, text in headers.items()]))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def attempts(backoff: Backoff = FIXED, retry: Callable[[Exception], bool] = is_transient) -> Attempts:
    return Attempts(backoff, retry)


# Which errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("DNS, TCP"),
        caused(ConnectError("TLS"), ssl.SSLError("bad record")),
        ConnectTimeout("slow"),
        ProxyError("gone"),
        ProxyError("busy", 503),
        ConnectionClosedError(RESET),
        ConnectionClosedError(closed_with(1008)),
        OSError("of a function of the user's"),
        TimeoutError(),
        *(refused(status) for status in (408, 425, 429, 500, 502, 503, 504)),
    ],
    ids=repr,
)
def test_is_transient_accepts_error_worth_retrying(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        caused(ConnectError("certificate"), ssl.SSLCertVerificationError("expired")),
        caused(ProxyError("needs python-socks"), ModuleNotFoundError()),
        ProxyError("who are you?", 407),
        InvalidHandshake("no WebSocket server", 101),
        RedirectError("in circles", 302),
        InvalidURL("ws:/"),
        InvalidHeader("CR"),
        UsageError("sock"),
        TypeError("of a function of the user's"),
        *(refused(status) for status in (200, 301, 400, 401, 403, 404, 410, 426, 501, 505)),
    ],
    ids=repr,
)
def test_is_transient_refuses_permanent_error(error: Exception) -> None:
    assert not is_transient(error)


# How long --------------------------------------------------------------------------------------------------


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    tried = attempts()
    assert [tried.failed(FAILURE) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize("jitter", [0, 0.5, 1])
@pytest.mark.parametrize("drawn", [0, 0.25, 0.999])
def test_jitter_shortens_delay_by_a_random_share(monkeypatch: pytest.MonkeyPatch, jitter: float, drawn: float) -> None:
    monkeypatch.setattr(random, "random", lambda: drawn)
    tried = attempts(Backoff(first=1, most=4, jitter=jitter))
    assert [tried.failed(FAILURE) for _ in range(4)] == [n * (1 - jitter * drawn) for n in (1, 2, 4, 4)]


def test_delays_stay_within_bounds_of_the_defaults() -> None:
    tried = attempts(Backoff())
    for most in (0.5, 1, 2, 4, 8, 16, 32, 60, 60):
        assert most / 2 <= tried.failed(FAILURE) <= most


@pytest.mark.parametrize("factor", [1, 10, 1e300])
def test_delay_stays_a_number_after_many_failures(factor: float) -> None:
    tried = attempts(Backoff(first=0.5, factor=factor, most=60, jitter=0))
    for _ in range(2000):
        last = tried.failed(FAILURE)
    assert last == (0.5 if factor == 1 else 60)


def test_delays_grow_even_without_a_first_delay() -> None:
    tried = attempts(Backoff(first=0, factor=2, most=1.5, jitter=0))
    assert [tried.failed(FAILURE) for _ in range(5)] == [0, 0.5, 1, 1.5, 1.5]


def test_attempts_are_in_trouble_from_the_third_failure_in_a_row_until_one_is_stable() -> None:
    tried = attempts()
    told = []
    for _ in range(3):
        tried.failed(FAILURE)
        told.append(tried.in_trouble)
    tried.ended(CLEAN, 10)
    assert [*told, tried.in_trouble] == [False, False, True, False]


@pytest.mark.parametrize("outcome", [CLEAN, RESET])
def test_delay_restarts_only_after_a_stable_connection(outcome: CloseOutcome) -> None:
    tried = attempts()
    assert [tried.failed(FAILURE), tried.failed(FAILURE)] == [1, 2]
    assert tried.ended(outcome, 9.9) == 4
    assert tried.failed(FAILURE) == 8
    assert tried.ended(outcome, 10) == 1
    assert tried.failed(FAILURE) == 2


def test_attempts_give_the_reason_in_one_line() -> None:
    tried = attempts()
    tried.failed(ConnectError("no\nINFO one \x1b[2J listens"))
    assert tried.reason == "ConnectError: no INFO one [2J listens"
    tried.ended(CLEAN, 0)
    assert tried.reason == "clean, by the remote side (received 1000, sent 1000)"
    tried.failed(TimeoutError())
    assert tried.reason == "TimeoutError"


# What the server asks for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "least"), [("5", 5), ("599", 599), ("601", 600), ("9" * 400, 600), ("0", 0), ("soon", 0)]
)
def test_retry_after_is_followed_up_to_the_cap(status: int, value: str, least: float) -> None:
    delay = attempts(Backoff(first=0.5)).failed(refused(status, retry_after=value))
    assert max(least, 0.25) <= delay <= least + 0.5


def test_retry_after_is_spread_over_clients() -> None:
    delays = {attempts(Backoff(jitter=0)).failed(refused(503, retry_after="5")) for _ in range(9)}
    assert len(delays) > 1


def test_retry_after_does_not_shorten_the_delay() -> None:
    tried = attempts()
    assert [tried.failed(refused(503, retry_after="3")) >= 3 for _ in range(2)] == [True, True]
    assert tried.failed(refused(503, retry_after="3")) == 4


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_retry_after_is_found_in_any_case(name: str) -> None:
    assert 5 <= attempts().failed(refused(503, **{name: "5"})) <= 6


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("1", 1), ("0120", 120), ("9" * 400, float("inf"))])
def test_retry_after_accepts_seconds(value: str, seconds: float) -> None:
    assert retry_after(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",  # the three forms of RFC 9110 section 5.6.7
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_retry_after_accepts_a_date(monkeypatch: pytest.MonkeyPatch, value: str, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        monkeypatch.setattr(time, "time", lambda: 784111777.0 - 90)
        assert retry_after(value) == 90
        monkeypatch.setattr(time, "time", lambda: 784111777.0 + 90)
        assert retry_after(value) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_retry_after_caps_a_distant_date() -> None:
    date = format_datetime(datetime(9999, 12, 31, tzinfo=UTC), usegmt=True)
    assert 600 <= attempts().failed(refused(503, retry_after=date)) <= 601


@pytest.mark.parametrize(
    "value",
    ["", "-5", "5.5", "1e3", "5 s", "\u0665", "Fri, 31 Dec 99999 23:59:59 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"],
)
def test_retry_after_ignores_other_values(value: str) -> None:
    assert retry_after(value) == 0


@given(
    st.text(max_size=60)
    | st.from_regex(r"Sun, [0-9]{1,4} (Jan|Dec|X) [0-9]{1,6} [0-9:]{1,12} [+\-0-9GMT]{0,6}", fullmatch=True)
)
def test_retry_after_raises_for_no_value(value: str) -> None:
    assert retry_after(value) >= 0


@pytest.mark.parametrize("code", [CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER])
@pytest.mark.parametrize("seconds", [0, 100])
def test_restart_codes_wait_within_their_range(code: CloseCode, seconds: float) -> None:
    delays = [attempts(Backoff(first=0.5, restart=(5, 30))).ended(closed_with(code), seconds) for _ in range(9)]
    assert all(5 <= delay <= 30.5 for delay in delays)
    assert len(set(delays)) > 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
def test_other_codes_wait_as_usual(code: int) -> None:
    assert attempts().ended(closed_with(code), 0) == 1


# When it gives up ------------------------------------------------------------------------------------------


def gives_up(act: Callable[[], object]) -> ReconnectError:
    with pytest.raises(ReconnectError) as raised:
        act()
    assert raised.value.__cause__ is raised.value.attempts[-1]
    return raised.value


@pytest.mark.parametrize("most", [1, 2, 150])
def test_attempts_give_up_after_the_maximum(most: int) -> None:
    tried = attempts(Backoff(max_attempts=most))
    failures = [ConnectError(str(number)) for number in range(most)]
    for failure in failures[:-1]:
        tried.failed(failure)
    error = gives_up(lambda: tried.failed(failures[-1]))
    assert error.attempts == tuple(failures[-100:])
    assert error.count == most


def test_attempts_go_on_for_ever_by_default() -> None:
    tried = attempts(Backoff(first=0))
    for _ in range(1000):
        tried.failed(FAILURE)
    assert gives_up(lambda: tried.failed(refused(401))).count == 1001


def test_stable_connection_resets_the_failures() -> None:
    tried = attempts(Backoff(max_attempts=2, stable=10))
    tried.failed(FAILURE)
    tried.ended(CLEAN, 10)
    tried.failed(FAILURE)
    tried.ended(CLEAN, 9)
    assert gives_up(lambda: tried.failed(FAILURE)).count == 2


def test_connection_that_ended_badly_before_it_was_stable_is_a_failure() -> None:
    tried = attempts(Backoff(max_attempts=2, stable=10))
    tried.failed(FAILURE)
    first, second = gives_up(lambda: tried.ended(RESET, 1)).attempts
    assert first is FAILURE
    assert isinstance(second, ConnectionClosedError)
    assert second.outcome is RESET


def test_stable_connection_that_ended_badly_is_no_failure() -> None:
    tried = attempts(Backoff(max_attempts=1, stable=10))
    for _ in range(3):
        tried.ended(RESET, 10)
    assert gives_up(lambda: tried.failed(FAILURE)).attempts == (FAILURE,)


def test_connection_that_ended_cleanly_is_no_failure() -> None:
    tried = attempts(Backoff(max_attempts=1))
    for _ in range(3):
        tried.ended(CLEAN, 0)


def test_retry_is_called_with_each_error_and_only_errors() -> None:
    asked: list[Exception] = []

    def retry(error: Exception) -> bool:
        asked.append(error)
        return True

    tried = attempts(retry=retry)
    failures = [FAILURE, refused(401), KeyError()]
    for failure in failures:
        tried.failed(failure)
    tried.ended(CLEAN, 0)
    tried.ended(CLEAN, 100)
    tried.ended(RESET, 0)
    tried.ended(closed_with(4001), 100)
    assert asked[:3] == failures
    assert [error.outcome for error in asked[3:] if isinstance(error, ConnectionClosedError)] == [
        RESET,
        closed_with(4001),
    ]


@pytest.mark.parametrize("seconds", [0, 100])
def test_attempts_give_up_when_retry_refuses_an_end(seconds: float) -> None:
    tried = attempts(retry=lambda error: False)
    error = gives_up(lambda: tried.ended(closed_with(4001), seconds))
    assert error.count == 1


# Kept failures and ReconnectError ---------------------------------------------------------------------------


class Held:
    """An object that a frame of an attempt refers to."""


def fail_holding(held: Held) -> Exception:
    """Return an error that was raised from another one, in a frame that refers to an object."""
    try:
        try:
            raise OSError("connection refused")
        except OSError as error:
            raise ConnectError("no one listens") from error
    except ConnectError as error:
        return error


def test_kept_failures_hold_no_references_to_their_attempts() -> None:
    tried = attempts(Backoff(first=0))
    alive = []

    def attempt() -> Exception:
        held = Held()
        alive.append(weakref.ref(held))
        return fail_holding(held)

    for _ in range(5):
        tried.failed(attempt())
    gc.collect()
    assert [reference() is None for reference in alive] == [True, True, True, True, False]  # the last one is the cause
    error = gives_up(lambda: tried.failed(refused(401)))
    assert [str(failure.__cause__) for failure in error.attempts[:-1]] == ["connection refused"] * 5


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([FAILURE], "gave up after 1 failed attempt: ConnectError: no one listens"),
        ([FAILURE] * 4, "gave up after 4 failed attempts: ConnectError: no one listens (4 times)"),
        (
            [FAILURE, FAILURE, ConnectTimeout("slow"), HandshakeRefused(401, "token expired", phrase="Unauthorized")],
            "gave up after 4 failed attempts: ConnectError: no one listens (2 times); ConnectTimeout: slow; "
            "HandshakeRefused: 401 Unauthorized: token expired",
        ),
        (
            [ConnectError(name) for name in "abcde"],
            "gave up after 5 failed attempts: ..., ConnectError: c; ConnectError: d; ConnectError: e",
        ),
        (
            [KeyError("two\nlines"), TimeoutError()],
            r"gave up after 2 failed attempts: KeyError: 'two\nlines'; TimeoutError",
        ),
    ],
)
def test_reconnect_error_says_why_the_attempts_failed(failures: list[Exception], message: str) -> None:
    error = ReconnectError(failures)
    assert str(error) == message
    assert error.attempts == tuple(failures)
    assert error.count == len(failures)


def test_reconnect_error_says_how_many_failures_were_not_kept() -> None:
    error = ReconnectError([FAILURE] * 100, 5000)
    assert str(error) == "gave up after 5000 failed attempts: ..., ConnectError: no one listens (100 times)"
