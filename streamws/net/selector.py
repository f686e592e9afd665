"""A transport over a socket, for loops that tell when one can be read or written (`add_reader`, `add_writer`).

asyncio has one of this kind; but it is plain Python up to the connection, at half a microsecond for each read. uvloop's
costs 1 to 4 % more of a message than this.
"""

import socket
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from ..wire.frames import Buffer
from .network import Receiver
from .sockets import receive_now

_PARTS = 64
"""Pieces that the system is given at a time."""

_NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)


def _name_of(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except OSError:  # the peer is gone already
        return None


def _unchanging(data: Buffer) -> memoryview:
    """Data as it is now: the rest of a message, which was sent in part, is not copied."""
    view = memoryview(data)
    plain = view.format == "B" and view.c_contiguous
    return view if plain and isinstance(view.obj, bytes) else memoryview(bytes(view))


class SelectorTransport:
    """A connected socket as a transport; like asyncio's own, in all that is used of it."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_descriptor",
        "_ended",
        "_error",
        "_exhausted",
        "_high",
        "_hold",
        "_info",
        "_loop",
        "_low",
        "_pausing",
        "_protocol",
        "_reading",
        "_receiver",
        "_size",
        "_sock",
        "_waiting",
    )

    def __init__(self, loop: AbstractEventLoop, sock: socket.socket, protocol: Any) -> None:
        """Take over a connected socket.

        :param sock: does not block; this closes it.
        :param protocol: a `Receiver` that has the other methods of asyncio's protocols too.
        """
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        # Whoever gave the socket may close it too early: until this is closed too, no one else gets the number.
        self._hold = sock.makefile("rb", 0)
        self._protocol = protocol
        self._receiver: Receiver | None = protocol
        self._info = {"socket": sock, "sockname": _name_of(sock.getsockname), "peername": _name_of(sock.getpeername)}
        self._waiting: deque[memoryview] = deque()  # what the socket has not taken yet,
        self._size = 0  # and how many bytes that is
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._pausing = False  # whether the protocol was told to pause writing
        self._reading = False
        self._exhausted = False  # whether the peer has ended its side
        self._ended = False  # whether nothing is written behind what waits
        self._closing = False
        self._error: Exception | None = None  # why nothing can be written any more

    def __repr__(self) -> str:
        return f"<SelectorTransport fd={self._descriptor}{' closing' if self._closing else ''}>"

    def start(self) -> None:
        """Tell the protocol that it is connected, and begin to read."""
        if self._sock.family in (socket.AF_INET, socket.AF_INET6):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol.connection_made(self)
        self.resume_reading()

    # Reading ---------------------------------------------------------------------------------------------------

    def _read_ready(self) -> bool:
        """Read once; whether anything came."""
        if not self._reading:
            return False  # paused or closed by what ran before it in the same turn
        receiver = self._receiver
        assert receiver is not None  # as long as it reads
        try:
            buffer = receiver.get_buffer(-1)
            try:
                count = receive_now(self._descriptor, buffer)
            except OSError as error:
                self._lose(error)
                return False
            if count > 0:
                receiver.buffer_updated(count)
                return True
            if count == 0:
                self._peer_ended()
        except Exception as error:
            context = {"message": f"{self._protocol!r} raised", "exception": error, "transport": self}
            self._loop.call_exception_handler(context)
            self._lose(error)
        return False

    def _peer_ended(self) -> None:
        self.pause_reading()
        self._exhausted = True
        if not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Go on reading."""
        if not self._reading and not self._exhausted and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._read_ready)

    # Writing ---------------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send data; what the socket does not take at once is kept until it does."""
        self.writelines([data])

    def writelines(self, parts: Iterable[Buffer]) -> None:
        """Send several pieces."""
        if self._closing or self._ended:
            return
        first = not self._waiting
        for part in parts:
            if part:
                kept = _unchanging(part)
                self._waiting.append(kept)
                self._size += len(kept)
        if first:
            self._send_waiting()
            if self._waiting:
                self._loop.add_writer(self._descriptor, self._write_ready)
        if self._size > self._high and not self._pausing:
            self._pausing = True
            self._protocol.pause_writing()

    def _write_ready(self) -> None:
        self._send_waiting()
        if self._protocol is None:
            return  # the connection is broken
        if self._pausing and self._size <= self._low:
            self._pausing = False
            self._protocol.resume_writing()
        if self._waiting:
            return
        self._loop.remove_writer(self._descriptor)
        if self._closing:
            self._lose(None)
        elif self._ended:
            self._shut_down()

    def _send_waiting(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        try:
            count = self._sock.sendmsg(list(islice(waiting, _PARTS)), (), _NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._cannot_write(error)
            return
        self._size -= count
        while waiting and count >= len(waiting[0]):
            count -= len(waiting.popleft())
        if count:
            waiting[0] = waiting[0][count:]

    def _cannot_write(self, error: OSError) -> None:
        """The peer is gone. What came before that, such as its Close frame, is still there to be read."""
        self._error = error
        self._ended = True
        self._waiting.clear()
        self._size = 0
        self._loop.call_soon(self._read_last)

    def _read_last(self) -> None:
        if self._read_ready():
            self._loop.call_soon(self._read_last)
        else:
            self._lose(None)

    def write_eof(self) -> None:
        """End this side, when all that waits is sent; the peer's is still read."""
        if not self._closing and not self._ended:
            self._ended = True
            if not self._waiting:
                self._shut_down()

    def _shut_down(self) -> None:
        with suppress(OSError):  # the peer is gone: reading tells
            self._sock.shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        """Whether this side can end before the peer's: always."""
        return True

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """From how many waiting bytes the protocol is told to pause writing, and down to how many to resume."""
        self._high = high
        self._low = low

    def get_write_buffer_size(self) -> int:
        """Bytes that wait until the socket takes them."""
        return self._size

    # Ending ----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or will be when all that waits is sent."""
        return self._closing

    def close(self) -> None:
        """Send what waits, and close the socket."""
        if not self._closing:
            self._closing = True
            self.pause_reading()
            if not self._waiting:
                self._lose(None)

    def abort(self) -> None:
        """Close the socket."""
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._protocol is None:
            return
        self._closing = True
        self.pause_reading()
        if self._waiting:
            self._loop.remove_writer(self._descriptor)
            self._waiting.clear()
            self._size = 0
        protocol, self._protocol = self._protocol, None
        self._receiver = None
        self._loop.call_soon(self._tell, protocol, self._error or error)

    def _tell(self, protocol: Any, error: Exception | None) -> None:
        try:
            protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._hold.close()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """`socket`, `sockname` or `peername`."""
        return self._info.get(name, default)
