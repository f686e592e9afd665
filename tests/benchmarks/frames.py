"""WebSocket frames as bytes (RFC 6455 section 5.2), built before a measurement begins."""

import os
import struct

TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_FIN = 0x80
_RSV1 = 0x40
_MASKED = 0x80


def masked(payload: bytes, opcode: int = BINARY, *, compressed: bool = False) -> bytes:
    """Return a client's frame. Its random masking key has no zero byte, so that every payload byte changes."""
    key = bytes(byte or 0xA5 for byte in os.urandom(4))
    return masked_header(len(payload), key, opcode | _RSV1 if compressed else opcode) + xor(payload, key)


def masked_header(length: int, key: bytes, opcode: int = BINARY) -> bytes:
    """Return the header of a client's frame."""
    return _header(opcode, length, _MASKED) + key


def unmasked(payload: bytes, opcode: int = BINARY) -> bytes:
    """Return a server's frame."""
    return unmasked_header(len(payload), opcode) + payload


def unmasked_header(length: int, opcode: int = BINARY) -> bytes:
    """Return the header of a server's frame."""
    return _header(opcode, length, 0)


def _header(opcode: int, length: int, mask_bit: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", _FIN | opcode, mask_bit | length)
    if length < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, mask_bit | 126, length)
    return struct.pack("!BBQ", _FIN | opcode, mask_bit | 127, length)


def xor(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask a payload (RFC 6455 section 5.3)."""
    length = len(payload)
    stream = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(length)
