"""What a server answers to an opening handshake (RFC 6455 section 4.2), and the text of every refusal."""

import binascii
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from typing import Literal

import attrs

from ..errors import HandshakeRefused, InvalidHeader
from ..options import Compression
from .extensions import DeflateTerms, accept_offer
from .head import HeaderFields, Headers, Request, Response, is_token
from .headers import encode_field

__all__ = [
    "Accept",
    "Policy",
    "Reject",
    "accept_key",
    "failed",
    "full",
    "judge",
    "refusal",
    "too_slow",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_STATUS_LINE = b"HTTP/1.1 101 Switching Protocols"
_ACCEPT = _STATUS_LINE + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "

_FIELDS = re.compile(
    rb"\r\n(upgrade|connection|origin|sec-websocket-(?:key|version|protocol|extensions)):[ \t]*([^\r]*)", re.IGNORECASE
)
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_RESERVED = re.compile(
    rb"\r\n(upgrade|connection|sec-websocket-[^:]*|content-length|transfer-encoding):", re.IGNORECASE
)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.\-]*)://(\[[0-9a-f:.]+\]|[a-z0-9\-._~!$&'()*+,;=%]+)(?::([0-9]{1,5}))?")
_Origin = tuple[str, str, int | None]  # scheme, host and port in the form that compares; no port: the default
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _fold_host(name: str) -> str | None:
    """A host name in the one form that compares; None for brackets around what is no IPv6 address."""
    if not name.startswith("["):
        return name.lower()
    try:
        return f"[{ipaddress.IPv6Address(name[1:-1])}]"
    except ValueError:
        return None


def _parse_origin(text: str) -> _Origin | None:
    """An origin of RFC 6454 section 4; None if it is malformed."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, name, digits = match.groups()
    host = _fold_host(name)
    port = int(digits) if digits else None
    if host is None or (port is not None and port > 65535):
        return None
    return scheme, host, None if port == _DEFAULT_PORTS.get(scheme) else port


def _host_name(authority: str) -> str | None:
    """The host of "host[:port]"."""
    return _fold_host(authority if authority.endswith("]") else authority.rpartition(":")[0] or authority)


@attrs.frozen
class Policy:
    """Whom a server accepts, and what it offers.

    Args:
        origins: the origins that may connect beside pages of the server's own host, such as
            "https://example.org" or "null"; "*" for any; None for no further ones.
        subprotocols: the subprotocols that the server speaks, the one it likes best first.
        server_header: the Server field of the 101 answer; None for no such field.
        compression: what it wants of permessage-deflate; None for no compression.

    Raises:
        ValueError: one of them makes no sense; the message says which and why.
    """

    origins: Sequence[str] | Literal["*"] | None = None
    subprotocols: Sequence[str] = ()
    server_header: str | None = None
    compression: Compression | None = None
    _listed: frozenset[_Origin | str] = attrs.field(init=False, repr=False, eq=False)
    answer_end: bytes = attrs.field(init=False, repr=False, eq=False)
    """The Server field as bytes, if there is one, and the end of the head."""

    def __attrs_post_init__(self) -> None:
        listed: set[_Origin | str] = set()
        if self.origins is not None and self.origins != "*":
            if isinstance(self.origins, str):
                raise ValueError(f'origins is "*" or a list such as ["https://example.org"], not {self.origins!r}')
            object.__setattr__(self, "origins", tuple(self.origins))
            for text in self.origins:
                if text == "*":
                    raise ValueError('"*" stands alone: write origins="*"')
                origin = text if text == "null" else _parse_origin(text)
                if origin is None:
                    raise ValueError(f'{text!r} in origins is neither like "https://host[:port]" nor "null"')
                listed.add(origin)
        if isinstance(self.subprotocols, str):
            raise ValueError(f"subprotocols is a list of names, not {self.subprotocols!r}")
        object.__setattr__(self, "subprotocols", tuple(self.subprotocols))
        for name in self.subprotocols:
            if not is_token(name):
                raise ValueError(f"{name!r} in subprotocols is not a token of RFC 9110")
        if len(set(self.subprotocols)) < len(self.subprotocols):
            raise ValueError(f"subprotocols names one twice: {list(self.subprotocols)!r}")
        server = b"" if self.server_header is None else encode_field("Server", self.server_header)
        object.__setattr__(self, "_listed", frozenset(listed))
        object.__setattr__(self, "answer_end", server + b"\r\n\r\n")

    def check_origin(self, text: str, request: Request) -> None:
        """Raises `HandshakeRefused` with 403 unless a page of the origin `text` may connect."""
        if self.origins == "*":
            return
        scheme, _, authority = text.partition("://")
        if scheme in ("http", "https") and authority == request.host and authority:
            return  # the usual page: of this very host and port, well-formed since the Host field is
        shown = repr(text[:80]) + ("..." if len(text) > 80 else "")
        if text == "null":  # a sandboxed page, a file, a redirect: nobody in particular
            allowed = text in self._listed
        else:
            origin = _parse_origin(text)
            if origin is None:
                raise HandshakeRefused(403, f"malformed Origin {shown}")
            allowed = origin[1] == _host_name(request.host) or origin in self._listed
        if not allowed:
            raise HandshakeRefused(
                403,
                f"Origin {shown} is not allowed: it is not of this host and not in the server's origins=",
            )

    def choose(self, offered: Sequence[str]) -> str | None:
        """The subprotocol that the server likes best among those offered; None if it speaks none of them."""
        for name in self.subprotocols:
            if name in offered:
                return name
        return None


@attrs.frozen
class Accept:
    """The handshake succeeded."""

    encoded: bytes
    """The 101 answer as it is to be sent."""
    subprotocol: str | None
    """The subprotocol that it names."""
    terms: DeflateTerms | None = None
    """What it agrees to of compression."""

    @property
    def response(self) -> Response:
        """The same answer as an object."""
        return Response.from_wire(101, Headers.from_wire(self.encoded[len(_STATUS_LINE) : -4]))


@attrs.frozen
class Reject:
    """The handshake failed."""

    response: Response
    """The answer; `response.encode(request.method)` is to be sent."""
    reason: str
    """Why, in a sentence for the log; the answer's body is the same."""


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that proves that `key` was read (RFC 6455 section 4.2.2)."""
    return binascii.b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def judge(request: Request, policy: Policy, *, headers: HeaderFields = ()) -> Accept | Reject:
    """Decide on an opening handshake.

    Args:
        request: the client's request.
        policy: what the server accepts.
        headers: further fields of the 101 answer, such as Set-Cookie.

    Returns:
        What to answer.

    Raises:
        InvalidHeader: `headers` has a field that is malformed or belongs to the handshake itself.
    """
    try:
        key, subprotocol, extension = _check(request, policy)
    except HandshakeRefused as error:
        return Reject(refusal(error), error.reason)
    encoded = _ACCEPT + accept_key(key)
    if subprotocol is not None:
        encoded += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode()
    terms = None
    if extension is not None:
        answer, terms = extension
        encoded += b"\r\nSec-WebSocket-Extensions: " + answer.encode()
    if headers:
        wire = _further(headers)
        end = b"\r\n\r\n" if b"\r\nserver:" in wire.lower() else policy.answer_end
        return Accept(encoded + wire + end, subprotocol, terms)
    return Accept(encoded + policy.answer_end, subprotocol, terms)


def _check(request: Request, policy: Policy) -> tuple[bytes, str | None, tuple[str, DeflateTerms] | None]:
    """The client's key, the chosen subprotocol, and the answer to its offers of compression with what that means.

    Raises `HandshakeRefused` (RFC 6455 section 4.2.1).
    """
    if request.method != "GET":
        raise HandshakeRefused(
            405,
            f"method {request.method:.20} is not allowed; a WebSocket handshake is a GET",
            (("Allow", "GET"),),
        )
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELDS.findall(request.headers.wire):
        folded = name.lower()
        fields[folded] = value if folded not in fields else fields[folded] + b"," + value
    if not _has_token(fields.get(b"upgrade", b""), b"websocket"):
        raise _upgrade_required("this is a WebSocket endpoint: the request lacks Upgrade: websocket")
    if not _has_token(fields.get(b"connection", b""), b"upgrade"):
        raise _upgrade_required("this is a WebSocket endpoint: the request lacks Connection: Upgrade")
    if fields.get(b"sec-websocket-version", b"").rstrip() != b"13":
        raise _upgrade_required("the WebSocket version must be 13, in Sec-WebSocket-Version")
    key = fields.get(b"sec-websocket-key", b"").rstrip()
    if not _KEY.fullmatch(key):
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    if b"origin" in fields:
        policy.check_origin(fields[b"origin"].rstrip().decode("latin-1"), request)
    subprotocol = None
    if b"sec-websocket-protocol" in fields:
        subprotocol = policy.choose(_offered(fields[b"sec-websocket-protocol"].decode("latin-1")))
    extension = None
    if policy.compression is not None and b"sec-websocket-extensions" in fields:
        try:
            extension = accept_offer(fields[b"sec-websocket-extensions"].decode("latin-1"), policy.compression)
        except ValueError as error:  # RFC 6455 section 9.1: a malformed one fails the handshake
            raise HandshakeRefused(400, str(error)) from error
    return key, subprotocol, extension


def _has_token(value: bytes, token: bytes) -> bool:
    """Whether the list `value` has `token`, which is in lower case (RFC 9110 section 5.6.1)."""
    value = value.lower()
    return value == token or token in [item.strip(b" \t") for item in value.split(b",")]


def _offered(value: str) -> list[str]:
    """The subprotocols of a list; empty items are passed over (RFC 9110 section 5.6.1.2)."""
    names = [name for item in value.split(",") if (name := item.strip(" \t"))]
    if not names or not all(map(is_token, names)):
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol must be a list of tokens")
    if len(set(names)) < len(names):  # RFC 6455 section 4.1: all of them must be unique
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol names a subprotocol twice")
    return names


def _further(headers: HeaderFields) -> bytes:
    """The application's fields of a 101 answer."""
    wire = Headers(headers).wire
    reserved = _RESERVED.search(wire)
    if reserved is not None:
        raise InvalidHeader(f"{reserved[1].decode()} in a 101 answer is set by streamws alone")
    return wire


def _upgrade_required(reason: str) -> HandshakeRefused:
    # RFC 9110 sections 15.5.22 and 7.8: a 426 has Upgrade, and who sends Upgrade names it in Connection.
    return HandshakeRefused(
        426,
        reason,
        (("Upgrade", "websocket"), ("Connection", "Upgrade, close"), ("Sec-WebSocket-Version", "13")),
    )


def refusal(error: HandshakeRefused) -> Response:
    """The answer to a refused request: the error's status and headers, and its reason as the body."""
    return Response(error.status, error.reason + "\n", error.headers)


def full(retry_after: int = 5) -> Response:
    """503, for a server that holds as many connections as it may.

    Args:
        retry_after: seconds after which the client may try again.
    """
    return Response(503, "the server is full; try again later\n", {"Retry-After": str(retry_after)})


def too_slow() -> Response:
    """408, for a client that did not finish its request in time."""
    return Response(408, "the request took too long\n")


def failed() -> Response:
    """500, for a request on which the application's own code raised."""
    return Response(500, "the server failed to handle the request\n")
