"""TLS for the load generator, and the certificate of those whom it meets.

What is sent in one call leaves in one system call, however many records it is, as without TLS.
"""

import select
import socket
import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).resolve().parents[1] / "helpers" / "localhost.pem"
TIMEOUT = 10.0

_RECORD = 1 << 14
_AT_ONCE = 1 << 17  # bytes; what they hold fits into the buffer of those who receive


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


class TlsConnection:
    """TLS made in memory, over a socket that blocks until it is told not to."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        self.socket = connection
        self.fileno = connection.fileno
        self.setblocking = connection.setblocking
        self.close = connection.close
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._records = memoryview(bytearray(_AT_ONCE))
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not self._take():
                    raise ConnectionError("the other side closed the connection inside the TLS handshake") from None
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
        count = self.socket.recv_into(self._records)
        self._incoming.write(self._records[:count])
        return count

    def _flush(self) -> None:
        data = memoryview(self._outgoing.read())
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.socket, select.POLLOUT)
                if not poll.poll(TIMEOUT * 1000):
                    raise TimeoutError("the other side does not read") from None
