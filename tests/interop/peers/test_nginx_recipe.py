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
from helpers.processes import running
from helpers.waiting import until
from interop.peers.nginx import nginx
from streamws import HandshakeRefused, connect

PAGE = ROOT / "docs" / "topics" / "deployment.md"
SOCKET = "/run/chat/chat.sock"
IS_ROOT = os.geteuid() == 0
GROUP = "www-data"


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
    place, program = folder / "chat.sock", scratch / "program.py"
    program.write_text(source.replace(SOCKET, str(place)))
    [block] = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    user = f"user nobody {GROUP};" if IS_ROOT else ""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    async with running("sh", "-c", f"umask 022; exec {sys.executable} {program}", environment=environment):
        await until(place.exists, 20)
        async with nginx(block.replace(SOCKET, str(place)), scratch, main=user) as port:
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
