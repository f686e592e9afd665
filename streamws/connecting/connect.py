"""`connect()`: the client role. One connection, or one after the other as they end.

An attempt goes: URL -> socket (through a proxy) -> TLS -> handshake -> `Client`; all of it within `Timeouts.open`.
"""

import asyncio
import inspect
import logging
import socket
import ssl as tls
from asyncio import Future, Task, sleep
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from os import PathLike
from types import TracebackType

import attrs

from ..client import Client, new_id
from ..codes import CloseCode
from ..connection import AsyncioConnection, Connection, Environment, logger
from ..errors import (
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    HandshakeRefused,
    InvalidHandshake,
    InvalidURL,
    RedirectError,
    UsageError,
)
from ..handshake.client import (
    Agreement,
    Handshake,
    Offer,
    ResponseReader,
    begin,
    check,
    make_offer,
    refused,
)
from ..handshake.headers import HeaderFields, Headers
from ..handshake.url import Url, join_url, parse_url, without_password
from ..net.transports import reason_of
from ..options import Backoff, Compression, Limits, Timeouts, compression_of
from .reconnecting import Attempts, is_transient
from .routes import Progress, Route, route_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def _shown(url: str) -> str:
    """A URL for people and logs: a query may hold a token."""
    place, mark, query = without_password(url).partition("?")
    return repr(place + mark + ("..." if query else ""))


@attrs.frozen
class Target:
    """Where one attempt to connect goes; what a function given to `connect` returns."""

    url: str = attrs.field(repr=_shown)
    """As for `connect`."""
    headers: HeaderFields = attrs.field(default=(), repr=False)
    """Further fields of the request, such as a fresh token. They take the place of those of the same names that were
    given to `connect`."""


TargetFactory = Callable[[], str | Target | Awaitable[str | Target]]


def connect(
    url: str | TargetFactory,
    *,
    headers: HeaderFields = (),
    origin: str | None = None,
    user_agent: str | None = "streamws",
    subprotocols: Sequence[str] = (),
    compression: Compression | bool | None = None,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    sock: socket.socket | None = None,
    path: str | PathLike[str] | None = None,
    local_address: tuple[str, int] | None = None,
    proxy: str | bool | None = True,
    max_redirects: int = 5,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    backoff: Backoff | None = None,
    retry: Callable[[Exception], bool] = is_transient,
) -> "Connecting":
    """Connect to a WebSocket server.

    `async with connect(url) as client` closes the connection at the end of the block, `client = await connect(url)`
    leaves that to you, and `async for client in connect(url)` gives a new connection each time the last one has ended.

    :param url: "ws://" or "wss://", with a user name and a password if the server wants basic authorization; or a
        function, also a coroutine function, that gives the URL or a `Target` for each attempt.
    :param headers: further fields of the request.
    :param origin: the `Origin` field, for servers that want one.
    :param user_agent: the `User-Agent` field; None for none.
    :param subprotocols: those the client speaks, best first; `client.subprotocol` is the server's choice.
    :param compression: True to offer compression (permessage-deflate), or how to compress.
    :param ssl: a context for "wss://"; by default certificates are verified against the system's authorities.
    :param server_hostname: the name that the server's certificate must have, if it is not the URL's.
    :param sock: a connected socket to use; it is closed with the connection.
    :param path: the path of a Unix socket to connect to; the URL's host then only stands in the request.
    :param local_address: host and port to connect from.
    :param proxy: True for what the environment says (`https_proxy`, `no_proxy` ...), the URL of a proxy
        ("http://", "socks5://" ..., with a user name and a password if it wants them), False or None for none.
    :param max_redirects: redirects that are followed; 0 for none. Neither `headers` nor passwords go to another origin.
    :param limits: sizes, in bytes.
    :param timeouts: deadlines, in seconds; `Timeouts.open` holds for all of an attempt.
    :param backoff: how long `async for` waits between attempts.
    :param retry: which errors `async for` tries again after; gets what `await connect()` would raise, or how a
        connection ended that ended badly (`ConnectionClosedError`).
    :raises InvalidHeader, ValueError, TypeError: if an argument makes no sense. All else is raised by the attempt.

    (RFC 6455 section 4.1)
    """
    if max_redirects < 0:
        raise ValueError(f"max_redirects must be 0 or more, not {max_redirects!r}")
    return Connecting(
        url,
        offer=make_offer(headers, origin, user_agent, subprotocols, compression_of(compression)),
        route=route_of(ssl, server_hostname, sock, path, local_address, proxy),
        max_redirects=max_redirects,
        limits=limits or Limits(),
        timeouts=timeouts or Timeouts(),
        backoff=backoff or Backoff(),
        retry=retry,
    )


class Connecting:
    """What `connect` returns: to be awaited, entered by `async with`, or iterated over; nothing happens before.

    An attempt raises `ConnectError` (no connection), `HandshakeError` (`HandshakeRefused` with status, headers and
    body of the answer, `InvalidHandshake`, `RedirectError`), `ProxyError`, `ConnectTimeout` or `InvalidURL`.
    Cancelling one leaves nothing behind. Each await is a connection of its own.
    """

    __slots__ = (
        "_backoff",
        "_client",
        "_entered",
        "_limits",
        "_max_redirects",
        "_offer",
        "_retry",
        "_route",
        "_timeouts",
        "_url",
    )

    def __init__(
        self,
        url: str | TargetFactory,
        *,
        offer: Offer,
        route: Route,
        max_redirects: int,
        limits: Limits,
        timeouts: Timeouts,
        backoff: Backoff,
        retry: Callable[[Exception], bool],
    ) -> None:
        self._url = url
        self._offer = offer
        self._route = route
        self._max_redirects = max_redirects
        self._limits = limits
        self._timeouts = timeouts
        self._backoff = backoff
        self._retry = retry
        self._client: Client | None = None  # of `async with`
        self._entered = False

    def __await__(self) -> Generator[object, None, Client]:
        """Connect. The connection stays until you or the server closes it."""
        return self._open(Progress()).__await__()

    async def __aenter__(self) -> Client:
        """Connect, and close the connection at the end of the block.

        With 1000, or with 1011 if an exception leaves the block, or with 1001 if that is a cancellation. It waits for
        the end, up to `Timeouts.close` seconds.
        """
        if self._entered:
            raise UsageError("this connect() is entered already: one `async with` is one connection")
        self._entered = True
        try:
            self._client = await self._open(Progress())
        finally:
            self._entered = self._client is not None
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        self._entered = False
        assert client is not None
        if error is None or isinstance(error, ConnectionClosed):
            await client.close()
        else:
            # A task that is cancelled goes away; what else leaves the block is a failure of it.
            cancelled = not isinstance(error, Exception)
            await client.close(CloseCode.GOING_AWAY if cancelled else CloseCode.INTERNAL_ERROR)

    async def __aiter__(self) -> AsyncGenerator[Client, None]:
        """Connections, one after the other: the next one is made when the last one has ended or its turn is over.

        At the end of a turn the connection is closed with 1000 if it is still open. Then, and after an attempt that
        failed, it waits as `backoff` says: at least as long as a `Retry-After` field asks for, and longer after the
        close codes 1012 and 1013.

        What your code raises leaves the loop, a `ConnectionClosed` too; catch that to be given the next connection.
        However the loop is left, the connection is closed with 1000, by a task of the event loop's that goes on while
        your code does. `async with contextlib.aclosing(aiter(connect(url))) as clients` around it waits for that.

        :raises ReconnectError: when an attempt fails in a way that `retry` does not take, or too many have.
        :raises UsageError: if there is a `sock`, which is one connection only.
        """
        if self._route.sock is not None:
            raise UsageError("a socket is one connection: async for has no second one; use async with")
        attempts = Attempts(self._backoff, self._retry)
        clock = asyncio.get_running_loop().time
        while True:
            progress = Progress()
            try:
                client = await self._open(progress)
            except Exception as error:
                delay = attempts.failed(error)
            else:
                opened = clock()
                try:
                    yield client
                finally:
                    # What counts is how long it was open, not how long the turn or the closing took.
                    ended = min(clock(), progress.ended)
                    try:
                        await client.close()
                    except asyncio.CancelledError:
                        client._connection.abort()  # the loop may be about to stop: nothing is left to it
                        raise
                assert client.outcome is not None
                delay = attempts.ended(client.outcome, ended - opened)
                del client
            level = logging.WARNING if attempts.in_trouble else logging.INFO
            logger.log(level, "connecting again in %.1f s: %s", delay, attempts.reason)
            await sleep(delay)

    # One attempt -----------------------------------------------------------------------------------------------

    async def _open(self, progress: Progress) -> Client:
        timeout = asyncio.timeout(self._timeouts.open)
        try:
            async with timeout:
                return await self._follow(progress)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            answer = None if progress.reader is None else progress.reader.finish()
            if answer is not None and answer.status != 101:
                raise progress.refused(answer) from error  # its body never ended
            message = f"no connection within {self._timeouts.open} s; last it waited for {progress.waits_for}"
            raise ConnectTimeout(message) from error

    async def _follow(self, progress: Progress) -> Client:
        """Connect to the target, or to where it redirects to."""
        target = await self._target()
        url = parse_url(target.url)
        offer = self._offer
        if target.headers:
            fresh = make_offer(target.headers, None, None, ()).headers
            usual = Headers([(name, value) for name, value in offer.headers.items_all() if name not in fresh])
            offer = attrs.evolve(offer, headers=Headers.from_wire(usual.wire + fresh.wire))
        for given, value in (("ssl=", self._route.ssl), ("server_hostname=", self._route.server_hostname)):
            if value is not None and not url.secure:
                raise InvalidURL(f"{url} is not encrypted, and {given} was given: use wss://, or leave {given} out")
        redirects = 0
        first = url.origin
        while True:
            # The name that a certificate must have is given for the first server, not for where it redirects to.
            name = self._route.server_hostname if url.origin == first else None
            try:
                return await self._attempt(url, offer, name or url.name.rstrip("."), progress)  # RFC 6066 section 3
            except HandshakeRefused as answer:
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or location is None or self._max_redirects == 0:
                    raise
                redirects += 1
                if redirects > self._max_redirects:
                    raise _redirect_error(f"more than {self._max_redirects} redirects, at last to", answer) from answer
                url, offer = self._redirect(url, offer, location, answer)

    async def _target(self) -> Target:
        if not callable(self._url):
            return Target(self._url)
        made = self._url()
        target = await made if inspect.isawaitable(made) else made
        return target if isinstance(target, Target) else Target(target)

    def _redirect(self, url: Url, offer: Offer, location: str, answer: HandshakeRefused) -> tuple[Url, Offer]:
        try:
            place = join_url(url, location)
        except InvalidURL as error:
            raise _redirect_error(f"a redirect leads nowhere ({error}):", answer) from error
        if url.secure and not place.secure:
            raise _redirect_error("a redirect leads from wss:// to ws://, where all can be read:", answer) from answer
        if place.origin == url.origin:
            if self._route.sock is not None:
                raise _redirect_error("the socket given is used up, and the server redirects to", answer) from answer
            return attrs.evolve(place, credentials=place.credentials or url.credentials), offer
        if self._route.sock is not None or self._route.path is not None:
            raise _redirect_error("a redirect leads to another server than the socket given:", answer) from answer
        # Any of the application's fields may be a secret: Authorization, Cookie, X-Api-Key ...
        return place, attrs.evolve(offer, headers=Headers())

    async def _attempt(self, url: Url, offer: Offer, name: str, progress: Progress) -> Client:
        loop = asyncio.get_running_loop()
        progress.reader = None  # of the answer that redirected to here
        handshake = begin(url, offer)
        opening = _Opening(handshake, self._limits, loop.create_future())
        environment = Environment(loop, self._limits, self._timeouts)
        connection = AsyncioConnection(environment, False, opening)
        sock = await self._route.socket_to(url, self._offer.user_agent, self._limits, progress)
        place = self._route.place(url)
        if url.secure:
            progress.waits_for = f"TLS with {place}"
        try:
            await self._route.dial(connection, url, sock, name)
            progress.waits_for = f"the answer of {place}"
            progress.reader, progress.refused = opening.reader, refused
            agreement = await opening.agreed
        except BaseException:
            connection.abort()
            sock.close()
            environment.close()
            if not opening.agreed.cancel() and not opening.agreed.cancelled():
                opening.agreed.exception()  # this error is the one to tell of
            raise
        progress.reader = None
        return _opened(connection, handshake, agreement, progress)


def _redirect_error(message: str, answer: HandshakeRefused) -> RedirectError:
    location = answer.headers.get("Location", "")
    return RedirectError(f"{message} {_shown(location):.200}", answer.status, answer.headers, answer.body)


class _Opening:
    """The opening handshake of one connection, on the client's side."""

    __slots__ = ("_handshake", "agreed", "reader")

    def __init__(self, handshake: Handshake, limits: Limits, agreed: "Future[Agreement]") -> None:
        self._handshake = handshake
        self.reader = ResponseReader(limits)
        self.agreed = agreed

    def connected(self, connection: Connection) -> None:
        connection.transport.write(self._handshake.encoded)

    def received(self, connection: Connection, data: bytes) -> None:
        if self.agreed.done():
            return  # refused already, or no one waits any longer
        try:
            response = self.reader.feed(data)
            if response is None:
                return
            agreement = check(self._handshake, response)
        except (HandshakeRefused, InvalidHandshake) as error:
            self.agreed.set_exception(error)
            connection.abort()
            return
        # At once, since frames may come with the answer and behind it.
        connection.start(self._handshake.compression, agreement.terms)
        self.agreed.set_result(agreement)
        # But who waits for the connection runs first: so it is not too late to answer, or to register callbacks.
        connection.receive_soon(self.reader.rest)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        if self.agreed.done():
            return
        response = self.reader.finish()
        if response is not None:
            self.agreed.set_exception(refused(response))
        else:
            when = "in the middle of its answer" if self.reader.begun else "before it answered"
            why = f": {reason_of(error)}" if error else ""
            failure = ConnectError(f"{self._handshake.request.host} hung up {when}{why}")
            failure.__cause__ = error
            self.agreed.set_exception(failure)


def _opened(connection: Connection, handshake: Handshake, agreement: Agreement, progress: Progress) -> Client:
    number = new_id()
    environment = connection.environment
    transport = connection.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    address = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) and len(peer) >= 2 else (str(peer or ""), number)
    tasks: set[Task[None]] = set()

    def spawn(coroutine: Coroutine[object, None, None]) -> Task[None]:
        task: Task[None] = environment.loop.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def lost() -> None:
        progress.ended = environment.loop.time()
        environment.close()
        logger.info("connection to %s closed: %s", handshake.request.host, connection.protocol.outcome())

    client = Client(connection, number, address, handshake.request, agreement, agreement.subprotocol, spawn)
    # Without the query: it is where tokens stand.
    logger.info("connected to %s%s", handshake.request.host, handshake.request.path)
    if connection.is_closed:
        lost()
    else:
        connection.on_lost = lost
    return client
