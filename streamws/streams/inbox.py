"""What has come and is not read: the queue between the connection and the one reader at a time.

The connection puts in what a chunk off the network completed (`push`) and then wakes the reader (`wake`). A read is an
`Operation` that is polled: it takes what it asks for, or waits. While something is there, reading never suspends.

The queue holds what the parser returns: whole messages as bare `str`, `bytes` or `WideText`, fragments as
`DataFrame`. A frame that is not complete stays with the parser, and a reader of a stream fetches what has come of it.
"""

from asyncio import AbstractEventLoop, Future, current_task
from collections.abc import AsyncIterator
from typing import Any, Protocol

from ..codes import Cause, Close, CloseCode, Opcode, Side
from ..errors import ConcurrencyError, ConnectionClosed, IncompleteMessage, StaleReader
from ..options import ITEM_OVERHEAD, Limits
from ..wire.frames import DataFrame
from ..wire.kernels import FAILED, PENDING, Operation, WideText
from ..wire.parser import Parser
from .waiter import Waiter

_OVERHEAD = ITEM_OVERHEAD

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

    def refuse(self, close: Close) -> None:
        """Fail the connection because a limit was passed; ends the inbox."""

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
        "_budget",
        "_claimed",
        "_complete",
        "_discarding",
        "_ended",
        "_flow",
        "_head",
        "_items",
        "_limits",
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
        "_skipping",
        "_told",
        "_waiter",
        "size",
    )

    def __init__(
        self, loop: AbstractEventLoop, parser: Parser, limits: Limits, flow: Flow, finished: "Future[None]"
    ) -> None:
        """`finished` is any future of the loop that is done."""
        self._parser = parser
        self._limits = limits
        self._max_size = limits.max_message_size
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self._flow = flow
        self._items: list[Any] = []
        self._head = 0  # the index of the first item that is not taken
        self.size: int = 0
        """Bytes in the queue, with 64 for each item on top."""
        self._complete = 0  # fragmented messages in the queue that are complete
        self._open_size = 0  # payload bytes in the queue of the one that is not,
        self._open_frames = 0  # and their fragments
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
            if kind is DataFrame:
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
        if reading is not None and self._is_ready(reading.kind):
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
        if reading is not None and (reading.kind == _MESSAGE or reading.kind == _FRAME):
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
        self._clear()
        if self._parser.in_message():
            self._skipping = True
            self._budget = -1
            self._parser.release()
        if not self._told:
            self._told = True
            self._flow.discarded(size)

    def _clear(self) -> None:
        self._items = []
        self._head = self.size = self._complete = self._open_size = self._open_frames = 0

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
        return there or self._parser.buffered() > 0

    def _is_exhausted(self) -> bool:
        return self._head == len(self._items) and self._parser.buffered() == 0

    def _resume(self) -> None:
        """Go on reading from the network once enough was read, or if a read waits for more than the mark."""
        reading = self._reading
        waits = reading is not None and (reading.kind == _MESSAGE or reading.kind == _FRAME)
        if waits or self._held() <= self._read_low:
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
            if self._complete > 0:
                return self._join()
        if self._announced() > self._max_size:
            return self._refuse(self._announced())
        return PENDING

    def _join(self) -> Any:
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
            size += self._parser.length
            if self._parser.in_fragmented():
                frames += 1
        return _counted(size, frames)

    def _frame_too_big(self) -> bool:
        return self._in_data_frame() and self._parser.length > self._max_size

    def _in_data_frame(self) -> bool:
        """Whether a data frame is under way that someone may read."""
        return not self._passing_over and self._parser.in_data_frame()

    def _refuse(self, size: int) -> Any:
        reason = f"a message of at least {size} bytes is over max_message_size ({self._max_size})"
        self._clear()
        self._flow.refuse(Close(CloseCode.MESSAGE_TOO_BIG, reason))
        return PENDING

    def _pop(self) -> Any:
        item = self._items[self._head]
        self._items[self._head] = None
        self._head += 1
        size = _size(item)
        self.size -= size
        if type(item) is DataFrame:
            if item.fin:
                self._complete -= 1
            elif self._complete == 0:
                self._open_size -= len(item.payload)
                self._open_frames -= 1
        return item

    # Frames ----------------------------------------------------------------------------------------------------

    def _take_frame(self) -> Any:
        if self._head == len(self._items):
            return self._refuse(self._parser.length) if self._frame_too_big() else PENDING
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
            if type(item) is DataFrame:
                return item.opcode
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
        if self._head < len(self._items):
            piece = self._pop()
            if type(piece) is WideText:
                piece = piece.text
            if type(piece) is not DataFrame or piece.fin:
                self._owner = None
        elif self._parser.buffered() > 0:
            piece = DataFrame(Opcode.CONTINUATION, self._parser.release(), False)
        if self._paused:
            self._resume()
        return piece

    def pull_into(self, owner: object, target: memoryview) -> int:
        """Bytes of `owner`'s message that lie where the network put them: into `target`, as far as they fit.

        Returns how many; 0 if none do, and then `pull` is to be asked.
        """
        self._check_owner(owner)
        return 0 if self._head < len(self._items) else self._parser.release_into(target)

    def _check_owner(self, owner: object) -> None:
        if self._owner is not owner:
            raise stale()
        if self._reading is not None:
            # It may have been woken and not have run since: what has come is then for that one.
            self._check_free(_read(self, _MORE, False, owner))

    def missing(self) -> int:
        """Bytes that are to come of the frame whose first bytes were pulled last."""
        return self._parser.missing if self._head == len(self._items) and self._parser.in_data_frame() else 0

    def whole(self, owner: object) -> Read:
        """`owner`'s message as a whole; nothing of it must have been pulled."""
        return _read(self, _MESSAGE, False, owner)

    def refuse_stream(self, limit: int) -> ConnectionClosed:
        """The message is larger than its reader takes: fail the connection. Returns what the reader raises."""
        reason = f"a message is over the limit of its reader ({limit} bytes)"
        self._flow.refuse(Close(CloseCode.MESSAGE_TOO_BIG, reason))
        return self._flow.closed_error()

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
        skipped = 0
        while self._skipping and self._head < len(self._items):
            item = self._pop()
            size = _size(item) - _OVERHEAD
            if type(item) is not DataFrame or item.fin:
                self._skipping = False
            elif size == 0:
                size = _OVERHEAD  # or empty fragments could come for ever
            skipped += size
        if self._skipping:
            skipped += len(self._parser.release())
        if self._budget >= 0:
            self._budget -= skipped
            if self._budget < 0:
                self._skipping = False
                limit = self._limits.max_skip
                reason = f"the rest of a message that its reader left is over max_skip ({limit} bytes)"
                self._clear()
                self._flow.refuse(Close(CloseCode.POLICY_VIOLATION, reason))
        if self._paused:
            self._resume()

    # The end ---------------------------------------------------------------------------------------------------

    def _end_of(self, read: Read) -> BaseException:
        """What a read raises when nothing more will come."""
        error = self._flow.closed_error()
        if self._is_cut(read, error):
            missing = self._parser.missing if self._parser.in_data_frame() else None
            return IncompleteMessage(error.outcome, self._parser.received, missing)
        if read.iterating and error.outcome.clean:
            return StopAsyncIteration()
        return error

    def _is_cut(self, read: Read, error: ConnectionClosed) -> bool:
        """Whether the end cut off the message that `read` is at."""
        if error.outcome.cause is Cause.LIMIT:
            return False  # this side refused it
        if read.kind == _MORE:
            return True
        if read.kind == _BEGINNING or self._skipping:
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
