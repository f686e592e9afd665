"""Opening a WebSocket connection from the load generator's side, over a plain socket or with TLS."""

import socket
import struct
from typing import Protocol

from benchmarks.sealing import TIMEOUT, TlsConnection, client_context

HOST = "127.0.0.1"
END_OF_HEAD = b"\r\n\r\n"
SWITCHING_PROTOCOLS = b"HTTP/1.1 101 "

_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer to that key, RFC 6455, section 1.3


class Connection(Protocol):
    """A socket, or what takes its place."""

    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def recv(self, bufsize: int, /) -> bytes: ...
    def recv_into(self, buffer: bytearray, /) -> int: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def close(self) -> None: ...


def upgrade_request(port: int, extensions: bytes = b"") -> bytes:
    """A browser's request, eight headers, but without an offer of compression unless one is given: none is used then.

    `Connection: Upgrade` alone, as Chrome has it: picows 2.3 refuses Firefox's `keep-alive, Upgrade`.
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


def opened(port: int) -> socket.socket:
    """An open connection whose answer was checked; its socket blocks, within `TIMEOUT`."""
    return opened_with(port, b"")[0]


def opened_with_tls(port: int) -> TlsConnection:
    """The same with TLS."""
    connection = TlsConnection(_connected(port), client_context(), server_side=False)
    _shake_hands(connection, port, b"")
    return connection


def opened_with(port: int, extensions: bytes) -> tuple[socket.socket, bytes]:
    """An open connection with an offer of extensions, and the head of the answer."""
    connection = _connected(port)
    return connection, _shake_hands(connection, port, extensions)


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _shake_hands(connection: Connection, port: int, extensions: bytes) -> bytes:
    send_all(connection, upgrade_request(port, extensions))
    head = b""
    while END_OF_HEAD not in head:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(f"the server closed the connection inside the handshake, after {head!r}")
        head += part
    if not (head.startswith(SWITCHING_PROTOCOLS) and _ACCEPT in head and head.endswith(END_OF_HEAD)):
        raise ConnectionError(f"not a good answer to the handshake: {head!r}")
    return head


def send_all(connection: Connection, data: bytes) -> None:
    """As `socket.sendall`."""
    while data:
        data = data[connection.send(data) :]


def receive_exactly(connection: Connection, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = connection.recv(min(length - len(received), 1 << 20))
        if not part:
            raise ConnectionError(f"the connection was closed after {len(received)} of {length} bytes")
        received += part
    return bytes(received)


def reset(connection: socket.socket) -> None:
    """Close at once with a TCP reset, so that thousands of connections leave no port in TIME_WAIT."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
