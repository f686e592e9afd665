"""Programs that run as processes of their own, as a user starts them."""

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from helpers.builds import is_compiled
from helpers.processes import python_environment

SECONDS = 30
"""What a program gets for anything; a bound for what hangs, far above what it needs."""


_PURE = "from helpers.builds import use_pure; use_pure()\n"


class Program:
    """A Python program: `async with Program("-m", "streamws", "echo") as program`; killed if left running."""

    def __init__(self, *arguments: str, stdin: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`stdin`: `PIPE` for one that `write` and `end_input` feed; by default that of the tests."""
        self.arguments = arguments
        # -P: the package that is tested, not what lies in the current folder.
        self._command = [sys.executable, "-P", "-W", "error", *arguments]
        self.stdout = ""
        """What was read of its standard output so far."""
        self.stderr = ""
        self._stdin = stdin
        self._environment = environment
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=self._stdin, stdout=PIPE, stderr=PIPE, env=self._environment
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.end()
        if error is not None:
            error.add_note(f"the program's output:\n{self.stdout}\nand on stderr:\n{self.stderr}")

    def write(self, data: bytes) -> None:
        """Put something into its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def end_input(self, data: bytes = b"") -> None:
        """Put the last of it there."""
        self.write(data)
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def says(self, pattern: str) -> str:
        """Wait for a line of its output in which `pattern` is found; returns the pattern's first group."""
        return await self._find(pattern, errors=False)

    async def logs(self, pattern: str) -> str:
        """The same on its standard error."""
        return await self._find(pattern, errors=True)

    async def _find(self, pattern: str, errors: bool) -> str:
        stream = self.process.stderr if errors else self.process.stdout
        assert stream is not None
        async with asyncio.timeout(SECONDS):
            while line := (await stream.readline()).decode():
                if errors:
                    self.stderr += line
                else:
                    self.stdout += line
                match = re.search(pattern, line)
                if match is not None:
                    return match[1] if match.re.groups else match[0]
        raise AssertionError(f"the program ended without {pattern!r}")

    async def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and wait for its end; returns the exit code."""
        self.process.send_signal(number)
        return await self.end()

    async def end(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            out, err = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            self.stdout += out.decode()
            self.stderr += err.decode()
            return await self.process.wait()


def script(source: str) -> Program:
    """Make a program of its source. It runs on the build that is tested, and can import the helpers of the tests."""
    if not is_compiled():
        source = _PURE + source
    return Program("-c", source, environment=python_environment())
