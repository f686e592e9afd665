"""Between a transport and what stands on it: the way of bytes to the network, and what takes those that come."""

import sys
from typing import Any

from .sockets import send_now, send_parts_now


class Receiver:
    """What a transport fills with what comes."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put it."""
        raise NotImplementedError

    def buffer_updated(self, nbytes: int) -> None:
        """It is there."""
        raise NotImplementedError


class Network:
    """Writes to a transport, and past it where that is sooner: a transport may wait for the end of the loop's turn."""

    __slots__ = ("_descriptor", "_holds", "_seals", "_transport", "never_delivers")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._holds = True  # whether the transport may hold bytes that have to go first
        sock = transport.get_extra_info("socket")
        self._seals: bool = transport.get_extra_info("sslcontext") is not None
        self._descriptor: int = -1 if sock is None or self._seals or sys.platform == "win32" else sock.fileno()
        self.never_delivers: bool = self._seals or self._descriptor >= 0
        """Whether writes do not deliver what has come, as some transports do from inside of one."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._is_clear():
            sent = send_now(self._descriptor, data)
            if sent == len(data):
                return
            self._holds = True
            self._transport.write(memoryview(data)[sent:])
        else:
            self._transport.write(data)

    def write_parts(self, parts: list[bytes]) -> None:
        """Send bytes that are better not joined."""
        if self._descriptor < 0:
            self._transport.writelines(parts)
            return
        sent = send_parts_now(self._descriptor, parts) if self._is_clear() else 0
        for part in parts:
            if sent < len(part):
                self._holds = True
                # Not `writelines`: that of asyncio in Python 3.12.1 or 3.13.0 passes the transport's marks unseen.
                self._transport.write(memoryview(part)[sent:] if sent else part)
            sent = max(0, sent - len(part))

    def rest(self) -> None:
        """Nothing comes or goes for a while: keep no memory for it."""
        if self._seals:
            self._transport.rest()

    def close(self) -> None:
        """Forget the transport, which is gone, and may have kept alive whose network this was."""
        self._transport = None
        self._descriptor = -1

    def _is_clear(self) -> bool:
        """Whether bytes may go to the socket itself."""
        if self._descriptor < 0 or self._transport.is_closing():
            return False
        if self._holds:
            self._holds = self._transport.get_write_buffer_size() > 0
        return not self._holds
