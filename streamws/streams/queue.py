"""The queue of received items that no one has read yet."""

from typing import Any

from ..codes import Opcode
from ..options import ITEM_OVERHEAD
from ..wire.deflate import DeflatedFrame
from ..wire.frames import DataFrame
from ..wire.payload import WideText

_OVERHEAD = ITEM_OVERHEAD

_COMPACT_FROM = 64
"""The number of read items at the start of the list from which it is worth removing them."""


class Queue:
    """Received items, oldest first, as the parser returns them.

    A whole message is a bare `str`, `bytes` or `WideText`: no other object is made for it. A fragment is a `DataFrame`,
    and a frame of a compressed message is a `DeflatedFrame` until `replace` puts its inflated form in its place.
    """

    __slots__ = ("complete", "head", "inflated", "inflated_size", "items", "open_frames", "open_size", "size")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.head: int = 0
        """The index of the first item that was not read."""
        self.size: int = 0
        """The bytes in the queue, with `ITEM_OVERHEAD` for each item."""
        self.complete: int = 0
        """The number of complete messages that are in the queue as frames."""
        self.open_size: int = 0
        """The payload bytes of the last message in the queue, if its end has not arrived."""
        self.open_frames: int = 0
        """The number of its fragments."""
        self.inflated: int = 0
        """The number of frames at the head that have been inflated in place."""
        self.inflated_size: int = 0
        """Their payload bytes."""

    def put(self, items: list[Any]) -> None:
        """Add the items of one chunk, in their order."""
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
        if self.head == len(self.items):
            self.items = items
            self.head = 0
        else:
            if self.head > _COMPACT_FROM and 2 * self.head > len(self.items):
                del self.items[: self.head]
                self.head = 0
            self.items.extend(items)

    def is_empty(self) -> bool:
        """Whether there is no item to read."""
        return self.head == len(self.items)

    def first(self) -> Any:
        """The first item; None if the queue is empty."""
        return self.items[self.head] if self.head < len(self.items) else None

    def take_bare(self, size: int) -> None:
        """Remove the first item, a bare message of `size` bytes."""
        self.items[self.head] = None
        self.head += 1
        self.size -= size + _OVERHEAD

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
        """Put the inflated form of the compressed frame at index `place` in its place."""
        growth = len(frame.payload) - len(self.items[place].payload)
        self.items[place] = frame
        self.size += growth
        if self.complete == 0:
            self.open_size += growth
        self.inflated += 1
        self.inflated_size += len(frame.payload)

    def first_message_size(self) -> tuple[int, int]:
        """The payload bytes and the number of frames of the first message, which is complete and in frames."""
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
    """The bytes that an item counts in the queue."""
    kind = type(item)
    if kind is str or kind is bytes:
        return len(item) + _OVERHEAD
    size: int = item.size if kind is WideText else len(item.payload)
    return size + _OVERHEAD


def counted_size(size: int, frames: int) -> int:
    """The bytes that a fragmented message counts against `max_message_size`: this bounds floods of tiny fragments."""
    least = _OVERHEAD * frames
    return size if size > least else least


def as_frame(item: Any) -> DataFrame:
    """An item as a data frame."""
    if type(item) is DataFrame:
        return item
    if type(item) is bytes:
        return DataFrame(Opcode.BINARY, item)
    return DataFrame(Opcode.TEXT, (item.text if type(item) is WideText else item).encode())
