"""Every client program of the documentation runs against a server, and prints what its page says."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.blocks import PEM, ROOT, Example, examples
from helpers.fixtures import echo
from helpers.programs import SECONDS, Program
from helpers.proxies import proxy_server
from streamws import Client, Request, Response, WebSocketServer
from streamws.server import Handler

CLIENTS = [example for example in examples() if example.kind == "client"]
PLACE = "localhost:8765"

PRELUDE = """
import os, runpy, sys
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ.update(dict(item.split("=", 1) for item in sys.argv[2:]))
runpy.run_path(sys.argv[1], run_name="__main__")
"""

Surroundings = Callable[[Path], AbstractAsyncContextManager[Mapping[str, str]]]
SURROUNDINGS: dict[str, Surroundings] = {}


def surrounds(*names: str) -> Callable[[Surroundings], Surroundings]:
    """Registers what the programs meet: it gives what stands for which text of theirs.

    A name with `=` is one of the environment.
    """

    def register(surroundings: Surroundings) -> Surroundings:
        for name in names:
            assert name not in SURROUNDINGS
            SURROUNDINGS[name] = surroundings
        return surroundings

    return register


@asynccontextmanager
async def serving(
    handler: Handler = echo, request: Callable[[Request], Response | None] | None = None, **options: Any
) -> AsyncIterator[Mapping[str, str]]:
    socket = WebSocketServer("127.0.0.1", 0, handler=handler, **options)
    if request is not None:
        socket.request(request)
    async with socket:
        yield {PLACE: f"localhost:{socket.sockets[0].getsockname()[1]}"}


@pytest.mark.parametrize("example", CLIENTS, ids=lambda example: example.id)
async def test_documentation_client_prints_what_its_page_says(
    example: Example, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("authority") if "import ssl" in example.source else tmp_path
    file = tmp_path / "program.py"
    surroundings = SURROUNDINGS[example.name](folder) if example.name in SURROUNDINGS else serving()
    async with asyncio.timeout(SECONDS), surroundings as places:
        source = PEM.sub(lambda found: repr(str(folder / found[1])), example.source)
        for text, place in places.items():
            source = source.replace(text, place)
        file.write_text(source)
        environment = [f"{name}{place}" for name, place in places.items() if name.endswith("=")]
        async with Program("-u", "-c", PRELUDE, str(file), *environment) as program:
            assert await program.end() == 0
            said = program.stdout
            for text, place in places.items():
                said = said.replace(place, text)
            assert said == (example.output or OUTPUTS[example.name])
            assert program.stderr == ""


OUTPUTS = {"environment-proxy": "hello\n", "readme-client": "hello\n", "index-client": "hello\n"}
"""Where a page shows it otherwise than in a block of its own."""


def test_documentation_clients_are_known_by_name() -> None:
    assert set(SURROUNDINGS) | set(OUTPUTS) <= {example.name for example in CLIENTS}


def test_documentation_shows_the_environment_of_the_program() -> None:
    page = (ROOT / "docs" / "howto" / "client-proxy.md").read_text("utf-8")
    shown = "$ http_proxy=http://localhost:3128 python client.py\n"
    assert f"```console\n{shown}{OUTPUTS['environment-proxy']}```\n" in page


# Connect again ----------------------------------------------------------------------------------------------


@surrounds("reconnect")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    turns = iter(["first", "second"])
    asked = 0

    async def handler(client: Client) -> None:
        assert await client.read_message() == "subscribe"
        turn = next(turns)
        await client.send(turn)
        if turn == "first":
            await asyncio.sleep(0)  # in which it leaves
            client._connection.transport.close()
        else:
            await client.close(1001)

    def request(request: Request) -> Response | None:
        nonlocal asked
        asked += 1
        return None if asked <= 2 else Response(410, "no more news\n")

    return serving(handler, request)


@surrounds("auth-header-client")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    async def handler(client: Client) -> None:
        await client.send("hello billing")

    def request(request: Request) -> Response | None:
        known = request.headers.get("Authorization") == "Bearer correct horse"
        return None if known else Response(401)

    return serving(handler, request)


@surrounds("fresh-token")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    async def handler(client: Client) -> None:
        await client.send("welcome")

    def request(request: Request) -> Response | None:
        known = request.headers.get("Authorization") == "Bearer fresh"
        return None if known else Response(401, "token expired\n")

    return serving(handler, request)


@surrounds("resume")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    lines = ["the beginning", "the middle", "the end"]

    async def handler(client: Client) -> None:
        last = int(client.request.query_string.removeprefix("after="))
        await client.send(f"{last + 1} {lines[last]}")
        client._connection.transport.close()

    return serving(handler)


@surrounds("rooms-client")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    lines = ["hello", "are you there?", "good night"]

    async def handler(client: Client) -> None:
        query = client.request.query
        assert (client.request.path, query["name"]) == ("/garden", "Ada")
        comes_back = query.get("epoch") == "e"
        since, until = (int(query["offset"]), len(lines)) if comes_back else (0, 1)
        await client.send('{"join":"Ada","member":true}')
        for offset in range(since, until):
            await client.send(json.dumps({"name": "Bob", "text": lines[offset], "position": ["e", offset + 1]}))
        await asyncio.sleep(0)  # in which they leave
        client._connection.transport.close()

    return serving(handler)


# Proxies ----------------------------------------------------------------------------------------------------

BEHIND = "server.invalid:8765"
"""Where the server is for the proxies alone."""


def place_of(places: Mapping[str, str]) -> tuple[str, int]:
    """Where the server is that a proxy connects to, whatever host the program names."""
    host, _, port = places[PLACE].rpartition(":")
    return host, int(port)


@surrounds("http-proxy")
@asynccontextmanager
async def _(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    async with (
        serving() as places,
        proxy_server("http", target=place_of(places), credentials=("Ann", "secret")) as proxy,
    ):
        yield {PLACE: BEHIND, "localhost:3128": f"127.0.0.1:{proxy.port}"}


@surrounds("socks-proxy")
@asynccontextmanager
async def _(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    async with serving() as places, proxy_server("socks5", target=place_of(places)) as proxy:
        yield {PLACE: BEHIND, "localhost:1080": f"127.0.0.1:{proxy.port}"}


@surrounds("environment-proxy")
@asynccontextmanager
async def _(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    async with serving() as places, proxy_server("http", target=place_of(places)) as proxy:
        yield {PLACE: BEHIND, "http_proxy=": proxy.url("http")}


# Certificates -----------------------------------------------------------------------------------------------


@surrounds("own-authority", "unverified")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    return serving(ssl=context)


@surrounds("client-certificate")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return serving(ssl=context)


# Connecting -------------------------------------------------------------------------------------------------


@surrounds("refused")
def _(folder: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    def request(request: Request) -> Response:
        return Response(401, "token expired\n", {"WWW-Authenticate": "Bearer"})

    return serving(echo, request)
