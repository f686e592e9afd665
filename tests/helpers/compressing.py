"""A peer that compresses messages (RFC 7692) with zlib alone, in either role."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from helpers.frames import BINARY, TEXT, request
from helpers.peers import QUIET, Peer, open_peer, pair, scripted
from streamws import Client, Compression, Limits, Timeouts, connect
from streamws.handshake.extensions import accept_offer, make_offers
from streamws.wire import deflate

TAIL = b"\x00\x00\xff\xff"
RSV1 = 0x40
OFFER = "permessage-deflate; client_max_window_bits"
WIDE = Compression(window_bits=15, peer_window_bits=15, threshold=0)
"""Compresses everything, without context takeover."""
TAKING_OVER = Compression(window_bits=15, peer_window_bits=15, threshold=0, takeover=True, peer_takeover=True)


class Packer:
    """Compresses messages."""

    def __init__(self, bits: int = 15, takeover: bool = False, level: int = 6) -> None:
        self._arguments = (level, zlib.DEFLATED, -bits)
        self._takeover = takeover
        self._stream: Any = None

    def part(self, data: bytes, fin: bool) -> bytes:
        """Return the payload of the next frame of a message."""
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
    """Inflates messages, with the smallest window that was negotiated."""

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
    """zlib, with counters for its streams."""

    def __init__(self) -> None:
        self.compressors = 0
        """The number of compressors made so far."""
        self.alive = 0
        """The number of streams of both kinds that exist now."""
        self.compressed = 0
        """The number of calls of `compress`."""
        self.fail = False
        """Whether to fail at the next flush."""

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
    """Replace the codec of streamws by one that counts. It starts and ends without idle compressors."""
    codec = CountingCodec()
    monkeypatch.setattr(deflate, "codec", codec)
    monkeypatch.setattr(deflate, "igzip", None)
    deflate._idle.clear()
    yield codec
    deflate._idle.clear()


class CompressingPeer(Peer):
    """A peer that compresses and inflates messages."""

    def __init__(self, peer: Peer, compression: Compression, *, masks: bool) -> None:
        """:param compression: of the end under test."""
        super().__init__(peer.reader, peer.writer, masks=masks)
        self.packer = Packer(compression.peer_window_bits, compression.peer_takeover)
        self.unpacker = Unpacker(compression.window_bits, compression.takeover)
        self.bytes_read = 0
        """The size of all payloads that were read."""

    def packed(self, data: str | bytes) -> bytes:
        """Encode a compressed message in one frame."""
        first, payload = (TEXT | RSV1, data.encode()) if isinstance(data, str) else (BINARY | RSV1, data)
        return self.frame(first, self.packer.message(payload))

    def packed_parts(self, parts: Sequence[bytes], opcode: int = 2) -> list[bytes]:
        """Encode a compressed message with a fragment for each part."""
        last = len(parts) - 1
        return [
            self.frame(0 if number else opcode | RSV1, self.packer.part(part, number == last), fin=number == last)
            for number, part in enumerate(parts)
        ]

    def plain(self, data: str | bytes) -> bytes:
        """Encode a message in one frame, without compressing it."""
        return self.frame(TEXT, data.encode()) if isinstance(data, str) else self.frame(BINARY, data)

    async def read_frame(self) -> tuple[int, bytes]:
        first, payload = await super().read_frame()
        self.bytes_read += len(payload)
        return first, payload

    async def read_message(self) -> tuple[bool, str | bytes]:
        """Return whether the next message was compressed, and the message."""
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


@asynccontextmanager
async def talk(
    server: bool,
    compression: Compression = WIDE,
    *,
    agreed: bool = True,
    limits: Limits | None = None,
    timeouts: Timeouts = QUIET,
    seconds: float = 10,
) -> AsyncIterator[tuple[Client, CompressingPeer]]:
    """Connect the `Client` of a server or a client, and its peer.

    :param agreed: whether the peer agrees to what `compression` asks for, or to no compression at all.
    """
    if server:
        head = request({"Sec-WebSocket-Extensions": OFFER if agreed else None})
        async with pair(limits, timeouts, head=head, seconds=seconds, compression=compression) as (client, peer):
            assert ("sec-websocket-extensions" in peer.fields) is agreed
            yield client, CompressingPeer(peer, compression, masks=True)
    else:
        async with asyncio.timeout(seconds), _connected(compression, agreed, limits, timeouts) as ends:
            yield ends


async def open_compressing(port: int, compression: Compression, offer: str | None = OFFER) -> CompressingPeer:
    """Connect a peer to a server, which must agree to compress if the peer offers it."""
    peer = await open_peer(port, request({"Sec-WebSocket-Extensions": offer}))
    assert ("sec-websocket-extensions" in peer.fields) is (offer is not None)
    return CompressingPeer(peer, compression, masks=True)


@asynccontextmanager
async def _connected(
    compression: Compression, agreed: bool, limits: Limits | None, timeouts: Timeouts
) -> AsyncIterator[tuple[Client, CompressingPeer]]:
    # The response of a server that accepts whatever the client offers.
    response = accept_offer(make_offers(compression), TAKING_OVER)
    assert response is not None
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept(*([f"Sec-WebSocket-Extensions: {response[0]}"] if agreed else []))
        await done.wait()

    async with scripted(script) as server:
        client = await connect(server.url, compression=compression, limits=limits, timeouts=timeouts, proxy=None)
        peer = CompressingPeer(await server.peer(), compression, masks=False)
        try:
            yield client, peer
        finally:
            done.set()
            await peer.close()
            await client.wait_closed()
