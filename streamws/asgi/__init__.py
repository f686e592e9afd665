"""streamws inside an ASGI application: `from_scope` and `from_websocket` give a connection like `Client`."""

from .client import AsgiClient, from_scope, from_websocket
from .scope import Receive, Scope, Send, WebSocket

__all__ = ["AsgiClient", "Receive", "Scope", "Send", "WebSocket", "from_scope", "from_websocket"]
