"""The wire modules of both builds, and helpers to feed parsers and protocols."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs

from . import builds
from .frames import frame, frames

Plain = tuple[object, ...]
"""An event as a value that is equal on both builds."""


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
    """Not in `wire`, as is `waiter`."""
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
    """Return the modules of the installed build, and of the pure one too if the installed one is compiled."""
    if not builds.is_compiled():
        return [_wire("installed-pure", "streamws")]
    return [_wire("compiled", "streamws"), _wire("pure", builds.load_pure().__name__)]


def plain(event: Any) -> Plain:
    """Convert an event of a parser to a value that is equal on both builds."""
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
    """Feed chunks to a parser, and return the events as plain values."""
    return [plain(event) for piece in pieces for event in parser.feed(piece, len(piece))]


def whole(data: bytes) -> Iterator[bytes]:
    """Yield the data in one chunk."""
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """Yield the data in chunks of one byte. Long data only at its beginning and its end."""
    head, middle, tail = data[:1024], data[1024:-16], data[max(1024, len(data) - 16) :]
    yield from (bytes([byte]) for byte in head)
    if middle:
        yield middle
    yield from (bytes([byte]) for byte in tail)


CUTS = (whole, bytewise)
Cut = Callable[[bytes], Iterable[bytes]]


def feed_all(parser: Any, data: bytes | bytearray) -> list[Plain]:
    """Feed data to a parser in one chunk."""
    return feed(parser, [data])


# Protocols --------------------------------------------------------------------------------------------------


def opened(wire: Wire, server: bool) -> Any:
    """Make the protocol of an open connection."""
    protocol = wire.protocol.Protocol(server)
    protocol.change(wire.protocol.Change.OPENED)
    return protocol


def receive(protocol: Any, data: bytes) -> list[Any]:
    """Receive data, and settle it at once."""
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
    """Make the protocol of an open connection that has received and settled data."""
    protocol = opened(wire, server)
    receive(protocol, data)
    return protocol
