"""Tells sockets when they can be read from or written to.

On Linux, all sockets of a loop are in one epoll, and the loop watches only that epoll. The loop's own way to watch a
socket costs a Python callback for each event. A `Poll` calls compiled code instead, for all events of an iteration.
"""

import logging
from asyncio import AbstractEventLoop
from time import monotonic
from typing import Any
from weakref import ref

from .iteration import Iteration, report
from .loops import share_of
from .sockets import BROKEN, HAS_EPOLL, READ, WRITE, Epoll

logger: logging.Logger = logging.getLogger("streamws")

_MAX_SECONDS = 0.002
"""The time after which the loop runs other callbacks before it continues with the events."""


class Watched:
    """A socket that a poll watches."""

    __slots__ = ("descriptor", "events", "generation")

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int = descriptor
        self.events: int = 0
        """The events that are watched: a combination of `READ` and `WRITE`. Only the poll changes it."""
        self.generation: int = 0
        """A number that the poll gives the socket when it begins to watch it."""

    def release(self) -> int:
        """Return the descriptor, which is about to be closed; from now on it is -1."""
        descriptor = self.descriptor
        self.descriptor = -1
        return descriptor

    def read_ready(self) -> object:
        """The socket can be read from, or is broken."""
        raise NotImplementedError

    def write_ready(self) -> None:
        """The socket can be written to, or is broken."""
        raise NotImplementedError


class Poll:
    """The epoll of one loop. It exists as long as a socket uses it."""

    __slots__ = ("__weakref__", "_count", "_entries", "_epoll", "_generation", "_iteration", "_loop", "_next", "_users")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop: Any = ref(loop)  # the loop refers to the poll
        self._iteration: Iteration = share_of(loop).iteration
        self._epoll: Epoll = Epoll()
        self._entries: list[Watched | None] = []  # by descriptor
        self._generation = 0
        self._users = 0
        # If time runs out, the next iteration continues with the events that are left. Otherwise the sockets at the
        # end would never be served, because epoll would report those at the beginning first.
        self._count = 0  # the number of events
        self._next = 0  # the index of the next event to process
        loop.add_reader(self._epoll.fileno(), self._process)

    def attach(self) -> None:
        """Note that a socket uses the poll."""
        self._users += 1

    def detach(self) -> None:
        """Note that a socket does not use the poll any more. The last one closes it."""
        self._users -= 1
        if not self._users:
            loop = self._loop()
            # The loop of a child process has inherited its own epoll too, so that it would change its parent's.
            if loop is not None and not loop.is_closed() and not self._epoll.is_inherited():
                loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._count = self._next = 0

    def is_closed(self) -> bool:
        """Return whether no socket can use the poll any more."""
        return self._epoll.fileno() < 0

    def watch(self, watched: Watched, events: int) -> None:
        """Watch these events of a socket: `READ`, `WRITE`, both, or 0 for none.

        A socket without events leaves the epoll: a broken connection would be reported again and again otherwise. A
        socket must leave it before its descriptor is closed, because a copy of the descriptor, for example in a child
        process, would keep it in the epoll, and then it could not be removed any more.

        :raises OSError: if the system cannot watch the socket.
        """
        before = watched.events
        if events == before or self._epoll.fileno() < 0:
            return
        descriptor = watched.descriptor
        entries = self._entries
        if not events:
            entries[descriptor] = None
            watched.events = 0
            self._epoll.remove(descriptor)
        elif before:
            self._epoll.modify(descriptor, watched.generation, events)
            watched.events = events
        else:
            while len(entries) <= descriptor:
                entries.append(None)
            self._generation = (self._generation + 1) & 0xFFFFFFFF
            watched.generation = self._generation
            self._epoll.add(descriptor, watched.generation, events)
            watched.events = events
            entries[descriptor] = watched

    def _process(self) -> None:
        """Process the events of the sockets, up to a number and for a time."""
        self._iteration.enter()
        epoll = self._epoll
        if self._next >= self._count:
            self._next = 0
            self._count = epoll.wait()
        start = monotonic()
        debug = self._is_debugging()
        before = start
        while self._next < self._count:
            index = self._next
            self._next = index + 1
            descriptor = epoll.descriptor(index)
            watched = self._entries[descriptor]
            # Since the epoll was asked, another socket may have got the same descriptor.
            if watched is None or watched.generation != epoll.generation(index):
                continue
            self._serve(watched, epoll.events(index))
            now = monotonic()
            if debug:
                self._warn_if_slow(watched, now - before)
                before = now
            if now - start > _MAX_SECONDS:
                break

    def _serve(self, watched: Watched, events: int) -> None:
        """Call a socket for its events. An exception is reported to the loop, so that the others are still served."""
        try:
            if events & (READ | BROKEN) and watched.events & READ:
                watched.read_ready()
            if events & (WRITE | BROKEN) and watched.events & WRITE:
                watched.write_ready()
        except Exception as error:
            loop = self._loop()
            if loop is not None:
                report(watched, error, loop)

    def _is_debugging(self) -> bool:
        loop = self._loop()
        return loop is not None and bool(loop.get_debug())

    def _warn_if_slow(self, watched: Watched, seconds: float) -> None:
        """Log which socket took long, as asyncio does for callbacks in debug mode."""
        loop = self._loop()
        if loop is not None and seconds >= loop.slow_callback_duration:
            logger.warning("processing the events of %r took %.3f seconds", watched, seconds)


class LoopPoll:
    """Does the same by the loop's own `add_reader` and `add_writer`, on systems without epoll."""

    __slots__ = ("_loop",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def attach(self) -> None:
        """Do nothing: `Poll` counts its sockets."""

    def detach(self) -> None:
        """Do nothing: `Poll` counts its sockets."""

    def watch(self, watched: Watched, events: int) -> None:
        """Watch these events of a socket, as `Poll.watch` does."""
        changed = events ^ watched.events
        watched.events = events
        descriptor = watched.descriptor
        if changed & READ and events & READ:
            self._loop.add_reader(descriptor, watched.read_ready)
        elif changed & READ:
            self._loop.remove_reader(descriptor)
        if changed & WRITE and events & WRITE:
            self._loop.add_writer(descriptor, watched.write_ready)
        elif changed & WRITE:
            self._loop.remove_writer(descriptor)


def poll_of(loop: AbstractEventLoop) -> Any:
    """Return the `Poll` of a loop, or a `LoopPoll` on systems without epoll. It is created if there is none."""
    if not HAS_EPOLL:
        return LoopPoll(loop)
    share = share_of(loop)
    poll = None if share.poll is None else share.poll()
    if poll is None or poll.is_closed():
        poll = Poll(loop)
        # A weak reference, because the poll's sockets refer to the loop, and the loop is the weak key of the share.
        share.poll = ref(poll)
    return poll
