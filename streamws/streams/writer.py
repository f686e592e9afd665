"""`Writer`: sends messages, fragments, frames, pings and pongs for the application."""

from asyncio import CancelledError, sleep
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from operator import index
from typing import Any
from weakref import ReferenceType

from ..awaiting.lazy import LazyCoroutine
from ..awaiting.operation import Done
from ..codes import Cause, CloseCode, Opcode, Side
from ..errors import WriteError
from ..net.sockets import thread_number
from ..options import ITEM_OVERHEAD
from ..wire.frames import Buffer, DataFrame
from ..wire.protocol import CHUNK, Protocol, as_bytes, check_data, is_utf8, unchanging
from .hub import Hub
from .outbox import Outbox
from .pieces import DataFrameWriter, FragmentWriter
from .pings import Pings, fresh_payload
from .reader import MessageReader
from .shared import SharedMessage
from .turns import Turn, Turns

SENT: Any = Done(None)
"""The awaitable of a send that does not have to wait."""

_LONG = 64 * 1024
"""The number of bytes after which `feed` lets other tasks run, if its source is not an async iterable."""


class Writer:
    """Sends data and control frames on one connection. A `Client` has it as its `writer`."""

    __slots__ = ("_by_frames", "_hub", "_outbox", "_pings", "_protocol", "_turns", "held")

    def __init__(self, protocol: Protocol, outbox: Outbox, turns: Turns, pings: Pings, hub: ReferenceType[Hub]) -> None:
        self._protocol = protocol
        self._outbox = outbox
        self._turns = turns
        self._pings = pings
        self._hub = hub
        self._by_frames = False  # whether a message sent with `write_frame` is incomplete
        self.held: int = 0  # the number of outlets of topics whose messages wait until this writer is ready

    # Whole messages --------------------------------------------------------------------------------------------

    def send(
        self, data: str | Buffer, compress: bool | None = None, *, text: bool = False
    ) -> Coroutine[object, None, None]:
        """Send one message in one frame: `str` as text, bytes-like as binary.

        The message is sent when the call returns. Awaiting the result waits while the peer reads too slowly
        (`Limits.write_high`). While another task sends a message in parts, this message waits for its turn. A task that
        sends without having to wait lets other tasks run after a few milliseconds.

        :param data: the message. A bytes-like object may be changed again after the await.
        :param compress: whether to compress this message, if compression was negotiated. By default the `Compression`
            of the connection decides. Do not compress a secret together with data that an attacker can choose: the
            size of the result reveals the secret step by step.
        :param text: whether bytes-like data is sent as text. It must be valid UTF-8 (RFC 6455 section 8.1). This saves
            the time to decode and encode text that exists as bytes, such as the output of a JSON encoder.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeDecodeError: if `text` is true, and `data` is not valid UTF-8.
        :raises WriteError: when awaited, if this task itself is sending a message in parts.

        Cancelling the await does not harm the connection: a message that was sent arrives, and a message that waited
        for its turn is not sent. Any number of tasks may send. Messages leave in the order of the calls.
        (RFC 6455 section 5.6; RFC 7692)
        """
        return self._send_text(data, compress) if text else self._send(data, compress)

    def _send(self, data: str | Buffer, compress: bool | None) -> Coroutine[object, None, None]:
        """Do as `send`: `str` is text, bytes-like is binary."""
        protocol = self._protocol
        # The comparison saves the call of `is_foreign()` for each message.
        if thread_number() != self._outbox.iteration.thread and self._outbox.is_foreign():
            return self._send_from_another_thread(unchanging(data), compress)
        if protocol.open and not self._turns.busy:
            if protocol.deflater is not None and protocol.compresses(data, compress):
                self._outbox.put(protocol.compressed_message(data))
            elif protocol.is_large(data):
                self._outbox.put_parts(protocol.unmasked_header(data, False), data)
            elif protocol.is_masked_in_chunks(data):
                if self._outbox.paused and not self._outbox.accepts(0):
                    return self._refuse()
                self._put_in_chunks(Opcode.BINARY, data)
            else:
                self._outbox.put(protocol.message(data))
            self._outbox.messages += 1
            return LazyCoroutine(self._drain) if self._outbox.must_wait() else SENT
        return self._send_in_turn(data, compress)

    def _send_text(self, data: str | Buffer, compress: bool | None) -> Coroutine[object, None, None]:
        """Do as `send`: `str` and bytes-like are text."""
        if isinstance(data, str):
            return self._send(data, compress)
        check_data(data)
        protocol = self._protocol
        outbox = self._outbox
        payload = as_bytes(data)
        if not is_utf8(payload) or protocol.deflater is not None or self._turns.busy or outbox.is_foreign():
            # Decoding raises the error for invalid UTF-8. Otherwise the message is encoded later, maybe compressed.
            return self._send(str(payload, "utf-8"), compress)
        if not protocol.open:
            return self._refuse()
        if protocol.is_large(payload):
            outbox.put_parts(protocol.unmasked_header(payload, True), payload)
        elif protocol.is_masked_in_chunks(payload):
            if outbox.paused and not outbox.accepts(0):
                return self._refuse()
            self._put_in_chunks(Opcode.TEXT, payload)
        else:
            outbox.put(protocol.text_message(payload))
        outbox.messages += 1
        return LazyCoroutine(self._drain) if outbox.must_wait() else SENT

    async def _send_from_another_thread(self, data: str | bytes, compress: bool | None) -> None:
        self._outbox.check_await("client.send(...)")
        await self.send(data, compress)

    def _put_in_chunks(self, opcode: Opcode, data: str | Buffer) -> None:
        """Send a large message as one frame, which is masked and written chunk by chunk."""
        protocol = self._protocol
        outbox = self._outbox
        view = memoryview(as_bytes(data))
        header = protocol.begin_frame(opcode, len(view))
        outbox.put_parts(header, protocol.frame_part(view[:CHUNK]))
        # The message was accepted as a whole: its first chunks must not count against `max_write_backlog`.
        outbox.exempt = True
        for start in range(CHUNK, len(view), CHUNK):
            outbox.put(protocol.frame_part(view[start : start + CHUNK]))
        outbox.exempt = False

    def _send_in_turn(self, data: str | Buffer, compress: bool | None) -> Coroutine[object, None, None]:
        if not self._protocol.open:
            return self._refuse()
        check_data(data)
        if not self._outbox.accepts(self._turns.size):
            return self._refuse()
        turn = self._turns.add(data, None, compress)
        return LazyCoroutine(lambda: self._wait_sent(turn), lambda: self._turns.forget(turn))

    async def _wait_sent(self, turn: Turn) -> None:
        await self._turns.wait(turn)
        if self._outbox.paused:
            await self._drain()
        elif not self._protocol.open:
            raise self._protocol.closed_error()

    async def _drain(self) -> None:
        await self._outbox.drain()
        if not self._protocol.open:
            raise self._protocol.closed_error()

    async def _refuse(self) -> None:
        raise self._protocol.send_error()

    def _send_shared(self, message: SharedMessage) -> bool:
        """Send a message for many connections; return False if it cannot be sent."""
        # The usual case comes first, and without local variables: it is most of the cost of a burst of broadcasts.
        if not self._protocol.open:
            return False
        if self._turns.busy or self._outbox.paused:
            return self._send_shared_in_turn(message)
        frame = message.frame_for(self._protocol)
        self._outbox.put(self._protocol.compressed_message(message.data) if frame is None else frame)
        self._outbox.messages += 1
        return self._protocol.open

    def _send_shared_in_turn(self, message: SharedMessage) -> bool:
        """Send a message for many connections, unless the backlog is over its limit. It may have to wait its turn."""
        if not self._outbox.accepts(self._turns.size):
            return False
        frame = message.frame_for(self._protocol)
        if self._turns.busy:
            self._turns.add(message.data if frame is None else None, frame, message.compress)
            return self._protocol.open
        self._outbox.messages += 1
        if frame is None:
            self._outbox.put(self._protocol.compressed_message(message.data))
        else:
            self._outbox.share(len(frame))
            self._outbox.put(frame)
        return self._protocol.open

    # Messages of topics ----------------------------------------------------------------------------------------

    def _is_ready(self) -> bool:
        """Return whether a message would be sent at once: no other message is under way, and writing is not paused."""
        return self._protocol.open and not self._outbox.paused and not self._turns.busy

    def _call_when_ready(self, callback: Callable[[], None]) -> None:
        """Call a function in a later loop iteration, when this writer may be ready, or the connection has ended.

        This does not count as a sender: a message in parts may begin before the function is called.
        """
        if self._protocol.open and not self._outbox.paused and self._turns.busy:
            turn = self._turns.add()
            turn.ready.add_done_callback(lambda _: self._pass_turn(turn, callback))
        else:
            self._outbox.call_when_drained(callback)

    def _pass_turn(self, turn: Turn, callback: Callable[[], None]) -> None:
        self._turns.busy = False  # until another one gets its turn
        try:
            callback()
        finally:
            self._turns.forget(turn)

    # Messages in parts -----------------------------------------------------------------------------------------

    def fragment(self, kind: Opcode | None = None, compress: bool | None = None) -> FragmentWriter:
        """Send one message in fragments: `async with client.writer.fragment() as stream: await stream.send(part)`.

        :param kind: `Opcode.TEXT` or `Opcode.BINARY`; by default the type of the first part decides (`str` is text).
        :param compress: as for `send`; by default the size of the first part decides. The peer can inflate each
            fragment when it arrives.
        :returns: a `FragmentWriter`. Entering it waits for the turn, leaving it ends the message.
        :raises ValueError: for another kind.

        (RFC 6455 section 5.4)
        """
        if kind is not None and kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"kind must be Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        return FragmentWriter(self._protocol, self._outbox, self._turns, self._hub, kind, compress)

    def data_frame(self, length: int, kind: Opcode = Opcode.BINARY) -> DataFrameWriter:
        """Send one message in one frame whose length is known beforehand, part by part, without holding it whole.

        `async with client.writer.data_frame(length) as frame: await frame.write(part)`. It is never compressed.

        :param length: the bytes of the message, 0 to 2**63 - 1.
        :param kind: `Opcode.TEXT` or `Opcode.BINARY`.
        :returns: a `DataFrameWriter`. Entering it waits for the turn.
        :raises ValueError: for another length or kind.
        :raises TypeError: if the length is not an `int`.

        (RFC 6455 section 5.2)
        """
        if kind not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"kind must be Opcode.TEXT or Opcode.BINARY, not {kind!r}")
        if not 0 <= index(length) < 1 << 63:
            raise ValueError(f"the length of a frame must be 0 to 2**63 - 1, not {length}")
        return DataFrameWriter(self._protocol, self._outbox, self._turns, self._hub, length, kind)

    async def write_frame(self, frame: DataFrame) -> None:
        """Send one data frame unchanged and uncompressed. It must fit the message under way.

        The first frame of a message is TEXT or BINARY, the others are CONTINUATION, and the last one has `fin` set.
        Other senders wait from the first frame to the last one. The frames of a text message may be cut inside a
        character, but together they must be valid UTF-8 (section 8.1).

        :param frame: the frame.
        :raises WriteError: if the frame does not fit, or if the text would be invalid; nothing is sent then.
        :raises ConnectionClosed: if the connection is closing or closed.

        Cancelling it while it waits for its turn sends nothing. Cancelling it while it waits for the network, inside a
        message, closes the connection with 1011, so that the peer does not take the incomplete message for a complete
        one. One task at a time may call it. If that task ends inside a message, other senders wait until another task
        sends the last frame or closes the connection.
        (RFC 6455 section 5.4)
        """
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
            raise WriteError(
                f"write_frame() sends data frames only; use ping(), pong() or close() for {frame.opcode.name}"
            )
        self._outbox.check_await("client.writer.write_frame(...)")
        if not self._protocol.open:
            raise self._protocol.send_error()
        if self._by_frames:
            if frame.opcode is not Opcode.CONTINUATION:
                raise WriteError("write_frame() has a message under way: continue it with CONTINUATION frames")
        else:
            if frame.opcode is Opcode.CONTINUATION:
                raise WriteError("a CONTINUATION frame needs a message under way: begin one with TEXT or BINARY")
            await self._turns.acquire()
        try:
            self._outbox.put(self._protocol.fragment(frame.opcode, frame.payload, frame.fin))
        except BaseException:
            if not self._by_frames:
                self._turns.release()  # no message has begun
            raise
        if frame.fin:
            self._outbox.messages += 1
            self._turns.release()
        self._by_frames = not frame.fin
        try:
            if self._outbox.must_wait():
                await self._drain()
        except CancelledError:
            hub = self._hub()
            if not frame.fin and hub is not None:
                detail = "write_frame() was cancelled inside a message"
                hub.fail(CloseCode.INTERNAL_ERROR, "", Cause.LOCAL_CANCEL, Side.LOCAL, detail)
            raise

    async def feed(
        self,
        source: MessageReader | Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        kind: Opcode | None = None,
        compress: bool | None = None,
    ) -> None:
        """Send one message in fragments, one for each part that `source` yields.

        :param source: an iterable or async iterable of parts, or a `MessageReader`, whose type the message then has.
        :param kind: as for `fragment`.
        :param compress: as for `fragment`.
        :raises WriteError: if `source` is itself `str` or bytes-like; use `send` for that.
        :raises ConnectionClosed: if the connection is closing or closed.

        If `source` raises or the call is cancelled after the first part, the connection closes with 1011, so that the
        peer does not take the incomplete message for a complete one. If no part was sent, nothing is sent at all, and
        the connection stays open. Only one part is held in memory at a time. Any number of tasks may call it; messages
        leave one after the other.
        (RFC 6455 section 5.4)
        """
        if isinstance(source, (str, bytes, bytearray, memoryview)):
            raise WriteError(f"feed() needs an iterable of parts; use send() for {type(source).__name__}")
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
                        await sleep(0)  # a long list must not keep the other tasks waiting

    # Control frames --------------------------------------------------------------------------------------------

    def ping(self, payload: str | Buffer = b"") -> Coroutine[object, None, float]:
        """Send a ping now. Awaiting the result waits for the pong and returns the round-trip time in seconds.

        :param payload: at most 125 bytes, which the peer sends back; by default a few random bytes.
        :raises ValueError: if `payload` is too long.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed, or ends before the pong arrives.

        The pong of a later ping answers this one too (section 5.5.3). If the result is not awaited, the ping is sent
        all the same, and its pong only updates `Client.latency`.
        Cancelling the await does not harm the connection. Any number of tasks may ping. (RFC 6455 section 5.5.2)
        """
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        if self._outbox.is_foreign():
            return self._ping_from_another_thread(data)
        if not self._protocol.open or (self._outbox.paused and not self._outbox.accepts(0)):
            return self._pings.refused(self._protocol.send_error())
        data = data or fresh_payload()
        frame = self._protocol.ping(data)
        ping = self._pings.begin(data)
        self._outbox.put_control(frame)
        return self._pings.wait(ping)

    async def _ping_from_another_thread(self, payload: bytes) -> float:
        self._outbox.check_await("client.writer.ping(...)")
        return await self.ping(payload)

    def pong(self, payload: str | Buffer = b"") -> Coroutine[object, None, None]:
        """Send an unsolicited pong, for example as a one-way heartbeat. Pings are answered without it.

        :param payload: at most 125 bytes.
        :raises ValueError: if `payload` is too long.
        :raises ConnectionClosed: when awaited, if the connection is closing or closed.

        Cancelling and concurrent calls are as for `send`. (RFC 6455 section 5.5.3)
        """
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        if self._outbox.is_foreign():
            return self._pong_from_another_thread(data)
        if not self._protocol.open or (self._outbox.paused and not self._outbox.accepts(0)):
            return self._refuse()
        self._outbox.put_control(self._protocol.pong(data))
        return LazyCoroutine(self._drain) if self._outbox.must_wait() else SENT

    async def _pong_from_another_thread(self, payload: bytes) -> None:
        self._outbox.check_await("client.writer.pong(...)")
        await self.pong(payload)


def send_to_ready(message: SharedMessage, writers: tuple[Writer, ...]) -> list[int]:
    """Send a message by each writer that is ready and holds no earlier message; return the places of the others."""
    others: list[int] = []
    place = 0
    for writer in writers:
        if writer.held or writer._outbox.paused or writer._turns.busy or not writer._send_shared(message):
            others.append(place)
        place += 1  # noqa: SIM113 (`enumerate` would make a tuple for each)
    return others
