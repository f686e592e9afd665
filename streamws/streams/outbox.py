"""What was sent and has not been handed to the transport.

Inside a batch (while a chunk off the network is worked off) frames are gathered and leave in one write when it ends.
Outside of one, the first frame of a loop turn goes straight out and later ones of the turn are gathered until it ends.
Nothing waits for a timer.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable

from ..net.loops import Turn

FLUSH_SIZE = 64 * 1024
"""Gathered bytes that are not held back for the end of a batch or turn."""

JOIN_SIZE = 16 * 1024
"""Gathered bytes up to which copying them together is cheaper than handing them over one by one."""


def _drop(data: bytes | list[bytes]) -> None:
    """What takes the place of the transport when that is gone."""


class Outbox:
    """The way of all frames to the transport."""

    __slots__ = (
        "_batching",
        "_drained",
        "_flush_size",
        "_frames",
        "_loop",
        "_size",
        "_turn",
        "_turn_number",
        "_write",
        "_write_parts",
        "exempt",
        "paused",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        turn: Turn,
        write: Callable[[bytes], None],
        write_parts: Callable[[list[bytes]], None],
        high: int,
    ) -> None:
        """`write` hands bytes to the transport, `write_parts` some that are better not joined.

        `high` is the transport's high-water mark: what is gathered must not pass it unnoticed.
        """
        self._loop = loop
        self._turn = turn
        self._turn_number = 0  # of the last turn in which something was sent outside a batch
        self._write = write
        self._write_parts = write_parts
        self._frames: list[bytes] = []
        self._size = 0
        self._flush_size = high if high < FLUSH_SIZE else FLUSH_SIZE
        self._batching = False
        self.paused: bool = False
        """Whether the transport holds more than its high-water mark."""
        self.exempt: bool = False
        """Whether what is sent goes on with a message that was let in: then no backlog is too much."""
        self._drained: list[Future[None]] | None = None  # those who wait until it is not

    def put(self, frame: bytes) -> None:
        """Send a frame."""
        # What was gathered goes first, in a new turn too: the flush of another outbox may lead here.
        if not self._batching and not self._frames:
            if self._turn_number != self._turn.number:
                self._turn_number = self._turn.number
                self._turn.begin(self._loop)
                self._write(frame)
                return
            self._turn.add(self)
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= self._flush_size:
            self.flush()

    def put_parts(self, header: bytes, payload: bytes) -> None:
        """Send a frame whose payload is too large to copy it behind its header."""
        self._frames.append(header)
        self._frames.append(payload)
        self._size += len(header) + len(payload)
        self.flush()

    def begin_batch(self) -> None:
        """Gather what is sent until `end_batch`."""
        self._batching = True

    def end_batch(self) -> None:
        """Send what was gathered."""
        self._batching = False
        if self._frames:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the transport now."""
        frames = self._frames
        if not frames:
            return
        size = self._size
        self._size = 0
        if len(frames) == 1:
            frame = frames[0]
            frames.clear()
            self._write(frame)
        elif size < JOIN_SIZE:
            joined = b"".join(frames)
            frames.clear()
            self._write(joined)
        else:
            self._frames = []
            self._write_parts(frames)

    def pause(self) -> None:
        """The transport is over its high-water mark."""
        self.paused = True

    def resume(self) -> None:
        """The transport is at its low-water mark: let those who wait go on."""
        self.paused = False
        drained = self._drained
        self._drained = None
        for future in drained or ():
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Nothing leaves any more."""
        self._frames = []
        self._size = 0
        self._write = self._write_parts = _drop
        self.resume()

    async def drain(self) -> None:
        """Wait until the transport is at its low-water mark. Any number of tasks may."""
        while self.paused:
            future: Future[None] = self._loop.create_future()
            if self._drained is None:
                self._drained = []
            self._drained.append(future)
            try:
                await future
            finally:
                self._forget(future)

    def _forget(self, future: "Future[None]") -> None:
        if self._drained is not None and future in self._drained:
            self._drained.remove(future)
