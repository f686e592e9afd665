"""`Typed`: a connection whose messages are encoded and decoded."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import update_wrapper
from inspect import isawaitable
from typing import Generic, Protocol, TypeVar, runtime_checkable

from ..channel import Channel
from ..codes import CloseCode
from ..errors import ConnectionClosed, DecodeError, UsageError, describe
from ..wire.protocol import shorten
from .codec import Codec, Received_co, Sent_contra

_Channel = TypeVar("_Channel", bound=Channel)
_Result = TypeVar("_Result", bound=Awaitable[None] | None)

OnError = Callable[[_Channel, str | bytes, DecodeError], Awaitable[None] | None]


class _Reader(Protocol):
    def get(self) -> Awaitable[str | bytes]: ...


@runtime_checkable
class _Client(Protocol):
    """What `Client` can do, and other channels need not: call back, and fail the connection without waiting."""

    def message(self, callback: Callable[[_Reader], Awaitable[None]]) -> object: ...

    def _fail_message(self, reason: str) -> None: ...


class Typed(Generic[Received_co, Sent_contra]):
    """Typed messages of one connection: `client.typed(codec)` makes it, or `Typed(channel, codec)`.

    It holds no state of its own: reads and sends through it can be mixed with those of the connection, and several
    `Typed` may use one connection. One task at a time reads; any number of tasks send.
    """

    __slots__ = ("_channel", "_codec", "_on_error")

    def __init__(
        self, channel: _Channel, codec: Codec[Received_co, Sent_contra], on_error: OnError[_Channel] | None = None
    ) -> None:
        """Create it.

        :param channel: the connection.
        :param codec: encodes and decodes the messages.
        :param on_error: a function or coroutine function, called with the channel, the message and the `DecodeError`
            if a message cannot be decoded. It may send an answer. The read then goes on with the next message, unless
            it raises. Without it, the connection closes with 1007.
        """
        self._channel: Channel = channel
        self._codec = codec
        self._on_error: Callable[[str | bytes, DecodeError], Awaitable[None] | None] | None = None
        if on_error is not None:
            self._on_error = lambda data, error: on_error(channel, data, error)

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Received_co]:
        """Iterate over the decoded messages.

        The iteration ends after a clean close. It raises what `read_message` raises, and after an unclean end
        `ConnectionClosedError`. Cancelling it loses nothing. After the loop is left, the next read gets the next
        message.
        """
        return self

    def __anext__(self) -> Coroutine[object, None, Received_co]:
        return self._read(iterating=True)

    def read_message(self) -> Coroutine[object, None, Received_co]:
        """Read the next message and decode it.

        :raises DecodeError: if it cannot be decoded, and there is no `on_error`. The connection was closed with 1007.
        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task is reading this connection.

        Cancelling it loses nothing: it consumes nothing before the message is complete.
        """
        return self._read(iterating=False)

    async def _read(self, iterating: bool) -> Received_co:
        """Read the next message.

        :param iterating: whether a clean end of the connection ends an iteration instead of raising `ConnectionClosed`.
        """
        while True:
            try:
                data = await self._channel.read_message()
            except ConnectionClosed as error:
                if iterating and error.outcome.clean:
                    raise StopAsyncIteration from None
                raise
            try:
                return self._codec.decode(data)
            except Exception as error:
                await self._reject(data, error)

    async def _reject(self, data: str | bytes, error: Exception) -> None:
        """Process a message that cannot be decoded.

        :raises DecodeError: if there is no `on_error`.
        """
        if isinstance(error, DecodeError):
            problem = error
            reason = problem.reason
        else:
            problem = DecodeError(describe(error))
            problem.__cause__ = error
            reason = "the message could not be decoded"  # the text of the error may not be meant for the peer
        if self._on_error is not None:
            result = self._on_error(data, problem)
            if isawaitable(result):
                await result
            return
        channel = self._channel
        if isinstance(channel, _Client):
            channel._fail_message(reason)
        else:
            await channel.close(CloseCode.INVALID_DATA, shorten(reason))
        problem.outcome = self._channel.outcome
        raise problem

    # Writing ---------------------------------------------------------------------------------------------------

    def send(self, message: Sent_contra) -> Coroutine[object, None, None]:
        """Encode a message and send it, as the `send` of the connection does.

        The message is encoded when this is called, and is sent when the call returns. Await the result to wait while
        the peer reads too slowly.

        :param message: the message. It may be changed after the call.
        :raises EncodeError: at the call, if `Json` cannot encode the message; nothing is sent. Another codec may raise
            other exceptions.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.

        Cancelling the await does not harm the connection. Any number of tasks may send.
        """
        codec = self._codec
        return self._channel.send(codec.encode(message), text=codec.text)

    # Callbacks -------------------------------------------------------------------------------------------------

    def message(self, callback: Callable[[Received_co], _Result]) -> Callable[[Received_co], _Result]:
        """Decorator: call `callback` with each decoded message, one after the other, as `@client.message` does.

        If it raises, the error is logged and the connection closes with 1011. A message that cannot be decoded goes to
        `on_error`, or the connection closes with 1007.

        :param callback: a function or coroutine function.
        :returns: the function, unchanged.
        :raises UsageError: if there is a message callback already, if `callback` is not a function, or if the
            connection is not a `Client`.
        """
        channel = self._channel
        if not isinstance(channel, _Client):
            raise UsageError(f"{type(channel).__name__} calls no functions: use async for or read_message()")
        if not callable(callback):
            raise UsageError(f"@message registers a callback, which must be a function, not {type(callback).__name__}")

        async def decode(reader: _Reader) -> None:
            data = await reader.get()
            try:
                message = self._codec.decode(data)
            except Exception as error:
                await self._reject(data, error)
                return
            result = callback(message)
            if isawaitable(result):
                await result

        # Errors are logged with the name of the application's function.
        channel.message(update_wrapper(decode, callback))
        return callback
