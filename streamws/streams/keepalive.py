"""Keepalive pings, and failing the connection of a peer that does not respond."""

from ..codes import Cause, CloseCode
from ..net.gate import UNREAD, Gate
from ..net.loops import Deadlines
from ..net.network import Network
from ..net.sockets import count_unacknowledged
from ..wire.protocol import Protocol
from .hub import Hub
from .outbox import Outbox
from .pings import Pings

_FIN_PING = 0x89


class Keepalive:
    """Pings the peer at intervals, and fails the connection if nothing arrives in time (RFC 6455 section 5.5.2)."""

    __slots__ = (
        "_delivered",
        "_descriptor",
        "_gate",
        "_hub",
        "_network",
        "_outbox",
        "_ping_end",
        "_ping_times",
        "_pings",
        "_pong_deadlines",
        "_protocol",
        "alive",
    )

    def __init__(
        self,
        protocol: Protocol,
        outbox: Outbox,
        network: Network,
        gate: Gate,
        pings: Pings,
        hub: Hub,
        ping_times: Deadlines,
        pong_deadlines: Deadlines,
        descriptor: int,
    ) -> None:
        """Start the keepalive of an open connection.

        :param ping_times: the times of the next pings, by `Timeouts.ping_interval`.
        :param pong_deadlines: the deadlines for an answer to the pings, by `Timeouts.ping_timeout`.
        :param descriptor: the descriptor of the socket; -1 if the transport has none.
        """
        self._protocol = protocol
        self._outbox = outbox
        self._network = network
        self._gate = gate
        self._pings = pings
        self._hub: Hub | None = hub  # not weak: an open connection lives, and sends pings, even if nobody refers to it
        self._ping_times = ping_times
        self._pong_deadlines = pong_deadlines
        self._descriptor = descriptor
        self.alive: bool = True
        """Whether any byte was received since the last ping."""
        self._ping_end = 0  # the number of bytes sent up to the end of the last ping
        self._delivered = 0  # the number of bytes that the peer had received at the last check
        ping_times.add(self._ping)

    def _ping(self) -> None:
        """Send a ping, unless the last one is not answered yet."""
        if not self._protocol.open:
            return
        self._ping_times.add(self._ping)
        self._network.release_idle_memory()
        if self._protocol.deflater is not None:
            self._protocol.deflater.release_idle_memory()
        if not self.alive and self._check in self._pong_deadlines:
            return
        self.alive = False
        self._outbox.put_control(self._protocol.ping(self._pings.begin(b"").payload))
        self._ping_end = self._outbox.written + self._protocol.unsent
        self._delivered = self._count_delivered()
        self._pong_deadlines.add(self._check)

    def _check(self) -> None:
        """Fail the connection if the peer had enough time to answer the last ping and did not."""
        if self.alive or not self._protocol.open:
            return
        if self._gate.reasons & UNREAD:
            # While this side has paused reading, it could not see an answer, so the time does not count. But writing
            # still shows whether the TCP connection is broken. So send an unsolicited pong, to which the peer does not
            # respond (RFC 6455 section 5.5.3).
            if not self._outbox.paused:
                self._outbox.put_control(self._protocol.pong(b""))
            self._pong_deadlines.add(self._check)
            return
        before = self._delivered
        self._delivered = self._count_delivered()
        if before < self._ping_end and (self._delivered > before or (self._is_ping_due() and not self._outbox.paused)):
            # The ping has not reached the peer: the peer is still receiving data before it, or the ping waits for this
            # side to complete a data frame.
            self._pong_deadlines.add(self._check)
            return
        if self._hub is not None:
            reason = f"received nothing for {self._pong_deadlines.seconds:g} s after a ping"
            self._hub.fail(CloseCode.INTERNAL_ERROR, reason, Cause.KEEPALIVE)

    def frame_sent(self) -> None:
        """Restart the deadline if a ping waited for the end of a data frame, which is complete now."""
        if self._is_ping_due():
            self._pong_deadlines.add(self._check)

    def close(self) -> None:
        """Stop: the transport is closed."""
        self._ping_times.discard(self._ping)
        self._pong_deadlines.discard(self._check)
        self._descriptor = -1
        self._hub = None

    def _is_ping_due(self) -> bool:
        """Return whether a ping waits for the end of a data frame."""
        return any(frame[0] == _FIN_PING for frame in self._protocol.due)

    def _count_delivered(self) -> int:
        """Return the number of bytes that the peer has received, as far as this side can know."""
        held = self._network.backlog()
        if self._descriptor >= 0:
            held += count_unacknowledged(self._descriptor)
        return max(0, self._outbox.written - held)
