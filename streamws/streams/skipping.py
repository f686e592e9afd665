"""Skipping the rest of a message that its reader left."""

from sys import maxsize

from ..options import ITEM_OVERHEAD
from ..wire.deflate import DeflatedFrame
from ..wire.frames import DataFrame
from ..wire.partial import PartialFrame
from .inflation import Inflation
from .queue import Queue, item_size

_OVERHEAD = ITEM_OVERHEAD


class Skipper:
    """Skips the rest of a message that its reader left, as it arrives."""

    __slots__ = ("_budget", "_frame", "_inflation", "_queue", "active")

    def __init__(self, queue: Queue, frame: PartialFrame, inflation: Inflation | None) -> None:
        self._queue = queue
        self._frame = frame
        self._inflation = inflation
        self._budget = 0  # the bytes that may still be skipped
        self.active: bool = False
        """Whether the message at the head of the queue is being skipped."""

    def begin(self, budget: int) -> None:
        """Begin to skip the message at the head of the queue, or the rest of it.

        :param budget: the most bytes to skip.
        """
        self.active = True
        self._budget = budget

    def skip(self) -> bool:
        """Skip the data of the message that has arrived.

        :returns: False if the budget is used up, or if a message cannot be inflated (`Inflation.problem`).
        """
        skipped = self._skip()
        if skipped < 0 or skipped > self._budget:
            self.active = False
            return False
        self._budget -= skipped
        return True

    def _skip(self) -> int:
        """Skip; return the number of bytes skipped, or -1 if a message cannot be inflated."""
        queue = self._queue
        inflation = self._inflation
        budget = self._budget
        skipped = 0
        if inflation is not None and inflation.is_pending():
            skipped = inflation.skip_pending(budget)
            if skipped < 0:
                return -1
            self.active = not inflation.is_at_end()
        while self.active and not queue.is_empty() and skipped <= budget:
            item = queue.take()
            kind = type(item)
            size = item_size(item) - _OVERHEAD
            if inflation is not None and kind is DeflatedFrame:
                size = inflation.skip(item, budget - skipped)
                if size < 0:
                    return -1
            if not (kind is DataFrame or kind is DeflatedFrame) or item.fin:
                self.active = False
            elif size == 0:
                size = _OVERHEAD  # an endless flow of empty fragments must not be free
            skipped += size
        if self.active and self._frame.buffered() > 0:
            if inflation is not None and self._frame.compressed:
                size = inflation.skip(self._frame.release_compressed(), budget - skipped)
                if size < 0:
                    return -1
                skipped += size
            else:
                skipped += len(self._frame.release())
        return skipped

    def drop_queue(self) -> bool:
        """Empty the queue. With context takeover, compressed messages are inflated, because later ones refer to them.

        :returns: False if the budget is used up, or if a message cannot be inflated (`Inflation.problem`).
        """
        queue = self._queue
        inflation = self._inflation
        if inflation is not None:
            left = self._budget if inflation.takeover else maxsize  # without takeover nothing is inflated
            for item in queue.items[queue.head :]:
                if type(item) is DeflatedFrame:
                    size = inflation.skip(item, left)
                    if size < 0 or size > left:
                        return False
                    left -= size
        queue.clear()
        return True
