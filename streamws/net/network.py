"""The two directions between a transport and the object above it: `Receiver` and `Network`."""

import sys
from typing import Any

from .sockets import send_now, send_parts_now


class Receiver:
    """Receiving half of a buffered protocol, as `asyncio.BufferedProtocol` has it, with the callbacks around it."""

    __slots__ = ()

    def connection_made(self, transport: Any) -> None:
        """The transport is connected."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer to read into."""
        raise NotImplementedError

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` bytes were read into the buffer."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The peer has ended its side. Returns whether the transport stays open."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The transport holds more than its high-water mark."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """The transport is at its low-water mark."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed."""
        raise NotImplementedError


class Network:
    """Writes to the socket directly while the transport has nothing queued.

    A transport may wait for the end of the loop iteration before it writes.
    """

    __slots__ = ("_descriptor", "_encrypts", "_queued", "_transport", "never_delivers")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._queued = True  # whether the transport may have bytes queued, which must be written first
        sock = transport.get_extra_info("socket")
        self._encrypts: bool = transport.get_extra_info("sslcontext") is not None
        plain = sock is not None and not self._encrypts and sys.platform != "win32"
        self._descriptor: int = sock.fileno() if plain else -1
        self.never_delivers: bool = self._encrypts or self._descriptor >= 0
        """Whether a write never delivers received data before it returns, as some transports do."""

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
        """The bytes that the transport has not written to the socket."""
        size: int = self._transport.get_write_buffer_size()
        return size

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle."""
        if self._encrypts:
            self._transport.release_idle_memory()

    def close(self) -> None:
        """Forget the transport, which is closed: it may refer back to the connection."""
        self._transport = None
        self._descriptor = -1

    def _is_clear(self) -> bool:
        """Whether bytes may go directly to the socket."""
        if self._descriptor < 0 or self._transport.is_closing():
            return False
        if self._queued:
            self._queued = self._transport.get_write_buffer_size() > 0
        return not self._queued
