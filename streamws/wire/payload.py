"""Masking, UTF-8 validation and frame encoding, in plain Python.

`payload.pyx` has the same names, results and exceptions in C. Python imports the compiled module if it is installed.

A masking key is an `int`: its four bytes on the wire, read as little-endian. Key 0 means "not masked".
"""

import codecs
import os

from .frames import Buffer


def _xor(data: bytes, key: int) -> bytes:
    """Mask data as one big integer."""
    size = len(data)
    mask = key.to_bytes(4, "little") * (size // 4 + 1)
    number = int.from_bytes(data, "little") ^ int.from_bytes(mask[:size], "little")
    return number.to_bytes(size, "little")


_tables: dict[int, bytes] = {}
"""For each byte of a key that was used: the table for `bytes.translate` that XORs with it."""


def _table(byte: int) -> bytes:
    table = _tables.get(byte)
    if table is None:
        table = _tables[byte] = bytes(value ^ byte for value in range(256))
    return table


def _translate(data: bytes, key: int) -> bytes:
    """Mask every fourth byte at a time, because these all have the same byte of the key."""
    result = bytearray(len(data))
    for first, byte in enumerate(key.to_bytes(4, "little")):
        result[first::4] = data[first::4].translate(_table(byte))
    return bytes(result)


_TRANSLATE_FROM = 2048
"""The size in bytes from which `_translate` is faster than `_xor` (measured)."""


def unmask(data: Buffer, start: int, end: int, key: int) -> bytes:
    """Return a copy of `data[start:end]`, XORed with the masking key (RFC 6455 section 5.3).

    Masking and unmasking are the same operation.
    """
    part = bytes(data[start:end])
    if key == 0:
        return part
    if end - start < _TRANSLATE_FROM:
        return _xor(part, key)
    return _translate(part, key)


def unmask_into(target: memoryview, data: Buffer, start: int, end: int, key: int) -> None:
    """Write the result of `unmask` to the start of a writable buffer that is large enough."""
    target[: end - start] = unmask(data, start, end, key)


def rotate_key(key: int, offset: int) -> int:
    """Return the masking key for the part of the payload that begins at `offset`."""
    shift = 8 * (offset & 3)
    return (key >> shift) | (key << (32 - shift)) & 0xFFFFFFFF


class WideText:
    """A text message that is not pure ASCII, with its size in bytes; `len(text)` counts characters."""

    __slots__ = ("size", "text")

    def __init__(self, text: str, size: int) -> None:
        self.text: str = text
        self.size: int = size


def unmask_text(data: Buffer, start: int, end: int, key: int) -> str | WideText:
    """Unmask and decode the payload of a whole text message.

    :returns: a `str` if the text is ASCII.
    :raises UnicodeDecodeError: if it is not UTF-8.
    """
    text = unmask(data, start, end, key).decode()
    return text if text.isascii() else WideText(text, end - start)


class Payload:
    """The payload of one frame, collected as it arrives."""

    __slots__ = ("_data", "size")

    def __init__(self) -> None:
        self._data = bytearray()
        self.size: int = 0

    def append(self, data: Buffer, start: int, end: int, key: int, expected: int) -> None:
        """Unmask `data[start:end]` and add it.

        :param key: the masking key, rotated to the position of these bytes in the payload.
        :param expected: the declared length of the payload. Memory is allocated for at most twice the bytes that have
            arrived, so that a peer cannot make this side allocate memory by declaring a length.
        """
        self._data += unmask(data, start, end, key)
        self.size += end - start

    def check_text(self, check: "Utf8Check", start: int) -> bool:
        """Return whether the payload from `start` on can continue the text that `check` has seen."""
        return check.feed(self._data, start, self.size)

    def take(self) -> bytes:
        """Remove and return the bytes that have arrived."""
        data = bytes(self._data)
        self._data = bytearray()
        self.size = 0
        return data


class Utf8Check:
    """Incremental UTF-8 validation (RFC 6455 section 8.1). It rejects a text at its first invalid byte."""

    __slots__ = ("_bad", "_decoder")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bad = False

    def feed(self, data: Buffer, start: int, end: int) -> bool:
        """Add `data[start:end]`; return whether all bytes so far can be the beginning of a UTF-8 text."""
        if self._bad:
            return False
        try:
            self._decoder.decode(bytes(data[start:end]))
        except UnicodeDecodeError:
            self._bad = True
            return False
        # Python's decoder rejects a surrogate at its third byte, but the second byte already shows it.
        held = self._decoder.getstate()[0]
        self._bad = held[:1] == b"\xed" and held[1:] >= b"\xa0"
        return not self._bad

    def copy(self) -> "Utf8Check":
        """Return a copy, with the same state."""
        other = Utf8Check()
        other._decoder.setstate(self._decoder.getstate())
        other._bad = self._bad
        return other

    def complete(self) -> bool:
        """Return whether the text is complete, and begin a new text."""
        whole = not self._bad and self._decoder.getstate()[0] == b""
        self._decoder.reset()
        self._bad = False
        return whole


_KEYS_AT_ONCE = 1024
"""The number of masking keys for which random bytes are read at a time."""


class MaskKeys:
    """Masking keys from the system's cryptographic random source (RFC 6455 sections 5.3 and 10.3)."""

    __slots__ = ("_keys", "_position")

    def __init__(self) -> None:
        self._keys = b""
        self._position = 0

    def next(self) -> int:
        """Return a fresh key. It is never 0, which would mean "not masked"."""
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
    """Return the header of a frame (RFC 6455 section 5.2).

    :param first: its first byte: FIN, the RSV bits and the opcode.
    :param length: the length of its payload.
    :param key: its masking key; 0 if it is not masked.
    """
    masked = 0x80 if key else 0
    if length < 126:
        header = bytes((first, masked | length))
    elif length < 65536:
        header = bytes((first, masked | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    return header + key.to_bytes(4, "little") if key else header


def encode_frame(first: int, data: str | Buffer, key: int) -> bytes:
    """Return a whole frame: header and payload in one object. The parameters are those of `encode_header`."""
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
