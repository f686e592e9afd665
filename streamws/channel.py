"""`Channel`: the interface between typed messages and a connection."""

from collections.abc import Coroutine
from typing import Protocol

from .codes import CloseOutcome
from .wire.frames import Buffer


class Channel(Protocol):
    """Interface of a connection that can carry typed messages. `Client` has it."""

    def send(self, data: str | Buffer, *, text: bool = False) -> Coroutine[object, None, None]:
        """Send one message.

        :param data: `str` is sent as text, bytes-like as binary.
        :param text: whether to send bytes-like data as text; it must be UTF-8.
        """
        ...

    def read_message(self) -> Coroutine[object, None, str | bytes]:
        """Read the next whole message: `str` for text, `bytes` for binary."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[object, None, None]:
        """Close the connection."""
        ...

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end; None while it is open."""
        ...
