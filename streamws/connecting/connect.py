"""`connect()`: connects to a server, once or again whenever the connection ends."""

import asyncio
import inspect
import logging
import socket
import ssl as tls
from asyncio import sleep
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from os import PathLike
from types import TracebackType

import attrs

from ..client import Client
from ..codes import CloseCode
from ..connection import logger
from ..errors import ConnectionClosed, UsageError
from ..handshake.client import request_options
from ..handshake.headers import HeaderFields
from ..hints import CONNECTING_HINTS, add_hints
from ..keywords import CONNECT, explains
from ..options import Backoff, Compression, Limits, Timeouts, compression_of, options_of
from ..watching.observer import Observer, check_observer
from .attempt import Attempt, Settings, shown_url
from .reconnecting import Retries, is_transient
from .routes import make_route


@attrs.frozen
class Target:
    """Where one attempt connects to: what a function given to `connect` may return instead of a URL.

    :param url: the URL, as for `connect`.
    :param headers: additional fields of the request, such as a fresh token. They replace fields of the same name
        given to `connect`.
    """

    url: str = attrs.field(repr=shown_url)
    headers: HeaderFields = attrs.field(default=(), repr=False)


TargetFactory = Callable[[], str | Target | Awaitable[str | Target]]


@explains("connect", CONNECT)
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
    observer: Observer | None = None,
) -> "Connecting":
    """Connect to a WebSocket server (RFC 6455 section 4.1).

    `async with connect(url) as client` closes the connection at the end of the block. `client = await connect(url)`
    leaves closing it to you. `async for client in connect(url)` connects again each time that the connection ends.

    :param url: a "ws://" or "wss://" URL, with user name and password if the server wants basic authorization. Or a
        function or coroutine function that returns the URL, or a `Target`, for each attempt.
    :param headers: additional fields of the request.
    :param origin: the `Origin` field, for servers that require one.
    :param user_agent: the `User-Agent` field; None for no such field.
    :param subprotocols: the subprotocols that the client supports, in order of preference. `client.subprotocol` is the
        one that the server chose.
    :param compression: True to offer compression (permessage-deflate), or a `Compression` to configure it.
    :param ssl: the context for "wss://". By default, certificates are verified against the authorities of the system.
    :param server_hostname: the name that the server's certificate must have, if it is not the host in the URL.
    :param sock: a connected socket to use. It is closed together with the connection.
    :param path: the path of a Unix socket to connect to. The host in the URL is then only used in the request.
    :param local_address: host and port to connect from.
    :param proxy: True to use the proxy that the environment names (`https_proxy`, `no_proxy` and so on); the URL of a
        proxy ("http://", "socks5://" and so on, with user name and password if it wants them); False or None for no
        proxy.
    :param max_redirects: the number of redirects to follow, 0 for none. `headers`, `subprotocols` and passwords are not
        sent to another origin.
    :param limits: limits, in bytes.
    :param timeouts: deadlines, in seconds. `Timeouts.open` covers a whole attempt.
    :param backoff: how long `async for` waits between attempts.
    :param retry: whether `async for` tries again after an error: one that `await connect()` would raise, or the
        `ConnectionClosedError` of a connection that did not close cleanly.
    :param observer: is told when a connection has opened or ended, or when its peer reads too slowly. A connection with
        an observer stays open until it is closed, even if you keep no reference to its client.
    :raises InvalidHeader, ValueError, TypeError: if an argument is not valid. All other errors are raised later, by the
        attempt to connect.
    """
    if max_redirects < 0:
        raise ValueError(f"max_redirects must be 0 or more, not {max_redirects!r}")
    check_observer(observer)
    settings = Settings(
        request_options(headers, origin, user_agent, subprotocols, compression_of(compression)),
        make_route(ssl, server_hostname, sock, path, local_address, proxy),
        max_redirects,
        options_of("limits", Limits, limits),
        options_of("timeouts", Timeouts, timeouts),
        observer,
    )
    return Connecting(url, settings, options_of("backoff", Backoff, backoff), retry)


class Connecting:
    """The result of `connect`: await it, enter it with `async with`, or iterate over it. Until then, nothing happens.

    Each await makes a new connection. Cancelling an attempt leaves nothing open.

    An attempt raises `ConnectError` (no connection), `HandshakeError` (`HandshakeRefused` with the status, headers and
    body of the response, `InvalidHandshake`, `RedirectError`), `ProxyError`, `ConnectTimeout` or `InvalidURL`.
    """

    __slots__ = ("_backoff", "_client", "_entered", "_retry", "_settings", "_url")

    def __init__(
        self, url: str | TargetFactory, settings: Settings, backoff: Backoff, retry: Callable[[Exception], bool]
    ) -> None:
        self._url = url
        self._settings = settings
        self._backoff = backoff
        self._retry = retry
        self._client: Client | None = None  # of `async with`
        self._entered = False

    def __await__(self) -> Generator[object, None, Client]:
        """Connect. The connection stays open until you or the server closes it."""
        return self._connect(Attempt(self._settings)).__await__()

    async def __aenter__(self) -> Client:
        """Connect, and close the connection at the end of the block.

        The close code is 1000, or 1011 if an exception leaves the block, or 1001 if that is a cancellation. Leaving the
        block waits until the connection has ended, for at most `Timeouts.close` seconds.

        :raises UsageError: if this object is already entered.
        """
        if self._entered:
            raise UsageError("this connect() is already entered: call connect() again for another connection")
        self._entered = True
        try:
            self._client = await self._connect(Attempt(self._settings))
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
            # A cancelled task is "going away". Any other exception is a failure of the block.
            cancelled = not isinstance(error, Exception)
            await client.close(CloseCode.GOING_AWAY if cancelled else CloseCode.INTERNAL_ERROR)

    async def __aiter__(self) -> AsyncGenerator[Client, None]:
        """Yield one connection after the other: a new one whenever the last one has ended.

        At the end of the loop's body the connection is closed with 1000, if it is still open. Then, and after a failed
        attempt, the loop waits as `backoff` says: at least as long as a `Retry-After` field asks for, and longer after
        the close codes 1012 and 1013.

        An exception raised by the body ends the loop, even a `ConnectionClosed`; catch that to continue with the next
        connection. Whenever the loop is left, the connection is closed with 1000 by a task in the background. To wait
        for that, put `async with contextlib.aclosing(aiter(connect(url))) as clients` around the loop.

        :raises ReconnectError: if an attempt fails and `retry` returns False, or if `Backoff.max_attempts` have failed.
        :raises UsageError: if `sock` was given, because a socket can be used for one connection only.
        """
        if self._settings.route.sock is not None:
            raise UsageError(
                "cannot iterate over connect(sock=...): a socket can be used for one connection only; use async with"
            )
        retries = Retries(self._backoff, self._retry)
        clock = asyncio.get_running_loop().time
        while True:
            attempt = Attempt(self._settings)
            try:
                client = await self._connect(attempt)
            except Exception as error:
                delay = retries.delay_after_failure(error)
            else:
                opened = clock()
                try:
                    yield client
                finally:
                    # How long the connection was open, not how long the loop's body or the closing took.
                    ended = min(clock(), attempt.ended)
                    try:
                        await client.close()
                    except asyncio.CancelledError:
                        client._connection.abort()  # the event loop may be about to stop, without closing it
                        raise
                assert client.outcome is not None
                delay = retries.delay_after_end(client.outcome, ended - opened)
                del client
            level = logging.WARNING if retries.should_warn else logging.INFO
            fields = {"role": "client", "delay": delay, "reason": retries.reason}
            logger.log(level, "reconnecting in %.1f s: %s", delay, retries.reason, extra=fields)
            await sleep(delay)

    async def _connect(self, attempt: Attempt) -> Client:
        """Make one attempt within `Timeouts.open`."""
        timeout = asyncio.timeout(self._settings.timeouts.open)
        try:
            async with timeout:
                target = await self._find_target()
                return await attempt.connect(target.url, target.headers)
        except TimeoutError as error:
            if not timeout.expired():
                raise  # it is an error of the function that returns the URL
            raise attempt.timeout_error() from error

    async def _find_target(self) -> Target:
        if not callable(self._url):
            return Target(self._url)
        result = self._url()
        target = await result if inspect.isawaitable(result) else result
        return target if isinstance(target, Target) else Target(target)


add_hints(Connecting, CONNECTING_HINTS)
