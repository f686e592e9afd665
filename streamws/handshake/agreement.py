"""What an opening handshake agreed on, in either role."""

from collections.abc import Sequence

import attrs

from .extensions import DeflateTerms
from .head import Response
from .headers import Headers, is_token


@attrs.frozen
class Agreement:
    """The result of a successful opening handshake."""

    fields: bytes
    """The header fields of the 101 response as bytes, each with a CRLF before it."""
    subprotocol: str | None
    """The subprotocol that the server chose (RFC 6455 section 1.9)."""
    terms: DeflateTerms | None
    """The agreed parameters of permessage-deflate; None for no compression."""

    @property
    def encoded(self) -> bytes:
        """The 101 response as bytes, for the server to send."""
        return b"HTTP/1.1 101 Switching Protocols" + self.fields + b"\r\n\r\n"

    @property
    def response(self) -> Response:
        """The 101 response. It is made on access, because few applications look at it."""
        return Response.from_wire(101, Headers.from_wire(self.fields))


def check_subprotocols(names: Sequence[str]) -> tuple[str, ...]:
    """Check the application's list of subprotocols and return it as a tuple.

    :raises ValueError: unless they are different tokens (RFC 6455 section 4.1).
    """
    if isinstance(names, str):
        raise ValueError(f"subprotocols must be a list of names, not {names!r}")
    names = tuple(names)
    for name in names:
        if not is_token(name):
            raise ValueError(f"{name!r} in subprotocols is not a token (RFC 9110 section 5.6.2)")
    if len(set(names)) < len(names):
        raise ValueError(f"subprotocols has a name twice: {list(names)!r}")
    return names
