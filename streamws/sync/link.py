"""`Link`: one connection between the thread of its event loop and the threads that use it.

A task in the loop reads all messages and adds them to a deque, from which the other threads take them without the loop.
Sent messages are gathered in another deque; the first one wakes the loop, which sends all of them in one batch. Both
are bounded: by half of `Limits.read_high`, and by `Limits.write_high`.

A signal handler may raise an exception in the main thread, or use the connection that it has interrupted, and a
finalizer may use it in any thread. So there is no lock that two threads take: the loop waits for no other thread, and
the others wait only for locks that the loop alone releases. CPython processes signals and switches threads when a
function is called or returns, and at the end of a loop; so a few operations on attributes and deques are atomic, and
the comments say where this matters.
"""

import copy
import sys
from _thread import LockType
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, TypeVar

from ..client import Client
from ..codes import CloseCode
from ..errors import ConcurrencyError, UsageError
from ..options import Limits
from .loop_thread import LoopThread, wait

_T = TypeVar("_T")


class _Room:
    """Lets the loop receive again, when few enough messages are unread."""

    __slots__ = ("asked", "left", "made")

    def __init__(self, left: int, made: Future[None]) -> None:
        self.left = left  # the number of messages that may be unread
        self.made = made  # is set when there are no more
        self.asked = False  # whether a reader has told the loop


class Link:
    """One connection, for any number of threads: one reads at a time, and all may send.

    The methods of the last section run in the thread of the event loop, the others in any other thread.
    """

    __slots__ = (
        "_asked",
        "_draining",
        "_end",
        "_flushes",
        "_messages",
        "_outbox",
        "_outgoing",
        "_protocol",
        "_queued",
        "_read_high",
        "_read_low",
        "_reader",
        "_receiving",
        "_room",
        "_senders",
        "_silent",
        "_sizes",
        "_unread",
        "_waiting",
        "_write_high",
        "client",
        "thread",
    )

    def __init__(self, thread: LoopThread, client: Client, limits: Limits) -> None:
        """Link an open connection; in the thread of its event loop.

        :param limits: those of the connection.
        """
        self.thread: LoopThread = thread
        """The thread that serves the connection."""
        self.client: Client = client
        """The connection. Only `thread` may call its methods."""
        self._protocol = client._connection.protocol
        self._outbox = client._connection.outbox
        self._silent = False  # whether no thread is woken any more

        self._messages: deque[str | bytes] = deque()  # the loop adds, and readers take
        self._sizes: deque[int] = deque()  # of these messages, and of some that were taken
        self._unread = 0  # the sum of the sizes
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self._room: _Room | None = None  # set while the deque is over its high-water mark
        self._end: Exception | None = None  # what a read raises after the last message
        self._waiting: LockType | None = None  # released to wake the thread that waits for a message
        self._reader: Thread | None = None  # that thread

        self._outgoing: deque[tuple[str | bytes, bool | None, bool]] = deque()
        self._write_high = limits.write_high
        self._queued = 0  # about the number of bytes in `_outgoing`
        self._flushes = 0  # how often the loop has begun `_flush`
        self._asked = -1  # the last of these numbers at which it was asked to do so again
        self._draining: Task[None] | None = None  # waits until the transport is at its low-water mark
        self._senders: deque[LockType] = deque()  # released to wake the threads that wait to send

        thread.served.add(self)
        self._receiving = thread.loop.create_task(self._receive())

    # Reading ---------------------------------------------------------------------------------------------------

    def read(self, timeout: float | None, call: str) -> str | bytes:
        """Return the next message.

        :param timeout: the most seconds to wait.
        :param call: the call that reads, for errors.
        :raises TimeoutError: if it has not arrived in time.
        """
        if self._waiting is None and not self.thread.inherited:
            if self._room is not None:
                self._ask_for_room(self._room)
            # Nothing from here to the return of the public method calls a function, so no exception of a signal handler
            # can lose the message, and no other thread can take it too. (`popleft` would be such a call.)
            messages = self._messages
            if messages:
                message = messages[0]
                del messages[0]
                return message
        return self._wait(timeout, call)

    def _wait(self, timeout: float | None, call: str) -> str | bytes:
        if self.thread.inherited:
            raise inherited_error()
        deadline = None if timeout is None else monotonic() + timeout
        reader = current_thread()
        waiting = Lock()
        waiting.acquire()
        messages = self._messages
        try:
            while True:
                # A signal handler may take what the interrupted read of its own thread waits for.
                if self._waiting is None:
                    self._waiting = waiting
                    self._reader = reader
                elif self._waiting is not waiting and (self._reader is not reader or not messages):
                    raise self._concurrency_error(call)
                if self._room is not None:
                    self._ask_for_room(self._room)
                # The loop adds a message, and then looks for a thread that waits. It adds the last one before `_end`.
                end = self._end
                if messages:
                    message = messages[0]
                    del messages[0]
                    return message
                if end is not None:
                    raise copy.copy(end)  # each its own, because a traceback is added to it
                if deadline is not None and monotonic() >= deadline:
                    raise TimeoutError(f"{call}: no message within {timeout} s")
                self.thread.check_caller(call)
                wait(waiting, deadline)
        finally:
            if self._waiting is waiting:
                self._waiting = self._reader = None

    def put_back(self, message: str | bytes) -> None:
        """Let the next read get a message again."""
        self._messages.appendleft(message)

    def _ask_for_room(self, room: _Room) -> None:
        """Let the loop receive again, if the next message is the last one that was too many."""
        if len(self._messages) - 1 <= room.left and not room.asked:
            self._schedule(self._make_room)
            room.asked = True  # not earlier: if an exception interrupts it, the next read asks again

    def _concurrency_error(self, call: str) -> ConcurrencyError:
        reader = self._reader
        name = "another thread" if reader is None else reader.name
        if reader is current_thread():
            return ConcurrencyError(
                f"cannot call {call} in a signal handler that has interrupted a read of the same connection, which "
                "waits for a message: it would wait for the same one"
            )
        return ConcurrencyError(
            f"cannot call {call} in {current_thread().name}: {name} waits for a message of the same connection; only "
            "one thread at a time can read"
        )

    # Sending ---------------------------------------------------------------------------------------------------

    def send(self, data: str | bytes, compress: bool | None, text: bool, call: str) -> None:
        """Send a message as soon as the backlog is not over its high-water mark.

        :param data: the message; it was checked.
        :param text: whether `bytes` are sent as text.
        :param call: the call that sends, for an error.
        """
        size = sys.getsizeof(data)
        message = (data, compress, text)
        while True:
            if self.thread.inherited:
                raise inherited_error()
            if not self._protocol.open:
                raise self._protocol.send_error()
            if self._draining is None and self._queued <= self._write_high:
                break
            self.thread.check_caller(call)
            sender = Lock()
            sender.acquire()
            self._senders.append(sender)
            self._ask_to_flush()  # it wakes this thread at its end, or after `_drain`
            wait(sender, None)
        try:
            self._outgoing.append(message)
            self._queued += size
            self._ask_to_flush()
        except BaseException:
            self._schedule(self._flush)  # of a signal handler: the message may have been added
            raise

    def _ask_to_flush(self) -> None:
        """Let the loop call `_flush`, unless it will do so anyway."""
        number = self._flushes
        if self._asked != number:
            self._schedule(self._flush)
            self._asked = number  # not earlier: if an exception interrupts it, the next sender asks again

    def _schedule(self, function: Callable[[], None]) -> None:
        """Call a function in the thread of the loop, unless the program is ending."""
        with suppress(RuntimeError):  # the loop is closed
            self.thread.loop.call_soon_threadsafe(function)

    # Other calls -----------------------------------------------------------------------------------------------

    def run(self, make: Callable[[], Coroutine[Any, Any, _T]], call: str, timeout: float | None = None) -> _T:
        """Run a coroutine that uses the connection; see `LoopThread.run`."""
        if self.thread.inherited:
            raise inherited_error()
        return self.thread.run(make, call, timeout)

    def close(self, code: int, reason: str, timeout: float | None, call: str) -> None:
        """Send the messages that were handed over, and close the connection; return when it is closed."""

        async def close() -> None:
            self._flush_all()
            await self.client.close(code, reason, timeout=timeout)

        self.run(close, call)

    def fail_message(self, reason: str) -> None:
        """Fail the connection because a message cannot be decoded; discard all others."""

        async def fail() -> None:
            self._messages.clear()
            self._make_room()
            self.client._fail_message(reason)

        self.run(fail, "ws.read_message()")

    # Called in the thread of the event loop --------------------------------------------------------------------

    async def _receive(self) -> None:
        """Add each received message to the deque."""
        read_message = self.client.read_message
        messages = self._messages
        sizes = self._sizes
        try:
            while True:
                message = await read_message()
                size = sys.getsizeof(message)
                sizes.append(size)
                self._unread += size
                messages.append(message)
                if self._waiting is not None:
                    self._wake()
                if self._unread > self._read_high:
                    await self._wait_for_room()
        except Exception as error:
            self._end = error.with_traceback(None)  # which would refer to this object
            # After an error such as `MemoryError`, the connection is of no more use.
            self.client._connection.begin_close(CloseCode.INTERNAL_ERROR, "")
            self._wake()
        await self.client.wait_closed()
        self.thread.served.discard(self)

    def _wake(self) -> None:
        """Wake the thread that waits for a message, if there is one."""
        waiting = self._waiting
        if waiting is not None and not self._silent and waiting.locked():  # no other thread releases it
            waiting.release()

    async def _wait_for_room(self) -> None:
        """Wait until the unread messages are below the low-water mark, if they are over the high-water mark."""
        messages = self._messages
        sizes = self._sizes
        while len(sizes) > len(messages):
            self._unread -= sizes.popleft()
        if self._unread <= self._read_high:
            return
        left = size = 0
        for newest in reversed(sizes):
            size += newest
            if size > self._read_low:
                break
            left += 1
        self._room = room = _Room(left, self.thread.loop.create_future())
        if len(messages) > left:  # otherwise a reader did not see it
            await room.made
        self._room = None

    def _make_room(self) -> None:
        room = self._room
        if room is not None and not room.made.done():
            room.made.set_result(None)

    def _flush(self) -> None:
        """Send the messages that were handed over, until writing is paused."""
        self._flushes += 1  # first: from now on, a sender asks again
        outgoing = self._outgoing
        outbox = self._outbox
        outbox.begin_batch()
        try:
            # Threads may add messages faster than they are sent, and other connections have to be served.
            for _ in range(len(outgoing)):
                if outbox.paused and not outbox.exempt:
                    break
                data, compress, text = outgoing.popleft()
                if self._protocol.open:
                    sent = self.client.send(data, compress, text=text)
                    sent.close()  # it was sent at the call; this thread does not wait
        finally:
            outbox.end_batch()
            if not outgoing:
                self._queued = 0
            if outbox.paused:
                if self._draining is None:
                    self._draining = self.thread.loop.create_task(self._drain())
            else:
                self._wake_senders()
                if outgoing:
                    self._schedule(self._flush)

    def _flush_all(self) -> None:
        """Send the messages that were handed over, also if writing is paused: nothing can be sent after them."""
        # They were accepted when the backlog was small enough.
        self._outbox.exempt = True
        try:
            self._flush()
        finally:
            self._outbox.exempt = False

    async def _drain(self) -> None:
        try:
            await self._outbox.drain()
        finally:
            self._draining = None
        self._flush()

    def _wake_senders(self) -> None:
        """Let the threads that wait to send try again."""
        senders = self._senders
        while senders and not self._silent:
            senders.popleft().release()

    def drop(self) -> None:
        """Close the connection with 1001, because nothing refers to it any more."""
        # Receive the rest, up to the end of the connection.
        self._read_high = sys.maxsize
        self._make_room()
        self._flush_all()
        self.client._connection.begin_close(CloseCode.GOING_AWAY, "")

    async def end_with_program(self, seconds: float) -> None:
        # Wake no threads: they are daemons, and would report the end of the connection as an error.
        self._silent = True
        self._flush_all()
        await self.client.close(CloseCode.GOING_AWAY, timeout=seconds)

    # Called when nothing refers to the connection --------------------------------------------------------------

    def is_forgotten(self) -> bool:
        """Return whether the connection is open, although nothing refers to it any more."""
        return self._protocol.open and not self.thread.inherited

    def release(self) -> None:
        """Close the connection in the background, if it is open, and stop receiving."""
        if not self.thread.inherited and not self._receiving.done():
            self._schedule(self.drop)


def inherited_error() -> UsageError:
    """Return the error for a connection of the parent process."""
    return UsageError(
        "this connection belongs to the parent process: it was opened before os.fork(); connect again in this process"
    )
