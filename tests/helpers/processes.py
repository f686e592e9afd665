"""Start programs of any kind, each in its own process group, which is killed at the end."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

TESTS = Path(__file__).resolve().parents[1]


class Finished(NamedTuple):
    """A program that has exited."""

    status: int
    output: bytes
    errors: str


@asynccontextmanager
async def running(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: int | BinaryIO = PIPE,
    errors: int | BinaryIO = PIPE,
) -> AsyncIterator[Process]:
    """Run a program while the block runs; then kill it and all processes in its group.

    :param folder: the folder in which it runs; by default that of the tests.
    :param output: standard output. A program that runs for long should not fill a pipe.
    :param errors: standard error.
    """
    process = await create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=output, stderr=errors, env=environment, cwd=folder, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()  # reads to the ends, so that the pipes are closed


async def run(*command: str | Path, seconds: float = 30.0, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program; it must exit within `seconds`."""
    async with running(*command, environment=environment) as process, asyncio.timeout(seconds):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, output, errors.decode(errors="replace"))


async def output_of(program: str) -> str:
    """Run a Python program, which must succeed, and return its standard output."""
    finished = await run(sys.executable, "-c", program, environment=python_environment())
    assert finished.status == 0, finished.errors
    return finished.output.decode()


def python_environment() -> dict[str, str]:
    """Return an environment in which Python can import the helpers of the tests."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port


async def listens(port: int) -> None:
    """Wait until a program listens on the port."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
