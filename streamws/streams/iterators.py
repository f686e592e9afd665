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


class MessagesOfType:
    """Iterates over the messages, which must all be `str`, or all be `bytes`."""

    __slots__ = ("_inbox", "_kind")

    def __init__(self, inbox: Inbox, kind: type[str | bytes]) -> None:
        self._inbox = inbox
        self._kind = kind

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await whole_message(self._inbox, True)
        if type(message) is not self._kind:
            received, wanted = ("binary", "text") if self._kind is str else ("text", "binary")
            reason = f"received a {received} message where only {wanted} is accepted"
            raise self._inbox.refuse_kind(Close(CloseCode.UNSUPPORTED_DATA, reason))
        return message
