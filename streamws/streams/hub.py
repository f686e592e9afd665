"""The calls that the streams make to their connection."""

from typing import Protocol

from ..codes import Cause, Side


class Hub(Protocol):
    """The connection, as its streams know it.

    They hold a weak reference to it: a connection that has ended is freed at once, even if someone keeps a stream.
    """

    def fail(self, code: int, reason: str, cause: Cause, side: Side = Side.REMOTE, detail: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7).

        :param reason: sent to the peer in the Close frame.
        :param detail: used in the outcome instead of the reason, if given.
        """

    def frame_sent(self) -> None:
        """A data frame that was sent in parts is complete: control frames that waited for its end can be sent."""

    def warn_discarded(self, size: int) -> None:
        """Log that bytes were discarded because nothing reads the connection."""
