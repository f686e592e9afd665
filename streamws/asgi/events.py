"""The ASGI events of an open connection: `receive` and `send`, in compiled code because each message passes them."""

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Coroutine, Mapping, MutableMapping
from typing import Any

from ..awaiting.operation import PENDING, Done
from ..connection import Connection
from ..errors import ConcurrencyError
from ..streams.inbox import Inbox, Read
from ..streams.outbox import Outbox
from ..streams.reads import ReadMessage, begin
from ..streams.writer import Writer

Event = MutableMapping[str, Any]
"""An ASGI event, as every ASGI framework types it. Its values depend on its type."""


class ReceiveEvent(ReadMessage):
    """Reads the next message, as an event. After the last message it returns the `websocket.disconnect` event."""

    __slots__ = ("events",)

    events: "Events"

    def poll(self) -> Any:
        events = self.events
        read: Read = self  # declares the type of `future`
        if events.turn is not None:
            if getattr(self, "future", None) is not events.turn:
                read.future = events.line_up()
                return PENDING
            events.turn = None
        try:
            message = self.inbox.poll(self)
        except ConcurrencyError:
            read.future = events.line_up()
            return PENDING
        if message is PENDING:
            return message
        if events.waiting is not None:
            events.wake_next()
        kind = type(message)
        if kind is str:
            return {"type": "websocket.receive", "text": message}
        if kind is bytes:
            return {"type": "websocket.receive", "bytes": message}
        if not events.told:
            events.told = True
            return events.disconnect_event()
        # As under uvicorn's own classes: nothing more will arrive.
        read.future = events.loop.create_future()
        return PENDING

    def abandon(self) -> None:
        events = self.events
        self.inbox.abandon(self)
        if events.waiting is None:
            return
        if self.future in events.waiting:
            events.waiting.remove(self.future)
        elif events.turn is None or events.turn is self.future:
            events.wake_next()

    def describe(self) -> str:
        return "receive()"


class Events:
    """The callables `receive` and `send` of an ASGI application.

    While the connection is open, they use its streams directly. In every other state, and for every event other than a
    message, they call the coroutines of the subclass.
    """

    __slots__ = ("_inbox", "_outbox", "_writer", "loop", "told", "turn", "waiting")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop: AbstractEventLoop = loop
        self._inbox: Inbox | None = None
        self._outbox: Outbox | None = None
        self._writer: Writer | None = None
        self.waiting: deque[Future[None]] | None = None
        """The other tasks that wait in `receive`, one future for each; None if there never was one."""
        self.turn: Future[None] | None = None
        """The future of the task that was woken to read next and has not run; the others must line up behind it."""
        self.told: bool = False
        """Whether the application has received the `websocket.disconnect` event."""

    def open_receiving(self, connection: Connection) -> None:
        """Let `receive` read the messages of an open connection."""
        self._inbox = connection.inbox

    def open_sending(self, connection: Connection) -> None:
        """Let `send` send messages on an open connection."""
        self._outbox = connection.outbox
        self._writer = connection.writer

    def close_sending(self) -> None:
        """Let `send` call `send_event` from now on."""
        self._outbox = self._writer = None

    def receive(self) -> Coroutine[Any, Any, Event]:
        """Receive the next event.

        Any number of tasks may wait. Cancelling a `receive` loses nothing.
        """
        inbox = self._inbox
        if inbox is None:
            return self.receive_event()
        inbox.check_thread("receive()")
        read: ReceiveEvent = ReceiveEvent.__new__(ReceiveEvent)
        begin(read, inbox, False, None)
        read.events = self
        return read

    def send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """Send an event."""
        outbox = self._outbox
        writer = self._writer
        if outbox is None or writer is None or outbox.paused or message["type"] != "websocket.send":
            return self.send_event(message)
        data: Any = message.get("bytes")
        if data is None:
            data = message.get("text")
            if type(data) is not str:
                return self.send_event(message)
        elif type(data) is not bytes:
            return self.send_event(message)
        sent = writer._send(data, None)
        return sent if type(sent) is Done else self.finish_sending(sent)

    def line_up(self) -> "Future[None]":
        """Return a future for one more task that waits in `receive`."""
        future: Future[None] = self.loop.create_future()
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(future)
        return future

    def wake_next(self) -> None:
        """Let the next task that waits in `receive` read."""
        self.turn = None
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():  # its task was not cancelled
                self.turn = future
                future.set_result(None)
                return

    # What a server defines -------------------------------------------------------------------------------------

    async def receive_event(self) -> Event:
        """Receive an event while the connection is not open."""
        raise NotImplementedError

    async def send_event(self, message: Mapping[str, Any]) -> None:
        """Send an event that is not a message, or while the connection is not open or `send` must wait."""
        raise NotImplementedError

    async def finish_sending(self, sent: Coroutine[Any, Any, None]) -> None:
        """Await the rest of a send, and raise the error of the server if the connection has ended."""
        raise NotImplementedError

    def disconnect_event(self) -> Event:
        """Return the `websocket.disconnect` event."""
        raise NotImplementedError
