"""`Held`: publications that are held back, within a bound."""

from ..options import ITEM_OVERHEAD
from .values import Record


class Held:
    """Publications that are kept for a while, oldest first.

    :param most: the most bytes, with `ITEM_OVERHEAD` for each publication.
    """

    __slots__ = ("_most", "records", "size")

    def __init__(self, most: int) -> None:
        self._most = most
        self.records: list[Record] = []
        self.size: int = 0
        """The bytes of the publications."""

    def add(self, record: Record) -> bool:
        """Add a publication; if there is no room for it, drop all and return False."""
        self.records.append(record)
        self.size += size_of(record)
        if self.size <= self._most:
            return True
        self.clear()
        return False

    def take(self) -> list[Record]:
        """Remove all publications and return them."""
        records = self.records
        self.clear()
        return records

    def clear(self) -> None:
        """Drop all publications."""
        self.records = []
        self.size = 0


def size_of(record: Record) -> int:
    """Return how many bytes a publication counts in a buffer."""
    return len(record.payload) + ITEM_OVERHEAD
