"""What the connections of one event loop share: a receive buffer, the end of a turn, and deadlines; and the system."""

import socket
import struct
from asyncio import AbstractEventLoop, TimerHandle, get_running_loop
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

RECEIVE_BUFFER_SIZE = 128 * 1024
"""Bytes that one read from the network takes at most: a full one of tiny messages holds the others up for a ms,"""

LARGE_BUFFER_SIZE = 1024 * 1024
"""except for the rest of a frame that is larger than that."""


class Flushable(Protocol):
    """What has something to send at the end of the turn."""

    def flush(self) -> None: ...


def _run(function: Callable[[], None], loop: AbstractEventLoop | None = None) -> None:
    """Call for one connection; if it raises, the others that share the loop do not miss their turn."""
    try:
        function()
    except Exception as error:
        context = {"message": f"{function!r} raised", "exception": error}
        (loop or get_running_loop()).call_exception_handler(context)


class Iteration:
    """The current turn of a loop: what was gathered during it is sent when it ends."""

    __slots__ = ("_scheduled", "_waiting", "number")

    def __init__(self) -> None:
        self._waiting: list[Flushable] = []
        self._scheduled = False
        self.number: int = 1
        """Counts the turns in which anything was sent."""

    def begin(self, loop: AbstractEventLoop) -> None:
        """Have the end of this turn noticed."""
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._end)

    def add(self, outbox: Flushable) -> None:
        """Flush `outbox` when the turn ends."""
        self._waiting.append(outbox)

    def _end(self) -> None:
        self._scheduled = False
        self.number += 1
        waiting = self._waiting
        self._waiting = []
        for outbox in waiting:
            _run(outbox.flush)


class Deadlines:
    """Many waits of the same length, on one timer of the loop.

    Since all take the same time, they come due in the order in which they began.
    """

    __slots__ = ("_due", "_loop", "_timer", "seconds")

    def __init__(self, loop: AbstractEventLoop, seconds: float | None) -> None:
        """`seconds`: how long each wait takes; None for waits that never end."""
        self._loop = loop
        self.seconds: float | None = seconds
        self._due: dict[Callable[[], None], float] = {}
        self._timer: TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, expired: Callable[[], None]) -> bool:
        return expired in self._due

    def add(self, expired: Callable[[], None]) -> None:
        """Call `expired` when the time is over, counted from now."""
        if self.seconds is None:
            return
        self._due.pop(expired, None)
        due = self._loop.time() + self.seconds
        self._due[expired] = due
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def discard(self, expired: Callable[[], None]) -> None:
        """The wait is over in time."""
        self._due.pop(expired, None)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        over: list[Callable[[], None]] = []
        for expired, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                break
            over.append(expired)
        for expired in over:
            # One that was called may have discarded another.
            if self._due.pop(expired, None) is not None:
                _run(expired, self._loop)

    def close(self) -> None:
        """Forget all waits."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LoopShare:
    """What the connections of one loop share."""

    __slots__ = ("__weakref__", "_encrypted", "_large_buffer", "buffer", "greedy", "iteration", "view")

    def __init__(self, greedy: bool) -> None:
        self.greedy: bool = greedy
        """Whether the loop reads from one connection again and again, while that fills the buffer, before others."""
        self.buffer: bytearray = bytearray(RECEIVE_BUFFER_SIZE)
        """Where each read from the network goes; parsed before the callback that filled it returns."""
        self.view: memoryview = memoryview(self.buffer)
        """The same as transports want it: asyncio's TLS fills slices of it, which must not be copies."""
        self._large_buffer: bytearray | None = None
        self._encrypted: bytearray | None = None
        self.iteration: Iteration = Iteration()

    @property
    def large_buffer(self) -> bytearray:
        """The same for the rest of a large frame: fewer and larger reads."""
        if self._large_buffer is None:
            self._large_buffer = bytearray(LARGE_BUFFER_SIZE)
        return self._large_buffer

    @property
    def encrypted(self) -> bytearray:
        """Where reads go that are decrypted from there into `buffer`; made at first use."""
        if self._encrypted is None:
            self._encrypted = bytearray(RECEIVE_BUFFER_SIZE)
        return self._encrypted


_shares: "WeakKeyDictionary[AbstractEventLoop, LoopShare]" = WeakKeyDictionary()


def share_of(loop: AbstractEventLoop) -> LoopShare:
    """The one share of `loop`."""
    share = _shares.get(loop)
    if share is None:
        # libuv does, up to 32 times. The share must not refer to the loop, its key.
        share = _shares[loop] = LoopShare(type(loop).__module__.startswith(("uvloop", "winloop")))
    return share


def held_by_system(sock: socket.socket) -> int:
    """Bytes that the system holds of what was sent, since the peer has not taken them; 0 where it does not tell."""
    if fcntl is None:
        return 0
    try:
        size: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:  # not every system knows it of every socket
        return 0
    return size
