"""WebSocket frames as bytes (RFC 6455, section 5.2), built before a measurement begins."""

import os
import struct

TEXT = 0x1
BINARY = 0x2

_FIN = 0x80
_RSV1 = 0x40
_MASKED = 0x80


def masked(payload: bytes, opcode: int = BINARY, *, compressed: bool = False) -> bytes:
    """The frame a client sends, with a random masking key that has no zero byte."""
    key = bytes(byte or 0xA5 for byte in os.urandom(4))
    return masked_head(len(payload), key, opcode | _RSV1 if compressed else opcode) + xor(payload, key)


def masked_head(length: int, key: bytes, opcode: int = BINARY) -> bytes:
    """What comes before the payload in a frame that a client sends."""
    return _head(opcode, length, _MASKED) + key


def unmasked(payload: bytes, opcode: int = BINARY) -> bytes:
    """The frame a server sends."""
    return unmasked_head(len(payload), opcode) + payload


def unmasked_head(length: int, opcode: int = BINARY) -> bytes:
    """What comes before the payload in a frame that a server sends."""
    return _head(opcode, length, 0)


def _head(opcode: int, length: int, mask_bit: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", _FIN | opcode, mask_bit | length)
    if length < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, mask_bit | 126, length)
    return struct.pack("!BBQ", _FIN | opcode, mask_bit | 127, length)


def xor(payload: bytes, key: bytes) -> bytes:
    length = len(payload)
    stream = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(length)
