"""Two processes of a program behind nginx, which has the lines of docs/howto/several-processes.md."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGTERM

import psutil

from helpers.blocks import ROOT
from helpers.processes import free_port, listens, python_environment
from helpers.programs import Program
from interop.peers.nginx import nginx_with

PAGE = ROOT / "docs" / "howto" / "several-processes.md"


class Processes:
    """The processes. They are called 8001 and 8002, as on the page, and have other ports.

    :param arguments: returns the arguments of Python for a process that listens on a port.
    :param environment: variables for all processes. `PORT` is the port of each one.
    :param stack: ends what is still running.
    """

    def __init__(
        self, arguments: Callable[[int], Sequence[str]], environment: Mapping[str, str], stack: AsyncExitStack
    ) -> None:
        self.port = free_port()
        """The port of nginx."""
        self.ports = {name: free_port() for name in (8001, 8002)}
        self.running: dict[int, Program] = {}
        self._arguments = arguments
        self._environment = environment
        self._stack = stack
        self._started: list[Program] = []

    @property
    def configuration(self) -> str:
        """The lines of the page, with other ports."""
        [lines] = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        ports = {"8080": f"127.0.0.1:{self.port}", **{str(name): str(port) for name, port in self.ports.items()}}
        return re.sub("|".join(ports), lambda found: ports[found[0]], lines)

    async def start(self, name: int) -> None:
        """Start a process, and wait until it listens."""
        port = self.ports[name]
        environment = {**python_environment(), **self._environment, "PORT": str(port)}
        program = Program("-u", *self._arguments(port), environment=environment)
        self._started.append(program)
        self.running[name] = await self._stack.enter_async_context(program)
        await listens(port)

    async def kill(self, name: int) -> None:
        """Kill a process at once."""
        program = self.running.pop(name)
        program.process.kill()
        await program.end()

    async def stop(self, name: int) -> None:
        """Stop a process as systemd does."""
        assert await self.running.pop(name).interrupt(SIGTERM) == 0

    def clients(self, name: int) -> int:
        """Return the number of connections to a process."""
        connections = psutil.Process(self.running[name].process.pid).net_connections("tcp")
        return sum(
            connection.status == "ESTABLISHED" and connection.laddr.port == self.ports[name]
            for connection in connections
        )

    def check(self) -> None:
        """Check that no process has logged a traceback."""
        for program in self._started:
            assert "Traceback" not in program.stderr, program.stderr


@asynccontextmanager
async def behind_nginx(
    folder: Path, arguments: Callable[[int], Sequence[str]], **environment: str
) -> AsyncIterator[Processes]:
    """Run nginx and two processes. They must end well if they are stopped."""
    async with AsyncExitStack() as stack:
        processes = Processes(arguments, environment, stack)
        await asyncio.gather(*map(processes.start, processes.ports))
        user = "user root;" if os.geteuid() == 0 else ""  # may read the folder
        await stack.enter_async_context(nginx_with(processes.configuration, processes.port, folder, main=user))
        yield processes
        await asyncio.gather(*map(processes.stop, [*processes.running]))
        processes.check()
