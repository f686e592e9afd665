"""The queue of received items that nobody has read yet."""

from typing import Any

from ..codes import Opcode
from ..options import ITEM_OVERHEAD
from ..wire.deflate import DeflatedFrame
from ..wire.frames import DataFrame
from ..wire.payload import WideText

_OVERHEAD = ITEM_OVERHEAD

_COMPACT_FROM = 64
"""The number of items already read above which it is worth removing them from the start of the list."""


class Queue:
    """Received items, oldest first, as the parser returns them.

    A whole message that arrived in one uncompressed frame is a bare `str`, `bytes` or `WideText`, to save an object. A
    fragment is a `DataFrame`. A frame of a compressed message is a `DeflatedFrame`, until `replace` replaces it by its
    inflated form.
    """

    __slots__ = (
        "complete",
        "head",
        "inflated",
        "inflated_size",
        "items",
        "messages",
        "open_frames",
        "open_size",
        "size",
    )

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.head: int = 0
        """The index in `items` of the first item that was not read."""
        self.messages: int = 0
        """The number of complete messages that were ever added."""
        self.size: int = 0
        """The bytes in the queue, with `ITEM_OVERHEAD` for each item."""
        self.complete: int = 0
        """The number of complete messages in the queue that consist of frame objects."""
        self.open_size: int = 0
        """The payload bytes in the queue of the message whose last frame has not arrived; 0 if there is none."""
        self.open_frames: int = 0
        """The number of frames in the queue of the message whose last frame has not arrived."""
        self.inflated: int = 0
        """The number of frames at the head that have been inflated and not been read."""
        self.inflated_size: int = 0
        """The payload bytes of the frames that `inflated` counts."""

    def put(self, items: list[Any]) -> None:
        """Add the items of one chunk, in their order."""
        messages = len(items)
        for item in items:
            self.size += item_size(item)
            kind = type(item)
            if kind is DataFrame or kind is DeflatedFrame:
                if item.fin:
                    self.complete += 1
                    self.open_size = self.open_frames = 0
                else:
                    self.open_size += len(item.payload)
                    self.open_frames += 1
                    messages -= 1
        self.messages += messages
        if self.head == len(self.items):
            self.items = items
            self.head = 0
        else:
            if self.head > _COMPACT_FROM and 2 * self.head > len(self.items):
                del self.items[: self.head]
                self.head = 0
            self.items.extend(items)

    def is_empty(self) -> bool:
        """Return whether there is no item to read."""
        return self.head == len(self.items)

    def first(self) -> Any:
        """Return the first item; None if the queue is empty."""
        return self.items[self.head] if self.head < len(self.items) else None

    def take_bare(self, max_size: int) -> Any:
        """Remove and return the first item if it is a bare message of at most `max_size` bytes; otherwise None."""
        items = self.items
        head = self.head
        if head < len(items):
            item = items[head]
            kind = type(item)
            if kind is str or kind is bytes:
                size = len(item)
                if size <= max_size:
                    items[head] = None
                    self.head = head + 1
                    self.size -= size + _OVERHEAD
                    return item
        return None

    def take(self) -> Any:
        """Remove and return the first item."""
        item = self.items[self.head]
        self.items[self.head] = None
        self.head += 1
        self.size -= item_size(item)
        kind = type(item)
        if kind is DataFrame or kind is DeflatedFrame:
            if item.fin:
                self.complete -= 1
            elif self.complete == 0:
                self.open_size -= len(item.payload)
                self.open_frames -= 1
            if self.inflated:
                self.inflated -= 1
                self.inflated_size -= len(item.payload)
        return item

    def replace(self, place: int, frame: DataFrame) -> None:
        """Replace the compressed frame at index `place` by its inflated form."""
        growth = len(frame.payload) - len(self.items[place].payload)
        self.items[place] = frame
        self.size += growth
        if self.complete == 0:
            self.open_size += growth
        self.inflated += 1
        self.inflated_size += len(frame.payload)

    def first_message_size(self) -> tuple[int, int]:
        """Return the payload bytes and the number of frames of the first message, which is complete and in frames."""
        size = 0
        last = self.head
        while True:
            size += len(self.items[last].payload)
            if self.items[last].fin:
                return size, last + 1 - self.head
            last += 1

    def join(self, frames: int) -> str | bytes:
        """Remove the first message, which is complete and in `frames` frames, and join their payloads."""
        opcode = self.items[self.head].opcode
        data = b"".join([self.take().payload for _ in range(frames)])
        return data.decode() if opcode == Opcode.TEXT else data

    def clear(self) -> None:
        """Remove everything."""
        self.items = []
        self.head = self.size = self.complete = self.open_size = self.open_frames = 0
        self.inflated = self.inflated_size = 0


def item_size(item: Any) -> int:
    """Return the bytes that an item counts in the queue: its payload and `ITEM_OVERHEAD`."""
    kind = type(item)
    if kind is str or kind is bytes:
        return len(item) + _OVERHEAD
    size: int = item.size if kind is WideText else len(item.payload)
    return size + _OVERHEAD


def counted_size(size: int, frames: int) -> int:
    """Return the bytes that a fragmented message counts against `max_message_size`.

    Each fragment counts at least `ITEM_OVERHEAD` on average, so that a flood of tiny fragments exceeds the limit too.
    """
    least = _OVERHEAD * frames
    return size if size > least else least


def as_frame(item: Any) -> DataFrame:
    """Return an item as a data frame."""
    if type(item) is DataFrame:
        return item
    if type(item) is bytes:
        return DataFrame(Opcode.BINARY, item)
    return DataFrame(Opcode.TEXT, (item.text if type(item) is WideText else item).encode())
