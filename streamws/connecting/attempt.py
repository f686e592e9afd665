"""One attempt to connect: redirects, socket, TLS, opening handshake, `Client`."""

import asyncio
import logging
import math
import socket
from asyncio import Future, Task
from collections.abc import Coroutine
from functools import partial

import attrs

from ..callbacks import end_task
from ..client import Client
from ..connection import Connection, Environment, connection_class, logger
from ..errors import (
    ConnectError,
    ConnectTimeout,
    HandshakeRefused,
    InvalidURL,
    RedirectError,
    StreamwsError,
)
from ..handshake.agreement import Agreement
from ..handshake.client import (
    Handshake,
    RequestOptions,
    begin_handshake,
    check_response,
    refused_error,
    request_options,
)
from ..handshake.headers import HeaderFields, Headers
from ..handshake.response_reader import ResponseReader
from ..handshake.url import Url, join_url, parse_url, without_password
from ..net.transports import reason_of
from ..options import Limits, Timeouts
from ..watching.observer import Observation, Observer
from ..watching.records import log_end
from .routes import Progress, Route

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@attrs.frozen
class Settings:
    """The arguments of `connect` that are the same for each attempt."""

    options: RequestOptions
    route: Route
    max_redirects: int
    limits: Limits
    timeouts: Timeouts
    observer: Observer | None


class Attempt:
    """One attempt to connect, and the connection that it leads to."""

    __slots__ = ("_progress", "_settings", "ended")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._progress = Progress()
        self.ended: float = math.inf
        """When the connection ended, in the time of the event loop."""

    async def connect(self, location: str, headers: HeaderFields) -> Client:
        """Connect to a URL, and follow its redirects.

        :param location: the URL, as the application gave it.
        :param headers: fields that replace those of the same name in `Settings.options`.
        """
        settings = self._settings
        url = parse_url(location)
        options = _with_headers(settings.options, headers) if headers else settings.options
        server_hostname = settings.route.server_hostname
        for argument, value in (("ssl=", settings.route.ssl), ("server_hostname=", server_hostname)):
            if value is not None and not url.secure:
                raise InvalidURL(f"{argument} is only for wss://, not for {url}: use wss://, or leave {argument} out")
        origin = url.origin
        redirects = 0
        while True:
            # `server_hostname` is the name in the first server's certificate, not in those that it redirects to.
            name = server_hostname if url.origin == origin else None
            try:
                return await self._open(url, options, name or url.name.rstrip("."))  # RFC 6066 section 3: no final dot
            except HandshakeRefused as error:
                redirect = error.headers.get("Location")
                if error.status not in _REDIRECTS or redirect is None or settings.max_redirects == 0:
                    raise
                redirects += 1
                if redirects > settings.max_redirects:
                    raise _redirect_error(
                        error, f"more than {settings.max_redirects} redirects (max_redirects)"
                    ) from error
                url, options = self._redirect(url, options, redirect, error)

    def timeout_error(self) -> StreamwsError:
        """Return the error for an attempt that took too long."""
        refusal = self._progress.refusal()
        if refusal is not None:
            return refusal
        seconds = self._settings.timeouts.open
        waiting_for = self._progress.waiting_for
        return ConnectTimeout(f"not connected within {seconds} s (Timeouts.open); still waiting for {waiting_for}")

    def _redirect(
        self, url: Url, options: RequestOptions, location: str, error: HandshakeRefused
    ) -> tuple[Url, RequestOptions]:
        """Return the URL of a redirect, and the options for the request there.

        :raises RedirectError: if the redirect must not be followed.
        """
        route = self._settings.route
        try:
            target = join_url(url, location)
        except InvalidURL as invalid:
            raise _redirect_error(error, str(invalid)) from invalid
        if url.secure and not target.secure:
            raise _redirect_error(error, "it leads from wss:// to ws://, which is not encrypted") from error
        if target.origin == url.origin:
            if route.sock is not None:
                raise _redirect_error(error, "sock= can be used for one connection only") from error
            return attrs.evolve(target, credentials=target.credentials or url.credentials), options
        if route.sock is not None or route.path is not None:
            raise _redirect_error(error, "it leads to another server than sock= or path=") from error
        # Any field of the application may be a secret: Authorization, Cookie, X-Api-Key, ... Many servers expect a
        # token in the subprotocols, because a browser cannot send it in any other field.
        return target, attrs.evolve(options, headers=Headers(), subprotocols=())

    async def _open(self, url: Url, options: RequestOptions, server_hostname: str) -> Client:
        """Connect to a URL without following redirects."""
        settings, progress = self._settings, self._progress
        route = settings.route
        loop = asyncio.get_running_loop()
        progress.response_read()  # if another server has redirected to this one
        handshake = begin_handshake(url, options)
        opening = ClientOpening(handshake, url.secure, settings.limits, loop.create_future())
        environment = Environment(loop, settings.limits, settings.timeouts)
        connection = connection_class(loop)(environment, False, opening)
        sock = await route.open_socket(url, settings.options.user_agent, settings.limits, progress)
        destination = route.destination(url)
        if url.secure:
            progress.waiting_for = f"TLS with {destination}"
        try:
            await route.start_transport(connection, url, sock, server_hostname)
            progress.waiting_for = f"the response of {destination}"
            progress.reading(opening.reader)
            agreement = await opening.agreement
        except BaseException:
            _clean_up(connection, sock, opening)
            raise
        progress.response_read()
        return self._make_client(connection, handshake, agreement)

    def _make_client(self, connection: Connection, handshake: Handshake, agreement: Agreement) -> Client:
        environment = connection.environment
        request = handshake.request
        request._bind(connection)
        tasks: set[Task[None]] = set()

        def spawn(coroutine: Coroutine[object, None, None]) -> Task[None]:
            task: Task[None] = environment.loop.create_task(coroutine)
            tasks.add(task)  # the loop itself only keeps weak references
            task.add_done_callback(partial(end_task, tasks))
            return task

        client = Client(connection, request, agreement, spawn)
        observer = self._settings.observer
        observation = None if observer is None else Observation(observer)
        # Only an observer keeps the client. Otherwise one that the application forgets warns that it is not closed.
        report = None if observation is None else partial(observation.closed, client, connection)

        def lost() -> None:
            self.ended = environment.loop.time()
            environment.close()
            if logger.isEnabledFor(logging.INFO):
                log_end(connection, request.host, "connection to %s: %s")
            if report is not None:
                report()

        if logger.isEnabledFor(logging.INFO):
            # Without the query, which may hold a token.
            logger.info("connected to %s%s", request.host, request.path, extra=connection.log_fields())
        if observation is not None:
            observation.opened(client, connection)
        if connection.is_closed:
            lost()
        else:
            connection.on_lost = lost
        return client


class ClientOpening:
    """The opening handshake of one connection, on the client's side (`connection.Opening`)."""

    __slots__ = ("_handshake", "_secure", "agreement", "reader")

    def __init__(self, handshake: Handshake, secure: bool, limits: Limits, agreement: "Future[Agreement]") -> None:
        self._handshake = handshake
        self._secure = secure  # whether the connection uses TLS
        self.reader: ResponseReader = ResponseReader(limits)
        self.agreement: Future[Agreement] = agreement
        """The result of the handshake, or the error."""

    def connected(self, connection: Connection) -> None:
        """Send the request."""
        connection.transport.write(self._handshake.encoded)

    def received(self, connection: Connection, data: bytes) -> None:
        """Read and check the response."""
        if self.agreement.done():
            return  # the handshake has failed, or the attempt was cancelled
        try:
            response = self.reader.feed(data)
            if response is None:
                return
            agreement = check_response(self._handshake, response)
        except Exception as error:  # usually HandshakeRefused or InvalidHandshake
            self.agreement.set_exception(error)
            connection.abort()
            return
        # Start now: the server may send frames right after the response, before the waiting task runs.
        connection.start(self._handshake.compression, agreement.terms)
        self.agreement.set_result(agreement)
        # But deliver the bytes after it has run. It may register callbacks, or reply before a Close frame is processed.
        connection.receive_soon(self.reader.rest)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Fail the handshake, because the connection ended."""
        if self.agreement.done():
            return
        response = self.reader.finish()
        if response is not None:
            self.agreement.set_exception(refused_error(response))
            return
        when = "in the middle of its response" if self.reader.started else "before it responded"
        reason = f": {reason_of(error)}" if error else ""
        # Most servers that expect TLS send no response to a client that sends plain HTTP.
        hint = "" if self._secure or self.reader.started else "; if this port speaks TLS, use wss://"
        failure = ConnectError(f"{self._handshake.request.host} closed the connection {when}{reason}{hint}")
        failure.__cause__ = error
        self.agreement.set_exception(failure)


def _clean_up(connection: Connection, sock: socket.socket, opening: ClientOpening) -> None:
    """Close a connection whose opening handshake failed or was cancelled, and stop its timers."""
    connection.abort()
    sock.close()
    connection.environment.close()
    if not opening.agreement.cancel() and not opening.agreement.cancelled():
        opening.agreement.exception()  # mark it as retrieved: the error raised by the caller is reported instead


def _with_headers(options: RequestOptions, headers: HeaderFields) -> RequestOptions:
    """Return the options with fields that replace those of the same name."""
    replacing = request_options(headers, None, None, ()).headers
    kept = Headers([(name, value) for name, value in options.headers.items_all() if name not in replacing])
    return attrs.evolve(options, headers=Headers.from_wire(kept.wire + replacing.wire))


def _redirect_error(response: HandshakeRefused, reason: str) -> RedirectError:
    location = shown_url(response.headers.get("Location", ""))
    message = f"cannot follow the redirect to {location:.200}: {reason}"
    return RedirectError(message, response.status, response.headers, response.body)


def shown_url(url: str) -> str:
    """Return a URL for messages, without the password and without the query, which may hold a token."""
    start, mark, query = without_password(url).partition("?")
    return repr(start + mark + ("..." if query else ""))
