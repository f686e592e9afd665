"""`connect()` for blocking connections."""

import socket
import ssl as tls
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike

import attrs

from ..connecting.connect import connect as connect_async
from ..handshake.headers import HeaderFields
from ..keywords import SYNC_CONNECT, explains
from ..options import Compression, Limits, Timeouts, options_of
from ..watching.observer import Observer
from .client import Client
from .link import Link
from .loop_thread import loop_thread

_CALL = "connect()"


@explains("connect", SYNC_CONNECT)
def connect(
    url: str,
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
    observer: Observer | None = None,
) -> Client:
    """Connect to a WebSocket server, and return when the connection is open (RFC 6455 section 4.1).

    `with connect(url) as ws` closes the connection at the end of the block. `ws = connect(url)` leaves closing it to
    you.

    The parameters are those of `streamws.connect`, without those for reconnecting:

    :param url: a "ws://" or "wss://" URL, with user name and password if the server wants basic authorization.
    :param headers: additional fields of the request.
    :param origin: the `Origin` field, for servers that require one.
    :param user_agent: the `User-Agent` field; None for no such field.
    :param subprotocols: the subprotocols that the client supports, in order of preference. `ws.subprotocol` is the one
        that the server chose.
    :param compression: True to offer compression (permessage-deflate), or a `Compression` to configure it.
    :param ssl: the context for "wss://". By default, certificates are verified against the authorities of the system.
    :param server_hostname: the name that the server's certificate must have, if it is not the host in the URL.
    :param sock: a connected socket to use. It is closed together with the connection.
    :param path: the path of a Unix socket to connect to. The host in the URL is then only used in the request.
    :param local_address: host and port to connect from.
    :param proxy: True to use the proxy that the environment names; the URL of a proxy; False or None for no proxy.
    :param max_redirects: the number of redirects to follow, 0 for none.
    :param limits: limits, in bytes. Reading from the network pauses when `Limits.read_high` bytes are unread.
    :param timeouts: deadlines, in seconds. `Timeouts.open` covers the whole call.
    :param observer: is told when the connection has opened or ended, or when the peer reads too slowly. Its methods run
        in the thread of the event loop, where blocking calls raise `UsageError`.
    :raises ConnectError: if there is no connection; `ProxyError` if that is because of the proxy.
    :raises HandshakeError: if the opening handshake failed: `HandshakeRefused` with the status, headers and body of the
        response, `InvalidHandshake` or `RedirectError`.
    :raises ConnectTimeout: if it took longer than `Timeouts.open`.
    :raises InvalidURL, InvalidHeader, ValueError, TypeError: if an argument is not valid.
    :raises UsageError: in the thread of the event loop, or while the program ends.

    Any thread may call it. In a thread with a running event loop, it blocks that loop. If `KeyboardInterrupt`
    interrupts it, nothing is left open.
    """
    limits = options_of("limits", Limits, limits)
    # The other half of the unread bytes is in `Link`.
    halves = attrs.evolve(limits, read_high=max(1, limits.read_high // 2), read_low=max(1, limits.read_low // 2))
    connecting = connect_async(
        url,
        headers=headers,
        origin=origin,
        user_agent=user_agent,
        subprotocols=subprotocols,
        compression=compression,
        ssl=ssl,
        server_hostname=server_hostname,
        sock=sock,
        path=path,
        local_address=local_address,
        proxy=proxy,
        max_redirects=max_redirects,
        limits=halves,
        timeouts=timeouts,
        observer=observer,
    )
    thread = loop_thread(_CALL)
    links: list[Link] = []
    abandoned = False

    async def open_link() -> None:
        links.append(Link(thread, await connecting, halves))
        if abandoned:
            forget()

    def forget() -> None:
        for link in links:
            link.drop()

    try:
        thread.run(open_link, _CALL)
        return Client(links[0])
    except BaseException:
        # The attempt may have succeeded before it could be cancelled.
        abandoned = True
        with suppress(RuntimeError):  # the loop is closed
            thread.loop.call_soon_threadsafe(forget)
        raise
