"""The command `uvicorn --ws`: with the documented examples of FastAPI and Starlette, unchanged; workers; reloading."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from helpers.processes import free_port, listens, python_environment, running
from helpers.waiting import within
from interop.peers.distributions import unpacked

CLASS = "streamws.asgi.uvicorn:Protocol"


@asynccontextmanager
async def under_uvicorn(application: str, folder: Path, *options: str) -> AsyncIterator[str]:
    """Run an application of a folder, with options of the command. Yields its URL."""
    port = free_port()
    options = ("--ws", CLASS, *options)
    command = [sys.executable, "-m", "uvicorn", application, "--app-dir", str(folder), *options]
    with (folder / "log").open("wb") as log:
        async with running(
            *command, "--port", str(port), environment=python_environment(), output=log, errors=log
        ) as server:
            await listens(port)
            yield f"ws://127.0.0.1:{port}"
            server.terminate()
            await within(server.wait())


@pytest.fixture
def fastapi(tmp_path: Path, pytestconfig: pytest.Config) -> Path:
    """The folder with FastAPI's examples."""
    return unpacked("fastapi", tmp_path, pytestconfig) / "docs_src" / "websockets_"


@pytest.fixture
def starlette(tmp_path: Path, pytestconfig: pytest.Config) -> Callable[[str], str]:
    """Writes the first program of Starlette's page that contains a text into a module, and returns its name."""
    page = (unpacked("starlette", tmp_path, pytestconfig) / "docs" / "websockets.md").read_text()

    def write(text: str) -> str:
        programs = re.findall(r"^```python[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        (tmp_path / "example.py").write_text(next(program for program in programs if text in program))
        return "example:app"

    return write


async def test_fastapi_echo(fastapi: Path) -> None:
    async with under_uvicorn("tutorial001:app", fastapi) as url, connect(f"{url}/ws") as client:
        await client.send("hello")
        assert await client.recv() == "Message text was: hello"


async def test_fastapi_token_or_cookie(fastapi: Path) -> None:
    async with under_uvicorn("tutorial002:app", fastapi) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/items/7/ws")
        assert refused.value.response.status_code == 403  # `WebSocketException` before the accept
        async with connect(f"{url}/items/7/ws?token=secret&q=3") as client:
            await client.send("hello")
            assert [await client.recv() for _ in range(3)] == [
                "Session cookie or query token value is: secret",
                "Query parameter q is: 3",
                "Message text was: hello, for item ID: 7",
            ]
        async with connect(f"{url}/items/7/ws", additional_headers={"Cookie": "session=abc"}) as client:
            await client.send("hello")
            assert await client.recv() == "Session cookie or query token value is: abc"


async def test_fastapi_room_with_a_connection_manager(fastapi: Path) -> None:
    async with under_uvicorn("tutorial003:app", fastapi) as url, connect(f"{url}/ws/1") as first:
        async with connect(f"{url}/ws/2") as second:
            await second.send("hello")
            assert await second.recv() == "You wrote: hello"
            assert await second.recv() == "Client #2 says: hello"
            assert await first.recv() == "Client #2 says: hello"
        assert await first.recv() == "Client #2 left the chat"


async def test_starlette_hello(starlette: Callable[[str], str], tmp_path: Path) -> None:
    async with under_uvicorn(starlette("Hello, world!"), tmp_path) as url, connect(url) as client:
        assert await client.recv() == "Hello, world!"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1000


async def test_starlette_iteration(starlette: Callable[[str], str], tmp_path: Path) -> None:
    async with under_uvicorn(starlette("iter_text"), tmp_path) as url, connect(url) as client:
        for number in range(3):
            await client.send(f"{number}")
            assert await client.recv() == f"Message text was: {number}"
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_starlette_denial_response(starlette: Callable[[str], str], tmp_path: Path) -> None:
    async with under_uvicorn(starlette("status_code=401"), tmp_path) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/ws")
        assert (refused.value.response.status_code, refused.value.response.body) == (401, b"Unauthorized")
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_clients_are_closed_with_1012_and_uvicorn_ends_at_sigterm(fastapi: Path) -> None:
    async with under_uvicorn("tutorial001:app", fastapi) as url:
        clients = [await connect(f"{url}/ws") for _ in range(3)]
    for client in clients:
        await within(client.wait_closed())
        assert client.close_code == 1012


MODULE = """
import os
from streamws import Limits
from streamws.asgi.uvicorn import Protocol

class Mine(Protocol):
    limits = Limits(max_message_size=10)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"first {os.getpid()}"})
        await receive()
"""


async def test_subclass_in_several_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    async with under_uvicorn("mine:app", tmp_path, "--ws", "mine:Mine", "--workers", "2") as url:
        workers: set[str | bytes] = set()
        async with asyncio.timeout(30):
            while len(workers) < 2:
                async with connect(url) as client:
                    workers.add(await client.recv())
                    await client.send("longer than ten bytes")
                    with pytest.raises(ConnectionClosed):
                        await client.recv()
                    assert client.close_code == 1009


async def test_reload(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(MODULE)
    options = ("--ws", "mine:Mine", "--reload", "--reload-dir", str(tmp_path))
    async with under_uvicorn("mine:app", tmp_path, *options) as url:
        async with connect(url) as client:
            assert str(await client.recv()).startswith("first")
            module.write_text(MODULE.replace("first", "second"))
            await within(client.wait_closed())
            assert client.close_code == 1012
        async with asyncio.timeout(30), connect(url) as client:
            assert str(await client.recv()).startswith("second")
