"""ASGI: `from_scope` and `from_websocket` are connections like `Client`; `asgi.uvicorn` serves them under uvicorn."""

from .client import AsgiClient, from_scope, from_websocket
from .scope import Receive, Scope, Send, WebSocket

__all__ = ["AsgiClient", "Receive", "Scope", "Send", "WebSocket", "from_scope", "from_websocket"]
