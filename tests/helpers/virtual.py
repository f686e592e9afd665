"""Connections without a network: both ends on one loop, whose time and bytes a test moves step by step."""

import asyncio
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import attrs

from . import builds

ALL = 1 << 40
"""More bytes than there ever are."""


def packages() -> list[str]:
    """Return the packages to test: the installed build, and the pure one too if the installed one is compiled."""
    return ["streamws", builds.load_pure().__name__] if builds.is_compiled() else ["streamws"]


def build_of(package: str) -> str:
    """Return the name of a build in test ids."""
    return "pure" if package != "streamws" or not builds.is_compiled() else "compiled"


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that runs one iteration at a time and never sleeps."""

    now = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        """Exceptions that were never retrieved, which another loop would log."""
        self.set_exception_handler(self._note)

    def _note(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def time(self) -> float:
        return self.now

    def iterate(self) -> None:
        """Run one iteration."""
        self.stop()
        self.run_forever()

    def settle(self) -> None:
        """Run until no callback is ready."""
        for _ in range(10_000):
            if not self._ready:  # type: ignore[attr-defined]
                return
            self.iterate()
        raise AssertionError("callbacks keep scheduling callbacks")

    def pass_time(self, seconds: float) -> None:
        """Advance the time and run the timers that expire."""
        self.now += seconds
        self.iterate()
        self.settle()

    def end(self) -> None:
        """Cancel all tasks and close the loop."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.create_task(self.shutdown_asyncgens())
        self.settle()
        self.close()


class NoSocket:
    """A socket with an invalid descriptor: every direct write to it fails, and falls back to the transport."""

    def fileno(self) -> int:
        return 1 << 30

    def __repr__(self) -> str:
        return "NoSocket()"


def _nothing(data: bytes) -> None:
    pass


class VirtualTransport(asyncio.Transport):
    """One end of a pair. Written bytes stay here until `move` delivers them to the other end.

    The first `capacity` bytes count as written to the socket, all others as the transport's write buffer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int, socket: NoSocket | None) -> None:
        super().__init__({"socket": socket})
        self._loop = loop
        self._capacity = capacity
        self.other: VirtualTransport = self
        self.on_written: Callable[[bytes], None] = _nothing
        """Called with all bytes that are written."""
        self.on_received: Callable[[bytes], None] = _nothing
        """Called with all bytes that are received, before the protocol gets them."""
        self._protocol: Any = None
        self._on_the_way = bytearray()
        self._low, self._high = 0, 1 << 16
        self._writing_paused = False
        self._reading = True
        self._closing = False
        self._ending = False
        self._end_written = False
        self._end_moved = False
        self.lost = False

    # Transport interface ---------------------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is not None
        self._low, self._high = low, high

    def get_write_buffer_size(self) -> int:
        return max(0, len(self._on_the_way) - self._capacity)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._end_written:
            raise RuntimeError("write() after write_eof()")
        self.on_written(bytes(data))
        if self._closing or self.other.lost:
            return
        self._on_the_way += data
        if self.get_write_buffer_size() > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._end_written = True

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._taken()

    def abort(self) -> None:
        self.drop(None, keep=self._capacity)

    # Network ---------------------------------------------------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    @property
    def writing_paused(self) -> bool:
        return self._writing_paused

    @property
    def can_move(self) -> bool:
        """Whether the other end is reading, and there are bytes or an end of the stream to deliver."""
        ends = self._end_written and not self._end_moved
        return self.other.is_reading() and (len(self._on_the_way) > 0 or ends)

    def move(self, size: int) -> None:
        """Deliver bytes to the other end, and the end of the stream after the last one."""
        while size > 0 and self._on_the_way and self.other.is_reading():
            buffer = self.other._protocol.get_buffer(-1)
            data = bytes(self._on_the_way[: min(size, len(buffer))])
            size -= len(data)
            del self._on_the_way[: len(data)]
            self._taken()
            buffer[: len(data)] = data
            self.other.on_received(data)
            self.other._protocol.buffer_updated(len(data))
        if size > 0 and self.can_move:
            self._end_moved = True
            if not self.other._protocol.eof_received():
                self.other.close()

    def drop(self, error: Exception | None, keep: int) -> None:
        """Lose the connection; only the first `keep` bytes are still delivered to the other end."""
        self._closing = True
        del self._on_the_way[keep:]
        self._end(error)

    def _taken(self) -> None:
        """Update the state of writing after bytes left the buffer."""
        size = self.get_write_buffer_size()
        if self._writing_paused and size <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing and size == 0:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._ending:
            self._ending = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        self.lost = self._end_written = True
        self._protocol.connection_lost(error)
        self.other._on_the_way.clear()
        self.other._taken()


class SynchronousTransport(VirtualTransport):
    """A transport that delivers data from inside `write`."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.move(ALL)

    def write_eof(self) -> None:
        super().write_eof()
        self.move(ALL)

    def resume_reading(self) -> None:
        super().resume_reading()
        self.other.move(ALL)

    def _lose(self, error: Exception | None) -> None:
        super()._lose(error)
        self.move(ALL)


class _NoOpening:
    """Stands in for the opening handshake."""

    def connected(self, connection: object) -> None:
        pass

    def received(self, connection: object, data: bytes) -> None:
        raise AssertionError("bytes before the connection was started")

    def lost(self, connection: object, error: Exception | None) -> None:
        raise AssertionError("lost before the connection was started")


@attrs.frozen(eq=False)
class Endpoint:
    """One end of a connection, on one of the builds."""

    streamws: ModuleType
    client: Any
    connection: Any
    transport: VirtualTransport


def endpoint(
    loop: asyncio.AbstractEventLoop,
    package: str,
    transport: VirtualTransport,
    *,
    server: bool,
    limits: Mapping[str, Any],
    timeouts: Mapping[str, Any],
    compression: Mapping[str, Any] | None = None,
    terms: Mapping[str, Any] | None = None,
) -> Endpoint:
    """Make an open connection on a transport, as a server does after the opening handshake.

    :param terms: the negotiated parameters of compression.
    """
    streamws = importlib.import_module(package)
    connections = importlib.import_module(f"{package}.connection")
    environment = connections.Environment(loop, streamws.Limits(**limits), streamws.Timeouts(**timeouts))
    connection = connections.Connection(environment, server, _NoOpening())
    transport.connect(connection)
    if compression is None or terms is None:
        connection.start()
    else:
        extensions = importlib.import_module(f"{package}.handshake.extensions")
        connection.start(streamws.Compression(**compression), extensions.DeflateTerms(**terms))
    client = streamws.Client(connection, streamws.Request("GET", "/", streamws.Headers()), None, None)
    return Endpoint(streamws, client, connection, transport)


QUIET: Mapping[str, Any] = {"close": 5, "ping_interval": None, "ping_timeout": None}
"""No keepalive pings."""


def connected(
    loop: asyncio.AbstractEventLoop,
    packages: tuple[str, str],
    *,
    kind: type[VirtualTransport] = VirtualTransport,
    capacity: int = 0,
    socket: NoSocket | None = None,
    limits: Mapping[str, Any] | None = None,
    timeouts: Mapping[str, Any] = QUIET,
    compressions: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> tuple[Endpoint, Endpoint]:
    """Make the server's end and the client's end of a connection.

    :param compressions: the options of each end.
    """
    one, other = kind(loop, capacity, socket), kind(loop, capacity, socket)
    one.other, other.other = other, one
    common: dict[str, Any] = {"limits": limits or {}, "timeouts": timeouts}
    wishes = compressions or (None, None)
    terms = (None, None) if compressions is None else agree(packages, compressions)
    return (
        endpoint(loop, packages[0], one, server=True, compression=wishes[0], terms=terms[0], **common),
        endpoint(loop, packages[1], other, server=False, compression=wishes[1], terms=terms[1], **common),
    )


def agree(
    packages: tuple[str, str], compressions: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Negotiate compression; returns the terms as the server and as the client see them."""
    (server, of_server), (client, of_client) = (
        (
            importlib.import_module(f"{package}.handshake.extensions"),
            importlib.import_module(package).Compression(**compression),
        )
        for package, compression in zip(packages, compressions, strict=True)
    )
    answer, terms = server.accept_offer(client.make_offers(of_client), of_server)
    return attrs.asdict(terms), attrs.asdict(client.check_answer(answer, of_client))
