"""Programs that tests start: each in a process group of its own, of which nothing is left behind."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

TESTS = Path(__file__).resolve().parents[1]


class Finished(NamedTuple):
    """What a program left."""

    status: int
    output: bytes
    errors: str


@asynccontextmanager
async def running(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    output: int | BinaryIO = PIPE,
    errors: int | BinaryIO = PIPE,
) -> AsyncIterator[Process]:
    """Have a program run; at the end of the block it is killed, and whatever it started in its group.

    `output` and `errors` are where it writes to; a program that runs for long should not fill a pipe.
    """
    process = await create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=output, stderr=errors, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()  # to their ends: so the pipes are closed


async def run(*command: str | Path, seconds: float = 30.0, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end, which must come within `seconds`."""
    async with running(*command, environment=environment) as process, asyncio.timeout(seconds):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, output, errors.decode(errors="replace"))


def python_environment() -> dict[str, str]:
    """For a Python that imports the same streamws and the tests' helpers."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    """A port of 127.0.0.1 for a program that cannot choose one itself."""
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
