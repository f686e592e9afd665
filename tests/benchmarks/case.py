"""What the cases that measure servers have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.contestants import GENERAL
from benchmarks.deflate import Settings
from benchmarks.measure import Measure
from benchmarks.process import ServerProcess


class ServerCase(ABC):
    """A case that measures servers."""

    name: str
    unit: str
    """What the case counts, in the plural: `messages`, for example."""
    handler = "echo"
    """The server's task; `servers.common` lists them."""
    settings: Settings | None = None
    """The settings for compression; None for no compression."""
    tls: bool = False
    once = False
    """Whether one round is enough, because the result hardly varies."""
    processes: int = 1
    """The number of server processes that run at the same time."""
    options: Sequence[str] = ()
    """Further options of the servers; `servers.common` lists them."""
    contestants: Sequence[str] = GENERAL
    """The libraries that the case can measure."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What the case measures, in one line."""

    @contextmanager
    def surroundings(self) -> Iterator[Sequence[str]]:
        """Start what the servers need, until the end of the `with` block.

        :returns: Further options of the servers.
        """
        yield ()

    @abstractmethod
    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Load the servers, warm them up, and measure them for this number of seconds."""
