"""The asyncio protocol of one connection, of a server or a client. It links the wire and the streams.

A connection begins with its opening handshake, which an `Opening` carries out; `start` makes it a WebSocket connection.
From then on a received chunk goes to `wire.protocol`, its items go to the `inbox`, and the waiting reader runs. Frames
that are sent meanwhile are gathered in the `outbox` and leave in one write when the chunk is processed.
"""

import logging
from asyncio import AbstractEventLoop, BufferedProtocol, Future, TimerHandle
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import Any
from typing import Protocol as Interface
from weakref import ReferenceType, ref

from .awaiting.operation import keep_results
from .codes import Cause, CloseCode, CloseOutcome, Side
from .handshake.extensions import DeflateTerms
from .handshake.forwarding import Forwarding
from .handshake.head import origin_form
from .net.addresses import address_text, peer_address
from .net.gate import OPENING, UNREAD, Gate
from .net.loops import RECEIVE_BUFFER_SIZE, Deadlines, LoopShare, has_own_transports, share_of
from .net.network import Network, Receiver, descriptor_of
from .net.selector import SelectorTransport
from .options import Compression, Limits, Timeouts
from .streams.hub import Hub
from .streams.inbox import Inbox
from .streams.keepalive import CHECKS, Keepalive
from .streams.outbox import Outbox, TotalBacklog
from .streams.pings import Pings
from .streams.turns import Turns
from .streams.writer import Writer
from .wire.deflate import Deflater, Inflater
from .wire.protocol import Change, Protocol

logger: logging.Logger = logging.getLogger("streamws")

_USUAL_READ = RECEIVE_BUFFER_SIZE
"""The most bytes of a read, unless a large frame is being received."""


class Environment:
    """Options, buffers and timers that all connections of one server, or of one `connect()`, share."""

    __slots__ = (
        "checks",
        "close_deadlines",
        "finished",
        "limits",
        "loop",
        "open_deadlines",
        "ping_times",
        "share",
        "timeouts",
        "total_backlog",
    )

    def __init__(
        self, loop: AbstractEventLoop, limits: Limits, timeouts: Timeouts, max_total_backlog: int | None = None
    ) -> None:
        """Create what the connections share.

        :param max_total_backlog: the limit of a server for all its connections together; None for no limit.
        """
        self.loop: AbstractEventLoop = loop
        self.share: LoopShare = share_of(loop)
        self.share.iteration.enter()
        self.limits: Limits = limits
        self.timeouts: Timeouts = timeouts
        self.total_backlog: TotalBacklog = TotalBacklog(max_total_backlog)
        self.finished: Future[None] = loop.create_future()
        """A future that is done; see `Waiter`."""
        self.finished.set_result(None)
        self.open_deadlines: Deadlines = Deadlines(loop, timeouts.open)
        self.close_deadlines: Deadlines = Deadlines(loop, timeouts.close)
        self.ping_times: Deadlines = Deadlines(loop, timeouts.ping_interval)
        """When each connection sends its next ping."""
        timeout = timeouts.ping_timeout
        self.checks: Deadlines = Deadlines(loop, None if timeout is None else timeout / CHECKS)
        """When each connection next checks whether its last ping was answered."""

    def close(self) -> None:
        """Stop all timers."""
        for deadlines in (self.open_deadlines, self.close_deadlines, self.ping_times, self.checks):
            deadlines.close()


class Opening(Interface):
    """Carries out the opening handshake of a connection; the server and the client have their own."""

    def connected(self, connection: "Connection") -> None:
        """The transport is connected."""

    def received(self, connection: "Connection", data: bytes) -> None:
        """Bytes of the handshake were received."""

    def lost(self, connection: "Connection", error: Exception | None) -> None:
        """The transport was closed before the handshake was complete."""


class Connection(Receiver):
    """One connection, from its transport to its streams."""

    __slots__ = (
        "__weakref__",
        "_address",
        "_buffer",
        "_call_when_closed",
        "_close_timer",
        "_closed",
        "_greedy",
        "_large_reads",
        "_named",
        "_opening",
        "_processing",
        "_secure",
        "_server",
        "_share",
        "_unread_pongs",
        "_view",
        "client_id",
        "ended",
        "environment",
        "forwarding",
        "gate",
        "inbox",
        "keepalive",
        "network",
        "on_lost",
        "on_ping",
        "on_pong",
        "on_slow",
        "opened",
        "opened_at",
        "outbox",
        "pings",
        "protocol",
        "server_name",
        "target",
        "transport",
        "turns",
        "writer",
    )

    gate: Gate
    inbox: Inbox
    keepalive: Keepalive
    network: Network
    outbox: Outbox
    pings: Pings
    protocol: Protocol
    turns: Turns
    writer: Writer

    def __init__(self, environment: Environment, server: bool, opening: Opening) -> None:
        """Create a connection that waits for its transport.

        :param server: whether this side is the server.
        :param opening: carries out the opening handshake.
        """
        self.environment: Environment = environment
        self._server = server
        self._opening: Opening | None = opening
        self._share = environment.share
        self._view = self._share.view
        self._buffer = self._share.buffer  # the buffer of the last read
        self.transport: Any = None
        """The transport; None before it is connected and after it is closed."""
        self._named: Any = None  # the transport, until the address is known
        self._address: tuple[str, int] | None = None
        self._secure = False  # whether the connection used TLS, once it has ended
        self.forwarding: Forwarding | None = None
        """The address and scheme that the peer has forwarded; None unless it is a trusted proxy."""
        self._large_reads = False  # whether the last read was larger than usual and belonged to a large frame
        self._greedy = self._share.greedy
        self._processing = False  # whether a chunk is being processed
        self._closed: list[Future[None]] | None = None  # one for each task that waits for the end
        self._call_when_closed: list[Callable[[], None]] | None = None
        self._close_timer: TimerHandle | None = None  # for `close(timeout=...)`
        self._unread_pongs = 0  # the pings answered since writing to the peer was last not paused
        self.on_ping: Callable[[bytes], None] | None = None
        """Called with the payload of each ping."""
        self.on_pong: Callable[[bytes], None] | None = None
        """Called with the payload of each pong."""
        self.on_lost: Callable[[], None] | None = None
        """Called once, when the connection has ended."""
        self.on_slow: Callable[[int], None] | None = None
        """Called with the backlog when it is over half of its limit, once until it is small again."""
        self.client_id: int | None = None
        """The id of the `Client`, for log records."""
        self.target: str | None = None
        """The target of the request, for log records; None before the opening handshake is complete."""
        self.server_name: str = ""
        """The host that a client has asked for, for log records."""
        self.opened_at: float = 0.0
        """When the connection opened, in seconds since 1970."""
        self.opened: float = 0.0
        """When the connection opened, by the clock `monotonic`."""
        self.ended: float = 0.0
        """When it ended, by the same clock; 0 before."""

    def start(self, compression: Compression | None = None, terms: DeflateTerms | None = None) -> None:
        """Become a WebSocket connection: the opening handshake is complete.

        :param compression: the options for compressing messages.
        :param terms: the negotiated compression; None for no compression.
        """
        environment = self.environment
        loop = environment.loop
        limits = environment.limits
        transport = self.transport
        self._opening = None
        self.opened_at = time()
        self.opened = monotonic()
        if not isinstance(transport, SelectorTransport):
            # A client that is kept must not keep its TLS layer, and some loops' transports forget it when they close.
            self.address()
        deflater: Deflater | None = None
        inflater: Inflater | None = None
        if compression is not None and terms is not None:
            deflater = Deflater(compression, terms.window_bits, terms.takeover)
            inflater = Inflater(terms.peer_window_bits, terms.peer_takeover)
        hub: ReferenceType[Hub] = ref(self)
        self.protocol = protocol = Protocol(self._server, deflater)
        protocol.change(Change.OPENED)
        self.network = Network(transport)
        self.pings = Pings(loop)
        iteration = environment.share.iteration
        self.outbox = Outbox(loop, iteration, protocol, self.network, limits, hub, environment.total_backlog)
        self.inbox = Inbox(loop, iteration, protocol, self.gate, limits, hub, environment.finished, inflater)
        self.turns = Turns(loop, protocol, self.outbox)
        self.writer = Writer(protocol, self.outbox, self.turns, self.pings, hub)
        transport.set_write_buffer_limits(limits.write_high, limits.write_low)
        self.keepalive = Keepalive(
            protocol,
            self.outbox,
            self.network,
            self.gate,
            self.pings,
            self,
            environment.ping_times,
            environment.checks,
            descriptor_of(transport),
        )

    # Receiving -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: object) -> None:
        self.transport = self._named = transport
        self.gate = Gate(self.environment.loop, transport)
        if self._opening is not None:
            self._opening.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        # All connections of a loop share the buffer: its data is processed before another one can read.
        if self._opening is None and (self._large_reads or self.protocol.parser.frame.active):
            return self._get_buffer_for_frame()
        self._buffer = self._share.buffer
        return self._view

    def _get_buffer_for_frame(self) -> memoryview:
        """Return a larger buffer for the rest of a large frame and the data behind it, if that is useful."""
        large = self._large_reads or self.protocol.parser.frame.missing > _USUAL_READ
        if not large or self.inbox.is_streamed():
            # A stream reader takes the data at once. For that, a buffer that fits into the processor's cache is faster.
            self._buffer = self._share.buffer
            return self._view
        self._buffer = self._share.large_buffer
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        if self._opening is None:
            self._process_chunk(self._buffer, nbytes)
            if self.protocol.parser.frame.length > _USUAL_READ:
                # After a large frame, expect another one.
                self._large_reads = nbytes > _USUAL_READ
            else:
                # Read small frames neither in large reads nor in several reads at once: processing so many of them
                # would keep the other connections waiting.
                self._large_reads = False
                if self._greedy and nbytes == len(self._buffer):
                    self.gate.give_way()
        else:
            self._opening.received(self, bytes(memoryview(self._buffer)[:nbytes]))

    def receive(self, data: bytes | bytearray, nbytes: int) -> None:
        """Process `data[:nbytes]`, which was received."""
        if self.transport is not None:
            self._process_chunk(data, nbytes)

    def receive_soon(self, data: bytes) -> None:
        """Process bytes received with the handshake, and everything after them, once the handler has started."""
        if data or not self._server:
            self.gate.pause(OPENING)  # some transports deliver more before the loop iteration ends
            self.environment.loop.call_soon(self._receive_held, data)

    def _receive_held(self, data: bytes) -> None:
        self.gate.resume(OPENING)
        self.receive(data, len(data))

    def _process_chunk(self, data: bytes | bytearray, nbytes: int) -> None:
        self.keepalive.alive = True
        protocol = self.protocol
        frame = protocol.parser.frame
        # Lend the receive buffer to a waiting stream reader, unless a write can re-enter and overwrite it.
        frame.lending = self.network.never_delivers and self.inbox.is_streamed()
        items = protocol.receive(data, nbytes)
        if items:
            self.inbox.push(items)
        outbox = self.outbox
        # A transport may deliver data from inside our write. Never resume a task from within its own step.
        nested = self._processing
        self._processing = True
        if not nested:
            outbox.begin_batch()
            keep_results(True)
        try:
            if protocol.pings:
                self._answer_pings()
            # Up to here no code of a reader has run: it sees its first item when the whole chunk has been parsed.
            still_to_run = self.inbox.wake(nested)
            if protocol.control:
                if still_to_run:
                    # The reader can still answer what arrived before a Close frame.
                    self.environment.loop.call_soon(self._process_control_later)
                else:
                    self._process_control()
        finally:
            frame.keep()
            try:
                if not nested:
                    keep_results(False)
                    outbox.end_batch()
            finally:
                self._processing = nested
        if protocol.open:
            # While closing, data is discarded until the peer's Close frame. Reading must not pause for it, because
            # nothing would resume it.
            self.inbox.check_high_water()

    def _answer_pings(self) -> None:
        protocol = self.protocol
        pings = protocol.pings
        protocol.pings = []
        if protocol.failed:
            protocol.due = []  # a message before the pings was refused, and the Close frame is the last frame
            return
        self._unread_pongs = self._unread_pongs + len(pings) if self.outbox.paused else 0
        if self._unread_pongs > self.environment.limits.max_control_backlog:
            protocol.due = []
            self.fail(CloseCode.POLICY_VIOLATION, "ping flood: too many unread pongs", Cause.LIMIT)
            return
        self.outbox.put_due()
        if self.on_ping is not None:
            for payload in pings:
                self.on_ping(payload)

    def _process_control_later(self) -> None:
        if self.transport is not None and self.protocol.control:
            self._process_control()

    def _process_control(self) -> None:
        """Process pongs, a Close frame, or a violation."""
        protocol = self.protocol
        protocol.process_control()
        pongs = protocol.pongs
        if pongs:
            protocol.pongs = []
            for payload in pongs:
                self.pings.answer(payload)
                if self.on_pong is not None:
                    self.on_pong(payload)
        self.outbox.put_due()
        self.outbox.flush()
        if protocol.failed:
            self._end_failed()
        elif protocol.close_received is not None:
            self._begin_closing()
            self.inbox.end()
            self._end_closing_handshake()

    def pause_reading(self) -> None:
        """Pause reading while the opening handshake waits for the application."""
        self.gate.pause(OPENING)

    def resume_reading(self) -> None:
        """Resume reading: the opening handshake continues."""
        self.gate.resume(OPENING)

    # Writing ---------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        if self._opening is None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        if self._opening is None:
            self.outbox.resume()

    def writing_failed(self) -> None:
        # Read all that the peer sent before it disconnected. It cannot send more, so this is bounded.
        self.gate.ignore(UNREAD)

    def frame_sent(self) -> None:
        """Send the control frames that waited for the end of a data frame sent in parts, which is complete now."""
        self.keepalive.frame_sent()
        self.outbox.put_due()
        if not self.protocol.open and self.transport is not None:
            self.outbox.flush()
            if self.protocol.closed_both_ways:
                self._end_closing_handshake()

    def backlog(self) -> int:
        """Return the number of bytes that were sent and not written to the socket. Any thread may call this."""
        outbox = self.outbox
        return 0 if outbox.network is None else outbox.backlog() + self.turns.size

    def warn_discarded(self, size: int) -> None:
        """Log that bytes were discarded because nothing reads the connection."""
        logger.warning(
            "%s: discarded %d unread bytes: nothing reads this connection; iterate over the client or register "
            "@client.message (logged once per connection)",
            self.peer(),
            size,
            extra=self.log_fields(),
        )

    def slow(self) -> None:
        """Report that the backlog is over half of `Limits.max_write_backlog`."""
        if self.on_slow is not None:
            # Not now: this may be called in the middle of a frame, where nothing else must be sent.
            self.environment.loop.call_soon(self._report_slow, self.backlog())

    def _report_slow(self, backlog: int) -> None:
        if self.on_slow is not None:
            self.on_slow(backlog)

    # Closing ---------------------------------------------------------------------------------------------------

    def begin_close(self, code: int, reason: str, timeout: float | None = None) -> None:
        """Send a Close frame, unless one was sent (RFC 6455 section 7.1.2).

        :param timeout: the seconds until the connection is dropped; None for `Timeouts.close`. If the connection is
            closing already, the earlier deadline applies.
        """
        frame = self.protocol.close(code, reason)
        if frame:
            self.outbox.put_control(frame)
            self.outbox.flush()
            self._begin_closing()
            self.inbox.begin_closing()
        if timeout is not None and self.transport is not None:
            if frame:
                self.environment.close_deadlines.discard(self.close_overdue)
            self._limit_closing_to(timeout)

    def _limit_closing_to(self, seconds: float) -> None:
        """End the connection within some seconds, unless an earlier call has a deadline that is earlier."""
        timer = self.environment.loop.call_later(seconds, self._drop_closing, seconds)
        if self._close_timer is not None:
            if self._close_timer.when() <= timer.when():
                timer.cancel()
                return
            self._close_timer.cancel()
        self._close_timer = timer

    def fail(self, code: int, reason: str, cause: Cause, side: Side = Side.REMOTE, detail: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7).

        :param reason: sent to the peer in the Close frame.
        :param detail: used in the outcome instead of the reason, if given.
        """
        if self.transport is None or self.protocol.failed:
            return
        frame = self.protocol.fail(code, reason, cause, side, detail or reason)
        if frame:
            self.outbox.put(frame)
        self._end_failed()

    def _end_failed(self) -> None:
        self.outbox.flush()  # nothing can be written after the end of the stream
        self._begin_closing()
        self.inbox.end()
        self.gate.resume(UNREAD)
        self.end_writing()

    def end_writing(self) -> None:
        """Close the sending side only, if the transport can.

        If the peer is still sending, closing both sides would reset the TCP connection, and the peer might never read
        the Close frame (RFC 6455 section 7.1.1).
        """
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            # If the peer is gone and has reset the connection, the transport reports that next.
            with suppress(OSError):
                transport.write_eof()
        else:
            transport.close()

    def _begin_closing(self) -> None:
        """Refuse further messages, and end the connection within `Timeouts.close`."""
        self.turns.close()
        self._limit_closing()

    def _limit_closing(self) -> None:
        deadlines = self.environment.close_deadlines
        if self._close_timer is None and self.close_overdue not in deadlines:  # later events do not extend the deadline
            deadlines.add(self.close_overdue)

    def _end_closing_handshake(self) -> None:
        """Close the TCP connection, if this side is the server and its Close frame was sent.

        A client waits for the server to do it.
        """
        if self._server and not self.protocol.unsent:
            # RFC 6455 section 7.1.1: the server closes the TCP connection first.
            self.transport.close()

    def close_overdue(self) -> None:
        """Drop the connection: the closing handshake was not completed within `Timeouts.close`."""
        self._drop_closing(self.environment.timeouts.close)

    def _drop_closing(self, seconds: float | None) -> None:
        """Drop the connection: the closing handshake was not completed in time."""
        if self.transport is None:
            return
        if self._opening is None:
            self.protocol.explain(Cause.CLOSE_TIMEOUT, Side.LOCAL, f"waited {seconds:g} s")
        self.transport.abort()

    def abort(self) -> None:
        """Drop the connection without a closing handshake. Data that was not written to the socket is discarded."""
        if self.transport is None:
            return
        if self._opening is None:
            self.protocol.drop()
            self.outbox.close()
            self.turns.close()
        self.transport.abort()

    def eof_received(self) -> bool:
        """The peer has closed its sending side. Return False, so that the transport writes its queue and closes.

        A deadline limits this, because a peer may read slowly.
        """
        if self._opening is None:
            self.protocol.explain(Cause.RESET, Side.REMOTE, "")
            self._limit_closing()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        opening = self._opening
        if self.transport is not None:  # else the TLS handshake has failed
            if not isinstance(self._named, SelectorTransport):
                # The application may keep the request of a connection that was refused.
                self.address()
                self._secure = self.transport.get_extra_info("sslcontext") is not None
            self.transport = None
            self.gate.close()
        try:
            if opening is not None:
                self._opening = None
                opening.lost(self, error)
            else:
                self._lose(error)
        finally:
            for future in self._closed or ():
                if not future.done():
                    future.set_result(None)
            self._closed = None
            for callback in self._call_when_closed or ():
                self.environment.loop.call_soon(callback)
            self._call_when_closed = None

    def _lose(self, error: Exception | None) -> None:
        """End the streams: the transport is closed."""
        self.keepalive.close()
        self.environment.close_deadlines.discard(self.close_overdue)
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        protocol = self.protocol
        if not protocol.closed_both_ways:
            detail = "" if error is None else f"{type(error).__name__}: {error}"
            protocol.explain(Cause.RESET, Side.REMOTE, detail)
        protocol.change(Change.LOST)
        self.ended = monotonic()
        if self.inbox.inflation is not None:
            self.inbox.inflation.inflater.counting = False  # the numbers of this connection are final
        on_lost, self.on_lost = self.on_lost, None
        self.on_ping = self.on_pong = self.on_slow = None  # they refer to this connection
        try:
            if on_lost is not None:
                on_lost()  # before any reader runs, because a reader may reconnect
        finally:  # an observer may raise `SystemExit`
            self.inbox.end()
            self.outbox.close()
            self.network.close()
            self.turns.close()
            self.pings.close(protocol.closed_error)

    # The state of the connection -------------------------------------------------------------------------------

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Any number of tasks may wait."""
        if not self.is_closed:
            await self._wait_end()

    async def _wait_end(self) -> None:
        if self._closed is None:
            self._closed = []
        future: Future[None] = self.environment.loop.create_future()
        self._closed.append(future)
        try:
            await future
        finally:
            if self._closed is not None:
                self._closed.remove(future)  # the wait was cancelled

    def call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call a function after the connection has ended, in a later loop iteration."""
        if self.is_closed:
            self.environment.loop.call_soon(callback)
            return
        if self._call_when_closed is None:
            self._call_when_closed = []
        self._call_when_closed.append(callback)

    async def wait_gone(self) -> None:
        """Wait until the transport is closed, whether or not the handshake succeeded."""
        if self.transport is None and self._opening is None:
            return
        await self._wait_end()

    @property
    def is_opening(self) -> bool:
        """Whether the opening handshake is under way."""
        return self._opening is not None

    @property
    def is_open(self) -> bool:
        """Whether this is an open WebSocket connection."""
        return self._opening is None and self.transport is not None and self.protocol.open

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._opening is None and self.transport is None

    def outcome(self) -> CloseOutcome | None:
        """Return how the connection ended or is about to end; None while it is open."""
        if self.protocol.open:
            return None
        return self.protocol.outcome()

    # The peer --------------------------------------------------------------------------------------------------

    def address(self) -> tuple[str, int]:
        """Return the address and port of the peer; for a Unix socket, its path and 0."""
        if self._address is None:  # made at first use, because that takes longer than to read a message
            self._address = peer_address(self._named, 0)
            self._named = None
        return self._address

    @property
    def remote(self) -> tuple[str, int]:
        """The address of the client that the peer, a trusted proxy, has forwarded; otherwise that of the peer."""
        forwarded = None if self.forwarding is None else self.forwarding.remote
        return self.address() if forwarded is None else forwarded

    @property
    def secure(self) -> bool:
        """Whether the client uses TLS, on this connection or on that to the trusted proxy."""
        forwarded = None if self.forwarding is None else self.forwarding.secure
        if forwarded is not None:
            return forwarded
        return self._secure if self.transport is None else self.get_extra_info("sslcontext") is not None

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the transport; `default` if there is none, or the connection has ended."""
        transport = self.transport
        info: object = default if transport is None else transport.get_extra_info(name, default)
        return info

    def peer(self) -> str:
        """Return the address of the client, for a log line."""
        host, port = remote = self.remote
        return address_text(remote) if port else host or "a peer"

    def log_fields(self) -> dict[str, object]:
        """Return the additional attributes of log records about this connection."""
        fields: dict[str, object] = {"role": "server" if self._server else "client", "remote": self.peer()}
        if self.target is not None:
            fields["client_id"] = self.client_id
            fields["path"] = origin_form("GET", self.target).partition("?")[0]  # the query may hold a token
            if not self._server:
                fields["remote"] = self.server_name  # the peer may be a proxy
        return fields


class AsyncioConnection(Connection, BufferedProtocol):
    """`Connection` as an `asyncio.BufferedProtocol`, for the loop's own transports; see `net.tls.layer.AsyncioTls`."""

    __slots__ = ()


def connection_class(loop: AbstractEventLoop) -> type[Connection]:
    """Return the class of the connections of a loop."""
    return Connection if has_own_transports(loop) else AsyncioConnection
