"""ASGI: `from_scope` and `from_websocket` are connections like `Client`; `asgi.uvicorn` serves WebSockets of uvicorn."""

from .client import AsgiClient, from_scope, from_websocket
from .scope import Receive, Scope, Send, WebSocket

__all__ = ["AsgiClient", "Receive", "Scope", "Send", "WebSocket", "from_scope", "from_websocket"]
