"""TLS for the load generator, and the certificate of the servers under measurement.

Each call of `send` makes one system call, for any number of TLS records, as without TLS.
"""

import select
import socket
import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).resolve().parents[1] / "helpers" / "localhost.pem"
TIMEOUT = 10.0

# The largest payload of a TLS record (RFC 8446 section 5.1).
_RECORD_SIZE = 1 << 14
# One receive from the socket. The decrypted bytes fit into the callers' buffers.
_RECEIVE_SIZE = 1 << 17


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


class TlsConnection:
    """TLS over a socket, encrypted and decrypted in memory. Blocks until `setblocking(False)`."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        self.socket = connection
        self.fileno = connection.fileno
        self.setblocking = connection.setblocking
        self.close = connection.close
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._records = memoryview(bytearray(_RECEIVE_SIZE))
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive():
                    raise ConnectionError("the peer closed the connection inside the TLS handshake") from None
        self._flush()

    def recv(self, bufsize: int, /) -> bytes:
        while True:
            try:
                return self._tls.read(bufsize)
            except ssl.SSLWantReadError:
                if not self._receive():
                    return b""

    def recv_into(self, buffer: bytearray, /) -> int:
        """Receive once from the socket and decrypt all complete TLS records.

        :raises BlockingIOError: If no record is complete yet.
        """
        if not self._receive():
            return 0
        size = 0
        view = memoryview(buffer)
        try:
            while self._incoming.pending or self._tls.pending():
                read: object = self._tls.read(len(buffer) - size, view[size:])
                assert isinstance(read, int)
                size += read
        except ssl.SSLWantReadError:
            pass  # the last record is incomplete
        if not size:
            raise BlockingIOError
        return size

    def send(self, data: bytes | memoryview, /) -> int:
        """Send all data."""
        if len(data) <= _RECORD_SIZE:
            self._tls.write(data)
        else:
            for start in range(0, len(data), _RECORD_SIZE):
                self._tls.write(data[start : start + _RECORD_SIZE])
        self._flush()
        return len(data)

    def _receive(self) -> int:
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
                    raise TimeoutError(f"the peer did not read for {TIMEOUT:g} s") from None
