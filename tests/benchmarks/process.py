"""A server or client under measurement: its process is started, measured from outside, and stopped."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

BENCHMARKS = Path(__file__).resolve().parent
TESTS = BENCHMARKS.parent
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
QUIET_TIME = 0.002
"""A process without CPU time for these seconds has nothing to do."""
QUIET_TIMEOUT = 10.0


class CpuTime(NamedTuple):
    """CPU time of a process, in seconds.

    On Linux, `total` comes from the scheduler, to the nanosecond. `user` and `system` come from the kernel's ticks of
    10 ms, so they need not add up to it; `split` adjusts them.
    """

    total: float
    user: float
    system: float
    waited: float
    """The seconds in which it was ready to run, and other processes used its core; 0 if unknown."""

    def split(self) -> "CpuTime":
        """Return the same time, with user and system scaled to the total."""
        ticks = self.user + self.system
        scale = self.total / ticks if ticks else 0.0
        return self._replace(user=self.user * scale, system=self.system * scale)


class Contestant:
    """A process under measurement, which runs until the end of its `with` block."""

    def __init__(
        self, arguments: Sequence[str], loop: str, core: int | None, options: Sequence[str], interpreter: str
    ) -> None:
        """Start the process.

        :param arguments: The path of a script in this folder, then its options.
        :param options: Further options of every script of its kind.
        :param interpreter: The path of the Python interpreter that runs it.
        """
        script, *script_options = arguments
        command = [interpreter, str(BENCHMARKS / script), *script_options, "--loop", loop, *options]
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
        return CpuTime(total or ticks, times.user, times.system, waited)

    def resident_memory(self) -> int:
        """Return the resident memory of the process, in bytes."""
        return self._seen.memory_info().rss

    def peak_memory(self) -> int:
        """Return the highest resident memory of the process so far, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def sleeps(self) -> int:
        """Return how often the process has gone to sleep so far, because it had nothing to do."""
        sleeps = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            sleeps += next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
        return sleeps

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process within a `with` block, so that it finds all that happened in the meantime at once."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            self._wait_for_state("T")
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def wait_until_asleep(self) -> None:
        """Wait until the process has done all its work, and sleeps.

        :raises TimeoutError: If it still works after `QUIET_TIMEOUT`.
        """
        until = time.monotonic() + QUIET_TIMEOUT
        before = -1.0
        while before != (now := self.cpu_time().total):
            if time.monotonic() > until:
                raise TimeoutError(f"the process was not idle within {QUIET_TIMEOUT:g} s")
            self._wait_for_state("S")
            before = now
            time.sleep(QUIET_TIME)

    def _wait_for_state(self, state: str) -> None:
        path = Path(f"/proc/{self._process.pid}/stat")
        until = time.monotonic() + QUIET_TIMEOUT
        # The name of the process, in brackets, may contain spaces.
        while path.read_text().rpartition(") ")[2][0] != state:
            if time.monotonic() > until:
                raise TimeoutError(f"the process was not in state {state} within {QUIET_TIMEOUT:g} s")
            time.sleep(0)

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
        self,
        arguments: Sequence[str],
        loop: str,
        handler: str,
        core: int | None,
        *,
        tls: bool,
        streams: bool,
        options: Sequence[str] = (),
        interpreter: str = sys.executable,
    ) -> None:
        self.streams = streams
        """Whether it can receive and send a frame piece by piece."""
        options = ["--port", "0", "--handler", handler, *(["--tls"] if tls else []), *options]
        super().__init__(arguments, loop, core, options, interpreter)
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

    def __init__(
        self,
        arguments: Sequence[str],
        loop: str,
        core: int | None,
        url: str,
        connections: int,
        interpreter: str = sys.executable,
    ) -> None:
        super().__init__(arguments, loop, core, ["--url", url, "--connections", str(connections)], interpreter)
