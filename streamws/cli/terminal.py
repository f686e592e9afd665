"""A terminal: text made harmless, rows of it, and a line to type into below them.

Nothing here knows of connections. The line editor is plain Python over termios, for there is no thread in it that
would have to be woken when the connection ends; where there is no termios, lines are read as any file's.
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
from importlib import import_module
from queue import SimpleQueue
from threading import Thread
from types import ModuleType
from typing import Any, TextIO, TypeVar

_Result = TypeVar("_Result")


def _optional(name: str) -> ModuleType | None:
    """A module of the standard library that this system may lack."""
    try:
        return import_module(name)
    except ImportError:
        return None


_termios: ModuleType | None = _optional("termios")  # not on Windows

_CHUNK = 64 * 1024
_INDENT = "  "
_FEWEST_COLUMNS = 20
_ERASE = "\r\x1b[K"
_CLIP, _WRAP = "\x1b[?7l", "\x1b[?7h"  # whether the terminal itself breaks rows that are too long


# Text -------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """`text` with an escape for each character that is not printable, so that it cannot act on a terminal.

    Those are control characters (line ends too), those that change the direction of text or are invisible, spaces
    other than " ", and code points without a character.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text])


def columns(text: str) -> int:
    """How many columns of a terminal printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.east_asian_width(char) in ("W", "F"):
        return 2
    return 0 if unicodedata.category(char) in ("Mn", "Me") else 1


def rows(prefix: str, text: str, width: int) -> list[str]:
    """Text, escaped, as rows of a terminal.

    Only the first row begins with `prefix`, the others are indented: so no part of it looks like a line of its own.
    """
    most = max(width, _FEWEST_COLUMNS) - 1
    done: list[str] = []
    row, used = [prefix], columns(prefix)
    for char in escape(text):
        size = columns(char)
        if used + size > most:
            done.append("".join(row))
            row, used = [_INDENT], len(_INDENT)
        row.append(char)
        used += size
    return [*done, "".join(row)]


# Bytes in and out -------------------------------------------------------------------------------------------


def open_closed_streams() -> None:
    """Where whoever started the program has closed a standard stream, have one that is empty and takes anything.

    Python has None there, and the next socket would get the stream's number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, closefd=False))  # noqa: SIM115


def _raw(stream: TextIO) -> Any:
    """The stream below Python's buffers, whose locks a thread that waits would hold when the program ends."""
    return getattr(stream.buffer, "raw", stream.buffer)


def read_some() -> bytes:
    """What comes next on the standard input; nothing at its end. Blocks."""
    stream = _raw(sys.stdin)
    while (data := stream.read(_CHUNK)) is None:  # someone has made it non-blocking
        select.select([stream], [], [])
    return bytes(data)


def write_all(text: str) -> None:
    """Write to the standard output, what its encoding lacks as escapes. Blocks."""
    stream = _raw(sys.stdout)
    data = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while data:
        written = stream.write(data)
        if written is None:
            select.select([], [stream], [])
        else:
            data = data[written:]


class Helper:
    """A thread for calls that block, one after the other; one that never returns does not keep the program alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._calls.get()()

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Have the thread call a function. Cancelled, the call goes on and its result is dropped."""
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
    """The standard input, where it is read like any file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Whether something of a line that is not complete was read."""
        return any(self._parts)

    async def lines(self) -> AsyncIterator[str]:
        """The lines, without their ends.

        :raises UnicodeDecodeError: at a line that is not UTF-8.
        """
        helper = Helper()
        while chunk := await helper.run(read_some):
            first, *others = chunk.split(b"\n")
            self._parts.append(first)
            for part in others:
                line = self._take()
                self._parts = [part]
                yield line
        if self.pending:
            yield self._take()

    def _take(self) -> str:
        line = b"".join(self._parts).removesuffix(b"\r")
        self._parts = []
        return line.decode()


# The line that is typed -------------------------------------------------------------------------------------


class LineEditor:
    """The line under the prompt: takes the bytes that a terminal sends for keys."""

    def __init__(self) -> None:
        self.text: str = ""
        self.cursor: int = 0
        """Where in the text the next character goes."""
        self.ended: bool = False
        """Whether Ctrl-D was typed on an empty line."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""  # what has come of a key that sends several characters
        self._history: list[str] = []
        self._place = 0  # in the history; at its end, the line is a new one,
        self._draft = ""  # which is kept here while another is looked at
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
            "\x0b": self._cut_behind,
            "\x15": self._cut_before,
            "\x17": self._cut_word,
        }

    def feed(self, data: bytes) -> list[str]:
        """Take what was typed; the lines that are complete."""
        lines = []
        for char in self._decoder.decode(data):
            if self.ended:
                break
            if char in "\r\n" and not self._sequence:
                lines.append(self._take())
            else:
                self._press(char)
        return lines

    def visible(self, width: int) -> tuple[str, int]:
        """As much of the text as fits into `width` columns, the cursor within it, and the cursor's column."""
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

    def _take(self) -> str:
        line = self.text
        if line and line not in self._history[-1:]:
            self._history.append(line)
        self._place = len(self._history)
        self.text = self._draft = ""
        self.cursor = 0
        return line

    def _press(self, char: str) -> None:
        if char == "\x1b":
            self._sequence = char  # an unfinished one is forgotten
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

    def _cut_behind(self) -> None:
        self._set(self.text[: self.cursor], self.cursor)

    def _cut_before(self) -> None:
        self._set(self.text[self.cursor :], 0)

    def _cut_word(self) -> None:
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
    """Whether standard input and output are a terminal that a `Prompt` can use."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return terminal and _termios is not None and os.environ.get("TERM", "dumb") != "dumb"


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


class Prompt:
    """The last row of a terminal, to type into, and the rows above it."""

    def __init__(self) -> None:
        assert _termios is not None
        self._os: Any = _termios
        self._loop = asyncio.get_running_loop()
        self._editor = LineEditor()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._descriptor = sys.stdin.fileno()
        self._usual = self._os.tcgetattr(self._descriptor)
        self._set_up()
        self._loop.add_reader(self._descriptor, self._read)
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._draw()

    async def lines(self) -> AsyncIterator[str]:
        """The lines that are typed, until Ctrl-D."""
        while (line := await self._lines.get()) is not None:
            yield line

    def show(self, shown: list[str]) -> None:
        """Show rows above the line that is being typed."""
        self._draw(shown)

    def close(self) -> None:
        """Give the terminal back as it was; what was typed and not sent is left to be seen."""
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_signal_handler(signal.SIGTSTP)
        with suppress(OSError, self._os.error):  # the terminal is gone
            write_all("\n" if self._editor.text else _ERASE)
            self._os.tcsetattr(self._descriptor, self._os.TCSANOW, self._usual)

    def _set_up(self) -> None:
        """Get each key as it is pressed. Ctrl-C and Ctrl-Z stay signals; Ctrl-S must not stop the output."""
        flags = self._os
        mode = self._os.tcgetattr(self._descriptor)
        mode[0] &= ~flags.IXON
        mode[3] &= ~(flags.ICANON | flags.ECHO | flags.IEXTEN)
        mode[6][flags.VMIN], mode[6][flags.VTIME] = 1, 0
        self._os.tcsetattr(self._descriptor, flags.TCSANOW, mode)

    def _suspend(self) -> None:
        write_all(_ERASE)
        self._os.tcsetattr(self._descriptor, self._os.TCSANOW, self._usual)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when the program is continued
        self._set_up()
        self._draw()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone
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
        text, column = self._editor.visible(max(width(), _FEWEST_COLUMNS) - 3)
        block = "".join(f"{row}\n" for row in above or ())
        write_all(f"{_CLIP}{_ERASE}{block}> {text}\r\x1b[{column + 2}C{_WRAP}")
