"""The client's side of WebSocket connections for the load generator, over plain sockets, with or without TLS."""

import socket
import struct
from typing import Protocol

from benchmarks.sealing import TIMEOUT, TlsConnection, client_context

HOST = "127.0.0.1"
END_OF_HEAD = b"\r\n\r\n"
SWITCHING_PROTOCOLS = b"HTTP/1.1 101 "

_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the value for that key (RFC 6455 section 1.3)


class Connection(Protocol):
    """A socket, or an object with the same methods."""

    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def recv(self, bufsize: int, /) -> bytes: ...
    def recv_into(self, buffer: bytearray, /) -> int: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def close(self) -> None: ...


def upgrade_request(port: int, extensions: bytes = b"") -> bytes:
    """Return a request with eight fields, like a browser's.

    The Connection field is `Upgrade` alone, as in Chrome, because picows 2.3 refuses Firefox's `keep-alive, Upgrade`.

    :param extensions: The extensions to offer; a browser's offer of compression is left out.
    """
    offer = [b"Sec-WebSocket-Extensions: " + extensions] if extensions else []
    return b"\r\n".join(
        [
            b"GET / HTTP/1.1",
            b"Host: 127.0.0.1:%d" % port,
            b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0",
            b"Accept-Language: en-US,en;q=0.9",
            b"Sec-WebSocket-Version: 13",
            b"Origin: http://127.0.0.1:%d" % port,
            b"Sec-WebSocket-Key: " + _KEY,
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            *offer,
            b"",
            b"",
        ]
    )


def connect(port: int) -> socket.socket:
    """Open a WebSocket connection and check the response.

    :returns: A blocking socket, with a timeout of `TIMEOUT`.
    """
    return connect_offering(port, b"")[0]


def connect_with_tls(port: int) -> TlsConnection:
    """Open a WebSocket connection over TLS and check the response."""
    connection = TlsConnection(_connect_tcp(port), client_context(), server_side=False)
    _open_handshake(connection, port, b"")
    return connection


def connect_offering(port: int, extensions: bytes) -> tuple[socket.socket, bytes]:
    """Open a WebSocket connection with an offer of extensions.

    :returns: The socket, and the head of the response.
    """
    connection = _connect_tcp(port)
    return connection, _open_handshake(connection, port, extensions)


def _connect_tcp(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _open_handshake(connection: Connection, port: int, extensions: bytes) -> bytes:
    send_all(connection, upgrade_request(port, extensions))
    head = receive_head(connection)
    if not (head.startswith(SWITCHING_PROTOCOLS) and _ACCEPT in head and head.endswith(END_OF_HEAD)):
        raise ConnectionError(f"not a valid response to the handshake: {head!r}")
    return head


def receive_head(connection: Connection) -> bytes:
    """Receive the head of an HTTP request or response.

    :returns: The head, and any bytes received after it.
    :raises ConnectionError: If the peer closes the connection before the end of the head.
    """
    head = b""
    while END_OF_HEAD not in head:
        received = connection.recv(4096)
        if not received:
            raise ConnectionError(f"the peer closed the connection inside the handshake, after {head!r}")
        head += received
    return head


def send_all(connection: Connection, data: bytes) -> None:
    """Send all data, like `socket.sendall`."""
    while data:
        data = data[connection.send(data) :]


def receive_exactly(connection: Connection, length: int) -> bytes:
    """Receive this number of bytes.

    :raises ConnectionError: If the peer closes the connection earlier.
    """
    received = bytearray()
    while len(received) < length:
        chunk = connection.recv(min(length - len(received), 1 << 20))
        if not chunk:
            raise ConnectionError(f"the peer closed the connection after {len(received)} of {length} bytes")
        received += chunk
    return bytes(received)


def reset(connection: socket.socket) -> None:
    """Close the socket with a TCP reset, so that thousands of connections leave no ports in TIME_WAIT."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
