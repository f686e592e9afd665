"""Messages of 1 GiB in each direction, through a server process of about 30 MiB."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from helpers.frames import BINARY, TEXT, client_frame, client_header, header, request, xor
from helpers.processes import TESTS, python_environment

SIZE = 1 << 30
MOST = 40 << 20
"""The bytes of memory that the server process may use, including Python."""
BLOCK = bytes(range(256)) * 4096
PATIENCE = 50.0


class StreamServer:
    """`helpers/stream_server.py` as a process, and an open connection to it."""

    def __init__(self, process: int, connection: socket.socket) -> None:
        self._process = process
        self.connection = connection

    def peak_memory(self) -> int:
        """Return the peak memory of the process, in bytes."""
        status = Path(f"/proc/{self._process}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            assert part, f"the connection ended after {data!r}"
            data += part
        return data


@pytest.fixture
def server(pytestconfig: pytest.Config) -> Iterator[StreamServer]:
    command = [sys.executable, str(TESTS / "helpers" / "stream_server.py")]
    if pytestconfig.getoption("build") == "pure":
        command.append("--pure")
    with Popen(command, stdout=PIPE, env=python_environment()) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                server = StreamServer(process.pid, connection)
                connection.sendall(request())
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += server.receive(1)
                yield server
        finally:
            process.kill()


def test_server_reads_1_gib_into_a_buffer_within_40_mib(server: StreamServer) -> None:
    masked = xor(BLOCK)
    server.connection.sendall(client_header(BINARY, SIZE))
    for _ in range(SIZE // len(BLOCK)):
        server.connection.sendall(masked)
    assert server.receive(12) == b"\x81\x0a%d" % SIZE
    assert server.peak_memory() < MOST


def test_server_sends_1_gib_as_one_frame_within_40_mib(server: StreamServer) -> None:
    server.connection.sendall(client_frame(TEXT, b"%d" % SIZE))
    assert server.receive(10) == header(BINARY, SIZE)
    buffer = bytearray(len(BLOCK))
    view = memoryview(buffer)
    for _ in range(SIZE // len(BLOCK)):
        size = 0
        while size < len(BLOCK):
            count = server.connection.recv_into(view[size:])
            assert count
            size += count
        assert buffer == BLOCK
    assert server.peak_memory() < MOST
    # The frame ended after that, and the connection goes on.
    server.connection.sendall(client_frame(TEXT, b"3"))
    assert server.receive(5) == b"\x82\x03\0\1\2"
