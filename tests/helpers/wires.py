"""The wire modules of both builds side by side, and frames written out by hand."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs

from . import builds
from .frames import frame, frames

Plain = tuple[object, ...]
"""An event as a value that can be compared across the builds."""


@attrs.frozen
class Wire:
    """The wire modules of one build."""

    build: str
    codes: ModuleType
    errors: ModuleType
    frames: ModuleType
    payload: ModuleType
    parser: ModuleType
    deflate: ModuleType
    protocol: ModuleType
    operation: ModuleType
    """Not of the wire, like `waiter`: the awaitables."""
    waiter: ModuleType


def _wire(build: str, package: str) -> Wire:
    names = [
        "codes",
        "errors",
        "wire.frames",
        "wire.payload",
        "wire.parser",
        "wire.deflate",
        "wire.protocol",
        "awaiting.operation",
        "awaiting.waiter",
    ]
    return Wire(build, *(importlib.import_module(f"{package}.{name}") for name in names))


def wires() -> list[Wire]:
    """The installed build, and the pure one beside it if the installed one is compiled."""
    if not builds.is_compiled():
        return [_wire("installed-pure", "streamws")]
    return [_wire("compiled", "streamws"), _wire("pure", builds.load_pure().__name__)]


def plain(event: Any) -> Plain:
    """What the parser returned as a value that can be compared across the builds."""
    if isinstance(event, (str, bytes)):
        return (type(event).__name__, event)
    kind = type(event).__name__
    match kind:
        case "WideText":
            return (kind, event.text, event.size)
        case "DataFrame" | "DeflatedFrame":
            return (kind, int(event.opcode), event.payload, event.fin)
        case "CloseFrame":
            return (kind, int(event.close.code), event.close.reason)
        case "Violation":
            return (kind, int(event.code))
        case _:
            return (kind, event.payload)


def feed(parser: Any, pieces: Iterable[bytes | bytearray]) -> list[Plain]:
    """Feed the pieces one after the other; what they complete, as plain values."""
    return [plain(event) for piece in pieces for event in parser.feed(piece, len(piece))]


def whole(data: bytes) -> Iterator[bytes]:
    """The data in one piece."""
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """The data in pieces of one byte; of a long one, its begin and its end."""
    head, middle, tail = data[:1024], data[1024:-16], data[max(1024, len(data) - 16) :]
    yield from (bytes([byte]) for byte in head)
    if middle:
        yield middle
    yield from (bytes([byte]) for byte in tail)


CUTS = (whole, bytewise)
Cut = Callable[[bytes], Iterable[bytes]]


def feed_all(parser: Any, data: bytes | bytearray) -> list[Plain]:
    """Feed the data in one piece."""
    return feed(parser, [data])


# Protocols --------------------------------------------------------------------------------------------------


def opened(wire: Wire, server: bool) -> Any:
    """An open connection."""
    protocol = wire.protocol.Protocol(server)
    protocol.change(wire.protocol.Change.OPENED)
    return protocol


def receive(protocol: Any, data: bytes) -> list[Any]:
    """Take the data, and settle it at once."""
    items: list[Any] = protocol.receive(data, len(data))
    protocol.process_control()
    return items


def take_owed(protocol: Any) -> bytes:
    """What is to be sent in answer, in one."""
    owed = b"".join(protocol.due)
    protocol.due = []
    return owed


def open_up(data: bytes, server: bool) -> bytes:
    """Unmask the frames that this side sent: what `frame()` makes for the same payloads."""
    if server:
        return data
    return b"".join(frame(first, payload, fin=first >= 0x80) for first, payload in frames(data, masked=True))


def received(wire: Wire, server: bool, data: bytes) -> Any:
    """An open connection that received the data and settled it."""
    protocol = opened(wire, server)
    receive(protocol, data)
    return protocol
