"""The reads of whole items: a message, a message of one type, a data frame."""

from typing import Any

from ..awaiting.operation import FAILED, PENDING, reuse_freed
from ..codes import Close, CloseCode
from ..wire.deflate import DeflatedFrame
from ..wire.frames import DataFrame
from ..wire.payload import WideText
from .inbox import Inbox, Read
from .inflation import Inflation
from .queue import as_frame, counted_size, item_size

# The functions below create reads with `__new__`: calling the class would cost one more Python call for each message.


class ReadMessage(Read):
    """Reads the next whole message."""

    __slots__ = ()

    def take(self) -> Any:
        inbox = self.inbox
        queue = inbox.queue
        message = queue.take_bare(inbox.max_size)
        if message is not None:
            if inbox.owner is not None:
                inbox.owner = None
            return message
        item = queue.first()
        if item is None:
            return self._wait()
        kind = type(item)
        if kind is str or kind is bytes:
            return inbox.refuse_size(len(item))
        if kind is WideText:
            if item.size > inbox.max_size:
                return inbox.refuse_size(item.size)
            inbox.owner = None
            return queue.take().text
        if inbox.inflation is not None:
            return self._take_inflated(inbox.inflation)
        if queue.complete > 0:
            return self._join()
        return self._wait()

    def _wait(self) -> Any:
        """Wait for the rest of the message, unless it will be too big."""
        inbox = self.inbox
        if inbox.inflation is not None and not inbox.inflation.inflate_open():
            return inbox.fail_inflation()
        if inbox.announced_size() > inbox.max_size:
            return inbox.refuse_size(inbox.announced_size())
        return PENDING

    def _join(self) -> Any:
        """Take the first message, whose frames have all arrived."""
        inbox = self.inbox
        size, frames = inbox.queue.first_message_size()
        counted = counted_size(size, frames)
        if counted > inbox.max_size:
            return inbox.refuse_size(counted)
        inbox.owner = None
        return inbox.queue.join(frames)

    def _take_inflated(self, inflation: Inflation) -> Any:
        """Take the first message, which is compressed or fragmented. Compression was negotiated."""
        inbox = self.inbox
        queue = inbox.queue
        first = queue.first()
        if type(first) is DeflatedFrame and first.fin:
            message = inflation.take_message(first)
            if message is None:
                return inbox.fail_inflation()
            inbox.owner = None
            return message
        if queue.complete == 0:
            return self._wait()
        if not inflation.inflate(len(queue.items)):
            return inbox.fail_inflation()
        return self._join()

    def is_ready(self) -> bool:
        inbox = self.inbox
        queue = inbox.queue
        inflation = inbox.inflation
        if inflation is not None and not inflation.inflate_open():
            inbox.fail_inflation()  # this wakes the read
            return False
        if queue.complete > 0:
            return True
        first = queue.first()
        if first is not None and type(first) is not DataFrame:
            return True
        return inbox.announced_size() > inbox.max_size

    def needs_whole(self) -> bool:
        return True

    def describe(self) -> str:
        return "async for" if self.iterating else "read_message()"


reuse_freed(ReadMessage)


class ReadMessageOfType(ReadMessage):
    """Reads the next whole message, which must be a `str`, or must be `bytes`."""

    __slots__ = ("kind",)

    kind: type[str | bytes]

    def poll(self) -> Any:
        message = self.inbox.poll(self)
        if type(message) is self.kind or message is PENDING or message is FAILED:
            return message
        received, wanted = ("binary", "text") if self.kind is str else ("text", "binary")
        reason = f"received a {received} message where only {wanted} is accepted"
        read: Read = self  # declares the type of `error`
        read.error = self.inbox.refuse_kind(Close(CloseCode.UNSUPPORTED_DATA, reason))
        return FAILED


class ReadFrame(Read):
    """Reads the next data frame."""

    __slots__ = ()

    def claim(self) -> None:
        if self.inbox.owner is not FRAMES:
            Read.claim(self)

    def take(self) -> Any:
        inbox = self.inbox
        queue = inbox.queue
        if queue.is_empty():
            return inbox.refuse_size(inbox.frame.length) if inbox.is_frame_too_big() else PENDING
        if inbox.inflation is not None and not inbox.inflation.inflate(queue.head + 1):
            return inbox.fail_inflation()
        size = item_size(queue.first()) - item_size(b"")
        if size > inbox.max_size:
            return inbox.refuse_size(size)
        frame = as_frame(queue.take())
        inbox.owner = None if frame.fin else FRAMES
        return frame

    def is_ready(self) -> bool:
        return not self.inbox.queue.is_empty() or self.inbox.is_frame_too_big()

    def needs_whole(self) -> bool:
        return True

    def describe(self) -> str:
        return "read_frame()"


class _Frames:
    """The owner of a message that is read frame by frame."""


FRAMES = _Frames()
"""The owner of a message of which `read_frame` has read some frames."""


def whole_message(inbox: Inbox, iterating: bool = False) -> ReadMessage:
    """Read the next whole message.

    :param iterating: whether a clean end of the connection ends an iteration.
    """
    read: ReadMessage = ReadMessage.__new__(ReadMessage)
    begin(read, inbox, iterating, None)
    return read


def message_of_type(inbox: Inbox, kind: type[str | bytes]) -> ReadMessageOfType:
    """Read the next whole message of an iteration; fail the connection with 1003 if its type is not `kind`."""
    read: ReadMessageOfType = ReadMessageOfType.__new__(ReadMessageOfType)
    begin(read, inbox, True, None)
    read.kind = kind
    return read


def next_frame(inbox: Inbox, iterating: bool = False) -> ReadFrame:
    """Read the next data frame.

    :param iterating: whether a clean end of the connection ends an iteration.
    """
    read: ReadFrame = ReadFrame.__new__(ReadFrame)
    begin(read, inbox, iterating, None)
    return read


def begin(read: Read, inbox: Inbox, iterating: bool, owner: object) -> None:
    """Set the attributes of a read that was created with `__new__`."""
    read.finished = False
    read.inbox = inbox
    read.iterating = iterating
    read.owner = owner
