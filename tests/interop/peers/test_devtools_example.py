"""The example docs/examples/devtools.py, with Chromium."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.processes import free_port
from helpers.programs import SECONDS, Program
from interop.peers.browser import chromium_browser
from streamws import Client, Request, Response, WebSocketServer

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "devtools.py"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Prés</title><canvas></canvas>
<script>
const canvas = document.querySelector("canvas");
canvas.width = canvas.height = 2000;
const noise = canvas.getContext("2d").createImageData(2000, 2000);
for (let start = 0; start < noise.data.length; start += 65536)
    crypto.getRandomValues(noise.data.subarray(start, start + 65536));
canvas.getContext("2d").putImageData(noise, 0, 0);
</script>"""


async def answer(request: Request) -> Response:
    return Response(200, PAGE, content_type="text/html")


async def never(client: Client) -> None:
    raise AssertionError("the page opens no WebSocket")


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """The URL of a page of which no picture can be compressed well."""
    server = WebSocketServer("127.0.0.1", 0, handler=never)
    server.request(answer)
    async with server:
        yield f"http://127.0.0.1:{server.port}/"


async def test_example_prints_title_of_page_and_saves_picture(page: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    async with asyncio.timeout(SECONDS), chromium_browser(tmp_path / "browser") as url:
        async with Program(str(EXAMPLE), urlsplit(url).netloc, page, str(picture)) as program:
            assert await program.end() == 0, program.stderr
        assert (program.stdout, program.stderr) == ("Prés\n", "")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 300
    assert height > 300
    assert len(data) > 1 << 20, "the message was larger than the default limit"


async def test_example_says_which_page_cannot_be_opened(tmp_path: Path) -> None:
    page = f"http://127.0.0.1:{free_port()}/"
    async with asyncio.timeout(SECONDS), chromium_browser(tmp_path / "browser") as url:
        async with Program(str(EXAMPLE), urlsplit(url).netloc, page, str(tmp_path / "page.png")) as program:
            assert await program.end() == 1
        assert program.stderr == f"cannot open {page}: net::ERR_CONNECTION_REFUSED\n"


async def test_example_says_that_there_is_no_browser(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Program(str(EXAMPLE), address, "about:blank", str(tmp_path / "page.png")) as program:
        assert await program.end() == 1
    assert "Traceback" not in program.stderr
    assert "Connection refused" in program.stderr
