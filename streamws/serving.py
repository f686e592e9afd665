"""The connections of a server, each from its opening handshake to the end of its handler."""

import asyncio
import dis
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from datetime import UTC, datetime
from functools import partial
from threading import RLock
from time import monotonic
from types import MappingProxyType
from typing import Any

from .callbacks import NO_FAILURE, call, end_task
from .client import Client
from .codes import Cause, CloseCode, Side
from .connection import Connection, Environment, connection_class, logger
from .errors import HandshakeRefused, UsageError, tells_of_end
from .handshake.agreement import Agreement
from .handshake.forwarding import Forwarding, TrustedProxies, network_of
from .handshake.head import Accept, Request, Response
from .handshake.request_reader import RequestReader
from .handshake.server import (
    Policy,
    accept_request,
    crowded_response,
    error_response,
    failure_response,
    full_response,
    stopping_response,
    timeout_response,
)
from .handshake.summary import summary_of
from .net.accepting import Connections, Openings
from .net.addresses import address_text, peer_address
from .net.quota import Quota
from .options import Limits
from .watching.counting import Counts
from .watching.observer import Observation, Observer
from .watching.records import log_end
from .watching.stats import ServerStats

Handler = Callable[[Client], Awaitable[None]]
ConnectionCallback = Callable[[Client], Awaitable[None] | None]
RequestCallback = Callable[[Request], Awaitable[Response | Accept | None] | Response | Accept | None]


class Routes:
    """Interface of a `Router`: it chooses a handler by the path of the request."""

    __slots__ = ()

    def find(self, path: str) -> Handler | None:
        """Return the handler for a path; None if there is no route."""
        raise NotImplementedError


_CHECK = 0.05
"""The seconds after which a drain checks again whether opening handshakes are under way."""


class Serving(Connections):
    """The connections and handlers of one server.

    :param policy: which clients the server accepts.
    :param handler: the handler, or a router; None if there is a @socket.connection callback instead.
    :param limits: `max_clients_per_address` and `max_handshakes_per_address` are used.
    :param proxies: the proxies that may forward the addresses of clients; None for no proxies.
    :param observer: is told what happens to the connections.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_counted",
        "_environment",
        "_hurry",
        "_lock",
        "_observation",
        "_observer",
        "_started",
        "_started_at",
        "_tasks",
        "client_quota",
        "clients",
        "connections",
        "draining",
        "failed",
        "handler",
        "handshake_quota",
        "handshakes",
        "on_connection",
        "on_request",
        "policy",
        "proxies",
        "refused",
        "stopping",
    )

    def __init__(
        self,
        policy: Policy,
        handler: Handler | Routes | None,
        limits: Limits,
        proxies: TrustedProxies | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.policy: Policy = policy
        self.proxies: TrustedProxies | None = proxies
        most = limits.max_clients_per_address
        self.client_quota: Quota | None = None if most is None else Quota(most)
        """The clients of each address; None for no limit."""
        most = limits.max_handshakes_per_address
        self.handshake_quota: Quota | None = None if most is None else Quota(most)
        """The opening handshakes of each address; None for no limit."""
        self.handler: Handler | Routes | None = handler
        self.on_connection: ConnectionCallback | None = None
        self.on_request: RequestCallback | None = None
        self.clients: dict[int, Client] = {}
        """The clients whose opening handshake is complete, by their ids."""
        self.connections: set[Connection] = set()
        """All connections, including those whose opening handshake is not complete."""
        self.stopping: bool = False
        """Whether the server is stopping or has stopped."""
        self.draining: bool = False
        """Whether new connections are refused, because the server has stopped to listen."""
        self._hurry: asyncio.Future[tuple[int, str]] | None = None  # set to end a drain that is under way
        self._tasks: set[asyncio.Task[None]] = set()  # of handlers and callbacks
        self._environment: Environment | None = None
        self._context: Context = copy_context()
        self._observer = observer
        self._observation: Observation | None = None  # since the start, if there is an observer
        self._started = 0.0  # when the server began to listen, by the clock `monotonic`; 0 before
        self._started_at: datetime | None = None  # the same as a time of day
        self.handshakes: int = 0
        """The number of opening handshakes under way."""
        self.failed: int = 0
        """The number of opening handshakes that ended without a response."""
        self.refused: dict[int, int] = {}
        """The number of responses from 400 to 599, by their status."""
        # `stats` may be called in any thread. With the lock, each client is either in `clients` or in `_counted`. It
        # can be taken twice, because the garbage collector may run code of the application anywhere.
        self._lock = RLock()
        self._counted = Counts()  # the counters of the connections that have ended
        self._closed = dict.fromkeys(Cause, 0)  # their number, by cause

    def start(self, environment: Environment, openings: Openings) -> Callable[[], Connection]:
        """Return the factory that makes each accepted connection.

        Handlers and callbacks run in copies of the context in which this is called.
        """
        self._environment = environment
        self._context = copy_context()
        self._started = monotonic()
        self._started_at = datetime.now(UTC)
        if self._observer is not None:
            self._observation = Observation(self._observer)
        kind = connection_class(environment.loop)
        return lambda: kind(environment, True, ServerOpening(self, environment, openings))

    def is_foreign(self) -> bool:
        """Return whether the current thread is not that of the loop."""
        environment = self._environment
        return environment is not None and environment.share.iteration.is_foreign(environment.loop)

    def trusts(self, peer: tuple[str, int]) -> bool:
        """Return whether the peer of a socket is a trusted proxy."""
        return self.proxies is not None and self.proxies.trusts(peer)

    def spawn(self, coroutine: Coroutine[object, None, None]) -> "asyncio.Task[None]":
        """Start a task that is awaited, and cancelled if need be, when the server stops."""
        assert self._environment is not None
        task = self._environment.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(end_task, self._tasks))
        return task

    def spawn_in_context(self, coroutine: Coroutine[object, None, None]) -> "asyncio.Task[None]":
        """Start such a task in a copy of the server's context: a chunk is received in any context."""
        return self._context.copy().run(self.spawn, coroutine)

    def find_handler(self, request: Request) -> Handler | None:
        """Return the handler for a request; None if there is a @socket.connection callback instead.

        :raises HandshakeRefused: with 404, if the router has no route for the path.
        """
        if not isinstance(self.handler, Routes):
            return self.handler
        handler = self.handler.find(request.path)
        if handler is None:
            raise HandshakeRefused(404, f"no route for {request.path:.80}")
        return handler

    def serve(self, connection: Connection, request: Request, agreement: Agreement, handler: Handler | None) -> None:
        """Start a connection whose opening handshake is complete, and run its handler or callback."""
        connection.start(self.policy.compression, agreement.terms)
        client = Client(connection, request, agreement, self.spawn)
        with self._lock:
            self.clients[client.id] = client
        connection.on_lost = partial(self._lost, connection, client)
        if logger.isEnabledFor(logging.INFO):
            # Without the query, which may hold a token.
            logger.info("%s opened %s", connection.peer(), request.path, extra=connection.log_fields())
        if self._observation is not None:
            self._observation.opened(client, connection)
        if handler is not None:
            self._start_handler(handler, client, connection)
        else:
            assert self.on_connection is not None
            self.spawn_in_context(self._run_callback(self.on_connection, client, connection))

    def _lost(self, connection: Connection, client: Client) -> None:
        """Forget a connection that has ended."""
        outcome = connection.outcome()
        assert outcome is not None
        self.connections.discard(connection)
        with self._lock:
            self.clients.pop(client.id, None)
            self._counted.add(connection)
            self._closed[outcome.cause] += 1
        if self.client_quota is not None:
            address = _counted_as(connection)
            if address:
                self.client_quota.give_back(address)
        if logger.isEnabledFor(logging.INFO):
            log_end(connection, connection.peer(), "%s: %s")
        if self._observation is not None:
            self._observation.closed(client, connection)

    def count_refused(self, status: int, reason: str) -> None:
        """Note that a request got a response other than 101: a refusal, unless the status is below 400."""
        if status < 400:
            return
        self.refused[status] = self.refused.get(status, 0) + 1
        if self._observation is not None:
            self._observation.refused(status, reason)

    def stats(self) -> ServerStats:
        """Return the counters of the server. Any thread may call this."""
        with self._lock:
            clients = tuple(self.clients.values())
            counts = self._counted.copy()
            closed = self._closed.copy()
        counts.backlog = counts.largest_backlog = 0  # of connections that have ended
        round_trips: list[float] = []
        for client in clients:
            counts.add(client._connection)
            latency = client.latency
            if latency is not None:
                round_trips.append(latency)
        return ServerStats(
            connections=len(clients),
            opened=len(clients) + sum(closed.values()),
            closed=MappingProxyType(closed),
            handshakes=self.handshakes,
            refused=MappingProxyType(self.refused.copy()),
            failed=self.failed,
            messages_received=counts.messages_received,
            messages_sent=counts.messages_sent,
            bytes_received=counts.bytes_received,
            bytes_sent=counts.bytes_sent,
            compressed_received=counts.compressed_received,
            inflated_received=counts.inflated_received,
            compressed_sent=counts.compressed_sent,
            inflated_sent=counts.inflated_sent,
            backlog=counts.backlog,
            largest_backlog=counts.largest_backlog,
            round_trip=sum(round_trips) / len(round_trips) if round_trips else None,
            started_at=self._started_at,
            duration=monotonic() - self._started if self._started else 0.0,
        )

    def _start_handler(self, handler: Handler, client: Client, connection: Connection) -> None:
        """Run the handler in a task of its own, and close the connection when it ends."""
        assert self._environment is not None
        context = self._context.copy()
        try:
            coroutine = context.run(handler, client)
            if not inspect.iscoroutine(coroutine):
                coroutine = _wait_for(coroutine)
            # No coroutine of ours around it: each message that wakes the handler would pass through that too.
            loop = self._environment.loop
            if loop.get_task_factory() is None:
                task = loop.create_task(coroutine, context=context)
            else:  # a factory of the application need not know the argument `context`
                task = context.run(loop.create_task, coroutine)
        except Exception as error:
            self._fail_handler(error, client, connection)
        else:
            self._tasks.add(task)
            task.add_done_callback(partial(self._end_handler, client, connection), context=context)

    def _end_handler(self, client: Client, connection: Connection, task: "asyncio.Task[None]") -> None:
        """Close the connection of a handler that has ended."""
        self._tasks.discard(task)
        if task.cancelled():
            code = CloseCode.GOING_AWAY if self.stopping else CloseCode.INTERNAL_ERROR
            connection.fail(code, "", Cause.LOCAL_CANCEL, Side.LOCAL, "the handler was cancelled")
            return
        error = task.exception()
        if error is None or tells_of_end(error):
            # Many handlers end with `ConnectionClosed`, because the connection has ended. That is not a failure.
            if not connection.is_closed:
                connection.begin_close(CloseCode.NORMAL, "")
        elif isinstance(error, (SystemExit, KeyboardInterrupt)):
            # The loop has raised it already, to end the program.
            connection.fail(CloseCode.GOING_AWAY, "", Cause.LOCAL_CANCEL, Side.LOCAL, f"the handler raised {error!r}")
        else:
            self._fail_handler(error, client, connection)

    def _fail_handler(self, error: BaseException, client: Client, connection: Connection) -> None:
        """Close the connection of a handler that has raised."""
        logger.error("%s: the handler raised", connection.peer(), exc_info=error, extra=connection.log_fields())
        detail = f"the handler raised {error!r}"
        connection.fail(CloseCode.INTERNAL_ERROR, "", Cause.HANDLER_ERROR, Side.LOCAL, detail)

    async def _run_callback(self, callback: ConnectionCallback, client: Client, connection: Connection) -> None:
        """Run the @socket.connection callback."""
        await call(connection, callback, client)
        connection.inbox.discard_unread()

    # Stopping --------------------------------------------------------------------------------------------------

    def forget_task(self, task: "asyncio.Task[None] | None") -> None:
        """Do not wait for this task when the server stops: it is a handler that waits for the server to stop."""
        if task is not None:
            self._tasks.discard(task)

    async def stop(self, code: int, reason: str, seconds: float) -> None:
        """Close all connections, and wait until they and their handlers have ended.

        After `Timeouts.close`, connections are dropped and handlers are cancelled; those have the same time again.

        :param seconds: the time over which the closes are spread.
        """
        assert self._environment is not None
        timeout = self._environment.timeouts.close
        if seconds and not self.stopping:
            code, reason = await self._drain(code, reason, seconds)
        self.stopping = True
        self.close_all(code, reason)
        ends = [asyncio.ensure_future(connection.wait_gone()) for connection in self.connections]
        await _wait([*ends, *self._tasks], timeout)
        for connection in tuple(self.connections):
            connection.close_overdue()  # records the timeout as the cause, if the connection has not done so itself
        self.abort()
        await _wait([*ends, *self._tasks], timeout)
        for task in self._tasks:
            logger.error("the server stopped, but this task did not end when it was cancelled: %r", task)
        self._environment.close()

    async def _drain(self, code: int, reason: str, seconds: float) -> tuple[int, str]:
        """Close the connections one after the other, evenly over some seconds; refuse those that are opening.

        It ends early when nothing is left to close, or when `hurry` is called.

        :returns: the code and reason with which to close the others.
        """
        assert self._environment is not None
        loop = self._environment.loop
        self.draining = True
        self._hurry = loop.create_future()
        due = loop.time()
        end = due + seconds
        opened = [client._connection for client in self.clients.values()]  # the oldest first
        for connection in opened:
            if due > loop.time():
                await asyncio.wait([self._hurry], timeout=due - loop.time())
            if self._hurry.done():
                return self._hurry.result()
            if connection.is_open:
                connection.begin_close(code, reason)
                due += seconds / len(opened)
        # Those that are opening get a response when their request is complete.
        while self._is_opening() and loop.time() < end and not self._hurry.done():
            await asyncio.wait([self._hurry], timeout=min(_CHECK, end - loop.time()))
        return self._hurry.result() if self._hurry.done() else (code, reason)

    def _is_opening(self) -> bool:
        """Return whether an opening handshake is under way, or a refused connection has not ended."""
        return self.handshakes > 0 or any(connection.is_opening for connection in self.connections)

    def hurry(self, code: int, reason: str) -> None:
        """End a drain that is under way: close the other connections now, with this code and reason."""
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result((code, reason))

    def close_all(self, code: int, reason: str) -> None:
        """Begin to close all connections; drop those whose opening handshake is under way."""
        for connection in tuple(self.connections):
            if connection.is_open:
                connection.begin_close(code, reason)
            elif connection.is_opening:
                connection.abort()

    def abort_all(self) -> None:
        """Drop all connections."""
        for connection in tuple(self.connections):
            connection.abort()

    async def wait_all(self) -> None:
        """Wait until all connections have ended."""
        while self.connections:
            await next(iter(self.connections)).wait_gone()

    def abort(self) -> None:
        """Drop all connections and cancel all tasks."""
        self.hurry(CloseCode.GOING_AWAY, "")
        self.abort_all()
        for task in tuple(self._tasks):
            task.cancel()


class ServerOpening:
    """The opening handshake of one connection, on the server's side (`connection.Opening`)."""

    __slots__ = (
        "_address",
        "_connection",
        "_environment",
        "_excess",
        "_openings",
        "_reader",
        "_request",
        "_responded",
        "_serving",
        "_task",
        "_under_way",
    )

    def __init__(self, serving: Serving, environment: Environment, openings: Openings) -> None:
        self._serving = serving
        self._environment = environment
        self._reader: RequestReader | None = None  # from TLS to the complete request
        self._request: Request | None = None  # for which the @socket.request callback was called
        self._responded = False
        self._address: str | None = None  # as which the handshake counts in `Serving.handshake_quota`
        self._excess = False  # whether its address had too many handshakes
        self._task: asyncio.Task[None] | None = None  # of the @socket.request callback
        self._connection: Connection | None = None
        # Started here, so that `Timeouts.open` covers the TLS handshake too.
        environment.open_deadlines.add(self._overdue)
        self._openings: Openings | None = openings  # until the request is complete
        openings.begin(self)
        self._under_way = True  # whether the handshake has not ended
        serving.handshakes += 1

    def _release(self) -> None:
        """Note that this connection does not wait for its client any more."""
        if self._openings is not None:
            self._openings.end(self)
            self._openings = None

    def _end(self) -> None:
        """Note that the handshake has ended."""
        if self._under_way:
            self._under_way = False
            self._serving.handshakes -= 1
        self._environment.open_deadlines.discard(self._overdue)
        self._release()
        if self._address is not None:
            assert self._serving.handshake_quota is not None
            self._serving.handshake_quota.give_back(self._address)
            self._address = None

    def _take(self, address: str) -> bool:
        """Count this handshake, unless it counts already or never; return False if its address has too many."""
        quota = self._serving.handshake_quota
        if quota is None or self._address is not None or not address:
            return True
        if not quota.take(address):
            return False
        self._address = address
        return True

    def accepted(self, transport: Any) -> None:
        """Count this handshake by the address of its peer, before TLS begins. Those of a proxy count by the request."""
        peer = peer_address(transport, 0)
        if not self._serving.trusts(peer) and not self._take(network_of(peer[0]) if peer[1] else ""):
            self._excess = True
            self._environment.loop.call_soon(self._drop_excess, transport, peer)

    def _drop_excess(self, transport: Any, peer: tuple[str, int]) -> None:
        """Drop a connection whose address has too many handshakes, and which TLS keeps from getting a response."""
        if self._connection is None:
            remote = address_text(peer)
            fields = {"role": "server", "remote": remote, "reason": _TOO_MANY_HANDSHAKES}
            logger.info("%s refused: %s", remote, _TOO_MANY_HANDSHAKES, extra=fields)
            transport.abort()

    def connected(self, connection: Connection) -> None:
        """Register the connection, whose TLS handshake is complete."""
        self._connection = connection
        self._reader = RequestReader(self._environment.limits, connection)
        serving = self._serving
        serving.connections.add(connection)
        if serving.handshake_quota is not None and not self._excess and not serving.trusts(connection.address()):
            # Where the loop accepts the connections, because our own listeners have called `accepted`.
            self._excess = not self._take(_counted_as(connection))
        if serving.stopping:
            connection.abort()  # the server was stopped during the TLS handshake
        elif self._excess:
            self._refuse(connection, crowded_response(), _TOO_MANY_HANDSHAKES, None)
        elif self._openings is not None and self._openings.is_over_limit():
            # Only where the loop accepts the connections: our own listeners pause before.
            self._refuse(connection, full_response(), "too many opening handshakes (Limits.max_handshakes)", None)

    def received(self, connection: Connection, data: bytes) -> None:
        """Read the request, and process it when it is complete."""
        if self._responded or self._reader is None:
            return
        try:
            request = self._reader.feed(data)
        except HandshakeRefused as error:
            self._refuse(connection, error_response(error), error.reason, None)
            return
        if request is None:
            return
        self._release()
        reader, self._reader = self._reader, None
        proxies = self._serving.proxies
        if proxies is not None and proxies.trusts(connection.address()):
            connection.forwarding = Forwarding(proxies, request.headers)
            if not self._take(_counted_as(connection)):
                self._refuse(connection, crowded_response(), _TOO_MANY_HANDSHAKES, request)
                return
        callback = self._serving.on_request
        if callback is None:
            self._accept(connection, request, reader)
        else:
            self._request = request
            connection.pause_reading()
            coroutine = self._run_request_callback(connection, request, reader, callback)
            self._task = self._serving.spawn_in_context(coroutine)

    async def _run_request_callback(
        self, connection: Connection, request: Request, reader: RequestReader, callback: RequestCallback
    ) -> None:
        """Run the @socket.request callback, and then send its response or continue the handshake."""
        failed = False
        try:
            result = callback(request)
            response = await result if inspect.isawaitable(result) else result
            if response is not None and not isinstance(response, (Response, Accept)):
                raise TypeError(
                    f"a @socket.request callback must return a Response or None, or an Accept, not {response!r}"
                )
        except NO_FAILURE:
            raise
        except BaseException:
            logger.exception(
                "%s: the @socket.request callback raised", connection.peer(), extra=_request_fields(connection, request)
            )
            response = failure_response()
            failed = True
        if connection.transport is None or connection.transport.is_closing() or self._responded:
            return
        if response is None or isinstance(response, Accept):
            connection.resume_reading()
            self._accept(connection, request, reader, response)
        elif failed:
            self._refuse(connection, response, "the @socket.request callback raised", request)
        elif response.status >= 400:
            reason = summary_of(response) if response.body else "by @socket.request"
            self._refuse(connection, response, reason, request)
        else:
            reason = "answered by @socket.request"
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug(
                    "%s answered with %d by @socket.request",
                    connection.peer(),
                    response.status,
                    extra=_request_fields(connection, request, status=response.status, reason=reason),
                )
            self._respond(connection, response, reason, request)

    def _accept(
        self, connection: Connection, request: Request, reader: RequestReader, accept: Accept | None = None
    ) -> None:
        """Complete the handshake, or refuse the request."""
        if self._serving.draining:
            self._refuse(connection, stopping_response(), "the server is stopping", request)
            return
        limit = self._environment.limits.max_clients
        if limit is not None and len(self._serving.clients) >= limit:
            # Not before the request has arrived: some clients fail if they receive a response before they send it.
            reason = f"the server is full (Limits.max_clients is {limit})"
            self._refuse(connection, full_response(), reason, request)
            return
        try:
            agreement = accept_request(request, reader.fields, self._serving.policy, accept)
            handler = self._serving.find_handler(request)
        except HandshakeRefused as error:
            self._refuse(connection, error_response(error), error.reason, request)
            return
        except UsageError as error:
            logger.error("%s: %s", connection.peer(), error, extra=_request_fields(connection, request))
            self._refuse(
                connection,
                failure_response(),
                "the @socket.request callback chose a subprotocol that the client does not offer",
                request,
            )
            return
        quota = self._serving.client_quota
        if quota is not None:
            address = _counted_as(connection)
            if address and not quota.take(address):
                reason = f"too many clients of this address (Limits.max_clients_per_address is {quota.limit})"
                self._refuse(connection, crowded_response(), reason, request)
                return
        self._end()
        connection.transport.write(agreement.encoded)
        self._serving.serve(connection, request, agreement, handler)
        connection.receive_soon(reader.rest)

    def _refuse(self, connection: Connection, response: Response, reason: str, request: Request | None) -> None:
        if logger.isEnabledFor(logging.INFO):
            fields = _request_fields(connection, request, status=response.status, reason=reason)
            logger.info("%s refused with %d: %s", connection.peer(), response.status, reason, extra=fields)
        self._respond(connection, response, reason, request)

    def _respond(self, connection: Connection, response: Response, reason: str, request: Request | None) -> None:
        """Send a response other than 101 and close the connection. Bytes after the request are ignored.

        :param request: the request; None if it was not read completely.
        """
        self._responded = True
        self._reader = None
        self._end()
        connection.transport.write(response.encode("GET" if request is None else request.method))
        self._environment.close_deadlines.add(connection.abort)
        connection.resume_reading()  # it is paused during a callback, but the peer's EOF must be seen
        connection.end_writing()
        self._serving.count_refused(response.status, reason)

    def _overdue(self) -> None:
        """Refuse a connection whose opening handshake was not complete within `Timeouts.open`."""
        connection = self._connection
        self._release()
        if self._task is not None:
            self._task.cancel()
        if connection is not None and connection.transport is not None:
            seconds = self._environment.timeouts.open
            reason = f"the opening handshake took longer than {seconds} s (Timeouts.open)"
            self._refuse(connection, timeout_response(), reason, self._request)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Forget a connection that ended before the handshake was complete."""
        if not self._responded:
            self._serving.failed += 1
        self._end()
        self._environment.close_deadlines.discard(connection.abort)
        self._serving.connections.discard(connection)
        if self._task is not None:
            self._task.cancel()


def _request_fields(connection: Connection, request: Request | None, **more: object) -> dict[str, object]:
    """Return the fields of a log record about a connection that has not opened."""
    fields = connection.log_fields()
    if request is not None:
        fields["path"] = request.path  # without the query, which may hold a token
    fields.update(more)
    return fields


_TOO_MANY_HANDSHAKES = "too many opening handshakes of this address (Limits.max_handshakes_per_address)"


def _counted_as(connection: Connection) -> str:
    """Return the text under which a connection counts for its remote address; empty for the peer of a Unix socket."""
    remote = connection.remote
    return "" if not remote[1] and remote == connection.address() else network_of(remote[0])


def check_callback(callback: object, decorator: str, argument: str) -> None:
    """Check the argument of a decorator.

    :raises UsageError: if it is not a function.
    """
    if not callable(callback):
        raise UsageError(f"{decorator} registers a function that takes {argument}, not {type(callback).__name__}")


def check_handler(handler: object) -> None:
    """Refuse a handler that certainly does not return an awaitable. Any other function may return one.

    :raises TypeError: if it does not.
    """
    if not callable(handler):
        raise TypeError(f"handler must be a coroutine function that takes a Client, not {handler!r}")
    function = getattr(handler, "__func__", handler)  # of a method
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"handler must be a coroutine function, but {handler!r} is a generator: leave out `yield`")
    if inspect.isfunction(function) and not inspect.iscoroutinefunction(function) and _returns_none(function):
        name = function.__name__
        raise TypeError(f"handler must be a coroutine function: write `async def {name}`, not `def {name}`")


def _returns_none(function: Callable[..., object]) -> bool:
    """Return whether a plain function always returns None, as far as its bytecode shows. In doubt, return False."""
    returned: list[object] = []
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(function):
        if instruction.opname == "RETURN_CONST":
            returned.append(instruction.argval)
        elif instruction.opname == "RETURN_VALUE":
            constant = before is not None and before.opname == "LOAD_CONST" and not instruction.is_jump_target
            returned.append(before.argval if constant and before is not None else instruction)
        before = instruction
    return bool(returned) and all(value is None for value in returned)  # empty if the function only raises


async def _wait_for(awaitable: Awaitable[None]) -> None:
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"the handler returned {awaitable!r}, which cannot be awaited: write it with `async def`")
    await awaitable


async def _wait(tasks: Sequence["asyncio.Task[None]"], seconds: float | None) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
