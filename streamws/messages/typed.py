"""`Typed`: a connection whose messages are encoded and decoded."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import update_wrapper
from inspect import isawaitable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from ..channel import Channel
from ..codes import CloseCode
from ..errors import ConnectionClosed, ConnectionClosedError, DecodeError, UsageError, describe
from ..wire.protocol import shorten
from .codec import Codec, Received, Sent
from .json import Json

AnyChannel = TypeVar("AnyChannel", bound=Channel)
_Result = TypeVar("_Result", bound=Awaitable[None] | None)

OnError = Callable[[AnyChannel, str | bytes, DecodeError], Awaitable[None] | None]


class _Reader(Protocol):
    def get(self) -> Awaitable[str | bytes]: ...


@runtime_checkable
class _Client(Protocol):
    """Methods of `Client` that other channels need not have: callbacks, and failing the connection without waiting."""

    def message(self, callback: Callable[[_Reader], Awaitable[None]]) -> object: ...

    def _fail_message(self, reason: str) -> None: ...


class Typed(Generic[Received, Sent]):
    """Sends and reads the messages of one connection as typed objects. `client.typed(codec)` makes one.

    It has no state of its own: its reads and sends can be mixed with those of the connection, and one connection may
    have several `Typed`. Only one task at a time may read; any number of tasks may send.

    :param channel: the connection.
    :param codec: encodes and decodes the messages.
    :param on_error: a function or coroutine function, called with the channel, the message and the `DecodeError` if a
        message cannot be decoded. It may send an answer. The read then goes on with the next message, unless it raises.
        Without it, the connection closes with 1007, and the read raises the `DecodeError`.
    """

    __slots__ = ("_channel", "_decode", "_encode", "_json", "_on_error", "_text")

    def __init__(
        self, channel: AnyChannel, codec: Codec[Received, Sent], on_error: OnError[AnyChannel] | None = None
    ) -> None:
        self._channel: Channel = channel
        self._text = codec.text
        self._encode: Callable[[Sent], str | bytes] = codec.encode
        self._decode: Callable[[str | bytes], Received] = codec.decode
        self._json: Json[Any] | None = None
        if isinstance(codec, Json):
            # The calls of these two methods would take as long as msgspec takes for a small message.
            self._encode, self._decode = codec._backend.encode, codec._backend.decode
            self._json = codec
        self._on_error: Callable[[str | bytes, DecodeError], Awaitable[None] | None] | None = None
        if on_error is not None:
            self._on_error = lambda data, error: on_error(channel, data, error)

    # Reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Received]:
        """Iterate over the decoded messages.

        The iteration ends after a clean close, and raises `ConnectionClosedError` after any other end. Otherwise it
        raises what `read_message` raises. Cancelling it loses nothing. If you leave the loop, the next read gets the
        next message.
        """
        return self

    def __anext__(self) -> Coroutine[object, None, Received]:
        return self._read(iterating=True)

    def read_message(self) -> Coroutine[object, None, Received]:
        """Read the next message and decode it.

        :raises DecodeError: if it cannot be decoded, and there is no `on_error`. The connection closes with 1007.
        :raises ConnectionClosed: if no more messages will arrive; `ConnectionClosedError` after an unclean end.
        :raises IncompleteMessage: if the connection ended inside a message.
        :raises ConcurrencyError: if another task is reading this connection.

        Cancelling it loses nothing, because nothing is consumed before the message is complete.
        """
        return self._read(iterating=False)

    async def _read(self, iterating: bool) -> Received:
        """Read the next message.

        :param iterating: whether a clean end of the connection ends an iteration instead of raising `ConnectionClosed`.
        """
        while True:
            try:
                data = await self._channel.read_message()
            except ConnectionClosed as error:
                if iterating and not isinstance(error, ConnectionClosedError):
                    raise StopAsyncIteration from None
                raise
            try:
                return self._decode(data)
            except Exception as error:
                await self._reject(data, error)

    async def _reject(self, data: str | bytes, error: Exception) -> None:
        """Process a message that cannot be decoded.

        :raises DecodeError: if there is no `on_error`.
        """
        problem, reason = problem_of(error, self._json)
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
        problem.outcome = channel.outcome
        try:
            raise problem
        finally:
            del problem, error  # their traceback refers to this frame: all would live until the next collection

    # Writing ---------------------------------------------------------------------------------------------------

    def send(self, message: Sent) -> Coroutine[object, None, None]:
        """Encode a message and send it, as the `send` of the connection does.

        The message is encoded at the call, and is sent when the call returns. Await the result to wait while the peer
        reads too slowly.

        :param message: the message. It may be changed after the call.
        :raises EncodeError: at the call, if `Json` cannot encode the message; nothing is sent. Another codec may raise
            other exceptions.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.

        Cancelling the await does not harm the connection. Any number of tasks may send.
        """
        try:
            data = self._encode(message)
        except Exception as error:
            if self._json is None:
                raise
            raise self._json._encode_error(message, error) from error
        return self._channel.send(data, text=self._text)

    # Callbacks -------------------------------------------------------------------------------------------------

    def message(self, callback: Callable[[Received], _Result]) -> Callable[[Received], _Result]:
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
                message = self._decode(data)
            except Exception as error:
                await self._reject(data, error)
                return
            result = callback(message)
            if isawaitable(result):
                await result

        # Errors are logged with the name of the application's function.
        channel.message(update_wrapper(decode, callback))
        return callback


def problem_of(error: Exception, json: Json[Any] | None) -> tuple[DecodeError, str]:
    """Return the `DecodeError` for a message that cannot be decoded, and the reason that the peer may read.

    :param error: the exception of the codec.
    :param json: the codec, if it is a `Json`.
    """
    if isinstance(error, DecodeError):
        return error, error.reason
    problem = DecodeError(describe(error)) if json is None else json._decode_error(error)
    problem.__cause__ = error
    # The text of another codec's exception may not be meant for the peer.
    return problem, "the message could not be decoded" if json is None else problem.reason
