"""Keepalive pings, and the decision that a peer is gone."""

from typing import Any

from ..codes import Cause, CloseCode
from ..net.gate import MARKS, Gate
from ..net.loops import Deadlines, held_by_system
from ..net.network import Network
from ..wire.protocol import Protocol
from .hub import Hub
from .outbox import Outbox
from .pings import Pings

_FIN_PING = 0x89


class Keepalive:
    """Pings the peer at intervals, and fails the connection if nothing arrives in time (RFC 6455 section 5.5.2)."""

    __slots__ = (
        "_gate",
        "_hub",
        "_network",
        "_outbox",
        "_ping_place",
        "_ping_times",
        "_pings",
        "_pong_deadlines",
        "_protocol",
        "_socket",
        "_taken",
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
        socket: Any,
    ) -> None:
        """Start the keepalive of an open connection.

        :param ping_times: due when a connection sends its next ping.
        :param pong_deadlines: due when a pong is late.
        :param socket: the socket of the transport, if it has one.
        """
        self._protocol = protocol
        self._outbox = outbox
        self._network = network
        self._gate = gate
        self._pings = pings
        self._hub: Hub | None = hub  # not weak: an open connection that nobody holds keeps sending pings
        self._ping_times = ping_times
        self._pong_deadlines = pong_deadlines
        self._socket = socket
        self.alive: bool = True
        """Whether any byte was received since the last ping."""
        self._ping_place = 0  # the bytes written up to and including the last ping
        self._taken = 0  # the bytes that the peer had received when that was last checked
        ping_times.add(self._ping)

    def _ping(self) -> None:
        """Send a ping."""
        if not self._protocol.open:
            return
        self._ping_times.add(self._ping)
        self._network.release_idle_memory()
        if self._protocol.deflater is not None:
            self._protocol.deflater.release_idle_memory()
        if self._check in self._pong_deadlines:
            return  # the last ping is not answered yet
        self.alive = False
        self._outbox.put_control(self._protocol.ping(self._pings.begin(b"").payload))
        self._ping_place = self._outbox.written + self._protocol.unsent
        self._taken = self._count_taken()
        self._pong_deadlines.add(self._check)

    def _check(self) -> None:
        """Fail the connection if the peer had the time to answer the last ping and did not."""
        if self.alive or not self._protocol.open:
            return
        if self._gate.reasons & MARKS:
            # This side does not read, so the time stands still. But a write shows whether the peer is there: an
            # unsolicited pong, which needs no answer (RFC 6455 section 5.5.3).
            if not self._outbox.paused:
                self._outbox.put_control(self._protocol.pong(b""))
            self._pong_deadlines.add(self._check)
            return
        before = self._taken
        self._taken = self._count_taken()
        if before < self._ping_place and (self._taken > before or (self._is_ping_due() and not self._outbox.paused)):
            # The peer has not had the ping yet: it is still receiving data before it, or this side is still sending a
            # data frame.
            self._pong_deadlines.add(self._check)
            return
        if self._hub is not None:
            reason = f"received nothing for {self._pong_deadlines.seconds:g} s after a ping"
            self._hub.fail(CloseCode.INTERNAL_ERROR, reason, Cause.KEEPALIVE)

    def frame_sent(self) -> None:
        """A data frame that was sent in parts is complete: a ping that waited for its end can be answered now."""
        if self._is_ping_due():
            self._pong_deadlines.add(self._check)

    def close(self) -> None:
        """The transport is closed: stop."""
        self._ping_times.discard(self._ping)
        self._pong_deadlines.discard(self._check)
        self._socket = self._hub = None

    def _is_ping_due(self) -> bool:
        """Whether a ping waits for the end of a data frame."""
        return any(frame[0] == _FIN_PING for frame in self._protocol.due)

    def _count_taken(self) -> int:
        """The bytes that the peer has received, as far as this side can know."""
        held = self._network.backlog()
        if self._socket is not None:
            held += held_by_system(self._socket)
        return max(0, self._outbox.written - held)
