"""`Typed`: a blocking connection whose messages are encoded and decoded."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from ..codes import CloseOutcome
from ..errors import ConnectionClosed, ConnectionClosedError, DecodeError
from ..messages.codec import Codec, Received, Sent
from ..messages.typed import problem_of


class Channel(Protocol):
    """The methods of a blocking connection that typed messages need. `Client` has them."""

    def send(self, data: str | bytes, *, text: bool = False) -> None:
        """Send one message."""

    def read_message(self, timeout: float | None = None) -> str | bytes:
        """Read the next whole message."""
        ...

    def _fail_message(self, reason: str) -> None: ...

    def _put_back(self, message: str | bytes) -> None: ...

    @property
    def outcome(self) -> CloseOutcome | None:
        """How the connection ended or is about to end."""
        ...


AnyChannel = TypeVar("AnyChannel", bound=Channel)


class Typed(Generic[Received, Sent]):
    """Sends and reads the messages of one connection as typed objects. `ws.typed(codec)` makes one.

    It has no state of its own: its reads and sends can be mixed with those of the connection, and one connection may
    have several `Typed`. One thread at a time may read; any number of threads may send.

    :param channel: the connection.
    :param codec: encodes and decodes the messages.
    :param on_error: a function, called with the connection, the message and the `DecodeError` if a message cannot be
        decoded. The read then goes on with the next message, unless the function raises. Without it, the connection
        closes with 1007, and the read raises the `DecodeError`.
    """

    __slots__ = ("_channel", "_codec", "_on_error")

    def __init__(
        self,
        channel: AnyChannel,
        codec: Codec[Received, Sent],
        on_error: Callable[[AnyChannel, str | bytes, DecodeError], None] | None = None,
    ) -> None:
        self._channel: Channel = channel
        self._codec = codec
        self._on_error: Callable[[str | bytes, DecodeError], None] | None = None
        if on_error is not None:
            self._on_error = lambda data, error: on_error(channel, data, error)

    def __iter__(self) -> Iterator[Received]:
        """Iterate over the decoded messages.

        The iteration ends after a clean close, and raises `ConnectionClosedError` after any other end. Otherwise it
        raises what `read_message` raises. If you leave the loop, the next read gets the next message.
        """
        return self

    def __next__(self) -> Received:
        try:
            return self.read_message()
        except ConnectionClosed as error:
            if isinstance(error, ConnectionClosedError):
                raise
            raise StopIteration from None

    def read_message(self, timeout: float | None = None) -> Received:
        """Wait for the next message, and decode it.

        :param timeout: the most seconds to wait for a message, 0 to not wait at all; None for no limit.
        :raises DecodeError: if it cannot be decoded, and there is no `on_error`. The connection closes with 1007.
        :raises TimeoutError: if no message arrived in time. Nothing is lost.
        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another thread waits for a message of this connection.
        """
        while True:
            data = self._channel.read_message(timeout)
            try:
                return self._codec.decode(data)
            except Exception as error:
                self._reject(data, error)
            except BaseException:  # of a signal handler
                self._channel._put_back(data)
                raise

    def _reject(self, data: str | bytes, error: Exception) -> None:
        """Process a message that cannot be decoded.

        :raises DecodeError: if there is no `on_error`.
        """
        problem, reason = problem_of(error, None)
        if self._on_error is not None:
            self._on_error(data, problem)
            return
        self._channel._fail_message(reason)
        problem.outcome = self._channel.outcome
        try:
            raise problem
        finally:
            del problem, error  # their traceback refers to this frame: all would live until the next collection

    def send(self, message: Sent) -> None:
        """Encode a message and send it, as the `send` of the connection does.

        :param message: the message. It may be changed after the call.
        :raises EncodeError: if `Json` cannot encode the message; nothing is sent. Another codec may raise other
            exceptions.
        :raises ConnectionClosed: if the connection is closing or closed.

        Any number of threads may send.
        """
        self._channel.send(self._codec.encode(message), text=self._codec.text)
