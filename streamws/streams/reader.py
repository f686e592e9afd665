"""`MessageReader`: reads one message as a stream, with the methods of `asyncio.StreamReader`."""

import builtins
from asyncio import IncompleteReadError, LimitOverrunError
from codecs import utf_8_decode
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload

from ..awaiting.operation import FAILED, PENDING, Done, keep_results_of, reuse_freed
from ..codes import CloseOutcome, Opcode
from ..errors import ReadError
from ..options import Limits
from ..wire.frames import DataFrame
from .inbox import READER, Inbox, Read, stale
from .reads import ReadMessage, begin

_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY

_LEFT = Done(None)
"""The awaitable of `MessageReader.__aexit__`."""

_Bytes = Coroutine[object, None, bytes]
_Message = Coroutine[object, None, str | bytes]


class _BoundGet(Protocol):
    @overload
    def __call__(self, kind: None = None) -> _Message: ...

    @overload
    def __call__(self, kind: Literal[Opcode.TEXT]) -> Coroutine[object, None, str]: ...

    @overload
    def __call__(self, kind: Literal[Opcode.BINARY]) -> _Bytes: ...


class _Get(Protocol):
    @overload
    def __get__(self, reader: None, owner: object) -> "Callable[[MessageReader], _Message]": ...

    @overload
    def __get__(self, reader: "MessageReader", owner: object) -> _BoundGet: ...


def _typed_by_kind(get: Any) -> _Get:
    """Give `MessageReader.get` its overloads. A compiled class cannot define the same method several times."""
    typed: _Get = get
    return typed


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

    _inbox: Inbox
    _limits: Limits
    type: Literal[Opcode.TEXT, Opcode.BINARY]
    """Whether the message is text or binary."""
    _piece: bytes | bytearray  # what was pulled from the inbox and has not been read completely
    _position: int  # the number of bytes of the piece that the application has read
    _received: int  # the number of bytes of the message that were pulled so far
    _fin: bool  # whether the last piece of the message was pulled
    _left: bool  # whether the reader was left before the end of its message

    def __init__(self) -> None:
        raise TypeError("a MessageReader cannot be created: client.messages() and @client.message give one")

    def __repr__(self) -> str:
        state = "left" if self._left else "at its end" if self.at_eof() else f"{self._received} bytes so far"
        return f"<MessageReader of a {self.type.name.lower()} message, {state}>"

    # The whole message -----------------------------------------------------------------------------------------

    @_typed_by_kind
    def get(self, kind: Opcode | None = None) -> _Message:
        """Read the whole message.

        :param kind: `Opcode.TEXT` to return `str`, `Opcode.BINARY` to return `bytes`; by default the type of the
            message decides.
        :raises ReadError: if a part of the message was read already.
        :raises ConnectionClosedError: if the message is over `Limits.max_message_size`; the close code is 1009.
        :raises UnicodeDecodeError: if `kind` is TEXT and a binary message is not UTF-8.
        :raises ValueError: for another kind.
        """
        if kind is None:
            kind = self.type
        elif kind not in (_TEXT, _BINARY):
            raise ValueError(f"kind must be Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        else:
            kind = Opcode(kind)
        return whole_of(self, kind)

    # Parts of the message --------------------------------------------------------------------------------------

    def read(self, n: int = -1) -> _Bytes:
        """Read up to `n` bytes. Waits only until at least one byte has arrived.

        :param n: the most bytes to return; -1 for all bytes up to the end of the message.
        :returns: at least one byte; `b""` at the end of the message.
        :raises ConnectionClosedError: if `n` is -1 and the rest is over `Limits.max_message_size`; the code is 1009.
        """
        read: _Read = _Read.__new__(_Read)
        read.size = n
        return self._begin(read)

    def readexactly(self, n: int) -> _Bytes:
        """Read exactly `n` bytes.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds the bytes up to the end.
        :raises ValueError: if `n` is negative.
        """
        if n < 0:
            raise ValueError(f"readexactly() needs a size of 0 or more, not {n}")
        read: _ReadExactly = _ReadExactly.__new__(_ReadExactly)
        read.size = n
        return self._begin(read)

    def readinto(self, buffer: bytearray | memoryview) -> Coroutine[object, None, int]:
        """Read into a buffer, as many bytes as have arrived and fit. Waits only until at least one byte has arrived.

        :param buffer: a writable bytes-like object of at least one byte.
        :returns: the number of bytes read; 0 at the end of the message.
        :raises ValueError: if the buffer is read-only or empty.
        """
        view = memoryview(buffer).cast("B")
        if view.readonly or not view:
            raise ValueError("readinto() needs a writable buffer of at least one byte")
        read: _ReadInto = _ReadInto.__new__(_ReadInto)
        read.view = view
        return self._begin(read)

    def readline(self) -> _Bytes:
        r"""Read up to and including the next `\n`; if there is none, to the end of the message.

        :raises asyncio.LimitOverrunError: if the line is over `Limits.max_message_size`; nothing is consumed.
        """
        return self._read_until(b"\n", True)

    def readuntil(self, separator: bytes = b"\n") -> _Bytes:
        """Read up to and including `separator`.

        :raises asyncio.IncompleteReadError: if the message ends before; its `partial` holds the bytes up to the end.
        :raises asyncio.LimitOverrunError: if the result would be over `Limits.max_message_size`; nothing is consumed.
        :raises ValueError: if the separator is empty.
        """
        if not separator:
            raise ValueError("readuntil() needs a separator of at least one byte")
        return self._read_until(separator, False)

    def at_eof(self) -> bool:
        """Return whether the message was read to its end."""
        return self._fin and not self._available()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the bytes of the message as they arrive, in pieces of at least one byte."""
        return self

    def __anext__(self) -> _Bytes:
        return self._begin(_NextPiece.__new__(_NextPiece))

    def text(self) -> AsyncIterator[str]:
        """Iterate over the text of the message as it arrives, in pieces that end between two characters.

        :raises UnicodeDecodeError: if a binary message is not UTF-8. A text message always is.
        """
        return _Text(self)

    def _read_until(self, separator: bytes, line: bool) -> _Bytes:
        read: _ReadUntil = _ReadUntil.__new__(_ReadUntil)
        read.separator = separator
        read.line = line
        read.searched = 0
        return self._begin(read)

    def _begin(self, read: "_ReadPart") -> "_ReadPart":
        self._inbox.check_thread(READER)
        begin(read, self._inbox, False, self)
        read.waiting = False
        read.gave_way = False
        return read

    # Leaving ---------------------------------------------------------------------------------------------------

    def __aenter__(self) -> Coroutine[object, None, Self]:
        return Done(self)

    def __aexit__(
        self, kind: builtins.type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[object, None, None]:
        self.leave()
        return _LEFT

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

    # Called by the reads below ---------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise `StaleReader` if the reader can no longer be used, and `ConcurrencyError` if another task reads."""
        if self._left:
            raise stale()
        if not self._fin:
            self._inbox.check_free_for(self)

    def _available(self) -> int:
        """Return the number of bytes that were pulled and not read."""
        return len(self._piece) - self._position

    def _take(self, n: int) -> bytes:
        """Read up to `n` bytes of those that were pulled; all of them if `n` is -1."""
        start = self._position
        if start == 0 and (n < 0 or n >= len(self._piece)):
            piece = self._piece
            self._piece = b""
            return bytes(piece)
        end = len(self._piece) if n < 0 else min(start + n, len(self._piece))
        self._position = end
        return bytes(memoryview(self._piece)[start:end])

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
        if self._available():
            self._append(piece)
        else:
            self._piece = piece
            self._position = 0
        return True

    def _append(self, piece: bytes) -> None:
        """Add a piece to the unread bytes, so that a read that needs both has consumed nothing if it is cancelled."""
        held = self._piece
        if self._position or type(held) is bytes:
            held = bytearray()
            held += memoryview(self._piece)[self._position :]
            self._position = 0
            self._piece = held
        held += piece

    def _count(self, size: int) -> None:
        """Count bytes against `Limits.max_stream_size`, with the missing bytes of the frame under way."""
        self._received += size
        limit = self._limits.max_stream_size
        if limit is not None and self._received + (0 if self._fin else self._inbox.missing()) > limit:
            raise self._inbox.refuse_stream(limit)


def reader_of(inbox: Inbox, limits: Limits, opcode: Literal[Opcode.TEXT, Opcode.BINARY]) -> MessageReader:
    """Return a reader of the message at the head of the queue, of which nothing was read."""
    reader: MessageReader = MessageReader.__new__(MessageReader)
    reader._inbox = inbox
    reader._limits = limits
    reader.type = opcode
    reader._piece = b""
    reader._position = 0
    reader._received = 0
    reader._fin = False
    reader._left = False
    return reader


keep_results_of(MessageReader)
reuse_freed(MessageReader)


class _Text:
    """Iterates over the text of one message. It is not an async generator for the reason given in `iterators`."""

    __slots__ = ("_reader",)

    def __init__(self, reader: MessageReader) -> None:
        self._reader = reader

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    def __anext__(self) -> Coroutine[object, None, str]:
        return self._reader._begin(_NextText.__new__(_NextText))


# The reads of a MessageReader, which is the `owner` of each ------------------------------------------------------


class _ReadWhole(ReadMessage):
    """Reads the whole message of a reader."""

    __slots__ = ("kind", "waiting")

    kind: Opcode
    waiting: bool
    """Whether the inbox knows the read as the one that waits."""

    def poll(self) -> Any:
        reader: Any = self.owner
        if not self.waiting:
            if reader._left or not (reader._fin or self.inbox.owner is reader):
                raise stale()
            if reader._received or reader._fin:
                raise ReadError("cannot get() the whole message: it, or a part of it, was read already")
        message = self.inbox.poll(self)
        if message is PENDING or message is FAILED:
            self.waiting = message is PENDING
            return message
        reader._fin = True
        # A text message may be `bytes` here: if its first frame was empty and a read has consumed it, only continuation
        # frames are left, which do not tell the type.
        if type(message) is bytes:
            return message.decode() if self.kind is _TEXT else message
        return message.encode() if self.kind is _BINARY else message

    def describe(self) -> str:
        return READER


reuse_freed(_ReadWhole)


def whole_of(reader: MessageReader, kind: Opcode) -> _ReadWhole:
    """Read the whole message of a reader.

    This is not a part of `MessageReader.get`, because a `.pxd` cannot declare the variables of a decorated method.
    """
    read: _ReadWhole = _ReadWhole.__new__(_ReadWhole)
    reader._inbox.check_thread(READER)
    begin(read, reader._inbox, False, reader)
    read.waiting = False
    read.kind = kind
    return read


class _ReadPart(Read):
    """Reads a part of the message of a reader.

    What it needs collects in the reader until it is enough. So a read that is cancelled has consumed nothing.
    """

    __slots__ = ("gave_way", "waiting")

    gave_way: bool
    """Whether it has let other tasks run first."""
    waiting: bool
    """Whether the inbox knows the read as the one that waits."""

    def result(self, reader: MessageReader) -> Any:
        """Return the result; `PENDING` if the reader must pull more; or `FAILED`."""
        raise NotImplementedError

    def poll(self) -> Any:
        reader: Any = self.owner
        if not self.waiting:
            if not self.gave_way and self.inbox.must_give_way():
                self.gave_way = True
                self.inbox.give_way(self)
                return PENDING
            reader._check()
        while True:
            if not self.waiting:
                result = self.result(reader)
                if result is not PENDING:
                    return result
                if reader._pull():
                    continue
            result = self.inbox.poll(self)
            self.waiting = result is PENDING
            if result is not None:
                return result

    def take(self) -> Any:
        """Return None if `Inbox.pull` returns more of the message, or raises."""
        return None if self.inbox.has_more() else PENDING

    def is_ready(self) -> bool:
        return self.inbox.has_more()

    def is_stream(self) -> bool:
        return True

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        return True

    def describe(self) -> str:
        return READER


class _Read(_ReadPart):
    """Reads up to `size` bytes; the rest of the message if `size` is negative."""

    __slots__ = ("size",)

    size: int

    def result(self, reader: MessageReader) -> Any:
        if self.size >= 0:
            return reader._take(self.size) if self.size == 0 or reader._available() or reader._fin else PENDING
        limit = reader._limits.max_message_size
        if reader._available() > limit:
            self.error = reader._inbox.refuse_stream(limit)
            return FAILED
        return reader._take(-1) if reader._fin else PENDING


class _ReadExactly(_ReadPart):
    """Reads exactly `size` bytes."""

    __slots__ = ("size",)

    size: int

    def result(self, reader: MessageReader) -> Any:
        if reader._available() >= self.size:
            return reader._take(self.size)
        if not reader._fin:
            return PENDING
        self.error = IncompleteReadError(reader._take(-1), self.size)
        return FAILED


class _ReadInto(_ReadPart):
    """Reads into a buffer."""

    __slots__ = ("view",)

    view: memoryview

    def result(self, reader: MessageReader) -> Any:
        view = self.view
        size = reader._available()
        if size:
            size = min(len(view), size)
            start = reader._position
            view[:size] = memoryview(reader._piece)[start : start + size]
            reader._position = start + size
            return size
        if reader._fin:
            return 0
        size = reader._inbox.pull_into(reader, view)
        if not size:
            return PENDING
        reader._count(size)
        return size


class _ReadUntil(_ReadPart):
    """Reads up to and including a separator."""

    __slots__ = ("line", "searched", "separator")

    separator: bytes
    line: bool
    """Whether the end of the message ends a line too."""
    searched: int
    """The number of available bytes in which no separator begins."""

    def result(self, reader: MessageReader) -> Any:
        limit = reader._limits.max_message_size
        available = reader._available()
        place = reader._piece.find(self.separator, reader._position + self.searched)
        size = available if place < 0 else place - reader._position + len(self.separator)
        if size > limit:
            self.error = LimitOverrunError(f"no separator within {limit} bytes (max_message_size)", available)
            return FAILED
        if place >= 0:
            return reader._take(size)
        if not reader._fin:
            self.searched = max(0, available - len(self.separator) + 1)
            return PENDING
        rest = reader._take(-1)
        if self.line:
            return rest
        self.error = IncompleteReadError(rest, None)
        return FAILED


class _NextPiece(_ReadPart):
    """Reads the bytes that have arrived; ends an iteration at the end of the message."""

    __slots__ = ()

    def result(self, reader: MessageReader) -> Any:
        if reader._available():
            return reader._take(-1)
        if not reader._fin:
            return PENDING
        self.error = StopAsyncIteration()
        return FAILED


class _NextText(_ReadPart):
    """Reads text up to the last complete character that has arrived; ends an iteration at the end of the message."""

    __slots__ = ()

    def result(self, reader: MessageReader) -> Any:
        if reader._available():
            with memoryview(reader._piece)[reader._position :] as unread:
                text, size = utf_8_decode(unread)
                if not text and reader._fin:
                    bytes(unread).decode()  # raises: the message ends inside a character
            if text:
                reader._position += size
                return text
        if not reader._fin:
            return PENDING
        self.error = StopAsyncIteration()
        return FAILED
