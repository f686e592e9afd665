"""Model of the senders at one end of a connection: what its tasks send, and what must arrive at the other end."""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import attrs
import pytest

from .taps import BINARY, CONTINUATION, TEXT, Message, Tap
from .virtual import Endpoint

Part = str | bytes


class Broken(Exception):
    """Raised by a task inside a message."""


class Fate(enum.Enum):
    """Whether a message must arrive."""

    OPEN = enum.auto()
    """Its task is still running."""
    SENT = enum.auto()
    MAYBE = enum.auto()
    """Its task was cancelled or raised because the connection closed: the message may have been sent."""
    NEVER = enum.auto()
    """Its task was stopped inside the message."""


@attrs.define(eq=False)
class Sending:
    """A message that a task sends."""

    opcode: int | None = None
    data: bytes = b""
    fate: Fate = Fate.OPEN
    task: "asyncio.Task[None] | None" = None
    waits: bool = False
    """Whether its task awaits the library."""
    commands: "asyncio.Queue[Command] | None" = None
    """Commands to its task, if it is sent in parts."""
    how: str = ""
    compress: bool | None = None
    in_pieces: bool = False
    """Whether it has begun and is not complete."""
    parts: int = 0

    def add(self, part: Part) -> None:
        if self.opcode is None:
            self.opcode = TEXT if isinstance(part, str) else BINARY
        self.data += encoded(part)
        self.parts += 1

    def is_seen_as(self, message: Message) -> bool:
        return (self.opcode or BINARY, self.data) == (message.opcode, message.data)


class Order(enum.Enum):
    """Commands to a task that sends in parts, besides the parts."""

    FINISH = enum.auto()
    FAIL = enum.auto()


Command = list[Part] | Order


def encoded(part: Part) -> bytes:
    return part.encode() if isinstance(part, str) else part


class _Frames:
    """Sends a message by `write_frame`, and always completes it."""

    def __init__(self, endpoint: Endpoint, opcode: int, begin: Callable[[], None]) -> None:
        """:param begin: called before the first frame; until then the message has no place among the senders."""
        self._endpoint = endpoint
        self._opcode = opcode
        self._begin = begin
        self._begun = False

    async def send(self, part: Part, fin: bool = False) -> None:
        streamws = self._endpoint.streamws
        frame = streamws.DataFrame(CONTINUATION if self._begun else self._opcode, encoded(part), fin)
        if not self._begun:
            self._begun = True
            self._begin()
        await self._endpoint.client.writer.write_frame(frame)

    async def __aenter__(self) -> "_Frames":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.send(b"", True)
            return
        if not self._begun:
            return
        try:
            await self.send(b"", True)
        except self._endpoint.streamws.WriteError:
            pass  # its first frame was not sent
        except self._endpoint.streamws.ConnectionClosed:
            pass


class Speaker:
    """Sends from one end of a connection."""

    def __init__(self, endpoint: Endpoint, written: Tap) -> None:
        self._endpoint = endpoint
        self._written = written
        self.sendings: list[Sending] = []
        """All messages, in the order of the calls."""
        self.told: list[Sending] = []
        """Messages whose tasks wait for commands."""

    def _begin(self, opcode: int | None, data: bytes = b"") -> Sending:
        sending = Sending(opcode, data, task=asyncio.current_task())
        self.sendings.append(sending)
        return sending

    @contextmanager
    def _outcome(self, sending: Sending) -> Iterator[None]:
        """Record the fate of the message."""
        sending.waits = True
        try:
            yield
        except BaseException as error:
            if isinstance(error, self._endpoint.streamws.ConnectionClosed):
                assert not self._endpoint.connection.protocol.open, "refused by an open connection"
            sending.fate = Fate.NEVER if sending.in_pieces else Fate.MAYBE
            if isinstance(error, asyncio.CancelledError):
                raise
            if not isinstance(error, (Broken, self._endpoint.streamws.ConnectionClosed)):
                raise
        else:
            # A transport that is lost discards all data.
            sending.fate = Fate.MAYBE if self._endpoint.transport.is_closing() else Fate.SENT
        finally:
            sending.waits = sending.in_pieces = False

    async def send(self, value: Part, compress: bool | None = None) -> None:
        sending = self._begin(TEXT if isinstance(value, str) else BINARY, encoded(value))
        with self._outcome(sending):
            await self._endpoint.client.send(value, compress)

    # In parts --------------------------------------------------------------------------------------------------

    async def send_in_pieces(
        self,
        how: str,
        opcode: int | None,
        commands: "asyncio.Queue[Command]",
        data: bytes = b"",
        compress: bool | None = None,
    ) -> None:
        """Send a message in parts.

        :param how: the method of the writer.
        :param commands: the parts; of a data frame only their sizes count.
        """
        sending = self._begin(opcode, data)
        sending.commands = commands
        sending.how = how
        sending.compress = compress
        self.told.append(sending)
        with self._outcome(sending):
            await getattr(self, f"_by_{how}")(sending, opcode and self._endpoint.streamws.Opcode(opcode))

    async def _parts(self, sending: Sending) -> AsyncIterator[Part]:
        sending.in_pieces = True
        commands = sending.commands
        assert commands is not None
        while True:
            sending.waits = False
            command = await commands.get()
            sending.waits = True
            if command is Order.FINISH:
                sending.in_pieces = False
                return
            if command is Order.FAIL:
                raise Broken
            assert isinstance(command, list)
            for part in command:
                if sending.how != "data_frame":
                    sending.add(part)
                yield part

    async def _by_fragment(self, sending: Sending, kind: Any) -> None:
        async with self._endpoint.client.writer.fragment(kind, sending.compress) as stream:
            async for part in self._parts(sending):
                await stream.send(part)

    async def _by_feed(self, sending: Sending, kind: Any) -> None:
        await self._endpoint.client.writer.feed(self._parts(sending), kind, sending.compress)

    async def _by_write_frame(self, sending: Sending, kind: Any) -> None:
        sending.opcode = sending.opcode or BINARY
        self.sendings.remove(sending)
        async with _Frames(self._endpoint, sending.opcode, lambda: self.sendings.append(sending)) as stream:
            try:
                async for part in self._parts(sending):
                    await stream.send(part)
            finally:
                sending.in_pieces = False

    async def _by_data_frame(self, sending: Sending, kind: Any) -> None:
        content = sending.data
        place = 0
        async with self._endpoint.client.writer.data_frame(len(content), kind) as frame:
            async for part in self._parts(sending):
                piece = content[place : place + len(part)]
                place += len(piece)
                sending.parts += len(piece) > 0
                sending.in_pieces = place < len(content) or not content
                await frame.write(piece)
            with pytest.raises(ValueError, match=r"cannot write \d+ bytes: \d+ of the frame's"):
                await frame.write(content[place:] + b"x")
            await frame.write(content[place:])

    # Invariants ------------------------------------------------------------------------------------------------

    def check_waiting(self) -> None:
        """Check that each waiting task has a reason to wait."""
        protocol = self._endpoint.connection.protocol
        waiting = [sending for sending in self.sendings if sending.waits]
        if not waiting or self._endpoint.transport.writing_paused:
            return
        assert protocol.open, "a task waits to send on a connection that closes"
        assert any(sending.in_pieces for sending in self.sendings), (
            "a task waits for its turn, but no message is under way"
        )

    def check_written(self) -> None:
        """Check that the written messages are those that were sent, in the order of the calls."""
        places = {0}
        for message in self._written.done():
            places = {after for place in places for after in self._after(place, message)}
            assert places, f"not sent, or not now: {message}"
        rest = [self.sendings[place:] for place in places]
        assert any(all(sending.fate is not Fate.SENT for sending in sendings) for sendings in rest), "a message is lost"
        if self._written.cut:
            last = self._written.messages[-1]
            unfinished = [sending for sending in self.sendings if sending.fate is not Fate.SENT]
            assert any(sending.data.startswith(last.data) for sending in unfinished)

    def _after(self, place: int, message: Message) -> Iterator[int]:
        """Yield the places in `sendings` after which the message can stand."""
        for number, sending in enumerate(self.sendings[place:], place + 1):
            if sending.fate is not Fate.NEVER and sending.is_seen_as(message):
                yield number
            if sending.fate is Fate.SENT:
                return
