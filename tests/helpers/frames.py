"""Frames and HTTP heads written out by hand, so that no test trusts streamws to encode or parse what it checks."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial

KEY = bytes.fromhex("8037fa3d")
"""The masking key of all frames that tests send. The highest bit of its first byte is set."""

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""The first byte of an unfragmented frame of each kind."""

HANDSHAKE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""A Sec-WebSocket-Key and the Sec-WebSocket-Accept that answers it (RFC 6455 section 1.3)."""


# Frames -----------------------------------------------------------------------------------------------------


def xor(payload: bytes, key: bytes = KEY) -> bytes:
    """Mask or unmask a payload (RFC 6455 section 5.3)."""
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")


def header(
    opcode: int, length: int = 0, *, fin: bool = True, rsv: int = 0, masked: bool = False, form: int | None = None
) -> bytes:
    """Encode the header of a frame (RFC 6455 section 5.2).

    :param opcode: the opcode, or a whole first byte. `fin` decides about its FIN bit, `rsv` adds reserved bits.
    :param form: how many bytes the extended length has (0, 2 or 8), if not as few as possible.
    """
    if form is None:
        form = 0 if length < 126 else 2 if length < 65536 else 8
    first = opcode & 0x7F | rsv << 4 | (0x80 if fin else 0)
    second = {0: length, 2: 126, 8: 127}[form] | (0x80 if masked else 0)
    return bytes([first, second]) + length.to_bytes(8, "big")[8 - form :] + (KEY if masked else b"")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = False,
    form: int | None = None,
) -> bytes:
    """Encode a whole frame; for the parameters see `header()`."""
    head = header(opcode, len(payload), fin=fin, rsv=rsv, masked=masked, form=form)
    return head + (xor(payload) if masked else payload)


client_header = partial(header, masked=True)
client_frame = partial(frame, masked=True)
"""A frame as clients send it: masked."""


def text(message: str) -> bytes:
    """Encode a client's text message in one frame."""
    return client_frame(TEXT, message.encode())


def binary(message: bytes) -> bytes:
    """Encode a client's binary message in one frame."""
    return client_frame(BINARY, message)


def close_payload(code: int | None, reason: str = "") -> bytes:
    """Encode the payload of a Close frame: none at all if the code is None."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """Encode a client's Close frame."""
    return client_frame(CLOSE, close_payload(code, reason))


def server_close(code: int, reason: str = "") -> bytes:
    """Encode a server's Close frame."""
    return frame(CLOSE, close_payload(code, reason))


def parse_frame(masked: bool) -> Generator[int, bytes, tuple[int, bytes]]:
    """Parse a frame: yields the number of bytes to send in next, and returns first byte and unmasked payload."""
    first, second = yield 2
    assert second >> 7 == masked, "clients mask every frame, servers mask none (RFC 6455 section 5.1)"
    length = second & 0x7F
    if length >= 126:
        form = 2 if length == 126 else 8
        length = int.from_bytes((yield form), "big")
        assert length >= (126 if form == 2 else 65536), "the length is not encoded in the fewest bytes"
    key = (yield 4) if masked else b""
    payload = yield length
    return first, xor(payload, key) if masked else payload


def take_frame(data: bytes, *, masked: bool = False) -> tuple[int, bytes, bytes] | None:
    """Return first byte and payload of the frame at the start of the data, and the data after it; None if it is cut."""
    parsing = parse_frame(masked)
    size = next(parsing)
    try:
        while len(data) >= size:
            taken, data = data[:size], data[size:]
            size = parsing.send(taken)
    except StopIteration as done:
        return *done.value, data
    return None


def frames(data: bytes, *, masked: bool = False) -> list[tuple[int, bytes]]:
    """Return the frames that the data consists of, each as its first byte and payload."""
    found = []
    while data:
        taken = take_frame(data, masked=masked)
        assert taken is not None, f"an incomplete frame: {data!r}"
        first, payload, data = taken
        found.append((first, payload))
    return found


def close_of(data: bytes) -> tuple[int, str]:
    """Return code and reason of a server's Close frame, which must be all of the data."""
    ((first, payload),) = frames(data)
    assert first == CLOSE
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


# HTTP heads -------------------------------------------------------------------------------------------------


def request(
    change: Mapping[str, str | None] | None = None,
    *more: tuple[str, str],
    method: str = "GET",
    target: str = "/",
    version: str = "1.1",
) -> bytes:
    """Encode a valid opening handshake with other fields.

    :param change: fields to set, or to leave out (None).
    :param more: fields to append.
    """
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": HANDSHAKE_KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields.update(change or {})
    lines = [f"{name}: {value}\r\n" for name, value in [*fields.items(), *more] if value is not None]
    return f"{method} {target} HTTP/{version}\r\n{''.join(lines)}\r\n".encode("latin-1")


def answer(status: str, *fields: str, body: bytes = b"", length: bool = True) -> bytes:
    """Encode a response such as "404 Not Found", with a Content-Length unless `length` is False."""
    lines = [f"HTTP/1.1 {status}", *fields, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def fields_of(head: bytes) -> dict[str, str]:
    """Return the fields of a head, with names in lower case. None may stand in it twice."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    fields = [line.split(": ", 1) for line in lines]
    found = {name.lower(): value for name, value in fields}
    assert len(found) == len(fields), "a field stands there twice"
    return found


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    reason: str
    headers: dict[str, str]
    """Names are in lower case."""
    body: bytes
