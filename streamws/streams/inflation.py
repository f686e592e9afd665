"""Inflating compressed messages, never more than their reader accepts."""

from sys import maxsize

from ..codes import Cause, Close, CloseCode, Opcode
from ..errors import ProtocolViolation
from ..wire.deflate import PIECE, DeflatedFrame, Inflater
from ..wire.frames import DataFrame
from .queue import Queue

SHARE = 1024 * 1024
"""The bytes that are inflated for one reader before the other connections of the loop are served."""

# Plain integers: a lookup in the enum costs more than the comparison.
_CONTINUATION = 0x0
_TEXT = 0x1


class Inflation:
    """Inflates the compressed frames at the head of a queue.

    Compressed data waits in the queue as it arrived. It is inflated when it is read; for a task that awaits a whole
    message, it is inflated as it arrives. No more is inflated than the reader accepts, so a small message that inflates
    to a huge one cannot fill the memory.

    A method that fails sets `problem`, and returns False, None or -1.
    """

    __slots__ = ("_max_size", "_queue", "inflater", "problem", "work")

    def __init__(self, queue: Queue, inflater: Inflater, max_message_size: int) -> None:
        """Create the inflation for a queue.

        :param max_message_size: the largest message that may be read as a whole, in bytes.
        """
        self._queue = queue
        self.inflater: Inflater = inflater
        """The inflater of the connection."""
        self._max_size = min(max_message_size, maxsize // 2)  # adding 1 must not overflow a Py_ssize_t
        self.work: int = 0
        """The number of bytes inflated since the reader last waited."""
        self.problem: tuple[Close, Cause] | None = None
        """Why the connection must fail, if a message is too big or cannot be inflated; otherwise None."""

    @property
    def takeover(self) -> bool:
        """Whether messages refer back to earlier ones, so that skipped data must be inflated too."""
        return self.inflater.takeover

    def is_pending(self) -> bool:
        """Return whether there may be more data in the frame that was last taken from the queue."""
        return self.inflater.pending

    # Whole messages and frames ---------------------------------------------------------------------------------

    def inflate(self, end: int) -> bool:
        """Inflate the frames of the first message in the queue, up to index `end`; return whether that succeeded."""
        queue = self._queue
        inflater = self.inflater
        place = queue.head + queue.inflated
        while place < end and type(queue.items[place]) is DeflatedFrame:
            frame = queue.items[place]
            if place > queue.head and frame.opcode != _CONTINUATION:
                break  # the next message
            left = self._max_size - queue.inflated_size
            try:
                inflater.feed(frame)
                data = inflater.take(left + 1)
            except ProtocolViolation as violation:
                self._corrupt(violation)
                return False
            if len(data) > left:
                self.problem = too_big(queue.inflated_size + len(data), self._max_size)
                return False
            queue.replace(place, DataFrame(frame.opcode, data, frame.fin))
            self.work += len(data)
            place += 1
        return True

    def inflate_open(self) -> bool:
        """Inflate the frames of the first message, if it is incomplete; return whether that succeeded."""
        return self._queue.complete > 0 or self.inflate(len(self._queue.items))

    def take_message(self, frame: DeflatedFrame) -> str | bytes | None:
        """Take the first message from the queue, which is in one frame; return None if that fails."""
        inflater = self.inflater
        try:
            inflater.feed(frame)
            data = inflater.take(self._max_size + 1)
        except ProtocolViolation as violation:
            self._corrupt(violation)
            return None
        if len(data) > self._max_size:
            self.problem = too_big(len(data), self._max_size)
            return None
        self.work += len(data)
        self._queue.take()
        return data.decode() if frame.opcode == _TEXT else data

    # Messages in pieces ----------------------------------------------------------------------------------------

    def take_piece(self, frame: DeflatedFrame | None) -> DataFrame | None:
        """Inflate the next piece of a message; return None if that fails.

        :param frame: the next frame of the message; None to continue with the last one, if `is_pending`.
        """
        inflater = self.inflater
        try:
            if frame is not None:
                inflater.feed(frame)
            data = inflater.take(PIECE)
        except ProtocolViolation as violation:
            self._corrupt(violation)
            return None
        self.work += len(data)
        return DataFrame(Opcode.CONTINUATION, data, inflater.ended)

    def skip(self, frame: DeflatedFrame, most: int) -> int:
        """Skip a frame; return the number of bytes that count against `max_skip`, or -1 if it cannot be inflated.

        :param most: it stops when it has skipped more bytes than this.
        """
        try:
            size = self.inflater.skip(frame, most)
        except ProtocolViolation as violation:
            self._corrupt(violation)
            return -1
        least = len(frame.payload)
        return size if size > least else least  # data that inflates to nothing must not be free

    def skip_pending(self, most: int) -> int:
        """Skip the rest of the last frame; return the number of bytes, or -1 if it cannot be inflated."""
        try:
            return self.inflater.skip(None, most)
        except ProtocolViolation as violation:
            self._corrupt(violation)
            return -1

    def is_at_end(self) -> bool:
        """Return whether all data of the message was taken or skipped."""
        return self.inflater.ended

    def stop(self) -> None:
        """Discard data that was not taken."""
        self.inflater.stop()

    def _corrupt(self, violation: ProtocolViolation) -> None:
        self.problem = Close(violation.code, violation.reason), Cause.PROTOCOL_ERROR


def too_big(size: int, limit: int) -> tuple[Close, Cause]:
    """Return why a connection fails that received a message over `max_message_size`."""
    reason = f"a message of at least {size} bytes is over max_message_size ({limit})"
    return Close(CloseCode.MESSAGE_TOO_BIG, reason), Cause.LIMIT
