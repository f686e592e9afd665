"""State shared by all connections of one event loop: receive buffers, the current iteration and timers."""

import sys
from asyncio import AbstractEventLoop, SelectorEventLoop, TimerHandle
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .iteration import Iteration, call_reporting

fast_loops: Any = None
"""The module uvloop, or winloop on Windows, if the `speed` extra is installed."""
try:
    if sys.platform == "win32":
        import winloop

        fast_loops = winloop
    else:
        import uvloop

        fast_loops = uvloop
except ImportError:
    pass

RECEIVE_BUFFER_SIZE = 128 * 1024
"""The most bytes that one read from the network usually receives. Parsing a full buffer of tiny messages keeps the
other connections waiting for about a millisecond."""

LARGE_BUFFER_SIZE = 1024 * 1024
"""The same for the rest of a frame that is larger than `RECEIVE_BUFFER_SIZE`."""


def is_uvloop(loop: AbstractEventLoop) -> bool:
    """Return whether `loop` is a loop of uvloop, or of winloop on Windows."""
    return fast_loops is not None and isinstance(loop, fast_loops.Loop)


def has_own_transports(loop: AbstractEventLoop) -> bool:
    """Return whether connections have transports of our own: `loop.add_reader` watches any descriptor.

    With the loop's own transports, a connection must be an `AsyncioConnection`.
    """
    if sys.platform == "win32":
        return False  # it can only watch sockets
    return isinstance(loop, SelectorEventLoop) or is_uvloop(loop)


class Deadlines:
    """Timeouts of equal length that share one timer of the loop.

    Because all have the same length, they expire in the order in which they were added.
    """

    __slots__ = ("_due", "_loop", "_timer", "seconds")

    def __init__(self, loop: AbstractEventLoop, seconds: float | None) -> None:
        """Create an empty set of timeouts.

        :param seconds: the length of each timeout; None for timeouts that never expire.
        """
        self._loop = loop
        self.seconds: float | None = seconds
        self._due: dict[Callable[[], None], float] = {}
        self._timer: TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, expired: Callable[[], None]) -> bool:
        return expired in self._due

    def add(self, expired: Callable[[], None]) -> None:
        """Call `expired` when the time is over, counted from now. If it was added before, its time starts again."""
        if self.seconds is None:
            return
        self._due.pop(expired, None)
        due = self._loop.time() + self.seconds
        self._due[expired] = due
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def discard(self, expired: Callable[[], None]) -> None:
        """Cancel the timeout of `expired`, if there is one."""
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
            # A function called before this one may have discarded it.
            if self._due.pop(expired, None) is not None:
                call_reporting(expired, self._loop)

    def close(self) -> None:
        """Cancel all timeouts."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LoopShare:
    """Receive buffers and the current iteration, shared by all connections of one loop."""

    __slots__ = ("__weakref__", "_encrypted", "_large_buffer", "buffer", "greedy", "iteration", "poll", "view")

    def __init__(self, greedy: bool) -> None:
        self.greedy: bool = greedy
        """Whether the loop's transports read from one connection repeatedly while each read fills the buffer, before
        they serve the other connections."""
        self.buffer: bytearray = bytearray(RECEIVE_BUFFER_SIZE)
        """The buffer for reads from the network. It is parsed before the callback for the read returns."""
        self.view: memoryview = memoryview(self.buffer)
        """A view of `buffer`, for transports that fill slices of it: a slice of a `bytearray` would be a copy."""
        self._large_buffer: bytearray | None = None
        self._encrypted: bytearray | None = None
        self.poll: Any = None
        """A weak reference to the poll of the loop's sockets; None before there is one."""
        self.iteration: Iteration = Iteration()

    @property
    def large_buffer(self) -> bytearray:
        """The buffer for the rest of a large frame, so that fewer reads are needed; allocated at first use."""
        if self._large_buffer is None:
            self._large_buffer = bytearray(LARGE_BUFFER_SIZE)
        return self._large_buffer

    @property
    def encrypted(self) -> bytearray:
        """The buffer for encrypted data, which is decrypted into `buffer`; allocated at first use."""
        if self._encrypted is None:
            self._encrypted = bytearray(RECEIVE_BUFFER_SIZE)
        return self._encrypted


_shares: "WeakKeyDictionary[AbstractEventLoop, LoopShare]" = WeakKeyDictionary()


def share_of(loop: AbstractEventLoop) -> LoopShare:
    """Return the `LoopShare` of `loop`; create it at first use."""
    share = _shares.get(loop)
    if share is None:
        # libuv's own transports are greedy: they read up to 32 times in a row. The share must not refer to the loop,
        # which is its weak key: otherwise neither would ever be freed.
        share = _shares[loop] = LoopShare(is_uvloop(loop) and not has_own_transports(loop))
    return share
