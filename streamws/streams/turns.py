"""The order of those who send data: one message is under way at a time (RFC 6455 section 5.4)."""

from asyncio import AbstractEventLoop, Future, Task, current_task
from collections import deque
from typing import Any

from ..errors import WriteError
from ..options import ITEM_OVERHEAD
from ..wire.frames import Buffer
from ..wire.protocol import Protocol, size_of
from .outbox import Outbox


class Turn:
    """A place in the queue of senders: a message or a frame to be sent, or a wish to send in parts."""

    __slots__ = ("compress", "data", "frame", "ready", "size")

    def __init__(
        self, ready: "Future[None]", data: str | Buffer | None, frame: bytes | None, compress: bool | None
    ) -> None:
        """Make a turn.

        :param ready: done when the turn has come.
        :param data: a message to encode and send.
        :param frame: a message that is encoded already.
        """
        self.ready = ready
        self.compress = compress
        self.data = data
        self.frame = frame
        self.size = size_of(frame or data or b"") + ITEM_OVERHEAD

    def encoded(self, protocol: Protocol) -> bytes:
        """The frame to send."""
        if self.frame is not None or self.data is None:
            return self.frame or b""
        if protocol.compresses(self.data, self.compress):
            return protocol.compressed_message(self.data)
        return protocol.message(self.data)

    def fail(self, error: Exception) -> None:
        """Raise `error` to whoever waits; nothing is sent."""
        self.ready.set_exception(error)
        self.ready.exception()  # mark it as retrieved: nobody has to await a send


class Turns:
    """The queue of senders of one connection. While a message is sent in parts, other senders of data wait here."""

    __slots__ = ("_holder", "_loop", "_outbox", "_protocol", "_waiting", "busy", "size")

    def __init__(self, loop: AbstractEventLoop, protocol: Protocol, outbox: Outbox) -> None:
        self._loop = loop
        self._protocol = protocol
        self._outbox = outbox
        self._holder: Task[Any] | None = None  # the task inside an `async with` block that sends a message in parts
        self._waiting: deque[Turn] | None = None
        self.busy: bool = False
        """Whether a message is being sent in parts."""
        self.size: int = 0
        """The bytes of the waiting messages, with `ITEM_OVERHEAD` for each."""

    def add(self, data: str | Buffer | None = None, frame: bytes | None = None, compress: bool | None = None) -> Turn:
        """Put a message or a frame at the end of the queue; without either, a wish to send in parts."""
        if self._waiting is None:
            self._waiting = deque()
        turn = Turn(self._loop.create_future(), data, frame, compress)
        self._waiting.append(turn)
        self.size += turn.size
        return turn

    async def wait(self, turn: Turn) -> None:
        """Wait until the turn has come."""
        if self._holder is not None and self._holder is current_task():
            self.forget(turn)
            raise WriteError(
                "cannot send: this task is sending a message in parts and would wait for itself; "
                "send before or after the block, or through the block's writer"
            )
        try:
            await turn.ready
        except BaseException:
            self.forget(turn)
            raise

    def forget(self, turn: Turn) -> None:
        """Give a turn up: nobody waits for it any more."""
        if self._waiting is not None and turn in self._waiting:
            self._waiting.remove(turn)
            self.size -= turn.size
        elif turn.data is None and turn.frame is None and turn.ready.done() and not turn.ready.cancelled():
            # The turn had come, and no part was sent.
            self.release()

    async def acquire(self) -> None:
        """Wait for the turn to send a message in parts.

        :raises ConnectionClosed: if the connection is closing or closed.
        """
        if not self._protocol.open:
            raise self._protocol.closed_error()
        if self.busy:
            await self.wait(self.add())
            if not self._protocol.open:
                raise self._protocol.closed_error()
        self.busy = True

    async def acquire_for_block(self) -> None:
        """The same for an `async with` block, which the task that enters it leaves again."""
        await self.acquire()
        self._holder = current_task()

    def release(self) -> None:
        """The message in parts is complete: send what waited, up to the next message in parts."""
        self.busy = False
        self._holder = None
        while self._waiting:
            turn = self._waiting.popleft()
            self.size -= turn.size
            if turn.ready.done():
                continue
            if turn.frame is None and turn.data is None:
                turn.ready.set_result(None)
                self.busy = True
                return
            try:
                frame = turn.encoded(self._protocol)
            except Exception as error:
                # A text with a lone surrogate, or a memoryview released since: an error of its sender.
                turn.fail(error)
                continue
            turn.ready.set_result(None)
            if self._protocol.open:
                self._outbox.put(frame)

    def close(self) -> None:
        """The connection is closing: raise that to those who wait."""
        waiting = self._waiting
        self._waiting = self._holder = None
        self.size = 0
        for turn in waiting or ():
            if not turn.ready.done():
                turn.fail(self._protocol.closed_error())
