"""The gate through which a connection reads: it is closed while anyone has a reason."""

from asyncio import AbstractEventLoop
from typing import Any

MARKS = 1
"""More than the high-water mark is unread."""

FAIRNESS = 2
"""Other connections of the loop are to be read first."""

OPENING = 4
"""The opening handshake waits for the application, or the handler has not begun to run."""

ABOVE = 8
"""The layer above, such as the connection above TLS, does not read."""


class Gate:
    """Pauses and resumes reading from one transport. Every reason to pause has a name; reading needs none of them."""

    __slots__ = ("_loop", "_transport", "reasons")

    def __init__(self, loop: AbstractEventLoop, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self.reasons: int = 0
        """The reasons for which reading is paused, as bits; 0 while it is not."""

    def pause(self, reason: int) -> None:
        """Read nothing until the reason is gone."""
        before = self.reasons
        self.reasons = before | reason
        if not before and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self, reason: int) -> None:
        """The reason is gone: read again unless there is another."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        # Not every transport can be resumed while it closes.
        if not self.reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def give_way(self) -> None:
        """Read nothing more in this loop iteration, so that other connections are read."""
        if not self.reasons:
            self.pause(FAIRNESS)
            self._loop.call_soon(self.resume, FAIRNESS)

    def close(self) -> None:
        """Forget the transport, which is gone."""
        self._transport = None
