"""The two interfaces between a transport and the object above it: `Receiver` and `Network`."""

import sys
from typing import Any

from .sockets import send_now, send_parts_now


class Receiver:
    """Receiving half of a buffered protocol, with the methods of `asyncio.BufferedProtocol`.

    The transport calls them.
    """

    __slots__ = ()

    def connection_made(self, transport: Any) -> None:
        """The transport is connected."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        raise NotImplementedError

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` bytes were read into the buffer."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The peer has closed its sending side. Return whether the transport stays open."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The transport holds more unsent bytes than its high-water mark."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """The unsent bytes of the transport have fallen to its low-water mark."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed; `error` says why, unless it was closed on purpose."""
        raise NotImplementedError


def descriptor_of(transport: Any) -> int:
    """Return the descriptor of a transport's socket; -1 if it has none."""
    descriptor: int | None = transport.get_extra_info("descriptor")
    if descriptor is None:
        sock = transport.get_extra_info("socket")
        descriptor = -1 if sock is None else sock.fileno()
    return descriptor


class Network:
    """Sending half: writes to the socket directly while the transport has nothing queued.

    That saves time, and some transports would not write before the end of the loop iteration.
    """

    __slots__ = ("_descriptor", "_encrypts", "_queued", "_transport", "never_delivers")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._queued = True  # whether the transport may have bytes queued, which must be written first
        self._encrypts: bool = transport.get_extra_info("sslcontext") is not None
        self._descriptor: int = -1 if self._encrypts or sys.platform == "win32" else descriptor_of(transport)
        self.never_delivers: bool = self._encrypts or self._descriptor >= 0
        """Whether a write never calls `Receiver.buffer_updated` before it returns. Some transports do that."""

    def write(self, data: bytes) -> None:
        """Write bytes."""
        if self._is_clear():
            sent = send_now(self._descriptor, data)
            if sent == len(data):
                return
            self._queued = True
            self._transport.write(memoryview(data)[sent:])
        else:
            self._transport.write(data)

    def write_parts(self, parts: list[bytes]) -> None:
        """Write several parts without joining them."""
        if self._descriptor < 0:
            self._transport.writelines(parts)
            return
        sent = send_parts_now(self._descriptor, parts) if self._is_clear() else 0
        for part in parts:
            if sent < len(part):
                self._queued = True
                # Not `writelines`: asyncio's in Python 3.12.1 and 3.13.0 ignores the high-water mark.
                self._transport.write(memoryview(part)[sent:] if sent else part)
            sent = max(0, sent - len(part))

    def backlog(self) -> int:
        """Return the number of bytes that the transport has not written to the socket."""
        size: int = self._transport.get_write_buffer_size()
        return size

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle."""
        if self._encrypts:
            self._transport.release_idle_memory()

    def close(self) -> None:
        """Release the transport, which is closed and may refer back to the connection."""
        self._transport = None
        self._descriptor = -1

    def _is_clear(self) -> bool:
        """Return whether bytes may be written directly to the socket."""
        if self._descriptor < 0 or self._transport.is_closing():
            return False
        if self._queued:
            self._queued = self._transport.get_write_buffer_size() > 0
        return not self._queued
