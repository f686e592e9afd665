"""Encryption and decryption for one connection, with the standard library's `SSLObject` and `MemoryBIO`.

`openssl` has an engine that does the same with fewer copies.
"""

import ssl
from contextlib import suppress
from typing import Any

from ...wire.frames import Buffer

_PIECE = 1 << 14
"""The most bytes given to a `MemoryBIO` at a time: it copies them and keeps the memory. A record is hardly longer."""


class Engine:
    """TLS of one connection, in memory. It does no I/O: the layer above receives and sends."""

    __slots__ = ("_incoming", "_inner", "_input", "_outgoing", "ended", "error", "object")

    def __init__(self, context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object: ssl.SSLObject = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        # An `SSLObject` forwards its calls to this; an application's own subclass may override them.
        self._inner: Any = self.object
        if type(self.object) is ssl.SSLObject:
            self._inner = getattr(self.object, "_sslobj", self.object)
        self._input: memoryview | bytes = b""
        self.ended: bool = False
        """Whether the peer has ended its side with a close_notify alert."""
        self.error: ssl.SSLError | None = None
        """Why received data could not be decrypted."""

    def feed(self, data: bytearray, size: int) -> None:
        """Take `data[:size]`, which was received. It is not copied before `keep`."""
        fed = memoryview(data)[:size]
        self._input = b"".join((self._input, fed)) if self._input else fed

    def keep(self) -> None:
        """Copy the bytes that were not used yet: the caller's buffer is about to change."""
        self._input = bytes(self._input)

    def _feed_more(self) -> bool:
        """Give OpenSSL the next received bytes; False if there are none."""
        if not self._input:
            return False
        self._incoming.write(self._input[:_PIECE])
        self._input = self._input[_PIECE:]
        return True

    def continue_handshake(self) -> bool:
        """Continue the handshake; returns whether it is complete.

        :raises ssl.SSLError: if it fails.
        """
        while True:
            try:
                self.object.do_handshake()
                return True
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    return False

    def decrypt(self, buffer: memoryview) -> int:
        """Decrypt received data into `buffer`, as much as fits; returns the number of bytes.

        At the end of the stream it sets `ended`, and if decryption fails, `error`.
        """
        size = 0
        room = len(buffer)
        while size < room and (self._incoming.pending or self._inner.pending() or self._feed_more()):
            try:
                count = self._inner.read(room - size, buffer[size:] if size else buffer)
            except ssl.SSLWantReadError:
                if not self._feed_more():
                    break  # only a part of a record is left, or the record held no data
            except ssl.SSLZeroReturnError:  # instead of 0, if this side has ended too
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

        :raises ssl.SSLError: if the connection cannot send any more, or if the peer starts a renegotiation, which is
            not supported (TLS 1.3 and HTTP/2 have none either).
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self._inner.write(view) :]
        except ssl.SSLWantReadError:
            raise ssl.SSLError("the peer started a renegotiation, which is not supported") from None

    def has_output(self) -> bool:
        """Whether there are bytes to send."""
        return self._outgoing.pending > 0

    def output(self) -> bytes:
        """Take the bytes to send."""
        return self._outgoing.read()

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle; the standard library keeps none."""

    def end(self) -> None:
        """End this side with a close_notify alert (RFC 8446 section 6.1). Received data is still decrypted."""
        if self._inner.pending():
            return  # `unwrap` also looks for the peer's end, and would fail because of the pending data
        rest = self._incoming.read()
        with suppress(ssl.SSLError):  # the peer's close_notify has not arrived yet
            self.object.unwrap()
        self._incoming.write(rest)
