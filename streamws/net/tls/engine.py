"""OpenSSL's part in one connection: what came off the network goes in, data comes out, and the other way round.

This is how it goes by what the standard library offers, `SSLObject` and `MemoryBIO`. `openssl` has a shorter way.
"""

import ssl
from contextlib import suppress
from typing import Any

from ...wire.frames import Buffer

_PIECE = 1 << 14
"""Bytes that a `MemoryBIO` is given at a time: it copies them into memory that it keeps. No record is much longer."""


class Engine:
    """TLS of one connection in memory. Nothing in it waits, and nothing is sent: that is for the layer above."""

    __slots__ = ("_came", "_incoming", "_inner", "_outgoing", "ended", "error", "object")

    def __init__(self, context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object: ssl.SSLObject = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        # What an `SSLObject` passes calls on to, unless it is of a class of the application's.
        self._inner: Any = self.object
        if type(self.object) is ssl.SSLObject:
            self._inner = getattr(self.object, "_sslobj", self.object)
        self._came: memoryview | bytes = b""
        self.ended: bool = False
        """Whether the peer has said that nothing more comes (a close_notify alert)."""
        self.error: ssl.SSLError | None = None
        """What was wrong with what came."""

    def feed(self, data: bytearray, size: int) -> None:
        """Take `data[:size]`, which came off the network. It is not copied before `keep`."""
        fed = memoryview(data)[:size]
        self._came = b"".join((self._came, fed)) if self._came else fed

    def keep(self) -> None:
        """Copy what of it is still needed: it is about to change."""
        self._came = bytes(self._came)

    def _feed_on(self) -> bool:
        """Give OpenSSL a further piece of what came, if there is any."""
        if not self._came:
            return False
        self._incoming.write(self._came[:_PIECE])
        self._came = self._came[_PIECE:]
        return True

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is complete.

        :raises ssl.SSLError: if it fails.
        """
        while True:
            try:
                self.object.do_handshake()
                return True
            except ssl.SSLWantReadError:
                if not self._feed_on():
                    return False

    def unseal(self, buffer: memoryview) -> int:
        """Decrypt what has come into `buffer`, as far as there is room; the number of bytes. Sets `ended`, `error`."""
        size = 0
        room = len(buffer)
        while size < room and (self._incoming.pending or self._inner.pending() or self._feed_on()):
            try:
                count = self._inner.read(room - size, buffer[size:] if size else buffer)
            except ssl.SSLWantReadError:
                if not self._feed_on():
                    break  # the rest is a part of a record, or there was a message of TLS in it
            except ssl.SSLZeroReturnError:  # in place of 0, where this side has ended too
                self.ended = True
                break
            except ssl.SSLError as error:
                self.error = error.with_traceback(None)  # that refers to this engine
                break
            else:
                if not count:
                    self.ended = True
                    break
                size += count
        return size

    def seal(self, data: Buffer) -> None:
        """Encrypt data; `take` gives the records.

        :raises ssl.SSLError: if that cannot be any more, or while the peer negotiates anew: that is not supported
            (HTTP/2 and TLS 1.3 do not have it either).
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self._inner.write(view) :]
        except ssl.SSLWantReadError:
            raise ssl.SSLError("the peer negotiates anew, in the middle of the connection") from None

    def owes(self) -> bool:
        """Whether there is anything to be sent."""
        return self._outgoing.pending > 0

    def take(self) -> bytes:
        """What is to be sent."""
        return self._outgoing.read()

    def rest(self) -> None:
        """Nothing comes or goes for a while: keep no memory for it."""

    def end(self) -> None:
        """Say that nothing more follows (RFC 8446 section 6.1). What comes is still unsealed."""
        if self._inner.pending():
            return  # OpenSSL would break the connection over it, since `unwrap` also looks for the peer's end
        rest = self._incoming.read()
        with suppress(ssl.SSLError):  # what the peer says to that has not come yet
            self.object.unwrap()
        self._incoming.write(rest)
