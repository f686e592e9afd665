"""The client's side of the opening handshake (RFC 6455 section 4.1): the request, and checking the response."""

import os
from base64 import b64encode
from collections.abc import Sequence

import attrs

from ..errors import HandshakeRefused, InvalidHandshake, InvalidHeader
from ..options import Compression
from .agreement import Agreement, check_subprotocols
from .extensions import check_answer, make_offers
from .head import Request, Response, reason_phrase
from .headers import HeaderFields, Headers, encode_field, reserved_name
from .server import accept_key
from .summary import summary_of
from .url import Url, basic_authorization


@attrs.frozen
class RequestOptions:
    """What a client asks for in its request, in addition to the URL."""

    headers: Headers
    """Additional fields. Host, User-Agent and Authorization replace the usual ones."""
    origin: str | None
    user_agent: str | None
    subprotocols: tuple[str, ...]
    compression: Compression | None


def request_options(
    headers: HeaderFields,
    origin: str | None,
    user_agent: str | None,
    subprotocols: Sequence[str],
    compression: Compression | None = None,
) -> RequestOptions:
    """Check what the application wants to send.

    :raises InvalidHeader: if a field would break the request, or belongs to the handshake itself.
    :raises ValueError: if the subprotocols are not different tokens.
    """
    fields = Headers(headers)
    name = reserved_name(fields)
    if name is not None:
        instead = "; use subprotocols=" if name.lower() == "sec-websocket-protocol" else ""
        raise InvalidHeader(f"{name} must not be in headers=, streamws sets it{instead}")
    if origin is not None and "Origin" in fields:
        raise InvalidHeader("Origin is given twice, in headers= and in origin=; leave one out")
    for field, value in (("Origin", origin), ("User-Agent", user_agent)):
        if value is not None:
            encode_field(field, value)  # raises InvalidHeader now, before anything is connected
    return RequestOptions(fields, origin, user_agent, check_subprotocols(subprotocols), compression)


@attrs.frozen
class Handshake:
    """An opening handshake of a client, until the response has arrived."""

    request: Request
    key: bytes
    """The Sec-WebSocket-Key, which is new for each handshake."""
    subprotocols: tuple[str, ...]
    compression: Compression | None

    @property
    def encoded(self) -> bytes:
        """The request as bytes."""
        return f"GET {self.request.target} HTTP/1.1".encode() + self.request.headers.wire + b"\r\n\r\n"


def begin_handshake(url: Url, options: RequestOptions) -> Handshake:
    """Make the request of a new opening handshake."""
    key = b64encode(os.urandom(16))
    fields = [
        ("Host", url.authority),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key.decode()),
        ("Sec-WebSocket-Version", "13"),
    ]
    if options.subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(options.subprotocols)))
    if options.compression is not None:
        fields.append(("Sec-WebSocket-Extensions", make_offers(options.compression)))
    if options.origin is not None:
        fields.append(("Origin", options.origin))
    if options.user_agent is not None:
        fields.append(("User-Agent", options.user_agent))
    if url.credentials is not None:
        fields.append(("Authorization", basic_authorization(url.credentials)))
    own = [(name, value) for name, value in fields if name not in options.headers]
    headers = Headers.from_wire(Headers(own).wire + options.headers.wire)
    return Handshake(Request("GET", url.target, headers), key, options.subprotocols, options.compression)


def check_response(handshake: Handshake, response: Response) -> Agreement:
    """Check whether the response completes the opening handshake (RFC 6455 section 4.1).

    :raises HandshakeRefused: if the status is not 101.
    :raises InvalidHandshake: if the response is a 101, but not a valid response to this request.
    """
    if response.status != 101:
        raise refused_error(response)
    headers = response.headers
    # Compared as bytes: str.lower() would also turn the Kelvin sign into a "k".
    if headers.get("Upgrade", "").encode().lower() != b"websocket":
        raise _invalid(response, "its Upgrade field is not websocket")
    if "upgrade" not in [token.strip(" \t").lower() for token in headers.get("Connection", "").split(",")]:
        raise _invalid(response, "its Connection field lacks Upgrade")
    accept = headers.get_all("Sec-WebSocket-Accept")
    if accept != (accept_key(handshake.key).decode(),):
        raise _invalid(response, "its Sec-WebSocket-Accept does not match the key that was sent")
    try:
        terms = check_answer(headers.get("Sec-WebSocket-Extensions", ""), handshake.compression)
    except ValueError as error:
        raise _invalid(response, str(error)) from error
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or (chosen and chosen[0] not in handshake.subprotocols):
        raise _invalid(response, f"the server chose a subprotocol that was not offered: {', '.join(chosen)!r:.80}")
    return Agreement(headers.wire, chosen[0] if chosen else None, terms)


def _invalid(response: Response, reason: str) -> InvalidHandshake:
    message = f"invalid handshake response: {reason}"
    return InvalidHandshake(message, response.status, response.headers, response.body)


def refused_error(response: Response) -> HandshakeRefused:
    """Return the error for a response other than 101."""
    phrase = reason_phrase(response.status)
    return HandshakeRefused(response.status, summary_of(response), response.headers, response.body, phrase)
