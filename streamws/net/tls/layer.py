"""TLS between a transport and a connection: protocol of the one, transport of the other (RFC 8446, RFC 5246)."""

import ssl
from asyncio import AbstractEventLoop, BufferedProtocol, Future, TimerHandle
from collections.abc import Iterable
from typing import Any

from ...connection import Connection, logger, peer_of
from ...wire.frames import Buffer
from ..loops import RECEIVE_BUFFER_SIZE, LoopShare
from ..network import Network, Receiver
from .engine import Engine
from .openssl import engine as make_engine

_RECORD = 1 << 14
"""Bytes of data in a record, at most (RFC 8446 section 5.1)."""

_HANDSHAKE = 0
_OPEN = 1
_ENDED = 2  # this side has ended, the peer has not
_CLOSED = 3


def _by_records(parts: Iterable[Buffer]) -> list[Buffer]:
    """Pieces as they are encrypted: small ones joined, up to a record."""
    joined: list[Buffer] = []
    small: list[Buffer] = []
    size = 0
    for part in parts:
        if small and size + len(part) > _RECORD:
            joined.append(b"".join(small))
            small.clear()
            size = 0
        if len(part) < _RECORD:
            small.append(part)
            size += len(part)
        else:
            joined.append(part)
    if small:
        joined.append(b"".join(small))
    return joined


class Tls(Receiver):
    """TLS of one connection."""

    __slots__ = (
        "__weakref__",
        "_context",
        "_done",
        "_engine",
        "_error",
        "_greedy",
        "_loop",
        "_network",
        "_paused",
        "_sealed",
        "_sealed_view",
        "_state",
        "_timeout",
        "_timer",
        "_transport",
        "_upper",
    )

    _network: Network

    def __init__(
        self,
        upper: Connection,
        loop: AbstractEventLoop,
        share: LoopShare,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        done: "Future[None] | None" = None,
        timeout: float | None = None,
    ) -> None:
        """
        :param upper: the connection; its transport is this, once the handshake is complete.
        :param server_hostname: the name that the server's certificate must have, as a client.
        :param done: for a client, to be told of the end of the handshake; without it, this is a server.
        :param timeout: seconds for the handshake.
        """
        self._upper = upper
        self._loop = loop
        self._context = context
        self._done = done
        self._timeout = timeout
        self._timer: TimerHandle | None = None
        self._engine: Engine = make_engine(context, done is None, server_hostname)
        self._sealed = share.sealed
        self._sealed_view = memoryview(share.sealed)
        self._greedy = share.greedy
        self._state = _HANDSHAKE  # how far it has come
        self._transport: Any = None
        self._error: Exception | None = None  # why it was given up
        self._paused = False  # whether the connection wants nothing now

    # The transport's side --------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._network = Network(transport)
        if self._state == _CLOSED:
            transport.abort()  # it was given up meanwhile
            return
        if self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._overdue)
        if self._done is not None:
            self._shake_hands()  # a client begins

    def get_buffer(self, sizehint: int) -> memoryview:
        # One for all connections of the loop: what is left in it is kept before the loop does anything else.
        return self._sealed_view

    def buffer_updated(self, nbytes: int) -> None:
        self._engine.feed(self._sealed, nbytes)
        try:
            if self._state == _HANDSHAKE:
                self._shake_hands()
            self._deliver()
        finally:
            self._engine.keep()
        if self._greedy and nbytes == RECEIVE_BUFFER_SIZE and not self._paused and not self.is_closing():
            # There is more to read; but it is the other connections' turn.
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._paused and not self.is_closing():
            self._transport.resume_reading()

    def _deliver(self) -> None:
        """Decrypt what has come, unless the connection wants nothing, and hand it on."""
        engine = self._engine
        while _HANDSHAKE < self._state < _CLOSED and not self._paused:
            buffer = self._upper.get_buffer(-1)
            size = engine.unseal(buffer)
            if size:
                self._upper.buffer_updated(size)
            if size < len(buffer):
                self._settle()
                return

    def _settle(self) -> None:
        """Do what came beside data."""
        engine = self._engine
        if self._state == _CLOSED:
            return
        if engine.error is not None:
            self._fail(engine.error)
        elif engine.ended:
            if not self._paused:
                self._upper.eof_received()
                self.close()
        elif engine.owes():
            self._network.write(engine.take())

    def eof_received(self) -> bool:
        if self._state == _HANDSHAKE:
            self._fail(ConnectionResetError())
        else:
            # WebSockets have an end of their own: it is not taken for a good one without a close_notify, nor with it.
            self._engine.ended = True
            self._settle()
        return self._state != _CLOSED

    def pause_writing(self) -> None:
        self._upper.pause_writing()

    def resume_writing(self) -> None:
        self._upper.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._state = _CLOSED
        self._stop_timer()
        error, self._error = self._error or error, None  # it refers to frames, and those to this
        if self._upper.transport is self:
            self._upper.connection_lost(error)
        elif self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionResetError())

    # The handshake ---------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        engine = self._engine
        try:
            complete = engine.shake_hands()
        except ssl.SSLError as error:
            self._fail(error.with_traceback(None))  # which refers to this
            return
        if complete:
            self._stop_timer()
            self._state = _OPEN
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            self._upper.connection_made(self)
        # What the connection sends at once leaves with the end of the handshake.
        if engine.owes():
            self._network.write(engine.take())

    def _overdue(self) -> None:
        self._fail(TimeoutError(f"it took more than {self._timeout} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        """Give the connection up, with an alert if OpenSSL has made one."""
        opening = self._state == _HANDSHAKE
        self._state = _CLOSED
        self._error = error
        self._stop_timer()
        if self._engine.owes():
            self._network.write(self._engine.take())
        if opening:
            self._report(error)
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # who does not read does not read an alert
        else:
            self._transport.close()

    def _report(self, error: Exception) -> None:
        """Tell of a handshake that failed."""
        if self._done is None:
            if not isinstance(error, ConnectionResetError):
                logger.info("%s refused: no TLS handshake: %s", peer_of(self._transport), error)
        elif not self._done.done():
            self._done.set_exception(error)

    # The connection's side -------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send data."""
        if self._state == _OPEN and self._seal(data):
            self._network.write(self._engine.take())

    def writelines(self, parts: Iterable[Buffer]) -> None:
        """Send several pieces; small ones share records."""
        if self._state != _OPEN:
            return
        sealed: list[bytes] = []
        for data in _by_records(parts):
            if not self._seal(data):
                return
            sealed.append(self._engine.take())
        self._network.write_parts(sealed)

    def _seal(self, data: Buffer) -> bool:
        """Encrypt data; False if that fails, and the connection with it."""
        try:
            self._engine.seal(data)
        except ssl.SSLError as error:
            self._fail(error.with_traceback(None))
            return False
        return True

    def write_eof(self) -> None:
        """End this side. What the peer sends is still received (RFC 8446 section 6.1)."""
        if self._state == _OPEN:
            self._state = _ENDED
            self._send_end()
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def can_write_eof(self) -> bool:
        """Whether this side can end before the other one: always."""
        return True

    def close(self) -> None:
        """Send what there is, and close."""
        if self._state == _HANDSHAKE:
            self.abort()
            return
        if self._state == _OPEN:
            self._send_end()
        self._state = _CLOSED
        self._transport.close()

    def _send_end(self) -> None:
        self._engine.end()
        self._network.write(self._engine.take())

    def abort(self) -> None:
        """Drop the connection."""
        self._state = _CLOSED
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the connection is about to end, or has."""
        return self._state == _CLOSED or bool(self._transport.is_closing())

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        self._paused = False
        if not self.is_closing():
            self._transport.resume_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        try:
            self._deliver()
        finally:
            self._engine.keep()

    def rest(self) -> None:
        """Nothing comes or goes for a while: keep no memory for it."""
        self._engine.rest()

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """As asyncio's transports."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        size: int = self._transport.get_write_buffer_size()
        return size

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As asyncio's transports."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._engine.object
        info: object = self._transport.get_extra_info(name, default)
        return info


class AsyncioTls(Tls, BufferedProtocol):
    """`Tls` as asyncio wants it: a compiled class cannot have a plain one for its first base."""

    __slots__ = ()
