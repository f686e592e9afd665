"""The recipes for HAProxy and Caddy in the documentation, with the program that stands there."""

import os
import re
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from helpers.blocks import ROOT, examples
from helpers.processes import free_port, listens, running
from helpers.waiting import until
from streamws import connect

PAGE = ROOT / "docs" / "topics" / "deployment.md"
SOCKET = "/run/chat/chat.sock"


def recipe(begin: str) -> str:
    """Return the block of the page that begins with a line."""
    [block] = re.findall(rf"^```text\n({re.escape(begin)}\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Path]:
    """Run the program on the page. Yields the path of its socket."""
    [source] = [example.source for example in examples() if (example.page, example.name) == (PAGE, "unix")]
    place, program = folder / "chat.sock", folder / "program.py"
    program.write_text(source.replace(SOCKET, str(place)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    async with running(sys.executable, program, environment=environment):
        await until(place.exists, 20)
        yield place


@asynccontextmanager
async def proxy(*command: str | Path, port: int, folder: Path) -> AsyncIterator[None]:
    """Run a proxy that listens on a port. It writes its files into the folder."""
    environment = os.environ | dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    with (folder / "log").open("wb") as log:
        async with running(*command, environment=environment, output=log, errors=log) as process:
            await listens(port)
            assert process.returncode is None
            yield


async def test_recipe_for_haproxy_works(
    tmp_path: Path, certificate: tuple[Path, Path], client_context: ssl.SSLContext
) -> None:
    port = free_port()
    both, file = tmp_path / "both.pem", tmp_path / "haproxy.cfg"
    both.write_text("".join(path.read_text() for path in certificate))
    async with serving(tmp_path) as place:
        text = recipe("defaults").replace(SOCKET, str(place)).replace("/etc/haproxy/example.org.pem", str(both))
        file.write_text(text.replace("bind :443", f"bind 127.0.0.1:{port}"))
        url = f"wss://localhost:{port}/chat/room"
        async with (
            proxy("haproxy", "-f", file, "-db", port=port, folder=tmp_path),
            connect(url, ssl=client_context) as client,
        ):
            assert await client.read_message() == f"127.0.0.1 asked localhost:{port} for /chat/room"


async def test_recipe_for_caddy_works(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "Caddyfile"
    async with serving(tmp_path) as place:
        site = f"http://127.0.0.1:{port} {{\n    bind 127.0.0.1"
        text = recipe("example.org {").replace(SOCKET, str(place)).replace("example.org {", site)
        file.write_text("{\n    admin off\n}\n" + text)
        command = "caddy", "run", "--config", file, "--adapter", "caddyfile"
        async with (
            proxy(*command, port=port, folder=tmp_path),
            connect(f"ws://127.0.0.1:{port}/chat/room") as client,
        ):
            assert await client.read_message() == f"127.0.0.1 asked 127.0.0.1:{port} for /chat/room"
