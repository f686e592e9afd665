"""Received data, and the one task at a time that reads it.

The connection adds the items of a chunk (`push`) and then wakes the reader (`wake`). A read is an `Operation`, which
takes its result from the queue, or waits until it has arrived. If it is in the queue, the task is not suspended. The
kinds of reads are in `reads`.

A frame that has not arrived completely stays with the parser, as a `PartialFrame`. A `MessageReader` takes the bytes
that have arrived from there.
"""

from asyncio import AbstractEventLoop, Future, current_task
from typing import Any
from weakref import ReferenceType

import attrs

from ..awaiting.operation import FAILED, PENDING, Operation
from ..awaiting.waiter import Waiter
from ..codes import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from ..errors import ConcurrencyError, ConnectionClosed, ConnectionClosedError, IncompleteMessage, StaleReader
from ..net.gate import UNREAD, Gate
from ..net.iteration import Iteration
from ..net.sockets import thread_number
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
"""The name, in errors, of every read by a `MessageReader`."""


class Read(Operation):
    """One read. To asyncio it is a coroutine. If it is cancelled, it has consumed nothing."""

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
        """Check that the read's owner owns the message at the head. A read without an owner leaves that message."""
        if self.owner is not None:
            self.inbox.check_owner(self.owner)
        elif self.inbox.owner is not None:
            self.inbox.leave(self.inbox.owner)

    def take(self) -> Any:
        """Take the result from the queue; return `PENDING` if it has not arrived."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether `take` would return a result, or would fail the connection."""
        raise NotImplementedError

    def needs_whole(self) -> bool:
        """Return whether it waits for a whole message or frame, which may be larger than the high-water mark."""
        return False

    def is_stream(self) -> bool:
        """Return whether it needs no more than the next bytes of its message, however few."""
        return False

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        """Return whether the end of the connection has cut off the message that is being read."""
        return self.inbox.is_cut_by(outcome)

    def describe(self) -> str:
        """Return the name of the call, for an error."""
        raise NotImplementedError


class Inbox:
    """The receiving half of a connection, as its readers use it."""

    __slots__ = (
        "_closing",
        "_discarding",
        "_ended",
        "_ever_read",
        "_gate",
        "_giving_way",
        "_hub",
        "_iteration",
        "_limits",
        "_loop",
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
        "max_unread",
        "owner",
        "queue",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        iteration: Iteration,
        protocol: Protocol,
        gate: Gate,
        limits: Limits,
        hub: ReferenceType[Hub],
        finished: "Future[None]",
        inflater: Inflater | None = None,
    ) -> None:
        """Create the inbox of an open connection.

        :param finished: any future of the loop that is done; see `Waiter`.
        :param inflater: inflates messages, if compression was negotiated.
        """
        self._loop = loop
        self._iteration = iteration
        self._protocol = protocol
        self._gate = gate
        self._limits = limits
        self._hub = hub
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self.max_size: int = limits.max_message_size
        self.max_unread: int = 0
        """The most unread messages and fragments before reading from the network pauses; 0 for no limit of their own.
        Servers whose interface counts messages set it."""
        self.frame: PartialFrame = protocol.parser.frame
        """The frame being received."""
        self.queue: Queue = Queue()
        self.inflation: Inflation | None = (
            None if inflater is None else Inflation(self.queue, inflater, limits.max_message_size)
        )
        self._skipper = Skipper(self.queue, self.frame, self.inflation)
        self._waiter = Waiter(loop, finished)
        self._reading: Read | None = None  # the read that waits for data
        self.owner: object = None
        """The reader of the message at the head of the queue, if that is read in pieces or frame by frame."""
        self._giving_way = False  # whether the read has data but lets other connections be served first
        self._refused: tuple[Close, Cause] | None = None  # why a message was refused and the connection failed
        self._closing = False  # whether this side closes the connection, so that received data is discarded
        self._ended = False  # whether nothing more will arrive
        self._ever_read = False  # whether the connection was ever read
        self._discarding = False  # whether to discard data that was never claimed, instead of pausing the network
        self._warned_discard = False  # whether the warning about discarded data was logged

    # Called by the connection ----------------------------------------------------------------------------------

    def push(self, items: list[Any]) -> None:
        """Add the items of one chunk, in their order."""
        self.queue.put(items)
        if self._skipper.active:
            self._skip()

    def wake(self, soon: bool) -> bool:
        """Wake the waiting read if it can continue.

        :param soon: whether to run it in the next loop iteration in any case, and not now.
        :returns: whether it is still to run.
        """
        reading = self._reading
        if reading is None:
            return False
        return (self._ended or (not self._skipper.active and reading.is_ready())) and self._waiter.wake(soon)

    def is_streamed(self) -> bool:
        """Return whether a read waits that needs no more than the next bytes of its message."""
        return self._reading is not None and self._reading.is_stream()

    def check_high_water(self) -> None:
        """Pause reading from the network if more bytes than the high-water mark are unread."""
        if self._skipper.active:
            self._skip()
        if self._ended or self._gate.reasons & UNREAD:
            return
        if self._held() <= self._read_high and not self._is_crowded():
            return
        reading = self._reading
        if reading is not None and not self._giving_way and reading.needs_whole():
            return  # it needs more bytes to continue; `max_message_size` is their limit
        if self._discarding and not self._ever_read:
            self._discard()
            return
        self._gate.pause(UNREAD)

    def end(self) -> None:
        """Note that nothing more will arrive, and wake the waiting read."""
        if self._ended:
            return
        self._ended = True
        if self._discarding and not self._ever_read and self._held():
            self._discard()
        if self._reading is not None:
            self._waiter.wake(False)

    def begin_closing(self) -> None:
        """Note that this side closes the connection. The rest of an incomplete frame will be discarded."""
        self._closing = True
        self._gate.resume(UNREAD)

    def discard_unread(self) -> None:
        """From now on, discard data if nothing ever reads the connection, instead of pausing the network."""
        self._discarding = True
        if self._gate.reasons & UNREAD and not self._ever_read:
            self._discard()
            self._gate.resume(UNREAD)

    @property
    def paused(self) -> bool:
        """Whether the network is paused because of unread data."""
        return self._gate.reasons & UNREAD != 0

    def _held(self) -> int:
        """Return the number of unread bytes, as `read_high` counts them."""
        return self.queue.size + self.frame.buffered()

    def _is_crowded(self) -> bool:
        """Return whether more messages and fragments are unread than `max_unread`."""
        return self.max_unread > 0 and len(self.queue.items) - self.queue.head > self.max_unread

    def _discard(self) -> None:
        """Discard everything that is unread, and the rest of the message under way."""
        size = self._held()
        skipper = self._skipper
        skipper.begin(self._limits.max_skip)
        if not skipper.drop_queue():
            self._fail_skipping()
            return
        skipper.active = False
        if self.frame.in_message():
            # Limit this only if the data must be inflated: otherwise it costs the peer as much as this side.
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
        """Return the result of a read, `PENDING` or `FAILED`."""
        self._ever_read = True
        if self._reading is not None:
            if self._reading is not read:
                self._check_free(read.describe())
            self._reading = None  # even if an exception is raised below, it no longer waits
        skipper = self._skipper
        if self.owner is not None or read.owner is not None or skipper.active:
            read.claim()
        if self._giving_way:
            self._giving_way = False
        elif self.must_give_way() or (self.inflation is not None and self.inflation.work >= SHARE):
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
        if self._gate.reasons & UNREAD:
            self._resume()
        return result

    def check_thread(self, call: str) -> None:
        """Raise `UsageError` if `call` is made in a thread other than that of the loop."""
        if thread_number() != self._iteration.thread:
            self._iteration.check_thread(self._loop, call)

    def must_give_way(self) -> bool:
        """Return whether a read must let other tasks run first, even if its result has arrived."""
        return self._iteration.spend(self._loop)

    def give_way(self, read: Read) -> None:
        """Let a read continue in the next loop iteration, so that other tasks run first. It need not own a message."""
        read.future = self._loop.create_future()
        self._loop.call_soon(_finish, read.future)

    def abandon(self, read: Read) -> None:
        """Forget a read whose task was cancelled."""
        if self._reading is read:
            self._reading = None

    def _suspend(self, read: Read) -> None:
        """Let a read wait."""
        read.future = self._waiter.arm()
        self._reading = read
        if self.inflation is not None:
            self.inflation.work = 0
        if self._gate.reasons & UNREAD:
            self._resume()

    def _resume(self) -> None:
        """Resume reading from the network if few bytes are unread, or if a read waits for a whole message."""
        reading = self._reading
        waits = reading is not None and not self._giving_way and reading.needs_whole()
        if waits or (self._held() <= self._read_low and not self._is_crowded()):
            self._gate.resume(UNREAD)

    def _check_free(self, call: str) -> None:
        """Raise `ConcurrencyError` if another task waits in a read.

        :param call: the call that wants to read.
        """
        first = self._reading
        if first is None or self._waiter.is_cancelled():
            # The task that waited was cancelled, and gets the exception when it runs.
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
        """Return the least possible size of the incomplete message, by the declared length of its last frame."""
        size = self.queue.open_size
        frames = self.queue.open_frames
        if self.in_data_frame():
            size += self._declared_size()
            if self.frame.in_fragmented():
                frames += 1
        return counted_size(size, frames)

    def _declared_size(self) -> int:
        """Return the least possible size of the message data in the frame under way."""
        length = self.frame.length
        # Compressed data may inflate to any size. But data that does not compress grows by less than a quarter, so a
        # longer frame inflates to more than the limit in any case.
        if self.frame.compressed and length <= self.max_size + self.max_size // 4 + 1024:
            return 0
        return length

    def is_frame_too_big(self) -> bool:
        """Return whether the frame under way is over `max_message_size`."""
        return self.in_data_frame() and self._declared_size() > self.max_size

    def in_data_frame(self) -> bool:
        """Return whether a data frame is under way that can be read."""
        return not self._closing and self.frame.in_data_frame()

    def has_more(self) -> bool:
        """Return whether `pull` would return data."""
        return not self.queue.is_empty() or self.frame.buffered() > 0 or self._is_inflating()

    def _is_inflating(self) -> bool:
        return self.inflation is not None and self.inflation.is_pending()

    # Failing ---------------------------------------------------------------------------------------------------

    def refuse_size(self, size: int) -> Any:
        """Fail the connection because a message is over `max_message_size`. Return `PENDING`, for `Read.take`."""
        return self.fail(too_big(size, self.max_size))

    def refuse_stream(self, limit: int) -> ConnectionClosed:
        """Fail the connection because a message is over the limit of its reader; return the error to raise."""
        reason = f"a message is over the limit of its reader ({limit} bytes)"
        self.fail((Close(CloseCode.MESSAGE_TOO_BIG, reason), Cause.LIMIT))
        return self._closed_error()

    def refuse_kind(self, close: Close) -> ConnectionClosed:
        """Fail the connection because a message has the wrong type; return the error to raise."""
        self._fail_connection(close, Cause.LIMIT)
        return self._protocol.closed_error()

    def fail_inflation(self) -> Any:
        """Fail the connection because of `Inflation.problem`. Return `PENDING`, for `Read.take`."""
        assert self.inflation is not None
        return self.fail(self.inflation.problem)

    def fail(self, problem: "tuple[Close, Cause] | None") -> Any:
        """Fail the connection because of a message, and discard all data. Return `PENDING`, for `Read.take`.

        When `poll` gets `PENDING` on a connection that has ended, it raises the error for that.
        """
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
        """Take the next piece of the owner's message.

        :returns: the whole message as `str` or `bytes`; or a piece as a `DataFrame`, in which `fin` marks the last
            piece; or None if no data has arrived.
        :raises StaleReader: if `owner` does not own the message at the head of the queue.
        :raises ConcurrencyError: if another task waits in a read.
        """
        self.check_free_for(owner)
        inflation = self.inflation
        frame = self.frame
        piece: Any = None
        if inflation is not None and inflation.work >= SHARE:
            return None  # the caller then waits with `AwaitMore`, which lets other connections be served first
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
        if self._gate.reasons & UNREAD:
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

        :returns: the number of bytes; 0 if there are none, and then the caller must use `pull`.
        """
        self.check_free_for(owner)
        if not self.queue.is_empty() or self._is_inflating():
            return 0  # the bytes in the buffer may belong to the next message
        return self.frame.release_into(target)

    def check_free_for(self, owner: object) -> None:
        """Raise `StaleReader` or `ConcurrencyError`, if `owner` cannot read now."""
        self.check_owner(owner)
        if self._reading is not None:
            # Even if it was woken and has not run yet, it must get the data first.
            self._check_free(READER)

    def missing(self) -> int:
        """Return the number of missing bytes of the frame whose bytes were pulled last; 0 if it is not known."""
        frame = self.frame
        if not self.queue.is_empty() or self._is_inflating() or not frame.in_data_frame() or frame.compressed:
            return 0
        return frame.missing

    def leave(self, owner: object) -> None:
        """Skip the rest of the owner's message, up to `max_skip` bytes."""
        if self.owner is owner:
            self.owner = None
            self._skipper.begin(self._limits.max_skip)
            self._skip()
            if self._reading is not None and self._reading.owner is owner:
                self._waiter.wake(False)  # it will raise `StaleReader`

    def _skip(self) -> None:
        if not self._skipper.skip():
            self._fail_skipping()
        if self._gate.reasons & UNREAD:
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
        """Return the exception that a read raises when nothing more will arrive."""
        error = self._closed_error()
        if error.outcome.cause is not Cause.LIMIT and read.is_cut_by(error.outcome):
            return self._incomplete(error)
        if read.iterating and error.outcome.clean:
            return StopAsyncIteration()
        return error

    def is_cut_by(self, outcome: CloseOutcome) -> bool:
        """Return whether the end of the connection has cut off the message at the head of the queue."""
        if self._skipper.active or self._refused is not None:
            return False
        if outcome.clean and outcome.initiator is Side.LOCAL:
            return False  # this side closed the connection, so it does not expect the rest
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


def _finish(future: "Future[None]") -> None:
    if not future.done():  # its task was not cancelled
        future.set_result(None)


def _name(task: object) -> str:
    return str(task.get_name()) if hasattr(task, "get_name") else "another task"


def stale() -> StaleReader:
    """Return the error for a reader whose message is over."""
    return StaleReader("this reader's message is over: it was read to its end, or another read has begun since")
