"""A transport over a socket, for loops that tell when one can be read or written (`add_reader`, `add_writer`).

asyncio has one of this kind; but it is plain Python up to the connection, at half a microsecond for each read.
"""

import os
import socket
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from .network import Receiver
from .wire.frames import Buffer
from .wire.kernels import receive_now

_PARTS = 64
"""Pieces that the system is given at a time."""


_NO_ONE = Receiver()


def _name_of(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except OSError:  # the peer is gone already
        return None


class SelectorTransport:
    """A connected socket as a transport; like asyncio's own, in all that is used of it."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_descriptor",
        "_ended",
        "_high",
        "_info",
        "_loop",
        "_low",
        "_over",
        "_protocol",
        "_reading",
        "_receiver",
        "_size",
        "_sock",
        "_waiting",
    )

    def __init__(self, loop: AbstractEventLoop, sock: socket.socket, protocol: Any) -> None:
        """
        :param sock: does not block; this closes it.
        :param protocol: a `Receiver` that has the other methods of asyncio's protocols too.
        """
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._protocol = protocol
        self._receiver: Receiver = protocol
        self._info = {"socket": sock, "sockname": _name_of(sock.getsockname), "peername": _name_of(sock.getpeername)}
        self._waiting: deque[memoryview] = deque()  # what the socket has not taken yet,
        self._size = 0  # and how many bytes that is
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._over = False  # whether the protocol was told to pause writing
        self._reading = False
        self._ended = False  # whether nothing is written behind what waits
        self._closing = False

    def __repr__(self) -> str:
        return f"<SelectorTransport fd={self._descriptor}{' closing' if self._closing else ''}>"

    def start(self) -> None:
        """Tell the protocol that it is connected, and begin to read."""
        if self._sock.family in (socket.AF_INET, socket.AF_INET6):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol.connection_made(self)
        self.resume_reading()

    # Reading ---------------------------------------------------------------------------------------------------

    def _read_ready(self) -> None:
        if not self._reading:
            return  # paused or closed by what ran before it in the same turn
        receiver = self._receiver
        try:
            count = receive_now(self._descriptor, receiver.get_buffer(-1))
        except OSError as error:
            self._lose(error)
            return
        try:
            if count > 0:
                receiver.buffer_updated(count)
            elif count == 0:
                self._peer_ended()
        except Exception as error:
            context = {"message": f"{self._protocol!r} raised", "exception": error, "transport": self}
            self._loop.call_exception_handler(context)
            self._lose(error)

    def _peer_ended(self) -> None:
        self.pause_reading()
        if not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Go on reading."""
        if not self._reading and not self._closing:
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
            if len(part):
                self._waiting.append(memoryview(part if isinstance(part, bytes) else bytes(part)))
                self._size += len(part)
        if first:
            self._send_waiting()
            if self._waiting:
                self._loop.add_writer(self._descriptor, self._write_ready)
        if self._size > self._high and not self._over:
            self._over = True
            self._protocol.pause_writing()

    def _write_ready(self) -> None:
        self._send_waiting()
        if self._protocol is None:
            return  # the connection is broken
        if self._over and self._size <= self._low:
            self._over = False
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
            count = os.writev(self._descriptor, list(islice(waiting, _PARTS)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        self._size -= count
        while waiting and count >= len(waiting[0]):
            count -= len(waiting.popleft())
        if count:
            waiting[0] = waiting[0][count:]

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
        protocol, self._protocol, self._receiver = self._protocol, None, _NO_ONE
        self._loop.call_soon(self._tell, protocol, error)

    def _tell(self, protocol: Any, error: Exception | None) -> None:
        try:
            protocol.connection_lost(error)
        finally:
            self._sock.close()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """`socket`, `sockname` or `peername`."""
        return self._info.get(name, default)
