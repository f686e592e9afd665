"""The HTTP messages of an opening handshake as values: `Request` and `Response`."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol, TypeVar, cast

import attrs

from ..errors import InvalidHeader
from ..extra_info import typed_extra_info
from ..keys import Key, check_key, typed_get
from .headers import HeaderFields, Headers, encode_field, is_token, reserved_name
from .parameters import Query, parse_cookies

_T = TypeVar("_T")


class Link(Protocol):
    """The connection on which a request was received or sent."""

    @property
    def remote(self) -> tuple[str, int]:
        """The address of the client, for `Request.remote`."""

    @property
    def secure(self) -> bool:
        """Whether the client's connection is encrypted."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the transport."""


class _Derived:
    """The parsed query and cookies of a request, and the values stored with it. Most requests have none."""

    __slots__ = ("cookies", "link", "query", "values")

    def __init__(self, link: Link | None) -> None:
        self.link = link
        self.query: Query | None = None
        self.cookies: Mapping[str, str] | None = None
        self.values: dict[object, object] = {}


def origin_form(method: str, target: str) -> str:
    """Return the path and query of a request target, without the scheme and host of an absolute target."""
    if target.startswith(("/", "*")):
        return target
    if method == "CONNECT":  # the target is host and port, without a path
        return ""
    without_scheme = target.partition("://")[2]
    start = re.search("[/?]", without_scheme)
    form = without_scheme[start.start() :] if start else ""
    return form if form.startswith("/") else "/" + form  # RFC 9110 section 4.2.3: no path means "/"


@attrs.frozen(repr=False)
class Request:
    """The HTTP request of an opening handshake.

    It also stores values of the application, by `Key`. The request and its `Client` share these values: after
    `request[USER] = user` in `@socket.request`, the handler finds the user in `client[USER]`.

    :param method: the method, such as "GET". It is case-sensitive (RFC 9110 section 9.1).
    :param target: the request target as sent: a path with its query, or an absolute URI (RFC 9112 section 3.2).
    :param headers: the header fields.
    :param version: the HTTP version, "1.1" or "1.0". Only `@socket.request` can answer a request of HTTP/1.0; a
        WebSocket needs HTTP/1.1 (RFC 6455 section 4.1).
    """

    method: str
    target: str
    headers: Headers
    version: str = "1.1"
    # One attribute for two, because each one makes every handshake dearer: the connection, until something is asked of
    # the request or stored with it.
    _context: Link | _Derived | None = attrs.field(default=None, eq=False, alias="link")

    def __repr__(self) -> str:
        # Not the query and the header fields, which may contain tokens, cookies and passwords.
        return f"<Request {self.method:.20} {self.path:.200}>"

    def __copy__(self) -> "Request":
        return attrs.evolve(self)

    def __reduce__(self) -> tuple[object, ...]:
        # Pickles and deep copies hold what was sent, without the connection and the values of the application.
        return Request, (self.method, self.target, self.headers, self.version)

    @property
    def path(self) -> str:
        """The path of the target: everything before the first "?", percent-encoded as sent."""
        return origin_form(self.method, self.target).partition("?")[0]

    @property
    def query_string(self) -> str:
        """The query of the target as sent: everything after the first "?"; empty if there is none."""
        return origin_form(self.method, self.target).partition("?")[2]

    @property
    def query(self) -> Query:
        """The decoded parameters of the query. `query.get("token")` returns one value, `query.getlist("tag")` all."""
        derived = self._derive()
        if derived.query is None:
            derived.query = Query(self.query_string)
        return derived.query

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies of all Cookie fields, by name (RFC 6265). Quotes around a value are removed.

        Of several cookies with one name, the first one counts. Items that are not cookies are ignored.
        """
        derived = self._derive()
        if derived.cookies is None:
            derived.cookies = MappingProxyType(parse_cookies(self.headers.get("Cookie", "")))
        return derived.cookies

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order of preference (RFC 6455 section 1.9)."""
        offered = self.headers.get("Sec-WebSocket-Protocol", "")
        return tuple(name for item in offered.split(",") if (name := item.strip(" \t")))

    @property
    def remote(self) -> tuple[str, int]:
        """The address and port of the client; if this side is the client, those of the server, or of the proxy to it.

        This is the address of the socket's peer. If the peer is one of the server's `trusted_proxies`, it is the
        address that the proxy has forwarded, and the port is 0 unless the proxy forwards it too. If the forwarded
        address cannot be trusted, it is `("unknown", 0)`. For a Unix socket, it is the path of the socket, and 0.
        """
        link = self._link
        return ("", 0) if link is None else link.remote

    @property
    def secure(self) -> bool:
        """Whether the client uses `wss://`: this connection uses TLS, or a trusted proxy says that its client does."""
        link = self._link
        return link is not None and link.secure

    @typed_extra_info
    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection, as asyncio's transports do.

        :param name: `peername`, `sockname` or `socket`; with TLS also `peercert`, `cipher`, `compression`,
            `ssl_object` or `sslcontext`.
        :param default: returned if there is no such information, or the connection has ended.

        `peername` is the address of the socket's peer, even if that is a trusted proxy.
        """
        link = self._link
        return default if link is None else link.get_extra_info(name, default)

    def __getitem__(self, key: Key[_T]) -> _T:
        """Return the value that was stored by `key`.

        :raises KeyError: if there is none.
        :raises TypeError: if `key` is not a `Key`.
        """
        return cast(_T, self._stored(key)[key])

    def __setitem__(self, key: Key[_T], value: _T) -> None:
        """Store a value; it is also a value of the `Client`.

        :raises TypeError: if `key` is not a `Key`.
        """
        check_key(key)
        self._derive().values[key] = value

    def __delitem__(self, key: Key[_T]) -> None:
        """Remove the value that was stored by `key`.

        :raises KeyError: if there is none.
        :raises TypeError: if `key` is not a `Key`.
        """
        del self._stored(key)[key]

    def __contains__(self, key: object) -> bool:
        """Return whether a value was stored by `key`.

        :raises TypeError: if `key` is not a `Key`.
        """
        return key in self._stored(key)

    @typed_get
    def get(self, key: Key[_T], default: object = None) -> object:
        """Return the value that was stored by `key`, or `default` if there is none.

        :raises TypeError: if `key` is not a `Key`.
        """
        return self._stored(key).get(key, default)

    def _stored(self, key: object) -> dict[object, object]:
        """Check a key, and return the values; they are not made before something is stored."""
        check_key(key)
        derived = self._derived
        return {} if derived is None else derived.values

    def _bind(self, link: Link) -> None:
        """Set the connection of a new request."""
        object.__setattr__(self, "_context", link)

    @property
    def _link(self) -> Link | None:
        context = self._context
        return context.link if isinstance(context, _Derived) else context

    @property
    def _derived(self) -> _Derived | None:
        context = self._context
        return context if isinstance(context, _Derived) else None

    def _derive(self) -> _Derived:
        derived = self._derived
        if derived is None:
            derived = _Derived(self._link)
            object.__setattr__(self, "_context", derived)
        return derived

    @property
    def host(self) -> str:
        """The host that the client asks for, with the port if the client sent one.

        The host of an absolute target takes precedence over the Host field (RFC 9112 section 3.2.2).
        """
        if self.target.startswith("/") or "://" not in self.target:
            return self.headers.get("Host", "")
        return re.split("[/?]", self.target.partition("://")[2], maxsplit=1)[0]


@attrs.frozen(init=False)
class Accept:
    """Result of `@socket.request` that continues the handshake with additional header fields or a subprotocol.

    The request is then checked as usual. It may still be refused, for example because of its origin.

    :param headers: additional header fields of the 101 response. A mapping, or (name, value) pairs for several fields
        of one name, such as `Set-Cookie`. A `Server` field replaces that of the server.
    :param subprotocol: the subprotocol, one of `Request.subprotocols`. If it is not one of them, the error is logged
        and the response is a 500. By default, the server chooses one of its `subprotocols`.
    :raises InvalidHeader: if a field would break the message, or belongs to the handshake itself.
    :raises ValueError: if the subprotocol is not a token.
    """

    headers: Headers
    subprotocol: str | None

    def __init__(self, headers: HeaderFields = (), subprotocol: str | None = None) -> None:
        fields = Headers(headers)
        name = reserved_name(fields)
        if name is not None:
            instead = "; use subprotocol=" if name.lower() == "sec-websocket-protocol" else ""
            raise InvalidHeader(f"{name} must not be in headers=, streamws sets it{instead}")
        if subprotocol is not None and not is_token(subprotocol):
            raise ValueError(f"subprotocol {subprotocol!r:.80} is not a token (RFC 9110 section 5.6.2)")
        object.__setattr__(self, "headers", fields)
        object.__setattr__(self, "subprotocol", subprotocol)


# The names of RFC 9110, which the standard library only has since Python 3.13.
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def reason_phrase(status: int) -> str:
    """Return the standard reason phrase of a status code (RFC 9110 section 15); empty if it has none."""
    return _PHRASES.get(status, "")


@attrs.frozen(init=False)
class Response:
    """An HTTP response.

    A `@socket.request` callback returns one to refuse a client or to answer a plain HTTP request. `client.response` is
    the response of the opening handshake.

    :param status: the status code, 200 to 599.
    :param body: the body. Text is sent as UTF-8, with the content type `text/plain` unless `content_type` or `headers`
        set another one.
    :param headers: additional header fields. `Content-Length` and `Connection: close` are added when it is sent.
    :param content_type: the `Content-Type` field.
    :raises ValueError: if the status is out of range, or has no body (204, 205, 304) and one is given.
    :raises InvalidHeader: if a field would break the message.
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
            raise ValueError(f"the status of a response must be from 200 to 599, not {status}")
        if body and status in (204, 205, 304):  # RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5
            raise ValueError(f"a response with status {status} must not have a body")
        content = body.encode() if isinstance(body, str) else bytes(memoryview(body))
        fields = Headers(headers)
        if fields.get("Content-Length", str(len(content))) != str(len(content)):
            raise InvalidHeader(f"Content-Length does not match the body of {len(content)} bytes; leave it out")
        if "Transfer-Encoding" in fields:
            raise InvalidHeader("Transfer-Encoding is not supported, the body is sent unencoded; leave it out")
        if content_type is not None and "Content-Type" in fields:
            raise InvalidHeader("Content-Type is given twice, in headers= and in content_type=; leave one out")
        if content_type is None and isinstance(body, str) and body and "Content-Type" not in fields:
            content_type = "text/plain; charset=utf-8"
        if content_type is not None:
            fields = Headers.from_wire(fields.wire + encode_field("Content-Type", content_type))
        self._set(status, fields, content)

    @classmethod
    def from_wire(cls, status: int, headers: Headers, body: bytes = b"") -> "Response":
        """Make a response without checking it: one that was received, or a 101."""
        response: Response = cls.__new__(cls)
        response._set(status, headers, body)
        return response

    def _set(self, status: int, headers: Headers, body: bytes) -> None:
        object.__setattr__(self, "status", status)
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "body", body)

    @property
    def reason(self) -> str:
        """The standard reason phrase of the status, such as "Not Found"; empty if it has none."""
        return reason_phrase(self.status)

    def encode(self, method: str = "GET") -> bytes:
        """Return the response as bytes.

        :param method: the method of the request. The response to HEAD has the same fields, but no body.
        """
        parts = [f"HTTP/1.1 {self.status} {self.reason}".encode(), self.headers.wire]
        # RFC 9110 section 8.6: 1xx and 204 must not have it, and in a 304 it is the length of another response's body.
        if self.status >= 200 and self.status not in (204, 304) and "Content-Length" not in self.headers:
            parts.append(b"\r\nContent-Length: %d" % len(self.body))
        if self.status != 101 and "Connection" not in self.headers:
            parts.append(b"\r\nConnection: close")
        parts.append(b"\r\n\r\n")
        if method != "HEAD":
            parts.append(self.body)
        return b"".join(parts)
