"""`Link`: one connection between the thread of its event loop and the threads that use it.

A task in the loop reads all messages and adds them to a deque, from which the other threads take them without the loop.
Sent messages are gathered in a list; the first one wakes the loop, which sends all of them in one batch. Both are
bounded: by half of `Limits.read_high`, and by `Limits.write_high`.
"""

import copy
import sys
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock, RLock, Thread, current_thread
from time import monotonic
from typing import Any, TypeVar

from ..client import Client
from ..codes import CloseCode
from ..errors import ConcurrencyError, StreamwsError, UsageError
from ..options import Limits
from .loop_thread import LONGEST_WAIT, LoopThread

_T = TypeVar("_T")


class Link:
    """One connection, for any number of threads: one reads at a time, and all may send.

    The methods of the last section run in the thread of the event loop, the others in any other thread.
    """

    __slots__ = (
        "_blocked",
        "_draining",
        "_end",
        "_full",
        "_inherited",
        "_lock",
        "_messages",
        "_outbox",
        "_outgoing",
        "_protocol",
        "_read_high",
        "_read_low",
        "_reader",
        "_received",
        "_receiving",
        "_room",
        "_scheduled",
        "_senders",
        "_taken",
        "_unsent",
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
        # Reentrant, because a signal handler may use the connection that it has interrupted.
        self._lock = RLock()
        self._inherited = False  # whether the connection belongs to the parent process

        self._messages: deque[str | bytes] = deque()
        self._read_high = limits.read_high
        self._read_low = limits.read_low
        self._received = 0  # the bytes of all messages that were added to the deque
        self._taken = 0  # and of those that were taken from it
        self._full = False  # whether the deque is over its high-water mark
        self._room: Future[None] | None = None  # is set when the deque is no longer full
        self._end: StreamwsError | None = None  # what a read raises after the last message
        self._waiting: Lock | None = None  # released to wake the thread that waits for a message
        self._reader: Thread | None = None  # that thread

        self._outgoing: list[tuple[str | bytes, bool | None, bool]] = []
        self._write_high = limits.write_high
        self._unsent = 0  # the bytes that were handed over, and that the loop has not sent
        self._scheduled = False  # whether the loop will call `_flush`
        self._blocked = False  # whether the transport is over its high-water mark
        self._draining: Task[None] | None = None  # waits until it is not
        self._senders: list[Lock] = []  # released to wake the threads that wait to send

        thread.served.add(self)
        self._receiving = thread.loop.create_task(self._receive())

    # Reading ---------------------------------------------------------------------------------------------------

    def read(self, timeout: float | None, call: str) -> str | bytes:
        """Return the next message.

        :param timeout: the most seconds to wait.
        :param call: the call that reads, for errors.
        :raises TimeoutError: if it has not arrived in time.
        """
        self.thread.check_caller(call)
        with self._lock:
            if self._messages and self._waiting is None:
                return self._take()
        return self._wait(timeout, call)

    def _take(self) -> str | bytes:
        """Take the first message. The caller holds the lock."""
        message = self._messages.popleft()
        self._taken += sys.getsizeof(message)
        if self._full and self._received - self._taken <= self._read_low:
            self._full = False
            self._schedule(self._make_room)
        return message

    def _wait(self, timeout: float | None, call: str) -> str | bytes:
        deadline = None if timeout is None else monotonic() + timeout
        waiting = Lock()
        waiting.acquire()
        left = TIMEOUT_MAX
        try:
            while True:
                with self._lock:
                    if self._waiting is not None and self._waiting is not waiting:
                        raise self._concurrency_error(call)
                    # The loop adds a message and then looks for a thread that waits, so look in the other order here.
                    self._reader = current_thread()
                    self._waiting = waiting
                    if self._messages:
                        return self._take()
                    if self._end is not None:
                        raise copy.copy(self._end)  # each its own, because a traceback is added to it
                if deadline is not None:
                    left = min(deadline - monotonic(), TIMEOUT_MAX)
                    if left <= 0:
                        raise TimeoutError(f"{call}: no message within {timeout} s")
                wait(waiting, left)
        finally:
            if self._waiting is waiting:
                self._waiting = self._reader = None

    def _concurrency_error(self, call: str) -> ConcurrencyError:
        reader = self._reader
        name = "another thread" if reader is None else reader.name
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
        self.thread.check_caller(call)
        while True:
            sender = self._hand_over(data, compress, text)
            if sender is None:
                return
            wait(sender, TIMEOUT_MAX)

    def _hand_over(self, data: str | bytes, compress: bool | None, text: bool) -> "Lock | None":
        """Hand a message over to the loop.

        :returns: None; or, if the backlog is too large, a lock that is released when the caller should try again.
        """
        wakes = False
        try:
            with self._lock:
                if self._inherited or not self._protocol.open:
                    raise self._send_error()
                if self._blocked or self._unsent > self._write_high:
                    sender = Lock()
                    sender.acquire()
                    self._senders.append(sender)
                    return sender
                self._outgoing.append((data, compress, text))
                self._unsent += sys.getsizeof(data)
                wakes = not self._scheduled
                self._scheduled = True
            # Without the lock, which the loop then needs at once.
            if wakes:
                self._schedule(self._flush)
        except BaseException:
            # A signal handler may raise anywhere. The next sender must not believe that the loop will be woken.
            if wakes:
                self._scheduled = False
                self._schedule(self._flush)
            raise
        return None

    def _schedule(self, function: Callable[[], None]) -> None:
        """Call a function in the thread of the loop, unless the program is ending."""
        with suppress(RuntimeError):  # the loop is closed
            self.thread.loop.call_soon_threadsafe(function)

    def _send_error(self) -> StreamwsError:
        return inherited_error() if self._inherited else self._protocol.send_error()

    # Other calls -----------------------------------------------------------------------------------------------

    def run(self, make: Callable[[], Coroutine[Any, Any, _T]], call: str, timeout: float | None = None) -> _T:
        """Run a coroutine that uses the connection; see `LoopThread.run`."""
        if self._inherited:
            raise inherited_error()
        return self.thread.run(make, call, timeout)

    def fail_message(self, reason: str) -> None:
        """Fail the connection because a message cannot be decoded; discard all others."""

        async def fail() -> None:
            with self._lock:
                self._messages.clear()
            self._make_room()
            self.client._fail_message(reason)

        self.run(fail, "ws.read_message()")

    # Called in the thread of the event loop --------------------------------------------------------------------

    async def _receive(self) -> None:
        """Add each received message to the deque."""
        read_message = self.client.read_message
        messages = self._messages
        try:
            while True:
                message = await read_message()
                self._received += sys.getsizeof(message)
                messages.append(message)
                if self._waiting is not None:
                    self._wake()
                if self._received - self._taken > self._read_high:
                    await self._wait_for_room()
        except StreamwsError as error:
            self._end = error
            self._wake()
        await self.client.wait_closed()
        self.thread.served.discard(self)

    def _wake(self) -> None:
        """Wake the thread that waits for a message, if there is one."""
        waiting = self._waiting
        if waiting is not None and waiting.locked():  # no other thread releases it
            waiting.release()

    async def _wait_for_room(self) -> None:
        with self._lock:
            if self._received - self._taken <= self._read_high:
                return
            self._full = True
            self._room = self.thread.loop.create_future()
        await self._room

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _flush(self) -> None:
        """Send the messages that were handed over."""
        with self._lock:
            batch = self._outgoing
            size = self._unsent
            self._outgoing = []
            self._scheduled = False
        outbox = self._outbox
        outbox.begin_batch()
        try:
            for data, compress, text in batch:
                if not self._protocol.open:
                    break
                sent = self.client.send(data, compress, text=text)
                sent.close()  # it was sent at the call; this thread does not wait
        finally:
            outbox.end_batch()
            with self._lock:
                self._unsent = self._unsent - size if self._outgoing else 0
                if outbox.paused and not self._blocked:
                    self._blocked = True
                    self._draining = self.thread.loop.create_task(self._drain())
                if not self._blocked:
                    self._wake_senders()

    async def _drain(self) -> None:
        await self._outbox.drain()
        with self._lock:
            self._blocked = False
            self._wake_senders()

    def _wake_senders(self) -> None:
        """Let the threads that wait to send try again. The caller holds the lock."""
        senders = self._senders
        if senders:
            self._senders = []
            for sender in senders:
                sender.release()

    def drop(self) -> None:
        """Close the connection with 1001, because nothing refers to it any more."""
        # Receive the rest, up to the end of the connection.
        self._read_high = sys.maxsize
        self._make_room()
        self.client._connection.begin_close(CloseCode.GOING_AWAY, "")

    async def end_with_program(self, seconds: float) -> None:
        # Wake no threads: they are daemons, and would report the end of the connection as an error.
        with self._lock:
            self._waiting = None
            self._senders = []
        await self.client.close(CloseCode.GOING_AWAY, timeout=seconds)

    # Called when nothing refers to the connection --------------------------------------------------------------

    def is_forgotten(self) -> bool:
        """Return whether the connection is open, although nothing refers to it any more."""
        return self._protocol.open and not self._inherited

    def release(self) -> None:
        """Close the connection in the background, if it is open, and stop receiving."""
        if not self._inherited and not self._receiving.done():
            self._schedule(self.drop)

    # Called in a child process ---------------------------------------------------------------------------------

    def leave_to_parent(self) -> None:
        self._lock = RLock()  # another thread may have held it
        self._inherited = True
        self._messages.clear()
        self._waiting = None
        self._end = inherited_error()


def wait(lock: Lock, seconds: float) -> None:
    """Wait until a lock is released, for at most some seconds. Ctrl-C interrupts it."""
    deadline = monotonic() + seconds
    while not lock.acquire(True, max(0.0, min(LONGEST_WAIT, deadline - monotonic()))) and monotonic() < deadline:
        pass


def inherited_error() -> UsageError:
    """Return the error for a connection of the parent process."""
    return UsageError(
        "this connection belongs to the parent process: it was opened before os.fork(); connect again in this process"
    )
