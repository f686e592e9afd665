"""The measure of one run: one case with one server or client."""

import time
from collections.abc import Callable, Mapping, Sequence
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
    """Measures the time from its creation to `stop`, without the time between `pause` and `resume`."""

    def __init__(self, contestants: Contestant | Sequence[Contestant], helpers: Callable[[], float] = float) -> None:
        """Start.

        :param contestants: The process, or several of them, whose times are added.
        :param helpers: Returns the CPU time of the generator's other processes, in seconds.
        """
        self._contestants = [contestants] if isinstance(contestants, Contestant) else contestants
        self._helpers = helpers
        self._total = _Times(0.0, 0.0, CpuTime(0.0, 0.0, 0.0, 0.0))
        self._start: _Times | None = self._now()

    def pause(self) -> None:
        """Add the time since the start, or since `resume`."""
        if self._start is not None:
            self._total = self._total.add(self._now(), self._start)
            self._start = None

    def resume(self) -> None:
        """Measure again, after `pause`."""
        self._start = self._now()

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
        self.pause()
        seconds, generator, cpu = self._total
        if not operations:
            raise TimeoutError(f"nothing was completed within {seconds:.1f} s")
        return Measure(operations, seconds, cpu.split(), min(busy, generator), memory, figures or {})

    def _now(self) -> "_Times":
        cpu = [contestant.cpu_time() for contestant in self._contestants]
        total = CpuTime(*(sum(column) for column in zip(*cpu, strict=True)))
        return _Times(time.monotonic(), time.process_time() + self._helpers(), total)


class _Times(NamedTuple):
    wall: float
    generator: float
    cpu: CpuTime

    def add(self, end: "_Times", start: "_Times") -> "_Times":
        cpu = CpuTime(*(a + c - b for a, b, c in zip(self.cpu, start.cpu, end.cpu, strict=True)))
        return _Times(self.wall + end.wall - start.wall, self.generator + end.generator - start.generator, cpu)
