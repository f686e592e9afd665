"""The other end of a client under measurement: accepts WebSocket connections over plain sockets, and with TLS."""

import re
import socket
from base64 import b64encode
from hashlib import sha1
from types import TracebackType
from typing import Self

from benchmarks.opening import END_OF_HEAD, HOST, Connection
from benchmarks.sealing import TIMEOUT, TlsConnection, server_context

BUFFERS = 1 << 20
"""Bytes of a socket's buffers: a message fits in."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nSec-WebSocket-Key: *(\S+)\r\n", re.IGNORECASE)


class Listener:
    """`with Listener(tls) as listener`: clients connect to `listener.url`; the connections live until its end."""

    def __init__(self, tls: bool) -> None:
        self._socket = socket.create_server((HOST, 0))
        # Before the connections are made, so that their windows fit.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFERS)
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
        """A connection, open."""
        connection, _ = self._socket.accept()
        self._accepted.append(connection)
        connection.settimeout(TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = connection if self._context is None else TlsConnection(connection, self._context, server_side=True)
        _answer_handshake(peer)
        return peer


def _answer_handshake(connection: Connection) -> None:
    head = b""
    while END_OF_HEAD not in head:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(f"the client closed the connection inside the handshake, after {head!r}")
        head += part
    key = _KEY.search(head)
    if key is None or not head.endswith(END_OF_HEAD):
        raise ConnectionError(f"not a good handshake: {head!r}")
    fields = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + b64encode(sha1(key[1] + _GUID).digest()),
    ]
    connection.send(b"\r\n".join(fields) + END_OF_HEAD)
