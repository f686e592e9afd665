"""The server processes of a run."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.cluster import Cluster
from chaos.proxy import Proxy
from chaos.record import Record
from chaos.redis_servers import Redis
from helpers.processes import free_port, python_environment
from streamws import StreamwsError, Timeouts, connect

_STRANGE = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback|never retrieved|Exception ignored|never awaited|Warning:")
"""What a server must not write."""

TIMEOUTS = Timeouts(open=5, close=2)


class ServerProcess:
    """A server process, its proxy to Redis, and its log.

    :param number: identifies it. Every other process uses uvloop.
    :param redis: where Redis is. The process connects to a cluster without the proxy.
    """

    def __init__(self, number: int, folder: Path, redis: Redis, record: Record) -> None:
        self.number = number
        self.port = free_port()
        self.proxy = Proxy(redis.port)
        self._redis = redis
        self.running = False
        self.busy = asyncio.Lock()
        """Held by whoever does harm to it."""
        self.at_start: dict[str, Any] = {}
        """The sizes of what it holds, when it has just started."""
        self.first_peace: dict[str, Any] = {}
        """The same, in its first time of peace."""
        self._log = folder / f"server-{number}.log"
        self._record = record
        self._process: Process | None = None

    def __str__(self) -> str:
        return f"process {self.number}"

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        if not self.proxy.port:
            await self.proxy.start()
        where = [f"redis://127.0.0.1:{self.proxy.port}"]
        if isinstance(self._redis, Cluster):
            where = [*self._redis.urls, "--cluster"]
        loop = "uvloop" if self.number % 2 else "asyncio"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "always::ResourceWarning", "-m", "chaos.server", str(self.port),
                *where, "--loop", loop,
                stdin=DEVNULL, stdout=log, stderr=log, env=python_environment(),
            )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    break
                if self._process.returncode is not None:
                    raise RuntimeError(f"{self} did not start:\n{self._log.read_text()[-5000:]}")
                await asyncio.sleep(0.01)
        self.at_start = await self.ask("state")
        self.first_peace = {}
        self.running = True

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """Kill it at once."""
        self.running = False
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def end(self) -> None:
        """Kill it, and close its proxy."""
        await self.kill()
        await self.proxy.close()

    async def terminate(self, seconds: float = 30.0) -> None:
        """Let it drain and end."""
        assert self._process is not None
        self.running = False
        self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                status = await self._process.wait()
        except TimeoutError:
            self._record.fault("server faults", f"{self} has not ended {seconds:g} s after SIGTERM")
            await self.kill()
        else:
            if status:
                self._record.fault("server faults", f"{self} has ended with status {status} after SIGTERM")

    async def ask(self, question: str) -> dict[str, Any]:
        """Ask it a question; the answer may be an `error`."""
        try:
            async with asyncio.timeout(10), connect(self.url("/ask"), proxy=None, timeouts=TIMEOUTS) as client:
                await client.send(question)
                answer = await client.read_message()
                return dict(json.loads(answer))
        except (OSError, StreamwsError, EOFError) as error:
            return {"error": repr(error)}

    def check_log(self) -> None:
        """Check that nothing unexpected was logged."""
        lines = self._log.read_text(errors="replace").splitlines()
        for place, line in enumerate(lines):
            if _STRANGE.search(line):
                self._record.fault("server faults", f"{self} logged: " + " | ".join(lines[place : place + 30]))
                return
