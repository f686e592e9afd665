"""Every program of the documentation runs, and does what the text says of it."""

import asyncio
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import streamws
from helpers.blocks import PEM, ROOT, Example, examples, pages
from helpers.frames import client_header as header
from helpers.frames import request
from helpers.peers import open_peer
from helpers.programs import SECONDS, Program
from streamws import Opcode

EXAMPLES = [example for example in examples() if example.kind not in ("client", "file")]
CERTIFICATE = str(ROOT / "tests" / "helpers" / "localhost.pem")

RUN = """
import logging, runpy, sys
logger = logging.getLogger("streamws")
logger.setLevel("INFO")
logger.addHandler(logging.StreamHandler())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Running:
    """A program of the documentation that serves."""

    def __init__(self, program: Program, address: str, files: Path) -> None:
        self.program = program
        self.address = address
        self.files = files
        """The folder that the page calls /srv/files."""
        self.stopping = False
        """Whether it was told to stop already."""

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        self.program.process.send_signal(number)
        self.stopping = True

    def connect(self, path: str = "/", headers: Mapping[str, str] | None = None) -> connect:
        return connect(f"ws://{self.address}{path}", additional_headers=headers, proxy=None, max_size=None)


Driver = Callable[[Running], Awaitable[None]]
DRIVERS: dict[str, Driver] = {}
INTERRUPTED = {"async-with", "pictures", "slow-clients", "ticker"}
"""Programs that SIGINT ends with KeyboardInterrupt, as their page says; the others end with 0."""

FAILING = {"lifecycle", "send-a-file", "from-socketio"}
"""Programs whose handler raises, as their page says; no traceback is in what the others log."""


def drives(name: str) -> Callable[[Driver], Driver]:
    """Registers what talks to the program `name` and asserts what the text claims."""

    def register(driver: Driver) -> Driver:
        assert name not in DRIVERS
        DRIVERS[name] = driver
        return driver

    return register


async def heard(peer: ClientConnection, count: int) -> list[str | bytes]:
    return [await peer.recv() for _ in range(count)]


async def closed(peer: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as error:
        await peer.recv()
    assert error.value.rcvd is not None
    return error.value.rcvd.code, error.value.rcvd.reason


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
async def test_documentation_program_does_what_its_page_says(
    example: Example, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "program.py"
    files = tmp_path / "files"
    files.mkdir()
    source = example.source
    if '"ca.pem"' in source:
        folder = request.getfixturevalue("authority")
        source = PEM.sub(lambda found: repr(str(folder / found[1])), source)
    if "redis://localhost" in source:
        source = source.replace("redis://localhost", request.getfixturevalue("redis_server").url)
    with reserved_port() as port:
        for name, stand_in in {
            '"PORT", "8765"': '"PORT", "0"',
            '"localhost", 8765': '"127.0.0.1", 0',  # localhost may be two addresses, with two ports
            '"127.0.0.1", 8765': f'"127.0.0.1", {port}',
            '"", 8765': '"127.0.0.1", 0',
            'host="localhost", port=8765': 'host="127.0.0.1", port=0',
            '"certificate.pem", "key.pem"': repr(CERTIFICATE),
            "port=8000": "port=0",
            "/run/chat": str(tmp_path),
            "/srv/files": str(files),
        }.items():
            source = source.replace(name, stand_in)
        file.write_text(source)
        await run(example, file)


async def listening_address(program: Program) -> str:
    """Wait until a program listens on a TCP port, and return its address."""
    process = psutil.Process(program.process.pid)
    while True:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return f"127.0.0.1:{connection.laddr.port}"
        assert program.process.returncode is None, "the program has ended"
        await asyncio.sleep(0.02)


async def run_foreign(example: Example, file: Path) -> None:
    """Run a program of another library, or an application that another library serves.

    With the former is done what is done with the same program of streamws.
    """
    async with asyncio.timeout(SECONDS), Program("-u", str(file)) as program:
        address = await listening_address(program)
        await DRIVERS[example.name.removesuffix("-before")](Running(program, address, file.parent))


async def run_uvicorn(example: Example, file: Path) -> None:
    """Run a program that runs uvicorn; SIGINT stops it."""
    async with asyncio.timeout(SECONDS), Program("-u", str(file)) as program:
        await DRIVERS[example.name](Running(program, await listening_address(program), file.parent))
        assert await program.interrupt() == 0
        assert "Traceback" not in program.stderr


async def run(example: Example, file: Path) -> None:
    if example.kind in ("before", "asgi"):
        await run_foreign(example, file)
        return
    if example.kind == "uvicorn":
        await run_uvicorn(example, file)
        return
    async with asyncio.timeout(SECONDS), Program("-u", "-c", RUN, str(file)) as program:
        driver = DRIVERS.get(example.name)
        if driver is None:
            assert await program.end() == 0
        else:
            address = await program.logs("serving on (.*)")
            running = Running(program, address, file.parent / "files")
            await driver(running)
            code = await (program.end() if running.stopping else program.interrupt())
            assert code == (-signal.SIGINT if example.name in INTERRUPTED else 0)
            assert ("KeyboardInterrupt" in program.stderr) == (example.name in INTERRUPTED)
        if example.output is not None:
            assert program.stdout == example.output
        if example.name not in INTERRUPTED | FAILING:
            assert not re.search("Traceback|Exception ignored|never retrieved|destroyed", program.stderr)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port on which only those who set SO_REUSEPORT can listen, and someone holds it."""
    with socket.socket() as holder:
        if hasattr(socket, "SO_REUSEPORT"):
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_documentation_programs_have_names_of_their_own() -> None:
    names = [example.name for example in examples()]
    assert sorted(set(names)) == sorted(names)
    assert set(DRIVERS) <= {example.name for example in EXAMPLES}


def test_documentation_programs_that_do_not_serve_claim_an_output() -> None:
    silent = [e for e in EXAMPLES if e.kind != "before" and e.name not in DRIVERS and e.output is None]
    assert [example.id for example in silent] == []


def test_documentation_comments_are_all_understood() -> None:
    text = "".join(page.read_text("utf-8") for page in pages())
    comments = re.findall(r"<!-- (program|asgi|uvicorn|handler|connection|client|before|file|continues): ", text)
    assert len(comments) + len(re.findall(r"(?<!-->)\n```python\n", text)) == sum(e.blocks for e in examples())
    figures = text.count("<!-- figures: ")
    assert text.count("<!-- end of figures -->") == figures
    simulated = text.count("<!-- simulation: ")
    assert text.count("<!-- end of simulation -->") == simulated
    assert len(re.findall("<!--", text)) == len(comments) + text.count("<!-- output: ") + 2 * (figures + simulated)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


# Beside FastAPI ---------------------------------------------------------------------------------------------


@drives("fastapi-under-uvicorn")
async def drive_fastapi_under_uvicorn(running: Running) -> None:
    async with running.connect("/rooms/red", {"Origin": "https://example.org"}) as peer:
        await peer.send("hello")
        assert await peer.recv() == "red: hello"
        await peer.send("x" * 70_000)
        assert (await closed(peer))[0] == 1009
    with pytest.raises(InvalidStatus) as refused:
        await running.connect("/rooms/red", {"Origin": "https://evil.example"})
    assert refused.value.response.status_code == 403


@drives("fastapi-second-port")
async def drive_fastapi_second_port(running: Running) -> None:
    http = int(await running.program.logs(r"Uvicorn running on http://127\.0\.0\.1:(\d+)"))
    async with running.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
        reader, writer = await asyncio.open_connection("127.0.0.1", http)
        writer.write(b"POST /announcements?text=all HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert await peer.recv() == "all"
        assert (await reader.read()).endswith(b"\r\n\r\n1")
        writer.close()


# Getting started --------------------------------------------------------------------------------------------


@drives("first")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "welcome"
        await server.program.says(r"^127\.0\.0\.1 is here$")
        server.signal()
        assert (await closed(peer))[0] == 1001


@drives("welcome")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "welcome"
        assert await server.program.says("Serving on (.*)") == str(tuple(_split(server.address)))
        await server.program.says(r"^127\.0\.0\.1 is here$")
        await (await peer.ping())  # the callback is over, and cannot be what Ctrl-C interrupts
        server.signal()
        assert (await closed(peer))[0] == 1001


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def _echoes(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"


@drives("async-with")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "welcome"
        await peer.send(b"\x00")
        assert await peer.recv() == b"\x00"
        server.signal()
        assert (await closed(peer))[0] == 1001


@drives("run")
async def _(server: Running) -> None:
    await _echoes(server)


@drives("about")
async def _(server: Running) -> None:
    async with server.connect("/rooms/1?x=y", {"User-Agent": "a test"}) as peer:
        port = peer.local_address[1]
        assert await heard(peer, 3) == [
            f"connection 1 from 127.0.0.1, port {port}",
            "you asked for /rooms/1 with 'x=y'",
            "your client calls itself a test",
        ]
        assert await closed(peer) == (1000, "that is all")


@drives("routes")
async def _(server: Running) -> None:
    for path, expected in {
        "/": "welcome to the lobby",
        "/rooms/r%C3%A4d": "welcome to räd",
        "/admin/users/7": "user 7",
    }.items():
        async with server.connect(path) as peer:
            assert await peer.recv() == expected
    with pytest.raises(InvalidStatus, match="404"):
        await server.connect("/rooms")
    await server.program.logs(r"^127\.0\.0\.1:\d+ refused with 404: no route for /rooms$")


@drives("blocking-code")
async def _(server: Running) -> None:
    async with server.connect() as first, server.connect() as second:
        await first.send("a")
        await second.send("b")
        assert await asyncio.wait_for(second.recv(), SECONDS) == "B"
        assert await asyncio.wait_for(first.recv(), 0.9) == "A"  # not a second after the other one


@drives("from-websockets")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("hello")
        await peer.send(b"\x00")
        assert await heard(peer, 2) == ["HELLO", b"\x00"]
        await peer.close()
        assert peer.close_code == 1000  # the server has answered


for _library in ("aiohttp", "picows"):
    drives(f"from-{_library}")(DRIVERS["from-websockets"])


@drives("from-starlette")
async def _(server: Running) -> None:
    async with server.connect("/rooms/red") as peer:
        await peer.send("hello")
        assert await peer.recv() == "red: hello"
    with pytest.raises(InvalidStatus, match="404"):
        await server.connect("/room")


@drives("from-socketio")
async def _(server: Running) -> None:
    async with server.connect() as peer, server.connect() as other, server.connect() as elsewhere:
        for client, room in ((peer, "red"), (other, "red"), (elsewhere, "blue")):
            await client.send(json.dumps(["join", room]))
            assert json.loads(await client.recv()) == ["joined", room]
        await peer.send(json.dumps(["say", "hello"]))
        for client in (peer, other):
            assert json.loads(await client.recv()) == ["said", "hello"]
        await elsewhere.send(json.dumps(["say", "hi"]))
        assert json.loads(await elsewhere.recv()) == ["said", "hi"]
    async with server.connect() as peer:
        await peer.send("not JSON")
        assert (await closed(peer))[0] == 1011
    await server.program.logs("the handler raised")


@drives("on-message")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("shout")
        await peer.send(b"\x01\x02")
        assert await heard(peer, 2) == ["SHOUT", b"\x02\x01"]


@drives("total")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("four")
        await peer.send(b"six ..")
        assert await heard(peer, 2) == ["4, in all 4", "6, in all 10"]


@drives("greet")
async def _(server: Running) -> None:
    async with server.connect() as slow, server.connect() as peer:
        await peer.send("Ann")
        assert await heard(peer, 2) == ["what is your name?", "hello 'Ann'"]
        assert await closed(peer) == (1000, "")
        await slow.recv()
        assert await closed(slow) == (4000, "no name came in time")


@drives("sums")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("1 2 3")
        assert await peer.recv() == "6"
        await peer.send(b"1 2 3")
        assert (await closed(peer))[0] == 1003


@drives("measure")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send(bytes(3_000_000))  # more than a whole message may have
        await peer.send(["two ", "parts"])
        assert await heard(peer, 2) == ["3000000 bytes of BINARY", "9 bytes of TEXT"]


@drives("upload")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("name\nkind12345")
        assert await peer.recv() == r"b'name\n' b'kind' 5 True"


@drives("news")
async def _(server: Running) -> None:
    async with server.connect() as one:
        assert await one.recv() == "there are 1 of us"
        async with server.connect() as other:
            assert await other.recv() == "there are 2 of us"
            assert await one.recv() == "there are 2 of us"
    await server.program.says("^told 1$")
    await server.program.says("^told 2$")


@drives("story")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        parts = [part async for part in peer.recv_streaming()]
        assert parts == ["once upon ", "a time", ""]
        assert await closed(peer) == (1000, "")


@drives("countdown")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    assert await raw.read_frame() == (0x82, b"".join(number.to_bytes(8, "big") for number in (3, 2, 1)))
    assert await raw.read_close() == (1000, "")
    await raw.close()


@drives("mirror")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send(["to ", "and fro"])
        assert await peer.recv() == "to and fro"
        await peer.send(b"\x00\xff")
        assert await peer.recv() == b"\x00\xff"


@drives("frames")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send([b"a", b"b"])
        assert await peer.recv() == "got it"
    await server.program.says(r"^BINARY b'a' False$")
    await server.program.says(r"^CONTINUATION b'b' False$")
    await server.program.says(r"^CONTINUATION b'' True$")


@drives("others")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await (await peer.ping("hi"))
        await server.program.says(r"^ping b'hi'$")
        await peer.send("?")
        assert await peer.recv() == "quick"
        await server.program.says(r"^pong b'are you there\?'$")
        await peer.close(4001, "enough")
    await server.program.says("^closed 4001 enough by remote$")
    await server.program.says("^cause: peer error$")


# Receive an upload to disk ----------------------------------------------------------------------------------

MiB = 1024 * 1024
UPLOAD = bytes(range(251)) * (8 * MiB // 251 + 1)


@drives("upload-to-disk")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        for size, declared in ((8 * MiB, 8 * MiB), (MiB + 1, None), (0, 0)):
            data = UPLOAD[:size]
            await peer.send(json.dumps({} if declared is None else {"size": declared}))
            await peer.send([data[:100], data[100 : 3 * MiB], data[3 * MiB :]])
            progress = [{"received": min(size, end), "of": declared} for end in range(MiB, size + MiB, MiB)]
            *told, last = [json.loads(await peer.recv()) for _ in range(len(progress) + 1)]
            assert told == progress
            (saved,) = server.files.iterdir()
            assert last == {"saved": saved.name}
            assert saved.read_bytes() == data
            saved.unlink()
    for description, file, reason in (
        ('{"size": 5}', b"four", "^5 bytes were declared, but 4 were received$"),
        ('{"size": 16777217}', b"", "^a file must not exceed 16777216 bytes$"),
        ("[1", b"", "delimiter"),
    ):
        async with server.connect() as peer:
            await peer.send(description)
            with suppress(ConnectionClosed):  # where the server was faster
                await peer.send(file)
            *_, last = [json.loads(message) async for message in peer]
            assert re.search(reason, last["error"])
    raw = await open_peer(_split(server.address)[1])
    raw.send(Opcode.TEXT, b"{}")
    raw.write(header(Opcode.BINARY, 17 * MiB) + bytes(17 * MiB))
    first, payload = await raw.read_frame()
    while first == 0x81:  # how far the server is
        first, payload = await raw.read_frame()
    assert (first, int.from_bytes(payload[:2], "big")) == (0x88, 1009)
    await raw.close()
    raw = await open_peer(_split(server.address)[1])
    raw.send(Opcode.TEXT, b"{}")
    raw.write(header(Opcode.BINARY, 8 * MiB) + bytes(3 * MiB // 2))
    assert (await raw.read_frame())[0] == 0x81
    assert [file.suffix for file in server.files.iterdir()] == [".part"]
    await raw.close()
    await server.program.logs(r": connection lost without a closing handshake")
    server.signal()
    await server.program.end()  # and of the handler
    assert list(server.files.iterdir()) == []


# Send a file ------------------------------------------------------------------------------------------------


@drives("send-a-file")
async def _(server: Running) -> None:
    (server.files / "real").write_bytes(UPLOAD)
    (server.files / "empty").touch()
    raw = await open_peer(_split(server.address)[1], small_buffers=True)
    for name, content in (("empty", b""), ("real", UPLOAD)):
        raw.send(Opcode.TEXT, name.encode())
        assert await raw.read_frame() == (0x82, content)  # the only one, with FIN
    for name in ("none", "..", "../program.py", "/etc/passwd"):
        raw.send(Opcode.TEXT, name.encode())
        assert await raw.read_frame() == (0x81, f"no such file: {name}".encode())
    size = 32 * MiB
    for name, changed in (("grows", size + 1), ("shrinks", 0)):
        file = server.files / name
        file.touch()
        os.truncate(file, size)
        raw.send(Opcode.TEXT, name.encode())
        assert await raw.reader.readexactly(10) == b"\x82\x7f" + size.to_bytes(8, "big")
        os.truncate(file, changed)  # the server cannot have read it all, as this peer takes nothing
        got = 0
        while got < size and (part := await raw.reader.read(MiB)):
            got += len(part)
        assert (got == size) == (name == "grows")
    await server.program.logs("the handler raised")
    await server.program.logs(r"WriteError: a data frame of 33554432 bytes was left with \d+ bytes unsent")
    await raw.close()
    await server.program.logs(r": closed by this side with 1011 \(could not be sent\): ")


@drives("send-a-file-in-fragments")
async def _(server: Running) -> None:
    source = server.files.with_name("program.py").read_bytes()
    raw = await open_peer(_split(server.address)[1])
    assert await raw.read_frames(2) == [(0x02, source), (0x80, b"")]
    assert await raw.read_close() == (1000, "")
    await raw.close()


# Stream the output of a model -------------------------------------------------------------------------------


@drives("tokens-to-browser")
async def _(server: Running) -> None:
    async with server.connect() as peer, server.connect() as other:
        await peer.send("a")
        assert await heard(peer, 6) == ["a 0, ", "a 1, ", "a 2, ", "a 3, ", "a 4, ", ""]
        await server.program.says("^the model has stopped$")
        await peer.send("long" * 100)
        await peer.recv()
        await peer.send("")
        while await peer.recv():
            pass
        await server.program.says("^the model has stopped$")
        await peer.send("another" * 100)
        await peer.recv()
        await peer.send("b")
        while await peer.recv():
            pass
        assert await heard(peer, 6) == ["b 0, ", "b 1, ", "b 2, ", "b 3, ", "b 4, ", ""]
        for _ in range(2):
            await server.program.says("^the model has stopped$")
        for client in (peer, other):
            await client.send("long" * 100)
            await client.recv()
        await peer.close()
        await server.program.says("^the model has stopped$")
        other.transport.abort()
        await server.program.says("^the model has stopped$")


@drives("tokens-in-one-message")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("a")
        parts = [part async for part in peer.recv_streaming()]
        assert parts == ["a 0, ", "a 1, ", "a 2, ", "a 3, ", "a 4, ", ""]
        await peer.send("long" * 100)
        got = []
        async for part in peer.recv_streaming():
            got.append(part)
            if len(got) == 1:
                await peer.send("")
        assert 1 < len(got) < 2000
        await peer.send("b")
        assert await peer.recv() == "b 0, b 1, b 2, b 3, b 4, "


@drives("tokens-fed")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("to be or not")
        assert [part async for part in peer.recv_streaming()] == ["to ", "be ", "or ", "not ", ""]


@drives("tokens-shown")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    raw.send(Opcode.TEXT, "aé".encode()[:2], fin=False)
    await server.program.says("^a$")
    raw.send(Opcode.CONTINUATION, "aé".encode()[2:], fin=False)
    await server.program.says("^é$")
    raw.send(Opcode.CONTINUATION, b"")
    await server.program.says("^end of the answer$")
    await raw.close()


# Pass messages on between two connections -------------------------------------------------------------------


@drives("proxy")
async def _(server: Running) -> None:
    async with server.connect("/42") as one:
        await one.send("kept")
        async with server.connect("/42") as other, server.connect("/43"):
            assert await other.recv() == "kept"
            for message in ("grüße", UPLOAD, "", b""):
                sending = asyncio.create_task(other.send(message))
                assert await one.recv() == message
                await sending
            await one.send(b"and back")
            assert await other.recv() == b"and back"
            await other.close(4001, "enough")
        assert await closed(one) == (4001, "enough")
    async with server.connect("/") as one, server.connect("/") as other:
        await one.send("hello")
        await other.recv()
        other.transport.abort()
        assert await closed(one) == (1014, "the other connection: reset")
    raw = await open_peer(_split(server.address)[1])
    async with server.connect("/") as one:
        raw.send_close(None)
        assert await closed(one) == (1000, "")
    await raw.close()
    raw = await open_peer(_split(server.address)[1])
    async with server.connect("/") as one:
        raw.send(Opcode.BINARY, b"half", fin=False)
        parts = one.recv_streaming()
        assert await anext(parts) == b"half"
        await raw.close()
        with pytest.raises(ConnectionClosed) as error:
            await anext(parts)
        assert error.value.rcvd is not None
        assert error.value.rcvd.code == 1011
    # Two connections that wait one after the other are not paired if the first one has left.
    async with server.connect("/alone"):
        pass
    async with server.connect("/alone") as one, server.connect("/alone") as other:
        await one.send("hello")
        assert await other.recv() == "hello"


# Streams ----------------------------------------------------------------------------------------------------


@drives("checksums")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        for data in (UPLOAD, b"", b"a\nb"):
            await peer.send([b"na", b"me\n", data])
            assert await peer.recv() == f"name: {hashlib.sha256(data).hexdigest()}"


@drives("leaving")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    for _ in range(2):
        raw.send(Opcode.TEXT, b"title\nand", fin=False)
        assert await raw.read_frame() == (0x82, b"title\n")
        raw.send(Opcode.CONTINUATION, bytes(MiB))
    raw.send(Opcode.TEXT, b"title\nand", fin=False)
    assert await raw.read_frame() == (0x82, b"title\n")
    for _ in range(5):
        raw.send(Opcode.CONTINUATION, bytes(MiB), fin=False)
    assert (await raw.read_close())[0] == 1008
    await raw.close()


@drives("four-ways")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    whole = (0x81, b"one message")
    pieces = [(0x01, b"one "), (0x00, b"message"), (0x80, b"")]
    assert await raw.read_frames(8) == [whole, *pieces, whole, *pieces]
    assert await raw.read_close() == (1000, "")
    await raw.close()


@drives("turns")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    frames = [(0x01, b"first "), (0x8A, b""), (0x00, b"message"), (0x80, b""), (0x81, b"second")]
    assert await raw.read_frames(5) == frames
    assert await raw.read_close() == (1000, "")
    await raw.close()


@drives("checked-text")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "grüße"
        assert await closed(peer) == (1000, "")


# JSON and typed messages ------------------------------------------------------------------------------------


@drives("typed-chat")
async def _(server: Running) -> None:
    async with server.connect() as ada, server.connect() as bob:
        await ada.send('{"type":"join","name":"Ada"}')
        await ada.send('{"type":"say","text":"hello"}')
        for peer in (ada, bob):
            assert await peer.recv() == '{"type":"said","name":"Ada","text":"hello"}'
        await bob.send('{"type":"say","text":5}')
        reason = "Expected `str`, got `int` - at `$.text`"
        assert await bob.recv() == json.dumps({"type": "problem", "reason": reason}, separators=(",", ":"))
        assert reason in (ROOT / "docs/howto/json-and-typed-messages.md").read_text("utf-8")
        await bob.send(b'{"type":"say","text":"I am here"}')
        assert await ada.recv() == '{"type":"said","name":"somebody","text":"I am here"}'


@drives("typed-callback")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("[3, 1, 2]")
        assert await peer.recv() == "[1,2,3]"
        await peer.send("[true]")
        assert await closed(peer) == (1007, "Expected `int`, got `bool` - at `$[0]`")


@drives("typed-msgpack")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send(b"\x82\xa1a\x01\xa1b\x02")
        assert await peer.recv() == b"\x81\xa6fields\x02"
        await peer.send(b"\x01")
        assert await closed(peer) == (1007, "the message could not be decoded")


# Lifecycle and closing --------------------------------------------------------------------------------------


@drives("lifecycle")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
    await server.program.says(r"^it left: closed by the peer with 1000$")
    async with server.connect() as peer:
        await peer.close(4000, "mine")
    await server.program.says("^lost: peer error$")
    async with server.connect() as peer:
        peer.transport.abort()
    await server.program.says("^lost: reset$")
    raw = await open_peer(_split(server.address)[1])
    raw.send(Opcode.BINARY, b"half", fin=False)
    raw.half_close()
    await server.program.says("^lost after 4 bytes of a message$")
    await raw.close()
    async with server.connect() as peer:
        await peer.send("boom")
        assert await closed(peer) == (1011, "")
    await server.program.logs(": closed by this side with 1011: the handler raised ValueError")


@drives("close-in-frame")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    assert await raw.read_frame() == (0x82, b"1234567890")
    assert await raw.read_close() == (1000, "")
    raw.send_close()
    await raw.read_end()
    await raw.close()
    await server.program.logs(": closed by this side with 1000$")


# Flow control -----------------------------------------------------------------------------------------------


@drives("pictures")
async def _(server: Running) -> None:
    slow = await open_peer(_split(server.address)[1], small_buffers=True)
    async with server.connect() as quick:
        pictures = [await quick.recv() for _ in range(100)]
    assert {len(picture) for picture in pictures} == {100_004}
    number = shown = 0
    while number < 100:
        _, picture = await slow.read_frame()
        assert int.from_bytes(picture[:4], "big") > number
        number = int.from_bytes(picture[:4], "big")
        shown += 1
    assert shown < number - 10
    await slow.close()


@drives("ticker")
async def _(server: Running) -> None:
    slow = await open_peer(_split(server.address)[1], small_buffers=True)
    async with server.connect() as quick:
        for _ in range(100):
            await quick.recv()
        first, payload = await slow.read_frame()
        while first != 0x88:
            assert len(payload) == 100_000
            first, payload = await slow.read_frame()
        assert int.from_bytes(payload[:2], "big") == 1008
        await slow.close()
        await server.program.logs(": closed by this side with 1008: the peer exceeded a limit ")
        await quick.recv()


# Cancellation -----------------------------------------------------------------------------------------------


@drives("patient-reader")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1])
    for number in range(2):
        raw.send(Opcode.TEXT, b"%d " % number, fin=False)
        for _ in range(2):
            assert await raw.read_frame() == (0x81, b"still there?")
        raw.send(Opcode.CONTINUATION, b"lost nothing")
        assert await raw.read_frame() == (0x81, b"%d lost nothing" % number)
    raw.send_close()
    assert await raw.read_close() == (1000, "")
    await raw.close()


@drives("eager")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await heard(peer, 2) == ["first", "second"]


@drives("limit-on-parts")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "0 (no more)"
        assert await closed(peer) == (1000, "")


@drives("either")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        for message in ("a", "b"):
            await peer.send(message)
            assert await peer.recv() == f"you said {message!r}"


# The start page ---------------------------------------------------------------------------------------------

drives("index-streams")(_echoes)
drives("index-callbacks")(_echoes)


# README -----------------------------------------------------------------------------------------------------

drives("readme-streams")(_echoes)
drives("readme-mirror")(_echoes)


@drives("readme-callbacks")
async def _(server: Running) -> None:
    await _echoes(server)
    assert await server.program.says(r"^127\.0\.0\.1 left: (.*)") == "closed by the peer with 1000"


@pytest.mark.parametrize("command", ["pip install . && streamws echo", "pip install '.[test]' && pytest"])
def test_readme_names_the_command(command: str) -> None:
    assert f"```console\n$ {command}\n```\n" in (ROOT / "README.md").read_text("utf-8")


# Limits and security ----------------------------------------------------------------------------------------


@drives("tight")
async def _(server: Running) -> None:
    async with server.connect() as large, server.connect() as tiny:
        with pytest.raises(InvalidStatus, match="503"):
            await server.connect()
        await large.send(bytes(1024))
        assert await large.recv() == bytes(1024)
        await large.send(bytes(1025))
        assert (await closed(large))[0] == 1009
        await tiny.send([b"x"] * 20)  # 20 bytes, which count 20 * 65
        assert (await closed(tiny))[0] == 1009


@drives("patient")
async def _(server: Running) -> None:
    host, port = _split(server.address)
    reader, writer = await asyncio.open_connection(host, port)
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    async with server.connect() as peer:
        peer.transport.pause_reading()  # so that it answers no ping
        await server.program.says(r"^closed by this side with 1011: the peer did not respond \(received nothing for ")
        peer.transport.resume_reading()
        assert (await closed(peer))[0] == 1011


@drives("origins")
async def _(server: Running) -> None:
    own = f"http://{server.address}"
    for origin in ("https://example.org", own):
        async with server.connect("/", {"Origin": origin}) as peer:
            assert await peer.recv() == "hello"
    async with server.connect() as peer:
        assert await peer.recv() == "hello"
    with pytest.raises(InvalidStatus, match="403"):
        await server.connect("/", {"Origin": "https://example.com"})
    await server.program.logs(r"refused with 403: Origin 'https://example\.com' .* origins=")


@drives("hosts")
async def _(server: Running) -> None:
    port = _split(server.address)[1]
    peer = await open_peer(port, request({"Host": f"localhost:{port}"}))
    assert await peer.read_frame() == (0x81, b"hello")
    await peer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request({"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}))
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await server.program.logs("refused with 400: Host 'evil.example:[0-9]+' .* hosts=")


@drives("per-address")
async def _(server: Running) -> None:
    async with server.connect(), server.connect(), server.connect():
        with pytest.raises(InvalidStatus, match="429"):
            await server.connect()


# Authenticate users -----------------------------------------------------------------------------------------


async def refuses(server: Running, path: str = "/", headers: Mapping[str, str] | None = None) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        await server.connect(path, headers)


@drives("auth-cookie")
async def _(server: Running) -> None:
    async with server.connect("/", {"Cookie": "theme=dark; session=correct horse"}) as peer:
        assert await peer.recv() == "hello ann"
        assert peer.response is not None
        assert peer.response.headers["Set-Cookie"].startswith("session=correct horse; Max-Age=3600;")
    await refuses(server)
    await refuses(server, "/", {"Cookie": "session=guess"})
    with pytest.raises(InvalidStatus, match="403"):  # another site, with the cookie of the user
        await server.connect("/", {"Cookie": "session=correct horse", "Origin": "https://evil.example"})


@drives("auth-header")
async def _(server: Running) -> None:
    for service, token in ("billing", "correct horse"), ("reports", "battery staple"):
        async with server.connect("/", {"Authorization": f"Bearer {token}"}) as peer:
            assert await peer.recv() == f"hello {service}"
    for headers in ({}, {"Authorization": "Bearer guess"}):
        with pytest.raises(InvalidStatus, match="401") as refused:
            await server.connect("/", headers)
        assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"


@drives("auth-query")
async def _(server: Running) -> None:
    async with server.connect("/?token=correct%20horse") as peer:
        assert await peer.recv() == "hello ann"
    await refuses(server)
    await refuses(server, "/?token=guess")


async def fetch(server: Running, path: str, cookie: str) -> tuple[bytes, bytes]:
    """Return the head and the body of the response to a plain HTTP request."""
    reader, writer = await asyncio.open_connection(*_split(server.address))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@drives("auth-ticket")
async def _(server: Running) -> None:
    head, body = await fetch(server, "/ticket", "session=correct horse")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n")
    async with server.connect(f"/?ticket={body.decode()}") as peer:
        assert await peer.recv() == "hello ann"
    await refuses(server, f"/?ticket={body.decode()}")
    await refuses(server)
    head, _ = await fetch(server, "/ticket", "session=guess")
    assert head.startswith(b"HTTP/1.1 401 ")


def signed(seconds: float) -> str:
    text = f"ann:{time.time() + seconds}"
    return f"{text}:{hmac.digest(b'32 random bytes from your settings', text.encode(), 'sha256').hex()}"


@drives("auth-expiry")
async def _(server: Running) -> None:
    async with server.connect(f"/?token={signed(100)}") as peer, server.connect(f"/?token={signed(0.5)}") as renewed:
        await renewed.send(f"renew {signed(100)}")
        await peer.send("works")
        assert await peer.recv() == "works"
        await peer.send(f"renew {signed(0.01)}")
        assert await closed(peer) == (4401, "token expired")
        await renewed.send("works")
        assert await renewed.recv() == "works"
        await renewed.send("renew guess")
        assert await closed(renewed) == (4401, "token expired")
    await refuses(server)
    await refuses(server, f"/?token={signed(-2)}")
    await refuses(server, f"/?token={signed(100)}0")


@drives("auth-certificate")
async def _(server: Running) -> None:
    found = re.search(r"cafile='(.*)/ca\.pem'", (server.files.parent / "program.py").read_text())
    assert found is not None
    folder = Path(found[1])
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with pytest.raises(streamws.ConnectError):
        await streamws.connect(f"wss://localhost:{_split(server.address)[1]}/", ssl=context, proxy=None)
    context.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    url = f"wss://localhost:{_split(server.address)[1]}/"
    async with streamws.connect(url, ssl=context, proxy=None) as client:
        assert await client.read_message() == "hello Ann"
    stranger = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    stranger.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    with pytest.raises(streamws.HandshakeRefused, match="403"):
        await streamws.connect(url, ssl=stranger, proxy=None)


# Deployment -------------------------------------------------------------------------------------------------


@drives("tls")
async def _(server: Running) -> None:
    trusted = ssl.create_default_context(cafile=CERTIFICATE)
    url = f"wss://localhost:{_split(server.address)[1]}/"
    async with connect(url, ssl=trusted, proxy=None) as peer:
        assert await peer.recv() == "hello"


@drives("client-certificates")
async def _(server: Running) -> None:
    without = ssl.create_default_context()
    without.check_hostname = False
    without.verify_mode = ssl.CERT_NONE
    with pytest.raises(streamws.ConnectError, match="closed the connection"):
        await streamws.connect(f"wss://{server.address}/", ssl=without, proxy=None)


@drives("unix")
async def _(server: Running) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    async with unix_connect(server.address, "ws://example.org/chat/", additional_headers=headers) as peer:
        assert await peer.recv() == "192.0.2.1 asked example.org for /chat/"


@drives("proxies")
async def _(server: Running) -> None:
    forwarded = {"X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.0.0.3", "X-Forwarded-Proto": "https"}
    for headers, said in ({}, "127.0.0.1 by ws"), (forwarded, "192.0.2.1 by wss"):
        async with server.connect("/", headers) as peer:
            assert await peer.recv() == f"{said}, from the proxy 127.0.0.1"


@drives("shared")
async def _(server: Running) -> None:
    async with Program(*server.program.arguments) as second:
        assert await second.logs("serving on (.*)") == server.address
        pids = {f"process {program.process.pid}" for program in (server.program, second)}
        said: set[str | bytes] = set()
        while said != pids:
            async with server.connect() as peer:
                said.add(await peer.recv())
        assert await second.interrupt() == 0


@drives("health")
async def _(server: Running) -> None:
    async with server.connect():
        _, writer = streams = await asyncio.open_connection(*_split(server.address))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await streams[0].read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n1 clients\n")


async def stop_at_a_signal(server: Running, last_words: str) -> None:
    async with server.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
        server.signal(signal.SIGTERM)
        assert (await closed(peer))[0] == 1001
        await server.program.says(f"^{last_words}$")


@drives("graceful")
async def _(server: Running) -> None:
    await stop_at_a_signal(server, "saved")


@drives("signals")
async def _(server: Running) -> None:
    await stop_at_a_signal(server, "stopped")


@drives("lifespan")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await heard(peer, 2) == ["tick", "tick"]
        server.signal(signal.SIGTERM)
        assert {message async for message in peer} <= {"tick"}
        assert peer.close_code == 1001
    await server.program.says("^no more ticks$")


@drives("drain")
async def _(server: Running) -> None:
    with pytest.raises(InvalidStatus) as error:
        await server.connect("/ready")
    assert (error.value.response.status_code, error.value.response.body) == (200, b"ready\n")
    async with server.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
        server.signal(signal.SIGTERM)
        assert await closed(peer) == (1012, "server shutting down")
    await server.program.says("^drained$")


@drives("large-node")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
        server.signal(signal.SIGTERM)
        assert (await closed(peer))[0] == 1012
    await server.program.says("^drained$")


@drives("abort")
async def _(server: Running) -> None:
    raw = await open_peer(_split(server.address)[1], small_buffers=True)
    says = "connection lost without a closing handshake: this side dropped the connection"
    await server.program.says(f"^{says}$")
    await raw.close()


@drives("measurements")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await heard(peer, 3) == [f"measurement {number}" for number in range(3)]


@drives("interview")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.recv() == "what is your name?"
        await peer.send("Ada")
        assert await peer.recv() == "hello 'Ada'"


@drives("stop")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await peer.send("stop")
        server.stopping = True
        assert (await closed(peer))[0] == 1001
        await server.program.says("^stopped$")


@drives("logging")
async def _(server: Running) -> None:
    await _echoes(server)
    await server.program.logs(r"^\S+ \S+ INFO 127\.0\.0\.1:\d+ opened /$")
    await server.program.logs(r"^\S+ \S+ INFO 127\.0\.0\.1:\d+: closed by the peer with 1000$")


@drives("json-logs")
async def _(server: Running) -> None:
    async with server.connect("/chat?token=secret") as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"
    record = json.loads(await server.program.says('(.*"cause".*)'))
    assert record.keys() >= {"time", "level", "message", "remote", "client_id", "duration"}
    expected = {"role": "server", "path": "/chat", "cause": "clean", "code": 1000, "messages_received": 1}
    assert record.items() >= expected.items()


@drives("metrics")
async def _(server: Running) -> None:
    await _echoes(server)
    _, writer = streams = await asyncio.open_connection(*_split(server.address))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = (await streams[0].read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert 'streamws_connections_opened_total{server="chat"} 1.0\n' in answer


@drives("slow-clients")
async def _(server: Running) -> None:
    peer = await open_peer(_split(server.address)[1])  # it does not read
    await server.program.logs(r"WARNING:feed:127\.0\.0\.1:[0-9]+ is slow: [0-9]+ bytes wait")
    peer.reset()
    await server.program.logs("INFO:feed:127.0.0.1:[0-9]+ left after [0-9]+ messages: reset")


# ASGI applications ------------------------------------------------------------------------------------------


@drives("fastapi-endpoint")
async def _(server: Running) -> None:
    async with server.connect("/rooms/red?token=secret") as peer:
        await peer.send("hello")
        assert await peer.recv() == "red: hello"
    with pytest.raises(InvalidStatus) as error:
        await server.connect("/rooms/red?token=guess")
    assert (error.value.response.status_code, error.value.response.body) == (401, b"who are you?\n")


@drives("asgi-application")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        assert peer.response is not None
        assert peer.response.headers["X-Room"] == "red"
        await peer.send("hello")
        assert await peer.recv() == "hello"


# Topics --------------------------------------------------------------------------------------------------------


@drives("several-processes")
async def _(server: Running) -> None:
    async with Program(*server.program.arguments) as second:
        other = Running(second, await second.logs("serving on (.*)"), server.files)
        async with server.connect("/red?name=Ada") as ada, other.connect("/red?name=Bob") as bob:
            assert sorted(json.loads(await bob.recv())["members"]) in (["Ada", "Bob"], ["Bob"])
            assert "Ada" in json.loads(await ada.recv())["members"]
            positions = []
            for text in ("hello", "again"):
                await ada.send(text)
                said = json.loads(await bob.recv())
                assert said == json.loads(await ada.recv())
                assert (said["name"], said["text"]) == ("Ada", text)
                positions.append(said["position"])
        epoch, offset = positions[0]
        async with other.connect(f"/red?epoch={epoch}&offset={offset}") as peer:
            assert json.loads(await peer.recv()) == {"name": "Ada", "text": "again", "position": positions[1]}
            assert "somebody" in json.loads(await peer.recv())["members"]
        async with server.connect("/red?epoch=unknown&offset=7") as peer:
            assert [json.loads(text)["text"] for text in await heard(peer, 2)] == ["hello", "again"]
            assert json.loads(await peer.recv()) == {"missing since": 7}
        assert await second.interrupt() == 0
        assert "Traceback" not in second.stderr


@drives("rooms")
async def _(server: Running) -> None:
    async def next_of(peer: ClientConnection) -> Any:
        return json.loads(await peer.recv())

    async with server.connect("/kitchen?name=Ada") as ada, server.connect("/garden?name=Eve") as eve:
        assert await next_of(ada) == {"join": "Ada", "member": True}
        assert await next_of(ada) == {"members": ["Ada"], "recovered": False}
        async with server.connect("/kitchen?name=Bob") as bob:
            assert await next_of(ada) == {"join": "Bob", "member": True}
            assert await next_of(bob) == {"join": "Bob", "member": True}
            assert await next_of(bob) == {"members": ["Ada", "Bob"], "recovered": False}
            await ada.send("hello")
            said = await next_of(ada)
            assert (said["name"], said["text"]) == ("Ada", "hello")
            assert await next_of(bob) == said
        assert await next_of(ada) == {"leave": "Bob", "member": True}
        await ada.send("are you there?")
        missed = await next_of(ada)
        epoch, offset = said["position"]
        async with server.connect(f"/kitchen?name=Bob&epoch={epoch}&offset={offset}") as bob:
            assert await next_of(bob) == missed
            assert await next_of(bob) == {"join": "Bob", "member": True}
            assert await next_of(bob) == {"members": ["Ada", "Bob"], "recovered": True}
        async with server.connect("/kitchen?name=Bob&epoch=other&offset=7") as bob:
            assert [await next_of(bob), await next_of(bob)] == [said, missed]
            assert await next_of(bob) == {"join": "Bob", "member": True}
            assert await next_of(bob) == {"members": ["Ada", "Bob"], "recovered": False}
        assert await next_of(eve) == {"join": "Eve", "member": True}


# Topics in the browser ---------------------------------------------------------------------------------------------


async def ask(peer: ClientConnection, number: int, method: str, /, **parameters: object) -> Any:
    """Send a command of Centrifugo's protocol and return the reply, after pushes."""
    await peer.send(json.dumps({"id": number, method: parameters}))
    while (reply := json.loads(await peer.recv())).get("id") != number:
        pass
    return reply.get(method, reply.get("error"))


async def pushed(peer: ClientConnection) -> Any:
    """Return the next push, after pings."""
    while not (message := json.loads(await peer.recv())):
        pass
    return message["push"]


@drives("browser-clients")
async def _(server: Running) -> None:
    async with server.connect() as peer:
        await ask(peer, 1, "connect")
        position = await ask(peer, 2, "subscribe", channel="prices")
        assert position["recoverable"]
        push = await pushed(peer)
        assert push["channel"] == "prices"
        assert 1 <= push["pub"]["data"]["EUR/USD"] <= 2
        page = await ask(peer, 3, "history", channel="prices", limit=20, reverse=True)
        assert page["publications"][0] == push["pub"]
        refused = await ask(peer, 4, "publish", channel="prices", data={"EUR/USD": 9})
        assert refused == {"code": 103, "message": "permission denied"}
    async with server.connect() as peer:
        await ask(peer, 1, "connect")
        since = {"epoch": position["epoch"], "offset": position["offset"]}
        again = await ask(peer, 2, "subscribe", channel="prices", recover=True, **since)
        assert again["recovered"]
        assert again["publications"][0] == push["pub"]


@drives("fastapi-topics")
async def _(server: Running) -> None:
    async with server.connect("/news") as program, server.connect("/connection") as page:
        await ask(page, 1, "connect")
        assert (await ask(page, 2, "subscribe", channel="news"))["recoverable"]
        reader, writer = await asyncio.open_connection(*_split(server.address))
        writer.write(b"POST /news?text=hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert await program.recv() == '"hello"'
        assert (await pushed(page))["pub"]["data"] == "hello"
        assert (await ask(page, 3, "publish", channel="news", data="hi"))["code"] == 103


@drives("browser-calls")
async def _(server: Running) -> None:
    async with server.connect() as ada:
        await ask(ada, 1, "connect", data="Ada")
        await ask(ada, 2, "subscribe", channel="room", join_leave=True)
        join = (await pushed(ada))["join"]
        assert join["info"]["conn_info"] == {"name": "Ada"}
        assert await ask(ada, 3, "rpc", method="buy", data={"pair": "EUR/USD", "amount": 10}) == {"data": {"number": 7}}
        refused = await ask(ada, 4, "rpc", method="buy", data={"pair": "EUR/USD", "amount": 101})
        assert refused == {"code": 400, "message": "at most 100"}
        assert (await ask(ada, 5, "rpc", method="buy", data={"pair": "EUR/USD"}))["code"] == 107
        assert await ask(ada, 6, "publish", channel="room", data="hello") == {}
        assert (await ask(ada, 7, "publish", channel="room", data=5))["code"] == 107
        assert len((await ask(ada, 8, "presence", channel="room"))["presence"]) == 1


@drives("permissions")
async def _(server: Running) -> None:
    def token(user: str, seconds: float) -> str:
        expires_at = str(time.time() + seconds)
        signed = hmac.new(b"change me", f"{user} {expires_at}".encode(), "sha256").hexdigest()
        return f"{user} {expires_at} {signed}"

    async with server.connect() as peer:
        await peer.send(json.dumps({"id": 1, "connect": {"token": token("ada", 60) + "0"}}))
        assert await closed(peer) == (3500, "invalid token")
    async with server.connect() as peer:
        assert await ask(peer, 1, "connect", token=token("ada", -1)) == {"code": 109, "message": "token expired"}
    async with server.connect() as bob:
        assert (await ask(bob, 1, "connect", token=token("bob", 60)))["ttl"] in (59, 60)
        assert (await ask(bob, 2, "subscribe", channel="room:1"))["recoverable"]
        for channel in ("room:2", "room:3"):
            assert (await ask(bob, 3, "subscribe", channel=channel))["code"] == 103
        assert (await ask(bob, 4, "refresh", token=token("bob", 90)))["ttl"] in (89, 90)
        assert await ask(bob, 5, "publish", channel="room:1", data="hello") == {}
