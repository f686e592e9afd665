"""A server or client under measurement: its process is started, measured from outside, and stopped."""

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
    """CPU time of a process, in seconds.

    On Linux, `total` comes from the scheduler, to the nanosecond. The split into user and system comes from the 10 ms
    ticks of the kernel, scaled to the total.
    """

    total: float
    user: float
    system: float
    waited: float
    """The seconds in which it was ready to run, and other processes used its core; 0 if unknown."""


class Contestant:
    """A process under measurement, which runs until the end of its `with` block."""

    def __init__(self, arguments: Sequence[str], loop: str, core: int | None, options: Sequence[str]) -> None:
        """Start the process.

        :param arguments: The path of a script in this folder, then its options.
        :param options: Further options of every script of its kind.
        """
        script, *script_options = arguments
        command = [sys.executable, str(BENCHMARKS / script), *script_options, "--loop", loop, *options]
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
        """Return the CPU time of the process so far."""
        times = self._seen.cpu_times()
        ticks = times.user + times.system
        total, waited = self._scheduled()
        if not total or not ticks:
            return CpuTime(ticks, times.user, times.system, waited)
        return CpuTime(total, times.user * total / ticks, times.system * total / ticks, waited)

    def resident_memory(self) -> int:
        """Return the resident memory of the process, in bytes."""
        return self._seen.memory_info().rss

    def peak_memory(self) -> int:
        """Return the highest resident memory of the process so far, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def stop(self) -> None:
        """Stop the process: terminate it, and kill it if it does not end in time."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _scheduled(self) -> tuple[float, float]:
        """Return the seconds that all threads ran and waited for a core, from Linux's scheduler; 0 elsewhere."""
        ran = waited = 0
        with suppress(OSError):
            for task in Path(f"/proc/{self._process.pid}/task").iterdir():
                fields = (task / "schedstat").read_text().split()
                ran += int(fields[0])
                waited += int(fields[1])
        return ran / 1e9, waited / 1e9


class ServerProcess(Contestant):
    """A server. It listens on `port` as soon as the constructor returns."""

    def __init__(
        self, arguments: Sequence[str], loop: str, handler: str, core: int | None, *, tls: bool, streams: bool
    ) -> None:
        self.streams = streams
        """Whether it can receive and send a frame piece by piece."""
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
            raise ChildProcessError(
                f"the server ended before it was ready, with status {self._process.wait(STOP_TIMEOUT)}"
            )
        return int(line)


class ClientProcess(Contestant):
    """A client. It opens a number of connections to a URL and echoes every message."""

    def __init__(self, arguments: Sequence[str], loop: str, core: int | None, url: str, connections: int) -> None:
        super().__init__(arguments, loop, core, ["--url", url, "--connections", str(connections)])
