"""Model of the readers at one end of a connection: checks each result against the received messages."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs

from .taps import BINARY, CONTINUATION, TEXT, Message, Tap
from .virtual import Endpoint

T = TypeVar("T")

MESSAGE, FRAME, BEGINNING = "message", "frame", "beginning"
FRAMES = "frames"
"""Stands for a message that is read frame by frame."""


class Refused(Exception):
    """This read was refused because another one is waiting."""


@attrs.define(eq=False)
class Waiting:
    """A read under way."""

    task: "asyncio.Task[Any] | None"
    is_ready: Callable[[], bool]
    """Return whether it could complete with the received data."""


@attrs.define(eq=False)
class Stream:
    """A `MessageReader`, and how far it has read."""

    reader: Any
    message: Message
    turn: int
    """The number of this read, among those that begin a message."""
    offset: int = 0
    ended: bool = False
    left: bool = False
    touched: bool = False


class Listener:
    """Reads at one end of a connection, and checks the results."""

    def __init__(self, endpoint: Endpoint, visible: Tap, arrived: Tap) -> None:
        """
        :param arrived: all received messages.
        :param visible: those received before this end sent a Close frame.
        """
        self._endpoint = endpoint
        self._visible = visible
        self._arrived = arrived
        self.place = 0
        """The place of the next message to read, among those received."""
        self._begun: object = None  # the stream, or FRAMES, by which it is read in part
        self._frames = 0  # the number of its frames that were read
        self._turn = 0
        self.waiting: Waiting | None = None
        self.begun: Stream | None = None
        """The latest reader."""

    def forget(self, task: "asyncio.Task[Any]") -> None:
        """Take note that a task was cancelled."""
        if self.waiting is not None and self.waiting.task is task:
            self.waiting = None

    # Reads -----------------------------------------------------------------------------------------------------

    async def read_message(self) -> None:
        await self._read(MESSAGE, self._endpoint.client.read_message, self._took_message)

    async def read_frame(self) -> None:
        await self._read(FRAME, self._endpoint.client.read_frame, self._took_frame)

    async def begin(self) -> None:
        await self._read(BEGINNING, aiter(self._endpoint.client.messages()).__anext__, self._took_beginning)

    async def stream(self, count: int | None = None, how: str = "chunk") -> None:
        """Read messages piece by piece, up to `count` or to the end of the connection."""
        while count is None or count > 0:
            if not await self._read(BEGINNING, aiter(self._endpoint.client.messages()).__anext__, self._took_beginning):
                return
            stream = self.begun
            assert stream is not None
            while not stream.ended:
                before = stream.offset
                await self.read_stream(stream, how, 20)
                if stream.offset == before and not stream.ended:
                    return
            count = None if count is None else count - 1

    async def iterate(self, how: str, count: int | None = None) -> None:
        """Read by an async iterator, up to `count` times or to the end of the connection."""
        if how in ("stream", "readinto"):
            await self.stream(count, "chunk" if how == "stream" else how)
            return
        client = self._endpoint.client
        iterator = aiter(client if how == "client" else getattr(client, how)())
        kind, took = (FRAME, self._took_frame) if how == "frames" else (MESSAGE, self._took_message)
        while count is None or count > 0:
            if not await self._read(kind, iterator.__anext__, took, {"text": TEXT, "binary": BINARY}.get(how)):
                return
            count = None if count is None else count - 1

    async def _read(
        self, kind: str, call: Callable[[], Awaitable[Any]], took: Callable[[Any], None], only: int | None = None
    ) -> bool:
        """Read once, and return whether there may be more to read.

        :param only: the opcode of the messages that the read accepts.
        """
        second = self.waiting is not None
        if not second:
            self._claim(kind)
        try:
            result = await self._wait(call, lambda: self._is_there(kind))
        except Refused:
            return False
        except StopAsyncIteration:
            self._ended(kind, only, None)
            return False
        except self._endpoint.streamws.ConnectionClosed as error:
            self._ended(kind, only, error)
            return False
        assert not second, "two reads at once"
        took(result)
        return True

    async def _wait(self, call: Callable[[], Awaitable[T]], is_ready: Callable[[], bool]) -> T:
        first = self.waiting
        mine = Waiting(asyncio.current_task(), is_ready)
        if first is None:
            self.waiting = mine
        try:
            return await call()
        except self._endpoint.streamws.ConcurrencyError:
            assert first is not None, "there is no other read"
            raise Refused from None
        finally:
            if self.waiting is mine:
                self.waiting = None

    def _claim(self, kind: str) -> None:
        """Begin a read; it leaves a message that was read in part."""
        if kind == FRAME and self._begun is FRAMES:
            return
        self._turn += 1
        if self._begun is not None:
            self._go_on()

    def _go_on(self) -> None:
        self.place += 1
        self._begun = None
        self._frames = 0

    def _is_there(self, kind: str) -> bool:
        if self.place >= len(self._visible.messages):
            return False
        message = self._visible.messages[self.place]
        if kind == MESSAGE:
            return message.done
        if kind == FRAME:
            return message.complete > self._frames
        return message.complete > 0 or bool(self._endpoint.connection.protocol.open)

    def _took_message(self, value: str | bytes) -> None:
        message = self._visible.messages[self.place]
        assert message.done, "the message is not complete"
        assert value == message.value
        self._go_on()

    def _took_frame(self, frame: Any) -> None:
        message = self._visible.messages[self.place]
        assert self._frames < message.complete, "the frame is not complete"
        assert frame.payload == message.frames[self._frames]
        assert frame.opcode == (CONTINUATION if self._frames else message.opcode)
        self._begun = FRAMES
        self._frames += 1
        assert frame.fin == (message.done and self._frames == len(message.frames))
        if frame.fin:
            self._go_on()

    def _took_beginning(self, reader: Any) -> None:
        message = self._visible.messages[self.place]
        assert reader.type == message.opcode
        self._begun = self.begun = Stream(reader, message, self._turn)

    def _ended(self, kind: str, only: int | None, error: Any) -> None:
        """Check a read that found the connection at its end."""
        streamws = self._endpoint.streamws
        outcome = self._endpoint.connection.outcome()
        assert outcome is not None, "the connection is open"
        if self._is_there(kind) and only not in (None, self._visible.messages[self.place].opcode):
            self._go_on()  # text() or binary() refused a message of the other kind
            return
        assert not self._is_there(kind), "there is a message to read"
        if isinstance(error, streamws.IncompleteMessage):
            assert self._visible.cut or self._arrived.cut
            return
        expected = streamws.ConnectionClosed if outcome.clean else streamws.ConnectionClosedError
        assert (type(error) is expected) or (error is None and outcome.clean)
        if kind != BEGINNING and self.place < len(self._visible.messages):
            refused = outcome.initiator == "local" or outcome.cause == "limit"
            assert refused, "a truncated message was not reported"

    # Streams ---------------------------------------------------------------------------------------------------

    def leave(self, stream: Stream) -> None:
        stream.reader.leave()
        stream.left = True
        if self._begun is stream:
            self._go_on()

    async def read_stream(self, stream: Stream, how: str, size: int) -> None:
        """Call a method of the reader once, and check its result."""
        streamws = self._endpoint.streamws
        message = stream.message
        touched, stream.touched = stream.touched, True
        try:
            data = await self._wait(
                lambda: self._call(stream, how, size), lambda: self._is_stream_ready(stream, how, size)
            )
        except Refused:
            pass
        except streamws.StaleReader:
            assert stream.left or (stream.turn != self._turn and not stream.ended), "this reader is not stale"
        except streamws.ReadError:
            assert how == "get"
            assert touched
        except asyncio.IncompleteReadError as error:
            assert how == "readexactly"
            assert message.done, "the message is not complete"
            self._took_part(stream, error.partial)
            assert stream.offset == len(message.data)
        except streamws.IncompleteMessage:
            assert not message.done, "the message is complete"
        except streamws.ConnectionClosed:
            assert how == "get" or self._endpoint.connection.outcome().cause == "limit"
            assert not message.done
        else:
            assert not stream.left
            # A reader that holds the end of its message may return it.
            assert stream.turn == self._turn or message.done, "a stale reader returned data"
            if how == "get":
                assert message.done, "the message is not complete"
                assert data == message.value
                data = message.data
            self._took_part(stream, data)
            rest = len(message.data) - stream.offset
            if how == "all" or not data or (how == "readline" and data[-1:] != b"\n"):
                assert message.done, "the message is not complete"
                assert rest == 0
            if how == "readline":
                assert b"\n" not in data[:-1]
            if how in ("read", "readinto"):
                assert len(data) <= size
            if how == "readexactly":
                assert len(data) == size
        finally:
            if stream.reader.at_eof():
                assert message.done, "the message is not complete"
                assert stream.offset == len(message.data)
                stream.ended = True
                if self._begun is stream:
                    self._go_on()

    async def _call(self, stream: Stream, how: str, size: int) -> Any:
        reader = stream.reader
        match how:
            case "all":
                return await reader.read()
            case "chunk":
                try:
                    return await anext(reader)
                except StopAsyncIteration:
                    return b""
            case "readinto":
                buffer = bytearray(size)
                return bytes(buffer[: await reader.readinto(buffer)])
            case "read" | "readexactly":
                return await getattr(reader, how)(size)
            case _:
                return await getattr(reader, how)()

    def _is_stream_ready(self, stream: Stream, how: str, size: int) -> bool:
        if stream.message.done:
            return True
        frames = stream.message.frames
        if not self._endpoint.connection.protocol.open:
            frames = frames[: stream.message.complete]  # a frame that is not complete may be skipped
        rest = b"".join(frames)[stream.offset :]
        match how:
            case "all" | "get":
                return False
            case "readexactly":
                return len(rest) >= size
            case "readline":
                return b"\n" in rest
            case _:
                return len(rest) > 0

    def _took_part(self, stream: Stream, data: bytes) -> None:
        assert stream.message.data[stream.offset : stream.offset + len(data)] == data
        stream.offset += len(data)

    # Invariants ------------------------------------------------------------------------------------------------

    def check_waiting(self) -> None:
        """Check that no task waits for data that was received."""
        waiting = self.waiting
        if waiting is None:
            return
        protocol = self._endpoint.connection.protocol
        assert not waiting.is_ready(), "a task waits for data that was received"
        if protocol.open:
            transport = self._endpoint.transport
            assert transport.is_reading() or transport.is_closing(), "a task waits while reading is paused"
        else:
            assert protocol.close_received is None, "a task waits after the closing handshake"
            assert not protocol.failed, "a task waits after the connection failed"
            assert not self._endpoint.transport.lost, "a task waits after the connection was lost"

    def check_all_read(self) -> None:
        """Check that every received message was read."""
        assert self.place >= len(self._visible.done()), "messages were not read"
