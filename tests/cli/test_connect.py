"""`streamws connect`, used by a person at a terminal, and by a script through pipes."""

import asyncio
import errno
import os
import signal
import ssl
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from functools import partial

import pytest

from helpers.fixtures import Serve, echo, url_of
from helpers.peers import Peer, scripted, silent
from helpers.processes import free_port
from helpers.programs import Program
from helpers.terminals import Terminal
from helpers.waiting import until, within
from streamws import Client, CloseOutcome, Request, Response
from streamws.cli.main import main
from streamws.cli.terminal import LineEditor, rows
from streamws.server import Handler

GREETING = "; type /help for commands, Ctrl-D to close"


def connecting(*arguments: str, environment: dict[str, str] | None = None) -> Program:
    # Wait for the server to close the connection, so that no test depends on timing.
    environment = {**os.environ, "no_proxy": "", **(environment or {})}
    return Program("-m", "streamws", "connect", "--wait", "inf", *arguments, stdin=PIPE, environment=environment)


def typing(*arguments: str, width: int = 90, environment: dict[str, str] | None = None) -> Terminal:
    return Terminal("-m", "streamws", "connect", *arguments, width=width, environment=environment)


async def output_for(program: Program, data: bytes) -> tuple[int, str]:
    """Write all input to a program.

    :returns: Its exit code, and its standard output.
    """
    async with program:
        program.end_input(data)
        return await program.end(), program.stdout


def echo_some(count: int) -> Handler:
    """Return a handler that echoes this number of messages and closes."""

    async def handle(client: Client) -> None:
        for _ in range(count):
            await client.send(await client.read_message())

    return handle


class Conversation:
    """A server's handler for one connection, which queues the messages that it receives."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[CloseOutcome] = asyncio.get_running_loop().create_future()

    async def handle(self, client: Client) -> None:
        self._opened.set_result(client)
        try:
            async for message in client:
                self.received.put_nowait(message)
        finally:
            assert client.outcome is not None
            self._ended.set_result(client.outcome)

    async def client(self) -> Client:
        return await within(self._opened)

    async def receive(self) -> str | bytes:
        return await within(self.received.get())

    async def closed_with(self) -> tuple[int, str]:
        outcome = await within(self._ended)
        assert outcome.received is not None
        return outcome.received.code, outcome.received.reason


# A person at a terminal -------------------------------------------------------------------------------------


async def test_message_received_during_typing_is_shown_above_typed_line(serve: Serve) -> None:
    peer = Conversation()
    url = url_of(await serve(peer.handle))
    async with typing(url) as terminal:
        await terminal.shows(f"* connected to {url}{GREETING}", "> ")
        assert not terminal.echoes
        terminal.type("hélo")
        await terminal.shows("> hélo")
        terminal.type("\x1b[D")  # left
        await (await peer.client()).send("news")
        await terminal.shows("< news", "> hélo")
        terminal.type("l\r")
        assert await peer.receive() == "héllo"
        await terminal.shows("< news", "> héllo", "> ")
        terminal.type("\x04")
        assert await terminal.end() == 0
        assert await peer.closed_with() == (1000, "")
        assert terminal.rows[-2] == "* closed by this side with 1000"
        assert terminal.echoes


HOSTILE: list[tuple[str | bytes, list[str]]] = [
    ("\x1b[2J\x1b]0;title\x07", [r"< \x1b[2J\x1b]0;title\x07"]),
    ("\r\x1b[K> forged", [r"< \r\x1b[K> forged"]),
    ("one\ntwo\u2028three\x85four", [r"< one\ntwo\u2028three\x85four"]),
    ("\x00 \u202etxet\u202c \u2066\u200b\ufeff \x9b31m", [r"< \x00 \u202etxet\u202c \u2066\u200b\ufeff \x9b31m"]),
    ("a\xa0b\u3000c \U000e0041", [r"< a\xa0b\u3000c \U000e0041"]),
    ("", ["< "]),
    ("日本語 здравствуйте", ["< 日本語 здравствуйте"]),
    # A server must not be able to fake a row by padding text up to the width of the terminal.
    ("x" * 87 + "> forged" + " " * 79 + "< forged", ["< " + "x" * 87, "  > forged" + " " * 79, "  < forged"]),
    (b"\x00hello\xff", ["<0x 00 68 65 6c 6c 6f ff (7 bytes)"]),
    (b"", ["<0x  (0 bytes)"]),
]


async def test_hostile_messages_are_escaped_and_stay_in_their_own_rows(serve: Serve) -> None:
    async def attack(client: Client) -> None:
        for message, _ in HOSTILE:
            await client.send(message)
        await client.close(1000, "\x1b[2J\u202e")

    async with typing(url_of(await serve(attack))) as terminal:
        assert await terminal.end() == 0
    shown = [row for _, rows in HOSTILE for row in rows]
    assert terminal.rows[1 : 1 + len(shown)] == shown
    assert terminal.rows[1 + len(shown) :] == [r'* closed by the peer with 1000 "\x1b[2J\u202e"', ""]


def ends_with(note: str, rows: list[str]) -> bool:
    return rows[-1] == "> " and "".join(rows[-2:-1]).endswith(note)


async def test_long_messages_are_shortened_with_note_of_their_size(serve: Serve) -> None:
    peer = Conversation()
    async with typing(url_of(await serve(peer.handle)), width=250) as terminal:
        client = await peer.client()
        messages: list[tuple[str | bytes, str]] = [
            ("\x1b" * 3_000_000, "* cut: the message has 3000000 characters"),
            ("long " * 1000, "* cut: the message has 5000 characters"),
            (bytes(2_000_000), "00 ... (2000000 bytes)"),
        ]
        for message, note in messages:
            before = len(terminal.rows)
            await client.send(message)
            await terminal.until(partial(ends_with, note))
            assert len(terminal.rows) - before < 20
        terminal.type("\x04")
        assert await terminal.end() == 0


async def test_prompt_runs_commands(serve: Serve) -> None:
    peer = Conversation()
    async with typing(url_of(await serve(peer.handle))) as terminal:
        await terminal.shows("> ")
        terminal.type("/ping\r/ping you\r")
        await terminal.until(lambda rows: any(row.startswith('* pong to "you" after ') for row in rows))
        (pong,) = [row for row in terminal.rows if row.startswith("* pong after ")]
        assert pong.endswith(" ms")
        terminal.type("\r//binary 00\r/binary 68 65 ff\r")
        assert await peer.receive() == "/binary 00"  # the empty line before was not sent
        assert await peer.receive() == b"he\xff"
        for typed, note in [
            ("/bye", "* unknown command /bye; type /help for commands, //bye to send it as text"),
            ("/binary 6", "* /binary needs pairs of hex digits, such as /binary 68 65 6c, not '6'"),
            ("/close bye", "* /close needs a close code first, such as /close 1000 bye, not 'bye'"),
            ("/close 1005", "* close code 1005 must not be sent; use 1000, or 3000 to 4999 for codes of your own"),
            ("/ping " + "x" * 126, "* the payload of a control frame must have at most 125 bytes, not 126"),
            ("/help", "*   //text                 send /text as a message"),
        ]:
            terminal.type(typed + "\r")
            await terminal.shows(note, "> ")
        terminal.type("/close 4000 so long\r")
        assert await peer.closed_with() == (4000, "so long")
        assert await terminal.end() == 0


async def test_ctrl_c_closes_and_exits_with_130(serve: Serve) -> None:
    peer = Conversation()
    async with typing(url_of(await serve(peer.handle))) as terminal:
        await terminal.shows("> ")
        terminal.type("not sent")
        await terminal.shows("> not sent")
        terminal.type("\x03")
        assert await terminal.end() == 130
        assert await peer.closed_with() == (1000, "")
        assert terminal.rows[-2:] == ["> not sent", ""]
        assert terminal.echoes


async def test_suspended_program_restores_terminal_until_continued(serve: Serve) -> None:
    async with typing(url_of(await serve(echo))) as terminal:
        stopped = partial(os.waitid, os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        await terminal.shows("> ")
        terminal.type("ab")
        await terminal.shows("> ab")
        terminal.type("\x1a")  # Ctrl-Z
        await until(stopped)
        assert terminal.echoes
        terminal.process.send_signal(signal.SIGCONT)
        await until(lambda: not terminal.echoes)
        terminal.type("c\r")
        await terminal.shows("> abc", "< abc", "> ")
        terminal.type("\x04")
        assert await terminal.end() == 0


async def test_dumb_terminal_gets_plain_lines(serve: Serve) -> None:
    async with typing(url_of(await serve(echo)), environment={"TERM": "dumb"}) as terminal:
        terminal.type("one\n")
        await terminal.shows("< one", "")
        terminal.type("/close\n")
        assert await terminal.end() == 0
        assert terminal.rows == ["one", "< one", "/close", ""]  # the terminal echoes typed characters


# The line editor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("abc", "abc", 3),
        ("abc\x7f\b", "a", 1),
        ("\x7fa", "a", 1),
        ("abc\x1b[D\x1bOD\x1b[CX", "abXc", 3),
        ("abc\x01X\x05Y\x02\x06Z", "XabcYZ", 6),
        ("abc\x1b[HX\x1b[F\x1b[D\x1b[3~", "Xab", 3),
        ("abc\x01\x04", "bc", 0),
        ("ab cd  \x17ef", "ab ef", 5),
        ("abcd\x02\x02\x15", "cd", 0),
        ("abcd\x02\x02\x0b", "ab", 2),
        ("a\tb\x00\x1b[15~\x1bx\x1b[1;5C\x1b\x1b[Dc", "a\tcb", 3),
        ("one\rtwo\rdr\x10\x10\x10", "one", 3),
        ("one\rtwo\rdr\x10\x10\x0e\x0e\x0e", "dr", 2),
        ("one\rone\r\r\x1b[A\x1b[A", "one", 3),
    ],
)
def test_line_editor_handles_keys(keys: str, text: str, cursor: int) -> None:
    editor = LineEditor()
    for byte in keys.encode():  # byte by byte, as if the keys were pressed slowly
        editor.feed(bytes([byte]))
    assert (editor.text, editor.cursor) == (text, cursor)


def test_line_editor_returns_lines_until_ctrl_d_on_empty_line() -> None:
    editor = LineEditor()
    assert editor.feed("é\xa0\rtwo\nthr".encode()) == ["é\xa0", "two"]
    assert editor.feed(b"\xff\r\x04four\r") == ["thr\ufffd"]
    assert editor.ended


@pytest.mark.parametrize(
    ("text", "left", "visible"),
    [
        ("abcdefghij", 0, ("cdefghij", 8)),
        ("abcdefghij", 5, ("abcdefgh", 5)),
        ("abcdefghijklmnop", 9, ("abcdefgh", 7)),
        ("日本語日本", 0, ("本語日本", 8)),
        ("a\x1b", 0, ("a\\x1b", 5)),
        ("e\u0301", 0, ("e\u0301", 1)),
    ],
)
def test_line_editor_shows_text_around_cursor(text: str, left: int, visible: tuple[str, int]) -> None:
    editor = LineEditor()
    editor.text, editor.cursor = text, len(text) - left
    assert editor.visible(9) == visible


def test_rows_are_wrapped_at_width_and_indented() -> None:
    assert rows("< ", "abc", 4) == ["< abc"]  # a width below that of any terminal
    assert rows("< ", "x" * 35, 20) == ["< " + "x" * 17, "  " + "x" * 17, "  x"]
    assert rows("< ", "日" * 9, 20) == ["< " + "日" * 8, "  日"]


# A script ---------------------------------------------------------------------------------------------------


async def test_piped_lines_are_sent_as_messages_and_answers_printed_as_lines(serve: Serve) -> None:
    lines = ["héllo", "", "/close 4000", "with\x1bescape\u202e", "carriage return\r", "x" * 200_000, "no line end"]
    url = url_of(await serve(echo_some(len(lines))))
    code, output = await output_for(connecting(url), "\n".join(lines).encode())
    assert code == 0
    expected = ["héllo", "", "/close 4000", "with\\x1bescape\\u202e", "carriage return", lines[5], "no line end"]
    assert output.splitlines() == expected


async def test_binary_messages_are_printed_as_hex_for_script(serve: Serve) -> None:
    async def send(client: Client) -> None:
        for message in (b"\x00\xff", b"", bytes(70_000)):
            await client.send(message)

    code, output = await output_for(connecting(url_of(await serve(send))), b"")
    assert (code, output) == (0, "0x00ff\n0x\n0x" + "00" * 70_000 + "\n")


async def test_wait_limits_time_for_answers_of_server(serve: Serve) -> None:
    proceed = asyncio.Event()

    async def answer(client: Client) -> None:
        async for message in client:
            await proceed.wait()
            await client.send(message)
            await client.close(1000)

    async with connecting(url_of(await serve(answer))) as patient:
        patient.end_input(b"a\n")
        url = url_of(await serve(echo))
        assert await output_for(connecting("--wait", "0", url), b"a\nb\n") == (0, "a\nb\n")
        proceed.set()
        assert await patient.end() == 0
        assert patient.stdout == "a\n"


CLOSING = """
import os, sys
os.close(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-P", "-W", "error", "-m", "streamws", "connect", *sys.argv[2:]])
"""


@pytest.mark.parametrize("closed", [0, 1, 2])
async def test_closed_standard_stream_counts_as_empty(serve: Serve, closed: int) -> None:
    async def greet(client: Client) -> None:
        await client.send("hello")

    url = url_of(await serve(greet))
    async with Program("-c", CLOSING, f"{closed}", "--wait", "inf", url, stdin=PIPE) as program:
        assert await program.end() == 0
    assert (program.stdout, program.stderr) == ("" if closed == 1 else "hello\n", "")


async def test_closed_output_ends_program_cleanly(serve: Serve) -> None:
    peer = Conversation()
    url = url_of(await serve(peer.handle))
    output, end = os.pipe()
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "streamws", "connect", url, stdin=PIPE, stdout=end, stderr=PIPE
    )
    os.close(end)
    client = await peer.client()
    await client.send("one")
    assert await within(asyncio.to_thread(os.read, output, 100)) == b"one\n"
    os.close(output)
    await client.send("two")
    assert await peer.closed_with() == (1000, "")
    assert (await within(program.communicate()))[1] == b""
    assert program.returncode == 0


async def test_closed_output_exits_with_0_while_server_floods() -> None:
    async def flood(peer: Peer) -> None:
        await peer.accept()
        with suppress(ConnectionError):
            while True:  # continue after the Close frame
                peer.write(b"\x81\x03abc" * 1000)
                await peer.writer.drain()

    output, end = os.pipe()
    async with scripted(flood) as server:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "streamws", "connect", "--timeout", "0.3", server.url),
            stdin=PIPE,
            stdout=end,
            stderr=PIPE,
        )
        os.close(end)
        assert await within(asyncio.to_thread(os.read, output, 4)) == b"abc\n"
        os.close(output)
        assert (await within(program.communicate()))[1] == b""
    assert program.returncode == 0


async def close_badly(client: Client) -> None:
    await client.close(1011, "out of \x1b[31mcoffee")


async def vanish(client: Client) -> None:
    client._connection.abort()


async def abort_inside_message(client: Client) -> None:
    async with client.writer.fragment() as stream:
        await stream.send("x" * 100_000)
        await client.read_message()
        client._connection.abort()
        await client.wait_closed()


async def leave(client: Client) -> None:
    await client.send("bye")


@pytest.mark.parametrize(
    ("handler", "code", "complaint"),
    [
        (leave, 0, ""),
        (close_badly, 3, 'streamws: closed by the peer with 1011 "out of \\x1b[31mcoffee"\n'),
        (vanish, 3, "streamws: connection lost without a closing handshake\n"),
    ],
)
async def test_exit_code_depends_on_close_of_server(serve: Serve, handler: Handler, code: int, complaint: str) -> None:
    async with connecting(url_of(await serve(handler))) as program:  # its input stays open
        assert await program.end() == code
    assert complaint in program.stderr
    assert len(program.stderr.splitlines()) == (code != 0)


async def test_incomplete_message_exits_with_3(serve: Serve) -> None:
    async with connecting(url_of(await serve(abort_inside_message))) as program:
        program.end_input(b"go\n")
        assert await program.end() == 3
    assert program.stdout == "x" * 100_000 + "\n"
    lost = "connection lost without a closing handshake"
    reset = f"{lost}: ConnectionResetError: [Errno {errno.ECONNRESET}] {os.strerror(errno.ECONNRESET)}"
    # The end of the stream may be read before the reset.
    assert program.stderr in [f"streamws: {what}; the last message is incomplete\n" for what in (lost, reset)]


@pytest.mark.parametrize("size", [9, 999_999])
async def test_unsent_input_exits_with_3(serve: Serve, size: int) -> None:
    async def take_one(client: Client) -> None:
        await client.read_message()

    async with connecting(url_of(await serve(take_one))) as program:
        program.write((b"x" * size + b"\n") * (50_000_000 // size))
        assert await program.end() == 3
    assert program.stderr == "streamws: closed by the peer with 1000; not all input was sent\n"


async def test_input_that_is_not_utf8_exits_with_2(serve: Serve) -> None:
    async with connecting(url_of(await serve(echo_some(1)))) as program:
        program.end_input(b"good\n\xff\xfe\nlost\n")
        assert await program.end() == 2
    assert program.stdout == "good\n"
    assert program.stderr == (
        "streamws: cannot send a line that is not UTF-8: b'\\xff\\xfe'; the rest of the input was not sent\n"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "terminated"]
)
async def test_signal_closes_connection_and_sets_exit_code(serve: Serve, number: signal.Signals, code: int) -> None:
    peer = Conversation()
    async with connecting(url_of(await serve(peer.handle))) as program:
        await peer.client()
        assert await program.interrupt(number) == code
        assert await peer.closed_with() == (1000, "")
    assert program.stderr == ""


async def test_second_signal_exits_without_waiting_for_server() -> None:
    accepted = asyncio.Event()

    async def stay(peer: Peer) -> None:
        await peer.accept()
        accepted.set()
        await peer.read_close()  # the server does not answer it
        program.process.send_signal(signal.SIGINT)
        await peer.read_end()

    async with scripted(stay) as server, connecting(server.url) as program:
        await within(accepted.wait())
        assert await program.interrupt() == 130


# No connection ----------------------------------------------------------------------------------------------


def refuse(request: Request) -> Response:
    return Response(401, "token \x1b[31mexpired\n")


async def test_refused_handshake_prints_reason_and_exits_with_1(serve: Serve) -> None:
    async with connecting(url_of(await serve(echo, request=refuse))) as program:
        assert await program.end() == 1
    assert (program.stdout, program.stderr) == (
        "",
        "streamws: the server did not accept the connection: 401 Unauthorized: token [31mexpired\n",
    )


async def test_unreachable_or_silent_server_exits_with_1() -> None:
    closed = f"127.0.0.1:{free_port()}"
    async with scripted(silent) as server:
        for arguments, complaint in [
            ([f"ws://{closed}/"], f"cannot connect to {closed}: "),
            ([server.url, "--timeout", "0.1"], "not connected within 0.1 s"),
            (
                [server.url, "--proxy", f"http://{closed}"],
                f"cannot connect to the proxy http://{closed}: ",
            ),
        ]:
            async with connecting(*arguments) as program:
                assert await program.end() == 1
            assert program.stderr.startswith(f"streamws: {complaint}")
            assert len(program.stderr.splitlines()) == 1


async def test_signal_while_connecting_ends_program() -> None:
    asked = asyncio.Event()

    async def stall(peer: Peer) -> None:
        await peer.read_head()
        asked.set()
        await peer.read_end()

    async with scripted(stall) as server, connecting(server.url) as program:
        await within(asked.wait())
        assert await program.interrupt() == 130
    assert program.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "URL"),
        (["http://host/"], "must start with ws:// or wss://"),
        (["ws://host:99999/"], "99999"),
        (["ws://host/\x1b[2J"], "control character"),
        (["ws://\udcff@host/"], "half of a character"),
        (["ws://host/", "--header", "Name"], "--header must be 'Name: value', not 'Name'"),
        (["ws://host/", "--header", "a b: c"], "header name 'a b' is not a token"),
        (["ws://host/", "--header", "a: b\r\nc: d"], "the value of header a contains a control character"),
        (["ws://host/", "--header", "Upgrade: h2c"], "Upgrade must not be in headers=, streamws sets it"),
        (["ws://host/", "--subprotocol", "a,b"], "'a,b' in subprotocols is not a token"),
        (["ws://host/", "--timeout", "0"], "--timeout must be more than 0 seconds, not 0"),
        (["ws://host/", "--timeout", "soon"], "invalid float value"),
        (["ws://host/", "--wait", "-1"], "--wait must be 0 seconds or more, not -1"),
        (["ws://host/", "--wait", "nan"], "--wait must be 0 seconds or more, not nan"),
        (["ws://host/", "--proxy", "ftp://host/"], "ftp://host/"),
        (["ws://host/", "--proxy", "http://host/", "--no-proxy"], "not allowed with argument --proxy"),
        (["ws://host/", "--path", "/x", "--proxy", "http://host/"], "proxy and path cannot be used together"),
    ],
)
def test_bad_arguments_exit_with_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["connect", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "\x1b" not in said


# What the server sees ---------------------------------------------------------------------------------------


async def test_options_appear_in_request(serve: Serve) -> None:
    requests = []

    async def handle(client: Client) -> None:
        requests.append(client.request)

    options = ["--header", "X-One: 1:2", "--header", "X-One:two ", "--subprotocol", "a", "--subprotocol", "b"]
    url = url_of(await serve(handle, subprotocols=["b"], origins=["https://example.org"]))
    async with connecting(*options, "--origin", "https://example.org", url) as program:
        assert await program.end() == 0
    (request,) = requests
    assert request.headers.get_all("X-One") == ("1:2", "two")
    assert request.headers["Sec-WebSocket-Protocol"] == "a, b"
    assert request.headers["Origin"] == "https://example.org"


async def test_no_proxy_ignores_proxy_of_environment(serve: Serve) -> None:
    url = url_of(await serve(leave))
    environment = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "example.org"}
    async with connecting(url, environment=environment) as program:
        assert await program.end() == 1
        assert "cannot connect to the proxy http://127.0.0.1:1: " in program.stderr
    async with connecting("--no-proxy", url, environment=environment) as program:
        assert await program.end() == 0


async def test_certificate_is_verified_unless_insecure(serve: Serve, server_context: ssl.SSLContext) -> None:
    url = url_of(await serve(leave, ssl=server_context), scheme="wss")
    async with connecting(url) as program:
        assert await program.end() == 1
    assert "self-signed certificate" in program.stderr
    async with connecting("--insecure", url) as program:
        assert await program.end() == 0
    assert program.stdout == "bye\n"
    assert program.stderr.startswith("streamws: warning: --insecure accepts any certificate: ")
    assert len(program.stderr.splitlines()) == 1
