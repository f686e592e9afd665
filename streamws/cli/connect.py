"""`python -m streamws connect URL`: a dialogue with a server, typed by a person or piped from a program."""

import argparse
import asyncio
import math
import signal
import ssl as tls
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol, TypeVar

from ..client import Client
from ..codes import Cause, CloseCode, CloseOutcome, Opcode, Side
from ..connecting.connect import Connecting, connect
from ..errors import ConnectionClosed, IncompleteMessage, StreamwsError
from ..handshake.url import Url, parse_url
from ..net.signals import on_signals
from ..options import Timeouts
from ..wire.protocol import State
from .terminal import (
    Helper,
    Input,
    Prompt,
    escape,
    has_line_editing,
    open_closed_streams,
    rows,
    width,
    write_all,
)

_Part = TypeVar("_Part", str, bytes)

_CLEAN, _NO_CONNECTION, _USAGE, _BAD_END = 0, 1, 2, 3
_SIGNALLED = 128  # and the signal's number, as shells count

_EXIT_CODES = """\
exit codes:
  0    the connection was closed cleanly, by either side, or no one reads the output any more
  1    there was no connection: refused, not in time, not accepted by the server
  2    the arguments make no sense, or the input is no text
  3    the connection ended badly, or before all input was sent
  130  Ctrl-C (SIGINT); 143 for SIGTERM. The connection was closed, unless it came twice
"""

_HELP = """\
a line that you type is sent as a text message; but
  /ping [PAYLOAD]        measures the round-trip time
  /binary [HEX]          sends bytes, such as /binary 68 65 6c 6c 6f
  /close [CODE [REASON]] closes, with 1000 by default; so does Ctrl-D
  /help                  says this
  //text                 sends /text\
"""

_MOST_CHARACTERS = 4000
_MOST_BYTES = 256
_BLOCK = 64 * 1024
_MORE_INPUT = 0.1  # seconds
_PONG_SECONDS = 60.0
"""How long the server has for what was sent before a ping; one that is gone is noticed before."""


# Arguments --------------------------------------------------------------------------------------------------


def add_connect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser(
        "connect",
        help="talk to a server",
        description="Connect to a WebSocket server. What is typed, or comes through a pipe, is sent line by line; "
        "what the server sends is shown, with an escape for whatever is not printable.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="such as wss://example.org/feed")
    parser.add_argument(
        "--header", metavar="FIELD", action="append", default=[], help="'Name: value', for the request; may be repeated"
    )
    parser.add_argument(
        "--subprotocol", metavar="NAME", action="append", default=[], help="one to offer, best first; may be repeated"
    )
    parser.add_argument("--origin", help="the Origin field, for servers that want one")
    parser.add_argument("--insecure", action="store_true", help="take any certificate, whoever it belongs to")
    parser.add_argument("--path", metavar="UNIX", help="connect to a Unix socket; the URL then is for the request only")
    proxies = parser.add_mutually_exclusive_group()
    proxies.add_argument("--proxy", metavar="URL", help="http:// or socks5://; by default what the environment says")
    proxies.add_argument("--no-proxy", action="store_true", help="whatever the environment says")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="for connecting, and for closing (default: 10)"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="at the end of piped input, how long the server must have been quiet before the connection is closed "
        "(default: 1); inf to leave that to the server",
    )
    parser.set_defaults(run=_connect, parser=parser)


def _connect(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    open_closed_streams()
    try:
        url = parse_url(options.url)
        if not options.wait >= 0:
            raise ValueError(f"--wait is 0 seconds or more, not {options.wait}")
        if not 0 < options.timeout < math.inf:
            raise ValueError(f"--timeout is above 0 seconds, not {options.timeout}")
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
        _complain("warning: with --insecure, anyone on the way may read and change what is sent and received")
    try:
        return asyncio.run(_Dialogue(url, connecting, options.wait).run())
    except KeyboardInterrupt:  # before there was anyone to take the signal
        return _SIGNALLED + signal.SIGINT


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"--header is 'Name: value', not {text!r}")
    return name, value.strip(" \t")


def _unverified() -> tls.SSLContext:
    context = tls.create_default_context()
    context.check_hostname = False
    context.verify_mode = tls.CERT_NONE
    return context


def _complain(what: str) -> None:
    print(f"streamws: {escape(what)}", file=sys.stderr, flush=True)


# What is shown ----------------------------------------------------------------------------------------------


class _Display(Protocol):
    """Where messages go."""

    idle: asyncio.Event
    """Set unless it waits for someone to take what it shows."""

    async def text(self, parts: AsyncIterator[str]) -> None: ...

    async def binary(self, parts: AsyncIterator[bytes]) -> None: ...

    def note(self, *lines: str) -> None:
        """Say something that is no message."""


class _Plain:
    """For programs: a message is a line, whole, and bytes are 0x and hex."""

    def __init__(self) -> None:
        self._helper = Helper()
        self.idle = asyncio.Event()
        self.idle.set()

    async def text(self, parts: AsyncIterator[str]) -> None:
        await self._show("", (escape(part) async for part in parts))

    async def binary(self, parts: AsyncIterator[bytes]) -> None:
        await self._show("0x", (part.hex() async for part in parts))

    def note(self, *lines: str) -> None:
        for line in lines:
            _complain(line)

    async def _show(self, line: str, parts: AsyncIterator[str]) -> None:
        begun = False
        try:
            async for part in parts:
                line += part
                if len(line) >= _BLOCK:
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


class _Screen:
    """For people: rows of a terminal; of long messages the beginning and the size."""

    def __init__(self, prompt: Prompt | None) -> None:
        self._prompt = prompt
        self.idle = asyncio.Event()
        self.idle.set()

    async def text(self, parts: AsyncIterator[str]) -> None:
        head, size = "", 0
        async for part in parts:
            head += part[: _MOST_CHARACTERS - len(head)]
            size += len(part)
        shown = escape(head)
        cut = size > len(head) or len(shown) > _MOST_CHARACTERS
        note = rows("* ", f"cut: {size} characters in all", width()) if cut else []
        self._show([*rows("< ", shown[:_MOST_CHARACTERS], width()), *note])

    async def binary(self, parts: AsyncIterator[bytes]) -> None:
        head, size = b"", 0
        async for part in parts:
            head += part[: _MOST_BYTES - len(head)]
            size += len(part)
        cut = " ..." if size > len(head) else ""
        # Not to be mistaken for a text, which has a space behind the "<".
        self._show(rows("<0x ", f"{head.hex(' ')}{cut} ({size} byte{'s' if size != 1 else ''})", width()))

    def note(self, *lines: str) -> None:
        self._show([row for line in lines for row in rows("* ", line, width())])

    def _show(self, shown: list[str]) -> None:
        if self._prompt is not None:
            self._prompt.show(shown)
        else:
            write_all("".join(f"{row}\n" for row in shown))


# The dialogue -----------------------------------------------------------------------------------------------


class _Dialogue:
    """One connection, from its opening to the exit code."""

    def __init__(self, url: Url, connecting: Connecting, wait: float) -> None:
        self._url = url
        self._connecting = connecting
        self._wait = wait
        self._input = Input()
        self._typed = sys.stdin.isatty()  # rather than piped
        self._signal = 0
        self._stop = asyncio.Event()  # at the first signal,
        self._drop = asyncio.Event()  # and at the second
        self._heard = asyncio.Event()  # whenever something comes
        self._asked = False  # whether who sits at this end wants no more,
        self._unread = False  # since no one reads the output
        self._unsent = False  # whether input was read that is not sent
        self._incomplete = False  # whether a message broke off
        self._problem = ""  # with input or output
        self._code = _CLEAN  # ... and what it makes of the exit code
        self._pings: set[asyncio.Task[None]] = set()

    def _signalled(self, number: int) -> None:
        (self._drop if self._stop.is_set() else self._stop).set()
        self._signal = number

    async def run(self) -> int:
        """Returns the exit code."""
        restore = on_signals(asyncio.get_running_loop(), self._signalled)
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
        except StreamwsError as error:
            _complain(str(error))
            return _NO_CONNECTION
        prompt = Prompt() if self._typed and has_line_editing() else None
        display = _Screen(prompt) if sys.stdout.isatty() else _Plain()
        try:
            if prompt is not None:
                spoken = f", subprotocol {client.subprotocol}" if client.subprotocol else ""
                display.note(f"connected to {self._url}{spoken}; Ctrl-D closes, /help says what else there is")
            await self._talk(client, display, self._input.lines() if prompt is None else prompt.lines())
            assert client.outcome is not None
            code = self._verdict(client.outcome)
            if prompt is not None and code == _CLEAN:
                display.note(f"closed: {client.outcome}")
        finally:
            if prompt is not None:
                prompt.close()
        if code == _BAD_END and not self._problem:
            unsent = "; not all input was sent" if self._unsent else ""
            self._problem = f"the connection ended: {client.outcome}{unsent}"
        if self._problem:
            _complain(self._problem)
        return code

    async def _open(self) -> Client:
        return await self._connecting

    async def _talk(self, client: Client, display: _Display, lines: AsyncIterator[str]) -> None:
        """Send and show until either side, or a signal, ends it; then close the connection."""
        receiving = asyncio.ensure_future(self._receive(client, display))
        sending = asyncio.ensure_future(self._send(client, display, lines))
        try:
            await self._first(receiving, sending, self._stop.wait())
            if sending.done() and not self._typed:
                await self._first(receiving, self._quiet(client, display), self._stop.wait())
            if self._stop.is_set():
                receiving.cancel()
            await self._first(client.close(), self._drop.wait())
            if client.state is not State.CLOSED:
                client._connection.abort()
                await client.wait_closed()
            await self._first(receiving, self._drop.wait())
            if not self._typed and not self._stop.is_set():
                # Whether there is more to send only shows when it comes.
                await asyncio.wait([sending], timeout=_MORE_INPUT)
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
        """Wait until one is done; coroutines among the others are cancelled, tasks are not."""
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task, awaitable in zip(tasks, awaitables, strict=True):
                if task is not awaitable:
                    task.cancel()

    def _verdict(self, outcome: CloseOutcome) -> int:
        if self._signal:
            return _SIGNALLED + self._signal
        if self._code != _CLEAN or self._problem:
            return self._code
        if self._unread:
            return _CLEAN  # whatever the server makes of it
        if (self._unsent or self._incomplete) and not self._asked:
            return _BAD_END
        as_asked = self._asked and outcome.cause is Cause.CLOSED_WITH_ERROR and outcome.initiator is Side.LOCAL
        return _CLEAN if outcome.clean or as_asked else _BAD_END

    # From the server ---------------------------------------------------------------------------------------

    async def _receive(self, client: Client, display: _Display) -> None:
        try:
            async for reader in client.messages():
                if reader.type is Opcode.TEXT:
                    await display.text(self._noticed(reader.text()))
                else:
                    await display.binary(self._noticed(reader))
                await asyncio.sleep(0)  # a flood must not keep keys and signals waiting
        except IncompleteMessage:
            self._incomplete = True
        except ConnectionClosed:
            pass  # the outcome says how
        except BrokenPipeError:
            self._asked = self._unread = True  # as with `| head -1`
        except OSError as error:
            self._problem = f"cannot write the output: {error.strerror or error}"
            self._code = _BAD_END

    async def _noticed(self, parts: AsyncIterator[_Part]) -> AsyncIterator[_Part]:
        async for part in parts:
            self._heard.set()
            yield part

    async def _quiet(self, client: Client, display: _Display) -> None:
        """Wait until the server has taken what was sent, and has been quiet since for as long as was asked for."""
        try:
            async with asyncio.timeout(_PONG_SECONDS):
                await client.writer.ping()
        except TimeoutError:
            pass
        except ConnectionClosed:
            return
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(None if math.isinf(self._wait) else self._wait):
                    await self._heard.wait()
            except TimeoutError:
                if display.idle.is_set():
                    return
                await display.idle.wait()

    # To the server -----------------------------------------------------------------------------------------

    async def _send(self, client: Client, display: _Display, lines: AsyncIterator[str]) -> None:
        try:
            async for line in lines:
                if self._typed:
                    await self._obey(line, client, display)
                else:
                    self._unsent = True
                    await client.send(line)
                    self._unsent = False
            self._asked = self._typed
        except ConnectionClosed:
            pass  # the outcome says how
        except UnicodeDecodeError as error:
            self._problem = f"a line of the input is not UTF-8: {error.object[:40]!r}; it ends there"
            self._code = _USAGE
        except OSError as error:
            self._problem = f"cannot read the input: {error.strerror or error}"
            self._code = _USAGE

    async def _obey(self, line: str, client: Client, display: _Display) -> None:
        """Do what a person typed."""
        if not line.startswith("/") or line.startswith("//"):
            if line:  # an empty one was hardly meant as a message
                await client.send(line.removeprefix("/") if line.startswith("//") else line)
            return
        command, _, argument = line[1:].partition(" ")
        try:
            match command:
                case "ping":
                    self._ping(client, display, argument)
                case "binary":
                    await client.send(bytes.fromhex(argument))
                case "close":
                    await self._close(client, argument)
                case "help":
                    display.note(*_HELP.splitlines())
                case _:
                    display.note(f"there is no /{command}; /help says what there is, //{line[1:]} sends it as text")
        except ValueError as error:
            display.note(str(error))

    def _ping(self, client: Client, display: _Display, payload: str) -> None:
        pong = client.writer.ping(payload.encode())

        async def wait() -> None:
            try:
                seconds = await pong
            except ConnectionClosed:
                return
            display.note(f"pong{f' to {payload}' if payload else ''} after {seconds * 1000:.2f} ms")

        task = asyncio.ensure_future(wait())
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)

    async def _close(self, client: Client, argument: str) -> None:
        code, _, reason = argument.partition(" ")
        if code and not (code.isascii() and code.isdigit()):
            raise ValueError(f"/close takes a number first, such as /close 1000 bye, not {code!r}")
        self._asked = True
        try:
            await client.close(int(code or CloseCode.NORMAL), reason)
        except ValueError:
            self._asked = False
            raise
