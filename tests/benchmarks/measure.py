"""What one run of one case with one server or client has shown."""

import time
from collections.abc import Callable, Mapping
from math import inf
from typing import NamedTuple

from benchmarks.process import Contestant, CpuTime


class Measure(NamedTuple):
    """`operations` are messages, handshakes, deliveries, MiB or held connections, as the case has it."""

    operations: float
    seconds: float
    cpu: CpuTime
    generator_cpu: float
    memory: int | None = None
    """If the case is about memory: what the connections added to the process's resident memory, in bytes."""
    figures: Mapping[str, float] = {}
    """What else the case has to show, by heading."""

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    @property
    def cost(self) -> float:
        """What one operation costs: seconds of CPU time, or bytes if the case is about memory."""
        return (self.cpu.total if self.memory is None else self.memory) / self.operations

    @property
    def share(self) -> float:
        return self.cpu.total / self.seconds

    @property
    def waited_share(self) -> float:
        return self.cpu.waited / self.seconds

    @property
    def generator_share(self) -> float:
        return self.generator_cpu / self.seconds

    @property
    def generator_bound(self) -> bool:
        """Whether the load generator was what limited the rate."""
        return self.memory is None and self.generator_share > 0.95 and self.share < 0.90


class Stopwatch:
    """Starts when made; `stop` gives the measure of what happened since."""

    def __init__(self, contestant: Contestant, helpers: Callable[[], float] = float) -> None:
        """`helpers` tells the CPU time of the generator's other processes, if it has any."""
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
        """`busy`: for how many seconds the generator had something to do, if it never sleeps."""
        seconds = time.monotonic() - self._wall
        now, before = self._contestant.cpu_time(), self._cpu
        cpu = CpuTime(*(b - a for a, b in zip(before, now, strict=True)))
        if not operations:
            raise TimeoutError(f"nothing came back within {seconds:.1f} s")
        generator = min(busy, self._generator_time() - self._generator)
        return Measure(operations, seconds, cpu, generator, memory, figures or {})

    def _generator_time(self) -> float:
        return time.process_time() + self._helpers()
