"""The opening handshake on the client's side (RFC 6455 section 4.1): the request, and what the answer must be."""

import html
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from http import HTTPStatus

import attrs
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..errors import HandshakeRefused, InvalidHandshake, InvalidHeader, ProxyError
from ..options import Compression, Limits
from .extensions import DeflateTerms, check_answer, make_offers
from .head import Request, Response
from .headers import HeaderFields, Headers, encode_field, is_token
from .server import accept_key
from .url import Url, basic_authorization, bracketed

BODY_SIZE = 64 * 1024
"""Bytes that are read of the body of an answer that refuses."""

_RESERVED = re.compile(
    rb"\r\n(upgrade|connection|sec-websocket-[^:]*|content-length|transfer-encoding):", re.IGNORECASE
)


@attrs.frozen
class Offer:
    """What a client asks for, beside the URL."""

    headers: Headers
    """Further fields of the request; Host, User-Agent and Authorization among them stand instead of the usual ones."""
    origin: str | None
    user_agent: str | None
    subprotocols: tuple[str, ...]
    compression: Compression | None


def make_offer(
    headers: HeaderFields,
    origin: str | None,
    user_agent: str | None,
    subprotocols: Sequence[str],
    compression: Compression | None = None,
) -> Offer:
    """Check what the application wants to send.

    :raises InvalidHeader: if a field would break the request, or belongs to the handshake itself.
    :raises ValueError: if the subprotocols are not different tokens.
    """
    fields = Headers(headers)
    reserved = _RESERVED.search(fields.wire)
    if reserved is not None:
        name = reserved[1].decode()
        whence = ", from the subprotocols that it is given" if name.lower() == "sec-websocket-protocol" else ""
        raise InvalidHeader(f"{name} in the request is set by streamws alone{whence}")
    if origin is not None and "Origin" in fields:
        raise InvalidHeader("Origin is given twice, in headers= and as origin=")
    for name, value in (("Origin", origin), ("User-Agent", user_agent)):
        if value is not None:
            encode_field(name, value)  # raises what is to be raised before anything is connected
    if isinstance(subprotocols, str):
        raise ValueError(f"subprotocols is a list of names, not {subprotocols!r}")
    for name in subprotocols:
        if not is_token(name):
            raise ValueError(f"{name!r} in subprotocols is not a token of RFC 9110")
    if len(set(subprotocols)) < len(subprotocols):
        raise ValueError(f"subprotocols names one twice: {list(subprotocols)!r}")
    return Offer(fields, origin, user_agent, tuple(subprotocols), compression)


@attrs.frozen
class Handshake:
    """A request as it is to be sent."""

    request: Request
    key: bytes
    """The Sec-WebSocket-Key, fresh for each handshake."""
    subprotocols: tuple[str, ...]
    compression: Compression | None

    @property
    def encoded(self) -> bytes:
        return f"GET {self.request.target} HTTP/1.1".encode() + self.request.headers.wire + b"\r\n\r\n"


def begin(url: Url, offer: Offer) -> Handshake:
    """The request for a URL."""
    key = b64encode(os.urandom(16))
    fields = [
        ("Host", url.authority),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key.decode()),
        ("Sec-WebSocket-Version", "13"),
    ]
    if offer.subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(offer.subprotocols)))
    if offer.compression is not None:
        fields.append(("Sec-WebSocket-Extensions", make_offers(offer.compression)))
    if offer.origin is not None:
        fields.append(("Origin", offer.origin))
    if offer.user_agent is not None:
        fields.append(("User-Agent", offer.user_agent))
    if url.credentials is not None:
        fields.append(("Authorization", basic_authorization(url.credentials)))
    own = [(name, value) for name, value in fields if name not in offer.headers]
    headers = Headers.from_wire(Headers(own).wire + offer.headers.wire)
    return Handshake(Request("GET", url.target, headers), key, offer.subprotocols, offer.compression)


@attrs.frozen
class Agreement:
    """A handshake that succeeded."""

    response: Response
    subprotocol: str | None
    terms: DeflateTerms | None
    """What was agreed on of compression."""


def check(handshake: Handshake, response: Response) -> Agreement:
    """Hold the server's answer against the request (RFC 6455 section 4.1).

    :raises HandshakeRefused: for a status other than 101.
    :raises InvalidHandshake: for a 101 that is none of a WebSocket server.
    """
    if response.status != 101:
        raise refused(response)
    headers = response.headers
    if headers.get("Upgrade", "").encode().lower() != b"websocket":  # bytes: of ASCII alone case does not matter
        raise _invalid(response, "its Upgrade field is not websocket")
    if "upgrade" not in [token.strip(" \t").lower() for token in headers.get("Connection", "").split(",")]:
        raise _invalid(response, "its Connection field lacks Upgrade")
    accept = headers.get_all("Sec-WebSocket-Accept")
    if accept != (accept_key(handshake.key).decode(),):
        raise _invalid(response, "Sec-WebSocket-Accept does not fit the key that was sent")
    extensions = headers.get("Sec-WebSocket-Extensions", "")
    terms = None
    if extensions and handshake.compression is None:
        raise _invalid(response, f"it uses an extension that was not offered: {extensions!r:.80}")
    if handshake.compression is not None:
        try:
            terms = check_answer(extensions, handshake.compression)
        except ValueError as error:
            raise _invalid(response, str(error)) from error
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or (chosen and chosen[0] not in handshake.subprotocols):
        raise _invalid(response, f"it speaks a subprotocol that was not offered: {', '.join(chosen)!r:.80}")
    return Agreement(response, chosen[0] if chosen else None, terms)


def refused(response: Response) -> HandshakeRefused:
    """The error for an answer other than 101."""
    status = response.status
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    return HandshakeRefused(status, _sentence(response), response.headers, response.body, phrase)


def _invalid(response: Response, why: str) -> InvalidHandshake:
    message = f"the server's answer is none of a WebSocket server: {why}"
    return InvalidHandshake(message, response.status, response.headers, response.body)


_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_WANTS_TLS = re.compile(r"plain HTTP request was sent|HTTP request to an HTTPS|plain HTTP to an SSL", re.IGNORECASE)
"""What nginx, Go's net/http and Apache say on a port that speaks TLS."""


def _sentence(response: Response) -> str:
    """What a body says, if it is text that a person can read."""
    kind = response.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    body = response.body.decode("utf-8", "replace")
    title = _TITLE.search(body) if "html" in kind else None
    if body and encoding != "identity":  # no one asked for that, but some do it
        said = f"the answer's body is {_one_line(kind)} in {_one_line(encoding)}"
    elif title is not None:
        said = _one_line(html.unescape(title[1]))
    elif kind in ("text/plain", "application/json") or kind.endswith("+json"):
        said = _one_line(body)
    elif body:
        said = f"the answer's body is {_one_line(kind)}"
    else:
        said = ""
    if response.status == 400 and _WANTS_TLS.search(body):
        said += " (this port speaks TLS: use wss://)"
    return said or "the answer has no body"


def _one_line(text: str) -> str:
    """What a peer wrote, printable and not too much of it."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:1000]).split())
    return line[:200] + "..." if len(line) > 200 else line


# Reading the answer ---------------------------------------------------------------------------------------------

_MOST_INTERIM = 10
_BARE_LF = re.compile(rb"(?<!\r)\n")


class ResponseReader:
    """Reads one response, in whatever pieces it comes: its head, and of its body up to 64 KiB.

    httptools (llhttp) judges it. Interim answers (1xx other than 101) are passed over.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_complete",
        "_connect",
        "_count",
        "_head",
        "_head_judged",
        "_interim",
        "_limits",
        "_line",
        "_parser",
        "_searched",
        "rest",
    )

    rest: bytes
    """What came behind a head that ends HTTP on the connection: of a 101, or of a proxy's 2xx."""

    def __init__(self, limits: Limits, *, connect: bool = False) -> None:
        """`connect`: the request was CONNECT, so that a 2xx has no body (RFC 9110 section 9.3.6)."""
        self._limits = limits
        self._connect = connect
        self._buffer = bytearray()
        self._line = 0  # where the line under way begins
        self._searched = 0  # up to here there is no LF in it
        self._count = 0  # complete header lines
        self._interim = 0
        self._parser = HttpResponseParser(self)
        self._head: Response | None = None
        self._body = bytearray()
        self._head_judged = False  # whether httptools has taken the head
        self._complete = False  # whether the body is
        self.rest = b""

    def feed(self, data: bytes) -> Response | None:
        """Take the next bytes; the response when it is complete.

        :raises InvalidHandshake: if it is no HTTP, or its head is over a limit.
        """
        if self._head is None:
            self._buffer += data
            self._head = self._read_head()
            if self._head is None:
                return None
            data = bytes(self._buffer)
            if self._head.status == 101 or (self._connect and 200 <= self._head.status < 300):
                self.rest = data
                return self._head
        if data and not self._complete:
            try:
                self._parser.feed_data(data)
            except HttpParserError:
                self._complete = True  # what came of the body is better than nothing
        return self.finish() if self._complete else None

    def finish(self) -> Response | None:
        """The response as far as it has come, at the end of the connection or of patience; None without a head."""
        if self._head is None:
            return None
        return Response.from_wire(self._head.status, self._head.headers, bytes(self._body))

    @property
    def begun(self) -> bool:
        """Whether any of it has come."""
        return self._head is not None or bool(self._buffer) or self._interim > 0

    # What httptools calls
    def on_headers_complete(self) -> None:
        self._head_judged = True

    def on_body(self, part: bytes) -> None:
        self._body += part[: BODY_SIZE - len(self._body)]
        if len(self._body) == BODY_SIZE:
            self._complete = True

    def on_message_complete(self) -> None:
        self._complete = True

    def _read_head(self) -> Response | None:
        while True:
            if not self._buffer.startswith(b"HTTP/1."[: len(self._buffer)]):
                raise _not_http(bytes(self._buffer[:20]))
            end = self._scan()
            if not end:
                return None
            head = self._judge(bytes(self._buffer[:end]))
            del self._buffer[:end]
            if head.status >= 200 or head.status == 101:
                return head
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise InvalidHandshake(f"more than {_MOST_INTERIM} interim answers ({head.status}) and no other")
            self._parser = HttpResponseParser(self)
            self._complete = self._head_judged = False
            self._line = self._searched = self._count = 0

    def _scan(self) -> int:
        """Hold the limits line by line, as far as the bytes go; returns where the head ends, 0 before."""
        limits = self._limits
        buffer = self._buffer
        while True:
            window = min(len(buffer), limits.max_head)
            newline = buffer.find(b"\n", self._searched, window)
            end = window if newline < 0 else newline
            # A CR at the end of an open line may be the first half of its CRLF, and does not count yet.
            ends_in_cr = end > self._line and buffer[end - 1] == 0x0D
            length = end - self._line - ends_in_cr
            if length > limits.max_header_line:
                most = limits.max_header_line
                raise _over_limit("max_header_line", f"a line in the head of the answer is over {most} bytes")
            if self._line and length and self._count == limits.max_headers:
                raise _over_limit(
                    "max_headers", f"the head of the answer has more than {limits.max_headers} header lines"
                )
            if newline < 0:
                self._searched = window
                if len(buffer) > limits.max_head:
                    raise _over_limit("max_head", f"the head of the answer is over {limits.max_head} bytes")
                return 0
            if not ends_in_cr:
                raise InvalidHandshake("the head of the answer is malformed: a line ends in LF without CR")
            if self._line:
                if not length:
                    return newline + 1
                self._count += 1
            self._line = self._searched = newline + 1

    def _judge(self, head: bytes) -> Response:
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            if not self._head_judged:
                raise InvalidHandshake(f"the head of the answer is malformed: {error}") from error
            # Else it says that HTTP ends here, as it does for a 101 that upgrades to nothing: `check` says so better.
        status = self._parser.get_status_code()
        if status == 101 and self._parser.get_http_version() != "1.1":
            raise InvalidHandshake("the server's answer is none of a WebSocket server: a 101 in HTTP/1.0", status)
        return Response.from_wire(status, Headers.from_wire(head[head.index(b"\r\n") : -4]))


def _over_limit(limit: str, message: str) -> InvalidHandshake:
    return InvalidHandshake(f"{message} (Limits.{limit})")


def _not_http(begin: bytes) -> InvalidHandshake:
    # RFC 8446 section 5.1: an alert (0x15) or a handshake message (0x16), and the major version 3.
    if begin[0] in (0x15, 0x16) and begin[1:2] in (b"", b"\x03"):
        return InvalidHandshake("the server speaks TLS on this port: use wss://")
    return InvalidHandshake(f"the server does not speak HTTP/1.1: it begins with {begin[:20]!r}")


# Through a proxy ------------------------------------------------------------------------------------------------


def connect_request(url: Url, credentials: tuple[str, str] | None, user_agent: str | None) -> bytes:
    """The request for a tunnel to a server (RFC 9110 section 9.3.6)."""
    place = f"{bracketed(url.name)}:{url.port}"
    fields = [("Host", place)]
    if credentials is not None:
        fields.append(("Proxy-Authorization", basic_authorization(credentials)))
    if user_agent is not None:
        fields.append(("User-Agent", user_agent))
    return f"CONNECT {place} HTTP/1.1".encode() + Headers(fields).wire + b"\r\n\r\n"


def check_tunnel(response: Response, proxy: str) -> None:
    """:raises ProxyError: unless the proxy has opened the tunnel."""
    if not 200 <= response.status < 300:
        raise proxy_refused(proxy, response)


def proxy_refused(proxy: str, response: Response) -> ProxyError:
    """The error for a proxy's answer other than 2xx."""
    return ProxyError(f"the proxy {proxy} answered {refused(response)}", response.status, response.body)
