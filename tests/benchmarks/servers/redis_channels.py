"""The least that receives what is published at Redis: `hiredis.Reader` in an `asyncio.Protocol`."""

import asyncio
from collections.abc import Callable
from typing import cast

import hiredis

from benchmarks.servers.common import HOST


class RedisChannels(asyncio.Protocol):
    """A connection for subscriptions.

    :param deliver: called with the channel and the message of each publication.
    """

    def __init__(self, deliver: Callable[[bytes, bytes], None]) -> None:
        self._deliver = deliver
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, port: int, deliver: Callable[[bytes, bytes], None]) -> "RedisChannels":
        """Connect to Redis."""
        _, channels = await asyncio.get_running_loop().create_connection(lambda: cls(deliver), HOST, port)
        return channels

    def subscribe(self, channel: bytes) -> None:
        """Subscribe to a channel."""
        self._transport.write(hiredis.pack_command(("SUBSCRIBE", channel)))  # type: ignore[arg-type]  # its stub: 1-tuple

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is no subclass

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            kind, channel, message = reply
            if kind == b"message":
                self._deliver(channel, message)
