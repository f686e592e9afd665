"""The sending half of a connection: gathers frames and writes them to the network.

Inside a batch, while a received chunk is processed, frames are gathered and leave in one write at its end. Outside a
batch, the first frame of a loop iteration is written at once, and later ones are gathered until the iteration ends.
After a burst, the first frame of the next iteration is gathered too, so that the next burst leaves in one write.
Nothing waits for a timer.
"""

from asyncio import AbstractEventLoop, Future, sleep
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
        "_protocol",
        "_size",
        "exempt",
        "iteration",
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
    ) -> None:
        self._loop = loop
        self.iteration: Iteration = iteration
        """The current iteration of the loop, which knows the loop's thread."""
        self._protocol = protocol
        self.network: Network | None = network
        self._hub = hub
        self._iteration_number = 0  # the number of the last loop iteration in which a frame was sent outside a batch
        self._frames: list[bytes] = []  # the gathered frames
        self._size = 0  # the number of gathered bytes
        self._max_backlog = limits.max_write_backlog
        # Gather less if the high-water mark is lower, so that the transport notices soon that it is exceeded.
        self._flush_size = limits.write_high if limits.write_high < FLUSH_SIZE else FLUSH_SIZE
        self._batching = False  # whether a batch has begun and not ended
        self._bursting = False  # whether many frames were sent in the last iteration in which any was
        self.paused: bool = False
        """Whether senders must wait, because the transport holds more bytes than its high-water mark."""
        self.exempt: bool = False
        """Whether the frames belong to a message that was accepted already: `max_write_backlog` is then not checked."""
        self.written: int = 0
        """The number of bytes written to the network since the connection opened."""
        self._drained: dict[Future[None], None] | None = None  # one for each task that waits in `drain`, in order

    # Threads ---------------------------------------------------------------------------------------------------

    def is_foreign(self) -> bool:
        """Return whether this is another thread than that of the loop. Only that may use the connection."""
        return self.iteration.is_foreign(self._loop)

    def check_thread(self, call: str) -> None:
        """Raise `UsageError` if `call` is made in another thread than that of the loop."""
        self.iteration.check_thread(self._loop, call)

    def check_await(self, call: str) -> None:
        """Raise `UsageError` if the result of `call` is awaited in another thread than that of the loop."""
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
        for frame in due:
            self.put(frame)

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
        backlog = self._excess(0) if self.paused else 0
        self.written += len(data)
        network.write(data)
        if backlog:
            # Only now: `data` may be the rest of a frame, and in it the peer would take a Close frame for payload.
            self._fail(backlog)

    def _write_parts(self, parts: list[bytes], size: int) -> None:
        network = self.network
        if network is None:
            return
        backlog = self._excess(0) if self.paused else 0
        self.written += size
        network.write_parts(parts)
        if backlog:
            self._fail(backlog)

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

    def _fail(self, backlog: int) -> None:
        hub = self._hub()
        if hub is not None:
            hub.fail(CloseCode.POLICY_VIOLATION, f"too slow: {backlog} sent bytes are unread", Cause.LIMIT)

    def pause(self) -> None:
        """Make senders wait: the transport is over its high-water mark."""
        self.paused = True

    def resume(self) -> None:
        """Let waiting senders continue: the transport is at its low-water mark."""
        self.paused = False
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

    def close(self) -> None:
        """Discard everything and wake waiting senders: the transport is closed."""
        self._frames = []
        self._size = 0
        self.network = None
        self.resume()
