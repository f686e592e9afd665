"""WebSocket streams for asyncio: readers and writer objects, strictly typed, at the speed of a callback core."""

from .client import Client
from .codes import Cause, Close, CloseCode, CloseOutcome, Opcode, Side
from .errors import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeError,
    IncompleteMessage,
    InvalidHeader,
    ProtocolViolation,
    ReadError,
    StaleReader,
    StreamwsError,
    UsageError,
    WriteError,
)
from .handshake.http import Headers, Request, Response
from .options import Limits, Timeouts
from .server import WebSocketServer
from .streams.reader import MessageReader
from .streams.writer import DataFrameWriter, FragmentWriter, Writer
from .wire.frames import DataFrame
from .wire.protocol import State

__all__ = [
    "Cause",
    "Client",
    "Close",
    "CloseCode",
    "CloseOutcome",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "DataFrame",
    "DataFrameWriter",
    "FragmentWriter",
    "HandshakeError",
    "Headers",
    "IncompleteMessage",
    "InvalidHeader",
    "Limits",
    "MessageReader",
    "Opcode",
    "ProtocolViolation",
    "ReadError",
    "Request",
    "Response",
    "Side",
    "StaleReader",
    "State",
    "StreamwsError",
    "Timeouts",
    "UsageError",
    "WebSocketServer",
    "WriteError",
    "Writer",
]
