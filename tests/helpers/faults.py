"""A TCP proxy on loopback that harms a connection at a chosen byte of either direction. It never reorders bytes.

Both ends of a connection under test run on the loop of the test, and so does the proxy: it moves bytes from one socket
to the other with plain system calls, so no transport of asyncio stands between a fault and its effect.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import attrs

from .waiting import PATIENCE

_CHUNK = 65536
_QUIET = 8
"""Loop iterations without further bytes after which coalesced bytes are passed on, and held ones released."""


class Way(enum.StrEnum):
    """A direction of a connection."""

    UP = "up"
    """To the server."""
    DOWN = "down"
    """To the client."""


class Fault(enum.StrEnum):
    """What happens to the connection once the chosen number of bytes has passed."""

    NONE = "none"
    CUT = "cut"
    """Both ends receive a FIN. Bytes that they still send are discarded."""
    HALF_CLOSE = "half-close"
    """The receiver of this direction gets a FIN. The other direction goes on until its sender ends."""
    RESET = "reset"
    """Both ends receive an RST."""
    STALL = "stall"
    """Nothing more is read from the sender of this direction. The other direction goes on."""
    FREEZE = "freeze"
    """Nothing more is read from either end."""
    DELAY = "delay"
    """The rest of this direction waits until both ends have been quiet for some loop iterations."""


class Pace(enum.StrEnum):
    """How bytes are passed on."""

    AS_READ = "as read"
    SINGLE = "single bytes"
    """One byte at a time; the receiver reads each one before the next one is sent."""
    COALESCED = "coalesced"
    """All bytes that the sender sends until it is quiet, in one write."""


@attrs.frozen
class Plan:
    """The fault of one connection."""

    fault: Fault = Fault.NONE
    way: Way = Way.UP
    at: int = 0
    """The number of bytes of this direction that pass before the fault."""
    pace: Pace = Pace.AS_READ

    def __str__(self) -> str:
        return f"{self.fault} {self.way} at {self.at}, {self.pace}"


class _Flow:
    """One direction of a connection through the proxy."""

    def __init__(self, link: "Link", source: socket.socket, sink: socket.socket, at: int | None) -> None:
        """:param at: the number of bytes before the fault of the connection; None for no fault in this direction."""
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._at = at
        self._held = bytearray()  # bytes that were read and not yet passed on
        self._reading = False
        self._ended = False  # whether the source has ended
        self._holds = False  # whether nothing is passed on until `release`
        self._turns = 0  # loop iterations since bytes were last read
        self._timer: asyncio.Handle | None = None
        self.source = source
        self.sink = sink
        self.passed = bytearray()
        """All bytes that were passed on."""
        self.done = False
        """Whether the receiver has got a FIN or an RST."""

    def start(self) -> None:
        self._reach_fault()
        self._read_on()

    def _read_on(self) -> None:
        if not self._reading and not self._ended and self.source.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self.source, self._read)

    def pause(self) -> None:
        """Read nothing more from the source."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.source)

    def _read(self) -> None:
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            self._link.reset()
            return
        if not data:
            self._ended = True
            self.pause()
        elif not self.done:
            self._held += data
        self._turns = 0
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass on all held bytes that need not wait any longer."""
        if self._holds or self._timer is not None:
            return
        if self._link.plan.pace is Pace.AS_READ:
            self._write(len(self._held))
        elif self._held:
            self._timer = self._loop.call_soon(self._tick)
        self._check_end()

    def _tick(self) -> None:
        """Pass on single or coalesced bytes, some loop iterations later."""
        self._timer = None
        if self._holds or self.done:
            return
        single = self._link.plan.pace is Pace.SINGLE
        self._turns += 1
        if self._turns >= (2 if single else _QUIET):
            self._turns = 0
            self._write(1 if single else len(self._held))
        if self._held and not self._holds:
            self._timer = self._loop.call_soon(self._tick)
        self._check_end()

    def _write(self, count: int) -> None:
        """Pass on this number of the held bytes, at most up to the fault."""
        if self._at is not None:
            count = min(count, self._at - len(self.passed))
        if count and self._held and not self.done:
            try:
                sent = self.sink.send(memoryview(self._held)[:count])
            except BlockingIOError:
                sent = 0
            except ConnectionError:
                self._link.reset()
                return
            self.passed += self._held[:sent]
            del self._held[:sent]
            if sent < count:
                self.pause()  # the receiver does not read, so the sender has to wait as well
                self._loop.add_writer(self.sink, self._resume)
                return
        self._reach_fault()

    def _resume(self) -> None:
        self._loop.remove_writer(self.sink)
        if not self._holds:
            self._read_on()
        self._pass_on()

    def arm(self, at: int) -> None:
        """Let the fault happen after this number of bytes in all."""
        self._at = at
        self._reach_fault()

    def _reach_fault(self) -> None:
        if self._at is not None and len(self.passed) >= self._at:
            self._at = None
            self._link.harm(self)

    def _check_end(self) -> None:
        if self._ended and not self._held and not self._holds:
            self.finish()
            self._link.check_end()

    def hold(self) -> None:
        """Pass on nothing until `release`."""
        self._holds = True

    def release(self) -> None:
        """Pass on bytes again."""
        if self._holds:
            self._holds = False
            self._read_on()
            self._pass_on()

    def release_when_quiet(self) -> None:
        """Pass on bytes again when both ends have been quiet for some loop iterations."""
        if self._link.quiet():
            self.release()
        elif not self._link.closed:
            self._loop.call_soon(self.release_when_quiet)

    def is_quiet(self) -> bool:
        self._turns += 1
        return self._turns > _QUIET

    def finish(self) -> None:
        """Send a FIN to the receiver, and discard what the sender still sends."""
        if self.done:
            return
        self.done = True
        self._held.clear()
        with suppress(OSError):  # the receiver has reset the connection
            self.sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.done = True
        self.pause()
        self._loop.remove_writer(self.sink)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def over(self) -> bool:
        """Whether both the sender and the receiver of this direction have ended."""
        return self._ended and self.done


class Link:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket, plan: Plan) -> None:
        """
        :param near: the socket towards the client.
        :param far: the socket towards the server.
        """
        self.plan = plan
        self.closed = False
        """Whether both sockets of the proxy are closed."""
        self.harmed = False
        """Whether the fault has happened."""
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = None if plan.fault is Fault.NONE else plan.at
        self.up = _Flow(self, near, far, at if plan.way is Way.UP else None)
        self.down = _Flow(self, far, near, at if plan.way is Way.DOWN else None)

    def start(self) -> None:
        for flow in (self.up, self.down):
            if not self.closed:
                flow.start()

    def flow(self, way: Way) -> _Flow:
        return self.up if way is Way.UP else self.down

    def inflict(self, fault: Fault, way: Way, after: int = 0) -> None:
        """Plan another fault.

        :param after: the number of further bytes of this direction that pass before it; 0 for a fault at once.
        """
        flow = self.flow(way)
        self.plan = attrs.evolve(self.plan, fault=fault, way=way, at=len(flow.passed) + after)
        flow.arm(self.plan.at)

    def harm(self, flow: _Flow) -> None:
        """Let the fault happen."""
        self.harmed = True
        fault = self.plan.fault
        if fault is Fault.CUT:
            self.up.finish()
            self.down.finish()
        elif fault is Fault.HALF_CLOSE:
            flow.finish()
        elif fault is Fault.RESET:
            self.reset()
        else:
            for held in (self.up, self.down) if fault is Fault.FREEZE else (flow,):
                held.hold()
                if fault is not Fault.DELAY:
                    held.pause()
            if fault is Fault.DELAY:
                asyncio.get_running_loop().call_soon(flow.release_when_quiet)

    def release(self) -> None:
        """End a stall."""
        self.up.release()
        self.down.release()

    def quiet(self) -> bool:
        """Count a loop iteration, and return whether enough of them have passed without further bytes."""
        return all([self.up.is_quiet(), self.down.is_quiet()])

    def check_end(self) -> None:
        if self.up.over and self.down.over:
            self.close()

    def reset(self) -> None:
        """Send an RST to both ends."""
        for sock in (self.up.source, self.up.sink):
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close both sockets of the proxy."""
        if not self.closed:
            self.closed = True
            self.up.close()
            self.down.close()
            self.up.source.close()
            self.down.source.close()


class FaultProxy:
    """A proxy in front of a server. Each connection through it has a plan."""

    def __init__(self, target: tuple[str, int]) -> None:
        """:param target: the address of the server."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.links: list[Link] = []
        """All connections so far."""

    @property
    def address(self) -> tuple[str, int]:
        """The address of the proxy."""
        host, port = self._listener.getsockname()
        return host, port

    def connect(self, plan: Plan) -> tuple[socket.socket, Link]:
        """Connect to the server and return the client's socket.

        On loopback this needs no loop iteration, as long as the server's queue of connections is not full.
        """
        client = socket.create_connection(self.address, PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        return client, self._accept(plan)

    def serve(self, plans: Callable[[], Plan]) -> None:
        """Accept connections at `address`; `plans` gives each one its plan."""
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, lambda: self._accept(plans()))

    def _accept(self, plan: Plan) -> Link:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, PATIENCE)
        except BaseException:
            near.close()
            raise
        link = Link(near, far, plan)
        self.links.append(link)
        # Soon: a client that is given a socket checks first that it is connected.
        asyncio.get_running_loop().call_soon(link.start)
        return link

    def close(self) -> None:
        """Stop listening, and close all connections that are still open."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for link in self.links:
            link.close()


@contextmanager
def fault_proxy(target: tuple[str, int]) -> Iterator[FaultProxy]:
    """Run a proxy in front of a server."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
