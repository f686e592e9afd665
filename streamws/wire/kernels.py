"""The few operations whose speed is the library's speed, in plain Python.

`kernels.pyx` is the twin of this module in C: the same names, the same results, the same exceptions. Python prefers
the compiled twin where it is installed. Two kinds of things live here: loops over payload bytes, and the awaitables
that a task meets once a message.

A masking key is an `int`: its four bytes in the order of the wire, read as little-endian. The key 0 leaves a payload
as it is, and so stands for a frame that is not masked.
"""

import codecs
import os
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from .frames import Buffer

# Payload bytes ---------------------------------------------------------------------------------------------------


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


# Sockets ---------------------------------------------------------------------------------------------------------


def send_now(descriptor: int, data: bytes) -> int:
    """Hand bytes to a socket that does not block; returns how many it took, 0 also for an error."""
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0


def send_parts_now(descriptor: int, parts: list[bytes]) -> int:
    """The same for several pieces at once, of which it takes the first 64 at most."""
    try:
        return os.writev(descriptor, parts[:64])
    except OSError:
        return 0


def receive_now(descriptor: int, buffer: memoryview) -> int:
    """Fill a buffer from a socket that does not block; returns how many bytes came: 0 at the end, -1 for none yet.

    :raises OSError: if the connection is broken.
    """
    try:
        return os.readv(descriptor, [buffer])
    except (BlockingIOError, InterruptedError):
        return -1


# Awaitables ------------------------------------------------------------------------------------------------------


class _Pending:
    __slots__ = ()

    def __repr__(self) -> str:
        return "PENDING"


class _Failed:
    __slots__ = ()

    def __repr__(self) -> str:
        return "FAILED"


PENDING = _Pending()
"""What `Operation.poll` returns while there is no result."""

FAILED = _Failed()
"""What `Operation.poll` returns when `Operation.error` is to be raised."""


def run_in(context: Context, callback: Callable[[Any], object], argument: object) -> bool:
    """Call `callback(argument)`, which is a task's wake-up, in a context; False if that is entered already."""
    try:
        context.run(callback, argument)
    except RuntimeError:  # a wake-up raises none: what a task raises is for those who await it
        return False
    return True


class Operation:
    """An awaitable that is polled until it has a result; to asyncio it is a coroutine.

    A subclass gives `poll`, sets `future` when it answers `PENDING`, and `error` when it answers `FAILED`: raised from
    there, it has a traceback that begins in the code of the user.
    """

    __slots__ = ("error", "finished", "future")

    future: Any
    """The asyncio.Future to wait on before the next poll."""
    error: BaseException

    def __init__(self) -> None:
        self.finished: bool = False

    def poll(self) -> object:
        """The result, `PENDING` or `FAILED`."""
        raise NotImplementedError

    def abandon(self) -> None:
        """No one waits for the result any longer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self

    def __iter__(self) -> "Operation":
        return self

    def __next__(self) -> Any:
        if self.finished:
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            result = self.poll()
        except BaseException:
            self.finished = True
            raise
        if result is PENDING:
            future = self.future
            # What tells a task that it is to wait on what it is given (asyncio.Future.__await__ does the same).
            future._asyncio_future_blocking = True
            return future
        self.finished = True
        if result is FAILED:
            raise self.error
        raise StopIteration(result)

    def send(self, value: None) -> Any:
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        self.finished = True
        self.abandon()
        if val is None:
            val = typ() if isinstance(typ, type) else typ
        if tb is not None:
            val = val.with_traceback(tb)
        raise val

    def close(self) -> None:
        if not self.finished:
            self.finished = True
            self.abandon()


class Done(Operation):
    """An operation that needs no waiting. One object may be awaited any number of times."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value

    def __next__(self) -> Any:
        raise StopIteration(self.value)

    def close(self) -> None:
        pass
