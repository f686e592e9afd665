"""The HTTP messages of an opening handshake as values: `Request` and `Response`."""

import re
from http import HTTPStatus

import attrs

from ..errors import InvalidHeader
from .headers import HeaderFields, Headers, encode_field


@attrs.frozen
class Request:
    """The HTTP request of an opening handshake."""

    method: str
    """The method, such as "GET". It is case-sensitive (RFC 9110 section 9.1)."""
    target: str
    """The request target as sent: a path with its query, or an absolute URI (RFC 9112 section 3.2)."""
    headers: Headers
    """The header fields."""
    version: str = "1.1"
    """The HTTP version, "1.1" or "1.0". Only `@socket.request` can answer a request of HTTP/1.0; a WebSocket needs
    HTTP/1.1 (RFC 6455 section 4.1)."""

    @property
    def path(self) -> str:
        """The path of the target: everything before the first "?", percent-encoded as sent."""
        return self._origin_form.partition("?")[0]

    @property
    def query(self) -> str:
        """The query of the target: everything after the first "?"; empty if there is none."""
        return self._origin_form.partition("?")[2]

    @property
    def host(self) -> str:
        """The host that the client asks for, with the port if the client sent one.

        The host of an absolute target takes precedence over the Host field (RFC 9112 section 3.2.2).
        """
        if self.target.startswith("/") or "://" not in self.target:
            return self.headers.get("Host", "")
        return re.split("[/?]", self.target.partition("://")[2], maxsplit=1)[0]

    @property
    def _origin_form(self) -> str:
        """The path and query, without the scheme and host of an absolute target."""
        if self.target.startswith(("/", "*")):
            return self.target
        if self.method == "CONNECT":  # the target is host and port, without a path
            return ""
        without_scheme = self.target.partition("://")[2]
        start = re.search("[/?]", without_scheme)
        target = without_scheme[start.start() :] if start else ""
        return target if target.startswith("/") else "/" + target  # RFC 9110 section 4.2.3: no path means "/"


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
