"""Received data and the one task at a time that reads it.

The connection puts in the items of a chunk (`push`) and then wakes the reader (`wake`). A read is an `Operation`: it
takes what it asks for from the queue, or waits. While data is there, reading never suspends. The kinds of reads are in
`reads`.

A frame that is not complete stays with the parser. The reader of a stream takes what has arrived of it from there.
"""

from asyncio import AbstractEventLoop, Future, current_task
from typing import Any
from weakref import ReferenceType

import attrs

from ..awaiting.operation import FAILED, PENDING, Operation
from ..awaiting.waiter import Waiter
from ..codes import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from ..errors import ConcurrencyError, ConnectionClosed, ConnectionClosedError, IncompleteMessage, StaleReader
from ..net.gate import MARKS, Gate
from ..options import Limits
from ..wire.deflate import DeflatedFrame, Inflater
from ..wire.frames import DataFrame
from ..wire.partial import PartialFrame
from ..wire.payload import WideText
from ..wire.protocol import Protocol
from .hub import Hub
from .inflation import SHARE, Inflation, too_big
from .queue import Queue, counted_size
from .skipping import Skipper

_NO_LIMIT = 1 << 62

READER = "a MessageReader"
"""The name of all methods of a reader, for an error."""


class Read(Operation):
    """One read. To asyncio it is a coroutine. Cancelled, it has consumed nothing."""

    __slots__ = ("inbox", "iterating", "owner")

    inbox: "Inbox"
    iterating: bool
    """Whether a clean end of the connection ends an iteration instead of raising `ConnectionClosed`."""
    owner: object
    """The `MessageReader` that reads, or None."""

    def poll(self) -> Any:
        return self.inbox.poll(self)

    def abandon(self) -> None:
        self.inbox.abandon(self)

    def claim(self) -> None:
        """Check that this read goes on with the message that is being read in pieces, or leave that message."""
        if self.owner is not None:
            self.inbox.check_owner(self.owner)
        elif self.inbox.owner is not None:
            self.inbox.leave(self.inbox.owner)

    def take(self) -> Any:
        """Take the result from the queue; `PENDING` if it has not arrived."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether `take` has a result, or will fail the connection."""
        raise NotImplementedError

    def needs_whole(self) -> bool:
        """Whether it waits for a whole message or frame, which may be larger than the high-water mark."""
        return False

    def is_stream(self) -> bool:
        """Whether it waits for the next bytes of a message, whatever their number."""
        return False

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        """Whether the end of the connection cut off the message that is being read."""
        return self.inbox.is_cut_by(outcome)

    def describe(self) -> str:
        """The name of the call, for an error."""
        raise NotImplementedError


class Inbox:
    """The receiving half of a connection, as its readers use it."""

    __slots__ = (
        "_claimed",
        "_closing",
        "_discarding",
        "_ended",
        "_gate",
        "_giving_way",
        "_hub",
        "_limits",
        "_protocol",
        "_read_high",
        "_read_low",
        "_reading",
        "_refused",
        "_skipper",
        "_waiter",
        "_warned_discard",
        "frame",
        "inflation",
        "max_size",
        "owner",
        "queue",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        protocol: Protocol,
        gate: Gate,
        limits: Limits,
        hub: ReferenceType[Hub],
        finished: "Future[None]",
        inflater: Inflater | None = None,
    ) -> None:
        """Make the inbox of an open connection.

        :param finished: any future of the loop that is done.
        :param inflater: inflates messages, if compression was negotiated.
        """
        self._protocol = protocol
        self._gate = gate
        self._limits = limits
        self._hub = hub
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self.max_size: int = limits.max_message_size
        self.frame: PartialFrame = protocol.parser.frame
        """The frame being received."""
        self.queue: Queue = Queue()
        self.inflation: Inflation | None = (
            None if inflater is None else Inflation(self.queue, inflater, limits.max_message_size)
        )
        self._skipper = Skipper(self.queue, self.frame, self.inflation)
        self._waiter = Waiter(loop, finished)
        self._reading: Read | None = None  # the read that waits
        self.owner: object = None
        """The reader of the message at the head of the queue, if that is read in pieces."""
        self._giving_way = False  # whether the read only waits until other connections had their turn
        self._refused: tuple[Close, Cause] | None = None  # why this side failed the connection
        self._closing = False  # whether this side closes, so that what arrives is dropped
        self._ended = False
        self._claimed = False  # whether anyone has ever read
        self._discarding = False  # whether to drop data that nobody has claimed instead of pausing for it
        self._warned_discard = False

    # The connection's side -------------------------------------------------------------------------------------

    def push(self, items: list[Any]) -> None:
        """Add the items of one chunk, in their order."""
        self.queue.put(items)
        if self._skipper.active:
            self._skip()

    def wake(self, soon: bool) -> bool:
        """Let the waiting read go on if there is something for it.

        :param soon: True to run it in the next loop iteration in any case, not now.
        :returns: whether it is still to run.
        """
        reading = self._reading
        if reading is None:
            return False
        return (self._ended or (not self._skipper.active and reading.is_ready())) and self._waiter.wake(soon)

    def is_streamed(self) -> bool:
        """Whether a reader waits for the next bytes of a message, whatever their number."""
        return self._reading is not None and self._reading.is_stream()

    def check_marks(self) -> None:
        """Pause the network if more than the high-water mark is unread."""
        if self._skipper.active:
            self._skip()
        if self._ended or self._held() <= self._read_high or self._gate.reasons & MARKS:
            return
        reading = self._reading
        if reading is not None and not self._giving_way and reading.needs_whole():
            return  # max_message_size bounds what it waits for
        if self._discarding and not self._claimed:
            self._discard()
            return
        self._gate.pause(MARKS)

    def end(self) -> None:
        """Nothing more will arrive."""
        if self._ended:
            return
        self._ended = True
        if self._discarding and not self._claimed and self._held():
            self._discard()
        if self._reading is not None:
            self._waiter.wake(False)

    def begin_closing(self) -> None:
        """This side closes: a frame that is not complete will never be complete for a reader."""
        self._closing = True
        self._gate.resume(MARKS)

    def discard_unclaimed(self) -> None:
        """From now on drop data that nothing reads, instead of pausing the network for it."""
        self._discarding = True
        if self._gate.reasons & MARKS and not self._claimed:
            self._discard()
            self._gate.resume(MARKS)

    @property
    def paused(self) -> bool:
        """Whether the network is paused because of unread data."""
        return self._gate.reasons & MARKS != 0

    def _held(self) -> int:
        """The bytes that are unread."""
        return self.queue.size + self.frame.buffered()

    def _discard(self) -> None:
        """Drop everything that is unread, and the rest of the message under way."""
        size = self._held()
        skipper = self._skipper
        skipper.begin(self._limits.max_skip)
        if not skipper.drop_queue():
            self._fail_skipping()
            return
        skipper.active = False
        if self.frame.in_message():
            # Only data that must be inflated costs more than the bandwidth that the peer pays too.
            inflates = self.frame.compressed and self.inflation is not None and self.inflation.takeover
            skipper.begin(self._limits.max_skip if inflates else _NO_LIMIT)
            self._skip()
        if not self._warned_discard:
            self._warned_discard = True
            hub = self._hub()
            if hub is not None:
                hub.warn_discarded(size)

    # Reads -----------------------------------------------------------------------------------------------------

    def poll(self, read: Read) -> Any:
        """The result of a read, `PENDING` or `FAILED`."""
        self._claimed = True
        if self._reading is not None:
            if self._reading is not read:
                self._check_free(read.describe())
            self._reading = None  # whatever is raised below, it waits no longer
        skipper = self._skipper
        if self.owner is not None or read.owner is not None or skipper.active:
            read.claim()
        inflation = self.inflation
        if inflation is not None:
            if self._giving_way:
                self._giving_way = False
            elif inflation.work >= SHARE:
                self._giving_way = True
                self._suspend(read)
                self._waiter.wake_later()
                return PENDING
        result = PENDING if skipper.active else read.take()
        if result is PENDING:
            if not self._ended:
                self._suspend(read)
                return PENDING
            read.error = self.end_of(read)
            return FAILED
        if self._gate.reasons & MARKS:
            self._resume()
        return result

    def abandon(self, read: Read) -> None:
        """The task that waited for the read was cancelled."""
        if self._reading is read:
            self._reading = None

    def _suspend(self, read: Read) -> None:
        read.future = self._waiter.arm()
        self._reading = read
        if self.inflation is not None:
            self.inflation.work = 0
        if self._gate.reasons & MARKS:
            self._resume()

    def _resume(self) -> None:
        """Resume the network if little is unread, or if a read waits for more than the high-water mark."""
        reading = self._reading
        waits = reading is not None and not self._giving_way and reading.needs_whole()
        if waits or self._held() <= self._read_low:
            self._gate.resume(MARKS)

    def _check_free(self, call: str) -> None:
        """Raise `ConcurrencyError` if another task waits in a read.

        :param call: the call that wants to read.
        """
        first = self._reading
        if first is None or self._waiter.is_cancelled():
            # The task that waited is being cancelled and will notice when it runs.
            self._reading = None
            return
        raise ConcurrencyError(
            f"cannot call {call} in {_name(current_task())}: {_name(self._waiter.waiting_task())} waits in "
            f"{first.describe()} on the same connection; only one task at a time can read"
        )

    def check_owner(self, owner: object) -> None:
        """Raise `StaleReader` unless `owner` reads the message at the head of the queue."""
        if self.owner is not owner:
            raise stale()

    # Limits ----------------------------------------------------------------------------------------------------

    def announced_size(self) -> int:
        """The size of the incomplete message, as far as it is known: with the declared length of its last frame."""
        size = self.queue.open_size
        frames = self.queue.open_frames
        if self.in_data_frame():
            size += self._declared_size()
            if self.frame.in_fragmented():
                frames += 1
        return counted_size(size, frames)

    def _declared_size(self) -> int:
        """The payload size of the frame under way, as far as it is known beforehand."""
        length = self.frame.length
        if self.frame.compressed and length <= self.max_size + self.max_size // 4 + 1024:
            return 0  # it may inflate to any size; incompressible data grows by less than this
        return length

    def is_frame_too_big(self) -> bool:
        """Whether the frame under way is over `max_message_size`."""
        return self.in_data_frame() and self._declared_size() > self.max_size

    def in_data_frame(self) -> bool:
        """Whether a data frame is under way that can be read."""
        return not self._closing and self.frame.in_data_frame()

    def has_more(self) -> bool:
        """Whether there is something to `pull`."""
        return not self.queue.is_empty() or self.frame.buffered() > 0 or self._is_inflating()

    def _is_inflating(self) -> bool:
        return self.inflation is not None and self.inflation.is_pending()

    # Failing ---------------------------------------------------------------------------------------------------

    def refuse_size(self, size: int) -> Any:
        """Fail the connection, which received a message over `max_message_size`."""
        return self.fail(too_big(size, self.max_size))

    def refuse_stream(self, limit: int) -> ConnectionClosed:
        """Fail the connection, which received a message over the limit of its reader; returns the error to raise."""
        reason = f"a message is over the limit of its reader ({limit} bytes)"
        self.fail((Close(CloseCode.MESSAGE_TOO_BIG, reason), Cause.LIMIT))
        return self._closed_error()

    def refuse_kind(self, close: Close) -> ConnectionClosed:
        """Fail the connection, which received a message of the wrong type; returns the error to raise."""
        self._fail_connection(close, Cause.LIMIT)
        return self._protocol.closed_error()

    def fail_inflation(self) -> Any:
        """Fail the connection because of `Inflation.problem`."""
        assert self.inflation is not None
        return self.fail(self.inflation.problem)

    def fail(self, problem: "tuple[Close, Cause] | None") -> Any:
        """Fail the connection because of a message; drop everything. Returns `PENDING`, for `Read.take`."""
        assert problem is not None
        self.queue.clear()
        if self.inflation is not None:
            self.inflation.stop()
        self._refused = close, cause = problem
        self._fail_connection(close, cause)
        return PENDING

    def _fail_connection(self, close: Close, cause: Cause) -> None:
        hub = self._hub()
        if hub is not None:
            hub.fail(close.code, close.reason, cause)
        self.end()

    # Messages in pieces ----------------------------------------------------------------------------------------

    def pull(self, owner: object) -> Any:
        """Take what has arrived of the owner's message and was not taken before; None if there is nothing.

        A `str` or `bytes` is the whole message. Otherwise it is a `DataFrame`. Its `fin` marks the last piece; a piece
        of a frame that is not complete is a continuation.

        :raises StaleReader: if the message is not, or no longer, the owner's.
        :raises ConcurrencyError: if a read waits.
        """
        self._check_free_for(owner)
        inflation = self.inflation
        frame = self.frame
        piece: Any = None
        if inflation is not None and inflation.work >= SHARE:
            return None  # the read that follows gives way to other connections
        if inflation is not None and inflation.is_pending():
            piece = self._take_piece(inflation, None)
        elif not self.queue.is_empty():
            piece = self.queue.take()
            kind = type(piece)
            if kind is WideText:
                piece = piece.text
            elif inflation is not None and kind is DeflatedFrame:
                piece = self._take_piece(inflation, piece)
        elif frame.buffered() > 0:
            if inflation is not None and frame.compressed:
                piece = self._take_piece(inflation, frame.release_compressed())
            else:
                piece = DataFrame(Opcode.CONTINUATION, frame.release(), False)
        if piece is not None and (type(piece) is not DataFrame or piece.fin):
            self.owner = None
        if self._gate.reasons & MARKS:
            self._resume()
        return piece

    def _take_piece(self, inflation: Inflation, frame: DeflatedFrame | None) -> DataFrame:
        piece = inflation.take_piece(frame)
        if piece is None:
            self.fail_inflation()
            raise self._incomplete(self._closed_error())
        return piece

    def pull_into(self, owner: object, target: memoryview) -> int:
        """Take bytes of the owner's message that are still in the receive buffer, as many as fit into `target`.

        :returns: their number; 0 if there are none, and then `pull` must be asked.
        """
        self._check_free_for(owner)
        if not self.queue.is_empty() or self._is_inflating():
            return 0  # the bytes in the buffer may belong to the next message
        return self.frame.release_into(target)

    def _check_free_for(self, owner: object) -> None:
        self.check_owner(owner)
        if self._reading is not None:
            # If it was woken and has not run yet, the data that arrived is for it.
            self._check_free(READER)

    def missing(self) -> int:
        """The bytes that are still to arrive of the frame whose first bytes were pulled last, as far as known."""
        frame = self.frame
        if not self.queue.is_empty() or self._is_inflating() or not frame.in_data_frame() or frame.compressed:
            return 0
        return frame.missing

    def leave(self, owner: object) -> None:
        """The owner reads no more of its message: skip the rest, up to `max_skip` bytes."""
        if self.owner is owner:
            self.owner = None
            self._skipper.begin(self._limits.max_skip)
            self._skip()
            if self._reading is not None and self._reading.owner is owner:
                self._waiter.wake(False)  # it is stale

    def _skip(self) -> None:
        if not self._skipper.skip():
            self._fail_skipping()
        if self._gate.reasons & MARKS:
            self._resume()

    def _fail_skipping(self) -> None:
        self._skipper.active = False
        inflation = self.inflation
        if inflation is not None and inflation.problem is not None:
            self.fail(inflation.problem)
            return
        reason = f"skipped more than max_skip ({self._limits.max_skip} bytes) of an unread message"
        self.fail((Close(CloseCode.POLICY_VIOLATION, reason), Cause.LIMIT))

    # The end ---------------------------------------------------------------------------------------------------

    def end_of(self, read: Read) -> BaseException:
        """The exception that a read raises when nothing more will arrive."""
        error = self._closed_error()
        if error.outcome.cause is not Cause.LIMIT and read.is_cut_by(error.outcome):
            return self._incomplete(error)
        if read.iterating and error.outcome.clean:
            return StopAsyncIteration()
        return error

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        """Whether the end of the connection cut off the message at the head, for a reader of whole messages."""
        if self._skipper.active or self._refused is not None:
            return False
        if outcome.clean and outcome.initiator is Side.LOCAL:
            return False  # this side closed and did not want the rest
        return self.frame.in_message()

    def _incomplete(self, error: ConnectionClosed) -> ConnectionClosed:
        if error.outcome.cause is Cause.LIMIT:
            return error  # this side refused the message
        missing = self.frame.missing if self.frame.in_data_frame() else None
        return IncompleteMessage(error.outcome, self.frame.received, missing)

    def _closed_error(self) -> ConnectionClosed:
        error = self._protocol.closed_error()
        if self._refused is not None and error.outcome.clean:
            # The connection had ended cleanly before, and then a message in the queue was refused.
            close, cause = self._refused
            return ConnectionClosedError(attrs.evolve(error.outcome, cause=cause, detail=close.reason))
        return error


def _name(task: object) -> str:
    return str(task.get_name()) if hasattr(task, "get_name") else "another task"


def stale() -> StaleReader:
    """Return the error of a reader whose message is over."""
    return StaleReader("this reader's message is over: it was read to its end, or another read has begun since")
