"""Keepalive pings, and failing the connection of a peer that does not respond."""

from ..codes import Cause, CloseCode
from ..net.gate import UNREAD, Gate
from ..net.loops import Deadlines
from ..net.network import Network
from ..net.sockets import count_unacknowledged
from ..wire.protocol import Protocol
from .hub import Hub
from .outbox import Outbox
from .pings import Ping, Pings

CHECKS = 4
"""The number of checks in each `Timeouts.ping_timeout`. Time that does not count is measured in whole intervals."""

_FIN_PING = 0x89


class Keepalive:
    """Pings the peer at intervals, and fails the connection if nothing arrives in time (RFC 6455 section 5.5.2)."""

    __slots__ = (
        "_blind",
        "_checks",
        "_delivered",
        "_descriptor",
        "_gate",
        "_hub",
        "_last",
        "_network",
        "_outbox",
        "_ping_end",
        "_ping_times",
        "_pings",
        "_protocol",
        "_silence",
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
        checks: Deadlines,
        descriptor: int,
    ) -> None:
        """Start the keepalive of an open connection.

        :param ping_times: the times of the next pings, by `Timeouts.ping_interval`.
        :param checks: the times of the next checks, `CHECKS` in each `Timeouts.ping_timeout`.
        :param descriptor: the descriptor of the socket; -1 if the transport has none.
        """
        self._protocol = protocol
        self._outbox = outbox
        self._network = network
        self._gate = gate
        self._pings = pings
        self._hub: Hub | None = hub  # not weak: an open connection lives, and sends pings, even if nobody refers to it
        self._ping_times = ping_times
        self._checks = checks
        self._descriptor = descriptor
        self.alive: bool = True
        """Whether any byte was received since the last ping."""
        self._last: Ping | None = None  # the last ping
        self._ping_end = 0  # the number of bytes sent up to the end of the last ping; 0 if no data was queued before it
        self._delivered = 0  # the number of bytes that the peer had received at the last check
        self._blind = False  # whether this side could not see an answer at the last check
        self._silence = 0  # the number of silent intervals between checks in a row
        ping_times.add(self._ping)

    def _ping(self) -> None:
        """Send a ping, unless the last one is not answered yet."""
        if not self._protocol.open:
            return
        self._ping_times.add(self._ping)
        self._network.release_idle_memory()
        if self._protocol.deflater is not None:
            self._protocol.deflater.release_idle_memory()
        if self._is_ping_due():
            return
        if not self.alive and self._check in self._checks:
            if self._gate.reasons & UNREAD and not self._outbox.paused:
                # While this side has paused reading, writing still shows whether the TCP connection is broken. So send
                # an unsolicited pong, to which the peer does not respond (RFC 6455 section 5.5.3).
                self._outbox.put_control(self._protocol.pong(b""))
            return
        self.alive = False
        if self._last is not None:
            self._pings.forget(self._last)  # a peer may send data and no pongs
        self._last = self._pings.begin(b"")
        self._delivered = self._count_delivered()
        waits = self._protocol.unsent > 0 or self._delivered < self._count_sent()
        self._outbox.put_control(self._protocol.ping(self._last.payload))
        self._ping_end = self._count_sent() + self._protocol.unsent if waits else 0
        self._start()

    def _start(self) -> None:
        """Begin to count the time in which the peer must answer a ping."""
        self._silence = 0
        self._blind = self._is_blind()
        self._checks.add(self._check)

    def _check(self) -> None:
        """Count an interval in which the peer was silent; fail the connection after `CHECKS` of them in a row."""
        if self.alive or not self._protocol.open:
            return
        before, self._delivered = self._delivered, self._count_delivered()
        blind, self._blind = self._blind, self._is_blind()
        # Delivered bytes show that the peer's TCP stack receives, not that the peer is alive. They count only while
        # they are ahead of the ping in the stream, or while this side has paused reading and cannot see an answer.
        waits = before < self._ping_end or self._gate.reasons & UNREAD
        if blind or self._blind or (waits and self._delivered > before):
            self._silence = 0
        else:
            self._silence += 1
        if self._silence < CHECKS:
            self._checks.add(self._check)
        elif self._hub is not None:
            seconds = CHECKS * (self._checks.seconds or 0)
            reason = f"received nothing for {seconds:g} s after a ping"
            if self._gate.reasons & UNREAD:
                reason = f"the peer read nothing for {seconds:g} s, and this side waits to send"
            self._hub.fail(CloseCode.INTERNAL_ERROR, reason, Cause.KEEPALIVE)

    def frame_sent(self) -> None:
        """Count the time anew if a ping waited for the end of a data frame, which is complete now."""
        if self._is_ping_due():
            self._ping_end = self._count_sent() + len(b"".join(self._protocol.due))
            self._start()

    def close(self) -> None:
        """Stop: the transport is closed."""
        self._ping_times.discard(self._ping)
        self._checks.discard(self._check)
        self._descriptor = -1
        self._hub = self._last = None

    def _is_ping_due(self) -> bool:
        """Return whether a ping waits for the end of a data frame."""
        return any(frame[0] == _FIN_PING for frame in self._protocol.due)

    def _is_blind(self) -> bool:
        """Return whether this side is the cause of the silence: it has paused reading, or holds the ping back.

        Return False if writing is paused too, because then the peer does not receive anything either.
        """
        return not self._outbox.paused and (self._gate.reasons & UNREAD != 0 or self._is_ping_due())

    def _count_sent(self) -> int:
        """Return the number of bytes sent, with those that TLS has added."""
        return self._outbox.written + self._outbox.gathered() + self._network.overhead()

    def _count_delivered(self) -> int:
        """Return the number of sent bytes that the peer has received, as far as this side can know."""
        held = self._network.backlog()
        if self._descriptor >= 0:
            held += count_unacknowledged(self._descriptor)
        return max(0, self._outbox.written + self._network.overhead() - held)
