"""The peer of a client under measurement: a server of plain sockets, with or without TLS."""

import re
import socket
from base64 import b64encode
from hashlib import sha1
from types import TracebackType
from typing import Self

from benchmarks.opening import END_OF_HEAD, HOST, Connection, receive_head
from benchmarks.sealing import TIMEOUT, TlsConnection, server_context

BUFFER_SIZE = 1 << 20
"""The size of each socket buffer in bytes: any message fits into it."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nSec-WebSocket-Key: *(\S+)\r\n", re.IGNORECASE)


class Listener:
    """Listens at `url` within its `with` block, which closes all accepted connections at its end."""

    def __init__(self, tls: bool) -> None:
        self._socket = socket.create_server((HOST, 0))
        # Set before the connections are made, because they inherit the sizes and derive their TCP windows from them.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)
        self._socket.settimeout(TIMEOUT)
        self._accepted: list[socket.socket] = []
        self._context = server_context() if tls else None
        self.url = f"{'wss' if tls else 'ws'}://{HOST}:{self._socket.getsockname()[1]}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in [*self._accepted, self._socket]:
            connection.close()

    def accept(self) -> Connection:
        """Return the next connection, after its opening handshake."""
        connection, _ = self._socket.accept()
        self._accepted.append(connection)
        connection.settimeout(TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = connection if self._context is None else TlsConnection(connection, self._context, server_side=True)
        _answer_handshake(peer)
        return peer


def _answer_handshake(connection: Connection) -> None:
    head = receive_head(connection)
    key = _KEY.search(head)
    if key is None or not head.endswith(END_OF_HEAD):
        raise ConnectionError(f"not a valid handshake request: {head!r}")
    fields = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + b64encode(sha1(key[1] + _GUID).digest()),
    ]
    connection.send(b"\r\n".join(fields) + END_OF_HEAD)
