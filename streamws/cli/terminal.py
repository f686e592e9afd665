"""Input and output of a terminal: rows of text, and a prompt with a line editor below them.

This module knows nothing about connections. The line editor is plain Python on termios rather than `readline`, which
would need a thread that cannot be stopped when the connection ends. Without termios, lines are read as from a file.
"""

import asyncio
import codecs
import os
import select
import shutil
import signal
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO, TypeVar

from ..codes import escape

_termios: Any = None
"""The module termios; None on Windows, which does not have it."""
try:
    import termios

    _termios = termios
except ImportError:
    pass

_Result = TypeVar("_Result")

_CHUNK = 64 * 1024
_INDENT = "  "
_MIN_COLUMNS = 20
_ERASE = "\r\x1b[K"
_CLIP, _WRAP = "\x1b[?7l", "\x1b[?7h"  # switch off and on that the terminal wraps long rows by itself


# Text -------------------------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """Return the number of terminal columns that printable text needs."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.east_asian_width(char) in ("W", "F"):
        return 2
    return 0 if unicodedata.category(char) in ("Mn", "Me") else 1


def rows(prefix: str, text: str, width: int) -> list[str]:
    """Escape a text and break it into rows of a terminal.

    Only the first row begins with `prefix`. The others are indented, so that no part of the text looks like another
    message.
    """
    most = max(width, _MIN_COLUMNS) - 1
    complete: list[str] = []
    row, used = [prefix], columns(prefix)
    for char in escape(text):
        size = columns(char)
        if used + size > most:
            complete.append("".join(row))
            row, used = [_INDENT], len(_INDENT)
        row.append(char)
        used += size
    return [*complete, "".join(row)]


# Standard input and output ----------------------------------------------------------------------------------


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the program was started without.

    Python sets such a stream to None, and the next socket would get its file descriptor.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, closefd=False))  # noqa: SIM115


def _raw(stream: TextIO) -> Any:
    """Return the stream below Python's buffer.

    A thread that blocks in the buffer holds its lock, which Python needs when the program ends.
    """
    return getattr(stream.buffer, "raw", stream.buffer)


def read_some() -> bytes:
    """Read the next bytes from standard input, or `b""` at its end. Blocks."""
    stream = _raw(sys.stdin)
    while (data := stream.read(_CHUNK)) is None:  # non-blocking: another process that shares it may have set that
        select.select([stream], [], [])
    return bytes(data)


def write_all(text: str) -> None:
    """Write to standard output. Characters that its encoding cannot represent are written as escapes. Blocks."""
    stream = _raw(sys.stdout)
    data = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while data:
        written = stream.write(data)
        if written is None:
            select.select([], [stream], [])
        else:
            data = data[written:]


class Helper:
    """A daemon thread for blocking calls, one at a time. A call that never returns does not keep the program alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._calls.get()()

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Call a function in the thread and return its result.

        If this is cancelled, the thread completes the call, and its result is discarded.
        """
        future: Future[_Result] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)

        self._calls.put(call)
        return await asyncio.wrap_future(future)


class Input:
    """Standard input that is read like a file, without a line editor."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of the line that is not complete

    @property
    def pending(self) -> bool:
        """Whether the beginning of a line was read, but not its end."""
        return any(self._pieces)

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines without their line ends.

        :raises UnicodeDecodeError: if a line is not UTF-8.
        """
        helper = Helper()
        while chunk := await helper.run(read_some):
            first, *others = chunk.split(b"\n")
            self._pieces.append(first)
            for piece in others:
                line = self._complete()
                self._pieces = [piece]
                yield line
        if self.pending:
            yield self._complete()

    def _complete(self) -> str:
        line = b"".join(self._pieces).removesuffix(b"\r")
        self._pieces = []
        return line.decode()


# The line editor --------------------------------------------------------------------------------------------


class LineEditor:
    """The text of the line at the prompt, edited by the bytes that a terminal sends for keys."""

    def __init__(self) -> None:
        self.text: str = ""
        self.cursor: int = 0
        """The index in the text at which the next character is inserted."""
        self.ended: bool = False
        """Whether Ctrl-D was typed on an empty line."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""  # the first characters of a key that sends several
        self._history: list[str] = []
        self._place = 0  # the index in the history of the line shown; its length for the new line
        self._draft = ""  # the new line while a line of the history is shown
        self._keys: dict[str, Callable[[], None]] = {
            "\x7f": self._backspace,
            "\b": self._backspace,
            "\x04": self._delete_or_end,
            "\x1b[3~": self._delete,
            "\x01": self._home,
            "\x1b[H": self._home,
            "\x1bOH": self._home,
            "\x1b[1~": self._home,
            "\x05": self._end,
            "\x1b[F": self._end,
            "\x1bOF": self._end,
            "\x1b[4~": self._end,
            "\x02": self._left,
            "\x1b[D": self._left,
            "\x1bOD": self._left,
            "\x06": self._right,
            "\x1b[C": self._right,
            "\x1bOC": self._right,
            "\x10": self._older,
            "\x1b[A": self._older,
            "\x1bOA": self._older,
            "\x0e": self._newer,
            "\x1b[B": self._newer,
            "\x1bOB": self._newer,
            "\x0b": self._delete_to_end,
            "\x15": self._delete_to_start,
            "\x17": self._delete_word,
        }

    def feed(self, data: bytes) -> list[str]:
        """Process typed bytes.

        :returns: the lines that were completed with Enter.
        """
        lines = []
        for char in self._decoder.decode(data):
            if self.ended:
                break
            if char in "\r\n" and not self._sequence:
                lines.append(self._complete())
            else:
                self._press(char)
        return lines

    def visible(self, width: int) -> tuple[str, int]:
        """Return the part of the text around the cursor that fits into `width` columns, and the cursor's column."""
        cells = [escape(char) for char in self.text]
        sizes = [columns(cell) for cell in cells]
        first = last = self.cursor
        used = 1  # the cursor's own column
        while first > 0 and used + sizes[first - 1] <= width:
            first -= 1
            used += sizes[first]
        column = used - 1
        while last < len(cells) and used + sizes[last] <= width:
            used += sizes[last]
            last += 1
        return "".join(cells[first:last]), column

    def _complete(self) -> str:
        line = self.text
        if line and line not in self._history[-1:]:
            self._history.append(line)
        self._place = len(self._history)
        self.text = self._draft = ""
        self.cursor = 0
        return line

    def _press(self, char: str) -> None:
        if char == "\x1b":
            self._sequence = char  # an unfinished sequence before it is dropped
            return
        key = self._sequence + char
        if self._sequence == "\x1b":
            complete = char not in "[O"
        elif self._sequence.startswith("\x1b["):
            complete = "@" <= char <= "~"
        else:
            complete = True
        self._sequence = "" if complete else key
        if complete and key in self._keys:
            self._keys[key]()
        elif key == char and (unicodedata.category(char) != "Cc" or char == "\t"):
            self._set(self.text[: self.cursor] + char + self.text[self.cursor :], self.cursor + 1)

    def _set(self, text: str, cursor: int) -> None:
        self.text = text
        self.cursor = cursor

    def _backspace(self) -> None:
        if self.cursor > 0:
            self._set(self.text[: self.cursor - 1] + self.text[self.cursor :], self.cursor - 1)

    def _delete(self) -> None:
        self._set(self.text[: self.cursor] + self.text[self.cursor + 1 :], self.cursor)

    def _delete_or_end(self) -> None:
        if self.text:
            self._delete()
        else:
            self.ended = True

    def _home(self) -> None:
        self.cursor = 0

    def _end(self) -> None:
        self.cursor = len(self.text)

    def _left(self) -> None:
        self.cursor = max(0, self.cursor - 1)

    def _right(self) -> None:
        self.cursor = min(len(self.text), self.cursor + 1)

    def _delete_to_end(self) -> None:
        self._set(self.text[: self.cursor], self.cursor)

    def _delete_to_start(self) -> None:
        self._set(self.text[self.cursor :], 0)

    def _delete_word(self) -> None:
        kept = self.text[: self.cursor].rstrip()
        kept = kept[: kept.rfind(" ") + 1]
        self._set(kept + self.text[self.cursor :], len(kept))

    def _older(self) -> None:
        self._show(self._place - 1)

    def _newer(self) -> None:
        self._show(self._place + 1)

    def _show(self, place: int) -> None:
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        self.text = self._draft if place == len(self._history) else self._history[place]
        self.cursor = len(self.text)


def has_line_editing() -> bool:
    """Return whether standard input and output are a terminal that can show a `Prompt`."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return terminal and _termios is not None and os.environ.get("TERM", "dumb") != "dumb"


def width() -> int:
    """Return the width of the terminal in columns."""
    return shutil.get_terminal_size().columns


class Prompt:
    """A line editor in the last row of the terminal, with output in the rows above it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._editor = LineEditor()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()  # None after the last line
        self._descriptor = sys.stdin.fileno()
        self._saved_mode = _termios.tcgetattr(self._descriptor)
        self._set_up()
        self._loop.add_reader(self._descriptor, self._read)
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._draw()

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines that are typed, until Ctrl-D."""
        while (line := await self._lines.get()) is not None:
            yield line

    def show(self, shown: list[str]) -> None:
        """Print rows above the line that is being typed."""
        self._draw(shown)

    def close(self) -> None:
        """Restore the mode of the terminal. Text that was typed but not sent stays visible."""
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_signal_handler(signal.SIGTSTP)
        with suppress(OSError, _termios.error):  # the terminal has gone
            write_all("\n" if self._editor.text else _ERASE)
            self._set_mode(self._saved_mode)

    def _set_up(self) -> None:
        """Have the terminal send each key at once. Ctrl-C and Ctrl-Z remain signals; Ctrl-S must not stop output."""
        mode = _termios.tcgetattr(self._descriptor)
        mode[0] &= ~_termios.IXON
        mode[3] &= ~(_termios.ICANON | _termios.ECHO | _termios.IEXTEN)
        mode[6][_termios.VMIN], mode[6][_termios.VTIME] = 1, 0
        self._set_mode(mode)

    def _set_mode(self, mode: list[Any]) -> None:
        _termios.tcsetattr(self._descriptor, _termios.TCSANOW, mode)

    def _suspend(self) -> None:
        write_all(_ERASE)
        self._set_mode(self._saved_mode)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when the program is continued
        self._set_up()
        self._draw()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # the terminal has gone
            data = b""
        lines = self._editor.feed(data)
        for line in lines:
            self._lines.put_nowait(line)
        if self._editor.ended or not data:
            self._loop.remove_reader(self._descriptor)
            self._lines.put_nowait(None)
        if data:
            self._draw([row for line in lines for row in rows("> ", line, width())])

    def _draw(self, above: list[str] | None = None) -> None:
        text, column = self._editor.visible(max(width(), _MIN_COLUMNS) - 3)
        block = "".join(f"{row}\n" for row in above or ())
        write_all(f"{_CLIP}{_ERASE}{block}> {text}\r\x1b[{column + 2}C{_WRAP}")
