"""How an application sends: whole messages, fragments, frames, pings.

One message is under way at a time (RFC 6455 section 5.4): while a message is sent in pieces, other senders of data
queue up in order, and control frames go between the pieces.
"""

import typing
from asyncio import AbstractEventLoop, CancelledError, Future, Task, current_task, sleep
from collections import deque
from collections.abc import AsyncIterable, Coroutine, Iterable
from operator import index
from types import TracebackType
from typing import Any, Self

from ..awaiting.lazy import Later
from ..awaiting.operation import Done
from ..codes import Opcode
from ..errors import ConnectionClosed, WriteError
from ..options import ITEM_OVERHEAD
from ..wire.frames import Buffer, DataFrame
from ..wire.protocol import CHUNK, Protocol, State, as_bytes, check_data, size_of
from .outbox import Outbox
from .pings import Pings, fresh_payload
from .reader import MessageReader
from .shared import SharedMessage

SENT: Any = Done(None)

_LONG = 64 * 1024  # bytes of a list after which others have their turn


class Line(typing.Protocol):
    """What the writer asks of the connection."""

    def closed_error(self) -> ConnectionClosed:
        """What a sender gets when nothing can be sent."""

    def truncated(self, detail: str) -> None:
        """A message was left in the middle: close the connection, so that no one takes it for whole."""

    def is_too_slow(self, waiting: int) -> bool:
        """Whether the peer has left too much untaken for a further message, with `waiting` bytes that wait for their
        turn; the connection fails then."""

    def send_control(self, frame: bytes) -> None:
        """Send a control frame, as soon as no data frame is under way."""

    def frame_sent(self) -> None:
        """A data frame that was sent piece by piece is complete: what waited for its end can go."""


class _Turn:
    """One who waits to send data: a message or a frame that is sent for it, or nothing, to send on its own."""

    __slots__ = ("compress", "data", "frame", "ready", "size")

    def __init__(
        self, ready: "Future[None]", data: str | Buffer | None, frame: bytes | None, compress: bool | None
    ) -> None:
        self.ready = ready
        self.compress = compress
        self.data = data
        self.frame = frame
        self.size = size_of(frame or data or b"") + ITEM_OVERHEAD

    def encoded(self, protocol: Protocol) -> bytes:
        """What is sent for it."""
        if self.frame is not None or self.data is None:
            return self.frame or b""
        if protocol.deflates(self.data, self.compress):
            return protocol.deflated_message(self.data)
        return protocol.message(self.data)

    def fail(self, error: Exception) -> None:
        """Nothing is sent for it."""
        self.ready.set_exception(error)
        self.ready.exception()  # an awaitable that was dropped must not be reported by the loop


class Writer:
    """Sends on one connection; `client.writer`."""

    __slots__ = (
        "_busy",
        "_by_frames",
        "_holder",
        "_line",
        "_loop",
        "_outbox",
        "_pings",
        "_protocol",
        "_queued",
        "_waiting",
    )

    def __init__(self, loop: AbstractEventLoop, protocol: Protocol, outbox: Outbox, pings: Pings, line: Line) -> None:
        self._loop = loop
        self._protocol = protocol
        self._outbox = outbox
        self._pings = pings
        self._line = line
        self._busy = False  # whether a message is being sent in pieces
        self._by_frames = False  # ... by write_frame,
        self._holder: Task[Any] | None = None  # or by a block that this task is in
        self._waiting: deque[_Turn] | None = None
        self._queued = 0  # bytes of the messages that wait, with what each costs beside them

    # Whole messages --------------------------------------------------------------------------------------------

    def send(self, data: str | Buffer, compress: bool | None = None) -> Coroutine[object, None, None]:
        """Send one message in one frame: `str` as text, bytes-like as binary.

        The message is on its way when the call returns; awaiting the result waits while the peer takes less than
        is sent (`Limits.write_high`). While another task sends a message in pieces, this one waits for its turn.

        :param data: the message; a bytes-like object may be changed again when the await is over.
        :param compress: whether to compress this one, if the peer has agreed to compression; by default the
            `Compression` of the connection decides. A secret that stands beside what others can choose is better not
            compressed: its size gives it away, piece by piece.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises WriteError: when awaited, if it waits for the end of a message that this task itself sends in pieces.

        Cancelling the await leaves the connection as it is: a message that was on its way arrives, one that waited
        for its turn is not sent. Any number of tasks may send; messages leave in the order of the calls.
        (RFC 6455 section 5.6; RFC 7692)
        """
        protocol = self._protocol
        if protocol.open and not self._busy:
            if protocol.deflater is not None and protocol.deflates(data, compress):
                self._outbox.put(protocol.deflated_message(data))
            elif protocol.is_large(data):
                self._outbox.put_parts(protocol.binary_header(data), data)
            elif protocol.is_masked_in_chunks(data):
                if self._outbox.paused and self._line.is_too_slow(0):
                    return self._refuse()
                self._put_in_chunks(data)
            else:
                self._outbox.put(protocol.message(data))
            return self._drain() if self._outbox.paused else SENT
        return self._send_in_turn(data, compress)

    def _put_in_chunks(self, data: str | Buffer) -> None:
        protocol = self._protocol
        outbox = self._outbox
        view = memoryview(as_bytes(data))
        header = protocol.begin_frame(Opcode.BINARY, len(view))
        outbox.put_parts(header, protocol.frame_part(view[:CHUNK]))
        # It was let in as a whole: what the transport holds of it already does not count against the peer.
        outbox.exempt = True
        for start in range(CHUNK, len(view), CHUNK):
            outbox.put(protocol.frame_part(view[start : start + CHUNK]))
        outbox.exempt = False

    def _send_shared(self, message: SharedMessage) -> bool:
        """Send a message that many connections are sent, after what is under way; False if nothing can be sent."""
        protocol = self._protocol
        if not protocol.open:
            return False
        if (self._busy or self._outbox.paused) and self._line.is_too_slow(self._queued):
            return False
        frame = message.frame_for(protocol)
        if self._busy:
            self._queue(message.data if frame is None else None, frame, message.compress)
        else:
            self._outbox.put(frame or protocol.deflated_message(message.data))
        return protocol.open

    async def _drain(self) -> None:
        await self._outbox.drain()
        if not self._protocol.open:
            raise self._line.closed_error()

    def _send_in_turn(self, data: str | Buffer, compress: bool | None) -> Coroutine[object, None, None]:
        if not self._protocol.open:
            return self._refuse()
        check_data(data)
        if self._line.is_too_slow(self._queued):
            return self._refuse()
        turn = self._queue(data, None, compress)
        return Later(lambda: self._wait_sent(turn), lambda: self._forget(turn))

    async def _refuse(self) -> None:
        raise self._line.closed_error()

    async def _wait_sent(self, turn: _Turn) -> None:
        await self._wait(turn)
        await self._drain()

    # Turns -----------------------------------------------------------------------------------------------------

    def _queue(
        self, data: str | Buffer | None = None, frame: bytes | None = None, compress: bool | None = None
    ) -> _Turn:
        if self._waiting is None:
            self._waiting = deque()
        turn = _Turn(self._loop.create_future(), data, frame, compress)
        self._waiting.append(turn)
        self._queued += turn.size
        return turn

    async def _wait(self, turn: _Turn) -> None:
        if self._holder is not None and self._holder is current_task():
            self._forget(turn)
            raise WriteError(
                "this task would wait for the end of a message that it sends in pieces itself: "
                "send before the block or after it, or through the block's writer"
            )
        try:
            await turn.ready
        except BaseException:
            self._forget(turn)
            raise

    def _forget(self, turn: _Turn) -> None:
        """No one waits for this turn any longer."""
        if self._waiting is not None and turn in self._waiting:
            self._waiting.remove(turn)
            self._queued -= turn.size
        elif turn.data is None and turn.frame is None and turn.ready.done() and not turn.ready.cancelled():
            # It was this one's turn already, and no piece was sent.
            self._pass_on()

    async def _acquire(self) -> None:
        """Wait for the turn to send a message in pieces."""
        if not self._protocol.open:
            raise self._line.closed_error()
        if self._busy:
            await self._wait(self._queue())
            if not self._protocol.open:
                raise self._line.closed_error()
        self._busy = True

    async def _hold(self) -> None:
        """The same for a block, which the task that enters it leaves again."""
        await self._acquire()
        self._holder = current_task()

    def _pass_on(self) -> None:
        """The message in pieces is done: send what waited, up to the next one who sends in pieces."""
        self._busy = False
        self._holder = None
        while self._waiting:
            turn = self._waiting.popleft()
            self._queued -= turn.size
            if turn.ready.done():
                continue
            if turn.frame is None and turn.data is None:
                turn.ready.set_result(None)
                self._busy = True
                return
            try:
                frame = turn.encoded(self._protocol)
            except Exception as error:
                # A text with a lone surrogate, a memoryview released since: that is for the one who sends it.
                turn.fail(error)
                continue
            turn.ready.set_result(None)
            if self._protocol.open:
                self._outbox.put(frame)

    def _close(self) -> None:
        """The connection is closing: those who wait learn of it."""
        waiting = self._waiting
        self._waiting = self._holder = None
        self._queued = 0
        for turn in waiting or ():
            if not turn.ready.done():
                turn.fail(self._line.closed_error())

    def _detach(self, line: Line) -> None:
        """The connection is gone; `line` speaks for it."""
        self._line = line

    # Messages in pieces ----------------------------------------------------------------------------------------

    def fragment(self, kind: Opcode | None = None, compress: bool | None = None) -> "FragmentWriter":
        """Send one message in fragments: `async with client.writer.fragment() as stream: await stream.send(part)`.

        :param kind: `Opcode.TEXT` or `Opcode.BINARY`; by default the first part's type decides (`str` is text).
        :param compress: as for `send`; by default it goes by the first part. Each part can be inflated
            as it comes.
        :returns: a `FragmentWriter`; entering it waits for the turn, leaving it ends the message.

        (RFC 6455 section 5.4)
        """
        if kind is not None and kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"a message is Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        return FragmentWriter(self, kind, compress)

    def data_frame(self, length: int, kind: Opcode = Opcode.BINARY) -> "DataFrameWriter":
        """Send one message in one frame of a length that is known beforehand, piece by piece and never held whole.

        `async with client.writer.data_frame(length) as frame: await frame.write(part)`. It is never compressed.

        :param length: bytes of the message, 0 to 2**63 - 1.
        :param kind: `Opcode.TEXT` or `Opcode.BINARY`.
        :returns: a `DataFrameWriter`; entering it waits for the turn.
        :raises ValueError: for another length or kind; `TypeError` for a length that is no `int`.

        (RFC 6455 section 5.2)
        """
        if kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"a message is Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        if not 0 <= index(length) < 1 << 63:
            raise ValueError(f"a frame has 0 to 2**63 - 1 bytes, not {length}")
        return DataFrameWriter(self, length, kind)

    async def write_frame(self, frame: DataFrame) -> None:
        """Send one data frame as it is, never compressed; it must fit the message under way.

        The first frame of a message is TEXT or BINARY, the others are CONTINUATION, the last one has `fin` set.
        Between the first frame and the last one, other senders wait. The frames of a text message may be cut inside
        a character, but must be UTF-8 in all (section 8.1).

        :raises WriteError: if the frame does not fit, or would make the text invalid; nothing is sent then.
        :raises ConnectionClosed: if the connection is closing or closed.

        Cancelling it while it waits for its turn sends nothing. Cancelling it while it waits for the network, inside a
        message, closes the connection with 1011: no one may take the part for the whole. One task at a time; if it
        ends inside a message, the others wait until someone sends the last frame, or closes.
        (RFC 6455 section 5.4)
        """
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
            raise WriteError(f"write_frame() sends data frames; {frame.opcode.name} frames have methods of their own")
        if not self._protocol.open:
            raise self._line.closed_error()
        if self._by_frames:
            if frame.opcode is not Opcode.CONTINUATION:
                raise WriteError("write_frame() has a message under way; CONTINUATION frames go on with it")
        else:
            if frame.opcode is Opcode.CONTINUATION:
                raise WriteError("a CONTINUATION frame needs a message under way; begin one with TEXT or BINARY")
            await self._acquire()
        try:
            self._put_fragment(frame.opcode, frame.payload, frame.fin)
        except BaseException:
            if not self._by_frames:
                self._pass_on()  # no message has begun
            raise
        self._by_frames = not frame.fin
        try:
            await self._drain()
        except CancelledError:
            if not frame.fin:
                self._line.truncated("a message was left unfinished: write_frame() was cancelled")
            raise

    async def feed(
        self,
        source: MessageReader | Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        kind: Opcode | None = None,
        compress: bool | None = None,
    ) -> None:
        """Send one message in fragments, part by part as `source` gives them.

        :param source: a `MessageReader` (its type becomes the message's), an iterable or an async iterable of parts.
        :param kind: as for `fragment`.
        :param compress: as for `fragment`.
        :raises WriteError: if `source` is a `str` or bytes-like itself; `send` sends those.

        If `source` raises, or the call is cancelled, after the first part, the connection closes with 1011: the peer
        must not take a part for the whole. Before it, nothing is sent and the connection goes on. Memory is bounded by
        one part. Any number of tasks may feed; messages leave one after the other.
        """
        if isinstance(source, (str, bytes, bytearray, memoryview)):
            raise WriteError(f"feed() takes parts; send a {type(source).__name__} with send()")
        if isinstance(source, MessageReader):
            kind = source.type if kind is None else kind
        async with self.fragment(kind, compress) as stream:
            if isinstance(source, AsyncIterable):
                async for part in source:
                    await stream.send(part)
            else:
                sent = 0
                for part in source:
                    await stream.send(part)
                    sent += len(part) + ITEM_OVERHEAD
                    if sent >= _LONG:
                        sent = 0
                        await sleep(0)  # nothing else of this loop may wait for a long list

    def _put_fragment(self, opcode: int, data: str | Buffer, fin: bool, compress: bool | None = False) -> None:
        self._outbox.put(self._protocol.fragment(opcode, data, fin, compress))
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
            return self._pings.refused(self._line.closed_error())
        data = data or fresh_payload()
        frame = self._protocol.ping(data)
        ping = self._pings.begin(data)
        self._line.send_control(frame)
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
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        self._line.send_control(self._protocol.pong(data))
        return self._drain() if self._outbox.paused else SENT


class FragmentWriter:
    """One message, sent in fragments; made by `Writer.fragment`.

    `async with` waits for the turn and, left without an exception, ends the message. Left by an exception or a
    cancellation after the first part, it closes the connection with 1011, so that no peer takes a part of the message
    for the whole; before the first part it sends nothing and the connection goes on.
    """

    __slots__ = ("_compress", "_entered", "_left", "_opcode", "_writer")

    def __init__(self, writer: Writer, opcode: Opcode | None, compress: bool | None) -> None:
        self._writer = writer
        self._compress = compress
        self._opcode = opcode
        self._entered = False
        self._left = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise WriteError("a fragment writer sends one message; ask for a new one with writer.fragment()")
        self._entered = True
        await self._writer._hold()
        return self

    async def send(self, part: str | Buffer) -> None:
        """Send a part of the message as one fragment.

        :param part: `str` or bytes-like; both fit in either kind of message, but the bytes of a text message
            must be UTF-8 in all. A part may end inside a character.
        :raises WriteError: outside the `async with` block, and for bytes that do not go on with the text; they are
            not sent, the message may go on with others.
        :raises ConnectionClosed: if the connection is closing or closed.

        Cancelling it while it waits for the network leaves the message unfinished: the block's end closes the
        connection. One task at a time.
        """
        writer = self._writer
        if not self._entered or self._left:
            raise WriteError("a fragment is sent inside the `async with writer.fragment()` block")
        if not writer._protocol.open:
            raise writer._line.closed_error()
        check_data(part)
        opcode = self._opcode or (Opcode.TEXT if isinstance(part, str) else Opcode.BINARY)
        writer._put_fragment(opcode, part, False, self._compress)
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
                raise writer._line.closed_error()
        elif error is None:
            try:
                # An empty message if there was no part: that is what was asked for.
                writer._put_fragment(self._opcode or Opcode.BINARY, b"", True, self._compress)
            except WriteError as unfinished:
                writer._busy = False
                writer._line.truncated(str(unfinished))
                raise
            if writer._outbox.paused:
                await writer._drain()
        elif begun:
            writer._busy = False
            writer._line.truncated(f"a message in fragments was left unfinished: {error!r}")
        else:
            writer._pass_on()


class DataFrameWriter:
    """One message in one frame of declared length, sent piece by piece; made by `Writer.data_frame`.

    `async with` waits for the turn. The frame is complete with its last declared byte; other senders, and control
    frames, wait until then. Left before that, the connection cannot go on, since the peer would take whatever comes
    for the rest of the frame: it ends, and its outcome says 1011. If nothing was written and an exception leaves the
    block, nothing is sent and the connection goes on.

    A closing handshake that begins meanwhile, on either side, waits for the end of the frame, up to `Timeouts.close`.
    """

    __slots__ = ("_begun", "_entered", "_left", "_opcode", "_writer", "length", "remaining")

    def __init__(self, writer: Writer, length: int, opcode: Opcode) -> None:
        self._writer = writer
        self._opcode = opcode
        self._entered = False
        self._begun = False  # whether the header was sent
        self._left = False
        self.length: int = length
        """The declared length in bytes."""
        self.remaining: int = length
        """Bytes that are still to be written."""

    async def __aenter__(self) -> Self:
        if self._entered:
            raise WriteError("a frame writer sends one frame; ask for a new one with writer.data_frame()")
        self._entered = True
        await self._writer._hold()
        return self

    async def write(self, part: str | Buffer) -> None:
        """Send the next bytes of the frame.

        :param part: `str`, which counts as its UTF-8, or bytes-like. Those of a text message must be UTF-8 in all; a
            part may end inside a character.
        :raises ValueError: for more than what remains of the declared length; nothing of it is sent.
        :raises WriteError: outside the `async with` block, and for bytes that do not go on with the text; they are
            not sent.
        :raises ConnectionClosed: if the connection ended before the frame was complete, or uncleanly while this waited.

        Waits while the peer takes less than is sent (`Limits.write_high`). Cancelling it leaves the part on its way
        and the frame unfinished: the block's end closes the connection. One task at a time.
        """
        if not self._entered or self._left:
            raise WriteError("a frame is written inside the `async with writer.data_frame()` block")
        check_data(part)
        data = part.encode() if isinstance(part, str) else part
        size = memoryview(data).nbytes
        if size > self.remaining:
            raise ValueError(f"{size} bytes are more than remain of the frame: {self.remaining} of {self.length}")
        writer = self._writer
        if not self._can_go_on():
            raise writer._line.closed_error()
        if not size:
            return
        if self._opcode == Opcode.TEXT:
            writer._protocol.check_text(data, size == self.remaining)
        self._put(data)
        await writer._outbox.drain()
        if not self._can_go_on():
            error = writer._line.closed_error()
            if self.remaining or not error.outcome.clean:
                raise error

    def _can_go_on(self) -> bool:
        protocol = self._writer._protocol
        # A closing handshake waits for the end of the frame.
        return protocol.open or (self._begun and not protocol.failed and protocol.state is not State.CLOSED)

    def _put(self, data: Buffer) -> None:
        writer = self._writer
        protocol = writer._protocol
        outbox = writer._outbox
        if self._begun:
            part = protocol.frame_part(data)
            outbox.put(part)
        else:
            self._begun = True
            header = protocol.begin_frame(self._opcode, self.length)
            part = protocol.frame_part(data)
            outbox.put_parts(header, part)
        self.remaining -= len(part)
        if not self.remaining:
            writer._line.frame_sent()
            writer._pass_on()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        writer = self._writer
        if self._begun and not self.remaining:
            return
        writer._busy = False
        if not self._can_go_on():
            if error is None:
                raise writer._line.closed_error()
        elif error is not None:
            if self._begun:
                writer._line.truncated(f"a frame was left {self.remaining} bytes short: {error!r}")
            else:
                writer._pass_on()
        elif self.remaining:
            reason = f"a frame was left {self.remaining} bytes short of the {self.length} that it declared"
            writer._line.truncated(reason)
            raise WriteError(reason)
        else:
            self._put(b"")
