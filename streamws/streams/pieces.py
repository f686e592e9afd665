"""Writers that send one message in parts: `FragmentWriter` and `DataFrameWriter`."""

from collections.abc import Coroutine
from types import TracebackType
from typing import Self
from weakref import ReferenceType

from ..codes import Cause, CloseCode, Opcode, Side
from ..errors import WriteError
from ..wire.frames import Buffer
from ..wire.protocol import Protocol, State, check_data, unchanging
from .hub import Hub
from .outbox import Outbox
from .turns import Turns


class PartsWriter:
    """The block in which one message is sent in parts."""

    __slots__ = ("_call", "_entered", "_hub", "_left", "_opcode", "_outbox", "_protocol", "_turns")

    def __init__(
        self,
        call: str,
        protocol: Protocol,
        outbox: Outbox,
        turns: Turns,
        hub: ReferenceType[Hub],
        opcode: Opcode | None,
    ) -> None:
        """Make a writer for one message.

        :param call: the call that makes such a writer, for errors.
        """
        self._call = call
        self._protocol = protocol
        self._outbox = outbox
        self._turns = turns
        self._hub = hub
        self._opcode = opcode
        self._entered = False  # whether the `async with` block was entered
        self._left = False  # whether it was left

    async def __aenter__(self) -> Self:
        if self._entered:
            raise WriteError(f"a {type(self).__name__} sends one message; call {self._call} for the next one")
        self._outbox.check_thread(f"{self._call} in `async with`")
        self._entered = True
        await self._turns.acquire_for_block()
        return self

    def _check_inside(self) -> None:
        """Raise `WriteError` outside the block."""
        if not self._entered or self._left:
            raise WriteError(f"cannot send a part outside the `async with {self._call}` block")

    def _truncate(self, detail: str) -> None:
        """Fail the connection, because a message was left incomplete: the peer must not take it for a complete one."""
        connection = self._hub()
        if connection is not None:
            connection.fail(CloseCode.INTERNAL_ERROR, "", Cause.LOCAL_CANCEL, Side.LOCAL, detail)


class FragmentWriter(PartsWriter):
    """Sends one message in fragments; made by `Writer.fragment`.

    `async with` waits for the turn and ends the message. If an exception or a cancellation leaves the block after the
    first part, the connection closes with 1011, so that the peer does not take the incomplete message for a complete
    one. If no part was sent, nothing is sent at all, and the connection stays open. (RFC 6455 section 5.4)
    """

    __slots__ = ("_compress",)

    def __init__(
        self,
        protocol: Protocol,
        outbox: Outbox,
        turns: Turns,
        hub: ReferenceType[Hub],
        opcode: Opcode | None,
        compress: bool | None,
    ) -> None:
        super().__init__("writer.fragment()", protocol, outbox, turns, hub, opcode)
        self._compress = compress

    def send(self, part: str | Buffer) -> Coroutine[object, None, None]:
        """Send a part of the message as one fragment, when the result is awaited.

        :param part: `str` or bytes-like, whatever the type of the message. The parts of a text message must be valid
            UTF-8 together; a part may end inside a character.
        :raises WriteError: outside the `async with` block, and for bytes that would make the text invalid. These are
            not sent, and the message may continue with others.
        :raises TypeError: if `part` is neither `str` nor bytes-like.
        :raises ConnectionClosed: if the connection is closing or closed.

        Waits while the peer reads too slowly (`Limits.write_high`). Cancelling it then leaves the message unfinished:
        the end of the block closes the connection. One task at a time may call it.
        """
        return self._send_from_another_thread(unchanging(part)) if self._outbox.is_foreign() else self._send(part)

    async def _send_from_another_thread(self, part: str | bytes) -> None:
        self._outbox.check_await("stream.send(...)")
        await self._send(part)

    async def _send(self, part: str | Buffer) -> None:
        self._check_inside()
        if not self._protocol.open:
            raise self._protocol.send_error()
        check_data(part)
        opcode = self._opcode or (Opcode.TEXT if isinstance(part, str) else Opcode.BINARY)
        self._put(opcode, part, False)
        self._opcode = opcode  # only now: a part that cannot be encoded does not decide the type
        if self._outbox.must_wait():
            await self._drain()

    def _put(self, opcode: Opcode, part: str | Buffer, fin: bool) -> None:
        self._outbox.put(self._protocol.fragment(opcode, part, fin, self._compress))
        if fin:
            self._outbox.messages += 1
            self._turns.release()

    async def _drain(self) -> None:
        await self._outbox.drain()
        if not self._protocol.open:
            raise self._protocol.closed_error()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        begun = self._protocol.sending != 0
        if not self._protocol.open:
            self._turns.busy = False
            if error is None:
                raise self._protocol.send_error()
        elif error is None:
            try:
                # The last fragment is empty. If no part was sent, it is the only one: an empty message.
                self._put(self._opcode or Opcode.BINARY, b"", True)
            except WriteError as unfinished:
                self._turns.busy = False
                self._truncate(str(unfinished))
                raise
            if self._outbox.must_wait():
                await self._drain()
        elif begun:
            self._turns.busy = False
            self._truncate(f"a fragmented message was left unfinished: {error!r}")
        else:
            self._turns.release()


class DataFrameWriter(PartsWriter):
    """Sends one message in one frame of declared length, part by part; made by `Writer.data_frame`.

    `async with` waits for the turn. The frame is complete when as many bytes as declared were written; other senders
    and control frames wait until then. If the block is left before that, the connection ends without a Close frame,
    because the peer would take it for the rest of the frame; the outcome has the code 1011. If an exception leaves the
    block before anything was written, nothing is sent, and the connection stays open.

    A closing handshake that begins on either side meanwhile waits for the end of the frame, up to `Timeouts.close`.
    (RFC 6455 section 5.2)
    """

    __slots__ = ("_begun", "length", "remaining")

    def __init__(
        self,
        protocol: Protocol,
        outbox: Outbox,
        turns: Turns,
        hub: ReferenceType[Hub],
        length: int,
        opcode: Opcode,
    ) -> None:
        super().__init__("writer.data_frame()", protocol, outbox, turns, hub, opcode)
        self._begun = False  # whether the header was sent
        self.length: int = length
        """The declared length in bytes."""
        self.remaining: int = length
        """The number of bytes that are still to be written."""

    def write(self, part: str | Buffer) -> Coroutine[object, None, None]:
        """Send the next bytes of the frame, when the result is awaited.

        :param part: bytes-like, or `str`, which counts as its UTF-8. The parts of a text message must be valid UTF-8
            together; a part may end inside a character.
        :raises ValueError: if these are more bytes than `remaining`; nothing is sent then.
        :raises WriteError: outside the `async with` block, and for bytes that would make the text invalid; they are
            not sent.
        :raises TypeError: if `part` is neither `str` nor bytes-like.
        :raises ConnectionClosed: if the connection ended before the frame was complete, or did not end cleanly while
            this call waited.

        Waits while the peer reads too slowly (`Limits.write_high`). Cancelling it then leaves the frame unfinished:
        the end of the block closes the connection. One task at a time may call it.
        """
        return self._write_from_another_thread(unchanging(part)) if self._outbox.is_foreign() else self._write(part)

    async def _write_from_another_thread(self, part: str | bytes) -> None:
        self._outbox.check_await("frame.write(...)")
        await self._write(part)

    async def _write(self, part: str | Buffer) -> None:
        self._check_inside()
        check_data(part)
        data = part.encode() if isinstance(part, str) else part
        size = memoryview(data).nbytes
        if size > self.remaining:
            raise ValueError(f"cannot write {size} bytes: {self.remaining} of the frame's {self.length} bytes remain")
        if not self._can_go_on():
            raise self._protocol.send_error()
        if not size:
            return
        if self._opcode == Opcode.TEXT:
            self._protocol.check_text(data, size == self.remaining)
        self._put(data)
        if self._outbox.must_wait():
            await self._outbox.drain()
        if not self._can_go_on():
            error = self._protocol.send_error()
            if self.remaining or not error.outcome.clean:
                raise error

    def _can_go_on(self) -> bool:
        protocol = self._protocol
        # A closing handshake waits for the end of the frame, so the frame can still be completed.
        return protocol.open or (self._begun and not protocol.failed and protocol.state is not State.CLOSED)

    def _put(self, data: Buffer) -> None:
        protocol = self._protocol
        if self._begun:
            part = protocol.frame_part(data)
            self._outbox.put(part)
        else:
            self._begun = True
            header = protocol.begin_frame(self._opcode or Opcode.BINARY, self.length)
            part = protocol.frame_part(data)
            self._outbox.put_parts(header, part)
        self.remaining -= len(part)
        if not self.remaining:
            self._outbox.messages += 1
            hub = self._hub()
            if hub is not None:
                hub.frame_sent()
            self._turns.release()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        if self._begun and not self.remaining:
            return
        self._turns.busy = False
        if not self._can_go_on():
            if error is None:
                raise self._protocol.send_error()
        elif error is not None:
            if self._begun:
                self._truncate(f"a data frame was left with {self.remaining} bytes unsent: {error!r}")
            else:
                self._turns.release()
        elif self.remaining:
            reason = f"a data frame of {self.length} bytes was left with {self.remaining} bytes unsent"
            self._truncate(reason)
            raise WriteError(reason)
        else:
            self._put(b"")
