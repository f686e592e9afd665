"""The interface through which the streams call their connection."""

from typing import Protocol

from ..codes import Cause, Side


class Hub(Protocol):
    """The methods of a connection that its streams call.

    The streams hold a weak reference to the connection. So a connection that has ended is freed at once, even if the
    application keeps one of its streams.
    """

    def fail(self, code: int, reason: str, cause: Cause, side: Side = Side.REMOTE, detail: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7).

        :param reason: sent to the peer in the Close frame.
        :param detail: used in the outcome instead of the reason, if given.
        """

    def frame_sent(self) -> None:
        """Send control frames that waited for the end of a data frame sent in parts, which is complete now."""

    def warn_discarded(self, size: int) -> None:
        """Log that bytes were discarded because nothing reads the connection."""

    def slow(self) -> None:
        """Report that the backlog is over half of `Limits.max_write_backlog`."""

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
