"""The other end of a client under measurement: accepts WebSocket connections over plain sockets, and with TLS.

With TLS, what is sent in one call leaves in one system call, however many records it is, as without.
"""

import re
import select
import socket
import ssl
from base64 import b64encode
from hashlib import sha1
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.opening import END_OF_HEAD, HOST, TIMEOUT, Connection

CERTIFICATE = Path(__file__).resolve().parents[1] / "helpers" / "localhost.pem"
BUFFERS = 1 << 20
"""Bytes of a socket's buffers: a message fits in."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nSec-WebSocket-Key: *(\S+)\r\n", re.IGNORECASE)
_RECORD = 1 << 14
_AT_ONCE = 1 << 17  # bytes; what they hold fits into the buffer of those who receive


class TlsConnection:
    """TLS made in memory, over a socket that blocks until it is told not to."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._connection = connection
        self.fileno = connection.fileno
        self.setblocking = connection.setblocking
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._records = memoryview(bytearray(_AT_ONCE))
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not self._take():
                    raise ConnectionError("the client closed the connection inside the TLS handshake") from None
        self._flush()

    def recv(self, bufsize: int, /) -> bytes:
        while True:
            try:
                return self._tls.read(bufsize)
            except ssl.SSLWantReadError:
                if not self._take():
                    return b""

    def recv_into(self, buffer: bytearray, /) -> int:
        """Everything that has come whole; raises `BlockingIOError` if that is nothing."""
        if not self._take():
            return 0
        size = 0
        view = memoryview(buffer)
        try:
            while self._incoming.pending or self._tls.pending():
                read: object = self._tls.read(len(buffer) - size, view[size:])
                assert isinstance(read, int)
                size += read
        except ssl.SSLWantReadError:
            pass  # the rest is a part of a record
        if not size:
            raise BlockingIOError
        return size

    def send(self, data: bytes | memoryview, /) -> int:
        """All of it, always."""
        if len(data) <= _RECORD:
            self._tls.write(data)
        else:
            for start in range(0, len(data), _RECORD):
                self._tls.write(data[start : start + _RECORD])
        self._flush()
        return len(data)

    def _take(self) -> int:
        count = self._connection.recv_into(self._records)
        self._incoming.write(self._records[:count])
        return count

    def _flush(self) -> None:
        data = memoryview(self._outgoing.read())
        while data:
            try:
                data = data[self._connection.send(data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._connection, select.POLLOUT)
                if not poll.poll(TIMEOUT * 1000):
                    raise TimeoutError("the client does not read") from None


class Listener:
    """`with Listener(tls) as listener`: clients connect to `listener.url`; the connections live until its end."""

    def __init__(self, tls: bool) -> None:
        self._socket = socket.create_server((HOST, 0))
        # Before the connections are made, so that their windows fit.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFERS)
        self._socket.settimeout(TIMEOUT)
        self._accepted: list[socket.socket] = []
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(CERTIFICATE)
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
        peer = connection if self._context is None else TlsConnection(connection, self._context)
        _answer_handshake(peer)
        return peer


def send_all(connection: Connection, data: bytes) -> None:
    """As `socket.sendall`."""
    while data:
        data = data[connection.send(data) :]


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
