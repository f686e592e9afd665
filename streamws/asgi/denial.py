"""HTTP header fields as ASGI has them, and the response of an application that refuses a WebSocket."""

from collections.abc import Iterable

from ..errors import InvalidHeader
from ..handshake.head import reason_phrase
from ..handshake.headers import check_field

RawFields = list[tuple[bytes, bytes]]


def decode_fields(wire: bytes) -> RawFields:
    """Return the header fields of a request, with lowercase names.

    :param wire: the fields, each with a CRLF before it.
    """
    fields = []
    for line in wire.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    return fields


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return header fields of the application as bytes, each with a CRLF before it.

    :raises InvalidHeader: if a field would break the message.
    """
    lines = []
    for name, value in fields:
        for part in (name, value):
            if not isinstance(part, bytes):  # the application need not keep to the types
                raise InvalidHeader(f"header name and value must be bytes, not {part!r:.80}")
        check_field(name.decode("latin-1"), value.decode("latin-1"))
        lines.append(b"\r\n%b: %b" % (name, value))
    return b"".join(lines)


class Denial:
    """A response in place of the opening handshake (the ASGI extension `websocket.http.response`).

    :param status: the status code.
    :param fields: the header fields of the application.
    :param default_fields: header fields that the server adds if the application has none of their names.
    :raises InvalidHeader: if a field would break the message.
    """

    __slots__ = ("_chunked", "_fields", "_head_sent", "_status")

    def __init__(self, status: int, fields: RawFields, default_fields: RawFields) -> None:
        encode_fields(fields)
        names = {name.lower() for name, _ in fields}
        self._status = status
        self._fields = [*[field for field in default_fields if field[0] not in names], *fields]
        self._head_sent = False
        self._chunked = False  # whether the body is sent in chunks (RFC 9112 section 7.1)

    def encode(self, body: bytes, more: bool) -> bytes:
        """Return the next bytes of the response.

        :param more: whether another part of the body follows.
        """
        parts = [] if self._head_sent else [self._head(None if more else len(body))]
        if not self._chunked:
            parts.append(body)
        else:
            if body:
                parts.append(b"%x\r\n%b\r\n" % (len(body), body))
            if not more:
                parts.append(b"0\r\n\r\n")
        return b"".join(parts)

    def end(self) -> bytes:
        """Return the bytes that end a response of which the application has not sent the whole body."""
        # The end of the connection then shows that the body is incomplete.
        return b"" if self._head_sent else self.encode(b"", False)

    def _head(self, length: int | None) -> bytes:
        """Return the head.

        :param length: the length of the body; None if it is not known yet.
        """
        self._head_sent = True
        fields = self._fields
        names = {name.lower() for name, _ in fields}
        if not names & {b"content-length", b"transfer-encoding"} and self._status not in (204, 304):
            if length is None:
                self._chunked = True
                fields.append((b"transfer-encoding", b"chunked"))
            else:
                fields.append((b"content-length", b"%d" % length))
        if b"connection" not in names:
            fields.append((b"connection", b"close"))
        line = b"HTTP/1.1 %d %b" % (self._status, reason_phrase(self._status).encode())
        return b"%b%b\r\n\r\n" % (line, encode_fields(fields))
