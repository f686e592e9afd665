"""What has come and is not read: the queue between the connection and the one reader at a time.

The connection puts in what a chunk off the network completed (`push`) and then wakes the reader (`wake`). A read is an
`Operation` that is polled: it takes what it asks for, or waits. While something is there, reading never suspends.

The queue holds what the parser returns: whole messages as bare `str`, `bytes` or `WideText`, fragments as
`DataFrame`. A frame that is not complete stays with the parser, and a reader of a stream fetches what has come of it.

What came compressed waits as it came, as `DeflatedFrame`, and is inflated for the one who reads it, no more of it than
that one may have. For the reader of a whole message it is inflated as it comes, in its place in the queue.
"""

from asyncio import AbstractEventLoop, Future, current_task
from collections.abc import AsyncIterator
from sys import maxsize
from typing import Any, Protocol

import attrs

from ..awaiting.operation import FAILED, PENDING, Operation
from ..awaiting.waiter import Waiter
from ..codes import Cause, Close, CloseCode, Opcode, Side
from ..errors import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    IncompleteMessage,
    ProtocolViolation,
    StaleReader,
)
from ..options import ITEM_OVERHEAD, Limits
from ..wire.deflate import PIECE, DeflatedFrame, Inflater
from ..wire.frames import DataFrame
from ..wire.parser import Parser
from ..wire.payload import WideText

_OVERHEAD = ITEM_OVERHEAD

_SHARE = 1024 * 1024  # bytes that are inflated for a reader before the others of the loop have their turn

# Plain integers: the enum costs a look-up each time.
_CONTINUATION = 0x0
_TEXT = 0x1

# What a read waits for.
_MESSAGE = 1
_FRAME = 2
_BEGINNING = 3  # of a message
_MORE = 4  # of the message that its owner reads

_NAMES = {_MESSAGE: "read_message()", _FRAME: "read_frame()", _BEGINNING: "messages()", _MORE: "a MessageReader"}


class Flow(Protocol):
    """What the inbox asks of the connection."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def refuse(self, close: Close, cause: Cause) -> None:
        """Fail the connection because of a message; ends the inbox."""

    def closed_error(self) -> ConnectionClosed:
        """What a reader gets when nothing more will come."""

    def discarded(self, size: int) -> None:
        """Data that no one reads was dropped; said once."""


class Read(Operation):
    """One read of the inbox: to asyncio a coroutine. Cancelled, it has consumed nothing."""

    __slots__ = ("inbox", "iterating", "kind", "owner")

    inbox: "Inbox"
    kind: int
    iterating: bool
    """Whether a clean end of the connection ends an iteration rather than raising."""
    owner: object
    """Who reads a message piece by piece."""

    def poll(self) -> Any:
        return self.inbox.poll(self)

    def abandon(self) -> None:
        self.inbox.abandon(self)

    def describe(self) -> str:
        if self.kind == _MESSAGE and (self.iterating or self.owner is not None):
            return "async for" if self.iterating else "a MessageReader"
        return _NAMES[self.kind]


def _read(inbox: "Inbox", kind: int, iterating: bool, owner: object) -> Read:
    # Not by the constructor: that is one call more for each message.
    read: Read = Read.__new__(Read)
    read.finished = False
    read.inbox = inbox
    read.kind = kind
    read.iterating = iterating
    read.owner = owner
    return read


class Messages:
    """The whole messages of a connection, as an async iterator."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: "Inbox") -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    def __anext__(self) -> Any:
        return _read(self._inbox, _MESSAGE, True, None)


class Inbox:
    """The queue of what has come and is not read."""

    __slots__ = (
        "_ahead",
        "_ahead_size",
        "_budget",
        "_claimed",
        "_complete",
        "_discarding",
        "_ended",
        "_flow",
        "_giving_way",
        "_head",
        "_inflated",
        "_inflater",
        "_items",
        "_limits",
        "_max_inflated",
        "_max_size",
        "_open_frames",
        "_open_size",
        "_owner",
        "_parser",
        "_passing_over",
        "_paused",
        "_read_high",
        "_read_low",
        "_reading",
        "_refused",
        "_skipping",
        "_told",
        "_waiter",
        "size",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        parser: Parser,
        limits: Limits,
        flow: Flow,
        finished: "Future[None]",
        inflater: Inflater | None = None,
    ) -> None:
        """`finished` is any future of the loop that is done; `inflater` is for what comes compressed."""
        self._parser = parser
        self._inflater = inflater
        self._limits = limits
        self._max_size = limits.max_message_size
        self._max_inflated = min(limits.max_message_size, maxsize // 2)  # so that one byte more is a size as well
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self._flow = flow
        self._items: list[Any] = []
        self._head = 0  # the index of the first item that is not taken
        self.size: int = 0
        """Bytes in the queue, with 64 for each item on top."""
        self._complete = 0  # messages in frames in the queue that are complete
        self._open_size = 0  # payload bytes in the queue of the one that is not,
        self._open_frames = 0  # and their fragments
        self._ahead = 0  # frames of the message at the head that are inflated already,
        self._ahead_size = 0  # and their payload bytes
        self._inflated = 0  # bytes that were inflated since the reader was suspended last
        self._giving_way = False  # whether it waits for nothing but that others have had their turn
        self._refused: tuple[Close, Cause] | None = None  # what this side has failed the connection for
        self._reading: Read | None = None  # the read that waits
        self._waiter = Waiter(loop, finished)
        self._owner: object = None  # who reads the message at the head piece by piece
        self._skipping = False  # whether the rest of the message at the head is passed over,
        self._budget = 0  # and how many bytes of it may still be
        self._paused = False
        self._passing_over = False  # whether this side closes, and what comes is not kept
        self._ended = False
        self._claimed = False  # whether anyone has ever read
        self._discarding = False  # whether what no one has claimed is dropped rather than kept waiting,
        self._told = False  # and whether that was said

    # The connection's side -------------------------------------------------------------------------------------

    def push(self, items: list[Any]) -> None:
        """Put in what a chunk off the network completed, in its order."""
        for item in items:
            size = _size(item)
            self.size += size
            kind = type(item)
            if kind is DataFrame or kind is DeflatedFrame:
                if item.fin:
                    self._complete += 1
                    self._open_size = self._open_frames = 0
                else:
                    self._open_size += len(item.payload)
                    self._open_frames += 1
        if self._head == len(self._items):
            self._items = items
            self._head = 0
        else:
            if self._head > 64 and 2 * self._head > len(self._items):
                del self._items[: self._head]
                self._head = 0
            self._items.extend(items)
        if self._skipping:
            self._skip()

    def wake(self, soon: bool) -> None:
        """Let the waiting read go on if there is something for it: at once, or `soon`, in the loop's next turn."""
        reading = self._reading
        if reading is None or (reading.kind == _MESSAGE and self._inflater is not None and not self._inflate_open()):
            return
        if self._is_ready(reading.kind):
            self._waiter.wake(soon)

    def is_streamed(self) -> bool:
        """Whether a reader waits for more of a message, in any pieces."""
        return self._reading is not None and self._reading.kind == _MORE

    def check_flow(self) -> None:
        """Pause the network while more than the high-water mark is unread."""
        if self._skipping:
            self._skip()
        if self._paused or self._ended or self._held() <= self._read_high:
            return
        reading = self._reading
        if reading is not None and (reading.kind == _MESSAGE or reading.kind == _FRAME) and not self._giving_way:
            return  # it waits for something bigger than the mark, and max_message_size bounds it
        if self._discarding and not self._claimed:
            self._discard()
            return
        self._paused = True
        self._flow.pause_reading()

    def end(self) -> None:
        """Nothing more will come."""
        if self._ended:
            return
        self._ended = True
        if self._discarding and not self._claimed and self._held():
            self._discard()
        if self._reading is not None:
            self._waiter.wake(False)

    def pass_over(self) -> None:
        """This side closes: a frame that is not complete will never be there for a reader."""
        self._passing_over = True
        self.unpause()

    def detach(self, flow: Flow) -> None:
        """The connection is gone; `flow` speaks for it."""
        self._flow = flow

    def discard_unclaimed(self) -> None:
        """From now on drop what no one reads, instead of pausing the network for it."""
        self._discarding = True
        if self._paused and not self._claimed:
            self._discard()
            self.unpause()

    @property
    def paused(self) -> bool:
        """Whether reading from the network is paused."""
        return self._paused

    def unpause(self) -> None:
        """Read from the network again, whatever is unread."""
        if self._paused:
            self._paused = False
            self._flow.resume_reading()

    def _held(self) -> int:
        return self.size + self._parser.buffered()

    def _discard(self) -> None:
        size = self._held()
        if self._inflater is not None:
            self._drop_deflated(self._inflater)
        self._clear()
        if self._parser.in_message():
            self._skipping = True
            # What is to be inflated all the same costs more than what is thrown away.
            self._budget = self._limits.max_skip if self._parser.deflated and self._takes_over() else -1
            self._skip()
        if not self._told:
            self._told = True
            self._flow.discarded(size)

    def _drop_deflated(self, inflater: Inflater) -> None:
        """Pass over what is in the queue, so that the messages behind it can refer to it."""
        left = self._limits.max_skip if inflater.takeover else maxsize
        try:
            for item in self._items[self._head :]:
                if type(item) is DeflatedFrame:
                    left -= inflater.drop(item, left)
                    if left < 0:
                        self._fail_skipping()
                        return
        except ProtocolViolation as violation:
            self._spoil(violation)

    def _takes_over(self) -> bool:
        """Whether compressed messages refer to the ones before them."""
        return self._inflater is not None and self._inflater.takeover

    def _clear(self) -> None:
        self._items = []
        self._head = self.size = self._complete = self._open_size = self._open_frames = 0
        self._ahead = self._ahead_size = 0

    # Reads -----------------------------------------------------------------------------------------------------

    def messages(self) -> Messages:
        """The whole messages, as an async iterator."""
        return Messages(self)

    def read_message(self) -> Read:
        """The next whole message."""
        return _read(self, _MESSAGE, False, None)

    def read_frame(self) -> Read:
        """The next data frame."""
        return _read(self, _FRAME, False, None)

    def next_frame(self) -> Read:
        """The next data frame; a clean end is the end of an iteration."""
        return _read(self, _FRAME, True, None)

    def begin(self, owner: object) -> Read:
        """Wait for a message to begin and make it `owner`'s; the result is its opcode."""
        return _read(self, _BEGINNING, True, owner)

    def more(self, owner: object) -> Read:
        """Wait until there is something to pull."""
        return _read(self, _MORE, False, owner)

    def poll(self, read: Read) -> Any:
        """The result of a read, `PENDING` or `FAILED`."""
        self._claimed = True
        if self._reading is not None:
            if self._reading is not read:
                self._check_free(read)
            self._reading = None  # whatever is raised from here on: it waits no longer
        if self._owner is not None or read.owner is not None or self._skipping:
            self._claim(read)
        if self._giving_way:
            self._giving_way = False
        elif self._inflated >= _SHARE:
            self._giving_way = True
            self._suspend(read)
            self._waiter.wake_later()
            return PENDING
        result = PENDING if self._skipping else self._take(read)
        if result is PENDING:
            if not self._ended:
                self._suspend(read)
                return PENDING
            read.error = self._end_of(read)
            return FAILED
        if read.kind == _MESSAGE and self._owner is not None:
            self._owner = None
        if self._paused:
            self._resume()
        return result

    def abandon(self, read: Read) -> None:
        """The read was cancelled."""
        if self._reading is read:
            self._reading = None

    def _take(self, read: Read) -> Any:
        if read.kind == _MESSAGE:
            return self._take_message()
        if read.kind == _FRAME:
            return self._take_frame()
        if read.kind == _BEGINNING:
            return self._take_beginning(read.owner)
        return None if self._is_ready(_MORE) and not self._is_exhausted() else PENDING

    def _suspend(self, read: Read) -> None:
        read.future = self._waiter.arm()
        self._reading = read
        self._inflated = 0
        if self._paused:
            self._resume()

    def _check_free(self, read: Read) -> None:
        first = self._reading
        if first is None or self._waiter.is_cancelled():
            # The task that waited is being cancelled, and will learn of it in its turn.
            self._reading = None
            return
        raise ConcurrencyError(
            f"{read.describe()} of {_name(current_task())} while {_name(self._waiter.waiting_task())} waits in "
            f"{first.describe()} on the same connection: one task at a time can read"
        )

    def _claim(self, read: Read) -> None:
        """A message is being read piece by piece: `read` goes on with it, or leaves it behind."""
        if read.kind == _FRAME and self._owner is FRAMES:
            return
        if read.kind != _BEGINNING and read.owner is not None:
            if self._owner is not read.owner:
                raise stale()
        elif self._owner is not None:
            self.leave(self._owner)

    def _is_ready(self, kind: int) -> bool:
        """Whether a read has something to go on with: a result or an error."""
        if self._ended:
            return True
        if self._skipping:
            return False
        there = self._head < len(self._items)
        if kind == _MESSAGE:
            return (
                self._complete > 0
                or (there and type(self._items[self._head]) is not DataFrame)
                or self._announced() > self._max_size
            )
        if kind == _FRAME:
            return there or self._frame_too_big()
        if kind == _BEGINNING:
            return there or self._in_data_frame()
        return there or self._parser.buffered() > 0 or self._is_inflating()

    def _is_exhausted(self) -> bool:
        return self._head == len(self._items) and self._parser.buffered() == 0 and not self._is_inflating()

    def _is_inflating(self) -> bool:
        """Whether there may be more to inflate of what was taken out of the queue."""
        return self._inflater is not None and self._inflater.pending

    def _resume(self) -> None:
        """Go on reading from the network once enough was read, or if a read waits for more than the mark."""
        reading = self._reading
        waits = reading is not None and (reading.kind == _MESSAGE or reading.kind == _FRAME)
        if (waits and not self._giving_way) or self._held() <= self._read_low:
            self.unpause()

    # Whole messages --------------------------------------------------------------------------------------------

    def _take_message(self) -> Any:
        head = self._head
        items = self._items
        if head < len(items):
            item = items[head]
            kind = type(item)
            if kind is str or kind is bytes:
                size = len(item)
                if size > self._max_size:
                    return self._refuse(size)
                items[head] = None
                self._head = head + 1
                self.size -= size + _OVERHEAD
                return item
            if kind is WideText:
                if item.size > self._max_size:
                    return self._refuse(item.size)
                return self._pop().text
            if kind is DeflatedFrame and item.fin:
                return self._take_inflated(item)
            if self._complete > 0:
                return self._join()
        if self._inflater is not None and not self._inflate_open():
            return PENDING
        if self._announced() > self._max_size:
            return self._refuse(self._announced())
        return PENDING

    def _join(self) -> Any:
        if self._inflater is not None and not self._inflate(len(self._items)):
            return PENDING
        size = 0
        last = self._head
        while True:
            size += len(self._items[last].payload)
            if self._items[last].fin:
                break
            last += 1
        frames = last + 1 - self._head
        counted = _counted(size, frames)
        if counted > self._max_size:
            return self._refuse(counted)
        opcode = self._items[self._head].opcode
        data = b"".join([self._pop().payload for _ in range(frames)])
        return data.decode() if opcode == Opcode.TEXT else data

    def _announced(self) -> int:
        """What the message that is not complete counts, with the declared length of the frame under way."""
        size = self._open_size
        frames = self._open_frames
        if self._in_data_frame():
            size += self._declared()
            if self._parser.in_fragmented():
                frames += 1
        return _counted(size, frames)

    def _declared(self) -> int:
        """What is known beforehand of the size of the frame under way."""
        length = self._parser.length
        if self._parser.deflated and length <= self._max_size + self._max_size // 4 + 1024:
            return 0  # it may inflate to anything; what does not get smaller grows by less than that
        return length

    def _frame_too_big(self) -> bool:
        return self._in_data_frame() and self._declared() > self._max_size

    def _in_data_frame(self) -> bool:
        """Whether a data frame is under way that someone may read."""
        return not self._passing_over and self._parser.in_data_frame()

    def _refuse(self, size: int) -> Any:
        reason = f"a message of at least {size} bytes is over max_message_size ({self._max_size})"
        return self._fail(Close(CloseCode.MESSAGE_TOO_BIG, reason), Cause.LIMIT)

    def _fail(self, close: Close, cause: Cause) -> Any:
        """Take nothing more, because of a message."""
        self._clear()
        if self._inflater is not None:
            self._inflater.stop()
        self._refused = close, cause
        self._flow.refuse(close, cause)
        return PENDING

    def _pop(self) -> Any:
        item = self._items[self._head]
        self._items[self._head] = None
        self._head += 1
        size = _size(item)
        self.size -= size
        kind = type(item)
        if kind is DataFrame or kind is DeflatedFrame:
            if item.fin:
                self._complete -= 1
            elif self._complete == 0:
                self._open_size -= len(item.payload)
                self._open_frames -= 1
            if self._ahead:
                self._ahead -= 1
                self._ahead_size -= len(item.payload)
        return item

    # Compressed messages ---------------------------------------------------------------------------------------

    def _take_inflated(self, frame: DeflatedFrame) -> Any:
        """A message in one frame, for who reads it as a whole."""
        inflater = self._inflater
        assert inflater is not None
        try:
            inflater.feed(frame)
            data = inflater.take(self._max_inflated + 1)
        except ProtocolViolation as violation:
            return self._spoil(violation)
        if len(data) > self._max_inflated:
            return self._refuse(len(data))
        self._inflated += len(data)
        self._pop()
        return data.decode() if frame.opcode == _TEXT else data

    def _inflate_open(self) -> bool:
        """Inflate what has come of the message at the head, unless it is complete; False if that was too much."""
        return self._complete > 0 or self._inflate(len(self._items))

    def _inflate(self, end: int) -> bool:
        """Inflate the message at the head, in its place, up to the index `end`; False if it was refused."""
        items = self._items
        inflater = self._inflater
        assert inflater is not None
        place = self._head + self._ahead
        while place < end and type(items[place]) is DeflatedFrame:
            frame = items[place]
            if place > self._head and frame.opcode != _CONTINUATION:
                break  # the next message
            left = self._max_inflated - self._ahead_size
            try:
                inflater.feed(frame)
                data = inflater.take(left + 1)
            except ProtocolViolation as violation:
                self._spoil(violation)
                return False
            if len(data) > left:
                self._refuse(self._ahead_size + len(data))
                return False
            items[place] = DataFrame(frame.opcode, data, frame.fin)
            growth = len(data) - len(frame.payload)
            self.size += growth
            if self._complete == 0:
                self._open_size += growth
            self._ahead += 1
            self._ahead_size += len(data)
            self._inflated += len(data)
            place += 1
        return True

    def _pull_inflated(self, frame: DeflatedFrame | None) -> DataFrame:
        """The next piece of a message that is read piece by piece, of `frame` or of the one before."""
        inflater = self._inflater
        assert inflater is not None
        try:
            if frame is not None:
                inflater.feed(frame)
            data = inflater.take(PIECE)
        except ProtocolViolation as violation:
            self._spoil(violation)
            raise self._end_of(_read(self, _MORE, False, self._owner)) from None
        self._inflated += len(data)
        return DataFrame(Opcode.CONTINUATION, data, inflater.ended)

    def _spoil(self, violation: ProtocolViolation) -> Any:
        """A message cannot be inflated."""
        return self._fail(Close(violation.code, violation.reason), Cause.PROTOCOL_ERROR)

    # Frames ----------------------------------------------------------------------------------------------------

    def _take_frame(self) -> Any:
        if self._head == len(self._items):
            return self._refuse(self._parser.length) if self._frame_too_big() else PENDING
        if self._inflater is not None and not self._inflate(self._head + 1):
            return PENDING
        size = _size(self._items[self._head]) - _OVERHEAD
        if size > self._max_size:
            return self._refuse(size)
        frame = _as_frame(self._pop())
        self._owner = None if frame.fin else FRAMES
        return frame

    # Messages as streams ---------------------------------------------------------------------------------------

    def _take_beginning(self, owner: object) -> Any:
        if self._head < len(self._items):
            item = self._items[self._head]
            self._owner = owner
            kind = type(item)
            if kind is DataFrame or kind is DeflatedFrame:
                return Opcode(item.opcode)
            return Opcode.BINARY if type(item) is bytes else Opcode.TEXT
        if self._in_data_frame():
            self._owner = owner
            return Opcode(self._parser.opcode)
        return PENDING

    def belongs_to(self, owner: object) -> bool:
        """Whether `owner` is who reads the message at the head, and something of it is left to pull."""
        return self._owner is owner

    def pull(self, owner: object) -> Any:
        """What has come of `owner`'s message and was not pulled before; None if nothing.

        A `str` or `bytes` is the whole message. Else it is a `DataFrame`, with `fin` set on the last piece; what is
        pulled of a frame that is not complete is a continuation.
        Raises `StaleReader` if the message is not, or no longer, `owner`'s; `ConcurrencyError` if a read waits.
        """
        self._check_owner(owner)
        piece: Any = None
        if self._inflated >= _SHARE:
            return None  # `more` gives way
        if self._is_inflating():
            piece = self._pull_inflated(None)
        elif self._head < len(self._items):
            piece = self._pop()
            kind = type(piece)
            if kind is WideText:
                piece = piece.text
            elif kind is DeflatedFrame:
                piece = self._pull_inflated(piece)
        elif self._parser.buffered() > 0:
            if self._parser.deflated:
                piece = self._pull_inflated(self._parser.release_deflated())
            else:
                piece = DataFrame(Opcode.CONTINUATION, self._parser.release(), False)
        if piece is not None and (type(piece) is not DataFrame or piece.fin):
            self._owner = None
        if self._paused:
            self._resume()
        return piece

    def pull_into(self, owner: object, target: memoryview) -> int:
        """Bytes of `owner`'s message that lie where the network put them: into `target`, as far as they fit.

        Returns how many; 0 if none do, and then `pull` is to be asked.
        """
        self._check_owner(owner)
        if self._head < len(self._items) or self._is_inflating():
            return 0  # what the parser holds may be of the next message
        return self._parser.release_into(target)

    def _check_owner(self, owner: object) -> None:
        if self._owner is not owner:
            raise stale()
        if self._reading is not None:
            # It may have been woken and not have run since: what has come is then for that one.
            self._check_free(_read(self, _MORE, False, owner))

    def missing(self) -> int:
        """Bytes that are to come of the frame whose first bytes were pulled last, as far as that is known."""
        parser = self._parser
        if self._head < len(self._items) or self._is_inflating() or not parser.in_data_frame() or parser.deflated:
            return 0
        return parser.missing

    def whole(self, owner: object) -> Read:
        """`owner`'s message as a whole; nothing of it must have been pulled."""
        return _read(self, _MESSAGE, False, owner)

    def refuse_stream(self, limit: int) -> ConnectionClosed:
        """The message is larger than its reader takes: fail the connection. Returns what the reader raises."""
        reason = f"a message is over the limit of its reader ({limit} bytes)"
        self._fail(Close(CloseCode.MESSAGE_TOO_BIG, reason), Cause.LIMIT)
        return self._closed_error()

    def leave(self, owner: object) -> None:
        """`owner` reads no more of its message: the rest is passed over, up to a budget."""
        if self._owner is owner:
            self._owner = None
            self._skipping = True
            self._budget = self._limits.max_skip
            self._skip()
            if self._reading is not None and self._reading.owner is owner:
                self._waiter.wake(False)  # it is stale

    def _skip(self) -> None:
        try:
            skipped = self._skip_there()
        except ProtocolViolation as violation:
            self._skipping = False
            self._spoil(violation)
            return
        if self._budget >= 0:
            self._budget -= skipped
            if self._budget < 0:
                self._skipping = False
                self._fail_skipping()
        if self._paused:
            self._resume()

    def _fail_skipping(self) -> None:
        reason = f"what no one reads of a message is over max_skip ({self._limits.max_skip} bytes)"
        self._fail(Close(CloseCode.POLICY_VIOLATION, reason), Cause.LIMIT)

    def _skip_there(self) -> int:
        """Pass over what has come of the message; returns its bytes, inflated if they had to be and that is more."""
        inflater = self._inflater
        most = self._budget if self._budget >= 0 else maxsize
        skipped = 0
        if inflater is not None and self._is_inflating():
            skipped = inflater.drop(None, most)
            self._skipping = not inflater.ended
        while self._skipping and self._head < len(self._items) and skipped <= most:
            item = self._pop()
            kind = type(item)
            size = _size(item) - _OVERHEAD
            if inflater is not None and kind is DeflatedFrame:
                size = _drop(inflater, item, most - skipped)
            if not (kind is DataFrame or kind is DeflatedFrame) or item.fin:
                self._skipping = False
            elif size == 0:
                size = _OVERHEAD  # or empty fragments could come for ever
            skipped += size
        if self._skipping and self._parser.buffered() > 0:
            if inflater is not None and self._parser.deflated:
                skipped += _drop(inflater, self._parser.release_deflated(), most - skipped)
            else:
                skipped += len(self._parser.release())
        return skipped

    # The end ---------------------------------------------------------------------------------------------------

    def _end_of(self, read: Read) -> BaseException:
        """What a read raises when nothing more will come."""
        error = self._closed_error()
        if self._is_cut(read, error):
            missing = self._parser.missing if self._parser.in_data_frame() else None
            return IncompleteMessage(error.outcome, self._parser.received, missing)
        if read.iterating and error.outcome.clean:
            return StopAsyncIteration()
        return error

    def _closed_error(self) -> ConnectionClosed:
        error = self._flow.closed_error()
        if self._refused is not None and error.outcome.clean:
            # The connection had ended well before, and yet not all that came is taken.
            close, cause = self._refused
            return ConnectionClosedError(attrs.evolve(error.outcome, cause=cause, detail=close.reason))
        return error

    def _is_cut(self, read: Read, error: ConnectionClosed) -> bool:
        """Whether the end cut off the message that `read` is at."""
        if error.outcome.cause is Cause.LIMIT:
            return False  # this side refused it
        if read.kind == _MORE:
            return True
        if read.kind == _BEGINNING or self._skipping or self._refused is not None:
            return False
        if error.outcome.clean and error.outcome.initiator is Side.LOCAL:
            return False  # this side did not want the rest
        return self._parser.in_message()


class _Frames:
    """The owner of a message that is read frame by frame."""


FRAMES = _Frames()


def _name(task: object) -> str:
    return str(task.get_name()) if hasattr(task, "get_name") else "a task without a name"


def stale() -> StaleReader:
    return StaleReader("this reader's message is over: it was read to its end, or another read has begun since")


def _drop(inflater: Inflater, frame: DeflatedFrame, most: int) -> int:
    """Pass over a frame; returns the bytes that this costs."""
    size = inflater.drop(frame, most)
    least = len(frame.payload)
    return size if size > least else least  # what inflates to nothing could come for ever


def _counted(size: int, frames: int) -> int:
    """What fragments count against `max_message_size`: a flood of tiny ones is bounded too."""
    least = _OVERHEAD * frames
    return size if size > least else least


def _size(item: Any) -> int:
    """What an item counts in the queue."""
    kind = type(item)
    if kind is str or kind is bytes:
        return len(item) + _OVERHEAD
    size: int = item.size if kind is WideText else len(item.payload)
    return size + _OVERHEAD


def _as_frame(item: Any) -> DataFrame:
    if type(item) is DataFrame:
        return item
    if type(item) is bytes:
        return DataFrame(Opcode.BINARY, item)
    return DataFrame(Opcode.TEXT, (item.text if type(item) is WideText else item).encode())
