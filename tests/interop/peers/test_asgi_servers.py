"""`from_scope` under ASGI servers that run as processes: Hypercorn, Granian, Daphne, and all classes of uvicorn."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from socket import create_connection
from typing import Any

import pytest

from asgi.conversations import Conversations, Server
from helpers.builds import is_compiled
from helpers.processes import free_port, python_environment

SERVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "hypercorn": ("hypercorn --bind 127.0.0.1:{port} {app}", {"codes": False, "abrupt": 1006}),
    "granian": (
        "granian --interface asgi --host 127.0.0.1 --port {port} --loop asyncio {app}",
        {"tells_reasons": False, "headers": False},
    ),
    "granian-uvloop": (
        "granian --interface asgi --host 127.0.0.1 --port {port} --loop uvloop {app}",
        {"tells_reasons": False, "headers": False},
    ),
    "daphne": (
        "daphne --bind 127.0.0.1 --port {port} {app}",
        {
            "abrupt": 1006,
            "answers": False,
            "empty": False,
            "headers": False,
            "sends_codes": False,
            "sends_reasons": False,
            "tells_reasons": False,
        },
    ),
    "uvicorn-wsproto": ("uvicorn --port {port} --ws wsproto {app}", {}),
    "uvicorn-websockets": ("uvicorn --port {port} --ws websockets {app}", {"abrupt": 1006}),
    "uvicorn-uvloop": ("uvicorn --port {port} --ws websockets-sansio --loop uvloop {app}", {}),
}
"""The command of each server, and what is special about it."""


class Processes:
    """The servers, each of which runs from its first test on."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[subprocess.Popen[bytes], Server]] = {}

    def server(self, name: str) -> Server:
        if name not in self._started:
            self._started[name] = start(name)
        return self._started[name][1]

    def end(self) -> None:
        for process, _ in self._started.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.end()


class TestServers(Conversations):
    @pytest.fixture(params=SERVERS)
    def server(self, request: pytest.FixtureRequest, processes: Processes) -> Server:
        return processes.server(request.param)


def start(name: str) -> "tuple[subprocess.Popen[bytes], Server]":
    """Start a server, and wait until it listens."""
    command, special = SERVERS[name]
    port = free_port()
    arguments = command.format(port=port, app="asgi.served:application").split()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=python_environment() | {"BUILD_UNDER_TEST": "compiled" if is_compiled() else "pure"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(port, process)
    return process, Server(f"ws://127.0.0.1:{port}", **special)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the server listens."""
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, "the server has ended"
        with suppress(ConnectionRefusedError):
            create_connection(("127.0.0.1", port)).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)
