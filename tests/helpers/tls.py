"""The other end of a TLS connection, made of the standard library alone, and what OpenSSL can do beyond that."""

import _ssl
import ctypes
import ssl
from contextlib import suppress

from helpers.frames import request
from helpers.peers import RawClient


class TlsEnd:
    """One end of a TLS connection in memory."""

    def __init__(self, context: ssl.SSLContext, server_side: bool, hostname: str | None = "localhost") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, None if server_side else hostname)
        self.done = False
        """Whether the handshake is complete."""
        self.received = bytearray()
        """The decrypted data."""
        self.ended = False
        """Whether a close_notify was received."""

    def step(self) -> bytes:
        """Process all received bytes and return the bytes to send."""
        if not self.done:
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.done = True
        while self.done and not self.ended:
            try:
                data = self.tls.read(1 << 20)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            self.received += data
            self.ended = not data
        return self.take()

    def give(self, data: bytes) -> bytes:
        """Receive bytes and return the bytes to send."""
        self._incoming.write(data)
        return self.step()

    def seal(self, data: bytes) -> bytes:
        """Encrypt data, in records of 16 KiB, and return all bytes to send."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.tls.write(rest[: 1 << 14]) :]
        return self.take()

    def end(self) -> bytes:
        """Send a close_notify; returns the bytes to send."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.take()

    def take(self) -> bytes:
        """Return the bytes to send."""
        return self._outgoing.read()


class _Connection(ctypes.Structure):
    """The first fields of CPython's `_ssl._SSLSocket`."""

    _fields_ = (
        ("head", ctypes.c_char * object.__basicsize__),
        ("socket", ctypes.c_void_p),
        ("ssl", ctypes.c_void_p),
    )


_openssl = ctypes.CDLL(_ssl.__file__)  # finds the libraries that _ssl is linked with

ALLOW_CLIENT_RENEGOTIATION = 1 << 8


def _call(name: str, tls: ssl.SSLObject, *arguments: int) -> None:
    inner = tls._sslobj  # type: ignore[attr-defined]
    handle = ctypes.c_void_p(_Connection.from_address(id(inner)).ssl)
    assert getattr(_openssl, name)(handle, *arguments) == 1, name


def update_key(tls: ssl.SSLObject, asked: bool) -> None:
    """Send with another key from now on (RFC 8446 section 4.6.3).

    :param asked: whether to ask the other end for another key too.
    """
    _call("SSL_key_update", tls, asked)
    _call("SSL_do_handshake", tls)


def renegotiate(tls: ssl.SSLObject) -> None:
    """Begin another handshake (RFC 5246 section 7.4.1.1)."""
    _call("SSL_renegotiate", tls)
    with suppress(AssertionError):  # the handshake cannot be completed yet
        _call("SSL_do_handshake", tls)


def send_ticket(tls: ssl.SSLObject) -> None:
    """Give the client one more ticket (RFC 8446 section 4.6.1)."""
    _call("SSL_new_session_ticket", tls)
    _call("SSL_do_handshake", tls)


class TlsClient:
    """A `RawClient` over TLS."""

    def __init__(self, raw: RawClient, context: ssl.SSLContext) -> None:
        self.raw = raw
        self.end = TlsEnd(context, False)

    async def shake_hands(self) -> None:
        """Do the TLS handshake."""
        await self.raw.send(self.end.step())
        while not self.end.done:
            assert await self.receive()

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        await self.raw.send(self.end.seal(data))

    async def receive(self) -> bool:
        """Read once from the socket and return whether the connection goes on."""
        if not await self.raw.receive():
            return False
        answer = self.end.give(self.raw.take())
        if answer:
            await self.raw.send(answer)
        return True

    async def read_until_eof(self) -> bytes:
        """Return all decrypted data up to the end of the connection, which must be a FIN."""
        while await self.receive():
            pass
        return bytes(self.end.received)

    async def upgrade(self) -> None:
        """Do the opening handshake, and drop the response."""
        await self.send(request())
        while b"\r\n\r\n" not in self.end.received:
            assert await self.receive()
        assert self.end.received.startswith(b"HTTP/1.1 101 ")
        del self.end.received[: self.end.received.index(b"\r\n\r\n") + 4]
