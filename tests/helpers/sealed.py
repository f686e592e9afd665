"""The other end of a TLS connection, by the standard library alone; and what OpenSSL can do beyond that."""

import _ssl
import ctypes
import ssl
from contextlib import suppress

from helpers.frames import request
from helpers.peers import RawClient


class Other:
    """One end of a TLS connection in memory: `take` what it sends, `give` it what comes."""

    def __init__(self, context: ssl.SSLContext, server_side: bool, hostname: str | None = "localhost") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, None if server_side else hostname)
        self.done = False
        """Whether the handshake is complete."""
        self.received = bytearray()
        self.ended = False
        """Whether a close_notify has come."""

    def step(self) -> bytes:
        """Go on as far as it goes; what is to be sent."""
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
        """What has come; returns what is to be sent."""
        self._incoming.write(data)
        return self.step()

    def seal(self, data: bytes) -> bytes:
        """Encrypt data, each 16 KiB of it in a record; with what else is to be sent."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.tls.write(rest[: 1 << 14]) :]
        return self.take()

    def end(self) -> bytes:
        """Say that nothing more follows."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.take()

    def take(self) -> bytes:
        """What is to be sent."""
        return self._outgoing.read()


class _Connection(ctypes.Structure):
    """How CPython's connection object begins."""

    _fields_ = (
        ("head", ctypes.c_char * object.__basicsize__),
        ("socket", ctypes.c_void_p),
        ("ssl", ctypes.c_void_p),
    )


_openssl = ctypes.CDLL(_ssl.__file__)  # finds what _ssl is linked to

ALLOW_CLIENT_RENEGOTIATION = 1 << 8


def _call(name: str, tls: ssl.SSLObject, *arguments: int) -> None:
    inner = tls._sslobj  # type: ignore[attr-defined]
    handle = ctypes.c_void_p(_Connection.from_address(id(inner)).ssl)
    assert getattr(_openssl, name)(handle, *arguments) == 1, name


def update_key(tls: ssl.SSLObject, asked: bool) -> None:
    """Send with another key from now on, and ask that the other end does (RFC 8446 section 4.6.3)."""
    _call("SSL_key_update", tls, asked)
    _call("SSL_do_handshake", tls)


def renegotiate(tls: ssl.SSLObject) -> None:
    """Begin another handshake (RFC 5246 section 7.4.1.1)."""
    _call("SSL_renegotiate", tls)
    with suppress(AssertionError):  # it has only begun
        _call("SSL_do_handshake", tls)


def send_ticket(tls: ssl.SSLObject) -> None:
    """Give the client one more ticket (RFC 8446 section 4.6.1)."""
    _call("SSL_new_session_ticket", tls)
    _call("SSL_do_handshake", tls)


class SealedClient:
    """A client of a server with TLS, that sends exactly the bytes that a test gives it."""

    def __init__(self, raw: RawClient, context: ssl.SSLContext) -> None:
        self.raw = raw
        self.other = Other(context, False)

    async def shake_hands(self) -> None:
        """The whole TLS handshake."""
        await self.raw.send(self.other.step())
        while not self.other.done:
            assert await self.receive()

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        await self.raw.send(self.other.seal(data))

    async def receive(self) -> bool:
        """Wait for more; False at the end of the connection."""
        if not await self.raw.receive():
            return False
        answer = self.other.give(self.raw.take())
        if answer:
            await self.raw.send(answer)
        return True

    async def read_until_eof(self) -> bytes:
        """Everything up to the end of the connection, which must be in order."""
        while await self.receive():
            pass
        return bytes(self.other.received)

    async def upgrade(self) -> None:
        """The opening handshake of WebSockets, the answer of which is dropped."""
        await self.send(request())
        while b"\r\n\r\n" not in self.other.received:
            assert await self.receive()
        assert self.other.received.startswith(b"HTTP/1.1 101 ")
        del self.other.received[: self.other.received.index(b"\r\n\r\n") + 4]
