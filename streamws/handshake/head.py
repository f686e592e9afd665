"""HTTP messages as values (request, response, their header fields), and the reader of a request's head.

httptools (llhttp) judges the header section: bare LF, folded lines, space before the colon, control
characters. The request line is judged here, since llhttp knows a closed list of methods and changes its state
for some of them; so are the limits, and the rules of RFC 9112 about single fields, Host and bodies.
"""

import re
from http import HTTPStatus

import attrs
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..errors import HandshakeRefused, InvalidHeader, UsageError
from ..options import Limits
from .headers import TCHAR, HeaderFields, Headers, encode_field, is_token

__all__ = ["HeadReader", "HeaderFields", "Headers", "Request", "Response", "is_token"]

_METHOD = TCHAR.encode() + b"+"
# RFC 3986 section 3.2, without userinfo
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::[0-9]*)?"


@attrs.frozen
class Request:
    """A request as the client sent it."""

    method: str
    """Such as "GET"; case matters."""
    target: str
    """The request target as sent: a path with its query, or an absolute URI (RFC 9112 section 3.2)."""
    headers: Headers
    version: str = "1.1"
    """The HTTP version; the server's reader refuses every other one."""

    @property
    def path(self) -> str:
        """The target's path, as sent (percent-encoded): what stands before the "?"."""
        return self._origin_form.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the first "?" of the target; empty if there is none."""
        return self._origin_form.partition("?")[2]

    @property
    def host(self) -> str:
        """The host that the client means, with its port if it gave one.

        That of an absolute target counts more than the Host field (RFC 9112 section 3.2.2).
        """
        if self.target.startswith("/") or "://" not in self.target:
            return self.headers.get("Host", "")
        return re.split("[/?]", self.target.partition("://")[2], maxsplit=1)[0]

    @property
    def _origin_form(self) -> str:
        if self.target.startswith(("/", "*")):
            return self.target
        if self.method == "CONNECT":  # its target is an authority, without a path
            return ""
        behind = self.target.partition("://")[2]
        start = re.search("[/?]", behind)
        rest = behind[start.start() :] if start else ""
        return rest if rest.startswith("/") else "/" + rest  # RFC 9110 section 4.2.3: no path means "/"


# The names of RFC 9110, which the standard library learned in Python 3.13.
_PHRASES = {s.value: s.phrase for s in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


@attrs.frozen(init=False)
class Response:
    """An answer to a request.

    Args:
        status: 200 to 599.
        body: text is sent as UTF-8 and labelled text/plain, unless `content_type` or `headers` say otherwise.
        headers: further fields. Content-Length and `Connection: close` are added when it is sent.
        content_type: the Content-Type field.

    Raises:
        ValueError: the status is out of range, or has no body and was given one.
        InvalidHeader: a field would break the message.
    """

    status: int
    headers: Headers
    body: bytes

    def __init__(
        self,
        status: int,
        body: str | bytes = b"",
        headers: HeaderFields = (),
        *,
        content_type: str | None = None,
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"a response has a status from 200 to 599, not {status}")
        if body and status in (204, 205, 304):  # RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5
            raise ValueError(f"a response with status {status} has no body")
        content = body.encode() if isinstance(body, str) else bytes(memoryview(body))
        fields = Headers(headers)
        if fields.get("Content-Length", str(len(content))) != str(len(content)):
            raise InvalidHeader(f"Content-Length is not the length of the body, {len(content)}; leave it out")
        if "Transfer-Encoding" in fields:
            raise InvalidHeader("Transfer-Encoding is not supported; the body is sent as it is")
        if content_type is not None and "Content-Type" in fields:
            raise InvalidHeader("Content-Type is given twice, in headers= and as content_type=")
        if content_type is None and isinstance(body, str) and body and "Content-Type" not in fields:
            content_type = "text/plain; charset=utf-8"
        if content_type is not None:
            fields = Headers.from_wire(fields.wire + encode_field("Content-Type", content_type))
        self._set(status, fields, content)

    @classmethod
    def from_wire(cls, status: int, headers: Headers, body: bytes = b"") -> "Response":
        """A response that was received or built by streamws itself; it is not checked, and may be a 101."""
        response: Response = cls.__new__(cls)
        response._set(status, headers, body)
        return response

    def _set(self, status: int, headers: Headers, body: bytes) -> None:
        object.__setattr__(self, "status", status)
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "body", body)

    @property
    def reason(self) -> str:
        """The standard reason phrase of the status; empty for a status without one."""
        return _PHRASES.get(self.status, "")

    def encode(self, method: str = "GET") -> bytes:
        """The response as bytes.

        Args:
            method: the method of the request; the answer to HEAD has the same fields and no body.
        """
        parts = [f"HTTP/1.1 {self.status} {self.reason}".encode(), self.headers.wire]
        # RFC 9110 section 8.6: none in 1xx and 204, and in 304 it would be the length of another body.
        if self.status >= 200 and self.status not in (204, 304) and "Content-Length" not in self.headers:
            parts.append(b"\r\nContent-Length: %d" % len(self.body))
        if self.status != 101 and "Connection" not in self.headers:
            parts.append(b"\r\nConnection: close")
        parts.append(b"\r\n\r\n")
        if method != "HEAD":
            parts.append(self.body)
        return b"".join(parts)


def _quote(text: bytes) -> str:
    """Bytes of a peer for a message: printable, and not long."""
    return repr(text[:80])[1:] + ("..." if len(text) > 80 else "")


_ORIGIN_FORM = re.compile(rb"(?!CONNECT )(" + _METHOD + rb') (/[!"$-~]*) HTTP/1\.1(?=\r\n)')
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb') ([!"$-~]+) HTTP/([0-9]\.[0-9])')
_VERSION = re.compile(rb" HTTP/[0-9]\.[0-9]$")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?|wss?)://(" + _HOST + rb")(?:[/?].*)?")
_AUTHORITY_FORM = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[^/?:\[\]@]+):[0-9]+")


def _read_request_line(line: bytes) -> tuple[bytes, bytes]:
    """The method and the target of a request line without its CRLF, in any form (RFC 9112 section 3)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if line.count(b" ") == 1 and not _VERSION.search(line):
            raise HandshakeRefused(400, f"the request line has no HTTP version: {_quote(line)}")
        raise HandshakeRefused(400, f"malformed request line: {_quote(line)}")
    method, target, version = match.groups()
    if version != b"1.1":
        raise HandshakeRefused(505, f"HTTP/{version.decode()} is not supported; use HTTP/1.1")
    if method == b"CONNECT":
        good = _AUTHORITY_FORM.fullmatch(target) is not None
    elif target == b"*":
        good = method == b"OPTIONS"  # RFC 9112 section 3.2.4
    elif target.startswith(b"/"):
        good = True
    else:
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        # RFC 9110 section 4.2.1: without a host it is invalid
        good = absolute is not None and not absolute[1].startswith(b":") and absolute[1] != b""
    if not good:
        raise HandshakeRefused(400, f"malformed request target: {_quote(target)}")
    return method, target


_ONCE = re.compile(
    rb"\n(host|sec-websocket-key|sec-websocket-version|content-length|transfer-encoding):", re.IGNORECASE
)
_GOOD_HOST = re.compile(rb"\r\n(?i:host):[ \t]*" + _HOST + rb"[ \t]*(?:\r\n|$)")
_NO_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*0+[ \t]*(?:\r\n|$)")


def _read_head(head: bytes) -> Request:
    """The request of a whole head, final empty line included."""
    match = _ORIGIN_FORM.match(head)
    if match is not None:
        method, target = match.groups()
        end = match.end()
    else:
        end = head.index(b"\r\n")
        method, target = _read_request_line(head[:end])
    try:
        HttpRequestParser(None).feed_data(b"GET / HTTP/1.1" + head[end:])
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise HandshakeRefused(400, f"malformed header: {error}") from error
    wire = head[end:-4]
    seen: set[bytes] = set()
    for name in _ONCE.findall(wire):
        folded = name.lower()
        if folded in seen:
            raise HandshakeRefused(400, f"more than one {name.decode()} header")
        seen.add(folded)
    if b"host" not in seen:  # RFC 9112 section 3.2, for this and the next
        raise HandshakeRefused(400, "the Host header is missing")
    if not _GOOD_HOST.search(wire):
        raise HandshakeRefused(400, "malformed Host header")
    if b"transfer-encoding" in seen or (b"content-length" in seen and not _NO_LENGTH.search(wire)):
        raise HandshakeRefused(400, "the request has a body; none is taken here")
    return Request(method.decode("ascii"), target.decode("ascii"), Headers.from_wire(wire))


_FIRST = re.compile(b"[\\r\\n]|" + TCHAR.encode())
_TLS_HANDSHAKE = 0x16  # the content type of the record that a ClientHello comes in, RFC 8446 section 5.1


class HeadReader:
    """Reads one request's head, in whatever pieces it comes.

    The verdict does not depend on the pieces: what is wrong first in the stream decides. A limit is enforced
    by the byte that goes over it, whether or not the line ends.

    Args:
        limits: of these, `max_request_line` and `max_header_line` (each without its CRLF), `max_headers` and
            `max_head` (with the final empty line) hold here.
    """

    __slots__ = ("_buffer", "_count", "_done", "_limits", "_line", "_searched", "_start", "rest")

    rest: bytes
    """What came behind the head; empty until the head is complete."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._start = 0  # where the request line begins
        self._line = 0  # where the line under way begins
        self._searched = 0  # up to here there is no LF in it
        self._count = 0  # complete header lines
        self._done = False
        self.rest = b""

    def feed(self, data: bytes) -> Request | None:
        """Take the next bytes.

        Args:
            data: what came from the network.

        Returns:
            The request when its head is complete, None before.

        Raises:
            HandshakeRefused: the head is malformed, over a limit or not HTTP/1.1; more bytes are of no use.
            UsageError: the head was complete already.
        """
        if self._done:
            raise UsageError("this request's head is complete; what came behind it is in .rest")
        if not self._buffer:
            request = self._read_at_once(data)
            if request is not None:
                return request
        self._buffer += data
        end = self._scan()
        if not end:
            return None
        request = _read_head(bytes(self._buffer[self._start : end]))
        self._finish(bytes(self._buffer[end:]))
        self._buffer = bytearray()
        return request

    def _finish(self, rest: bytes) -> None:
        self._done = True
        self.rest = rest

    def _read_at_once(self, data: bytes) -> Request | None:
        """The request of a head that is whole, good and too short to be over a limit; else None."""
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
            request = _read_head(data[:end])
        except HandshakeRefused:
            return None  # `_scan` tells which rule was broken first
        self._finish(data[end:])
        return request

    def _scan(self) -> int:
        """Hold the limits line by line, as far as the bytes go; returns where the head ends, 0 before."""
        limits = self._limits
        buffer = self._buffer
        while True:
            window = min(len(buffer), limits.max_head)
            newline = buffer.find(b"\n", self._searched, window)
            end = window if newline < 0 else newline
            ends_in_cr = end > self._line and buffer[end - 1] == 0x0D
            # A CR at the end of an open line may be the first half of its CRLF, and does not count yet.
            length = end - self._line - ends_in_cr
            in_request_line = self._line == self._start
            if in_request_line:
                if len(buffer) > self._start and not _FIRST.match(buffer, self._start):
                    raise _not_http(buffer[self._start])
                if length > limits.max_request_line:
                    raise HandshakeRefused(414, f"the request line is over {limits.max_request_line} bytes")
            elif length:
                if self._count == limits.max_headers:
                    raise HandshakeRefused(431, f"more than {limits.max_headers} header lines")
                if length > limits.max_header_line:
                    raise HandshakeRefused(431, f"a header line is over {limits.max_header_line} bytes")
            if newline < 0:
                self._searched = window
                if len(buffer) > limits.max_head:
                    raise HandshakeRefused(431, f"the request's head is over {limits.max_head} bytes")
                return 0
            if not ends_in_cr:
                raise HandshakeRefused(400, "a line ends in LF without CR")
            if not in_request_line:
                if not length:
                    return newline + 1
                self._count += 1
            elif newline == 1:
                self._start = 2  # RFC 9112 section 2.2: one empty line before the request is passed over
            else:
                _read_request_line(bytes(buffer[self._line : newline - 1]))
            self._line = self._searched = newline + 1


def _not_http(first: int) -> HandshakeRefused:
    """The refusal of a stream whose first byte cannot begin a request."""
    if first == _TLS_HANDSHAKE:
        return HandshakeRefused(400, "this port speaks plain ws://; the client began a TLS handshake")
    return HandshakeRefused(400, f"this is not HTTP: the first byte is 0x{first:02x}")
