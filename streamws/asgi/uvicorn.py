"""`Protocol`: WebSockets for applications under uvicorn, with the extra `uvicorn`.

`uvicorn app:app --ws streamws.asgi.uvicorn:Protocol`, or `uvicorn.Config(app, ws=Protocol)`.

uvicorn reads the request and creates a `Protocol` for it. The application runs in a task of its own, which `Protocol`
starts. When it accepts, the transport gets a `Connection`, the same as in a server of streamws.
"""

import asyncio
import logging
import re
from asyncio import AbstractEventLoop, Future, iscoroutine
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from typing import Any, ClassVar, Literal, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from ..codes import Cause, CloseCode, Side
from ..connection import AsyncioConnection, Connection, Environment
from ..errors import ConnectionClosed, HandshakeRefused, InvalidHeader, MissingExtra
from ..handshake.agreement import Agreement
from ..handshake.head import Request, Response
from ..handshake.headers import is_token
from ..handshake.request_reader import RequestReader
from ..handshake.server import (
    Policy,
    accept_request,
    error_response,
    failure_response,
    full_response,
    stopping_response,
)
from ..net.addresses import address_text
from ..options import Compression, Limits, Timeouts, compression_of
from ..watching.records import log_end
from .denial import Denial, decode_fields, encode_fields
from .events import Event, Events

try:
    from uvicorn.config import Config
    from uvicorn.logging import TRACE_LOG_LEVEL
    from uvicorn.protocols.utils import (
        ClientDisconnected,
        get_client_addr,
        get_local_addr,
        get_path_with_query_string,
        get_remote_addr,
        is_ssl,
    )
    from uvicorn.server import ServerState
except ImportError as _error:
    raise MissingExtra("streamws.asgi.uvicorn needs uvicorn: pip install 'streamws[uvicorn]'") from _error

__all__ = ["Protocol"]

_logger: logging.Logger = logging.getLogger("streamws")

_READ_BY_UVICORN = Limits(max_request_line=1 << 30, max_header_line=1 << 30, max_headers=1 << 30, max_head=1 << 30)
"""The limits of a head: none, because uvicorn has read it, within its own limits."""

_OF_HANDSHAKE = re.compile(rb"upgrade|connection|sec-websocket-(?!protocol).*|content-length|transfer-encoding", re.I)
"""The fields that the application must not add to the 101 response. ASGI forbids `sec-websocket-protocol` too, but
uvicorn's own classes send it, and there are applications that use it."""

# What the application may send next.
_NOTHING_YET = 0  # it has not answered: it may accept, close, or begin a response
_MESSAGES = 1  # it has accepted
_BODY = 2  # it has begun a response
_NO_MORE = 3  # it has closed the connection, or completed its response
_ANSWERED = 4  # the server itself has answered the request, or has cut off the response of the application

_MAX_EARLY = 65536
"""The most bytes that a client may send before it is accepted."""


class _Connection(AsyncioConnection):
    """A connection whose closes have the reasons of uvicorn."""

    __slots__ = ()

    def fail(self, code: int, reason: str, cause: Cause, side: Side = Side.REMOTE, detail: str = "") -> None:
        if cause is Cause.KEEPALIVE:
            reason, detail = "keepalive ping timeout", reason  # the text of uvicorn's own classes
        super().fail(code, reason, cause, side, detail)


class _Opened:
    """The opening handshake of a connection that is complete (`connection.Opening`)."""

    def connected(self, connection: Connection) -> None:
        pass

    def received(self, connection: Connection, data: bytes) -> None:
        pass

    def lost(self, connection: Connection, error: Exception | None) -> None:
        pass


_OPENED = _Opened()


class _Shared:
    """What all connections of one server share: the settings are those of the first class and loop seen."""

    def __init__(self, kind: type["Protocol"], config: Config, loop: AbstractEventLoop) -> None:
        limits, timeouts = kind.limits, kind.timeouts
        self.invalid: bool = False
        """Whether an option of uvicorn is not valid, so that every request is refused."""
        try:
            if limits is None:
                limits = Limits(max_message_size=config.ws_max_size)
            if timeouts is None:
                # uvicorn takes 0 for no pings.
                interval, timeout = config.ws_ping_interval or None, config.ws_ping_timeout or None
                timeouts = Timeouts(ping_interval=interval, ping_timeout=timeout)
        except (TypeError, ValueError) as error:
            self.invalid = True
            limits, timeouts = Limits(), Timeouts()
            logging.getLogger("uvicorn.error").error(
                "cannot serve WebSockets with ws_max_size=%r, ws_ping_interval=%r, ws_ping_timeout=%r: %s",
                config.ws_max_size,
                config.ws_ping_interval,
                config.ws_ping_timeout,
                error,
            )
        compression = compression_of(kind.compression) if config.ws_per_message_deflate else None
        self.max_unread: int = config.ws_max_queue or 0
        self.policy = Policy(origins=kind.origins, hosts=kind.hosts, compression=compression)
        self.environment = Environment(loop, limits, timeouts, limits.max_total_backlog)
        self.clients: int = 0
        """The number of connections that are open."""


_servers: "WeakKeyDictionary[ServerState, _Shared]" = WeakKeyDictionary()


class Protocol(Events, asyncio.Protocol):
    """One WebSocket connection under uvicorn, from its request to its end.

    Pass the class to uvicorn: `--ws streamws.asgi.uvicorn:Protocol`, or `Config(ws=Protocol)`. By default it uses
    uvicorn's options: `ws_max_size`, `ws_max_queue`, `ws_ping_interval`, `ws_ping_timeout` and
    `ws_per_message_deflate`. For other settings, write a subclass at the top level of a module, with some of these
    attributes: `limits`, `timeouts`, `compression`, `origins`, `hosts`.

    :raises TypeError, ValueError: when the subclass is created, if one of its settings is not valid.
    """

    __slots__ = (
        "_agreement",
        "_app_state",
        "_config",
        "_connect_told",
        "_connection",
        "_denial",
        "_early",
        "_expected",
        "_logger",
        "_lost",
        "_reader",
        "_server_state",
        "_shared",
        "_stopping",
        "_waiting",
        "_writing_paused",
        "scope",
        "transport",
    )

    limits: ClassVar[Limits | None] = None
    """Limits of messages and of buffers. None: `Limits` with uvicorn's `ws_max_size` as `max_message_size`.

    The limits of the HTTP head have no effect, because uvicorn reads it; nor have `max_handshakes` and the limits of
    one address."""

    timeouts: ClassVar[Timeouts | None] = None
    """Deadlines. None: `Timeouts` with uvicorn's `ws_ping_interval` and `ws_ping_timeout`.

    `Timeouts.open` has no effect: the application may take its time before it accepts."""

    compression: ClassVar[Compression | bool | None] = True
    """Settings for permessage-deflate; True for `Compression()`, None or False for none. With uvicorn's option
    `ws_per_message_deflate` off, nothing is compressed."""

    origins: ClassVar[Sequence[str] | Literal["*"] | None] = "*"
    """The origins of web pages that may connect, as for `WebSocketServer`. All by default, as with uvicorn's own
    classes, so that existing applications run unchanged. None allows only pages of the server's own host."""

    hosts: ClassVar[Sequence[str] | None] = None
    """The names that the server answers to, as for `WebSocketServer`. None allows any."""

    transport: asyncio.Transport
    """The transport; it is kept after the end."""
    scope: dict[str, object]
    """The ASGI connection scope."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, kind in (("limits", Limits), ("timeouts", Timeouts)):
            value = getattr(cls, name)
            if not (value is None or isinstance(value, kind)):
                raise TypeError(f"{cls.__name__}.{name} must be a streamws.{kind.__name__} or None, not {value!r}")
        try:
            Policy(origins=cls.origins, hosts=cls.hosts, compression=compression_of(cls.compression))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{cls.__name__}: {error}") from error

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        """Create the protocol of one connection. uvicorn does it.

        :param app_state: the state of the lifespan, which each scope gets a copy of.
        """
        if not config.loaded:
            config.load()
        loop = _loop or asyncio.get_event_loop()
        super().__init__(loop)
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._logger = logging.getLogger("uvicorn.error")
        shared = _servers.get(server_state)
        if shared is None or shared.environment.loop is not loop:
            shared = _servers[server_state] = _Shared(type(self), config, loop)
        self._shared = shared
        self._reader: RequestReader | None = RequestReader(_READ_BY_UVICORN)
        self._agreement: Agreement | None = None  # from the request to the accept
        self._connection: _Connection | None = None  # from the accept to the end of the application
        self._early = b""  # bytes that arrived before the accept
        self._expected = _NOTHING_YET
        self._connect_told = False  # whether the application has received `websocket.connect`
        self._lost = False  # whether the transport is closed
        self._stopping = False  # whether uvicorn stops and this connection was closed because of it
        self._denial: Denial | None = None  # the response that the application has begun
        # Whether writing is paused and there is no connection; not known before this is the protocol of the transport.
        self._writing_paused = True
        self._waiting: list[Future[None]] = []  # tasks in `receive` or `send` while there is no connection

    # The transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self.transport = cast(asyncio.Transport, transport)
        self._trace("WebSocket connection made", self.transport)

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if connection is not None:
            connection.receive(data, len(data))
        elif self._reader is not None:
            self._receive_head(self._reader, data)
        elif self._expected == _NOTHING_YET:
            # The client must wait for the response (RFC 6455 section 4.1), so this does not have to be fast. Reading
            # goes on, because otherwise the end of the client would not be seen.
            self._early += data
            if len(self._early) > _MAX_EARLY:
                reason = f"the client sent more than {_MAX_EARLY} bytes before it was accepted"
                self._refuse(error_response(HandshakeRefused(400, reason)), reason)

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()
        else:
            self._writing_paused = True

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()
        else:
            self.transport.set_write_buffer_limits()  # the usual ones; `_installed` may have changed them
            self._writing_paused = False
            self._wake()

    def _installed(self) -> None:
        """Find out whether writing is paused: uvicorn has made this the protocol of the transport."""
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() == 0:
            self._writing_paused = False
            self._wake()
        else:
            # The client has not read the response to an earlier request. If writing is paused, only uvicorn's own
            # protocol was told. In any case, `resume_writing` is called when everything is written.
            self.transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connection.connection_lost(exc)  # which calls `_end`
        else:
            self._end()

    def _end(self) -> None:
        """Note that the transport is closed."""
        self._lost = True
        self._wake()
        self._shared.environment.close_deadlines.discard(self.transport.abort)
        self._server_state.connections.discard(self)
        self._trace("WebSocket connection lost", self.transport)
        connection = self._connection
        if connection is not None:
            self._shared.clients -= 1
            self._logger.info("connection closed")
            if _logger.isEnabledFor(logging.INFO):
                log_end(connection, connection.peer(), "%s: %s")
        self.close_sending()

    def _trace(self, line: str, transport: asyncio.Transport) -> None:
        if self._logger.level <= TRACE_LOG_LEVEL:
            address = get_remote_addr(transport)
            self._logger.log(TRACE_LOG_LEVEL, "%s%s", f"{address_text(address)} - " if address else "", line)

    def shutdown(self) -> None:
        """Close the connection, because the server stops. uvicorn calls it."""
        connection = self._connection
        if connection is not None and connection.is_open:
            self._stopping = True
            connection.begin_close(CloseCode.SERVICE_RESTART, "")
            connection.inbox.end()
            return
        if self._expected == _NOTHING_YET:
            self._respond(stopping_response(), _ANSWERED)
        elif self._expected == _BODY:
            self._end_response(_ANSWERED)
        self.transport.close()

    # The opening handshake -------------------------------------------------------------------------------------

    def _receive_head(self, reader: RequestReader, data: bytes) -> None:
        """Check the request, and start the application."""
        try:
            request = reader.feed(data)
            if request is None:
                return
            self._reader = None
            self._early = reader.rest
            self._create_scope(request)
            agreement = accept_request(request, reader.fields, self._shared.policy)
        except HandshakeRefused as error:
            self._refuse(error_response(error), error.reason)
            return
        if self._shared.invalid:
            self._refuse(failure_response(), "an option of uvicorn is not valid; see the error above")
            return
        limit = self._shared.environment.limits.max_clients
        if limit is not None and self._shared.clients >= limit:
            self._refuse(full_response(), f"the server is full (Limits.max_clients is {limit})")
            return
        self._agreement = agreement
        self._start_application()

    def _create_scope(self, request: Request) -> None:
        config = self._config
        path = request.path
        self.scope = {
            "type": "websocket",
            "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "root_path": config.root_path,
            "path": config.root_path + unquote(path),
            "raw_path": config.root_path.encode("ascii") + path.encode("ascii"),
            "query_string": request.query_string.encode("ascii"),
            "headers": decode_fields(request.headers.wire),
            "subprotocols": list(request.subprotocols),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    def _start_application(self) -> None:
        self.loop.call_soon(self._installed)  # before the application runs, unless its task is eager
        application: Any = self._config.loaded_app
        try:
            # No coroutine of ours around it: each message that wakes the application would pass through that too.
            result: Any = application(self.scope, self.receive, self.send)
            coroutine: Coroutine[Any, Any, Any] = result if iscoroutine(result) else _wait_for(result)
        except Exception as error:
            self._finish(error, None)
            return
        task = self.loop.create_task(coroutine)
        self._server_state.tasks.add(task)
        task.add_done_callback(self._application_ended)

    def _refuse(self, response: Response, reason: str) -> None:
        """Refuse the request, without the application."""
        self._reader = None
        address = get_remote_addr(self.transport)
        shown = address_text(address) if address else ""
        self._logger.info('%s - "WebSocket" %d: %s', shown, response.status, reason)
        self._respond(response, _ANSWERED)

    def _respond(self, response: Response, expected: int) -> None:
        """Send a response other than 101.

        :param expected: what the application may send next.
        """
        if not self.transport.is_closing():
            self.transport.write(response.encode())
        self._end_response(expected)

    def _end_response(self, expected: int) -> None:
        """Close the sending side only, if the transport can, and discard what the client still sends.

        Closing both sides while the client is sending would reset the TCP connection, and the client might never read
        the response.
        """
        self._expected = expected
        self._early = b""
        self._wake()
        transport = self.transport
        if transport.is_closing():
            return
        self._shared.environment.close_deadlines.add(transport.abort)
        if transport.can_write_eof():
            # If the client is gone and has reset the connection, the transport reports that next.
            with suppress(OSError):
                transport.write_eof()
        else:
            transport.close()

    def _log_answer(self, answer: str) -> None:
        self._logger.info(
            '%s - "WebSocket %s" %s',
            get_client_addr(self.scope),  # type: ignore[arg-type]
            get_path_with_query_string(self.scope),  # type: ignore[arg-type]
            answer,
        )

    def _accept(self, message: Mapping[str, Any]) -> None:
        """Complete the opening handshake, and become an open connection."""
        agreement = self._agreement
        assert agreement is not None
        fields = [*self._server_state.default_headers, *message.get("headers", ())]
        subprotocol = message.get("subprotocol")
        if subprotocol:
            if not is_token(subprotocol):
                raise ValueError(f"subprotocol {subprotocol!r:.80} is not a token (RFC 9110 section 5.6.2)")
            fields.append((b"sec-websocket-protocol", subprotocol.encode()))
        added = encode_fields(fields)
        for name, _ in fields:
            if _OF_HANDSHAKE.fullmatch(name):
                raise InvalidHeader(f"{name.decode()} must not be in the headers of websocket.accept")
        self._log_answer("[accepted]")
        if self.transport.is_closing():
            return
        self._agreement = None
        self._expected = _MESSAGES
        shared = self._shared
        connection = self._connection = _Connection(shared.environment, True, _OPENED)
        connection.connection_made(self.transport)
        connection.start(shared.policy.compression, agreement.terms)
        connection.inbox.max_unread = shared.max_unread
        connection.on_lost = self._end
        shared.clients += 1
        self._logger.info("connection open")
        self.transport.set_protocol(connection)
        self.transport.write(b"HTTP/1.1 101 Switching Protocols%b%b\r\n\r\n" % (agreement.fields, added))
        self.open_sending(connection)
        if self._connect_told:
            self.open_receiving(connection)
        self._wake()
        early, self._early = self._early, b""
        if early:
            connection.receive(early, len(early))

    # Events ----------------------------------------------------------------------------------------------------

    async def receive_event(self) -> Event:
        while True:
            if not self._connect_told:
                self._connect_told = True
                if self._connection is not None:
                    self.open_receiving(self._connection)
                return {"type": "websocket.connect"}
            if self._connection is not None:
                return await self.receive()
            if (self._lost or self._expected in (_NO_MORE, _ANSWERED)) and not self.told:
                self.told = True
                return self.disconnect_event()
            await self._wait()

    async def _wait(self) -> None:
        """Wait until the state changes while there is no connection."""
        future = self.loop.create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            self._waiting.remove(future)

    def _wake(self) -> None:
        """Let the tasks in `_wait` look again."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def disconnect_event(self) -> Event:
        if self._stopping:
            return {"type": "websocket.disconnect", "code": int(CloseCode.SERVICE_RESTART)}
        outcome = None if self._connection is None else self._connection.outcome()
        if outcome is None or (outcome.received is None and outcome.sent is None):
            return {"type": "websocket.disconnect", "code": int(CloseCode.ABNORMAL)}
        return {"type": "websocket.disconnect", "code": int(outcome.code), "reason": outcome.reason}

    async def send_event(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        while self._writing_paused and self._connection is None and not self._lost and self._expected != _ANSWERED:
            await self._wait()
        connection = self._connection
        if connection is not None and kind == "websocket.send" and connection.outbox.paused:
            await connection.outbox.drain()  # the close of a slow client does not wait
        if self._lost or self._expected == _ANSWERED:
            raise ClientDisconnected
        if self._expected == _MESSAGES:
            assert connection is not None
            if kind == "websocket.send":
                await self._send_message(connection, message)
            elif kind == "websocket.close":
                self._close(connection, message.get("code", 1000), message.get("reason") or "")
            else:
                raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")
        elif self._expected == _NOTHING_YET:
            self._answer(kind, message)
        elif self._expected == _BODY:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")

    async def _send_message(self, connection: Connection, message: Mapping[str, Any]) -> None:
        data, text = message.get("bytes"), message.get("text")
        if data is None:
            data = text
            if not isinstance(data, str):
                raise TypeError(f"'text' of a 'websocket.send' event without 'bytes' must be str, not {data!r:.80}")
        elif not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"'bytes' of a 'websocket.send' event must be bytes, not {data!r:.80}")
        await self.finish_sending(connection.writer.send(data))

    async def finish_sending(self, sent: Coroutine[Any, Any, None]) -> None:
        try:
            await sent
        except ConnectionClosed as error:
            raise ClientDisconnected(str(error)) from error

    def _close(self, connection: Connection, code: int, reason: str) -> None:
        """Begin the closing handshake. If the peer has closed first, this has no effect, as with uvicorn's classes."""
        connection.begin_close(code, reason)
        self._expected = _NO_MORE
        self.close_sending()
        if connection.transport is not None:
            connection.inbox.end()

    def _answer(self, kind: str, message: Mapping[str, Any]) -> None:
        """Process the first event that the application sends."""
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._log_answer("403")
            self._respond(Response(403), _NO_MORE)
        elif kind == "websocket.http.response.start":
            status = message["status"]
            if not 200 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            fields = [(name, value) for name, value in message.get("headers", ())]
            self._denial = Denial(status, fields, self._server_state.default_headers)
            self._log_answer(str(status))
            self._expected = _BODY
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    def _send_body(self, body: bytes, more: bool) -> None:
        assert self._denial is not None
        self.transport.write(self._denial.encode(body, more))
        if not more:
            self._end_response(_NO_MORE)

    # The end of the application --------------------------------------------------------------------------------

    def _application_ended(self, task: "asyncio.Task[Any]") -> None:
        self._server_state.tasks.discard(task)
        if task.cancelled():
            self._finish(asyncio.CancelledError(), None)
        else:
            error = task.exception()
            self._finish(error, None if error is not None else task.result())

    def _finish(self, error: BaseException | None, result: object) -> None:
        """Close what the application has left open.

        :param error: what it raised.
        :param result: what it returned.
        """
        failed = True
        if isinstance(error, ClientDisconnected):
            failed = False
        elif isinstance(error, Exception):
            self._logger.error("Exception in ASGI application\n", exc_info=error)
        elif error is None:
            if self._expected == _NOTHING_YET and not self._lost:
                self._logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                self._logger.error("ASGI callable should return None, but returned '%s'.", result)
            else:
                failed = False
        if self._connection is not None:
            self._finish_connection(self._connection, error, failed)
        elif not self._lost:
            self._finish_response()

    def _finish_connection(self, connection: Connection, error: BaseException | None, failed: bool) -> None:
        if connection.is_open:
            if not failed:
                connection.begin_close(CloseCode.NORMAL, "")
            else:
                detail = "the application did not return None" if error is None else f"the application raised {error!r}"
                cause = Cause.HANDLER_ERROR if isinstance(error, Exception | None) else Cause.LOCAL_CANCEL
                connection.fail(CloseCode.INTERNAL_ERROR, "", cause, Side.LOCAL, detail)
            self.close_sending()
            connection.inbox.end()
        elif self._stopping and isinstance(error, asyncio.CancelledError):
            connection.abort()  # uvicorn waits no longer

    def _finish_response(self) -> None:
        if self._expected == _NOTHING_YET:
            response = Response(500, b"Internal Server Error", content_type="text/plain; charset=utf-8")
            self._respond(response, _NO_MORE)
        elif self._expected == _BODY:
            assert self._denial is not None
            if not self.transport.is_closing():
                self.transport.write(self._denial.end())
            self._end_response(_NO_MORE)


async def _wait_for(awaitable: Awaitable[object]) -> object:
    if not isawaitable(awaitable):
        raise TypeError(f"the ASGI application returned {awaitable!r}, which cannot be awaited")
    return await awaitable
