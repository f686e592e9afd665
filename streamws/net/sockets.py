"""System calls on a non-blocking socket, in plain Python.

`sockets.pyx` is the same in C: the same names, results and exceptions.
"""

import os
import select
import socket
import struct
from collections.abc import Sequence
from threading import get_ident
from typing import Any

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HAS_EPOLL: bool = hasattr(select, "epoll")
"""Whether this system has epoll. Linux has."""

READ = 1
"""The event of a descriptor that can be read from; the same as `select.EPOLLIN`."""

WRITE = 4
"""The event of a descriptor that can be written to; the same as `select.EPOLLOUT`."""

BROKEN = 0x18
"""The events that are always watched: an error, and the end of both directions (EPOLLERR, EPOLLHUP)."""

MAX_EVENTS = 64
"""The most events that `Epoll.wait` returns at once."""


def thread_number() -> int:
    """Return the identifier of the current thread. A later thread may get the same one."""
    return get_ident()


class Epoll:
    """An epoll. Each descriptor is watched under a generation, by which an event that is out of date is recognised.

    A child process made by `fork` inherits the epoll, and would change what its parent watches. So all methods do
    nothing in another process than the one that created it.
    """

    __slots__ = ("_epoll", "_events", "_generations", "_process")

    def __init__(self) -> None:
        self._process = os.getpid()
        self._epoll: Any = select.epoll()
        self._generations: dict[int, int] = {}
        self._events: list[tuple[int, int, int]] = []

    def fileno(self) -> int:
        """Return the descriptor of the epoll itself; -1 if it is closed."""
        return -1 if self._epoll.closed else int(self._epoll.fileno())

    def is_inherited(self) -> bool:
        """Return whether this process is a child that has inherited the epoll."""
        return os.getpid() != self._process

    def add(self, descriptor: int, generation: int, events: int) -> None:
        """Watch a descriptor that is not watched.

        :raises OSError: if the system cannot watch it.
        """
        if not self.is_inherited():
            self._epoll.register(descriptor, events)
            self._generations[descriptor] = generation

    def modify(self, descriptor: int, generation: int, events: int) -> None:
        """Watch other events of a descriptor that is watched."""
        if not self.is_inherited():
            self._epoll.modify(descriptor, events)
            self._generations[descriptor] = generation

    def remove(self, descriptor: int) -> None:
        """Stop watching a descriptor, which must still be open."""
        if not self.is_inherited():
            self._epoll.unregister(descriptor)
            del self._generations[descriptor]

    def wait(self) -> int:
        """Ask for events without waiting for them; return their number. They replace those of the call before."""
        if self.is_inherited():
            return 0
        ready = self._epoll.poll(0, MAX_EVENTS)
        self._events = [(descriptor, self._generations.get(descriptor, 0), events) for descriptor, events in ready]
        return len(ready)

    def descriptor(self, index: int) -> int:
        """Return the descriptor of an event."""
        return self._events[index][0]

    def generation(self, index: int) -> int:
        """Return the generation under which the descriptor of an event was watched."""
        return self._events[index][1]

    def events(self, index: int) -> int:
        """Return what has happened: a combination of `READ`, `WRITE` and `BROKEN`."""
        return self._events[index][2]

    def close(self) -> None:
        """Close the epoll."""
        self._epoll.close()


def accept_now(sock: socket.socket, descriptor: int) -> tuple[int, object] | None:
    """Accept a connection from a listening socket.

    :param descriptor: the descriptor of `sock`.
    :returns: the descriptor of the connection, which does not block, and the peer's address for `address_of`. None if
        no connection is waiting.
    :raises OSError: if a connection cannot be accepted.
    """
    try:
        connection, address = sock.accept()
    except (BlockingIOError, InterruptedError):
        return None
    connection.setblocking(False)
    return connection.detach(), address


def address_of(accepted: object) -> object:
    """Return the address that `accept_now` has returned, as the `socket` module shows it."""
    return accepted


_MAX_PARTS = 1024
"""The most parts that one system call writes (`IOV_MAX`)."""


def send_now(descriptor: int, data: bytes) -> int:
    """Write bytes to a socket.

    :returns: the number of bytes written; 0 if the socket accepts none now.
    :raises OSError: if the connection is broken.
    """
    try:
        return os.write(descriptor, data)
    except (BlockingIOError, InterruptedError):
        return 0


def send_parts_now(descriptor: int, parts: Sequence[bytes | memoryview], first: int, start: int) -> int:
    """Write several parts in as few system calls as possible, up to a few hundred KiB; otherwise like `send_now`.

    :param parts: a list of `bytes`, or of views of single bytes.
    :param first: the index of the first part to write.
    :param start: the number of bytes of this part to leave out.
    """
    try:
        return os.writev(descriptor, [memoryview(parts[first])[start:], *parts[first + 1 : first + _MAX_PARTS]])
    except (BlockingIOError, InterruptedError):
        return 0


def receive_now(descriptor: int, buffer: memoryview) -> int:
    """Read from a socket into a buffer.

    :returns: the number of bytes read; 0 at the end of the stream, -1 if there is nothing to read now.
    :raises OSError: if the connection is broken.
    """
    try:
        return os.readv(descriptor, [buffer])
    except (BlockingIOError, InterruptedError):
        return -1


def count_unacknowledged(descriptor: int) -> int:
    """Return the number of sent bytes that the peer's system has not acknowledged; 0 if this system cannot tell."""
    if fcntl is None:
        return 0
    try:
        size: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:  # not supported for this kind of socket
        return 0
    return size
