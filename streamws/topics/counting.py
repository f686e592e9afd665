"""`Counts`: what one `Topics` counts. The other numbers of its `stats` are those of the objects that exist."""

from ..errors import BrokerError, PublishTimeout


class Counts:
    """Counters of one `Topics`; see `TopicsStats`. Only the thread of the loop changes them."""

    __slots__ = (
        "disconnected",
        "dropped",
        "failed",
        "gaps",
        "joined",
        "losses",
        "not_recovered",
        "published",
        "received",
        "recovered",
        "refused",
        "replaced",
        "timed_out",
    )

    def __init__(self) -> None:
        self.joined: int = 0
        self.recovered: int = 0
        self.not_recovered: int = 0
        self.published: int = 0
        self.failed: int = 0
        self.timed_out: int = 0
        self.refused: int = 0
        self.received: int = 0
        self.gaps: int = 0
        self.dropped: int = 0
        self.replaced: int = 0
        self.disconnected: int = 0
        self.losses: int = 0

    def join(self, returning: bool, recovered: bool) -> None:
        """Count a follower that has joined.

        :param returning: whether it came back with `since=`.
        """
        self.joined += 1
        if returning and recovered:
            self.recovered += 1
        elif returning:
            self.not_recovered += 1

    def fail(self, error: BrokerError) -> None:
        """Count a publication that has failed."""
        if isinstance(error, PublishTimeout):
            self.timed_out += 1
        else:
            self.failed += 1
