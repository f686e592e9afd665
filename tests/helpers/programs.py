"""Python programs that tests start as processes, as a user does."""

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
"""Seconds that a program may take for anything: far more than it needs, a bound for programs that hang."""


_PURE = "from helpers.builds import use_pure; use_pure()\n"


class Program:
    """Runs a Python program while its block runs; then the program is killed if it is still running."""

    def __init__(self, *arguments: str, stdin: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        """:param stdin: `PIPE` for `write` and `end_input`; by default the standard input of the tests."""
        self.arguments = arguments
        # -P: import the installed package, not one in the current folder.
        self._command = [sys.executable, "-P", "-W", "error", *arguments]
        self.stdout = ""
        """Standard output as far as it was read."""
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
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def end_input(self, data: bytes = b"") -> None:
        """Write to its standard input and close it."""
        self.write(data)
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def says(self, pattern: str) -> str:
        """Wait for a line of standard output that matches `pattern`, and return its first group or the match."""
        return await self._find(pattern, errors=False)

    async def logs(self, pattern: str) -> str:
        """Do as `says`, on standard error."""
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
        """Send a signal, wait for the program to exit, and return its exit code."""
        self.process.send_signal(number)
        return await self.end()

    async def end(self) -> int:
        """Wait for the program to exit, and return its exit code."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            out, err = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            self.stdout += out.decode()
            self.stderr += err.decode()
            return await self.process.wait()


def script(source: str) -> Program:
    """Make a program from source code. It runs on the build under test, and can import the helpers of the tests."""
    if not is_compiled():
        source = _PURE + source
    return Program("-c", source, environment=python_environment())
