"""The sending half of a connection: gathers frames and writes them to the network.

Inside a batch, while a received chunk is processed, frames are gathered and leave in one write at its end. Outside a
batch, the first frame of a loop iteration is written at once, and later ones are gathered until the iteration ends.
After a burst, the first frame of the next iteration is gathered too, so that the next burst leaves in one write.
Nothing waits for a timer.
"""

from asyncio import AbstractEventLoop, Future, sleep
from collections.abc import Callable
from weakref import ReferenceType

from ..codes import Cause, CloseCode
from ..net.iteration import Flushable, Iteration
from ..net.network import Network
from ..options import Limits
from ..wire.protocol import Protocol
from .hub import Hub

FLUSH_SIZE = 64 * 1024
"""The number of gathered bytes from which they are written without waiting for the end of the batch or iteration."""

COPY_BELOW = 16 * 1024
"""The size of a payload below which it is copied behind its header."""

BURST = 8
"""The number of frames in one loop iteration from which they are a burst."""


class TotalBacklog:
    """The backlogs of all connections of a server together, and their limit.

    A connection counts only if data is sent to it although its senders should wait. Each of the others holds at most
    `write_high` bytes and one message.
    """

    __slots__ = ("_held", "_limit", "_total")

    def __init__(self, limit: int | None) -> None:
        """Create an empty total.

        :param limit: the largest total, in bytes; None for no limit.
        """
        self._limit: int | None = limit
        self._held: dict[Outbox, int] = {}  # the bytes that each connection held when it was last counted
        self._total = 0  # the sum of these

    def count(self, outbox: "Outbox") -> None:
        """Count a connection to which data was sent. If the total is over its limit, drop the largest ones."""
        if self._limit is None:
            return
        held = outbox.held()
        self._total += held - self._held.get(outbox, 0)
        self._held[outbox] = held
        if self._total > self._limit:
            self._drop_worst(self._limit)

    def discard(self, outbox: "Outbox") -> None:
        """Stop counting a connection, because its senders need not wait any more, or because it is closed."""
        self._total -= self._held.pop(outbox, 0)

    def _drop_worst(self, limit: int) -> None:
        """Drop the connections that hold the most bytes, until a sixteenth of the limit is free.

        If less was free, soon all connections would be counted again, perhaps for each message of a broadcast.
        """
        # Count all of them again: some bytes were written to the sockets meanwhile.
        for outbox in self._held:
            self._held[outbox] = outbox.held()
        self._total = sum(self._held.values())
        if self._total <= limit:
            return
        for outbox in sorted(self._held, key=self._held.__getitem__, reverse=True):
            self.discard(outbox)
            outbox.drop()
            if self._total <= limit - limit // 16:
                break


class Outbox(Flushable):
    """Writes all frames of a connection, in order."""

    __slots__ = (
        "_batching",
        "_bursting",
        "_drained",
        "_flush_size",
        "_frames",
        "_hub",
        "_iteration_number",
        "_loop",
        "_max_backlog",
        "_owned",
        "_protocol",
        "_size",
        "_slow",
        "_total",
        "exempt",
        "iteration",
        "messages",
        "network",
        "paused",
        "written",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        iteration: Iteration,
        protocol: Protocol,
        network: Network,
        limits: Limits,
        hub: ReferenceType[Hub],
        total: TotalBacklog,
    ) -> None:
        self._loop = loop
        self.iteration: Iteration = iteration
        """The current iteration of the loop. It also knows the thread of the loop."""
        self._protocol = protocol
        self.network: Network | None = network
        self._hub = hub
        self._iteration_number = 0  # the number of the last loop iteration in which a frame was sent outside a batch
        self._frames: list[bytes] = []  # the gathered frames
        self._size = 0  # the number of gathered bytes
        self._max_backlog = limits.max_write_backlog
        self._total = total
        self._owned = 0  # the number of bytes sent since `paused` was set that no other connection shares
        # Gather less if the high-water mark is lower, so that the transport notices soon that it is exceeded.
        self._flush_size = limits.write_high if limits.write_high < FLUSH_SIZE else FLUSH_SIZE
        self._batching = False  # whether a batch has begun and not ended
        self._bursting = False  # whether many frames were sent in the last iteration in which any was
        self.paused: bool = False
        """Whether senders must wait, because the transport holds more bytes than its high-water mark."""
        self.exempt: bool = False
        """Whether the frames belong to a message that was accepted already: `max_write_backlog` is then not checked."""
        self._slow = False  # whether the hub was told that the backlog is large, since it was last small
        self.messages: int = 0
        """The number of messages sent. The writers count them."""
        self.written: int = 0
        """The number of bytes written to the network since the connection opened."""
        self._drained: dict[Future[None], None] | None = None  # one for each task that waits in `drain`, in order

    # Threads ---------------------------------------------------------------------------------------------------

    def is_foreign(self) -> bool:
        """Return whether the current thread is not that of the loop. Only the loop's thread may use the connection."""
        return self.iteration.is_foreign(self._loop)

    def check_thread(self, call: str) -> None:
        """Raise `UsageError` if `call` is made in a thread other than that of the loop."""
        self.iteration.check_thread(self._loop, call)

    def check_await(self, call: str) -> None:
        """Raise `UsageError` if the result of `call` is awaited in a thread other than that of the loop."""
        self.iteration.check_await(self._loop, call)

    # Frames ----------------------------------------------------------------------------------------------------

    def put(self, frame: bytes) -> None:
        """Send a frame."""
        # Frames that were gathered in the last iteration leave first. There may be some in a new iteration too: when an
        # iteration ends, flushing another connection can make the application send here.
        if not self._batching and not self._frames:
            if self._iteration_number != self.iteration.number:
                self._iteration_number = self.iteration.number
                self.iteration.begin(self._loop)
                if not self._bursting:
                    self._write(frame)
                    return
            self.iteration.add(self)
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= self._flush_size:
            self.flush()

    def put_parts(self, header: bytes, payload: bytes) -> None:
        """Send the header of a frame and the first bytes of its payload, which are not copied if they are many."""
        if len(payload) < COPY_BELOW:
            self.put(header + payload)
            return
        self._frames.append(header)
        self._frames.append(payload)
        self._size += len(header) + len(payload)
        self.flush()

    def put_control(self, frame: bytes) -> None:
        """Send a control frame as soon as no data frame is under way (RFC 6455 section 5.4)."""
        self._protocol.queue(frame)
        self.put_due()

    def put_due(self) -> None:
        """Send the control frames that are due, unless a data frame is under way."""
        protocol = self._protocol
        if protocol.unsent:
            return  # the peer would take them for payload; they are sent after `Hub.frame_sent`
        due = protocol.due
        protocol.due = []
        if self.paused:
            self._write_control(due)
            return
        for frame in due:
            self.put(frame)

    def _write_control(self, frames: list[bytes]) -> None:
        """Write control frames while writing is paused, behind the backlog.

        They do not count against `max_write_backlog`. Otherwise a ping would end a connection whose peer is still
        receiving one large message.
        """
        failed = self._protocol.failed
        self.flush()
        if self._protocol.failed and not failed:
            return  # the Close frame is the last frame
        for frame in frames:
            if self.network is not None:
                self.written += len(frame)
                self.network.write(frame)

    def backlog(self) -> int:
        """Return the number of bytes that were sent and not written to the socket. Any thread may call this."""
        network = self.network
        return 0 if network is None else self._size + network.backlog()

    def gathered(self) -> int:
        """Return the number of bytes that are gathered and not written to the network."""
        return self._size

    # Writing ---------------------------------------------------------------------------------------------------

    def begin_batch(self) -> None:
        """Gather frames until `end_batch`."""
        self._batching = True
        self.iteration.begin_batch()

    def end_batch(self) -> None:
        """Write the gathered frames."""
        self._batching = False
        self.iteration.end_batch()
        if self._frames:
            self.flush()

    def end_iteration(self) -> None:
        if self._frames:
            self._bursting = len(self._frames) >= BURST
            self.flush()

    def flush(self) -> None:
        """Write all gathered frames now."""
        frames = self._frames
        if not frames:
            return
        size = self._size
        self._size = 0
        if len(frames) == 1:
            frame = frames[0]
            frames.clear()
            self._write(frame)
        else:
            self._frames = []
            self._write_parts(frames, size)

    def _write(self, data: bytes) -> None:
        network = self.network
        if network is None:
            return
        paused = self.paused
        backlog = self._excess(0) if paused else 0
        self.written += len(data)
        network.write(data)
        if paused:
            self._check_backlog(backlog, len(data))

    def _write_parts(self, parts: list[bytes], size: int) -> None:
        network = self.network
        if network is None:
            return
        paused = self.paused
        backlog = self._excess(0) if paused else 0
        self.written += size
        network.write_parts(parts)
        if paused:
            self._check_backlog(backlog, size)

    # Back-pressure ---------------------------------------------------------------------------------------------

    def accepts(self, queued: int) -> bool:
        """Return whether another message may be sent. If the backlog is over its limit, fail the connection.

        :param queued: the number of bytes that wait for their turn, which count too.
        """
        if self.network is None:
            return False
        backlog = self._excess(queued)
        if backlog:
            self._fail(backlog)
        return backlog == 0

    def _excess(self, queued: int) -> int:
        """Return the backlog if it is over its limit, else 0."""
        if self.network is None or self.exempt or not self._protocol.open:
            return 0
        backlog: int = self.network.backlog() + queued
        return backlog if backlog > self._max_backlog else 0

    def _check_backlog(self, backlog: int, size: int) -> None:
        """Check the limits after `size` bytes were sent although senders should wait.

        This happens after the write, because the bytes may be the rest of a frame: the peer would take a Close frame
        inside it for payload.

        :param backlog: the backlog before the write if it was over its limit, otherwise 0.
        """
        if not self._protocol.open:
            return
        if not self._slow:
            self.check_slow(0)
        if self.exempt:
            return
        self._owned += size
        if backlog:
            self._fail(backlog)
        else:
            self._total.count(self)

    def check_slow(self, queued: int) -> None:
        """Tell the hub if the backlog is over half of its limit, once until it is small again.

        :param queued: as for `accepts`.
        """
        if 2 * (self.backlog() + queued) <= self._max_backlog:
            if not self.paused:
                self._slow = False
        elif not self._slow:
            self._slow = True
            hub = self._hub()
            if hub is not None:
                hub.slow()

    def share(self, size: int) -> None:
        """Do not count the next `size` bytes for `TotalBacklog`: they are a frame that other connections share."""
        if self.network is not None and not self.network.copies:
            self._owned -= size

    def held(self) -> int:
        """Return the number of bytes in the backlog that no other connection shares, for `TotalBacklog`."""
        backlog = 0 if self.network is None else self.network.backlog()
        return max(0, min(self._owned, backlog))

    def drop(self) -> None:
        """Drop the connection: the total backlog of the server is over its limit, and this backlog is the largest."""
        hub = self._hub()
        if hub is not None:
            self._fail(self.held(), " (Limits.max_total_backlog)")
            hub.abort()

    def _fail(self, backlog: int, limit: str = "") -> None:
        hub = self._hub()
        if hub is not None:
            hub.fail(CloseCode.POLICY_VIOLATION, f"too slow: {backlog} sent bytes are unread{limit}", Cause.LIMIT)

    def pause(self) -> None:
        """Make senders wait: the transport is over its high-water mark."""
        self.check_slow(0)
        self.paused = True

    def resume(self) -> None:
        """Let waiting senders continue: the transport is at its low-water mark."""
        self.paused = self._slow = False
        self._owned = 0
        self._total.discard(self)
        drained = self._drained
        self._drained = None
        for future in drained or ():
            if not future.done():
                future.set_result(None)

    def must_wait(self) -> bool:
        """Return whether a sender must wait in `drain`: the backlog is too large, or other tasks have to run first."""
        return self.paused or self.iteration.spend(self._loop)

    async def drain(self) -> None:
        """Wait until the transport is at its low-water mark, at least for one loop iteration.

        Any number of tasks may wait. To be called if `must_wait` says so.
        """
        if not self.paused:
            await sleep(0)
        while self.paused:
            future: Future[None] = self._loop.create_future()
            if self._drained is None:
                self._drained = {}
            self._drained[future] = None
            try:
                await future
            finally:
                if self._drained is not None:
                    self._drained.pop(future, None)

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        """Call a function in a later loop iteration, when senders need not wait or the connection has ended."""
        if not self.paused:
            self._loop.call_soon(callback)
            return
        future: Future[None] = self._loop.create_future()
        future.add_done_callback(lambda _: callback())
        if self._drained is None:
            self._drained = {}
        self._drained[future] = None

    def close(self) -> None:
        """Discard everything and wake waiting senders: the transport is closed."""
        self._frames = []
        self._size = 0
        self.network = None
        self.resume()
