"""A TCP proxy between one server process and Redis. It cuts, stalls, delays and refuses when it is told to."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_CHUNK = 65536
_SMALL = 700
"""The bytes of a piece, when the network is slow."""


class Flow:
    """The bytes in one direction, of all connections of a proxy."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        """The seconds that each chunk takes, divided into small pieces."""


class Proxy:
    """Listens on a port of its own, and forwards each connection to Redis.

    :param target: the port of Redis.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.up = Flow()
        self.down = Flow()
        self.refusing = False
        self.port = 0
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        self.heal()
        self.cut(reset=True)
        if self._links:
            await asyncio.wait([*self._links])

    def heal(self) -> None:
        """Work well from now on."""
        self.refusing = False
        for flow in (self.up, self.down):
            flow.delay = 0.0
            flow.open.set()

    def cut(self, reset: bool, some: Iterator[bool] | None = None) -> int:
        """End the connections; return how many.

        :param reset: whether with a reset, instead of an orderly end. Then what is on its way is lost.
        :param some: whether to end each one; by default all of them.
        """
        count = 0
        for task, writers in [*self._links.items()]:
            if some is not None and not next(some):
                continue
            count += 1
            for writer in writers:
                if reset:
                    _reset(writer)
                else:
                    writer.close()
            if reset:
                task.cancel()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = (writer,)
        try:
            try:
                other_reader, other_writer = await self._connect()
            except OSError:
                _reset(writer)
                return
            self._links[task] = (writer, other_writer)
            try:
                pumps = [
                    asyncio.create_task(_pump(reader, other_writer, self.up)),
                    asyncio.create_task(_pump(other_reader, writer, self.down)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.wait(pumps)
            finally:
                _reset(other_writer)
        except asyncio.CancelledError:
            pass
        finally:
            _reset(writer)
            del self._links[task]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to Redis. The system keeps little of what Redis sends: a stall soon fills its output buffers."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.target))
            return await asyncio.open_connection(sock=sock, limit=_CHUNK)
        except BaseException:
            sock.close()
            raise


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: Flow) -> None:
    with suppress(OSError):
        while True:
            await flow.open.wait()
            data = await reader.read(_CHUNK)
            if not data:
                return
            await flow.open.wait()
            if flow.delay:
                pieces = range(0, len(data), _SMALL)
                for start in pieces:
                    await asyncio.sleep(flow.delay / len(pieces))
                    writer.write(data[start : start + _SMALL])
            else:
                writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    transport = writer.transport
    if not transport.is_closing():
        with suppress(OSError):
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
