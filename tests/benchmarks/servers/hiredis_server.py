"""The least that delivers what is published at Redis to followers: protocols and transports of asyncio, and hiredis.

It serves the cases `redis-*` alone. Of WebSockets it knows the handshake, the command `join`, each in one piece, and
the frame of a publication.
"""

import asyncio
import base64
import hashlib
from collections import defaultdict
from typing import cast

from benchmarks import frames
from benchmarks.servers.common import HOST, Arguments, new_loop, parser, report_ready
from benchmarks.servers.members import OK
from benchmarks.servers.redis_channels import RedisChannels

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Rooms:
    """The followers of each topic."""

    def __init__(self) -> None:
        self.channels: RedisChannels
        self._followers: defaultdict[bytes, list[asyncio.Transport]] = defaultdict(list)

    def join(self, name: bytes, transport: asyncio.Transport) -> None:
        """Add a follower to a topic."""
        if name not in self._followers:
            self.channels.subscribe(name)
        self._followers[name].append(transport)

    def deliver(self, name: bytes, message: bytes) -> None:
        """Send a publication to all followers of its topic."""
        frame = frames.unmasked(message, frames.TEXT)
        for transport in self._followers[name]:
            transport.write(frame)


class Follower(asyncio.Protocol):
    """A client that joins topics."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._transport: asyncio.Transport
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is no subclass

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._open = True
            key = data.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            return
        _, *names = frames.xor(data[6:], data[2:6]).split()
        for name in names:
            self._rooms.join(name, self._transport)
        self._transport.write(frames.unmasked(OK.encode(), frames.TEXT))


def main() -> None:
    arguments = parser().parse_args(namespace=Arguments())
    if arguments.redis is None:
        raise SystemExit("error: it needs --redis")
    loop = new_loop(arguments)
    rooms = Rooms()

    async def start(redis: int) -> int:
        rooms.channels = await RedisChannels.open(redis, rooms.deliver)
        server = await loop.create_server(lambda: Follower(rooms), HOST, arguments.port, backlog=arguments.backlog)
        port: int = server.sockets[0].getsockname()[1]
        return port

    report_ready(loop.run_until_complete(start(arguments.redis)))
    loop.run_forever()


if __name__ == "__main__":
    main()
