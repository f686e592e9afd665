"""A transport over a socket, for loops that watch file descriptors (`add_reader`, `add_writer`).

asyncio has such a transport, but it is written in Python. This one is called by the `Poll`, in compiled code.
"""

import os
import socket
import sys
import warnings
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ..wire.frames import Buffer
from .addresses import is_tcp
from .network import DirectTransport, Receiver
from .poll import poll_of
from .sockets import READ, WRITE, address_of, receive_now, send_now, send_parts_now

_COMPACT_FROM = 64
"""The number of written parts above which it is worth removing them from the start of the queue."""


def _name_of(method: Callable[[], object]) -> object:
    """Return the address that a method of the socket returns; None if the peer has already disconnected."""
    try:
        return method()
    except OSError:
        return None


def _unchanging(data: Buffer) -> bytes | memoryview:
    """Return the data as `bytes` or an immutable view; copy it only if its buffer can change."""
    if type(data) is bytes:
        return data
    view = memoryview(data)
    plain = view.format == "B" and view.c_contiguous
    return view if plain and isinstance(view.obj, bytes) else memoryview(bytes(view))


class SelectorTransport(DirectTransport):
    """A transport over a connected socket. It has those methods of asyncio's transports that streamws uses."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_descriptor_hold",
        "_eof_received",
        "_error",
        "_high",
        "_local",
        "_loop",
        "_low",
        "_peer",
        "_poll",
        "_protocol",
        "_queue",
        "_queue_head",
        "_queue_size",
        "_reading",
        "_receiver",
        "_sock",
        "_writing_ended",
        "_writing_paused",
        "_written",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        poll: Any,
        protocol: Any,
        descriptor: int,
        sock: socket.socket | None,
        peer: object,
        local: object = None,
    ) -> None:
        """Create the transport of a connected socket; see `over_socket`. `start` starts it.

        :param poll: the `Poll` of the loop, or a `LoopPoll`.
        :param protocol: a `Receiver`, which also is an `asyncio.BufferedProtocol`.
        :param descriptor: the descriptor of the socket, which must be non-blocking. The transport closes it.
        :param sock: the socket object; None if there is none yet.
        :param peer: the peer's address for `address_of`; None if it is not known.
        :param local: this side's address, which is then known after the end too; None to ask the socket.
        """
        super().__init__(descriptor)
        self._loop = loop
        self._poll = poll
        self._peer = peer
        self._local = local
        self._sock = sock
        self._descriptor_hold: Any = None if sock is None else hold_descriptor(sock)
        self._protocol = protocol  # None once the transport is closed
        self._receiver: Receiver | None = protocol  # the same object, with its C type
        self._queue: list[Any] = []  # parts that have not been written to the socket: references, no copies
        self._queue_head = 0  # the index in the queue of the first part that was not written completely
        self._written = 0  # the number of bytes of that part that were written
        self._queue_size = 0  # the number of bytes in the queue that were not written
        self._high = 64 * 1024  # the high-water mark
        self._low = 16 * 1024  # the low-water mark
        self._writing_paused = False  # whether `pause_writing` was called last, and not `resume_writing`
        self._reading = False  # whether the poll watches the socket for data to read
        self._eof_received = False  # whether the peer has closed its sending side
        self._writing_ended = False  # whether nothing can be added to the queue any more
        self._closing = False  # whether the transport is closed, or will be when the queue is empty
        self._error: Exception | None = None  # why a write failed
        poll.attach()

    def __repr__(self) -> str:
        return f"<SelectorTransport fd={self.descriptor}{' closing' if self._closing else ''}>"

    def __del__(self) -> None:
        if self.descriptor >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                self._close_socket()

    def start(self) -> None:
        """Call `connection_made` and begin to read."""
        self._protocol.connection_made(self)
        self.resume_reading()

    # Reading ---------------------------------------------------------------------------------------------------

    def read_ready(self) -> bool:
        """Read once; return whether any bytes were read."""
        if not self._reading:
            return False  # another callback of this loop iteration has paused or closed the transport
        receiver = self._receiver
        assert receiver is not None  # it is set as long as the transport is reading
        try:
            buffer = receiver.get_buffer(-1)
            try:
                count = receive_now(self.descriptor, buffer)
            except OSError as error:
                self._lose(error)
                return False
            if count > 0:
                receiver.buffer_updated(count)
                return True
            if count == 0:
                self._receive_eof()
        except Exception as error:
            context = {"message": f"{self._protocol!r} raised", "exception": error, "transport": self}
            self._loop.call_exception_handler(context)
            self._lose(error)
        return False

    def _receive_eof(self) -> None:
        self.pause_reading()
        self._eof_received = True
        if not self._protocol.eof_received():
            self.close()

    def is_reading(self) -> bool:
        """Return whether received data is delivered."""
        return self._reading

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading` is called."""
        if self._reading:
            self._reading = False
            self._poll.watch(self, self.events & ~READ)

    def resume_reading(self) -> None:
        """Resume reading, unless there is nothing more to read."""
        if not self._reading and not self._eof_received and not self._closing:
            self._reading = True
            self._poll.watch(self, self.events | READ)
            if self._error is not None:
                self._loop.call_soon(self._read_remaining)

    # Writing ---------------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Write data to the socket; queue the bytes that cannot be written now."""
        self.writelines([data])

    def writelines(self, parts: Iterable[Buffer]) -> None:
        """Write several parts without joining them."""
        self.write_parts([_unchanging(part) for part in parts if part])

    def write_bytes(self, data: bytes) -> None:
        if self._closing or self._writing_ended:
            return
        if self._queue_size:
            self._queue.append(data)
            self._queue_size += len(data)
        else:
            try:
                sent = send_now(self.descriptor, data)
            except OSError as error:
                self._fail_writing(error)
                return
            if sent == len(data):
                return
            self._queue = [data]
            self._queue_size = len(data)
            self._wait_writable(sent)
        if self._queue_size > self._high:
            self._pause_writing()

    def write_parts(self, parts: list[Any]) -> None:
        if self._closing or self._writing_ended or not parts:
            return
        size = 0
        for part in parts:
            size += len(part)
        if self._queue_size:
            self._queue.extend(parts)
            self._queue_size += size
        else:
            try:
                sent = send_parts_now(self.descriptor, parts, 0, 0)
            except OSError as error:
                self._fail_writing(error)
                return
            if sent == size:
                return
            self._queue = parts
            self._queue_size = size
            self._wait_writable(sent)
        if self._queue_size > self._high:
            self._pause_writing()

    def _wait_writable(self, sent: int) -> None:
        """Write the rest of a new queue, of which `sent` bytes were written, when the socket accepts it."""
        self._queue_head = self._written = 0
        self._remove_written(sent)
        self._poll.watch(self, self.events | WRITE)

    def _remove_written(self, count: int) -> None:
        """Remove `count` bytes, which were written, from the queue."""
        self._queue_size -= count
        if self._queue_size == 0:
            self._clear_queue()
            return
        queue = self._queue
        head = self._queue_head
        count += self._written
        while count >= len(queue[head]):
            count -= len(queue[head])
            queue[head] = None
            head += 1
        if head > _COMPACT_FROM and 2 * head > len(queue):
            del queue[:head]
            head = 0
        self._queue_head = head
        self._written = count

    def _clear_queue(self) -> None:
        self._queue = []
        self._queue_head = self._written = self._queue_size = 0

    def _pause_writing(self) -> None:
        """Make senders wait: the queue is over the high-water mark."""
        if not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def write_ready(self) -> None:
        """Write the queue."""
        self._write_queue()
        if self._protocol is None:
            return  # the connection was lost
        if self._writing_paused and self._queue_size <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._queue_size:
            return
        self._poll.watch(self, self.events & ~WRITE)
        if self._closing:
            self._lose(None)
        elif self._writing_ended:
            self._shut_down()

    def _write_queue(self) -> None:
        """Write as much of the queue as the socket accepts now."""
        if not self._queue_size:
            return
        try:
            sent = send_parts_now(self.descriptor, self._queue, self._queue_head, self._written)
        except OSError as error:
            self._fail_writing(error)
            return
        self._remove_written(sent)

    def _fail_writing(self, error: OSError) -> None:
        """Handle a failed write: the peer has disconnected.

        Data that it sent before, such as a Close frame, may still be in the socket. So read that first.
        """
        self._error = error
        self._writing_ended = True
        self._clear_queue()
        if sys.platform == "linux":  # other systems would discard what has arrived
            # The peer of a Unix socket can close its receiving side alone, and go on sending: what it sent before can
            # still be read, but it can send no more. A TCP connection has ended in both directions.
            with suppress(OSError):
                self._socket().shutdown(socket.SHUT_RD)
        self._loop.call_soon(self._read_remaining)
        self._protocol.writing_failed()

    def _read_remaining(self) -> None:
        if not (self._reading or self._eof_received or self._closing):
            return  # `resume_reading` continues
        if self.read_ready():
            self._loop.call_soon(self._read_remaining)
        else:
            self._lose(None)

    def write_eof(self) -> None:
        """Close the sending side of the connection when the queue is empty. Data is still received."""
        if not self._closing and not self._writing_ended:
            self._writing_ended = True
            if not self._queue_size:
                self._shut_down()

    def _shut_down(self) -> None:
        with suppress(OSError):  # the peer has disconnected: the next read reports it
            self._socket().shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        """Return True: the sending side can always be closed alone."""
        return True

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Set the high-water and low-water marks for writing, in bytes."""
        self._high = high
        self._low = low

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that have not been written to the socket."""
        return self._queue_size

    # Ending ----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Return whether the transport is closed, or will be when the queue is empty."""
        return self._closing

    def close(self) -> None:
        """Write the queue, then close the socket."""
        if not self._closing:
            self._closing = True
            self.pause_reading()
            if not self._queue_size:
                self._lose(None)

    def abort(self) -> None:
        """Close the socket at once; queued bytes are not written."""
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        """Stop reading and writing; call `connection_lost` and close the socket in the next loop iteration."""
        if self._protocol is None:
            return
        self._closing = True
        self._reading = False
        self._poll.watch(self, 0)
        if self._queue_size:
            self._clear_queue()
        protocol, self._protocol = self._protocol, None
        self._receiver = None
        self._loop.call_soon(self._call_connection_lost, protocol, self._error or error)

    def _call_connection_lost(self, protocol: Any, error: Exception | None) -> None:
        try:
            protocol.connection_lost(error)
        finally:
            self._close_socket()

    def _close_socket(self) -> None:
        self._poll.watch(self, 0)
        self._poll.detach()
        descriptor = self.release()
        if self._sock is None:
            os.close(descriptor)
        else:
            self._sock.close()
            self._descriptor_hold.close()

    # About the connection --------------------------------------------------------------------------------------

    def _socket(self) -> socket.socket:
        """Return the socket object; make it at first use, because few applications ask for it."""
        if self._sock is None:
            self._sock = socket.socket(fileno=self.descriptor)
            self._sock.setblocking(False)
            self._descriptor_hold = hold_descriptor(self._sock)
        return self._sock

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return the `socket`, its `sockname` or its `peername`.

        The peer's name is known for as long as the transport exists, the others until it is closed.
        """
        if name == "peername":
            if self._peer is None and self.descriptor >= 0:
                self._peer = _name_of(self._socket().getpeername)
            return default if self._peer is None else address_of(self._peer)
        if name == "sockname" and self._local is not None:
            return self._local
        if self.descriptor < 0:
            return default
        if name == "socket":
            return self._socket()
        if name == "sockname":
            return _name_of(self._socket().getsockname)
        return default


def hold_descriptor(sock: socket.socket) -> Any:
    """Return a file object that keeps the descriptor open even if the application closes the socket too early.

    Otherwise another file could get the same number while the poll still watches it.
    """
    return sock.makefile("rb", 0)


def over_socket(loop: AbstractEventLoop, sock: socket.socket, protocol: Any) -> SelectorTransport:
    """Return a transport over a connected socket, which must be non-blocking. The transport closes the socket."""
    if is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = _name_of(sock.getpeername)
    return SelectorTransport(loop, poll_of(loop), protocol, sock.fileno(), sock, peer)
