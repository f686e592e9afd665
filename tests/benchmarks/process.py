"""A server or client under measurement: started as its own process, measured from outside, stopped."""

import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

BENCHMARKS = Path(__file__).resolve().parent
TESTS = BENCHMARKS.parent
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0


class CpuTime(NamedTuple):
    """Seconds of CPU time. `total` comes from the scheduler, in nanoseconds, where that can be had; the split
    into user and system comes from the kernel's 10 ms ticks, scaled to the total."""

    total: float
    user: float
    system: float
    waited: float
    """What it was ready to run and had no core, since other processes had it; 0 where that is not known."""


class Contestant:
    """A process under measurement. `with` has it stopped at the end."""

    def __init__(self, arguments: Sequence[str], loop: str, core: int | None, options: Sequence[str]) -> None:
        """`arguments`: a script of this folder, and its options."""
        script, *own = arguments
        command = [sys.executable, str(BENCHMARKS / script), *own, "--loop", loop, *options]
        if core is not None:
            command += ["--core", str(core)]
        paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self._seen = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cpu_time(self) -> CpuTime:
        times = self._seen.cpu_times()
        ticks = times.user + times.system
        total, waited = self._scheduled()
        if not total or not ticks:
            return CpuTime(ticks, times.user, times.system, waited)
        return CpuTime(total, times.user * total / ticks, times.system * total / ticks, waited)

    def resident_memory(self) -> int:
        return self._seen.memory_info().rss

    def peak_memory(self) -> int:
        """The most that its resident memory ever was."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _scheduled(self) -> tuple[float, float]:
        """Seconds on a CPU and waiting for one, of all threads, as Linux's scheduler counts; 0 elsewhere."""
        ran = waited = 0
        with suppress(OSError):
            for task in Path(f"/proc/{self._process.pid}/task").iterdir():
                fields = (task / "schedstat").read_text().split()
                ran += int(fields[0])
                waited += int(fields[1])
        return ran / 1e9, waited / 1e9


class ServerProcess(Contestant):
    """A server; from its making on it listens on `port`."""

    def __init__(
        self, arguments: Sequence[str], loop: str, handler: str, core: int | None, *, tls: bool, streams: bool
    ) -> None:
        self.streams = streams
        """Whether it takes and sends parts of a frame."""
        super().__init__(arguments, loop, core, ["--port", "0", "--handler", handler, *(["--tls"] if tls else [])])
        try:
            self.port = self._read_port()
        except BaseException:
            self.stop()
            raise

    def _read_port(self) -> int:
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(START_TIMEOUT):
                raise TimeoutError(f"the server was not ready within {START_TIMEOUT:g} s")
        line = output.readline()
        if not line:
            raise ChildProcessError(f"the server ended with status {self._process.wait(STOP_TIMEOUT)}")
        return int(line)


class ClientProcess(Contestant):
    """A client: it connects to a URL, so many times, and echoes what comes."""

    def __init__(self, arguments: Sequence[str], loop: str, core: int | None, url: str, connections: int) -> None:
        super().__init__(arguments, loop, core, ["--url", url, "--connections", str(connections)])
