"""The queue of tasks that send data: only one message can be under way at a time (RFC 6455 section 5.4)."""

from asyncio import AbstractEventLoop, Future, Task, current_task
from collections import OrderedDict
from typing import Any

from ..errors import WriteError
from ..options import ITEM_OVERHEAD
from ..wire.frames import Buffer
from ..wire.protocol import Protocol, size_of
from .outbox import Outbox


class Turn:
    """A place in the queue: for a message to be sent, or for a task that will send a message in parts."""

    __slots__ = ("compress", "data", "frame", "ready", "size")

    def __init__(
        self, ready: "Future[None]", data: str | Buffer | None, frame: bytes | None, compress: bool | None
    ) -> None:
        """Create a turn. Without `data` and `frame`, it is for a task that will send a message in parts.

        :param ready: a future that is set when the turn has come; a message was sent then.
        :param data: a message to encode and send.
        :param frame: a message that is encoded already.
        :param compress: the sender's wish for `data`; None leaves it to the `Compression`.
        """
        self.ready: Future[None] = ready
        self.compress: bool | None = compress
        self.data: str | Buffer | None = data
        self.frame: bytes | None = frame
        self.size: int = size_of(frame or data or b"") + ITEM_OVERHEAD

    def encoded(self, protocol: Protocol) -> bytes:
        """Return the frame to send."""
        if self.frame is not None or self.data is None:
            return self.frame or b""
        if protocol.compresses(self.data, self.compress):
            return protocol.compressed_message(self.data)
        return protocol.message(self.data)

    def fail(self, error: Exception) -> None:
        """Raise `error` in the task that waits; nothing is sent."""
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
        # None while nothing waits, or after the end. Any turn can be removed from a dict in constant time.
        self._waiting: OrderedDict[Turn, None] | None = None
        self.busy: bool = False
        """Whether a message is being sent in parts."""
        self.size: int = 0
        """The bytes of the waiting messages, with `ITEM_OVERHEAD` for each."""

    def add(self, data: str | Buffer | None = None, frame: bytes | None = None, compress: bool | None = None) -> Turn:
        """Add a turn to the end of the queue. The parameters are those of `Turn`."""
        if self._waiting is None:
            self._waiting = OrderedDict()
        turn = Turn(self._loop.create_future(), data, frame, compress)
        self._waiting[turn] = None
        self.size += turn.size
        self._outbox.check_slow(self.size)
        return turn

    async def wait(self, turn: Turn) -> None:
        """Wait for a turn.

        :raises WriteError: if this task itself is sending a message in parts, so that it would wait for ever.
        """
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
        """Remove a turn, because its task no longer waits for it."""
        if self._waiting is not None and turn in self._waiting:
            del self._waiting[turn]
            self.size -= turn.size
        elif turn.data is None and turn.frame is None and turn.ready.done() and not turn.ready.cancelled():
            # The turn had come already, but its task sent nothing.
            self.release()

    async def acquire(self) -> None:
        """Wait for the turn to send a message in parts.

        :raises ConnectionClosed: if the connection is closing or closed.
        """
        if not self._protocol.open:
            raise self._protocol.send_error()
        if self.busy:
            await self.wait(self.add())
            if not self._protocol.open:
                raise self._protocol.send_error()
        self.busy = True

    async def acquire_for_block(self) -> None:
        """Wait for the turn of this task, for an `async with` block, which the same task will leave."""
        await self.acquire()
        self._holder = current_task()

    def release(self) -> None:
        """End the message in parts; send the messages that waited, up to the next message in parts."""
        self.busy = False
        self._holder = None
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
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
                # An error of the sender: the text has a lone surrogate, or the memoryview was released meanwhile.
                turn.fail(error)
                continue
            turn.ready.set_result(None)
            if self._protocol.open:
                self._outbox.messages += 1
                self._outbox.put(frame)

    def close(self) -> None:
        """Raise the end of the connection in all tasks that wait."""
        waiting = self._waiting
        self._waiting = self._holder = None
        self.size = 0
        for turn in waiting or ():
            if not turn.ready.done():
                turn.fail(self._protocol.send_error())
