"""`streamws echo`, run from the command line."""

import asyncio
import base64
import errno
import hashlib
import os
import re
import signal
import socket
import ssl
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from helpers.programs import SECONDS, Program
from streamws.about import BUILD, __version__
from streamws.cli.echo import _greeting
from streamws.cli.main import main
from streamws.cli.site import page as page_of

CERTIFICATE = str(Path(__file__).parents[1] / "helpers" / "localhost.pem")


def echo(*arguments: str, port: str | None = "0") -> Program:
    place = () if port is None else ("--host", "127.0.0.1", "--port", port)
    return Program("-m", "streamws", "echo", *place, *arguments)


def fetch(
    url: str, method: str = "GET", trusted: ssl.SSLContext | None = None
) -> tuple[int, "Message[str, str]", bytes]:
    """Return the response to a plain HTTP request with any status, without a proxy of the environment."""
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)]
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=SECONDS) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


async def assert_echoes(peer: ClientConnection) -> None:
    async with asyncio.timeout(SECONDS):
        for message in ("héllo", b"\x00\xff", ""):
            await peer.send(message)
            assert await peer.recv() == message


# Serving ----------------------------------------------------------------------------------------------------


async def test_echo_returns_messages_at_printed_url() -> None:
    async with echo() as program:
        url = await program.says(r"(ws://127\.0\.0\.1:\d+/)")
        async with connect(url, proxy=None) as peer:
            await assert_echoes(peer)
        assert await program.interrupt() == 0
        assert program.stdout.startswith(f"Echo server (streamws {__version__}, {BUILD}) on 127.0.0.1:")
        assert f" streamws connect {url}\n" in program.stdout
        assert url.replace("ws:", "http:") in program.stdout
        assert program.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_echo_closes_clients_with_1001_and_exits_with_0_when_signalled(number: signal.Signals) -> None:
    async with echo() as program:
        async with connect(await program.says(r"(ws://\S+)"), proxy=None) as peer:
            ending = asyncio.create_task(program.interrupt(number))
            async with asyncio.timeout(SECONDS):
                with pytest.raises(ConnectionClosedOK) as closed:
                    await peer.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert await ending == 0


async def test_echo_answers_on_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    async with echo("--path", path, port=None) as program:
        assert await program.says("Unix socket (.*)") == path
        async with unix_connect(path, "ws://localhost/") as peer:
            await assert_echoes(peer)
        assert await program.interrupt() == 0
        assert f"curl --unix-socket {path} " in program.stdout


async def test_echo_on_unix_socket_prints_command_that_connects_to_it(tmp_path: Path) -> None:
    async with echo("--path", str(tmp_path / "it's.sock"), port=None) as server:
        command = await server.says(" (streamws connect .*)")
        shell = await asyncio.create_subprocess_shell(
            f'streamws() {{ "{sys.executable}" -P -m streamws "$@"; }}; echo hello | {command}',
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            assert (await shell.communicate())[0] == b"hello\n"
        assert await server.interrupt() == 0


async def test_echo_with_certificate_serves_wss_and_https() -> None:
    trusted = ssl.create_default_context(cafile=CERTIFICATE)
    async with echo("--certificate", CERTIFICATE) as program:
        url = await program.says(r"(wss://127\.0\.0\.1:\d+/)")
        async with connect(url, ssl=trusted, proxy=None) as peer:
            await assert_echoes(peer)
        page = url.replace("wss:", "https:")
        assert (await asyncio.to_thread(fetch, page, trusted=trusted))[0] == 200
        assert await program.interrupt() == 0


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [((), False), (("--origins", "https://example.org"), True), (("--origins", "*"), True)],
    ids=["own host", "listed", "all"],
)
async def test_echo_accepts_pages_of_other_origins_only_if_told_to(arguments: tuple[str, ...], accepted: bool) -> None:
    async with echo(*arguments) as program:
        attempt = connect(
            await program.says(r"(ws://\S+)"),
            additional_headers={"Origin": "https://example.org"},
            proxy=None,
        )
        if accepted:
            async with attempt as peer:
                await assert_echoes(peer)
        else:
            with pytest.raises(InvalidStatus, match="403"):
                await attempt
        assert await program.interrupt() == 0


async def test_echo_logs_connections_when_verbose() -> None:
    async with echo("--verbose") as program:
        async with connect(await program.says(r"(ws://\S+)"), proxy=None):
            await program.logs(r"opened /")
        await program.logs(r": closed by the peer with 1000$")
        assert await program.interrupt() == 0


# The page ---------------------------------------------------------------------------------------------------


async def test_echo_serves_plain_http_as_well() -> None:
    async with echo() as program:
        url = (await program.says(r"(http://\S+)")).rstrip("/")
        status, headers, page = await asyncio.to_thread(fetch, url + "/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.startswith(b"<!doctype html>")
        status, headers, body = await asyncio.to_thread(fetch, url + "/", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(page)), b"")
        status, _, body = await asyncio.to_thread(fetch, url + "/healthz")
        assert (status, body) == (200, b"ok")
        assert (await asyncio.to_thread(fetch, url + "/nothing"))[0] == 404
        status, headers, _ = await asyncio.to_thread(fetch, url + "/", "DELETE")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        async with connect(url.replace("http:", "ws:") + "/nothing", proxy=None) as peer:
            await assert_echoes(peer)
        assert await program.interrupt() == 0


@pytest.mark.parametrize("name", ["chat.html", "demo.html"])
def test_page_policy_allows_only_its_own_script_and_style(name: str) -> None:
    response = page_of(name)
    page = response.body.decode()
    rules = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
    for element in ("script", "style"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{element}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["chat.html", "demo.html"])
def test_page_loads_nothing_external_and_never_inserts_messages_as_html(name: str) -> None:
    page = page_of(name).body.decode()
    assert re.findall(r'(?:src|href|action)="([^"]*)"', page) == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\son[a-z]+=|\sstyle=", page)


# Errors ----------------------------------------------------------------------------------------------------


async def test_echo_prints_one_line_and_exits_with_1_when_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with echo(port=port) as program:
            assert await program.end() == 1
    assert program.stdout == ""
    (line,) = program.stderr.splitlines()
    assert line.startswith(f"streamws: cannot listen on '127.0.0.1', port {port}: {os.strerror(errno.EADDRINUSE)}")


async def test_echo_prints_one_line_and_exits_with_1_when_certificate_is_unreadable(
    tmp_path: Path,
) -> None:
    async with echo("--certificate", str(tmp_path / "nothing.pem")) as program:
        assert await program.end() == 1
    (line,) = program.stderr.splitlines()
    assert "nothing.pem: No such file" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "COMMAND"),
        (("shout",), "invalid choice: 'shout'"),
        (("echo", "--port", "x"), "invalid int value: 'x'"),
        (("echo", "--port", "65536"), "port must be from 0 to 65535"),
        (("echo", "--path", "x", "--port", "1"), "--path cannot be used with --host or --port"),
        (("echo", "--path", "x", "--host", "y"), "--path cannot be used with --host or --port"),
        (("echo", "--key", "x"), "--key needs --certificate"),
        (("echo", "--origins", "example.org"), "'example.org' in origins"),
    ],
)
def test_echo_names_invalid_arguments_and_exits_with_2(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


# Greeting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "addresses", "authorities"),
    [
        ("localhost", [("127.0.0.1", 80), ("::1", 80, 0, 0)], ["localhost:80"]),
        ("localhost", [("127.0.0.1", 81), ("::1", 82, 0, 0)], ["127.0.0.1:81", "[::1]:82"]),
        ("", [("0.0.0.0", 80), ("::", 80, 0, 0)], ["localhost:80"]),
        ("0.0.0.0", [("0.0.0.0", 80)], ["localhost:80"]),
        ("::1", [("::1", 80, 0, 0)], ["[::1]:80"]),
    ],
)
def test_greeting_contains_urls_that_reach_server(
    host: str, addresses: list[tuple[str, int]], authorities: list[str]
) -> None:
    lines = "\n".join(_greeting(host, False, addresses))
    assert re.findall(r"http://(\S+)/", lines) == authorities
