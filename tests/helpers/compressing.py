"""A peer that speaks permessage-deflate by hand, in either role; zlib alone is its second opinion."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from helpers.pairs import QUIET
from helpers.rawclient import ACCEPT, MASK, apply_mask, header, request
from streamws import Client, Compression, Limits, Timeouts, WebSocketServer, connect
from streamws.handshake.extensions import accept_offer, make_offers
from streamws.handshake.server import accept_key
from streamws.wire import deflate

TAIL = b"\x00\x00\xff\xff"
RSV1 = 0x40
OFFER = "permessage-deflate; client_max_window_bits"
WIDE = Compression(window_bits=15, peer_window_bits=15, threshold=0)
"""Compresses everything, with nothing taken over."""
TAKING_OVER = Compression(window_bits=15, peer_window_bits=15, threshold=0, takeover=True, peer_takeover=True)


class Packer:
    """Compresses messages as a peer may."""

    def __init__(self, bits: int = 15, takeover: bool = False, level: int = 6) -> None:
        self._arguments = (level, zlib.DEFLATED, -bits)
        self._takeover = takeover
        self._stream: Any = None

    def part(self, data: bytes, fin: bool) -> bytes:
        """The payload of the next frame of a message."""
        if self._stream is None:
            self._stream = zlib.compressobj(*self._arguments)
        payload: bytes = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        if not fin:
            return payload
        if not self._takeover:
            self._stream = None
        assert payload[-4:] == TAIL or not payload
        return payload[:-4] or b"\x00"

    def message(self, data: bytes) -> bytes:
        return self.part(data, True)


class Unpacker:
    """Inflates messages, with a window that is no larger than it must be."""

    def __init__(self, bits: int = 15, takeover: bool = False) -> None:
        self._bits = bits
        self._takeover = takeover
        self._stream: Any = None

    def message(self, payload: bytes) -> bytes:
        if self._stream is None or not self._takeover:
            self._stream = zlib.decompressobj(-self._bits)
        data: bytes = self._stream.decompress(payload + TAIL)
        assert not self._stream.unused_data
        return data


class CountingCodec:
    """zlib, and how many of its streams there are."""

    def __init__(self) -> None:
        self.compressors = 0
        """How many were made."""
        self.alive = 0
        """How many streams, of both kinds, there are now."""
        self.compressed = 0
        """How often something was compressed."""
        self.fail = False
        """Whether compressing fails."""

    def __getattr__(self, name: str) -> Any:
        return getattr(zlib, name)

    def compressobj(self, *arguments: Any) -> "_Counted":
        self.compressors += 1
        return _Counted(self, zlib.compressobj(*arguments))

    def decompressobj(self, *arguments: Any) -> "_Counted":
        return _Counted(self, zlib.decompressobj(*arguments))


class _Counted:
    def __init__(self, codec: CountingCodec, stream: Any) -> None:
        self._codec = codec
        self._stream = stream
        codec.alive += 1

    def __del__(self) -> None:
        self._codec.alive -= 1

    def __getattr__(self, name: str) -> Any:
        if name == "flush" and self._codec.fail:
            raise MemoryError
        if name == "compress":
            self._codec.compressed += 1
        return getattr(self._stream, name)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingCodec]:
    """A codec that counts, in place of streamws' own; it finds no compressors of others, and leaves none."""
    codec = CountingCodec()
    monkeypatch.setattr(deflate, "codec", codec)
    monkeypatch.setattr(deflate, "igzip", None)
    deflate._idle.clear()
    yield codec
    deflate._idle.clear()


class Wire:
    """The other end of a connection, frame by frame."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, masks: bool, compression: Compression
    ) -> None:
        """`compression` is that of the side under test."""
        self.reader = reader
        self.writer = writer
        self._masks = masks
        self.packer = Packer(compression.peer_window_bits, compression.peer_takeover)
        self.unpacker = Unpacker(compression.window_bits, compression.takeover)
        self.bytes_read = 0

    def frame(self, first: int, payload: bytes = b"") -> bytes:
        """A frame as this end sends it."""
        if not self._masks:
            return header(first, len(payload), mask=b"") + payload
        return header(first, len(payload)) + _masked(payload)

    def packed(self, data: str | bytes) -> bytes:
        """A compressed message in one frame."""
        first, payload = (0xC1, data.encode()) if isinstance(data, str) else (0xC2, data)
        return self.frame(first, self.packer.message(payload))

    def packed_parts(self, parts: Sequence[bytes], first: int = 2) -> list[bytes]:
        """The frames of a compressed message, one a part."""
        return [
            self.frame(
                (RSV1 | first if number == 0 else 0) | (0x80 if number == len(parts) - 1 else 0),
                self.packer.part(part, number == len(parts) - 1),
            )
            for number, part in enumerate(parts)
        ]

    def plain(self, data: str | bytes) -> bytes:
        """A message as it is."""
        return self.frame(0x81, data.encode()) if isinstance(data, str) else self.frame(0x82, data)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte, and its payload without the mask."""
        first, length = await self.reader.readexactly(2)
        assert (length < 0x80) is self._masks, "a client masks, a server does not"
        length &= 0x7F
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        mask = b"" if self._masks else await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        self.bytes_read += length
        return first, _masked(payload) if mask == MASK else apply_mask(payload, mask)

    async def read_message(self) -> tuple[bool, str | bytes]:
        """The next message, which must be whole: whether it came compressed, and what it says."""
        first, payload = await self.read_frame()
        fin = first & 0x80
        opcode, packed = first & 0x0F, first & RSV1 != 0
        while not fin:
            following, part = await self.read_frame()
            assert following & 0x7F == 0, "no bit but FIN is set on a continuation"
            fin = following & 0x80
            payload += part
        data = self.unpacker.message(payload) if packed else payload
        return packed, data.decode() if opcode == 1 else data

    async def read_close(self) -> tuple[int, str]:
        """Code and reason of the Close frame that must come next."""
        first, payload = await self.read_frame()
        assert first == 0x88, (first, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def settle(self) -> None:
        """Wait until the other side has worked off what was sent; nothing else may come from there."""
        self.write(self.frame(0x89, b"settled"))
        assert await self.read_frame() == (0x8A, b"settled")

    async def turns(self) -> None:
        """Let the loop turn, so that what was written is received and worked off."""
        for _ in range(8):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def _masked(payload: bytes) -> bytes:
    """As `apply_mask`, and fast where the payload is long."""
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def _key_in(head: bytes) -> bytes:
    """The Sec-WebSocket-Key of a request."""
    return next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))[18:].strip()


@asynccontextmanager
async def talk(
    server: bool,
    compression: Compression = WIDE,
    *,
    agreed: bool = True,
    limits: Limits | None = None,
    timeouts: Timeouts = QUIET,
    seconds: float = 10,
) -> AsyncIterator[tuple[Client, Wire]]:
    """A connection whose one end is a server's or a client's `Client`, and the other one a `Wire`.

    The peer agrees to what `compression` asks for, or to no compression at all.
    """
    async with asyncio.timeout(seconds):
        if server:
            async with _served(compression, agreed, limits, timeouts) as ends:
                yield ends
        else:
            async with _connected(compression, agreed, limits, timeouts) as ends:
                yield ends


@asynccontextmanager
async def _served(
    compression: Compression, agreed: bool, limits: Limits | None, timeouts: Timeouts
) -> AsyncIterator[tuple[Client, Wire]]:
    clients: asyncio.Queue[Client] = asyncio.Queue()

    async def hold(client: Client) -> None:
        clients.put_nowait(client)
        await client.wait_closed()

    async with WebSocketServer(
        "127.0.0.1", 0, handler=hold, compression=compression, limits=limits, timeouts=timeouts
    ) as socket:
        wire = await open_wire(socket.sockets[0].getsockname()[1], compression, OFFER if agreed else None)
        try:
            yield await clients.get(), wire
        finally:
            await wire.close()


async def open_wire(port: int, compression: Compression, offer: str | None = OFFER) -> Wire:
    """Connect to a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(request({"Sec-WebSocket-Extensions": offer}))
    head = await reader.readuntil(b"\r\n\r\n")
    assert ACCEPT.encode() in head
    assert (b"permessage-deflate" in head) is (offer is not None)
    return Wire(reader, writer, True, compression)


@asynccontextmanager
async def _connected(
    compression: Compression, agreed: bool, limits: Limits | None, timeouts: Timeouts
) -> AsyncIterator[tuple[Client, Wire]]:
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    # A server that has no wishes of its own.
    answer = accept_offer(make_offers(compression), TAKING_OVER)
    assert answer is not None

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        extension = f"Sec-WebSocket-Extensions: {answer[0]}\r\n" if agreed else ""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(_key_in(head)) + b"\r\n" + extension.encode() + b"\r\n"
        )
        wires.put_nowait(Wire(reader, writer, False, compression))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    try:
        port = listener.sockets[0].getsockname()[1]
        client = await connect(
            f"ws://127.0.0.1:{port}", compression=compression, limits=limits, timeouts=timeouts, proxy=None
        )
        wire = await wires.get()
        try:
            yield client, wire
        finally:
            await wire.close()
            await client.wait_closed()
    finally:
        listener.close()
