"""When to connect again after a failure, and how long to wait before."""

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
_KEPT = 100
_TROUBLE = 3  # failures in a row after which someone should hear of it
_LEAST_GROWTH = 0.25  # seconds that grow where `Backoff.first` is 0


def is_transient(error: Exception) -> bool:
    """Whether it makes sense to try again after an error: the default of `connect(retry=...)`.

    It does after network failures, timeouts, connections that ended badly, and answers that speak of a passing state
    (408, 425, 429, 500, 502, 503, 504). It does not after other answers, if a certificate is not accepted, or if a
    package is missing.

    :param error: what `await connect()` raised, or a `ConnectionClosedError`.
    """
    if isinstance(error, HandshakeRefused) or (isinstance(error, ProxyError) and error.status is not None):
        return error.status in _TRANSIENT
    if isinstance(error, (ConnectTimeout, ConnectionClosedError)):
        return True
    if isinstance(error, InvalidURL) or isinstance(error.__cause__, (ssl.SSLCertVerificationError, ImportError)):
        return False
    return isinstance(error, OSError)


class Attempts:
    """The attempts since the last stable connection."""

    __slots__ = ("_backoff", "_count", "_failures", "_next", "_retry", "reason")

    def __init__(self, backoff: Backoff, retry: Callable[[Exception], bool]) -> None:
        self._backoff = backoff
        self._retry = retry
        self._next = backoff.first  # seconds, before the jitter
        self._count = 0  # of failures
        self._failures: deque[Exception] = deque(maxlen=_KEPT)  # the last ones
        self.reason: str = ""
        """Why there has to be another attempt, in one line."""

    @property
    def in_trouble(self) -> bool:
        """Whether so many have failed in a row that something may be wrong for good, such as the name of the host."""
        return self._count >= _TROUBLE

    def failed(self, error: Exception) -> float:
        """An attempt failed: the seconds to wait before the next one.

        :raises ReconnectError: if there is to be none.
        """
        self.reason = describe(error)
        self._add(error)
        least = 0.0
        if isinstance(error, HandshakeRefused):
            least = min(retry_after(error.headers.get("Retry-After", "")), self._backoff.max_retry_after)
        return self._delay(least)

    def ended(self, outcome: CloseOutcome, seconds: float) -> float:
        """A connection ended that was open for so long: the seconds to wait before the next attempt.

        :raises ReconnectError: if there is to be none.
        """
        self.reason = str(outcome)
        stable = seconds >= self._backoff.stable
        if stable:
            self._next = self._backoff.first
            self._count = 0
            self._failures.clear()
        if not outcome.clean:
            error = ConnectionClosedError(outcome)
            if not stable:
                self._add(error)
            elif not self._retry(error):
                raise ReconnectError((error,)) from error
        if outcome.received is not None and outcome.received.code in _RESTARTING:
            # Everyone whom the server sent away comes back: better not at once and not together.
            return self._delay(random.uniform(*self._backoff.restart))
        return self._delay(0.0)

    def _add(self, error: Exception) -> None:
        """Count a failure; raise if it is the last one."""
        if self._failures:
            _let_go(self._failures[-1])
        self._failures.append(error)
        self._count += 1
        most = self._backoff.max_attempts
        if not self._retry(error) or (most is not None and self._count >= most):
            raise ReconnectError(self._failures, self._count) from error

    def _delay(self, least: float) -> float:
        backoff = self._backoff
        delay = self._next * (1 - backoff.jitter * random.random())
        self._next = min((self._next or _LEAST_GROWTH) * backoff.factor, backoff.most)
        return delay if delay > least else least + random.random() * backoff.first


def _let_go(error: BaseException) -> None:
    """Drop the tracebacks of an error that is kept: through their frames they hold all that the attempt had read."""
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            errors += (each.__cause__, each.__context__)


def retry_after(value: str) -> float:
    """The seconds that a Retry-After field asks for (RFC 9110 section 10.2.3); 0 if it is malformed."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # A date is always in GMT, also in the form that does not say so (RFC 9110 section 5.6.7).
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
