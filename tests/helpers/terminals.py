"""A pseudo-terminal in which a test runs a Python program: types keys, and sees the screen as rows."""

import asyncio
import codecs
import fcntl
import os
import pty
import re
import sys
import termios
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from helpers.programs import SECONDS

CONTROL = re.compile(r"\x1b\[([?\d]*)([A-Za-z])|[\x00-\x1f\x7f-\x9f]")


class Screen:
    """The rows that a terminal shows. It knows the control sequences that a line editor needs, and fails on others."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = [""]
        self.column = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        place = 0
        while place < len(text):
            match = CONTROL.match(text, place)
            if match is None:
                self._put(text[place])
                place += 1
            elif match[0] == "\x1b":
                assert len(text) - place < 8, f"not a sequence to expect: {text[place : place + 20]!r}"
                self._rest = text[place:]
                return
            else:
                self._control(match[0], match[1], match[2])
                place = match.end()

    def _put(self, char: str) -> None:
        assert self.column < self.width, f"a row is too long: {self.rows[-1]!r}"
        row = self.rows[-1].ljust(self.column)
        self.rows[-1] = row[: self.column] + char + row[self.column + 1 :]
        self.column += 1

    def _control(self, sequence: str, number: str, command: str | None) -> None:
        if sequence == "\r":
            self.column = 0
        elif sequence == "\n":
            self.rows.append("")  # the terminal driver sends a "\r" before it
        elif command == "C":
            self.column += int(number or 1)
        elif sequence == "\x1b[K":
            self.rows[-1] = self.rows[-1][: self.column]
        else:
            assert sequence in ("\x1b[?7l", "\x1b[?7h"), f"not a sequence to expect: {sequence!r}"


class Terminal:
    """Runs a program in a terminal while its block runs; then the program is killed if it is still running."""

    def __init__(self, *arguments: str, width: int = 60, environment: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-P", "-W", "error", *arguments]
        self._environment = {**os.environ, "TERM": "xterm", **(environment or {})}
        self._environment.pop("COLUMNS", None)
        self.screen = Screen(width)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._master, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (24, self.screen.width))
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=self._environment,
            preexec_fn=self._take_control,
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        if error is not None:
            error.add_note("the screen:\n" + "\n".join(self.screen.rows))

    def _take_control(self) -> None:
        """Make the terminal the controlling one of the child process, so that Ctrl-C and Ctrl-Z reach the program."""
        os.setsid()
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def rows(self) -> list[str]:
        """The rows of the screen."""
        return self.screen.rows

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself shows typed keys. A line editor turns that off while it runs."""
        flags: list[Any] = termios.tcgetattr(self._slave)
        return bool(flags[3] & termios.ECHO)

    def _read(self) -> None:
        try:
            self.screen.feed(self._decoder.decode(os.read(self._master, 65536)))
        except AssertionError as error:
            self._error = error
        self._changed.set()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    async def until(self, condition: Callable[[list[str]], object]) -> None:
        """Wait until the rows fulfil a condition."""
        async with asyncio.timeout(SECONDS):
            while not condition(self.rows):
                self._changed.clear()
                await self._changed.wait()
                if self._error is not None:
                    raise self._error

    async def shows(self, *last: str) -> None:
        """Wait until the last rows are these."""
        await self.until(lambda rows: rows[-len(last) :] == list(last))

    async def end(self) -> int:
        """Wait for the program to exit, and return its exit code."""
        async with asyncio.timeout(SECONDS):
            code = await self.process.wait()
        # Its last output may not have been read yet.
        termios.tcdrain(self._slave)
        self._read_rest()
        return code

    def _read_rest(self) -> None:
        os.set_blocking(self._master, False)
        try:
            while True:
                self.screen.feed(self._decoder.decode(os.read(self._master, 65536)))
        except BlockingIOError:
            pass
        if self._error is not None:
            raise self._error
