"""The TLS layer between a transport and a connection (RFC 8446, RFC 5246).

To the transport it is a protocol, and to the connection it is a transport.
"""

import logging
import ssl
from asyncio import AbstractEventLoop, BufferedProtocol, Future, TimerHandle
from collections.abc import Iterable
from typing import Any

from ...wire.frames import Buffer
from ..addresses import peer_name
from ..gate import UPPER, Gate
from ..loops import RECEIVE_BUFFER_SIZE, LoopShare
from ..network import Network, Receiver, descriptor_of
from .engine import Engine
from .openssl import engine as make_engine

logger: logging.Logger = logging.getLogger("streamws")

_RECORD = 1 << 14
"""The most bytes of data in a record (RFC 8446 section 5.1)."""

_OF_TLS = {"peercert": "getpeercert", "cipher": "cipher", "compression": "compression"}
"""Extra information, and the methods of `ssl.SSLObject` that return it."""

_HANDSHAKE = 0
_OPEN = 1
_ENDED = 2  # this side has closed its sending side, the peer has not
_CLOSED = 3


def _by_records(parts: Iterable[Buffer]) -> list[Buffer]:
    """Join small parts, up to the size of a record, so that they share records."""
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
    """The TLS layer of one connection: encrypts what the connection writes, decrypts what the transport receives."""

    __slots__ = (
        "__weakref__",
        "_context",
        "_done",
        "_encrypted",
        "_encrypted_view",
        "_engine",
        "_error",
        "_gate",
        "_greedy",
        "_loop",
        "_network",
        "_opened",
        "_state",
        "_timeout",
        "_timer",
        "_transport",
        "_upper",
        "overhead",
    )

    _network: Network
    _gate: Gate

    def __init__(
        self,
        upper: Receiver,
        loop: AbstractEventLoop,
        share: LoopShare,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        done: "Future[None] | None" = None,
        timeout: float | None = None,
    ) -> None:
        """Create the layer below a connection.

        :param upper: the connection. This object becomes its transport when the TLS handshake is complete.
        :param share: the buffers of the loop.
        :param context: the certificates and settings.
        :param server_hostname: for a client, the name that the server's certificate must have.
        :param done: for a client, a future that is set at the end of the TLS handshake. If None, this is a server.
        :param timeout: the seconds for the TLS handshake; None for no limit.
        """
        self._upper = upper
        self._loop = loop
        self._context = context
        self._done = done
        self._timeout = timeout
        self._timer: TimerHandle | None = None
        self._engine: Engine = make_engine(context, done is None, server_hostname)
        self._encrypted = share.encrypted
        self._encrypted_view = memoryview(share.encrypted)
        self._greedy = share.greedy
        self._state = _HANDSHAKE
        self._opened = False  # whether `connection_made` of the connection was called
        self._transport: Any = None
        self._error: Exception | None = None  # why the connection failed
        self.overhead: int = 0
        """The number of bytes that encryption has added to those that the connection has written."""

    # The transport's side --------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._network = Network(transport)
        self._gate = Gate(self._loop, transport)
        if self._state == _CLOSED:
            transport.abort()  # the layer was aborted before the transport was connected
            return
        if self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._overdue)
        if self._done is not None:
            self._continue_handshake()  # the client sends first

    def get_buffer(self, sizehint: int) -> memoryview:
        # All connections of a loop share the buffer: unused bytes are copied before another one can read.
        return self._encrypted_view

    def buffer_updated(self, nbytes: int) -> None:
        self._engine.feed(self._encrypted, nbytes)
        try:
            if self._state == _HANDSHAKE:
                self._continue_handshake()
            self._deliver()
        finally:
            self._engine.keep()
        if self._greedy and nbytes == RECEIVE_BUFFER_SIZE:
            self._gate.give_way()

    def _deliver(self) -> None:
        """Decrypt received data and pass it to the connection, unless that has paused reading."""
        engine = self._engine
        while _HANDSHAKE < self._state < _CLOSED and not self._gate.reasons & UPPER:
            buffer = self._upper.get_buffer(-1)
            size = engine.decrypt(buffer)
            if size:
                self._upper.buffer_updated(size)
            if size < len(buffer):
                self._process_engine()
                return

    def _process_engine(self) -> None:
        """Process the end of the stream, an error, or records that TLS itself must send, such as alerts."""
        engine = self._engine
        if self._state == _CLOSED:
            return
        if engine.error is not None:
            self._fail(engine.error)
        elif engine.ended:
            if not self._gate.reasons & UPPER:
                self._upper.eof_received()
                self.close()
        elif engine.has_output():
            self._network.write(engine.output())

    def eof_received(self) -> bool:
        if self._state == _HANDSHAKE:
            self._fail(ConnectionResetError())
        else:
            # WebSocket has its own closing handshake, so a missing close_notify is no danger here.
            self._deliver()  # reading was resumed, but `_deliver_held` has not run yet
            self._engine.ended = True
            self._process_engine()
        return self._state != _CLOSED

    def pause_writing(self) -> None:
        self._upper.pause_writing()

    def resume_writing(self) -> None:
        self._upper.resume_writing()

    def writing_failed(self) -> None:
        if self._opened:
            self._upper.writing_failed()

    def connection_lost(self, error: Exception | None) -> None:
        self._state = _CLOSED
        self._stop_timer()
        self._gate.close()
        error, self._error = self._error or error, None  # an error refers to this object by its traceback
        if self._opened or self._done is None:
            self._upper.connection_lost(error)
        elif not self._done.done():
            self._done.set_exception(error or ConnectionResetError())

    # The handshake ---------------------------------------------------------------------------------------------

    def _continue_handshake(self) -> None:
        engine = self._engine
        try:
            complete = engine.continue_handshake()
        except ssl.SSLError as error:
            self._fail(error.with_traceback(None))  # the traceback refers to this object
            return
        if complete:
            self._stop_timer()
            self._state = _OPEN
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            self._opened = True
            self._upper.connection_made(self)
        # Data that `connection_made` has sent leaves together with the last record of the handshake.
        if engine.has_output():
            self._network.write(engine.output())

    def _overdue(self) -> None:
        self._fail(TimeoutError(f"not complete within {self._timeout} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        """Close the connection because of an error; first send the alert that OpenSSL may have made for it."""
        opening = self._state == _HANDSHAKE
        self._state = _CLOSED
        self._error = error
        self._stop_timer()
        if self._engine.has_output():
            self._network.write(self._engine.output())
        if opening:
            self._report(error)
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # a peer that does not read will not read the alert either
        else:
            self._transport.close()

    def _report(self, error: Exception) -> None:
        """Report a failed handshake."""
        if self._done is None:
            if not isinstance(error, ConnectionResetError):
                remote = peer_name(self._transport)
                fields = {"role": "server", "remote": remote, "reason": str(error)}
                logger.info("%s refused: TLS handshake failed: %s", remote, error, extra=fields)
        elif not self._done.done():
            self._done.set_exception(error)

    # The connection's side -------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Encrypt and write data."""
        if self._state == _OPEN and self._encrypt(data):
            encrypted = self._engine.output()
            self.overhead += len(encrypted) - len(data)
            self._network.write(encrypted)

    def writelines(self, parts: Iterable[Buffer]) -> None:
        """Encrypt and write several parts; small ones share records."""
        if self._state != _OPEN:
            return
        encrypted: list[bytes] = []
        for data in _by_records(parts):
            if not self._encrypt(data):
                return
            encrypted.append(self._engine.output())
            self.overhead += len(encrypted[-1]) - len(data)
        self._network.write_parts(encrypted)

    def _encrypt(self, data: Buffer) -> bool:
        """Encrypt data; return whether that succeeded. If not, the connection is closed."""
        try:
            self._engine.encrypt(data)
        except ssl.SSLError as error:
            self._fail(error.with_traceback(None))
            return False
        return True

    def write_eof(self) -> None:
        """Close the sending side. Data from the peer is still received (RFC 8446 section 6.1)."""
        if self._state == _OPEN:
            self._state = _ENDED
            self._send_end()
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def can_write_eof(self) -> bool:
        """Return True: the sending side can always be closed alone."""
        return True

    def close(self) -> None:
        """Write what is queued, and close."""
        if self._state == _HANDSHAKE:
            self.abort()
            return
        if self._state == _OPEN:
            self._send_end()
        self._state = _CLOSED
        self._transport.close()

    def _send_end(self) -> None:
        self._engine.end()
        self._network.write(self._engine.output())

    def abort(self) -> None:
        """Close the connection at once; queued bytes are not written."""
        self._state = _CLOSED
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closing or closed."""
        return self._state == _CLOSED or bool(self._transport.is_closing())

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading` is called."""
        self._gate.pause(UPPER)

    def resume_reading(self) -> None:
        """Deliver data again; data that was decrypted already is delivered in the next loop iteration."""
        self._gate.resume(UPPER)
        if not self.is_closing():
            self._loop.call_soon(self._deliver_held)

    def _deliver_held(self) -> None:
        try:
            self._deliver()
        finally:
            self._engine.keep()

    def release_idle_memory(self) -> None:
        """Free buffers while the connection is idle."""
        self._engine.release_idle_memory()

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Set the high-water and low-water marks, as asyncio's transports do."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that have not been written to the socket."""
        size: int = self._transport.get_write_buffer_size()
        return size

    @property
    def descriptor(self) -> int:
        """The descriptor of the socket; -1 if the transport has none."""
        return descriptor_of(self._transport)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection, with the names that asyncio's transports use."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._engine.ssl_object
        call = _OF_TLS.get(name)
        if call is not None:
            found: object = getattr(self._engine.ssl_object, call)()
            return default if found is None else found
        info: object = self._transport.get_extra_info(name, default)
        return info


class AsyncioTls(Tls, BufferedProtocol):
    """`Tls` as an `asyncio.BufferedProtocol`, for the loop's own transports.

    asyncio checks for that class, and a compiled class cannot derive from it. A class that is not compiled makes each
    call of a method that it inherits dearer, so this one is not used with transports of our own.
    """

    __slots__ = ()
