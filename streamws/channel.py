"""`Channel` and `Recipient`: the interfaces between a connection and typed messages, and between it and topics."""

from collections.abc import Coroutine
from typing import Protocol

from .codes import CloseOutcome
from .wire.frames import Buffer


class Channel(Protocol):
    """The methods of a connection that typed messages need. `Client` has them."""

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


class Recipient(Protocol):
    """The methods of a connection that topics need. `Client` has them."""

    def send(self, data: str | Buffer) -> Coroutine[object, None, None]:
        """Send one message: `str` as text, bytes-like as binary."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[object, None, None]:
        """Close the connection."""
        ...

    def wait_closed(self) -> Coroutine[object, None, None]:
        """Wait until the connection has ended."""
        ...

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end; None while it is open."""
        ...
