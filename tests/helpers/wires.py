"""The wire modules of both builds side by side, and frames written out by hand."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs

from . import builds

KEY = bytes.fromhex("8037fa3d")
"""A masking key whose first byte has its highest bit set."""


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


def header(
    opcode: int,
    length: int = 0,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = False,
    form: int | None = None,
) -> bytes:
    """A frame's header; `form`: the bytes that the length takes beside the second one (0, 2 or 8)."""
    if form is None:
        form = 0 if length < 126 else 2 if length < 65536 else 8
    second = {0: length, 2: 126, 8: 127}[form] | (0x80 if masked else 0)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode, second]) + length.to_bytes(8, "big")[8 - form :]
    return head + KEY if masked else head


def xor(payload: bytes, key: bytes = KEY) -> bytes:
    """The payload, masked or unmasked byte for byte (RFC 6455 section 5.3)."""
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = False,
    form: int | None = None,
) -> bytes:
    """A whole frame."""
    head = header(opcode, len(payload), fin=fin, rsv=rsv, masked=masked, form=form)
    return head + (xor(payload) if masked else payload)


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
    """Frames that this side sent, without their masks: what `frame()` makes for the same content."""
    if server:
        return data
    bare = b""
    while data:
        assert data[1] & 0x80, "a client's frame is masked"
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        key, payload = data[start : start + 4], data[start + 4 : start + 4 + length]
        assert any(key)
        bare += frame(data[0] & 0x0F, xor(payload, key), fin=data[0] >= 0x80)
        data = data[start + 4 + length :]
    return bare


def received(wire: Wire, server: bool, data: bytes) -> Any:
    """An open connection that received the data and settled it."""
    protocol = opened(wire, server)
    receive(protocol, data)
    return protocol
