"""The opening handshake on the client's side (RFC 6455 section 4.1): the request, and what the answer must be."""

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from http import HTTPStatus

import attrs
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..errors import HandshakeRefused, InvalidHandshake, InvalidHeader, ProxyError
from ..options import Limits
from .headers import HeaderFields, Headers, encode_field, is_token
from .http import Request, Response
from .server import accept_key
from .url import Url, basic_authorization

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


def make_offer(headers: HeaderFields, origin: str | None, user_agent: str | None, subprotocols: Sequence[str]) -> Offer:
    """Check what the application wants to send.

    :raises InvalidHeader: if a field would break the request, or belongs to the handshake itself.
    :raises ValueError: if the subprotocols are not different tokens.
    """
    fields = Headers(headers)
    reserved = _RESERVED.search(fields.wire)
    if reserved is not None:
        raise InvalidHeader(f"{reserved[1].decode()} in the request is set by streamws alone")
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
    return Offer(fields, origin, user_agent, tuple(subprotocols))


@attrs.frozen
class Handshake:
    """A request as it is to be sent."""

    request: Request
    key: bytes
    """The Sec-WebSocket-Key, fresh for each handshake."""
    subprotocols: tuple[str, ...]

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
    if offer.origin is not None:
        fields.append(("Origin", offer.origin))
    if offer.user_agent is not None:
        fields.append(("User-Agent", offer.user_agent))
    if url.credentials is not None:
        fields.append(("Authorization", basic_authorization(url.credentials)))
    own = [(name, value) for name, value in fields if name not in offer.headers]
    headers = Headers.from_wire(Headers(own).wire + offer.headers.wire)
    return Handshake(Request("GET", url.target, headers), key, offer.subprotocols)


@attrs.frozen
class Agreement:
    """A handshake that succeeded."""

    response: Response
    subprotocol: str | None


def check(handshake: Handshake, response: Response) -> Agreement:
    """Hold the server's answer against the request (RFC 6455 section 4.1).

    :raises HandshakeRefused: for a status other than 101.
    :raises InvalidHandshake: for a 101 that is none of a WebSocket server.
    """
    if response.status != 101:
        raise refused(response)
    headers = response.headers
    if headers.get("Upgrade", "").lower() != "websocket":
        raise _invalid(response, "its Upgrade field is not websocket")
    if "upgrade" not in [token.strip(" \t").lower() for token in headers.get("Connection", "").split(",")]:
        raise _invalid(response, "its Connection field lacks Upgrade")
    accept = headers.get_all("Sec-WebSocket-Accept")
    if accept != (accept_key(handshake.key).decode(),):
        raise _invalid(response, "Sec-WebSocket-Accept does not fit the key that was sent")
    if headers.get("Sec-WebSocket-Extensions"):
        raise _invalid(
            response, f"it uses an extension that was not offered: {headers['Sec-WebSocket-Extensions']!r:.80}"
        )
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or (chosen and chosen[0] not in handshake.subprotocols):
        raise _invalid(response, f"it speaks a subprotocol that was not offered: {', '.join(chosen)!r:.80}")
    return Agreement(response, chosen[0] if chosen else None)


def refused(response: Response) -> HandshakeRefused:
    """The error for an answer other than 101."""
    status = response.status
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    return HandshakeRefused(status, _sentence(response), response.headers, response.body, phrase)


def _invalid(response: Response, why: str) -> InvalidHandshake:
    message = f"the server's answer is none of a WebSocket server: {why}"
    return InvalidHandshake(message, response.status, response.headers, response.body)


def _sentence(response: Response) -> str:
    """The beginning of a body, if it is text that a person can read."""
    kind = response.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    if kind not in ("text/plain", "application/json", "application/problem+json"):
        return f"the answer's body is {kind}" if response.body else "the answer has no body"
    text = response.body[:1000].decode("utf-8", "replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return (line[:200] + "..." if len(line) > 200 else line) or "the answer has no body"


# Reading the answer ---------------------------------------------------------------------------------------------

_MOST_INTERIM = 10


class ResponseReader:
    """Reads one response, in whatever pieces it comes: its head, and of its body up to 64 KiB.

    httptools (llhttp) judges it. Interim answers (1xx other than 101) are passed over.
    """

    __slots__ = ("_body", "_buffer", "_complete", "_connect", "_head", "_interim", "_limits", "_parser", "rest")

    rest: bytes
    """What came behind a head that ends HTTP on the connection: of a 101, or of a proxy's 2xx."""

    def __init__(self, limits: Limits, *, connect: bool = False) -> None:
        """`connect`: the request was CONNECT, so that a 2xx has no body (RFC 9110 section 9.3.6)."""
        self._limits = limits
        self._connect = connect
        self._buffer = b""
        self._interim = 0
        self._parser = HttpResponseParser(self)
        self._head: Response | None = None
        self._body = bytearray()
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
            data = self._buffer
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

    # What httptools calls
    def on_body(self, part: bytes) -> None:
        self._body += part[: BODY_SIZE - len(self._body)]
        if len(self._body) == BODY_SIZE:
            self._complete = True

    def on_message_complete(self) -> None:
        self._complete = True

    def _read_head(self) -> Response | None:
        while True:
            if not self._buffer.startswith(b"HTTP/1."[: len(self._buffer)]):
                raise InvalidHandshake(f"the server does not speak HTTP/1.1: it begins with {self._buffer[:20]!r}")
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end == 3:
                if len(self._buffer) > self._limits.max_head:
                    raise InvalidHandshake(f"the head of the answer is over {self._limits.max_head} bytes")
                return None
            head = self._judge(self._buffer[:end])
            self._buffer = self._buffer[end:]
            if head.status >= 200 or head.status == 101:
                return head
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise InvalidHandshake(f"more than {_MOST_INTERIM} interim answers ({head.status}) and no other")
            self._complete = False
            self._parser = HttpResponseParser(self)

    def _judge(self, head: bytes) -> Response:
        limits = self._limits
        lines = head.split(b"\r\n")[1:-2]
        if len(head) > limits.max_head or len(lines) > limits.max_headers:
            raise InvalidHandshake(f"the head of the answer has {len(lines)} lines and {len(head)} bytes: too many")
        if any(len(line) > limits.max_header_line for line in lines):
            raise InvalidHandshake(f"a header line of the answer is over {limits.max_header_line} bytes")
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise InvalidHandshake(f"the head of the answer is malformed: {error}") from error
        return Response.from_wire(self._parser.get_status_code(), Headers.from_wire(head[head.index(b"\r\n") : -4]))


# Through a proxy ------------------------------------------------------------------------------------------------


def connect_request(url: Url, credentials: tuple[str, str] | None, user_agent: str | None) -> bytes:
    """The request for a tunnel to a server (RFC 9110 section 9.3.6)."""
    fields = [("Host", url.host_and_port)]
    if credentials is not None:
        fields.append(("Proxy-Authorization", basic_authorization(credentials)))
    if user_agent is not None:
        fields.append(("User-Agent", user_agent))
    return f"CONNECT {url.host_and_port} HTTP/1.1".encode() + Headers(fields).wire + b"\r\n\r\n"


def check_tunnel(response: Response) -> None:
    """:raises ProxyError: unless the proxy has opened the tunnel."""
    if not 200 <= response.status < 300:
        raise ProxyError(f"the proxy answered {refused(response)}", response.status, response.body)
