"""The interfaces between a transport and the object above it: `Receiver`, `DirectTransport` and `Network`."""

import sys
from contextlib import suppress
from typing import Any

from .poll import Watched
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

    def writing_failed(self) -> None:
        """A write has failed, because the peer has disconnected. Data that the peer sent before can still be read.

        Only our own transports call this. A receiver that has paused reading should resume it, because otherwise it
        would not learn that the connection has ended.
        """

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed; `error` says why, unless it was closed on purpose."""
        raise NotImplementedError


def descriptor_of(transport: Any) -> int:
    """Return the descriptor of a transport's socket; -1 if it has none."""
    descriptor: int | None = getattr(transport, "descriptor", None)  # of a transport or TLS layer of ours
    if descriptor is not None:
        return descriptor
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


class DirectTransport(Watched):
    """Sending half of a transport of ours, which writes to its socket at once. `Network` calls it in C."""

    __slots__ = ()

    def write_bytes(self, data: bytes) -> None:
        """Write bytes to the socket; queue those that it does not accept now."""
        raise NotImplementedError

    def write_parts(self, parts: list[Any]) -> None:
        """Write several parts to the socket; queue those that it does not accept now. None of them is copied.

        :param parts: `bytes`, or views of bytes that do not change. The list belongs to the transport from now on.
        """
        raise NotImplementedError

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that have not been written to the socket."""
        raise NotImplementedError


_FEW = 8
"""The most parts that are written to the transport of a loop one by one. More parts are joined."""


class Network:
    """Sending half: a transport of ours, or one of the loop.

    While a transport of the loop has nothing queued, its socket is written to directly. That saves time, and some of
    these transports would not write before the end of the loop iteration.
    """

    __slots__ = ("_descriptor", "_direct", "_layer", "_queued", "_transport", "copies", "never_delivers")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._direct: DirectTransport | None = transport if isinstance(transport, DirectTransport) else None
        self._queued = True  # whether the transport may have bytes queued, which must be written first
        encrypts = transport.get_extra_info("sslcontext") is not None
        # The TLS layer, if it is ours. uvicorn's connections use that of the loop.
        self._layer: Any = transport if encrypts and hasattr(transport, "overhead") else None
        self._descriptor: int = -1 if encrypts or sys.platform == "win32" else descriptor_of(transport)
        self.never_delivers: bool = encrypts or self._descriptor >= 0
        """Whether a write never calls `Receiver.buffer_updated` before it returns. Some transports do that."""
        self.copies: bool = self._direct is None
        """Whether the transport copies the bytes that it has not written yet, instead of referring to them."""

    def write(self, data: bytes) -> None:
        """Write bytes."""
        direct = self._direct
        if direct is not None:
            direct.write_bytes(data)
        elif self._is_clear():
            try:
                sent = send_now(self._descriptor, data)
            except OSError:
                sent = 0  # the transport will get the same error when it writes the bytes
            if sent < len(data):
                self._queued = True
                self._transport.write(memoryview(data)[sent:])
        else:
            self._transport.write(data)

    def write_parts(self, parts: list[bytes]) -> None:
        """Write several parts. The list must not be used afterwards."""
        direct = self._direct
        if direct is not None:
            direct.write_parts(parts)
        elif self._descriptor < 0:
            self._transport.writelines(parts)
        elif parts:
            sent = 0
            if self._is_clear():
                with suppress(OSError):
                    sent = send_parts_now(self._descriptor, parts, 0, 0)
            self._write_rest(parts, sent)

    def _write_rest(self, parts: list[bytes], sent: int) -> None:
        """Write all parts to the transport, without their first `sent` bytes."""
        first = 0
        while first < len(parts) and sent >= len(parts[first]):
            sent -= len(parts[first])
            first += 1
        rest: list[bytes | memoryview] = [*parts[first:]]
        if not rest:
            return
        self._queued = True
        rest[0] = memoryview(rest[0])[sent:]
        # Not `writelines`: asyncio's in Python 3.12.1 and 3.13.0 ignores the high-water mark.
        for part in rest if len(rest) <= _FEW else [b"".join(rest)]:
            self._transport.write(part)

    def backlog(self) -> int:
        """Return the number of bytes that the transport has not written to the socket."""
        # Read each attribute once: another thread may ask while `close` sets them to None.
        direct = self._direct
        if direct is not None:
            return direct.get_write_buffer_size()
        transport = self._transport
        size: int = 0 if transport is None else transport.get_write_buffer_size()
        return size

    def overhead(self) -> int:
        """Return the number of bytes that encryption has added to those written."""
        return 0 if self._layer is None else self._layer.overhead

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle."""
        if self._layer is not None:
            self._layer.release_idle_memory()

    def close(self) -> None:
        """Release the transport, which is closed and may refer back to the connection."""
        self._transport = self._direct = self._layer = None
        self._descriptor = -1

    def _is_clear(self) -> bool:
        """Return whether bytes may be written directly to the socket."""
        if self._descriptor < 0 or self._transport.is_closing():
            return False
        if self._queued:
            self._queued = self._transport.get_write_buffer_size() > 0
        return not self._queued
