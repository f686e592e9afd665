"""`streamws connect URL`: talk to a server from a terminal, or send it messages from a pipe."""

import argparse
import asyncio
import math
import signal
import ssl as tls
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol, TypeVar

from ..client import Client
from ..codes import Cause, CloseCode, CloseOutcome, Opcode, Side, escape
from ..connecting.connect import Connecting, connect
from ..errors import ConnectionClosed, HandshakeRefused, IncompleteMessage, StreamwsError
from ..handshake.url import Url, parse_url
from ..net.signals import STOPS, on_signals
from ..options import Timeouts
from ..wire.protocol import State
from .terminal import (
    Helper,
    Input,
    Prompt,
    has_line_editing,
    open_closed_streams,
    rows,
    width,
    write_all,
)

_Piece = TypeVar("_Piece", str, bytes)

_CLEAN, _NO_CONNECTION, _USAGE, _BAD_END = 0, 1, 2, 3
_SIGNALLED = 128  # plus the number of the signal, as shells do

_EXIT_CODES = """\
exit codes:
  0    the connection was closed cleanly, or the output was closed (as by `| head`)
  1    no connection: cannot connect, timeout, or the server refused the handshake
  2    invalid arguments, or input that is not UTF-8
  3    the connection ended with an error, or before all input was sent
  130  stopped by Ctrl-C (SIGINT), 143 by SIGTERM; the connection was closed first,
       or aborted at the second signal
"""

_HELP = """\
each line that you type is sent as a text message, except for these commands:
  /ping [PAYLOAD]        send a ping and show the round-trip time
  /binary [HEX]          send bytes, such as /binary 68 65 6c 6c 6f
  /close [CODE [REASON]] close the connection, with 1000 by default; so does Ctrl-D
  /help                  show this help
  //text                 send /text as a message\
"""

_MAX_SHOWN_CHARACTERS = 4000
_MAX_SHOWN_BYTES = 256
_WRITE_SIZE = 64 * 1024
_MORE_INPUT_SECONDS = 0.1
_PONG_SECONDS = 60.0
"""The time that the server has to receive all input and answer the ping after it. The keepalive finds a server that is
gone earlier."""


# Arguments --------------------------------------------------------------------------------------------------


def add_connect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `connect` command to the command line."""
    parser = commands.add_parser(
        "connect",
        help="connect to a server and exchange messages with it",
        description="Connect to a WebSocket server. Each line that you type, or that arrives through a pipe,\n"
        "is sent as a text message. Each message from the server is printed as one line.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="address of the server, such as wss://example.org/feed")
    parser.add_argument(
        "--header",
        metavar="FIELD",
        action="append",
        default=[],
        help="header field to add to the request, as 'Name: value'; can be repeated",
    )
    parser.add_argument(
        "--subprotocol",
        metavar="NAME",
        action="append",
        default=[],
        help="subprotocol to offer; can be repeated, the preferred one first",
    )
    parser.add_argument("--origin", help="value of the Origin field, for servers that require one")
    parser.add_argument("--insecure", action="store_true", help="accept any TLS certificate")
    parser.add_argument("--path", metavar="UNIX", help="connect to this Unix socket; URL is only used for the request")
    proxies = parser.add_mutually_exclusive_group()
    proxies.add_argument(
        "--proxy", metavar="URL", help="http:// or socks5:// proxy (default: the proxy settings of the environment)"
    )
    proxies.add_argument("--no-proxy", action="store_true", help="ignore the proxy settings of the environment")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="time limit for opening and for closing the connection (default: 10)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="after the end of piped input, close the connection when the server has been silent for this long "
        "(default: 1); inf to wait until the server closes it",
    )
    parser.set_defaults(run=_connect, parser=parser)


def _connect(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    open_closed_streams()
    try:
        url = parse_url(options.url)
        if not options.wait >= 0:
            raise ValueError(f"--wait must be 0 seconds or more, not {options.wait:g}")
        if not 0 < options.timeout < math.inf:
            raise ValueError(f"--timeout must be more than 0 seconds, not {options.timeout:g}")
        connecting = connect(
            options.url,
            headers=[_field(text) for text in options.header],
            origin=options.origin,
            subprotocols=options.subprotocol,
            ssl=_unverified() if options.insecure and url.secure else None,
            path=options.path,
            proxy=options.proxy or not options.no_proxy,
            timeouts=Timeouts(open=options.timeout, close=options.timeout),
        )
    except ValueError as error:
        parser.error(escape(str(error)))
    if options.insecure:
        _print_error(
            "warning: --insecure accepts any certificate: others on the network can read and change all messages"
        )
    try:
        return asyncio.run(_Conversation(url, connecting, options.wait).run())
    except KeyboardInterrupt:  # Ctrl-C before the signal handlers were installed
        return _SIGNALLED + signal.SIGINT


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"--header must be 'Name: value', not {text!r}")
    return name, value.strip(" \t")


def _unverified() -> tls.SSLContext:
    context = tls.create_default_context()
    context.check_hostname = False
    context.verify_mode = tls.CERT_NONE
    return context


def _print_error(text: str) -> None:
    print(f"streamws: {escape(text)}", file=sys.stderr, flush=True)


# Output -----------------------------------------------------------------------------------------------------


class _Display(Protocol):
    """Prints received messages, and notes of the command itself."""

    idle: asyncio.Event
    """Set unless a write to the output is waiting for its reader."""

    async def text(self, pieces: AsyncIterator[str]) -> None:
        """Print a text message."""

    async def binary(self, pieces: AsyncIterator[bytes]) -> None:
        """Print a binary message."""

    def note(self, *lines: str) -> None:
        """Print something that is not a message."""


class _PlainDisplay:
    """Output for programs: each message is one line, never cut; binary messages are hex after `0x`."""

    def __init__(self) -> None:
        self._helper = Helper()
        self.idle = asyncio.Event()
        self.idle.set()

    async def text(self, pieces: AsyncIterator[str]) -> None:
        await self._print("", (escape(piece) async for piece in pieces))

    async def binary(self, pieces: AsyncIterator[bytes]) -> None:
        await self._print("0x", (piece.hex() async for piece in pieces))

    def note(self, *lines: str) -> None:
        for line in lines:
            _print_error(line)

    async def _print(self, line: str, pieces: AsyncIterator[str]) -> None:
        begun = False
        try:
            async for piece in pieces:
                line += piece
                if len(line) >= _WRITE_SIZE:
                    begun = True
                    await self._write(line)
                    line = ""
        except ConnectionClosed:
            if begun:
                await self._write("\n")
            raise
        await self._write(line + "\n")

    async def _write(self, text: str) -> None:
        self.idle.clear()
        await self._helper.run(lambda: write_all(text))
        self.idle.set()


class _ScreenDisplay:
    """Output for people: rows of a terminal. A long message is cut, and its size is shown."""

    def __init__(self, prompt: Prompt | None) -> None:
        self._prompt = prompt
        self.idle = asyncio.Event()
        self.idle.set()

    async def text(self, pieces: AsyncIterator[str]) -> None:
        start, size = "", 0
        async for piece in pieces:
            start += piece[: _MAX_SHOWN_CHARACTERS - len(start)]
            size += len(piece)
        shown = escape(start)
        cut = size > len(start) or len(shown) > _MAX_SHOWN_CHARACTERS
        note = rows("* ", f"cut: the message has {size} characters", width()) if cut else []
        self._show([*rows("< ", shown[:_MAX_SHOWN_CHARACTERS], width()), *note])

    async def binary(self, pieces: AsyncIterator[bytes]) -> None:
        start, size = b"", 0
        async for piece in pieces:
            start += piece[: _MAX_SHOWN_BYTES - len(start)]
            size += len(piece)
        cut = " ..." if size > len(start) else ""
        # No text message looks like this: it has a space after the "<".
        self._show(rows("<0x ", f"{start.hex(' ')}{cut} ({size} byte{'s' if size != 1 else ''})", width()))

    def note(self, *lines: str) -> None:
        self._show([row for line in lines for row in rows("* ", line, width())])

    def _show(self, shown: list[str]) -> None:
        if self._prompt is not None:
            self._prompt.show(shown)
        else:
            write_all("".join(f"{row}\n" for row in shown))


# The conversation -------------------------------------------------------------------------------------------


class _Conversation:
    """One connection, from connecting to the exit code."""

    def __init__(self, url: Url, connecting: Connecting, wait: float) -> None:
        self._url = url
        self._connecting = connecting
        self._wait = wait
        self._input = Input()
        self._interactive = sys.stdin.isatty()  # lines are typed by a person, not piped from a program
        self._signal = 0  # the number of the last signal
        self._stop = asyncio.Event()  # set by the first signal: close the connection
        self._abort = asyncio.Event()  # set by the second signal: do not wait for the server
        self._received = asyncio.Event()  # set for each piece of a message
        self._ended_here = False  # the user closed the connection, or the output was closed
        self._output_closed = False
        self._unsent = False  # input was read and not sent
        self._incomplete = False  # the connection ended in the middle of a message
        self._problem = ""  # an error of the input or output
        self._code = _CLEAN  # the exit code for that error
        self._pings: set[asyncio.Task[None]] = set()

    def _signalled(self, number: int) -> None:
        (self._abort if self._stop.is_set() else self._stop).set()
        self._signal = number

    async def run(self) -> int:
        """Connect and exchange messages until the end.

        :returns: the exit code.
        """
        restore = on_signals(asyncio.get_running_loop(), STOPS, self._signalled)
        try:
            return await self._run()
        finally:
            restore()

    async def _run(self) -> int:
        opening = asyncio.ensure_future(self._open())
        await self._first(opening, self._stop.wait())
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
            return _SIGNALLED + self._signal
        try:
            client = opening.result()
        except HandshakeRefused as error:
            _print_error(f"the server did not accept the connection: {error}")
            return _NO_CONNECTION
        except StreamwsError as error:
            _print_error(str(error))
            return _NO_CONNECTION
        prompt = Prompt() if self._interactive and has_line_editing() else None
        display = _ScreenDisplay(prompt) if sys.stdout.isatty() else _PlainDisplay()
        try:
            if prompt is not None:
                subprotocol = f" with subprotocol {client.subprotocol}" if client.subprotocol else ""
                display.note(f"connected to {self._url}{subprotocol}; type /help for commands, Ctrl-D to close")
            await self._talk(client, display, self._input.lines() if prompt is None else prompt.lines())
            assert client.outcome is not None
            code = self._exit_code(client.outcome)
            if prompt is not None and code == _CLEAN:
                display.note(str(client.outcome))
        finally:
            if prompt is not None:
                prompt.close()
        if code == _BAD_END and not self._problem:
            unsent = "; not all input was sent" if self._unsent else ""
            incomplete = "; the last message is incomplete" if self._incomplete else ""
            self._problem = f"{client.outcome}{incomplete}{unsent}"
        if self._problem:
            _print_error(self._problem)
        return code

    async def _open(self) -> Client:
        return await self._connecting

    async def _talk(self, client: Client, display: _Display, lines: AsyncIterator[str]) -> None:
        """Exchange messages until the server closes, the input ends or a signal arrives; then close the connection."""
        receiving = asyncio.ensure_future(self._receive(client, display))
        sending = asyncio.ensure_future(self._send(client, display, lines))
        try:
            await self._first(receiving, sending, self._stop.wait())
            if sending.done() and not self._interactive:
                await self._first(receiving, self._until_silent(client, display), self._stop.wait())
            if self._stop.is_set():
                receiving.cancel()
            await self._first(client.close(), self._abort.wait())
            if client.state is not State.CLOSED:
                client._connection.abort()
                await client.wait_closed()
            await self._first(receiving, self._abort.wait())
            if not self._interactive and not self._stop.is_set():
                # A pipe does not tell whether it has more input: wait for some.
                await asyncio.wait([sending], timeout=_MORE_INPUT_SECONDS)
                self._unsent |= self._input.pending
        finally:
            tasks = [receiving, sending, *self._pings]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (receiving, sending):
            if not task.cancelled():
                task.result()

    async def _first(self, *awaitables: Awaitable[object]) -> None:
        """Wait until one of them is done. Then the coroutines among the others are cancelled, but not the tasks."""
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task, awaitable in zip(tasks, awaitables, strict=True):
                if task is not awaitable:
                    task.cancel()

    def _exit_code(self, outcome: CloseOutcome) -> int:
        if self._signal:
            return _SIGNALLED + self._signal
        if self._code != _CLEAN or self._problem:
            return self._code
        if self._output_closed:
            return _CLEAN  # however the server reacts
        if (self._unsent or self._incomplete) and not self._ended_here:
            return _BAD_END
        # With `/close CODE`, a code that names a failure is what the user wanted.
        wanted = self._ended_here and outcome.cause is Cause.CLOSED_WITH_ERROR and outcome.initiator is Side.LOCAL
        return _CLEAN if outcome.clean or wanted else _BAD_END

    # From the server ---------------------------------------------------------------------------------------

    async def _receive(self, client: Client, display: _Display) -> None:
        try:
            async for reader in client.messages():
                if reader.type is Opcode.TEXT:
                    await display.text(self._observed(reader.text()))
                else:
                    await display.binary(self._observed(reader))
                await asyncio.sleep(0)  # keys and signals must not wait for the end of a flood of messages
        except IncompleteMessage:
            self._incomplete = True
        except ConnectionClosed:
            pass  # the outcome is reported at the end
        except BrokenPipeError:  # as with `| head -1`
            self._ended_here = self._output_closed = True
        except OSError as error:
            self._problem = f"cannot write the output: {error.strerror or error}"
            self._code = _BAD_END

    async def _observed(self, pieces: AsyncIterator[_Piece]) -> AsyncIterator[_Piece]:
        """Yield the pieces, and set `_received` for each."""
        async for piece in pieces:
            self._received.set()
            yield piece

    async def _until_silent(self, client: Client, display: _Display) -> None:
        """Wait until the server has received all input, and then has sent nothing for `--wait` seconds."""
        try:
            # The pong proves that the server has received the messages before the ping.
            async with asyncio.timeout(_PONG_SECONDS):
                await client.writer.ping()
        except TimeoutError:
            pass
        except ConnectionClosed:
            return
        while True:
            self._received.clear()
            try:
                async with asyncio.timeout(None if math.isinf(self._wait) else self._wait):
                    await self._received.wait()
            except TimeoutError:
                if display.idle.is_set():
                    return
                await display.idle.wait()

    # To the server -----------------------------------------------------------------------------------------

    async def _send(self, client: Client, display: _Display, lines: AsyncIterator[str]) -> None:
        try:
            async for line in lines:
                if self._interactive:
                    await self._process_line(line, client, display)
                else:
                    self._unsent = True
                    await client.send(line)
                    self._unsent = False
            self._ended_here = self._interactive
        except ConnectionClosed:
            pass  # the outcome is reported at the end
        except UnicodeDecodeError as error:
            self._problem = (
                f"cannot send a line that is not UTF-8: {error.object[:40]!r}; the rest of the input was not sent"
            )
            self._code = _USAGE
        except OSError as error:
            self._problem = f"cannot read the input: {error.strerror or error}"
            self._code = _USAGE

    async def _process_line(self, line: str, client: Client, display: _Display) -> None:
        """Send a typed line, or run the command in it."""
        if not line.startswith("/") or line.startswith("//"):
            if line:  # Enter on an empty line sends no message
                await client.send(line.removeprefix("/") if line.startswith("//") else line)
            return
        command, _, argument = line[1:].partition(" ")
        try:
            match command:
                case "ping":
                    self._ping(client, display, argument)
                case "binary":
                    await client.send(_from_hex(argument))
                case "close":
                    await self._close(client, argument)
                case "help":
                    display.note(*_HELP.splitlines())
                case _:
                    display.note(
                        f"unknown command /{command}; type /help for commands, //{line[1:]} to send it as text"
                    )
        except ValueError as error:
            display.note(str(error))

    def _ping(self, client: Client, display: _Display, payload: str) -> None:
        pong = client.writer.ping(payload.encode())

        async def wait() -> None:
            try:
                seconds = await pong
            except ConnectionClosed:
                return
            answered = f' to "{payload}"' if payload else ""
            display.note(f"pong{answered} after {seconds * 1000:.2f} ms")

        task = asyncio.ensure_future(wait())
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)

    async def _close(self, client: Client, argument: str) -> None:
        code, _, reason = argument.partition(" ")
        if code and not (code.isascii() and code.isdigit()):
            raise ValueError(f"/close needs a close code first, such as /close 1000 bye, not {code!r}")
        self._ended_here = True
        try:
            await client.close(int(code or CloseCode.NORMAL), reason)
        except ValueError:
            self._ended_here = False
            raise


def _from_hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"/binary needs pairs of hex digits, such as /binary 68 65 6c, not {digits!r}") from None
