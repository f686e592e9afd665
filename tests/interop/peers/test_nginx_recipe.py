"""The recipe for nginx and a Unix socket in the documentation, with the program and the block that stand there.

If the tests run as root, nginx serves as another user, and so needs permission for the socket.
"""

import grp
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from helpers.blocks import ROOT, examples
from helpers.processes import free_port, listens, running
from helpers.waiting import until
from streamws import HandshakeRefused, connect

PAGE = ROOT / "docs" / "topics" / "deployment.md"
SOCKET = "/run/chat/chat.sock"
IS_ROOT = os.geteuid() == 0
GROUP = "www-data"

CONFIGURATION = """
daemon off;
{user}
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {block}
    }}
}}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of the socket, with the owners and permissions that the page gives it."""
    # Not `tmp_path`: only its owner can enter that.
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    folder = parent / "chat"
    folder.mkdir()
    if IS_ROOT:
        os.chown(folder, -1, grp.getgrnam(GROUP).gr_gid)
    [mode] = re.findall(rf"^\$ sudo install .* -g {GROUP} -m (\d+) {Path(SOCKET).parent}$", PAGE.read_text(), re.M)
    folder.chmod(int(mode, 8))
    yield folder
    shutil.rmtree(parent)


@asynccontextmanager
async def serving(source: str, folder: Path, scratch: Path) -> AsyncIterator[int]:
    """Run a program that listens on the Unix socket, and nginx in front of it. Yields the port of nginx."""
    place, port = folder / "chat.sock", free_port()
    program, configuration, log = scratch / "program.py", scratch / "nginx.conf", scratch / "nginx.log"
    program.write_text(source.replace(SOCKET, str(place)))
    [block] = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    user = f"user nobody {GROUP};" if IS_ROOT else ""
    block = block.replace(SOCKET, str(place))
    configuration.write_text(CONFIGURATION.format(user=user, folder=scratch, port=port, block=block))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("wb") as errors:
        async with (
            running("sh", "-c", f"umask 022; exec {sys.executable} {program}", environment=environment),
            running("nginx", "-p", scratch, "-c", configuration, "-e", "stderr", errors=errors) as proxy,
        ):
            await until(place.exists, 20)
            await listens(port)
            assert proxy.returncode is None, log.read_text()
            yield port


def source_of_recipe() -> str:
    [source] = [example.source for example in examples() if (example.page, example.name) == (PAGE, "unix")]
    return source


async def test_recipe_for_nginx_and_a_unix_socket_works(folder: Path, tmp_path: Path) -> None:
    async with (
        serving(source_of_recipe(), folder, tmp_path) as port,
        connect(f"ws://127.0.0.1:{port}/chat/room") as client,
    ):
        assert await client.read_message() == "127.0.0.1 asked 127.0.0.1 for /chat/room"


@pytest.mark.parametrize("mode", [0o666, 0o600, None])
async def test_mode_of_the_socket_decides_whether_nginx_may_connect(
    mode: int | None, folder: Path, tmp_path: Path
) -> None:
    source = source_of_recipe()
    assert "mode=0o660" in source
    allowed = mode == 0o666 or not IS_ROOT  # the user of the program may always connect
    async with serving(source.replace("mode=0o660", f"mode={mode!r}"), folder, tmp_path) as port:
        url = f"ws://127.0.0.1:{port}/chat/room"
        if allowed:
            async with connect(url) as client:
                assert await client.read_message() == "127.0.0.1 asked 127.0.0.1 for /chat/room"
        else:
            with pytest.raises(HandshakeRefused, match=r"^502 Bad Gateway: "):
                await connect(url)
