"""`WebSocketServer`: accepts connections and passes each one to a handler or callback as a `Client`."""

import asyncio
import inspect
import socket
import ssl as tls
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context, copy_context
from functools import partial
from os import PathLike, fspath
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Never, Self, TypeVar

from .client import Client, send_to_all
from .codes import CloseCode
from .connection import Environment, logger
from .errors import UsageError
from .handshake.forwarding import TrustedProxies
from .handshake.server import Policy
from .keywords import SERVER, explains
from .lifespan import Lifespan
from .net.accepting import SHUTTING_DOWN, Openings, Server
from .net.addresses import address_text, is_tcp
from .net.binding import file_number, is_abstract, remove_file, shown_path
from .net.signals import STOPS, can_handle_signals, on_signals
from .net.transports import listen, new_loop
from .options import Compression, Limits, Timeouts, compression_of, options_of
from .serving import ConnectionCallback, Handler, RequestCallback, Routes, Serving, check_callback, check_handler
from .streams.shared import SharedMessage
from .watching.observer import Observer, check_observer
from .watching.stats import ServerStats
from .wire.frames import Buffer
from .wire.protocol import check_close

__all__ = ["ConnectionCallback", "Handler", "RequestCallback", "WebSocketServer"]

_OnConnection = TypeVar("_OnConnection", bound=ConnectionCallback)
_OnRequest = TypeVar("_OnRequest", bound=RequestCallback)


class _Closed(UsageError):
    """The server was closed before it had started."""


class WebSocketServer:
    """A WebSocket server.

    Pass a `handler`, which owns its connection: when it returns, the connection closes. Or register a callback with
    `@socket.connection`, which is called with each new connection; the connection stays open when the callback returns.

    Start the server with `async with`, with `run()`, or with `with` on an event loop of your own that is not running.
    """

    @explains("WebSocketServer", SERVER)
    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        port: int | None = None,
        *misplaced: Never,
        loop: asyncio.AbstractEventLoop | None = None,
        handler: Handler | Routes | None = None,
        lifespan: "Callable[[WebSocketServer], AbstractAsyncContextManager[None]] | None" = None,
        ssl: tls.SSLContext | None = None,
        sock: socket.socket | None = None,
        path: str | PathLike[str] | None = None,
        mode: int | None = None,
        reuse_port: bool | None = None,
        backlog: int = 100,
        origins: Sequence[str] | Literal["*"] | None = None,
        hosts: Sequence[str] | None = None,
        trusted_proxies: Sequence[str] = (),
        subprotocols: Sequence[str] = (),
        compression: Compression | bool | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        server_header: str | None = "streamws",
        observer: Observer | None = None,
    ) -> None:
        """Make a server. It does not listen before it is started.

        :param address: the host name or IP address to listen on, or several of them; "" for all interfaces.
        :param port: the TCP port; 0 for any free port.
        :param loop: the event loop for `with` and `run`. By default `run` makes one, and `async with` uses the running
            one.
        :param handler: a coroutine function that is called with the `Client` of each connection and owns it. Or a
            `Router`, which chooses such a function by the path.
        :param lifespan: a function that is called with the server and returns an async context manager, usually a
            generator function with `@contextlib.asynccontextmanager`. Use it for database pools, task groups and
            background tasks. It is entered before the server listens, and left when the last handler has ended, in one
            task of its own. If this task is cancelled, for example by a task group that has failed, the server stops.
            Handlers and callbacks run in copies of its context.
        :param ssl: a context for `wss://`.
        :param sock: a bound socket to listen on, instead of address and port.
        :param path: the path of a Unix socket to listen on, instead of address and port. A socket on which nobody
            listens is replaced. A path that begins with a NUL character is an abstract name (Linux).
        :param mode: the permissions of that path, such as 0o660; by default those that the umask gives.
        :param reuse_port: whether several processes may listen on the port.
        :param backlog: the number of connections that may wait to be accepted.
        :param origins: the origins of web pages that may connect, such as "https://example.org", in addition to pages
            of the server's own host; "*" for all. A request without an Origin is not from a browser and is accepted.
        :param hosts: the names and addresses by which clients may ask for this server (their `Host` field), such as
            "example.org", on any port. This protects a server on a private network from pages whose own name points
            to its address (DNS rebinding). Any other name gets 400. By default, every name is accepted.
        :param trusted_proxies: the proxies in front of this server: networks such as "10.0.0.0/8", addresses, or "unix"
            for all peers of a Unix socket. If one of them is the peer, `Forwarded` or `X-Forwarded-For` decides
            `Request.remote`, the address of the client, and `Forwarded` or `X-Forwarded-Proto` decides
            `Request.secure`, whether the client uses TLS. From other peers these fields have no effect.
        :param subprotocols: the subprotocols that the server supports, in order of preference.
        :param compression: True to compress messages for clients that offer it (permessage-deflate), or a `Compression`
            to configure it.
        :param limits: limits, in bytes.
        :param timeouts: deadlines, in seconds.
        :param server_header: the `Server` field of the handshake response; None for no such field.
        :param observer: is told when a connection has opened or ended, when a request was refused, or when a peer reads
            too slowly.
        :raises ValueError, TypeError: if an argument is not valid.
        """
        if misplaced or callable(address):
            raise TypeError(
                "only address and port are positional arguments: write WebSocketServer(address, port, handler=handler)"
            )
        _check_place(address, port, sock, path)
        _check_mode(mode, path)
        if handler is not None and not isinstance(handler, Routes):
            check_handler(handler)
        if ssl is not None and not isinstance(ssl, tls.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext, not {ssl!r}")
        if ssl is not None and ssl.protocol == tls.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl must be a context for servers: make it with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
        if lifespan is not None:
            _check_lifespan(lifespan)
        self._address = address
        self._port = port
        self._sock = sock
        self._path = None if path is None else fspath(path)
        self._mode = mode
        self._ssl = ssl
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._loop = loop
        self.limits: Limits = options_of("limits", Limits, limits)
        """The limits of its connections."""
        self.timeouts: Timeouts = options_of("timeouts", Timeouts, timeouts)
        """The deadlines of its connections."""
        policy = Policy(origins, subprotocols, server_header, compression_of(compression), hosts)
        check_observer(observer)
        proxies = TrustedProxies(trusted_proxies) if trusted_proxies else None
        self._serving = Serving(policy, handler, self.limits, proxies, observer)
        self._server: Server | None = None
        self._unix_file: int | None = None  # the number of the Unix socket's file
        self._make_lifespan = lifespan
        self._lifespan: Lifespan | None = None  # while the server is starting, serving or stopping, and after the end
        self._handlers_ended: asyncio.Event | None = None
        self._stopped: asyncio.Event | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ended: futures.Future[None] = futures.Future()  # done when the server has stopped, for other threads

    def __repr__(self) -> str:
        state = "not started" if self._server is None else f"{len(self.clients)} clients"
        return f"<WebSocketServer on {self._shown_place()}, {state}>"

    def _shown_place(self) -> str:
        """Return where the server listens, for people and for metrics."""
        if self._sock is not None:
            try:
                return address_text(self._sock.getsockname())
            except OSError:  # it is closed
                return repr(self._sock)
        if self._path is not None:
            return shown_path(self._path)
        hosts = [self._address] if self._address is None or isinstance(self._address, str) else self._address
        return ", ".join(address_text((host or "", self._port)) for host in hosts)

    def _shown_urls(self) -> str:
        """Return the URLs of the server, for people."""
        scheme = "ws" if self._ssl is None else "wss"
        given = [self._address] if isinstance(self._address, str) else self._address or ()
        if not any(given):  # all interfaces, a socket, or a path
            names = [address_text(sock.getsockname()) for sock in self.sockets]
        else:
            names = [address_text((name or "0.0.0.0", self.port)) for name in given]
        tcp = any(is_tcp(sock) for sock in self.sockets)
        return ", ".join(f"{scheme}://{name}" if tcp else f"{scheme} on the Unix socket {name}" for name in names)

    # Callbacks -------------------------------------------------------------------------------------------------

    def connection(self, callback: _OnConnection) -> _OnConnection:
        """Decorator: call `callback`, a function or coroutine function, with the `Client` of each new connection.

        The connection stays open when the callback returns, until either side closes it. If the callback raises, the
        error is logged and the connection closes with 1011. Returns the function unchanged.

        :raises UsageError: if the server already has a handler or such a callback, or if `callback` is not a function.
        """
        check_callback(callback, "@socket.connection", "a Client")
        if self._serving.handler is not None or self._serving.on_connection is not None:
            raise UsageError("this server already has a handler or a @socket.connection callback; it can only have one")
        self._serving.on_connection = callback
        return callback

    def request(self, callback: _OnRequest) -> _OnRequest:
        """Decorator: call `callback`, a function or coroutine function, with each `Request` before the handshake.

        If it returns a `Response`, that is sent and the connection is closed: to refuse a client, or to answer plain
        HTTP requests such as health checks on the same port. If it returns None, the handshake continues. If it returns
        an `Accept`, the handshake continues with additional header fields or with the subprotocol that the callback
        chose. Values that it stores with the request (`request[KEY] = value`) are also those of the client. If it
        raises, the error is logged and the response is a 500. Returns the function unchanged.

        :raises UsageError: if the server already has such a callback, or if `callback` is not a function.
        """
        check_callback(callback, "@socket.request", "a Request")
        if self._serving.on_request is not None:
            raise UsageError("this server already has a @socket.request callback; it can only have one")
        self._serving.on_request = callback
        return callback

    # Connections -----------------------------------------------------------------------------------------------

    @property
    def clients(self) -> Mapping[int, Client]:
        """The open connections by `Client.id`: a live view."""
        return MappingProxyType(self._serving.clients)

    @property
    def stats(self) -> ServerStats:
        """Counters of the server: connections, messages, bytes, refusals. They may be read in any thread."""
        stats: ServerStats = self._serving.stats()
        return stats

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets; empty before the start and after the end."""
        return () if self._server is None else self._server.sockets

    @property
    def port(self) -> int:
        """The TCP port on which the server listens, on all its addresses.

        :raises UsageError: if the server does not listen (yet, or any more), or listens on a Unix socket.
        """
        for sock in self.sockets:
            if is_tcp(sock):
                port: int = sock.getsockname()[1]
                return port
        raise UsageError("this server has no port: it does not listen, or listens on a Unix socket")

    def broadcast(
        self,
        data: str | Buffer,
        to: Iterable[Client] | None = None,
        compress: bool | None = None,
        *,
        text: bool = False,
    ) -> int:
        """Send one message to many clients without waiting for any of them.

        The message is encoded once. It is compressed once for all clients with the same window size and without context
        takeover, and once for each client with context takeover (`Compression.takeover`). A slow client receives it
        later; a client with more than `Limits.max_write_backlog` bytes waiting for it is closed with 1008.
        `Limits.max_total_backlog` limits the bytes that wait for all clients together.

        :param data: `str` is sent as text, bytes-like as binary.
        :param to: clients of this server, by default all. Clients that are closing are skipped.
        :param compress: as for `Writer.send`.
        :param text: whether bytes-like data, which must be valid UTF-8, is sent as text.
        :returns: the number of clients that the message is on its way to.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeDecodeError: if `text` is true, and `data` is not valid UTF-8.

        In a thread other than that of the event loop, the call does nothing and returns a coroutine for
        `asyncio.run_coroutine_threadsafe`. `loop.call_soon_threadsafe(server.broadcast, data)` is simpler.
        """
        message = SharedMessage(data, compress, text)
        # Copied, because sending closes a client that is too slow, and the application may then remove it from `to`.
        chosen = None if to is None else tuple(to)
        if self._serving.is_foreign():
            later: Any = self._broadcast_from_another_thread(message, chosen)
            count: int = later
            return count
        return self._send_to(message, chosen)

    def _send_to(self, message: SharedMessage, clients: tuple[Client, ...] | None) -> int:
        return send_to_all(message, tuple(self._serving.clients.values()) if clients is None else clients)

    async def _broadcast_from_another_thread(self, message: SharedMessage, to: tuple[Client, ...] | None) -> int:
        if self._serving.is_foreign():
            raise UsageError(
                "cannot await server.broadcast(...) in this thread: a server belongs to the thread of its event loop; "
                "write loop.call_soon_threadsafe(server.broadcast, data)"
            )
        return self._send_to(message, to)

    # Starting and stopping -------------------------------------------------------------------------------------

    async def start(self) -> Server:
        """Start to listen. `async with`, `with` and `run` do this for you. Cancelling it leaves nothing open.

        If the server has a `lifespan`, it is entered first.

        :returns: the listening sockets, as an `asyncio.AbstractServer`.
        :raises OSError: if it cannot listen on the address (it is in use, or not permitted); the message names it.
        :raises UsageError: if the server was already started or closed, or has neither a handler nor a callback.
        :raises Exception: if the `lifespan` raises it before its `yield`.
        """
        if self._server is not None or self._lifespan is not None:
            raise UsageError("this server was already started: make a new one to listen again")
        if self._serving.handler is None and self._serving.on_connection is None:
            raise UsageError("this server has no handler: pass handler=, or register one with @socket.connection")
        if self._serving.stopping:
            raise _Closed("this server was closed: make a new one to listen")
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise UsageError("this server belongs to another event loop: start it there, or leave loop= out")
        if self._make_lifespan is None:
            return await self._start_listening(loop, copy_context())
        lifespan = self._lifespan = Lifespan(_manager(self._make_lifespan, self), self._lifespan_cancelled)
        try:
            if not await lifespan.enter() or self._serving.stopping:
                raise _Closed("this server was closed, or its lifespan was cancelled, before it had started")
            return await self._start_listening(loop, lifespan.context)
        except BaseException:
            self._lifespan = None
            await lifespan.leave()
            raise

    async def _start_listening(self, loop: asyncio.AbstractEventLoop, context: Context) -> Server:
        """Start to listen. Handlers and callbacks run in copies of the context."""
        counted = self._serving.handshake_quota is not None
        openings = Openings(loop, self.limits.max_handshakes, counted)
        environment = Environment(loop, self.limits, self.timeouts, self.limits.max_total_backlog)
        try:
            server = await listen(
                loop,
                context.run(self._serving.start, environment, openings),
                self._serving,
                openings,
                host=self._address,
                port=self._port,
                sock=self._sock,
                path=self._path,
                mode=self._mode,
                ssl=self._ssl,
                reuse_port=self._reuse_port,
                backlog=self._backlog,
                handshake_timeout=self.timeouts.open,
            )
        except OSError as error:
            place = f"{self._address!r}, port {self._port}" if self._port is not None else self._shown_place()
            message = f"cannot listen on {place}: {error.strerror or error}"
            # With errno None, OSError(None, message) would read "[Errno None] ...".
            raise (OSError(message) if error.errno is None else type(error)(error.errno, message)) from error
        self._server = server
        if self._path is not None:
            self._unix_file = file_number(self._path)
        self._handlers_ended = asyncio.Event()
        self._stopped = asyncio.Event()
        logger.info("serving on %s", ", ".join(address_text(sock.getsockname()) for sock in self.sockets))
        if self._serving.stopping:
            await self.close()
            raise _Closed("this server was closed while it was starting: make a new one to listen")
        return server

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = SHUTTING_DOWN) -> None:
        """Stop the server: stop listening, close every connection, and wait for the connections and handlers.

        :param code: as for `Client.close`.
        :param reason: as for `Client.close`.
        :raises ValueError, TypeError: if the code must not be sent, or the reason is not valid.
        :raises UsageError: if it is called in another thread and the event loop of the server is not running.
        :raises Exception: if the `lifespan` raises it after its `yield`.

        After `Timeouts.close` seconds, the remaining connections are dropped and the remaining handlers are cancelled;
        these have the same time again to end. At last, the `lifespan` is left. `close` does not wait for a handler that
        calls it. If the lifespan or one of its tasks calls it, `close` does not wait for the lifespan.

        If the server is stopping already, the code has no effect. If it is draining, the other connections are closed
        now. With a code other than 1000 and 1001, loops over a connection raise `ConnectionClosedError`, on both sides.

        Cancelling it drops all connections at once. Any number of tasks may call it, in any thread:
        `asyncio.run(server.close())` stops a server that runs in another thread. A server that is closed before it was
        started can no longer be started.
        """
        check_close(code, reason)
        await self._end(code, reason, 0.0)

    async def drain(self, seconds: float, code: int = CloseCode.SERVICE_RESTART, reason: str = SHUTTING_DOWN) -> None:
        """Stop the server as `close` does, but spread the closes evenly over some seconds.

        So the clients do not all reconnect at the same time. The server stops listening. Connections that wait to be
        accepted, or whose opening handshake is under way, are answered with 503 and `Retry-After` when their request is
        complete. Then one connection after the other is closed, the oldest first, at equal intervals. After the time,
        or as soon as nothing is left to close, the server stops.

        :param seconds: the time over which the closes are spread; 0 closes all at once.
        :param code: as for `Client.close`. 1012 means that the service restarts.
        :param reason: as for `Client.close`.
        :raises ValueError, TypeError: if the time, the code or the reason is not valid.
        :raises UsageError: if it is called in another thread and the event loop of the server is not running.
        :raises Exception: if the `lifespan` raises it after its `yield`.

        Handlers continue until their connection is closed. With 1012, loops over a connection then raise
        `ConnectionClosedError`, on both sides; with 1001, they end. `close`, or the first signal that `run` receives,
        ends the drain: the other connections are closed at once. If the server is draining or stopping already, `drain`
        only waits for the end. Cancelling it drops all connections at once. Like `close`, it may be called in any
        thread.
        """
        _check_drain("seconds", seconds)
        check_close(code, reason)
        await self._end(code, reason, seconds)

    async def _end(self, code: int, reason: str, seconds: float) -> None:
        """Stop the server, and wait for its end."""
        if self._stopped is None:
            self._cancel_start()
        server = self._server
        if server is None or self._stopped is None:
            return
        if server.get_loop() is not asyncio.get_running_loop():
            await self._end_in_another_thread(server.get_loop(), partial(self._begin_stopping, code, reason, seconds))
            return
        self._serving.forget_task(asyncio.current_task())
        stopping = self._begin_stopping(code, reason, seconds)
        inside = self._lifespan is not None and self._lifespan.is_inside()
        try:
            if inside:  # the lifespan would wait for its own task
                assert self._handlers_ended is not None
                await self._handlers_ended.wait()
            else:
                await asyncio.shield(stopping)
        except asyncio.CancelledError:
            self._abort()
            if not inside:
                await asyncio.wait([stopping])
            raise

    async def _end_in_another_thread(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], object]) -> None:
        if self._ended.done():
            return
        if not loop.is_running():
            raise UsageError("cannot close this server: its event loop is not running")
        loop.call_soon_threadsafe(begin)
        try:
            # Not a coroutine in that loop: `run` may stop the loop before this thread has the result of the coroutine.
            await asyncio.shield(asyncio.wrap_future(self._ended))
        except asyncio.CancelledError:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._abort)
            raise

    def _cancel_start(self) -> None:
        """Stop a server that has not started to listen."""
        self._serving.stopping = True  # `start`, perhaps in another thread, stops when it sees this
        if self._lifespan is not None:
            self._lifespan.cancel_entering()

    def _abort(self) -> None:
        """Drop all connections and cancel all handlers; then cancel the lifespan."""
        self._serving.abort()
        if self._lifespan is not None:
            self._lifespan.cancel_leaving()

    def _begin_stopping(
        self, code: int = CloseCode.GOING_AWAY, reason: str = SHUTTING_DOWN, seconds: float = 0.0
    ) -> "asyncio.Task[None]":
        """Begin to stop a server that was started; return the task that stops it."""
        if self._stopping is None:
            assert self._server is not None
            stop = self._stop(self._server, code, reason, seconds)
            self._stopping = self._server.get_loop().create_task(stop)
        if not seconds:
            self._serving.stopping = True
            self._serving.hurry(code, reason)
        return self._stopping

    async def _stop(self, server: Server, code: int, reason: str, seconds: float) -> None:
        assert self._handlers_ended is not None
        assert self._stopped is not None
        try:
            if seconds:
                server.accept_waiting()
            server.close()
            await self._serving.stop(code, reason, seconds)
            if self._path is not None:
                remove_file(self._path, self._unix_file)
            self._handlers_ended.set()
            if self._lifespan is not None:
                await self._lifespan.leave()
        except Exception as error:
            # A program that waits for something else would not see it.
            logger.error("the lifespan raised %r", error)
            self._ended.set_exception(error)
            raise
        finally:  # also if the program of its loop ends first, which cancels this task
            self._handlers_ended.set()
            self._stopped.set()
            if not self._ended.done():
                self._ended.set_result(None)

    def _lifespan_cancelled(self) -> None:
        """Stop the server: its lifespan was cancelled from inside."""
        if self._stopped is None:
            self._serving.stopping = True  # `start` stops when it sees this
        elif not self._serving.stopping:  # it may be draining
            logger.warning("the lifespan was cancelled: stopping the server")
            self._begin_stopping()

    async def serve_forever(self, *, signals: Iterable[int] = (), drain: float = 0.0) -> None:
        """Wait until `close` or `drain` has stopped the server; use it inside `async with`.

        :param signals: signals, such as `signal.SIGTERM`, that stop the server, as `close` does. A second signal drops
            all connections at once. By default, no signals are handled here.
        :param drain: the seconds over which the first signal spreads the closes, as `drain` does. The second signal
            then closes the other connections, and the third one drops them. By default, there is no drain.
        :raises UsageError: if the server was not started, if it runs on another event loop, or if `signals` are given
            in another thread than the main one.
        :raises ValueError, OSError, RuntimeError: if one of the signals cannot be handled.
        :raises ValueError, TypeError: if `drain` is not a valid time.
        :raises Exception: if the `lifespan` raises it after its `yield`.

        Any number of tasks may wait. Cancelling one does not stop the server.
        """
        if self._server is None or self._stopped is None:
            raise UsageError("this server is not started: await serve_forever() inside `async with`")
        loop = asyncio.get_running_loop()
        if self._server.get_loop() is not loop:
            raise UsageError("this server runs on another event loop: await serve_forever() there")
        _check_drain("drain", drain)
        numbers = tuple(signals)
        if numbers and not can_handle_signals():
            raise UsageError("only the main thread can handle signals: leave signals= out in other threads")
        remove = on_signals(loop, numbers, partial(self._signalled, drain))
        try:
            await self._stopped.wait()
        finally:
            remove()
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
            if not self._stopping.cancelled():
                self._stopping.result()

    def _signalled(self, drain: float, number: int) -> None:
        """Drain or stop the server; stop it if it is draining; drop all connections if it is stopping already."""
        if self._serving.stopping:
            self._abort()
        elif self._stopped is None:
            self._cancel_start()
        elif drain and self._stopping is None:
            self._begin_stopping(CloseCode.SERVICE_RESTART, SHUTTING_DOWN, drain)
        else:
            self._begin_stopping()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> Server:
        """Start the server on the event loop given as `loop`, which must not be running; return what `start` returns.

        :raises UsageError: if no `loop` was given, or an event loop is running (use `async with` there).
        """
        self._require_idle_loop("with", "use `async with`")
        if self._loop is None:
            raise UsageError("`with` needs a loop: WebSocketServer(..., loop=asyncio.new_event_loop()), or use run()")
        return self._loop.run_until_complete(self.start())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(self.close())

    def _require_idle_loop(self, call: str, instead: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise UsageError(f"`{call}` runs the event loop itself, but one is already running: {instead}")

    def run(self, *, drain: float = 0.0) -> None:
        """Serve until SIGINT or SIGTERM, then stop (see `close`). A second signal drops all connections at once.

        :param drain: as for `serve_forever`.

        Uses the event loop given as `loop`, or a new one: uvloop's if the `speed` extra is installed. Only the main
        thread can handle signals. In another thread, the server runs until `close` is called.

        If no logging is configured, it writes its addresses to the standard error.

        :raises ValueError, TypeError: if `drain` is not a valid time.
        :raises OSError: if it cannot listen on the address.
        :raises UsageError: if an event loop is running; use `async with` and `serve_forever` there.
        :raises Exception: if the `lifespan` raises it.
        """
        _check_drain("drain", drain)
        self._require_idle_loop("run()", "use `async with` and `serve_forever()`")
        if self._loop is None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._serve_until_signal(drain))
            return
        serving = self._loop.create_task(self._serve_until_signal(drain))
        try:
            self._loop.run_until_complete(serving)
        finally:
            if not serving.done():  # a handler or callback raised `SystemExit`, which has stopped the loop
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(serving)

    async def _serve_until_signal(self, drain: float) -> None:
        signals = STOPS if can_handle_signals() else ()
        remove = on_signals(asyncio.get_running_loop(), signals, partial(self._signalled, drain))
        try:
            async with self:
                if not logger.hasHandlers():
                    print("serving", self._shown_urls(), file=sys.stderr, flush=True)
                await self.serve_forever()
        except _Closed:
            pass  # a signal or another thread stopped the server before it had started
        finally:
            remove()


def _check_drain(name: str, seconds: float) -> None:
    """Check the time of a drain.

    :raises ValueError, TypeError: if it is not valid.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be 0 or more seconds, not {seconds!r}")


def _check_lifespan(lifespan: object) -> None:
    """Refuse a lifespan that certainly does not return an async context manager.

    :raises TypeError: if it does not.
    """
    if not callable(lifespan):
        raise TypeError(f"lifespan must be a function that takes the server, not {lifespan!r}")
    if inspect.isasyncgenfunction(lifespan) or inspect.iscoroutinefunction(lifespan):
        raise TypeError("lifespan must return an async context manager: decorate it with @asynccontextmanager")


def _manager(
    make: Callable[[WebSocketServer], AbstractAsyncContextManager[None]], server: WebSocketServer
) -> AbstractAsyncContextManager[None]:
    """Return the context manager that a lifespan makes.

    :raises TypeError: if it makes something else.
    """
    manager = make(server)
    if not isinstance(manager, AbstractAsyncContextManager):
        raise TypeError(f"lifespan must return an async context manager, not {manager!r}")
    return manager


def _check_place(
    address: str | Sequence[str] | None,
    port: int | None,
    sock: socket.socket | None,
    path: str | PathLike[str] | None,
) -> None:
    """Check the arguments that say where to listen.

    :raises ValueError, TypeError: unless exactly one place is given, and the port is valid.
    """
    places = [name for name, value in (("sock", sock), ("path", path)) if value is not None]
    if port is not None or address is not None:
        places.insert(0, "address and port")
    if len(places) != 1:
        given = ", ".join(places) or "none"
        raise ValueError(f"give exactly one of address and port, sock, or path to listen on; given: {given}")
    if path is not None and not fspath(path):
        raise ValueError("path must not be empty")
    if places == ["address and port"]:
        if port is None:
            raise ValueError("port is missing: give a port with the address, 0 for any free port")
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"port must be an int, not {port!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, not {port}")


def _check_mode(mode: int | None, path: str | PathLike[str] | None) -> None:
    """Check the permissions of a Unix socket.

    :raises ValueError, TypeError: if they are not valid, or there is no path that they could be for.
    """
    if mode is None:
        return
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"mode must be an int such as 0o660, not {mode!r}")
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be from 0 to 0o777, not {mode:#o}")
    if path is None or is_abstract(fspath(path)):
        raise ValueError("mode is for the file of a Unix socket: give a path with it")
