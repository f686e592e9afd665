"""Programs that the tests run in processes of their own, on the build that is tested."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamws.connection
from helpers.waiting import PATIENCE

_TESTS = Path(__file__).parent.parent
_PURE = "from helpers.builds import use_pure; use_pure()\n"


class Program:
    """A process that prints a line when it is ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read_line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stdout.readline()).decode().strip()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Its exit code, and what it wrote to stderr."""
        async with asyncio.timeout(PATIENCE):
            _, errors = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, errors.decode()


@asynccontextmanager
async def program(source: str) -> AsyncIterator[Program]:
    """Run Python source; the process is killed at the end of the block if it still runs."""
    if str(streamws.connection.__file__).endswith(".py"):
        source = _PURE + source
    package = Path(streamws.connection.__file__ or "").parent.parent
    folders = os.pathsep.join([str(_TESTS), str(package)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", source),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": folders},
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
