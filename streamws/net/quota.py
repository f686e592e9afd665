"""`Quota`: limits how many connections one remote address may have."""

__all__ = ["Quota"]


class Quota:
    """The number of connections of each remote address, up to a limit. Addresses without connections use no memory.

    :param limit: the most connections of one address.
    """

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of addresses that have connections."""
        return len(self._counts)

    def take(self, address: str) -> bool:
        """Count one more connection of an address; return False, and count nothing, if it has as many as it may."""
        count = self._counts.get(address, 0)
        if count >= self.limit:
            return False
        self._counts[address] = count + 1
        return True

    def give_back(self, address: str) -> None:
        """Count one connection of an address less: it has ended."""
        count = self._counts[address]
        if count > 1:
            self._counts[address] = count - 1
        else:
            del self._counts[address]
