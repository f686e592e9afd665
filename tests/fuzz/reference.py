"""A parser of frames and an inflater that are as simple as possible. They get all of their input at once."""

import zlib
from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Event = tuple[object, ...]


class Wrong(Exception):
    """The stream violates a rule of the protocol."""

    def __init__(self, code: int = 1002) -> None:
        self.code = code


def parse(stream: bytes, masked: bool, deflate: bool) -> list[Event]:
    """Return the messages, control frames and the violation in a stream, in order (RFC 6455 section 5).

    - `("message", opcode, compressed, payload)` for a complete message;
    - `("ping", payload)`, `("pong", payload)`, `("close", code, reason)`;
    - `("violation", code)`. Nothing behind it is read, and nothing behind a Close frame.
    """
    events: list[Event] = []
    message: list[bytes] = []  # the payloads of the fragmented message under way
    opcode, compressed = 0, False  # of this message; opcode 0 if there is none
    place = 0
    try:
        while len(stream) - place >= 2:
            first, second = stream[place], stream[place + 1]
            kind, fin, rsv1 = first & 15, first >= 128, first & 0x70 == 0x40
            _check_start(first, second, masked, deflate, opcode)
            size = 2 + {126: 2, 127: 8}.get(second & 127, 0)
            if len(stream) - place < size + 4 * masked:
                break
            length = second & 127
            if length > 125:
                length = int.from_bytes(stream[place + 2 : place + size], "big")
                if length >> 63 or length < (126 if size == 4 else 65536):
                    raise Wrong
            start = place + size + 4 * masked
            key = stream[start - 4 : start] if masked else bytes(4)
            payload = _unmasked(stream[start : start + length], key)
            complete = len(payload) == length
            place = start + length
            if kind >= CLOSE:
                if complete:
                    events.append(_control(kind, payload))
                    if kind == CLOSE:
                        break
                continue
            if kind != CONTINUATION:
                opcode, compressed, message = kind, rsv1, []
            message.append(payload)
            whole = b"".join(message)
            if opcode == TEXT and not compressed:
                _check_text(whole, complete and fin)
            if complete and fin:
                events.append(("message", opcode, compressed, whole))
                opcode = 0
    except Wrong as wrong:
        events.append(("violation", wrong.code))
    return events


def _unmasked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def _check_start(first: int, second: int, masked: bool, deflate: bool, opcode: int) -> None:
    kind = first & 15
    if first & 0x70 and not (first & 0x70 == 0x40 and deflate and kind in (TEXT, BINARY)):
        raise Wrong
    if kind not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or second >> 7 != masked:
        raise Wrong
    if kind >= CLOSE:
        if first < 128 or second & 127 > 125:
            raise Wrong
    elif (kind == CONTINUATION) != (opcode != 0):
        raise Wrong


def _control(kind: int, payload: bytes) -> Event:
    if kind != CLOSE:
        return ("ping" if kind == PING else "pong", payload)
    if not payload:
        return ("close", 1005, "")
    code = int.from_bytes(payload[:2], "big")
    # RFC 6455 section 7.4, and the codes that IANA has registered since: 1012 to 1014.
    if len(payload) == 1 or not (code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000):
        raise Wrong
    _check_text(payload[2:], True)
    return ("close", code, payload[2:].decode())


def _check_text(data: bytes, whole: bool) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if whole or error.reason != "unexpected end of data":
            raise Wrong(1007) from None


def inflate(payload: bytes, bits: int, history: bytes | None) -> bytes | None:
    """Return the data of a compressed message (RFC 7692 section 7.2.2); None if it ends in the middle of a block.

    :param bits: the size of the window.
    :param history: the data that the message may refer back to; None without context takeover.
    """
    if not payload:
        return b""  # no sender should make one, but some do
    data = b""
    unread = payload + b"\x00\x00\xff\xff"
    while True:
        window = b"" if history is None else (history + data)[-(1 << bits) :]
        stream = zlib.decompressobj(-bits, zdict=window) if window else zlib.decompressobj(-bits)
        data += stream.decompress(unread)
        if not stream.eof:
            return data if _is_between_blocks(stream) else None
        # A block with the BFINAL bit ends a stream of zlib, but not the message.
        unread = stream.unused_data


def _is_between_blocks(stream: Any) -> bool:
    """Return whether an empty final block may follow."""
    try:
        return not stream.decompress(b"\x03\x00") and bool(stream.eof)
    except zlib.error:
        return False
