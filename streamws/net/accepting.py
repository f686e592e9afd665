"""Accepting connections on listening sockets."""

import asyncio
import errno
import logging
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from sys import maxsize
from typing import Any

from ..codes import CloseCode
from ..wire.protocol import check_close
from .addresses import address_text, is_tcp
from .poll import Watched, poll_of
from .selector import SelectorTransport, hold_descriptor
from .sockets import READ, accept_now

logger: logging.Logger = logging.getLogger("streamws")

_MAX_ACCEPTS = 32
"""The most connections that are accepted before the sockets of other connections are served."""

_PAUSE = 1.0
"""The seconds for which nothing is accepted after the system had no resources for another connection."""

_OF_ONE_CONNECTION = {
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
    )
    if hasattr(errno, name)
}
"""The errors of a connection that was broken before it was accepted (accept(2)). Other errors, such as EMFILE, last."""

_PATIENCE = 1.0
"""The seconds after which a silent client may be dropped, if others wait for its place."""


class Openings:
    """The connections that wait for their client: for its TLS handshake or its request.

    While there are too many, none is accepted, and those that have waited for long are dropped. In a rush of honest
    clients each one is served. But clients that connect and say nothing do not keep the others out.
    """

    __slots__ = ("_counted", "_listeners", "_loop", "_timer", "_under_way", "_warned", "limit")

    def __init__(self, loop: AbstractEventLoop, limit: int, counted: bool = False) -> None:
        """Create an empty set.

        :param limit: the most connections (`Limits.max_handshakes`).
        :param counted: whether to call the method `accepted` of each key with its transport, before the transport is
            started. The key then counts the connection for its address.
        """
        self._loop = loop
        self.limit: int = limit
        self._counted = counted
        self._under_way: dict[Any, tuple[float, Any]] = {}  # since when, and the transport; the oldest first
        self._listeners: list[Listener] = []  # those that wait for a place
        self._timer: asyncio.TimerHandle | None = None  # for the time when the oldest one may be dropped
        self._warned = False  # whether the warning was logged

    def __len__(self) -> int:
        return len(self._under_way)

    def is_full(self) -> bool:
        """Return whether there is no place for another connection."""
        return len(self._under_way) >= self.limit

    def is_over_limit(self) -> bool:
        """Return whether there are more connections than places."""
        return len(self._under_way) > self.limit

    def is_flooded(self) -> bool:
        """Return whether there are so many connections that a new TLS connection must be dropped at once.

        Connections up to twice the limit are kept until their TLS handshake is complete, so that they can get a
        response. This is used only where the loop accepts the connections, because our own listeners pause earlier.
        """
        return len(self._under_way) > 2 * self.limit

    def lift_limit(self) -> None:
        """Remove the limit: those that wait to be accepted are accepted now, and nothing after them."""
        self.limit = maxsize // 2  # `is_flooded` doubles it

    def begin(self, key: Any) -> None:
        """Add a connection that was accepted."""
        self._under_way[key] = (self._loop.time(), None)

    def set_transport(self, transport: Any) -> None:
        """Set the transport of the connection that was added last."""
        if self._under_way:
            key, (since, _) = self._under_way.popitem()
            self._under_way[key] = (since, transport)
            if self._counted:
                key.accepted(transport)

    def end(self, key: object) -> None:
        """Remove a connection: its request is complete, or it has ended."""
        self._under_way.pop(key, None)
        if self._listeners and not self.is_full():
            self._resume()

    def wait(self, listener: "Listener") -> None:
        """Pause a listener until there is a place."""
        self._listeners.append(listener)
        listener.pause()
        if self._timer is None:
            oldest, _ = next(iter(self._under_way.values()))
            self._timer = self._loop.call_at(max(oldest + _PATIENCE, self._loop.time()), self._make_room)
        if not self._warned:
            self._warned = True
            logger.warning(
                "%d connections wait for the request of their client (Limits.max_handshakes): accepting no others "
                "until one of them ends, and dropping those that wait for over %g s (logged once)",
                len(self),
                _PATIENCE,
            )

    def _make_room(self) -> None:
        """Drop the connections that have waited for long, and accept others."""
        self._timer = None
        if not self._listeners:
            return  # there was a place in the meantime
        late = self._loop.time() - _PATIENCE
        for since, transport in [*self._under_way.values()]:
            if since > late:
                break
            if transport is not None:
                transport.abort()
        self._resume()

    def _resume(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.resume()

    def close(self) -> None:
        """Resume no listener any more: the server is closed."""
        self._listeners = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


SHUTTING_DOWN = "server shutting down"
"""The reason in the Close frames of a server that stops, unless the application gives another one."""

_MAX_WAITING = 4096
"""The most connections that are accepted from the queue of the system when the server stops to listen. This is the
longest queue that Linux allows by default."""


class Listener(Watched):
    """Accepts connections from one listening socket."""

    __slots__ = (
        "_descriptor_hold",
        "_exhausted",
        "_factory",
        "_loop",
        "_openings",
        "_path",
        "_poll",
        "_sock",
        "_timer",
    )

    def __init__(
        self, loop: AbstractEventLoop, sock: socket.socket, factory: Callable[[], Any], openings: Openings
    ) -> None:
        """Create a listener; `resume` starts it.

        :param sock: a listening socket that does not block. The listener closes it.
        :param factory: makes the protocol of each connection, as for `SelectorTransport`.
        """
        super().__init__(sock.fileno())
        self._loop = loop
        self._sock = sock
        self._descriptor_hold: Any = hold_descriptor(sock)
        self._factory = factory
        # The path of a Unix socket stands for the address of its peers, which have none.
        self._path = None if is_tcp(sock) else sock.getsockname()
        self._openings = openings
        self._timer: asyncio.TimerHandle | None = None  # while the system lacks resources
        self._exhausted = False  # whether the system lacked resources at the last attempt
        self._poll = poll_of(loop)
        self._poll.attach()

    def __repr__(self) -> str:
        return f"<Listener fd={self.descriptor}>"

    def read_ready(self) -> None:
        for count in range(_MAX_ACCEPTS):
            if self._openings.is_full():
                if count == 0:  # else it is not known whether another connection waits
                    self._openings.wait(self)
                return
            if not self.events:
                return  # the server was closed while it accepted
            try:
                accepted = accept_now(self._sock, self.descriptor)
            except OSError as error:
                if error.errno in _OF_ONE_CONNECTION:
                    continue
                self._wait_for_resources(error)
                return
            if accepted is None:
                return
            if self._exhausted:
                self._exhausted = False
                logger.warning("accepting connections on %s again", self._name())
            descriptor, peer = accepted
            self._start(descriptor, peer)

    def accept_waiting(self) -> None:
        """Accept the connections in the queue of the system, although no others will be accepted."""
        self._openings.lift_limit()
        with suppress(OSError):  # of one connection, or no resources for it: those that wait are reset
            for _ in range(_MAX_WAITING):
                accepted = accept_now(self._sock, self.descriptor)
                if accepted is None:
                    return
                descriptor, peer = accepted
                self._start(descriptor, peer)

    def _start(self, descriptor: int, peer: object) -> None:
        """Start the transport of an accepted connection."""
        try:
            protocol = self._factory()
            transport = SelectorTransport(self._loop, self._poll, protocol, descriptor, None, peer, self._path)
        except BaseException:
            os.close(descriptor)
            raise
        self._openings.set_transport(transport)
        try:
            transport.start()
        except BaseException:
            transport.abort()
            raise

    def _name(self) -> str:
        return address_text(self._sock.getsockname())

    def _wait_for_resources(self, error: OSError) -> None:
        # The connections that wait would be reported again and again, and the loop would do nothing else.
        self.pause()
        self._timer = self._loop.call_later(_PAUSE, self.resume)
        if not self._exhausted:
            self._exhausted = True
            logger.warning(
                "cannot accept connections on %s: %s; trying again every %g s", self._name(), error.strerror, _PAUSE
            )

    def pause(self) -> None:
        """Accept nothing until `resume` is called."""
        self._poll.watch(self, 0)

    def resume(self) -> None:
        """Accept connections, unless the listener is closed."""
        self._timer = None
        if self.descriptor >= 0:
            self._poll.watch(self, READ)

    def close(self) -> None:
        """Stop listening, and close the socket."""
        if self.descriptor < 0:
            return
        self.pause()
        if self._timer is not None:
            self._timer.cancel()
        self._openings.close()
        self._poll.detach()
        self.release()
        self._sock.close()
        self._descriptor_hold.close()


class Connections:
    """What a `Server` asks of the connections that it has accepted."""

    __slots__ = ()

    def close_all(self, code: int, reason: str) -> None:
        """Begin the closing handshake of each one."""
        raise NotImplementedError

    def abort_all(self) -> None:
        """Drop each one without a closing handshake."""
        raise NotImplementedError

    async def wait_all(self) -> None:
        """Wait until there are none."""
        raise NotImplementedError


class Server(asyncio.AbstractServer):
    """The listening sockets of a `WebSocketServer`, with the methods of `asyncio.Server`.

    `WebSocketServer.start` and `with` return it. All methods belong to the loop's thread.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sockets: Sequence[socket.socket],
        start: "Callable[[socket.socket], Awaitable[Listener | asyncio.AbstractServer]]",
        connections: Connections,
    ) -> None:
        self._loop = loop
        self._sockets = tuple(sockets)
        self._start = start
        self._connections = connections
        self._listeners: list[Listener | asyncio.AbstractServer] = []
        self._closed = False
        self._waiting: asyncio.Event = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Server on {', '.join(address_text(sock.getsockname()) for sock in self.sockets) or 'nothing'}>"

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty when the server is closed."""
        return () if self._closed else self._sockets

    def get_loop(self) -> AbstractEventLoop:
        """Return the event loop of the server."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        return bool(self._listeners) and not self._closed

    async def start_serving(self) -> None:
        """Accept connections. A server that was started does so already.

        :raises RuntimeError: if the server is closed.
        """
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        if not self._listeners:
            for sock in self._sockets:
                self._listeners.append(await self._start(sock))

    async def serve_forever(self) -> None:
        """Accept connections until the server is closed. Cancelling it closes the server.

        :raises RuntimeError: if the server is closed already.
        """
        await self.start_serving()
        try:
            await self._waiting.wait()
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening. Connections stay open; `WebSocketServer.close` closes them too."""
        if self._closed:
            return
        self._closed = True
        for listener in self._listeners:
            listener.close()
        for sock in self._sockets:  # those of which no listener was made
            sock.close()
        self._waiting.set()

    def accept_waiting(self) -> None:
        """Accept the connections in the queue of the system, to answer them, before the server is closed."""
        for listener in self._listeners:
            if isinstance(listener, Listener):
                listener.accept_waiting()

    def close_clients(self, code: int = CloseCode.GOING_AWAY, reason: str = SHUTTING_DOWN) -> None:
        """Begin to close all connections. New ones are still accepted, unless the server is closed.

        :param code: as for `Client.close`.
        :param reason: as for `Client.close`.
        :raises ValueError, TypeError: if the code must not be sent, or the reason is not valid.
        """
        check_close(code, reason)
        self._connections.close_all(code, reason)

    def abort_clients(self) -> None:
        """Drop all connections at once, without a closing handshake."""
        self._connections.abort_all()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and all its connections have ended. Any number of tasks may wait."""
        await self._waiting.wait()
        await self._connections.wait_all()
