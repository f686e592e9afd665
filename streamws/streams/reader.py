"""`MessageReader`: reads one message as a stream, with the methods of `asyncio.StreamReader`."""

import builtins
from asyncio import IncompleteReadError, LimitOverrunError, sleep
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
    """Reads the bytes of one message as they arrive, even in the middle of a frame.

    A text message is checked as UTF-8 as it arrives, whichever method reads it (RFC 6455 section 8.1). The reader can
    be used until its message has been read to its end, until it is left (`async with`), or until another read of the
    connection begins. A reader whose message is over for another reason than its end raises `StaleReader`: it never
    looks like the end of the message.

    Every method that waits raises `IncompleteMessage` if the connection ends inside the message, and `ConcurrencyError`
    if another task waits for data of this connection. If it is cancelled, it has consumed nothing. Only one task at a
    time can read a connection.
    """

    __slots__ = ("_fin", "_inbox", "_left", "_limits", "_piece", "_position", "_received", "type")

    def __init__(self, inbox: Inbox, limits: Limits) -> None:
        self._inbox = inbox
        self._limits = limits
        self.type: Literal[Opcode.TEXT, Opcode.BINARY] = Opcode.BINARY
        """Whether the message is text or binary."""
        self._piece: bytes | bytearray = b""  # the last piece that was pulled from the inbox
        self._position = 0  # the number of bytes of the piece that the application has read
        self._received = 0  # the number of bytes of the message that were pulled so far
        self._fin = False  # whether the last piece of the message was pulled
        self._left = False  # whether the reader was left before the end of its message

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
        """Read the whole message.

        :param kind: `Opcode.TEXT` to return `str`, `Opcode.BINARY` to return `bytes`; by default the type of the
            message decides.
        :raises ReadError: if a part of the message was read already.
        :raises ConnectionClosedError: if the message is over `Limits.max_message_size`; the close code is 1009.
        :raises UnicodeDecodeError: if `kind` is TEXT and a binary message is not UTF-8.
        :raises ValueError: for another kind.
        """
        if kind is not None and kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"kind must be Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        self._check()
        if self._received or self._fin:
            raise ReadError("cannot get() the whole message: it, or a part of it, was read already")
        message: str | bytes = await whole_message(self._inbox, False, self)
        self._fin = True
        # A text message may be `bytes` here: if its first frame was empty and a read has consumed it, only continuation
        # frames are left, which do not tell the type.
        if isinstance(message, bytes):
            return message.decode() if (kind or self.type) == Opcode.TEXT else message
        return message.encode() if kind == Opcode.BINARY else message

    # Parts of the message --------------------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes. Waits only until at least one byte has arrived.

        :param n: the most bytes to return; -1 for all bytes up to the end of the message.
        :returns: at least one byte; `b""` at the end of the message.
        :raises ConnectionClosedError: if `n` is -1 and the rest is over `Limits.max_message_size`; the code is 1009.
        """
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        if n == 0:
            return b""
        if n < 0:
            return await self._read_all()
        if not self._available() and not await self._fill():
            return b""
        return self._take(n)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds the bytes up to the end.
        :raises ValueError: if `n` is negative.
        """
        if n < 0:
            raise ValueError(f"readexactly() needs a size of 0 or more, not {n}")
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        parts = bytearray()
        try:
            while len(parts) < n:
                if not self._available() and not await self._fill():
                    partial = bytes(parts)
                    parts.clear()
                    raise IncompleteReadError(partial, n)
                parts += self._take(n - len(parts))
        except BaseException:
            self._put_back(parts)
            raise
        return bytes(parts)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer, as many bytes as have arrived and fit. Waits only until at least one byte has arrived.

        :param buffer: a writable bytes-like object of at least one byte.
        :returns: the number of bytes read; 0 at the end of the message.
        :raises ValueError: if the buffer is read-only or empty.
        """
        view = memoryview(buffer).cast("B")
        if view.readonly or not view:
            raise ValueError("readinto() needs a writable buffer of at least one byte")
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        while not self._available():
            self._check()
            if self._fin:
                return 0
            size = self._inbox.pull_into(self, view)
            if size:
                self._count(size)
                return size
            if not self._pull():
                await await_more(self._inbox, self)
        size = min(len(view), self._available())
        view[:size] = memoryview(self._piece)[self._position : self._position + size]
        self._position += size
        return size

    async def readline(self) -> bytes:
        r"""Read up to and including the next `\n`; if there is none, to the end of the message.

        :raises asyncio.LimitOverrunError: if the line is over `Limits.max_message_size`; nothing is consumed.
        """
        try:
            return await self.readuntil(b"\n")
        except IncompleteReadError as error:
            return error.partial

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and including `separator`.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds the bytes up to the end.
        :raises asyncio.LimitOverrunError: if the result would be over `Limits.max_message_size`; nothing is consumed.
        :raises ValueError: if the separator is empty.
        """
        if not separator:
            raise ValueError("readuntil() needs a separator of at least one byte")
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        limit = self._limits.max_message_size
        end = self._piece.find(separator, self._position) + len(separator)
        if len(separator) <= end - self._position <= limit:
            return self._take(end - self._position)  # the usual case: copy only the result
        parts = bytearray()
        searched = 0
        try:
            while True:
                if not self._available() and not await self._fill():
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
        """Return whether the message was read to its end."""
        return self._fin and not self._available()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the bytes of the message as they arrive, in pieces of at least one byte."""
        return self

    async def __anext__(self) -> bytes:
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        if not self._available() and not await self._fill():
            raise StopAsyncIteration
        return self._take(-1)

    def text(self) -> AsyncIterator[str]:
        """Iterate over the text of the message as it arrives, in pieces that end between two characters.

        :raises UnicodeDecodeError: if a binary message is not UTF-8. A text message always is.
        """
        return _Text(self)

    async def _read_text(self) -> str:
        """Read text up to the last complete character that has arrived; return `""` at the end of the message."""
        if self._inbox.must_give_way():
            await sleep(0)
        self._check()
        held = bytearray()  # the first bytes of an incomplete character
        try:
            while self._available() or await self._fill():
                held += self._take(-1)
                text, size = utf_8_decode(held)
                if text:
                    del held[:size]
                    self._put_back(held)
                    return text
            held.decode()  # raises if the message ends inside a character
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
        """Stop reading this message. The rest is skipped as it arrives, up to `Limits.max_skip` bytes.

        Skipping more closes the connection with 1008.
        """
        if not self._left:
            self._fin = self.at_eof()  # bytes that were pulled but not read are discarded here
            self._left = True
            self._piece = b""
            self._position = 0
            self._inbox.leave(self)

    # The last piece --------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise `StaleReader` if the reader can no longer be used."""
        if self._left or not (self._fin or self._inbox.owner is self):
            raise stale()

    def _available(self) -> int:
        """Return the number of unread bytes of the last piece."""
        return len(self._piece) - self._position

    def _take(self, n: int) -> bytes:
        """Return up to `n` unread bytes of the last piece; all of them if `n` is -1."""
        start = self._position
        if start == 0 and (n < 0 or n >= len(self._piece)):
            piece = self._piece
            self._piece = b""
            return bytes(piece)
        end = len(self._piece) if n < 0 else min(start + n, len(self._piece))
        self._position = end
        return bytes(memoryview(self._piece)[start:end])

    def _put_back(self, parts: bytearray) -> None:
        """Put bytes that were taken before back in front of the last piece, as if they had not been read."""
        if parts:
            self._piece = bytes(parts) + bytes(memoryview(self._piece)[self._position :])
            self._position = 0

    async def _fill(self) -> bool:
        """Wait until there are unread bytes; return False at the end of the message."""
        self._check()
        while not self._available():
            if self._fin:
                return False
            if not self._pull():
                await await_more(self._inbox, self)
        return True

    def _pull(self) -> bool:
        """Get the next piece, which may be empty; return False if it has not arrived."""
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
        """Count bytes against `Limits.max_stream_size`, with the missing bytes of the frame under way."""
        self._received += size
        limit = self._limits.max_stream_size
        if limit is not None and self._received + (0 if self._fin else self._inbox.missing()) > limit:
            raise self._inbox.refuse_stream(limit)

    async def _read_all(self) -> bytes:
        limit = self._limits.max_message_size
        parts = bytearray()
        try:
            while self._available() or await self._fill():
                parts += self._take(-1)
                if len(parts) > limit:
                    raise self._inbox.refuse_stream(limit)
        except BaseException:
            self._put_back(parts)
            raise
        return bytes(parts)


class _Text:
    """Iterates over the text of one message. It is not an async generator for the reason given in `iterators`."""

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
