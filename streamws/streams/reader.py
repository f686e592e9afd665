"""One message, read as a stream: what `asyncio.StreamReader` is to a socket."""

import builtins
from asyncio import IncompleteReadError, LimitOverrunError
from codecs import utf_8_decode
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Literal, Self, overload

from ..codes import Opcode
from ..errors import ReadError
from ..options import Limits
from ..wire.frames import DataFrame
from .inbox import Inbox, stale
from .reads import await_more, whole_message


class MessageReader:
    """Reads one message, in bytes, as it comes: also what has come of a frame that is not complete.

    A text message is checked as UTF-8 while it comes, whichever method reads it. The reader is good until its message
    is read to the end, until it is left (`async with`), or until another read of the connection begins; a stale reader
    raises `StaleReader` and never looks like the end of the message.

    Every method that waits raises `IncompleteMessage` if the connection ends inside the message, `ConcurrencyError`
    if another task waits for this connection's data, and consumes nothing when cancelled. One task at a time reads.
    """

    __slots__ = ("_fin", "_inbox", "_left", "_limits", "_piece", "_position", "_received", "type")

    def __init__(self, inbox: Inbox, limits: Limits) -> None:
        self._inbox = inbox
        self._limits = limits
        self.type: Literal[Opcode.TEXT, Opcode.BINARY] = Opcode.BINARY
        """Whether the message is text or binary."""
        self._piece: bytes | bytearray = b""  # what was pulled last; read up to _position
        self._position = 0
        self._received = 0  # bytes pulled so far
        self._fin = False  # whether the last piece was pulled
        self._left = False

    def __repr__(self) -> str:
        state = "left" if self._left else "at its end" if self.at_eof() else f"{self._received} bytes so far"
        return f"<MessageReader of a {self.type.name.lower()} message, {state}>"

    # The whole message -----------------------------------------------------------------------------------------

    @overload
    async def get(self, kind: None = None) -> str | bytes: ...

    @overload
    async def get(self, kind: Literal[Opcode.TEXT]) -> str: ...

    @overload
    async def get(self, kind: Literal[Opcode.BINARY]) -> bytes: ...

    async def get(self, kind: Opcode | None = None) -> str | bytes:
        """The whole message in its own type, or in the kind asked for.

        :param kind: `Opcode.TEXT` for `str`, `Opcode.BINARY` for `bytes`.
        :raises ReadError: if a part of the message was read already.
        :raises ConnectionClosedError: if the message is over `Limits.max_message_size`; the close code is 1009.
        :raises UnicodeDecodeError: if a binary message is asked for as text and is not UTF-8.
        """
        if kind is not None and kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"a message is Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        self._check()
        if self._received or self._fin:
            raise ReadError("get() gives a whole message, and this one was read already, or a part of it")
        message: str | bytes = await whole_message(self._inbox, False, self)
        self._fin = True
        # It may have come in the other type: without its first frame, if that was empty and a read passed it.
        if isinstance(message, bytes):
            return message.decode() if (kind or self.type) == Opcode.TEXT else message
        return message.encode() if kind == Opcode.BINARY else message

    # Parts of it -----------------------------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes: what is there, at least one byte, and `b""` at the end of the message.

        :param n: the most bytes to return; -1 for all up to the end of the message.
        :raises ConnectionClosedError: with `n=-1`, if that is over `Limits.max_message_size`; the code is 1009.
        """
        self._check()
        if n == 0:
            return b""
        if n < 0:
            return await self._read_all()
        if not self._there() and not await self._fill():
            return b""
        return self._take(n)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds what there was.
        """
        if n < 0:
            raise ValueError("readexactly() takes a size of 0 or more")
        self._check()
        parts = bytearray()
        try:
            while len(parts) < n:
                if not self._there() and not await self._fill():
                    partial = bytes(parts)
                    parts.clear()
                    raise IncompleteReadError(partial, n)
                parts += self._take(n - len(parts))
        except BaseException:
            self._put_back(parts)
            raise
        return bytes(parts)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a writable buffer what is there, at least one byte.

        :param buffer: a writable bytes-like object, at least one byte large.
        :returns: the number of bytes put there; 0 at the end of the message.
        """
        view = memoryview(buffer).cast("B")
        if view.readonly or not view:
            raise ValueError("readinto() takes a writable buffer of at least one byte")
        self._check()
        while not self._there():
            self._check()
            if self._fin:
                return 0
            size = self._inbox.pull_into(self, view)
            if size:
                self._count(size)
                return size
            if not self._pull():
                await await_more(self._inbox, self)
        size = min(len(view), self._there())
        view[:size] = memoryview(self._piece)[self._position : self._position + size]
        self._position += size
        return size

    async def readline(self) -> bytes:
        r"""Read up to and with the next `\n`; without one, to the end of the message.

        :raises asyncio.LimitOverrunError: if the line is over `Limits.max_message_size`; nothing is consumed.
        """
        try:
            return await self.readuntil(b"\n")
        except IncompleteReadError as error:
            return error.partial

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and with `separator`.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds what there was.
        :raises asyncio.LimitOverrunError: if that is over `Limits.max_message_size`; nothing is consumed.
        """
        if not separator:
            raise ValueError("readuntil() takes a separator of at least one byte")
        self._check()
        limit = self._limits.max_message_size
        end = self._piece.find(separator, self._position) + len(separator)
        if len(separator) <= end - self._position <= limit:
            return self._take(end - self._position)  # without a copy of what is behind it
        parts = bytearray()
        searched = 0
        try:
            while True:
                if not self._there() and not await self._fill():
                    partial = bytes(parts)
                    parts.clear()
                    raise IncompleteReadError(partial, None)
                parts += self._take(-1)
                place = parts.find(separator, searched)
                end = place + len(separator)
                if place < 0 and len(parts) <= limit:
                    searched = max(0, len(parts) - len(separator) + 1)
                    continue
                if place < 0 or end > limit:
                    raise LimitOverrunError(f"no separator within {limit} bytes (max_message_size)", len(parts))
                line = bytes(parts[:end])
                del parts[:end]
                self._put_back(parts)
                return line
        except BaseException:
            self._put_back(parts)
            raise

    def at_eof(self) -> bool:
        """Whether everything of the message was read."""
        return self._fin and not self._there()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The message's bytes as they come, in pieces of at least one byte."""
        return self

    async def __anext__(self) -> bytes:
        self._check()
        if not self._there() and not await self._fill():
            raise StopAsyncIteration
        return self._take(-1)

    def text(self) -> AsyncIterator[str]:
        """The message as text, in pieces cut between characters.

        :raises UnicodeDecodeError: if a binary message is not UTF-8. (A text message always is.)
        """
        return _Text(self)

    async def _read_text(self) -> str:
        """Text up to where the last whole character ends; nothing at the end of the message."""
        self._check()
        held = bytearray()  # a character that is not whole yet
        try:
            while self._there() or await self._fill():
                held += self._take(-1)
                text, size = utf_8_decode(held)
                if text:
                    del held[:size]
                    self._put_back(held)
                    return text
            held.decode()
        except BaseException:
            self._put_back(held)
            raise
        return ""

    # Leaving ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: builtins.type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Read no more of this message; the rest of it is dropped as it comes, up to `Limits.max_skip` bytes."""
        if not self._left:
            self._fin = self.at_eof()  # what is dropped here was not read
            self._left = True
            self._piece = b""
            self._position = 0
            self._inbox.leave(self)

    # The piece at hand -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._left or not (self._fin or self._inbox.owner is self):
            raise stale()

    def _there(self) -> int:
        return len(self._piece) - self._position

    def _take(self, n: int) -> bytes:
        """Up to `n` bytes of the piece at hand; all of it for -1."""
        start = self._position
        if start == 0 and (n < 0 or n >= len(self._piece)):
            piece = self._piece
            self._piece = b""
            return bytes(piece)
        end = len(self._piece) if n < 0 else min(start + n, len(self._piece))
        self._position = end
        return bytes(memoryview(self._piece)[start:end])

    def _put_back(self, parts: bytearray) -> None:
        """Put `parts` before the piece at hand again."""
        if parts:
            self._piece = bytes(parts) + bytes(memoryview(self._piece)[self._position :])
            self._position = 0

    async def _fill(self) -> bool:
        """Get the next piece; False at the end of the message."""
        self._check()
        while not self._there():
            if self._fin:
                return False
            if not self._pull():
                await await_more(self._inbox, self)
        return True

    def _pull(self) -> bool:
        """Get the next piece if there is one; it may be empty."""
        piece: Any = self._inbox.pull(self)
        if piece is None:
            return False
        if type(piece) is DataFrame:
            self._fin = piece.fin
            piece = piece.payload
        else:
            self._fin = True
            if type(piece) is str:
                piece = piece.encode()
        self._count(len(piece))
        self._piece = piece
        self._position = 0
        return True

    def _count(self, size: int) -> None:
        self._received += size
        limit = self._limits.max_stream_size
        if limit is not None and self._received + (0 if self._fin else self._inbox.missing()) > limit:
            raise self._inbox.refuse_stream(limit)

    async def _read_all(self) -> bytes:
        limit = self._limits.max_message_size
        parts = bytearray()
        try:
            while self._there() or await self._fill():
                parts += self._take(-1)
                if len(parts) > limit:
                    raise self._inbox.refuse_stream(limit)
        except BaseException:
            self._put_back(parts)
            raise
        return bytes(parts)


class _Text:
    """The text of one message, piece by piece. No generator: one that is cancelled would look like the end."""

    __slots__ = ("_reader",)

    def __init__(self, reader: MessageReader) -> None:
        self._reader = reader

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        text = await self._reader._read_text()
        if not text:
            raise StopAsyncIteration
        return text
