"""WebSocket streams for asyncio: readers and writer objects, strictly typed, at the speed of a callback core."""

from .about import __version__ as __version__
from .client import Client
from .codes import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from .connecting.connect import Connecting, Target, connect
from .connecting.reconnecting import is_transient
from .errors import (
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
    MissingExtra,
    ProtocolViolation,
    ProxyError,
    ReadError,
    ReconnectError,
    RedirectError,
    StaleReader,
    StreamwsError,
    UsageError,
    WriteError,
)
from .handshake.extensions import DeflateTerms
from .handshake.head import Request, Response
from .handshake.headers import Headers
from .net.accepting import Server
from .options import Backoff, Compression, Limits, Timeouts
from .server import WebSocketServer
from .streams.pieces import DataFrameWriter, FragmentWriter
from .streams.reader import MessageReader
from .streams.writer import Writer
from .wire.frames import DataFrame
from .wire.protocol import State

__all__ = [
    "Backoff",
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
    "Limits",
    "MessageReader",
    "MissingExtra",
    "Opcode",
    "ProtocolViolation",
    "ProxyError",
    "ReadError",
    "ReconnectError",
    "RedirectError",
    "Request",
    "Response",
    "Server",
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
