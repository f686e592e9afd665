"""A WebSocket client by hand: it sends exactly the bytes that a test gives it."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""

MASK = b"\x12\x34\xab\xcd"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, and its answer
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Address = tuple[str, int] | str

TEXT = 0x81
BINARY = 0x82
CLOSE = 0x88
PING = 0x89
PONG = 0x8A


# --- what a client sends


def header(first: int, length: int, *, mask: bytes = MASK) -> bytes:
    """The header of a frame whose first byte is `first`; without a mask if that is empty."""
    bit = 0x80 if mask else 0
    if length < 126:
        return bytes((first, bit | length)) + mask
    if length < 65536:
        return bytes((first, bit | 126)) + struct.pack("!H", length) + mask
    return bytes((first, bit | 127)) + struct.pack("!Q", length) + mask


def frame(first: int, payload: bytes = b"", *, mask: bytes = MASK) -> bytes:
    """A frame whose first byte (FIN, reserved bits, opcode) is `first`."""
    return header(first, len(payload), mask=mask) + apply_mask(payload, mask)


def apply_mask(payload: bytes, mask: bytes = MASK) -> bytes:
    """`payload` as it is sent behind `mask`."""
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload


def text(message: str) -> bytes:
    """A text message in one frame."""
    return frame(TEXT, message.encode())


def binary(message: bytes) -> bytes:
    """A binary message in one frame."""
    return frame(BINARY, message)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A Close frame; without a body for None."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def request(
    change: Mapping[str, str | None] | None = None,
    *more: tuple[str, str],
    method: str = "GET",
    target: str = "/",
    version: str = "1.1",
) -> bytes:
    """A good opening handshake, but for the header fields of `change` (None leaves one out) and `more`."""
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields.update(change or {})
    lines = [f"{name}: {value}\r\n" for name, value in [*fields.items(), *more] if value is not None]
    return f"{method} {target} HTTP/{version}\r\n{''.join(lines)}\r\n".encode("latin-1")


# --- what a server sends


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    reason: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes


def take_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """First byte and payload of the frame at the head of `data`, and what is behind; None if it is not whole.

    A server's frames are not masked and have their length in the fewest bytes.
    """
    if len(data) < 2:
        return None
    assert data[1] < 0x80, "the server sent a masked frame"
    length, start = data[1], 2
    if length == 126:
        start = 4
        length = int.from_bytes(data[2:4], "big") if len(data) >= start else 0
        assert len(data) < start or length >= 126
    elif length == 127:
        start = 10
        length = int.from_bytes(data[2:10], "big") if len(data) >= start else 0
        assert len(data) < start or length >= 65536
    if len(data) < start + length:
        return None
    return data[0], data[start : start + length], data[start + length :]


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames that `data` consists of."""
    found = []
    while data:
        taken = take_frame(data)
        assert taken is not None, f"an incomplete frame: {data!r}"
        first, payload, data = taken
        found.append((first, payload))
    return found


def close_of(data: bytes) -> tuple[int, str]:
    """The code and reason of the Close frame that `data` is, and nothing else."""
    ((first, payload),) = frames(data)
    assert first == CLOSE
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class RawClient:
    """A TCP (or Unix) connection to a server."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.address: tuple[str, int] = ("", 0)
        """This end's address, by which the server knows the connection."""
        self._received = b""

    @classmethod
    async def connect(cls, address: Address, receive_buffer: int | None = None) -> "RawClient":
        """Connect; `receive_buffer` is what the kernel holds for a client that does not read."""
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client = cls(sock)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        if not isinstance(address, str):
            client.address = sock.getsockname()[:2]
        return client

    # --- sending

    async def send(self, data: bytes, split: int = 0) -> None:
        """Send bytes, in pieces of `split` that the server reads one by one."""
        loop = asyncio.get_running_loop()
        size = split or len(data) or 1
        async with asyncio.timeout(PATIENCE):
            for start in range(0, len(data), size):
                await loop.sock_sendall(self.sock, data[start : start + size])
                # In the first turn the loop sees that there is something to read, in the second one it reads.
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def upgrade(self, head: bytes | None = None) -> Answer:
        """Do the opening handshake, which must succeed."""
        await self.send(request() if head is None else head)
        answer = await self.read_answer()
        assert answer.status == 101, answer
        return answer

    # --- receiving

    async def receive(self) -> bool:
        """Wait for more; False at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        self._received += data
        return bool(data)

    async def _receive_more(self) -> None:
        assert await self.receive(), f"the connection ended after {self._received!r}"

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._received) < size:
            await self._receive_more()
        data, self._received = self._received[:size], self._received[size:]
        return data

    async def read_answer(self) -> Answer:
        """An HTTP answer with its body."""
        while b"\r\n\r\n" not in self._received:
            await self._receive_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        fields = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(fields), "a header came twice"
        body = await self.read(int(headers.get("content-length", "0")))
        return Answer(int(status), reason, headers, body)

    async def read_frame(self) -> tuple[int, bytes]:
        """A frame: its first byte and its payload."""
        while (taken := take_frame(self._received)) is None:
            await self._receive_more()
        first, payload, self._received = taken
        return first, payload

    async def read_until_eof(self) -> bytes:
        """Everything up to the end of the connection, which must be in order."""
        while await self.receive():
            pass
        return self.take()

    def take(self) -> bytes:
        """What has come and was not read."""
        data, self._received = self._received, b""
        return data

    # --- ending

    def end(self) -> None:
        """Send nothing more (FIN), and still receive."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection in order (FIN)."""
        self.sock.close()

    def reset(self) -> None:
        """Drop the connection (RST)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def narrow_socket() -> socket.socket:
    """A listening socket whose connections hold few bytes in the kernel: who does not read is soon noticed."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return sock


NARROW = 4096
"""The receive buffer for a client of such a socket."""
