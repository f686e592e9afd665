"""`RequestReader`: reads the head of a client's request.

httptools (llhttp) checks the header lines: line ends, folded lines, spaces before colons, control characters. The
request line is checked here, because llhttp accepts only a fixed list of methods and treats some of them specially.
Also checked here are the limits, and the rules of RFC 9112 about Host and message bodies.
"""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..errors import HandshakeRefused, UsageError
from ..options import Limits
from .head import Link, Request
from .headers import TCHAR, Headers
from .lines import TLS_RECORDS, HeadLines

_METHOD = TCHAR.encode() + b"+"
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]+)(?::[0-9]*)?"
"""Host and port (RFC 3986 section 3.2), without userinfo. RFC 9110 section 4.2.1: an empty host is invalid."""

# All these patterns take linear time, because two repetitions in a row never match the same byte.
_FIRST_BYTE = re.compile(b"[\\r\\n]|" + TCHAR.encode())
_TOKEN_BYTE = re.compile(TCHAR.encode())
_USUAL_REQUEST_LINE = re.compile(rb"(?!CONNECT )(" + _METHOD + rb') (/[!"$-~]*) HTTP/1\.1(?=\r\n)')
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb') ([!"$-~]+) HTTP/([0-9]\.[0-9])')
_VERSION = re.compile(rb" HTTP/[0-9]\.[0-9]$")
_SUPPORTED_VERSIONS = (b"1.1", b"1.0")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?|wss?)://" + _HOST + rb"(?:[/?].*)?")
_AUTHORITY_FORM = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[^/?:\[\]@]+):[0-9]+")

_VALID_HOST = re.compile(_HOST)
_SINGLE_FIELDS = {b"host", b"sec-websocket-key", b"sec-websocket-version", b"content-length", b"transfer-encoding"}
"""The fields that a request must not have twice. The values of others are joined, as RFC 9110 section 5.3 allows."""

_RequestLine = tuple[bytes, bytes, bytes]
"""Method, target and HTTP version."""


class RequestReader:
    """Reads the head of one request, in chunks of any size.

    :param limits: `max_request_line`, `max_header_line`, `max_headers` and `max_head` are enforced.
    :param link: the connection of the request.
    """

    __slots__ = ("_complete", "_limits", "_line", "_line_end", "_lines", "_link", "fields", "rest")

    fields: dict[bytes, bytes]
    """The header fields by their lowercase names; empty until the head is complete."""
    rest: bytes
    """Bytes received after the head; empty until the head is complete."""

    def __init__(self, limits: Limits, link: Link | None = None) -> None:
        self._limits = limits
        self._link = link
        self._lines: HeadLines | None = None  # unless the head arrives in one chunk
        self._line: _RequestLine | None = None  # the request line, if the head arrives in chunks
        self._line_end = 0  # where it ends
        self._complete = False
        self.fields = {}
        self.rest = b""

    def feed(self, data: bytes) -> Request | None:
        """Process the next chunk.

        :returns: the request when its head is complete, None before that.
        :raises HandshakeRefused: if the head is malformed, exceeds a limit, or is neither HTTP/1.1 nor HTTP/1.0.
        :raises UsageError: if the head was already complete.
        """
        if self._complete:
            raise UsageError("the head of this request is complete; what followed it is in .rest")
        lines = self._lines
        if lines is None:
            end = self._whole_head(data)
            if end:
                self._complete = True
                self.rest = data[end:]
                return self._parse(data[:end])
            lines = self._lines = HeadLines(self._limits, _bad_request)
        lines.buffer += data
        if self._line is None:
            self._line = self._read_request_line(lines)
            if self._line is None:
                return None
        end = lines.find_head_end()
        if not end:
            return None
        self._complete = True
        self._lines = None
        self.rest = bytes(lines.buffer[end:])
        return self._request(self._line, bytes(lines.buffer[self._line_end : end - 4]))

    def _whole_head(self, data: bytes) -> int:
        """Return the length of a head that is complete and exceeds no limit.

        Return 0 for any other head, and for one that has an empty line before it or a line that ends with LF only.
        These are read line by line, which shows the first rule that they break.
        """
        limits = self._limits
        end = data.find(b"\r\n\r\n") + 4
        lines = data.count(b"\n", 0, end)
        if (
            end == 3
            or end > limits.max_request_line
            or end > limits.max_header_line
            or end > limits.max_head
            or lines - 2 > limits.max_headers
            or lines != data.count(b"\r\n", 0, end)
            or not _TOKEN_BYTE.match(data)
        ):
            return 0
        return end

    def _parse(self, head: bytes) -> Request:
        """Return the request of a head with its final empty line."""
        match = _USUAL_REQUEST_LINE.match(head)
        if match is not None:
            method, target = match.groups()
            return self._request((method, target, b"1.1"), head[match.end() : -4])
        end = head.index(b"\r\n")
        return self._request(_parse_request_line(head[:end]), head[end:-4])

    def _request(self, line: _RequestLine, wire: bytes) -> Request:
        """Return the request of a request line and its fields, each with a CRLF before it."""
        method, target, version = line
        self.fields = _parse_fields(wire, version)
        return Request(method.decode(), target.decode(), Headers.from_wire(wire), version.decode(), self._link)

    def _read_request_line(self, lines: HeadLines) -> _RequestLine | None:
        """Return the request line, or None if its end has not arrived."""
        while True:
            if len(lines.buffer) > lines.start and not _FIRST_BYTE.match(lines.buffer, lines.start):
                raise _not_a_request(lines.buffer[lines.start])
            newline = lines.find_line_end(self._limits.max_request_line, "max_request_line")
            if newline < 0:
                return None
            start = lines.start
            lines.next_line(newline)
            if newline == 1:  # RFC 9112 section 2.2: an empty line before the request line is ignored
                continue
            self._line_end = newline - 1
            return _parse_request_line(bytes(lines.buffer[start : newline - 1]))


def _bad_request(limit: str, reason: str) -> HandshakeRefused:
    if not limit:
        return HandshakeRefused(400, reason)
    return HandshakeRefused(414 if limit == "max_request_line" else 431, reason)


def _not_a_request(first_byte: int) -> HandshakeRefused:
    if first_byte in TLS_RECORDS:
        return HandshakeRefused(400, "the client started TLS, but this port does not use TLS: connect with ws://")
    return HandshakeRefused(400, f"not an HTTP request: the first byte is 0x{first_byte:02x}")


def _shown(text: bytes) -> str:
    """Return bytes from a peer for an error message: quoted, printable, not long, and without a query.

    The query may hold a token, and error messages are logged.
    """
    path, mark, _ = text.partition(b"?")
    shown = (path + mark)[:80]
    return repr(shown)[1:] + ("..." if len(shown) < len(text) else "")


def _parse_request_line(line: bytes) -> _RequestLine:
    """Parse a request line without its CRLF, in any form of RFC 9112 section 3."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if line.count(b" ") == 1 and not _VERSION.search(line):
            raise HandshakeRefused(400, f"the request line has no HTTP version: {_shown(line)}")
        raise HandshakeRefused(400, f"malformed request line: {_shown(line)}")
    method, target, version = match.groups()
    if version not in _SUPPORTED_VERSIONS:
        raise HandshakeRefused(505, f"HTTP/{version.decode()} is not supported; use HTTP/1.1")
    if method == b"CONNECT":
        valid = _AUTHORITY_FORM.fullmatch(target) is not None
    elif target == b"*":
        valid = method == b"OPTIONS"  # RFC 9112 section 3.2.4
    elif target.startswith(b"/"):
        valid = True
    else:
        valid = _ABSOLUTE_FORM.fullmatch(target) is not None
    if not valid:
        raise HandshakeRefused(400, f"malformed request target: {_shown(target)}")
    return method, target, version


def _parse_fields(wire: bytes, version: bytes) -> dict[bytes, bytes]:
    """Check header fields and return them by their lowercase names.

    :param wire: the fields, each with a CRLF before it.
    :param version: the HTTP version of the request.
    """
    try:
        # llhttp gets a request line that it accepts in any case, because only the header lines are to be checked.
        HttpRequestParser(None).feed_data(b"GET / HTTP/1.1" + wire + b"\r\n\r\n")
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise HandshakeRefused(400, f"malformed header: {error}") from error
    fields: dict[bytes, bytes] = {}
    repeated: dict[bytes, list[bytes]] = {}
    for line in wire.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        lower = name.lower()
        value = value.strip(b" \t")
        if lower in fields:
            if lower in _SINGLE_FIELDS:
                raise HandshakeRefused(400, f"more than one {name.decode()} header")
            repeated.setdefault(lower, [fields[lower]]).append(value)
        else:
            fields[lower] = value
    for lower, values in repeated.items():
        fields[lower] = (b"; " if lower == b"cookie" else b",").join(values)  # as `Headers` joins them
    host = fields.get(b"host")
    if host is None and version != b"1.0":  # RFC 9112 section 3.2, for this and the next check
        raise HandshakeRefused(400, "the Host header is missing")
    if host and not _VALID_HOST.fullmatch(host):
        raise HandshakeRefused(400, "malformed Host header")
    length = fields.get(b"content-length")
    if b"transfer-encoding" in fields or not (length is None or (length and not length.strip(b"0"))):
        raise HandshakeRefused(400, "the request must not have a body")
    return fields
