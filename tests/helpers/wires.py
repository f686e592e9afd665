"""The wire modules of both builds side by side, and frames written out by hand."""

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs

from . import builds

KEY = bytes.fromhex("8037fa3d")
"""A masking key whose first byte has its highest bit set."""


@attrs.frozen
class Wire:
    """The wire modules of one build."""

    build: str
    codes: ModuleType
    errors: ModuleType
    frames: ModuleType
    kernels: ModuleType
    parser: ModuleType
    protocol: ModuleType


def _wire(build: str, package: str) -> Wire:
    names = ("codes", "errors", "wire.frames", "wire.kernels", "wire.parser", "wire.protocol")
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


def plain(event: Any) -> tuple[object, ...]:
    """What the parser returned as a value that can be compared across the builds."""
    if isinstance(event, (str, bytes)):
        return (type(event).__name__, event)
    kind = type(event).__name__
    match kind:
        case "WideText":
            return (kind, event.text, event.size)
        case "DataFrame":
            return (kind, int(event.opcode), event.payload, event.fin)
        case "CloseFrame":
            return (kind, int(event.close.code), event.close.reason)
        case "Violation":
            return (kind, int(event.code))
        case _:
            return (kind, event.payload)


def feed(parser: Any, pieces: Iterable[bytes]) -> list[tuple[object, ...]]:
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
