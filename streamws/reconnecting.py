"""When to connect again after a failure, and how long to wait before."""

import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from .codes import CloseCode, CloseOutcome
from .errors import (
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeRefused,
    InvalidURL,
    ProxyError,
    ReconnectError,
)
from .options import Backoff

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_KEPT = 100


def is_transient(error: Exception) -> bool:
    """Whether it makes sense to try again after an error: the default of `connect(retry=...)`.

    It does after network failures, timeouts, connections that ended badly, and answers that speak of a passing state
    (408, 425, 429, 500, 502, 503, 504). It does not after other answers, or when a certificate is not accepted.

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

    __slots__ = ("_backoff", "_count", "_failures", "_retry", "reason")

    def __init__(self, backoff: Backoff, retry: Callable[[Exception], bool]) -> None:
        self._backoff = backoff
        self._retry = retry
        self._count = 0
        self._failures: deque[Exception] = deque(maxlen=_KEPT)
        self.reason: object = ""
        """Why there has to be another attempt."""

    def failed(self, error: Exception) -> float:
        """An attempt failed: the seconds to wait before the next one.

        :raises ReconnectError: if there is to be none.
        """
        self.reason = error
        self._give_up_or_go_on(error)
        least = 0.0
        if isinstance(error, HandshakeRefused):
            least = min(retry_after(error.headers.get("Retry-After", "")), self._backoff.max_retry_after)
        return self._delay(least)

    def ended(self, outcome: CloseOutcome, seconds: float) -> float:
        """A connection ended that was open for so long: the seconds to wait before the next attempt.

        :raises ReconnectError: if there is to be none.
        """
        self.reason = outcome
        if seconds >= self._backoff.stable:
            self._count = 0
            self._failures.clear()
        if not outcome.clean:
            self._give_up_or_go_on(ConnectionClosedError(outcome))
        if outcome.received is not None and outcome.received.code in (
            CloseCode.SERVICE_RESTART,
            CloseCode.TRY_AGAIN_LATER,
        ):
            # Everyone whom the server sent away comes back: better not at once and not together.
            return self._delay(random.uniform(*self._backoff.restart))
        return self._delay(0.0)

    def _give_up_or_go_on(self, error: Exception) -> None:
        self._failures.append(error)
        most = self._backoff.max_attempts
        if not self._retry(error) or (most is not None and len(self._failures) >= most):
            raise ReconnectError(tuple(self._failures)) from error

    def _delay(self, least: float) -> float:
        backoff = self._backoff
        delay = min(backoff.first * backoff.factor ** min(self._count, 1000), backoff.most)
        self._count += 1
        delay *= 1 - backoff.jitter * random.random()
        return delay if delay > least else least + random.random() * backoff.first


def retry_after(value: str) -> float:
    """The seconds that a Retry-After field asks for (RFC 9110 section 10.2.3); 0 if it is malformed."""
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
