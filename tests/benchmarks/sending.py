"""Load of the `tight-send` case: a handler that sends small messages without a pause, to a peer that reads them all.

Another task of the same event loop wants to run every 10 ms, and measures how long it has to wait. The server sends the
longest wait at the end, in a text message of the same size as the others.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from benchmarks import frames
from benchmarks.case import ServerCase
from benchmarks.measure import Measure, Stopwatch
from benchmarks.opening import connect
from benchmarks.process import ServerProcess
from benchmarks.servers.common import SMALL_SIZE

RECEIVE_BUFFER = 1 << 18


@dataclass(frozen=True)
class TightSendCase(ServerCase):
    name: str
    unit = "messages"
    handler = "tight-send"
    contestants = ("streamws", "streamws-speed", "streamws-pure", "picows-iter", "aiohttp", "websockets")
    """picows' core is not among them: its `send` never waits, so a tight loop of sends is not a way to use it."""

    @property
    def description(self) -> str:
        return f"a loop of sends of {SMALL_SIZE} bytes, and the longest time that another task of the event loop waits"

    def drive(self, servers: Sequence[ServerProcess], seconds: float) -> Measure:
        """Receive what the server sends.

        :returns: The measure; its figure is the longest wait in milliseconds.
        """
        (server,) = servers
        size = len(frames.unmasked(bytes(SMALL_SIZE)))
        buffer = bytearray(RECEIVE_BUFFER)
        with closing(connect(server.port)) as connection:
            connection.settimeout(2 * seconds + 10)
            watch = Stopwatch(server)
            connection.sendall(frames.masked(str(seconds).encode(), frames.TEXT))
            received = 0
            partial = b""
            while True:
                count = connection.recv_into(buffer)
                if not count:
                    raise ConnectionError("the server closed the connection under load")
                received += count
                partial = (partial + bytes(buffer[max(0, count - size) : count]))[-size:]
                if received % size == 0 and partial[0] == frames.unmasked(b"", frames.TEXT)[0]:
                    break
            longest = float(partial[-SMALL_SIZE:])
            return watch.stop(received / size - 1, figures={"longest ms": 1000 * longest})
