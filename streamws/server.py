"""`WebSocketServer`: accepts connections and hands each one to its handler or callback as a `Client`."""

import asyncio
import inspect
import logging
import os
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from os import PathLike, fspath
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TypeVar

from .callbacks import call
from .client import Client, new_id
from .codes import Cause, CloseCode, Side
from .connection import AsyncioConnection, Connection, Environment, logger
from .errors import HandshakeRefused, UsageError, tells_of_end
from .handshake.head import HeadReader, Request, Response
from .handshake.server import Accept, Policy, Reject, failed, full, judge, refusal, too_slow
from .net.signals import on_signals
from .net.transports import listen, new_loop
from .options import Compression, Limits, Timeouts, compression_of
from .streams.shared import SharedMessage
from .wire.frames import Buffer

Handler = Callable[[Client], Awaitable[None]]
ConnectionCallback = Callable[[Client], Awaitable[None] | None]
RequestCallback = Callable[[Request], Awaitable[Response | None] | Response | None]

_OnConnection = TypeVar("_OnConnection", bound=ConnectionCallback)
_OnRequest = TypeVar("_OnRequest", bound=RequestCallback)


class WebSocketServer:
    """A WebSocket server.

    Give it a `handler`, which owns its connection: when it returns, the connection closes. Or register a callback
    with `@socket.connection`, which is told of each connection and may return while it lives on.

    Start it with one of `async with`, `run()`, or, on a loop of your own that is not running, `with`.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        handler: Handler | None = None,
        ssl: tls.SSLContext | None = None,
        sock: socket.socket | None = None,
        path: str | PathLike[str] | None = None,
        reuse_port: bool | None = None,
        backlog: int = 100,
        origins: Sequence[str] | Literal["*"] | None = None,
        subprotocols: Sequence[str] = (),
        compression: Compression | bool | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        server_header: str | None = "streamws",
    ) -> None:
        """
        :param address: the host name or address to listen on, or several; "" for every interface.
        :param port: the TCP port; 0 for any that is free.
        :param loop: the loop for `with` and `run`; by default `run` makes one, and `async with` uses the running one.
        :param handler: a coroutine function that gets the `Client` of each connection and owns it.
        :param ssl: a context for `wss://`.
        :param sock: a bound socket, instead of address and port.
        :param path: the path of a Unix socket, instead of address and port.
        :param reuse_port: let several processes listen on the port.
        :param backlog: connections that wait to be accepted.
        :param origins: origins of web pages that may connect beside those of the server's own host, such as
            "https://example.org"; "*" for all. Requests without an Origin do not come from a browser and are taken.
        :param subprotocols: those the server speaks, best first.
        :param compression: True to compress messages with clients that offer it (permessage-deflate), or how to.
        :param limits: sizes, in bytes.
        :param timeouts: deadlines, in seconds.
        :param server_header: the `Server` field of the handshake; None for none.
        :raises ValueError, TypeError: if an argument makes no sense.
        """
        places = [name for name, value in (("sock", sock), ("path", path)) if value is not None]
        if port is not None or address is not None:
            places.insert(0, "address and port")
        if len(places) != 1:
            given = " and ".join(places) or "none"
            raise ValueError(f"a server listens on one of address and port, sock, or path; {given} given")
        if places == ["address and port"]:
            if port is None:
                raise ValueError("a port is missing; 0 stands for any that is free")
            if isinstance(port, bool) or not isinstance(port, int):
                raise TypeError(f"port must be an int, not {port!r}")
            if not 0 <= port <= 65535:
                raise ValueError(f"port must be from 0 to 65535, not {port}")
        if handler is not None and not callable(handler):
            raise TypeError(f"handler must be a coroutine function that takes a Client, not {handler!r}")
        if ssl is not None and not isinstance(ssl, tls.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext, not {ssl!r}")
        if ssl is not None and ssl.protocol == tls.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl is a context for clients; for a server make one with ssl.PROTOCOL_TLS_SERVER")
        self._address = address
        self._port = port
        self._sock = sock
        self._path = None if path is None else fspath(path)
        self._ssl = ssl
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._loop = loop
        self._handler = handler
        self._on_connection: ConnectionCallback | None = None
        self._on_request: RequestCallback | None = None
        self.limits: Limits = limits or Limits()
        """The sizes that it holds its connections to."""
        self.timeouts: Timeouts = timeouts or Timeouts()
        """The deadlines that it holds its connections to."""
        self._policy = Policy(origins, subprotocols, server_header, compression_of(compression))
        self._clients: dict[tuple[str, int], Client] = {}
        self._server: asyncio.Server | None = None
        self._unix_inode: int | None = None  # of the Unix socket's file
        self._environment: Environment | None = None
        self._connections: set[Connection] = set()  # all, also those whose handshake is under way
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: asyncio.Event | None = None
        self._stopping: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        place = self._path or (f"{self._address}:{self._port}" if self._sock is None else repr(self._sock))
        state = "not started" if self._server is None else f"{len(self._clients)} clients"
        return f"<WebSocketServer on {place}, {state}>"

    # Callbacks -------------------------------------------------------------------------------------------------

    def connection(self, callback: _OnConnection) -> _OnConnection:
        """Decorator: call `callback` with the `Client` of each connection.

        The connection lives on when the callback returns, until either side closes it. If the callback raises, the
        error is logged and the connection closes with 1011. Returns the function unchanged.

        :raises UsageError: if there is a callback or a handler already.
        """
        if self._handler is not None or self._on_connection is not None:
            raise UsageError("a server has one handler or one @socket.connection callback, and this one has it already")
        self._on_connection = callback
        return callback

    def request(self, callback: _OnRequest) -> _OnRequest:
        """Decorator: call `callback` with each `Request`, before the upgrade.

        A `Response` that it returns is sent, and the connection closed: to refuse a client, or to answer plain HTTP
        (a health check) on the same port. None goes on with the handshake. If it raises, the answer is 500.
        Returns the function unchanged.

        :raises UsageError: if there is a request callback already.
        """
        if self._on_request is not None:
            raise UsageError("this server has a @socket.request callback already")
        self._on_request = callback
        return callback

    # The connections -------------------------------------------------------------------------------------------

    @property
    def clients(self) -> Mapping[tuple[str, int], Client]:
        """The open connections by the peer's `(addr, port)`; a live view."""
        return MappingProxyType(self._clients)

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets."""
        return () if self._server is None else self._server.sockets

    def broadcast(self, data: str | Buffer, to: Iterable[Client] | None = None, compress: bool | None = None) -> int:
        """Send one message to many clients without waiting for any of them.

        The message is encoded once. It is compressed once for all clients that have agreed to the same window and to
        take over nothing, and anew for each one that does (`Compression.takeover`). A client that is slow gets it when
        it can; one that has left more than `Limits.max_write_backlog` bytes unread is closed with 1008.

        :param data: `str` as text, bytes-like as binary.
        :param to: clients of this server; by default all that are open. Those that are closing are passed over.
        :param compress: as for `Writer.send`.
        :returns: the number of clients it is on its way to.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        """
        # A copy: sending to one that is too slow closes it, and whoever keeps `to` may take it out at once.
        clients = tuple(self._clients.values() if to is None else to)
        message = SharedMessage(data, compress)
        return sum(client.writer._send_shared(message) for client in clients)

    # Starting and stopping -------------------------------------------------------------------------------------

    async def start(self) -> asyncio.Server:
        """Listen. `async with` and `run` do this for you.

        :raises OSError: if the address cannot be had (a port in use, no permission); it says which address.
        :raises UsageError: if the server was started before, or has neither handler nor callback.
        """
        if self._server is not None:
            raise UsageError("this server was started already; make a new one to listen again")
        if self._handler is None and self._on_connection is None:
            raise UsageError("this server has no handler: pass handler=, or register one with @socket.connection")
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise UsageError("this server belongs to another loop: start it there, or leave loop= out")
        environment = self._environment = Environment(loop, self.limits, self.timeouts)

        def accept() -> AsyncioConnection:
            return AsyncioConnection(environment, True, _Opening(self, environment))

        try:
            self._server = await listen(
                loop,
                accept,
                host=self._address,
                port=self._port,
                sock=self._sock,
                path=self._path,
                ssl=self._ssl,
                reuse_port=self._reuse_port,
                backlog=self._backlog,
                handshake_timeout=self.timeouts.open,
            )
        except OSError as error:
            place = self._path or (f"{self._address!r}, port {self._port}" if self._sock is None else repr(self._sock))
            message = f"cannot listen on {place}: {error.strerror or error}"
            # Without a number OSError takes the message alone, else it reads "[Errno None]".
            raise (OSError(message) if error.errno is None else type(error)(error.errno, message)) from error
        if self._path is not None:
            self._unix_inode = os.stat(self._path).st_ino
        self._stopped = asyncio.Event()
        logger.info("serving on %s", ", ".join(_address_text(sock) for sock in self.sockets))
        return self._server

    async def close(self) -> None:
        """Stop: accept no more, close every connection with 1001, wait for their ends and handlers.

        Takes little more than `Timeouts.close` seconds: what has not ended by then is dropped and cancelled, and has
        the same time again to end. A handler that calls it is not waited for. Cancelling it drops everything at once.
        Any number of tasks may call it; also on a server that never started.
        """
        if self._server is None or self._stopped is None:
            return
        current = asyncio.current_task()
        if current is not None:
            self._tasks.discard(current)  # a handler that stops its server waits for the others, not for itself
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop(self._server))
        try:
            await asyncio.shield(self._stopping)
        except asyncio.CancelledError:
            self._abort()
            await asyncio.wait([self._stopping])
            raise

    async def _stop(self, server: asyncio.Server) -> None:
        assert self._environment is not None
        assert self._stopped is not None
        server.close()
        for connection in tuple(self._connections):
            if connection.is_open:
                connection.begin_close(CloseCode.GOING_AWAY, "the server stops")
            elif connection.is_opening:
                connection.abort()
        timeout = self.timeouts.close
        ends = [asyncio.ensure_future(connection.wait_gone()) for connection in self._connections]
        await _wait([*ends, *self._tasks], timeout)
        for connection in tuple(self._connections):
            connection.close_overdue()  # its own deadline may come a moment later
        self._abort()
        await _wait([*ends, *self._tasks], timeout)
        for task in self._tasks:
            logger.error("the server stopped, but this task did not end when it was cancelled: %r", task)
        if self._unix_inode is not None:
            _remove_socket(self._path or "", self._unix_inode)
        self._environment.close()
        self._stopped.set()

    def _abort(self) -> None:
        for connection in tuple(self._connections):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()

    async def serve_forever(self) -> None:
        """Wait until the server was stopped by `close`; use it inside `async with`. Cancelling it does not stop it."""
        if self._stopped is None:
            raise UsageError("the server is not started: await serve_forever() inside `async with`")
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> asyncio.Server:
        """Start on the loop given as `loop`, which must not be running; gives the `asyncio.Server`.

        :raises UsageError: inside a running loop (use `async with`), or without a loop.
        """
        self._require_idle_loop("with", "use `async with` there")
        assert self._loop is not None
        return self._loop.run_until_complete(self.start())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(self.close())

    def _require_idle_loop(self, what: str, instead: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise UsageError(f"`{what}` runs the loop itself, and a loop is running here: {instead}")
        if self._loop is None and what == "with":
            raise UsageError("`with` needs a loop: WebSocketServer(..., loop=asyncio.new_event_loop()), or use run()")

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully (see `close`); a second signal drops everything.

        Uses the loop given as `loop`; else a new one, uvloop's if the `speed` extra is installed.

        :raises OSError: if the address cannot be had.
        :raises UsageError: inside a running loop: `async with` and `serve_forever` are for there.
        """
        self._require_idle_loop("run()", "use `async with` and `serve_forever()` there")
        if self._loop is not None:
            self._loop.run_until_complete(self._serve_until_signal())
            return
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self._serve_until_signal())

    async def _serve_until_signal(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        drop = asyncio.Event()

        def signalled(number: int) -> None:
            (drop if stop.is_set() else stop).set()

        restore = on_signals(loop, signalled)
        try:
            async with self:
                await stop.wait()
                closing = loop.create_task(self.close())
                dropping = loop.create_task(drop.wait())
                await asyncio.wait([closing, dropping], return_when=asyncio.FIRST_COMPLETED)
                dropping.cancel()
                if not closing.done():
                    self._abort()
                await closing
        finally:
            restore()

    # One connection --------------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[object, None, None]) -> "asyncio.Task[None]":
        """Start a task that is waited for when the server stops."""
        assert self._environment is not None
        task = self._environment.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _opened(self, connection: Connection, request: Request, accept: Accept) -> None:
        """The handshake is complete: hand the connection to whom it is for."""
        number = new_id()
        connection.start(self._policy.compression, accept.terms)
        address = _peer_address(connection, number)
        client = Client(connection, number, address, request, accept, accept.subprotocol, self._spawn)
        self._clients[address] = client

        def lost() -> None:
            self._connections.discard(connection)
            self._clients.pop(address, None)
            if logger.isEnabledFor(logging.INFO):
                logger.info("%s:%s closed: %s", *address, connection.protocol.outcome())

        connection.on_lost = lost
        logger.info("%s:%s opened %s", *address, request.path)  # a query may hold a token
        self._spawn(self._own(client, connection) if self._handler is not None else self._notify(client, connection))

    async def _own(self, client: Client, connection: Connection) -> None:
        """Run the handler, which owns the connection."""
        assert self._handler is not None
        try:
            await self._handler(client)
        except asyncio.CancelledError:
            code = CloseCode.GOING_AWAY if self._stopping is not None else CloseCode.INTERNAL_ERROR
            connection.fail(code, "", Cause.LOCAL_CANCEL, Side.LOCAL, "the handler was cancelled")
            raise
        except Exception as error:
            if tells_of_end(error):
                # It used a connection that had ended, and learned of it: nothing to report.
                if not connection.is_closed:
                    await client.close()
                return
            logger.exception("%s:%s: the handler raised", client.addr, client.port)
            detail = f"the handler raised {error!r}"
            connection.fail(CloseCode.INTERNAL_ERROR, "", Cause.HANDLER_ERROR, Side.LOCAL, detail)
        else:
            if not connection.is_closed:
                await client.close()

    async def _notify(self, client: Client, connection: Connection) -> None:
        """Run the @socket.connection callback."""
        assert self._on_connection is not None
        await call(connection, self._on_connection, client)
        connection.inbox.discard_unclaimed()


class _Opening:
    """The opening handshake of one connection, on the server's side."""

    __slots__ = ("_connection", "_environment", "_reader", "_refused", "_server", "_task")

    def __init__(self, server: WebSocketServer, environment: Environment) -> None:
        self._server = server
        self._environment = environment
        self._reader: HeadReader | None = HeadReader(server.limits)
        self._refused = False
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        # Counted from here, so that the TLS handshake is part of it.
        environment.open_deadlines.add(self._overdue)

    def connected(self, connection: Connection) -> None:
        # Not before: one whose TLS handshake fails never gets here, and is never lost.
        self._connection = connection
        self._server._connections.add(connection)
        if self._server._stopping is not None:
            connection.abort()  # it was in the TLS handshake when the server stopped
        else:
            self._refuse_if_full(connection)

    def _refuse_if_full(self, connection: Connection) -> bool:
        limit = self._server.limits.max_clients
        if limit is None or len(self._server.clients) < limit:
            return False
        self._refuse(connection, full(), f"there are {limit} clients already", "GET")
        return True

    def received(self, connection: Connection, data: bytes) -> None:
        if self._refused or self._reader is None:
            return
        try:
            request = self._reader.feed(data)
        except HandshakeRefused as error:
            self._refuse(connection, refusal(error), error.reason, "GET")
            return
        if request is None:
            return
        rest = self._reader.rest
        self._reader = None
        if self._server._on_request is None:
            self._judge(connection, request, rest)
        else:
            connection.pause_reading()
            self._task = self._server._spawn(self._ask(connection, request, rest, self._server._on_request))

    async def _ask(self, connection: Connection, request: Request, rest: bytes, callback: RequestCallback) -> None:
        try:
            answer = callback(request)
            response = await answer if inspect.isawaitable(answer) else answer
            if response is not None and not isinstance(response, Response):
                raise TypeError(f"a @socket.request callback returns a Response or None, not {response!r}")
        except Exception:
            logger.exception("%s: the @socket.request callback raised", connection.peer())
            response = failed()
        if connection.transport is None or self._refused:
            return
        if response is None:
            connection.resume_reading()
            self._judge(connection, request, rest)
        else:
            self._refuse(connection, response, f"answered {response.status} by @socket.request", request.method)

    def _judge(self, connection: Connection, request: Request, rest: bytes) -> None:
        if self._refuse_if_full(connection):
            return  # others that had connected as well were faster with their requests
        verdict = judge(request, self._server._policy)
        if isinstance(verdict, Reject):
            self._refuse(connection, verdict.response, verdict.reason, request.method)
            return
        self._environment.open_deadlines.discard(self._overdue)
        connection.transport.write(verdict.encoded)
        self._server._opened(connection, request, verdict)
        connection.receive_soon(rest)

    def _refuse(self, connection: Connection, response: Response, reason: str, method: str) -> None:
        """Answer and close; what follows is never parsed."""
        self._refused = True
        self._reader = None
        self._environment.open_deadlines.discard(self._overdue)
        logger.info("%s refused with %d: %s", connection.peer(), response.status, reason)
        connection.transport.write(response.encode(method))
        self._environment.close_deadlines.add(connection.abort)
        connection.resume_reading()  # it may be paused for a callback, and the peer's end must be seen
        connection.end_writing()

    def _overdue(self) -> None:
        connection = self._connection
        if self._task is not None:
            self._task.cancel()
        if connection is not None and connection.transport is not None:
            self._refuse(connection, too_slow(), "the handshake took too long", "GET")

    def lost(self, connection: Connection, error: Exception | None) -> None:
        self._environment.open_deadlines.discard(self._overdue)
        self._environment.close_deadlines.discard(connection.abort)
        self._server._connections.discard(connection)
        if self._task is not None:
            self._task.cancel()


async def _wait(tasks: Sequence["asyncio.Task[None]"], seconds: float | None) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


def _peer_address(connection: Connection, number: int) -> tuple[str, int]:
    peer = connection.transport.get_extra_info("peername")
    if isinstance(peer, tuple) and len(peer) >= 2:
        return str(peer[0]), int(peer[1])
    # A Unix socket: its peers have no names of their own.
    name = connection.transport.get_extra_info("sockname")
    return name if isinstance(name, str) else "", number


def _address_text(sock: socket.socket) -> str:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _remove_socket(path: str, inode: int) -> None:
    """Remove a Unix socket's file, unless another server has taken the path since."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
