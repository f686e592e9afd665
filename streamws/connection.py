"""The one asyncio protocol class: between the transport below and the streams above, in either role.

A connection begins with its opening handshake, which whoever made it takes care of (`Opening`); `start` makes it a
WebSocket connection. From then on: bytes in -> `wire.protocol` -> `inbox` -> the waiting reader; what that sends is
gathered in the `outbox` and leaves in one write when the chunk is worked off.
"""

import logging
from asyncio import AbstractEventLoop, BufferedProtocol, Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import Protocol as Interface

from .codes import Cause, Close, CloseCode, CloseOutcome, Side
from .errors import ConnectionClosed, ConnectionClosedError
from .handshake.extensions import DeflateTerms
from .net.loops import RECEIVE_BUFFER_SIZE, Deadlines, LoopShare, held_by_system, share_of
from .net.network import Network, Receiver
from .options import Compression, Limits, Timeouts
from .streams.inbox import Inbox
from .streams.outbox import Outbox
from .streams.pings import Pings
from .streams.writer import Writer
from .wire.deflate import Deflater, Inflater
from .wire.protocol import Change, Protocol

logger: logging.Logger = logging.getLogger("streamws")

_USUAL_READ = RECEIVE_BUFFER_SIZE
_FIN_PING = 0x89


class Environment:
    """What the connections of one server, or of one `connect()`, share."""

    __slots__ = (
        "close_deadlines",
        "finished",
        "limits",
        "loop",
        "open_deadlines",
        "ping_times",
        "pong_deadlines",
        "share",
        "timeouts",
    )

    def __init__(self, loop: AbstractEventLoop, limits: Limits, timeouts: Timeouts) -> None:
        self.loop: AbstractEventLoop = loop
        self.share: LoopShare = share_of(loop)
        self.limits: Limits = limits
        self.timeouts: Timeouts = timeouts
        self.finished: Future[None] = loop.create_future()
        self.finished.set_result(None)
        self.open_deadlines: Deadlines = Deadlines(loop, timeouts.open)
        self.close_deadlines: Deadlines = Deadlines(loop, timeouts.close)
        self.ping_times: Deadlines = Deadlines(loop, timeouts.ping_interval)
        self.pong_deadlines: Deadlines = Deadlines(loop, timeouts.ping_timeout)

    def close(self) -> None:
        """Stop all timers."""
        for deadlines in (self.open_deadlines, self.close_deadlines, self.ping_times, self.pong_deadlines):
            deadlines.close()


class Opening(Interface):
    """Who takes care of the opening handshake of a connection."""

    def connected(self, connection: "Connection") -> None:
        """The transport is there."""

    def received(self, connection: "Connection", data: bytes) -> None:
        """Bytes of the handshake have come."""

    def lost(self, connection: "Connection", error: Exception | None) -> None:
        """The transport is gone before the handshake was complete."""


class _Ended:
    """What the streams of a connection that has ended ask instead of it: so they do not keep it alive."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: CloseOutcome) -> None:
        self._outcome = outcome

    def closed_error(self) -> ConnectionClosed:
        return closed_error(self._outcome)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def refuse(self, close: Close, cause: Cause) -> None:
        pass

    def discarded(self, size: int) -> None:
        pass

    def truncated(self, detail: str) -> None:
        pass

    def is_too_slow(self, waiting: int) -> bool:
        return True

    def send_control(self, frame: bytes) -> None:
        pass

    def frame_sent(self) -> None:
        pass


def closed_error(outcome: CloseOutcome) -> ConnectionClosed:
    """What a reader or sender gets when nothing comes or goes any more."""
    return ConnectionClosed(outcome) if outcome.clean else ConnectionClosedError(outcome)


def peer_of(transport: Any) -> str:
    """The peer's address for a log line."""
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else name or "a peer"


class Connection(Receiver):
    """One connection from its transport to its streams."""

    __slots__ = (
        "__weakref__",
        "_alive",
        "_buffer",
        "_closed",
        "_control_backlog",
        "_final",
        "_greedy",
        "_handed",
        "_large_reads",
        "_opening",
        "_ping_place",
        "_server",
        "_share",
        "_taken",
        "_view",
        "_working",
        "environment",
        "inbox",
        "network",
        "on_lost",
        "on_ping",
        "on_pong",
        "outbox",
        "pings",
        "protocol",
        "transport",
        "writer",
    )

    inbox: Inbox
    network: Network
    outbox: Outbox
    pings: Pings
    protocol: Protocol
    writer: Writer

    def __init__(self, environment: Environment, server: bool, opening: Opening) -> None:
        self.environment: Environment = environment
        self._server = server
        self._opening: Opening | None = opening
        self._share = environment.share
        self._view = self._share.view
        self._buffer = self._share.buffer  # the one that the last read went to
        self.transport: Any = None
        """The transport while there is one."""
        self._final: CloseOutcome | None = None  # the outcome, once there is no transport
        self._large_reads = False  # whether the last read was larger than usual, and of a large frame
        self._greedy = self._share.greedy
        self._working = False  # whether a chunk off the network is being worked off
        self._alive = True  # whether anything has come since the last keepalive ping,
        self._handed = 0  # bytes handed to the network in all; up to the ping and with it,
        self._ping_place = 0
        self._taken = 0  # and those of them that the peer had taken when that was looked at last
        self._closed: list[Future[None]] | None = None  # those who wait for the end
        self._control_backlog = 0
        self.on_ping: Callable[[bytes], None] | None = None
        self.on_pong: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called once, when the connection has ended."""

    def start(self, compression: Compression | None = None, terms: DeflateTerms | None = None) -> None:
        """The opening handshake is complete: this is a WebSocket connection now.

        `terms` are what was agreed on of compression, `compression` is what this side wants of it.
        """
        environment = self.environment
        loop = environment.loop
        limits = environment.limits
        self._opening = None
        deflater: Deflater | None = None
        inflater: Inflater | None = None
        if compression is not None and terms is not None:
            deflater = Deflater(compression, terms.window_bits, terms.takeover)
            inflater = Inflater(terms.peer_window_bits, terms.peer_takeover)
        self.protocol = Protocol(self._server, deflater)
        self.protocol.change(Change.OPENED)
        self.pings = Pings(loop)
        self.outbox = Outbox(loop, environment.share.turn, self.write, self.write_parts, limits.write_high)
        self.inbox = Inbox(loop, self.protocol.parser, limits, self, environment.finished, inflater)
        self.writer = Writer(loop, self.protocol, self.outbox, self.pings, self)
        self.network = Network(self.transport)
        self.transport.set_write_buffer_limits(limits.write_high, limits.write_low)
        environment.ping_times.add(self._ping_due)

    # The transport's side --------------------------------------------------------------------------------------

    def connection_made(self, transport: object) -> None:
        self.transport = transport
        if self._opening is not None:
            self._opening.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        # One for all connections of the loop: it is worked off before the loop does anything else.
        if self._opening is None and (self._large_reads or self.protocol.parser.in_frame):
            return self._get_buffer_for_frame()
        self._buffer = self._share.buffer
        return self._view

    def _get_buffer_for_frame(self) -> memoryview:
        """A larger buffer for the rest of a large frame, and for what comes behind it."""
        large = self._large_reads or self.protocol.parser.missing > _USUAL_READ
        if not large or self.inbox.is_streamed():
            # Who streams the frame takes it from there at once: better from a buffer that fits into the cache.
            self._buffer = self._share.buffer
            return self._view
        self._buffer = self._share.large_buffer
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        if self._opening is None:
            self._work_off(self._buffer, nbytes)
            if self.protocol.parser.length > _USUAL_READ:
                # Large frames come in a row.
                self._large_reads = nbytes > _USUAL_READ
            else:
                # Small ones do not get large reads, nor many: working them off would keep other connections waiting.
                self._large_reads = False
                if self._greedy and nbytes == len(self._buffer):
                    self._let_others_read()
        else:
            self._opening.received(self, bytes(memoryview(self._buffer)[:nbytes]))

    def _let_others_read(self) -> None:
        """There is more to read; but it is the other connections' turn."""
        if self.transport is not None and not self.transport.is_closing() and not self.inbox.paused:
            self.transport.pause_reading()
            self.environment.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None and not self.transport.is_closing() and not self.inbox.paused:
            self.transport.resume_reading()

    def receive(self, data: bytes | bytearray, nbytes: int) -> None:
        """Take `data[:nbytes]`, which came off the network."""
        if self.transport is not None:
            self._work_off(data, nbytes)

    def receive_soon(self, data: bytes) -> None:
        """Take what came behind the handshake, and what follows, when whom the connection is for has begun to run."""
        if data or not self._server:
            self.transport.pause_reading()  # some transports bring more before the turn ends
            self.environment.loop.call_soon(self._receive_held, data)

    def _receive_held(self, data: bytes) -> None:
        self._read_on()  # first, since not every transport can be resumed once it closes
        self.receive(data, len(data))

    def _work_off(self, data: bytes | bytearray, nbytes: int) -> None:
        self._alive = True
        protocol = self.protocol
        parser = protocol.parser
        # What a reader waits for need not be copied before that runs. Not where writes may deliver: into this buffer.
        parser.lending = self.network.never_delivers and self.inbox.is_streamed()
        items = protocol.receive(data, nbytes)
        if items:
            self.inbox.push(items)
        outbox = self.outbox
        # A transport may deliver from inside a write of ours: then no task is entered from inside its own step's end.
        nested = self._working
        self._working = True
        if not nested:
            outbox.begin_batch()
        try:
            if protocol.pings:
                self._answer_pings()
            # No user code has run before this point: the whole chunk is parsed.
            self.inbox.wake(nested)
            if protocol.unsettled:
                self._settle()
        finally:
            parser.keep()
            try:
                if not nested:
                    outbox.end_batch()
            finally:
                self._working = nested
        if protocol.open:
            # Once closing, what comes is passed over to find the peer's Close: no reader would resume the network.
            self.inbox.check_flow()

    def _answer_pings(self) -> None:
        protocol = self.protocol
        pings = protocol.pings
        protocol.pings = []
        if protocol.failed:
            protocol.owed = []  # what came before them went over a limit: nothing is sent after that
            return
        self._control_backlog = self._control_backlog + len(pings) if self.outbox.paused else 0
        if self._control_backlog > self.environment.limits.max_control_backlog:
            protocol.owed = []
            self.fail(CloseCode.POLICY_VIOLATION, "pings came faster than their pongs are read", Cause.LIMIT)
            return
        self._send_owed()
        if self.on_ping is not None:
            for payload in pings:
                self.on_ping(payload)

    def _send_owed(self) -> None:
        protocol = self.protocol
        if protocol.unsent:
            return  # inside a data frame the peer would take it for payload: `frame_sent` goes on
        owed = protocol.owed
        protocol.owed = []
        for frame in owed:
            self.outbox.put(frame)

    def _settle(self) -> None:
        """Do what other control frames ask for, and what a broken rule does."""
        protocol = self.protocol
        protocol.settle()
        pongs = protocol.pongs
        if pongs:
            protocol.pongs = []
            for payload in pongs:
                self.pings.answer(payload)
                if self.on_pong is not None:
                    self.on_pong(payload)
        self._send_owed()
        self.outbox.flush()
        if protocol.failed:
            self._give_up()
        elif protocol.close_received is not None:
            self._closing()
            self.inbox.end()
            self._end_handshake()

    def _end_handshake(self) -> None:
        """The closing handshake is complete, but for a Close frame that waits for the end of a data frame."""
        if self._server and not self.protocol.unsent:
            # RFC 6455 section 7.1.1: the server closes the TCP connection first.
            self.transport.close()

    def eof_received(self) -> bool:
        """Nothing more comes: the transport sends what it holds and closes, though not before the peer takes that."""
        if self._opening is None:
            self.protocol.settle_outcome(Cause.RESET, Side.REMOTE, "")
            self._end_in_time()
        return False

    def pause_writing(self) -> None:
        if self._opening is None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        if self._opening is None:
            self.outbox.resume()

    def connection_lost(self, error: Exception | None) -> None:
        opening = self._opening
        self.transport = None
        environment = self.environment
        if opening is not None:
            self._opening = None
            opening.lost(self, error)
        else:
            environment.ping_times.discard(self._ping_due)
            environment.pong_deadlines.discard(self._pong_overdue)
            environment.close_deadlines.discard(self.close_overdue)
            protocol = self.protocol
            if not protocol.closed_both_ways:
                detail = "" if error is None else f"{type(error).__name__}: {error}"
                protocol.settle_outcome(Cause.RESET, Side.REMOTE, detail)
            protocol.change(Change.LOST)
            self._final = protocol.outcome()
            if self.on_lost is not None:
                self.on_lost()  # before any reader runs, which may go on to the next connection
                self.on_lost = None
            ended = _Ended(self._final)
            self.inbox.end()
            self.inbox.detach(ended)
            self.outbox.close()
            self.network.close()
            self.writer._close()
            self.writer._detach(ended)
            self.pings.close(ended)
        for future in self._closed or ():
            if not future.done():
                future.set_result(None)
        self._closed = None

    # Downwards: what the streams ask for -----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand bytes to the network. This and `write_parts` are the only way to it after the handshake."""
        if self.transport is None:
            return
        backlog = self._excess(0) if self.outbox.paused else 0
        self._handed += len(data)
        self.network.write(data)
        if backlog:
            # Not before: it may be the rest of a frame, in the place of which the peer would take the Close frame.
            self._fail_too_slow(backlog)

    def write_parts(self, parts: list[bytes]) -> None:
        """Hand bytes to the network that are better not joined."""
        if self.transport is None:
            return
        backlog = self._excess(0) if self.outbox.paused else 0
        for part in parts:
            self._handed += len(part)
        self.network.write_parts(parts)
        if backlog:
            self._fail_too_slow(backlog)

    def _excess(self, waiting: int) -> int:
        """Bytes that the peer has left untaken, with `waiting` that wait for their turn, if too many; else 0."""
        backlog: int = self.transport.get_write_buffer_size() + waiting
        if self.outbox.exempt or not self.protocol.open or backlog <= self.environment.limits.max_write_backlog:
            return 0
        return backlog

    def _fail_too_slow(self, backlog: int) -> None:
        self.fail(CloseCode.POLICY_VIOLATION, f"{backlog} bytes sent were not read", Cause.LIMIT)

    def is_too_slow(self, waiting: int) -> bool:
        """Whether too much is untaken for a further message, with `waiting` bytes that wait; fails then."""
        if self.transport is None:
            return True
        backlog = self._excess(waiting)
        if backlog:
            self._fail_too_slow(backlog)
        return backlog > 0

    def pause_reading(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def refuse(self, close: Close, cause: Cause = Cause.LIMIT) -> None:
        """Fail the connection because of a message that is not taken: over a limit, of another kind, or corrupt."""
        self.fail(close.code, close.reason, cause)
        self.inbox.end()

    def discarded(self, size: int) -> None:
        logger.warning(
            "%s: %d bytes were discarded, no one reads this connection: iterate over the client, or take messages "
            "with @client.message (said once a connection)",
            self.peer(),
            size,
        )

    def truncated(self, detail: str) -> None:
        """A message of ours will never be complete."""
        self.fail(CloseCode.INTERNAL_ERROR, "", Cause.LOCAL_CANCEL, Side.LOCAL, detail)

    def send_control(self, frame: bytes) -> None:
        """Send a control frame, as soon as no data frame is under way (RFC 6455 section 5.4)."""
        self.protocol.owe(frame)
        self._send_owed()

    def frame_sent(self) -> None:
        """A data frame that was sent piece by piece is complete: what waited for its end goes now."""
        if self._is_ping_held():
            self.environment.pong_deadlines.add(self._pong_overdue)  # it can be answered from now on
        self._send_owed()
        if not self.protocol.open and self.transport is not None:
            self.outbox.flush()
            if self.protocol.closed_both_ways:
                self._end_handshake()

    def closed_error(self) -> ConnectionClosed:
        return closed_error(self._final or self.protocol.outcome())

    # Closing ---------------------------------------------------------------------------------------------------

    def begin_close(self, code: int, reason: str) -> None:
        """Send a Close frame, unless one was sent (RFC 6455 section 7.1.2)."""
        frame = self.protocol.close(code, reason)
        if frame:
            self.send_control(frame)
            self.outbox.flush()
            self._closing()
            self.inbox.pass_over()

    def fail(self, code: int, reason: str, cause: Cause, side: Side = Side.REMOTE, detail: str = "") -> None:
        """Give the connection up (RFC 6455 section 7.1.7). The peer reads `reason`, the outcome says `detail`."""
        if self.transport is None or self.protocol.failed:
            return
        frame = self.protocol.fail(code, reason, cause, side, detail or reason)
        if frame:
            self.outbox.put(frame)
        self._give_up()

    def _give_up(self) -> None:
        self.outbox.flush()  # nothing can be written behind the end of the stream
        self._closing()
        self.inbox.end()
        self.inbox.unpause()
        self.end_writing()

    def end_writing(self) -> None:
        """Close this side, so that what the peer still sends does not reset the connection before it has read why."""
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            # A peer that is gone has answered the last bytes with a reset, of which the transport is going to tell.
            with suppress(OSError):
                transport.write_eof()
        else:
            transport.close()

    def _closing(self) -> None:
        """Whatever happens from here on, the end comes in time."""
        self.writer._close()
        self._end_in_time()

    def _end_in_time(self) -> None:
        deadlines = self.environment.close_deadlines
        if self.close_overdue not in deadlines:  # what else happens meanwhile does not begin it anew
            deadlines.add(self.close_overdue)

    def close_overdue(self) -> None:
        """The time for the closing handshake is over: drop the connection."""
        if self.transport is None:
            return
        if self._opening is None:
            self.protocol.settle_outcome(
                Cause.CLOSE_TIMEOUT, Side.LOCAL, f"no end within {self.environment.timeouts.close} s"
            )
        self.transport.abort()

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        if self.transport is not None:
            self.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Any number of tasks may."""
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
                self._closed.remove(future)  # it was cancelled

    async def wait_gone(self) -> None:
        """Wait until there is no transport, whatever became of the handshake."""
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
        """How the connection ended or is about to; None while it is open."""
        return None if self.protocol.open else self._final or self.protocol.outcome()

    # Keepalive -------------------------------------------------------------------------------------------------

    def _ping_due(self) -> None:
        if self.transport is None or not self.protocol.open:
            return
        environment = self.environment
        environment.ping_times.add(self._ping_due)
        self.network.rest()
        if self.protocol.deflater is not None:
            self.protocol.deflater.rest()
        if self._pong_overdue in environment.pong_deadlines:
            return
        self._alive = False
        self.send_control(self.protocol.ping(self.pings.begin(b"").payload))
        self._ping_place = self._handed + self.protocol.unsent
        self._taken = self._count_taken()
        environment.pong_deadlines.add(self._pong_overdue)

    def _pong_overdue(self) -> None:
        if self._alive or self.transport is None or not self.protocol.open:
            return
        if self.inbox.paused:
            # We do not read, so we cannot know: the time stands still. But whether anyone is there, a write tells:
            # an unasked-for pong, which needs no answer (RFC 6455 section 5.5.3).
            if not self.outbox.paused:
                self.send_control(self.protocol.pong(b""))
            self.environment.pong_deadlines.add(self._pong_overdue)
            return
        before = self._taken
        self._taken = self._count_taken()
        if before < self._ping_place and (self._taken > before or (self._is_ping_held() and not self.outbox.paused)):
            # The ping was behind data that the peer is taking, or behind a data frame that this side takes its time
            # with: it could not be answered yet.
            self.environment.pong_deadlines.add(self._pong_overdue)
            return
        seconds = self.environment.timeouts.ping_timeout
        reason = f"no sign of life within {seconds} s of a ping"
        self.fail(CloseCode.INTERNAL_ERROR, reason, Cause.KEEPALIVE)

    def _is_ping_held(self) -> bool:
        """Whether a ping waits for the end of a data frame."""
        return any(frame[0] == _FIN_PING for frame in self.protocol.owed)

    def _count_taken(self) -> int:
        """Bytes that the peer has taken, as far as one can know."""
        held: int = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            held += held_by_system(sock)
        return max(0, self._handed - held)

    # About the transport ---------------------------------------------------------------------------------------

    def peer(self) -> str:
        """The peer's address for a log line."""
        return "a peer" if self.transport is None else peer_of(self.transport)


class AsyncioConnection(Connection, BufferedProtocol):
    """`Connection` as asyncio wants it: a compiled class cannot have a plain one for its first base."""

    __slots__ = ()
