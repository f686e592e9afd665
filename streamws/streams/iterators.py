"""The async iterators of a connection.

None of them is an async generator. A generator that was cancelled is finished: if the application iterated over it
again, it would take that for the end of the connection.
"""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from ..codes import Close, CloseCode
from ..options import Limits
from ..wire.frames import DataFrame
from .inbox import Inbox
from .reader import MessageReader
from .reads import begin_message, next_frame, whole_message


class Messages:
    """Iterates over the messages."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    def __anext__(self) -> Any:
        return whole_message(self._inbox, True)


class Readers:
    """Iterates over the messages, with a `MessageReader` for each."""

    __slots__ = ("_inbox", "_limits")

    def __init__(self, inbox: Inbox, limits: Limits) -> None:
        self._inbox = inbox
        self._limits = limits

    def __aiter__(self) -> AsyncIterator[MessageReader]:
        return self

    async def __anext__(self) -> MessageReader:
        reader = MessageReader(self._inbox, self._limits)
        reader.type = await begin_message(self._inbox, reader)
        return reader


class Frames:
    """Iterates over the data frames."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[DataFrame]:
        return self

    def __anext__(self) -> Coroutine[object, None, DataFrame]:
        return next_frame(self._inbox, True)


class Text:
    """Iterates over the messages, which must be text."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        message = await whole_message(self._inbox, True)
        if not isinstance(message, str):
            raise _refuse(self._inbox, "binary", "text")
        return message


class Binary:
    """Iterates over the messages, which must be binary."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        message = await whole_message(self._inbox, True)
        if not isinstance(message, bytes):
            raise _refuse(self._inbox, "text", "binary")
        return message


def _refuse(inbox: Inbox, received: str, wanted: str) -> Exception:
    reason = f"received a {received} message where only {wanted} is accepted"
    return inbox.refuse_kind(Close(CloseCode.UNSUPPORTED_DATA, reason))
