"""How an application sends: whole messages, fragments, frames, pings.

One message is under way at a time (RFC 6455 section 5.4): while a message is sent in pieces, other senders of data
queue up in order, and control frames go between the pieces.
"""

import typing
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import AsyncIterable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

from ..codes import Opcode
from ..errors import ConnectionClosed, WriteError
from ..wire.frames import Buffer, DataFrame
from ..wire.kernels import Done
from ..wire.protocol import Protocol, check_data
from .outbox import Outbox
from .pings import Pings, fresh_payload
from .reader import MessageReader

SENT: Any = Done(None)


class Failing(typing.Protocol):
    """What the writer asks of the connection."""

    def closed_error(self) -> ConnectionClosed:
        """What a sender gets when nothing can be sent."""

    def truncated(self, detail: str) -> None:
        """A message was left in the middle: close the connection, so that no one takes it for whole."""


class _Turn:
    """One who waits to send data: a message or a frame that is sent for it, or nothing, to send on its own."""

    __slots__ = ("data", "frame", "ready")

    def __init__(self, ready: "Future[None]", data: str | Buffer | None, frame: bytes | None) -> None:
        self.ready = ready
        self.data = data
        self.frame = frame


class Writer:
    """Sends on one connection; `client.writer`."""

    __slots__ = ("_busy", "_by_frames", "_failing", "_loop", "_outbox", "_pings", "_protocol", "_waiting")

    def __init__(
        self, loop: AbstractEventLoop, protocol: Protocol, outbox: Outbox, pings: Pings, failing: Failing
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._outbox = outbox
        self._pings = pings
        self._failing = failing
        self._busy = False  # whether a message is being sent in pieces
        self._by_frames = False  # ... by write_frame
        self._waiting: deque[_Turn] | None = None

    # Whole messages --------------------------------------------------------------------------------------------

    def send(self, data: str | Buffer) -> Coroutine[object, None, None]:
        """Send one message in one frame: `str` as text, bytes-like as binary.

        The message is on its way when the call returns; awaiting the result waits while the peer takes less than
        is sent (`Limits.write_high`). While another task sends a message in pieces, this one waits for its turn.

        :param data: the message; a bytes-like object may be changed again when the await is over.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.
        :raises TypeError: if `data` is neither `str` nor bytes-like.

        Cancelling the await leaves the connection as it is: a message that was on its way arrives, one that waited
        for its turn is not sent. Any number of tasks may send; messages leave in the order of the calls.
        (RFC 6455 section 5.6)
        """
        protocol = self._protocol
        if protocol.open and not self._busy:
            if protocol.is_large(data):
                self._outbox.put_parts(protocol.binary_header(data), data)
            else:
                self._outbox.put(protocol.message(data))
            return self._drain() if self._outbox.paused else SENT
        return self._send_in_turn(data)

    def _send_encoded(self, frame: bytes) -> bool:
        """Send a whole message that is a frame already, after what is under way; False if nothing can be sent."""
        if not self._protocol.open:
            return False
        if self._busy:
            self._queue(None, frame)
        else:
            self._outbox.put(frame)
        return self._protocol.open

    async def _drain(self) -> None:
        await self._outbox.drain()
        if not self._protocol.open:
            raise self._failing.closed_error()

    def _send_in_turn(self, data: str | Buffer) -> Coroutine[object, None, None]:
        if not self._protocol.open:
            return self._refuse()
        check_data(data)
        return self._wait_sent(self._queue(data))

    async def _refuse(self) -> None:
        raise self._failing.closed_error()

    async def _wait_sent(self, turn: _Turn) -> None:
        await self._wait(turn)
        await self._drain()

    # Turns -----------------------------------------------------------------------------------------------------

    def _queue(self, data: str | Buffer | None = None, frame: bytes | None = None) -> _Turn:
        if self._waiting is None:
            self._waiting = deque()
        turn = _Turn(self._loop.create_future(), data, frame)
        self._waiting.append(turn)
        return turn

    async def _wait(self, turn: _Turn) -> None:
        try:
            await turn.ready
        except BaseException:
            if self._waiting is not None and turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.data is None and turn.frame is None and turn.ready.done() and not turn.ready.cancelled():
                # It was this one's turn already, and no piece was sent.
                self._pass_on()
            raise

    async def _acquire(self) -> None:
        """Wait for the turn to send a message in pieces."""
        if not self._protocol.open:
            raise self._failing.closed_error()
        if self._busy:
            await self._wait(self._queue())
            if not self._protocol.open:
                raise self._failing.closed_error()
        self._busy = True

    def _pass_on(self) -> None:
        """The message in pieces is done: send what waited, up to the next one who sends in pieces."""
        self._busy = False
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.ready.done():
                continue
            turn.ready.set_result(None)
            if turn.frame is None and turn.data is None:
                self._busy = True
                return
            if self._protocol.open:
                self._outbox.put(turn.frame or self._protocol.message(turn.data or b""))

    def _close(self) -> None:
        """The connection is closing: those who wait learn of it."""
        waiting = self._waiting
        self._waiting = None
        for turn in waiting or ():
            if not turn.ready.done():
                turn.ready.set_exception(self._failing.closed_error())
                turn.ready.exception()  # an awaitable that was dropped must not be reported by the loop

    def _detach(self, failing: Failing) -> None:
        """The connection is gone; `failing` speaks for it."""
        self._failing = failing

    # Messages in pieces ----------------------------------------------------------------------------------------

    def fragment(self, kind: Opcode | None = None) -> "FragmentWriter":
        """Send one message in fragments: `async with client.writer.fragment() as stream: await stream.send(part)`.

        :param kind: `Opcode.TEXT` or `Opcode.BINARY`; by default the first part's type decides (`str` is text).
        :returns: a `FragmentWriter`; entering it waits for the turn, leaving it ends the message.
        (RFC 6455 section 5.4)
        """
        if kind is not None and kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"a message is Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        return FragmentWriter(self, kind)

    async def write_frame(self, frame: DataFrame) -> None:
        """Send one data frame as it is; it must fit the message under way.

        The first frame of a message is TEXT or BINARY, the others are CONTINUATION, the last one has `fin` set.
        Between the first frame and the last one, other senders wait. Text is sent as given, without a check.

        :raises WriteError: if the frame does not fit; nothing is sent then.
        :raises ConnectionClosed: if the connection is closing or closed.

        Cancelling it before the first frame sends nothing; a frame that was handed over is sent. One task at a time.
        (RFC 6455 section 5.4)
        """
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
            raise WriteError(f"write_frame() sends data frames; {frame.opcode.name} frames have methods of their own")
        if self._by_frames:
            if frame.opcode is not Opcode.CONTINUATION:
                raise WriteError("write_frame() has a message under way; CONTINUATION frames go on with it")
            if not self._protocol.open:
                raise self._failing.closed_error()
        else:
            if frame.opcode is Opcode.CONTINUATION:
                raise WriteError("a CONTINUATION frame needs a message under way; begin one with TEXT or BINARY")
            await self._acquire()
        self._by_frames = not frame.fin
        self._put_fragment(frame.opcode, frame.payload, frame.fin)
        await self._drain()

    async def feed(
        self, source: MessageReader | Iterable[str | Buffer] | AsyncIterable[str | Buffer], kind: Opcode | None = None
    ) -> None:
        """Send one message in fragments, part by part as `source` gives them.

        :param source: a `MessageReader` (its type becomes the message's), an iterable or an async iterable of parts.
        :param kind: as for `fragment`.
        :raises WriteError: if `source` is a `str` or bytes-like itself; `send` sends those.

        If `source` raises, or the call is cancelled, the connection closes with 1011: the peer must not take a part
        for the whole. Memory is bounded by one part. One `MessageReader` at a time.
        """
        if isinstance(source, (str, bytes, bytearray, memoryview)):
            raise WriteError(f"feed() takes parts; send a {type(source).__name__} with send()")
        if isinstance(source, MessageReader):
            kind = source.type if kind is None else kind
        async with self.fragment(kind) as stream:
            if isinstance(source, AsyncIterable):
                async for part in source:
                    await stream.send(part)
            else:
                for part in source:
                    await stream.send(part)

    def _put_fragment(self, opcode: int, data: str | Buffer, fin: bool) -> None:
        self._outbox.put(self._protocol.fragment(opcode, data, fin))
        if fin:
            self._pass_on()

    # Control frames --------------------------------------------------------------------------------------------

    def ping(self, payload: str | Buffer = b"") -> Coroutine[object, None, float]:
        """Send a ping now; the awaitable gives the round-trip time in seconds when the pong comes.

        :param payload: at most 125 bytes, what the peer sends back; without one, a few random bytes.
        :raises ValueError: if `payload` is too long.
        :raises ConnectionClosed: when awaited, if the connection ends before the pong comes.

        A pong for a later ping answers this one too. Without await the ping is sent and its pong ignored. Cancelling
        the await leaves the connection as it is. Any number of tasks may ping. (RFC 6455 section 5.5.2)
        """
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        if not self._protocol.open:
            return self._pings.refused(self._failing.closed_error())
        data = data or fresh_payload()
        frame = self._protocol.ping(data)
        ping = self._pings.begin(data)
        self._outbox.put(frame)
        return self._pings.wait(ping)

    def pong(self, payload: str | Buffer = b"") -> Coroutine[object, None, None]:
        """Send an unasked-for pong, such as a heartbeat in one direction. Pings are answered without it.

        :param payload: at most 125 bytes.
        :raises ValueError: if `payload` is too long.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.

        Cancelling and concurrency are as for `send`. (RFC 6455 section 5.5.3)
        """
        if not self._protocol.open:
            return self._refuse()
        self._outbox.put(self._protocol.pong(payload.encode() if isinstance(payload, str) else bytes(payload)))
        return self._drain() if self._outbox.paused else SENT


class FragmentWriter:
    """One message, sent in fragments; made by `Writer.fragment`.

    `async with` waits for the turn and, left without an exception, ends the message. Left by an exception or a
    cancellation after the first part, it closes the connection with 1011, so that no peer takes a part of the message
    for the whole; before the first part it sends nothing and the connection goes on.
    """

    __slots__ = ("_entered", "_left", "_opcode", "_writer")

    def __init__(self, writer: Writer, opcode: Opcode | None) -> None:
        self._writer = writer
        self._opcode = opcode
        self._entered = False
        self._left = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise WriteError("a fragment writer sends one message; ask for a new one with writer.fragment()")
        self._entered = True
        await self._writer._acquire()
        return self

    async def send(self, part: str | Buffer) -> None:
        """Send a part of the message as one fragment.

        :param part: `str` or bytes-like; both fit in either kind of message, but the bytes of a text message
            must be UTF-8 in all.
        :raises WriteError: outside the `async with` block.
        :raises ConnectionClosed: if the connection is closing or closed.

        Cancelling it while it waits for the network leaves the message unfinished: the block's end closes the
        connection. One task at a time.
        """
        writer = self._writer
        if not self._entered or self._left:
            raise WriteError("a fragment is sent inside the `async with writer.fragment()` block")
        if not writer._protocol.open:
            raise writer._failing.closed_error()
        check_data(part)
        opcode = self._opcode or (Opcode.TEXT if isinstance(part, str) else Opcode.BINARY)
        writer._put_fragment(opcode, part, False)
        self._opcode = opcode  # not before: a part that could not be encoded decides nothing
        if writer._outbox.paused:
            await writer._drain()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        writer = self._writer
        begun = writer._protocol.sending != 0
        if not writer._protocol.open:
            writer._busy = False
            if error is None:
                raise writer._failing.closed_error()
        elif error is None:
            # An empty message if there was no part: that is what was asked for.
            writer._put_fragment(self._opcode or Opcode.BINARY, b"", True)
            if writer._outbox.paused:
                await writer._drain()
        elif begun:
            writer._busy = False
            writer._failing.truncated(f"a message in fragments was left unfinished: {error!r}")
        else:
            writer._pass_on()
