"""Work on payload bytes: masking, UTF-8 validation and frame encoding, in plain Python.

`payload.pyx` is the same in C: the same names, results and exceptions. Python imports the compiled one where it is
installed.

A masking key is an `int`: its four bytes on the wire, read as little-endian. Key 0 means "not masked".
"""

import codecs
import os

from .frames import Buffer


def _xor(data: bytes, key: int) -> bytes:
    size = len(data)
    mask = key.to_bytes(4, "little") * (size // 4 + 1)
    number = int.from_bytes(data, "little") ^ int.from_bytes(mask[:size], "little")
    return number.to_bytes(size, "little")


# XOR with a constant byte is a translation; one table a byte value, made when first needed.
_tables: dict[int, bytes] = {}


def _table(byte: int) -> bytes:
    table = _tables.get(byte)
    if table is None:
        table = _tables[byte] = bytes(value ^ byte for value in range(256))
    return table


def _translate(data: bytes, key: int) -> bytes:
    result = bytearray(len(data))
    for lane, byte in enumerate(key.to_bytes(4, "little")):
        result[lane::4] = data[lane::4].translate(_table(byte))
    return bytes(result)


# Above this size, four strided translations beat one big XOR of integers (measured).
_TRANSLATE_FROM = 2048


def unmask(data: Buffer, start: int, end: int, key: int) -> bytes:
    """Copy `data[start:end]`, XORed with the masking key (RFC 6455 section 5.3).

    Masking and unmasking are the same operation.
    """
    part = bytes(data[start:end])
    if key == 0:
        return part
    if end - start < _TRANSLATE_FROM:
        return _xor(part, key)
    return _translate(part, key)


def unmask_into(target: memoryview, data: Buffer, start: int, end: int, key: int) -> None:
    """The same into the beginning of a writable buffer of bytes that is large enough."""
    target[: end - start] = unmask(data, start, end, key)


def rotate_key(key: int, offset: int) -> int:
    """The masking key as it applies from `offset` bytes into the payload on."""
    shift = 8 * (offset & 3)
    return (key >> shift) | (key << (32 - shift)) & 0xFFFFFFFF


class WideText:
    """A text message that is not pure ASCII, with its size in bytes (which `len(text)` is not)."""

    __slots__ = ("size", "text")

    def __init__(self, text: str, size: int) -> None:
        self.text: str = text
        self.size: int = size


def unmask_text(data: Buffer, start: int, end: int, key: int) -> str | WideText:
    """Unmask and decode the payload of a whole text message.

    Raises `UnicodeDecodeError` if it is not UTF-8.
    """
    text = unmask(data, start, end, key).decode()
    return text if text.isascii() else WideText(text, end - start)


class Payload:
    """The payload of one frame, gathered as it comes."""

    __slots__ = ("_data", "size")

    def __init__(self) -> None:
        self._data = bytearray()
        self.size: int = 0

    def append(self, data: Buffer, start: int, end: int, key: int, expected: int) -> None:
        """Add `data[start:end]`, unmasked with `key` (rotated to where the payload stands).

        `expected` bytes in all are announced; no more than twice what has come is ever allocated for them.
        """
        self._data += unmask(data, start, end, key)
        self.size += end - start

    def check_text(self, check: "Utf8Check", start: int) -> bool:
        """Whether the text goes on rightly with what has come from `start` on."""
        return check.feed(self._data, start, self.size)

    def take(self) -> bytes:
        """Hand over what has come; the payload is empty afterwards."""
        data = bytes(self._data)
        self._data = bytearray()
        self.size = 0
        return data


class Utf8Check:
    """Says as early as possible whether bytes that come in pieces can still be UTF-8 (RFC 6455 section 8.1)."""

    __slots__ = ("_bad", "_decoder")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bad = False

    def feed(self, data: Buffer, start: int, end: int) -> bool:
        """Whether all bytes so far, with `data[start:end]`, can begin a UTF-8 text."""
        if self._bad:
            return False
        try:
            self._decoder.decode(bytes(data[start:end]))
        except UnicodeDecodeError:
            self._bad = True
            return False
        # Of a surrogate the decoder waits for the third byte, though the second one tells.
        held = self._decoder.getstate()[0]
        self._bad = held[:1] == b"\xed" and held[1:] >= b"\xa0"
        return not self._bad

    def copy(self) -> "Utf8Check":
        """Another one that stands where this one does."""
        other = Utf8Check()
        other._decoder.setstate(self._decoder.getstate())
        other._bad = self._bad
        return other

    def complete(self) -> bool:
        """Whether the bytes so far end with a whole character; begins a new text."""
        whole = not self._bad and self._decoder.getstate()[0] == b""
        self._decoder.reset()
        self._bad = False
        return whole


_KEYS_AT_ONCE = 1024


class MaskKeys:
    """Masking keys from the system's cryptographic source, drawn in bulk (RFC 6455 sections 5.3 and 10.3)."""

    __slots__ = ("_keys", "_position")

    def __init__(self) -> None:
        self._keys = b""
        self._position = 0

    def next(self) -> int:
        """A fresh key, never 0."""
        while True:
            if self._position == len(self._keys):
                self._keys = os.urandom(4 * _KEYS_AT_ONCE)
                self._position = 0
            start = self._position
            self._position += 4
            key = int.from_bytes(self._keys[start : start + 4], "little")
            if key:
                return key


def encode_header(first: int, length: int, key: int) -> bytes:
    """The header of a frame (RFC 6455 section 5.2): `first` holds FIN, RSV bits and opcode; a key of 0 is no mask."""
    masked = 0x80 if key else 0
    if length < 126:
        header = bytes((first, masked | length))
    elif length < 65536:
        header = bytes((first, masked | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    return header + key.to_bytes(4, "little") if key else header


def encode_frame(first: int, data: str | Buffer, key: int) -> bytes:
    """A whole frame: header and payload in one object."""
    payload: Buffer
    if isinstance(data, str):
        payload = data.encode()
    elif isinstance(data, memoryview) and (data.itemsize != 1 or not data.contiguous or data.ndim != 1):
        payload = data.tobytes()
    else:
        payload = data
    length = len(payload)
    if key:
        payload = unmask(payload, 0, length, key)
    return b"".join((encode_header(first, length, key), payload))
