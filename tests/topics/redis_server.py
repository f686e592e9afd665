"""A `redis-server` of the tests: it is started on a free port, killed, stopped and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PATIENCE = 10.0


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A `redis-server`, or a `valkey-server` if there is no other.

    :param folder: where it keeps its data.
    :param options: further options of its command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            raise RuntimeError("the tests of RedisBroker need redis-server: apt-get install redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--loglevel", "warning", "--logfile", str(folder / "redis.log"), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                # Any answer will do, such as that a password is needed. It is an error while the data are loaded.
                if b"LOADING" not in self.ask("PING"):
                    return
            except OSError as error:
                status = self._process.poll()
                if status is not None or time.monotonic() > ends:
                    log = (self._folder / "redis.log").read_text()
                    raise RuntimeError(f"redis-server did not start (status {status}):\n{log}") from error
            time.sleep(0.002)

    def ask(self, *command: str) -> bytes:
        """Send a command on a connection of its own, and return the beginning of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            parts = [part.encode() for part in command]
            connection.sendall(b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)]))
            return connection.recv(65536)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it at once, as a failing machine would."""
        if self._process is not None:
            self._process.kill()  # works on a stopped process, too
            self._process.wait()
            self._process = None

    def restart(self, *options: str) -> None:
        """Kill it and start it again, with further options."""
        self.kill()
        self._command += options
        self.start()


class Sentinel(RedisServer):
    """A Redis Sentinel that watches one master, under the name `mymaster`, and decides alone."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        file = folder / "sentinel.conf"
        lines = [
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds mymaster 200",
            "sentinel failover-timeout mymaster 2000",
            f"logfile {folder / 'redis.log'}",
        ]
        file.write_text("\n".join(lines))
        program, *_ = self._command
        self._command = [program, str(file), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]
