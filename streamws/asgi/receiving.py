"""`Receiving`: receives the events of an ASGI server, and queues the messages in them."""

import asyncio
from collections import deque
from collections.abc import Callable

from ..codes import CLEAN_CODES, Cause, Close, CloseCode, CloseOutcome, Side
from ..errors import describe
from ..options import ITEM_OVERHEAD, KiB
from .scope import Receive

READ_AHEAD = 64 * KiB
"""The size of the unread messages above which no more events are received. Each message counts `ITEM_OVERHEAD` more."""


class Receiving:
    """Receives the events of one connection, in a task of its own, and queues the messages in them.

    Not all servers can cancel a `receive` without losing a message, so only a connection that ends is cancelled. Some
    messages are received before they are read: otherwise the end of the connection would be seen only by a read.

    :param receive: the `receive` function of the server.
    :param on_end: called once with the outcome if the peer or the server ends the connection.
    """

    __slots__ = (
        "_drained",
        "_loop",
        "_messages",
        "_on_end",
        "_read",
        "_receive",
        "_room",
        "_size",
        "connected",
        "task",
    )

    def __init__(self, receive: Receive, on_end: Callable[[CloseOutcome], None]) -> None:
        self._receive = receive
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._messages: deque[str | bytes] = deque()
        self._size = 0  # of the messages in the queue
        self._drained = False  # whether events are received even if the queue is full
        self._room: asyncio.Future[None] | None = None  # waits for room in the queue
        self._read: asyncio.Future[None] | None = None  # waits for a message, or for the end
        self.connected: asyncio.Event = asyncio.Event()
        """Set when the server has announced the connection, and when it has ended."""
        self.task: asyncio.Task[None] | None = None
        """Receives the events."""

    def start(self) -> None:
        """Begin to receive, unless it has begun."""
        if self.task is None:
            self.task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            outcome = await self._receive_all()
        except asyncio.CancelledError:
            outcome = CloseOutcome(Cause.LOCAL_CANCEL, Side.LOCAL, None, None, "the ASGI server stopped")
        except Exception as error:
            outcome = CloseOutcome(Cause.RESET, Side.REMOTE, None, None, f"cannot receive: {describe(error)}")
        self._on_end(outcome)

    async def _receive_all(self) -> CloseOutcome:
        """Receive the events until the connection ends; return how."""
        while True:
            event = await self._receive()
            kind = event["type"]
            if kind == "websocket.receive":
                if not self.connected.is_set():
                    raise ValueError("a message before `websocket.connect`: was it accepted? Pass accepted=True")
                text = event.get("text")
                # A server sends `bytes`, but a middleware need not.
                data = text if isinstance(text, str) else bytes(event["bytes"])  # type: ignore[call-overload]
                self._messages.append(data)
                self._size += len(data) + ITEM_OVERHEAD
                self._wake()
                if self._size > READ_AHEAD and not self._drained:
                    self._room = self._loop.create_future()
                    await self._room
                    self._room = None
            elif kind == "websocket.connect":
                self.connected.set()
            elif kind == "websocket.disconnect":
                return outcome_of(event.get("code"), event.get("reason"))
            else:
                raise ValueError(f"this is not an event of a WebSocket: {kind!r:.80}")

    def drain(self, on: bool) -> None:
        """Begin or stop to receive events even if the queue is full: those after the end of a connection are few."""
        self._drained = on
        if on:
            self._make_room()

    def stop(self) -> None:
        """Receive no more events."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def discard(self) -> None:
        """Discard the messages in the queue."""
        self._messages.clear()
        self._size = 0

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # Reading ---------------------------------------------------------------------------------------------------

    def next_ready(self) -> str | bytes | None:
        """Take the next message; return None if there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= len(message) + ITEM_OVERHEAD
        if self._size <= READ_AHEAD:
            self._make_room()
        return message

    async def wait(self) -> None:
        """Wait for a message, or for the end of the connection."""
        self._read = self._loop.create_future()
        await self._read

    def _wake(self) -> None:
        if self._read is not None and not self._read.done():
            self._read.set_result(None)

    def end(self) -> None:
        """Note that the connection has ended, and wake the tasks that wait for it. Messages may be left to read."""
        self.connected.set()
        self._wake()
        # Nothing may keep the connection, the application and the server alive in a cycle.
        self._on_end = _ignore
        self._receive = _receive_nothing
        self.task = None


def _ignore(outcome: CloseOutcome) -> None:
    """Replaces `on_end` after the end."""


async def _receive_nothing() -> dict[str, object]:
    """Replaces the `receive` of the server after the end."""
    return {"type": "websocket.disconnect"}


def outcome_of(code: object, reason: object) -> CloseOutcome:
    """Return the outcome for the values in a `websocket.disconnect` event."""
    number = code if isinstance(code, int) else CloseCode.NO_STATUS
    text = reason if isinstance(reason, str) else ""
    close = Close(int(number), text)
    if number == CloseCode.ABNORMAL:
        return CloseOutcome(Cause.RESET, Side.REMOTE, None, None, text)
    if number == CloseCode.SERVICE_RESTART:
        # Servers send it when they stop; it makes no sense from a client.
        return CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.LOCAL, None, close, "the ASGI server stops")
    cause = Cause.CLEAN if number in CLEAN_CODES else Cause.PEER_ERROR
    return CloseOutcome(cause, Side.REMOTE, close, None)
