"""The measure of one run: one case with one server or client."""

import time
from collections.abc import Callable, Mapping
from math import inf
from typing import NamedTuple

from benchmarks.process import Contestant, CpuTime


class Measure(NamedTuple):
    """Counts and times of one run."""

    operations: float
    """The number of messages, handshakes, deliveries, MiB or open connections, depending on the case."""
    seconds: float
    cpu: CpuTime
    generator_cpu: float
    memory: int | None = None
    """The bytes that the connections added to the resident memory, in a case that measures memory; else None."""
    figures: Mapping[str, float] = {}
    """Further figures of the case, by column heading."""

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    @property
    def cost(self) -> float:
        """The cost of one operation: seconds of CPU time, or bytes in a case that measures memory."""
        return (self.cpu.total if self.memory is None else self.memory) / self.operations

    @property
    def share(self) -> float:
        """The share of one core that the server or client used."""
        return self.cpu.total / self.seconds

    @property
    def waited_share(self) -> float:
        """The share of the time in which it was ready to run and had no core."""
        return self.cpu.waited / self.seconds

    @property
    def generator_share(self) -> float:
        """The share of one core that the load generator used."""
        return self.generator_cpu / self.seconds

    @property
    def generator_bound(self) -> bool:
        """Whether the load generator limited the rate."""
        return self.memory is None and self.generator_share > 0.95 and self.share < 0.90


class Stopwatch:
    """Measures the time from its creation to `stop`."""

    def __init__(self, contestant: Contestant, helpers: Callable[[], float] = float) -> None:
        """Start.

        :param helpers: Returns the CPU time of the generator's other processes, in seconds.
        """
        self._contestant = contestant
        self._helpers = helpers
        self._generator = self._generator_time()
        self._cpu = contestant.cpu_time()
        self._wall = time.monotonic()

    def stop(
        self,
        operations: float,
        busy: float = inf,
        *,
        memory: int | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> Measure:
        """Stop.

        :param operations: The number of operations since the start.
        :param busy: The seconds in which the generator had something to do, if it never sleeps.
        :param memory: See `Measure`.
        :param figures: See `Measure`.
        :raises TimeoutError: If there were no operations.
        """
        seconds = time.monotonic() - self._wall
        now, before = self._contestant.cpu_time(), self._cpu
        cpu = CpuTime(*(b - a for a, b in zip(before, now, strict=True)))
        if not operations:
            raise TimeoutError(f"nothing was completed within {seconds:.1f} s")
        generator = min(busy, self._generator_time() - self._generator)
        return Measure(operations, seconds, cpu, generator, memory, figures or {})

    def _generator_time(self) -> float:
        return time.process_time() + self._helpers()
