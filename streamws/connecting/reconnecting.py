"""Reconnecting: whether to try again after a failure, and how long to wait before."""

import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from ..codes import CloseCode, CloseOutcome
from ..errors import (
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeRefused,
    InvalidURL,
    ProxyError,
    ReconnectError,
    describe,
)
from ..options import Backoff

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_RESTARTING = frozenset({CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER})
_MAX_FAILURES = 100  # the most failures that are kept for `ReconnectError.attempts`
_WARN_AFTER = 3  # the number of failures in a row from which the log line is a warning
_MIN_GROWTH = 0.25  # seconds from which the delays grow if `Backoff.first` is 0


def is_transient(error: Exception) -> bool:
    """Return whether an error is transient, so that trying again may help: the default for `connect(retry=...)`.

    Network failures, timeouts, connections that did not close cleanly, and the HTTP statuses 408, 425, 429, 500, 502,
    503 and 504 are transient. Other HTTP statuses, an invalid certificate and a missing package are not.

    :param error: an error that `await connect()` raised, or a `ConnectionClosedError`.
    """
    if isinstance(error, HandshakeRefused) or (isinstance(error, ProxyError) and error.status is not None):
        return error.status in _TRANSIENT
    if isinstance(error, (ConnectTimeout, ConnectionClosedError)):
        return True
    if isinstance(error, InvalidURL) or isinstance(error.__cause__, (ssl.SSLCertVerificationError, ImportError)):
        return False
    return isinstance(error, OSError)


class Retries:
    """The failures since the last stable connection, and the delays that follow from them.

    :param retry: whether to try again after an error.
    """

    __slots__ = ("_backoff", "_count", "_failures", "_next_delay", "_retry", "reason")

    def __init__(self, backoff: Backoff, retry: Callable[[Exception], bool]) -> None:
        self._backoff = backoff
        self._retry = retry
        self._next_delay = backoff.first  # in seconds, before jitter
        self._count = 0  # number of failures
        self._failures: deque[Exception] = deque(maxlen=_MAX_FAILURES)  # the last ones
        self.reason: str = ""
        """Why another attempt is needed, in one line."""

    @property
    def should_warn(self) -> bool:
        """Whether so many attempts failed in a row that the cause may be permanent, such as a wrong host name."""
        return self._count >= _WARN_AFTER

    def delay_after_failure(self, error: Exception) -> float:
        """Note that an attempt failed, and return how many seconds to wait before the next one.

        :raises ReconnectError: if there should not be another attempt.
        """
        self.reason = describe(error)
        self._add(error)
        min_delay = 0.0
        if isinstance(error, HandshakeRefused):
            min_delay = min(retry_after(error.headers.get("Retry-After", "")), self._backoff.max_retry_after)
        return self._next(min_delay)

    def delay_after_end(self, outcome: CloseOutcome, seconds: float) -> float:
        """Note that a connection ended, and return how many seconds to wait before the next attempt.

        :param seconds: how long the connection was open.
        :raises ReconnectError: if there should not be another attempt.
        """
        self.reason = str(outcome)
        stable = seconds >= self._backoff.stable
        if stable:
            self._next_delay = self._backoff.first
            self._count = 0
            self._failures.clear()
        if not outcome.clean:
            error = ConnectionClosedError(outcome)
            if not stable:
                self._add(error)
            elif not self._retry(error):
                raise ReconnectError((error,)) from error
        if outcome.received is not None and outcome.received.code in _RESTARTING:
            # All clients of the server were told the same. A random delay keeps them from returning at the same time.
            return self._next(random.uniform(*self._backoff.restart))
        return self._next(0.0)

    def _add(self, error: Exception) -> None:
        """Count a failure.

        :raises ReconnectError: if it is the last one.
        """
        if self._failures:
            _drop_tracebacks(self._failures[-1])
        self._failures.append(error)
        self._count += 1
        max_attempts = self._backoff.max_attempts
        if not self._retry(error) or (max_attempts is not None and self._count >= max_attempts):
            raise ReconnectError(self._failures, self._count) from error

    def _next(self, min_delay: float) -> float:
        """Return the next delay with its jitter, and make the one after it longer."""
        backoff = self._backoff
        delay = self._next_delay * (1 - backoff.jitter * random.random())
        self._next_delay = min((self._next_delay or _MIN_GROWTH) * backoff.factor, backoff.most)
        return delay if delay > min_delay else min_delay + random.random() * backoff.first


def _drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an error and its causes: their frames keep everything that the attempt had read."""
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            errors += (each.__cause__, each.__context__)


def retry_after(value: str) -> float:
    """Return the seconds that a Retry-After field asks for (RFC 9110 section 10.2.3); 0 if it is malformed."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # HTTP dates are in GMT, even in the obsolete format that does not say so (RFC 9110 section 5.6.7).
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
