"""The lines of an HTTP head that arrives in chunks, checked against `Limits`."""

from collections.abc import Callable

from ..errors import StreamwsError
from ..options import Limits

# By the name of the exceeded limit
_REASONS = {
    "max_request_line": "the request line is longer than {} bytes",
    "max_header_line": "a line of the head is longer than {} bytes",
    "max_headers": "more than {} header lines",
    "max_head": "the head is longer than {} bytes",
}

TLS_RECORDS = frozenset({0x15, 0x16})
"""The types of TLS records with which a peer can start: an alert, and a ClientHello (RFC 8446 section 5.1)."""


class HeadLines:
    """The lines of a head that is still arriving, checked against the limits.

    A limit is enforced at the first byte over it, whether or not the line is complete. So the result does not depend on
    how the head was split into chunks.

    :param error: makes the exception, from the name of the exceeded limit ("" for a malformed line) and the reason.
    """

    __slots__ = ("_complete", "_error", "_limits", "_searched", "buffer", "start")

    def __init__(self, limits: Limits, error: Callable[[str, str], StreamwsError]) -> None:
        self._limits = limits
        self._error = error
        self.buffer: bytearray = bytearray()
        """All bytes that have arrived."""
        self.start: int = 0
        """Where the current line starts."""
        self._searched = 0  # there is no LF between `start` and here
        self._complete = 0  # number of complete header lines

    def find_line_end(self, max_length: int, limit: str) -> int:
        """Return the index of the LF that ends the current line, or -1 if it has not arrived.

        :param max_length: the greatest allowed length of the line, without its CRLF.
        :param limit: the name of the limit that a longer line exceeds.
        """
        buffer = self.buffer
        max_head = self._limits.max_head
        window = min(len(buffer), max_head)
        newline = buffer.find(b"\n", self._searched, window)
        end = window if newline < 0 else newline
        # A CR at the end of an incomplete line may belong to its CRLF, so it does not count yet.
        ends_with_cr = end > self.start and buffer[end - 1] == 0x0D
        if end - self.start - ends_with_cr > max_length:
            raise self._over(limit)
        if newline < 0:
            self._searched = window
            if len(buffer) > max_head:
                raise self._over("max_head")
        elif not ends_with_cr:
            raise self._error("", "a line ends with LF instead of CRLF")
        return newline

    def next_line(self, newline: int) -> None:
        """Continue with the line after the LF at index `newline`."""
        self.start = self._searched = newline + 1

    def find_head_end(self) -> int:
        """Return the length of the head, or 0 if its final empty line has not arrived."""
        limits = self._limits
        end = self._find_short_head_end()
        if end:
            return end
        while True:
            if self._complete < limits.max_headers:
                newline = self.find_line_end(limits.max_header_line, "max_header_line")
            else:  # only the final empty line may follow
                newline = self.find_line_end(0, "max_headers")
            if newline < 0:
                return 0
            if newline == self.start + 1:
                return newline + 1
            self._complete += 1
            self.next_line(newline)

    def _find_short_head_end(self) -> int:
        """Return the length of the head if it is complete and certainly valid; otherwise 0.

        This is faster than reading it line by line.
        """
        limits = self._limits
        buffer, start = self.buffer, self.start
        end = buffer.find(b"\r\n\r\n", max(start - 2, self._searched - 3)) + 4
        if end == 3 or end - start > limits.max_header_line or end > limits.max_head:
            return 0
        lines = buffer.count(b"\n", start, end)
        if self._complete + lines - 1 > limits.max_headers or buffer.count(b"\r\n", start, end) != lines:
            return 0
        return end

    def remove_head(self, length: int) -> None:
        """Start over with the head that follows the first `length` bytes."""
        del self.buffer[:length]
        self.start = self._searched = self._complete = 0

    def _over(self, limit: str) -> StreamwsError:
        return self._error(limit, _REASONS[limit].format(getattr(self._limits, limit)))
