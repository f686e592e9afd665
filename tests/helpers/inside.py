"""What tests look at inside a connection, where no public attribute shows it."""

from helpers.waiting import until
from streamws import Client
from streamws.net.gate import UNREAD


def is_reading(client: Client) -> bool:
    """Return whether the connection reads from the network."""
    reading: bool = client._connection.transport.is_reading()
    return reading


def is_full(client: Client) -> bool:
    """Return whether the connection has paused reading because too much is unread."""
    reasons: int = client._connection.gate.reasons
    return bool(reasons & UNREAD)


async def until_paused(client: Client) -> None:
    """Wait until the connection has paused reading."""
    await until(lambda: not is_reading(client))


def unread(client: Client) -> int:
    """Return the number of bytes that are received and unread."""
    connection = client._connection
    size: int = connection.inbox.queue.size + connection.protocol.parser.frame.buffered()
    return size
