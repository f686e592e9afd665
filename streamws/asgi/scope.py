"""The interface of an ASGI server to one connection, and the request in its scope."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Never, Protocol
from urllib.parse import quote

from ..errors import UsageError
from ..handshake.head import Request
from ..handshake.headers import Headers

__all__ = ["Receive", "Scope", "Send", "WebSocket", "offers_response", "request_of"]

Scope = Mapping[str, object]
"""The scope of an ASGI connection."""

Receive = Callable[[], Awaitable[Mapping[str, object]]]
"""The `receive` function that an ASGI server passes to the application."""

# Frameworks and servers give the events different types. Every function of one argument accepts `Never`.
Send = Callable[[Never], Awaitable[None]]
"""The `send` function that an ASGI server passes to the application."""


class WebSocket(Protocol):
    """The attributes of Starlette's and FastAPI's `WebSocket` that `from_websocket` uses."""

    @property
    def scope(self) -> Scope:
        """The scope of the connection."""
        ...

    @property
    def client_state(self) -> Enum:
        """The state as far as the server has told it."""
        ...

    @property
    def application_state(self) -> Enum:
        """The state as far as the application has told it."""
        ...

    def receive(self) -> Awaitable[Mapping[str, object]]:
        """Receive an event from the server."""
        ...

    def send(self, message: dict[str, object], /) -> Awaitable[None]:
        """Send an event to the server."""
        ...


_SAFE = "/:@!$&'()*+,;=~"
"""Characters that are not percent-encoded in a path (RFC 3986 section 3.3)."""

_FIELD = re.compile(rb"\r\n[^\x00-\x20:\x7f]+: [^\x00\r\n]*")
"""A header field, as `Headers` stores it."""


class _Link:
    """The addresses of a connection, for its request."""

    __slots__ = ("_peer", "_server", "remote", "secure")

    def __init__(self, scope: Scope) -> None:
        self._peer = _address(scope, "client")
        self._server = _address(scope, "server")
        self.secure: bool = scope.get("scheme") in ("wss", "https")
        self.remote: tuple[str, int] = ("unknown", 0)
        if self._peer is not None:
            self.remote = self._peer[0], self._peer[1] or 0
        elif self._server is not None and self._server[1] is None:
            self.remote = self._server[0], 0  # the path of a Unix socket, as for `Client`

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "peername":
            return default if self._peer is None else self._peer
        if name == "sockname" and self._server is not None:
            return self._server[0] if self._server[1] is None else self._server
        return default


def _address(scope: Scope, key: str) -> tuple[str, int | None] | None:
    """Return an address of the scope. The port is None for the path of a Unix socket."""
    address: Any = scope.get(key)
    if address is None:
        return None
    host, port = address
    return str(host), None if port is None else int(port)  # Granian gives the port as text


def request_of(scope: Scope) -> Request:
    """Return the request in the scope of a WebSocket.

    :raises UsageError: if it is not such a scope; the error message says why.
    """
    if not isinstance(scope, Mapping):
        raise UsageError(f"the scope of an ASGI connection is a mapping, not {type(scope).__name__}")
    if scope.get("type") != "websocket":
        raise UsageError(
            f"not the scope of a WebSocket: its type is {scope.get('type')!r}, not 'websocket'; answer requests of "
            "other types in your application"
        )
    try:
        fields = b"".join([b"\r\n%b: %b" % (name, value) for name, value in _headers(scope)])
        return Request(
            "GET", _target(scope), Headers.from_wire(fields), str(scope.get("http_version", "1.1")), _Link(scope)
        )
    except KeyError as error:
        raise UsageError(f"not a valid scope of a WebSocket: it has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"not a valid scope of a WebSocket: {error}") from error


def _target(scope: Scope) -> str:
    path: Any = scope["path"]
    raw_path: Any = scope.get("raw_path")
    query: Any = scope.get("query_string")
    target: str = raw_path.decode("latin-1") if raw_path else quote(path, _SAFE)
    return f"{target}?{query.decode('latin-1')}" if query else target


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the header fields. The subprotocols need not be among them."""
    given: Any = scope.get("headers", ())
    fields = [(bytes(name), bytes(value).strip(b" \t")) for name, value in given]
    for name, value in fields:
        if _FIELD.fullmatch(b"\r\n%b: %b" % (name, value)) is None:
            raise ValueError(f"the header {name!r:.80} is not valid")
    offered: Any = scope.get("subprotocols") or ()
    if offered and not any(name.lower() == b"sec-websocket-protocol" for name, _ in fields):
        subprotocols: Iterable[str] = offered
        fields.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("latin-1")))
    return fields


def offers_response(scope: Scope) -> bool:
    """Return whether the server lets the application answer the request with a response of its own."""
    extensions = scope.get("extensions")
    return isinstance(extensions, Mapping) and "websocket.http.response" in extensions
