"""`ResponseReader`: reads the response of a server or of a proxy."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..errors import InvalidHandshake
from ..options import Limits
from .head import Response
from .headers import Headers
from .lines import TLS_RECORDS, HeadLines

MAX_BODY = 64 * 1024
"""The largest part of a response's body that is read, in bytes."""

_MAX_INTERIM = 10  # 1xx responses before the final one


class ResponseReader:
    """Reads one response, in chunks of any size: its head, and up to 64 KiB of its body.

    Interim responses (1xx other than 101) are skipped.

    :param limits: `max_header_line`, `max_headers` and `max_head` are enforced, the first one also for the status line.
    :param connect: whether the request was a CONNECT, so that a 2xx has no body (RFC 9110 section 9.3.6).
    """

    __slots__ = (
        "_body",
        "_body_complete",
        "_connect",
        "_head",
        "_head_parsed",
        "_interim",
        "_limits",
        "_lines",
        "_parser",
        "rest",
    )

    rest: bytes
    """Bytes received after the head of a 101, or of a proxy's 2xx: they are no longer HTTP."""

    def __init__(self, limits: Limits, *, connect: bool = False) -> None:
        self._limits = limits
        self._connect = connect
        self._lines = HeadLines(limits, _bad_response)
        self._parser = HttpResponseParser(self)
        self._interim = 0  # number of interim responses
        self._head: Response | None = None
        self._head_parsed = False  # whether llhttp has accepted the head
        self._body = bytearray()
        self._body_complete = False
        self.rest = b""

    def feed(self, data: bytes) -> Response | None:
        """Process the next chunk.

        :returns: the response when it is complete, None before that.
        :raises InvalidHandshake: if it is not HTTP, or its head exceeds a limit.
        """
        if self._head is None:
            self._lines.buffer += data
            self._head = self._read_head()
            if self._head is None:
                return None
            data = bytes(self._lines.buffer)
            if self._head.status == 101 or (self._connect and 200 <= self._head.status < 300):
                self.rest = data
                return self._head
        if data and not self._body_complete:
            try:
                self._parser.feed_data(data)
            except HttpParserError:
                self._body_complete = True  # what was received before the error is worth showing
            except HttpParserUpgrade:
                pass  # behind the response is a 101, which belongs to no request
        return self.finish() if self._body_complete else None

    def finish(self) -> Response | None:
        """Return the response with the body received so far, or None if its head is incomplete.

        For a connection that ended, or a deadline that passed.
        """
        if self._head is None:
            return None
        return Response.from_wire(self._head.status, self._head.headers, bytes(self._body))

    @property
    def started(self) -> bool:
        """Whether any byte of a response has arrived."""
        return self._head is not None or bool(self._lines.buffer) or self._interim > 0

    # Called by httptools

    def on_headers_complete(self) -> None:
        """Note that the head is valid."""
        self._head_parsed = True

    def on_body(self, data: bytes) -> None:
        """Collect the body, up to `MAX_BODY`."""
        if self._body_complete:
            return  # this belongs to another response
        self._body += data[: MAX_BODY - len(self._body)]
        if len(self._body) == MAX_BODY:
            self._body_complete = True

    def on_message_complete(self) -> None:
        """Note that the body is complete."""
        self._body_complete = True

    # The head

    def _read_head(self) -> Response | None:
        """Return the head of the final response once it is complete."""
        lines = self._lines
        while True:
            if not lines.buffer.startswith(b"HTTP/1."[: len(lines.buffer)]):
                raise _not_a_response(bytes(lines.buffer[:20]))
            if lines.start == 0:
                newline = lines.find_line_end(self._limits.max_header_line, "max_header_line")
                if newline < 0:
                    return None
                lines.next_line(newline)
            end = lines.find_head_end()
            if not end:
                return None
            head = self._parse_head(bytes(lines.buffer[:end]))
            lines.remove_head(end)
            # A status outside 100 to 599 is invalid, and is not an interim response (RFC 9110 section 15).
            if head.status == 101 or not 100 <= head.status < 200:
                return head
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise InvalidHandshake(f"more than {_MAX_INTERIM} interim responses, the last one {head.status}")
            self._parser = HttpResponseParser(self)
            self._body_complete = self._head_parsed = False

    def _parse_head(self, head: bytes) -> Response:
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            if not self._head_parsed:
                raise InvalidHandshake(f"malformed response head: {error}") from error
            # llhttp also rejects a 101 without an Upgrade field, but `check_response` explains that better.
        status = self._parser.get_status_code()
        if status == 101 and self._parser.get_http_version() != "1.1":
            raise InvalidHandshake("invalid handshake response: it is HTTP/1.0", status)
        return Response.from_wire(status, Headers.from_wire(head[head.index(b"\r\n") : -4]))


def _bad_response(limit: str, reason: str) -> InvalidHandshake:
    if not limit:
        return InvalidHandshake(f"malformed response head: {reason}")
    return InvalidHandshake(f"response head too large: {reason} (Limits.{limit})")


def _not_a_response(start: bytes) -> InvalidHandshake:
    if start[0] in TLS_RECORDS:
        return InvalidHandshake("the response is TLS, not HTTP: use wss:// on this port")
    return InvalidHandshake(f"the response is not HTTP/1.1: it starts with {start!r}")
