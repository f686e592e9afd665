"""`Client`: one blocking connection."""

import warnings
from collections.abc import Callable, Iterator
from threading import TIMEOUT_MAX
from types import TracebackType
from typing import TypeVar

from ..codes import CloseCode, CloseOutcome
from ..errors import ConnectionClosed, ConnectionClosedError, DecodeError
from ..extra_info import typed_extra_info
from ..handshake.extensions import DeflateTerms
from ..handshake.head import Request, Response
from ..hints import SYNC_HINTS, add_hints
from ..messages.codec import Codec
from ..watching.stats import ConnectionStats
from ..wire.frames import Buffer
from ..wire.protocol import State, is_utf8, unchanging
from .link import Link
from .typed import Typed

Received = TypeVar("Received")
Sent = TypeVar("Sent")


class Client:
    """One WebSocket connection, whose methods block. You get it from `streamws.sync.connect`.

    Any number of threads may share it. One thread at a time reads; all may send. The connection is served by the thread
    of an event loop, which all blocking connections of the process share: pings are answered while your program does
    something else.

    `KeyboardInterrupt`, or another exception of a signal handler, may interrupt every method. The connection stays
    usable, and no received message is lost: the next read gets it. (A message that a read has returned is yours. In
    `next(iter(ws))` or `list(ws)`, the exception can arrive after that, and before you have stored it.) On PyPy and on
    free-threaded Python, this is true only of a method that waits. Signal handlers and finalizers may call the methods.

    After `os.fork`, the connection belongs to the parent process. In the child, its methods raise `UsageError`.
    """

    __slots__ = ("__weakref__", "_link")

    def __init__(self, link: Link) -> None:
        self._link = link

    def __del__(self) -> None:
        try:
            if self._link.is_forgotten():
                warnings.warn(
                    f"unclosed {self!r}: use `with`, or call close()", ResourceWarning, stacklevel=1, source=self
                )
        finally:
            self._link.release()

    def __repr__(self) -> str:
        client = self._link.client
        return f"<streamws.sync.Client {client.id} of {client.addr}:{client.port}, {client.state.name.lower()}>"

    def __enter__(self) -> "Client":
        """Return this connection, and close it at the end of the block.

        The close code is 1000, or 1011 if an exception leaves the block, or 1001 if that is a `KeyboardInterrupt` or
        another exception that ends programs.
        """
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link.thread.inherited:
            return  # it belongs to the parent process
        if error is None or isinstance(error, ConnectionClosed):
            self.close()
        else:
            self.close(CloseCode.INTERNAL_ERROR if isinstance(error, Exception) else CloseCode.GOING_AWAY)

    # Reading ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str | bytes]:
        """Iterate over the messages: `str` for text, `bytes` for binary.

        The iteration ends after a clean close.

        :raises ConnectionClosedError: after any other end of the connection.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another thread waits for a message of this connection.

        After the loop is left, also by `KeyboardInterrupt`, the next read gets the next message.
        """
        return _Messages(self)

    def read_message(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next whole message: `str` for text, `bytes` for binary.

        :param timeout: the most seconds to wait, 0 to not wait at all; None for no limit.
        :raises TimeoutError: if no message arrived in time. Nothing is lost: the next read gets it.
        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another thread waits for a message of this connection.
        :raises UsageError: if it would have to wait in the thread of the event loop, or in a child process.
        :raises ValueError, TypeError: if the timeout is not a number from 0.

        A message over `Limits.max_message_size` closes the connection with 1009. (RFC 6455 section 5.6)
        """
        if timeout is not None:
            timeout = check_timeout(timeout)
        return self._link.read(timeout, "ws.read_message()")

    # Writing ---------------------------------------------------------------------------------------------------

    def send(self, data: str | Buffer, compress: bool | None = None, *, text: bool = False) -> None:
        """Send one message: `str` as text, bytes-like as binary.

        It waits while the peer reads too slowly (`Limits.write_high`), then hands the message over to the event loop,
        and returns. Messages of one thread leave in the order of the calls.

        :param data: the message. A bytes-like object may be changed after the call.
        :param compress: whether to compress this message, if compression was negotiated; by default the `Compression`
            of the connection decides.
        :param text: whether bytes-like data, which must be valid UTF-8, is sent as text.
        :raises ConnectionClosed: if the connection is closing or closed; nothing is sent then.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeError: if `data` is a `str` with a lone surrogate, or if `text` is true and it is not UTF-8.
        :raises UsageError: if it would have to wait in the thread of the event loop, or in a child process.

        If `KeyboardInterrupt` interrupts it while it waits, the message is not sent. (RFC 6455 section 5.6; RFC 7692)
        """
        self._link.send(_checked(data, text), compress, text, "ws.send(...)")

    def ping(self, payload: str | Buffer = b"", timeout: float | None = None) -> float:
        """Send a ping, wait for its pong, and return the round-trip time in seconds.

        Pings that keep the connection alive are sent without it (`Timeouts.ping_interval`).

        :param payload: at most 125 bytes, which the peer sends back; by default a few random bytes.
        :param timeout: the most seconds to wait; None for no limit.
        :raises TimeoutError: if the pong did not arrive in time. The connection stays open.
        :raises ConnectionClosed: if the connection is closing or closed, or ends before the pong arrives.
        :raises ValueError, TypeError: if `payload` is too long, or the timeout is not a number from 0.
        :raises UsageError: in the thread of the event loop, or in a child process.

        Any number of threads may ping. (RFC 6455 section 5.5.2)
        """
        if timeout is not None:
            timeout = check_timeout(timeout)
        client = self._link.client
        try:
            return self._link.run(lambda: client.writer.ping(payload), "ws.ping()", timeout)
        except TimeoutError:
            raise TimeoutError(f"ws.ping(): no pong within {timeout} s") from None

    # Typed messages --------------------------------------------------------------------------------------------

    def typed(
        self,
        codec: Codec[Received, Sent],
        on_error: Callable[["Client", str | bytes, DecodeError], None] | None = None,
    ) -> Typed[Received, Sent]:
        """Send and read typed messages: `moves = ws.typed(Json(Move))`, then `for move in moves`.

        :param codec: encodes and decodes the messages: `streamws.messages.Json`, or a codec of your own.
        :param on_error: a function, called with this connection, the message and the `DecodeError` if a message cannot
            be decoded. It may send an answer; reading then goes on. Without it, the connection closes with 1007, and
            the read raises the `DecodeError`.
        :returns: a `streamws.sync.Typed`. It shares the connection with the other ways to read and send.
        """
        return Typed(self, codec, on_error)

    def _fail_message(self, reason: str) -> None:
        """Fail the connection because a message cannot be decoded; nothing more is read."""
        self._link.fail_message(reason)

    def _put_back(self, message: str | bytes) -> None:
        """Let the next read get a message again."""
        self._link.put_back(message)

    # Closing ---------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None:
        """Close the connection: the closing handshake, then TCP. Returns when both are done.

        Messages that were sent before are sent first.

        :param code: 1000, another code that RFC 6455 section 7.4.1 lets an endpoint send, or 3000 to 4999.
        :param reason: at most 123 bytes in UTF-8.
        :param timeout: the seconds after which the connection is dropped; None for `Timeouts.close`.
        :raises ValueError: for another code, a longer reason, or a timeout that is not positive.
        :raises TypeError: if the reason is not `str`, or the timeout is not a number.
        :raises UsageError: in the thread of the event loop, or in a child process.

        It takes no longer than the timeout, whatever the peer does. If the connection is closing or closed already, the
        code has no effect. A thread that waits for a message, or iterates, sees the end of the connection. Any number
        of threads may call it. (RFC 6455 section 7.1.2)
        """
        if isinstance(timeout, (int, float)) and timeout > TIMEOUT_MAX:
            timeout = TIMEOUT_MAX
        self._link.close(code, reason, timeout, "ws.close()")

    def abort(self) -> None:
        """End the connection at once, without a closing handshake. What was not written to the socket is discarded.

        Messages that were received before can still be read. The cause in `outcome` is `Cause.RESET`.

        :raises UsageError: in the thread of the event loop, or in a child process.
        """
        self._link.run(self._abort, "ws.abort()")

    async def _abort(self) -> None:
        client = self._link.client
        client.abort()
        await client.wait_closed()

    # About the connection --------------------------------------------------------------------------------------

    @property
    def addr(self) -> str:
        """The peer's address, or the address of the proxy in front of it; for a Unix socket, the path of the socket."""
        return self._link.client.addr

    @property
    def port(self) -> int:
        """The peer's port; for a Unix socket, a number that no other connection of this process has."""
        return self._link.client.port

    @typed_extra_info
    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection, as asyncio's transports do.

        :param name: `peername`, `sockname` or `socket`; with TLS also `peercert`, `cipher`, `compression`,
            `ssl_object` or `sslcontext`.
        :param default: returned if there is no such information, or the connection has ended.
        :raises UsageError: in the thread of the event loop, or in a child process.
        """
        connection = self._link.client._connection

        async def get() -> object:
            return connection.get_extra_info(name, default)

        return self._link.run(get, "ws.get_extra_info()")

    @property
    def request(self) -> Request:
        """The request of the opening handshake."""
        return self._link.client.request

    @property
    def response(self) -> Response:
        """The response of the opening handshake."""
        return self._link.client.response

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, if any (RFC 6455 section 1.9)."""
        return self._link.client.subprotocol

    @property
    def compression(self) -> DeflateTerms | None:
        """The negotiated compression; None for no compression (RFC 7692 section 7.1)."""
        return self._link.client.compression

    @property
    def state(self) -> State:
        """The state of the connection: OPEN, CLOSING or CLOSED."""
        return self._link.client.state

    @property
    def latency(self) -> float | None:
        """The last round-trip time of a ping in seconds; None before the first pong."""
        return self._link.client.latency

    @property
    def stats(self) -> ConnectionStats:
        """Counters of the connection: messages, bytes, backlog, round trip."""
        return self._link.client.stats

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end: initiator, close codes and cause. None while it is open."""
        return self._link.client.outcome


class _Messages:
    """Iterates over the messages. It is not a generator, which an exception would end."""

    __slots__ = ("_client", "_link")

    def __init__(self, client: Client) -> None:
        self._client = client  # keeps the connection open
        self._link = client._link

    def __iter__(self) -> Iterator[str | bytes]:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self._link.read(None, "for message in ws")
        except ConnectionClosed as error:
            if isinstance(error, ConnectionClosedError):
                raise
            raise StopIteration from None


def check_timeout(timeout: float) -> float:
    """Check the argument of a call that waits.

    :returns: the seconds, or the most that a thread can wait.
    :raises ValueError, TypeError: unless it is a number from 0.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be 0 seconds or more, not {timeout!r}")
    return min(timeout, TIMEOUT_MAX)


def _checked(data: str | Buffer, text: bool) -> str | bytes:
    """Return a message that cannot change, and that the loop can encode."""
    if isinstance(data, str):
        if not data.isascii():
            data.encode()
        return data
    data = unchanging(data)
    if text and isinstance(data, bytes) and not is_utf8(data):
        data.decode()
    return data


add_hints(Client, SYNC_HINTS)
