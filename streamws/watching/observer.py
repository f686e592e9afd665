"""`Observer`: its methods are called when connections open, close, are refused or become slow."""

import inspect
import logging
from contextvars import Context, copy_context

from ..client import Client
from ..codes import CloseOutcome
from ..connection import Connection
from .counting import stats_of
from .stats import ConnectionStats

logger: logging.Logger = logging.getLogger("streamws")


class Observer:
    """Base class for an object that is told what happens to the connections of a server, or of `connect`.

    Override the methods that you need, and pass an object of your class as `observer=`. The methods are plain
    functions, which are called in the thread of the event loop. They should be quick, because the connections wait for
    them. No method is called for a message. If one raises an exception, that is logged, and the connections are not
    affected. `SystemExit` and `KeyboardInterrupt` end the program.
    """

    def opened(self, client: Client) -> None:
        """Called when a connection has opened, before its handler starts. `closed` follows exactly once."""

    def refused(self, status: int, reason: str) -> None:
        """Called when a request was refused, by the server or by `@socket.request`. Only a server calls this.

        :param status: the status of the response, from 400 to 599.
        :param reason: why it was refused, as in the log.
        """

    def closed(self, client: Client, outcome: CloseOutcome, stats: ConnectionStats) -> None:
        """Called when a connection that had opened has ended, for any reason.

        :param outcome: how it ended.
        :param stats: its counters.
        """

    def slow(self, client: Client, backlog: int) -> None:
        """Called when the peer reads so slowly that the backlog is over half of `Limits.max_write_backlog`.

        This is called again for the same connection only after its backlog has fallen to `Limits.write_low`. The
        backlog is checked only while it is over `Limits.write_high`, or while messages wait until another message has
        been sent in parts. If it exceeds `max_write_backlog`, the connection closes with 1008.

        :param backlog: `Client.backlog` at that time.
        """


_METHODS = ("opened", "refused", "closed", "slow")


def check_observer(observer: object) -> None:
    """Check the argument `observer=`.

    :raises TypeError: if it is not an `Observer` whose methods are plain functions.
    """
    if observer is None:
        return
    if not isinstance(observer, Observer):
        raise TypeError(f"observer must be an object of a subclass of streamws.Observer, not {observer!r}")
    for name in _METHODS:
        if inspect.iscoroutinefunction(getattr(observer, name)):
            raise TypeError(f"{type(observer).__name__}.{name} must be a plain function: write `def {name}`")


class Observation:
    """Calls an observer, each time in a copy of one context. Exceptions of the observer are logged."""

    __slots__ = ("_context", "_observer")

    def __init__(self, observer: Observer) -> None:
        """Prepare to call an observer. Later calls are made in copies of the current context."""
        self._observer = observer
        self._context: Context = copy_context()

    def opened(self, client: Client, connection: Connection) -> None:
        """Report that a connection has opened. The caller reports its end."""
        connection.on_slow = lambda backlog: self._call("slow", client, backlog)
        self._call("opened", client)

    def refused(self, status: int, reason: str) -> None:
        """Report a refused request."""
        self._call("refused", status, reason)

    def closed(self, client: Client, connection: Connection) -> None:
        """Report that a connection has ended."""
        self._call("closed", client, connection.outcome(), stats_of(connection))

    def _call(self, name: str, *arguments: object) -> None:
        try:
            # A copy, because this may be called inside another call.
            self._context.copy().run(getattr(self._observer, name), *arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            logger.exception("%s.%s raised an exception", type(self._observer).__name__, name)
