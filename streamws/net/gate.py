"""Pausing and resuming reading, for several reasons at once."""

from asyncio import AbstractEventLoop
from typing import Any

UNREAD = 1
"""More received bytes than the high-water mark are unread."""

FAIRNESS = 2
"""Other connections of the loop are to be read first."""

OPENING = 4
"""The opening handshake waits for the application, or the handler has not begun to run."""

UPPER = 8
"""The layer above the TLS layer has paused reading."""


class Gate:
    """Pauses reading from one transport while there is at least one reason to pause."""

    __slots__ = ("_ignored", "_loop", "_transport", "reasons")

    def __init__(self, loop: AbstractEventLoop, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._ignored = 0  # the reasons for which reading is not paused any more, as bits
        self.reasons: int = 0
        """The bits of the reasons for which reading is paused; 0 if it is not paused."""

    def pause(self, reason: int) -> None:
        """Pause reading for a reason, until `resume` is called with the same reason."""
        before = self.reasons
        reason &= ~self._ignored
        self.reasons = before | reason
        if not before and reason and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self, reason: int) -> None:
        """Remove a reason; resume reading if no other one is left."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        # Some transports raise an error if they are resumed while they close.
        if not self.reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def ignore(self, reason: int) -> None:
        """Remove a reason, and never pause for it again."""
        self._ignored |= reason
        self.resume(reason)

    def give_way(self) -> None:
        """Read nothing more in this loop iteration, so that other connections are served."""
        if not self.reasons:
            self.pause(FAIRNESS)
            self._loop.call_soon(self.resume, FAIRNESS)

    def close(self) -> None:
        """Release the transport, which is closed."""
        self._transport = None
