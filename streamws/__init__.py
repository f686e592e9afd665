"""WebSocket streams for asyncio: readers and writer objects, strictly typed, at the speed of a callback core."""

from importlib import import_module
from typing import TYPE_CHECKING

from . import hints as _hints  # noqa: F401
from .about import __version__ as __version__
from .client import Client
from .codes import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from .errors import (
    BrokerError,
    BrokerUnavailable,
    ConcurrencyError,
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectTimeout,
    DecodeError,
    EncodeError,
    HandshakeError,
    HandshakeRefused,
    IncompleteMessage,
    InvalidHandshake,
    InvalidHeader,
    InvalidURL,
    LimitExceeded,
    MissingExtra,
    ProtocolViolation,
    ProxyError,
    PublishTimeout,
    ReadError,
    ReconnectError,
    RedirectError,
    StaleReader,
    StreamwsError,
    UsageError,
    WriteError,
)
from .extra_info import PeerCertificate
from .handshake.extensions import DeflateTerms
from .handshake.head import Accept, Request, Response
from .handshake.headers import Headers
from .handshake.parameters import Query
from .keys import Key
from .net.accepting import Server
from .options import Backoff, Compression, Limits, Timeouts
from .server import WebSocketServer
from .streams.pieces import DataFrameWriter, FragmentWriter
from .streams.reader import MessageReader
from .streams.writer import Writer
from .watching.observer import Observer
from .watching.stats import ConnectionStats, ServerStats
from .wire.frames import DataFrame
from .wire.protocol import State

if TYPE_CHECKING:
    from .connecting.connect import Connecting as Connecting
    from .connecting.connect import Target as Target
    from .connecting.connect import connect as connect
    from .connecting.reconnecting import is_transient as is_transient
    from .routing import Router as Router

__all__ = [
    "Accept",
    "Backoff",
    "BrokerError",
    "BrokerUnavailable",
    "Cause",
    "Client",
    "Close",
    "CloseCode",
    "CloseOutcome",
    "Compression",
    "ConcurrencyError",
    "ConnectError",
    "ConnectTimeout",
    "Connecting",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionStats",
    "DataFrame",
    "DataFrameWriter",
    "DecodeError",
    "DeflateTerms",
    "EncodeError",
    "FragmentWriter",
    "HandshakeError",
    "HandshakeRefused",
    "Headers",
    "IncompleteMessage",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidURL",
    "Key",
    "LimitExceeded",
    "Limits",
    "MessageReader",
    "MissingExtra",
    "Observer",
    "Opcode",
    "PeerCertificate",
    "ProtocolViolation",
    "ProxyError",
    "PublishTimeout",
    "Query",
    "ReadError",
    "ReconnectError",
    "RedirectError",
    "Request",
    "Response",
    "Server",
    "ServerStats",
    "Side",
    "StaleReader",
    "State",
    "StreamwsError",
    "Target",
    "Timeouts",
    "UsageError",
    "WebSocketServer",
    "WriteError",
    "Writer",
    "connect",
    "is_transient",
]

# A server does not load the modules of the client. `Router` is not in __all__: `from streamws import *` needs no extra.
_LOADED_WHEN_USED = {
    "Connecting": "connecting.connect",
    "Router": "routing",
    "Target": "connecting.connect",
    "connect": "connecting.connect",
    "is_transient": "connecting.reconnecting",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _LOADED_WHEN_USED:
            found = getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)
            globals()[name] = found
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LOADED_WHEN_USED})
