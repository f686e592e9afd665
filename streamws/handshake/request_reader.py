"""`RequestReader`: reads the head of a client's request.

httptools (llhttp) checks the header lines: line ends, folded lines, spaces before colons, control characters. The
request line is checked here, because llhttp accepts only a fixed list of methods and treats some of them specially.
Also checked here are the limits, and the rules of RFC 9112 about Host and message bodies.
"""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..errors import HandshakeRefused, UsageError
from ..options import Limits
from .head import Request
from .headers import TCHAR, Headers
from .lines import TLS_RECORDS, HeadLines

_METHOD = TCHAR.encode() + b"+"
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::[0-9]*)?"  # RFC 3986 section 3.2, without userinfo

_FIRST_BYTE = re.compile(b"[\\r\\n]|" + TCHAR.encode())
_USUAL_REQUEST_LINE = re.compile(rb"(?!CONNECT )(" + _METHOD + rb') (/[!"$-~]*) HTTP/1\.1(?=\r\n)')
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb') ([!"$-~]+) HTTP/([0-9]\.[0-9])')
_VERSION = re.compile(rb" HTTP/[0-9]\.[0-9]$")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?|wss?)://(" + _HOST + rb")(?:[/?].*)?")
_AUTHORITY_FORM = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[^/?:\[\]@]+):[0-9]+")

_VALID_HOST = re.compile(_HOST)
_SINGLE_FIELDS = {b"host", b"sec-websocket-key", b"sec-websocket-version", b"content-length", b"transfer-encoding"}
"""The fields that a request must not have twice. The values of others are joined, as RFC 9110 section 5.3 allows."""


class RequestReader:
    """Reads the head of one request, in chunks of any size.

    :param limits: `max_request_line`, `max_header_line`, `max_headers` and `max_head` are enforced.
    """

    __slots__ = ("_complete", "_limits", "_lines", "_start", "fields", "rest")

    fields: dict[bytes, bytes]
    """The header fields by their lowercase names; empty until the head is complete."""
    rest: bytes
    """Bytes received after the head; empty until the head is complete."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: HeadLines | None = None  # unless the head arrives in one chunk
        self._start = 0  # where the request line starts
        self._complete = False
        self.fields = {}
        self.rest = b""

    def feed(self, data: bytes) -> Request | None:
        """Process the next chunk.

        :returns: the request when its head is complete, None before that.
        :raises HandshakeRefused: if the head is malformed, exceeds a limit, or is not HTTP/1.1.
        :raises UsageError: if the head was already complete.
        """
        if self._complete:
            raise UsageError("the head of this request is complete; what followed it is in .rest")
        lines = self._lines
        if lines is None:
            request = self._read_whole(data)
            if request is not None:
                return request
            lines = self._lines = HeadLines(self._limits, _bad_request)
        lines.buffer += data
        if lines.start == self._start and not self._read_request_line(lines):
            return None
        end = lines.find_head_end()
        if not end:
            return None
        request = self._parse(bytes(lines.buffer[self._start : end]))
        self.rest = bytes(lines.buffer[end:])
        self._lines = None
        return request

    def _parse(self, head: bytes) -> Request:
        """Return the request of a complete head, including its final empty line."""
        match = _USUAL_REQUEST_LINE.match(head)
        if match is not None:
            method, target = match.groups()
            end = match.end()
        else:
            end = head.index(b"\r\n")
            method, target = _parse_request_line(head[:end])
        fields = head[end:-4]
        self.fields = _parse_fields(fields)
        self._complete = True
        return Request(method.decode("ascii"), target.decode("ascii"), Headers.from_wire(fields))

    def _read_whole(self, data: bytes) -> Request | None:
        """Return the request of a head that is complete, valid and too short to exceed a limit; otherwise None."""
        limits = self._limits
        end = data.find(b"\r\n\r\n") + 4
        if (
            end == 3
            or end > limits.max_request_line
            or end > limits.max_header_line
            or end > limits.max_head
            or data.count(b"\n", 0, end) - 2 > limits.max_headers
        ):
            return None
        try:
            request = self._parse(data[:end])
        except HandshakeRefused:
            return None  # reading it line by line finds out which rule it breaks first
        self.rest = data[end:]
        return request

    def _read_request_line(self, lines: HeadLines) -> bool:
        """Check the request line as far as it has arrived; return whether it is complete."""
        while True:
            if len(lines.buffer) > lines.start and not _FIRST_BYTE.match(lines.buffer, lines.start):
                raise _not_a_request(lines.buffer[lines.start])
            newline = lines.find_line_end(self._limits.max_request_line, "max_request_line")
            if newline < 0:
                return False
            if newline == 1:  # RFC 9112 section 2.2: an empty line before the request line is ignored
                lines.next_line(newline)
                self._start = lines.start
                continue
            _parse_request_line(bytes(lines.buffer[lines.start : newline - 1]))
            lines.next_line(newline)
            return True


def _bad_request(limit: str, reason: str) -> HandshakeRefused:
    if not limit:
        return HandshakeRefused(400, reason)
    return HandshakeRefused(414 if limit == "max_request_line" else 431, reason)


def _not_a_request(first_byte: int) -> HandshakeRefused:
    if first_byte in TLS_RECORDS:
        return HandshakeRefused(400, "the client started TLS, but this port does not use TLS: connect with ws://")
    return HandshakeRefused(400, f"not an HTTP request: the first byte is 0x{first_byte:02x}")


def _shown(text: bytes) -> str:
    """Return bytes from a peer for an error message: quoted, printable and not long."""
    return repr(text[:80])[1:] + ("..." if len(text) > 80 else "")


def _parse_request_line(line: bytes) -> tuple[bytes, bytes]:
    """Return the method and the target of a request line without its CRLF, in any form of RFC 9112 section 3."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if line.count(b" ") == 1 and not _VERSION.search(line):
            raise HandshakeRefused(400, f"the request line has no HTTP version: {_shown(line)}")
        raise HandshakeRefused(400, f"malformed request line: {_shown(line)}")
    method, target, version = match.groups()
    if version != b"1.1":
        raise HandshakeRefused(505, f"HTTP/{version.decode()} is not supported; use HTTP/1.1")
    if method == b"CONNECT":
        valid = _AUTHORITY_FORM.fullmatch(target) is not None
    elif target == b"*":
        valid = method == b"OPTIONS"  # RFC 9112 section 3.2.4
    elif target.startswith(b"/"):
        valid = True
    else:
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        # RFC 9110 section 4.2.1: a URI without a host is invalid.
        valid = absolute is not None and not absolute[1].startswith(b":") and absolute[1] != b""
    if not valid:
        raise HandshakeRefused(400, f"malformed request target: {_shown(target)}")
    return method, target


def _parse_fields(wire: bytes) -> dict[bytes, bytes]:
    """Check header fields and return them by their lowercase names.

    :param wire: the fields, each with a CRLF before it.
    """
    try:
        # llhttp gets a request line that it accepts in any case, because only the header lines are to be checked.
        HttpRequestParser(None).feed_data(b"GET / HTTP/1.1" + wire + b"\r\n\r\n")
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise HandshakeRefused(400, f"malformed header: {error}") from error
    fields: dict[bytes, bytes] = {}
    for line in wire.split(b"\r\n"):
        name, _, value = line.partition(b":")
        lower = name.lower()
        value = value.strip(b" \t")
        if lower in fields:
            if lower in _SINGLE_FIELDS:
                raise HandshakeRefused(400, f"more than one {name.decode()} header")
            value = fields[lower] + b"," + value
        fields[lower] = value
    host = fields.get(b"host")
    if host is None:  # RFC 9112 section 3.2, for this and the next check
        raise HandshakeRefused(400, "the Host header is missing")
    if not _VALID_HOST.fullmatch(host):
        raise HandshakeRefused(400, "malformed Host header")
    length = fields.get(b"content-length")
    if b"transfer-encoding" in fields or not (length is None or (length and not length.strip(b"0"))):
        raise HandshakeRefused(400, "the request must not have a body")
    return fields
