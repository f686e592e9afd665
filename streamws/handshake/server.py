"""The server's side of the opening handshake (RFC 6455 section 4.2), and its error responses."""

import binascii
import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from ..errors import HandshakeRefused, UsageError
from ..options import Compression
from .agreement import Agreement, check_subprotocols
from .extensions import accept_offer
from .head import Accept, Request, Response
from .headers import encode_field, is_token
from .url import ascii_host, bracketed

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_ACCEPT = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_ORIGIN = re.compile(r"([a-z][a-z0-9+.\-]*)://(\[[0-9a-f:.]+\]|[a-z0-9\-._~!$&'()*+,;=%]*)(?::([0-9]{1,5}))?")
_Origin = tuple[str, str, int | None]  # scheme, host and port, normalized; None is the default port of the scheme
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_WEB = ("http", "https")
"""The schemes of pages that come from a web server. A page with another scheme and the name of this host does not, for
example a page of a browser extension."""


@attrs.frozen
class Policy:
    """Which clients a server accepts, and what it agrees to.

    :param origins: the origins of web pages that may connect, in addition to pages of the server's own host. Each is
        like "https://example.org", or "null", or "file://". "*" allows all; None allows no others.
    :param subprotocols: the subprotocols that the server supports, in order of preference.
    :param server_header: the Server field of the 101 response; None for no such field.
    :param compression: the settings for permessage-deflate; None for no compression.
    :param hosts: the names and addresses of the server, without ports; None allows any Host.
    :raises ValueError: if an argument is not valid; the message says which one and why.
    """

    origins: Sequence[str] | Literal["*"] | None = None
    subprotocols: Sequence[str] = ()
    server_header: str | None = None
    compression: Compression | None = None
    hosts: Sequence[str] | None = None
    _allowed_origins: frozenset[_Origin | str] = attrs.field(init=False, repr=False, eq=False)
    _allowed_hosts: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    server_field: bytes = attrs.field(init=False, repr=False, eq=False)
    """The Server field as bytes, with a CRLF before it; empty for no such field."""

    def __attrs_post_init__(self) -> None:
        allowed: set[_Origin | str] = set()
        if self.origins is not None and self.origins != "*":
            if isinstance(self.origins, str):
                raise ValueError(f'origins must be "*" or a list such as ["https://example.org"], not {self.origins!r}')
            object.__setattr__(self, "origins", tuple(self.origins))
            for text in self.origins:
                if text == "*":
                    raise ValueError('"*" must not be in a list of origins: write origins="*"')
                if text is None:  # as with websockets
                    raise ValueError("leave None out of origins: a request without Origin is always accepted")
                origin = text if text == "null" else _parse_origin(text)
                if origin is None:
                    raise ValueError(f'{text!r} in origins must be like "https://host[:port]", or "null", or "file://"')
                allowed.add(origin)
        if self.hosts is not None:
            if isinstance(self.hosts, str) or not self.hosts:
                raise ValueError(f'hosts must be a list such as ["example.org"], not {self.hosts!r}')
            object.__setattr__(self, "hosts", tuple(self.hosts))
        object.__setattr__(self, "_allowed_hosts", frozenset(map(_parse_host, self.hosts or ())))
        object.__setattr__(self, "subprotocols", check_subprotocols(self.subprotocols))
        server_field = b"" if self.server_header is None else encode_field("Server", self.server_header)
        object.__setattr__(self, "_allowed_origins", frozenset(allowed))
        object.__setattr__(self, "server_field", server_field)

    def check_host(self, request: Request) -> None:
        """Check whether the `Host` of a request is a name of this server.

        The owner of a page can let its name point to the address of this server (DNS rebinding). Its origin then equals
        the `Host`.

        :raises HandshakeRefused: with 400, if it is another name (RFC 9110 section 7.4).
        """
        name = _host_name(request.host)
        if name is None or name.removesuffix(".") not in self._allowed_hosts:
            raise HandshakeRefused(
                400, f"Host {_shown(request.host)} is not allowed: it is not in the hosts= of the server"
            )

    def check_origin(self, text: str, request: Request) -> None:
        """Check whether a page of the origin `text` may connect (RFC 6455 section 10.2).

        :raises HandshakeRefused: with 403, if it may not.
        """
        if self.origins == "*":
            return
        shown = _shown(text)
        if text == "null":  # what browsers send for sandboxed pages, local files and some redirects
            allowed = text in self._allowed_origins
        else:
            origin = _parse_origin(text)
            if origin is None:
                raise HandshakeRefused(403, f"malformed Origin {shown}")
            same_host = origin[0] in _WEB and origin[1] == _host_name(request.host)
            allowed = same_host or origin in self._allowed_origins
        if not allowed:
            raise HandshakeRefused(
                403, f"Origin {shown} is not allowed: it is neither this host nor in the origins= of the server"
            )

    def choose_subprotocol(self, offered: Sequence[str]) -> str | None:
        """Return the server's preferred subprotocol among those offered; None if it supports none of them."""
        for name in self.subprotocols:
            if name in offered:
                return name
        return None


def _parse_origin(text: str) -> _Origin | None:
    """Parse and normalize an origin (RFC 6454 section 4); return None if it is malformed."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, name, digits = match.groups()
    host = _normalize_host(name)
    port = int(digits) if digits else None
    if host is None or (port is not None and port > 65535):
        return None
    if not host and (scheme in _DEFAULT_PORTS or digits):
        return None  # only pages that do not come from a web server have no host, such as "file://"
    return scheme, host, None if port == _DEFAULT_PORTS.get(scheme) else port


def _parse_host(text: str) -> str:
    """Return a name or address of the server as `_host_name` does.

    :raises ValueError: if it is not a name or an address, or has a port.
    """
    host = ascii_host(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    if host is None:
        raise ValueError(f'{text!r} in hosts must be a host name or an IP address without a port, like "example.org"')
    return bracketed(host).lower().removesuffix(".")


def _shown(text: str) -> str:
    """Return a peer's text for an error message: quoted and not long."""
    return repr(text[:80]) + ("..." if len(text) > 80 else "")


def _normalize_host(name: str) -> str | None:
    """Return a host in lowercase and an IPv6 address in its short form; None if the address is malformed."""
    if not name.startswith("["):
        return name.lower()
    try:
        return f"[{ipaddress.IPv6Address(name[1:-1])}]"
    except ValueError:
        return None


def _host_name(authority: str) -> str | None:
    """Return the normalized host of "host[:port]"."""
    return _normalize_host(authority if authority.endswith("]") else authority.rpartition(":")[0] or authority)


# Requests -------------------------------------------------------------------------------------------------------


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return binascii.b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def accept_request(
    request: Request, fields: Mapping[bytes, bytes], policy: Policy, accept: Accept | None = None
) -> Agreement:
    """Check a client's opening handshake and accept it (RFC 6455 sections 4.2.1 and 4.2.2).

    The HTTP version, the host and the origin are checked first: a page that may not connect learns nothing else.

    :param request: the client's request.
    :param fields: its header fields, as `RequestReader.fields`.
    :param policy: which clients the server accepts, and what it agrees to.
    :param accept: what the application adds to the response.
    :raises HandshakeRefused: if it is not a valid opening handshake, or the policy does not allow it.
    :raises UsageError: if the application chose a subprotocol that the client does not offer.
    """
    if request.version != "1.1":
        raise HandshakeRefused(505, f"HTTP/{request.version} is not supported; use HTTP/1.1")
    if policy.hosts is not None:
        policy.check_host(request)
    origin = fields.get(b"origin")
    # The host of an absolute target takes precedence over `Host`.
    if origin is not None and not (request.target[:1] == "/" and _is_page_of(origin, fields.get(b"host", b""))):
        policy.check_origin(origin.decode("latin-1"), request)
    if request.method != "GET":
        raise HandshakeRefused(
            405, f"method {request.method:.20} is not allowed; a WebSocket handshake is a GET", (("Allow", "GET"),)
        )
    if not _has_token(fields.get(b"upgrade", b""), b"websocket"):
        raise _upgrade_required("this is a WebSocket endpoint: the request lacks Upgrade: websocket")
    if not _has_token(fields.get(b"connection", b""), b"upgrade"):
        raise _upgrade_required("this is a WebSocket endpoint: the request lacks Connection: Upgrade")
    if fields.get(b"sec-websocket-version") != b"13":
        raise _upgrade_required("Sec-WebSocket-Version must be 13")
    key = fields.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    response = _ACCEPT + accept_key(key)
    subprotocol = None
    offered: list[str] = []
    if b"sec-websocket-protocol" in fields:
        offered = _parse_subprotocols(fields[b"sec-websocket-protocol"].decode("latin-1"))
        subprotocol = policy.choose_subprotocol(offered)
    if accept is not None and accept.subprotocol is not None:
        subprotocol = accept.subprotocol
        if subprotocol not in offered:  # RFC 6455 section 4.1: the client would fail the handshake
            shown = ", ".join(offered) or "none"
            raise UsageError(
                f"@socket.request chose the subprotocol {subprotocol!r}, but the client offers {shown:.200}: "
                "choose one of request.subprotocols, or refuse the request"
            )
    if subprotocol is not None:
        response += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode()
    terms = None
    if policy.compression is not None and b"sec-websocket-extensions" in fields:
        try:
            accepted = accept_offer(fields[b"sec-websocket-extensions"].decode("latin-1"), policy.compression)
        except ValueError as error:  # RFC 6455 section 9.1: a malformed field fails the handshake
            raise HandshakeRefused(400, str(error)) from error
        if accepted is not None:
            answer, terms = accepted
            response += b"\r\nSec-WebSocket-Extensions: " + answer.encode()
    if accept is not None:
        response += accept.headers.wire
    if accept is None or "Server" not in accept.headers:
        response += policy.server_field
    return Agreement(response, subprotocol, terms)


def _is_page_of(origin: bytes, host: bytes) -> bool:
    """Return whether an origin is exactly `http://` or `https://` and the `Host`. This is the usual case."""
    return origin in (b"https://" + host, b"http://" + host) and host[:1] not in (b"", b":")


def _has_token(value: bytes, token: bytes) -> bool:
    """Return whether a list contains a token, which is given in lowercase (RFC 9110 section 5.6.1)."""
    value = value.lower()
    return value == token or token in [item.strip(b" \t") for item in value.split(b",")]


def _parse_subprotocols(value: str) -> list[str]:
    """Return the names in a Sec-WebSocket-Protocol field, ignoring empty items (RFC 9110 section 5.6.1.2)."""
    names = [name for item in value.split(",") if (name := item.strip(" \t"))]
    if not names or not all(map(is_token, names)):
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol must be a list of tokens")
    if len(set(names)) < len(names):  # RFC 6455 section 4.1: each name may occur once
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol has a name twice")
    return names


# Error responses ------------------------------------------------------------------------------------------------


def _upgrade_required(reason: str) -> HandshakeRefused:
    # RFC 9110 sections 15.5.22 and 7.8: a 426 must have Upgrade, and Connection must then list Upgrade.
    return HandshakeRefused(
        426,
        reason,
        (("Upgrade", "websocket"), ("Connection", "Upgrade, close"), ("Sec-WebSocket-Version", "13")),
    )


def error_response(error: HandshakeRefused) -> Response:
    """Return the response to a refused request, with the reason as its body."""
    return Response(error.status, error.reason + "\n", error.headers)


def full_response(retry_after: int = 5) -> Response:
    """Return a 503 for a server that has `Limits.max_clients` clients.

    :param retry_after: the seconds after which the client may try again.
    """
    return Response(503, "the server is full; try again later\n", {"Retry-After": str(retry_after)})


def crowded_response(retry_after: int = 5) -> Response:
    """Return a 429 for a client whose address has too many connections or handshakes (RFC 6585 section 4).

    :param retry_after: the seconds after which the client may try again.
    """
    return Response(429, "too many connections from your address; try again later\n", {"Retry-After": str(retry_after)})


def stopping_response() -> Response:
    """Return a 503 for a server that is stopping."""
    return Response(503, "the server is shutting down; try again later\n", {"Retry-After": "5"})


def timeout_response() -> Response:
    """Return a 408 for a request that was not complete within `Timeouts.open`."""
    return Response(408, "the request took too long\n")


def failure_response() -> Response:
    """Return a 500 for a request on which a callback of the application raised."""
    return Response(500, "the server failed to handle the request\n")
