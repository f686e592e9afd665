"""TLS of one connection in memory, with the standard library's `SSLObject` and `MemoryBIO`.

The module `openssl` has an engine that does the same with fewer copies.
"""

import ssl
from contextlib import suppress
from typing import Any

from ...wire.frames import Buffer

_PIECE = 1 << 14
"""The most received bytes given to a `MemoryBIO` at a time, because it keeps the memory for them. A record is hardly
longer (RFC 8446 section 5.2)."""


class Engine:
    """Encrypts and decrypts the data of one connection. It does no I/O: the TLS layer reads and writes."""

    __slots__ = ("_incoming", "_inner", "_input", "_outgoing", "ended", "error", "ssl_object")

    def __init__(self, context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object: ssl.SSLObject = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        # The C object that an `SSLObject` forwards its calls to: calling it directly is faster. But the methods of an
        # application's own subclass must be called.
        self._inner: Any = self.ssl_object
        if type(self.ssl_object) is ssl.SSLObject:
            self._inner = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self._input: memoryview | bytes = b""  # received bytes that were not given to OpenSSL yet
        self.ended: bool = False
        """Whether the peer has closed its sending side with a close_notify alert (RFC 8446 section 6.1)."""
        self.error: ssl.SSLError | None = None
        """Why the handshake failed or received data could not be decrypted; None if there was no error."""

    def feed(self, data: bytearray, size: int) -> None:
        """Add `data[:size]`, which was received. It is not copied until `keep` is called."""
        fed = memoryview(data)[:size]
        self._input = b"".join((self._input, fed)) if self._input else fed

    def keep(self) -> None:
        """Copy the bytes that were not used yet, because the receive buffer will be overwritten."""
        self._input = bytes(self._input)

    def _feed_more(self) -> bool:
        """Give OpenSSL the next received bytes; return False if there are none."""
        if not self._input:
            return False
        self._incoming.write(self._input[:_PIECE])
        self._input = self._input[_PIECE:]
        return True

    def continue_handshake(self) -> bool:
        """Continue the TLS handshake; return whether it is complete.

        :raises ssl.SSLError: if it fails, or has failed before.
        """
        # Kept, because OpenSSL 3.6 forgets some failures: called again, it waits for more bytes.
        while self.error is None:
            try:
                self.ssl_object.do_handshake()
                return True
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    return False
            except ssl.SSLError as error:
                self.error = error
        raise self.error.with_traceback(None)

    def decrypt(self, buffer: memoryview) -> int:
        """Decrypt received data into `buffer`, as much as fits; return the number of bytes.

        At the end of the stream it sets `ended`, and if decryption fails, `error`.
        """
        size = 0
        room = len(buffer)
        while size < room and (self._incoming.pending or self._inner.pending() or self._feed_more()):
            try:
                count = self._inner.read(room - size, buffer[size:] if size else buffer)
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    break  # the next record is incomplete
            except ssl.SSLZeroReturnError:  # raised instead of returning 0 if this side has sent close_notify too
                self.ended = True
                break
            except ssl.SSLError as error:
                self.error = error.with_traceback(None)  # the traceback refers to this engine
                break
            else:
                if not count:
                    self.ended = True
                    break
                size += count
        return size

    def encrypt(self, data: Buffer) -> None:
        """Encrypt data; `output` returns the records.

        :raises ssl.SSLError: if the connection cannot send any more, or if the peer starts a renegotiation. That is not
            supported; TLS 1.3 forbids it (RFC 8446 section 4.1.2).
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self._inner.write(view) :]
        except ssl.SSLWantReadError:
            raise ssl.SSLError("the peer started a renegotiation, which is not supported") from None

    def has_output(self) -> bool:
        """Return whether there are bytes to send."""
        return self._outgoing.pending > 0

    def output(self) -> bytes:
        """Remove and return the bytes to send."""
        return self._outgoing.read()

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle; the standard library keeps none."""

    def end(self) -> None:
        """Close the sending side with a close_notify alert (RFC 8446 section 6.1). Received data is still decrypted."""
        if self._inner.pending():
            return  # `unwrap` also looks for the peer's close_notify, and fails if there is pending data instead
        # For the same reason, hide the received bytes from `unwrap`.
        received = self._incoming.read()
        with suppress(ssl.SSLError):  # `unwrap` raises this because the peer's close_notify has not arrived
            self.ssl_object.unwrap()
        self._incoming.write(received)
