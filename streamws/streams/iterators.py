"""The async iterators of a connection.

Each of them keeps its client alive, because `async for message in await connect(url)` has no other reference to it.

None of them is an async generator. A generator that was cancelled is finished: if the application iterated over it
again, it would take that for the end of the connection.
"""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from ..awaiting.operation import FAILED, PENDING, reuse_freed
from ..codes import CloseOutcome, Opcode
from ..options import Limits
from ..wire.deflate import DeflatedFrame
from ..wire.frames import DataFrame
from .inbox import Inbox, Read
from .reader import MessageReader, reader_of
from .reads import begin, message_of_type, next_frame, whole_message

_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY


class Messages:
    """Iterates over the messages."""

    __slots__ = ("_client", "_inbox")

    def __init__(self, inbox: Inbox, client: object) -> None:
        self._inbox = inbox
        self._client = client

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    def __anext__(self) -> Any:
        return whole_message(self._inbox, True)


class MessagesOfType:
    """Iterates over the messages, which must all be `str`, or all be `bytes`."""

    __slots__ = ("_client", "_inbox", "_kind")

    def __init__(self, inbox: Inbox, kind: type[str | bytes], client: object) -> None:
        self._inbox = inbox
        self._kind = kind
        self._client = client

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Any:
        return message_of_type(self._inbox, self._kind)


class Frames:
    """Iterates over the data frames."""

    __slots__ = ("_client", "_inbox")

    def __init__(self, inbox: Inbox, client: object) -> None:
        self._inbox = inbox
        self._client = client

    def __aiter__(self) -> AsyncIterator[DataFrame]:
        return self

    def __anext__(self) -> Coroutine[object, None, DataFrame]:
        return next_frame(self._inbox, True)


class Readers:
    """Iterates over the messages, with a `MessageReader` for each."""

    __slots__ = ("_client", "_inbox", "_limits")

    def __init__(self, inbox: Inbox, limits: Limits, client: object) -> None:
        self._inbox = inbox
        self._limits = limits
        self._client = client

    def __aiter__(self) -> AsyncIterator[MessageReader]:
        return self

    def __anext__(self) -> Any:
        return begin_message(self._inbox, self._limits)


class BeginMessage(Read):
    """Waits for a message to begin, and returns its reader."""

    __slots__ = ("limits", "polled")

    limits: Limits
    polled: bool
    """Whether `next_ready` has polled already, so that the next poll only waits."""

    def next_ready(self) -> MessageReader | None:
        """Return the reader of the next message, without an await; None if this read must be awaited for it."""
        reader: Any = self.inbox.poll(self)
        if reader is FAILED:
            raise self.error
        if reader is PENDING:
            self.polled = True
            return None
        ready: MessageReader = reader
        return ready

    def poll(self) -> Any:
        if self.polled:
            self.polled = False
            return PENDING
        return self.inbox.poll(self)

    def take(self) -> Any:
        inbox = self.inbox
        first = inbox.queue.first()
        opcode: Any
        if first is not None:
            kind = type(first)
            if kind is bytes:
                opcode = _BINARY
            elif kind is DataFrame or kind is DeflatedFrame:
                opcode = Opcode(first.opcode)
            else:
                opcode = _TEXT
        elif inbox.in_data_frame():
            opcode = Opcode(inbox.frame.opcode)
        else:
            return PENDING
        reader = reader_of(inbox, self.limits, opcode)
        inbox.owner = reader
        return reader

    def is_ready(self) -> bool:
        return not self.inbox.queue.is_empty() or self.inbox.in_data_frame()

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        return False  # it has not begun to read a message

    def describe(self) -> str:
        return "messages()"


reuse_freed(BeginMessage)


def begin_message(inbox: Inbox, limits: Limits) -> BeginMessage:
    """Wait for a message to begin; the result is its reader."""
    read: BeginMessage = BeginMessage.__new__(BeginMessage)
    begin(read, inbox, True, None)
    read.limits = limits
    read.polled = False
    return read
